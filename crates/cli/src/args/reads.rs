//! The commands that ask, and those that act on one thing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use holm_model::{Digest, FrameworkId, Role, TaskId};

use super::OutputArgs;
use crate::values::{self, SandboxPath};

/// Arguments of the lists that have no filter.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm frameworks`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Examples:\n  holm frameworks\n  holm frameworks --all --output json")]
pub(crate) struct FrameworksArgs {
    /// Those that have ended, too
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm offers`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Examples:\n  holm offers\n  holm offers --framework framework-1-2")]
pub(crate) struct OffersArgs {
    /// Only those to this framework
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm demands`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  holm demands\n  holm demands --role eng/batch --output json")]
pub(crate) struct DemandsArgs {
    /// Only those of this framework
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    /// Only those in this role
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm ps`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  holm ps\n  holm ps --all --role render\n  holm ps --state FAILED --output json")]
pub(crate) struct PsArgs {
    /// Only this task, or the tasks of this array
    pub(crate) task: Option<TaskId>,
    /// Tasks that have ended, too
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Only tasks of this framework
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    /// Only tasks in this role
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    /// Only tasks in this state, such as RUNNING or FAILED; may be repeated
    #[arg(long, value_name = "STATE", value_parser = values::task_state, ignore_case = true)]
    pub(crate) state: Vec<holm_model::TaskState>,
    /// How many at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::limit)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm logs`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  holm logs hello\n  holm logs -f render/17\n  holm logs render   # all tasks of the array"
)]
pub(crate) struct LogsArgs {
    /// The task, or an array of tasks
    pub(crate) task: TaskId,
    /// Go on until the task has ended
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// The framework, where several have a task of this name
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm kill`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  holm kill hello\n  holm kill render/17 --grace 0s\n  holm kill render     # all tasks of the array"
)]
pub(crate) struct KillArgs {
    /// The task, or an array of tasks
    pub(crate) task: TaskId,
    /// How long it may take to end by itself, at most 1h [default: the agent's, 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::grace)]
    pub(crate) grace: Option<Duration>,
    /// The framework, where several have a task of this name
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm ls`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  holm ls report:\n  holm ls render/17:out")]
pub(crate) struct ListArgs {
    /// The task and a directory of its sandbox
    #[arg(value_name = "TASK:PATH")]
    pub(crate) from: SandboxPath,
    /// The framework, where several have a task of this name
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `holm cp`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  holm cp report:result.csv .\n  holm cp report:result.csv - | head")]
pub(crate) struct CopyArgs {
    /// The task and a file of its sandbox
    #[arg(value_name = "TASK:PATH")]
    pub(crate) from: SandboxPath,
    /// Where to: a file, a directory, or - for stdout
    #[arg(value_name = "HOST")]
    pub(crate) to: PathBuf,
    /// The framework, where several have a task of this name
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<FrameworkId>,
}

/// Arguments of `holm blob`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BlobArgs {
    #[command(subcommand)]
    pub(crate) command: BlobCommand,
}

/// What to do with blobs.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Store files and print their digests
    #[command(after_help = "Example:\n  holm blob push app.wasm data.csv")]
    Push {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List blobs
    #[command(after_help = "Example:\n  holm blob ls")]
    Ls {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove blobs
    #[command(
        after_help = "Example:\n  holm blob rm sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    Rm {
        /// The digests
        #[arg(required = true, value_name = "DIGEST")]
        digests: Vec<Digest>,
        #[command(flatten)]
        output: OutputArgs,
    },
}
