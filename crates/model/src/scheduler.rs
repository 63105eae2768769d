//! What frameworks and the master say to each other, in the field's words. The wire form is the business of `proto`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    AgentId, BatchId, Demand, Digest, Epoch, FrameworkId, FrameworkInfo, Incarnation, InverseOffer, InverseOfferId,
    Launch, Offer, OfferId, OperationStatus, Portions, Refusal, Requested, Resources, Role, RoleOptions, RunnerId,
    Secret, Source, TaskId, TaskRange, TaskSpan, TaskStatus, Update,
};

/// Most operations of one ACCEPT.
pub const MAX_OPERATIONS: usize = 64;

/// Largest framework message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// A framework's first words on a stream. Its secret travels beside it and is hashed before any core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// What the framework says of itself.
    pub info: FrameworkInfo,
    /// Its id, when it has been here before.
    pub id: Option<FrameworkId>,
    /// The highest epoch it has seen; a master of a lower one is not obeyed.
    pub highest_epoch: Epoch,
    /// Roles in which it wants no offers for now.
    pub suppressed: Vec<Role>,
}

/// What a subscribed framework asks for. A call that cannot be carried out is answered by task statuses or by
/// [`SchedulerEvent::Error`]; nothing is refused silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Launch tasks on the resources of offers. All offers are of one agent and one role. What the launches do not use
    /// goes back under `refusal`. One invalid offer makes every launch DROPPED; an invalid launch becomes ERROR alone.
    Accept {
        /// The offers, each of which is used up.
        offers: Vec<OfferId>,
        /// The launches; with none this is a decline.
        launches: Vec<Launch>,
        /// For how long the unused rest is not wanted.
        refusal: Refusal,
    },
    /// As [`Call::Accept`], after operations on the same offers. They are done one after another, each on what the ones before
    /// it left; what is done is durable before it is told and before the launches are looked at. An operation that is
    /// refused changes nothing and does not stop the others. Each is answered by [`SchedulerEvent::Operations`].
    Operate {
        /// The offers, each of which is used up.
        offers: Vec<OfferId>,
        /// The operations: 1 to [`MAX_OPERATIONS`].
        operations: Vec<Requested>,
        /// The launches, which may be none.
        launches: Vec<Launch>,
        /// For how long the unused rest is not wanted. What operations made is offered again at once.
        refusal: Refusal,
    },
    /// Launch tasks on the resources of offers, all together or not at all: the launches are a group of at most
    /// [`crate::MAX_GROUP_LAUNCHES`]. Offers and refusal are as in [`Call::Accept`]. One invalid launch makes the others
    /// DROPPED, and so does one that cannot be prepared; once they run, a task that ends other than FINISHED has all
    /// others killed.
    LaunchGroup {
        /// The offers, each of which is used up.
        offers: Vec<OfferId>,
        /// The launches; with none this is a decline.
        launches: Vec<Launch>,
        /// For how long the unused rest is not wanted.
        refusal: Refusal,
    },
    /// Give offers back.
    Decline {
        /// The offers; unknown ones are ignored.
        offers: Vec<OfferId>,
        /// For how long they are not wanted.
        refusal: Refusal,
    },
    /// No more offers in these roles (all, when empty). Offers already out stay out.
    Suppress {
        /// The roles.
        roles: Vec<Role>,
    },
    /// Offers again in these roles (all, when empty), and forget their refusals.
    Revive {
        /// The roles.
        roles: Vec<Role>,
    },
    /// What is wanted in a role, in place of what was said before: it is offered that and nothing else there, as long as this
    /// subscription stands. Without demands it is offered nothing.
    Demand {
        /// The role.
        role: Role,
        /// The demands; at most [`crate::MAX_DEMANDS`] over all roles of the framework.
        demands: Vec<Demand>,
    },
    /// Replaces which offers are taken in the framework's roles: those named, the others have the defaults from now on.
    SetRoleOptions {
        /// The options, by role.
        options: BTreeMap<Role, RoleOptions>,
    },
    /// Stop a task, or every task of a launch when the id has no index.
    Kill {
        /// Which.
        task: TaskId,
        /// How long it may take to end by itself; none is the agent's default.
        grace: Option<Duration>,
    },
    /// Everything up to `sequence` of this status log has been received for good. Cumulative.
    Acknowledge {
        /// The agent.
        agent: AgentId,
        /// The life of its logs.
        incarnation: Incarnation,
        /// The highest sequence received without a gap.
        sequence: u64,
    },
    /// Bytes for a running task, best effort, at most [`MAX_MESSAGE_BYTES`].
    Message {
        /// The agent that runs it.
        agent: AgentId,
        /// The task.
        task: TaskId,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// Give back what an inverse offer asks for. The master ends the named tasks at once: a launch's unstarted end
    /// is trimmed, other tasks are asked to stop. What the framework ends by other means counts as well; what is missing at
    /// the deadline the master takes.
    AcceptInverse {
        /// The inverse offer.
        offer: InverseOfferId,
        /// The tasks to end, at most [`crate::MAX_GIVEN_SPANS`] runs of them; none when the framework ends some itself.
        tasks: Vec<TaskSpan>,
        /// How long those that run may take to end by themselves; none is the agent's default.
        grace: Option<Duration>,
    },
    /// The framework chooses nothing: the master may choose for it before the deadline, unless the agent is to be
    /// maintained, which happens at its time.
    DeclineInverse {
        /// The inverse offers; unknown ones are ignored.
        offers: Vec<InverseOfferId>,
    },
    /// End the framework: kill its tasks and forget its registration.
    Teardown,
}

