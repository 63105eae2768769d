//! The output stream of a file: like upstream's, but through the ledger if there is one, and with less under way.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use super::Disk;
use super::books::Place;
use super::ledger::write_all;
use crate::limits::STREAM_BYTES;

/// Writes to a file. At most one write is under way, on a thread that may block.
pub(super) struct FileStream {
    disk: Option<Disk>,
    file: Arc<File>,
    place: Place,
    progress: Progress,
}

enum Progress {
    Ready,
    Writing(AbortOnDropJoinHandle<io::Result<usize>>),
    Failed(io::Error),
    Closed,
}

impl FileStream {
    pub(super) fn new(disk: Option<Disk>, file: Arc<File>, place: Place) -> FileStream {
        FileStream { disk, file, place, progress: Progress::Ready }
    }

    /// Fails if the last write did, once, and then says that the stream is closed.
    fn settled(&mut self) -> StreamResult<()> {
        match &self.progress {
            Progress::Ready | Progress::Writing(_) => Ok(()),
            Progress::Closed => Err(StreamError::Closed),
            Progress::Failed(_) => match std::mem::replace(&mut self.progress, Progress::Closed) {
                Progress::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        if let Progress::Writing(write) = &mut self.progress {
            self.progress = match write.await {
                Ok(written) => {
                    if let Place::At(position) = &mut self.place {
                        *position = position.saturating_add(written as u64);
                    }
                    Progress::Ready
                }
                Err(error) => Progress::Failed(error),
            };
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for FileStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.progress {
            Progress::Ready => {}
            Progress::Closed => return Err(StreamError::Closed),
            Progress::Writing(_) | Progress::Failed(_) => {
                return Err(StreamError::trap("write not permitted: check-write was not called first"));
            }
        }
        let (disk, file, place) = (self.disk.clone(), self.file.clone(), self.place);
        self.progress = Progress::Writing(spawn_blocking(move || write_all(disk.as_ref(), &file, place, &bytes)));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.settled()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.settled()?;
        Ok(if matches!(self.progress, Progress::Writing(_)) { 0 } else { STREAM_BYTES })
    }

    async fn cancel(&mut self) {
        // What has begun cannot be called back; it is waited for, so that a guest cannot pile it up.
        if let Progress::Writing(write) = std::mem::replace(&mut self.progress, Progress::Closed) {
            write.cancel().await;
        }
    }
}
