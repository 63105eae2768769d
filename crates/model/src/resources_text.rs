//! The text form of resources: `cpus:4;mem:8GiB;ports:[31000-32000];licences:{a,b}`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ranges::MAX_RANGES;
use crate::{ParseAmountError, Quantity, Ranges, ResourceName, Resources};

/// Why a resource text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseResourcesError {
    /// A name or amount cannot be read.
    #[error(transparent)]
    Amount(#[from] ParseAmountError),
    /// An entry is not `name:quantity`.
    #[error("resource {0:?} is not name:quantity")]
    Entry(String),
    /// A name comes twice.
    #[error("resource {0} is given twice")]
    Duplicate(ResourceName),
    /// A range or set is malformed.
    #[error("resource {name}: {text:?} is not {expected}")]
    Items {
        /// The resource.
        name: ResourceName,
        /// What was given.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The text has too many entries or items.
    #[error("resources have more than {0} entries")]
    TooMany(usize),
}

const MAX_ENTRIES: usize = 64;

impl FromStr for Resources {
    type Err = ParseResourcesError;

    fn from_str(text: &str) -> Result<Resources, ParseResourcesError> {
        let mut resources = Resources::EMPTY;
        let mut seen = BTreeSet::new();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, quantity) = parse_entry(entry)?;
            if !seen.insert(name.clone()) {
                return Err(ParseResourcesError::Duplicate(name));
            }
            if seen.len() > MAX_ENTRIES {
                return Err(ParseResourcesError::TooMany(MAX_ENTRIES));
            }
            resources.set(name, quantity);
        }
        Ok(resources)
    }
}

fn parse_entry(entry: &str) -> Result<(ResourceName, Quantity), ParseResourcesError> {
    let (name, text) = entry.split_once(':').ok_or_else(|| ParseResourcesError::Entry(clip(entry)))?;
    let name: ResourceName = name.trim().parse()?;
    let text = text.trim();
    let quantity = match text.chars().next() {
        Some('[') => Quantity::Ranges(parse_ranges(&name, text)?),
        Some('{') => Quantity::Set(parse_set(&name, text)?),
        _ => Quantity::Scalar(name.parse_amount(text)?),
    };
    let is_ports = name == ResourceName::Ports;
    let predefined = !matches!(name, ResourceName::Custom(_));
    match quantity {
        Quantity::Ranges(_) if predefined && !is_ports => Err(items(&name, text, "an amount")),
        Quantity::Set(_) if predefined => Err(items(&name, text, "an amount or ranges")),
        Quantity::Scalar(_) if is_ports => Err(items(&name, text, "ranges such as [31000-32000]")),
        quantity => Ok((name, quantity)),
    }
}

fn parse_ranges(name: &ResourceName, text: &str) -> Result<Ranges, ParseResourcesError> {
    let expected = "ranges such as [31000-32000]";
    let error = || items(name, text, expected);
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(error)?;
    let mut ranges = Vec::new();
    for part in inner.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        let (start, end) = (start.trim().parse(), end.trim().parse());
        let (Ok(start), Ok(end)) = (start, end) else { return Err(error()) };
        let too_high = *name == ResourceName::Ports && end > 65535;
        if start > end || too_high {
            return Err(error());
        }
        ranges.push((start, end));
        if ranges.len() > MAX_RANGES {
            return Err(ParseResourcesError::TooMany(MAX_RANGES));
        }
    }
    Ok(Ranges::new(ranges))
}

fn parse_set(name: &ResourceName, text: &str) -> Result<BTreeSet<Arc<str>>, ParseResourcesError> {
    let error = || items(name, text, "a set such as {a,b}");
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(error)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut set = BTreeSet::new();
    for item in inner.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        if !item.chars().all(allowed) || item.len() > 64 {
            return Err(error());
        }
        set.insert(item.into());
        if set.len() > MAX_RANGES {
            return Err(ParseResourcesError::TooMany(MAX_RANGES));
        }
    }
    Ok(set)
}

fn items(name: &ResourceName, text: &str, expected: &'static str) -> ParseResourcesError {
    ParseResourcesError::Items { name: name.clone(), text: clip(text), expected }
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(crate) fn show_quantity(name: &ResourceName, quantity: &Quantity) -> String {
    match quantity {
        Quantity::Scalar(amount) if amount.0 == 0 => "0".to_owned(),
        Quantity::Scalar(amount) => name.show(*amount),
        Quantity::Ranges(ranges) => ranges.to_string(),
        Quantity::Set(set) => format!("{{{}}}", set.iter().map(|item| &**item).collect::<Vec<_>>().join(",")),
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, quantity)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ";" };
            write!(f, "{separator}{name}:{}", show_quantity(name, quantity))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_read_back_what_they_print() {
        let text = "cpus:4;mem:8GiB;disk:20GiB;gpus:1;ports:[31000-31999,32001-32001];bandwidth:0.5;licences:{a,b}";
        let resources: Resources = text.parse().unwrap();
        assert_eq!(resources.to_string(), text);
    }

    #[test]
    fn zero_is_absent() {
        assert_eq!("cpus:0;mem:1MiB".parse::<Resources>().unwrap().to_string(), "mem:1MiB");
    }

    #[test]
    fn malformed_texts_are_refused_by_name() {
        for (text, part) in [
            ("cpus", "name:quantity"),
            ("cpus:-1", "cpus"),
            ("cpus:1;cpus:2", "twice"),
            ("cpus:0;cpus:2", "twice"),
            ("ports:5", "ranges"),
            ("ports:[9-5]", "ranges"),
            ("ports:[1-70000]", "ranges"),
            ("cpus:[1-2]", "amount"),
            ("CPUS:1", "name"),
            ("mem:NaN", "mem"),
            ("l:{a b}", "set"),
        ] {
            let error = text.parse::<Resources>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
