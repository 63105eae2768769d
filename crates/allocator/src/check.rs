//! What must always hold. Product code: the simulator checks everything after every event, daemons check what they touched.

use std::collections::BTreeMap;
use std::fmt;

use holm_model::{AgentId, DEFAULT_WEIGHT};

use crate::Allocator;
use crate::constraints::ConstraintTable;
use crate::names::{MAX_SCALARS, NOTHING};
use crate::roles::{Node, ROOT, Roles};
use crate::stock::{Bundle, Slot};
use crate::willing::{Notes, Pass, Visit};

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The parts held on an agent do not add up to what is in use, or that and what is free do not add up to its total.
    Conservation(AgentId),
    /// An agent with something worth an offer is not on the list of those, or the reverse.
    Openness(AgentId),
    /// Something is free on an agent, a framework would take it, and no run is due to grant it.
    Idle(AgentId),
    /// The cluster's total, or what is free of it, is not the sum of the agents'.
    Capacity,
    /// A leaf's usage is not the sum of what it holds on agents, or an index of holders is wrong.
    Usage(String),
    /// A node's sum or order is wrong.
    Tree(String),
    /// Filters and their indices differ, or belong to nobody.
    Filters,
    /// A leaf does not want what its framework's subscription says.
    Subscription(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Conservation(agent) => write!(f, "{agent}: held and free do not add up to the total"),
            Violation::Openness(agent) => {
                write!(f, "{agent}: wrongly listed as having, or not having, something to offer")
            }
            Violation::Idle(agent) => write!(f, "{agent}: something is free and wanted, and no run is due"),
            Violation::Capacity => f.write_str("the cluster's total is not the sum of the agents'"),
            Violation::Usage(what) => write!(f, "usage: {what}"),
            Violation::Tree(what) => write!(f, "tree: {what}"),
            Violation::Filters => f.write_str("filters differ from their indices or belong to nobody"),
            Violation::Subscription(what) => write!(f, "subscription: {what}"),
        }
    }
}

impl Allocator {
    /// Everything that is wrong. Costs a pass over the whole state.
    pub fn check(&self) -> Vec<Violation> {
        let mut roles = self.roles.clone();
        roles.settle();
        let mut constraints = self.constraints.clone();
        let mut found = Vec::new();
        for slot in self.stock.slots() {
            found.extend(self.check_slot(slot, &roles, &mut constraints));
        }
        found.extend(self.check_totals());
        found.extend(self.roles.faults().into_iter().map(Violation::Tree));
        found.extend(self.check_subscriptions());
        let exists = |slot, leaf| self.stock.id(slot).is_some() && self.roles.owner(leaf).is_some();
        found.extend((!self.filters.is_consistent(exists)).then_some(Violation::Filters));
        found
    }

    /// What is wrong with one agent. Costs as much as there are leaves.
    pub fn check_agent(&self, agent: AgentId) -> Vec<Violation> {
        let Some(slot) = self.stock.find(agent) else { return Vec::new() };
        let mut roles = self.roles.clone();
        roles.settle();
        self.check_slot(slot, &roles, &mut self.constraints.clone())
    }

    fn check_slot(&self, slot: Slot, roles: &Roles, constraints: &mut ConstraintTable) -> Vec<Violation> {
        let Some(agent) = self.stock.id(slot) else { return Vec::new() };
        let worth = self.stock.is_active(slot) && self.is_worth_an_offer(slot);
        let listed = self.open_places[slot as usize].is_some_and(|place| self.open.get(place as usize) == Some(&slot));
        let stray = self.candidates.is_marked(slot) && !listed;
        let faults = [
            (!self.stock.adds_up(slot)).then_some(Violation::Conservation(agent)),
            (worth != listed || stray).then_some(Violation::Openness(agent)),
            (worth && self.is_idle(slot, roles, constraints)).then_some(Violation::Idle(agent)),
        ];
        faults.into_iter().flatten().collect()
    }

    /// Whether a leaf would take what is free on an agent although no run is due to ask it.
    fn is_idle(&self, slot: Slot, roles: &Roles, constraints: &mut ConstraintTable) -> bool {
        let marked = self.candidates.is_marked(slot);
        if marked && self.everyone[slot as usize] {
            return false;
        }
        let free = self.stock.free(slot);
        let due = |leaf: Node| {
            let keen = || roles.up(leaf).chain([ROOT]).any(|node| self.keen.contains_key(&node));
            marked && self.filters.woken(slot).contains(&leaf) || keen() || self.gang_is_due(leaf, slot, &free)
        };
        [Pass::Share, Pass::Revocable].into_iter().any(|pass| {
            let visit = Visit::new(self, roles, slot, pass, &free);
            let mut take = |leaf: Node| (!due(leaf)).then(|| visit.offer(leaf, constraints, &mut Notes::default()))?;
            roles.find(ROOT, &|_| true, &mut take).is_some()
        })
    }

