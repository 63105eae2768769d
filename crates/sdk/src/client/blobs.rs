//! Blobs: pushed once, addressed by what they contain.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use holm_model::Digest;
use holm_proto::v1::push_chunk::Part;
use holm_proto::v1::{PullRequest, PushChunk, PushHeader, StatRequest};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Client;

/// Bytes of one message of a push.
const CHUNK_BYTES: usize = 256 << 10;
/// Messages of a push that wait for the transport.
const CHUNKS_AHEAD: usize = 4;

/// A blob that the master has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its address.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the master had it before, so that nothing was sent.
    pub existed: bool,
}

/// Why a blob did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was pulled cannot be written.
    #[error("the blob cannot be written")]
    Write(#[source] io::Error),
    /// What the master sent is not the blob.
    #[error("the master sent {got} for {asked}")]
    Corrupt {
        /// What was asked for.
        asked: Digest,
        /// What came.
        got: Digest,
    },
    /// The master refuses, or is gone.
    #[error("the master refuses the blob: {}", .0.message())]
    Refused(Status),
}

impl Client {
    /// Pushes a file unless the master has it already. `progress` is told the bytes that were handed to the transport so far
    /// and the size.
    ///
    /// # Errors
    /// When the file cannot be read, changes meanwhile, or the master refuses it.
    pub async fn push_file(
        &self,
        path: &Path,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Pushed, PushError> {
        let read = |source| PushError::Read { path: path.to_owned(), source };
        let opened = path.to_owned();
        let hashed = tokio::task::spawn_blocking(move || hash_file(&opened)).await;
        let (file, digest, size) = hashed.map_err(io::Error::other).and_then(|hashed| hashed).map_err(read)?;
        if let Some(known) = self.known(digest).await? {
            return Ok(known);
        }
        self.send(digest, size, file, progress).await
    }

    /// Pushes bytes unless the master has them already.
    ///
    /// # Errors
    /// When the master refuses them.
    pub async fn push(&self, bytes: impl Into<Bytes>) -> Result<Pushed, PushError> {
        let bytes = bytes.into();
        let digest = Digest(Sha256::digest(&bytes).into());
        if let Some(known) = self.known(digest).await? {
            return Ok(known);
        }
        self.send(digest, bytes.len() as u64, io::Cursor::new(bytes), |_, _| {}).await
    }

    /// Pulls a blob into `writer` and checks that it is the one asked for. How many bytes it has.
    ///
    /// # Errors
    /// When the master does not have it, sends something else, or `writer` fails.
    pub async fn pull(&self, digest: Digest, mut writer: impl AsyncWrite + Unpin) -> Result<u64, PushError> {
        let request = PullRequest { digest: digest.to_string(), offset: 0 };
        let mut chunks = self.blobs().pull(request).await.map_err(PushError::Refused)?.into_inner();
        let (mut hasher, mut size) = (Sha256::new(), 0);
        while let Some(chunk) = chunks.message().await.map_err(PushError::Refused)? {
            hasher.update(&chunk.data);
            size += chunk.data.len() as u64;
            writer.write_all(&chunk.data).await.map_err(PushError::Write)?;
        }
        writer.flush().await.map_err(PushError::Write)?;
        let got = Digest(hasher.finalize().into());
        if got == digest { Ok(size) } else { Err(PushError::Corrupt { asked: digest, got }) }
    }

    async fn known(&self, digest: Digest) -> Result<Option<Pushed>, PushError> {
        let request = StatRequest { digests: vec![digest.to_string()] };
        let reply = self.blobs().stat(request).await.map_err(PushError::Refused)?.into_inner();
        Ok(reply.blobs.first().map(|blob| Pushed { digest, size: blob.size, existed: true }))
    }

    async fn send(
        &self,
        digest: Digest,
        size: u64,
        source: impl Read + Send + 'static,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Pushed, PushError> {
        let chunks = chunks(digest, size, source, progress);
        let reply = self.blobs().push(chunks).await.map_err(PushError::Refused)?.into_inner();
        Ok(Pushed { digest, size: reply.size, existed: reply.existed })
    }
}

fn hash_file(path: &Path) -> io::Result<(File, Digest, u64)> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut hasher = Sha256::new();
    let size = io::copy(&mut file, &mut hasher)?;
    file.rewind()?;
    Ok((file, Digest(hasher.finalize().into()), size))
}

/// Reads on a thread of its own, a few chunks ahead. A source that ends early or fails ends the stream early, and the
/// master then says that the bytes are not what the header announced.
fn chunks(
    digest: Digest,
    size: u64,
    mut source: impl Read + Send + 'static,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> impl Stream<Item = PushChunk> + Send + 'static {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let header = PushHeader { digest: digest.to_string(), size };
        let send = |part| sender.blocking_send(PushChunk { part: Some(part) }).is_ok();
        if !send(Part::Header(header)) {
            return;
        }
        let mut sent = 0;
        loop {
            let mut buffer = Vec::with_capacity(CHUNK_BYTES);
            let read = source.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut buffer);
            let Ok(bytes @ 1..) = read else { return };
            if !send(Part::Data(buffer.into())) {
                return;
            }
            sent += bytes as u64;
            progress(sent, size);
        }
    });
    ReceiverStream::new(receiver)
}
