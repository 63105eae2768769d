//! The agent's checkpoint: an append-only file of records that survives the death of the process.
//!
//! `checkpoint/NNNNNN` begins with a snapshot (or with nothing, the first time) and grows by what happens. When it has
//! grown enough it is replaced by a new file with a snapshot. A record is `length, CRC-32, bytes`, both numbers 32 bits
//! little-endian. A torn last record is left out: nothing that depended on it had been done.

mod wire;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holm_agent::Record;

/// A checkpoint is rewritten once it has grown by this many bytes and by four times its snapshot.
const REWRITE_BYTES: u64 = 32 << 20;
/// Largest record.
const MAX_RECORD_BYTES: u32 = 16 << 20;
const HEADER_BYTES: usize = 8;

/// The open checkpoint of a running agent.
pub(crate) struct Checkpoint {
    dir: PathBuf,
    number: u32,
    file: File,
    grown: u64,
    snapshot: u64,
    buffer: Vec<u8>,
}

/// What was found in a checkpoint.
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    /// Whether something before its end cannot be read.
    pub(crate) damaged: bool,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("checkpoint {path}: cannot {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("checkpoint {0} has a record that this version does not know; it was written by a newer version")]
    Newer(PathBuf),
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`, which exists, and reads it.
    ///
    /// # Errors
    /// When it cannot be read or a newer version wrote it.
    pub(crate) fn open(dir: &Path) -> Result<(Checkpoint, Found), CheckpointError> {
        let io = |path: &Path, what| {
            let path = path.to_owned();
            move |source| CheckpointError::Io { path, what, source }
        };
        let number = latest(dir).map_err(io(dir, "list it"))?;
        // A crash between a rewrite and the removal of what it replaced leaves the older file.
        for older in (number.saturating_sub(2)..number).map(|older| file_path(dir, older)).filter(|path| path.exists())
        {
            fs::remove_file(&older).map_err(io(&older, "remove it"))?;
        }
        let path = file_path(dir, number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(io(&path, "read it")(source)),
        };
        let (records, whole, damaged) = parse(&bytes, &path)?;
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = opened.map_err(io(&path, "open it"))?;
        file.set_len(whole as u64).map_err(io(&path, "cut its torn end"))?;
        let checkpoint =
            Checkpoint { dir: dir.to_owned(), number, file, grown: whole as u64, snapshot: 0, buffer: Vec::new() };
        Ok((checkpoint, Found { records, damaged }))
    }

    /// Hands records to the operating system.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.buffer.clear();
        records.iter().for_each(|record| put(record, &mut self.buffer));
        self.file.write_all(&self.buffer)?;
        self.grown += self.buffer.len() as u64;
        Ok(())
    }

    /// Brings everything to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether it has grown enough to be rewritten.
    pub(crate) fn wants_rewrite(&self) -> bool {
        self.grown > REWRITE_BYTES.max(4 * self.snapshot)
    }

    /// Replaces it by a snapshot.
    pub(crate) fn rewrite(&mut self, snapshot: &[Record]) -> io::Result<()> {
        let next = file_path(&self.dir, self.number + 1);
        let draft = self.dir.join("draft");
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&draft)?;
        file.set_len(0)?;
        self.buffer.clear();
        snapshot.iter().for_each(|record| put(record, &mut self.buffer));
        file.write_all(&self.buffer)?;
        file.sync_all()?;
        fs::rename(&draft, &next)?;
        File::open(&self.dir)?.sync_all()?;
        fs::remove_file(file_path(&self.dir, self.number))?;
        self.file = file;
        self.number += 1;
        self.snapshot = self.buffer.len() as u64;
        self.grown = 0;
        self.buffer = Vec::new();
        Ok(())
    }
}

fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}"))
}

/// The number of the newest file; 1 when there is none.
fn latest(dir: &Path) -> io::Result<u32> {
    let mut latest = 1;
    for entry in fs::read_dir(dir)? {
        let number: Option<u32> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        latest = latest.max(number.unwrap_or(0));
    }
    Ok(latest)
}

fn put(record: &Record, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend([0; HEADER_BYTES]);
    wire::encode(record, buffer);
    let length = u32::try_from(buffer.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
    let check = crc32fast::hash(&buffer[start + HEADER_BYTES..]);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..start + HEADER_BYTES].copy_from_slice(&check.to_le_bytes());
}

/// The records, how many bytes hold them, and whether anything but a torn end follows.
fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, usize, bool), CheckpointError> {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some(payload) = next_payload(&bytes[at..]) {
        match wire::decode(payload) {
            wire::Decoded::Known(record) => records.push(record),
            wire::Decoded::Unknown => return Err(CheckpointError::Newer(path.to_owned())),
            wire::Decoded::Broken => return Ok((records, at, true)),
        }
        at += HEADER_BYTES + payload.len();
    }
    Ok((records, at, follows_more(&bytes[at..])))
}

fn next_payload(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let payload = rest.get(..length as usize).filter(|_| length <= MAX_RECORD_BYTES)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*check)).then_some(payload)
}

/// Whether an unreadable rest is more than one torn record: then whole records may have been lost.
fn follows_more(rest: &[u8]) -> bool {
    let length = rest.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let torn = rest.len() < HEADER_BYTES || rest.len() < HEADER_BYTES + length;
    !rest.is_empty() && !torn
}

#[cfg(test)]
mod tests {
    use super::*;
    use holm_agent::RunnerScope;
    use holm_model::{BootId, FrameworkId, Incarnation, RunnerId, WorkId};

    fn records() -> Vec<Record> {
        let scope = RunnerScope { work: Some(WorkId(7)), network: true, revocable: true, ..RunnerScope::default() };
        let framework: FrameworkId = "framework-1-1".parse().unwrap();
        vec![
            Record::Incarnation { number: Incarnation(3), boot: BootId("b".into()) },
            Record::RunnerStarted { runner: RunnerId(1), scope, sequence: 0 },
            Record::WorkSent { work: WorkId(7), runner: RunnerId(1) },
            Record::Acknowledged { framework, sequence: 9 },
        ]
    }

    fn show(records: &[Record]) -> String {
        format!("{records:?}")
    }

    #[test]
    fn what_was_appended_is_found_again_also_after_a_rewrite() {
        let dir = tempfile::tempdir().unwrap();
        let (mut checkpoint, found) = Checkpoint::open(dir.path()).unwrap();
        assert!(found.records.is_empty());
        checkpoint.append(&records()[..2]).unwrap();
        checkpoint.append(&records()[2..]).unwrap();
        drop(checkpoint);
        let (mut checkpoint, found) = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(show(&found.records), show(&records()));
        checkpoint.rewrite(&records()[1..]).unwrap();
        checkpoint.append(&records()[..1]).unwrap();
        drop(checkpoint);
        let (_, found) = Checkpoint::open(dir.path()).unwrap();
        let expected: Vec<_> = records()[1..].iter().chain(&records()[..1]).cloned().collect();
        assert_eq!(show(&found.records), show(&expected));
    }

    #[test]
    fn a_torn_end_is_cut_off_and_damage_before_it_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut checkpoint, _) = Checkpoint::open(dir.path()).unwrap();
        checkpoint.append(&records()).unwrap();
        drop(checkpoint);
        let path = file_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for cut in 1..12 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut checkpoint, found) = Checkpoint::open(dir.path()).unwrap();
            assert_eq!((found.records.len(), found.damaged), (3, false), "cut by {cut}");
            checkpoint.append(&records()[3..]).unwrap();
            drop(checkpoint);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (_, found) = Checkpoint::open(dir.path()).unwrap();
        assert!(found.damaged);
    }
}
