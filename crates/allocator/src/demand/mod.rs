//! Demands: what leaves have said they wait for, what of it they hold in offers, and since when they wait.
//!
//! A leaf that is *by demand* is served from here: it is granted multiples of a demand's bundle, no more than it wants, and
//! nothing else. Everything here is books and choices; charging and visiting are the allocator's.

mod bundle;
mod ground;
mod keep;
pub(crate) mod plan;
pub(crate) mod reservations;
mod serve;
mod waiting;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{Demand, DemandId, Time};

pub use bundle::Bundle;
pub use keep::Ends;
pub use serve::DemandsError;
pub use waiting::{Fit, KeptFor, Waiting};

/// What of a demand a grant serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The framework's name for the demand.
    pub demand: DemandId,
    /// One bundle of it.
    pub bundle: Bundle,
    /// How many bundles were granted.
    pub bundles: u32,
    /// What the demand promised: the longest that anything launched on the grant holds resources.
    pub max_duration: Option<Duration>,
}

use crate::constraints::ConstraintId;
use ground::Leaf;

/// One demand and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number in this allocator; it keeps it while it is stated again and again.
    pub(crate) number: u64,
    /// As it was stated; its count has been counted down by what was launched since.
    pub(crate) demand: Demand,
    pub(crate) bundle: Bundle,
    /// Its own constraints and those of its role.
    pub(crate) constraint: ConstraintId,
    /// How many bundles are out in offers.
    pub(crate) offered: u32,
    /// Since when it waits: it was stated, or it was last granted something.
    pub(crate) since: Time,
    /// How many reservations for it came to nothing.
    pub(crate) tries: u32,
    /// Not before this is it looked at again whether it needs a reservation.
    pub(crate) looked_at: Time,
    /// Of a gang: how often something had become free when it last fitted nowhere.
    missed: Option<u64>,
}

impl Entry {
    /// How many bundles it still wants.
    pub(crate) fn wanted(&self) -> u32 {
        self.demand.count.saturating_sub(self.offered)
    }

    /// The least number of bundles that is of use to it now.
    pub(crate) fn least(&self) -> u32 {
        self.demand.least().min(self.wanted()).max(1)
    }
}

/// Everything that one leaf waits for, the highest priority first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    /// What is out in offers for demands that are not stated any more.
    withdrawn: BTreeMap<DemandId, u32>,
}

impl Book {
    /// The demands, the highest priority first and then as they were stated.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Those that still want something.
    pub(crate) fn wanting(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.wanted() > 0)
    }

    pub(crate) fn by_number(&self, number: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.number == number)
    }
}

/// The books of all leaves that are by demand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demands {
    books: BTreeMap<Leaf, Book>,
    numbered: u64,
    gangs: u64,
    /// How often something has become free.
    openings: u64,
    /// Whether a priority was ever stated.
    is_ranked: bool,
}

impl Demands {
    /// The book of a leaf that is by demand.
    pub(crate) fn book(&self, leaf: Leaf) -> Option<&Book> {
        self.books.get(&leaf)
    }

