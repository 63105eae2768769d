//! The folded state and how each change alters it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use holm_master::{AgentView, Delta, FrameworkPhase, FrameworkView, LaunchView};
use holm_model::{
    AgentId, BatchId, BatchReport, Digest, FrameworkId, Offer, OfferId, PolicyView, Resources, Role, RoleRecord,
    TaskId, TaskRange, TaskState, TaskStatus, Usage, Usages,
};

use super::changes::{Change, Changes};
use super::counts::Counts;
use super::preemptions::Preemptions;
use crate::metrics::Metrics;

/// How many tasks of launches that are over are remembered, all together.
pub(crate) const HISTORY_TASKS: usize = 100_000;

/// How many frameworks that have ended are remembered.
pub(crate) const COMPLETED_FRAMEWORKS: usize = 50;

/// An agent and its tasks.
#[derive(Debug)]
pub(crate) struct AgentEntry {
    pub(crate) view: AgentView,
    pub(crate) counts: Counts,
}

/// A framework and its tasks.
#[derive(Debug)]
pub(crate) struct FrameworkEntry {
    pub(crate) view: FrameworkView,
    pub(crate) counts: Counts,
    /// When this master saw it first, in microseconds of Unix time.
    pub(crate) registered_at: u64,
}

/// An offer that is out.
#[derive(Debug)]
pub(crate) struct OfferEntry {
    pub(crate) offer: Offer,
    /// Since when, in microseconds of Unix time.
    pub(crate) since: u64,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct TaskEntry {
    /// Shared with its neighbours; its usage does not count.
    pub(crate) status: Arc<TaskStatus>,
    pub(crate) usage: Usage,
    /// In microseconds of Unix time; 0 when it has not happened or was not seen.
    pub(crate) started_at: u64,
    /// Likewise.
    pub(crate) ended_at: u64,
}

/// A launch, live or remembered.
#[derive(Debug)]
pub(crate) struct LaunchEntry {
    pub(crate) framework: FrameworkId,
    pub(crate) framework_name: Arc<str>,
    pub(crate) agent: AgentId,
    pub(crate) role: Role,
    pub(crate) id: BatchId,
    pub(crate) range: TaskRange,
    pub(crate) slots: u32,
    pub(crate) shape: Resources,
    pub(crate) module: Digest,
    /// Whether it holds revocable resources.
    pub(crate) revocable: bool,
    pub(crate) tasks: Vec<TaskEntry>,
    pub(crate) launched_at: u64,
    /// How many of its tasks have ended.
    ended: u32,
    /// Whether the master has forgotten it.
    pub(crate) over: bool,
}

impl LaunchEntry {
    pub(crate) fn task_id(&self, position: usize) -> TaskId {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        TaskId { batch: self.id.clone(), index: self.range.index_at(position) }
    }

    /// Whether a task of it can still do something.
    pub(crate) fn is_live(&self) -> bool {
        !self.over && (self.ended as usize) < self.tasks.len()
    }

    /// Whether one of those tasks of it that `task` names can still do something.
    pub(crate) fn has_live(&self, task: &TaskId) -> bool {
        match task.index.and_then(|_| self.range.position_of(task.index)) {
            Some(position) => {
                let task = self.tasks.get(position as usize);
                !self.over && task.is_some_and(|task| !task.status.state.is_terminal())
            }
            None => self.is_live(),
        }
    }

    /// What its tasks hold now.
    pub(crate) fn held(&self) -> Resources {
        let left = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX).saturating_sub(self.ended);
        let slots = if self.over { 0 } else { left.min(self.slots) };
        match slots {
            0 => Resources::EMPTY,
            slots => self.shape.times(slots).unwrap_or_else(|| self.shape.clone()),
        }
    }
}

/// Everything the master has told.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) agents: BTreeMap<AgentId, AgentEntry>,
    pub(crate) frameworks: BTreeMap<FrameworkId, FrameworkEntry>,
    pub(crate) offers: BTreeMap<OfferId, OfferEntry>,
    pub(crate) roles: Vec<RoleShare>,
    /// What the shares are shares of.
    pub(crate) capacity: Resources,
    /// What operators have set; default records are not kept.
    pub(crate) role_records: BTreeMap<Role, RoleRecord>,
    pub(crate) policy: Option<PolicyView>,
    pub(crate) preemptions: Preemptions,
    /// By serial number, so that the newest is last.
    pub(crate) launches: BTreeMap<u64, LaunchEntry>,
    pub(crate) by_framework: BTreeMap<FrameworkId, BTreeSet<u64>>,
    pub(crate) by_name: BTreeMap<BatchId, BTreeSet<u64>>,
    pub(crate) counts: Counts,
    pub(crate) changes: Changes,
    /// The launches on revocable resources that the master knows, by agent.
    lent: BTreeMap<AgentId, BTreeSet<u64>>,
    /// The launches that the master knows.
    current: BTreeMap<(FrameworkId, BatchId, AgentId), u64>,
    next_serial: u64,
    /// Launches that are over, in the order in which they ended.
    history: VecDeque<u64>,
    history_tasks: usize,
    completed: VecDeque<FrameworkId>,
}

