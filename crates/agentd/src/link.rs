//! The socket between an agent and a runner: where it is, and whole frames in and out of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use holm_proto::{Message, framing};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Initial size of the read buffer.
const READ_BYTES: usize = 64 << 10;
/// Initial size of the write buffer.
const WRITE_BYTES: usize = 256 << 10;
/// Messages gathered into one write.
const WRITE_MESSAGES: usize = 256;

/// The socket's path in a runner's directory.
pub(crate) fn socket_path(dir: &Path) -> PathBuf {
    dir.join("socket")
}

/// The same socket by way of an open directory: short enough for a unix socket address however deep the directory lies.
pub(crate) struct ShortPath {
    dir: OwnedFd,
}

pub(crate) fn short_path(dir: &Path) -> io::Result<ShortPath> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(ShortPath { dir })
}

impl ShortPath {
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/socket", self.dir.as_raw_fd()))
    }
}

/// Hands every message to `take` until the stream ends or `take` says false.
pub(crate) async fn read_messages<R, M, T, F>(mut read: R, mut take: T) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    M: Message + Default,
    T: FnMut(M) -> F,
    F: Future<Output = bool>,
{
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        while let Some(message) = framing::decode::<M>(&mut buffer).map_err(io::Error::other)? {
            if !take(message).await {
                return Ok(());
            }
        }
        if read.read_buf(&mut buffer).await? == 0 {
            return if buffer.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Writes messages until the channel closes, what is queued in one write.
pub(crate) async fn write_messages<W, T, M, I>(
    mut write: W,
    mut messages: mpsc::Receiver<T>,
    to_wire: impl Fn(&T) -> I,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
    M: Message,
    I: IntoIterator<Item = M>,
{
    let mut batch = Vec::with_capacity(WRITE_MESSAGES);
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    while messages.recv_many(&mut batch, WRITE_MESSAGES).await > 0 {
        for message in batch.drain(..).flat_map(|message| to_wire(&message).into_iter().collect::<Vec<_>>()) {
            framing::encode(&message, &mut buffer).map_err(io::Error::other)?;
        }
        write.write_all_buf(&mut buffer).await?;
    }
    write.shutdown().await
}
