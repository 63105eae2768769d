//! `holm explain`.

use clap::{Args, Subcommand};
use holm_model::{AgentId, DemandId, FrameworkId, Resources, Role};

use super::OutputArgs;

/// Arguments of `holm explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  holm explain role eng                          # every framework in eng or below it
  holm explain framework framework-1-2 --need \"cpus:4;mem:8GiB\"
  holm explain demand framework-1-2 nightly --agent agent-1-7
  holm explain role eng --output json | jq '.waiting[].everywhere'

For everyone who waits: the first thing that excludes each agent, in classes of agents with the same attributes, with the numbers \
of the agent that comes closest. docs/waiting.md says what to do about each.")]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    pub(crate) subject: ExplainSubject,
}

/// What is the same whatever is explained.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainOptions {
    /// Only with regard to this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<AgentId>,
    /// What if this were needed at one time on one agent [default: what the framework has said]
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) need: Option<Resources>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to explain.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ExplainSubject {
    /// Why the frameworks in a role or below it wait
    Role {
        /// Which role
        role: Role,
        #[command(flatten)]
        options: ExplainOptions,
    },
    /// Why a framework waits, in each of its roles and for each of its demands
    Framework {
        /// Its id
        framework: FrameworkId,
        #[command(flatten)]
        options: ExplainOptions,
    },
    /// Why a demand waits
    Demand {
        /// The framework's id
        framework: FrameworkId,
        /// The framework's name for the demand
        demand: DemandId,
        #[command(flatten)]
        options: ExplainOptions,
    },
}
