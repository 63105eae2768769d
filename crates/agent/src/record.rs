//! What an agent writes down so that its death harms nobody.
//!
//! The checkpoint is a sequence of records. Everything an agent must remember is a fold over them: the live agent changes
//! its state by the same function that reads them back, so that what was recovered cannot differ from what was.

use holm_model::{
    AgentId, BootId, ClusterId, Epoch, FrameworkId, Incarnation, Launch, Portions, Role, RunnerId, Secret, Update,
    Volume, WorkId,
};

use crate::placement::RunnerScope;

/// One entry of an agent's checkpoint.
#[derive(Clone, Debug)]
pub enum Record {
    /// A new life of the status logs begins: every work, log and runner recorded before is void. Synced.
    Incarnation {
        /// Its number, one higher than the one before.
        number: Incarnation,
        /// The host's boot in which it began.
        boot: BootId,
    },
    /// Who the agent is. Synced.
    Identity {
        /// The id a master gave it.
        agent: AgentId,
        /// What it presents to come back under that id.
        secret: Secret,
        /// The cluster it belongs to.
        cluster: ClusterId,
        /// The highest epoch it has seen.
        epoch: Epoch,
    },
    /// Numbers below which nothing is given out again; only in snapshots.
    NextIds {
        /// The next work.
        work: WorkId,
        /// The next runner.
        runner: RunnerId,
        /// Every new log entry has a higher sequence than this: that of forgotten entries.
        sequence: u64,
    },
    /// A runner process is about to be started.
    RunnerStarted {
        /// The runner.
        runner: RunnerId,
        /// Whose tasks it runs.
        scope: RunnerScope,
        /// The highest report sequence applied; zero but in snapshots.
        sequence: u64,
    },
    /// A runner process is gone and its tasks have been accounted for.
    RunnerEnded {
        /// The runner.
        runner: RunnerId,
    },
    /// A launch was taken; its tasks are STAGING.
    WorkAdded {
        /// The agent's number for it.
        work: WorkId,
        /// Whose.
        framework: FrameworkId,
        /// In which role.
        role: Role,
        /// What it holds by origin; nothing where all of it is unreserved.
        origins: Portions,
        /// What.
        launch: Launch,
        /// The first launch of its group, where it belongs to one; only in snapshots.
        group: Option<WorkId>,
    },
    /// Launches were taken as a group, all of them or none; their tasks are STAGING.
    GroupAdded {
        /// The agent's number for the first; the others have the next ones.
        first: WorkId,
        /// Whose.
        framework: FrameworkId,
        /// In which role.
        role: Role,
        /// What each of them holds by origin, as for a single launch.
        origins: Vec<Portions>,
        /// What.
        launches: Vec<Launch>,
    },
    /// The launch is about to be handed to a runner: from here on it may have run.
    WorkSent {
        /// The launch.
        work: WorkId,
        /// The runner.
        runner: RunnerId,
    },
    /// An entry of a framework's status log.
    Updated {
        /// The framework.
        framework: FrameworkId,
        /// The entry. In snapshots, sequence zero restores statuses whose entries have been acknowledged already.
        update: Update,
        /// The runner that reported it, if one did.
        runner: Option<RunnerId>,
        /// With this entry every report of that runner up to this sequence has been applied; zero says nothing.
        runner_sequence: u64,
    },
    /// The framework has its log up to `sequence`; launches that are over and have no entry left are forgotten.
    Acknowledged {
        /// The framework.
        framework: FrameworkId,
        /// The highest sequence it has.
        sequence: u64,
    },
    /// An ended launch was forgotten, its log entries with it, because its framework used the name again.
    WorkRemoved {
        /// The launch.
        work: WorkId,
    },
    /// The master said which volumes the agent has: all of them.
    Volumes(Vec<Volume>),
    /// The framework is over: its launches and its log are forgotten.
    FrameworkRemoved {
        /// The framework.
        framework: FrameworkId,
    },
}
