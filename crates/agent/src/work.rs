//! One launch on this agent: how far it has come and where each of its tasks stands.

use std::time::Duration;

use holm_model::{
    BatchId, BatchReport, FrameworkId, Launch, Portions, Prepared, Role, RunnerId, StatusRun, TaskState, TaskStatus,
    Time, TransitionError, Update, WorkId,
};

use crate::options::{MAX_FULL_RUNS, REPORT_MESSAGE_BYTES};

/// How far a launch has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The shell fetches and compiles.
    Preparing,
    /// It waits for a runner.
    Ready(Prepared),
    /// A runner has it, or may have it.
    Sent {
        runner: RunnerId,
        /// Kept while the agent lives, in case the runner turns out not to have received it.
        prepared: Option<Prepared>,
    },
    /// Every task is over.
    Over,
}

/// What moves a launch on.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Prepared(Prepared),
    Sent(RunnerId),
    /// The runner says that it never received it.
    NeverReceived,
    Ended,
}

/// A step that a launch cannot take from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the launch cannot take this step from where it stands")]
pub(crate) struct StepError;

impl Stage {
    /// The one transition function of a launch.
    pub(crate) fn step(&self, step: Step) -> Result<Stage, StepError> {
        match (self, step) {
            (Stage::Preparing, Step::Prepared(prepared)) => Ok(Stage::Ready(prepared)),
            (Stage::Ready(prepared), Step::Sent(runner)) => {
                Ok(Stage::Sent { runner, prepared: Some(prepared.clone()) })
            }
            // Read back from the checkpoint, which does not hold what was prepared.
            (Stage::Preparing, Step::Sent(runner)) => Ok(Stage::Sent { runner, prepared: None }),
            (Stage::Sent { .. }, Step::Sent(runner)) => Ok(Stage::Sent { runner, prepared: None }),
            (Stage::Sent { prepared: Some(prepared), .. }, Step::NeverReceived) => Ok(Stage::Ready(prepared.clone())),
            (Stage::Sent { prepared: None, .. }, Step::NeverReceived) => Ok(Stage::Preparing),
            (Stage::Over, _) => Err(StepError),
            (_, Step::Ended) => Ok(Stage::Over),
            _ => Err(StepError),
        }
    }
}

/// One launch on this agent.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) launch: Launch,
    /// What it holds by origin, as the master chose; nothing where all of it is unreserved.
    pub(crate) origins: Portions,
    /// The first launch of its group, if it belongs to one; it may be this one.
    pub(crate) group: Option<WorkId>,
    pub(crate) stage: Stage,
    /// By position.
    pub(crate) statuses: Vec<TaskStatus>,
    /// Tasks that are not over.
    pub(crate) live: u32,
    /// Log entries about it.
    pub(crate) entries: u32,
    /// Whether its runner has reported anything about it: then the runner has had it.
    pub(crate) reported: bool,
    /// When this process took it; unknown after a restart.
    pub(crate) taken: Option<Time>,
    /// How long it was prepared and waited for its runner: part of its tasks' time in the queue.
    pub(crate) waited: Duration,
}

impl Work {
    pub(crate) fn new(framework: FrameworkId, role: Role, launch: Launch, group: Option<WorkId>) -> Work {
        let count = launch.tasks.count();
        let statuses = vec![TaskStatus::of(TaskState::Staging); count as usize];
        let stage = Stage::Preparing;
        Work {
            framework,
            role,
            launch,
            origins: Portions::EMPTY,
            group,
            stage,
            statuses,
            live: count,
            entries: 0,
            reported: false,
            taken: None,
            waited: Duration::ZERO,
        }
    }

    /// The same, holding this.
    pub(crate) fn holding(mut self, origins: Portions) -> Work {
        self.origins = origins;
        self
    }

    /// How many slots' worth of resources it holds.
    pub(crate) fn slots(&self) -> u32 {
        self.launch.slots.min(self.live)
    }

    /// The launch of the executor that its tasks run in, if they do.
    pub(crate) fn executor(&self) -> Option<&BatchId> {
        self.launch.spec.executed.as_ref().map(|executed| &executed.executor)
    }

    /// How many places of a runner it may take: tasks inside an executor take none.
    pub(crate) fn places(&self) -> u32 {
        if self.executor().is_some() { 0 } else { self.slots() }
    }

    /// Whether nothing is left to do or to deliver.
    pub(crate) fn is_settled(&self) -> bool {
        self.live == 0 && self.entries == 0
    }

    /// The runner that has it or may have it.
    pub(crate) fn runner(&self) -> Option<RunnerId> {
        match &self.stage {
            Stage::Sent { runner, .. } => Some(*runner),
            Stage::Preparing | Stage::Ready(_) | Stage::Over => None,
        }
    }

    /// Positions as indices, cut to those that exist.
    pub(crate) fn clip(&self, first: u32, count: u32) -> std::ops::Range<u32> {
        let end = first.saturating_add(count).min(self.launch.tasks.count());
        first.min(end)..end
    }

    pub(crate) fn status(&self, position: u32) -> &TaskStatus {
        &self.statuses[position as usize]
    }

    /// Runs of positions within `range` whose state satisfies `wanted`, as first and count.
    pub(crate) fn runs_where(
        &self,
        range: std::ops::Range<u32>,
        wanted: impl Fn(TaskState) -> bool,
    ) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for position in range.filter(|position| wanted(self.status(*position).state)) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == position => *count += 1,
                _ => runs.push((position, 1)),
            }
        }
        runs
    }

    /// Applies one update to every task it names.
    pub(crate) fn apply(&mut self, update: &Update) -> Result<(), TransitionError> {
        let range = update.first as usize..update.first as usize + update.count as usize;
        for status in &self.statuses[range.clone()] {
            status.state.transition(update.status.state)?;
        }
        for (offset, status) in self.statuses[range].iter_mut().enumerate() {
            *status = TaskStatus { usage: update.usages.of(offset, &update.status), ..update.status.clone() };
        }
        if update.status.state.is_terminal() {
            self.live -= update.count;
        }
        Ok(())
    }

    /// Whether every task that `first` and `count` name has left `state`: an entry that said it is history.
    pub(crate) fn has_left(&self, first: u32, count: u32, state: TaskState) -> bool {
        !state.is_terminal() && self.clip(first, count).all(|position| self.status(position).state != state)
    }

    /// The statuses as runs of neighbours that share one.
    pub(crate) fn runs(&self) -> Vec<StatusRun> {
        let mut runs: Vec<StatusRun> = Vec::new();
        for status in &self.statuses {
            match runs.last_mut() {
                Some(run) if run.status == *status => run.count += 1,
                _ => runs.push(StatusRun { count: 1, status: status.clone() }),
            }
        }
        runs
    }

    /// What the master is told about it at registration.
    pub(crate) fn report(&self) -> BatchReport {
        let mut runs = self.runs();
        if runs.len() > MAX_FULL_RUNS {
            for run in runs.iter_mut().filter(|run| run.status.message.len() > REPORT_MESSAGE_BYTES) {
                run.status.message = cut(&run.status.message, REPORT_MESSAGE_BYTES).into();
            }
        }
        BatchReport {
            framework: self.framework,
            role: self.role.clone(),
            id: self.launch.id.clone(),
            tasks: self.launch.tasks,
            slots: self.launch.slots,
            shape: self.launch.spec.resources.clone(),
            module: self.launch.spec.module,
            revocable: self.launch.spec.revocable,
            origins: self.origins.clone(),
            runs,
        }
    }
}

/// The longest beginning of `text` that has at most `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
