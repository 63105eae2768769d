//! How the tree grows and shrinks: nodes for roles and frameworks as somebody needs them, and none that nobody does.

use super::*;

impl Roles {
    /// The node of a role, with those above it, made if they are not there. `weight` tells the weights of new ones.
    pub(crate) fn ensure_role(&mut self, role: &Role, weight: &impl Fn(&Role) -> NonZeroU32) -> Node {
        if let Some(node) = self.role(role) {
            return node;
        }
        let parent = match role.parent() {
            Some(above) => {
                let above = self.ensure_role(&above, weight);
                self.set_frameworks_apart(above);
                above
            }
            None => ROOT,
        };
        let node = self.add(Kind::Role(role.clone()), parent, weight(role));
        self.roles.insert(role.clone(), node);
        node
    }

    /// The leaf of a framework in a role, made if it is not there, wanting nothing.
    pub(crate) fn ensure_leaf(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        weight: &impl Fn(&Role) -> NonZeroU32,
    ) -> Node {
        if let Some(leaf) = self.leaf(framework, role) {
            return leaf;
        }
        let role = self.ensure_role(role, weight);
        let children = &self.node(role).children;
        let has = |kind: fn(&Kind) -> bool| children.iter().copied().find(|child| kind(&self.node(*child).kind));
        let parent = match (has(|kind| *kind == Kind::Own), has(|kind| matches!(kind, Kind::Role(_)))) {
            (Some(own), _) => own,
            (None, Some(_)) => self.add(Kind::Own, role, DEFAULT_WEIGHT),
            (None, None) => role,
        };
        let leaf = self.add(Kind::Framework(framework), parent, DEFAULT_WEIGHT);
        self.leaves.entry(framework).or_default().push(leaf);
        leaf
    }

    /// The node that holds what is reserved for a role and not in use, made if it is not there.
    pub(crate) fn ensure_idle(&mut self, role: &Role, weight: &impl Fn(&Role) -> NonZeroU32) -> Node {
        let role = self.ensure_role(role, weight);
        let found = self.node(role).children.iter().copied().find(|child| self.node(*child).kind == Kind::Idle);
        found.unwrap_or_else(|| self.add(Kind::Idle, role, DEFAULT_WEIGHT))
    }

    /// A role gets its first sub-role: its frameworks move under a node of their own.
    pub(super) fn set_frameworks_apart(&mut self, role: Node) {
        let is_leaf = |child: &Node| matches!(self.node(*child).kind, Kind::Framework(_));
        let leaves: Vec<Node> = self.node(role).children.iter().copied().filter(is_leaf).collect();
        if leaves.is_empty() {
            return;
        }
        let own = self.add(Kind::Own, role, DEFAULT_WEIGHT);
        for leaf in leaves {
            self.detach(leaf);
            self.attach(leaf, own);
            self.node_mut(own).grants += self.node(leaf).grants;
            self.sum_up(own);
            self.refresh(leaf);
        }
    }

    /// What a node without amounts of its own holds is what its children hold.
    pub(super) fn sum_up(&mut self, node: Node) {
        let children = self.node(node).children.clone();
        for r in 0..self.width {
            let at = |child: &Node| *child as usize * self.width + r;
            let sums: (u128, u128) =
                children.iter().fold((0, 0), |sum, child| (sum.0 + self.used[at(child)], sum.1 + self.soft[at(child)]));
            (self.used[at(&node)], self.soft[at(&node)]) = sums;
        }
        self.node_mut(node).wanting = children.iter().map(|child| self.node(*child).wanting).sum();
    }

    pub(super) fn add(&mut self, kind: Kind, parent: Node, weight: NonZeroU32) -> Node {
        self.version.rows += 1;
        let rank = if kind == Kind::Own { self.node(parent).rank } else { Rank::NONE };
        let record = Record { born: self.version.rows, rank, ..Record::new(kind, parent, weight) };
        let node = match self.vacant.pop() {
            Some(node) => {
                *self.node_mut(node) = record;
                node
            }
            None => {
                let node =
                    Node::try_from(self.nodes.len()).expect("far fewer than 2^32 roles and frameworks fit memory");
                self.nodes.push(record);
                let size = self.nodes.len() * self.width;
                for amounts in [
                    &mut self.used,
                    &mut self.soft,
                    &mut self.rescaled,
                    &mut self.aside,
                    &mut self.owed,
                    &mut self.owed_below,
                ] {
                    amounts.resize(size, 0);
                }
                self.scaled.resize(size, 0);
                self.profile.resize(size, 0);
                [&mut self.order, &mut self.floor, &mut self.urgent].into_iter().for_each(|queue| queue.ensure(node));
                node
            }
        };
        if node != ROOT {
            self.attach(node, parent);
            self.refresh(node);
        }
        node
    }

    pub(super) fn attach(&mut self, node: Node, parent: Node) {
        let place = self.node(parent).children.len();
        self.node_mut(parent).children.push(node);
        let record = self.node_mut(node);
        (record.parent, record.place) = (parent, place);
    }

    pub(super) fn detach(&mut self, node: Node) {
        let Record { parent, place, .. } = *self.node(node);
        self.leave(node);
        if !self.stale {
            for queue in [&mut self.order, &mut self.floor, &mut self.urgent] {
                queue.remove(parent, node, &self.nodes);
            }
        }
        let siblings = &mut self.node_mut(parent).children;
        siblings.swap_remove(place);
        if let Some(moved) = siblings.get(place).copied() {
            self.node_mut(moved).place = place;
        }
    }

    /// Removes a leaf that uses and wants nothing, and the nodes above that nothing is left of.
    pub(crate) fn remove(&mut self, leaf: Node) {
        let mut node = leaf;
        self.version.rows += 1;
        while node != ROOT && self.node(node).children.is_empty() && self.node(node).bounds.is_none() {
            let parent = self.node(node).parent;
            self.detach(node);
            match std::mem::replace(&mut self.node_mut(node).kind, Kind::Vacant) {
                Kind::Framework(framework) => self.forget_leaf(framework, node),
                Kind::Role(role) => drop(self.roles.remove(&role)),
                _ => {}
            }
            self.clear(node);
            self.vacant.push(node);
            self.refresh(parent);
            node = parent;
        }
    }

    pub(super) fn forget_leaf(&mut self, framework: FrameworkId, leaf: Node) {
        if let Some(leaves) = self.leaves.get_mut(&framework) {
            leaves.retain(|other| *other != leaf);
            if leaves.is_empty() {
                self.leaves.remove(&framework);
            }
        }
    }

    /// Zeroes the amounts of a node. Sums of its children that are left are rounding of nothing: they are zero already.
    pub(super) fn clear(&mut self, node: Node) {
        let range = node as usize * self.width..(node as usize + 1) * self.width;
        self.used[range.clone()].fill(0);
        self.soft[range.clone()].fill(0);
        self.rescaled[range.clone()].fill(0);
        self.aside[range.clone()].fill(0);
        self.owed[range.clone()].fill(0);
        self.owed_below[range.clone()].fill(0);
        self.scaled[range.clone()].fill(0);
        self.profile[range].fill(0);
    }
}
