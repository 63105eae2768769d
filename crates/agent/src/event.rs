//! What happens to an agent, and what it wants done about it.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    FrameworkId, FromRunner, Launch, Prepared, Reason, RunnerId, TaskState, ToAgent, ToMaster, ToRunner, Volume, WorkId,
};

use crate::Record;
use crate::lending::Measured;
use crate::placement::RunnerScope;

/// One connection to a master, numbered by the shell; a later connection has a higher number. Messages of any but the
/// latest are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Why a launch could not be made ready: its tasks end with this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareError {
    /// [`TaskState::Error`] when the task itself is not valid, [`TaskState::Failed`] otherwise.
    pub state: TaskState,
    /// Such as FETCH, COMPILE, INVALID_MODULE, NOT_ALLOWED.
    pub reason: Reason,
    /// For people; names the field, the value and the limit.
    pub message: Arc<str>,
}

/// What happens to an agent.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// A stream to a master is open.
    Connected {
        /// The stream.
        session: SessionId,
    },
    /// The stream has ended, whoever ended it.
    Disconnected {
        /// The stream.
        session: SessionId,
    },
    /// The master says something.
    FromMaster {
        /// On which stream.
        session: SessionId,
        /// What.
        message: ToAgent,
    },
    /// The answer to [`AgentEffect::Prepare`]; late answers for abandoned work are ignored.
    Prepared {
        /// The work.
        work: WorkId,
        /// What to run it with, or why it cannot run.
        result: Result<Prepared, PrepareError>,
    },
    /// A preparation takes a while: its tasks stay STAGING, and their status says what they wait for. Ignored once the
    /// work is prepared.
    Delayed {
        /// The work.
        work: WorkId,
        /// What it waits for, for people.
        message: Arc<str>,
    },
    /// A runner's socket is connected: a new runner's, or after a restart that of one of [`crate::Agent::runners`]. The
    /// runner's Hello follows as [`AgentEvent::FromRunner`].
    RunnerConnected {
        /// The runner.
        runner: RunnerId,
    },
    /// A runner's socket broke although its process still lives; the shell connects again.
    RunnerDisconnected {
        /// The runner.
        runner: RunnerId,
    },
    /// A runner says something. Runners are not trusted.
    FromRunner {
        /// Which, as the shell knows from the socket.
        runner: RunnerId,
        /// What.
        message: FromRunner,
    },
    /// A runner's process is gone, could not be started, or could not be found again after a restart.
    RunnerExited {
        /// The runner.
        runner: RunnerId,
        /// How, for people.
        message: Arc<str>,
    },
    /// How much memory the agent and its runners take beyond what their tasks declared.
    OverheadMeasured {
        /// In bytes.
        bytes: u64,
    },
    /// What runners use, and what the host has left. Only needed by an agent that lends.
    UsageMeasured(Measured),
    /// Time has come to [`crate::Agent::next_wake`].
    Wake,
}

/// What an agent wants done. The shell performs effects in order.
#[derive(Clone, Debug)]
pub enum AgentEffect {
    /// Append these records to the checkpoint, synchronously, before any later effect: handed to the operating system,
    /// not necessarily to the disk.
    Checkpoint(Vec<Record>),
    /// Bring every record written so far to the disk before any later effect.
    Sync,
    /// Send this to the master. Never blocks: when the outbound queue is full the shell closes the stream and says
    /// [`AgentEvent::Disconnected`]; nothing is lost, the status log is sent again.
    ToMaster {
        /// The stream; ignored when it is not open any more.
        session: SessionId,
        /// What.
        message: ToMaster,
    },
    /// Close this stream and dial again (possibly another master, with backoff). No Disconnected event is needed.
    Reconnect {
        /// The stream.
        session: SessionId,
        /// Why, for the log.
        message: Arc<str>,
    },
    /// The master refuses this agent for good: close the stream and tell the operator. Dialling again is pointless
    /// before something was changed; a shell that keeps trying does so slowly.
    Refused {
        /// The stream.
        session: SessionId,
        /// Why, for people.
        message: Arc<str>,
    },
    /// Fetch, compile and permit everything a launch needs, and answer with [`AgentEvent::Prepared`].
    Prepare {
        /// The work; sandbox paths are named by it.
        work: WorkId,
        /// Whose.
        framework: FrameworkId,
        /// The runners that may get it.
        scope: RunnerScope,
        /// What.
        launch: Launch,
        /// The volumes that it mounts, in the order in which it names them.
        volumes: Vec<Volume>,
    },
    /// These volumes are to be there, and no others: what else there is goes, with its data.
    Volumes(Vec<Volume>),
    /// The preparation is not wanted any more; no answer is needed.
    Abandon {
        /// The work.
        work: WorkId,
    },
    /// Start a runner process and connect to its socket; answered by RunnerConnected or RunnerExited.
    StartRunner {
        /// The id it is started with.
        runner: RunnerId,
        /// For whose tasks.
        scope: RunnerScope,
    },
    /// Send this to a runner. When its queue is full the shell closes the socket, says
    /// [`AgentEvent::RunnerDisconnected`] and connects again.
    ToRunner {
        /// The runner.
        runner: RunnerId,
        /// What.
        message: ToRunner,
    },
    /// See to it that the runner's process ends: it has been told if it could be, and is killed when it is still there
    /// after `grace`. Answered by [`AgentEvent::RunnerExited`].
    StopRunner {
        /// The runner.
        runner: RunnerId,
        /// How long it may take to exit by itself; zero is an immediate kill.
        grace: Duration,
        /// Why, for the log.
        message: Arc<str>,
    },
    /// The agent has forgotten this work: its inputs, scratch directories and links may go (at once or after the
    /// shell's own delay).
    Cleanup {
        /// The work.
        work: WorkId,
        /// Whose it was.
        framework: FrameworkId,
    },
}
