//! Shares: weighted hierarchical DRF, kept up incrementally.
//!
//! A leaf's share is the largest part it has of any resource. What a role has is not the plain sum of what its children
//! have: each child that is not *blocked* counts as if it had no more than the smallest of them, so that a child that is
//! ahead of its siblings in one resource does not make the whole role look rich and starve the others of theirs. A child is
//! blocked when it wants nothing, or when it needs a resource that is used up: it cannot catch up, so it counts as it is
//! and the others are not scaled down to it; and what is used up does not count in anybody's share.
//!
//! With `x` what a child has, `s` its share and `w` its weight, a parent has `M * A + B`: `A` the sum of `x * w / s` over
//! children that are not blocked, `M` the smallest `s / w` of them, `B` the sum of `x` over the others. `A` and `B` are
//! sums of whole numbers, so that adding and subtracting leaves exactly what computing anew would give: shares depend on
//! what is held, never on the way there.

use crate::queues::Entry;

use super::{Joined, Node, ROOT, Roles};

/// A share of one. Equal fractions give equal numbers, so that exact ties stay ties.
pub(crate) const ONE: u64 = 1 << 48;

const UNIT: f64 = ONE as f64;

/// A resource counts as used up from the point where less than this part of it is free, and again as free above twice that.
const USED_UP: u128 = 128;

/// What `used` is of `total`, in units of [`ONE`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "neither is negative, and a share beyond 2^16 times the cluster is one that does not matter"
)]
pub(crate) fn part(used: u128, total: u128) -> u64 {
    if total == 0 {
        return 0;
    }
    match (u64::try_from(used), u64::try_from(total)) {
        // The same numbers, converted faster.
        (Ok(used), Ok(total)) => (used as f64 / total as f64 * UNIT) as u64,
        _ => (used as f64 / total as f64 * UNIT) as u64,
    }
}

/// A share over a weight in thousandths.
pub(crate) fn weighted(share: u64, weight: u32) -> u64 {
    if weight == 1000 { share } else { share.saturating_mul(1000) / u64::from(weight) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "neither is negative, and both are far below 2^64"
)]
fn rescale(least: u64, sum: u128) -> u64 {
    (least as f64 * (sum as f64 / (UNIT * 1000.0))).round() as u64
}

impl Roles {
    /// Whether a resource counts in shares.
    pub(crate) fn counts(&self, resource: usize) -> bool {
        self.excluded >> resource & 1 == 0 && self.capacity[resource] > 0
    }

    /// How much the cluster has of a resource.
    pub(crate) fn capacity(&self, resource: usize) -> u128 {
        self.capacity[resource]
    }

    /// The cluster has so much more, or less.
    pub(crate) fn resize(&mut self, before: &[u64], after: &[u64]) {
        if before == after {
            return;
        }
        for (r, total) in self.capacity.iter_mut().enumerate() {
            *total = (*total + u128::from(after[r])).saturating_sub(u128::from(before[r]));
        }
        self.stale = true;
    }

    /// The dominant share of an amount, in units of [`ONE`].
    pub(crate) fn share_of(&self, amounts: &[u64]) -> u64 {
        let part =
            |(r, amount): (usize, &u64)| if self.counts(r) { part(u128::from(*amount), self.capacity[r]) } else { 0 };
        amounts.iter().enumerate().take(self.width).map(part).max().unwrap_or(0)
    }

    /// Whether the one with the smallest share may be another than the first in order.
    fn keeps_floor(&self) -> bool {
        self.saturated != 0 || self.ranked
    }

    /// Brings every number up to date: to be called before a run, since the cluster's size changes all shares at once.
    pub(crate) fn settle(&mut self) {
        let before = self.saturated;
        for r in 0..self.width {
            let (total, used) = (self.capacity[r], self.used[r]);
            let free = total.saturating_sub(used);
            let was = before >> r & 1 == 1;
            let is = self.counts(r) && if was { free * USED_UP <= 2 * total } else { free * USED_UP < total };
            self.saturated = self.saturated & !(1 << r) | u32::from(is) << r;
        }
        if self.stale || before != self.saturated {
            self.rebuild();
        }
    }

    /// Computes everything anew from what leaves hold.
    pub(super) fn rebuild(&mut self) {
        self.stale = false;
        self.order.clear();
        self.floor.clear();
        self.urgent.clear();
        self.rescaled.fill(0);
        self.aside.fill(0);
        self.owed_below.fill(0);
        let mut parents_first = vec![ROOT];
        let mut next = 0;
        while let Some(node) = parents_first.get(next).copied() {
            parents_first.extend(&self.nodes[node as usize].children);
            let record = self.node_mut(node);
            (record.joined, record.counted, record.open) = (Joined::Not, false, 0);
            next += 1;
        }
        for node in parents_first.into_iter().skip(1).rev() {
            self.measure(node);
            self.join(node);
        }
    }

