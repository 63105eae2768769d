//! What the shell tells the master.

use std::fmt;
use std::time::Duration;

use holm_model::{
    AgentId, Call, FrameworkId, Operation, PolicyCost, PolicyFailure, PolicyPatch, Principal, Registration, Secret,
    SecretHash, Subscribe, TaskId, ToMaster,
};

/// One connection of an agent or a framework. The shell mints a fresh number for every connection and never reuses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One request of an operator, answered once by [`crate::Effect::Reply`]. Minted by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One durable write, minted by the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", self.0)
    }
}

/// A secret that the shell drew from the operating system's randomness, with its hash, in case the peer is new.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// What the peer gets.
    pub secret: Secret,
    /// What the registry keeps.
    pub hash: SecretHash,
}

/// How a durable write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistOutcome {
    /// It is durable.
    Committed,
    /// Somebody else leads: this master is over.
    Fenced,
    /// It may or may not be durable. The master repeats the same write after a while; the shell steps down by itself
    /// when its lease ends first.
    Unknown,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorCall {
    /// Stop a task, or every task of a launch when the id has no index.
    Kill {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// How long it may take to end by itself; none is the agent's default.
        grace: Option<Duration>,
    },
    /// Say why somebody waits.
    Explain(crate::Question),
    /// Set weights and quotas. Answered once that is durable.
    UpdateRoles(crate::RolesUpdate),
    /// Reserve, unreserve, make or end a volume. Answered once that is durable.
    Operate {
        /// Where.
        agent: AgentId,
        /// What.
        operation: Operation,
    },
    /// End a framework: kill its tasks and refuse its id from now on. Answered once that is durable.
    Teardown {
        /// Which.
        framework: FrameworkId,
    },
}

/// Everything that can happen to a master.
#[derive(Clone, Debug)]
pub enum Event {
    /// An agent connected and sent its registration.
    AgentOpened {
        /// The connection.
        session: SessionId,
        /// Who is behind it.
        principal: Principal,
        /// Its first words.
        registration: Registration,
        /// The hash of the secret it presented.
        proof: Option<SecretHash>,
        /// Its secret, should it be new.
        fresh: Fresh,
    },
    /// An agent sent a message after its registration.
    FromAgent {
        /// The connection.
        session: SessionId,
        /// What it said.
        message: ToMaster,
    },
    /// An agent's connection ended. Harmless for one that the master has closed itself.
    AgentClosed {
        /// The connection.
        session: SessionId,
    },
    /// A framework connected and sent its subscription.
    FrameworkOpened {
        /// The connection.
        session: SessionId,
        /// Who is behind it.
        principal: Principal,
        /// Its first words.
        subscribe: Subscribe,
        /// The hash of the secret it presented.
        proof: Option<SecretHash>,
        /// Its secret, should it be new.
        fresh: Fresh,
    },
    /// A framework sent a call after its subscription.
    FromFramework {
        /// The connection.
        session: SessionId,
        /// The subscription it speaks for, as [`holm_model::SchedulerEvent::Subscribed`] told it.
        framework_epoch: u64,
        /// What it asks for.
        call: Call,
    },
    /// A framework's connection ended. Harmless for one that the master has closed itself.
    FrameworkClosed {
        /// The connection.
        session: SessionId,
    },
    /// An operator asks for something.
    Operator {
        /// To be repeated in the answer.
        request: RequestId,
        /// Who asks.
        principal: Principal,
        /// What.
        call: OperatorCall,
    },
    /// A durable write ended.
    Persisted {
        /// Which.
        write: WriteId,
        /// How.
        outcome: PersistOutcome,
    },
    /// The policy has been called.
    Ranked {
        /// The request of [`crate::Effect::Rank`].
        request: u64,
        /// What it answered, whether it makes sense or not, or why there is no answer.
        answer: Result<Vec<PolicyPatch>, PolicyFailure>,
        /// What the call took.
        cost: PolicyCost,
    },
    /// The time that [`crate::Master::next_wake`] named has come.
    Wake,
}
