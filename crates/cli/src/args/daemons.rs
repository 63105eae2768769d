//! The daemons, and the processes that agents start.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use holm_agentd::{Attempt, Confinement, EngineKind, Layer, RunnerUsers};
use holm_model::{Isolation, NetPattern, ParseNetworkError, Portions};

#[cfg(feature = "full")]
const MASTER_EXAMPLES: &str = "\
Examples:
  holm master --listen 127.0.0.1:5050 --store /var/lib/holm/master
  holm master --listen 0.0.0.0:5050 --store /var/lib/holm/master --token-file /etc/holm/token
  holm master --store /var/lib/holm/master --policy strict.wasm --policy-config priorities.conf";

/// Arguments of `holm master`.
#[cfg(feature = "full")]
#[derive(Clone, Debug, Args)]
#[command(after_help = MASTER_EXAMPLES)]
pub(crate) struct MasterArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5050")]
    pub(crate) listen: String,
    /// The data directory: registry and blobs
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,
    /// Take over a data directory that was copied from elsewhere; only when the original is gone for good
    #[arg(long)]
    pub(crate) adopt: bool,
    #[cfg(feature = "policy")]
    #[command(flatten)]
    pub(crate) policy: MasterPolicyArgs,
    #[command(flatten)]
    pub(crate) preemption: super::preemption::PreemptionArgs,
    /// Write the address the master listens on into this file once it does
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) address_file: Option<PathBuf>,
}

/// The policy of a master.
#[cfg(feature = "policy")]
#[derive(Clone, Debug, Args)]
pub(crate) struct MasterPolicyArgs {
    /// A component of the world holm:policy/policy that says who is served first [default: fair sharing alone]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: super::PolicyLimits,
}

const AGENT_EXAMPLES: &str = "\
Examples:
  holm agent --master 10.0.0.1:5050 --dir /var/lib/holm/agent
  holm agent --master 10.0.0.1:5050 --dir /var/lib/holm/agent --sandbox-keep 10m --disk-pressure 20GiB
  holm agent --dir /var/lib/holm/agent --check
  holm agent --master 10.0.0.1:5050 --dir /var/lib/holm/agent --isolation task --require-confinement all
  holm agent --master a:5050,b:5050 --dir /var/lib/holm/agent --attributes \"rack:a;disk:ssd\" \\
      --resources \"cpus:4;mem:8GiB;disk:20GiB;ports:[31000-32000];gpus:1\"
  holm agent --master a:5050 --dir /var/lib/holm/agent \\
      --resources \"cpus:4;mem:8GiB;cpus(eng):2;mem(eng):2GiB;disk(eng/db,rack=a):10GiB\"
  holm agent --master a:5050 --dir /var/lib/holm/agent --allow-net '*:443' --allow-net 10.0.0.0/8:5432
  holm agent --master a:5050 --dir /data/holm --profile edge
  holm agent --master a:5050 --dir /var/lib/holm/agent --revocable on --revocable-margin 20%

Without --resources an agent offers what the machine, its affinity mask and its cgroup allow, less a reserve: a tenth of \
the memory (at least 128 MiB, at most 2 GiB) and a tenth of the free disk.

An agent that is told to stop leaves its tasks running, so that it can be replaced by a newer one; the next agent on the \
same directory takes them over within 15 minutes. --end-tasks ends them instead.";

