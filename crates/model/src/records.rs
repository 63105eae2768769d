//! What the registry remembers: only what cannot be learned again from agents.

use crate::{AgentId, AgentInfo, ClusterId, Epoch, FrameworkId, FrameworkInfo, SecretHash};

/// The one record about the cluster itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Which cluster this registry is of.
    pub cluster: ClusterId,
    /// The epoch of the latest leader.
    pub epoch: Epoch,
}

/// An agent that was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// What it must present to come back.
    pub secret: SecretHash,
    /// What it said of itself last.
    pub info: AgentInfo,
    /// Whether it has been marked unreachable.
    pub unreachable: bool,
}

/// A framework's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkRecord {
    /// Its id.
    pub id: FrameworkId,
    /// What it must present to come back.
    pub secret: SecretHash,
    /// What it said of itself last.
    pub info: FrameworkInfo,
    /// Whether it has ended; its id is then refused and its tasks, wherever they turn up, are killed.
    pub completed: bool,
}
