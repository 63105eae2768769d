//! What happens to a runner, and what it wants done about it.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{FromRunner, TaskStatus, ToRunner, WorkId};

/// What happens to a runner.
#[derive(Clone, Debug)]
pub enum RunnerEvent {
    /// An agent has connected to the socket (and replaces an earlier one).
    AgentConnected,
    /// The agent is gone.
    AgentDisconnected,
    /// The agent says something.
    FromAgent(ToRunner),
    /// A spawned task is instantiated and still runs. Need not be said of tasks that end at once.
    Started {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
    },
    /// A spawned task is over; said exactly once for each [`RunnerEffect::Spawn`]. The end of an executor is also that of
    /// every task inside it: nothing is said of those after it.
    Ended {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// How; terminal. `usage.queued` is filled in by the core.
        status: TaskStatus,
    },
    /// A task has bytes for its framework.
    TaskMessage {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// Time has come to [`crate::Runner::next_wake`].
    Wake,
}

/// What a runner wants done. The shell performs effects in order.
#[derive(Clone, Debug)]
pub enum RunnerEffect {
    /// Send this to the agent. Dropped when no agent is connected; never blocks: a full queue closes the socket.
    ToAgent(FromRunner),
    /// Run this task of [`crate::Runner::work`]. One that runs inside an executor is given to that, which has been spawned
    /// and has not ended.
    Spawn {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
    },
    /// Ask a running task to end by itself; one that does not listen for it is killed at once.
    Stop {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// How long it has.
        grace: Duration,
    },
    /// End a running task now; its end is KILLED with reason KILLED.
    Kill {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
    },
    /// Bytes for a running task.
    Deliver {
        /// The launch.
        work: WorkId,
        /// The task's position.
        position: u32,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// Everything about this launch has been reported and acknowledged: loaded programs and directories may go.
    Forget {
        /// The launch.
        work: WorkId,
    },
    /// End the process; what runs dies with it.
    Exit {
        /// Why, for the log.
        message: Arc<str>,
    },
}
