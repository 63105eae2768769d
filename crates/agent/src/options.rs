//! What an operator may set about an agent and its runners, and the bounds that nobody may.

use std::time::Duration;

use holm_model::{AgentInfo, BootId, RunnerId};

use crate::lending::LendingOptions;

/// Largest status message kept, in bytes; longer ones are cut.
pub const MAX_STATUS_MESSAGE_BYTES: usize = 4 << 10;

/// Size at which a report or update message is considered full, in estimated bytes on the wire.
pub const PAGE_BYTES: usize = 512 << 10;

/// Most entries in one message of updates or reports.
pub const MAX_PAGE_ENTRIES: usize = 1024;

/// In a registration report, launches with more than [`MAX_FULL_RUNS`] different statuses have their messages cut to
/// this many bytes, so that a launch always fits a page. The updates that follow carry the whole text.
pub const REPORT_MESSAGE_BYTES: usize = 64;

/// See [`REPORT_MESSAGE_BYTES`].
pub const MAX_FULL_RUNS: usize = 64;

/// How long a master may take to answer a registration.
pub const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(15);

/// Shortest silence after which a master may be taken for dead, whatever the master says.
pub const MIN_SILENCE: Duration = Duration::from_secs(1);

/// Longest grace period of a kill.
pub const MAX_GRACE: Duration = Duration::from_secs(3600);

/// Most works of a runner's Hello that the agent does not know and has killed; the rest is ignored.
pub const MAX_UNKNOWN_WORKS: usize = 1024;

/// Most runner processes of an agent unless its operator says otherwise: each takes some megabytes before its first task.
pub const MAX_RUNNERS: usize = 256;

/// What the agent's core is told at its start.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// What the agent offers and where it is.
    pub info: AgentInfo,
    /// The host's boot; a change since the last record means that every process has died.
    pub boot: BootId,
    /// Whether records may have been lost (damage before the checkpoint's end): a new incarnation begins. A torn last
    /// record within the same boot is no loss, since nothing that depended on it was done: leave it out and say `false`.
    pub records_lost: bool,
    /// Grace period of kills that name none.
    pub default_grace: Duration,
    /// Most tasks of one framework that run, wait, or have an end that the framework has not acknowledged; launches
    /// beyond are refused.
    pub max_framework_tasks: u64,
    /// Log entries of one framework above which intermediate states are compacted.
    pub max_log_entries: usize,
    /// How long a runner without work is kept.
    pub runner_idle: Duration,
    /// How long a runner may take to say Hello after its start, a broken socket or a restart of the agent.
    pub runner_patience: Duration,
    /// How long after a kill's grace period a task may take to end before its runner is killed.
    pub kill_margin: Duration,
    /// How many tasks one runner process holds; the next go to another.
    pub runner_slots: u32,
    /// Most runner processes at a time; launches beyond wait.
    pub max_runners: usize,
    /// Memory kept back for the agent and its runners, in bytes; while they take more, the agent is held back. None is
    /// not watched.
    pub reserve_bytes: Option<u64>,
    /// How what owners leave unused is lent to revocable tasks; none lends nothing.
    pub lending: Option<LendingOptions>,
}

impl AgentOptions {
    /// The documented defaults.
    pub fn new(info: AgentInfo, boot: BootId) -> AgentOptions {
        AgentOptions {
            info,
            boot,
            records_lost: false,
            default_grace: Duration::from_secs(5),
            max_framework_tasks: 200_000,
            max_log_entries: 100_000,
            runner_idle: Duration::from_secs(60),
            runner_patience: Duration::from_secs(30),
            kill_margin: Duration::from_secs(10),
            runner_slots: 4096,
            max_runners: MAX_RUNNERS,
            reserve_bytes: None,
            lending: None,
        }
    }
}

/// What a runner's core is told at its start.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The id the agent started it with.
    pub runner: RunnerId,
    /// How long it goes on without an agent.
    pub recovery: Duration,
    /// Messages of reports that may be under way to the agent: what happens meanwhile shares the next one.
    pub report_window: usize,
}

impl RunnerOptions {
    /// The documented defaults.
    pub fn new(runner: RunnerId) -> RunnerOptions {
        RunnerOptions { runner, recovery: Duration::from_secs(15 * 60), report_window: 2 }
    }
}
