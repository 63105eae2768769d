//! The runner's side of the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use holm_model::WorkId;

use super::{
    ENTRY_BYTES, Entry, LaunchName, MAX_RECORD_BYTES, RecordKind, SEGMENT_BYTES, data_file, index_file, segments,
};

/// Bytes held in memory before they are handed to the operating system; also bounded by [`LogWriter::flush`] calls.
const BUFFER_BYTES: usize = 256 << 10;

/// Appends records. What was flushed survives the death of the process.
pub(crate) struct LogWriter {
    dir: PathBuf,
    segment: u32,
    data: File,
    index: File,
    offset: u64,
    /// Bytes of the segment's index: many small writes take more there than in the data.
    indexed: u64,
    pending_data: Vec<u8>,
    pending_index: Vec<u8>,
    max_bytes: u64,
    /// Launches that still run: their names are repeated at the head of each segment, since old segments go.
    launches: Vec<(WorkId, Vec<u8>)>,
}

impl LogWriter {
    /// Starts a new segment in `dir`, which exists; earlier segments stay. The log keeps at most `max_bytes` (and at
    /// least two segments).
    ///
    /// # Errors
    /// When the files cannot be made.
    pub(crate) fn open(dir: &Path, max_bytes: u64) -> io::Result<LogWriter> {
        let segment = segments(dir)?.last().map_or(1, |last| last + 1);
        let (data, index) = create(dir, segment)?;
        let (pending_data, pending_index, launches) = (Vec::new(), Vec::new(), Vec::new());
        Ok(LogWriter {
            dir: dir.to_owned(),
            segment,
            data,
            index,
            offset: 0,
            indexed: 0,
            pending_data,
            pending_index,
            max_bytes,
            launches,
        })
    }

    /// Records which launch a work number stands for.
    pub(crate) fn launch(&mut self, work: WorkId, name: &LaunchName) -> io::Result<()> {
        let payload = name.encode();
        self.launches.push((work, payload.clone()));
        self.append(work, 0, RecordKind::Launch, &payload)
    }

    /// The launch has ended; its name is no longer carried on.
    pub(crate) fn forget(&mut self, work: WorkId) {
        self.launches.retain(|(known, _)| *known != work);
    }

    /// Appends output of a task.
    pub(crate) fn output(&mut self, work: WorkId, position: u32, kind: RecordKind, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(MAX_RECORD_BYTES).try_for_each(|chunk| self.append(work, position, kind, chunk))
    }

    /// Records that a task's output is complete and how much of it was dropped.
    pub(crate) fn end(&mut self, work: WorkId, position: u32, dropped: u64) -> io::Result<()> {
        self.append(work, position, RecordKind::End, &dropped.to_le_bytes())
    }

    /// Hands everything to the operating system. Data goes before its index, so that a reader never finds an entry
    /// without its bytes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.pending_index.is_empty() {
            self.data.write_all(&self.pending_data)?;
            self.index.write_all(&self.pending_index)?;
            self.pending_data.clear();
            self.pending_index.clear();
        }
        Ok(())
    }

    fn append(&mut self, work: WorkId, position: u32, kind: RecordKind, payload: &[u8]) -> io::Result<()> {
        if self.offset + self.indexed + payload.len() as u64 > SEGMENT_BYTES {
            self.rotate()?;
        }
        self.put(work, position, kind, payload);
        if self.pending_data.len() + self.pending_index.len() > BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn put(&mut self, work: WorkId, position: u32, kind: RecordKind, payload: &[u8]) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let offset = u32::try_from(self.offset).unwrap_or(u32::MAX);
        let entry = Entry { work, position, kind, at_unix_micros, offset, length };
        self.pending_data.extend_from_slice(payload);
        self.pending_index.extend_from_slice(&entry.encode());
        self.offset += u64::from(length);
        self.indexed += ENTRY_BYTES as u64;
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        self.segment += 1;
        (self.data, self.index) = create(&self.dir, self.segment)?;
        self.offset = 0;
        self.indexed = 0;
        for (work, payload) in self.launches.clone() {
            self.put(work, 0, RecordKind::Launch, &payload);
        }
        self.flush()?;
        let keep = usize::try_from(self.max_bytes / SEGMENT_BYTES).unwrap_or(usize::MAX).max(2);
        let present = segments(&self.dir)?;
        for old in &present[..present.len().saturating_sub(keep)] {
            std::fs::remove_file(data_file(&self.dir, *old))?;
            std::fs::remove_file(index_file(&self.dir, *old))?;
        }
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, dir = %self.dir.display(), "the last task output could not be written");
        }
    }
}

fn create(dir: &Path, segment: u32) -> io::Result<(File, File)> {
    let new = |path: PathBuf| OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
    Ok((new(data_file(dir, segment))?, new(index_file(dir, segment))?))
}