/// The allocator's report of a role, which reaches this crate inside the master's changes.
pub(crate) type RoleShare = holm_master::RoleShare;

impl State {
    /// Folds one change that was seen at `now` (microseconds of Unix time).
    pub(crate) fn apply(&mut self, delta: Delta, now: u64, metrics: &Metrics) {
        match delta {
            Delta::AgentChanged(view) => self.change_agent(view),
            Delta::AgentRemoved(id) => {
                self.agents.remove(&id);
                self.changes.push(Change::Agent(id));
            }
            Delta::FrameworkChanged(view) => self.change_framework(view, now),
            Delta::FrameworkRemoved(id) => self.remove_framework(id),
            Delta::LaunchAdded(view) => self.add_launch(view, now),
            Delta::TasksChanged { framework, batch, agent, first, count, status, usages } => {
                if let Some(serial) = self.current.get(&(framework, batch, agent)).copied() {
                    self.change_tasks(serial, first..first.saturating_add(count), (&status, &usages), now);
                    metrics.tasks_entered(&status, u64::from(count));
                }
            }
            Delta::LaunchRemoved { framework, batch, agent } => self.end_launch((framework, batch, agent)),
            Delta::OfferAdded(offer) => {
                self.changes.push(Change::Offer(offer.id));
                self.offers.insert(offer.id, OfferEntry { offer, since: now });
            }
            Delta::OfferRemoved(id) => {
                self.offers.remove(&id);
                self.changes.push(Change::Offer(id));
            }
            Delta::PolicyChanged(view) => self.policy = Some(view),
            Delta::Preemption(view) => {
                metrics.preemption(view.rule.as_str(), view.phase.as_str());
                self.preemptions.change(view, now);
            }
            Delta::RolesChanged { shares, capacity } => {
                self.roles = shares;
                self.capacity = capacity;
                self.changes.push(Change::Roles);
            }
            Delta::RoleSet(record) => {
                match record.is_default() {
                    true => drop(self.role_records.remove(&record.role)),
                    false => drop(self.role_records.insert(record.role.clone(), record)),
                }
                self.changes.push(Change::Roles);
            }
        }
    }

    fn change_agent(&mut self, view: AgentView) {
        let id = view.id;
        match self.agents.get_mut(&id) {
            Some(entry) => entry.view = view,
            None => drop(self.agents.insert(id, AgentEntry { view, counts: Counts::default() })),
        }
        self.changes.push(Change::Agent(id));
    }

    fn change_framework(&mut self, view: FrameworkView, now: u64) {
        let id = view.id;
        let completed = view.phase == FrameworkPhase::Completed;
        let was_completed = self.frameworks.get(&id).is_some_and(|old| old.view.phase == FrameworkPhase::Completed);
        match self.frameworks.get_mut(&id) {
            Some(entry) => entry.view = view,
            None => {
                let entry = FrameworkEntry { view, counts: Counts::default(), registered_at: now };
                self.frameworks.insert(id, entry);
            }
        }
        self.changes.push(Change::Framework(id));
        if completed && !was_completed {
            self.completed.push_back(id);
            if self.completed.len() > COMPLETED_FRAMEWORKS
                && let Some(oldest) = self.completed.pop_front()
            {
                self.remove_framework(oldest);
            }
        }
    }

    fn remove_framework(&mut self, id: FrameworkId) {
        self.frameworks.remove(&id);
        self.completed.retain(|completed| *completed != id);
        self.changes.push(Change::Framework(id));
    }

    fn add_launch(&mut self, view: LaunchView, now: u64) {
        let LaunchView { agent, report } = view;
        let key = (report.framework, report.id.clone(), agent);
        let old = self.current.remove(&key).and_then(|serial| Some((serial, self.take_launch(serial)?)));
        let (serial, launched_at) = match &old {
            Some((serial, old)) => (*serial, old.launched_at),
            None => {
                self.next_serial += 1;
                (self.next_serial, now)
            }
        };
        let name = self.frameworks.get(&report.framework).map(|entry| entry.view.info.name.clone());
        let mut entry = entry_of(report, agent, name.unwrap_or_default(), launched_at, now);
        if let Some((_, old)) = old {
            // What was seen of a task keeps its times.
            for (task, before) in entry.tasks.iter_mut().zip(old.tasks) {
                task.started_at = if before.started_at == 0 { task.started_at } else { before.started_at };
                task.ended_at = if before.ended_at == 0 { task.ended_at } else { before.ended_at };
            }
        }
        self.by_framework.entry(entry.framework).or_default().insert(serial);
        self.by_name.entry(entry.id.clone()).or_default().insert(serial);
        if entry.revocable {
            self.lent.entry(agent).or_default().insert(serial);
        }
        self.count_launch(&entry, Counts::add);
        let count = u32::try_from(entry.tasks.len()).unwrap_or(u32::MAX);
        self.launches.insert(serial, entry);
        self.current.insert(key, serial);
        self.changes.push(Change::Tasks { serial, first: 0, count });
    }

