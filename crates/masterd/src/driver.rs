//! The loop that owns the master: events in, effects out, one thread, no locks.
//!
//! It waits for nobody but the registry: what goes to a peer goes into that peer's bounded queue, and a full queue ends
//! the peer's session.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_coordination::{CommitOutcome, Coordination, KeyOp, Leadership};
use holm_master::{
    Answer, CloseCause, Delta, Effect, Event, Master, OperatorCall, OperatorError, PersistOutcome, RegistryOp,
    RequestId, SessionId, Wanted, WriteId, invariants,
};
use holm_model::{
    AgentId, FrameworkId, PolicyCost, PolicyFailure, PolicyPatch, PolicyPhase, PolicyView, Principal, Role,
    SchedulerEvent, SecretHash, ToAgent,
};
use holm_proto::{Message as _, pages, v1};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Code, Status};

use crate::clock;
use crate::connection::stopped;
use crate::metrics::{Dropped, Metrics};
use crate::outbound::{Outbound, Refused};
#[cfg(feature = "policy")]
use crate::policy::Desk;
use crate::registry;
use crate::sessions::Credit;

/// How long a master goes on whose registry cannot be written; then it ends, to be started again on a store opened anew.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(10);

/// Most events that wait for the driver, all sessions together; a session waits for its turn beyond that.
pub(crate) const INPUT_QUEUE: usize = 4096;

/// Most events taken at a time.
const BATCH: usize = 256;

/// Most registry writes that wait for the one under way; beyond that no events are taken.
const WAITING_WRITES: usize = 1024;

/// Longest sleep, so that a clock that jumped is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The invariants are checked about this often, and never for more than a hundredth of the time.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What the rest of the daemon tells the driver.
pub(crate) enum Input {
    /// A session's first message, and the queue that leads back to it.
    Opened { event: Event, peer: PeerQueue },
    /// A later message of a session; the credit goes back when it has been handled.
    From { event: Event, credit: Credit },
    /// A session has ended.
    Closed { session: SessionId },
    /// An operator's call.
    Operator { principal: Principal, call: OperatorCall, reply: oneshot::Sender<Result<Answer, OperatorError>> },
    /// What frameworks want and have not launched.
    Wanted { framework: Option<FrameworkId>, role: Option<Role>, reply: oneshot::Sender<Wanted> },
    /// The policy has been called.
    Ranked { request: u64, answer: Result<Vec<PolicyPatch>, PolicyFailure>, cost: PolicyCost },
    /// Whether this is the agent's secret.
    VerifyAgent { agent: AgentId, proof: SecretHash, reply: oneshot::Sender<bool> },
}

/// The way back to a session's peer.
#[derive(Clone)]
pub(crate) enum PeerQueue {
    Agent(Arc<Outbound<v1::ToAgent>>),
    Framework(Arc<Outbound<v1::EventEnvelope>>),
}

impl PeerQueue {
    fn close(&self, status: Status) {
        match self {
            PeerQueue::Agent(queue) => queue.close(Some(status)),
            PeerQueue::Framework(queue) => queue.close(Some(status)),
        }
    }

    fn cut(&self, status: Status) {
        match self {
            PeerQueue::Agent(queue) => queue.cut(status),
            PeerQueue::Framework(queue) => queue.cut(status),
        }
    }

    fn closed_event(&self, session: SessionId) -> Event {
        match self {
            PeerQueue::Agent(_) => Event::AgentClosed { session },
            PeerQueue::Framework(_) => Event::FrameworkClosed { session },
        }
    }
}

/// Why the driver ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// Somebody else leads, or the registry has failed for too long.
    #[error("this master leads no longer: {0}")]
    Deposed(Arc<str>),
}

type Commit = Pin<Box<dyn Future<Output = CommitOutcome> + Send>>;

/// The writes of the one commit under way, and that commit.
struct Inflight {
    writes: Vec<WriteId>,
    commit: Commit,
}

