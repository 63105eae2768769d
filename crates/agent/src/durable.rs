//! The part of an agent's state that survives it: a fold over the checkpoint's records.

use std::collections::{BTreeMap, BTreeSet};

use holm_model::{
    AgentId, BatchId, BootId, ClusterId, Epoch, FrameworkId, Incarnation, Launch, MAX_BATCH_TASKS, MAX_GROUP_LAUNCHES,
    Portions, Role, RunnerId, Secret, TaskState, TransitionError, Update, Usage, Usages, Volume, WorkId,
};

use crate::Record;
use crate::log::StatusLog;
use crate::placement::RunnerScope;
use crate::work::{Stage, Step, StepError, Work};

/// Who the agent is, once a master has said so.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) agent: AgentId,
    pub(crate) secret: Secret,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
}

/// A runner process that was started and has not been seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunnerEntry {
    pub(crate) scope: RunnerScope,
    /// The highest report sequence applied.
    pub(crate) sequence: u64,
}

/// A framework that has launches here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tenant {
    pub(crate) log: StatusLog,
    pub(crate) batches: BTreeMap<BatchId, WorkId>,
    /// Tasks that are not over.
    pub(crate) live: u64,
}

/// A record that does not fit the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("record names {0}, which is unknown or already known")]
    Work(WorkId),
    #[error("record names {0}, which has no such launch")]
    Launch(FrameworkId),
    #[error("record names {0}, which is unknown or already known")]
    Runner(RunnerId),
    #[error("record has sequence {0}, which is not above the log's last")]
    Sequence(u64),
    #[error("record names {count} tasks from position {first}, which the launch does not have")]
    Positions { first: u32, count: u32 },
    #[error("record has an illegal state")]
    State(#[from] TransitionError),
    #[error("record moves a launch where it cannot go")]
    Step(#[from] StepError),
}

/// Everything an agent must remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    pub(crate) identity: Option<Identity>,
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: BootId,
    pub(crate) next_work: u64,
    pub(crate) next_runner: u64,
    /// Every new log entry has a higher sequence than this.
    pub(crate) floor: u64,
    pub(crate) tenants: BTreeMap<FrameworkId, Tenant>,
    pub(crate) works: BTreeMap<WorkId, Work>,
    pub(crate) runners: BTreeMap<RunnerId, RunnerEntry>,
    /// The volumes by their numbers. They outlive every incarnation.
    pub(crate) volumes: BTreeMap<u64, Volume>,
    /// Works forgotten since the caller last looked, for the ledger and the shell's cleanup.
    pub(crate) forgotten: Vec<(WorkId, Work)>,
}

