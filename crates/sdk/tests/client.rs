//! The client against a master that keeps blobs in memory, over a real connection.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holm_proto::v1::blobs_server::{Blobs, BlobsServer};
use holm_proto::v1::push_chunk::Part;
use holm_proto::v1::{
    BlobInfo, ListBlobsReply, ListBlobsRequest, PullChunk, PullRequest, PushChunk, PushReply, RemoveBlobReply,
    RemoveBlobRequest, StatReply, StatRequest,
};
use holm_sdk::{Client, ClientError, PushError};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

mod operator;

/// Blobs by digest. Shared with the test, which looks into it and spoils it.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

#[tonic::async_trait]
impl Blobs for Store {
    type PullStream = ReceiverStream<Result<PullChunk, Status>>;

    async fn push(&self, request: Request<Streaming<PushChunk>>) -> Result<Response<PushReply>, Status> {
        let mut chunks = request.into_inner();
        let Some(Part::Header(header)) = chunks.message().await?.and_then(|chunk| chunk.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            match chunk.part {
                Some(Part::Data(data)) => bytes.extend_from_slice(&data),
                _ => return Err(Status::invalid_argument("a second header")),
            }
        }
        if bytes.len() as u64 != header.size {
            return Err(Status::invalid_argument(format!("{} bytes, not {}", bytes.len(), header.size)));
        }
        self.0.lock().unwrap().insert(header.digest.clone(), bytes);
        Ok(Response::new(PushReply { digest: header.digest, size: header.size, existed: false }))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let found = self.0.lock().unwrap().get(&request.into_inner().digest).cloned();
        let bytes = found.ok_or_else(|| Status::not_found("no such blob"))?;
        let (sender, chunks) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for part in bytes.chunks(1000) {
                let chunk = PullChunk { size: bytes.len() as u64, data: part.to_vec().into() };
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatReply>, Status> {
        let known = self.0.lock().unwrap();
        let info = |digest: String| {
            let size = known.get(&digest)?.len() as u64;
            Some(BlobInfo { digest, size })
        };
        Ok(Response::new(StatReply { blobs: request.into_inner().digests.into_iter().filter_map(info).collect() }))
    }

    async fn list(&self, _: Request<ListBlobsRequest>) -> Result<Response<ListBlobsReply>, Status> {
        Ok(Response::new(ListBlobsReply::default()))
    }

    async fn remove(&self, _: Request<RemoveBlobRequest>) -> Result<Response<RemoveBlobReply>, Status> {
        Ok(Response::new(RemoveBlobReply::default()))
    }
}

async fn master(leads: Result<(), String>) -> (String, Store) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let store = Store::default();
    let routes = Routes::new(BlobsServer::new(store.clone())).add_service(operator::service(leads));
    let server = tonic::transport::Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, store)
}

#[tokio::test]
async fn a_file_is_pushed_once_and_pulled_unchanged() {
    let (address, store) = master(Ok(())).await;
    let client = Client::connect(&[address], None).await.unwrap();
    let content: Vec<u8> = (0..700_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    std::fs::write(&path, &content).unwrap();

    let (told, progress) = std::sync::mpsc::sync_channel(1000);
    let pushed = client.push_file(&path, move |sent, size| told.send((sent, size)).unwrap()).await.unwrap();
    assert_eq!((pushed.size, pushed.existed), (2_800_000, false));
    assert_eq!(progress.iter().last(), Some((2_800_000, 2_800_000)));
    assert_eq!(store.0.lock().unwrap().get(&pushed.digest.to_string()), Some(&content));
    let again = client.push_file(&path, |_, _| panic!("nothing is sent twice")).await.unwrap();
    assert!(again.existed && again.digest == pushed.digest);

    let mut pulled = Vec::new();
    assert_eq!(client.pull(pushed.digest, &mut pulled).await.unwrap(), 2_800_000);
    assert_eq!(pulled, content);
    store.0.lock().unwrap().insert(pushed.digest.to_string(), b"something else".to_vec());
    let error = client.pull(pushed.digest, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, PushError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let (address, _store) = master(Ok(())).await;
    let client = Client::connect(&[address], None).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("absent"), directory.path().to_owned()] {
        let error = client.push_file(&path, |_, _| {}).await.unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn the_leader_is_found_through_a_standby() {
    let (leader, _store) = master(Ok(())).await;
    let (standby, _other) = master(Err(leader.clone())).await;
    let client = Client::connect(&[standby], None).await.unwrap();
    assert_eq!(client.address(), leader);
    assert_eq!(client.cluster().epoch, 7);
}

#[tokio::test]
async fn masters_that_nobody_answers_for_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(std::slice::from_ref(&address), None).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::NoMaster { masters, last } if *masters == address && last.contains("refused"))
    );
}
