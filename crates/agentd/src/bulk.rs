//! The second connection to the master: answers about logs and sandbox files, and blobs for the agent.

use std::sync::Arc;
use std::time::Duration;

use holm_datadir::BlobStore;
use holm_model::{AgentId, Digest, Secret};
use holm_proto::v1::blobs_client::BlobsClient;
use holm_proto::v1::bulk_client::BulkClient;
use holm_proto::{limits, v1 as wire};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::answer::{Answerer, Frames};
use crate::control::{Masters, describe, dial};
use crate::prepare::Fetch;

/// Requests answered at a time; the master waits with more.
const MAX_ANSWERS: usize = 256;
/// Frames of one answer that wait to be sent.
const FRAMES: usize = 16;
/// Wait between attempts to attach.
const RETRY: Duration = Duration::from_millis(500);
/// How long a fetch waits for a connection to a master, and for each piece of a blob.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Whom to attach to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) master: Arc<str>,
    pub(crate) agent: AgentId,
    pub(crate) secret: Secret,
}

/// Keeps a bulk connection to the master of the latest attachment; publishes it for fetches.
pub(crate) async fn run(
    mut attachments: watch::Receiver<Option<Attachment>>,
    connection: watch::Sender<Option<Channel>>,
    answerer: Arc<Answerer>,
) {
    let turns = Arc::new(Semaphore::new(MAX_ANSWERS));
    loop {
        let Some(attachment) = attachments.borrow_and_update().clone() else {
            if attachments.changed().await.is_err() {
                return;
            }
            continue;
        };
        let served = async {
            if let Err(why) = serve(&attachment, &connection, &answerer, &turns).await {
                tracing::info!(master = %attachment.master, reason = %why, "no bulk connection to the master");
            }
            tokio::time::sleep(RETRY).await;
        };
        tokio::select! {
            () = served => {}
            changed = attachments.changed() => if changed.is_err() { return },
        }
        connection.send_replace(None);
    }
}

async fn serve(
    attachment: &Attachment,
    connection: &watch::Sender<Option<Channel>>,
    answerer: &Arc<Answerer>,
    turns: &Arc<Semaphore>,
) -> Result<(), String> {
    let channel = dial(&attachment.master).await.map_err(|error| describe(&error))?;
    connection.send_replace(Some(channel.clone()));
    let mut client = BulkClient::new(channel).max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES);
    let request =
        wire::AttachRequest { agent_id: attachment.agent.to_string(), secret: attachment.secret.expose_hex() };
    let text = |status: Status| format!("{}: {}", status.code(), status.message());
    let mut requests = client.attach(request).await.map_err(text)?.into_inner();
    while let Some(open) = requests.next().await {
        let open = open.map_err(text)?;
        let Ok(turn) = turns.clone().acquire_owned().await else { return Ok(()) };
        let (client, answerer) = (client.clone(), answerer.clone());
        tokio::spawn(async move {
            respond(client, answerer, open).await;
            drop(turn);
        });
    }
    Ok(())
}

/// Answers one request. The answer is made on a thread of its own, which reads files; when the master closes the call,
/// the channel closes and the thread stops.
async fn respond(mut client: BulkClient<Channel>, answerer: Arc<Answerer>, open: wire::Open) {
    let (sender, frames) = mpsc::channel(FRAMES);
    let channel = open.channel;
    let work = tokio::task::spawn_blocking(move || answerer.answer(open, &Frames::new(channel, sender)));
    if let Err(status) = client.respond(Request::new(ReceiverStream::new(frames))).await {
        tracing::debug!(channel, %status, "an answer was cut off");
    }
    if let Err(error) = work.await {
        tracing::error!(channel, %error, "an answer failed");
    }
}

/// Fetches blobs from the master over the bulk connection.
pub(crate) struct MasterBlobs {
    connection: watch::Receiver<Option<Channel>>,
    masters: Masters,
}

impl MasterBlobs {
    pub(crate) fn new(connection: watch::Receiver<Option<Channel>>, masters: Masters) -> MasterBlobs {
        MasterBlobs { connection, masters }
    }

    async fn channel(&self) -> Result<Channel, String> {
        let mut connection = self.connection.clone();
        let connected = tokio::time::timeout(FETCH_TIMEOUT, connection.wait_for(Option::is_some)).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel.clone(),
            Ok(Err(_stopping)) => None,
            Err(_elapsed) => return Err(format!("no master within {} s", FETCH_TIMEOUT.as_secs())),
        };
        channel.ok_or_else(|| "the agent is stopping".to_owned())
    }
}

impl Fetch for MasterBlobs {
    async fn fetch(&self, digest: Digest, store: &BlobStore) -> Result<(), String> {
        let channel = self.channel().await?;
        let mut client = BlobsClient::new(channel).max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES);
        let request = self.masters.authorize(wire::PullRequest { digest: digest.to_string(), offset: 0 });
        let text = |status: Status| format!("{}: {}", status.code(), status.message());
        let mut pieces = client.pull(request).await.map_err(text)?.into_inner();
        let mut incoming = store.receive().map_err(|error| describe(&error))?;
        loop {
            let next = tokio::time::timeout(FETCH_TIMEOUT, pieces.next()).await;
            let next = next.map_err(|_elapsed| format!("nothing came for {} s", FETCH_TIMEOUT.as_secs()))?;
            let Some(piece) = next.transpose().map_err(text)? else { break };
            incoming.write(&piece.data).map_err(|error| describe(&error))?;
        }
        let stored = tokio::task::block_in_place(|| incoming.finish(Some(digest)));
        stored.map(|_info| ()).map_err(|error| describe(&error))
    }
}
