//! The agents a run has to visit, and for whose sake.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use holm_model::AgentId;

use crate::share::Share;
use crate::tree::NodeId;

/// Over how many leaves a list stops being cheaper than asking everybody in order.
const MAX_LISTED: usize = 16;

/// Who may want what is free on a candidate; everybody else is known to refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Anyone.
    Everyone,
    /// These leaves.
    Only(BTreeSet<NodeId>),
}

impl Who {
    /// One leaf.
    pub(crate) fn one(leaf: NodeId) -> Who {
        Who::Only(BTreeSet::from([leaf]))
    }

    /// Whether `leaf` may want it.
    pub(crate) fn includes(&self, leaf: NodeId) -> bool {
        match self {
            Who::Everyone => true,
            Who::Only(leaves) => leaves.contains(&leaf),
        }
    }

    fn join(self, other: Who) -> Who {
        match (self, other) {
            (Who::Only(mut some), Who::Only(more)) => {
                some.extend(more);
                if some.len() > MAX_LISTED { Who::Everyone } else { Who::Only(some) }
            }
            _ => Who::Everyone,
        }
    }
}

/// In which order agents are visited: most free first, as of when it became a candidate; among equals the one whose last
/// grant is longest ago, so that nobody keeps getting the same agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AgentRank {
    /// The dominant share of what is free.
    pub(crate) free: Reverse<Share>,
    /// The number of the last grant of this agent; zero for none.
    pub(crate) last_grant: u64,
    /// Which agent.
    pub(crate) agent: AgentId,
}

/// The agents to visit, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    order: BTreeSet<AgentRank>,
    entries: BTreeMap<AgentId, (AgentRank, Who)>,
}

impl Candidates {
    /// Makes an agent a candidate for `who`, and for whom it was one already.
    pub(crate) fn add(&mut self, rank: AgentRank, who: Who) {
        let who = match self.entries.remove(&rank.agent) {
            Some((old, before)) => {
                self.order.remove(&old);
                before.join(who)
            }
            None => who,
        };
        self.order.insert(rank);
        self.entries.insert(rank.agent, (rank, who));
    }

    /// Forgets an agent.
    pub(crate) fn remove(&mut self, agent: AgentId) {
        if let Some((rank, _)) = self.entries.remove(&agent) {
            self.order.remove(&rank);
        }
    }

    /// Takes the next agent to visit.
    pub(crate) fn pop(&mut self) -> Option<(AgentId, Who)> {
        let rank = self.order.pop_first()?;
        let (_, who) = self.entries.remove(&rank.agent)?;
        Some((rank.agent, who))
    }

    /// For whose sake an agent is a candidate.
    pub(crate) fn who(&self, agent: AgentId) -> Option<&Who> {
        self.entries.get(&agent).map(|(_, who)| who)
    }

    /// Whether there is no agent to visit.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The agents, by id.
    pub(crate) fn agents(&self) -> impl Iterator<Item = AgentId> {
        self.entries.keys().copied()
    }
}
