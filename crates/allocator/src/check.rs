//! What must always hold. Product code: the simulator checks everything after every event, daemons check what they touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holm_model::{AgentId, Resources};

use crate::Allocator;
use crate::candidates::Who;
use crate::ledger::{AgentBooks, remaining};
use crate::scalars::Scalars;
use crate::tree::NodeId;

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The parts held on an agent do not add up to what is in use, or that and what is free do not add up to its total.
    Conservation(AgentId),
    /// An agent with something worth an offer is not on the list of those, or the reverse.
    Openness(AgentId),
    /// Something is free on an agent, a framework would take it, and no run is due to grant it.
    Idle(AgentId),
    /// The cluster's total is not the sum of the agents'.
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
        let mut found: Vec<Violation> = self.ledger.iter().flat_map(|(agent, _)| self.check_agent(agent)).collect();
        found.extend(self.check_totals());
        found.extend(self.tree.faults(&self.capacity).into_iter().map(Violation::Tree));
        found.extend(self.check_subscriptions());
        let exists = |agent, leaf| self.ledger.agent(agent).is_some() && self.tree.owner(leaf).is_some();
        found.extend((!self.filters.is_consistent(exists)).then_some(Violation::Filters));
        let gone = self.open.iter().copied().chain(self.candidates.agents());
        let gone = gone.filter(|agent| self.ledger.agent(*agent).is_none() || !self.open.contains(agent));
        found.extend(gone.map(Violation::Openness));
        found
    }

    /// What is wrong with one agent. Costs as much as there are leaves.
    pub fn check_agent(&self, agent: AgentId) -> Vec<Violation> {
        let Some(books) = self.ledger.agent(agent) else { return Vec::new() };
        let worth = books.active && self.options.allocatable(&books.free);
        let faults = [
            (!adds_up(books)).then_some(Violation::Conservation(agent)),
            (worth != self.open.contains(&agent)).then_some(Violation::Openness(agent)),
            (worth && self.is_idle(agent, &books.free)).then_some(Violation::Idle(agent)),
        ];
        faults.into_iter().flatten().collect()
    }

    /// Whether a leaf would take what is free on an agent although no run is due to ask it.
    fn is_idle(&self, agent: AgentId, free: &Resources) -> bool {
        let pending = |leaf| self.candidates.who(agent).is_some_and(|who: &Who| who.includes(leaf));
        let takes = |leaf: NodeId| {
            let wanting = self.tree.node(leaf).is_some_and(|node| node.is_wanting());
            wanting && !pending(leaf) && !self.filters.refuses(agent, leaf, free)
        };
        self.leaves().any(takes)
    }

    fn leaves(&self) -> impl Iterator<Item = NodeId> {
        self.frameworks.iter().flat_map(move |(framework, subscription)| {
            subscription.suppressed.keys().filter_map(move |role| self.tree.leaf(*framework, role))
        })
    }

    fn check_totals(&self) -> Vec<Violation> {
        let (mut totals, mut holders) = (Scalars::default(), BTreeMap::<NodeId, BTreeSet<AgentId>>::new());
        let mut used: BTreeMap<NodeId, Scalars> = BTreeMap::new();
        for (agent, books) in self.ledger.iter() {
            totals.add(&books.total);
            for (leaf, held) in &books.held {
                used.entry(*leaf).or_default().add(held);
                holders.entry(*leaf).or_default().insert(agent);
            }
        }
        let mut found = Vec::new();
        found.extend((totals != *self.capacity.totals()).then_some(Violation::Capacity));
        if holders != *self.ledger.holders() {
            found.push(Violation::Usage("the index of holders differs from the books".to_owned()));
        }
        for leaf in self.leaves().chain(used.keys().copied()).collect::<BTreeSet<_>>() {
            let sum = used.get(&leaf).cloned().unwrap_or_default();
            if self.tree.node(leaf).is_none_or(|node| *node.used() != sum) {
                found.push(Violation::Usage(format!("{:?} differs from the books", self.tree.owner(leaf))));
            }
        }
        found
    }

    fn check_subscriptions(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for share in self.shares() {
            for framework in &share.frameworks {
                let subscription = self.frameworks.get(&framework.framework).filter(|of| of.active);
                let suppressed = subscription.and_then(|of| of.suppressed.get(&share.role).copied());
                if framework.wanting != (suppressed == Some(false)) {
                    found.push(Violation::Subscription(format!("{} in {}", framework.framework, share.role)));
                }
            }
            let weight = self.weights.get(&share.role).copied().unwrap_or(crate::share::DEFAULT_WEIGHT);
            if weight != share.weight {
                found.push(Violation::Subscription(format!("weight of {}", share.role)));
            }
        }
        found
    }
}

fn adds_up(books: &AgentBooks) -> bool {
    let sum = books.held.values().try_fold(Resources::EMPTY, |sum, held| sum.plus(held));
    let Ok(sum) = sum else { return false };
    let whole = sum == books.in_use && books.free == remaining(&books.total, &books.in_use);
    let exact = !books.total.contains(&sum) || books.free.plus(&sum).as_ref() == Ok(&books.total);
    whole && exact
}