impl Durable {
    /// Applies one record, or nothing of it.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), RecordError> {
        match record {
            Record::Incarnation { number, boot } => self.begin(*number, boot),
            Record::Identity { agent, secret, cluster, epoch } => {
                let (agent, secret, cluster, epoch) = (*agent, secret.clone(), *cluster, *epoch);
                self.identity = Some(Identity { agent, secret, cluster, epoch });
            }
            Record::NextIds { work, runner, sequence } => {
                self.next_work = self.next_work.max(work.0);
                self.next_runner = self.next_runner.max(runner.0);
                self.floor = self.floor.max(*sequence);
            }
            Record::RunnerStarted { runner, scope, sequence } => {
                if self.runners.contains_key(runner) {
                    return Err(RecordError::Runner(*runner));
                }
                self.runners.insert(*runner, RunnerEntry { scope: *scope, sequence: *sequence });
                self.next_runner = self.next_runner.max(runner.0.saturating_add(1));
            }
            Record::RunnerEnded { runner } => {
                self.runners.remove(runner).ok_or(RecordError::Runner(*runner))?;
            }
            Record::WorkAdded { work, framework, role, origins, launch, group } => {
                let added = Work::new(*framework, role.clone(), launch.clone(), *group);
                self.add(*work, added.holding(origins.clone()))?;
            }
            Record::GroupAdded { first, framework, role, origins, launches } => {
                self.add_group(*first, (*framework, role), origins, launches)?;
            }
            Record::Volumes(volumes) => {
                self.volumes = volumes.iter().map(|volume| (volume.serial, volume.clone())).collect();
            }
            Record::WorkSent { work, runner } => {
                let known = self.works.get_mut(work).ok_or(RecordError::Work(*work))?;
                known.stage = known.stage.step(Step::Sent(*runner))?;
            }
            Record::Updated { framework, update, runner, runner_sequence } => {
                self.update(*framework, update, *runner)?;
                if let Some(entry) = runner.and_then(|runner| self.runners.get_mut(&runner)) {
                    entry.sequence = entry.sequence.max(*runner_sequence);
                }
            }
            Record::Acknowledged { framework, sequence } => self.acknowledge(*framework, *sequence),
            Record::WorkRemoved { work } => self.remove(*work)?,
            Record::FrameworkRemoved { framework } => self.remove_framework(*framework),
        }
        Ok(())
    }

    fn begin(&mut self, number: Incarnation, boot: &BootId) {
        self.incarnation = number;
        self.boot = boot.clone();
        self.forgotten.extend(std::mem::take(&mut self.works));
        self.tenants.clear();
        self.runners.clear();
        self.floor = 0;
    }

    fn add_group(
        &mut self,
        first: WorkId,
        (framework, role): (FrameworkId, &Role),
        origins: &[Portions],
        launches: &[Launch],
    ) -> Result<(), RecordError> {
        let tenant = self.tenants.get(&framework);
        let taken = |id: &BatchId| tenant.is_some_and(|tenant| tenant.batches.contains_key(id));
        let mut names = BTreeSet::new();
        let fits = |launch: &Launch| (1..=MAX_BATCH_TASKS).contains(&launch.tasks.count()) && !taken(&launch.id);
        let all_fit = launches.iter().all(|launch| fits(launch) && names.insert(&launch.id));
        if !all_fit || launches.is_empty() || launches.len() > MAX_GROUP_LAUNCHES || first.0 < self.next_work {
            return Err(RecordError::Work(first));
        }
        for (id, launch) in (first.0..).zip(launches) {
            let member = usize::try_from(id - first.0).unwrap_or(usize::MAX);
            let held = origins.get(member).cloned().unwrap_or_default();
            self.add(WorkId(id), Work::new(framework, role.clone(), launch.clone(), Some(first)).holding(held))?;
        }
        Ok(())
    }

    fn add(&mut self, id: WorkId, work: Work) -> Result<(), RecordError> {
        let count = work.launch.tasks.count();
        let tenant = self.tenants.get(&work.framework);
        let taken = tenant.is_some_and(|tenant| tenant.batches.contains_key(&work.launch.id));
        if taken || id.0 < self.next_work || count == 0 || count > MAX_BATCH_TASKS {
            return Err(RecordError::Work(id));
        }
        self.next_work = id.0.saturating_add(1);
        let tenant = self.tenants.entry(work.framework).or_default();
        tenant.batches.insert(work.launch.id.clone(), id);
        tenant.live += u64::from(count);
        self.works.insert(id, work);
        Ok(())
    }

    fn update(&mut self, framework: FrameworkId, update: &Update, runner: Option<RunnerId>) -> Result<(), RecordError> {
        let unknown = RecordError::Launch(framework);
        let tenant = self.tenants.get_mut(&framework).ok_or_else(|| unknown.clone())?;
        let id = *tenant.batches.get(&update.batch).ok_or_else(|| unknown.clone())?;
        let work = self.works.get_mut(&id).ok_or(unknown)?;
        if update.sequence != 0 && update.sequence <= tenant.log.last() {
            return Err(RecordError::Sequence(update.sequence));
        }
        let range = work.clip(update.first, update.count);
        if update.count == 0 || range.len() != update.count as usize {
            return Err(RecordError::Positions { first: update.first, count: update.count });
        }
        work.apply(update)?;
        work.reported |= runner.is_some();
        if update.status.state.is_terminal() {
            tenant.live -= u64::from(update.count);
        }
        if update.sequence != 0 {
            work.entries += 1;
            tenant.log.push(id, update.clone());
        }
        if work.live == 0 {
            work.stage = work.stage.step(Step::Ended)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, framework: FrameworkId, sequence: u64) {
        let Some(tenant) = self.tenants.get_mut(&framework) else { return };
        let mut touched = BTreeSet::new();
        for entry in tenant.log.acknowledge(sequence) {
            if let Some(work) = self.works.get_mut(&entry.work) {
                work.entries -= 1;
                touched.insert(entry.work);
            }
        }
        let settled = |id: &WorkId| self.works.get(id).is_some_and(Work::is_settled);
        let settled: Vec<WorkId> = touched.into_iter().filter(settled).collect();
        for id in settled {
            self.forget(id);
        }
        self.drop_tenant_if_idle(framework);
    }

    fn remove(&mut self, id: WorkId) -> Result<(), RecordError> {
        let framework = self.works.get(&id).map(|work| work.framework).ok_or(RecordError::Work(id))?;
        if let Some(tenant) = self.tenants.get_mut(&framework) {
            self.floor = self.floor.max(tenant.log.last());
            tenant.log.retain(|entry| entry.work != id);
        }
        self.forget(id);
        self.drop_tenant_if_idle(framework);
        Ok(())
    }

    fn remove_framework(&mut self, framework: FrameworkId) {
        let works = self.tenants.get(&framework).map(|tenant| tenant.batches.values().copied().collect());
        let works: Vec<WorkId> = works.unwrap_or_default();
        for id in works {
            self.forget(id);
        }
        self.drop_tenant_if_idle(framework);
    }

    fn forget(&mut self, id: WorkId) {
        let Some(work) = self.works.remove(&id) else { return };
        if let Some(tenant) = self.tenants.get_mut(&work.framework) {
            tenant.batches.remove(&work.launch.id);
            tenant.live -= u64::from(work.live);
        }
        self.forgotten.push((id, work));
    }

    /// A tenant without launches leaves nothing but a floor under the sequences of whoever comes next.
    fn drop_tenant_if_idle(&mut self, framework: FrameworkId) {
        if let Some(tenant) = self.tenants.get(&framework)
            && tenant.batches.is_empty()
        {
            self.floor = self.floor.max(tenant.log.last());
            self.tenants.remove(&framework);
        }
    }

    /// The sequence of the next entry of this framework's log.
    pub(crate) fn next_sequence(&self, framework: FrameworkId) -> u64 {
        let last = self.tenants.get(&framework).map_or(0, |tenant| tenant.log.last());
        last.max(self.floor) + 1
    }

    /// Drops entries of intermediate states that all their tasks have left. The ends stay.
    pub(crate) fn compact(&mut self, framework: FrameworkId) {
        let Some(tenant) = self.tenants.get_mut(&framework) else { return };
        let works = &self.works;
        let passed = |work: &Work, update: &Update| work.has_left(update.first, update.count, update.status.state);
        let gone = tenant.log.retain(|entry| !works.get(&entry.work).is_some_and(|work| passed(work, &entry.update)));
        for entry in gone {
            if let Some(work) = self.works.get_mut(&entry.work) {
                work.entries -= 1;
            }
        }
    }

    /// The shortest sequence of records whose fold is this state.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Incarnation { number: self.incarnation, boot: self.boot.clone() }];
        if let Some(Identity { agent, secret, cluster, epoch }) = self.identity.clone() {
            records.push(Record::Identity { agent, secret, cluster, epoch });
        }
        if !self.volumes.is_empty() {
            records.push(Record::Volumes(self.volumes.values().cloned().collect()));
        }
        for (runner, RunnerEntry { scope, sequence }) in &self.runners {
            records.push(Record::RunnerStarted { runner: *runner, scope: *scope, sequence: *sequence });
        }
        for (id, work) in &self.works {
            let (framework, role, launch) = (work.framework, work.role.clone(), work.launch.clone());
            let origins = work.origins.clone();
            records.push(Record::WorkAdded { work: *id, framework, role, origins, launch, group: work.group });
            if let Some(runner) = work.runner() {
                records.push(Record::WorkSent { work: *id, runner });
            }
        }
        let (work, runner) = (WorkId(self.next_work), RunnerId(self.next_runner));
        records.push(Record::NextIds { work, runner, sequence: self.floor });
        for (framework, tenant) in &self.tenants {
            self.snapshot_tenant(*framework, tenant, &mut records);
        }
        records
    }

    fn snapshot_tenant(&self, framework: FrameworkId, tenant: &Tenant, records: &mut Vec<Record>) {
        // Any runner's name will do: it says that one has reported.
        let reporter = |work: &Work| work.reported.then(|| work.runner().unwrap_or(RunnerId(0)));
        if tenant.log.acknowledged() > 0 {
            records.push(Record::Acknowledged { framework, sequence: tenant.log.acknowledged() });
        }
        let mut logged: BTreeSet<(WorkId, u32)> = BTreeSet::new();
        for entry in tenant.log.entries() {
            logged.extend(entry.update.positions().map(|position| (entry.work, position)));
        }
        for (id, work) in tenant.batches.values().filter_map(|id| Some((*id, self.works.get(id)?))) {
            let runner = reporter(work);
            for update in acknowledged_statuses(id, work, &logged) {
                records.push(Record::Updated { framework, update, runner, runner_sequence: 0 });
            }
        }
        for entry in tenant.log.entries() {
            let runner = self.works.get(&entry.work).and_then(reporter);
            records.push(Record::Updated { framework, update: entry.update.clone(), runner, runner_sequence: 0 });
        }
    }
}

