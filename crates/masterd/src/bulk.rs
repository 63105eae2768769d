//! The relay of logs and files: a request goes to the agent over its second connection, the answer comes back as a
//! stream of frames which nobody here looks into. Only a few frames are ever held, so HTTP/2 flow control reaches from
//! the reader to the agent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_model::{AgentId, Secret};
use holm_proto::v1::{self, bulk_server, frame::Body, open};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth;
use crate::connection::Peer;
use crate::driver::Input;
use crate::options::Limits;
use crate::service::Shared;
use crate::view::query::parse;

/// Frames held between an agent and a reader.
const FRAMES: usize = 4;

/// Requests that wait for one agent to read them.
const OPENS: usize = 256;

type Frames = mpsc::Sender<Result<Body, Status>>;

/// An agent that takes requests.
struct Attached {
    /// Tells an attachment from the one that replaced it.
    number: u64,
    requests: mpsc::Sender<Result<v1::Open, Status>>,
}

/// A request whose answer has not begun.
struct Waiting {
    agent: AgentId,
    frames: Frames,
    begun: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    agents: BTreeMap<AgentId, Attached>,
    waiting: BTreeMap<u64, Waiting>,
}

/// Who is attached and what is asked.
pub(crate) struct Relay {
    limits: Limits,
    /// Held for a map operation.
    state: Mutex<State>,
    /// Numbers of channels and attachments.
    next: AtomicU64,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Relay {
    pub(crate) fn new(limits: Limits) -> Relay {
        let places = Arc::new(Semaphore::new(limits.bulk_requests));
        Relay { limits, state: Mutex::default(), next: AtomicU64::new(1), places }
    }

    /// No operation on the maps can panic halfway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the place of an earlier attachment of the same agent.
    fn attach(&self, agent: AgentId) -> (u64, mpsc::Receiver<Result<v1::Open, Status>>) {
        let (requests, queue) = mpsc::channel(OPENS);
        let number = self.number();
        self.state().agents.insert(agent, Attached { number, requests });
        (number, queue)
    }

    fn detach(&self, agent: AgentId, number: u64) {
        let mut state = self.state();
        if state.agents.get(&agent).is_some_and(|attached| attached.number == number) {
            state.agents.remove(&agent);
        }
    }

    /// Ends every attachment, so that the agents notice that the master is going.
    pub(crate) fn close(&self) {
        self.state().agents.clear();
    }

    /// Asks an agent and waits until its answer begins.
    ///
    /// # Errors
    /// UNAVAILABLE when the agent is not attached or does not answer in time, RESOURCE_EXHAUSTED when too many requests
    /// are open.
    pub(crate) async fn ask(self: &Arc<Self>, agent: AgentId, request: open::Request) -> Result<Answer, Status> {
        let limit = self.limits.bulk_requests;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{limit} requests are being relayed to agents, which is the limit"))
        })?;
        let gone = || Status::unavailable(format!("{agent} is not connected for logs and files"));
        let channel = self.number();
        let (frames, answer) = mpsc::channel(FRAMES);
        let (begun, begins) = oneshot::channel();
        {
            let mut state = self.state();
            let attached = state.agents.get(&agent).ok_or_else(gone)?;
            let open = v1::Open { channel, request: Some(request) };
            attached.requests.try_send(Ok(open)).map_err(|_| gone())?;
            state.waiting.insert(channel, Waiting { agent, frames, begun });
        }
        let answer = Answer { relay: self.clone(), channel, frames: answer, _place: place };
        let patience = self.limits.bulk_answer;
        match tokio::time::timeout(patience, begins).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(Status::unavailable(format!("{agent} did not answer within {patience:?}"))),
        }
    }

    fn begin(&self, agent: AgentId, channel: u64) -> Option<Frames> {
        let mut state = self.state();
        if state.waiting.get(&channel)?.agent != agent {
            return None;
        }
        let Waiting { frames, begun, .. } = state.waiting.remove(&channel)?;
        begun.send(()).ok()?;
        Some(frames)
    }
}

/// An answer on its way; dropping it tells the agent to stop.
pub(crate) struct Answer {
    relay: Arc<Relay>,
    channel: u64,
    frames: mpsc::Receiver<Result<Body, Status>>,
    _place: OwnedSemaphorePermit,
}

