//! What a framework implements, and what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, Epoch, FrameworkId, FrameworkInfo, InverseOfferId, Offer, OfferId, OperationStatus, Role, RunnerId, TaskId,
};
use holm_session::{GiveBack, Notice, TaskUpdate};

use crate::Calls;

/// A framework's decisions. It does no I/O and reads no clock: what it needs to know arrives as events, and what it wants
/// are calls. Between two calls of [`Scheduler::handle`] it does not run.
pub trait Scheduler {
    /// How the framework registers. Asked once, before everything else.
    fn describe(&self) -> FrameworkInfo;

    /// Takes in what happened since the last time, in order and never nothing, and says what to do about it. It should
    /// return within milliseconds; meanwhile nothing is sent and nothing received.
    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls);

    /// Answers inverse offers: the cluster wants something back, and the framework may choose what before the master does.
    /// Called after [`Scheduler::handle`] has seen the [`Event::InverseOffers`] with the same requests.
    ///
    /// Unless a scheduler knows better, it gives up what is suggested: unstarted ends of launches first, then the
    /// youngest tasks.
    fn give_back(&mut self, requests: Vec<GiveBack>, calls: &mut Calls) {
        for GiveBack { offer, suggested } in requests {
            calls.accept_inverse(offer.id, suggested, None);
        }
    }
}

/// Calls a scheduler with what happened, and for what is asked back.
pub(crate) fn call<S: Scheduler + ?Sized>(scheduler: &mut S, events: Vec<Event>, calls: &mut Calls) {
    let mut requests = Vec::new();
    for event in &events {
        if let Event::InverseOffers(asked) = event {
            requests.extend(asked.iter().cloned());
        }
    }
    scheduler.handle(events, calls);
    if !requests.is_empty() {
        scheduler.give_back(requests, calls);
    }
}

/// A scheduler that is made from bytes of configuration, as one that runs as a component must be.
pub trait Configured: Scheduler + Sized {
    /// Makes the scheduler.
    ///
    /// # Errors
    /// What is wrong with the configuration, for whoever wrote it.
    fn configure(config: &[u8]) -> Result<Self, String>;
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The framework is registered: for the first time, or again after [`Event::Disconnected`].
    Registered {
        /// Its id.
        framework: FrameworkId,
        /// The reign of the master.
        epoch: Epoch,
    },
    /// There is no master for now. Tasks go on; all offers have been rescinded just before.
    Disconnected {
        /// Why, for people.
        message: Arc<str>,
    },
    /// New offers: to be accepted, declined, or held until they are rescinded.
    Offers(Vec<Offer>),
    /// Offers that are gone.
    Rescinded(Vec<OfferId>),
    /// Something is asked back, each request with tasks that would do. Answered by [`Scheduler::give_back`], which is
    /// called next.
    InverseOffers(Vec<GiveBack>),
    /// What is not asked back any more: it was given, taken, or is not needed.
    InverseRescinded(Vec<InverseOfferId>),
    /// Tasks entered new states. Every task that was launched enters an end state exactly once, whatever happens to
    /// agents, masters and connections.
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
    /// A process that ran tasks of the framework died. What that means for them comes as updates.
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
    /// Bytes from the program that runs the scheduler.
    Input(Vec<u8>),
    /// A timer has run out.
    Timer(u64),
    /// A call could not be carried out; nothing else changed.
    Error {
        /// Why, for people; names the field, the value and the limit.
        message: Arc<str>,
    },
}

impl From<Notice> for Event {
    fn from(notice: Notice) -> Event {
        match notice {
            Notice::Registered { framework, epoch } => Event::Registered { framework, epoch },
            Notice::Disconnected { message } => Event::Disconnected { message },
            Notice::Offers(offers) => Event::Offers(offers),
            Notice::Rescinded(offers) => Event::Rescinded(offers),
            Notice::InverseOffers(requests) => Event::InverseOffers(requests),
            Notice::InverseRescinded(offers) => Event::InverseRescinded(offers),
            Notice::Updates(updates) => Event::Updates(updates),
            Notice::Operations { agent, statuses } => Event::Operations { agent, statuses },
            Notice::AgentLost { agent, message } => Event::AgentLost { agent, message },
            Notice::RunnerLost { agent, runner, message } => Event::RunnerLost { agent, runner, message },
            Notice::Message { agent, task, data } => Event::Message { agent, task, data },
            Notice::Error { message } => Event::Error { message },
        }
    }
}

/// A registration with nothing but a name and roles: its tasks end with its connection.
pub fn framework_info(name: &str, roles: impl IntoIterator<Item = Role>) -> FrameworkInfo {
    FrameworkInfo {
        name: name.into(),
        roles: roles.into_iter().collect(),
        role_options: BTreeMap::new(),
        failover_timeout: Duration::ZERO,
        capabilities: BTreeSet::new(),
        labels: BTreeMap::new(),
    }
}
