//! Agents: what the master knows of each, and where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentCondition, AgentId, AgentInfo, AgentRecord, BatchId, FrameworkId, Incarnation, Registration, Resources,
    Secret, SecretHash, TaskId, Time,
};

use crate::{AgentPhase, SessionId};

/// One admitted agent, or one that is about to be.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) secret: SecretHash,
    /// What the registry has of it.
    pub(crate) info: Arc<AgentInfo>,
    /// Whether the registry marks it unreachable.
    pub(crate) marked: bool,
    /// The life of its status logs, once it has registered with this master.
    pub(crate) incarnation: Option<Incarnation>,
    /// Whether it has reported its tasks to this master.
    pub(crate) reported: bool,
    /// Whether the allocator knows it. Launches of other agents hold nothing.
    pub(crate) allocated: bool,
    /// Kills that wait for it to be active again.
    pub(crate) kills: BTreeMap<(FrameworkId, TaskId), Option<Duration>>,
    /// Frameworks of which updates came before the last page of a report; they are told after it.
    pub(crate) held_back: BTreeSet<FrameworkId>,
    /// How it said it is, on its present stream.
    pub(crate) condition: AgentCondition,
    /// What of it can be had as revocable, as it said on its present stream.
    pub(crate) revocable: Resources,
    pub(crate) state: AgentState,
}

/// An agent whose registration waits for a write.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) session: SessionId,
    pub(crate) registration: Registration,
    /// Its secret, at the first registration.
    pub(crate) secret: Option<Secret>,
}

/// A control stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) session: SessionId,
    /// When the agent last said something.
    pub(crate) heard: Time,
    /// The number of the last launch sent on this stream.
    pub(crate) sent: u64,
}

/// What has been seen of a report so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many tasks the report has had so far.
    pub(crate) tasks: u64,
    /// The launches reported.
    pub(crate) seen: BTreeSet<(FrameworkId, BatchId)>,
    /// Frameworks that are over and of which the agent has been told so.
    pub(crate) removed: BTreeSet<FrameworkId>,
    /// Launches that were unreachable and are back.
    pub(crate) back: BTreeSet<(FrameworkId, BatchId)>,
}

#[derive(Debug)]
pub(crate) enum AgentState {
    /// Its record is being written. `info` is what will be in it.
    Registering {
        /// Who waits; none when it has disconnected meanwhile.
        admission: Option<Admission>,
        /// What is being written.
        info: Arc<AgentInfo>,
        /// Whether it has never been admitted before.
        first: bool,
    },
    /// It is reporting its tasks.
    Recovering(Stream, Report),
    /// It gets offers made and launches sent.
    Active(Stream),
    /// Not connected, until [`crate::timers::Timer::AgentTimeout`].
    Disconnected,
    /// Its mark as unreachable is being written; who came back meanwhile waits.
    Departing(Option<Admission>),
    /// Marked unreachable.
    Unreachable,
}

/// A step of an agent that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent cannot go from {from} to {to}")]
pub(crate) struct IllegalAgentStep {
    from: &'static str,
    to: &'static str,
}

impl AgentState {
    fn name(&self) -> &'static str {
        match self {
            AgentState::Departing(_) => "departing",
            other => other.phase().as_str(),
        }
    }

    pub(crate) fn phase(&self) -> AgentPhase {
        match self {
            AgentState::Registering { .. } => AgentPhase::Registering,
            AgentState::Recovering(..) => AgentPhase::Recovering,
            AgentState::Active(_) => AgentPhase::Active,
            AgentState::Disconnected | AgentState::Departing(_) => AgentPhase::Disconnected,
            AgentState::Unreachable => AgentPhase::Unreachable,
        }
    }

    /// Enters `next` and gives back the state left: the one transition function of an agent.
    pub(crate) fn enter(&mut self, next: AgentState) -> Result<AgentState, IllegalAgentStep> {
        use AgentState::{Active, Departing, Disconnected, Recovering, Registering, Unreachable};
        let legal = matches!(
            (&*self, &next),
            (Disconnected | Unreachable | Registering { .. }, Registering { .. } | Recovering(..))
                | (Recovering(..), Active(_))
                | (Registering { .. } | Recovering(..) | Active(_), Disconnected)
                | (Disconnected, Departing(_))
                | (Departing(_), Unreachable)
        );
        if legal {
            Ok(std::mem::replace(self, next))
        } else {
            Err(IllegalAgentStep { from: self.name(), to: next.name() })
        }
    }
}

