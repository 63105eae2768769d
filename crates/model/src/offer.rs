//! Offers, and what it means to refuse one.

use std::sync::Arc;
use std::time::Duration;

use crate::{AgentId, Attributes, DemandId, FrameworkId, GangId, OfferId, Origin, Portions, Resources, Role};

/// How long refused resources stay away from the framework that refused them, unless it says otherwise.
pub const DEFAULT_REFUSE: Duration = Duration::from_secs(5);

/// Longest time a refusal is remembered: 365 days.
pub const MAX_REFUSE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Resources of one agent, held for one framework in one role until it accepts, declines, or the offer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The offer's id; it can be used once.
    pub id: OfferId,
    /// To whom.
    pub framework: FrameworkId,
    /// In which of its roles.
    pub role: Role,
    /// Where.
    pub agent: AgentId,
    /// The agent's host name.
    pub hostname: Arc<str>,
    /// What, whatever it is tied to.
    pub resources: Resources,
    /// The same by origin.
    pub portions: Portions,
    /// The agent's attributes.
    pub attributes: Attributes,
    /// The demand that it serves; none for an offer of whatever is free.
    pub demand: Option<DemandId>,
    /// The offers of one gang are accepted all or none: a launch on one waits until each has one, and when one is declined
    /// or the time is over, none is launched.
    pub gang: Option<GangId>,
}

impl Offer {
    /// Whether it is lent: for launches marked `revocable`, which may have to give it back at any time. An offer is wholly so or
    /// not at all.
    pub fn is_revocable(&self) -> bool {
        self.portions.iter().any(|(origin, _)| *origin == Origin::Revocable)
    }

    /// What launches can take of it without naming a volume.
    pub fn usable(&self) -> Resources {
        self.portions.filtered(|origin| !matches!(origin, Origin::Volume(..))).total()
    }
}

/// For how long a framework does not want to see the resources it refused. Zero leaves no filter behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal(Duration);

impl Refusal {
    /// No filter: the same resources may be offered again at once.
    pub const NONE: Refusal = Refusal(Duration::ZERO);

    /// A refusal of `duration`, capped at [`MAX_REFUSE`].
    pub fn new(duration: Duration) -> Refusal {
        Refusal(duration.min(MAX_REFUSE))
    }

    /// Its length; zero means none.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Refusal {
    fn default() -> Refusal {
        Refusal(DEFAULT_REFUSE)
    }
}
