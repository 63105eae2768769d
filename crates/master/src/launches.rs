//! Launches as the master knows them: what each holds and how each of its tasks stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use holm_model::{
    AgentId, BatchId, BatchReport, Digest, Epoch, FrameworkId, Launch, MAX_BATCH_TASKS, Origin, Portions, Resources,
    Role, StatusRun, TaskRange, TaskState, TaskStatus, Time, Usage, Usages,
};

use crate::options::MAX_STATUS_MESSAGE_BYTES;

/// Names one launch on one agent. A framework's launches have different names while they live; an agent that comes back
/// to a new master may bring an old one whose name has been given again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) framework: FrameworkId,
    pub(crate) batch: BatchId,
    pub(crate) agent: AgentId,
}

/// One launch.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) role: Role,
    pub(crate) range: TaskRange,
    pub(crate) slots: u32,
    pub(crate) shape: Resources,
    /// What all its slots held by origin when it was launched; nothing where all of it was unreserved.
    pub(crate) origins: Portions,
    pub(crate) module: Digest,
    /// Whether it holds revocable resources.
    pub(crate) revocable: bool,
    /// One per task, by position.
    tasks: Vec<TaskEntry>,
    /// How many tasks are not over.
    pub(crate) live: u32,
    /// How many slots the allocator has charged.
    pub(crate) charged: u32,
    /// Whether the agent has ever said that it has it, or may have had it and forgotten: its logs began a new life
    /// since the launch was sent.
    pub(crate) confirmed: bool,
    /// How many entries of the status log concern it and are not acknowledged.
    pub(crate) unacknowledged: u32,
    /// By when it will have ended, if its tasks have a deadline and this master sent it.
    pub(crate) until: Option<Time>,
    /// Whether the master itself ended it: no entry of the status log will come.
    pub(crate) derived: bool,
    /// When one of its tasks was last heard to have started; none before, and for what an agent brought along.
    pub(crate) started_last: Option<Time>,
}

/// How one task stands.
#[derive(Clone, Debug)]
struct TaskEntry {
    /// Shared with neighbours in the same status; its usage does not count.
    status: Arc<TaskStatus>,
    usage: Usage,
}

impl TaskEntry {
    fn new(status: &Arc<TaskStatus>) -> TaskEntry {
        TaskEntry { status: Arc::clone(status), usage: status.usage }
    }

    fn is(&self, status: &Arc<TaskStatus>, usage: Usage) -> bool {
        self.usage == usage && (Arc::ptr_eq(&self.status, status) || self.status.is_alike(status))
    }
}

/// What became of an update.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The tasks that changed.
    pub(crate) changed: Vec<Range<u32>>,
    /// How many of them are over now.
    pub(crate) ended: u32,
    /// How many tasks had this status already.
    pub(crate) repeated: u32,
}

/// Why a launch as an agent reports it cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("launch {id} is reported with {count} tasks; a launch has 1 to {MAX_BATCH_TASKS}")]
    Count { id: BatchId, count: u32 },
    #[error("launch {id} of {count} tasks is reported with {slots} slots")]
    Slots { id: BatchId, count: u32, slots: u32 },
    #[error("launch {id} of {count} tasks is reported with {statuses} statuses")]
    Statuses { id: BatchId, count: u32, statuses: u64 },
    #[error("launch {id} is reported to hold what it cannot, by origin")]
    Origins { id: BatchId },
    #[error("launch {id} is reported with other tasks, slots or resources than it was accepted with")]
    Changed { id: BatchId },
}

/// Checks that a reported launch is one that could have been launched.
pub(crate) fn validate_report(report: &BatchReport) -> Result<(), ReportError> {
    let (id, count, slots) = (report.id.clone(), report.tasks.count(), report.slots);
    let indices_fit = report.tasks.index_at(0).is_none_or(|first| first.checked_add(count).is_some());
    if count == 0 || count > MAX_BATCH_TASKS || !indices_fit {
        return Err(ReportError::Count { id, count });
    }
    let held = report.shape.times(slots);
    let tied = report.origins.filtered(|origin| !matches!(origin, Origin::Volume(..))).total();
    let usable = report.origins.iter().all(|(origin, _)| origin.is_usable_by(&report.role));
    if !report.origins.is_empty() && (held.as_ref() != Some(&tied) || !usable) {
        return Err(ReportError::Origins { id });
    }
    if slots == 0 || slots > count || held.is_none() {
        return Err(ReportError::Slots { id, count, slots });
    }
    let statuses: u64 = report.runs.iter().map(|run| u64::from(run.count)).sum();
    if statuses != u64::from(count) {
        return Err(ReportError::Statuses { id, count, statuses });
    }
    Ok(())
}

