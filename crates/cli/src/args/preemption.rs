//! When a master takes resources back.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// When resources are taken back from those who have them.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PreemptionArgs {
    /// Whether unmet guarantees of roles are met by taking from others, who are asked first: guarantees or off
    #[arg(long, value_name = "RULES", default_value = "guarantees")]
    pub(crate) preemption: PreemptionRules,
    /// Of whom batches lose their unstarted end when others have less than their fair share: off, connected (frameworks that
    /// can launch them again) or all (detached runs, too, whose tasks are then lost)
    #[arg(long, value_name = "WHOM", default_value_t = holm_masterd::ScaleDown::Connected)]
    pub(crate) scale_down: holm_masterd::ScaleDown,
    /// How long whoever is asked to give something back may choose what
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::values::duration)]
    pub(crate) preemption_deadline: Duration,
    /// How many slots may be taken in a minute
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub(crate) preemption_rate: u32,
}

/// Which rules may end tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreemptionRules {
    /// None.
    Off,
    /// Guarantees of roles.
    Guarantees,
}

impl PreemptionArgs {
    /// As the master takes it.
    pub(crate) fn options(&self) -> holm_masterd::PreemptionOptions {
        holm_masterd::PreemptionOptions {
            guarantees: self.preemption == PreemptionRules::Guarantees,
            scale_down: self.scale_down,
            deadline: self.preemption_deadline,
            rate: self.preemption_rate,
            ..holm_masterd::PreemptionOptions::default()
        }
    }
}
