//! Revocable resources: what owners hold and do not use is lent to tasks that were launched as revocable, and taken back
//! from them when owners need it.
//!
//! Revocable tasks, the *borrowers*, have runners of their own ([`crate::RunnerScope::revocable`]). So the operating system
//! says what owners and what borrowers use, whatever a runner says of itself; the run queue and the host can favour one
//! process over the other; and ending a borrower gives its memory back. How much is lent is in [`estimate`], when borrowers
//! have to go in [`guard`], and who goes first in [`victims`].

mod estimate;
mod guard;
mod victims;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{ResourceName, Resources, RunnerId, TaskState, Time, ToMaster, WorkId};

use crate::agent::Agent;
use crate::runners::{IDLE_STOP_GRACE, RunnerLink};
use crate::stopping::Taking;
use crate::work::Work;
use estimate::{Estimator, Pair, Sight};
use guard::{Case, Guard, Strain};
use victims::{Borrower, Victim, choose};

/// How an agent lends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LendingOptions {
    /// The part of the agent's `cpus` and `mem` that is never lent, in hundredths. Half of that of `mem` is what owners can
    /// take while borrowers end.
    pub margin_percent: u8,
    /// How long something must have been unused before it is lent.
    pub window: Duration,
}

impl Default for LendingOptions {
    /// A tenth is kept; half a minute.
    fn default() -> LendingOptions {
        LendingOptions { margin_percent: 10, window: Duration::from_secs(30) }
    }
}

/// What a runner process uses, as the operating system says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerUse {
    /// CPU time since it started.
    pub cpu: Duration,
    /// Memory that it takes and that dropping caches would not free, in bytes.
    pub memory: u64,
    /// Whether it says that it gets less CPU time than its tasks could use.
    pub hungry: bool,
}

/// One measurement of all runners, and of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// By runner; those that have ended are absent.
    pub runners: BTreeMap<RunnerId, RunnerUse>,
    /// Memory that the host, or the group of processes that the agent is in, could still give, in bytes.
    pub available: u64,
}

/// The agent's side of lending.
#[derive(Debug, Default)]
pub(crate) struct Lending {
    estimator: Estimator,
    guard: Guard,
    /// When the last measurement was taken, and what CPU time each runner had used by then.
    last: Option<(Time, BTreeMap<RunnerId, Duration>)>,
}

impl Lending {
    /// What may be held by borrowers together.
    pub(crate) fn lent(&self) -> Resources {
        self.estimator.told().to_resources()
    }
}

impl Agent {
    /// The shell has measured what runners use: decides what is lent from now on, and whether borrowers have to go.
    pub(crate) fn usage_measured(&mut self, measured: &Measured, now: Time) {
        let Some(options) = self.options.lending else { return };
        let cpu = measured.runners.iter().map(|(runner, used)| (*runner, used.cpu)).collect();
        let Some((before, last)) = self.lending.last.replace((now, cpu)) else { return };
        let passed = now.since(before);
        if passed.is_zero() {
            return;
        }
        let case = self.case(measured, &last, passed, options);
        let strain = self.lending.guard.judge(now, &case, options.window);
        if strain.is_some() {
            let grace = self.grace_of(strain);
            self.lending.guard.acted(now, grace, options.window);
        }
        // The estimate shrinks before anybody goes, so that nobody is launched into the place.
        let lends = !self.lending.guard.rests(now);
        self.lending.estimator.see(now, case.sight.idle(), case.margin, options.window, lends);
        self.tell_estimate();
        if let Some(strain) = strain {
            self.relieve(strain, measured, now);
        }
    }

    /// A new stream: its master knows nothing yet.
    pub(crate) fn tell_lent(&mut self) {
        if self.lending.estimator.told() != Pair::default() {
            self.tell_master(ToMaster::Revocable(self.lending.lent()));
        }
    }

    /// What may be held by borrowers together, as the master was told.
    pub fn lent(&self) -> Resources {
        self.lending.lent()
    }

    fn tell_estimate(&mut self) {
        // Without a master that hears it nothing is told, and what was told stands.
        if self.link.registered().is_some()
            && let Some(estimate) = self.lending.estimator.news(Pair::of(&self.options.info.resources))
        {
            self.tell_master(ToMaster::Revocable(estimate.to_resources()));
        }
    }

    fn case(
        &self,
        measured: &Measured,
        last: &BTreeMap<RunnerId, Duration>,
        passed: Duration,
        options: LendingOptions,
    ) -> Case {
        let total = Pair::of(&self.options.info.resources);
        let available = measured.available;
        let mut sight = Sight { total, held: Pair::of(self.ledger.held()), available, ..Sight::default() };
        let mut hungry = false;
        for (runner, used) in &measured.runners {
            let Some(scope) = self.scope_of_runner(*runner) else { continue };
            let cpu = used.cpu.saturating_sub(last.get(runner).copied().unwrap_or(used.cpu));
            // What is beyond the tasks' own is the agent's reserve.
            let mem = used.memory.min(self.declared_on(*runner, &ResourceName::Mem));
            let used_now = Pair { cpus: milli(cpu, passed), mem };
            if scope.revocable {
                sight.borrowed = sight.borrowed.plus(used_now);
            } else {
                sight.used = sight.used.plus(used_now);
                hungry |= used.hungry;
            }
        }
        Case {
            sight,
            lent: Pair::of(self.ledger.borrowed()),
            leaving: self.leaving(measured),
            margin: total.hundredths(options.margin_percent.min(100)),
            hungry,
            over_reserve: self.condition().is_some_and(|condition| condition.held_back.is_some())
                && self.youngest_runner().is_some(),
        }
    }

