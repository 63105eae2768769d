//! Files of guests: the disk ledger, which counts what a task's own directory takes and limits it at each operation that
//! takes more; and bounds on what files make the host hold.
//!
//! wasmtime-wasi has no hook for this. So the calls that make files grow or make names are ours in both linkers ([`p1`],
//! [`p2`]): they ask the ledger, then do what upstream does, or let upstream do it. The guest sees "no space left on
//! device", and the refusal is remembered for the task's end. What counts is said in [`books`].

mod books;
mod input;
mod ledger;
mod listing;
mod names;
pub(crate) mod p1;
pub(crate) mod p2;
mod sandbox;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::books::DiskRefusal;
pub use self::ledger::{Disk, DiskError};
pub(crate) use self::sandbox::Sandbox;
use crate::limits::{DISK_BLOCK_BYTES, MAX_DISK_ENTRIES, MIN_DISK_ENTRIES};

/// What a sandbox may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Bytes of files, directories and links, in blocks of 4 KiB; holes count.
    pub bytes: u64,
    /// Names: files, directories, symbolic and hard links.
    pub entries: u64,
}

impl DiskLimits {
    /// `bytes`, and one entry for each block of them, but at least 64 and at most a million.
    pub fn of_bytes(bytes: u64) -> DiskLimits {
        DiskLimits { bytes, entries: (bytes / DISK_BLOCK_BYTES).clamp(MIN_DISK_ENTRIES, MAX_DISK_ENTRIES) }
    }
}
