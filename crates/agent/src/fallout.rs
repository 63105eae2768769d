//! Ends that concern other works: the members of a group, the tasks inside an executor. They are collected while an event
//! is applied and followed up before it is over, one after another, so that no chain of them can grow the stack.

use std::time::Duration;

use holm_model::{Reason, TaskKind, TaskState, TaskStatus, Time, WorkId};

use crate::agent::Agent;
use crate::executors::because;

/// Something that concerns other works.
#[derive(Clone, Debug)]
pub(crate) enum Fallout {
    /// An executor has ended.
    ExecutorOver { executor: WorkId, status: TaskStatus },
    /// A launch ended before it was sent: what only waited for it can go on.
    MemberGone { work: WorkId },
    /// The members of a group have to end: a task of it ended otherwise than it should, or was killed.
    GroupOver { group: WorkId, why: String, grace: Option<Duration> },
}

impl Agent {
    /// Notes what an entry of the status log means for other works. `end` is the status of the tasks, if that is an end.
    pub(crate) fn note_fallout(&mut self, id: WorkId, first: u32, end: Option<TaskStatus>) {
        let (Some(work), Some(status)) = (self.durable.works.get(&id), end) else { return };
        if work.launch.spec.kind == TaskKind::Executor {
            self.fallout.push_back(Fallout::ExecutorOver { executor: id, status: status.clone() });
        }
        if let Some(group) = work.group.filter(|_| fails_group(&status)) {
            let task = work.launch.task_id(first);
            let why = format!("task {task} of its group ended {}{}", status.state, because(&status));
            self.note_group_over(group, why, None);
        }
    }

    /// Notes that the members of a group have to end; once is enough, however many give cause.
    pub(crate) fn note_group_over(&mut self, group: WorkId, why: String, grace: Option<Duration>) {
        let noted = |fallout: &Fallout| matches!(fallout, Fallout::GroupOver { group: other, .. } if *other == group);
        if !self.fallout.iter().any(noted) {
            self.fallout.push_back(Fallout::GroupOver { group, why, grace });
        }
    }

    /// Does what was noted, and what that leads to.
    pub(crate) fn follow_up(&mut self, now: Time) {
        while let Some(fallout) = self.fallout.pop_front() {
            match fallout {
                Fallout::ExecutorOver { executor, status } => self.end_inside(executor, &status),
                Fallout::MemberGone { work } => self.dispatch_group(work, now),
                Fallout::GroupOver { group, why, grace } => self.end_group(group, &why, grace, now),
            }
        }
    }

    /// After a restart: an end may have been written down and what it means for others not.
    pub(crate) fn recall_fallout(&mut self) {
        let mut recalled = Vec::new();
        for (id, work) in &self.durable.works {
            let failed = (0u32..).zip(&work.statuses).find(|(_, status)| fails_group(status));
            let over = (work.launch.spec.kind == TaskKind::Executor).then(|| work.status(0));
            let over = over.filter(|status| status.state.is_terminal()).map(|status| (0, status));
            recalled.extend(failed.or(over).map(|(position, status)| (*id, position, status.clone())));
        }
        for (id, position, status) in recalled {
            self.note_fallout(id, position, Some(status));
        }
    }
}

/// Whether a task that ended like this takes its group along. A trimmed one was never meant to run, and one that ended
/// because of the group says nothing new.
fn fails_group(status: &TaskStatus) -> bool {
    status.state.is_terminal()
        && status.state != TaskState::Finished
        && !matches!(status.reason, Some(Reason::GroupFailed | Reason::Trimmed))
}