/// Arguments of `holm agent`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AGENT_EXAMPLES)]
pub(crate) struct AgentArgs {
    /// The data directory: identity, checkpoint, sandboxes, cache
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// What to offer; what has a role in parentheses is reserved for it until the agent is restarted without [default: what the
    /// machine allows, less a reserve]
    #[arg(long, value_name = "SPEC", value_parser = Portions::parse_configured)]
    pub(crate) resources: Option<Portions>,
    /// Facts about the agent, such as "rack:a;arch:x86_64"
    #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true)]
    pub(crate) attributes: String,
    /// A directory below which tasks may open directories, read-only unless it ends in :rw; may be repeated
    #[arg(long, value_name = "PATH[:rw]")]
    pub(crate) allow: Vec<String>,
    /// What tasks may be granted on the network: HOST:PORTS or udp:HOST:PORTS as for holm run, or "none"; may be repeated.
    /// Private addresses, loopback, link-local and this host open only to an address or network given here [default: *:* and
    /// udp:*:*, the public internet]
    #[arg(long, value_name = "PATTERN", value_parser = allowed_net)]
    pub(crate) allow_net: Vec<AllowedNet>,
    /// The address on which tasks listen that are to be reached from elsewhere [default: the one that faces the master]
    #[arg(long, value_name = "ADDR")]
    pub(crate) task_address: Option<std::net::IpAddr>,
    /// Take over a data directory that was copied from elsewhere; only when the original is gone for good
    #[arg(long)]
    pub(crate) adopt: bool,
    /// End all tasks when the agent is told to stop
    #[arg(long)]
    pub(crate) end_tasks: bool,
    /// What to be tuned for; options below that are given win over the profile
    #[arg(long, value_enum, default_value_t = Profile::Server, value_name = "NAME")]
    pub(crate) profile: Profile,
    /// How guests run [default: native where there is a compiler for the machine, else pulley]
    #[arg(long, value_enum, value_name = "KIND", env = "HOLM_ENGINE", hide_env_values = true)]
    pub(crate) engine: Option<EngineArg>,
    /// Modules compiled at a time; with more than one, no framework has them all [default: 2; edge: 1]
    #[arg(long, value_name = "N")]
    pub(crate) compile_workers: Option<usize>,
    /// Memory that one compilation may take [default: 4GiB; edge: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::values::size)]
    pub(crate) compile_memory: Option<u64>,
    /// CPU time that one compilation may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = crate::values::duration)]
    pub(crate) compile_cpu: Duration,
    /// How long one compilation may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = crate::values::duration)]
    pub(crate) compile_time: Duration,
    /// Threads that run guests, per framework [default: one per core offered]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Most tasks in one runner process; the next go to another [default: what address space and maps allow; edge: 64]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) max_tasks: usize,
    /// Most runner processes at a time; what needs one more waits
    #[arg(long, value_name = "N", default_value_t = holm_agentd::MAX_RUNNERS, hide_short_help = true)]
    pub(crate) max_runners: usize,
    /// Which tasks share a process: none (task; an array counts as one), those of one framework, or all of the agent's
    #[arg(long, value_name = "task|framework|agent", default_value = "framework")]
    pub(crate) isolation: Isolation,
    /// Users that runners become, one each: FIRST-LAST, one NAME or UID for all, or "same" for the agent's own [default:
    /// 1879048192-1879113727 where the agent is root]
    #[arg(long, value_name = "USERS", hide_short_help = true)]
    pub(crate) runner_users: Option<RunnerUsers>,
    /// Group of those users, which must be able to write where --allow says :rw [default: the number of the first user]
    #[arg(long, value_name = "GROUP", hide_short_help = true, value_parser = holm_agentd::runner_group)]
    pub(crate) runner_group: Option<u32>,
    /// Refuse to start without these layers of confinement: a list of user, no-new-privs, capabilities, rlimits, landlock,
    /// seccomp, cgroup; or all
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', hide_short_help = true)]
    pub(crate) require_confinement: Vec<String>,
    /// Leave out these layers of confinement, to find out which one is in the way
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', hide_short_help = true)]
    pub(crate) without_confinement: Vec<Layer>,
    /// Show how runners would be confined here, and end
    #[arg(long)]
    pub(crate) check: bool,
    /// How much output of tasks is kept, per framework [default: 256MiB; edge: 32MiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::values::size)]
    pub(crate) log_size: Option<u64>,
    /// Memory kept back for the agent and for what its runners need beyond their tasks; while they take more, nothing is
    /// offered [default: a tenth of the machine's, at least 128MiB, at most 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::values::size)]
    pub(crate) reserve: Option<u64>,
    /// Lend what tasks hold and do not use to revocable tasks, and take it back when it is needed
    #[arg(long, value_enum, value_name = "off|on", default_value_t = OnOff::Off)]
    pub(crate) revocable: OnOff,
    /// The part of cpus and mem that is never lent; half of it is what owners have while revocable tasks end
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = crate::values::percent)]
    pub(crate) revocable_margin: u8,
    /// How long something must have been unused before it is lent
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::values::duration)]
    pub(crate) revocable_window: Duration,
    /// How long the directory of a task stays readable after its launch has ended
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = crate::values::duration)]
    pub(crate) sandbox_keep: Duration,
    /// Remove directories and logs of ended tasks early, the oldest first, while less than this is free on the disk
    #[arg(long, value_name = "SIZE|PERCENT%", default_value = "5%")]
    pub(crate) disk_pressure: holm_agentd::DiskPressure,
    /// How much the cache of blobs may take, and that of native code [default: 4GiB; edge: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::values::size)]
    pub(crate) cache_size: Option<u64>,
}

