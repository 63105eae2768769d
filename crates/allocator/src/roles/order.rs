//! Who is served when: walks of the tree in order.

use std::cmp::Ordering;

use super::{Node, ROOT, Roles};

impl Roles {
    /// The first leaf in order below `from` that `visit` takes, with what it makes of it. `enter` tells which nodes to look
    /// below.
    pub(crate) fn find<T>(
        &self,
        from: Node,
        enter: &impl Fn(Node) -> bool,
        visit: &mut impl FnMut(Node) -> Option<T>,
    ) -> Option<T> {
        if !self.node(from).is_wanting() || !enter(from) {
            return None;
        }
        if self.node(from).is_leaf() {
            return visit(from);
        }
        self.order.walk(from, &self.nodes, |child| self.find(child, enter, visit))
    }

    /// The same for the guarantees that are to be met: those who have least of theirs first; below a node whose own
    /// guarantee is at stake, everybody in order.
    pub(crate) fn find_urgent<T>(
        &self,
        from: Node,
        enter: &impl Fn(Node) -> bool,
        visit: &mut impl FnMut(Node) -> Option<T>,
    ) -> Option<T> {
        let found = self.urgent.walk(from, &self.nodes, |child| self.find_urgent(child, enter, visit));
        if found.is_none() && self.owes(from) { self.find(from, enter, visit) } else { found }
    }

    /// Whether anybody who wants offers has a guarantee to be met.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.first(ROOT).is_some()
    }

    /// Nodes in the order in which they are served; those that want nothing are left out.
    pub(crate) fn in_order(&self, mut nodes: Vec<Node>) -> Vec<Node> {
        nodes.retain(|node| self.node(*node).is_wanting());
        if nodes.len() > 1 {
            nodes.sort_by(|a, b| self.compare(*a, *b));
        }
        nodes
    }

    fn compare(&self, a: Node, b: Node) -> Ordering {
        let path = |node: Node| -> Vec<Node> { self.up(node).collect::<Vec<_>>().into_iter().rev().collect() };
        let (a, b) = (path(a), path(b));
        let parts = a.iter().zip(&b).find(|(a, b)| a != b);
        let entry = |node: Node| self.order.entry(self.node(node).parent, node);
        let Some((a, b)) = parts else { return a.len().cmp(&b.len()) };
        match (entry(*a), entry(*b)) {
            (Some(first), Some(second)) => first.compare(second, &self.nodes),
            _ => a.cmp(b),
        }
    }

    /// The wanting leaf that is first in order, whether or not it will take anything.
    pub(crate) fn first(&self) -> Option<Node> {
        let mut node = ROOT;
        while !self.node(node).is_leaf() {
            node = self.order.first(node)?.node;
        }
        Some(node)
    }

    /// The order in which a node's children are served.
    #[cfg(test)]
    pub(crate) fn served(&self) -> Vec<Node> {
        let mut leaves = Vec::new();
        let end: Option<()> = self.find(ROOT, &|_| true, &mut |leaf| {
            leaves.push(leaf);
            None
        });
        assert!(end.is_none());
        leaves
    }
}

/// A node and those above it; roles are at most eight deep, with a root, a framework and its group.
pub(super) struct Path([Node; 12], usize);

impl FromIterator<Node> for Path {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Path {
        let mut path = Path([ROOT; 12], 0);
        for node in nodes.into_iter().take(12) {
            path.0[path.1] = node;
            path.1 += 1;
        }
        path
    }
}

impl IntoIterator for Path {
    type Item = Node;
    type IntoIter = std::iter::Take<std::array::IntoIter<Node, 12>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().take(self.1)
    }
}
