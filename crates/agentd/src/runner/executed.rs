//! Tasks inside executors: handed to the executor's guest instead of becoming guests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use holm_agent::{Runner, RunnerEvent};
use holm_model::{Executed, Launch, Reason, TaskKind, TaskState, TaskStatus, WorkId};
use holm_runtime::{ExecutedTask, ExecutedUpdate, KillAnswer, TaskHandle};

use super::tasks::{Ear, Phase, TaskKey, Tasks};
use crate::log::LaunchName;

/// Most tasks that the executors of a runner have at a time; the others wait until one ends.
pub(super) const MAX_TASKS: usize = 16_384;

/// Bits of a task's number that are its position: as many as a launch has tasks.
const POSITION_BITS: u32 = 12;
const _: () = assert!(holm_model::MAX_BATCH_TASKS == 1 << POSITION_BITS);

/// What is known of tasks inside executors.
#[derive(Default)]
pub(super) struct Inside {
    works: HashMap<WorkId, Arc<Work>>,
    /// Tasks that their executor has not been given yet, by executor.
    waiting: HashMap<WorkId, VecDeque<TaskKey>>,
    /// Tasks that executors have been given and that have not ended.
    given: usize,
}

/// What the tasks of one launch share.
struct Work {
    executor: WorkId,
    launch: Launch,
    executed: Executed,
}

/// How a task is called towards its executor: never zero, and never the same for two tasks of a runner's life.
fn number_of((work, position): TaskKey) -> u64 {
    (work.0 + 1) << POSITION_BITS | u64::from(position)
}

fn key_of(number: u64) -> TaskKey {
    let position = u32::try_from(number & ((1 << POSITION_BITS) - 1)).unwrap_or(0);
    (WorkId((number >> POSITION_BITS) - 1), position)
}

impl Tasks {
    /// Whether the launch's tasks run inside an executor.
    pub(super) fn is_inside(core: &Runner, work: WorkId) -> bool {
        core.work(work).is_some_and(|(_, launch, _)| launch.spec.is_executed())
    }

    /// Gives a task to its executor, now or as soon as that can take it.
    pub(super) fn spawn_inside(&mut self, core: &Runner, work: WorkId, position: u32) {
        let Some(executor) = self.executor_of(core, work) else {
            let message = "its executor is not known to the runner";
            let status = TaskStatus::because(TaskState::Failed, Reason::ExecutorLost, message);
            return self.report_end(work, position, status);
        };
        self.live.insert((work, position), Phase::WaitingInside);
        self.inside.waiting.entry(executor).or_default().push_back((work, position));
        self.give(executor);
    }

    fn executor_of(&mut self, core: &Runner, work: WorkId) -> Option<WorkId> {
        if let Some(known) = self.inside.works.get(&work) {
            return Some(known.executor);
        }
        let (framework, launch, _) = core.work(work)?;
        let (executor, executed) = (core.executor_of(work)?, launch.spec.executed.clone()?);
        let name = LaunchName { framework, batch: launch.id.clone(), tasks: launch.tasks };
        if let Err(error) = self.log.lock().launch(work, &name) {
            tracing::error!(%error, "the log cannot be written");
        }
        self.inside.works.insert(work, Arc::new(Work { executor, launch: launch.clone(), executed }));
        Some(executor)
    }

    /// Gives an executor that runs as many of its waiting tasks as it takes.
    pub(super) fn give(&mut self, executor: WorkId) {
        let Some(Phase::Running(handle)) = self.live.get(&(executor, 0)) else { return };
        let handle = handle.clone();
        let Some(waiting) = self.inside.waiting.get_mut(&executor) else { return };
        while self.inside.given < MAX_TASKS {
            let Some(key) = waiting.pop_front() else { break };
            let phase = self.live.get_mut(&key).filter(|phase| matches!(phase, Phase::WaitingInside));
            let (Some(phase), Some(work)) = (phase, self.inside.works.get(&key.0)) else { continue };
            if !handle.launch_task(work.task(key)) {
                waiting.push_front(key);
                break;
            }
            *phase = Phase::Inside(handle.clone());
            self.inside.given += 1;
        }
    }

