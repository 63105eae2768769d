//! Guarantees and limits along the tree.
//!
//! What a node is *owed* of a resource is what its own guarantee still lacks, or what its children are owed together if
//! that is more: a child's guarantee is part of its parent's. What the root's children are owed must stay free.

use holm_model::{Amount, Quota};

use super::fair::part;
use super::{Node, ROOT, Roles};
use crate::names::{Amounts, MAX_SCALARS, Names};

/// A node's guarantee and limit, by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What it is promised.
    pub(crate) guarantee: Vec<(usize, u64)>,
    /// What it may not exceed.
    pub(crate) limit: Vec<(usize, u64)>,
}

impl Bounds {
    /// A quota by number, or the name for which there is no number any more.
    pub(crate) fn of(quota: &Quota, names: &mut Names) -> Bounds {
        let mut number = |(name, amount): (_, Amount)| Some((names.intern(name)?, amount.0));
        Bounds {
            guarantee: quota.guarantee.iter_scalars().filter_map(&mut number).collect(),
            limit: quota.limit.iter().map(|(name, amount)| (name, *amount)).filter_map(&mut number).collect(),
        }
    }
}

/// What a limit above a leaf leaves of one resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// How many steps above the leaf.
    pub(crate) height: usize,
    pub(crate) node: Node,
    pub(crate) resource: usize,
    pub(crate) left: u128,
}

impl Roles {
    /// Sets or takes away a node's guarantee and limit.
    pub(crate) fn set_bounds(&mut self, node: Node, bounds: Option<Bounds>) {
        let before = std::mem::replace(&mut self.node_mut(node).bounds, bounds.map(Box::new));
        let count = |bounds: Option<&Bounds>| {
            bounds.map_or((0, 0), |of| (usize::from(!of.guarantee.is_empty()), usize::from(!of.limit.is_empty())))
        };
        let (old, new) = (count(before.as_deref()), count(self.node(node).bounds.as_deref()));
        self.guarantees = self.guarantees + new.0 - old.0;
        self.limits = self.limits + new.1 - old.1;
        // What is owed is summed up only while anything is guaranteed at all: a change is rare and starts over.
        self.stale = true;
    }

    /// A node's guarantee and limit.
    pub(crate) fn bounds(&self, node: Node) -> Option<&Bounds> {
        self.node(node).bounds.as_deref()
    }

    /// Whether a node has a guarantee.
    pub(crate) fn is_guaranteed(&self, node: Node) -> bool {
        self.bounds(node).is_some_and(|bounds| !bounds.guarantee.is_empty())
    }

    /// What must stay free for guarantees.
    pub(crate) fn owed(&self, resource: usize) -> u128 {
        self.owed_below[ROOT as usize * self.width + resource]
    }

    /// Whether any guarantee lacks anything.
    pub(crate) fn owes_anything(&self) -> bool {
        self.guarantees > 0 && (0..self.width).any(|r| self.owed(r) > 0)
    }

    /// What is missing to a node's own guarantee beyond what its children are owed.
    fn lacks(&self, node: Node, resource: usize, guarantee: u64) -> u128 {
        let missing = u128::from(guarantee).saturating_sub(self.firm(node, resource));
        missing.saturating_sub(self.owed_below[node as usize * self.width + resource])
    }

    /// Whether a node's own guarantee lacks anything, beyond what its children are owed.
    pub(super) fn owes(&self, node: Node) -> bool {
        let bounds = self.bounds(node);
        bounds.is_some_and(|bounds| bounds.guarantee.iter().any(|(r, guarantee)| self.lacks(node, *r, *guarantee) > 0))
    }

