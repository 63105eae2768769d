//! Where a subscription stands.

use std::collections::BTreeSet;

use holm_model::AgentId;

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no stream; the shell is to open one.
    Idle,
    /// The stream is open and the subscription has been sent.
    Subscribing,
    /// The master has confirmed.
    Subscribed {
        /// The number of this subscription, carried by every call.
        framework_epoch: u64,
        /// Agents whose tasks the master does not know yet.
        pending: BTreeSet<AgentId>,
        /// Agents that the master has told of: what they run, or that they are lost.
        told: BTreeSet<AgentId>,
        /// Whether everything the master knew at the time of the subscription has been told.
        settled: bool,
    },
    /// It is over and will not reconnect.
    Ended,
}

/// A step that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subscription cannot go from {from} to {to}")]
pub struct PhaseError {
    from: &'static str,
    to: &'static str,
}

impl Phase {
    /// Checks the step to `next`: the one transition function of a subscription.
    ///
    /// # Errors
    /// Both phases, when the step is not a legal one.
    pub fn transition(&self, next: Phase) -> Result<Phase, PhaseError> {
        use Phase::{Ended, Idle, Subscribed, Subscribing};
        match (self, &next) {
            (Idle, Subscribing) | (Subscribing, Subscribed { .. }) => Ok(next),
            (Subscribing | Subscribed { .. }, Idle) => Ok(next),
            (Idle | Subscribing | Subscribed { .. }, Ended) => Ok(next),
            _ => Err(PhaseError { from: self.name(), to: next.name() }),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Subscribing => "subscribing",
            Phase::Subscribed { .. } => "subscribed",
            Phase::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_final_and_confirmation_needs_a_request() {
        let subscribed =
            Phase::Subscribed { framework_epoch: 1, pending: BTreeSet::new(), told: BTreeSet::new(), settled: false };
        assert!(Phase::Idle.transition(subscribed.clone()).is_err());
        assert!(subscribed.transition(subscribed.clone()).is_err());
        assert!(Phase::Subscribing.transition(subscribed).is_ok());
        for next in [Phase::Idle, Phase::Subscribing, Phase::Ended] {
            assert!(Phase::Ended.transition(next).is_err());
        }
    }
}
