//! Changes of the master's state as the read model sees them. Folding every delta from the start gives the whole state.

use std::fmt;
use std::sync::Arc;

use holm_allocator::RoleShare;
use holm_model::{
    AgentCondition, AgentId, AgentInfo, BatchId, BatchReport, FrameworkId, FrameworkInfo, Incarnation, Offer, OfferId,
    PolicyView, Portions, Resources, RoleRecord, TaskStatus, Usages, Volume,
};

use crate::preemption::PreemptionView;

/// Where an agent stands, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentPhase {
    /// Connected; its record is being written.
    Registering,
    /// Connected; it is reporting its tasks.
    Recovering,
    /// Connected; it gets offers made and launches sent.
    Active,
    /// Not connected; expected back.
    Disconnected,
    /// Given up for now; it may still come back.
    Unreachable,
}

impl AgentPhase {
    /// The phase in lower case, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentPhase::Registering => "registering",
            AgentPhase::Recovering => "recovering",
            AgentPhase::Active => "active",
            AgentPhase::Disconnected => "disconnected",
            AgentPhase::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for AgentPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a framework stands, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameworkPhase {
    /// Its record is being written.
    Registering,
    /// Subscribed.
    Connected,
    /// Not connected; its tasks run on until its failover timeout.
    Disconnected,
    /// Its end is being written.
    Completing,
    /// Over.
    Completed,
}

impl FrameworkPhase {
    /// The phase in lower case, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            FrameworkPhase::Registering => "registering",
            FrameworkPhase::Connected => "connected",
            FrameworkPhase::Disconnected => "disconnected",
            FrameworkPhase::Completing => "completing",
            FrameworkPhase::Completed => "completed",
        }
    }
}

impl fmt::Display for FrameworkPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An agent as the read model shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Where it stands.
    pub phase: AgentPhase,
    /// What it said of itself last.
    pub info: Arc<AgentInfo>,
    /// The life of its status logs, once it has registered with this master.
    pub incarnation: Option<Incarnation>,
    /// What is neither offered nor in use; none while the agent does not take part in allocation.
    pub free: Option<Resources>,
    /// Everything it has, by origin.
    pub stock: Portions,
    /// The volumes on it.
    pub volumes: Vec<Volume>,
    /// How many launches the master knows there.
    pub launches: usize,
    /// How it said it is.
    pub condition: AgentCondition,
    /// What of it can be had as revocable, held by tasks or not.
    pub revocable: Resources,
}

/// A framework as the read model shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkView {
    /// Its id.
    pub id: FrameworkId,
    /// Where it stands.
    pub phase: FrameworkPhase,
    /// What it said of itself last.
    pub info: Arc<FrameworkInfo>,
    /// The number of its current or latest subscription with this master; 0 before the first.
    pub framework_epoch: u64,
    /// How many launches of it the master knows, those included whose end is not acknowledged.
    pub launches: usize,
    /// How many of its tasks are not over.
    pub live_tasks: u64,
    /// How many offers it holds.
    pub offers: usize,
}

/// A launch as the read model shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchView {
    /// Where it runs.
    pub agent: AgentId,
    /// What it is and how each of its tasks stands.
    pub report: BatchReport,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Delta {
    /// An agent is new or changed. At most once per agent and event.
    AgentChanged(AgentView),
    /// An agent is not known any more.
    AgentRemoved(AgentId),
    /// A framework is new or changed. At most once per framework and event.
    FrameworkChanged(FrameworkView),
    /// A completed framework is not known any more.
    FrameworkRemoved(FrameworkId),
    /// A launch is known on an agent: it was just accepted, or the agent reported it. Replaces what was known of the
    /// same launch on the same agent.
    LaunchAdded(LaunchView),
    /// Tasks of a launch entered a status.
    TasksChanged {
        /// Whose.
        framework: FrameworkId,
        /// Which launch.
        batch: BatchId,
        /// Where.
        agent: AgentId,
        /// The position (not index) of the first task concerned.
        first: u32,
        /// How many tasks.
        count: u32,
        /// What they entered. Its usage is that of each of them, unless `usages` has entries.
        status: Arc<TaskStatus>,
        /// What each of them used, where they differ.
        usages: Usages,
    },
    /// Every task of the launch is over and acknowledged: the master has forgotten it. History may keep it.
    LaunchRemoved {
        /// Whose.
        framework: FrameworkId,
        /// Which launch.
        batch: BatchId,
        /// Where it was.
        agent: AgentId,
    },
    /// An offer was made.
    OfferAdded(Offer),
    /// An offer was used, declined, rescinded or expired.
    OfferRemoved(OfferId),
    /// The shares of all roles, and the scalars of the cluster that count in them. At most once per
    /// [`crate::Options::roles_interval`].
    RolesChanged {
        /// The shares.
        shares: Vec<RoleShare>,
        /// What they are shares of.
        capacity: Resources,
    },
    /// The weight and quota of a role are these; default ones are not remembered.
    RoleSet(RoleRecord),
    /// How the policy stands: when its phase changes, and now and then as its costs do.
    PolicyChanged(PolicyView),
    /// A preemption has come this far. Replaces what was known of the one with the same id.
    Preemption(PreemptionView),
}
