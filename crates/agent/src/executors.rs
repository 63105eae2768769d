//! Tasks inside an executor: they go where it is, after it, and end with it.

use holm_model::{FrameworkId, Launch, Reason, TaskKind, TaskState, TaskStatus, Time, WorkId};

use crate::agent::Agent;
use crate::work::Stage;

impl Agent {
    /// Why tasks that are to run inside an executor cannot, if so: it is not here, is none, or is about to end.
    pub(crate) fn without_executor(&self, framework: FrameworkId, launch: &Launch) -> Option<TaskStatus> {
        let name = &launch.spec.executed.as_ref()?.executor;
        let found = self.durable.tenants.get(&framework).and_then(|tenant| tenant.batches.get(name));
        let Some(executor) = found.and_then(|id| self.durable.works.get(id)) else {
            return Some(lost(TaskState::Dropped, &format!("executor {name} is not here")));
        };
        if executor.launch.spec.kind != TaskKind::Executor {
            let kind = executor.launch.spec.kind.as_str();
            let message = format!("executed.executor: launch {name} is of the kind {kind}, not an executor");
            return Some(TaskStatus::because(TaskState::Error, Reason::InvalidTask, message));
        }
        if executor.launch.spec.revocable != launch.spec.revocable {
            let message =
                format!("revocable: executor {name} and the tasks inside it are either all revocable or none");
            return Some(TaskStatus::because(TaskState::Error, Reason::InvalidTask, message));
        }
        let state = executor.status(0).state;
        let ending = state.is_terminal() || state == TaskState::Killing;
        ending.then(|| lost(TaskState::Dropped, &format!("executor {name} is {state}")))
    }

    /// The launch whose runner is also this one's: its executor, or itself.
    pub(crate) fn home_of(&self, id: WorkId) -> WorkId {
        let work = self.durable.works.get(&id);
        let executor = work.and_then(|work| self.durable.tenants.get(&work.framework)?.batches.get(work.executor()?));
        executor.copied().unwrap_or(id)
    }

    /// Sends tasks to the runner that has their executor, once it has it.
    pub(crate) fn dispatch_executed(&mut self, id: WorkId, now: Time) {
        let Some(work) = self.durable.works.get(&id) else { return };
        let (framework, name) = (work.framework, work.executor());
        let tenant = self.durable.tenants.get(&framework);
        let executor = name.and_then(|name| tenant?.batches.get(name)).and_then(|id| self.durable.works.get(id));
        match executor.map(|executor| &executor.stage) {
            Some(Stage::Sent { runner, .. }) => {
                let runner = *runner;
                if self.is_live(runner) {
                    self.send(id, runner, now);
                }
            }
            Some(Stage::Preparing | Stage::Ready(_)) => {}
            Some(Stage::Over) | None => self.end_unsent(id, lost(TaskState::Dropped, "its executor has ended")),
        }
    }

    /// An executor has been sent: the tasks that waited for that follow.
    pub(crate) fn dispatch_inside(&mut self, executor: WorkId, now: Time) {
        for id in self.works_inside(executor) {
            if self.prepared_of(id).is_some() {
                self.dispatch(id, now);
            }
        }
    }

    /// An executor has ended, by `status`: no task inside it is left.
    pub(crate) fn end_inside(&mut self, executor: WorkId, status: &TaskStatus) {
        for id in self.works_inside(executor) {
            let Some(work) = self.durable.works.get(&id) else { continue };
            let message = format!("its executor ended {}{}", status.state, because(status));
            if work.runner().is_none() {
                self.end_unsent(id, lost(TaskState::Dropped, &message));
                continue;
            }
            self.end_where(id, |state| state == TaskState::Killing, lost(TaskState::Killed, &message));
            let end = if status.state == TaskState::Killed { TaskState::Killed } else { TaskState::Failed };
            self.end_unsent(id, lost(end, &message));
        }
    }

    /// The works whose tasks run inside this executor, in the order of launch.
    fn works_inside(&self, executor: WorkId) -> Vec<WorkId> {
        let Some(work) = self.durable.works.get(&executor) else { return Vec::new() };
        if work.launch.spec.kind != TaskKind::Executor {
            return Vec::new();
        }
        let inside = |id: &WorkId| {
            let other = self.durable.works.get(id).filter(|other| other.live > 0);
            other.is_some_and(|other| other.executor() == Some(&work.launch.id))
        };
        self.works_of(work.framework).into_iter().filter(inside).collect()
    }
}

fn lost(state: TaskState, message: &str) -> TaskStatus {
    TaskStatus::because(state, Reason::ExecutorLost, message)
}

/// The reason and the message of a status, as the end of a sentence.
pub(crate) fn because(status: &TaskStatus) -> String {
    let reason = status.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let first_line = status.message.lines().next().unwrap_or_default();
    if first_line.is_empty() { reason } else { format!("{reason}: {first_line}") }
}
