//! The runner process as a state machine: queues of tasks, slots, grace periods, and reports kept until acknowledged.

mod event;
mod executors;
mod reports;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    BatchId, FrameworkId, FromRunner, Launch, MAX_BATCH_TASKS, MAX_MESSAGE_BYTES, Prepared, Reason, TaskState,
    TaskStatus, Time, ToRunner, WorkId,
};

pub use event::{RunnerEffect, RunnerEvent};

use crate::options::{MAX_GRACE, RunnerOptions};
use reports::Reports;
pub(crate) use work::{RunnerWork, Task, TaskStep};

/// Most ranges of tasks killed ahead of their launch that are remembered: as many as a launch can have.
const MAX_EARLY_KILLS: usize = MAX_BATCH_TASKS as usize;

/// The core of a runner process.
#[derive(Debug)]
pub struct Runner {
    options: RunnerOptions,
    pub(crate) works: BTreeMap<WorkId, RunnerWork>,
    pub(crate) reports: Reports,
    /// Kills that came directly before the launch they belong to: of tasks that ended while it was prepared.
    early_kills: Vec<(WorkId, u32, u32)>,
    /// Grace periods that run.
    pub(crate) deadlines: BTreeSet<(Time, WorkId, u32)>,
    /// Works with free slots that may have queued tasks; filled once per burst.
    refill: BTreeSet<WorkId>,
    /// Executors that have not ended.
    executors: BTreeMap<(FrameworkId, BatchId), WorkId>,
    agent: AgentLink,
    out: Vec<RunnerEffect>,
}

/// Whether anybody looks after the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentLink {
    Connected,
    /// With the time at which the runner gives up.
    Alone(Time),
    /// It has been told to end, or has given up.
    Ending,
}

impl Runner {
    /// A runner without work that waits for its agent.
    pub fn new(options: RunnerOptions, now: Time) -> Runner {
        Runner {
            agent: AgentLink::Alone(now + options.recovery),
            works: BTreeMap::new(),
            reports: Reports::new(options.report_window),
            early_kills: Vec::new(),
            deadlines: BTreeSet::new(),
            refill: BTreeSet::new(),
            executors: BTreeMap::new(),
            options,
            out: Vec::new(),
        }
    }

    /// Applies one event. Never blocks, never fails.
    pub fn handle(&mut self, now: Time, event: RunnerEvent) {
        match event {
            RunnerEvent::AgentConnected => self.agent_connected(),
            RunnerEvent::AgentDisconnected => {
                if self.agent == AgentLink::Connected {
                    self.agent = AgentLink::Alone(now + self.options.recovery);
                }
            }
            RunnerEvent::FromAgent(message) => self.hear_agent(message, now),
            RunnerEvent::Started { work, position } => self.started(work, position),
            RunnerEvent::Ended { work, position, status } => self.ended(work, position, status, now),
            RunnerEvent::TaskMessage { work, position, data } => self.task_message(work, position, data),
            RunnerEvent::Wake => {}
        }
        self.expire(now);
        self.fill_slots(now);
    }

    /// What is to be done, in order. Several events may be handled before: their reports then share one message.
    pub fn drain_effects(&mut self) -> impl Iterator<Item = RunnerEffect> {
        let fresh = self.reports.seal(self.agent == AgentLink::Connected);
        self.out.extend(fresh.into_iter().map(|page| RunnerEffect::ToAgent(FromRunner::Reports(page))));
        self.out.drain(..)
    }

    /// What is to be done about tasks, and what has been decided to say, without closing the reports: those go on collecting
    /// until [`Runner::drain_effects`].
    pub fn drain_decisions(&mut self) -> impl Iterator<Item = RunnerEffect> {
        self.out.drain(..)
    }

    /// Whether [`Runner::drain_effects`] would bring reports.
    pub fn wants_to_report(&self) -> bool {
        self.agent == AgentLink::Connected && self.reports.has_unsent()
    }

    /// Whether reports wait only for room: those that collect meanwhile do not make them worth waiting for.
    pub fn is_behind(&self) -> bool {
        self.reports.is_behind()
    }

