//! From a master's launch to a runner's: taken or refused, prepared, sent.

use std::time::Duration;

use holm_model::{
    FrameworkId, Launch, MAX_BATCH_TASKS, Portions, Reason, Role, RunnerId, TaskRange, TaskState, TaskStatus, Time,
    ToRunner, Update, Usage, Usages, WorkId,
};

use crate::agent::Agent;
use crate::event::{AgentEffect, PrepareError};
use crate::master_link::Link;
use crate::options::MAX_STATUS_MESSAGE_BYTES;
use crate::record::Record;
use crate::work::{Stage, Step, Work, cut};

/// Runs of this many log entries over the bound pass between two compactions.
const COMPACTION_STEP: usize = 1024;

/// One new entry of a status log, before it has a sequence.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    pub(crate) work: WorkId,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) status: TaskStatus,
    /// What each of them used; empty when the status says it for all.
    pub(crate) usages: Vec<Usage>,
    /// The runner that reported it and the number of its report.
    pub(crate) reporter: Option<(RunnerId, u64)>,
}

impl NewEntry {
    /// An entry that no runner reported.
    pub(crate) fn own(work: WorkId, first: u32, count: u32, status: TaskStatus) -> NewEntry {
        NewEntry { work, first, count, status, usages: Vec::new(), reporter: None }
    }
}

impl Agent {
    pub(crate) fn launch(
        &mut self,
        sequence: u64,
        (framework, role): (FrameworkId, Role),
        origins: Portions,
        launch: Launch,
        now: Time,
    ) {
        if !self.is_next_launch(sequence) {
            return;
        }
        if let Err(message) = self.make_way(framework, &launch) {
            return self.fault(&message);
        }
        let refusal = self.refusal(framework, &launch);
        let id = WorkId(self.durable.next_work);
        if !self.commit(Record::WorkAdded { work: id, framework, role, origins, launch, group: None }) {
            return;
        }
        match refusal.map_or_else(|| self.admit(id), Err) {
            Ok(()) => self.begin(id, now),
            Err(status) => {
                self.counters.refused_launches += 1;
                self.end_unsent(id, status);
            }
        }
    }

    /// Whether what is launched under this number is to be looked at. Numbers that were seen before say nothing new; after
    /// one that was skipped the stream is not to be trusted.
    pub(crate) fn is_next_launch(&mut self, sequence: u64) -> bool {
        let Link::Registered { launches, .. } = &mut self.link else { return false };
        if sequence <= *launches {
            self.counters.repeated_launches += 1;
            return false;
        }
        if sequence != *launches + 1 {
            let message = format!("launch has sequence {sequence} where {} is next", *launches + 1);
            self.fault(&message);
            return false;
        }
        *launches = sequence;
        true
    }

    /// Charges what a work that was just added holds.
    pub(crate) fn admit(&mut self, id: WorkId) -> Result<(), TaskStatus> {
        let Some(work) = self.durable.works.get(&id) else { return Ok(()) };
        self.ledger.admit(id, work, &self.lending.lent()).map_err(|error| refused(error.to_string()))
    }

    /// Starts the way of a work that was admitted.
    pub(crate) fn begin(&mut self, id: WorkId, now: Time) {
        let Some(work) = self.durable.works.get_mut(&id) else { return };
        work.taken = Some(now);
        self.mark_busy(id);
        self.prepare(id, now);
    }

