//! What runners report: checked task by task, since a runner holds hostile code and may itself be hostile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    FrameworkId, MAX_MESSAGE_BYTES, Reason, RunnerId, RunnerReport, TaskState, TaskStatus, ToMaster, ToRunner, Usage,
    WorkId,
};

use crate::agent::{Agent, AgentCounters};
use crate::event::AgentEffect;
use crate::launching::NewEntry;
use crate::options::MAX_STATUS_MESSAGE_BYTES;
use crate::work::{Work, cut};

impl Agent {
    /// Applies reports in order. Whatever they say, each number counts as received, so that the runner can let go of it.
    pub(crate) fn reports(&mut self, runner: RunnerId, reports: Vec<RunnerReport>) {
        if !self.durable.runners.contains_key(&runner) {
            return;
        }
        let ended = self.ended_in(&reports);
        let mut pending: Option<NewEntry> = None;
        for report in reports {
            if !self.is_new(runner, report.sequence) {
                continue;
            }
            let passing = !report.status.state.is_terminal();
            if passing
                && (report.first..report.first.saturating_add(report.count))
                    .all(|at| ended.contains(&(report.work, at)))
            {
                continue;
            }
            if let Some(entry) = &mut pending
                && continues(entry, &report)
                && self.is_open(runner, &report)
            {
                let waited = self.durable.works.get(&report.work).map_or(Duration::ZERO, |work| work.waited);
                absorb(entry, &report, waited);
                entry.reporter = Some((runner, report.sequence));
                continue;
            }
            if let Some(entry) = pending.take() {
                self.log(entry);
            }
            pending = self.accept(runner, report);
        }
        if let Some(entry) = pending {
            self.log(entry);
        }
        let sequence = self.slots.get(&runner).map_or(0, |slot| slot.applied);
        self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Acknowledge { sequence } });
    }

    /// Tasks that end within these reports, if anything else is reported at all: their earlier states need no entry.
    fn ended_in(&self, reports: &[RunnerReport]) -> BTreeSet<(WorkId, u32)> {
        let mut ended = BTreeSet::new();
        if reports.iter().all(|report| report.status.state.is_terminal()) {
            return ended;
        }
        for report in reports.iter().filter(|report| is_end(report.status.state)) {
            if let Some(work) = self.durable.works.get(&report.work) {
                ended.extend(work.clip(report.first, report.count).map(|position| (report.work, position)));
            }
        }
        ended
    }

    fn is_new(&mut self, runner: RunnerId, sequence: u64) -> bool {
        let Some(slot) = self.slots.get_mut(&runner) else { return false };
        if sequence <= slot.applied {
            return false;
        }
        if sequence - slot.applied > 1 && slot.applied > 0 {
            self.counters.runner_faults += 1;
        }
        slot.applied = sequence;
        true
    }

    /// Whether the report is wholly about tasks of this runner that may enter its state.
    fn is_open(&self, runner: RunnerId, report: &RunnerReport) -> bool {
        let Some(work) = self.durable.works.get(&report.work) else { return false };
        let range = work.clip(report.first, report.count);
        let open = |position| may_enter(work.status(position).state, report.status.state);
        work.runner() == Some(runner) && range.len() == report.count as usize && range.into_iter().all(open)
    }

    /// The last of the entries a report leads to; those before it are logged. Tasks that may not enter the state are
    /// left alone.
    fn accept(&mut self, runner: RunnerId, report: RunnerReport) -> Option<NewEntry> {
        let known = self.durable.works.get(&report.work).filter(|work| work.runner() == Some(runner));
        let Some((work, state)) =
            known.filter(|_| is_reportable(report.status.state)).map(|work| (work, report.status.state))
        else {
            self.counters.ignored_reports += 1;
            return None;
        };
        let range = work.clip(report.first, report.count);
        let repeated = work.runs_where(range.clone(), |from| from == state && !state.is_terminal());
        let mut runs = work.runs_where(range, |from| may_enter(from, state));
        let covered = |runs: &[(u32, u32)]| runs.iter().map(|(_, count)| *count).sum::<u32>();
        if covered(&runs) + covered(&repeated) != report.count {
            self.counters.ignored_reports += 1;
        }
        let (first, count) = runs.pop()?;
        let (waited, asked) = (work.waited, work.status(first).clone());
        let used = |first: u32, count: u32| {
            if report.usages.are_shared() { Vec::new() } else { usages_of(&report, first, count, waited) }
        };
        let mut status = clean(report.status.clone(), &mut self.counters);
        status.usage = queued_for(status.usage, state, waited);
        let trimmed = status.reason == Some(Reason::Trimmed);
        if state == TaskState::Killed
            && !trimmed
            && matches!(asked.reason, Some(Reason::GroupFailed | Reason::Preempted))
        {
            // The runner knows that it was killed, not why.
            (status.reason, status.message) = (asked.reason, asked.message);
        }
        let entry = |(first, count), reporter| {
            let (status, usages) = (status.clone(), used(first, count));
            NewEntry { work: report.work, first, count, status, usages, reporter }
        };
        for run in runs {
            // Only the last part says that the whole report has been applied.
            self.log(entry(run, Some((runner, 0))));
        }
        Some(entry((first, count), Some((runner, report.sequence))))
    }

    pub(crate) fn message_from_task(&mut self, runner: RunnerId, id: WorkId, position: u32, data: Arc<[u8]>) {
        let task = self.speaker(runner, id, position).filter(|_| data.len() <= MAX_MESSAGE_BYTES);
        let sent = task.is_some_and(|(framework, task)| self.tell_master(ToMaster::Message { framework, task, data }));
        if !sent {
            self.counters.dropped_messages += 1;
        }
    }

    fn speaker(&self, runner: RunnerId, id: WorkId, position: u32) -> Option<(FrameworkId, holm_model::TaskId)> {
        let alive = |work: &&Work| position < work.launch.tasks.count() && !work.status(position).state.is_terminal();
        let work = self.durable.works.get(&id).filter(|work| work.runner() == Some(runner)).filter(alive)?;
        Some((work.framework, work.launch.task_id(position)))
    }
}

