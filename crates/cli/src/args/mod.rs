//! The command line: one file per group of commands.

#[cfg(feature = "full")]
mod cluster;
mod daemons;
#[cfg(feature = "full")]
mod explain;
#[cfg(feature = "full")]
mod framework;
#[cfg(feature = "full")]
mod group;
mod metering;
#[cfg(feature = "full")]
mod network;
#[cfg(feature = "full")]
mod policy;
#[cfg(feature = "full")]
mod preemption;
#[cfg(feature = "full")]
mod reads;
#[cfg(feature = "full")]
mod reserve;
#[cfg(feature = "full")]
mod roles;
#[cfg(feature = "full")]
mod run;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

#[cfg(feature = "full")]
pub(crate) use cluster::{DemoArgs, UpArgs};
#[cfg(feature = "full")]
pub(crate) use daemons::MasterArgs;
pub(crate) use daemons::{AgentArgs, CompileWorkerArgs, OnOff, Profile, RunnerArgs, RunnerProbeArgs};
#[cfg(feature = "full")]
pub(crate) use explain::{ExplainArgs, ExplainOptions, ExplainSubject};
#[cfg(feature = "full")]
pub(crate) use framework::{FrameworkArgs, FrameworkCommand, FrameworkRunArgs};
#[cfg(feature = "full")]
pub(crate) use group::{GroupArgs, read_group};
#[cfg(feature = "full")]
pub(crate) use network::PortArg;
#[cfg(feature = "full")]
pub(crate) use policy::{PolicyArgs, PolicyCommand};
#[cfg(feature = "policy")]
pub(crate) use policy::{PolicyCheckArgs, PolicyLimits};
#[cfg(feature = "full")]
pub(crate) use reads::{
    BlobArgs, BlobCommand, CopyArgs, DemandsArgs, FrameworksArgs, KillArgs, ListArgs, LogsArgs, OffersArgs, PlainArgs,
    PsArgs,
};
#[cfg(feature = "full")]
pub(crate) use reserve::{ChangeArgs, ReserveArgs, UnreserveArgs, VolumeArgs, VolumeCommand};
#[cfg(feature = "full")]
pub(crate) use roles::{Amounts, QuotaArgs, QuotaCommand, RolesArgs, UpdateArgs, WeightArgs, WeightCommand};
#[cfg(feature = "full")]
pub(crate) use run::{DirectoryArg, PlaceArgs, RunArgs};

const ABOUT: &str = "A cluster manager whose tasks are WebAssembly";
const LONG_ABOUT: &str = "A cluster manager in the line of Mesos whose tasks are WebAssembly.\n\n\
    The master offers the resources of its agents; frameworks accept or decline; agents run the tasks that frameworks \
    launch, as sandboxed Wasm under limits.";
const EXAMPLES: &str = "\
Start here:
  holm demo                    # a cluster, two frameworks and a picture, in one command
  holm up                      # a cluster on this machine, until ctrl-C
  holm run app.wasm            # a Wasm program as a task of it

Exit codes: 0 success, 1 failure, 2 wrong command line; `holm run` ends with its task's own.";

