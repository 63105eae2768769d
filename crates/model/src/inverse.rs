//! Inverse offers: the cluster asks a framework to give something back, and the framework chooses what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::{AgentId, BatchId, FrameworkId, InverseOfferId, Resources, Role, TaskRange};

/// Most runs of tasks that one answer to an inverse offer may name.
pub const MAX_GIVEN_SPANS: usize = 4096;

/// A request to give resources back, made before anything is taken by force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InverseOffer {
    /// Its id; it is answered at most once and dies with the master's epoch.
    pub id: InverseOfferId,
    /// Of whom.
    pub framework: FrameworkId,
    /// Held in which of its roles.
    pub role: Role,
    /// Held where; none is anywhere.
    pub agent: Option<AgentId>,
    /// How much.
    pub resources: Resources,
    /// How long the framework has, from when the offer was made. Then the master takes what is still missing.
    pub deadline: Duration,
    /// Why.
    pub reason: InverseReason,
    /// For which role, where it is for somebody.
    pub beneficiary: Option<Role>,
    /// Which rule, for people.
    pub message: Arc<str>,
}

/// Why resources are asked back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InverseReason {
    /// Somebody with a guarantee or a higher priority waits for them.
    Preemption,
    /// The role holds more than its fair share, and somebody below its own waits.
    ScaleDown,
    /// The agent is to be taken out of service.
    Maintenance,
}

impl InverseReason {
    /// Every reason.
    pub const ALL: [InverseReason; 3] =
        [InverseReason::Preemption, InverseReason::ScaleDown, InverseReason::Maintenance];

    /// The reason in lower case, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            InverseReason::Preemption => "preemption",
            InverseReason::ScaleDown => "scale-down",
            InverseReason::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for InverseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no reason of an inverse offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reason of an inverse offer; expected preemption, scale-down or maintenance")]
pub struct ParseInverseReasonError(String);

impl FromStr for InverseReason {
    type Err = ParseInverseReasonError;

    fn from_str(text: &str) -> Result<InverseReason, ParseInverseReasonError> {
        let found = InverseReason::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| ParseInverseReasonError(text.chars().take(64).collect()))
    }
}

/// Neighbouring tasks of one launch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskSpan {
    /// The launch.
    pub batch: BatchId,
    /// Which of its tasks; of an array by index.
    pub tasks: TaskRange,
}

impl fmt::Display for TaskSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tasks {
            TaskRange::Single => write!(f, "{}", self.batch),
            TaskRange::Array { first, count: 1 } => write!(f, "{}/{first}", self.batch),
            TaskRange::Array { first, count } => {
                write!(f, "{}/{first}..{}", self.batch, first.saturating_add(count.saturating_sub(1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_back_what_it_prints() {
        for reason in InverseReason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert!("eviction".parse::<InverseReason>().is_err());
    }

    #[test]
    fn a_span_shows_its_first_and_last_index() {
        let span = |tasks| TaskSpan { batch: "tiles".parse().unwrap(), tasks }.to_string();
        assert_eq!(span(TaskRange::Single), "tiles");
        assert_eq!(span(TaskRange::Array { first: 7, count: 1 }), "tiles/7");
        assert_eq!(span(TaskRange::Array { first: 7, count: 3 }), "tiles/7..9");
    }
}
