//! What an operator may choose about preemption.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holm_allocator::preemption;

/// Of whom unstarted tasks are taken for an even share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScaleDown {
    /// Of nobody.
    Off,
    /// Of frameworks that are connected: they learn of it at once and can launch those tasks again.
    #[default]
    Connected,
    /// Also of frameworks that are away. Nobody launches the tasks of a detached run again.
    All,
}

/// A text that names no way to scale down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scale-down {0:?} is not off, connected or all")]
pub struct ParseScaleDownError(String);

impl ScaleDown {
    /// The way in lower case, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            ScaleDown::Off => "off",
            ScaleDown::Connected => "connected",
            ScaleDown::All => "all",
        }
    }
}

impl fmt::Display for ScaleDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ScaleDown {
    type Err = ParseScaleDownError;

    fn from_str(text: &str) -> Result<ScaleDown, ParseScaleDownError> {
        let found = [ScaleDown::Off, ScaleDown::Connected, ScaleDown::All].into_iter().find(|way| way.as_str() == text);
        found.ok_or_else(|| ParseScaleDownError(text.chars().take(64).collect()))
    }
}

/// When and how resources are taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreemptionOptions {
    /// Whether unmet guarantees are met by taking from others.
    pub guarantees: bool,
    /// Whether a higher priority takes from lower ones of the same role.
    pub priorities: bool,
    /// Of whom unstarted tasks are taken for an even share.
    pub scale_down: ScaleDown,
    /// How much higher a priority must be.
    pub delta: u32,
    /// How long a task that has started is safe.
    pub protected: Duration,
    /// How long whoever is asked has to choose what it gives.
    pub deadline: Duration,
    /// How long a task has to end by itself when it is taken.
    pub grace: Duration,
    /// Slots that are taken in a minute, in the whole cluster.
    pub rate: u32,
    /// Slots with running tasks that are taken of one framework in a minute.
    pub budget: u32,
}

impl Default for PreemptionOptions {
    fn default() -> PreemptionOptions {
        PreemptionOptions {
            guarantees: true,
            priorities: false,
            scale_down: ScaleDown::Connected,
            delta: 10,
            protected: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            rate: 600,
            budget: 120,
        }
    }
}

impl PreemptionOptions {
    /// Nothing is ever taken.
    pub fn off() -> PreemptionOptions {
        PreemptionOptions { guarantees: false, scale_down: ScaleDown::Off, ..PreemptionOptions::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.guarantees || self.priorities || self.scale_down != ScaleDown::Off
    }

    pub(super) fn rules(&self) -> preemption::Options {
        preemption::Options {
            guarantees: self.guarantees,
            priorities: self.priorities,
            shares: self.scale_down != ScaleDown::Off,
            delta: self.delta,
            protected: self.protected,
        }
    }
}
