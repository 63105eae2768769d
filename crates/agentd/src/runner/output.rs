//! Where a task's stdout and stderr go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_model::WorkId;
use holm_runtime::{OutputSink, Stream};

use crate::log::{LogWriter, RecordKind};

/// The runner's log, shared by its worker threads.
// Arc<Mutex>: guests write from several worker threads into one file; the lock is held for a copy into a buffer.
#[derive(Clone)]
pub(super) struct SharedLog(Arc<Mutex<LogWriter>>);

impl SharedLog {
    pub(super) fn new(log: LogWriter) -> SharedLog {
        SharedLog(Arc::new(Mutex::new(log)))
    }

    /// A panic while the lock was held leaves at worst a record without an index entry.
    pub(super) fn lock(&self) -> MutexGuard<'_, LogWriter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's part of the log.
pub(super) struct TaskOutput {
    pub(super) log: SharedLog,
    pub(super) work: WorkId,
    pub(super) position: u32,
}

impl OutputSink for TaskOutput {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let kind = match stream {
            Stream::Stdout => RecordKind::Stdout,
            Stream::Stderr => RecordKind::Stderr,
        };
        // A full disk ends the runner at its next flush, which reports it; the guest is not to blame.
        let written = self.log.lock().output(self.work, self.position, kind, bytes);
        if let Err(error) = written {
            tracing::error!(%error, "task output cannot be written");
        }
    }
}
