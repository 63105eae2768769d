//! The registry: what must outlive the master, one record per key, and the operations on it.

use std::collections::BTreeMap;

use holm_model::{
    AgentId, AgentRecord, ClusterRecord, FrameworkId, FrameworkRecord, ReservationRecord, Role, RoleRecord,
};

/// Everything durable, as a newly elected master finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The cluster, with the epoch of the master that is about to start.
    pub cluster: ClusterRecord,
    /// The admitted agents.
    pub agents: BTreeMap<AgentId, AgentRecord>,
    /// What was reserved on agents, where there is something.
    pub reservations: BTreeMap<AgentId, ReservationRecord>,
    /// The frameworks, completed ones included as long as they are remembered.
    pub frameworks: BTreeMap<FrameworkId, FrameworkRecord>,
    /// What operators set for roles; roles without a record have weight 1 and no quota.
    pub roles: BTreeMap<Role, RoleRecord>,
}

impl Registry {
    /// The registry of a cluster in which nothing has happened yet.
    pub fn new(cluster: ClusterRecord) -> Registry {
        Registry {
            cluster,
            agents: BTreeMap::new(),
            reservations: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

/// One idempotent change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryOp {
    /// Add or replace an agent.
    PutAgent(AgentRecord),
    /// Forget an agent.
    RemoveAgent(AgentId),
    /// Add or replace what is reserved on an agent.
    PutReservations(ReservationRecord),
    /// Forget what is reserved on an agent.
    RemoveReservations(AgentId),
    /// Add or replace a framework.
    PutFramework(FrameworkRecord),
    /// Forget a framework.
    RemoveFramework(FrameworkId),
    /// Add or replace what is set for a role.
    PutRole(RoleRecord),
    /// Forget what was set for a role.
    RemoveRole(Role),
}

impl RegistryOp {
    /// Makes the change. Making it twice is the same as making it once.
    pub fn apply(&self, registry: &mut Registry) {
        match self {
            RegistryOp::PutAgent(record) => {
                registry.agents.insert(record.id, record.clone());
            }
            RegistryOp::RemoveAgent(id) => {
                registry.agents.remove(id);
            }
            RegistryOp::PutReservations(record) => {
                registry.reservations.insert(record.agent, record.clone());
            }
            RegistryOp::RemoveReservations(id) => {
                registry.reservations.remove(id);
            }
            RegistryOp::PutFramework(record) => {
                registry.frameworks.insert(record.id, record.clone());
            }
            RegistryOp::RemoveFramework(id) => {
                registry.frameworks.remove(id);
            }
            RegistryOp::PutRole(record) => {
                registry.roles.insert(record.role.clone(), record.clone());
            }
            RegistryOp::RemoveRole(role) => {
                registry.roles.remove(role);
            }
        }
    }
}
