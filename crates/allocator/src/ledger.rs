//! What each agent has, what of it is in use, by whom, and what is free.

use std::collections::{BTreeMap, BTreeSet};

use holm_model::{AgentId, Amount, Attributes, Quantity, Resources, ResourcesError};

use crate::ChargeError;
use crate::tree::NodeId;

/// One agent's books.
#[derive(Clone, Debug)]
pub(crate) struct AgentBooks {
    pub(crate) total: Resources,
    pub(crate) attributes: Attributes,
    /// Whether what is free may be granted.
    pub(crate) active: bool,
    /// Offered or allocated, by leaf; no entry is empty.
    pub(crate) held: BTreeMap<NodeId, Resources>,
    /// The sum of `held`. More than `total` when an agent came back with less than its tasks use.
    pub(crate) in_use: Resources,
    /// What `in_use` leaves of `total`.
    pub(crate) free: Resources,
    /// The number of the last grant of this agent; zero for none.
    pub(crate) last_grant: u64,
}

/// The books of all agents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    agents: BTreeMap<AgentId, AgentBooks>,
    by_leaf: BTreeMap<NodeId, BTreeSet<AgentId>>,
}

/// What `in_use` leaves of `total`, nothing where it exceeds it.
pub(crate) fn remaining(total: &Resources, in_use: &Resources) -> Resources {
    let left = |whole: &Quantity, used: Option<&Quantity>| match (whole, used) {
        (whole, None) => whole.clone(),
        (Quantity::Scalar(whole), Some(Quantity::Scalar(used))) => {
            Quantity::Scalar(Amount(whole.0.saturating_sub(used.0)))
        }
        (Quantity::Ranges(whole), Some(Quantity::Ranges(used))) => Quantity::Ranges(whole.difference(used)),
        (Quantity::Set(whole), Some(Quantity::Set(used))) => Quantity::Set(whole.difference(used).cloned().collect()),
        // Of a resource that changed its kind nothing is known to be free.
        (_, Some(_)) => Quantity::Scalar(Amount(0)),
    };
    total.iter().map(|(name, whole)| (name.clone(), left(whole, in_use.get(name)))).collect()
}

impl Ledger {
    pub(crate) fn agent(&self, agent: AgentId) -> Option<&AgentBooks> {
        self.agents.get(&agent)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AgentId, &AgentBooks)> {
        self.agents.iter().map(|(agent, books)| (*agent, books))
    }

    /// Opens the books of an agent; `false` when they are open already.
    pub(crate) fn insert(&mut self, agent: AgentId, total: Resources, attributes: Attributes) -> bool {
        if self.agents.contains_key(&agent) {
            return false;
        }
        let (held, in_use, free) = (BTreeMap::new(), Resources::EMPTY, total.clone());
        let books = AgentBooks { total, attributes, active: true, held, in_use, free, last_grant: 0 };
        self.agents.insert(agent, books);
        true
    }

    /// Closes the books of an agent and hands them over.
    pub(crate) fn remove(&mut self, agent: AgentId) -> Option<AgentBooks> {
        let books = self.agents.remove(&agent)?;
        for leaf in books.held.keys() {
            self.forget_holder(agent, *leaf);
        }
        Some(books)
    }

    /// Sets whether an agent's free part may be granted; tells what it was before.
    pub(crate) fn set_active(&mut self, agent: AgentId, active: bool) -> Option<bool> {
        let books = self.agents.get_mut(&agent)?;
        Some(std::mem::replace(&mut books.active, active))
    }

    /// Replaces what an agent has; tells the former total and attributes.
    pub(crate) fn replace(
        &mut self,
        agent: AgentId,
        total: Resources,
        attributes: Attributes,
    ) -> Option<(Resources, Attributes)> {
        let books = self.agents.get_mut(&agent)?;
        books.free = remaining(&total, &books.in_use);
        let before = std::mem::replace(&mut books.total, total);
        Some((before, std::mem::replace(&mut books.attributes, attributes)))
    }

    /// Notes the number of a grant of this agent.
    pub(crate) fn note_grant(&mut self, agent: AgentId, number: u64) {
        if let Some(books) = self.agents.get_mut(&agent) {
            books.last_grant = number;
        }
    }

