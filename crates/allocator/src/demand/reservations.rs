//! Agents kept for demands that go on missing: at most one reservation per leaf, a bounded part of the cluster, for a
//! bounded time, and meanwhile lent to what ends before they are needed.
//!
//! A reservation *holds* what becomes free on its agents until it has what it needs. What it holds is charged to the leaf like
//! an offer, so that nobody waits for free. Its agents belong to it alone and are chosen at one time: reservations never
//! wait for each other, only for tasks that run.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{Portions, Resources, Time};

use super::ground::{Leaf, Slot};

/// What is kept on one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// How many bundles it is to hold.
    pub(crate) bundles: u32,
    /// What it holds so far.
    pub(crate) held: Portions,
    /// By when the rest is expected to be free; none when nobody knows, and nothing is lent.
    pub(crate) expected: Option<Time>,
    /// What it holds is being lent: nothing is to be held meanwhile.
    pub(crate) rests: bool,
}

/// One reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// Which of the leaf's demands it is for.
    pub(crate) entry: u64,
    /// What it is to hold altogether, for the cap.
    pub(crate) needs: Resources,
    /// The agents, by number.
    pub(crate) agents: BTreeMap<Slot, Kept>,
    /// When it is given up.
    pub(crate) until: Time,
}

/// Who is next to get a reservation: the higher priority, then who has waited longer, then the smaller leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) priority: std::cmp::Reverse<i32>,
    pub(crate) since: Time,
    pub(crate) leaf: Leaf,
}

/// All reservations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    by_leaf: BTreeMap<Leaf, Reservation>,
    by_agent: BTreeMap<Slot, Leaf>,
    needs: Resources,
}

impl Reservations {
    /// Whether a leaf has one.
    pub(crate) fn has(&self, leaf: Leaf) -> bool {
        self.by_leaf.contains_key(&leaf)
    }

    /// The reservation of a leaf.
    pub(crate) fn of(&self, leaf: Leaf) -> Option<&Reservation> {
        self.by_leaf.get(&leaf)
    }

    pub(crate) fn of_mut(&mut self, leaf: Leaf) -> Option<&mut Reservation> {
        self.by_leaf.get_mut(&leaf)
    }

    /// For which leaf an agent is kept.
    pub(crate) fn leaf_on(&self, agent: Slot) -> Option<Leaf> {
        self.by_agent.get(&agent).copied()
    }

    /// What is kept on an agent.
    pub(crate) fn kept(&self, agent: Slot) -> Option<&Kept> {
        self.of(self.leaf_on(agent)?)?.agents.get(&agent)
    }

    pub(crate) fn kept_mut(&mut self, agent: Slot) -> Option<&mut Kept> {
        let leaf = self.leaf_on(agent)?;
        self.of_mut(leaf)?.agents.get_mut(&agent)
    }

    /// All of them, by leaf.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Leaf, &Reservation)> {
        self.by_leaf.iter().map(|(leaf, reservation)| (*leaf, reservation))
    }

    /// Whether one more of `needs` stays within `cap` thousandths of `capacity`, or is the only one.
    pub(crate) fn has_room(&self, needs: &Resources, capacity: &Resources, cap: u32) -> bool {
        if self.by_leaf.is_empty() {
            return true;
        }
        needs.iter_scalars().all(|(name, amount)| {
            let all = u128::from(self.needs.scalar(name).0) + u128::from(amount.0);
            all * 1000 <= u128::from(capacity.scalar(name).0) * u128::from(cap)
        })
    }

    /// Enters a reservation. False, and nothing has changed, when its leaf has one or one of its agents is taken.
    pub(crate) fn insert(&mut self, leaf: Leaf, reservation: Reservation) -> bool {
        let taken = reservation.agents.keys().any(|agent| self.by_agent.contains_key(agent));
        if taken || self.has(leaf) {
            return false;
        }
        self.needs = plus(&self.needs, &reservation.needs);
        self.by_agent.extend(reservation.agents.keys().map(|agent| (*agent, leaf)));
        self.by_leaf.insert(leaf, reservation);
        true
    }

    /// Takes a reservation out; what it holds is for the caller to free or to grant.
    pub(crate) fn remove(&mut self, leaf: Leaf) -> Option<Reservation> {
        let reservation = self.by_leaf.remove(&leaf)?;
        self.by_agent.retain(|_, of| *of != leaf);
        // Sums saturate, so that the rest is summed up anew instead of subtracted.
        self.needs = self.by_leaf.values().fold(Resources::EMPTY, |sum, one| plus(&sum, &one.needs));
        Some(reservation)
    }

    /// The leaves whose reservations are over by `now`.
    pub(crate) fn over(&self, now: Time) -> Vec<Leaf> {
        self.by_leaf.iter().filter(|(_, one)| one.until <= now).map(|(leaf, _)| *leaf).collect()
    }

    /// When the first of them is over.
    pub(crate) fn next_end(&self) -> Option<Time> {
        self.by_leaf.values().map(|one| one.until).min()
    }

    /// Whether the indices agree.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        let agents: Vec<(Slot, Leaf)> =
            self.by_leaf.iter().flat_map(|(leaf, one)| one.agents.keys().map(|agent| (*agent, *leaf))).collect();
        agents.len() == self.by_agent.len() && agents.iter().all(|(agent, leaf)| self.by_agent.get(agent) == Some(leaf))
    }
}