    /// Checks what cannot be answered under the launch's own name, and forgets an ended launch of that name.
    ///
    /// # Errors
    /// Why the stream must be given up. An update that named a live launch would end it in everybody's books, and a range
    /// that is no range cannot be answered task by task; after registering again both sides agree on what is here.
    pub(crate) fn make_way(&mut self, framework: FrameworkId, launch: &Launch) -> Result<(), String> {
        let count = launch.tasks.count();
        let overflows = matches!(launch.tasks, TaskRange::Array { first, count } if first.checked_add(count).is_none());
        if count == 0 || count > MAX_BATCH_TASKS || overflows {
            return Err(format!("launch {} has a range of {count} tasks; it needs 1 to {MAX_BATCH_TASKS}", launch.id));
        }
        let Some(tenant) = self.durable.tenants.get(&framework) else { return Ok(()) };
        let limit = self.options.max_framework_tasks;
        if tenant.log.ends() > limit.saturating_mul(2) {
            return Err(format!("{framework} has {} unacknowledged ends; the limit is {limit}", tenant.log.ends()));
        }
        let Some(earlier) = tenant.batches.get(&launch.id).copied() else { return Ok(()) };
        if self.durable.works.get(&earlier).is_some_and(|work| work.live > 0) {
            return Err(format!("launch {} of {framework} is live here and was launched again", launch.id));
        }
        // The name is used again before the last end was acknowledged: entries about two launches of one name could
        // not be told apart, and whoever uses a name again knows that the earlier one is over.
        self.out.drop_updates_of(framework, Some(&launch.id));
        self.commit(Record::WorkRemoved { work: earlier });
        Ok(())
    }

    fn refusal(&self, framework: FrameworkId, launch: &Launch) -> Option<TaskStatus> {
        invalid(launch)
            .or_else(|| self.without_executor(framework, launch))
            .or_else(|| self.over_limit(framework, launch.tasks.count().into()))
            .or_else(|| self.lacks(launch))
    }

    /// Why what a launch asks is not there, if so.
    fn lacks(&self, launch: &Launch) -> Option<TaskStatus> {
        let error = self.ledger.check(launch, &self.lending.lent()).err()?;
        let what = if launch.spec.revocable { "of what is lent: " } else { "" };
        Some(refused(format!("{what}{error}")))
    }

    /// Why so many more tasks of a framework are not taken, if so.
    pub(crate) fn over_limit(&self, framework: FrameworkId, count: u64) -> Option<TaskStatus> {
        let (live, ends) =
            self.durable.tenants.get(&framework).map_or((0, 0), |tenant| (tenant.live, tenant.log.ends()));
        let limit = self.options.max_framework_tasks;
        let over = live.saturating_add(ends).saturating_add(count) > limit;
        over.then(|| {
            refused(format!(
                "{count} tasks asked, {live} live and {ends} ended without acknowledgement; the limit for a framework \
                 on an agent is {limit}"
            ))
        })
    }

    /// Ends every live task of a work that no runner has.
    pub(crate) fn end_unsent(&mut self, id: WorkId, status: TaskStatus) {
        self.end_where(id, |_| true, status);
    }

    /// Ends every live task of a work whose state satisfies `wanted`.
    pub(crate) fn end_where(&mut self, id: WorkId, wanted: impl Fn(TaskState) -> bool, status: TaskStatus) {
        let Some(work) = self.durable.works.get(&id) else { return };
        for (first, count) in work.runs_where(work.clip(0, u32::MAX), |state| !state.is_terminal() && wanted(state)) {
            self.log(NewEntry::own(id, first, count, status.clone()));
        }
    }

    /// Appends to the status log, gives back resources, and follows up when that was the launch's last task.
    pub(crate) fn log(&mut self, entry: NewEntry) {
        let NewEntry { work: id, first, count, mut status, usages, reporter } = entry;
        let usages = Usages::fold(&mut status, &usages);
        let Some(work) = self.durable.works.get(&id) else { return };
        let (framework, holder) = (work.framework, work.runner());
        let sequence = self.durable.next_sequence(framework);
        let update = Update { sequence, batch: work.launch.id.clone(), first, count, status, usages };
        let (runner, runner_sequence) = reporter.map_or((None, 0), |(runner, sequence)| (Some(runner), sequence));
        if !self.commit(Record::Updated { framework, update: update.clone(), runner, runner_sequence }) {
            return;
        }
        let update_end = update.status.state.is_terminal().then(|| update.status.clone());
        if self.link.registered().is_some() {
            self.out.update(framework, update);
        }
        if let Some(work) = self.durable.works.get(&id) {
            self.ledger.settle(id, work);
            let (slots, live) = (work.places(), work.live);
            if let Some(holder) = holder {
                self.note_load(holder, id, slots);
            }
            if live == 0 {
                self.stop_waiting(id);
                self.trims.remove(&id);
                self.kill_deadlines.remove(&id);
            }
        }
        self.note_fallout(id, first, update_end);
        let entries = self.durable.tenants.get(&framework).map_or(0, |tenant| tenant.log.len());
        if entries > self.options.max_log_entries && entries.is_multiple_of(COMPACTION_STEP) {
            self.durable.compact(framework);
        }
    }