    /// Whether a run is due to visit another agent of a gang that is planned for this one: it is granted there.
    fn gang_is_due(&self, leaf: Node, slot: Slot, free: &Bundle) -> bool {
        let free = self.stock.portions(free).total();
        let asks = |at: Slot| {
            let marked = self.candidates.is_marked(at);
            marked && (self.everyone[at as usize] || self.filters.woken(at).contains(&leaf))
        };
        let choice = self.choose_demand(leaf, slot, &free, self.granted);
        choice.is_some_and(|choice| choice.parts.iter().any(|(at, _)| *at != slot && asks(*at)))
    }

    fn check_totals(&self) -> Vec<Violation> {
        let mut totals = [0u128; MAX_SCALARS];
        let mut used: BTreeMap<Node, ([u128; MAX_SCALARS], u32)> = BTreeMap::new();
        let mut idle = BTreeMap::new();
        for slot in self.stock.slots() {
            let total = self.stock.all(&self.stock.total(slot));
            totals.iter_mut().zip(total).for_each(|(sum, more)| *sum += u128::from(more));
            for leaf in self.stock.holders(slot) {
                let (sums, agents) = used.entry(leaf).or_insert(([0; MAX_SCALARS], 0));
                let held = self.stock.all(&self.stock.held(slot, leaf));
                sums.iter_mut().zip(held).for_each(|(sum, more)| *sum += u128::from(more));
                *agents += 1;
            }
            for (role, amounts) in self.stock.idle(slot).into_iter().filter(|(_, amounts)| *amounts != NOTHING) {
                let sums = idle.entry(role).or_insert([0u128; MAX_SCALARS]);
                sums.iter_mut().zip(amounts).for_each(|(sum, more)| *sum += u128::from(more));
            }
        }
        let width = self.stock.names.len();
        let mut found = Vec::new();
        if (0..width).any(|r| totals[r] != self.roles.capacity(r)) || !self.stock.spare_adds_up() {
            found.push(Violation::Capacity);
        }
        for leaf in self.roles.all_leaves() {
            let (sums, agents) = used.remove(&leaf).unwrap_or(([0; MAX_SCALARS], 0));
            if sums[..width] != *self.roles.used(leaf) || agents != self.roles.node(leaf).agents {
                found.push(Violation::Usage(format!("{:?} differs from the books", self.roles.owner(leaf))));
            }
        }
        found.extend((!used.is_empty()).then(|| Violation::Usage("something is held by nobody".to_owned())));
        let booked: BTreeMap<_, _> = self.roles.all_idle().collect();
        let same =
            booked.len() == idle.len() && idle.iter().all(|(role, sums)| booked.get(role) == Some(&&sums[..width]));
        found.extend((!same).then(|| Violation::Usage("what is reserved and not in use".to_owned())));
        found
    }

    fn check_subscriptions(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let (mut able, mut movers) = (0, 0);
        for leaf in self.roles.all_leaves() {
            let Some((framework, role)) = self.roles.owner(leaf) else { continue };
            let wanting = self.roles.node(leaf).is_wanting();
            if wanting != (self.wish(framework, role) == Some(true)) {
                found.push(Violation::Subscription(format!("{framework} in {role}")));
            }
            let options = &self.leaves[leaf as usize];
            able += usize::from(wanting && options.abilities.gpus);
            movers += usize::from(options.placement != holm_model::Placement::Spread);
        }
        if (able, movers) != (self.able, self.movers) {
            found.push(Violation::Subscription("abilities are miscounted".to_owned()));
        }
        for (role, node) in self.roles.iter() {
            let weight = self.weights.get(role).copied().unwrap_or(DEFAULT_WEIGHT);
            if weight != self.roles.node(node).weight() {
                found.push(Violation::Subscription(format!("weight of {role}")));
            }
            if self.roles.bounds(node).is_some() != self.quotas.contains_key(role) {
                found.push(Violation::Subscription(format!("quota of {role}")));
            }
        }
        found
    }
}
