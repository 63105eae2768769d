//! Roles: lists, quotas, weights.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use holm_model::{Amount, ResourceName, Role, parse_amounts, parse_weight};

use super::OutputArgs;

/// A guarantee or a limit on the command line.
pub(crate) type Amounts = BTreeMap<ResourceName, Amount>;

/// `none`, or amounts such as `cpus:4;mem:8GiB`.
fn amounts(text: &str) -> Result<Amounts, String> {
    match text.trim() {
        "none" | "" => Ok(Amounts::new()),
        text => parse_amounts(text).map_err(|error| error.to_string()),
    }
}

fn weight(text: &str) -> Result<NonZeroU32, String> {
    parse_weight(text).map_err(|error| error.to_string())
}

/// Arguments of `holm roles`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  holm roles
  holm roles eng             # eng, what is above it and what is below it
  holm roles --output json | jq '.[] | {role, dominant_share, deserved_share}'

SHARE is the largest fraction the role and those below it hold of any resource, offers included; DESERVED is what weights, \
guarantees, limits and who asks give it. `holm explain role ROLE` says why a role waits.")]
pub(crate) struct RolesArgs {
    /// Only this role, those above it and those below it
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm quota`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuotaArgs {
    #[command(subcommand)]
    pub(crate) command: QuotaCommand,
}

/// How an update is made.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Only say what would change, who would be over a limit or short of a guarantee, and which offers would be rescinded
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Permit guarantees over what the cluster has, and of resources that no agent has
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const APPLY_HELP: &str = "\
Example of a file, as TOML (JSON has the same names; what a role's entry leaves out stays as it is, and so do roles that \
the file does not name):
  [eng]
  weight = 2
  guarantee = \"cpus:40;mem:80GiB\"
  limit = { cpus = 80, gpus = 0 }

  [\"eng/backend\"]
  guarantee = \"cpus:10\"
  limit = \"none\"

Examples:
  holm quota apply quotas.toml --dry-run
  holm quota apply - < quotas.json";

/// What to do with quotas.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Set what a role is guaranteed and what it may hold at most; what is not given stays as it is
    #[command(after_help = "\
Examples:
  holm quota set eng --guarantee \"cpus:40;mem:80GiB\" --limit cpus:80
  holm quota set eng/batch --limit \"cpus:10;gpus:0\" --dry-run
  holm quota set eng --limit none

A limit holds for the role and all roles below it together, offers included, and is never exceeded; a resource it does not \
name is not limited, one that is 0 may not be used. Nothing that runs is stopped by a new limit.")]
    Set {
        /// Which role
        role: Role,
        /// What it gets before anybody competes by share, such as "cpus:4;mem:8GiB"; none takes it away
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts, required_unless_present = "limit")]
        guarantee: Option<Amounts>,
        /// What it may hold at most, such as "cpus:8;gpus:0"; none takes it away
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts)]
        limit: Option<Amounts>,
        #[command(flatten)]
        update: UpdateArgs,
    },
    /// Show the quotas of all roles, or of one and of those above and below it
    #[command(after_help = "Examples:\n  holm quota show\n  holm quota show eng --output json")]
    Show(RolesArgs),
    /// Take a role's guarantee and limit away
    #[command(after_help = "Example:\n  holm quota rm eng/batch --dry-run")]
    Rm {
        /// Which role
        role: Role,
        #[command(flatten)]
        update: UpdateArgs,
    },
    /// Set quotas and weights of many roles from a file: all of them or none
    #[command(after_help = APPLY_HELP)]
    Apply {
        /// A TOML or JSON file, or - for stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        update: UpdateArgs,
    },
}

/// Arguments of `holm weight`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WeightArgs {
    #[command(subcommand)]
    pub(crate) command: WeightCommand,
}

/// What to do with weights.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WeightCommand {
    /// Set a role's weight among its siblings; offers that are out stay out
    #[command(after_help = "Examples:\n  holm weight set eng 2\n  holm weight set eng/batch 0.5 --dry-run")]
    Set {
        /// Which role
        role: Role,
        /// Its weight, from 0.001 to 1000; who has none has 1
        #[arg(value_parser = weight)]
        weight: NonZeroU32,
        #[command(flatten)]
        update: UpdateArgs,
    },
    /// Show the weights of all roles, or of one and of those above and below it
    #[command(after_help = "Examples:\n  holm weight show\n  holm weight show eng")]
    Show(RolesArgs),
}
