//! What an agent and its runner processes say to each other. Runners outlive agents, so two versions back must keep working.

use std::sync::Arc;
use std::time::Duration;

use crate::{FrameworkId, Launch, PreparedNetwork, RunnerId, TaskStatus, Usages};

/// One launch on its agent: the agent's own number for it, never reused under one data directory. Paths on an agent use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u64);

impl std::fmt::Display for WorkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "work-{}", self.0)
    }
}

impl std::fmt::Debug for WorkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What the agent's shell made of a launch before it may run: everything fetched, compiled and permitted. The default is
/// that of tasks inside an executor: for those there is nothing to prepare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The file with the module's native code, in the agent's cache; empty for tasks inside an executor.
    pub program: Arc<str>,
    /// A directory that holds the input files under their guest paths and that the guest sees read-only as `.`; none
    /// when there are no input files.
    pub inputs: Option<Arc<str>>,
    /// Whether each task gets a writable directory of its own (it asked for `disk`); the runner makes it when the task
    /// starts, below this directory and named by position.
    pub scratch: Option<Arc<str>>,
    /// The host directories the task was granted, each split so that the runner can open it without leaving the prefix
    /// through a link.
    pub directories: Vec<PreparedDirectory>,
    /// The volumes, at most [`crate::TaskSpec::MAX_VOLUMES`].
    pub volumes: Vec<PreparedVolume>,
    /// What the agent knows of the network.
    pub network: PreparedNetwork,
}

/// A volume that a launch mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedVolume {
    /// Its directory on the agent.
    pub path: Arc<str>,
    /// Where the guest finds it.
    pub guest: Arc<str>,
    /// Whether the guest may write.
    pub writable: bool,
    /// How many bytes it may take.
    pub bytes: u64,
}

/// A granted host directory: `below` is opened relative to `prefix`, and never outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedDirectory {
    /// A prefix that the agent's operator allowed.
    pub prefix: Arc<str>,
    /// The rest of the path, relative; empty for the prefix itself.
    pub below: Arc<str>,
    /// Where the guest finds it.
    pub guest: Arc<str>,
    /// Whether the guest may write.
    pub writable: bool,
}

/// From the agent to a runner.
#[derive(Clone, Debug)]
pub enum ToRunner {
    /// Run these tasks.
    Launch {
        /// The agent's number for it.
        work: WorkId,
        /// Whose.
        framework: FrameworkId,
        /// What.
        launch: Launch,
        /// With what.
        prepared: Prepared,
    },
    /// Stop the tasks at these positions (all, when empty) within `grace`.
    Kill {
        /// The launch.
        work: WorkId,
        /// First and count of the positions; none is all.
        positions: Option<(u32, u32)>,
        /// How long they may take.
        grace: Duration,
    },
    /// Give up the unstarted tasks from this position on.
    Trim {
        /// The launch.
        work: WorkId,
        /// The first position to give up.
        from: u32,
        /// Why, for people; empty when there is nothing to say.
        message: Arc<str>,
    },
    /// Bytes for a running task.
    Message {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// The agent has checkpointed every report up to `sequence`.
    Acknowledge {
        /// The highest sequence it has.
        sequence: u64,
    },
    /// End: kill what runs and exit.
    Stop,
}

/// A change that a runner reports; kept and resent until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerReport {
    /// Its number in the runner's life, from 1 without gaps.
    pub sequence: u64,
    /// The launch.
    pub work: WorkId,
    /// The position of the first task.
    pub first: u32,
    /// How many tasks.
    pub count: u32,
    /// What they entered. Its usage is that of each of them, unless `usages` has entries.
    pub status: TaskStatus,
    /// What each of them used, where they differ.
    pub usages: Usages,
}

/// From a runner to the agent.
#[derive(Clone, Debug)]
pub enum FromRunner {
    /// The first message after each connection; unacknowledged reports follow.
    Hello {
        /// Which runner.
        runner: RunnerId,
        /// Launches it holds.
        works: Vec<WorkId>,
    },
    /// Changes, in order.
    Reports(Vec<RunnerReport>),
    /// Bytes from a task to its framework.
    Message {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// The bytes.
        data: Arc<[u8]>,
    },
}
