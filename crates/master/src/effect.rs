//! What the master asks of the shell. Effects are performed in order; nothing comes back but events.

use std::num::NonZeroU32;
use std::sync::Arc;

use holm_allocator::QuotaError;
use holm_model::{
    AgentId, DemandId, FrameworkId, MAX_WEIGHT, PolicyPatch, Role, SchedulerEvent, TaskId, ToAgent, show_weight,
};

use crate::authorize::Denied;
use crate::{Delta, Explanation, RegistryOp, RequestId, RolesPlan, SessionId, WriteId};

/// Something to be done outside the core.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to an agent.
    ToAgent {
        /// The connection.
        session: SessionId,
        /// What.
        message: ToAgent,
    },
    /// Send to a framework.
    ToFramework {
        /// The connection.
        session: SessionId,
        /// What.
        event: SchedulerEvent,
    },
    /// End a connection after what was sent before. The master has forgotten it already: later events of it are ignored.
    Close {
        /// The connection.
        session: SessionId,
        /// Why, for the peer's program.
        cause: CloseCause,
        /// Why, for people and logs.
        message: Arc<str>,
    },
    /// Answer an operator.
    Reply {
        /// The request.
        request: RequestId,
        /// What came of it, or why not.
        result: Result<Answer, OperatorError>,
    },
    /// Write these records in one atomic step and answer with [`crate::Event::Persisted`]. Every operation is idempotent.
    /// The same write is asked for again when its outcome was unknown.
    Persist {
        /// To be repeated in the answer.
        write: WriteId,
        /// What to write.
        ops: Vec<RegistryOp>,
    },
    /// Have the policy rank, and answer with [`crate::Event::Ranked`]. At most one is out at a time, and nothing waits for it.
    Rank {
        /// To be repeated in the answer.
        request: u64,
        /// Whether this goes to a new instance, which is told everything.
        fresh: bool,
        /// What has changed since the last request.
        changes: Vec<PolicyPatch>,
    },
    /// The state changed: for the read model.
    Changed(Delta),
    /// This master is over: drop it, close every connection, campaign again.
    StepDown {
        /// Why, for people and logs.
        reason: Arc<str>,
    },
}

/// What an operator's request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done; there is nothing to tell.
    Done,
    /// What an update of roles changed, or would change.
    Roles(Box<RolesPlan>),
    /// Why somebody waits.
    Explained(Box<Explanation>),
}

/// Why the master ends a connection, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// A newer connection of the same agent or framework took over.
    Replaced,
    /// The framework has ended.
    Ended,
    /// The id is not known or the secret is not the one it was given.
    Unauthenticated,
    /// It may not do that.
    Denied,
    /// A field is not valid.
    Invalid,
    /// It belongs to another cluster, has seen a later epoch, or has ended before.
    Precondition,
    /// The cluster has as many of them as it takes.
    Full,
    /// It said nothing for too long.
    Silent,
}

/// Why a first message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwelcome {
    pub(crate) cause: CloseCause,
    pub(crate) message: String,
}

impl Unwelcome {
    pub(crate) fn new(cause: CloseCause, why: impl std::fmt::Display) -> Unwelcome {
        Unwelcome { cause, message: why.to_string() }
    }
}

/// Why an operator's request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// There is no such framework, or it is not known any more.
    #[error("framework {0} is not known")]
    UnknownFramework(FrameworkId),
    /// There is no such agent.
    #[error("agent {0} is not known")]
    UnknownAgent(AgentId),
    /// No framework is in the role or below it, and nothing is set for them.
    #[error("role {0} has no frameworks, no weight and no quota, and neither has one below it")]
    UnknownRole(Role),
    /// The framework has no such demand.
    #[error("framework {framework} has no demand {demand}")]
    UnknownDemand {
        /// Which framework.
        framework: FrameworkId,
        /// The name.
        demand: DemandId,
    },
    /// The framework is not in a phase in which this can be done.
    #[error("framework {framework} is {phase}")]
    Phase {
        /// Which framework.
        framework: FrameworkId,
        /// Its phase.
        phase: crate::FrameworkPhase,
    },
    /// The framework has no such task that is not over.
    #[error("framework {framework} has no live task {task}")]
    UnknownTask {
        /// Which framework.
        framework: FrameworkId,
        /// Which task.
        task: TaskId,
    },
    /// Too many kills wait for an agent that is away.
    #[error("{count} kills wait for the agent to come back; the limit is {limit}")]
    TooManyKills {
        /// How many wait.
        count: usize,
        /// How many may.
        limit: usize,
    },
    /// Quotas do not suit each other or the cluster. The text is the whole of it.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// A weight is too large.
    #[error("role {role}: weight {} is over the limit of {}", show_weight(*.weight), show_weight(MAX_WEIGHT))]
    Weight {
        /// Whose.
        role: Role,
        /// The weight, in thousandths.
        weight: NonZeroU32,
    },
    /// An update names a role twice.
    #[error("role {0} is changed twice in one update")]
    RoleTwice(Role),
    /// More roles than the master keeps would have a weight or a quota.
    #[error("{count} roles would have a weight or a quota; the limit is {limit}")]
    TooManyRoles {
        /// How many would.
        count: usize,
        /// How many may.
        limit: usize,
    },
    /// Too many updates of roles wait to be written.
    #[error("{count} updates of roles wait to be written; the limit is {limit}")]
    TooManyUpdates {
        /// How many wait.
        count: usize,
        /// How many may.
        limit: usize,
    },
    /// The agent does not take part: what is free there is not known.
    #[error("agent {0} has not registered with this master, or was given up: what is free there is not known")]
    AgentAway(AgentId),
    /// Too much is to be done to the agent already.
    #[error("{waiting} operations wait for the agent; the limit is {limit}")]
    TooManyOperations {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// The operation was refused: the rule, and the numbers.
    #[error("{0}")]
    Operation(Arc<str>),
    /// The principal may not do this.
    #[error("not permitted")]
    Denied(#[from] Denied),
}
