//! Why an operation was refused. A refused operation has changed nothing.

use holm_model::{AgentId, FrameworkId, PortionsError, ResourceName, Resources, ResourcesError, Role};

/// Why an agent operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The agent is there already.
    #[error("agent {0} is already known to the allocator")]
    Exists(AgentId),
    /// There is no such agent.
    #[error("agent {0} is not known to the allocator")]
    Unknown(AgentId),
}

/// Why a framework operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameworkError {
    /// There is no such framework.
    #[error("framework {0} is not known to the allocator")]
    Unknown(FrameworkId),
    /// The framework has not subscribed to the role.
    #[error("framework {framework} is not subscribed to role {role}")]
    NotSubscribed {
        /// Who.
        framework: FrameworkId,
        /// The role it named.
        role: Role,
    },
}

/// Why resources reported to be in use were not charged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// There is no such agent.
    #[error("agent {0} is not known to the allocator")]
    UnknownAgent(AgentId),
    /// An item (a port, a member of a set) is in use already, or a resource changed its kind.
    #[error("agent {agent} cannot hold the resources a second time")]
    Conflict {
        /// Where.
        agent: AgentId,
        /// What conflicts.
        source: ResourcesError,
    },
    /// The sum in use on the agent does not fit 64 bits.
    #[error("{name} in use on agent {agent} exceeds 64 bits")]
    Overflow {
        /// Where.
        agent: AgentId,
        /// Which resource.
        name: ResourceName,
    },
}

/// Why resources were not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such agent (what was held on it was forgotten when it was removed).
    #[error("agent {0} is not known to the allocator")]
    UnknownAgent(AgentId),
    /// The framework does not hold that much in the role on the agent.
    #[error("framework {framework} in role {role} does not hold the resources on agent {agent}")]
    NotHeld {
        /// Who.
        framework: FrameworkId,
        /// In which role.
        role: Role,
        /// Where.
        agent: AgentId,
        /// What is short.
        source: ResourcesError,
    },
}

/// Why resources were not turned into others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// There is no such agent.
    #[error("agent {0} is not known to the allocator")]
    UnknownAgent(AgentId),
    /// More or less would come out than goes in.
    #[error("{consumed} cannot become {produced}: the amounts differ")]
    Amounts {
        /// What goes in.
        consumed: Resources,
        /// What would come out.
        produced: Resources,
    },
    /// What is to be turned is not held, or not free, or what comes out is there already.
    #[error("the resources to be turned are not there on agent {agent}")]
    NotThere {
        /// Where.
        agent: AgentId,
        /// What is short.
        source: PortionsError,
    },
}
