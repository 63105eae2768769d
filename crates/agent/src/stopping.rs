//! Kills, trims, removals, acknowledgements and messages: what a master may ask about work that is here already.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    BatchId, FrameworkId, Incarnation, MAX_MESSAGE_BYTES, Reason, RunnerId, TaskId, TaskState, TaskStatus, Time,
    ToRunner, WorkId,
};

use crate::agent::Agent;
use crate::event::AgentEffect;
use crate::fallout::Fallout;
use crate::launching::NewEntry;
use crate::options::MAX_GRACE;
use crate::placement::RunnerScope;
use crate::record::Record;
use crate::runner::trimmed;
use crate::work::{Stage, Work};

/// How tasks are preempted.
pub(crate) struct Taking {
    /// How long they may take; none is the agent's default.
    pub(crate) grace: Option<Duration>,
    /// For whom and by which rule.
    pub(crate) message: Arc<str>,
}

impl Agent {
    /// A kill is written down as KILLING, so that it outlives the agent's process; unsent tasks end at once.
    pub(crate) fn kill(&mut self, framework: FrameworkId, task: &TaskId, grace: Option<Duration>, now: Time) {
        let Some((id, position)) = self.target(framework, task) else {
            self.counters.unknown_targets += 1;
            return;
        };
        let Some(work) = self.durable.works.get(&id) else { return };
        let range = position.map_or_else(|| work.clip(0, u32::MAX), |position| work.clip(position, 1));
        let concerned = range.clone().any(|position| !work.status(position).state.is_terminal());
        if let Some(group) = work.group.filter(|_| concerned) {
            self.note_group_over(group, format!("task {task} of its group was killed"), grace);
        }
        let Some(work) = self.durable.works.get(&id) else { return };
        match &work.stage {
            Stage::Over => {}
            Stage::Preparing | Stage::Ready(_) => {
                let status = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
                self.end_range(id, range, status);
            }
            Stage::Sent { runner, .. } => {
                let (runner, positions) = (*runner, position.map(|position| (position, 1)));
                let alive = work.runs_where(range.clone(), |state| !state.is_terminal());
                let fresh = work.runs_where(range, |state| matches!(state, TaskState::Staging | TaskState::Running));
                let killing = TaskStatus::because(TaskState::Killing, Reason::Killed, "");
                for (first, count) in fresh {
                    self.log(NewEntry::own(id, first, count, killing.clone()));
                }
                if !alive.is_empty() {
                    self.forward_kill(id, runner, positions, grace, now);
                }
            }
        }
    }

    /// Passes a kill on and sets the time at which the runner has failed to carry it out. When the runner cannot be
    /// reached now, its next Hello brings the kill about.
    pub(crate) fn forward_kill(
        &mut self,
        id: WorkId,
        runner: RunnerId,
        positions: Option<(u32, u32)>,
        grace: Option<Duration>,
        now: Time,
    ) {
        if !self.is_live(runner) {
            return;
        }
        let grace = grace.unwrap_or(self.options.default_grace).min(MAX_GRACE);
        let message = ToRunner::Kill { work: id, positions, grace };
        self.out.push(AgentEffect::ToRunner { runner, message });
        let deadline = now + grace.saturating_add(self.options.kill_margin);
        let latest = self.kill_deadlines.entry(id).or_insert(deadline);
        *latest = deadline.max(*latest);
    }

    fn end_range(&mut self, id: WorkId, range: std::ops::Range<u32>, status: TaskStatus) {
        let Some(work) = self.durable.works.get(&id) else { return };
        let preparing = matches!(work.stage, Stage::Preparing);
        for (first, count) in work.runs_where(range, |state| !state.is_terminal()) {
            self.log(NewEntry::own(id, first, count, status.clone()));
        }
        let over = self.durable.works.get(&id).is_none_or(|work| work.live == 0);
        if over && preparing {
            self.out.push(AgentEffect::Abandon { work: id });
        }
        if over {
            self.fallout.push_back(Fallout::MemberGone { work: id });
        }
    }

    /// Like a kill, except that its statuses say that the tasks were in somebody's way. Written down as KILLING, so that
    /// the reason outlives the agent's process.
    pub(crate) fn preempt(
        &mut self,
        framework: FrameworkId,
        batch: &BatchId,
        span: (u32, u32),
        why: Taking,
        now: Time,
    ) {
        let id = self.durable.tenants.get(&framework).and_then(|tenant| tenant.batches.get(batch)).copied();
        let Some((id, work)) = id.and_then(|id| Some((id, self.durable.works.get(&id)?))) else {
            self.counters.unknown_targets += 1;
            return;
        };
        let range = work.clip(span.0, span.1);
        let alive = work.runs_where(range.clone(), |state| !state.is_terminal());
        if alive.is_empty() {
            return;
        }
        if let Some(group) = work.group {
            self.note_group_over(group, format!("a task of launch {batch} of its group was preempted"), why.grace);
        }
        let Some(work) = self.durable.works.get(&id) else { return };
        match &work.stage {
            Stage::Over => {}
            Stage::Preparing | Stage::Ready(_) => {
                let status = TaskStatus::because(TaskState::Killed, Reason::Preempted, why.message);
                self.end_range(id, range, status);
            }
            Stage::Sent { runner, .. } => {
                let runner = *runner;
                let fresh = work.runs_where(range, |state| matches!(state, TaskState::Staging | TaskState::Running));
                let killing = TaskStatus::because(TaskState::Killing, Reason::Preempted, why.message);
                for (first, count) in fresh {
                    self.log(NewEntry::own(id, first, count, killing.clone()));
                }
                for run in alive {
                    self.forward_kill(id, runner, Some(run), why.grace, now);
                }
            }
        }
    }

