//! What goes into a subscription and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, BatchId, Call, Epoch, FrameworkId, InverseOffer, InverseOfferId, Offer, OfferId, OperationStatus,
    RunnerId, SchedulerEvent, Secret, Subscribe, TaskId, TaskRange, TaskSpan, TaskStatus, Usage, Usages,
};

/// What makes a framework itself: with it, and only with it, the framework can come back and find its tasks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub framework: FrameworkId,
    /// The proof.
    pub secret: Secret,
    /// The highest epoch it has seen.
    pub highest_epoch: Epoch,
}

/// What a subscription is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The stream that [`Effect::Reconnect`] asked for (or the first one) is open.
    Connected,
    /// The stream has ended, or could not be opened.
    Disconnected {
        /// Why, for people.
        message: Arc<str>,
    },
    /// The master says something.
    FromMaster(SchedulerEvent),
    /// The scheduler wants something. [`Call::Acknowledge`] is ignored: the subscription acknowledges by itself.
    Call(Call),
    /// A call of [`Effect::Send`] is too large to be sent; nobody will ever hear of it.
    Unsent {
        /// The call.
        call: Call,
        /// Which field exceeds which limit.
        message: Arc<str>,
    },
}

/// What the shell is to do, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send this on the open stream.
    Send(Outbound),
    /// Hand this to the scheduler.
    Deliver(Notice),
    /// Close the stream if it is open, wait, and open one to the next master.
    Reconnect {
        /// How long to wait.
        delay: Duration,
        /// Why, for people.
        message: Arc<str>,
    },
    /// Nothing more will come.
    Ended(End),
}

/// How a subscription ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The framework was torn down because its scheduler asked for it.
    TornDown,
    /// The master will not have it; subscribing again is pointless.
    Refused(Arc<str>),
}

/// What is sent to a master.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// The first message of a stream.
    Subscribe {
        /// The subscription.
        subscribe: Subscribe,
        /// The proof, for a framework that comes back.
        secret: Option<Secret>,
    },
    /// A call.
    Call {
        /// The number of the subscription that it belongs to.
        framework_epoch: u64,
        /// The call.
        call: Call,
    },
}

/// Neighbouring tasks of one launch that entered the same status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskUpdate {
    /// Where they run or were to run; none when no agent was ever involved.
    pub agent: Option<AgentId>,
    /// The launch.
    pub batch: BatchId,
    /// The tasks of it that are concerned.
    pub tasks: TaskRange,
    /// What they entered. Its usage is that of each of them, unless `usages` has entries.
    pub status: TaskStatus,
    /// What each of them used, where they differ.
    pub usages: Usages,
}

impl TaskUpdate {
    /// How many tasks are concerned.
    pub const fn count(&self) -> u32 {
        self.tasks.count()
    }

    /// What all of them used together; of memory the most that any of them did.
    pub fn total(&self) -> Usage {
        self.usages.total(&self.status, self.count())
    }

    /// What each of them used, in the order of their indices.
    pub fn usage_of_each(&self) -> impl Iterator<Item = Usage> {
        (0..self.count() as usize).map(|offset| self.usages.of(offset, &self.status))
    }

    /// The same as one update per task, for those who look at tasks one by one.
    pub fn one_by_one(&self) -> Vec<TaskUpdate> {
        let one = |(offset, usage)| TaskUpdate {
            agent: self.agent,
            batch: self.batch.clone(),
            tasks: match self.tasks {
                TaskRange::Single => TaskRange::Single,
                TaskRange::Array { first, .. } => TaskRange::Array { first: first.saturating_add(offset), count: 1 },
            },
            status: TaskStatus { usage, ..self.status.clone() },
            usages: Usages::default(),
        };
        (0u32..).zip(self.usage_of_each()).map(one).collect()
    }

    /// The ids of the tasks concerned.
    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> {
        let id = |position| TaskId { batch: self.batch.clone(), index: self.tasks.index_at(position) };
        (0..self.count()).map(id)
    }

    /// The array indices of the tasks concerned; a single task counts as index 0.
    pub fn indices(&self) -> std::ops::Range<u32> {
        match self.tasks {
            TaskRange::Single => 0..1,
            TaskRange::Array { first, count } => first..first.saturating_add(count),
        }
    }
}

/// A request to give something back, with tasks that would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// The request.
    pub offer: InverseOffer,
    /// Tasks whose end would give enough, or all there are if that is less: unstarted ends of launches first, then the
    /// youngest.
    pub suggested: Vec<TaskSpan>,
}

/// What a scheduler is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The subscription stands: for the first time, or again after a [`Notice::Disconnected`].
    Registered {
        /// The framework's id.
        framework: FrameworkId,
        /// The master's epoch.
        epoch: Epoch,
    },
    /// There is no master for now. Tasks go on; the offers have been rescinded just before.
    Disconnected {
        /// Why, for people.
        message: Arc<str>,
    },
    /// New offers.
    Offers(Vec<Offer>),
    /// Offers that are gone.
    Rescinded(Vec<OfferId>),
    /// Something is asked back.
    InverseOffers(Vec<GiveBack>),
    /// What is not asked back any more.
    InverseRescinded(Vec<InverseOfferId>),
    /// Tasks entered new states. A task enters an end state exactly once.
    Updates(Vec<TaskUpdate>),
    /// Operations have ended. Of those under way when a connection broke nothing comes; offers show what there is.
    Operations {
        /// Where.
        agent: AgentId,
        /// How each ended.
        statuses: Vec<OperationStatus>,
    },
    /// An agent is out of reach or has left. What that means for its tasks comes as updates.
    AgentLost {
        /// Which.
        agent: AgentId,
        /// Why, for people.
        message: Arc<str>,
    },
    /// A runner of the framework's tasks died. What that means for its tasks comes as updates.
    RunnerLost {
        /// Where.
        agent: AgentId,
        /// Which.
        runner: RunnerId,
        /// How, for people.
        message: Arc<str>,
    },
    /// Bytes from a task.
    Message {
        /// Where it runs.
        agent: AgentId,
        /// The task.
        task: TaskId,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// A call could not be carried out; nothing else changed.
    Error {
        /// Why, for people; names the field and the limit.
        message: Arc<str>,
    },
}
