//! The agent's control daemon as a state machine: events in, effects out, nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use holm_model::{
    AgentId, ClusterId, Epoch, FrameworkId, Incarnation, Launch, Prepared, Resources, Role, RunnerId, TaskId, Time,
    WorkId,
};

use crate::durable::{Durable, Identity};
use crate::event::{AgentEffect, AgentEvent};
use crate::fallout::Fallout;
use crate::ledger::Ledger;
use crate::lending::Lending;
use crate::master_link::Link;
use crate::options::AgentOptions;
use crate::outbox::Outbox;
use crate::placement::{RunnerScope, Waiting};
use crate::record::Record;
use crate::reserve::Watch;
use crate::runners::RunnerSlot;

/// What an agent has ignored or refused, for metrics. Each counts since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCounters {
    /// Messages of streams that had been replaced, or before registration.
    pub stale_messages: u64,
    /// Launches sent twice under the same number.
    pub repeated_launches: u64,
    /// Launches refused.
    pub refused_launches: u64,
    /// Streams given up because of what the master said.
    pub master_faults: u64,
    /// Kills, trims and messages for tasks that are not here.
    pub unknown_targets: u64,
    /// Framework messages dropped: no connection, task not running, or too large.
    pub dropped_messages: u64,
    /// Reports of runners that were ignored: unknown works, illegal states, positions out of range.
    pub ignored_reports: u64,
    /// Status messages of runners that were cut or cleaned.
    pub clipped_statuses: u64,
    /// Times a runner skipped report numbers or named another runner.
    pub runner_faults: u64,
    /// Revocable tasks that were ended because their owners needed their share back.
    pub preempted_tasks: u64,
    /// Records that were due but did not fit the state; always zero unless this crate has a fault.
    pub rejected_records: u64,
}

/// One launch as the agent knows it.
#[derive(Clone, Copy, Debug)]
pub struct WorkView<'a> {
    /// The agent's number for it.
    pub work: WorkId,
    /// Whose.
    pub framework: FrameworkId,
    /// In which role.
    pub role: &'a Role,
    /// What.
    pub launch: &'a Launch,
    /// The runners that may have it.
    pub scope: RunnerScope,
    /// The runner that has it, while it has live tasks.
    pub runner: Option<RunnerId>,
    /// Tasks that are not over.
    pub live: u32,
}

/// The agent's core.
#[derive(Debug)]
pub struct Agent {
    pub(crate) options: AgentOptions,
    pub(crate) durable: Durable,
    pub(crate) ledger: Ledger,
    pub(crate) link: Link,
    pub(crate) slots: BTreeMap<RunnerId, RunnerSlot>,
    /// Launches that are prepared and on no runner.
    pub(crate) waiting: Waiting,
    /// Trims not known to have reached their runner; lost with the process, since a trim is only a wish.
    pub(crate) trims: BTreeMap<WorkId, (u32, Arc<str>)>,
    /// When the killed tasks of a work must be over.
    pub(crate) kill_deadlines: BTreeMap<WorkId, Time>,
    /// Ends that concern other works, to be followed up before the event is over.
    pub(crate) fallout: VecDeque<Fallout>,
    pub(crate) counters: AgentCounters,
    pub(crate) watch: Watch,
    pub(crate) lending: Lending,
    pub(crate) out: Outbox,
    queue: VecDeque<AgentEffect>,
}

