//! Executors in a runner: which launch's tasks run inside which, and what an executor's end means for them.

use holm_model::{BatchId, FrameworkId, Reason, TaskKind, TaskState, TaskStatus, Time, WorkId};

use super::{Runner, RunnerWork, Task, TaskStep};

impl Runner {
    /// Finds the executor of a launch that has just arrived, or ends its tasks: without one they cannot run.
    pub(super) fn enter_executor(&mut self, id: WorkId) {
        let Some(work) = self.works.get(&id) else { return };
        let (framework, spec) = (work.framework, work.launch.spec.clone());
        if spec.kind == TaskKind::Executor {
            self.executors.insert((framework, work.launch.id.clone()), id);
        }
        let Some(executed) = &spec.executed else { return };
        match self.executors.get(&(framework, executed.executor.clone())).copied() {
            Some(executor) => {
                if let Some(work) = self.works.get_mut(&id) {
                    work.inside = Some(executor);
                }
            }
            None => {
                let message = format!("executor {} is not here", executed.executor);
                self.give_up(id, 0..u32::MAX, &TaskStatus::because(TaskState::Failed, Reason::ExecutorLost, message));
            }
        }
    }

    /// Whether tasks of this launch may start: those inside an executor only while it runs and was not asked to end.
    pub(super) fn may_spawn(&self, id: WorkId) -> bool {
        let executor = self.works.get(&id).and_then(|work| work.inside);
        executor.is_none_or(|executor| matches!(self.task(executor, 0), Some(Task::Running { .. })))
    }

    /// An executor is about to be reported as ended: before that, every task inside it ends.
    pub(super) fn end_inside(&mut self, executor: WorkId, end: &TaskStatus, now: Time) {
        let Some(name) = self.executor_name(executor) else { return };
        self.executors.remove(&name);
        let inside = |work: &RunnerWork| work.inside == Some(executor) && work.left > 0;
        let works: Vec<WorkId> = self.works.iter().filter(|(_, work)| inside(work)).map(|(id, _)| *id).collect();
        let reason = end.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let message = format!("its executor {} ended {}{reason}", name.1, end.state);
        let lost = |state| TaskStatus::because(state, Reason::ExecutorLost, message.clone());
        let state = if end.state == TaskState::Killed { TaskState::Killed } else { TaskState::Failed };
        for id in works {
            let count = self.works.get(&id).map_or(0, |work| work.launch.tasks.count());
            for position in 0..count {
                self.lose_task(id, position, lost(state), now);
            }
            self.give_up(id, 0..u32::MAX, &lost(state));
        }
    }

    /// Ends one task that was spawned. Who was asked to end got that.
    fn lose_task(&mut self, id: WorkId, position: u32, mut status: TaskStatus, now: Time) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let task = work.task(position);
        let (Some(Task::Running { since }) | Some(Task::Stopping { since, .. })) = task else { return };
        if let Some(Task::Stopping { deadline, .. }) = task {
            status.state = TaskState::Killed;
            if let Some(deadline) = deadline {
                self.deadlines.remove(&(deadline, id, position));
            }
        }
        status.usage.queued = since.since(work.accepted);
        status.usage.run = now.since(since);
        work.step(position, TaskStep::End);
        self.report(id, position, 1, status);
    }

    fn executor_name(&self, id: WorkId) -> Option<(FrameworkId, BatchId)> {
        let work = self.works.get(&id).filter(|work| work.launch.spec.kind == TaskKind::Executor)?;
        Some((work.framework, work.launch.id.clone()))
    }
}
