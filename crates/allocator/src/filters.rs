//! Remembered refusals.
//!
//! A filter belongs to a leaf (a framework in a role) and an agent. It holds back exactly the offers that the refused
//! resources contain: when more becomes free on the agent, the larger offer goes through.
//!
//! Filters lie with their agent, in the order of leaves, and share what they refuse: a cluster may have a million of them.
//! Forgetting those of a leaf is one step, whatever their number; what is left of them is swept up when it is met. For each
//! agent it is remembered how many leaves refuse what is free there now, so that an agent that everybody refuses costs one
//! comparison.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use holm_model::Time;

use crate::roles::Node;
use crate::stock::{Bundle, Slot};

/// Most filters of one leaf on one agent that do not contain each other; over it, the one that ends first goes.
pub(crate) const MAX_FILTERS_PER_PAIR: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Filter {
    leaf: Node,
    /// That of the leaf when the filter was made; another one: the filter is forgotten.
    life: u32,
    /// What is refused, among the agent's.
    refused: u32,
    expires: Time,
}

#[derive(Clone, Debug)]
struct Refused {
    bundle: Bundle,
    filters: usize,
}

/// How many leaves refuse all of what was free when it was counted.
#[derive(Clone, Debug)]
struct Count {
    free: Bundle,
    epoch: u64,
    leaves: u32,
}

/// The filters on one agent.
#[derive(Clone, Debug, Default)]
struct AgentFilters {
    filters: Vec<Filter>,
    refused: Vec<Refused>,
    count: Option<Count>,
    /// Leaves whose filter ended: they may want what is free.
    woken: Vec<Node>,
}

/// One entry of the expiry order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at: Time,
    slot: Slot,
    leaf: Node,
    life: u32,
}

/// All filters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    agents: Vec<Option<Box<AgentFilters>>>,
    /// By leaf: which filters of it still count, and how many there are.
    lives: Vec<u32>,
    counts: Vec<usize>,
    live: usize,
    expiries: BinaryHeap<Reverse<Expiry>>,
    /// Changes whenever filters are forgotten or somebody starts or stops wanting offers: counts are to be made anew.
    epoch: u64,
}

impl Filters {
    /// Makes room for agents and leaves.
    pub(crate) fn ensure(&mut self, agents: usize, leaves: usize) {
        if self.agents.len() < agents {
            self.agents.resize_with(agents, || None);
        }
        if self.lives.len() < leaves {
            self.lives.resize(leaves, 0);
            self.counts.resize(leaves, 0);
        }
    }

    fn counts_now(&self, filter: &Filter) -> bool {
        self.lives[filter.leaf as usize] == filter.life
    }

    fn of(&self, slot: Slot) -> Option<&AgentFilters> {
        self.agents[slot as usize].as_deref()
    }

    /// How many filters there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Remembers that `leaf` refused `bundle` of an agent until `expires`. `free` is what is free there now, and `wanting`
    /// whether the leaf wants offers.
    pub(crate) fn install(
        &mut self,
        slot: Slot,
        leaf: Node,
        bundle: Bundle,
        expires: Time,
        free: &Bundle,
        wanting: bool,
    ) {
        let covered = self.refuses(slot, leaf, free);
        let covers = bundle.contains(free);
        let mut agent = self.agents[slot as usize].take().unwrap_or_default();
        self.retain(&mut agent, leaf, |old, refused| old.expires > expires || !bundle.contains(refused));
        let refused = agent.intern(bundle);
        let life = self.lives[leaf as usize];
        let end = agent.filters.partition_point(|filter| filter.leaf <= leaf);
        agent.filters.insert(end, Filter { leaf, life, refused, expires });
        self.counts[leaf as usize] += 1;
        self.live += 1;
        let of_leaf = agent.range(leaf);
        if of_leaf.len() > MAX_FILTERS_PER_PAIR
            && let Some(first) = of_leaf.min_by_key(|at| (agent.filters[*at].expires, *at))
        {
            let gone = agent.filters.remove(first);
            agent.drop_refused(gone.refused);
            self.counts[leaf as usize] -= 1;
            self.live -= 1;
            agent.count = None;
        }
        if let Some(count) = &mut agent.count
            && count.epoch == self.epoch
            && count.free == *free
        {
            count.leaves += u32::from(covers && !covered && wanting);
        }
        self.agents[slot as usize] = Some(agent);
        self.expiries.push(Reverse(Expiry { at: expires, slot, leaf, life }));
        self.purge();
    }

