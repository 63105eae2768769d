//! What became of a task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{BatchId, Usages};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Accepted; its module is fetched or compiled, or it waits for a slot of its batch.
    Staging,
    /// Its guest has been instantiated.
    Running,
    /// Asked to stop; it may still be in its grace period.
    Killing,
    /// Its agent is out of reach. Not final: the agent may come back with it.
    Unreachable,
    /// It ended by itself with exit code 0.
    Finished,
    /// It ended otherwise; the reason says how.
    Failed,
    /// It ended because it was asked to.
    Killed,
    /// It never ran and never will.
    Dropped,
    /// It was refused as invalid.
    Error,
    /// It died with its agent: the agent rebooted or was given up.
    Gone,
}

impl TaskState {
    /// Whether the task is over.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, TaskState::Staging | TaskState::Running | TaskState::Killing | TaskState::Unreachable)
    }

    /// Checks that a task in this state may go to `next`: the one transition function of a task's life, shared by
    /// runner, agent, master and framework. Repeating a live state is legal, repeating an end is not.
    ///
    /// # Errors
    /// Both states, when the step is not a legal one.
    pub fn transition(self, next: TaskState) -> Result<TaskState, TransitionError> {
        use TaskState::{Dropped, Error, Killing, Running, Staging, Unreachable};
        let legal = match (self, next) {
            (from, _) if from.is_terminal() => false,
            (Unreachable, _) | (_, Unreachable) => true,
            (Staging, _) => true,
            (Running | Killing, Staging | Dropped | Error) => false,
            (Killing, Running) => false,
            (Running | Killing, _) => true,
            _ => false,
        };
        if legal { Ok(next) } else { Err(TransitionError { from: self, to: next }) }
    }

    /// The state in capitals, as shown and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskState::Staging => "STAGING",
            TaskState::Running => "RUNNING",
            TaskState::Killing => "KILLING",
            TaskState::Unreachable => "UNREACHABLE",
            TaskState::Finished => "FINISHED",
            TaskState::Failed => "FAILED",
            TaskState::Killed => "KILLED",
            TaskState::Dropped => "DROPPED",
            TaskState::Error => "ERROR",
            TaskState::Gone => "GONE",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A step of a task's life that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task cannot go from {from} to {to}")]
pub struct TransitionError {
    /// The state it is in.
    pub from: TaskState,
    /// The state it was to enter.
    pub to: TaskState,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a task is in the state it is in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The reason in capitals, as shown and sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The guest exited with a code other than 0.
    ExitCode = "EXIT_CODE",
    /// The guest trapped; the message has the trap and the Wasm backtrace.
    Trap = "TRAP",
    /// The fuel budget was used up.
    Fuel = "FUEL",
    /// A growth of memory, tables or GC heap would have exceeded `mem`.
    MemoryLimit = "MEMORY_LIMIT",
    /// A write would have exceeded `disk`.
    DiskLimit = "DISK_LIMIT",
    /// The wall deadline passed.
    Deadline = "DEADLINE",
    /// The module or an input file could not be fetched.
    Fetch = "FETCH",
    /// The module could not be compiled within the compiler's limits.
    Compile = "COMPILE",
    /// The blob is not a Wasm module or component that can run here.
    InvalidModule = "INVALID_MODULE",
    /// A directory or another grant is not allowed by the agent's operator.
    NotAllowed = "NOT_ALLOWED",
    /// The sandbox could not be prepared.
    Sandbox = "SANDBOX",
    /// A framework or an operator asked for it.
    Killed = "KILLED",
    /// A more entitled task needed the resources.
    Preempted = "PREEMPTED",
    /// The unstarted tail of a batch was trimmed.
    Trimmed = "TRIMMED",
    /// Its framework was torn down, or stayed away longer than its failover timeout.
    FrameworkRemoved = "FRAMEWORK_REMOVED",
    /// The runner process died.
    RunnerLost = "RUNNER_LOST",
    /// The runner cannot hold more tasks, or failed outside the guest.
    RunnerError = "RUNNER_ERROR",
    /// The agent was not connected when the launch was to be sent, or never received it.
    AgentDisconnected = "AGENT_DISCONNECTED",
    /// The agent has not been heard of for too long.
    AgentLost = "AGENT_LOST",
    /// The agent came back without its tasks: its host rebooted or its data was lost.
    AgentRestarted = "AGENT_RESTARTED",
    /// The agent refused the launch; the message says why.
    AgentRefused = "AGENT_REFUSED",
    /// An offer of the ACCEPT was unknown, used, expired or somebody else's.
    InvalidOffers = "INVALID_OFFERS",
    /// The task itself is not valid; the message names the field and the limit.
    InvalidTask = "INVALID_TASK",
    /// A live task of the framework already has the id.
    DuplicateTask = "DUPLICATE_TASK",
    /// The principal may not do this.
    Unauthorized = "UNAUTHORIZED",
    /// The executor that was to run it has ended.
    ExecutorLost = "EXECUTOR_LOST",
    /// Another task of its group failed, was killed, or could not be launched.
    GroupFailed = "GROUP_FAILED",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a task used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of its polls, host calls included.
    pub cpu: Duration,
    /// Fuel, about one unit per Wasm instruction.
    pub fuel: u64,
    /// Highest sum of its linear memories, tables and GC heap, in bytes.
    pub peak_memory: u64,
    /// From acceptance by the agent to the first instruction.
    pub queued: Duration,
    /// From the first instruction to the end.
    pub run: Duration,
    /// Bytes it wrote to stdout and stderr, those dropped included.
    pub output_bytes: u64,
    /// Connections, datagrams and name look-ups that were refused to it.
    pub network_refusals: u64,
    /// Requests that a service answered, failed ones included.
    pub requests: u64,
    /// Of those, how many failed: they trapped, ran out of their limits, or gave no answer.
    pub failed_requests: u64,
    /// The most that its own directory took of `disk` at one time, in bytes; zero for a task without `disk`.
    pub peak_disk: u64,
}