/// The status with its message cut to the limit.
pub(crate) fn clipped(mut status: TaskStatus) -> TaskStatus {
    if status.message.len() > MAX_STATUS_MESSAGE_BYTES {
        let mut end = MAX_STATUS_MESSAGE_BYTES;
        while !status.message.is_char_boundary(end) {
            end -= 1;
        }
        status.message = status.message[..end].into();
    }
    status
}

impl Record {
    /// A launch that was just accepted: every task is staging.
    pub(crate) fn accepted(role: Role, origins: Portions, launch: &Launch) -> Record {
        let count = launch.tasks.count();
        let staging = Arc::new(TaskStatus::of(TaskState::Staging));
        Record {
            role,
            range: launch.tasks,
            slots: launch.slots,
            shape: launch.spec.resources.clone(),
            origins,
            module: launch.spec.module,
            revocable: launch.spec.revocable,
            tasks: vec![TaskEntry::new(&staging); count as usize],
            live: count,
            charged: 0,
            confirmed: false,
            unacknowledged: 0,
            until: None,
            derived: false,
            started_last: None,
        }
    }

    /// A launch of which an agent tells. The report has been validated.
    pub(crate) fn reported(report: BatchReport) -> Record {
        let mut tasks = Vec::with_capacity(report.tasks.count() as usize);
        let mut live = 0;
        for run in report.runs {
            live += if run.status.state.is_terminal() { 0 } else { run.count };
            let status = Arc::new(clipped(run.status));
            tasks.extend(std::iter::repeat_n(TaskEntry::new(&status), run.count as usize));
        }
        Record {
            role: report.role,
            range: report.tasks,
            slots: report.slots,
            shape: report.shape,
            origins: report.origins,
            module: report.module,
            revocable: report.revocable,
            tasks,
            live,
            charged: 0,
            confirmed: true,
            unacknowledged: 0,
            until: None,
            derived: false,
            started_last: None,
        }
    }

    /// How many tasks there are.
    pub(crate) fn count(&self) -> u32 {
        self.range.count()
    }

    /// Where the task at `position` stands.
    pub(crate) fn state(&self, position: u32) -> Option<TaskState> {
        self.tasks.get(position as usize).map(|task| task.status.state)
    }

    /// What `slots` slots hold. Ports and set items are held by one slot only, and so are volumes. Slots that are given back
    /// give back first what everybody may use.
    pub(crate) fn held_by(&self, slots: u32) -> Portions {
        let shape = |slots| self.shape.times(slots).unwrap_or_else(|| self.shape.clone());
        match slots {
            0 => Portions::EMPTY,
            // Neither has what is lent an origin in its own market.
            _ if self.origins.is_empty() => Portions::unreserved(shape(slots)),
            _ if slots >= self.slots => self.origins.clone(),
            _ => {
                // Checked when the launch was added: its origins are what its slots hold.
                let gone = self.origins.choose_returned(&shape(self.slots - slots)).unwrap_or_default();
                self.origins.minus(&gone).unwrap_or_default()
            }
        }
    }

    /// How many slots it needs: resources shrink slot by slot as the tail empties.
    pub(crate) fn slots_needed(&self) -> u32 {
        self.slots.min(self.live)
    }

    /// Puts the tasks at `positions` into `status` where that is a legal step, each with its own of `usages`, if it has one
    /// there. Positions beyond the launch are ignored.
    pub(crate) fn apply(&mut self, positions: Range<u32>, status: &Arc<TaskStatus>, usages: &Usages) -> Applied {
        let mut applied = Applied::default();
        let ends = status.state.is_terminal();
        for (offset, position) in (positions.start..positions.end.min(self.count())).enumerate() {
            let current = &mut self.tasks[position as usize];
            let usage = usages.of(offset, status);
            if current.is(status, usage) {
                applied.repeated += 1;
                continue;
            }
            if current.status.state.transition(status.state).is_err() {
                continue;
            }
            *current = TaskEntry { status: Arc::clone(status), usage };
            applied.ended += u32::from(ends);
            match applied.changed.last_mut() {
                Some(last) if last.end == position => last.end += 1,
                _ => applied.changed.push(position..position + 1),
            }
        }
        self.live -= applied.ended;
        applied
    }

    /// The positions whose tasks satisfy `wanted`, as ranges of neighbours.
    pub(crate) fn ranges_where(&self, wanted: impl Fn(&TaskStatus) -> bool) -> Vec<Range<u32>> {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for (position, task) in (0u32..).zip(&self.tasks) {
            match ranges.last_mut() {
                _ if !wanted(&task.status) => {}
                Some(last) if last.end == position => last.end += 1,
                _ => ranges.push(position..position + 1),
            }
        }
        ranges
    }

