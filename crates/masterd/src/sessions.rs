//! The control streams of agents and frameworks: who may open one, and how their messages reach the driver.
//!
//! A session's messages are taken one after another, and only so many may wait for the driver: a peer that sends more
//! is held back by its own stream's flow control.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holm_master::{Event, SessionId};
use holm_model::{Principal, SchedulerEvent};
use holm_proto::{ConvertError, FromAgent, FromFramework, Message as _, pages, v1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use crate::auth;
use crate::connection::Peer;
use crate::driver::{Input, PeerQueue};
use crate::metrics::Dropped;
use crate::outbound::{Outbound, OutboundStream};
use crate::service::Shared;

/// How much of one session may wait for the driver, in credits: one a message and one for every [`CREDIT_BYTES`].
const CREDITS: u32 = 64;

/// Bytes of a message that cost one more credit.
const CREDIT_BYTES: usize = 64 << 10;

/// The right to have a message wait for the driver; given back when it is dropped.
pub(crate) struct Credit(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Mints session ids.
#[derive(Debug, Default)]
pub(crate) struct SessionIds(AtomicU64);

impl SessionIds {
    fn next(&self) -> SessionId {
        SessionId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// What both kinds of session have in common.
struct Session {
    shared: Arc<Shared>,
    id: SessionId,
    principal: Principal,
    credits: Arc<Semaphore>,
    peer: Option<Arc<Peer>>,
    /// The session's place among all sessions.
    _place: OwnedSemaphorePermit,
}

/// The driver has ended.
struct Ended;

impl Session {
    fn open<T>(shared: &Arc<Shared>, request: &Request<T>) -> Result<Session, Status> {
        let principal = shared.gate.identify(request.metadata().as_ref())?;
        let place = shared.sessions.clone().try_acquire_owned().map_err(|_| {
            shared.metrics.dropped(Dropped::Refused);
            let limit = shared.limits.sessions;
            Status::resource_exhausted(format!("{limit} agent and framework streams are open, which is the limit"))
        })?;
        let id = shared.session_ids.next();
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        tracing::debug!(session = id.0, address = ?peer.as_ref().map(|peer| peer.address), "stream opened");
        let credits = Arc::new(Semaphore::new(CREDITS as usize));
        Ok(Session { shared: shared.clone(), id, principal, credits, peer, _place: place })
    }

    async fn first<T>(&self, stream: &mut Streaming<T>) -> Result<T, Status> {
        let patience = self.shared.limits.first_message;
        let late = |_| Status::deadline_exceeded(format!("no first message within {patience:?}"));
        let first = tokio::time::timeout(patience, stream.message()).await.map_err(late)??;
        first.ok_or_else(|| Status::invalid_argument("the stream ended before its first message"))
    }

    /// Ends the stream with its last words. A peer that does not read them in time loses its connection: what it holds of
    /// this process's memory goes with it.
    async fn finish<T>(self, queue: Arc<Outbound<T>>, end: Option<Status>) {
        queue.close(end);
        let read = tokio::time::timeout(self.shared.limits.goodbye, queue.dropped()).await;
        if let (Err(_), Some(peer)) = (read, &self.peer) {
            peer.abandon();
        }
    }

    /// Those who register for the first time have nothing to show but the token.
    fn check_newcomer(&self, is_new: bool) -> Result<(), Status> {
        let anonymous = self.principal == Principal::Anonymous;
        if is_new && anonymous && self.shared.gate.is_closed() { Err(auth::missing()) } else { Ok(()) }
    }

    async fn tell(&self, input: Input) -> Result<(), Ended> {
        self.shared.driver.send(input).await.map_err(|_| Ended)
    }

    /// Hands a message of `bytes` bytes to the driver when its turn comes.
    async fn pass(&self, event: Event, bytes: usize) -> Result<(), Ended> {
        let cost = u32::try_from(1 + bytes / CREDIT_BYTES).unwrap_or(CREDITS).min(CREDITS);
        let permit = self.credits.clone().acquire_many_owned(cost).await.map_err(|_| Ended)?;
        self.tell(Input::From { event, credit: Credit(permit) }).await
    }
}

/// The `Scheduler` service.
#[derive(Debug)]
pub(crate) struct SchedulerService {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl v1::scheduler_server::Scheduler for SchedulerService {
    type ConnectStream = OutboundStream<v1::EventEnvelope>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::CallEnvelope>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let session = Session::open(&self.shared, &request)?;
        let queue = Outbound::new(self.shared.limits.outbound);
        let stream = OutboundStream::new(&queue);
        tokio::spawn(serve_framework(session, request.into_inner(), queue));
        Ok(Response::new(stream))
    }
}

async fn serve_framework(
    session: Session,
    mut stream: Streaming<v1::CallEnvelope>,
    queue: Arc<Outbound<v1::EventEnvelope>>,
) {
    let opened = tokio::select! {
        opened = subscribe(&session, &mut stream) => opened,
        () = queue.closed() => return,
    };
    let event = match opened {
        Ok(event) => event,
        Err(status) => return refuse(session, queue, status).await,
    };
    let mut end = Some(stopping());
    if session.tell(Input::Opened { event, peer: PeerQueue::Framework(queue.clone()) }).await.is_ok() {
        end = tokio::select! {
            biased;
            () = queue.closed() => None,
            end = take_calls(&session, &mut stream, &queue) => end,
        };
        // When the driver has ended there is nobody left to tell.
        drop(session.tell(Input::Closed { session: session.id }).await);
    }
    session.finish(queue, end).await;
}

fn stopping() -> Status {
    Status::unavailable("the master is shutting down")
}

/// Ends a session that did not get as far as the driver.
async fn refuse<T>(session: Session, queue: Arc<Outbound<T>>, status: Status) {
    tracing::debug!(session = session.id.0, %status, "stream refused");
    session.shared.metrics.dropped(Dropped::Refused);
    session.finish(queue, Some(status)).await;
}

async fn subscribe(session: &Session, stream: &mut Streaming<v1::CallEnvelope>) -> Result<Event, Status> {
    let first = session.first(stream).await?;
    let FromFramework::Subscribe { subscribe, secret } = FromFramework::try_from(first)? else {
        return Err(Status::invalid_argument("subscribe: the first message of the stream has to be it"));
    };
    session.check_newcomer(subscribe.id.is_none())?;
    let proof = secret.as_ref().map(auth::hash_secret);
    let (session, principal) = (session.id, session.principal.clone());
    Ok(Event::FrameworkOpened { session, principal, subscribe, proof, fresh: auth::fresh()? })
}

/// Takes calls until the framework ends its side; what to tell it then.
async fn take_calls(
    session: &Session,
    stream: &mut Streaming<v1::CallEnvelope>,
    queue: &Outbound<v1::EventEnvelope>,
) -> Option<Status> {
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        let bytes = message.encoded_len();
        let passed = match FromFramework::try_from(message) {
            Ok(FromFramework::Call { framework_epoch, call }) => {
                session.pass(Event::FromFramework { session: session.id, framework_epoch, call }, bytes).await
            }
            Ok(FromFramework::Subscribe { .. }) => {
                complain(queue, "subscribe: this stream has a subscription already");
                Ok(())
            }
            Err(error) if error.is_unknown() => Ok(()),
            Err(error) => {
                complain(queue, &error.to_string());
                Ok(())
            }
        };
        if passed.is_err() {
            return Some(stopping());
        }
    }
}

/// Tells a framework that a call was not understood. If its queue is full the driver will find out.
fn complain(queue: &Outbound<v1::EventEnvelope>, text: &str) {
    for page in pages::event(&SchedulerEvent::Error { message: text.into(), fatal: false }) {
        let bytes = page.encoded_len();
        if queue.push(page, bytes).is_err() {
            queue.cut(Status::resource_exhausted("this stream is read too slowly"));
            return;
        }
    }
}

/// The `Agent` service.
#[derive(Debug)]
pub(crate) struct AgentService {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl v1::agent_server::Agent for AgentService {
    type ConnectStream = OutboundStream<v1::ToAgent>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ToMaster>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let session = Session::open(&self.shared, &request)?;
        let queue = Outbound::new(self.shared.limits.outbound);
        let stream = OutboundStream::new(&queue);
        tokio::spawn(serve_agent(session, request.into_inner(), queue));
        Ok(Response::new(stream))
    }
}

async fn serve_agent(session: Session, mut stream: Streaming<v1::ToMaster>, queue: Arc<Outbound<v1::ToAgent>>) {
    let opened = tokio::select! {
        opened = register(&session, &mut stream) => opened,
        () = queue.closed() => return,
    };
    let event = match opened {
        Ok(event) => event,
        Err(status) => return refuse(session, queue, status).await,
    };
    let mut end = Some(stopping());
    if session.tell(Input::Opened { event, peer: PeerQueue::Agent(queue.clone()) }).await.is_ok() {
        end = tokio::select! {
            biased;
            () = queue.closed() => None,
            end = take_reports(&session, &mut stream) => end,
        };
        drop(session.tell(Input::Closed { session: session.id }).await);
    }
    session.finish(queue, end).await;
}

async fn register(session: &Session, stream: &mut Streaming<v1::ToMaster>) -> Result<Event, Status> {
    let first = session.first(stream).await?;
    let FromAgent::Register { registration, secret } = FromAgent::try_from(first)? else {
        return Err(Status::invalid_argument("register: the first message of the stream has to be it"));
    };
    session.check_newcomer(registration.id.is_none())?;
    let proof = secret.as_ref().map(auth::hash_secret);
    let (session, principal) = (session.id, session.principal.clone());
    Ok(Event::AgentOpened { session, principal, registration, proof, fresh: auth::fresh()? })
}

/// Takes messages until the agent ends its side; what to tell it then.
async fn take_reports(session: &Session, stream: &mut Streaming<v1::ToMaster>) -> Option<Status> {
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        let bytes = message.encoded_len();
        let message = match read_agent(message) {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(status) => {
                session.shared.metrics.dropped(Dropped::Protocol);
                tracing::warn!(session = session.id.0, %status, "an agent's message cannot be understood");
                return Some(status);
            }
        };
        if session.pass(Event::FromAgent { session: session.id, message }, bytes).await.is_err() {
            return Some(stopping());
        }
    }
}

fn read_agent(message: v1::ToMaster) -> Result<Option<holm_model::ToMaster>, Status> {
    match FromAgent::try_from(message) {
        Ok(FromAgent::Message(message)) => Ok(Some(message)),
        Ok(FromAgent::Register { .. }) => Err(Status::invalid_argument("register: this stream is registered already")),
        Err(error) if ConvertError::is_unknown(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