fn plus(a: &Resources, b: &Resources) -> Resources {
    let scalars = a.iter_scalars().map(|(name, _)| name).chain(b.iter_scalars().map(|(name, _)| name));
    let sum = |name: &holm_model::ResourceName| a.scalar(name).0.saturating_add(b.scalar(name).0);
    Resources::scalars(scalars.map(|name| (name.clone(), sum(name))))
}

/// Whether something that may take `lasts` can be lent what is kept on an agent.
pub(crate) fn can_borrow(kept: &Kept, lasts: Option<Duration>, now: Time) -> bool {
    match (kept.expected, lasts) {
        (Some(expected), Some(lasts)) => now + lasts <= expected,
        _ => false,
    }
}

/// How long to wait before the next try after `tries` reservations came to nothing.
pub(crate) fn patience(first: Duration, tries: u32) -> Duration {
    first.saturating_mul(1 << tries.min(6))
}

#[cfg(test)]
mod tests {
    use super::super::ground::{leaf, slot};
    use super::*;

    fn spec(text: &str) -> Resources {
        text.parse().unwrap()
    }

    fn reservation(needs: &str, agents: &[u32]) -> Reservation {
        let kept = Kept { bundles: 1, held: Portions::EMPTY, expected: None, rests: false };
        Reservation {
            entry: 1,
            needs: spec(needs),
            agents: agents.iter().map(|agent| (slot(*agent), kept.clone())).collect(),
            until: Time::from_micros(100),
        }
    }

    #[test]
    fn reservations_stay_within_the_cap_and_off_each_others_agents() {
        let mut all = Reservations::default();
        let capacity = spec("cpus:100;mem:100GiB");
        assert!(all.has_room(&spec("cpus:50"), &capacity, 100), "the first may be large: else small clusters had none");
        assert!(all.insert(leaf(1), reservation("cpus:6", &[1, 2])));
        assert!(all.has_room(&spec("cpus:4;mem:10GiB"), &capacity, 100));
        assert!(!all.has_room(&spec("cpus:5"), &capacity, 100));
        assert!(!all.insert(leaf(1), reservation("cpus:1", &[9])), "one per leaf");
        assert!(!all.insert(leaf(2), reservation("cpus:1", &[2])), "one per agent");
        assert!(all.insert(leaf(2), reservation("cpus:4", &[3])));
        assert!(!all.has_room(&spec("cpus:0.001"), &capacity, 100));
        assert!(all.is_consistent());
        assert_eq!(
            (all.leaf_on(slot(2)), all.leaf_on(slot(3)), all.leaf_on(slot(4))),
            (Some(leaf(1)), Some(leaf(2)), None)
        );
        all.remove(leaf(1));
        assert!(all.has_room(&spec("cpus:6"), &capacity, 100) && all.leaf_on(slot(2)).is_none() && all.is_consistent());
    }

    #[test]
    fn only_what_ends_in_time_is_lent_to() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let kept = |expected| Kept { bundles: 1, held: Portions::EMPTY, expected, rests: false };
        let minute = Some(Duration::from_secs(60));
        assert!(can_borrow(&kept(Some(at(70))), minute, at(10)));
        assert!(!can_borrow(&kept(Some(at(69))), minute, at(10)));
        assert!(!can_borrow(&kept(Some(at(70))), None, at(10)), "it made no promise");
        assert!(!can_borrow(&kept(None), minute, at(10)), "nobody knows when the rest is free");
    }

    #[test]
    fn whoever_waits_is_served_by_priority_and_then_by_time() {
        let turn = |priority, since, number| Turn {
            priority: std::cmp::Reverse(priority),
            since: Time::from_micros(since),
            leaf: leaf(number),
        };
        let mut turns = [turn(0, 1, 1), turn(5, 9, 3), turn(0, 1, 0), turn(-1, 0, 2)];
        turns.sort();
        assert_eq!(turns.iter().map(|turn| turn.leaf).collect::<Vec<_>>(), [3, 0, 1, 2].map(leaf));
        assert_eq!(patience(Duration::from_secs(30), 3), Duration::from_secs(240));
        assert_eq!(patience(Duration::from_secs(30), 99), Duration::from_secs(1920));
    }
}
