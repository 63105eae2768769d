//! Which launches may share a runner process, which of those runners takes one, and when another is started.

use std::collections::{BTreeMap, BTreeSet};

use holm_model::{
    FrameworkId, Isolation, ResourceName, RunnerId, TaskKind, TaskSpec, TaskState, TaskStatus, Time, WorkId,
};

use crate::agent::Agent;
use crate::launching::NewEntry;
use crate::runners::RunnerLink;
use crate::work::{Stage, Work};

/// Whose tasks a runner process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunnerScope {
    /// The framework; none for every framework.
    pub framework: Option<FrameworkId>,
    /// The only launch, if it is for only one.
    pub work: Option<WorkId>,
    /// Whether its tasks may have been granted the network. A runner without can be denied sockets altogether.
    pub network: bool,
    /// Whether its tasks hold revocable resources. They share no process with others, so that what they use is known, the
    /// others can be favoured, and ending them gives everything back.
    pub revocable: bool,
}

impl RunnerScope {
    /// The runners that may take a launch.
    pub(crate) fn of(isolation: Isolation, id: WorkId, work: &Work) -> RunnerScope {
        let (framework, only) = match isolation {
            Isolation::Task => (Some(work.framework), Some(id)),
            Isolation::Framework => (Some(work.framework), None),
            Isolation::Agent => (None, None),
        };
        let spec = &work.launch.spec;
        // What a runner may reach is settled when it starts: a launch with volumes has one that may reach these and no others.
        let (framework, only) = match spec.volumes.is_empty() {
            true => (framework, only),
            false => (Some(work.framework), Some(id)),
        };
        RunnerScope { framework, work: only, network: wants_network(spec), revocable: spec.revocable }
    }

    /// Whether a launch of `framework` belongs here, whatever it wants of the network, and however it holds its resources.
    pub(crate) fn admits(&self, framework: FrameworkId, id: WorkId) -> bool {
        self.framework.is_none_or(|own| own == framework) && self.work.is_none_or(|only| only == id)
    }
}

fn wants_network(spec: &TaskSpec) -> bool {
    !spec.network.is_empty() || spec.kind == TaskKind::Service
}

/// The launches on a runner and how many of its places each may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    works: BTreeMap<WorkId, u32>,
    total: u64,
}

impl Load {
    /// Says how many places a launch takes from now on; none when it is over.
    pub(crate) fn set(&mut self, id: WorkId, slots: u32) {
        let before = if slots == 0 { self.works.remove(&id) } else { self.works.insert(id, slots) };
        self.total = self.total + u64::from(slots) - u64::from(before.unwrap_or(0));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// The launches and the places of each.
    pub(crate) fn works(&self) -> impl Iterator<Item = (&WorkId, u32)> {
        self.works.iter().map(|(id, slots)| (id, *slots))
    }

    pub(crate) fn slots(&self, id: WorkId) -> u32 {
        self.works.get(&id).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// Launches that are prepared and on no runner, per scope in the order of launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    scopes: BTreeMap<RunnerScope, BTreeSet<WorkId>>,
    /// Those that were told why.
    told: BTreeSet<WorkId>,
    /// Scopes in which places became free since they were last looked at.
    freed: BTreeSet<RunnerScope>,
    /// Whether a runner process has ended since.
    ended: bool,
}

impl Waiting {
    fn add(&mut self, scope: RunnerScope, id: WorkId) {
        self.scopes.entry(scope).or_default().insert(id);
    }

    pub(crate) fn remove(&mut self, scope: &RunnerScope, id: WorkId) {
        self.told.remove(&id);
        if let Some(works) = self.scopes.get_mut(scope) {
            works.remove(&id);
            if works.is_empty() {
                self.scopes.remove(scope);
            }
        }
    }

    pub(crate) fn first(&self, scope: &RunnerScope) -> Option<WorkId> {
        self.scopes.get(scope)?.first().copied()
    }

    /// Everything that waits, the first of each scope first.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (&RunnerScope, &BTreeSet<WorkId>)> {
        self.scopes.iter()
    }
}

/// What is to become of a launch that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This runner has room.
    On(RunnerId),
    /// A runner that will have room is on its way.
    Soon,
    /// A runner more is needed.
    Another,
    /// All runners are full, and there may be no more of them.
    Nowhere,
}

impl Agent {
    pub(crate) fn scope_of(&self, id: WorkId) -> Option<RunnerScope> {
        let home = self.home_of(id);
        let work = self.durable.works.get(&home)?;
        Some(RunnerScope::of(self.options.info.isolation, home, work))
    }

    /// Whether a launch belongs on runners of this scope.
    pub(crate) fn admits(&self, scope: RunnerScope, id: WorkId) -> bool {
        self.durable.works.get(&id).is_some_and(|work| scope.admits(work.framework, self.home_of(id)))
    }