/// A launch as its agent or the master knows it: enough to account for it and to rebuild a framework's view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchReport {
    /// Whose.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// The framework's name for it.
    pub id: BatchId,
    /// Which tasks.
    pub tasks: TaskRange,
    /// How many at a time.
    pub slots: u32,
    /// What each slot holds.
    pub shape: Resources,
    /// What the launch held by origin when it was launched, volumes included; nothing where all of it was unreserved.
    pub origins: Portions,
    /// The module.
    pub module: Digest,
    /// Whether its tasks hold revocable resources.
    pub revocable: bool,
    /// The status of every task, as runs of neighbours that share one, in order and without gaps.
    pub runs: Vec<StatusRun>,
}

/// Neighbouring tasks of a launch with the same status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRun {
    /// How many tasks.
    pub count: u32,
    /// Their status.
    pub status: TaskStatus,
}

/// What the master tells a framework.
#[derive(Clone, Debug)]
pub enum SchedulerEvent {
    /// The subscription stands. A [`SchedulerEvent::Tasks`] follows for every agent that has reported.
    Subscribed {
        /// The framework's id, to be presented when it comes back.
        framework: FrameworkId,
        /// Its secret, at the first registration only.
        secret: Option<Secret>,
        /// The master's epoch.
        epoch: Epoch,
        /// The number of this subscription; calls of an earlier one are refused.
        framework_epoch: u64,
        /// Registered agents that have not reported their tasks yet; each is resolved by a later event.
        pending_agents: Vec<AgentId>,
    },
    /// The framework's launches on one agent, possibly in several pages. Once `last` is seen the agent has resolved: a
    /// task that the framework believed to be there and that is in no page is over. It never ran if the agent's log is in
    /// the life in which it was launched; in a later life it may have run, and is gone.
    Tasks {
        /// The agent.
        agent: AgentId,
        /// The life of its status logs.
        incarnation: Incarnation,
        /// The launches of this page.
        batches: Vec<BatchReport>,
        /// Whether this is the agent's last page.
        last: bool,
    },
    /// New offers.
    Offers(Vec<Offer>),
    /// Offers that are no longer valid.
    Rescinded(Vec<OfferId>),
    /// Something is asked back. See [`Call::AcceptInverse`].
    InverseOffers(Vec<InverseOffer>),
    /// What is not asked back any more: it was given, taken, or is not needed.
    InverseRescinded(Vec<InverseOfferId>),
    /// Tasks entered new states.
    Updates {
        /// The agent that runs them, or to which they were to be launched.
        agent: AgentId,
        /// The life of its status logs.
        incarnation: Incarnation,
        /// Who found out. Only [`Source::Agent`] is acknowledged.
        source: Source,
        /// The entries, in order.
        updates: Vec<Update>,
    },
    /// Operations of an ACCEPT have ended.
    Operations {
        /// Where.
        agent: AgentId,
        /// How each ended.
        statuses: Vec<OperationStatus>,
    },
    /// An agent is out of reach or has left; its tasks are reported separately.
    AgentLost {
        /// The agent.
        agent: AgentId,
        /// Why, for people.
        message: Arc<str>,
    },
    /// A runner of the framework's tasks died; its tasks are reported separately.
    RunnerLost {
        /// Where.
        agent: AgentId,
        /// Which.
        runner: RunnerId,
        /// How, for people.
        message: Arc<str>,
    },
    /// Bytes from a task, best effort.
    Message {
        /// Where it runs.
        agent: AgentId,
        /// The task.
        task: TaskId,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// The call or the subscription was refused; when `fatal` the stream ends after it.
    Error {
        /// Why, for people; names the field and the limit.
        message: Arc<str>,
        /// Whether reconnecting with the same subscription is pointless.
        fatal: bool,
    },
    /// A sign of life; no answer is needed.
    Heartbeat,
}