    /// Removes filters of a leaf that `keep` does not want, and all forgotten ones of it.
    fn retain(&mut self, agent: &mut AgentFilters, leaf: Node, keep: impl Fn(&Filter, &Bundle) -> bool) {
        let mut at = agent.range(leaf).start;
        while let Some(filter) = agent.filters.get(at).copied().filter(|filter| filter.leaf == leaf) {
            let counts = self.counts_now(&filter);
            if counts && keep(&filter, &agent.refused[filter.refused as usize].bundle) {
                at += 1;
                continue;
            }
            agent.filters.remove(at);
            agent.drop_refused(filter.refused);
            if counts {
                self.counts[leaf as usize] -= 1;
                self.live -= 1;
            }
        }
    }

    /// Whether `leaf` does not want to see `offer` of an agent. Filters hold until [`Filters::expire`] removes them.
    pub(crate) fn refuses(&self, slot: Slot, leaf: Node, offer: &Bundle) -> bool {
        let Some(agent) = self.of(slot) else { return false };
        let mut filters = agent.filters[agent.range(leaf)].iter();
        filters.any(|filter| self.counts_now(filter) && agent.refused[filter.refused as usize].bundle.contains(offer))
    }

    /// How many leaves that want offers refuse all of `free`, which is what is free on an agent.
    pub(crate) fn refusing(&mut self, slot: Slot, free: &Bundle, wants: impl Fn(Node) -> bool) -> u32 {
        let Some(agent) = self.of(slot) else { return 0 };
        if let Some(count) = &agent.count
            && count.epoch == self.epoch
            && count.free == *free
        {
            return count.leaves;
        }
        let refused: Vec<bool> = agent.refused.iter().map(|refused| refused.bundle.contains(free)).collect();
        let (mut leaves, mut last) = (0, None);
        for filter in agent.filters.iter().filter(|filter| self.counts_now(filter)) {
            if refused[filter.refused as usize] && last != Some(filter.leaf) && wants(filter.leaf) {
                leaves += 1;
                last = Some(filter.leaf);
            }
        }
        let count = Count { free: free.clone(), epoch: self.epoch, leaves };
        if let Some(agent) = self.agents[slot as usize].as_deref_mut() {
            agent.count = Some(count);
        }
        leaves
    }

