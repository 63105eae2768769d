//! The cluster while a plan is made: what would be held and free once everything decided so far is done.

use super::deserved::deserved;
use super::view::{Demand, Unit, View};
use super::{Amounts, Limits, Options, Rule};

/// Shares closer than this are equal.
const EPSILON: f64 = 1e-9;

/// What undoes one taking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    unit: usize,
    units: u32,
    owner: Option<u32>,
}

/// The cluster as it would be.
#[derive(Clone, Debug)]
pub(super) struct State<'a> {
    pub(super) view: &'a View,
    pub(super) options: &'a Options,
    pub(super) held: Vec<Amounts>,
    pub(super) free: Vec<Amounts>,
    pub(super) taken: Vec<bool>,
    pub(super) limits: Limits,
    /// The units of each agent.
    pub(super) on_agent: Vec<Vec<usize>>,
    /// What each node deserves, as a fraction of what its parent has.
    pub(super) deserved: Vec<f64>,
}

impl<'a> State<'a> {
    pub(super) fn new(view: &'a View, options: &'a Options, limits: Limits) -> State<'a> {
        let mut on_agent = vec![Vec::new(); view.agents.len()];
        for (at, unit) in view.units.iter().enumerate() {
            on_agent[unit.agent].push(at);
        }
        let mut state = State {
            view,
            options,
            held: view.nodes.iter().map(|node| node.held.clone()).collect(),
            free: view.agents.clone(),
            taken: vec![false; view.units.len()],
            limits,
            on_agent,
            deserved: Vec::new(),
        };
        state.deserved = deserved(&state);
        state
    }

    /// The dominant share of what a node holds.
    pub(super) fn share(&self, node: usize) -> f64 {
        self.view.share(&self.held[node])
    }

    /// The share of a node by its weight, if it held this much more.
    fn weighted(&self, node: usize, more: &[u64]) -> f64 {
        let held: Amounts = self.held[node].iter().zip(more).map(|(held, more)| held + more).collect();
        self.view.share(&held) * 1000.0 / f64::from(self.view.nodes[node].weight.max(1))
    }

    /// The agents that will do for a demand.
    pub(super) fn agents(&self, demand: &Demand) -> Vec<usize> {
        demand.agents.clone().unwrap_or_else(|| (0..self.free.len()).collect())
    }

    /// An agent on which a task of the demand fits as it is.
    pub(super) fn fitting(&self, demand: &Demand) -> Option<usize> {
        self.agents(demand).into_iter().find(|agent| self.missing(demand, *agent).iter().all(|amount| *amount == 0))
    }

    /// Whether one task more is within the limits of its role and those above it. One that is not has nothing to claim.
    pub(super) fn is_within_limits(&self, demand: &Demand) -> bool {
        self.view.chain(demand.node).all(|node| {
            let each = self.held[node].iter().zip(&demand.shape).zip(&self.view.nodes[node].limit);
            each.into_iter().all(|((held, wanted), limit)| *wanted == 0 || held.saturating_add(*wanted) <= *limit)
        })
    }

    /// What an agent lacks for a task.
    pub(super) fn missing(&self, demand: &Demand, agent: usize) -> Amounts {
        demand.shape.iter().zip(&self.free[agent]).map(|(wanted, free)| wanted.saturating_sub(*free)).collect()
    }

    /// A task of the demand starts.
    pub(super) fn place(&mut self, demand: &Demand, agent: usize) {
        for (free, wanted) in self.free[agent].iter_mut().zip(&demand.shape) {
            *free = free.saturating_sub(*wanted);
        }
        for node in self.view.chain(demand.node) {
            for (held, wanted) in self.held[node].iter_mut().zip(&demand.shape) {
                *held += wanted;
            }
        }
        self.deserved = deserved(self);
    }

    /// Units are given back.
    pub(super) fn take(&mut self, units: &[usize]) {
        for at in units {
            self.take_one(*at);
        }
    }

    /// A unit is given back. What comes back undoes it.
    pub(super) fn take_one(&mut self, at: usize) -> Taken {
        let view = self.view;
        let unit = &view.units[at];
        let owner = self.limits.of_owner.get(unit.owner).copied();
        let taken = Taken { unit: at, units: self.limits.units, owner };
        self.taken[at] = true;
        self.limits.units = self.limits.units.saturating_sub(1);
        if unit.started
            && let Some(left) = self.limits.of_owner.get_mut(unit.owner)
        {
            *left = left.saturating_sub(1);
        }
        self.move_unit(unit, |held, amount| held.saturating_sub(amount), |free, amount| free + amount);
        taken
    }

    /// Undoes the latest taking that has not been undone.
    pub(super) fn undo(&mut self, taken: Taken) {
        let view = self.view;
        let unit = &view.units[taken.unit];
        self.taken[taken.unit] = false;
        self.limits.units = taken.units;
        if let (Some(left), Some(before)) = (self.limits.of_owner.get_mut(unit.owner), taken.owner) {
            *left = before;
        }
        self.move_unit(unit, |held, amount| held + amount, u64::saturating_sub);
    }

    fn move_unit(&mut self, unit: &Unit, held: fn(u64, u64) -> u64, free: fn(u64, u64) -> u64) {
        for (left, amount) in self.free[unit.agent].iter_mut().zip(&unit.amounts) {
            *left = free(*left, *amount);
        }
        for node in self.view.chain(unit.node) {
            for (has, amount) in self.held[node].iter_mut().zip(&unit.amounts) {
                *has = held(*has, *amount);
            }
        }
    }

    /// The closest node above a demand whose guarantee is not met in something that the demand needs.
    pub(super) fn unmet(&self, demand: &Demand) -> Option<usize> {
        let short = |node: &usize| {
            let guarantee = &self.view.nodes[*node].guarantee;
            let each = guarantee.iter().zip(&self.held[*node]).zip(&demand.shape);
            each.into_iter().any(|((guarantee, held), wanted)| *wanted > 0 && guarantee > held)
        };
        self.view.chain(demand.node).find(short)
    }

    /// Whether a unit may be taken for a demand by a rule, as things stand.
    pub(super) fn may_take(&self, demand: &Demand, unit: &Unit, rule: Rule) -> bool {
        // What runs on a slot with a tail is replaced again and again, so that its age says nothing.
        let safe = unit.started && !unit.tail && !unit.revocable && unit.age < self.options.protected;
        let spent = self.limits.of_owner.get(unit.owner).is_none_or(|left| *left == 0);
        if safe || (spent && unit.started && rule != Rule::Share) {
            return false;
        }
        match rule {
            Rule::Guarantee(node) => {
                !self.view.is_under(unit.node, node)
                    && self.keeps_guarantees(demand, unit)
                    && self.is_above_share(demand, unit)
            }
            Rule::Priority => {
                self.view.nodes[unit.node].parent == self.view.nodes[demand.node].parent
                    && i64::from(unit.priority) + i64::from(self.options.delta.max(1)) <= i64::from(demand.priority)
            }
            Rule::Share => {
                // Inside a role priority decides before share, or the two would undo each other.
                let same_role = self.view.nodes[unit.node].parent == self.view.nodes[demand.node].parent;
                (!unit.started || unit.tail)
                    && !(same_role && unit.priority > demand.priority)
                    && self.keeps_guarantees(demand, unit)
                    && self.evens_out(demand, unit)
            }
        }
    }

    /// Whether everything between the unit and what it has in common with the demand keeps its guarantees without it.
    fn keeps_guarantees(&self, demand: &Demand, unit: &Unit) -> bool {
        let own = self.view.chain(unit.node).take_while(|node| !self.view.is_under(demand.node, *node));
        own.into_iter().all(|node| {
            let guarantee = &self.view.nodes[node].guarantee;
            let each = guarantee.iter().zip(&self.held[node]).zip(&unit.amounts);
            each.into_iter().all(|((guarantee, held), amount)| *amount == 0 || *held >= guarantee + amount)
        })
    }

    /// Whether the giver's side holds more than it deserves, at every level.
    fn is_above_share(&self, demand: &Demand, unit: &Unit) -> bool {
        let Some((_, side)) = self.view.sides(demand.node, unit.node) else { return false };
        let below = self.view.chain(unit.node).take_while(|node| *node != side);
        self.excess(side) > EPSILON && below.into_iter().all(|node| self.excess(node) > -EPSILON)
    }

    /// By how much a node holds more than it deserves.
    pub(super) fn excess(&self, node: usize) -> f64 {
        let whole = match self.view.nodes[node].parent {
            Some(parent) if self.view.nodes[parent].parent.is_some() => self.share(parent),
            _ => 1.0,
        };
        self.share(node) - self.deserved[node] * whole
    }

    /// Whether the taker stays below what the giver had: strictly, so that nothing is taken back.
    fn evens_out(&self, demand: &Demand, unit: &Unit) -> bool {
        let Some((taker, giver)) = self.view.sides(demand.node, unit.node) else { return false };
        self.weighted(taker, &demand.shape) + EPSILON < self.weighted(giver, &vec![0; demand.shape.len()])
    }
}
