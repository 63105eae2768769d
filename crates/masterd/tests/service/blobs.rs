//! Blobs over the wire.

use bytes::Bytes;
use holm_proto::v1::{self, blobs_client::BlobsClient, push_chunk::Part};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Master, options, soon};

fn digest(bytes: &[u8]) -> String {
    holm_datadir::digest_of(bytes).to_string()
}

async fn push(blobs: &mut BlobsClient<Channel>, header: (&str, u64), data: &[u8]) -> Result<v1::PushReply, Status> {
    let header = v1::PushHeader { digest: header.0.to_owned(), size: header.1 };
    let mut parts = vec![Part::Header(header)];
    parts.extend(data.chunks(100_000).map(|chunk| Part::Data(Bytes::copy_from_slice(chunk))));
    let chunks = parts.into_iter().map(|part| v1::PushChunk { part: Some(part) });
    let chunks: Vec<v1::PushChunk> = chunks.collect();
    soon("the push", blobs.push(tokio_stream::iter(chunks))).await.map(tonic::Response::into_inner)
}

async fn pull(blobs: &mut BlobsClient<Channel>, digest: &str, offset: u64) -> Result<Vec<u8>, Status> {
    let request = v1::PullRequest { digest: digest.to_owned(), offset };
    let mut stream = blobs.pull(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = soon("the next chunk", stream.message()).await? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_comes_back_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut blobs = BlobsClient::new(master.channel().await);
    let data: Vec<u8> = (0..1_000_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let name = digest(&data);
    let size = data.len() as u64;
    assert!(!push(&mut blobs, (&name, size), &data).await.unwrap().existed);
    assert!(push(&mut blobs, (&name, size), &data).await.unwrap().existed);
    assert_eq!(pull(&mut blobs, &name, 0).await.unwrap(), data);
    assert_eq!(pull(&mut blobs, &name, 999_990).await.unwrap(), data[999_990..]);
    assert_eq!(pull(&mut blobs, &name, size + 1).await.unwrap_err().code(), Code::InvalidArgument);
    let empty = digest(b"");
    push(&mut blobs, (&empty, 0), b"").await.unwrap();
    assert_eq!(pull(&mut blobs, &empty, 0).await.unwrap(), b"");
    master.stop().await;

    let master = Master::start(dir.path()).await;
    let mut blobs = BlobsClient::new(master.channel().await);
    let unknown = digest(b"unknown");
    let stat = v1::StatRequest { digests: vec![unknown.clone(), name.clone()] };
    let found = blobs.stat(stat).await.unwrap().into_inner().blobs;
    assert_eq!(found, [v1::BlobInfo { digest: name.clone(), size }]);
    let listed = blobs.list(v1::ListBlobsRequest { limit: 1, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((listed.blobs.len(), listed.total_count, listed.total_bytes), (1, 2, size));
    let rest = v1::ListBlobsRequest { limit: 1, page_token: listed.next_page_token };
    let rest = blobs.list(rest).await.unwrap().into_inner();
    assert_eq!((rest.blobs.len(), rest.next_page_token.as_str()), (1, ""));
    let removed = blobs.remove(v1::RemoveBlobRequest { digest: name.clone() }).await.unwrap().into_inner();
    assert_eq!(removed.size, size);
    assert_eq!(pull(&mut blobs, &name, 0).await.unwrap_err().code(), Code::NotFound);
    let again = blobs.remove(v1::RemoveBlobRequest { digest: name }).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_announced_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.blobs.blob_bytes = 1000;
    options.blobs.total_bytes = 1500;
    let master = Master::start_with(options).await;
    let mut blobs = BlobsClient::new(master.channel().await);
    let good = digest(b"good");
    let evil = push(&mut blobs, (&good, 4), b"evil").await.unwrap_err();
    assert_eq!(evil.code(), Code::InvalidArgument);
    assert!(evil.message().contains(&good) && evil.message().contains(&digest(b"evil")), "{evil}");
    for (size, data) in [(4, &b"good and more"[..]), (40, b"good")] {
        let status = push(&mut blobs, (&good, size), data).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let large = push(&mut blobs, (&good, 1001), b"").await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(large.message().contains("1001") && large.message().contains("1000"), "{large}");
    let malformed = push(&mut blobs, ("md5:1", 1), b"x").await.unwrap_err();
    assert!(malformed.message().starts_with("digest"), "{malformed}");
    let headless = v1::PushChunk { part: Some(Part::Data(Bytes::from_static(b"x"))) };
    let headless = blobs.push(tokio_stream::iter([headless])).await.unwrap_err();
    assert!(headless.message().contains("header"), "{headless}");

    let listed = blobs.list(v1::ListBlobsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.total_count, listed.total_bytes), (0, 0));
    assert_eq!(std::fs::read_dir(dir.path().join("store/blobs")).unwrap().count(), 0);
    let first = vec![1; 800];
    push(&mut blobs, (&digest(&first), 800), &first).await.unwrap();
    let second = vec![2; 800];
    let full = push(&mut blobs, (&digest(&second), 800), &second).await.unwrap_err();
    assert!(full.message().contains("800 of 1500"), "{full}");
    master.stop().await;
}
