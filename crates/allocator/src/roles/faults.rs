//! Whether what is kept up along the tree is what it should be.

use std::collections::BTreeSet;

use super::{Kind, Node, Roles};
use crate::queues::Queues;

impl Roles {
    /// What is wrong with the tree: sums that are not those of the children, numbers that computing anew would change.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut found: Vec<String> = (0u32..).zip(&self.nodes).filter_map(|(node, _)| self.fault(node)).collect();
        let queues = [&self.order, &self.floor, &self.urgent];
        if !self.stale && !queues.iter().all(|queue| queue.is_sound(&self.nodes)) {
            found.push("a queue is out of order".to_owned());
        }
        if !self.stale {
            let mut fresh = self.clone();
            fresh.rebuild();
            let same = fresh.scaled == self.scaled && fresh.owed == self.owed && fresh.same_queues(self);
            found.extend((!same).then(|| "what was kept up differs from what is computed anew".to_owned()));
        }
        found
    }

    fn same_queues(&self, other: &Roles) -> bool {
        let set = |queues: &Queues, node: Node| {
            queues.entries(node).iter().map(|entry| (entry.node, entry.key, entry.grants)).collect::<BTreeSet<_>>()
        };
        let pairs = [(&self.order, &other.order), (&self.floor, &other.floor), (&self.urgent, &other.urgent)];
        (0u32..).zip(&self.nodes).all(|(node, _)| pairs.iter().all(|(a, b)| set(a, node) == set(b, node)))
    }

    fn fault(&self, node: Node) -> Option<String> {
        let record = self.node(node);
        if record.is_leaf() || record.kind == Kind::Vacant {
            return None;
        }
        let mut sums = (vec![0u128; self.width], vec![0u128; self.width], 0);
        for child in &record.children {
            let at = *child as usize * self.width;
            sums.0.iter_mut().zip(&self.used[at..]).for_each(|(sum, more)| *sum += more);
            sums.1.iter_mut().zip(&self.soft[at..]).for_each(|(sum, more)| *sum += more);
            sums.2 += self.node(*child).wanting;
            if self.node(*child).parent != node {
                return Some(format!("{:?}: a child is someone else's", record.kind));
            }
        }
        let at = node as usize * self.width;
        let same = sums.0 == self.used[at..at + self.width] && sums.1 == self.soft[at..at + self.width];
        (!same || sums.2 != record.wanting).then(|| format!("{:?}: not the sum of its children", record.kind))
    }
}