    /// When [`RunnerEvent::Wake`] is next useful.
    pub fn next_wake(&self) -> Option<Time> {
        let alone = match self.agent {
            AgentLink::Alone(deadline) => Some(deadline),
            AgentLink::Connected | AgentLink::Ending => None,
        };
        alone.into_iter().chain(self.deadlines.first().map(|(deadline, _, _)| *deadline)).min()
    }

    /// A launch that has not been forgotten.
    pub fn work(&self, work: WorkId) -> Option<(FrameworkId, &Launch, &Prepared)> {
        self.works.get(&work).map(|work| (work.framework, &work.launch, &work.prepared))
    }

    /// The launch of the executor that the tasks of a launch run in, if they do.
    pub fn executor_of(&self, work: WorkId) -> Option<WorkId> {
        self.works.get(&work)?.inside
    }

    /// Tasks that were spawned and have not ended.
    pub fn live(&self) -> usize {
        self.works.values().map(|work| work.spawned as usize).sum()
    }

    fn agent_connected(&mut self) {
        if self.agent == AgentLink::Ending {
            return;
        }
        self.agent = AgentLink::Connected;
        let works = self.works.keys().copied().collect();
        self.out.push(RunnerEffect::ToAgent(FromRunner::Hello { runner: self.options.runner, works }));
        self.reports.send_all_again();
    }

    fn hear_agent(&mut self, message: ToRunner, now: Time) {
        match message {
            ToRunner::Launch { work, framework, launch, prepared } => {
                self.launch(work, framework, launch, prepared, now)
            }
            ToRunner::Kill { work, positions, grace } => self.kill(work, positions, grace, now),
            ToRunner::Trim { work, from, message } => {
                let status = trimmed(&message);
                self.give_up(work, from..u32::MAX, &status);
            }
            ToRunner::Message { work, position, data } => {
                if self.task(work, position).is_some_and(Task::is_spawned) {
                    self.out.push(RunnerEffect::Deliver { work, position, data });
                }
            }
            ToRunner::Acknowledge { sequence } => self.acknowledge(sequence),
            ToRunner::Stop => self.exit("the agent said so"),
        }
    }

    fn launch(&mut self, id: WorkId, framework: FrameworkId, launch: Launch, prepared: Prepared, now: Time) {
        let early = std::mem::take(&mut self.early_kills);
        let count = launch.tasks.count();
        // Sent twice into a socket that broke in between; the ranges have been checked by the agent.
        if self.works.contains_key(&id) || count == 0 || count > MAX_BATCH_TASKS {
            return;
        }
        let mut work = RunnerWork::new(framework, launch, prepared, now);
        for (_, first, count) in early.into_iter().filter(|(work, _, _)| *work == id) {
            // The agent has reported these itself.
            work.give_up(first..first.saturating_add(count));
        }
        if work.left > 0 {
            self.works.insert(id, work);
            self.enter_executor(id);
            self.refill.insert(id);
        }
    }

    fn kill(&mut self, id: WorkId, positions: Option<(u32, u32)>, grace: Duration, now: Time) {
        let (first, count) = positions.unwrap_or((0, u32::MAX));
        let Some(work) = self.works.get(&id) else {
            if self.early_kills.len() < MAX_EARLY_KILLS {
                self.early_kills.push((id, first, count));
            }
            return;
        };
        let range = first..first.saturating_add(count).min(work.launch.tasks.count());
        let status = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
        self.give_up(id, range.clone(), &status);
        let deadline = (!grace.is_zero()).then(|| now + grace.min(MAX_GRACE));
        for position in range {
            self.stop(id, position, deadline, grace.min(MAX_GRACE));
        }
    }

