//! Who leads the cluster, and what the registry remembers: one interface, and the store behind it that needs no other
//! process.
//!
//! The registry is a flat map from keys to bytes, one key per record. Whoever leads holds a [`Leadership`], and every
//! write presents it: a write of somebody who has been succeeded answers [`CommitOutcome::Fenced`] and changes
//! nothing. What the bytes mean is the caller's business.

mod embedded;
mod writer;

use std::future::Future;
use std::pin::Pin;

use holm_model::{ClusterId, Epoch};

pub use embedded::{Embedded, OpenError, Options};

/// Largest value of one key, in bytes. A record is a few kilobytes; this bounds a mistake, not a use.
pub const MAX_VALUE_BYTES: usize = 4 << 20;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// What an operation of the interface returns: a future that may be sent to another thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keys in order, each with its value.
pub type Records = Vec<(String, Vec<u8>)>;

/// A reign: it stands until somebody campaigns after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The cluster whose registry this is.
    pub cluster: ClusterId,
    /// The number of the reign, one higher than every reign before it.
    pub epoch: Epoch,
}

/// One change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOp {
    /// Which key; at most [`MAX_KEY_BYTES`].
    pub key: String,
    /// Its new value, at most [`MAX_VALUE_BYTES`]; none removes the key.
    pub value: Option<Vec<u8>>,
}

impl KeyOp {
    /// Sets a key.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> KeyOp {
        KeyOp { key: key.into(), value: Some(value.into()) }
    }

    /// Removes a key; one that is not there is no error.
    pub fn remove(key: impl Into<String>) -> KeyOp {
        KeyOp { key: key.into(), value: None }
    }
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Every operation is durable.
    Committed,
    /// Somebody else leads; nothing was changed and nothing ever will be. The caller steps down.
    Fenced,
    /// It may or may not have happened; the same operations may be committed again. The text is for the log. A key or
    /// value over its limit is answered so too: the bounds of the records themselves keep that from happening.
    Unknown(String),
}

/// The store did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry cannot be read: {0}")]
pub struct StoreError(pub(crate) String);

/// What a master needs of a store.
pub trait Coordination: Send + Sync + 'static {
    /// Waits for its turn to lead and starts a new reign. With a store that one process owns that is at once.
    ///
    /// # Errors
    /// When the store does not answer.
    fn campaign(&self) -> Answer<'_, Result<Leadership, StoreError>>;

    /// Applies all operations or none, durably, if `leadership` still stands.
    fn commit(&self, leadership: Leadership, ops: Vec<KeyOp>) -> Answer<'_, CommitOutcome>;

    /// Every key that starts with `prefix`, in order, with its value.
    ///
    /// # Errors
    /// When the store does not answer.
    fn snapshot(&self, prefix: &str) -> Answer<'_, Result<Records, StoreError>>;

    /// Resolves when `leadership` is lost, and never before.
    fn deposed(&self, leadership: Leadership) -> Answer<'_, ()>;
}
