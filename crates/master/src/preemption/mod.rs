//! Taking resources back for those who are entitled to them: whoever has them is asked first, and chooses; what is missing
//! at the deadline is taken.
//!
//! The rules are [`holm_allocator::preemption`]'s. This module looks at who waits once a second while somebody does
//! ([`scene`] is what it shows the rules), turns what is decided into inverse offers, and sees each of them through:
//! given, not needed any more, or taken. Every step is told to the read model, which keeps it for audits.

mod asks;
mod options;
mod scene;

use std::collections::BTreeMap;
use std::time::Duration;

use holm_allocator::preemption::{self, Limits, Meter};
use holm_model::{AgentId, FrameworkId, InverseOfferId, InverseReason, Resources, Role, TaskSpan, Time};

pub use options::{ParseScaleDownError, PreemptionOptions, ScaleDown};

use crate::Master;
use crate::inverse::{Asked, Case, Planned};
use crate::timers::Timer;
use scene::Scene;

/// How often it is looked who waits, while somebody does.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long somebody who was made to give takes nothing by its share.
const HOLD: Duration = Duration::from_secs(300);
/// Most inverse offers that are out for preemption.
pub const MAX_ASKED: usize = 1000;

/// Why something is taken, for people and audits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreemptionRule {
    /// The guarantee of this role is not met.
    Guarantee(Role),
    /// A task of the same role has a higher priority.
    Priority,
    /// Somebody is below its fair share.
    Share,
}

impl PreemptionRule {
    /// The rule's name, as shown.
    pub const fn as_str(&self) -> &'static str {
        match self {
            PreemptionRule::Guarantee(_) => "guarantee",
            PreemptionRule::Priority => "priority",
            PreemptionRule::Share => "share",
        }
    }
}

/// How far the taking has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PreemptionPhase {
    /// The framework was asked.
    Asked,
    /// The framework has chosen what it gives.
    Chosen,
    /// It has given what was asked for.
    Given,
    /// It is not needed any more.
    Withdrawn,
    /// The master has taken what was missing.
    Taken,
}

impl PreemptionPhase {
    /// The phase in lower case, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            PreemptionPhase::Asked => "asked",
            PreemptionPhase::Chosen => "chosen",
            PreemptionPhase::Given => "given",
            PreemptionPhase::Withdrawn => "withdrawn",
            PreemptionPhase::Taken => "taken",
        }
    }
}

/// One preemption, as audits see it: who gives what, for whom, by which rule, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreemptionView {
    /// The inverse offer.
    pub id: InverseOfferId,
    /// Who gives.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// Where.
    pub agent: Option<AgentId>,
    /// How much.
    pub resources: Resources,
    /// The tasks concerned: those that the master would take, and once the framework has chosen, its own choice.
    pub tasks: Vec<TaskSpan>,
    /// Who takes.
    pub for_framework: FrameworkId,
    /// In which role.
    pub for_role: Role,
    /// Why.
    pub rule: PreemptionRule,
    /// How far it has come.
    pub phase: PreemptionPhase,
}

/// What the master remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Preemption {
    meter: Option<Meter>,
    budgets: BTreeMap<FrameworkId, Meter>,
    /// Who was made to give, and until when that counts.
    gave: BTreeMap<(FrameworkId, Role), Time>,
    /// The agent at which the next look begins, when there are too many for one.
    cursor: usize,
}

impl Master {
    /// Somebody may wait from now on.
    pub(crate) fn watch_waiting(&mut self) {
        if self.options.preemption.is_on() {
            self.timers.set_once(Timer::Preemption, self.now + INTERVAL);
        }
    }