    /// A task inside an executor is over: others may have its place.
    pub(super) fn left_inside(&mut self, work: WorkId) {
        let was_full = self.inside.given == MAX_TASKS;
        self.inside.given -= 1;
        let Some(executor) = self.inside.works.get(&work).map(|work| work.executor) else { return };
        if was_full {
            let all: Vec<WorkId> = self.inside.waiting.keys().copied().collect();
            all.into_iter().for_each(|executor| self.give(executor));
        } else {
            self.give(executor);
        }
    }

    /// If this was an executor, what ran inside it is over too; the core says so.
    pub(super) fn executor_ended(&mut self, executor: WorkId) {
        let is_executor = |kind| kind == TaskKind::Executor;
        if !self.works.get(&executor).is_some_and(|work| is_executor(work.launch.spec.kind)) {
            return;
        }
        self.inside.waiting.remove(&executor);
        let of_executor =
            |key: &TaskKey, inside: &Inside| inside.works.get(&key.0).is_some_and(|work| work.executor == executor);
        let over: Vec<TaskKey> = self.live.keys().filter(|key| of_executor(key, &self.inside)).copied().collect();
        for (work, position) in over {
            if let Some(Phase::Inside(_)) = self.live.remove(&(work, position)) {
                self.inside.given -= 1;
            }
            self.close_output(work, position);
        }
    }

    pub(super) fn stop_inside(&mut self, (work, position): TaskKey, handle: &TaskHandle, grace: Duration) {
        match handle.kill_task(number_of((work, position)), grace) {
            KillAnswer::TakenBack => {
                self.left_inside(work);
                let status = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
                self.report_end(work, position, status);
            }
            // Unknown: its end has been told and is on its way here.
            KillAnswer::Asked | KillAnswer::Unknown => {}
        }
    }

    pub(super) fn kill_inside(&mut self, (work, position): TaskKey, handle: &TaskHandle) {
        handle.abandon_task(number_of((work, position)));
        self.left_inside(work);
        self.report_end(work, position, TaskStatus::because(TaskState::Killed, Reason::Killed, "asked to"));
    }

    pub(super) fn deliver_inside(key: TaskKey, handle: &TaskHandle, data: Arc<[u8]>) -> bool {
        handle.deliver_to_task(number_of(key), data)
    }

    pub(super) fn forget_inside(&mut self, work: WorkId) {
        self.inside.works.remove(&work);
        self.inside.waiting.remove(&work);
    }
}

impl Work {
    fn task(&self, key: TaskKey) -> ExecutedTask {
        ExecutedTask {
            id: number_of(key),
            name: self.launch.task_id(key.1).to_string(),
            index: self.launch.tasks.index_at(key.1),
            data: self.executed.data.clone(),
        }
    }
}

impl Ear {
    /// Passes on what an executor says of its tasks.
    pub(super) fn executed_updates(&self, updates: Vec<ExecutedUpdate>) {
        let event = |update| match update {
            ExecutedUpdate::Running(number) => {
                let (work, position) = key_of(number);
                RunnerEvent::Started { work, position }
            }
            ExecutedUpdate::Ended(number, status) => {
                let (work, position) = key_of(number);
                if let Err(error) = self.log.lock().end(work, position, 0) {
                    tracing::error!(%error, "the log cannot be written");
                }
                RunnerEvent::Ended { work, position, status }
            }
        };
        if let Some(shared) = self.shared.upgrade() {
            shared.hear_all(updates.into_iter().map(event).collect());
        }
    }

    pub(super) fn executed_said(&self, number: u64, data: Vec<u8>) {
        let (work, position) = key_of(number);
        self.tell(RunnerEvent::TaskMessage { work, position, data: data.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_by_its_number() {
        for key in [(WorkId(0), 0), (WorkId(0), 4095), (WorkId(7), 1), (WorkId(1 << 40), 4095)] {
            assert_eq!(key_of(number_of(key)), key);
            assert_ne!(number_of(key), 0);
        }
    }
}
