//! What a plan is made from.

use std::time::Duration;

/// An amount of each dimension of a view, in the smallest units.
pub type Amounts = Vec<u64>;

/// The cluster as preemption sees it. All lists refer to each other by index.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the cluster has.
    pub total: Amounts,
    /// The roles and, as their children, the frameworks in them; the root is the first, and parents come before children.
    pub nodes: Vec<Node>,
    /// What is free on each agent.
    pub agents: Vec<Amounts>,
    /// What could be taken.
    pub units: Vec<Unit>,
    /// Who waits, the most urgent first.
    pub demands: Vec<Demand>,
}

/// A role, or a framework in a role.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node above it; the root has none.
    pub parent: Option<usize>,
    /// Its weight among its neighbours, in thousandths.
    pub weight: u32,
    /// What it is guaranteed.
    pub guarantee: Amounts,
    /// What it may hold at most.
    pub limit: Amounts,
    /// What it and everything below it holds.
    pub held: Amounts,
}

/// One slot of a launch.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The framework in its role.
    pub node: usize,
    /// Whose budget it counts against: an index into [`super::Limits::of_owner`].
    pub owner: usize,
    /// Where it is.
    pub agent: usize,
    /// What it holds.
    pub amounts: Amounts,
    /// The unit of the same launch that has to be taken before this one.
    pub after: Option<usize>,
    /// Whether a task runs there.
    pub started: bool,
    /// Whether tasks of its launch wait for their turn on it. Giving those up costs no work, and frees the slot as soon as
    /// what runs there has ended.
    pub tail: bool,
    /// How long ago the task started.
    pub age: Duration,
    /// Its priority.
    pub priority: i32,
    /// Whether it was launched on what may be taken at any time.
    pub revocable: bool,
}

/// Tasks that wait.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The framework in its role.
    pub node: usize,
    /// What each task needs.
    pub shape: Amounts,
    /// How many tasks.
    pub count: u32,
    /// Their priority.
    pub priority: i32,
    /// Whether something was taken of the framework lately: then it takes nothing by its share.
    pub gave: bool,
    /// The agents that will do; none is any.
    pub agents: Option<Vec<usize>>,
}

impl View {
    /// The node and everything above it, the node first and the root last.
    pub(super) fn chain(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |node| self.nodes[*node].parent)
    }

    /// Whether `below` is `above` or a descendant of it.
    pub(super) fn is_under(&self, below: usize, above: usize) -> bool {
        self.chain(below).any(|node| node == above)
    }

    /// The two sides of the lowest node that both have in common: its child towards `left`, and that towards `right`. None
    /// when one is above the other.
    pub(super) fn sides(&self, left: usize, right: usize) -> Option<(usize, usize)> {
        let of_left = self.chain(left).collect::<Vec<_>>();
        let right_side = self.chain(right).take_while(|node| !of_left.contains(node)).last()?;
        let common = self.nodes[right_side].parent?;
        let left_side = of_left.into_iter().take_while(|node| *node != common).last()?;
        Some((left_side, right_side))
    }

    /// The largest fraction of a dimension that these amounts are.
    pub(super) fn share(&self, amounts: &[u64]) -> f64 {
        let fraction = |(amount, total): (&u64, &u64)| if *total == 0 { 0.0 } else { ratio(*amount, *total) };
        amounts.iter().zip(&self.total).map(fraction).fold(0.0, f64::max)
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts are below 2^50, and shares are compared, not counted")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
