//! Who gives back what, for whom, by which rule: pure decisions over a view of the cluster, carried out by the master.
//!
//! Three rules, in this order:
//! - **guarantee**: a role (or one above it) holds less than it is guaranteed. Whoever is above its deserved share gives,
//!   and keeps its own guarantees, at every level between it and what both have in common.
//! - **priority**: a task of the same role has a lower priority, by at least [`Options::delta`].
//! - **share**: a role or framework below its fair share waits behind batches of one above it. Only what has not started
//!   is taken, and only while the taker stays below what the giver had before (Kueue's LessThanInitialShare).
//!
//! Two workloads never evict each other in turn. LessThanInitialShare alone does not give that on a tree (random trees
//! show cycles of three), so that there is one more rule: whoever was made to give does not take by its share. Then:
//! - No rule lowers what guarantees are met with, and each use of the first raises it: there are finitely many.
//! - Those who take by their share have given nothing. Whoever gives drops out of them; of those who stay nothing is taken
//!   any more, and they have finitely many tasks to start: there are finitely many uses of the third rule.
//! - After the last of both, each use of the second raises the priorities that run in its role: finitely many, too.
//!
//! That evicting and starting again comes to rest is tested on random trees.
//!
//! Victims are chosen per agent: what has not started, then what is revocable, then of whoever is furthest above its
//! share, the lowest priority, the least work lost (by its order of magnitude), and what comes closest to what is missing.
//! A pass backwards gives back what turns out not to be needed. Of all agents the one where least is lost is taken.

mod deserved;
mod meter;
mod pick;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use holm_model::{Attributes, Constraints};

pub use meter::Meter;
pub use view::{Amounts, Demand, Node, Unit, View};

use crate::constraints::ConstraintTable;
use state::State;

/// Most agents that are weighed against each other for one task.
pub const MAX_AGENTS_WEIGHED: usize = 64;
/// Most units taken for one task.
pub const MAX_UNITS_FOR_ONE: usize = 64;
/// Most tasks that one plan makes room for.
pub const MAX_TAKES: usize = 1000;

/// What an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether unmet guarantees are met by taking from others.
    pub guarantees: bool,
    /// Whether a higher priority takes from lower ones of the same role.
    pub priorities: bool,
    /// Whether unstarted tasks are taken from those above their fair share.
    pub shares: bool,
    /// How much higher a priority must be, at least 1.
    pub delta: u32,
    /// How long a task that has started is safe.
    pub protected: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { guarantees: true, priorities: false, shares: true, delta: 10, protected: Duration::from_secs(30) }
    }
}

/// Why something is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The guarantee of this node is not met.
    Guarantee(usize),
    /// The taker has a higher priority in the same role.
    Priority,
    /// The taker is below its fair share, the giver above it.
    Share,
}

/// How much may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Units that may be taken in all.
    pub units: u32,
    /// Units with started tasks that may be taken of each owner, by [`Unit::owner`]; one that is not listed has none left.
    pub of_owner: Vec<u32>,
}

/// Room to be made for one task of a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The demand, as an index into the view.
    pub demand: usize,
    /// Why.
    pub rule: Rule,
    /// Where, as an index into the view.
    pub agent: usize,
    /// What, as indices into the view, in the order in which it is to end.
    pub units: Vec<usize>,
}

/// Decides what is to be taken, in the order of the view's demands. What fits beside everything that runs takes nothing.
pub fn plan(view: &View, options: &Options, limits: Limits) -> Vec<Take> {
    let mut state = State::new(view, options, limits);
    let mut takes = Vec::new();
    for (at, demand) in view.demands.iter().enumerate() {
        for _ in 0..demand.count {
            if takes.len() >= MAX_TAKES {
                return takes;
            }
            if !state.is_within_limits(demand) {
                break;
            }
            if let Some(agent) = state.fitting(demand) {
                state.place(demand, agent);
                continue;
            }
            let Some((rule, agent, units)) = state.choose(demand) else { break };
            state.take(&units);
            state.place(demand, agent);
            takes.push(Take { demand: at, rule, agent, units });
        }
    }
    takes
}

/// Which of these agents a demand's constraints admit, as indices into the list. Constraints that cannot be evaluated admit
/// none.
pub fn admitted<'a>(constraints: &Constraints, agents: impl Iterator<Item = (&'a Attributes, &'a str)>) -> Vec<usize> {
    let mut table = ConstraintTable::default();
    let Ok(id) = table.acquire(constraints) else { return Vec::new() };
    let holds = |(class, (at, (attributes, hostname))): (u32, (usize, (&Attributes, &str)))| {
        table.holds(id, class, attributes, hostname).then_some(at)
    };
    (0..).zip(agents.enumerate()).filter_map(holds).collect()
}