impl Agent {
    /// An agent that goes on where `records` end. What it wants done at once is ready to be drained: preparations that
    /// were under way, a new incarnation when the boot changed or records are lost or do not fit together.
    pub fn recover(records: impl IntoIterator<Item = Record>, options: AgentOptions, now: Time) -> Agent {
        let mut durable = Durable::default();
        let fits = records.into_iter().try_for_each(|record| durable.apply(&record)).is_ok();
        durable.forgotten.clear();
        let mut agent = Agent {
            ledger: Ledger::new(options.info.resources.clone()),
            options,
            durable,
            link: Link::Disconnected,
            slots: BTreeMap::new(),
            waiting: Waiting::default(),
            trims: BTreeMap::new(),
            kill_deadlines: BTreeMap::new(),
            fallout: VecDeque::new(),
            counters: AgentCounters::default(),
            watch: Watch::default(),
            lending: Lending::default(),
            out: Outbox::default(),
            queue: VecDeque::new(),
        };
        let same_life = fits && !agent.options.records_lost && agent.durable.boot == agent.options.boot;
        if same_life && agent.durable.incarnation != Incarnation::default() {
            agent.resume(now);
        } else {
            agent.begin_incarnation();
        }
        agent.follow_up(now);
        agent
    }

    /// Applies one event. Never blocks, never fails.
    pub fn handle(&mut self, now: Time, event: AgentEvent) {
        match event {
            AgentEvent::Connected { session } => self.connected(session, now),
            AgentEvent::Disconnected { session } => self.disconnected(session),
            AgentEvent::FromMaster { session, message } => self.hear_master(session, message, now),
            AgentEvent::Prepared { work, result } => self.prepared(work, result, now),
            AgentEvent::Delayed { work, message } => self.delayed(work, &message),
            AgentEvent::RunnerConnected { runner } => self.runner_connected(runner, now),
            AgentEvent::RunnerDisconnected { runner } => self.runner_disconnected(runner, now),
            AgentEvent::FromRunner { runner, message } => self.hear_runner(runner, message, now),
            AgentEvent::RunnerExited { runner, message } => self.runner_exited(runner, &message),
            AgentEvent::OverheadMeasured { bytes } => self.overhead_measured(bytes),
            AgentEvent::UsageMeasured(measured) => self.usage_measured(&measured, now),
            AgentEvent::Wake => {}
        }
        self.follow_up(now);
        self.dispatch_freed(now);
        self.follow_up(now);
        self.watch_idle(now);
        self.expire(now);
        self.follow_up(now);
    }

    /// What is to be done, in order. Several events may be handled before: their records then share one write.
    pub fn drain_effects(&mut self) -> impl Iterator<Item = AgentEffect> {
        self.queue.extend(self.out.take(self.link.registered(), self.durable.incarnation));
        self.queue.drain(..)
    }

    /// When [`AgentEvent::Wake`] is next useful.
    pub fn next_wake(&self) -> Option<Time> {
        let slots = self.slots.values().filter_map(|slot| slot.next_wake(&self.options));
        let kills = self.kill_deadlines.values().copied();
        self.link.deadline().into_iter().chain(slots).chain(kills).min()
    }

    /// Records whose fold is the present state: what the shell replaces a grown checkpoint by, after draining.
    pub fn snapshot(&self) -> Vec<Record> {
        self.durable.snapshot()
    }

    /// Who the agent is, once a master has admitted it.
    pub fn identity(&self) -> Option<(AgentId, &holm_model::Secret, ClusterId, Epoch)> {
        let Identity { agent, secret, cluster, epoch } = self.durable.identity.as_ref()?;
        Some((*agent, secret, *cluster, *epoch))
    }

    /// The life of the status logs.
    pub fn incarnation(&self) -> Incarnation {
        self.durable.incarnation
    }

    /// Runner processes that have not been seen to end. After [`Agent::recover`] these are to be found again; any other
    /// runner process below the agent's directory is to be killed.
    pub fn runners(&self) -> impl Iterator<Item = (RunnerId, RunnerScope)> {
        self.durable.runners.iter().map(|(runner, entry)| (*runner, entry.scope))
    }

    /// Whose tasks a runner takes, while it has not been seen to end.
    pub fn scope_of_runner(&self, runner: RunnerId) -> Option<RunnerScope> {
        self.durable.runners.get(&runner).map(|entry| entry.scope)
    }