    /// Moves resources of an agent to a leaf.
    pub(crate) fn charge(&mut self, agent: AgentId, leaf: NodeId, resources: &Resources) -> Result<(), ChargeError> {
        let books = self.agents.get_mut(&agent).ok_or(ChargeError::UnknownAgent(agent))?;
        let conflict = |source| ChargeError::Conflict { agent, source };
        let in_use = books.in_use.plus(resources).map_err(conflict)?;
        let mine = books.held.get(&leaf).cloned().unwrap_or_default();
        let mine = mine.plus(resources).map_err(conflict)?;
        // Model sums saturate, and what saturated could not be taken off again.
        let overflows = |name, more: Amount| books.in_use.scalar(name).0.checked_add(more.0).is_none();
        if let Some((name, _)) = resources.iter_scalars().find(|(name, more)| overflows(name, *more)) {
            return Err(ChargeError::Overflow { agent, name: name.clone() });
        }
        if resources.is_empty() {
            return Ok(());
        }
        books.free = remaining(&books.total, &in_use);
        books.in_use = in_use;
        books.held.insert(leaf, mine);
        self.by_leaf.entry(leaf).or_default().insert(agent);
        Ok(())
    }

    /// Takes resources of an agent off a leaf. `None`: there is no such agent.
    pub(crate) fn release(
        &mut self,
        agent: AgentId,
        leaf: NodeId,
        resources: &Resources,
    ) -> Option<Result<(), ResourcesError>> {
        let books = self.agents.get_mut(&agent)?;
        let mine = books.held.get(&leaf).cloned().unwrap_or_default();
        let left = mine.minus(resources).and_then(|mine| Ok((mine, books.in_use.minus(resources)?)));
        let (mine, in_use) = match left {
            Ok(left) => left,
            Err(short) => return Some(Err(short)),
        };
        books.free = remaining(&books.total, &in_use);
        books.in_use = in_use;
        if mine.is_empty() {
            books.held.remove(&leaf);
            self.forget_holder(agent, leaf);
        } else {
            books.held.insert(leaf, mine);
        }
        Some(Ok(()))
    }

    /// Whether a leaf holds anything anywhere.
    pub(crate) fn is_holding(&self, leaf: NodeId) -> bool {
        self.by_leaf.contains_key(&leaf)
    }

    /// The index from leaves to agents, for checking.
    pub(crate) fn holders(&self) -> &BTreeMap<NodeId, BTreeSet<AgentId>> {
        &self.by_leaf
    }

    fn forget_holder(&mut self, agent: AgentId, leaf: NodeId) {
        if let Some(agents) = self.by_leaf.get_mut(&leaf) {
            agents.remove(&agent);
            if agents.is_empty() {
                self.by_leaf.remove(&leaf);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use holm_model::Epoch;

    use super::*;

    fn spec(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn more_in_use_than_there_is_leaves_nothing_and_comes_back_in_full() {
        let (agent, leaf) = (AgentId::new(Epoch(1), 1), NodeId::ROOT);
        let mut ledger = Ledger::default();
        assert!(ledger.insert(agent, spec("cpus:2;mem:4GiB;ports:[1-9]"), Attributes::new()));
        let running = spec("cpus:4;mem:1GiB;ports:[5-12]");
        ledger.charge(agent, leaf, &running).unwrap();
        assert_eq!(ledger.agent(agent).unwrap().free, spec("mem:3GiB;ports:[1-4]"));
        assert!(matches!(ledger.charge(agent, leaf, &spec("ports:[9-9]")), Err(ChargeError::Conflict { .. })));
        ledger.release(agent, leaf, &running).unwrap().unwrap();
        assert_eq!(ledger.agent(agent).unwrap().free, spec("cpus:2;mem:4GiB;ports:[1-9]"));
        assert!(!ledger.is_holding(leaf));
    }

    #[test]
    fn sums_that_would_saturate_are_refused() {
        let (agent, leaf) = (AgentId::new(Epoch(1), 1), NodeId::ROOT);
        let mut ledger = Ledger::default();
        ledger.insert(agent, spec("mem:1GiB"), Attributes::new());
        let half = Resources::scalars([(holm_model::ResourceName::Mem, u64::MAX / 2)]);
        ledger.charge(agent, leaf, &half).unwrap();
        let before = ledger.agent(agent).unwrap().in_use.clone();
        assert!(matches!(ledger.charge(agent, leaf, &half.plus(&half).unwrap()), Err(ChargeError::Overflow { .. })));
        assert_eq!(ledger.agent(agent).unwrap().in_use, before);
    }
}
