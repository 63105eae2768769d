//! Which units are taken for one task.

use std::cmp::Ordering;

use super::state::State;
use super::view::{Amounts, Demand, Unit, ratio};
use super::{MAX_AGENTS_WEIGHED, MAX_UNITS_FOR_ONE, Rule};

/// What a choice costs; the least is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Units whose tasks have started.
    started: usize,
    /// How long those have run, together, in milliseconds.
    lost: u128,
    /// All units.
    units: usize,
}

impl State<'_> {
    /// The first rule by which room can be made for a task of the demand, and where, and by taking what.
    pub(super) fn choose(&mut self, demand: &Demand) -> Option<(Rule, usize, Vec<usize>)> {
        let guarantee = self.unmet(demand).filter(|_| self.options.guarantees).map(Rule::Guarantee);
        let priority = self.options.priorities.then_some(Rule::Priority);
        let share = (self.options.shares && !demand.gave).then_some(Rule::Share);
        let rules = [guarantee, priority, share].into_iter().flatten();
        rules.into_iter().find_map(|rule| {
            let (agent, units) = self.cheapest(demand, rule)?;
            Some((rule, agent, units))
        })
    }

    fn cheapest(&mut self, demand: &Demand, rule: Rule) -> Option<(usize, Vec<usize>)> {
        let mut best: Option<(Cost, usize, Vec<usize>)> = None;
        let mut weighed = 0;
        for agent in self.agents(demand) {
            let Some(units) = self.on(agent, demand, rule) else { continue };
            let cost = self.cost(&units);
            if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                best = Some((cost, agent, units));
            }
            weighed += 1;
            if weighed >= MAX_AGENTS_WEIGHED {
                break;
            }
        }
        best.map(|(_, agent, units)| (agent, units))
    }

    fn cost(&self, units: &[usize]) -> Cost {
        let started = || units.iter().map(|at| &self.view.units[*at]).filter(|unit| unit.started);
        let lost = started().map(|unit| unit.age.as_millis()).sum();
        Cost { started: started().count(), lost, units: units.len() }
    }

    /// What to take on one agent. Nothing has been taken afterwards.
    fn on(&mut self, agent: usize, demand: &Demand, rule: Rule) -> Option<Vec<usize>> {
        if !self.could_do(agent, &self.missing(demand, agent)) {
            return None;
        }
        let mut chosen = Vec::new();
        let mut before = Vec::new();
        let enough = loop {
            let missing = self.missing(demand, agent);
            if missing.iter().all(|amount| *amount == 0) {
                break true;
            }
            if chosen.len() >= MAX_UNITS_FOR_ONE || self.limits.units == 0 {
                break false;
            }
            let Some(next) = self.next(agent, demand, rule, &missing) else { break false };
            before.push(self.take_one(next));
            chosen.push(next);
        };
        while let Some(taken) = before.pop() {
            self.undo(taken);
        }
        if !enough {
            return None;
        }
        self.drop_unneeded(agent, demand, &mut chosen);
        self.keeps(demand, &chosen).then_some(chosen)
    }

    /// The best victim as things stand.
    fn next(&self, agent: usize, demand: &Demand, rule: Rule, missing: &[u64]) -> Option<usize> {
        let there = self.on_agent[agent].iter().copied();
        let open = there.filter(|at| self.is_open(*at, demand, rule, missing));
        open.min_by(|left, right| self.order(*left, *right, missing))
    }

    /// Whether all that is on an agent would do, whoever may take it.
    fn could_do(&self, agent: usize, missing: &[u64]) -> bool {
        let mut left = missing.to_vec();
        for at in self.on_agent[agent].iter().filter(|at| !self.taken[**at]) {
            for (left, amount) in left.iter_mut().zip(&self.view.units[*at].amounts) {
                *left = left.saturating_sub(*amount);
            }
        }
        left.iter().all(|amount| *amount == 0)
    }

    /// Whether a unit may be taken next and helps.
    fn is_open(&self, at: usize, demand: &Demand, rule: Rule, missing: &[u64]) -> bool {
        let unit = &self.view.units[at];
        let helps = unit.amounts.iter().zip(missing).any(|(amount, missing)| *amount > 0 && *missing > 0);
        let next = unit.after.is_none_or(|before| self.taken[before]);
        !self.taken[at] && helps && next && self.may_take(demand, unit, rule)
    }

    /// Which of two units is the better victim.
    fn order(&self, left: usize, right: usize, missing: &[u64]) -> Ordering {
        let (a, b) = (&self.view.units[left], &self.view.units[right]);
        let class = |unit: &Unit| (unit.started, !unit.revocable);
        let excess = |unit: &Unit| self.excess_of(unit);
        class(a)
            .cmp(&class(b))
            .then_with(|| excess(b).total_cmp(&excess(a)))
            .then_with(|| a.priority.cmp(&b.priority))
            .then_with(|| magnitude(a).cmp(&magnitude(b)))
            .then_with(|| self.distance(a, missing).total_cmp(&self.distance(b, missing)))
            .then_with(|| a.age.cmp(&b.age))
            .then_with(|| left.cmp(&right))
    }

    /// How far the role of a unit is above what it deserves, and then its framework.
    fn excess_of(&self, unit: &Unit) -> f64 {
        let chain = self.view.chain(unit.node);
        chain.map(|node| self.excess(node)).fold(0.0, f64::max)
    }

    /// How far a unit is from what is missing.
    fn distance(&self, unit: &Unit, missing: &[u64]) -> f64 {
        let each = unit.amounts.iter().zip(missing).zip(&self.view.total);
        let apart = |((amount, missing), total): ((&u64, &u64), &u64)| {
            if *total == 0 { 0.0 } else { ratio(amount.abs_diff(*missing), *total).powi(2) }
        };
        each.map(apart).sum()
    }

    /// The pass backwards: the last chosen is the one that costs most. What another unit waits for stays.
    fn drop_unneeded(&self, agent: usize, demand: &Demand, chosen: &mut Vec<usize>) {
        for at in (0..chosen.len()).rev() {
            let unit = chosen[at];
            if chosen.iter().any(|other| self.view.units[*other].after == Some(unit)) {
                continue;
            }
            let others: Vec<usize> = chosen.iter().copied().filter(|other| *other != unit).collect();
            if self.suffices(agent, demand, &others) {
                chosen.remove(at);
            }
        }
    }

    fn suffices(&self, agent: usize, demand: &Demand, units: &[usize]) -> bool {
        let mut free: Amounts = self.free[agent].clone();
        for at in units {
            for (free, amount) in free.iter_mut().zip(&self.view.units[*at].amounts) {
                *free += amount;
            }
        }
        free.iter().zip(&demand.shape).all(|(free, wanted)| free >= wanted)
    }

    /// Whether the taker's role, and those above it, hold no less of what they are guaranteed once its task has taken the
    /// place of others, which may have been larger.
    fn keeps(&self, demand: &Demand, chosen: &[usize]) -> bool {
        self.view.chain(demand.node).all(|node| {
            let (before, guarantee) = (&self.held[node], &self.view.nodes[node].guarantee);
            let after = self.held_after(node, demand, chosen);
            after.iter().zip(before).zip(guarantee).all(|((after, before), guarantee)| after >= before.min(guarantee))
        })
    }

    /// What a node above a demand would hold with one task of it in the place of others.
    fn held_after(&self, node: usize, demand: &Demand, chosen: &[usize]) -> Amounts {
        let mut after: Amounts = self.held[node].iter().zip(&demand.shape).map(|(held, more)| held + more).collect();
        for unit in chosen.iter().map(|at| &self.view.units[*at]).filter(|unit| self.view.is_under(unit.node, node)) {
            for (after, amount) in after.iter_mut().zip(&unit.amounts) {
                *after = after.saturating_sub(*amount);
            }
        }
        after
    }
}

/// The order of magnitude of the work that is lost with a unit.
fn magnitude(unit: &Unit) -> u32 {
    if unit.started { 64 - unit.age.as_secs().leading_zeros() } else { 0 }
}