    /// The runners of a scope that take work or will, oldest first.
    pub(crate) fn usable(&self, scope: RunnerScope) -> impl Iterator<Item = RunnerId> + '_ {
        let in_scope = self.durable.runners.iter().filter(move |(_, entry)| entry.scope == scope);
        let usable = |runner: &RunnerId| self.slots.get(runner).is_some_and(|slot| slot.link != RunnerLink::Stopping);
        in_scope.map(|(runner, _)| *runner).filter(usable)
    }

    /// The oldest runner with room takes a launch, so that the younger ones empty and go. A launch that is larger than any
    /// runner gets one for itself and runs there a part at a time.
    pub(crate) fn place(&self, scope: RunnerScope, slots: u32) -> Place {
        let capacity = u64::from(self.options.runner_slots.max(1));
        let has_room = |runner: &RunnerId| {
            let load = self.slots.get(runner).map_or(0, |slot| slot.load.total());
            load == 0 || load + u64::from(slots) <= capacity
        };
        let mut on_its_way = false;
        for runner in self.usable(scope).filter(has_room) {
            if self.is_live(runner) {
                return Place::On(runner);
            }
            on_its_way = true;
        }
        match on_its_way {
            true => Place::Soon,
            false if self.slots.len() < self.options.max_runners.max(1) => Place::Another,
            false => Place::Nowhere,
        }
    }

    /// Sends a prepared launch to a runner, or has it wait for one. Members of a group wait for each other, tasks inside an
    /// executor for that.
    pub(crate) fn dispatch(&mut self, id: WorkId, now: Time) {
        let Some(scope) = self.scope_of(id).filter(|_| !self.group_prepares(id)) else { return };
        if self.durable.works.get(&id).is_some_and(|work| work.executor().is_some()) {
            return self.dispatch_executed(id, now);
        }
        self.waiting.add(scope, id);
        self.dispatch_scope(scope, now);
    }

    /// Sends what waits in a scope, in order, for as long as there is room.
    pub(crate) fn dispatch_scope(&mut self, scope: RunnerScope, now: Time) {
        while let Some(id) = self.waiting.first(&scope) {
            let Some(work) = self.durable.works.get(&id).filter(|work| matches!(work.stage, Stage::Ready(_))) else {
                self.waiting.remove(&scope, id);
                continue;
            };
            match self.place(scope, work.places()) {
                Place::On(runner) => {
                    self.waiting.remove(&scope, id);
                    self.send(id, runner, now);
                }
                Place::Soon => return,
                Place::Another => return self.start_runner(scope, now),
                Place::Nowhere => {
                    self.stop_an_idle_runner();
                    return self.tell_that_it_waits(scope);
                }
            }
        }
    }

    /// A launch is over, wherever it waited.
    pub(crate) fn stop_waiting(&mut self, id: WorkId) {
        if let Some(scope) = self.scope_of(id) {
            self.waiting.remove(&scope, id);
        }
    }

    /// Goes on with what waits where places became free.
    pub(crate) fn dispatch_freed(&mut self, now: Time) {
        let mut scopes = std::mem::take(&mut self.waiting.freed);
        if std::mem::take(&mut self.waiting.ended) {
            scopes.extend(self.waiting.scopes.keys().copied());
        }
        for scope in scopes {
            self.dispatch_scope(scope, now);
        }
    }

    /// A runner process is gone: there may be another.
    pub(crate) fn note_runner_ended(&mut self) {
        self.waiting.ended = true;
    }

    /// Keeps a runner's load in step with a launch that it has.
    pub(crate) fn note_load(&mut self, runner: RunnerId, id: WorkId, slots: u32) {
        let Some(slot) = self.slots.get_mut(&runner) else { return };
        let freed = slots < slot.load.slots(id);
        slot.load.set(id, slots);
        if freed && let Some(entry) = self.durable.runners.get(&runner) {
            self.waiting.freed.insert(entry.scope);
        }
    }

    /// How much of the CPU the tasks on each runner are entitled to, in thousandths of a core. Revocable ones are entitled
    /// to nothing: they have what the others leave.
    pub fn entitled_cpus(&self) -> impl Iterator<Item = (RunnerId, u64)> + '_ {
        self.slots.keys().map(|runner| {
            let lent = self.scope_of_runner(*runner).is_some_and(|scope| scope.revocable);
            (*runner, if lent { 0 } else { self.declared_on(*runner, &ResourceName::Cpus) })
        })
    }

    /// What waits for want of runners says so, once: a full agent is no failure.
    fn tell_that_it_waits(&mut self, scope: RunnerScope) {
        let waiting: Vec<WorkId> = self.waiting.scopes.get(&scope).into_iter().flatten().copied().collect();
        let (slots, runners) = (self.options.runner_slots, self.options.max_runners);
        for id in waiting {
            if !self.waiting.told.insert(id) {
                continue;
            }
            let Some(work) = self.durable.works.get(&id) else { continue };
            let message = format!(
                "waits for a runner: it needs {} places, a runner has {slots}, and all {runners} runners that this agent \
                 may have are in use",
                work.slots()
            );
            let status = TaskStatus { message: message.into(), ..TaskStatus::of(TaskState::Staging) };
            for (first, count) in work.runs_where(work.clip(0, u32::MAX), |state| state == TaskState::Staging) {
                self.log(NewEntry::own(id, first, count, status.clone()));
            }
        }
    }

    /// Somebody waits for want of runners while another's is idle.
    fn stop_an_idle_runner(&mut self) {
        if self.slots.values().any(|slot| slot.link == RunnerLink::Stopping) {
            return;
        }
        let idle = self.slots.iter().filter(|(_, slot)| slot.link == RunnerLink::Live && slot.load.is_empty());
        if let Some(runner) = idle.map(|(runner, _)| *runner).next() {
            self.stop_runner(runner, crate::runners::IDLE_STOP_GRACE, "it is idle and others wait for a runner");
        }
    }
}
