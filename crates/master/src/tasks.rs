//! Where tasks change state, and what follows from it: freed resources, deltas, launches that can be forgotten.

use std::ops::Range;
use std::sync::Arc;

use holm_model::{
    AgentId, BatchReport, FrameworkId, Incarnation, SchedulerEvent, Source, TaskState, TaskStatus, Update, Usages,
};

use crate::launches::{Applied, Place, Record};
use crate::offers::pages;
use crate::{Delta, LaunchView, Master, SessionId};

/// In a report of more runs than this, long messages are cut so that it fits a message.
const MANY_RUNS: usize = 256;
/// About how many bytes the usage of one task takes on the wire.
const USAGE_BYTES: usize = 40;
/// What is left of a message in such a report.
const SHORT_MESSAGE_BYTES: usize = 128;

impl Master {
    /// Adds a launch to the books and charges what it holds. False when the allocator refuses the charge: the agent
    /// reported what cannot be, and nothing has changed.
    pub(crate) fn add_launch(&mut self, place: &Place, record: Record, charged: bool) -> bool {
        let slots = record.slots_needed();
        let mut record = record;
        record.charged = if charged { slots } else { 0 };
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.live_tasks += u64::from(record.live);
        }
        let report = record.report(place.framework, &place.batch);
        self.launches.insert(place, record);
        if !charged && !self.settle(place) {
            self.drop_launch(place);
            return false;
        }
        self.out.frameworks.insert(place.framework);
        self.touched(place.agent);
        self.out.delta(Delta::LaunchAdded(LaunchView { agent: place.agent, report }));
        true
    }

    /// Puts tasks into a status wherever that is a legal step: the one place where the master's tasks change state.
    pub(crate) fn enter(&mut self, place: &Place, positions: Range<u32>, status: &Arc<TaskStatus>) -> Applied {
        self.enter_each(place, positions, status, &Usages::default())
    }

    /// The same, for tasks each of which used something else.
    pub(crate) fn enter_each(
        &mut self,
        place: &Place,
        positions: Range<u32>,
        status: &Arc<TaskStatus>,
        usages: &Usages,
    ) -> Applied {
        let Some(record) = self.launches.get_mut(place) else { return Applied::default() };
        let start = positions.start;
        let applied = record.apply(positions, status, usages);
        if status.state == TaskState::Running && !applied.changed.is_empty() {
            record.started_last = Some(self.now);
        }
        if applied.ended > 0 {
            if let Some(framework) = self.frameworks.get_mut(&place.framework) {
                framework.live_tasks = framework.live_tasks.saturating_sub(u64::from(applied.ended));
            }
            self.out.frameworks.insert(place.framework);
            self.settle(place);
        }
        if !applied.changed.is_empty() {
            self.note_for_gang(place, status.state);
        }
        for range in &applied.changed {
            self.out.delta(Delta::TasksChanged {
                framework: place.framework,
                batch: place.batch.clone(),
                agent: place.agent,
                first: range.start,
                count: range.end - range.start,
                status: Arc::clone(status),
                usages: usages.part((range.start - start) as usize..(range.end - start) as usize),
            });
        }
        applied
    }

    /// Makes the allocator's charge what the launch needs now. False when it refuses a higher one.
    pub(crate) fn settle(&mut self, place: &Place) -> bool {
        let allocated = self.agents.get(&place.agent).is_some_and(|agent| agent.allocated);
        let Some(record) = self.launches.get_mut(place) else { return true };
        let (charged, needed) = (record.charged, if allocated { record.slots_needed() } else { 0 });
        let (more, less) = (record.held_by(charged.max(needed)), record.held_by(charged.min(needed)));
        // Fewer slots hold a part of what more of them hold.
        let difference = more.minus(&less).unwrap_or(more);
        let (role, revocable) = (record.role.clone(), record.revocable);
        record.charged = needed;
        if charged == needed {
            return true;
        }
        self.touched(place.agent);
        if needed < charged {
            let released = self.market(revocable).release(place.framework, &role, place.agent, &difference);
            self.check(released);
            return true;
        }
        let done = self.market(revocable).allocated(place.framework, &role, place.agent, &difference).is_ok();
        if !done && let Some(record) = self.launches.get_mut(place) {
            record.charged = charged;
        }
        done
    }

    /// Forgets a launch whose every task is over and acknowledged, once its framework has had the chance to hear of it.
    pub(crate) fn retire(&mut self, place: &Place) {
        let connected = self.frameworks.get(&place.framework).is_some_and(|framework| framework.connected().is_some());
        let over = |record: &Record| record.live == 0 && record.unacknowledged == 0;
        if connected && self.launches.get(place).is_some_and(over) {
            self.drop_launch(place);
        }
    }

    /// Takes a launch out of the books and frees what it holds.
    pub(crate) fn drop_launch(&mut self, place: &Place) {
        let Some(record) = self.launches.remove(place) else { return };
        self.forget_place(place);
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.live_tasks = framework.live_tasks.saturating_sub(u64::from(record.live));
        }
        if record.charged > 0 {
            let held = record.held_by(record.charged);
            let market = self.market(record.revocable);
            let released = market.release(place.framework, &record.role, place.agent, &held);
            self.check(released);
        }
        self.out.frameworks.insert(place.framework);
        self.touched(place.agent);
        let Place { framework, batch, agent } = place.clone();
        self.out.delta(Delta::LaunchRemoved { framework, batch, agent });
    }

    /// Tells a framework of new states, in messages of a bounded size, if it is there.
    pub(crate) fn send_updates(
        &mut self,
        framework: FrameworkId,
        agent: AgentId,
        source: Source,
        updates: Vec<Update>,
    ) {
        let incarnation = self.agents.get(&agent).and_then(|agent| agent.incarnation).unwrap_or_default();
        self.send_updates_of(framework, agent, incarnation, source, updates);
    }

    pub(crate) fn send_updates_of(
        &mut self,
        framework: FrameworkId,
        agent: AgentId,
        incarnation: Incarnation,
        source: Source,
        updates: Vec<Update>,
    ) {
        let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) else { return };
        for updates in pages(updates, update_bytes) {
            self.out.tell_framework(session, SchedulerEvent::Updates { agent, incarnation, source, updates });
        }
    }

    /// Sends a framework everything it has on an agent: launches first, then what it has not acknowledged.
    pub(crate) fn send_tasks(&mut self, session: SessionId, framework: FrameworkId, agent: AgentId, places: &[Place]) {
        let Some(incarnation) = self.agents.get(&agent).and_then(|agent| agent.incarnation) else { return };
        let reports = places.iter().filter_map(|place| {
            let record = self.launches.get(place)?;
            Some(shortened(record.report(place.framework, &place.batch)))
        });
        let cost = |report: &BatchReport| {
            let runs: usize = report.runs.iter().map(|run| 128 + run.status.message.len()).sum();
            512 + runs
        };
        let mut pages = pages(reports.collect(), cost);
        let end = pages.pop().unwrap_or_default();
        for batches in pages {
            self.out.tell_framework(session, SchedulerEvent::Tasks { agent, incarnation, batches, last: false });
        }
        self.out.tell_framework(session, SchedulerEvent::Tasks { agent, incarnation, batches: end, last: true });
        self.replay(framework, agent);
        for place in places {
            if self.launches.get(place).is_some_and(|record| record.derived) {
                self.retire(place);
            }
        }
    }

    /// Sends a framework the entries of an agent's log that it has not acknowledged.
    pub(crate) fn replay(&mut self, framework: FrameworkId, agent: AgentId) {
        let entries = self.logs.get(framework, agent).map(|log| log.entries.iter().cloned().collect::<Vec<_>>());
        let mut lives: Vec<(Incarnation, Vec<Update>)> = Vec::new();
        for (life, update) in entries.into_iter().flatten() {
            match lives.last_mut() {
                Some((last, updates)) if *last == life => updates.push(update),
                _ => lives.push((life, vec![update])),
            }
        }
        for (life, updates) in lives {
            self.send_updates_of(framework, agent, life, Source::Agent, updates);
        }
    }
}

/// About how many bytes an update takes on the wire.
fn update_bytes(update: &Update) -> usize {
    192 + update.status.message.len() + USAGE_BYTES * update.usages.len()
}

/// A report of many different statuses, with their messages cut.
fn shortened(mut report: BatchReport) -> BatchReport {
    if report.runs.len() > MANY_RUNS {
        for run in &mut report.runs {
            let message = &run.status.message;
            if message.len() > SHORT_MESSAGE_BYTES {
                run.status.message = message.chars().take(SHORT_MESSAGE_BYTES / 4).collect::<String>().into();
            }
        }
    }
    report
}

/// An update that the master derived.
pub(crate) fn derived(place: &Place, positions: Range<u32>, status: &TaskStatus) -> Update {
    Update {
        sequence: 0,
        batch: place.batch.clone(),
        first: positions.start,
        count: positions.end - positions.start,
        status: status.clone(),
        usages: Usages::default(),
    }
}
