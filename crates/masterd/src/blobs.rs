//! The blob store with a cap on all blobs together, and the service that fills it.
//!
//! Files are read and written on the blocking pool; a client that sends or reads slowly holds a place there only while
//! bytes are at hand.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use holm_datadir::{BlobStore, StoreError};
use holm_model::{Action, Digest};
use holm_proto::v1::{self, blobs_server, push_chunk::Part};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::service::Shared;
use crate::view::query::parse;

/// How much the blobs may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobLimits {
    /// Largest blob, in bytes.
    pub blob_bytes: u64,
    /// All blobs together, in bytes, those that are still being received included.
    pub total_bytes: u64,
}

impl Default for BlobLimits {
    fn default() -> BlobLimits {
        BlobLimits { blob_bytes: 1 << 30, total_bytes: 64 << 30 }
    }
}

/// How long a pusher or a puller may let the other side wait.
const STALL: Duration = Duration::from_secs(60);

/// Chunks on their way between a stream and the file.
const CHUNKS: usize = 4;

/// Bytes of one chunk on its way to a puller.
const PULL_CHUNK: usize = 256 << 10;

/// Most digests of one Stat.
const MAX_STAT: usize = 4096;

/// Blobs of a page when the caller does not say, and at most.
const DEFAULT_PAGE: usize = 1000;
const MAX_PAGE: usize = 10_000;

#[derive(Debug, Default)]
struct Index {
    sizes: BTreeMap<Digest, u64>,
    stored: u64,
    /// Bytes promised to pushes under way.
    reserved: u64,
}

/// The store and what is in it.
#[derive(Debug)]
pub(crate) struct Blobs {
    files: BlobStore,
    limits: BlobLimits,
    /// Held for the time of a map operation only, never across a file operation.
    index: Mutex<Index>,
    pushes: Semaphore,
}

/// The store refused a blob, or the operating system refused the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    #[error("blob of {size} bytes is over the limit of {limit} bytes")]
    TooLarge { size: u64, limit: u64 },
    #[error("blob of {size} bytes does not fit: {used} of {limit} bytes are used")]
    Full { size: u64, used: u64, limit: u64 },
    #[error("blob was announced with {announced} bytes and has {received}")]
    Size { announced: u64, received: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PushError> for Status {
    fn from(error: PushError) -> Status {
        match &error {
            PushError::TooLarge { .. } | PushError::Full { .. } => Status::resource_exhausted(error.to_string()),
            PushError::Size { .. } => Status::invalid_argument(error.to_string()),
            PushError::Store(StoreError::Mismatch { .. } | StoreError::TooLarge { .. }) => {
                Status::invalid_argument(error.to_string())
            }
            PushError::Store(StoreError::Io { source, .. }) => {
                tracing::error!(%error, %source, "the blob store failed");
                Status::internal(error.to_string())
            }
        }
    }
}

impl Blobs {
    /// Opens the store in `dir`. Reads the directory.
    pub(crate) fn open(dir: &Path, limits: BlobLimits, pushes: usize) -> Result<Blobs, StoreError> {
        let files = BlobStore::open(dir, limits.blob_bytes)?;
        let sizes: BTreeMap<Digest, u64> = files.list()?.into_iter().map(|blob| (blob.digest, blob.bytes)).collect();
        let stored = sizes.values().sum();
        let index = Mutex::new(Index { sizes, stored, reserved: 0 });
        Ok(Blobs { files, limits, index, pushes: Semaphore::new(pushes) })
    }

    /// No operation on the index can panic halfway.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many blobs there are, and their bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let index = self.index();
        (index.sizes.len() as u64, index.stored)
    }

    fn size(&self, digest: Digest) -> Option<u64> {
        self.index().sizes.get(&digest).copied()
    }

    fn reserve(self: &Arc<Self>, size: u64) -> Result<Reserved, PushError> {
        let limit = self.limits.blob_bytes;
        if size > limit {
            return Err(PushError::TooLarge { size, limit });
        }
        let mut index = self.index();
        let used = index.stored.saturating_add(index.reserved);
        let limit = self.limits.total_bytes;
        if used.saturating_add(size) > limit {
            return Err(PushError::Full { size, used, limit });
        }
        index.reserved += size;
        Ok(Reserved { blobs: self.clone(), size })
    }

    /// Stores what `chunks` brings. A sender dropped without its end mark (None) means that the pusher has gone.
    fn receive(
        &self,
        reserved: &Reserved,
        digest: Digest,
        mut chunks: mpsc::Receiver<Option<Bytes>>,
    ) -> Result<(), PushError> {
        let announced = reserved.size;
        let mut received = 0;
        let mut incoming = self.files.receive()?;
        loop {
            match chunks.blocking_recv() {
                Some(Some(bytes)) => {
                    received += bytes.len() as u64;
                    if received > announced {
                        return Err(PushError::Size { announced, received });
                    }
                    incoming.write(&bytes)?;
                }
                Some(None) if received == announced => break,
                Some(None) | None => return Err(PushError::Size { announced, received }),
            }
        }
        incoming.finish(Some(digest))?;
        let mut index = self.index();
        if index.sizes.insert(digest, announced).is_none() {
            index.stored += announced;
        }
        Ok(())
    }

    /// Opens a blob; it counts as used.
    fn read(&self, digest: Digest) -> Option<std::fs::File> {
        let file = self.files.find(&digest).and_then(|path| std::fs::File::open(path).ok());
        if file.is_none() && self.files.size(&digest).is_none() {
            // Somebody removed the file behind our back.
            let mut index = self.index();
            index.stored -= index.sizes.remove(&digest).unwrap_or(0);
        }
        file
    }

    /// Removes a blob; its size, if it was there.
    fn remove(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let size = {
            let mut index = self.index();
            let size = index.sizes.remove(&digest);
            index.stored -= size.unwrap_or_default();
            size
        };
        self.files.remove(&digest)?;
        Ok(size)
    }
}