    fn stop(&mut self, id: WorkId, position: u32, deadline: Option<Time>, grace: Duration) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Some(before) = work.task(position).filter(|task| task.is_spawned()) else { return };
        let Some(Task::Stopping { deadline, .. }) = work.step(position, TaskStep::Stop(deadline)) else { return };
        if let Task::Stopping { deadline: Some(earlier), .. } = before {
            self.deadlines.remove(&(earlier, id, position));
        } else {
            self.report(id, position, 1, TaskStatus::because(TaskState::Killing, Reason::Killed, ""));
        }
        let asked = matches!(before, Task::Stopping { .. });
        match deadline {
            Some(deadline) => {
                self.deadlines.insert((deadline, id, position));
                if !asked {
                    self.out.push(RunnerEffect::Stop { work: id, position, grace });
                }
            }
            None => self.out.push(RunnerEffect::Kill { work: id, position }),
        }
    }

    /// Ends queued tasks without running them.
    fn give_up(&mut self, id: WorkId, range: std::ops::Range<u32>, status: &TaskStatus) {
        let runs = self.works.get_mut(&id).map(|work| work.give_up(range)).unwrap_or_default();
        for (first, count) in runs {
            self.report(id, first, count, status.clone());
        }
    }

    fn started(&mut self, id: WorkId, position: u32) {
        if let Some(Task::Running { .. }) = self.task(id, position) {
            self.report(id, position, 1, TaskStatus::of(TaskState::Running));
        }
    }

    fn ended(&mut self, id: WorkId, position: u32, mut status: TaskStatus, now: Time) {
        let task = self.task(id, position);
        let (Some(Task::Running { since }) | Some(Task::Stopping { since, .. })) = task else { return };
        self.end_inside(id, &status, now);
        let Some(work) = self.works.get_mut(&id) else { return };
        if let Some(Task::Stopping { deadline: Some(deadline), .. }) = task {
            self.deadlines.remove(&(deadline, id, position));
        }
        status.usage.queued = since.since(work.accepted);
        work.step(position, TaskStep::End);
        self.refill.insert(id);
        self.report(id, position, 1, status);
    }

    fn task_message(&mut self, work: WorkId, position: u32, data: Arc<[u8]>) {
        let spawned = self.task(work, position).is_some_and(Task::is_spawned);
        if spawned && data.len() <= MAX_MESSAGE_BYTES && self.agent == AgentLink::Connected {
            self.out.push(RunnerEffect::ToAgent(FromRunner::Message { work, position, data }));
        }
    }

    fn acknowledge(&mut self, sequence: u64) {
        for (id, count) in self.reports.acknowledge(sequence) {
            let Some(work) = self.works.get_mut(&id) else { continue };
            work.unacknowledged -= count;
            if work.is_settled() {
                self.works.remove(&id);
                self.refill.remove(&id);
                self.out.push(RunnerEffect::Forget { work: id });
            }
        }
    }

    fn report(&mut self, id: WorkId, first: u32, count: u32, status: TaskStatus) {
        self.reports.add(id, first, count, status);
        if let Some(work) = self.works.get_mut(&id) {
            work.unacknowledged += u64::from(count);
        }
    }

    fn task(&self, work: WorkId, position: u32) -> Option<Task> {
        self.works.get(&work)?.task(position)
    }

    fn fill_slots(&mut self, now: Time) {
        if self.agent == AgentLink::Ending {
            return;
        }
        for id in std::mem::take(&mut self.refill) {
            if !self.may_spawn(id) {
                // Its executor is about to end, and it with it.
                continue;
            }
            let Some(work) = self.works.get_mut(&id) else { continue };
            while let Some(position) = work.spawn_next(now) {
                self.out.push(RunnerEffect::Spawn { work: id, position });
            }
        }
    }

    fn expire(&mut self, now: Time) {
        while let Some((deadline, id, position)) = self.deadlines.first().copied().filter(|first| first.0 <= now) {
            self.deadlines.remove(&(deadline, id, position));
            if let Some(work) = self.works.get_mut(&id)
                && work.step(position, TaskStep::Stop(None)).is_some()
            {
                self.out.push(RunnerEffect::Kill { work: id, position });
            }
        }
        if matches!(self.agent, AgentLink::Alone(deadline) if deadline <= now) {
            self.exit("no agent has come for it in time");
        }
    }

    fn exit(&mut self, message: &str) {
        if self.agent != AgentLink::Ending {
            self.agent = AgentLink::Ending;
            self.out.push(RunnerEffect::Exit { message: message.into() });
        }
    }
}

/// The end of a task that was trimmed, with what the master said about it.
pub(crate) fn trimmed(message: &Arc<str>) -> TaskStatus {
    let message = if message.is_empty() { "trimmed before it started".into() } else { Arc::clone(message) };
    TaskStatus::because(TaskState::Killed, Reason::Trimmed, message)
}