/// Commands that start a master of their own and ask no other.
const WITHOUT_MASTER: [&str; 3] = ["up", "demo", "master"];

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// The command line; the option that names masters shows only where it means something.
fn command() -> clap::Command {
    let command = Cli::command();
    let Some(master) = command.get_arguments().find(|arg| arg.get_id() == "master") else { return command };
    let hidden = master.clone().hide(true);
    let names = WITHOUT_MASTER.iter().filter(|name| command.find_subcommand(name).is_some());
    names.fold(command.clone(), |command, name| {
        let hidden = hidden.clone();
        command.mut_subcommand(name, move |subcommand| subcommand.arg(hidden))
    })
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "holm", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES, infer_long_args = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Masters, in the order in which to try them; the one that leads is found
    #[arg(
        long,
        global = true,
        env = "HOLM_MASTER",
        hide_env_values = true,
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        default_value = "127.0.0.1:5050"
    )]
    pub(crate) master: Vec<String>,
    /// File with the operator's token: what a master asks for, and what everybody else shows it. The token of a cluster that
    /// `holm up` started is found without
    #[arg(long, global = true, env = "HOLM_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Form of the log on stderr; HOLM_LOG filters it, for example HOLM_LOG=debug
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// How answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The choice of a form, for commands that answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the answer
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Text, value_name = "FORM")]
    pub(crate) output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a local cluster until ctrl-C
    #[cfg(feature = "full")]
    Up(UpArgs),
    /// Show what a cluster does: a word count and a picture, at the same time
    #[cfg(feature = "full")]
    Demo(DemoArgs),
    /// Run a Wasm program as a task, or as an array of tasks
    #[cfg(feature = "full")]
    Run(RunArgs),
    /// Run several Wasm programs together or not at all
    #[cfg(feature = "full")]
    Group(GroupArgs),
    /// List tasks
    #[cfg(feature = "full")]
    Ps(PsArgs),
    /// Show what tasks wrote
    #[cfg(feature = "full")]
    Logs(LogsArgs),
    /// Stop a task
    #[cfg(feature = "full")]
    Kill(KillArgs),
    /// List files of a task's sandbox
    #[cfg(feature = "full")]
    Ls(ListArgs),
    /// Copy a file out of a task's sandbox
    #[cfg(feature = "full")]
    Cp(CopyArgs),
    /// Push, list and remove blobs
    #[cfg(feature = "full")]
    Blob(BlobArgs),
    /// Run a scheduler, or end a framework
    #[command(
        after_help = "Examples:\n  holm framework run scheduler.wasm --role analytics\n  holm framework ls --all"
    )]
    #[cfg(feature = "full")]
    Framework(FrameworkArgs),
    /// List agents
    #[command(after_help = "Examples:\n  holm agents\n  holm agents --output json | jq .")]
    #[cfg(feature = "full")]
    Agents(PlainArgs),
    /// List frameworks
    #[cfg(feature = "full")]
    Frameworks(FrameworksArgs),
    /// Show the tree of roles: shares, weights, quotas
    #[cfg(feature = "full")]
    Roles(RolesArgs),
    /// Set and show what roles are guaranteed and what they may hold at most
    #[cfg(feature = "full")]
    Quota(QuotaArgs),
    /// Say why a role, a framework or a demand waits
    #[cfg(feature = "full")]
    Explain(ExplainArgs),
    /// Set and show the weights of roles
    #[cfg(feature = "full")]
    Weight(WeightArgs),
    /// Set resources of an agent aside for a role
    #[cfg(feature = "full")]
    Reserve(ReserveArgs),
    /// End a reservation, in whole or in part
    #[cfg(feature = "full")]
    Unreserve(UnreserveArgs),
    /// Make, remove and list volumes: disk that outlives tasks
    #[cfg(feature = "full")]
    Volume(VolumeArgs),
    /// List offers that are out
    #[cfg(feature = "full")]
    Offers(OffersArgs),
    /// Show or try a policy that orders roles
    #[cfg(feature = "full")]
    Policy(PolicyArgs),
    /// List what was asked back or taken, for whom and by which rule
    #[command(after_help = "Examples:\n  holm preemptions\n  holm preemptions --output json | jq .")]
    #[cfg(feature = "full")]
    Preemptions(PlainArgs),
    /// List what frameworks wait for, since when, and where it would fit
    #[cfg(feature = "full")]
    Demands(DemandsArgs),
    /// Run a master
    #[cfg(feature = "full")]
    Master(MasterArgs),
    /// Run an agent
    Agent(AgentArgs),
    /// Run tasks of one framework (started by agents)
    #[command(hide = true)]
    Runner(RunnerArgs),
    /// Try what somebody would who had taken over a runner (for tests)
    #[command(hide = true)]
    RunnerProbe(RunnerProbeArgs),
    /// Compile one module (started by agents)
    #[command(hide = true)]
    CompileWorker(CompileWorkerArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(name: &str) -> String {
        let error = command().try_get_matches_from(["holm", name, "--help"]).unwrap_err();
        error.to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn masters_are_named_where_a_command_asks_one() {
        for name in WITHOUT_MASTER {
            assert!(!help(name).contains("--master <"), "{}", help(name));
        }
        assert!(help("ps").contains("--master <"));
        let matches = command().try_get_matches_from(["holm", "--master", "a:1,b:2", "ps"]).unwrap();
        assert_eq!(Cli::from_arg_matches(&matches).unwrap().global.master, ["a:1", "b:2"]);
        let matches = command().try_get_matches_from(["holm", "up"]).unwrap();
        assert_eq!(Cli::from_arg_matches(&matches).unwrap().global.master, ["127.0.0.1:5050"]);
    }
}