impl Agent {
    /// An agent as the registry has it.
    pub(crate) fn from_record(record: AgentRecord) -> Agent {
        let state = if record.unreachable { AgentState::Unreachable } else { AgentState::Disconnected };
        Agent {
            id: record.id,
            secret: record.secret,
            info: Arc::new(record.info),
            marked: record.unreachable,
            incarnation: None,
            reported: false,
            allocated: false,
            kills: BTreeMap::new(),
            held_back: BTreeSet::new(),
            condition: AgentCondition::default(),
            revocable: Resources::EMPTY,
            state,
        }
    }

    /// What the registry is to have of it.
    pub(crate) fn record(&self, info: &AgentInfo, unreachable: bool) -> AgentRecord {
        AgentRecord { id: self.id, secret: self.secret, info: info.clone(), unreachable }
    }

    /// The stream of a registered agent.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        match &self.state {
            AgentState::Recovering(stream, _) | AgentState::Active(stream) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.state {
            AgentState::Recovering(stream, _) | AgentState::Active(stream) => Some(stream),
            _ => None,
        }
    }

    /// The stream, once the agent takes launches and kills.
    pub(crate) fn active(&self) -> Option<SessionId> {
        match &self.state {
            AgentState::Active(stream) => Some(stream.session),
            _ => None,
        }
    }

    /// The connection behind the agent, registered or not yet.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match &self.state {
            AgentState::Registering { admission, .. } | AgentState::Departing(admission) => {
                admission.as_ref().map(|admission| admission.session)
            }
            _ => self.stream().map(|stream| stream.session),
        }
    }

    /// Whether a framework that subscribes now must wait for the agent's report.
    pub(crate) fn is_pending(&self) -> bool {
        !self.reported
            && match &self.state {
                AgentState::Registering { first, .. } => !first,
                AgentState::Unreachable => false,
                AgentState::Recovering(..)
                | AgentState::Active(_)
                | AgentState::Disconnected
                | AgentState::Departing(_) => true,
            }
    }
}

/// Most bytes of the host name and of the version.
const MAX_TEXT_BYTES: usize = 256;
/// Most attributes.
const MAX_ATTRIBUTES: usize = 128;
/// Most capabilities.
const MAX_CAPABILITIES: usize = 64;
/// Most layers of confinement.
const MAX_LAYERS: usize = 32;
/// Most kinds of resources.
const MAX_RESOURCES: usize = 64;

/// Why an agent's description was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AgentInfoError {
    #[error("{field} has {bytes} bytes; the limit is {MAX_TEXT_BYTES}")]
    Text { field: &'static str, bytes: usize },
    #[error("agent has {count} {field}; the limit is {limit}")]
    TooMany { field: &'static str, count: usize, limit: usize },
}

/// Checks what an agent says of itself against the limits.
pub(crate) fn validate_info(info: &AgentInfo) -> Result<(), AgentInfoError> {
    let counts = [
        ("attributes", info.attributes.len(), MAX_ATTRIBUTES),
        ("capabilities", info.capabilities.len(), MAX_CAPABILITIES),
        ("kinds of resources", info.resources.iter().count(), MAX_RESOURCES),
        ("layers of confinement", info.confinement.len(), MAX_LAYERS),
    ];
    if let Some((field, count, limit)) = counts.into_iter().find(|(_, count, limit)| count > limit) {
        return Err(AgentInfoError::TooMany { field, count, limit });
    }
    let attributes = info.attributes.iter().flat_map(|(name, value)| [("attribute", name), ("attribute", value)]);
    let capabilities = info.capabilities.iter().map(|name| ("capability", name));
    let layers = info.confinement.iter().flat_map(|layer| [("layer", &layer.name), ("layer", &layer.detail)]);
    let own = [("hostname", &info.hostname), ("version", &info.version)];
    let long = own
        .into_iter()
        .chain(attributes)
        .chain(capabilities)
        .chain(layers)
        .find(|(_, text)| text.len() > MAX_TEXT_BYTES);
    match long {
        Some((field, text)) => Err(AgentInfoError::Text { field, bytes: text.len() }),
        None => Ok(()),
    }
}