    pub(crate) fn trim(&mut self, framework: FrameworkId, batch: &BatchId, from: u32, message: Arc<str>) {
        let id = self.durable.tenants.get(&framework).and_then(|tenant| tenant.batches.get(batch)).copied();
        let Some((id, work)) = id.and_then(|id| Some((id, self.durable.works.get(&id)?))) else {
            self.counters.unknown_targets += 1;
            return;
        };
        match &work.stage {
            Stage::Over => {}
            Stage::Preparing | Stage::Ready(_) => {
                let range = work.clip(from, u32::MAX);
                self.end_range(id, range, trimmed(&message));
            }
            Stage::Sent { runner, .. } => {
                let runner = *runner;
                let wanted = self.trims.entry(id).or_insert((from, message));
                wanted.0 = from.min(wanted.0);
                self.forward_trim(id, runner);
            }
        }
    }

    pub(crate) fn forward_trim(&mut self, id: WorkId, runner: RunnerId) {
        if let Some((from, message)) = self.trims.get(&id).cloned()
            && self.is_live(runner)
        {
            self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Trim { work: id, from, message } });
        }
    }

    pub(crate) fn message_to_task(&mut self, framework: FrameworkId, task: &TaskId, data: Arc<[u8]>) {
        let target = self.target(framework, task).and_then(|(id, position)| {
            let (work, position) = (self.durable.works.get(&id)?, position?);
            let alive = !work.status(position).state.is_terminal();
            work.runner().filter(|runner| alive && self.is_live(*runner)).map(|runner| (id, position, runner))
        });
        match target {
            Some((work, position, runner)) if data.len() <= MAX_MESSAGE_BYTES => {
                let message = ToRunner::Message { work, position, data };
                self.out.push(AgentEffect::ToRunner { runner, message });
            }
            _ => self.counters.dropped_messages += 1,
        }
    }

    pub(crate) fn acknowledge(&mut self, framework: FrameworkId, incarnation: Incarnation, sequence: u64) {
        let Some(tenant) = self.durable.tenants.get(&framework) else { return };
        let sequence = sequence.min(tenant.log.last());
        if incarnation == self.durable.incarnation && sequence > tenant.log.acknowledged() {
            self.commit(Record::Acknowledged { framework, sequence });
        }
    }

    pub(crate) fn remove_framework(&mut self, framework: FrameworkId) {
        self.out.drop_updates_of(framework, None);
        for id in self.works_of(framework) {
            if self.durable.works.get(&id).is_some_and(|work| matches!(work.stage, Stage::Preparing)) {
                self.out.push(AgentEffect::Abandon { work: id });
            }
        }
        let own = |scope: RunnerScope| scope.framework == Some(framework);
        let runners: Vec<RunnerId> =
            self.runners().filter(|(_, scope)| own(*scope)).map(|(runner, _)| runner).collect();
        for runner in runners {
            self.stop_runner(runner, Duration::ZERO, "its framework is over");
        }
        // Runners that it shared with others live on without its tasks.
        for id in self.works_of(framework) {
            let runner = self.durable.works.get(&id).and_then(Work::runner).filter(|runner| self.is_live(*runner));
            if let Some(runner) = runner {
                let message = ToRunner::Kill { work: id, positions: None, grace: Duration::ZERO };
                self.out.push(AgentEffect::ToRunner { runner, message });
            }
        }
        if self.durable.tenants.contains_key(&framework) {
            self.commit(Record::FrameworkRemoved { framework });
        }
    }

    /// Kills runners that did not end a killed task in time: a runner is not trusted to obey.
    pub(crate) fn expire_kills(&mut self, now: Time) {
        let due: Vec<WorkId> =
            self.kill_deadlines.iter().filter(|(_, deadline)| **deadline <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.kill_deadlines.remove(&id);
            let Some(work) = self.durable.works.get(&id) else { continue };
            let stuck = work.statuses.iter().any(|status| status.state == TaskState::Killing);
            if let Some(runner) = work.runner().filter(|_| stuck) {
                self.stop_runner(runner, Duration::ZERO, "it did not end a killed task in time");
            }
        }
    }
}
