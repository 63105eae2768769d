//! `holm framework`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use holm_model::{FrameworkId, Role};

use super::OutputArgs;
use crate::values;

/// Arguments of `holm framework`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FrameworkArgs {
    #[command(subcommand)]
    pub(crate) command: FrameworkCommand,
}

const TEARDOWN_EXAMPLES: &str = "\
Example:
  holm framework teardown framework-3-1";

/// What to do with frameworks.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FrameworkCommand {
    /// Run a scheduler that is a component of the world holm:framework/scheduler
    Run(FrameworkRunArgs),
    /// List frameworks, as `holm frameworks` does
    Ls(super::FrameworksArgs),
    /// End a framework: kill its tasks and forget its registration
    #[command(after_help = TEARDOWN_EXAMPLES)]
    Teardown {
        /// Its id
        framework: FrameworkId,
        #[command(flatten)]
        output: OutputArgs,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  holm framework run scheduler.wasm --role analytics
  holm framework run tiles.wasm --role render --config tiles.conf --blob module=tile.wasm

Each --blob KEY=FILE pushes a file and adds the line KEY=sha256:... to the configuration. The command ends with the exit \
code that the scheduler asked for and prints its report; ctrl-C tears the framework down.";

/// Arguments of `holm framework run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct FrameworkRunArgs {
    /// The component
    #[arg(value_name = "SCHED.wasm")]
    pub(crate) component: PathBuf,
    /// The role in which it asks for resources
    #[arg(long, value_name = "ROLE", default_value = "default")]
    pub(crate) role: Role,
    /// File with the scheduler's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A file to push; the configuration gets the line KEY=DIGEST
    #[arg(long, value_name = "KEY=FILE", value_parser = values::key_value)]
    pub(crate) blob: Vec<(String, String)>,
    /// How long the framework's tasks outlive its connection [default: what the scheduler says]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) failover_timeout: Option<Duration>,
}