    /// Whether anybody refuses anything of an agent.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.of(slot).is_some()
    }

    /// Somebody started or stopped wanting offers.
    pub(crate) fn recount(&mut self) {
        self.epoch += 1;
    }

    /// Removes the filters that ended by `now` and tells whose they were.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<(Slot, Node)> {
        let mut ended = Vec::new();
        while let Some(Reverse(first)) = self.expiries.peek().copied()
            && first.at <= now
        {
            self.expiries.pop();
            let Some(mut agent) = self.agents[first.slot as usize].take() else { continue };
            if first.life == self.lives[first.leaf as usize] {
                let before = self.live;
                self.retain(&mut agent, first.leaf, |filter, _| filter.expires > first.at);
                if self.live < before {
                    agent.count = None;
                    ended.push((first.slot, first.leaf));
                }
            }
            self.agents[first.slot as usize] = (!agent.is_idle()).then_some(agent);
        }
        self.purge();
        ended
    }

    /// When the first filter ends.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.expiries.peek().map(|Reverse(first)| first.at)
    }

    /// Notes that a leaf may want what is free on an agent, until [`Filters::take_woken`].
    pub(crate) fn wake(&mut self, slot: Slot, leaf: Node) {
        let woken = &mut self.agents[slot as usize].get_or_insert_default().woken;
        if !woken.contains(&leaf) {
            woken.push(leaf);
        }
    }

    /// The leaves that were noted.
    pub(crate) fn woken(&self, slot: Slot) -> &[Node] {
        self.of(slot).map_or(&[], |agent| &agent.woken)
    }

    /// Forgets that they were noted.
    pub(crate) fn take_woken(&mut self, slot: Slot) -> Vec<Node> {
        let Some(agent) = self.agents[slot as usize].as_deref_mut() else { return Vec::new() };
        let woken = std::mem::take(&mut agent.woken);
        if agent.is_idle() {
            self.agents[slot as usize] = None;
        }
        woken
    }

    /// Forgets the filters of a leaf, in one step.
    pub(crate) fn clear_leaf(&mut self, leaf: Node) {
        self.live -= std::mem::take(&mut self.counts[leaf as usize]);
        self.lives[leaf as usize] = self.lives[leaf as usize].wrapping_add(1);
        self.epoch += 1;
        self.purge();
    }

    /// Removes the filters on an agent.
    pub(crate) fn clear_agent(&mut self, slot: Slot) {
        let Some(agent) = self.agents[slot as usize].take() else { return };
        for filter in agent.filters.iter().filter(|filter| self.counts_now(filter)).copied().collect::<Vec<_>>() {
            self.counts[filter.leaf as usize] -= 1;
            self.live -= 1;
        }
        self.purge();
    }

    /// Whether an entry of the expiry order stands for a filter.
    fn stands(&self, expiry: &Expiry) -> bool {
        expiry.life == self.lives[expiry.leaf as usize]
            && self.of(expiry.slot).is_some_and(|agent| {
                agent.filters[agent.range(expiry.leaf)].iter().any(|filter| self.is_it(filter, expiry))
            })
    }

    fn is_it(&self, filter: &Filter, expiry: &Expiry) -> bool {
        filter.expires == expiry.at && filter.life == expiry.life
    }

    /// Drops entries of the expiry order that stand for nothing: at its head always, everywhere when they are the most.
    fn purge(&mut self) {
        while let Some(Reverse(first)) = self.expiries.peek()
            && !self.stands(first)
        {
            self.expiries.pop();
        }
        if self.expiries.len() > 2 * self.live + 1024 {
            let all = std::mem::take(&mut self.expiries);
            self.expiries = all.into_iter().filter(|Reverse(expiry)| self.stands(expiry)).collect();
            for agent in self.agents.iter_mut().flatten() {
                let lives = &self.lives;
                let gone = agent.filters.extract_if(.., |filter| lives[filter.leaf as usize] != filter.life);
                for filter in gone.collect::<Vec<_>>() {
                    agent.drop_refused(filter.refused);
                }
            }
        }
    }

    /// Whether counts and orders are right, and filters only of leaves and agents that `exists` knows.
    pub(crate) fn is_consistent(&self, exists: impl Fn(Slot, Node) -> bool) -> bool {
        let mut counts = vec![0; self.counts.len()];
        for (slot, agent) in (0u32..).zip(&self.agents) {
            let Some(agent) = agent.as_deref() else { continue };
            let sorted = agent.filters.is_sorted_by_key(|filter| filter.leaf);
            for filter in agent.filters.iter().filter(|filter| self.counts_now(filter)) {
                let expiry = Expiry { at: filter.expires, slot, leaf: filter.leaf, life: filter.life };
                let known = exists(slot, filter.leaf) && self.expiries.iter().any(|Reverse(other)| *other == expiry);
                if !known || !sorted {
                    return false;
                }
                counts[filter.leaf as usize] += 1;
            }
        }
        counts == self.counts && counts.iter().sum::<usize>() == self.live
    }
}

impl AgentFilters {
    fn range(&self, leaf: Node) -> std::ops::Range<usize> {
        let start = self.filters.partition_point(|filter| filter.leaf < leaf);
        let of_leaf = self.filters[start..].iter().take_while(|filter| filter.leaf == leaf).count();
        start..start + of_leaf
    }

    fn is_idle(&self) -> bool {
        self.filters.is_empty() && self.woken.is_empty()
    }

