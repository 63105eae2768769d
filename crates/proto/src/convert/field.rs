//! Checks and conversions of single fields and lists.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_model::{Capabilities, MAX_MESSAGE_BYTES, Secret};

use super::error::At;
use super::{ConvertError, Decode, Problem};
use crate::{PROTOCOL, limits, v1 as wire};

type Pairs = BTreeMap<Arc<str>, Arc<str>>;

/// A field that must be given.
pub(super) fn required<T>(field: Option<T>, at: &At<'_>) -> Result<T, ConvertError> {
    field.ok_or_else(|| at.error(Problem::Missing))
}

/// A field that must be given, converted.
pub(super) fn decoded<W, M: Decode<W>>(field: Option<W>, at: &At<'_>) -> Result<M, ConvertError> {
    M::decode(required(field, at)?, at)
}

/// An id, digest or name in its text form, which must be given.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str, at: &At<'_>) -> Result<T, ConvertError> {
    optional(text, at)?.ok_or_else(|| at.error(Problem::Missing))
}

/// An id, digest or name in its text form; empty is none.
pub(super) fn optional<T: FromStr<Err: Display>>(text: &str, at: &At<'_>) -> Result<Option<T>, ConvertError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|error| at.invalid(error)) }
}

/// The text form of what may be absent.
pub(super) fn text_or_empty<T: Display>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

pub(super) fn at_most(count: usize, limit: usize, at: &At<'_>) -> Result<(), ConvertError> {
    if count > limit { Err(at.error(Problem::TooMany { count, limit })) } else { Ok(()) }
}

/// A list of messages.
pub(super) fn list<W, M: Decode<W>>(items: Vec<W>, limit: usize, at: &At<'_>) -> Result<Vec<M>, ConvertError> {
    at_most(items.len(), limit, at)?;
    items.into_iter().enumerate().map(|(index, item)| M::decode(item, &at.index(index))).collect()
}

/// A list of ids or names in their text form.
pub(super) fn parsed_list<T: FromStr<Err: Display>>(
    texts: &[String],
    limit: usize,
    at: &At<'_>,
) -> Result<Vec<T>, ConvertError> {
    at_most(texts.len(), limit, at)?;
    texts.iter().enumerate().map(|(index, text)| parsed(text, &at.index(index))).collect()
}

/// The text forms of a list.
pub(super) fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

/// Text that is refused when it is too long.
pub(super) fn bounded(text: String, limit: usize, at: &At<'_>) -> Result<Arc<str>, ConvertError> {
    if text.len() > limit { Err(at.error(Problem::TooLong { bytes: text.len(), limit })) } else { Ok(text.into()) }
}

/// Text for people, cut at a character's edge when it is too long.
pub(super) fn explanation(text: &str) -> Arc<str> {
    clip(text, limits::MAX_EXPLANATION_BYTES).into()
}

/// The longest beginning of `text` of at most `limit` bytes.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Bytes of a framework message.
pub(super) fn message_bytes(data: &Bytes, at: &At<'_>) -> Result<Arc<[u8]>, ConvertError> {
    if data.len() > MAX_MESSAGE_BYTES {
        return Err(at.error(Problem::TooLong { bytes: data.len(), limit: MAX_MESSAGE_BYTES }));
    }
    Ok(data[..].into())
}

/// Pairs of which there may be `limit`, each side of at most `bytes`.
pub(super) fn pairs(
    map: BTreeMap<String, String>,
    limit: usize,
    bytes: usize,
    at: &At<'_>,
) -> Result<Pairs, ConvertError> {
    at_most(map.len(), limit, at)?;
    map.into_iter().map(|(key, value)| Ok((bounded(key, bytes, at)?, bounded(value, bytes, at)?))).collect()
}

pub(super) fn pairs_to_wire(pairs: &Pairs) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// A number that fits and is at most `limit`.
pub(super) fn capped(value: u64, limit: u64, at: &At<'_>) -> Result<u64, ConvertError> {
    if value > limit { Err(at.error(Problem::TooHigh { value, limit })) } else { Ok(value) }
}

/// A duration in whole microseconds, saturating.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A secret in its text form; empty is none. The error does not repeat it.
pub(super) fn secret(text: &str, at: &At<'_>) -> Result<Option<Secret>, ConvertError> {
    optional(text, at)
}

pub(super) fn secret_to_wire(secret: Option<&Secret>) -> String {
    secret.map(Secret::expose_hex).unwrap_or_default()
}

/// What this side says of itself. `software` is the version for people.
pub(super) fn hello(software: &str, capabilities: &Capabilities) -> wire::Hello {
    let capabilities = capabilities.iter().map(|name| name.to_string()).collect();
    wire::Hello { protocol: PROTOCOL, version: software.to_owned(), capabilities }
}

/// Reads a peer's hello from a stream: the version must be one that this side speaks.
pub(super) fn read_hello(hello: Option<wire::Hello>, at: &At<'_>) -> Result<(Arc<str>, Capabilities), ConvertError> {
    let hello = required(hello, at)?;
    if hello.protocol != PROTOCOL {
        return Err(at.error(Problem::Protocol { theirs: hello.protocol, ours: PROTOCOL }));
    }
    read_software(hello, at)
}

/// Reads a hello whose protocol version does not matter any more, as in a record.
pub(super) fn read_software(hello: wire::Hello, at: &At<'_>) -> Result<(Arc<str>, Capabilities), ConvertError> {
    let version = bounded(hello.version, limits::MAX_WORD_BYTES, &at.field("version"))?;
    let at = at.field("capabilities");
    at_most(hello.capabilities.len(), limits::MAX_CAPABILITIES, &at)?;
    let named = |(index, name)| bounded(name, limits::MAX_CAPABILITY_BYTES, &at.index(index));
    let capabilities = hello.capabilities.into_iter().enumerate().map(named).collect::<Result<_, _>>()?;
    Ok((version, capabilities))
}