    /// All books, by leaf.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Leaf, &Book)> {
        self.books.iter().map(|(leaf, book)| (*leaf, book))
    }

    /// Whether a leaf is by demand.
    pub(crate) fn is_by_demand(&self, leaf: Leaf) -> bool {
        self.books.contains_key(&leaf)
    }

    /// Whether a leaf is by demand and still wants something.
    pub(crate) fn wants(&self, leaf: Leaf) -> bool {
        self.books.get(&leaf).is_some_and(|book| book.wanting().next().is_some())
    }

    /// Replaces what a leaf waits for. A demand that was there before keeps its number, what it has in offers and, while it
    /// waits, its time. Gives back the constraints of those that are gone.
    pub(crate) fn state(&mut self, leaf: Leaf, stated: Vec<(Demand, ConstraintId)>, now: Time) -> Vec<ConstraintId> {
        let book = self.books.entry(leaf).or_default();
        let mut before: BTreeMap<DemandId, Entry> =
            std::mem::take(&mut book.entries).into_iter().map(|entry| (entry.demand.id.clone(), entry)).collect();
        let mut released: Vec<ConstraintId> = before.values().map(|entry| entry.constraint).collect();
        for (demand, constraint) in stated {
            self.is_ranked |= demand.priority != 0;
            let bundle = Bundle::of(&demand);
            let entry = match before.remove(&demand.id) {
                Some(old) => {
                    let waits = old.wanted() > 0;
                    let since = if waits { old.since } else { now };
                    let tries = if old.bundle == bundle { old.tries } else { 0 };
                    Entry { demand, bundle, constraint, since, tries, looked_at: now, missed: None, ..old }
                }
                None => {
                    self.numbered += 1;
                    let offered = book.withdrawn.remove(&demand.id).unwrap_or(0);
                    Entry {
                        number: self.numbered,
                        demand,
                        bundle,
                        constraint,
                        offered,
                        since: now,
                        tries: 0,
                        looked_at: now,
                        missed: None,
                    }
                }
            };
            book.entries.push(entry);
        }
        let withdrawn = before.into_iter().filter(|(_, entry)| entry.offered > 0);
        book.withdrawn.extend(withdrawn.map(|(id, entry)| (id, entry.offered)));
        book.entries.sort_by_key(|entry| Reverse(entry.demand.priority));
        released.sort_unstable();
        released
    }

    /// The highest priority that anything is wanted with.
    pub(crate) fn highest(&self) -> i32 {
        let first = |book: &Book| book.wanting().next().map(|entry| entry.demand.priority);
        self.books.values().filter_map(first).max().unwrap_or(i32::MIN)
    }

    /// Whether priorities matter.
    pub(crate) fn is_ranked(&self) -> bool {
        self.is_ranked
    }

    /// A number for grants that are of use together only.
    pub(crate) fn next_gang(&mut self) -> u64 {
        self.gangs += 1;
        self.gangs
    }

    /// Something has become free: what fitted nowhere may fit now.
    pub(crate) fn opened(&mut self) {
        self.openings += 1;
    }

    /// Whether a gang is known to fit nowhere.
    pub(crate) fn has_missed(&self, leaf: Leaf, number: u64) -> bool {
        let entry = self.books.get(&leaf).and_then(|book| book.by_number(number));
        entry.is_some_and(|entry| entry.missed == Some(self.openings))
    }

    /// A gang fits nowhere as long as nothing becomes free.
    pub(crate) fn miss(&mut self, leaf: Leaf, number: u64) {
        let openings = self.openings;
        if let Some(entry) = self.entry_mut(leaf, number) {
            entry.missed = Some(openings);
        }
    }

    /// It has been looked at whether a demand needs a reservation; the next time is at `next`.
    pub(crate) fn looked(&mut self, leaf: Leaf, number: u64, next: Time) {
        if let Some(entry) = self.entry_mut(leaf, number) {
            entry.looked_at = next;
        }
    }

    fn entry_mut(&mut self, leaf: Leaf, number: u64) -> Option<&mut Entry> {
        let entries = self.books.get_mut(&leaf).map(|book| &mut book.entries);
        entries.into_iter().flatten().find(|entry| entry.number == number)
    }

    /// The leaf is by demand no more.
    pub(crate) fn forget(&mut self, leaf: Leaf) -> Vec<ConstraintId> {
        let book = self.books.remove(&leaf).unwrap_or_default();
        book.entries.into_iter().map(|entry| entry.constraint).collect()
    }

    /// Bundles have been granted.
    pub(crate) fn granted(&mut self, leaf: Leaf, number: u64, bundles: u32, now: Time) {
        if let Some(entry) = self.entry_mut(leaf, number) {
            entry.offered = entry.offered.saturating_add(bundles);
            entry.since = now;
            entry.tries = 0;
        }
    }

    /// Bundles that were offered have come back, except `launched` of them.
    pub(crate) fn settled(&mut self, leaf: Leaf, id: &DemandId, bundles: u32, launched: u32) {
        let Some(book) = self.books.get_mut(&leaf) else { return };
        if let Some(entry) = book.entries.iter_mut().find(|entry| entry.demand.id == *id) {
            entry.offered = entry.offered.saturating_sub(bundles);
            entry.demand.count = entry.demand.count.saturating_sub(launched);
        } else if let Some(offered) = book.withdrawn.get_mut(id) {
            *offered = offered.saturating_sub(bundles);
            if *offered == 0 {
                book.withdrawn.remove(id);
            }
        }
    }

    /// A reservation came to nothing: the demand waits anew, and longer.
    pub(crate) fn disappointed(&mut self, leaf: Leaf, number: u64, now: Time) {
        if let Some(entry) = self.entry_mut(leaf, number) {
            entry.tries = entry.tries.saturating_add(1);
            entry.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ground::leaf;
    use super::*;

    fn demand(id: &str, count: u32, priority: i32) -> (Demand, ConstraintId) {
        let shape = "cpus:1;mem:1GiB".parse().unwrap();
        let demand = Demand { priority, ..Demand::new(id.parse().unwrap(), shape, count) };
        (demand, ConstraintId::NONE)
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_is_offered_counts_and_what_is_launched_is_counted_down() {
        let mut demands = Demands::default();
        demands.state(leaf(1), vec![demand("a", 5, 0)], at(1));
        let id = "a".parse().unwrap();
        let wanted = |demands: &Demands| demands.book(leaf(1)).unwrap().entries()[0].wanted();
        demands.granted(leaf(1), 1, 3, at(2));
        assert_eq!(wanted(&demands), 2);
        demands.settled(leaf(1), &id, 3, 2);
        assert_eq!(wanted(&demands), 3, "two were launched, one came back");
        demands.granted(leaf(1), 1, 3, at(3));
        assert!(!demands.wants(leaf(1)));
        demands.state(leaf(1), vec![demand("a", 3, 0)], at(4));
        assert!(!demands.wants(leaf(1)), "what it was offered before it said so again still counts");
        demands.settled(leaf(1), &id, 3, 3);
        assert!(!demands.wants(leaf(1)) && demands.is_by_demand(leaf(1)));
    }

    #[test]
    fn the_highest_priority_is_first_and_a_demand_keeps_its_place_in_time() {
        let mut demands = Demands::default();
        demands.state(leaf(1), vec![demand("a", 1, 0), demand("b", 1, 5), demand("c", 1, 5)], at(1));
        let order = |demands: &Demands| {
            let entries = demands.book(leaf(1)).unwrap().entries().iter();
            entries.map(|entry| (entry.demand.id.to_string(), entry.since)).collect::<Vec<_>>()
        };
        assert_eq!(order(&demands), [("b".into(), at(1)), ("c".into(), at(1)), ("a".into(), at(1))]);
        demands.granted(leaf(1), 2, 1, at(5));
        demands.state(leaf(1), vec![demand("a", 9, 9), demand("b", 2, 5)], at(7));
        assert_eq!(
            order(&demands),
            [("a".into(), at(1)), ("b".into(), at(7))],
            "b had everything: it waits from now on"
        );
        demands.granted(leaf(1), 2, 1, at(8));
        demands.state(leaf(1), vec![demand("b", 3, 5)], at(9));
        assert_eq!(order(&demands), [("b".into(), at(9))], "it had everything again");
    }

    #[test]
    fn a_minimum_shrinks_with_what_is_wanted() {
        let (plain, none) = demand("a", 10, 0);
        let of = |demand: Demand, offered| {
            let bundle = Bundle::of(&demand);
            Entry {
                number: 1,
                demand,
                bundle,
                constraint: none,
                offered,
                since: at(0),
                tries: 0,
                looked_at: at(0),
                missed: None,
            }
            .least()
        };
        assert_eq!(of(Demand { minimum: 4, ..plain.clone() }, 0), 4);
        assert_eq!(of(Demand { minimum: 4, ..plain.clone() }, 8), 2, "the last ones are not held up by it");
        assert_eq!(of(Demand { gang: true, ..plain }, 0), 10);
    }
}