    /// Memory of borrowers that have been told to go and have not.
    fn leaving(&self, measured: &Measured) -> u64 {
        let killed = |work: &&Work| work.launch.spec.revocable && work.live > 0;
        let of = |work: &Work| -> Option<u64> {
            let runner = work.runner()?;
            let killing = work.runs_where(work.clip(0, u32::MAX), |state| state == TaskState::Killing);
            let count: u32 = killing.iter().map(|(_, count)| *count).sum();
            let held = work.launch.spec.resources.scalar(&ResourceName::Mem).0;
            let used = measured.runners.get(&runner)?.memory;
            let each = self.part_of_use(runner, &ResourceName::Mem, held, used);
            Some(each.saturating_mul(u64::from(count.min(work.slots()))))
        };
        self.durable.works.values().filter(killed).filter_map(of).sum()
    }

    fn grace_of(&self, strain: Option<Strain>) -> Duration {
        match strain {
            Some(Strain::Memory { emergency: true, .. }) => Duration::ZERO,
            _ => self.options.default_grace,
        }
    }

    /// Ends as many borrowers as have to go.
    fn relieve(&mut self, strain: Strain, measured: &Measured, now: Time) {
        let memory = |runner| measured.runners.get(&runner).map_or(0, |used| used.memory);
        let victims = match strain {
            Strain::Memory { need, .. } => choose(self.borrowers(&ResourceName::Mem, Some(&memory)), need),
            Strain::Crowded { need, .. } => choose(self.borrowers(&ResourceName::Cpus, None), need),
            Strain::Starving { used } => choose(self.borrowers(&ResourceName::Cpus, None), used),
            Strain::Reserve => self.youngest_runner_of_borrowers(),
        };
        let (grace, why) = (self.grace_of(Some(strain)), self.why(strain).into());
        for victim in victims {
            self.send_away(&victim, &why, grace, now);
        }
    }

    /// The youngest runner of borrowers that is not about to end.
    fn youngest_runner(&self) -> Option<RunnerId> {
        let lent = |runner: &RunnerId| self.scope_of_runner(*runner).is_some_and(|scope| scope.revocable);
        let live = self.slots.iter().filter(|(runner, slot)| slot.link != RunnerLink::Stopping && lent(runner));
        live.map(|(runner, _)| *runner).next_back()
    }

    /// What a runner takes beyond its tasks is free only once all of them have ended and it too.
    fn youngest_runner_of_borrowers(&mut self) -> Vec<Victim> {
        let Some(runner) = self.youngest_runner() else { return Vec::new() };
        if self.slots.get(&runner).is_some_and(|slot| slot.load.is_empty()) {
            self.stop_runner(runner, IDLE_STOP_GRACE, "the reserve is exceeded and its tasks were revocable");
            return Vec::new();
        }
        let all = |borrower: Borrower| {
            let mut positions = [borrower.unstarted, borrower.running].concat();
            positions.sort_unstable();
            Victim { work: borrower.work, positions }
        };
        let on_it = |id: WorkId| self.durable.works.get(&id).and_then(Work::runner) == Some(runner);
        let there = self.borrowers(&ResourceName::Mem, None).into_iter().filter(|borrower| on_it(borrower.work));
        there.map(all).collect()
    }

    /// The sentence that a preempted task's status has.
    fn why(&self, strain: Strain) -> String {
        let cpus = |milli| ResourceName::Cpus.show(holm_model::Amount(milli)).to_string();
        match strain {
            Strain::Memory { used, limit, available, .. } => format!(
                "its memory is needed back: the tasks of the agent use {used} bytes of mem, the limit while some of it is \
                 lent is {limit}, and the host has {available} left"
            ),
            Strain::Reserve => {
                let condition = self.condition().and_then(|condition| condition.held_back.clone());
                format!("memory is needed back: {}", condition.as_deref().unwrap_or("the reserve is exceeded"))
            }
            Strain::Starving { used } => {
                format!("its share is needed back: revocable tasks use {} cpus while their owners wait", cpus(used))
            }
            Strain::Crowded { need, idle } => {
                let held = Pair::of(self.ledger.borrowed()).cpus;
                format!(
                    "the owners use their share: revocable tasks hold {} cpus, {} are idle, and {} too much are held",
                    cpus(held),
                    cpus(idle),
                    cpus(need)
                )
            }
        }
    }

    /// Ends tasks of a borrower, the tail first: as long as some of it is left its runner goes on with it.
    fn send_away(&mut self, victim: &Victim, message: &Arc<str>, grace: Duration, now: Time) {
        let Some(work) = self.durable.works.get(&victim.work) else { return };
        let (framework, batch) = (work.framework, work.launch.id.clone());
        self.counters.preempted_tasks += victim.positions.len() as u64;
        for run in victim.positions.chunk_by(|before, after| before + 1 == *after).rev() {
            let span = (run[0], u32::try_from(run.len()).unwrap_or(u32::MAX));
            let why = Taking { grace: Some(grace), message: message.clone() };
            self.preempt(framework, &batch, span, why, now);
        }
    }
}

/// CPU time over a time, in thousandths of a core.
fn milli(cpu: Duration, passed: Duration) -> u64 {
    u64::try_from(cpu.as_micros().saturating_mul(1_000) / passed.as_micros().max(1)).unwrap_or(u64::MAX)
}
