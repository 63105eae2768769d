//! Frameworks: what the master knows of each, and where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_model::{
    AgentId, Demand, FrameworkId, FrameworkInfo, FrameworkRecord, OfferId, Role, RoleOptions, Secret, SecretHash, Time,
};

use crate::{FrameworkPhase, RequestId, SessionId};

/// One framework: live, or over and still remembered.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) secret: SecretHash,
    /// What the registry has of it.
    pub(crate) info: Arc<FrameworkInfo>,
    /// Which offers it takes in its roles, as of its subscription or since.
    pub(crate) role_options: BTreeMap<Role, RoleOptions>,
    /// What it wants, in the roles in which it has said so in this subscription.
    pub(crate) demands: BTreeMap<Role, Vec<Demand>>,
    /// How many subscriptions it has had with this master.
    pub(crate) subscriptions: u64,
    /// How many of its tasks are not over.
    pub(crate) live_tasks: u64,
    /// The offers it holds.
    pub(crate) offers: BTreeSet<OfferId>,
    /// How often offers timed out since it last answered one; those that time out together count once.
    pub(crate) unanswered: u32,
    /// When that was last.
    pub(crate) unanswered_at: Option<Time>,
    /// Whether it has been made no offer since it subscribed or asked for offers again.
    pub(crate) hungry: bool,
    /// When it last said what it wants, if it ever has in this subscription.
    pub(crate) stated_at: Option<Time>,
    pub(crate) state: FrameworkState,
}

/// Who waits for a subscription to be written.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) session: SessionId,
    pub(crate) info: FrameworkInfo,
    pub(crate) suppressed: Vec<Role>,
    /// Its secret, at the first registration.
    pub(crate) secret: Option<Secret>,
}

/// A subscription that stands.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) session: SessionId,
    /// Agents of which the framework was told that they have not reported yet.
    pub(crate) pending: BTreeSet<AgentId>,
}

#[derive(Debug)]
pub(crate) enum FrameworkState {
    /// Its record is being written.
    Registering {
        /// Who waits; none when it has disconnected meanwhile.
        subscriber: Option<Subscriber>,
        /// What is being written.
        info: Arc<FrameworkInfo>,
        /// Whether it has never been registered before.
        first: bool,
    },
    /// Subscribed.
    Connected(Subscription),
    /// Not connected, until [`crate::timers::Timer::FrameworkTimeout`].
    Disconnected,
    /// Its end is being written.
    Completing(Ending),
    /// Over.
    Completed,
}

/// Who is to be told when a framework has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The framework, if it is connected.
    pub(crate) session: Option<SessionId>,
    /// Why, for people.
    pub(crate) why: Arc<str>,
    /// Operators who asked for it.
    pub(crate) requests: Vec<RequestId>,
}

/// A step of a framework that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a framework cannot go from {from} to {to}")]
pub(crate) struct IllegalFrameworkStep {
    from: FrameworkPhase,
    to: FrameworkPhase,
}

impl FrameworkState {
    pub(crate) fn phase(&self) -> FrameworkPhase {
        match self {
            FrameworkState::Registering { .. } => FrameworkPhase::Registering,
            FrameworkState::Connected(_) => FrameworkPhase::Connected,
            FrameworkState::Disconnected => FrameworkPhase::Disconnected,
            FrameworkState::Completing(_) => FrameworkPhase::Completing,
            FrameworkState::Completed => FrameworkPhase::Completed,
        }
    }

    /// Enters `next` and gives back the state left: the one transition function of a framework.
    pub(crate) fn enter(&mut self, next: FrameworkState) -> Result<FrameworkState, IllegalFrameworkStep> {
        use FrameworkState::{Completed, Completing, Connected, Disconnected, Registering};
        let legal = matches!(
            (&*self, &next),
            (Registering { .. } | Disconnected, Registering { .. } | Connected(_))
                | (Registering { .. } | Connected(_), Disconnected)
                | (Connected(_) | Disconnected, Completing(_))
                | (Completing(_), Completed)
        );
        if legal {
            Ok(std::mem::replace(self, next))
        } else {
            Err(IllegalFrameworkStep { from: self.phase(), to: next.phase() })
        }
    }
}

impl Framework {
    /// A framework as the registry has it.
    pub(crate) fn from_record(record: FrameworkRecord) -> Framework {
        let state = if record.completed { FrameworkState::Completed } else { FrameworkState::Disconnected };
        Framework {
            id: record.id,
            secret: record.secret,
            info: Arc::new(record.info),
            role_options: BTreeMap::new(),
            demands: BTreeMap::new(),
            subscriptions: 0,
            live_tasks: 0,
            offers: BTreeSet::new(),
            unanswered: 0,
            unanswered_at: None,
            hungry: false,
            stated_at: None,
            state,
        }
    }

    /// What the registry is to have of it.
    pub(crate) fn record(&self, info: &FrameworkInfo, completed: bool) -> FrameworkRecord {
        FrameworkRecord { id: self.id, secret: self.secret, info: info.clone(), completed }
    }

    /// The session of a subscription that stands.
    pub(crate) fn connected(&self) -> Option<SessionId> {
        match &self.state {
            FrameworkState::Connected(subscription) => Some(subscription.session),
            _ => None,
        }
    }

    /// The connection behind the framework, subscribed or not.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match &self.state {
            FrameworkState::Registering { subscriber, .. } => subscriber.as_ref().map(|subscriber| subscriber.session),
            FrameworkState::Connected(subscription) => Some(subscription.session),
            FrameworkState::Completing(ending) => ending.session,
            FrameworkState::Disconnected | FrameworkState::Completed => None,
        }
    }

    /// Whether its tasks may still run.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, FrameworkState::Completed)
    }
}