    /// A node has changed: it, and what depends on it up to the root, is computed again.
    pub(super) fn refresh(&mut self, node: Node) {
        self.version.cells += 1;
        if self.stale {
            return;
        }
        let mut node = node;
        while node != ROOT {
            self.leave(node);
            self.measure(node);
            self.join(node);
            node = self.node(node).parent;
        }
    }

    /// Takes a node out of its parent's sums, before anything about it changes.
    pub(super) fn leave(&mut self, node: Node) {
        if self.stale {
            return;
        }
        let (width, record) = (self.width, &mut self.nodes[node as usize]);
        let (parent, weight) = (record.parent, u128::from(record.weight.get()));
        let counted = std::mem::take(&mut record.counted);
        let (at, above) = (node as usize * width, parent as usize * width);
        match std::mem::take(&mut record.joined) {
            Joined::Not => return,
            Joined::Aside => {
                for r in 0..width {
                    self.aside[above + r] -= u128::from(self.scaled[at + r]);
                }
            }
            Joined::Rescaled => {
                for r in 0..width {
                    self.rescaled[above + r] -= u128::from(self.profile[at + r]) * weight;
                }
            }
        }
        if counted {
            self.nodes[parent as usize].open -= 1;
        }
        if self.guarantees > 0 {
            for r in 0..width {
                self.owed_below[above + r] -= self.owed[at + r];
            }
        }
        // The other queues find the node's place again in `join`.
        if self.keeps_floor() {
            self.floor.remove(parent, node, &self.nodes);
        }
    }

    /// Computes what a node has and its shares.
    fn measure(&mut self, node: Node) {
        let (width, at) = (self.width, node as usize * self.width);
        if self.nodes[node as usize].is_leaf() {
            let mut has = 0u32;
            for r in 0..width {
                let used = self.used[at + r];
                has |= u32::from(used > 0) << r;
                self.scaled[at + r] = if self.counts(r) { part(used, self.capacity[r]) } else { 0 };
            }
            let record = &mut self.nodes[node as usize];
            let needs = record.needs.unwrap_or(has);
            record.stuck = record.wanting > 0 && needs & self.saturated != 0;
            record.open = u32::from(record.wanting > 0 && !record.stuck);
        } else {
            let queue = if self.keeps_floor() { &self.floor } else { &self.order };
            let weighed = |of: &super::Record| weighted(of.share, of.weight.get());
            let least = queue.first(node).map_or(0, |first| weighed(&self.nodes[first.node as usize]));
            for r in 0..width {
                let aside = u64::try_from(self.aside[at + r]).unwrap_or(u64::MAX);
                self.scaled[at + r] = rescale(least, self.rescaled[at + r]).saturating_add(aside);
            }
            let record = &mut self.nodes[node as usize];
            record.stuck = record.wanting > 0 && record.open == 0;
        }
        let (mut share, mut full) = (0, 0);
        for r in 0..width {
            let has = self.scaled[at + r];
            full = has.max(full);
            share = if self.saturated >> r & 1 == 0 { has.max(share) } else { share };
        }
        for r in 0..width {
            let has = self.scaled[at + r];
            self.profile[at + r] = if share == 0 { 0 } else { part(u128::from(has), u128::from(share)) };
        }
        let record = &mut self.nodes[node as usize];
        (record.share, record.full) = (share, full);
        self.measure_owed(node);
    }

    /// Adds a node to its parent's sums and queues.
    fn join(&mut self, node: Node) {
        let (width, record) = (self.width, &self.nodes[node as usize]);
        let (parent, weight, blocked) = (record.parent, record.weight.get(), record.open == 0);
        let (wanting, stuck, share, full) = (record.wanting > 0, record.stuck, record.share, record.full);
        let (at, above) = (node as usize * width, parent as usize * width);
        let joined = if blocked || share == 0 { Joined::Aside } else { Joined::Rescaled };
        for r in 0..width {
            match joined {
                Joined::Rescaled => self.rescaled[above + r] += u128::from(self.profile[at + r]) * u128::from(weight),
                _ => self.aside[above + r] += u128::from(self.scaled[at + r]),
            }
        }
        (self.nodes[node as usize].joined, self.nodes[node as usize].counted) = (joined, !blocked);
        self.nodes[parent as usize].open += u32::from(!blocked);
        if wanting {
            let rank = self.nodes[node as usize].rank;
            let entry = Entry { rank, ..self.entry(node, weighted(if stuck { full } else { share }, weight)) };
            self.order.put(parent, entry, &self.nodes);
        } else {
            self.order.remove(parent, node, &self.nodes);
        }
        if self.keeps_floor() && !blocked {
            let entry = self.entry(node, weighted(share, weight));
            self.floor.put(parent, entry, &self.nodes);
        }
        self.join_owed(node);
    }
}
