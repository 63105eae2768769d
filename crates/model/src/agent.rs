//! What an agent says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::{ConfinementLayer, Isolation, Origin, Portions, Resources, ResourcesError};

/// Free-form facts about an agent, passed through in offers: `rack:a`, `arch:x86_64`. At most 128, each side at most 256 bytes.
pub type Attributes = BTreeMap<Arc<str>, Arc<str>>;

/// Optional abilities of a peer, by name; unknown names are ignored.
pub type Capabilities = BTreeSet<Arc<str>>;

/// One run of a host's kernel, as the operating system names it. A changed boot id means that every process has died.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub Arc<str>);

/// One life of an agent's status logs: a fresh number whenever earlier entries may be lost (a new data directory, a
/// reboot, a truncated checkpoint). Sequence numbers count within one incarnation and one framework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How an agent is, beyond whether it is connected. It changes while the agent is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCondition {
    /// Memory kept back for the agent and for what its runners need beyond their tasks, in bytes; zero when the agent
    /// watches none.
    pub reserve_bytes: u64,
    /// How much the agent and its runners take beyond their tasks' `mem`, in bytes.
    pub overhead_bytes: u64,
    /// Why the agent takes no launches at the moment, for people; none when it takes some.
    pub held_back: Option<Arc<str>>,
}

/// Why what an agent says it is configured with cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfiguredError {
    /// An origin that no configuration makes.
    #[error("the agent says that its configuration has what is {0}")]
    Origin(Origin),
    /// More is reserved than there is.
    #[error("the agent's configuration reserves more than it has: {0}")]
    Excess(#[from] ResourcesError),
}

/// What an agent offers and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// The host's name, for people.
    pub hostname: Arc<str>,
    /// Everything the agent has to offer, reserve already taken off.
    pub resources: Resources,
    /// The part of them that its configuration reserves; these reservations are fixed.
    pub reserved: Portions,
    /// Facts that frameworks may choose by.
    pub attributes: Attributes,
    /// What the agent can do beyond the base protocol.
    pub capabilities: Capabilities,
    /// The agent's software version.
    pub version: Arc<str>,
    /// What holds its runner processes back, or why it does not: for people and placement. At most 32 layers.
    pub confinement: Vec<ConfinementLayer>,
    /// Which of its tasks share a process.
    pub isolation: Isolation,
}

impl AgentInfo {
    /// Everything the agent was configured with, by origin.
    ///
    /// # Errors
    /// When more is reserved than there is, or it is reserved other than a configuration can.
    pub fn configured(&self) -> Result<Portions, ConfiguredError> {
        if self.reserved.is_empty() {
            return Ok(Portions::unreserved(self.resources.clone()));
        }
        let fixed = |origin: &Origin| matches!(origin, Origin::Reserved(by) if by.is_fixed());
        if let Some((other, _)) = self.reserved.iter().find(|(origin, _)| !fixed(origin)) {
            return Err(ConfiguredError::Origin(other.clone()));
        }
        let unreserved = self.resources.minus(&self.reserved.total())?;
        let mut all = self.reserved.clone();
        // What is left of a bundle clashes with nothing that was taken from it.
        let _ = all.add(Origin::Unreserved, &unreserved);
        Ok(all)
    }

    /// The capability of an agent that takes groups of launches.
    pub const TASK_GROUPS: &'static str = "task-groups";

    /// The capability of an agent that runs executors, and tasks inside them.
    pub const EXECUTORS: &'static str = "executors";

    /// The capability of an agent that tells preempted tasks from killed ones.
    pub const PREEMPTION: &'static str = "preemption";

    /// The capability of an agent that keeps volumes.
    pub const VOLUMES: &'static str = "volumes";
}
