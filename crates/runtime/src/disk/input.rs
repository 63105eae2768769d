//! The input stream of a file: like upstream's, but a guest that reads and does not take what was read makes the host hold
//! little.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use crate::limits::STREAM_BYTES;

/// What one read that is waited for may bring, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Reads a file from a position on.
pub(super) struct FileInput {
    file: Arc<File>,
    position: u64,
    progress: Progress,
}

enum Progress {
    Idle,
    Reading(AbortOnDropJoinHandle<io::Result<Bytes>>),
    /// Read, and not taken yet.
    Ahead(Bytes),
    Failed(io::Error),
    Closed,
}

impl From<io::Result<Bytes>> for Progress {
    fn from(read: io::Result<Bytes>) -> Progress {
        match read {
            Ok(bytes) if bytes.is_empty() => Progress::Closed,
            Ok(bytes) => Progress::Ahead(bytes),
            Err(error) => Progress::Failed(error),
        }
    }
}

impl FileInput {
    pub(super) fn new(file: Arc<File>, position: u64) -> FileInput {
        FileInput { file, position, progress: Progress::Idle }
    }

    fn start(&self, bytes: usize) -> AbortOnDropJoinHandle<io::Result<Bytes>> {
        let (file, position) = (self.file.clone(), self.position);
        spawn_blocking(move || read(&file, position, bytes))
    }
}

fn read(file: &File, position: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; bytes];
    loop {
        match file.read_at(&mut buffer, position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(read) => {
                buffer.truncate(read);
                return Ok(buffer.into());
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        if matches!(self.progress, Progress::Idle) {
            self.progress = Progress::Reading(self.start(STREAM_BYTES));
        }
        if let Progress::Reading(read) = &mut self.progress {
            self.progress = read.await.into();
        }
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.progress {
            Progress::Idle if size == 0 => Ok(Bytes::new()),
            Progress::Idle => {
                self.progress = Progress::Reading(self.start(size.min(STREAM_BYTES)));
                Ok(Bytes::new())
            }
            Progress::Reading(_) => Ok(Bytes::new()),
            Progress::Ahead(ahead) => {
                let taken = ahead.split_to(ahead.len().min(size));
                self.position = self.position.saturating_add(taken.len() as u64);
                if ahead.is_empty() {
                    self.progress = Progress::Idle;
                }
                Ok(taken)
            }
            Progress::Closed => Err(StreamError::Closed),
            Progress::Failed(_) => match std::mem::replace(&mut self.progress, Progress::Closed) {
                Progress::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Progress::Reading(read) = &mut self.progress {
            self.progress = read.await.into();
        }
        // All of it goes to the guest at once.
        if matches!(self.progress, Progress::Idle) && size > 0 {
            self.progress = self.start(size.min(READ_BYTES)).await.into();
        }
        self.read(size)
    }

    async fn cancel(&mut self) {
        // What has begun cannot be called back; it is waited for, so that a guest cannot pile it up.
        if let Progress::Reading(read) = std::mem::replace(&mut self.progress, Progress::Closed) {
            read.cancel().await;
        }
    }
}