/// What an agent is tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Many tasks and fast launches
    #[default]
    Server,
    /// Little memory: an idle agent with a runner stays under 40 MiB
    Edge,
}

/// How guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArg {
    /// As machine code
    Native,
    /// Interpreted: slower, on every machine
    Pulley,
}

impl From<EngineArg> for EngineKind {
    fn from(engine: EngineArg) -> EngineKind {
        match engine {
            EngineArg::Native => EngineKind::Native,
            EngineArg::Pulley => EngineKind::Pulley,
        }
    }
}

/// A pattern, or none at all.
pub(crate) type AllowedNet = Option<NetPattern>;

pub(super) fn allowed_net(text: &str) -> Result<AllowedNet, String> {
    if text == "none" { Ok(None) } else { text.parse().map(Some).map_err(|error: ParseNetworkError| error.to_string()) }
}

/// A switch that is named when it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    Off,
    On,
}

/// Arguments of `holm runner`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunnerArgs {
    /// The runner's id
    #[arg(long)]
    pub(crate) id: u64,
    /// Its directory
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Threads that run guests
    #[arg(long)]
    pub(crate) threads: usize,
    /// Most tasks at a time; 0 for what the address space allows
    #[arg(long)]
    pub(crate) max_tasks: usize,
    /// How much output is kept, in bytes
    #[arg(long)]
    pub(crate) log_bytes: u64,
    /// The table through which the agent's runners share CPU time
    #[arg(long, requires = "cpu_seat")]
    pub(crate) cpu_table: Option<PathBuf>,
    /// This runner's seat at it
    #[arg(long, requires = "cpu_table")]
    pub(crate) cpu_seat: Option<usize>,
    /// Stand back behind everybody else: the tasks are revocable
    #[arg(long)]
    pub(crate) revocable: bool,
    /// How long to go on without an agent
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = crate::values::duration)]
    pub(crate) recovery: Duration,
    /// How guests run
    #[arg(long, value_enum)]
    pub(crate) engine: EngineArg,
    /// Map the memory of tasks when it is needed
    #[arg(long)]
    pub(crate) on_demand: bool,
    /// What to give up before running anything
    #[arg(long, value_name = "PLAN", value_parser = Confinement::parse)]
    pub(crate) confine: Option<Confinement>,
}

/// Arguments of `holm runner-probe`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunnerProbeArgs {
    /// What to give up first, as a runner's
    #[arg(long, value_name = "PLAN", value_parser = Confinement::parse)]
    pub(crate) confine: Confinement,
    /// What to try then, such as read:/etc/shadow or signal:1
    #[arg(required = true)]
    pub(crate) attempts: Vec<Attempt>,
}

/// Arguments of `holm compile-worker`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompileWorkerArgs {
    /// The module
    #[arg(long)]
    pub(crate) input: PathBuf,
    /// Where the native code goes
    #[arg(long)]
    pub(crate) output: PathBuf,
    /// What to compile for
    #[arg(long, value_enum)]
    pub(crate) engine: EngineArg,
    /// Most memory, in bytes
    #[arg(long)]
    pub(crate) memory: u64,
    /// Most CPU time
    #[arg(long, value_parser = crate::values::duration)]
    pub(crate) cpu: Duration,
    /// Most native code, in bytes
    #[arg(long)]
    pub(crate) native: u64,
    /// How tasks of the module are metered
    #[arg(long, value_enum, default_value_t = super::metering::MeteringArg::FuelAndEpochs)]
    pub(crate) metering: super::metering::MeteringArg,
    /// What to give up before reading the module
    #[arg(long, value_name = "PLAN", value_parser = Confinement::parse)]
    pub(crate) confine: Option<Confinement>,
}