/// Everything the loop owns.
pub(crate) struct Driver {
    master: Master,
    store: Arc<dyn Coordination>,
    leadership: Leadership,
    inputs: mpsc::Receiver<Input>,
    view: mpsc::Sender<Vec<Delta>>,
    metrics: Arc<Metrics>,
    #[cfg(feature = "policy")]
    policy: Option<Desk>,
    /// How the policy stood when it was last looked at.
    policy_view: Option<PolicyView>,
    sessions: BTreeMap<SessionId, PeerQueue>,
    requests: BTreeMap<RequestId, oneshot::Sender<Result<Answer, OperatorError>>>,
    next_request: u64,
    waiting: Vec<(WriteId, Vec<RegistryOp>)>,
    inflight: Option<Inflight>,
    deltas: Vec<Delta>,
    /// Events that effects gave rise to.
    after: VecDeque<Event>,
    deposed: Option<Arc<str>>,
    /// Since when no registry write has had a known outcome.
    failing_since: Option<Instant>,
    next_check: Instant,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) master: Master,
    pub(crate) store: Arc<dyn Coordination>,
    pub(crate) leadership: Leadership,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) view: mpsc::Sender<Vec<Delta>>,
    pub(crate) metrics: Arc<Metrics>,
    #[cfg(feature = "policy")]
    pub(crate) policy: Option<Desk>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Driver {
        Driver {
            master: parts.master,
            store: parts.store,
            leadership: parts.leadership,
            inputs: parts.inputs,
            view: parts.view,
            metrics: parts.metrics,
            #[cfg(feature = "policy")]
            policy: parts.policy,
            policy_view: None,
            sessions: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            waiting: Vec::new(),
            inflight: None,
            deltas: Vec::new(),
            after: VecDeque::new(),
            deposed: None,
            failing_since: None,
            next_check: Instant::now() + CHECK_INTERVAL,
        }
    }

    /// The registry it writes to.
    pub(crate) fn store(&self) -> Arc<dyn Coordination> {
        self.store.clone()
    }

    /// Runs until `stop` says so or the reign ends, then says goodbye to every session.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), DriverError> {
        self.perform();
        let mut batch = Vec::with_capacity(BATCH);
        while self.deposed.is_none() {
            self.commit_waiting();
            self.publish().await;
            self.check_invariants();
            let sleep = self.sleep();
            tokio::select! {
                biased;
                outcome = committed(&mut self.inflight) => self.committed(outcome),
                () = stopped(&mut stop) => break,
                taken = self.inputs.recv_many(&mut batch, BATCH), if self.waiting.len() < WAITING_WRITES => {
                    if taken == 0 {
                        break;
                    }
                    self.metrics.queue.set(i64::try_from(self.inputs.len()).unwrap_or(i64::MAX));
                    batch.drain(..).for_each(|input| self.take(input));
                }
                () = tokio::time::sleep(sleep) => self.handle(Event::Wake),
            }
        }
        self.finish().await
    }

    fn sleep(&self) -> Duration {
        self.master.next_wake().map_or(LONGEST_SLEEP, |wake| wake.since(clock::now()).min(LONGEST_SLEEP))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened { event, peer } => {
                if let Event::AgentOpened { session, .. } | Event::FrameworkOpened { session, .. } = &event {
                    self.sessions.insert(*session, peer);
                    self.metrics.sessions.inc();
                }
                self.handle(event);
            }
            Input::From { event, credit } => {
                self.handle(event);
                drop(credit);
            }
            Input::Closed { session } => {
                if let Some(peer) = self.forget(session) {
                    self.handle(peer.closed_event(session));
                }
            }
            Input::Operator { principal, call, reply } => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.requests.insert(request, reply);
                self.handle(Event::Operator { request, principal, call });
            }
            Input::Wanted { framework, role, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.master.wanted(framework, role.as_ref()));
            }
            Input::Ranked { request, answer, cost } => {
                self.metrics.policy_called(cost);
                self.handle(Event::Ranked { request, answer, cost });
            }
            Input::VerifyAgent { agent, proof, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.master.verify_agent(agent, proof));
            }
        }
    }

    fn forget(&mut self, session: SessionId) -> Option<PeerQueue> {
        let peer = self.sessions.remove(&session)?;
        self.metrics.sessions.dec();
        Some(peer)
    }

    /// Handles an event, performs its effects, and whatever these give rise to.
    fn handle(&mut self, event: Event) {
        self.after.push_back(event);
        while let Some(event) = self.after.pop_front() {
            let kind = name_of(&event);
            let span = tracing::debug_span!("event", kind, session = session_of(&event).map(|session| session.0));
            let _entered = span.enter();
            let start = Instant::now();
            self.master.handle(clock::now(), event);
            self.perform();
            self.metrics.event(kind, start.elapsed().as_secs_f64());
        }
    }

    fn perform(&mut self) {
        let effects: Vec<Effect> = self.master.drain_effects().collect();
        for effect in effects {
            match effect {
                Effect::ToAgent { session, message } => self.send_agent(session, &message),
                Effect::ToFramework { session, event } => self.send_framework(session, &event),
                Effect::Close { session, cause, message } => {
                    if let Some(peer) = self.forget(session) {
                        tracing::info!(session = session.0, %message, "session closed");
                        peer.close(Status::new(code_of(cause), message.as_ref()));
                    }
                }
                Effect::Reply { request, result } => {
                    if let Some(reply) = self.requests.remove(&request) {
                        drop(reply.send(result));
                    }
                }
                Effect::Persist { write, ops } => self.waiting.push((write, ops)),
                Effect::Rank { request, fresh, changes } => self.ask_policy(request, fresh, changes),
                Effect::Changed(delta) => {
                    if let Delta::PolicyChanged(view) = &delta {
                        self.note_policy(view);
                    }
                    self.deltas.push(delta);
                }
                Effect::StepDown { reason } => self.deposed = Some(reason),
            }
        }
    }

    #[cfg(feature = "policy")]
    fn ask_policy(&mut self, request: u64, fresh: bool, changes: Vec<PolicyPatch>) {
        self.after.extend(self.policy.as_ref().and_then(|desk| desk.ask(request, fresh, changes)));
    }

    /// A master without a policy asks none.
    #[cfg(not(feature = "policy"))]
    fn ask_policy(&mut self, _request: u64, _fresh: bool, _changes: Vec<PolicyPatch>) {}

    /// Logs and counts what has become of the policy.
    fn note_policy(&mut self, view: &PolicyView) {
        let before = self.policy_view.replace(view.clone());
        let phase = before.as_ref().map(|view| &view.phase);
        let name = &view.description.name;
        self.metrics.policy_in_force.set(i64::from(view.phase == PolicyPhase::InForce));
        if let PolicyPhase::Fallback { failure, retry_after } = &view.phase
            && before.as_ref().is_none_or(|before| before.failures != view.failures)
        {
            self.metrics.policy_failed(failure.kind());
            tracing::warn!(policy = name, %failure, ?retry_after, "the policy has failed: the built-in order is in force");
        } else if view.phase == PolicyPhase::InForce && phase != Some(&PolicyPhase::InForce) {
            tracing::info!(policy = name, "the policy's order is in force");
        }
    }

    fn send_agent(&mut self, session: SessionId, message: &ToAgent) {
        let Some(PeerQueue::Agent(queue)) = self.sessions.get(&session) else { return };
        let message = v1::ToAgent::from(message);
        let bytes = message.encoded_len();
        if let Err(refused) = queue.push(message, bytes) {
            self.cut_off(session, refused);
        }
    }

    fn send_framework(&mut self, session: SessionId, event: &SchedulerEvent) {
        let Some(PeerQueue::Framework(queue)) = self.sessions.get(&session) else { return };
        let pushed = pages::event(event).into_iter().try_for_each(|page| {
            let bytes = page.encoded_len();
            queue.push(page, bytes)
        });
        if let Err(refused) = pushed {
            self.cut_off(session, refused);
        }
    }

    /// Ends the session of a peer that does not read, or that has ended its stream itself.
    fn cut_off(&mut self, session: SessionId, refused: Refused) {
        let Some(peer) = self.forget(session) else { return };
        match refused {
            Refused::Ended => tracing::debug!(session = session.0, "the session's stream has ended"),
            Refused::Full => {
                let text = "this stream is read too slowly; reconnect: nothing that is logged is lost";
                peer.cut(Status::resource_exhausted(text));
                tracing::warn!(session = session.0, "session cut off: its queue is full");
                self.metrics.dropped(Dropped::Slow);
            }
        }
        self.after.push_back(peer.closed_event(session));
    }

    /// Starts one commit for all writes that wait, unless one is under way.
    fn commit_waiting(&mut self) {
        if self.inflight.is_some() || self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let writes = waiting.iter().map(|(write, _)| *write).collect();
        let ops: Vec<KeyOp> = waiting.iter().flat_map(|(_, ops)| ops.iter().map(registry::key_op)).collect();
        let (store, leadership) = (self.store.clone(), self.leadership);
        let commit = Box::pin(async move { store.commit(leadership, ops).await });
        self.inflight = Some(Inflight { writes, commit });
    }

    fn committed(&mut self, outcome: CommitOutcome) {
        let Some(Inflight { writes, .. }) = self.inflight.take() else { return };
        self.metrics.writes.inc();
        let outcome = match outcome {
            CommitOutcome::Committed => PersistOutcome::Committed,
            CommitOutcome::Fenced => PersistOutcome::Fenced,
            CommitOutcome::Unknown(why) => {
                tracing::error!(why, "a registry write has no known outcome; it will be repeated");
                PersistOutcome::Unknown
            }
        };
        if outcome == PersistOutcome::Unknown {
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > REGISTRY_PATIENCE {
                self.deposed = Some("the registry cannot be written".into());
            }
        } else {
            self.failing_since = None;
        }
        for write in writes {
            self.handle(Event::Persisted { write, outcome });
        }
    }

    /// Hands the read model what has changed. It is part of this process: when it is behind, this waits.
    async fn publish(&mut self) {
        if !self.deltas.is_empty() {
            let deltas = std::mem::take(&mut self.deltas);
            // The read model ends after the driver; if its thread died, the master goes on without it.
            if self.view.send(deltas).await.is_err() {
                tracing::error!("the read model has ended");
            }
        }
    }

    fn check_invariants(&mut self) {
        let start = Instant::now();
        if start < self.next_check {
            return;
        }
        for violation in invariants::check(&self.master) {
            self.metrics.violations.inc();
            tracing::error!(%violation, "an invariant is broken");
        }
        self.next_check = start + CHECK_INTERVAL.max(start.elapsed() * 100);
    }

    /// Finishes the writes that were asked for and closes every session.
    async fn finish(mut self) -> Result<(), DriverError> {
        while self.deposed.is_none() {
            self.commit_waiting();
            if self.inflight.is_none() {
                break;
            }
            let outcome = committed(&mut self.inflight).await;
            if matches!(outcome, CommitOutcome::Unknown(_)) {
                tracing::error!("the registry could not be flushed; what was asked for last is not durable");
                break;
            }
            self.committed(outcome);
        }
        self.publish().await;
        let text = if self.deposed.is_some() { "this master leads no longer" } else { "the master is shutting down" };
        for peer in self.sessions.values() {
            peer.close(Status::unavailable(text));
        }
        self.deposed.map_or(Ok(()), |reason| Err(DriverError::Deposed(reason)))
    }
}

