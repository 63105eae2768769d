//! What a guest writes to stdout and stderr, on its way to the runner's log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// What one write may bring, in bytes.
const WRITE_BYTES: usize = 64 << 10;

/// Which of a guest's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes what a task writes, in the order written. It is called on the thread that polls the task, so it must neither
/// block nor fail: what it cannot store it drops. Only bytes within the task's cap arrive.
pub trait OutputSink: Send {
    /// Takes some bytes, at most 64 KiB.
    fn write(&mut self, stream: Stream, bytes: &[u8]);
}

/// Both streams of one task with its cap. The guest's streams and the task's end share it by lock, since WASI wants
/// independent stream objects; only the thread that polls the task takes it.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Written>>);

struct Written {
    sink: Box<dyn OutputSink>,
    cap: u64,
    kept: u64,
    dropped: u64,
}

impl Output {
    pub(crate) fn new(sink: Box<dyn OutputSink>, cap: u64) -> Output {
        Output(Arc::new(Mutex::new(Written { sink, cap, kept: 0, dropped: 0 })))
    }

    pub(crate) fn stream(&self, stream: Stream) -> Writer {
        Writer { output: self.clone(), stream }
    }

    /// Bytes kept and bytes dropped so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let written = self.lock();
        (written.kept, written.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the host has to say to whoever reads the task's output.
    pub(crate) fn note(&self, text: &str) {
        self.write(Stream::Stderr, text.as_bytes());
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut written = self.lock();
        let room = usize::try_from(written.cap - written.kept).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        written.kept += kept.len() as u64;
        written.dropped += (bytes.len() - kept.len()) as u64;
        if !kept.is_empty() {
            written.sink.write(stream, kept);
        }
    }
}

/// One of the streams, as WASI wants it. Over the cap it still takes everything: a guest never fails for writing too much.
#[derive(Clone)]
pub(crate) struct Writer {
    output: Output,
    stream: Stream,
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = &bytes[..bytes.len().min(WRITE_BYTES)];
        self.output.write(self.stream, taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
