//! What becomes of an inverse offer that was made for somebody: seen through to its end, and told for audits.

use std::sync::Arc;

use holm_model::{AgentId, FrameworkId, InverseOfferId, Resources, Role, TaskRange, TaskSpan};

use super::{PreemptionPhase, PreemptionRule, PreemptionView};
use crate::inverse::{Asked, Case, Planned, Why, unstarted_end};
use crate::launches::Record;
use crate::{Delta, Master};

impl Case {
    /// For whom and why, for people.
    pub(crate) fn explain(&self) -> String {
        let (framework, role) = (self.for_framework, &self.for_role);
        match &self.rule {
            PreemptionRule::Guarantee(owed) => {
                format!("for {framework} in role {role}: the guarantee of {owed} is not met")
            }
            PreemptionRule::Priority => format!("for {framework} in role {role}: its task has a higher priority"),
            PreemptionRule::Share => format!("for {framework} in role {role}: it has less than its fair share"),
        }
    }
}

impl Master {
    /// Ends the inverse offers that have been answered by deeds, and those that nobody needs any more.
    pub(super) fn close_asks(&mut self) {
        let over = |(id, asked): (&InverseOfferId, &Asked)| Some((*id, self.is_over(asked)?));
        let over: Vec<_> = self.inverse.out.iter().filter_map(over).collect();
        for (id, phase) in over {
            self.audit(id, phase);
            self.rescind_inverse(&[id]);
        }
    }

    /// How an inverse offer has ended by itself, if it has.
    fn is_over(&self, asked: &Asked) -> Option<PreemptionPhase> {
        let case = asked.case.as_ref()?;
        if self.is_given(asked, case) {
            return Some(PreemptionPhase::Given);
        }
        let waits = self.still_waits(case.for_framework, &case.for_role);
        (!waits).then_some(PreemptionPhase::Withdrawn)
    }

    fn is_given(&self, asked: &Asked, case: &Case) -> bool {
        let Some(agent) = asked.agent else { return false };
        let held = self.held_on(asked.framework, &asked.role, agent);
        case.held.minus(&held).is_ok_and(|given| given.contains(&asked.resources))
    }

    /// The deadline of an inverse offer has come: what is missing is taken, unless nobody needs it any more.
    pub(crate) fn inverse_due(&mut self, id: InverseOfferId) {
        let Some(asked) = self.inverse.out.get(&id).cloned() else { return };
        let Some(case) = &asked.case else { return drop(self.take_inverse(id)) };
        let phase = self.is_over(&asked).unwrap_or(PreemptionPhase::Taken);
        if phase == PreemptionPhase::Taken {
            let message: Arc<str> = format!("{} ({id})", case.explain()).into();
            let why = Why { grace: Some(self.options.preemption.grace), message };
            for planned in &case.plan {
                self.force(planned, &case.rule, &why);
            }
        }
        self.audit(id, phase);
        self.rescind_inverse(&[id]);
    }

    /// Takes the slots of a launch that have not been given back: its unstarted end, then what started last.
    fn force(&mut self, planned: &Planned, rule: &PreemptionRule, why: &Why) {
        let Planned { place, before, slots } = planned;
        let Some(record) = self.launches.get(place) else { return };
        let target = before.saturating_sub(*slots);
        if record.charged <= target {
            return;
        }
        if *rule == PreemptionRule::Share {
            let from = unstarted_end(record);
            return self.trim_from(place, from, &why.message);
        }
        let (from, count) = (last_live(record, record.live.saturating_sub(target)), record.count());
        self.take_positions(place, from..count, why);
    }

    /// What a framework's launches in a role hold on an agent.
    pub(super) fn held_on(&self, framework: FrameworkId, role: &Role, agent: AgentId) -> Resources {
        let places = self.launches.on_agent(agent).into_iter().filter(|place| place.framework == framework);
        let records = places
            .filter_map(|place| self.launches.get(&place))
            .filter(|record| record.role == *role && !record.revocable);
        records
            .fold(Resources::EMPTY, |held, record| held.plus(&record.held_by(record.charged).total()).unwrap_or(held))
    }

    /// Tells the read model how far an inverse offer has come.
    pub(crate) fn audit(&mut self, id: InverseOfferId, phase: PreemptionPhase) {
        let Some(asked) = self.inverse.out.get(&id) else { return };
        let Some(case) = &asked.case else { return };
        let tasks = if case.chosen.is_empty() { self.victims(case) } else { case.chosen.clone() };
        let view = PreemptionView {
            id,
            framework: asked.framework,
            role: asked.role.clone(),
            agent: asked.agent,
            resources: asked.resources.clone(),
            tasks,
            for_framework: case.for_framework,
            for_role: case.for_role.clone(),
            rule: case.rule.clone(),
            phase,
        };
        self.out.delta(Delta::Preemption(view));
    }

    /// The tasks that would be taken if they were now.
    fn victims(&self, case: &Case) -> Vec<TaskSpan> {
        let span = |planned: &Planned| {
            let record = self.launches.get(&planned.place)?;
            let target = planned.before.saturating_sub(planned.slots);
            let from = last_live(record, record.live.saturating_sub(target));
            let first = record.range.index_at(from);
            let count = record.count().saturating_sub(from);
            let tasks = first.map_or(TaskRange::Single, |first| TaskRange::Array { first, count });
            (count > 0).then(|| TaskSpan { batch: planned.place.batch.clone(), tasks })
        };
        case.plan.iter().filter_map(span).collect()
    }
}

/// The position of the first of the last `count` tasks that are not over.
fn last_live(record: &Record, count: u32) -> u32 {
    let mut left = count;
    for range in record.ranges_where(|status| !status.state.is_terminal()).into_iter().rev() {
        let there = range.end - range.start;
        if left <= there {
            return range.end - left;
        }
        left -= there;
    }
    0
}
