//! A run: visiting the candidates, choosing for each who gets what is free there, and knowing what to visit next time.

use std::cmp::Reverse;

use holm_model::{AgentId, FrameworkId, Resources, Role, Time};

use crate::Allocator;
use crate::candidates::{AgentRank, Who};
use crate::scalars::Scalars;
use crate::share::DEFAULT_WEIGHT;
use crate::tree::NodeId;

/// Resources of one agent for one framework in one role; already charged to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub framework: FrameworkId,
    /// In which of its roles.
    pub role: Role,
    /// Where.
    pub agent: AgentId,
    /// What: all that was free there.
    pub resources: Resources,
}

impl Allocator {
    /// Makes at most `max` grants. Each is charged at once, so the next decision already counts it.
    pub fn allocate(&mut self, now: Time, max: usize) -> Vec<Grant> {
        for (agent, leaf) in self.filters.expire(now) {
            if self.tree.node(leaf).is_some_and(|node| node.is_wanting()) {
                self.consider(agent, Who::one(leaf));
            }
        }
        let mut grants = Vec::new();
        while grants.len() < max
            && let Some((agent, who)) = self.candidates.pop()
        {
            grants.extend(self.grant(agent, &who));
        }
        grants
    }

    /// Whether [`Allocator::allocate`] has agents to visit: something changed, or the last run ended at its maximum.
    pub fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// When the next filter ends, after which a run may find something to grant.
    pub fn next_wake(&self) -> Option<Time> {
        self.filters.next_expiry()
    }

    /// Makes every agent with something free a candidate again. Never needed if the allocator is right; a master calls it
    /// now and then as a safety net.
    pub fn sweep(&mut self) {
        for agent in self.open.clone() {
            self.consider(agent, Who::Everyone);
        }
    }

    /// Grants what is free on an agent to the first of `who` that does not refuse it.
    fn grant(&mut self, agent: AgentId, who: &Who) -> Option<Grant> {
        if !self.open.contains(&agent) {
            return None;
        }
        let resources = self.ledger.agent(agent)?.free.clone();
        let leaf = self.choose(agent, &resources, who)?;
        let (framework, role) = self.tree.owner(leaf)?;
        let role = role.clone();
        // What is free is disjoint from what is in use, and no more than the agent's total: this cannot be refused.
        self.charge(leaf, agent, &resources, true).ok()?;
        self.granted += 1;
        self.ledger.note_grant(agent, self.granted);
        Some(Grant { framework, role, agent, resources })
    }

    fn choose(&mut self, agent: AgentId, resources: &Resources, who: &Who) -> Option<NodeId> {
        let (filters, capacity) = (&self.filters, &self.capacity);
        match who {
            Who::Everyone => self.tree.first_willing(capacity, &|leaf| !filters.refuses(agent, leaf, resources)),
            Who::Only(leaves) => {
                let tree = &self.tree;
                let wants = |leaf: &&NodeId| tree.node(**leaf).is_some_and(|node| node.is_wanting());
                let willing = leaves.iter().filter(wants).filter(|leaf| !filters.refuses(agent, **leaf, resources));
                willing.min_by_key(|leaf| tree.path(**leaf, capacity)).copied()
            }
        }
    }

    /// A leaf may want what it refused, or was not asked about, before.
    pub(crate) fn interest(&mut self, leaf: NodeId) {
        if self.tree.node(leaf).is_some_and(|node| node.is_wanting()) {
            for agent in self.open.clone() {
                self.consider(agent, Who::one(leaf));
            }
        }
    }

    /// More than before may be grantable on an agent.
    pub(crate) fn opened(&mut self, agent: AgentId, who: Who) {
        self.reopen(agent);
        self.consider(agent, who);
    }

    /// Brings `open` in line with an agent's books.
    pub(crate) fn reopen(&mut self, agent: AgentId) {
        let books = self.ledger.agent(agent);
        if books.is_some_and(|books| books.active && self.options.allocatable(&books.free)) {
            self.open.insert(agent);
        } else {
            self.open.remove(&agent);
            self.candidates.remove(agent);
        }
    }

    fn consider(&mut self, agent: AgentId, who: Who) {
        if let Some(books) = self.ledger.agent(agent)
            && self.open.contains(&agent)
        {
            let mut free = Scalars::default();
            free.add(&books.free);
            let free = Reverse(self.capacity.share(&free, DEFAULT_WEIGHT));
            self.candidates.add(AgentRank { free, last_grant: books.last_grant, agent }, who);
        }
    }
}