fn is_end(state: TaskState) -> bool {
    matches!(state, TaskState::Finished | TaskState::Failed | TaskState::Killed)
}

/// A runner knows of tasks that run and end; the other states are not its to give.
fn is_reportable(state: TaskState) -> bool {
    is_end(state) || matches!(state, TaskState::Running | TaskState::Killing)
}

/// Whether a task moves on: repeating a live state says nothing new.
fn may_enter(from: TaskState, to: TaskState) -> bool {
    from != to && from.transition(to).is_ok()
}

/// Whether a report says of the next tasks what an entry says of those before. The status is compared before cleaning,
/// so that only what needed none is merged.
fn continues(entry: &NewEntry, report: &RunnerReport) -> bool {
    report.count > 0
        && entry.work == report.work
        && entry.first.saturating_add(entry.count) == report.first
        && entry.status.is_alike(&report.status)
}

/// Adds a report that continues an entry to it.
fn absorb(entry: &mut NewEntry, report: &RunnerReport, waited: Duration) {
    let more = usages_of(report, report.first, report.count, waited);
    let shared = entry.usages.is_empty();
    if !(shared && more.iter().all(|usage| *usage == entry.status.usage)) {
        if shared {
            entry.usages = vec![entry.status.usage; entry.count as usize];
        }
        entry.usages.extend(more);
    }
    entry.count += report.count;
}

/// What the tasks used that a report names, each.
fn usages_of(report: &RunnerReport, first: u32, count: u32, waited: Duration) -> Vec<Usage> {
    let offset = first.saturating_sub(report.first) as usize;
    let each = (offset..offset + count as usize).map(|offset| report.usages.of(offset, &report.status));
    each.map(|usage| queued_for(usage, report.status.state, waited)).collect()
}

/// The time before the runner had the task is part of its time in the queue.
fn queued_for(usage: Usage, state: TaskState, waited: Duration) -> Usage {
    if is_end(state) { Usage { queued: usage.queued.saturating_add(waited), ..usage } } else { usage }
}

/// What a runner may say about a task, within its bounds.
fn clean(mut status: TaskStatus, counters: &mut AgentCounters) -> TaskStatus {
    let mut clipped = false;
    if status.message.len() > MAX_STATUS_MESSAGE_BYTES {
        status.message = cut(&status.message, MAX_STATUS_MESSAGE_BYTES).into();
        clipped = true;
    }
    if status.reason.is_some_and(|reason| !is_runners_reason(reason)) {
        status.reason = Some(Reason::RunnerError);
        clipped = true;
    }
    if status.attempt != 0 || (status.exit_code.is_some() && !is_end(status.state)) {
        status.attempt = 0;
        status.exit_code = status.exit_code.filter(|_| is_end(status.state));
        clipped = true;
    }
    counters.clipped_statuses += u64::from(clipped);
    status
}

fn is_runners_reason(reason: Reason) -> bool {
    use Reason::{
        Compile, Deadline, DiskLimit, ExecutorLost, ExitCode, Fetch, Fuel, InvalidModule, Killed, MemoryLimit,
        NotAllowed, Preempted, RunnerError, Sandbox, Trap, Trimmed,
    };
    let execution = matches!(reason, ExitCode | Trap | Fuel | MemoryLimit | DiskLimit | Deadline | Killed | Preempted);
    let setup = reason == ExecutorLost
        || matches!(reason, Fetch | Compile | InvalidModule | NotAllowed | Sandbox | RunnerError | Trimmed);
    execution || setup
}