/// The outcome of the commit under way; never, when there is none.
async fn committed(inflight: &mut Option<Inflight>) -> CommitOutcome {
    match inflight {
        Some(inflight) => (&mut inflight.commit).await,
        None => std::future::pending().await,
    }
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::AgentOpened { .. } => "agent_opened",
        Event::FromAgent { .. } => "from_agent",
        Event::AgentClosed { .. } => "agent_closed",
        Event::FrameworkOpened { .. } => "framework_opened",
        Event::FromFramework { .. } => "from_framework",
        Event::FrameworkClosed { .. } => "framework_closed",
        Event::Operator { .. } => "operator",
        Event::Persisted { .. } => "persisted",
        Event::Ranked { .. } => "ranked",
        Event::Wake => "wake",
    }
}

fn session_of(event: &Event) -> Option<SessionId> {
    match event {
        Event::AgentOpened { session, .. }
        | Event::FromAgent { session, .. }
        | Event::AgentClosed { session }
        | Event::FrameworkOpened { session, .. }
        | Event::FromFramework { session, .. }
        | Event::FrameworkClosed { session } => Some(*session),
        Event::Operator { .. } | Event::Persisted { .. } | Event::Ranked { .. } | Event::Wake => None,
    }
}

/// The gRPC code of what a core closes a connection for, as the protocol promises.
const fn code_of(cause: CloseCause) -> Code {
    match cause {
        CloseCause::Replaced => Code::Aborted,
        CloseCause::Ended | CloseCause::Precondition => Code::FailedPrecondition,
        CloseCause::Unauthenticated => Code::Unauthenticated,
        CloseCause::Denied => Code::PermissionDenied,
        CloseCause::Invalid => Code::InvalidArgument,
        CloseCause::Full => Code::ResourceExhausted,
        CloseCause::Silent => Code::DeadlineExceeded,
    }
}