impl Answer {
    /// The next piece; None at the end, which is where the agent says that it is.
    pub(crate) async fn next(&mut self) -> Option<Result<Body, Status>> {
        let cut_off = || Err(Status::unavailable("the agent's answer was cut off"));
        let body = self.frames.recv().await.unwrap_or_else(cut_off);
        Some(match body {
            Ok(Body::End(_)) => return None,
            Ok(Body::Error(v1::BulkError { code, message })) => {
                let code = i32::try_from(code).map_or(tonic::Code::Unknown, tonic::Code::from_i32);
                Err(Status::new(if code == tonic::Code::Ok { tonic::Code::Unknown } else { code }, message))
            }
            other => other,
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.relay.state().waiting.remove(&self.channel);
    }
}

/// The `Bulk` service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl bulk_server::Bulk for Service {
    type AttachStream = ReceiverStream<Result<v1::Open, Status>>;

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let peer = peer_of(&request)?;
        let v1::AttachRequest { agent_id, secret } = request.into_inner();
        let agent: AgentId =
            parse("agent_id", &agent_id)?.ok_or_else(|| Status::invalid_argument("agent_id is missing"))?;
        // A malformed secret is a wrong one; it is not repeated.
        let secret: Secret = secret.parse().map_err(|_| Status::unauthenticated("the secret is malformed"))?;
        if !self.verify(agent, &secret).await? {
            return Err(Status::unauthenticated(format!("{agent} is not registered with this secret")));
        }
        if *peer.agent.get_or_init(|| agent) != agent {
            return Err(Status::failed_precondition("another agent has attached on this connection"));
        }
        let (number, queue) = self.shared.relay.attach(agent);
        let (requests, stream) = mpsc::channel(1);
        tokio::spawn(forward(self.shared.relay.clone(), agent, number, queue, requests));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn respond(&self, request: Request<Streaming<v1::Frame>>) -> Result<Response<v1::Closed>, Status> {
        let peer = peer_of(&request)?;
        let unattached = || Status::unauthenticated("no agent has attached on this connection");
        let agent = *peer.agent.get().ok_or_else(unattached)?;
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(self.shared.limits.first_message, stream.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first frame"))??;
        let Some(v1::Frame { channel, body }) = first.filter(|frame| frame.channel != 0) else {
            return Err(Status::invalid_argument("channel: the first frame names one"));
        };
        let frames = self.shared.relay.begin(agent, channel);
        let frames = frames.ok_or_else(|| Status::not_found(format!("channel {channel} is not open")))?;
        let _counted = OpenAnswer::count(self.shared.clone());
        let cancelled = relay(&mut stream, body, &frames).await;
        Ok(Response::new(v1::Closed { cancelled }))
    }
}

/// Counts as an open answer until it is dropped, as it also is when the agent goes away.
struct OpenAnswer(Arc<Shared>);

impl OpenAnswer {
    fn count(shared: Arc<Shared>) -> OpenAnswer {
        shared.metrics.bulk_open.inc();
        OpenAnswer(shared)
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.metrics.bulk_open.dec();
    }
}

impl Service {
    async fn verify(&self, agent: AgentId, secret: &Secret) -> Result<bool, Status> {
        let (reply, answer) = oneshot::channel();
        let input = Input::VerifyAgent { agent, proof: auth::hash_secret(secret), reply };
        let ended = || Status::unavailable("the master is shutting down");
        self.shared.driver.send(input).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

fn peer_of<T>(request: &Request<T>) -> Result<Arc<Peer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    peer.ok_or_else(|| Status::internal("the connection is not known"))
}

/// Passes requests on until the agent goes, is replaced, or the master stops.
async fn forward(
    relay: Arc<Relay>,
    agent: AgentId,
    number: u64,
    mut queue: mpsc::Receiver<Result<v1::Open, Status>>,
    requests: mpsc::Sender<Result<v1::Open, Status>>,
) {
    loop {
        let open = tokio::select! {
            open = queue.recv() => open,
            () = requests.closed() => None,
        };
        let Some(open) = open else { break };
        if requests.send(open).await.is_err() {
            break;
        }
    }
    relay.detach(agent, number);
}

/// Passes frames on until there are no more or nobody wants them; whether it was the latter.
async fn relay(stream: &mut Streaming<v1::Frame>, first: Option<Body>, frames: &Frames) -> bool {
    let mut body = first;
    loop {
        if let Some(body) = body.take()
            && frames.send(Ok(body)).await.is_err()
        {
            return true;
        }
        let next = tokio::select! {
            next = stream.message() => next,
            () = frames.closed() => return true,
        };
        match next {
            Ok(Some(frame)) => body = frame.body,
            Ok(None) => return false,
            Err(status) => {
                let text = format!("the agent's answer broke off: {}", status.message());
                // If nobody wants it any more, nobody needs to know.
                drop(frames.send(Err(Status::unavailable(text))).await);
                return false;
            }
        }
    }
}
