//! `holm policy`.

#[cfg(feature = "policy")]
use std::path::PathBuf;
#[cfg(feature = "policy")]
use std::time::Duration;

use clap::{Args, Subcommand};
#[cfg(feature = "policy")]
use holm_model::Role;

use super::OutputArgs;

const EXAMPLES: &str = "\
Examples:
  holm policy show
  holm policy check strict.wasm --config priorities.conf
  holm policy check strict.wasm --config priorities.conf --role prod --role batch --role eng/backend --leaves 10000

docs/policies.md says how to write one.";

/// Arguments of `holm policy`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show whether the master has a policy, whether its order is in force, and why not
    Show(OutputArgs),
    /// Run a policy on a made-up cluster: show how it ranks, and what a call costs
    #[cfg(feature = "policy")]
    Check(PolicyCheckArgs),
}

/// How a policy is run.
#[cfg(feature = "policy")]
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyLimits {
    /// A file for the policy to make sense of
    #[arg(long = "policy-config", alias = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Fuel of one call of the policy: about one unit per Wasm instruction
    #[arg(long = "policy-fuel", alias = "fuel", value_name = "N", default_value = "200000000", value_parser = crate::values::fuel)]
    pub(crate) fuel: u64,
    /// Time of one call of the policy
    #[arg(long = "policy-time", alias = "time", value_name = "DURATION", default_value = "1s", value_parser = crate::values::duration)]
    pub(crate) time: Duration,
    /// Memory of the policy
    #[arg(long = "policy-memory", alias = "memory", value_name = "SIZE", default_value = "64MiB", value_parser = crate::values::size)]
    pub(crate) memory: u64,
}

/// Arguments of `holm policy check`.
#[cfg(feature = "policy")]
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyCheckArgs {
    /// The component
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) limits: PolicyLimits,
    /// Roles of the made-up cluster; may be repeated [default: a few]
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Vec<Role>,
    /// How many frameworks it has, over all roles
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) leaves: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