    fn intern(&mut self, bundle: Bundle) -> u32 {
        let same = self.refused.iter().position(|refused| refused.filters > 0 && refused.bundle == bundle);
        let at = same.or_else(|| self.refused.iter().position(|refused| refused.filters == 0)).unwrap_or_else(|| {
            self.refused.push(Refused { bundle: Bundle::EMPTY, filters: 0 });
            self.refused.len() - 1
        });
        self.refused[at].bundle = bundle;
        self.refused[at].filters += 1;
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn drop_refused(&mut self, at: u32) {
        let refused = &mut self.refused[at as usize];
        refused.filters -= 1;
        if refused.filters == 0 {
            refused.bundle = Bundle::EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::names::NOTHING;

    use super::*;

    fn bundle(cpus: u64, mem: u64) -> Bundle {
        let mut bundle = Bundle::EMPTY;
        (bundle.plain[0], bundle.plain[1]) = (cpus, mem);
        bundle
    }

    fn filters() -> Filters {
        let mut filters = Filters::default();
        filters.ensure(4, 8);
        filters
    }

    #[test]
    fn refusals_that_say_nothing_new_are_not_kept_and_the_rest_is_bounded() {
        let mut filters = filters();
        for n in 0..100 {
            filters.install(1, 2, bundle(n + 1, 0), Time::from_micros(1000 + n), &Bundle::EMPTY, true);
        }
        assert_eq!(filters.len(), 1, "each contains the one before and lasts longer");
        for n in 0..100 {
            filters.install(1, 2, bundle(200 + n, 100 - n), Time::from_micros(2000 + n), &Bundle::EMPTY, true);
        }
        assert_eq!(filters.len(), MAX_FILTERS_PER_PAIR);
        assert!(filters.is_consistent(|_, _| true));
        assert_eq!(filters.next_expiry(), Some(Time::from_micros(2092)), "those that end first went");
        assert_eq!(filters.expire(Time::from_micros(2099)), [(1, 2); MAX_FILTERS_PER_PAIR]);
        assert_eq!((filters.len(), filters.next_expiry()), (0, None));
    }

    #[test]
    fn who_refuses_what_is_free_is_counted_once_and_right_after_every_change() {
        let mut filters = filters();
        let free = bundle(4, 4);
        let at = Time::from_micros;
        assert_eq!(filters.refusing(1, &free, |_| true), 0);
        for leaf in [5, 3, 3, 7] {
            filters.install(1, leaf, free.clone(), at(10 + u64::from(leaf)), &free, true);
            let fresh = filters.clone().refusing(1, &bundle(4, 3), |_| true);
            assert_eq!(filters.refusing(1, &free, |_| true), fresh);
        }
        assert_eq!(filters.refusing(1, &free, |_| true), 3);
        assert_eq!(filters.refusing(1, &bundle(5, 4), |_| true), 0, "a larger offer is refused by nobody");
        filters.clear_leaf(3);
        assert_eq!(filters.refusing(1, &free, |_| true), 2);
        assert!(!filters.refuses(1, 3, &free) && filters.refuses(1, 5, &bundle(1, 0)));
        filters.recount();
        assert_eq!(filters.refusing(1, &free, |leaf| leaf != 5), 1);
        assert_eq!(filters.expire(at(16)), [(1, 5)]);
        filters.clear_agent(1);
        assert_eq!((filters.len(), filters.next_expiry()), (0, None));
        assert_eq!(NOTHING, Bundle::EMPTY.plain);
    }

    #[test]
    fn a_leaf_that_refuses_and_forgets_for_ever_leaves_nothing_behind() {
        let mut filters = filters();
        filters.install(2, 1, bundle(1, 1), Time::from_micros(u64::MAX), &Bundle::EMPTY, true);
        for n in 0..10_000 {
            filters.install(1, 6, bundle(n % 7, 1), Time::from_micros(1 << 40), &Bundle::EMPTY, true);
            filters.clear_leaf(6);
        }
        assert!(filters.expiries.len() <= 2 + 1024 + 2, "{}", filters.expiries.len());
        assert_eq!(filters.len(), 1);
    }
}