/// Room for one push, given back when it is dropped.
#[derive(Debug)]
struct Reserved {
    blobs: Arc<Blobs>,
    size: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.blobs.index().reserved -= self.size;
    }
}

/// The `Blobs` service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
}

fn digest_of(text: &str) -> Result<Digest, Status> {
    parse("digest", text)?.ok_or_else(|| Status::invalid_argument("digest is missing"))
}

fn not_found(digest: Digest) -> Status {
    Status::not_found(format!("blob {digest} is not here"))
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

async fn next_part(stream: &mut Streaming<v1::PushChunk>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(STALL, stream.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded(format!("no bytes for {STALL:?}")))??;
    match message {
        None => Ok(None),
        Some(v1::PushChunk { part: Some(part) }) => Ok(Some(part)),
        Some(_) => Err(Status::invalid_argument("part is missing")),
    }
}

#[tonic::async_trait]
impl blobs_server::Blobs for Service {
    async fn push(&self, request: Request<Streaming<v1::PushChunk>>) -> Result<Response<v1::PushReply>, Status> {
        self.shared.admit(&request, Action::Blobs)?;
        let mut stream = request.into_inner();
        let Some(Part::Header(v1::PushHeader { digest, size })) = next_part(&mut stream).await? else {
            return Err(Status::invalid_argument("header: the first message of a push is its header"));
        };
        let digest = digest_of(&digest)?;
        let reply = |size, existed| Response::new(v1::PushReply { digest: digest.to_string(), size, existed });
        let blobs = self.shared.blobs.clone();
        if let Some(size) = blobs.size(digest) {
            return Ok(reply(size, true));
        }
        let reserved = blobs.reserve(size)?;
        let closed = |_| Status::unavailable("the master is shutting down");
        let place = blobs.pushes.acquire().await.map_err(closed)?;
        let (chunks, queue) = mpsc::channel(CHUNKS);
        let store = blobs.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let reserved = reserved;
            store.receive(&reserved, digest, queue)
        });
        loop {
            let bytes = match next_part(&mut stream).await? {
                Some(Part::Data(bytes)) => Some(bytes),
                Some(Part::Header(_)) => return Err(Status::invalid_argument("header: a push has one")),
                None => None,
            };
            let last = bytes.is_none();
            // The writer ends early only with an error, which is told below.
            if chunks.send(bytes).await.is_err() || last {
                break;
            }
        }
        drop(chunks);
        let stored = writer.await.map_err(|error| Status::internal(error.to_string()))?;
        drop(place);
        stored?;
        Ok(reply(size, false))
    }

    type PullStream = ReceiverStream<Result<v1::PullChunk, Status>>;

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        self.shared.admit_agent_too(&request, Action::Blobs)?;
        let v1::PullRequest { digest, offset } = request.into_inner();
        let digest = digest_of(&digest)?;
        let size = self.shared.blobs.size(digest).ok_or_else(|| not_found(digest))?;
        if offset > size {
            return Err(Status::invalid_argument(format!("offset {offset} is beyond the blob's {size} bytes")));
        }
        let blobs = self.shared.blobs.clone();
        let mut file = blocking(move || blobs.read(digest)).await?.ok_or_else(|| not_found(digest))?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| Status::internal(error.to_string()))?;
        let (chunks, stream) = mpsc::channel(CHUNKS);
        tokio::spawn(send_file(file, size, chunks));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        self.shared.admit_agent_too(&request, Action::Blobs)?;
        let digests = request.into_inner().digests;
        if digests.len() > MAX_STAT {
            let count = digests.len();
            return Err(Status::invalid_argument(format!("digests: {count} given; the limit is {MAX_STAT}")));
        }
        let mut reply = v1::StatReply::default();
        for digest in digests {
            let found = self.shared.blobs.size(digest_of(&digest)?);
            reply.blobs.extend(found.map(|size| v1::BlobInfo { digest, size }));
        }
        Ok(Response::new(reply))
    }

    async fn list(&self, request: Request<v1::ListBlobsRequest>) -> Result<Response<v1::ListBlobsReply>, Status> {
        self.shared.admit(&request, Action::Blobs)?;
        let v1::ListBlobsRequest { limit, page_token } = request.into_inner();
        let after: Option<Digest> = parse("page_token", &page_token)?;
        let limit = if limit == 0 { DEFAULT_PAGE } else { (limit as usize).min(MAX_PAGE) };
        let index = self.shared.blobs.index();
        let mut rest = index.sizes.iter().filter(|(digest, _)| after.is_none_or(|after| **digest > after)).peekable();
        let info = |(digest, size): (&Digest, &u64)| v1::BlobInfo { digest: digest.to_string(), size: *size };
        let blobs: Vec<v1::BlobInfo> = rest.by_ref().take(limit).map(info).collect();
        let last = blobs.last().filter(|_| rest.peek().is_some());
        let next_page_token = last.map(|blob| blob.digest.clone()).unwrap_or_default();
        let (total_count, total_bytes) = (index.sizes.len() as u64, index.stored);
        Ok(Response::new(v1::ListBlobsReply { blobs, next_page_token, total_count, total_bytes }))
    }

    async fn remove(&self, request: Request<v1::RemoveBlobRequest>) -> Result<Response<v1::RemoveBlobReply>, Status> {
        self.shared.admit(&request, Action::Blobs)?;
        let digest = digest_of(&request.into_inner().digest)?;
        let blobs = self.shared.blobs.clone();
        let removed = blocking(move || blobs.remove(digest)).await?;
        let size = removed.map_err(PushError::from)?.ok_or_else(|| not_found(digest))?;
        Ok(Response::new(v1::RemoveBlobReply { size }))
    }
}

/// Sends the rest of a file at the puller's pace.
async fn send_file(file: std::fs::File, size: u64, chunks: mpsc::Sender<Result<v1::PullChunk, Status>>) {
    let mut file = Some(file);
    let mut first = true;
    while let Some(mut open) = file.take() {
        let read = blocking(move || {
            let mut buffer = vec![0; PULL_CHUNK];
            let mut filled = 0;
            while filled < buffer.len() {
                match open.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) => return Err(Status::internal(format!("the blob cannot be read: {error}"))),
                }
            }
            buffer.truncate(filled);
            Ok((open, Bytes::from(buffer)))
        });
        let chunk = match read.await.and_then(|read| read) {
            Ok((_, bytes)) if bytes.is_empty() && !first => return,
            Ok((open, data)) => {
                file = Some(open);
                Ok(v1::PullChunk { size: if first { size } else { 0 }, data })
            }
            Err(status) => Err(status),
        };
        first = false;
        // A puller that has gone, or stands still for a minute, is not waited for.
        if !matches!(tokio::time::timeout(STALL, chunks.send(chunk)).await, Ok(Ok(()))) {
            return;
        }
    }
}
