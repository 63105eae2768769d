//! What each node deserves of what its parent has: its weighted part, at least its guarantee, at most what it can use.

use super::state::State;

/// How often the level is halved in on; enough for any ratio of weights.
const STEPS: u32 = 60;

/// One child while its parent's share is divided.
struct Child {
    node: usize,
    weight: f64,
    floor: f64,
    ceiling: f64,
}

impl Child {
    fn at(&self, level: f64) -> f64 {
        (self.weight * level).clamp(self.floor, self.ceiling)
    }
}

/// What every node deserves of what its parent has, as a fraction of it: as if it were divided anew among those who hold
/// or want something. The root has the whole cluster, the others what they hold.
pub(super) fn deserved(state: &State<'_>) -> Vec<f64> {
    let nodes = &state.view.nodes;
    let mut wanting = vec![false; nodes.len()];
    for demand in &state.view.demands {
        for node in state.view.chain(demand.node) {
            wanting[node] = true;
        }
    }
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(at);
        }
    }
    let mut deserved = vec![0.0; nodes.len()];
    for (parent, below) in children.iter().enumerate() {
        let whole = if nodes[parent].parent.is_none() { 1.0 } else { state.share(parent) };
        let child = |node: &usize| {
            let ceiling = if wanting[*node] { f64::INFINITY } else { state.share(*node) };
            let floor = state.view.share(&nodes[*node].guarantee).min(ceiling);
            Child { node: *node, weight: f64::from(nodes[*node].weight.max(1)) / 1000.0, floor, ceiling }
        };
        if whole <= 0.0 {
            continue;
        }
        divide(whole, &below.iter().map(child).collect::<Vec<_>>(), &mut deserved);
    }
    deserved
}

/// Finds the level at which the children use up the whole.
fn divide(whole: f64, children: &[Child], deserved: &mut [f64]) {
    let sum = |level: f64| children.iter().map(|child| child.at(level)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < whole && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if sum(middle) < whole { low = middle } else { high = middle }
    }
    for child in children {
        deserved[child.node] = child.at(low) / whole;
    }
}
