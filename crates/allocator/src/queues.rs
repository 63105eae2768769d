//! The orders in which nodes serve their children: one indexed heap per node, four children to a place.
//!
//! A move costs the logarithm of how many siblings there are, and the first in order is at hand. Walking the order from
//! the front touches only as much of the heap as is walked.

use std::cmp::Ordering;

use crate::policy::Rank;

const FANOUT: usize = 4;
const NOWHERE: u32 = u32::MAX;

/// A child's place in its parent's order: whom the policy ranks before others first, of equal ranks the smaller key, of equal keys who was served less often, and then as the
/// order of names says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rank: Rank,
    pub(crate) key: u64,
    pub(crate) grants: u64,
    pub(crate) node: u32,
}

/// The last word on the order of two siblings.
pub(crate) trait Ties {
    fn compare(&self, a: u32, b: u32) -> Ordering;
}

impl Entry {
    /// Who of two siblings is served first.
    pub(crate) fn compare(&self, other: &Entry, ties: &impl Ties) -> Ordering {
        (self.rank, self.key, self.grants)
            .cmp(&(other.rank, other.key, other.grants))
            .then_with(|| ties.compare(self.node, other.node))
    }
}

fn before(a: &Entry, b: &Entry, ties: &impl Ties) -> bool {
    a.compare(b, ties) == Ordering::Less
}

/// One heap per node, and the place of every node in the heap of its parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    heaps: Vec<Vec<Entry>>,
    places: Vec<u32>,
}

impl Queues {
    /// Makes room for a node.
    pub(crate) fn ensure(&mut self, node: u32) {
        let size = node as usize + 1;
        if self.places.len() < size {
            self.heaps.resize_with(size, Vec::new);
            self.places.resize(size, NOWHERE);
        }
    }

    /// Who is first below `parent`.
    pub(crate) fn first(&self, parent: u32) -> Option<&Entry> {
        self.heaps[parent as usize].first()
    }

    /// All below `parent`, in no order that means anything.
    pub(crate) fn entries(&self, parent: u32) -> &[Entry] {
        &self.heaps[parent as usize]
    }

    /// A node's own entry.
    pub(crate) fn entry(&self, parent: u32, node: u32) -> Option<&Entry> {
        self.heaps[parent as usize].get(self.places[node as usize] as usize)
    }

    /// Empties every heap.
    pub(crate) fn clear(&mut self) {
        self.heaps.iter_mut().for_each(Vec::clear);
        self.places.fill(NOWHERE);
    }

    /// Puts a node where it belongs, whether it stands there already or not.
    pub(crate) fn put(&mut self, parent: u32, entry: Entry, ties: &impl Ties) {
        let heap = &mut self.heaps[parent as usize];
        let mut at = self.places[entry.node as usize] as usize;
        if at >= heap.len() {
            at = heap.len();
            heap.push(entry);
        } else if heap[at] == entry {
            return;
        }
        self.sift(parent, at, entry, ties);
    }

    /// Takes a node out, if it is there.
    pub(crate) fn remove(&mut self, parent: u32, node: u32, ties: &impl Ties) {
        let at = self.places[node as usize] as usize;
        if at == NOWHERE as usize {
            return;
        }
        self.places[node as usize] = NOWHERE;
        let heap = &mut self.heaps[parent as usize];
        if let Some(last) = heap.pop()
            && at < heap.len()
        {
            self.sift(parent, at, last, ties);
        }
    }

    /// Moves the entry for place `at` up or down to where it belongs.
    fn sift(&mut self, parent: u32, mut at: usize, entry: Entry, ties: &impl Ties) {
        let heap = &mut self.heaps[parent as usize];
        while at > 0 {
            let above = (at - 1) / FANOUT;
            if !before(&entry, &heap[above], ties) {
                break;
            }
            heap[at] = heap[above];
            self.places[heap[at].node as usize] = place(at);
            at = above;
        }
        loop {
            let first = at * FANOUT + 1;
            let children = first..(first + FANOUT).min(heap.len());
            let least = children.reduce(|a, b| if before(&heap[b], &heap[a], ties) { b } else { a });
            let Some(least) = least.filter(|least| before(&heap[*least], &entry, ties)) else { break };
            heap[at] = heap[least];
            self.places[heap[at].node as usize] = place(at);
            at = least;
        }
        heap[at] = entry;
        self.places[entry.node as usize] = place(at);
    }

