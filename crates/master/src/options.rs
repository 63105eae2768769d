//! What an operator may set, and the bounds that are constants.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use holm_model::{PolicyDescription, Role};

use crate::preemption::PreemptionOptions;

/// Most offers that one ACCEPT or DECLINE may name.
pub const MAX_CALL_OFFERS: usize = 1024;

/// Most launches of one ACCEPT.
pub const MAX_CALL_LAUNCHES: usize = 1024;

/// Most entries of one agent's status log for one framework that the master keeps until they are acknowledged. Agents
/// stop far below by themselves; one that does not is cut off.
pub const MAX_UNACKNOWLEDGED: usize = 1 << 19;

/// Most kills that wait for one disconnected agent.
pub const MAX_WAITING_KILLS: usize = 10_000;

/// Most launches that one agent may report.
pub const MAX_AGENT_LAUNCHES: usize = 50_000;

/// Most tasks that one agent may report.
pub const MAX_AGENT_TASKS: u64 = 1 << 20;

/// About how many bytes of tasks, updates or offers go into one message.
pub const MESSAGE_TARGET_BYTES: usize = 1 << 20;

/// Most grants of one run of the allocator; what is left follows in the next.
pub const MAX_GRANTS: usize = 10_000;

/// Largest message of a task status; what is longer is cut.
pub const MAX_STATUS_MESSAGE_BYTES: usize = 4 << 10;

/// How the master behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How the allocator behaves.
    pub allocator: holm_allocator::Options,
    /// Weights of roles in thousandths; a role not listed has 1000.
    pub weights: BTreeMap<Role, NonZeroU32>,
    /// The organisation's policy as it describes itself; the shell runs it. None: the built-in order.
    pub policy: Option<PolicyDescription>,
    /// Least time between an answer of the policy and the next request.
    pub policy_interval: Duration,
    /// When and how resources are taken back.
    pub preemption: PreemptionOptions,
    /// How long an offer stays out before it is rescinded without a filter.
    pub offer_timeout: Duration,
    /// How long it may hold it while another framework waits that holds nothing at all.
    pub contended_offer: Duration,
    /// How often a connected agent is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long a connected agent may say nothing before its connection is ended.
    pub agent_silence: Duration,
    /// How long a disconnected agent may stay away before it is marked unreachable.
    pub agent_timeout: Duration,
    /// The same for agents that a newly elected master knows from the registry only.
    pub agent_reregister_timeout: Duration,
    /// Least time that a newly elected master gives frameworks to come back, for those whose failover timeout is shorter:
    /// the disconnection was not theirs.
    pub framework_reconnect: Duration,
    /// How often a connected framework gets a sign of life.
    pub heartbeat_interval: Duration,
    /// Events that arrive this long after a run of the allocator join the next run.
    pub allocation_delay: Duration,
    /// Least time between two deltas with the shares of all roles.
    pub roles_interval: Duration,
    /// After how long a write whose outcome is unknown is repeated.
    pub write_retry: Duration,
    /// Most agents in the registry; further ones are refused.
    pub max_agents: usize,
    /// Most frameworks that are not completed; further ones are refused.
    pub max_frameworks: usize,
    /// Most completed frameworks that are remembered; the oldest go first. The id of a forgotten one is refused as unknown.
    pub max_completed_frameworks: usize,
    /// Most roles that have a weight or a quota of their own; more are refused.
    pub max_roles: usize,
    /// Most offers that a framework may hold; what exceeds them is withheld from it for a second.
    pub max_framework_offers: usize,
    /// Most launches of a framework that are known at a time.
    pub max_framework_launches: usize,
    /// Most tasks of a framework that are live at a time.
    pub max_framework_tasks: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            allocator: holm_allocator::Options::default(),
            weights: BTreeMap::new(),
            policy: None,
            policy_interval: Duration::from_millis(5),
            preemption: PreemptionOptions::default(),
            offer_timeout: Duration::from_secs(30),
            contended_offer: Duration::from_secs(3),
            ping_interval: Duration::from_secs(5),
            agent_silence: Duration::from_secs(15),
            agent_timeout: Duration::from_secs(75),
            agent_reregister_timeout: Duration::from_secs(600),
            framework_reconnect: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(5),
            allocation_delay: Duration::from_millis(1),
            roles_interval: Duration::from_millis(250),
            write_retry: Duration::from_millis(200),
            max_agents: 50_000,
            max_frameworks: 10_000,
            max_completed_frameworks: 1000,
            max_roles: 20_000,
            max_framework_offers: 10_000,
            max_framework_launches: 50_000,
            max_framework_tasks: 500_000,
        }
    }
}