    /// Looks who waits, and asks those back who have to give.
    pub(crate) fn preempt(&mut self) {
        self.close_asks();
        self.preemption.gave.retain(|_, until| *until > self.now);
        self.preemption.budgets.retain(|id, _| self.frameworks.contains_key(id));
        let waiting = self.those_waiting();
        if waiting.is_empty() && self.inverse.out.is_empty() {
            return;
        }
        self.timers.set(Timer::Preemption, self.now + INTERVAL);
        let rate = self.options.preemption.rate;
        let left = self.preemption.meter.get_or_insert_with(|| Meter::new(rate, self.now)).left(self.now);
        let room = MAX_ASKED.saturating_sub(self.inverse.out.len());
        let units = left.min(u32::try_from(room).unwrap_or(u32::MAX));
        if waiting.is_empty() || units == 0 {
            return;
        }
        let scene = Scene::of(self, waiting);
        let limits = Limits { units, of_owner: scene.owners.iter().map(|owner| self.budget(*owner)).collect() };
        for take in preemption::plan(&scene.view, &self.options.preemption.rules(), limits) {
            self.carry_out(&scene, &take);
        }
    }

    fn budget(&self, framework: FrameworkId) -> u32 {
        let full = self.options.preemption.budget;
        self.preemption.budgets.get(&framework).map_or(full, |meter| meter.left(self.now))
    }

    /// Asks everybody concerned for its part of what a plan takes on one agent.
    fn carry_out(&mut self, scene: &Scene, take: &preemption::Take) {
        let (for_framework, for_role) = scene.takers[take.demand].clone();
        let rule = match take.rule {
            preemption::Rule::Guarantee(node) => match &scene.roles[node] {
                Some(role) => PreemptionRule::Guarantee(role.clone()),
                None => return,
            },
            preemption::Rule::Priority => PreemptionRule::Priority,
            preemption::Rule::Share => PreemptionRule::Share,
        };
        let mut parts: BTreeMap<(FrameworkId, Role), BTreeMap<usize, u32>> = BTreeMap::new();
        for unit in &take.units {
            let launch = scene.launch_of[*unit];
            let (place, role) = &scene.launches[launch];
            *parts.entry((place.framework, role.clone())).or_default().entry(launch).or_default() += 1;
        }
        for ((framework, role), launches) in parts {
            let agent = scene.agents[take.agent];
            let case = Case {
                for_framework,
                for_role: for_role.clone(),
                rule: rule.clone(),
                plan: Vec::new(),
                held: self.held_on(framework, &role, agent),
                chosen: Vec::new(),
            };
            self.ask_for((framework, role, agent), scene, launches, case);
        }
    }

    fn ask_for(
        &mut self,
        (framework, role, agent): (FrameworkId, Role, AgentId),
        scene: &Scene,
        launches: BTreeMap<usize, u32>,
        mut case: Case,
    ) {
        let mut resources = Resources::EMPTY;
        let mut units = 0;
        for (launch, slots) in launches {
            let place = scene.launches[launch].0.clone();
            let Some(record) = self.launches.get(&place) else { continue };
            resources = record.shape.times(slots).and_then(|more| resources.plus(&more).ok()).unwrap_or(resources);
            units += slots;
            case.plan.push(Planned { place, before: record.charged, slots });
        }
        self.spend(framework, units, &case);
        self.preemption.gave.insert((framework, role.clone()), self.now + HOLD);
        let reason = match case.rule {
            PreemptionRule::Share => InverseReason::ScaleDown,
            PreemptionRule::Guarantee(_) | PreemptionRule::Priority => InverseReason::Preemption,
        };
        let due = self.now + self.options.preemption.deadline;
        let beneficiary = Some(case.for_role.clone());
        let message = case.explain().into();
        let asked = Asked {
            framework,
            role,
            agent: Some(agent),
            resources,
            reason,
            beneficiary,
            message,
            due,
            answered: false,
            case: Some(case),
        };
        let id = self.ask_back(asked);
        self.audit(id, PreemptionPhase::Asked);
    }

    /// Counts against the rate of the cluster, and of the framework where work is lost.
    fn spend(&mut self, framework: FrameworkId, units: u32, case: &Case) {
        let (now, budget) = (self.now, self.options.preemption.budget);
        if let Some(meter) = &mut self.preemption.meter {
            meter.spend(units, now);
        }
        if case.rule != PreemptionRule::Share {
            self.preemption.budgets.entry(framework).or_insert_with(|| Meter::new(budget, now)).spend(units, now);
        }
    }
}