/// The statuses that no entry of the log carries any more, as updates of sequence zero.
fn acknowledged_statuses(id: WorkId, work: &Work, logged: &BTreeSet<(WorkId, u32)>) -> Vec<Update> {
    let mut updates: Vec<Update> = Vec::new();
    let mut usages: Vec<Usage> = Vec::new();
    let end = |updates: &mut Vec<Update>, usages: &mut Vec<Usage>| {
        if let Some(last) = updates.last_mut() {
            last.usages = Usages::fold(&mut last.status, usages);
        }
        usages.clear();
    };
    for (position, status) in (0u32..).zip(&work.statuses) {
        if status.state == TaskState::Staging || logged.contains(&(id, position)) {
            continue;
        }
        match updates.last_mut() {
            Some(last) if last.positions().end == position && last.status.is_alike(status) => last.count += 1,
            _ => {
                end(&mut updates, &mut usages);
                let (batch, status) = (work.launch.id.clone(), status.clone());
                updates.push(Update {
                    sequence: 0,
                    batch,
                    first: position,
                    count: 1,
                    status,
                    usages: Usages::default(),
                });
            }
        }
        usages.push(status.usage);
    }
    end(&mut updates, &mut usages);
    updates
}

/// Whether the launch still has to be prepared.
pub(crate) fn is_preparing(work: &Work) -> bool {
    matches!(work.stage, Stage::Preparing)
}
