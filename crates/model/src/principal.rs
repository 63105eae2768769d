//! Who speaks, and what they ask to do.

use std::fmt;
use std::sync::Arc;

use crate::{AgentId, FrameworkId};

/// Who is behind a connection. The shell establishes it; every inbound event carries it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Nobody in particular: a connection that has presented nothing.
    Anonymous,
    /// The holder of the operator token, or a person with a name from a later authenticator.
    Operator(Arc<str>),
    /// An agent that proved its id.
    Agent(AgentId),
    /// A framework that proved its id.
    Framework(FrameworkId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Anonymous => f.write_str("anonymous"),
            Principal::Operator(name) => write!(f, "operator {name}"),
            Principal::Agent(id) => id.fmt(f),
            Principal::Framework(id) => id.fmt(f),
        }
    }
}

/// What a principal asks to do; the object is the role, agent or framework concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Register an agent.
    RegisterAgent,
    /// Subscribe as a framework in a role.
    Subscribe,
    /// Decline offers, suppress and revive them, acknowledge statuses, send messages to tasks.
    Schedule,
    /// Say what an agent runs and what became of it.
    Report,
    /// Launch tasks.
    Launch,
    /// Kill a task.
    KillTask,
    /// End a framework and its tasks.
    Teardown,
    /// Set weights and quotas of roles.
    UpdateRoles,
    /// Reserve, unreserve, make and end volumes.
    Reserve,
    /// Read the state of the cluster.
    ReadState,
    /// Read a task's output or files.
    ReadSandbox,
    /// Push, read or remove blobs.
    Blobs,
}
