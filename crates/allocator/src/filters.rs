//! Remembered refusals.
//!
//! A filter belongs to a leaf (a framework in a role) and an agent. It holds back exactly the offers that the refused
//! resources contain: when more becomes free on the agent, the larger offer goes through.

use std::collections::{BTreeMap, BTreeSet};

use holm_model::{AgentId, Resources, Time};

use crate::tree::NodeId;

/// Most filters of one leaf on one agent that do not contain each other; over it, the one that ends first goes.
pub(crate) const MAX_FILTERS_PER_PAIR: usize = 8;

#[derive(Clone, Debug)]
struct Filter {
    refused: Resources,
    expires: Time,
    number: u64,
}

/// One entry of the expiry order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at: Time,
    number: u64,
    agent: AgentId,
    leaf: NodeId,
}

/// All filters, found by agent and leaf, by leaf, and by expiry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    pairs: BTreeMap<(AgentId, NodeId), Vec<Filter>>,
    by_leaf: BTreeMap<NodeId, BTreeSet<AgentId>>,
    expiries: BTreeSet<Expiry>,
    installed: u64,
}

impl Filters {
    /// Remembers that `leaf` refused `refused` of `agent` until `expires`.
    pub(crate) fn install(&mut self, agent: AgentId, leaf: NodeId, refused: Resources, expires: Time) {
        self.installed += 1;
        let number = self.installed;
        self.retain(agent, leaf, |old| old.expires > expires || !refused.contains(&old.refused));
        let filters = self.pairs.entry((agent, leaf)).or_default();
        filters.push(Filter { refused, expires, number });
        let first = filters.iter().map(|filter| (filter.expires, filter.number)).min();
        let surplus = first.filter(|_| filters.len() > MAX_FILTERS_PER_PAIR);
        self.by_leaf.entry(leaf).or_default().insert(agent);
        self.expiries.insert(Expiry { at: expires, number, agent, leaf });
        if let Some((_, number)) = surplus {
            self.retain(agent, leaf, |filter| filter.number != number);
        }
    }

    /// Whether `leaf` does not want to see `candidate` of `agent`. Filters hold until [`Filters::expire`] removes them.
    pub(crate) fn refuses(&self, agent: AgentId, leaf: NodeId, candidate: &Resources) -> bool {
        let filters = self.pairs.get(&(agent, leaf));
        filters.is_some_and(|filters| filters.iter().any(|filter| filter.refused.contains(candidate)))
    }

    /// Removes the filters that ended by `now` and tells whose they were.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<(AgentId, NodeId)> {
        let mut ended = Vec::new();
        while let Some(first) = self.expiries.first().copied()
            && first.at <= now
        {
            self.retain(first.agent, first.leaf, |filter| filter.number != first.number);
            ended.push((first.agent, first.leaf));
        }
        ended
    }

    /// When the first filter ends.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|first| first.at)
    }

    /// Removes the filters of a leaf.
    pub(crate) fn clear_leaf(&mut self, leaf: NodeId) {
        for agent in self.by_leaf.get(&leaf).cloned().unwrap_or_default() {
            self.retain(agent, leaf, |_| false);
        }
    }

    /// Removes the filters on an agent.
    pub(crate) fn clear_agent(&mut self, agent: AgentId) {
        let pairs = self.pairs.range((agent, NodeId::ROOT)..);
        let leaves: Vec<NodeId> = pairs.take_while(|((of, _), _)| *of == agent).map(|((_, leaf), _)| *leaf).collect();
        for leaf in leaves {
            self.retain(agent, leaf, |_| false);
        }
    }

    /// Keeps the filters of a pair that `keep` wants; every removal goes through here.
    fn retain(&mut self, agent: AgentId, leaf: NodeId, keep: impl Fn(&Filter) -> bool) {
        let Some(filters) = self.pairs.get_mut(&(agent, leaf)) else { return };
        for filter in filters.extract_if(.., |filter| !keep(filter)) {
            self.expiries.remove(&Expiry { at: filter.expires, number: filter.number, agent, leaf });
        }
        if filters.is_empty() {
            self.pairs.remove(&(agent, leaf));
            if let Some(agents) = self.by_leaf.get_mut(&leaf) {
                agents.remove(&agent);
                if agents.is_empty() {
                    self.by_leaf.remove(&leaf);
                }
            }
        }
    }

    /// Whether the three indices tell the same, and only of agents and leaves that `exists` knows.
    pub(crate) fn is_consistent(&self, exists: impl Fn(AgentId, NodeId) -> bool) -> bool {
        let expiries = self.pairs.iter().flat_map(|((agent, leaf), filters)| {
            filters.iter().map(|f| Expiry { at: f.expires, number: f.number, agent: *agent, leaf: *leaf })
        });
        let mut by_leaf: BTreeMap<NodeId, BTreeSet<AgentId>> = BTreeMap::new();
        for (agent, leaf) in self.pairs.keys() {
            by_leaf.entry(*leaf).or_default().insert(*agent);
        }
        expiries.collect::<BTreeSet<_>>() == self.expiries
            && by_leaf == self.by_leaf
            && self.pairs.keys().all(|(agent, leaf)| exists(*agent, *leaf))
            && self.pairs.values().all(|filters| (1..=MAX_FILTERS_PER_PAIR).contains(&filters.len()))
    }
}

#[cfg(test)]
mod tests {
    use holm_model::Epoch;

    use super::*;

    #[test]
    fn refusals_that_say_nothing_new_are_not_kept_and_the_rest_is_bounded() {
        let (agent, leaf) = (AgentId::new(Epoch(1), 1), NodeId::ROOT);
        let mut filters = Filters::default();
        for n in 0..100u64 {
            filters.install(agent, leaf, format!("cpus:{}", n + 1).parse().unwrap(), Time::from_micros(1000 + n));
        }
        assert_eq!(filters.expiries.len(), 1, "each contains the one before and lasts longer");
        for n in 0..100u64 {
            let incomparable = format!("cpus:{};mem:{}MiB", 200 + n, 100 - n).parse().unwrap();
            filters.install(agent, leaf, incomparable, Time::from_micros(2000 + n));
        }
        assert_eq!(filters.expiries.len(), MAX_FILTERS_PER_PAIR);
        assert!(filters.is_consistent(|_, _| true));
        assert_eq!(filters.next_expiry(), Some(Time::from_micros(2092)), "those that end first went");
        assert_eq!(filters.expire(Time::from_micros(2099)).len(), MAX_FILTERS_PER_PAIR);
        assert!(filters.pairs.is_empty() && filters.by_leaf.is_empty());
    }
}
