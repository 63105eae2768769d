//! The segmented output log of one runner: what its tasks wrote to stdout and stderr, in order, in few files.
//!
//! A runner runs thousands of small tasks; a file for each would cost more than the tasks. So the runner appends records
//! to segments `NNNNNN.log`, each with an index `NNNNNN.idx` of fixed-size entries by which the output of one task is
//! found without reading the others'. The log explains itself: a launch record names the framework's launch behind a
//! work number, and an end record says that a task's output is complete. The runner process writes; the agent reads, at
//! any time, also after the runner is gone. The oldest segments give way when the log exceeds its size.

mod reader;
mod writer;

pub(crate) use reader::{LaunchName, Record, Tail};
pub(crate) use writer::LogWriter;

use std::path::{Path, PathBuf};

use holm_model::WorkId;

/// A segment is closed once it has this many bytes.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;
/// Largest payload of one record; longer writes are split.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 10;
/// Bytes of an index entry.
const ENTRY_BYTES: usize = 32;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// Bytes of stdout.
    Stdout = 1,
    /// Bytes of stderr.
    Stderr = 2,
    /// The task's output is complete; the payload is the number of bytes dropped, 8 bytes little-endian.
    End = 3,
    /// The launch behind a work number: see [`LaunchName`].
    Launch = 4,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        [RecordKind::Stdout, RecordKind::Stderr, RecordKind::End, RecordKind::Launch]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One index entry: which record lies where in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    work: WorkId,
    position: u32,
    kind: RecordKind,
    at_unix_micros: u64,
    offset: u32,
    length: u32,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.work.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.position.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.length << 8 | u32::from(self.kind as u8)).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.at_unix_micros.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.offset.to_le_bytes());
        let check = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` for bytes that no writer wrote: a torn tail after a power cut.
    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Entry> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(28) != crc32fast::hash(&bytes[..28]) {
            return None;
        }
        let kind = RecordKind::from_byte(bytes[12])?;
        let (work, position) = (WorkId(u64_at(0)), u32_at(8));
        Some(Entry { work, position, kind, at_unix_micros: u64_at(16), offset: u32_at(24), length: u32_at(12) >> 8 })
    }
}

fn data_file(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:06}.log"))
}

fn index_file(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:06}.idx"))
}

/// The segments present in `dir`, oldest first.
fn segments(dir: &Path) -> std::io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u32> = name.to_str().and_then(|name| name.strip_suffix(".idx")?.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