    pub(crate) fn prepared(&mut self, id: WorkId, result: Result<holm_model::Prepared, PrepareError>, now: Time) {
        let Some(work) = self.durable.works.get_mut(&id) else { return };
        if !matches!(work.stage, Stage::Preparing) {
            return;
        }
        match result {
            Ok(prepared) => {
                if let Ok(stage) = work.stage.step(Step::Prepared(prepared)) {
                    work.stage = stage;
                    self.dispatch_group(id, now);
                }
            }
            Err(PrepareError { state, reason, message }) => {
                let state = if state == TaskState::Error { state } else { TaskState::Failed };
                self.end_unsent(id, TaskStatus::because(state, reason, message));
            }
        }
    }

    /// Says why a launch that is prepared still waits. Its tasks stay where they are.
    pub(crate) fn delayed(&mut self, id: WorkId, message: &str) {
        let Some(work) = self.durable.works.get(&id).filter(|work| matches!(work.stage, Stage::Preparing)) else {
            return;
        };
        let message = cut(message, MAX_STATUS_MESSAGE_BYTES).into();
        let status = TaskStatus { message, ..TaskStatus::of(TaskState::Staging) };
        let unsaid = |position: u32| {
            let known = work.status(position);
            known.state == TaskState::Staging && *known != status
        };
        let positions: Vec<u32> = work.clip(0, u32::MAX).filter(|position| unsaid(*position)).collect();
        for run in positions.chunk_by(|before, after| before + 1 == *after) {
            let count = u32::try_from(run.len()).expect("a launch has at most 4096 tasks");
            self.log(NewEntry::own(id, run[0], count, status.clone()));
        }
    }

    pub(crate) fn send(&mut self, id: WorkId, runner: RunnerId, now: Time) {
        let Some(prepared) = self.prepared_of(id) else { return };
        if !self.commit(Record::WorkSent { work: id, runner }) {
            return;
        }
        let slots = self.durable.works.get(&id).map_or(0, Work::places);
        self.note_load(runner, id, slots);
        let Some(work) = self.durable.works.get_mut(&id) else { return };
        work.waited = work.taken.map_or(Duration::ZERO, |taken| now.since(taken));
        // Tasks that ended while the work was prepared: the runner holds kills for the launch that follows them.
        for (first, count) in work.runs_where(work.clip(0, u32::MAX), TaskState::is_terminal) {
            let message = ToRunner::Kill { work: id, positions: Some((first, count)), grace: Duration::ZERO };
            self.out.push(AgentEffect::ToRunner { runner, message });
        }
        let (framework, launch) = (work.framework, work.launch.clone());
        let message = ToRunner::Launch { work: id, framework, launch, prepared };
        self.out.push(AgentEffect::ToRunner { runner, message });
        self.dispatch_inside(id, now);
    }
}

/// Why a launch is not one that can be, if so.
pub(crate) fn invalid(launch: &Launch) -> Option<TaskStatus> {
    let error = launch.validate().err()?;
    Some(TaskStatus::because(TaskState::Error, Reason::InvalidTask, describe(&error)))
}

fn refused(message: String) -> TaskStatus {
    TaskStatus::because(TaskState::Dropped, Reason::AgentRefused, format!("the agent refused the launch: {message}"))
}

/// An error with what it stems from.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