    /// Takes a launch out of everything that knows it, but not out of `current`.
    fn take_launch(&mut self, serial: u64) -> Option<LaunchEntry> {
        let entry = self.launches.remove(&serial)?;
        forget(&mut self.by_framework, &entry.framework, serial);
        forget(&mut self.by_name, &entry.id, serial);
        forget(&mut self.lent, &entry.agent, serial);
        self.count_launch(&entry, Counts::remove);
        Some(entry)
    }

    /// What revocable tasks hold on an agent.
    pub(crate) fn lent(&self, agent: AgentId) -> Resources {
        let launches = self.lent.get(&agent).into_iter().flatten().filter_map(|serial| self.launches.get(serial));
        launches.fold(Resources::EMPTY, |sum, launch| sum.plus(&launch.held()).unwrap_or(sum))
    }

    fn count_launch(&mut self, entry: &LaunchEntry, change: fn(&mut Counts, TaskState, u64)) {
        let State { agents, frameworks, counts, .. } = self;
        let mut agent = agents.get_mut(&entry.agent).map(|agent| &mut agent.counts);
        let mut framework = frameworks.get_mut(&entry.framework).map(|framework| &mut framework.counts);
        for task in &entry.tasks {
            for counts in [Some(&mut *counts), agent.as_deref_mut(), framework.as_deref_mut()].into_iter().flatten() {
                change(counts, task.status.state, 1);
            }
        }
    }

    fn change_tasks(
        &mut self,
        serial: u64,
        positions: Range<u32>,
        (status, usages): (&Arc<TaskStatus>, &Usages),
        now: u64,
    ) {
        let State { agents, frameworks, counts, launches, changes, .. } = self;
        let Some(launch) = launches.get_mut(&serial) else { return };
        let mut agent = agents.get_mut(&launch.agent).map(|agent| &mut agent.counts);
        let mut framework = frameworks.get_mut(&launch.framework).map(|framework| &mut framework.counts);
        let ends = status.state.is_terminal();
        let concerned = launch.tasks.iter_mut().skip(positions.start as usize).take(positions.len());
        for (offset, task) in concerned.enumerate() {
            let before = task.status.state;
            for counts in [Some(&mut *counts), agent.as_deref_mut(), framework.as_deref_mut()].into_iter().flatten() {
                counts.remove(before, 1);
                counts.add(status.state, 1);
            }
            launch.ended += u32::from(ends);
            launch.ended -= u32::from(before.is_terminal());
            task.status = status.clone();
            task.usage = usages.of(offset, status);
            note_times(task, now);
        }
        let (first, count) = (positions.start, positions.end - positions.start);
        changes.push(Change::Tasks { serial, first, count });
    }

    fn end_launch(&mut self, key: (FrameworkId, BatchId, AgentId)) {
        let Some(serial) = self.current.remove(&key) else { return };
        let Some(launch) = self.launches.get_mut(&serial) else { return };
        launch.over = true;
        forget(&mut self.lent, &launch.agent, serial);
        self.history.push_back(serial);
        self.history_tasks += launch.tasks.len();
        while self.history_tasks > HISTORY_TASKS
            && let Some(oldest) = self.history.pop_front()
        {
            let forgotten = self.take_launch(oldest).map_or(0, |launch| launch.tasks.len());
            self.history_tasks = self.history_tasks.saturating_sub(forgotten);
        }
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, serial: u64) {
    if let Some(serials) = index.get_mut(key) {
        serials.remove(&serial);
        if serials.is_empty() {
            index.remove(key);
        }
    }
}

fn note_times(task: &mut TaskEntry, now: u64) {
    if task.status.state == TaskState::Running && task.started_at == 0 {
        task.started_at = now;
    }
    if task.status.state.is_terminal() && task.ended_at == 0 {
        task.ended_at = now;
        if task.started_at == 0 && task.usage.run.as_micros() > 0 {
            let run = u64::try_from(task.usage.run.as_micros()).unwrap_or(u64::MAX);
            task.started_at = now.saturating_sub(run);
        }
    }
}

fn entry_of(report: BatchReport, agent: AgentId, name: Arc<str>, launched_at: u64, now: u64) -> LaunchEntry {
    let BatchReport { framework, role, id, tasks: range, slots, shape, module, revocable, origins: _, runs } = report;
    let mut tasks = Vec::with_capacity(range.count() as usize);
    for run in runs {
        let status = Arc::new(run.status);
        let mut task = TaskEntry { usage: status.usage, status, started_at: 0, ended_at: 0 };
        note_times(&mut task, now);
        tasks.extend(std::iter::repeat_n(task, run.count as usize));
    }
    let ended = tasks.iter().filter(|task| task.status.state.is_terminal()).count();
    LaunchEntry {
        framework,
        framework_name: name,
        agent,
        role,
        id,
        range,
        slots,
        shape,
        module,
        revocable,
        tasks,
        launched_at,
        ended: u32::try_from(ended).unwrap_or(u32::MAX),
        over: false,
    }
}

#[cfg(test)]
mod tests;
