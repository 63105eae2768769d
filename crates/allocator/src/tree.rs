//! The tree of those who share the cluster, each node's children in the order in which they are served.
//!
//! The root's children are roles, a role's children are leaves: one framework in that role. Usage is summed from the
//! leaves up. A node stands in its parent's order only while a leaf below it *wants* offers. Nothing here depends on the
//! depth.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use holm_model::{FrameworkId, Resources, Role};

use crate::scalars::Scalars;
use crate::share::{Capacity, DEFAULT_WEIGHT, Share};

/// A node; ids are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u64);

impl NodeId {
    /// The root.
    pub(crate) const ROOT: NodeId = NodeId(0);
}

/// What a node stands for; unique among its siblings, and the last word on their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A role, by its whole path.
    Role(Role),
    /// A framework in the role above it.
    Framework(FrameworkId),
}

/// A node's place among its siblings, who is served first coming first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    share: Share,
    /// How often it was chosen: of two with the same share, it is the turn of the one chosen less.
    grants: u64,
    name: Name,
    id: NodeId,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// `None` for the root only.
    name: Option<Name>,
    parent: NodeId,
    weight: NonZeroU32,
    used: Scalars,
    grants: u64,
    /// How many leaves at or below it want offers.
    wanting: usize,
    children: BTreeMap<Name, NodeId>,
    /// The children with a wanting leaf.
    order: BTreeSet<Rank>,
    /// The version of the capacity under which all of `order` was computed.
    ranked_at: u64,
    /// Its own entry in the parent's order.
    rank: Option<Rank>,
}

impl Node {
    fn new(name: Option<Name>, parent: NodeId, weight: NonZeroU32) -> Node {
        Node {
            name,
            parent,
            weight,
            used: Scalars::default(),
            grants: 0,
            wanting: 0,
            children: BTreeMap::new(),
            order: BTreeSet::new(),
            ranked_at: 0,
            rank: None,
        }
    }

    pub(crate) fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    pub(crate) fn used(&self) -> &Scalars {
        &self.used
    }

    pub(crate) fn is_wanting(&self) -> bool {
        self.wanting > 0
    }

    pub(crate) fn children(&self) -> &BTreeMap<Name, NodeId> {
        &self.children
    }

    fn rank_in(&self, id: NodeId, capacity: &Capacity) -> Option<Rank> {
        let name = self.name.clone()?;
        Some(Rank { share: capacity.share(&self.used, self.weight), grants: self.grants, name, id })
    }
}