/// Who found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The agent or its runner: part of the status log, acknowledged by sequence number.
    #[default]
    Agent,
    /// The master: derived from what the agent says or does not say; never acknowledged.
    Master,
}

/// A task's state with everything that explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// The state.
    pub state: TaskState,
    /// Why, where there is something to explain.
    pub reason: Option<Reason>,
    /// For people, at most 4 KiB: the trap and its backtrace, the limit and the value asked.
    pub message: Arc<str>,
    /// The guest's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// What it used, final once the state is.
    pub usage: Usage,
    /// Which attempt to run the task this is; 0 is the first.
    pub attempt: u32,
}

impl TaskStatus {
    /// A status that needs no explanation.
    pub fn of(state: TaskState) -> TaskStatus {
        TaskStatus { state, reason: None, message: "".into(), exit_code: None, usage: Usage::default(), attempt: 0 }
    }

    /// A status with a reason and a message.
    pub fn because(state: TaskState, reason: Reason, message: impl Into<Arc<str>>) -> TaskStatus {
        TaskStatus { reason: Some(reason), message: message.into(), ..TaskStatus::of(state) }
    }
}

/// One entry of a status log: neighbouring tasks of one batch that entered the same status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its number in the log of one (agent, incarnation, framework), from 1 without gaps in what is live; compaction
    /// may skip numbers. Zero for what a master derived.
    pub sequence: u64,
    /// The launch.
    pub batch: BatchId,
    /// The position (not index) of the first task in the launch.
    pub first: u32,
    /// How many tasks, at least 1.
    pub count: u32,
    /// What they entered. Its usage is that of each of them, unless `usages` has entries.
    pub status: TaskStatus,
    /// What each of them used, where they differ.
    pub usages: Usages,
}

impl Update {
    /// The positions of the tasks concerned.
    pub fn positions(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskState::*;

    #[test]
    fn a_task_ends_once() {
        for end in [Finished, Failed, Killed, Dropped, Error, Gone] {
            for next in [Staging, Running, Killing, Unreachable, Finished, Killed] {
                assert_eq!(end.transition(next), Err(TransitionError { from: end, to: next }));
            }
        }
    }

    #[test]
    fn a_task_that_ran_was_neither_dropped_nor_invalid() {
        assert!(Running.transition(Dropped).is_err());
        assert!(Killing.transition(Error).is_err());
        assert!(Running.transition(Staging).is_err());
        assert!(Killing.transition(Running).is_err());
        assert_eq!(Staging.transition(Dropped), Ok(Dropped));
    }

    #[test]
    fn an_unreachable_task_may_come_back() {
        assert_eq!(Running.transition(Unreachable), Ok(Unreachable));
        assert_eq!(Unreachable.transition(Running), Ok(Running));
        assert_eq!(Unreachable.transition(Finished), Ok(Finished));
    }
}