    pub(super) fn measure_owed(&mut self, node: Node) {
        if self.guarantees == 0 {
            return;
        }
        let at = node as usize * self.width;
        for r in 0..self.width {
            self.owed[at + r] = self.owed_below[at + r];
        }
        let Some(bounds) = self.nodes[node as usize].bounds.as_deref() else { return };
        for (r, guarantee) in &bounds.guarantee {
            let missing = u128::from(*guarantee).saturating_sub(self.firm(node, *r));
            self.owed[at + r] = self.owed[at + r].max(missing);
        }
    }

    pub(super) fn join_owed(&mut self, node: Node) {
        if self.guarantees == 0 {
            return;
        }
        let parent = self.node(node).parent;
        for r in 0..self.width {
            self.owed_below[parent as usize * self.width + r] += self.owed[node as usize * self.width + r];
        }
        match self.urgency(node).filter(|_| self.node(node).is_wanting()) {
            Some(key) => {
                let entry = self.entry(node, key);
                self.urgent.put(parent, entry, &self.nodes);
            }
            None => self.urgent.remove(parent, node, &self.nodes),
        }
    }

    /// How much a node has of what it is owed, or of its children the one that has least; `None` when nothing is lacking.
    fn urgency(&self, node: Node) -> Option<u64> {
        let below = self.urgent.first(node).map(|first| first.key);
        let own = self.bounds(node).and_then(|bounds| {
            let lacking = bounds.guarantee.iter().filter(|(r, guarantee)| self.lacks(node, *r, *guarantee) > 0);
            lacking.map(|(r, guarantee)| part(self.firm(node, *r), u128::from(*guarantee))).max()
        });
        own.into_iter().chain(below).min()
    }

    /// What the limits of those above a leaf leave.
    pub(crate) fn rooms(&self, leaf: Node) -> Vec<Room> {
        let mut rooms = Vec::new();
        for (height, node) in self.up(leaf).enumerate() {
            for (resource, limit) in self.bounds(node).into_iter().flat_map(|bounds| bounds.limit.iter().copied()) {
                let left = u128::from(limit).saturating_sub(self.firm(node, resource));
                rooms.push(Room { height, node, resource, left });
            }
        }
        rooms
    }

    /// How much a leaf may take of what is kept for guarantees, because it is kept for it.
    pub(crate) fn owed_to(&self, leaf: Node) -> [u128; MAX_SCALARS] {
        let mut owed = [0; MAX_SCALARS];
        for node in self.up(leaf) {
            for (r, guarantee) in self.bounds(node).into_iter().flat_map(|bounds| bounds.guarantee.iter()) {
                owed[*r] += self.lacks(node, *r, *guarantee);
            }
        }
        owed
    }

    /// Notes that an offer was cut down because of a node's limit.
    pub(crate) fn note_cut(&mut self, node: Node, resources: u32) {
        self.node_mut(node).cut |= resources;
    }

    /// The nodes above a leaf whose limit cut somebody off, and that have room again in one of those resources; they are
    /// noted no longer.
    pub(crate) fn take_relieved(&mut self, leaf: Node, freed: &Amounts) -> Vec<(Node, u32)> {
        if self.limits == 0 {
            return Vec::new();
        }
        let mask = (0..self.width).fold(0, |mask, r| mask | u32::from(freed[r] > 0) << r);
        let relieved: Vec<(Node, u32)> =
            self.up(leaf).map(|node| (node, self.node(node).cut & mask)).filter(|(_, mask)| *mask != 0).collect();
        for (node, mask) in &relieved {
            self.node_mut(*node).cut &= !mask;
        }
        relieved
    }

    /// Whether a node's limit leaves anything of one of these resources.
    pub(crate) fn has_room(&self, node: Node, resources: u32) -> bool {
        let Some(bounds) = self.bounds(node) else { return true };
        let limited = bounds.limit.iter().filter(|(r, _)| resources >> r & 1 == 1);
        let mut unlimited = resources;
        for (r, limit) in limited {
            unlimited &= !(1 << r);
            if u128::from(*limit) > self.firm(node, *r) {
                return true;
            }
        }
        unlimited != 0
    }
}