/// The tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    created: u64,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let root = Node::new(None, NodeId::ROOT, DEFAULT_WEIGHT);
        Tree { nodes: BTreeMap::from([(NodeId::ROOT, root)]), created: 0 }
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The node of a role.
    pub(crate) fn role(&self, role: &Role) -> Option<NodeId> {
        self.nodes.get(&NodeId::ROOT)?.children.get(&Name::Role(role.clone())).copied()
    }

    /// The leaf of a framework in a role.
    pub(crate) fn leaf(&self, framework: FrameworkId, role: &Role) -> Option<NodeId> {
        self.nodes.get(&self.role(role)?)?.children.get(&Name::Framework(framework)).copied()
    }

    /// Finds the leaf of a framework in a role or adds it, wanting nothing. `weight` is for a role that is new.
    pub(crate) fn ensure_leaf(&mut self, framework: FrameworkId, role: &Role, weight: NonZeroU32) -> NodeId {
        let role = self.ensure_child(NodeId::ROOT, Name::Role(role.clone()), weight);
        self.ensure_child(role, Name::Framework(framework), DEFAULT_WEIGHT)
    }

    fn ensure_child(&mut self, parent: NodeId, name: Name, weight: NonZeroU32) -> NodeId {
        let known = self.nodes.get(&parent).and_then(|node| node.children.get(&name)).copied();
        known.unwrap_or_else(|| {
            self.created += 1;
            let id = NodeId(self.created);
            self.nodes.insert(id, Node::new(Some(name.clone()), parent, weight));
            if let Some(node) = self.nodes.get_mut(&parent) {
                node.children.insert(name, id);
            }
            id
        })
    }

    /// Removes a leaf that uses and wants nothing, and the nodes above that are left without children.
    pub(crate) fn remove_leaf(&mut self, leaf: NodeId) {
        let mut id = leaf;
        while id != NodeId::ROOT && self.nodes.get(&id).is_some_and(|node| node.children.is_empty()) {
            let Some(node) = self.nodes.remove(&id) else { return };
            if let (Some(name), Some(parent)) = (&node.name, self.nodes.get_mut(&node.parent)) {
                parent.children.remove(name);
            }
            id = node.parent;
        }
    }

    /// Whose leaf it is, and in which role.
    pub(crate) fn owner(&self, leaf: NodeId) -> Option<(FrameworkId, &Role)> {
        let node = self.nodes.get(&leaf)?;
        match (&node.name, &self.nodes.get(&node.parent)?.name) {
            (Some(Name::Framework(framework)), Some(Name::Role(role))) => Some((*framework, role)),
            _ => None,
        }
    }

    /// Adds a use of a leaf all the way up, and counts it as a grant if it was one.
    pub(crate) fn charge(&mut self, leaf: NodeId, resources: &Resources, is_grant: bool, capacity: &Capacity) {
        self.walk_up(leaf, capacity, |node| {
            node.used.add(resources);
            node.grants += u64::from(is_grant);
        });
    }

    /// Takes a use off a leaf all the way up.
    pub(crate) fn release(&mut self, leaf: NodeId, resources: &Resources, capacity: &Capacity) {
        self.walk_up(leaf, capacity, |node| node.used.subtract(resources));
    }

    /// Sets whether a leaf wants offers; tells whether that is a change.
    pub(crate) fn set_wanting(&mut self, leaf: NodeId, wanting: bool, capacity: &Capacity) -> bool {
        let changes = self.nodes.get(&leaf).is_some_and(|node| node.is_wanting() != wanting);
        if changes {
            self.walk_up(leaf, capacity, |node| node.wanting = node.wanting.wrapping_add_signed(step(wanting)));
        }
        changes
    }

    /// Sets the weight of a node.
    pub(crate) fn set_weight(&mut self, id: NodeId, weight: NonZeroU32, capacity: &Capacity) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.weight = weight;
            self.place(id, capacity);
        }
    }

    /// The first leaf in order that is `willing`, deciding level by level.
    pub(crate) fn first_willing(&mut self, capacity: &Capacity, willing: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
        self.first_below(NodeId::ROOT, capacity, willing)
    }

    fn first_below(&mut self, id: NodeId, capacity: &Capacity, willing: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
        self.rerank(id, capacity);
        let node = self.nodes.get_mut(&id)?;
        if node.children.is_empty() {
            return (node.is_wanting() && willing(id)).then_some(id);
        }
        let order = std::mem::take(&mut node.order);
        let found = order.iter().find_map(|rank| self.first_below(rank.id, capacity, willing));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.order = order;
        }
        found
    }

    /// The ranks on the way from the root down to a leaf: of several leaves, the smallest path is served first.
    pub(crate) fn path(&self, leaf: NodeId, capacity: &Capacity) -> Vec<Rank> {
        let mut path = Vec::new();
        let mut id = leaf;
        while let Some(node) = self.nodes.get(&id)
            && let Some(rank) = node.rank_in(id, capacity)
        {
            path.push(rank);
            id = node.parent;
        }
        path.reverse();
        path
    }

    fn walk_up(&mut self, leaf: NodeId, capacity: &Capacity, change: impl Fn(&mut Node)) {
        let mut id = leaf;
        while let Some(node) = self.nodes.get_mut(&id) {
            change(node);
            self.place(id, capacity);
            if id == NodeId::ROOT {
                return;
            }
            id = self.nodes.get(&id).map_or(NodeId::ROOT, |node| node.parent);
        }
    }

    /// Moves a node to where it now belongs in its parent's order.
    fn place(&mut self, id: NodeId, capacity: &Capacity) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let rank = if node.is_wanting() { node.rank_in(id, capacity) } else { None };
        let (parent, old) = (node.parent, std::mem::replace(&mut node.rank, rank.clone()));
        if old == rank {
            return;
        }
        if let Some(parent) = self.nodes.get_mut(&parent) {
            if let Some(old) = old {
                parent.order.remove(&old);
            }
            parent.order.extend(rank);
        }
    }

    /// Brings a node's whole order up to the present capacity: all shares change with it, so this waits until the order
    /// is used.
    fn rerank(&mut self, id: NodeId, capacity: &Capacity) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.ranked_at == capacity.version() {
            return;
        }
        node.ranked_at = capacity.version();
        let stale = std::mem::take(&mut node.order);
        let mut order = BTreeSet::new();
        for old in stale {
            if let Some(child) = self.nodes.get_mut(&old.id) {
                child.rank = child.rank_in(old.id, capacity);
                order.extend(child.rank.clone());
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.order = order;
        }
    }

    /// What is wrong with the tree, by node: sums that differ from their parts, orders that miss or misplace a child.
    pub(crate) fn faults(&self, capacity: &Capacity) -> Vec<String> {
        self.nodes.iter().filter_map(|(id, node)| self.fault(*id, node, capacity)).collect()
    }

    fn fault(&self, id: NodeId, node: &Node, capacity: &Capacity) -> Option<String> {
        let fault = |what: &str| Some(format!("{:?}: {what}", node.name));
        let (mut used, mut wanting, mut order) = (Scalars::default(), 0, BTreeSet::new());
        for (name, child_id) in &node.children {
            let Some(child) = self.nodes.get(child_id) else { return fault("a child is missing") };
            if child.parent != id || child.name.as_ref() != Some(name) {
                return fault("a child is someone else's");
            }
            used.merge(&child.used);
            wanting += child.wanting;
            order.extend(child.rank.clone());
            if child.is_wanting() != child.rank.is_some() {
                return fault("a child stands in the order without wanting offers, or the reverse");
            }
            let fresh = child.rank_in(*child_id, capacity);
            if node.ranked_at == capacity.version() && child.is_wanting() && fresh != child.rank {
                return fault("a child is out of its place");
            }
        }
        if node.children.is_empty() && id != NodeId::ROOT {
            return None;
        }
        match () {
            () if used != node.used => fault("usage is not the sum of the children's"),
            () if wanting != node.wanting => fault("wanting leaves are miscounted"),
            () if order != node.order => fault("the order is not the children's"),
            () => None,
        }
    }
}

const fn step(wanting: bool) -> isize {
    if wanting { 1 } else { -1 }
}

#[cfg(test)]
mod tests;
