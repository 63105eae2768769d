//! The control stream to whichever master leads: dialled, kept, and dialled again.

use std::sync::Arc;
use std::time::Duration;

use holm_agent::SessionId;
use holm_model::{ToAgent, ToMaster};
use holm_proto::v1::agent_client::AgentClient;
use holm_proto::{limits, pages, v1 as wire};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Messages to the master that wait to be sent; beyond, the stream is closed and everything unacknowledged sent anew.
const OUTBOX: usize = 4096;
/// First and longest wait between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause before a master that refused this agent is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings when the stream is quiet, and how long their answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// The metadata key by which a standby names the leader.
const LEADER_KEY: &str = "holm-leader";

/// What happens on the way to the master.
pub(crate) enum ControlEvent {
    /// A stream is open.
    Opened(Stream),
    /// The master says something.
    Message(SessionId, ToAgent),
    /// The stream has ended.
    Closed(SessionId),
}

/// An open stream. Dropping it closes the stream, and another is dialled.
pub(crate) struct Stream {
    pub(crate) session: SessionId,
    /// The master's address, as `host:port`.
    pub(crate) master: Arc<str>,
    outbox: mpsc::Sender<wire::ToMaster>,
    close: oneshot::Sender<Refused>,
}

/// The master does not want this agent: it is asked again, but slowly.
struct Refused;

impl Stream {
    /// Sends a message; says whether there was room. The first message of a stream carries the secret and is made by
    /// the caller.
    pub(crate) fn send(&self, message: &ToMaster) -> bool {
        // Messages of tasks may be lost, and must not cost the agent its stream.
        if matches!(message, ToMaster::Message { .. }) && self.outbox.capacity() < OUTBOX / 2 {
            return true;
        }
        pages::to_master(message).into_iter().all(|page| self.send_wire(page))
    }

    /// Closes the stream of a master that refused this agent for good.
    pub(crate) fn refused(self) {
        // A stream that has ended by itself needs no closing.
        let _ = self.close.send(Refused);
    }

    pub(crate) fn send_wire(&self, message: wire::ToMaster) -> bool {
        match self.outbox.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(limit = OUTBOX, "the master does not read; its stream is closed");
                false
            }
        }
    }
}

/// How to reach the masters.
#[derive(Clone, Debug)]
pub(crate) struct Masters {
    /// `host:port` each, at least one.
    pub(crate) addresses: Vec<Arc<str>>,
    /// What a first registration presents, if the cluster asks for it.
    pub(crate) token: Option<Arc<str>>,
}

impl Masters {
    /// Adds the token to a request.
    pub(crate) fn authorize<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = self.token.as_ref().map(|token| MetadataValue::try_from(format!("Bearer {token}")));
        if let Some(Ok(value)) = value {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

/// Opens a connection to a master.
pub(crate) async fn dial(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    endpoint.connect().await
}

/// Keeps a stream to the leading master until nobody listens to `events`.
pub(crate) async fn run(masters: Masters, events: mpsc::Sender<ControlEvent>) {
    let mut next = masters.addresses.iter().cycle();
    let mut leader: Option<Arc<str>> = None;
    let mut backoff = BACKOFF.0;
    for number in 1.. {
        let followed = leader.take();
        let Some(address) = followed.clone().or_else(|| next.next().cloned()) else { return };
        let attempt =
            Attempt { masters: &masters, address: address.clone(), session: SessionId(number), events: &events };
        let end = attempt.run().await;
        if events.is_closed() {
            return;
        }
        if end.worked {
            backoff = BACKOFF.0;
        }
        if end.needs_attention {
            tracing::warn!(master = %address, reason = %end.why, "the master does not take this agent");
        } else {
            tracing::info!(master = %address, reason = %end.why, "no stream to the master");
        }
        // A leader named by a standby is tried at once, but not two in a row, or two standbys could keep us busy.
        leader = end.leader.filter(|_| followed.is_none());
        if leader.is_none() {
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }
}

struct Attempt<'a> {
    masters: &'a Masters,
    address: Arc<str>,
    session: SessionId,
    events: &'a mpsc::Sender<ControlEvent>,
}

/// How an attempt ended.
struct End {
    worked: bool,
    /// Nothing changes unless somebody changes it: a wrong token, another cluster.
    needs_attention: bool,
    leader: Option<Arc<str>>,
    why: String,
}

impl End {
    fn failed(why: impl std::fmt::Display) -> End {
        End { worked: false, needs_attention: false, leader: None, why: why.to_string() }
    }

    fn status(worked: bool, status: &Status) -> End {
        let leader = status.metadata().get(LEADER_KEY).and_then(|value| value.to_str().ok());
        let leader = leader.filter(|_| status.code() == Code::Unavailable).map(Arc::from);
        let needs_attention =
            matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition);
        End { worked, needs_attention, leader, why: format!("{}: {}", status.code(), status.message()) }
    }
}

impl Attempt<'_> {
    async fn run(self) -> End {
        let channel = match dial(&self.address).await {
            Ok(channel) => channel,
            Err(error) => return End::failed(describe(&error)),
        };
        let mut client = AgentClient::new(channel).max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES);
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let (close, closed) = oneshot::channel();
        let stream = Stream { session: self.session, master: self.address.clone(), outbox, close };
        // The master may wait for the first message before it answers, so the stream counts as open from here on.
        if self.events.send(ControlEvent::Opened(stream)).await.is_err() {
            return End::failed("the agent stops");
        }
        let request = self.masters.authorize(ReceiverStream::new(messages));
        let talk = async {
            match client.connect(request).await {
                Err(status) => End::status(false, &status),
                Ok(response) => self.receive(response.into_inner()).await,
            }
        };
        let end = tokio::select! {
            end = talk => end,
            closed = closed => match closed {
                Ok(Refused) => {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    End::failed("the master refused this agent")
                }
                Err(_dropped) => End::failed("closed by this agent"),
            },
        };
        // The receiver is gone only when the agent stops.
        let _ = self.events.send(ControlEvent::Closed(self.session)).await;
        end
    }

    async fn receive(&self, mut stream: tonic::Streaming<wire::ToAgent>) -> End {
        let mut worked = false;
        while let Some(message) = stream.next().await {
            let message = match message.map(ToAgent::try_from) {
                Err(status) => return End::status(worked, &status),
                Ok(Err(error)) if error.is_unknown() => continue,
                Ok(Err(error)) => return End::failed(format!("a message cannot be understood: {error}")),
                Ok(Ok(message)) => message,
            };
            worked = true;
            if self.events.send(ControlEvent::Message(self.session, message)).await.is_err() {
                return End::failed("the agent stops");
            }
        }
        End { worked, needs_attention: false, leader: None, why: "the master closed the stream".to_owned() }
    }
}

/// An error with everything behind it, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
