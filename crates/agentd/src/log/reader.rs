//! The agent's side of the log.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use holm_model::{BatchId, FrameworkId, TaskId, TaskRange, WorkId};
use rustix::fs::OFlags;

use super::{ENTRY_BYTES, Entry, RecordKind, data_file, index_file, segments};

/// Index entries read at a time.
const ENTRIES_PER_READ: usize = 1024;

/// Which launch of which framework a work number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaunchName {
    /// The framework.
    pub(crate) framework: FrameworkId,
    /// Its name for the launch.
    pub(crate) batch: BatchId,
    /// The launch's tasks.
    pub(crate) tasks: TaskRange,
}

impl LaunchName {
    pub(super) fn encode(&self) -> Vec<u8> {
        let range = match self.tasks {
            TaskRange::Single => "-".to_owned(),
            TaskRange::Array { first, count } => format!("{first} {count}"),
        };
        format!("{}\n{}\n{range}", self.framework, self.batch).into_bytes()
    }

    fn decode(payload: &[u8]) -> Option<LaunchName> {
        let mut lines = std::str::from_utf8(payload).ok()?.split('\n');
        let framework = lines.next()?.parse().ok()?;
        let batch = lines.next()?.parse().ok()?;
        let tasks = match lines.next()? {
            "-" => TaskRange::Single,
            range => {
                let (first, count) = range.split_once(' ')?;
                TaskRange::Array { first: first.parse().ok()?, count: count.parse().ok()? }
            }
        };
        Some(LaunchName { framework, batch, tasks })
    }

    /// The id of the task at `position`.
    pub(crate) fn task_id(&self, position: u32) -> TaskId {
        TaskId { batch: self.batch.clone(), index: self.tasks.index_at(position) }
    }
}

/// One record with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The launch's work number.
    pub(crate) work: WorkId,
    /// The task's position in the launch.
    pub(crate) position: u32,
    /// What the bytes are.
    pub(crate) kind: RecordKind,
    /// When it was written, in microseconds of Unix time.
    pub(crate) at_unix_micros: u64,
    /// The bytes.
    pub(crate) payload: Vec<u8>,
}

impl Record {
    /// The name in a launch record.
    pub(crate) fn launch_name(&self) -> Option<LaunchName> {
        LaunchName::decode(&self.payload).filter(|_| self.kind == RecordKind::Launch)
    }

    /// The number of bytes dropped, of an end record.
    pub(crate) fn dropped(&self) -> u64 {
        let bytes: Option<[u8; 8]> = self.payload.as_slice().try_into().ok();
        bytes.map_or(0, u64::from_le_bytes)
    }
}

/// Reads a log from its oldest segment on, and goes on where it stopped as the log grows.
pub(crate) struct Tail {
    dir: PathBuf,
    open: Option<Segment>,
    last_segment: u32,
}

struct Segment {
    number: u32,
    data: File,
    index: File,
    next_entry: u64,
}

impl Tail {
    /// A reader at the log's beginning. The directory may still be missing or empty.
    pub(crate) fn new(dir: &Path) -> Tail {
        Tail { dir: dir.to_owned(), open: None, last_segment: 0 }
    }

    /// Hands the next records that `wanted` (given work, position and kind) to `take`, launch records always, until
    /// about `max_bytes` were read. Returns whether there may be more right now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn read(
        &mut self,
        max_bytes: usize,
        mut wanted: impl FnMut(WorkId, u32, RecordKind) -> bool,
        mut take: impl FnMut(Record),
    ) -> io::Result<bool> {
        let mut budget = max_bytes;
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(false);
            }
            let Some(segment) = &mut self.open else { return Ok(false) };
            let entries = segment.entries()?;
            if entries.is_empty() {
                // A later segment exists only once this one is complete; look once more before leaving it.
                if !later_exists(&self.dir, segment.number)? {
                    return Ok(false);
                }
                if !segment.entries()?.is_empty() {
                    continue;
                }
                self.last_segment = segment.number;
                self.open = None;
                continue;
            }
            for entry in entries {
                segment.next_entry += 1;
                let is_launch = entry.kind == RecordKind::Launch;
                if is_launch || wanted(entry.work, entry.position, entry.kind) {
                    let mut payload = vec![0; entry.length as usize];
                    segment.data.read_exact_at(&mut payload, entry.offset.into())?;
                    budget = budget.saturating_sub(payload.len() + ENTRY_BYTES);
                    let Entry { work, position, kind, at_unix_micros, .. } = entry;
                    take(Record { work, position, kind, at_unix_micros, payload });
                }
                if budget == 0 {
                    return Ok(true);
                }
            }
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let present = match segments(&self.dir) {
            Ok(present) => present,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for number in present.into_iter().filter(|number| *number > self.last_segment) {
            let open = open_segment(&data_file(&self.dir, number))
                .and_then(|data| Ok((data, open_segment(&index_file(&self.dir, number))?)));
            match open {
                Ok((data, index)) => {
                    self.open = Some(Segment { number, data, index, next_entry: 0 });
                    return Ok(true);
                }
                // It gave way to newer ones between listing and opening.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Opens a file of a log. The directory is the runner's: if somebody has taken that over, what lies there may be a link to
/// what only the agent may read, or a pipe that never ends.
fn open_segment(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let regular = file.metadata()?.is_file();
    if regular { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of a log")) }
}

fn later_exists(dir: &Path, number: u32) -> io::Result<bool> {
    Ok(segments(dir)?.last().is_some_and(|last| *last > number))
}

impl Segment {
    /// The next whole entries, without moving on.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; ENTRIES_PER_READ * ENTRY_BYTES];
        let read = self.index.read_at(&mut bytes, self.next_entry * ENTRY_BYTES as u64)?;
        let (whole, _torn) = bytes[..read].as_chunks::<ENTRY_BYTES>();
        Ok(whole.iter().map_while(Entry::decode).collect())
    }
}