    /// Calls `visit` with the nodes below `parent` in order until it finds something.
    pub(crate) fn walk<T>(&self, parent: u32, ties: &impl Ties, mut visit: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let heap = &self.heaps[parent as usize];
        let found = visit(heap.first()?.node);
        if found.is_some() {
            return found;
        }
        // Places whose parents in the heap were visited, themselves a heap.
        let mut frontier = Frontier { heap, ties, places: Vec::new() };
        frontier.open(0);
        while let Some(at) = frontier.pop() {
            let found = visit(heap[at].node);
            if found.is_some() {
                return found;
            }
            frontier.open(at);
        }
        None
    }

    /// Whether every entry is where its node says, in an order that is right.
    pub(crate) fn is_sound(&self, ties: &impl Ties) -> bool {
        let sound = |heap: &Vec<Entry>| {
            heap.iter().enumerate().all(|(at, entry)| {
                let ordered = at == 0 || !before(entry, &heap[(at - 1) / FANOUT], ties);
                ordered && self.places[entry.node as usize] == place(at)
            })
        };
        let placed = self.places.iter().filter(|place| **place != NOWHERE).count();
        self.heaps.iter().all(sound) && placed == self.heaps.iter().map(Vec::len).sum::<usize>()
    }
}

struct Frontier<'a, T> {
    heap: &'a [Entry],
    ties: &'a T,
    places: Vec<u32>,
}

impl<T: Ties> Frontier<'_, T> {
    fn precedes(&self, a: usize, b: usize) -> bool {
        before(&self.heap[self.places[a] as usize], &self.heap[self.places[b] as usize], self.ties)
    }

    /// Adds the places below `at`.
    fn open(&mut self, at: usize) {
        let first = at * FANOUT + 1;
        for below in first..(first + FANOUT).min(self.heap.len()) {
            self.places.push(place(below));
            let mut at = self.places.len() - 1;
            while at > 0 && self.precedes(at, (at - 1) / 2) {
                self.places.swap(at, (at - 1) / 2);
                at = (at - 1) / 2;
            }
        }
    }

    fn pop(&mut self) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let first = self.places.swap_remove(0);
        let mut at = 0;
        loop {
            let least = [2 * at + 1, 2 * at + 2].into_iter().filter(|below| *below < self.places.len());
            let Some(least) = least.reduce(|a, b| if self.precedes(b, a) { b } else { a }) else { break };
            if !self.precedes(least, at) {
                break;
            }
            self.places.swap(least, at);
            at = least;
        }
        Some(first as usize)
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NOWHERE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct ByNumber;

    impl Ties for ByNumber {
        fn compare(&self, a: u32, b: u32) -> Ordering {
            a.cmp(&b)
        }
    }

    proptest! {
        /// Whatever was put, moved and removed, the walk is the sorted list.
        #[test]
        fn the_walk_is_the_sorted_list(ops in prop::collection::vec((1..40u32, 0..6u64, 0..3u64, any::<bool>()), 1..200)) {
            let mut queues = Queues::default();
            let mut list = std::collections::BTreeMap::new();
            (0..40).for_each(|node| queues.ensure(node));
            for (node, key, grants, stays) in ops {
                if stays {
                    queues.put(0, Entry { rank: Rank::NONE, key, grants, node }, &ByNumber);
                    list.insert(node, (key, grants));
                } else {
                    queues.remove(0, node, &ByNumber);
                    list.remove(&node);
                }
                prop_assert!(queues.is_sound(&ByNumber));
            }
            let mut sorted: Vec<_> = list.into_iter().map(|(node, (key, grants))| (key, grants, node)).collect();
            sorted.sort_unstable();
            let mut walked = Vec::new();
            let end: Option<()> = queues.walk(0, &ByNumber, |node| { walked.push(node); None });
            prop_assert!(end.is_none());
            prop_assert_eq!(walked, sorted.into_iter().map(|(_, _, node)| node).collect::<Vec<_>>());
        }
    }
}
