//! What agents and the master say to each other on the control stream.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    AgentCondition, AgentId, AgentInfo, BatchId, BatchReport, BootId, ClusterId, Epoch, FrameworkId, Incarnation,
    Launch, Portions, Resources, Role, RunnerId, Secret, TaskId, Update, Volume,
};

/// An agent's first words on a stream. Its secret travels beside it and is hashed before any core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id, when it has been admitted before.
    pub id: Option<AgentId>,
    /// The cluster that admitted it.
    pub cluster: Option<ClusterId>,
    /// The highest epoch it has seen.
    pub highest_epoch: Epoch,
    /// The life of its status logs.
    pub incarnation: Incarnation,
    /// Its host's boot.
    pub boot: BootId,
    /// What it has to offer.
    pub info: AgentInfo,
}

/// From an agent to the master.
#[derive(Clone, Debug)]
pub enum ToMaster {
    /// The first message of a stream.
    Register(Registration),
    /// Everything the agent runs or still has unacknowledged updates of, in pages; sent once per stream, after
    /// [`ToAgent::Registered`]. Until the last page the agent counts as recovering and gets no launches.
    Report {
        /// The launches of this page.
        batches: Vec<BatchReport>,
        /// Whether it is the last page.
        last: bool,
    },
    /// New entries of one framework's status log, or old ones not acknowledged yet.
    Updates {
        /// The framework.
        framework: FrameworkId,
        /// The life of the log.
        incarnation: Incarnation,
        /// The entries, in order.
        updates: Vec<Update>,
    },
    /// Bytes from a task to its framework.
    Message {
        /// The framework.
        framework: FrameworkId,
        /// The task.
        task: TaskId,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// A runner process died.
    RunnerLost {
        /// Whose tasks it ran.
        framework: FrameworkId,
        /// Which.
        runner: RunnerId,
        /// How, for people.
        message: Arc<str>,
    },
    /// How the agent is: before its report, and whenever that changes noticeably. While it is held back the master
    /// offers nothing of it.
    Condition(AgentCondition),
    /// What of the agent can be had as revocable, held by revocable tasks or not: `cpus` and `mem` that are allocated and not
    /// used. Replaces what was said before; a new stream starts at nothing.
    Revocable(Resources),
    /// The answer to [`ToAgent::Ping`].
    Pong,
}

/// From the master to an agent.
#[derive(Clone, Debug)]
pub enum ToAgent {
    /// The agent is admitted.
    Registered {
        /// Its id.
        agent: AgentId,
        /// Its secret, at the first registration only.
        secret: Option<Secret>,
        /// The cluster, to be pinned.
        cluster: ClusterId,
        /// The master's epoch.
        epoch: Epoch,
        /// How long the agent may hear nothing before it takes the master for dead and reconnects.
        silence: Duration,
    },
    /// The registration is refused for good.
    Refused {
        /// Why, for people.
        message: Arc<str>,
    },
    /// Run these tasks. Numbered 1, 2, 3 ... per stream; the agent applies only the next number.
    Launch {
        /// The number.
        sequence: u64,
        /// For whom.
        framework: FrameworkId,
        /// In which role.
        role: Role,
        /// What it holds by origin; nothing where all of it is unreserved.
        origins: Portions,
        /// What.
        launch: Launch,
    },
    /// Run these tasks together or not at all. It has one number, like a launch. Only for agents with the capability
    /// [`AgentInfo::TASK_GROUPS`].
    LaunchGroup {
        /// The number.
        sequence: u64,
        /// For whom.
        framework: FrameworkId,
        /// In which role.
        role: Role,
        /// What each of them holds by origin, as for a single launch.
        origins: Vec<Portions>,
        /// What: 1 to [`crate::MAX_GROUP_LAUNCHES`] launches with distinct names.
        launches: Vec<Launch>,
    },
    /// Stop a task, or every task of a launch when the id has no index.
    Kill {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// How long it may take; none is the agent's default.
        grace: Option<Duration>,
    },
    /// Give up the unstarted tail of a batch from this position on; those tasks end KILLED with reason TRIMMED.
    Trim {
        /// Whose.
        framework: FrameworkId,
        /// Which launch.
        batch: BatchId,
        /// The first position to give up.
        from: u32,
        /// Why, for people; empty when there is nothing to say.
        message: Arc<str>,
    },
    /// Take from these tasks what they hold: they end KILLED with reason PREEMPTED, once their grace period is over. Only
    /// for agents with the capability [`AgentInfo::PREEMPTION`].
    Preempt {
        /// Whose.
        framework: FrameworkId,
        /// Which launch.
        batch: BatchId,
        /// The position (not index) of the first task.
        first: u32,
        /// How many tasks, at least 1.
        count: u32,
        /// How long they may take; none is the agent's default.
        grace: Option<Duration>,
        /// For whom and by which rule, for people.
        message: Arc<str>,
    },
    /// The framework has everything up to `sequence`.
    Acknowledge {
        /// The framework.
        framework: FrameworkId,
        /// The life of the log.
        incarnation: Incarnation,
        /// The highest sequence it has.
        sequence: u64,
    },
    /// Bytes for a running task.
    Message {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// The framework is over: kill its tasks and drop its status log.
    Remove {
        /// Which.
        framework: FrameworkId,
    },
    /// The volumes that the agent is to have: after [`ToAgent::Registered`], and whenever that changes. Others are removed
    /// with their data.
    Volumes(Vec<Volume>),
    /// A sign of life that wants an answer.
    Ping,
}
