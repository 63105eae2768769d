//! What the master asks of the shell. Effects are performed in order; nothing comes back but events.

use std::sync::Arc;

use holm_model::{FrameworkId, SchedulerEvent, TaskId, ToAgent};

use crate::authorize::Denied;
use crate::{Delta, RegistryOp, RequestId, SessionId, WriteId};

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
        /// Done, or why not.
        result: Result<(), OperatorError>,
    },
    /// Write these records in one atomic step and answer with [`crate::Event::Persisted`]. Every operation is idempotent.
    /// The same write is asked for again when its outcome was unknown.
    Persist {
        /// To be repeated in the answer.
        write: WriteId,
        /// What to write.
        ops: Vec<RegistryOp>,
    },
    /// The state changed: for the read model.
    Changed(Delta),
    /// This master is over: drop it, close every connection, campaign again.
    StepDown {
        /// Why, for people and logs.
        reason: Arc<str>,
    },
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
    /// The principal may not do this.
    #[error("not permitted")]
    Denied(#[from] Denied),
}