    /// The statuses as runs of equal neighbours.
    pub(crate) fn runs(&self) -> Vec<StatusRun> {
        let mut runs: Vec<StatusRun> = Vec::new();
        let mut last: Option<&TaskEntry> = None;
        for task in &self.tasks {
            let same = last.is_some_and(|last| last.is(&task.status, task.usage));
            match runs.last_mut() {
                Some(run) if same => run.count += 1,
                _ => {
                    let status = TaskStatus { usage: task.usage, ..(*task.status).clone() };
                    runs.push(StatusRun { count: 1, status });
                }
            }
            last = Some(task);
        }
        runs
    }

    /// The launch as frameworks and the read model see it.
    pub(crate) fn report(&self, framework: FrameworkId, id: &BatchId) -> BatchReport {
        BatchReport {
            framework,
            role: self.role.clone(),
            id: id.clone(),
            tasks: self.range,
            slots: self.slots,
            shape: self.shape.clone(),
            origins: self.origins.clone(),
            module: self.module,
            revocable: self.revocable,
            runs: self.runs(),
        }
    }

    /// Whether a report tells of the same launch.
    pub(crate) fn matches(&self, report: &BatchReport) -> bool {
        self.range == report.tasks
            && self.slots == report.slots
            && self.shape == report.shape
            && self.origins == report.origins
            && self.role == report.role
            && self.revocable == report.revocable
    }
}

/// All launches, by framework and name, and by agent.
#[derive(Debug, Default)]
pub(crate) struct Launches {
    records: BTreeMap<FrameworkId, BTreeMap<(BatchId, AgentId), Record>>,
    by_agent: BTreeMap<AgentId, BTreeSet<(FrameworkId, BatchId)>>,
}

const FIRST_AGENT: AgentId = AgentId::new(Epoch(0), 0);
const LAST_AGENT: AgentId = AgentId::new(Epoch(u64::MAX), u64::MAX);

impl Launches {
    pub(crate) fn insert(&mut self, place: &Place, record: Record) {
        let key = (place.batch.clone(), place.agent);
        self.records.entry(place.framework).or_default().insert(key, record);
        self.by_agent.entry(place.agent).or_default().insert((place.framework, place.batch.clone()));
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Option<Record> {
        let of_framework = self.records.get_mut(&place.framework)?;
        let record = of_framework.remove(&(place.batch.clone(), place.agent))?;
        if of_framework.is_empty() {
            self.records.remove(&place.framework);
        }
        if let Some(there) = self.by_agent.get_mut(&place.agent) {
            there.remove(&(place.framework, place.batch.clone()));
            if there.is_empty() {
                self.by_agent.remove(&place.agent);
            }
        }
        Some(record)
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Record> {
        self.records.get(&place.framework)?.get(&(place.batch.clone(), place.agent))
    }

    pub(crate) fn get_mut(&mut self, place: &Place) -> Option<&mut Record> {
        self.records.get_mut(&place.framework)?.get_mut(&(place.batch.clone(), place.agent))
    }

    /// Where a framework's launch of this name is: nowhere or on one agent, hardly ever on several.
    pub(crate) fn named(&self, framework: FrameworkId, batch: &BatchId) -> Vec<Place> {
        let range = (batch.clone(), FIRST_AGENT)..=(batch.clone(), LAST_AGENT);
        let Some(records) = self.records.get(&framework) else { return Vec::new() };
        let found = records.range(range);
        found.map(|((batch, agent), _)| Place { framework, batch: batch.clone(), agent: *agent }).collect()
    }

    /// The launches of a framework.
    pub(crate) fn of_framework(&self, framework: FrameworkId) -> Vec<Place> {
        let found = self.records.get(&framework).into_iter().flat_map(BTreeMap::keys);
        found.map(|(batch, agent)| Place { framework, batch: batch.clone(), agent: *agent }).collect()
    }

    pub(crate) fn count_of_framework(&self, framework: FrameworkId) -> usize {
        self.records.get(&framework).map_or(0, BTreeMap::len)
    }

    /// The launches on an agent, by framework.
    pub(crate) fn on_agent(&self, agent: AgentId) -> Vec<Place> {
        let found = self.by_agent.get(&agent).into_iter().flatten();
        found.map(|(framework, batch)| Place { framework: *framework, batch: batch.clone(), agent }).collect()
    }

    pub(crate) fn count_on_agent(&self, agent: AgentId) -> usize {
        self.by_agent.get(&agent).map_or(0, BTreeSet::len)
    }

    /// Everything, for the invariants.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Record)> {
        self.records.iter().flat_map(|(framework, records)| {
            records.iter().map(|((batch, agent), record)| {
                (Place { framework: *framework, batch: batch.clone(), agent: *agent }, record)
            })
        })
    }

    /// Everything as the index by agent has it, for the invariants.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = Place> {
        self.by_agent.iter().flat_map(|(agent, there)| {
            there.iter().map(|(framework, batch)| Place { framework: *framework, batch: batch.clone(), agent: *agent })
        })
    }
}