    /// Every launch that has live tasks or unacknowledged updates.
    pub fn works(&self) -> impl Iterator<Item = WorkView<'_>> {
        self.durable.works.keys().filter_map(|work| self.view(*work))
    }

    /// The launch a task belongs to and the task's position; no position when the id names a whole array.
    pub fn find(&self, framework: FrameworkId, task: &TaskId) -> Option<(WorkView<'_>, Option<u32>)> {
        let (work, position) = self.target(framework, task)?;
        Some((self.view(work)?, position))
    }

    /// What the launches hold together that are not revocable.
    pub fn held(&self) -> &Resources {
        self.ledger.held()
    }

    /// What the revocable launches hold together.
    pub fn borrowed(&self) -> &Resources {
        self.ledger.borrowed()
    }

    /// What was ignored or refused.
    pub fn counters(&self) -> &AgentCounters {
        &self.counters
    }

    pub(crate) fn view(&self, id: WorkId) -> Option<WorkView<'_>> {
        let work = self.durable.works.get(&id)?;
        let (framework, role, launch) = (work.framework, &work.role, &work.launch);
        let scope = RunnerScope::of(self.options.info.isolation, id, work);
        Some(WorkView { work: id, framework, role, launch, scope, runner: work.runner(), live: work.live })
    }

    /// The launch a task id names; the position is none when it names a whole array.
    pub(crate) fn target(&self, framework: FrameworkId, task: &TaskId) -> Option<(WorkId, Option<u32>)> {
        let id = *self.durable.tenants.get(&framework)?.batches.get(&task.batch)?;
        let tasks = self.durable.works.get(&id)?.launch.tasks;
        match (tasks.position_of(task.index), task.index) {
            (Some(position), _) => Some((id, Some(position))),
            (None, None) => Some((id, None)),
            (None, Some(_)) => None,
        }
    }

    /// Changes the durable state and writes down how. Everything durable changes here and nowhere else.
    pub(crate) fn commit(&mut self, record: Record) -> bool {
        match self.durable.apply(&record) {
            Ok(()) => {
                self.out.record(record);
                self.let_go();
                true
            }
            Err(_) => {
                self.counters.rejected_records += 1;
                false
            }
        }
    }

    /// Follows up on works that the last record made the agent forget.
    fn let_go(&mut self) {
        for (id, work) in std::mem::take(&mut self.durable.forgotten) {
            self.ledger.release(id, &work);
            if let Some(runner) = work.runner() {
                self.note_load(runner, id, 0);
            }
            self.waiting.remove(&RunnerScope::of(self.options.info.isolation, id, &work), id);
            self.trims.remove(&id);
            self.kill_deadlines.remove(&id);
            self.out.push(AgentEffect::Cleanup { work: id, framework: work.framework });
        }
    }

    /// Has a work prepared; for tasks inside an executor there is nothing to be done.
    pub(crate) fn prepare(&mut self, id: WorkId, now: Time) {
        let Some(work) = self.durable.works.get(&id) else { return };
        if work.executor().is_some() {
            return self.prepared(id, Ok(Prepared::default()), now);
        }
        let (framework, launch) = (work.framework, work.launch.clone());
        let scope = RunnerScope::of(self.options.info.isolation, id, work);
        match self.volumes_for(work) {
            Ok(volumes) => self.out.push(AgentEffect::Prepare { work: id, framework, scope, launch, volumes }),
            Err(error) => self.prepared(id, Err(error), now),
        }
    }

    /// This framework's works, in the order of launch.
    pub(crate) fn works_of(&self, framework: FrameworkId) -> Vec<WorkId> {
        let tenant = self.durable.tenants.get(&framework);
        let mut works: Vec<WorkId> =
            tenant.map(|tenant| tenant.batches.values().copied().collect()).unwrap_or_default();
        works.sort_unstable();
        works
    }

    pub(crate) fn prepared_of(&self, id: WorkId) -> Option<Prepared> {
        match &self.durable.works.get(&id)?.stage {
            crate::work::Stage::Ready(prepared) => Some(prepared.clone()),
            _ => None,
        }
    }
}
