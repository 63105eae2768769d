//! The agents a run has to visit, in order.

use std::cmp::Reverse;
use std::collections::VecDeque;

use holm_model::{AgentId, Placement};

use crate::stock::Slot;

/// In which order agents are visited: the one with the most free first, as of the run that first saw it; among equals the
/// one whose last grant is longest ago, so that nobody keeps getting the same agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ranked {
    /// The dominant share of what is free.
    pub(crate) free: Reverse<u64>,
    /// The number of the last grant of this agent; zero for none.
    pub(crate) last_grant: u64,
    /// Which agent.
    pub(crate) agent: AgentId,
    pub(crate) slot: Slot,
    /// Which of the agent's candidacies it is; an older one counts no longer.
    stamp: u32,
}

/// A candidate to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// The dominant share of what is free.
    pub(crate) free: u64,
    /// The number of the last grant.
    pub(crate) last_grant: u64,
    /// Which agent.
    pub(crate) agent: AgentId,
    pub(crate) slot: Slot,
}

/// The agents to visit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// In order.
    queue: VecDeque<Ranked>,
    /// Since the order was made, with their stamps.
    fresh: Vec<(Slot, u32)>,
    /// By slot: odd while it is a candidate.
    stamps: Vec<u32>,
    marked: usize,
    /// The order was broken up.
    broken: bool,
}

impl Candidates {
    /// Makes room for agents.
    pub(crate) fn ensure(&mut self, agents: usize) {
        if self.stamps.len() < agents {
            self.stamps.resize(agents, 0);
        }
    }

    /// Makes an agent a candidate, in its present place if it was one already.
    pub(crate) fn mark(&mut self, slot: Slot) {
        self.unmark(slot);
        let stamp = &mut self.stamps[slot as usize];
        *stamp = stamp.wrapping_add(1);
        self.marked += 1;
        self.fresh.push((slot, *stamp));
        if self.fresh.len() + self.queue.len() > 2 * self.marked + 1024 {
            self.fresh.retain(|(slot, stamp)| self.stamps[*slot as usize] == *stamp);
            self.queue.retain(|entry| self.stamps[entry.slot as usize] == entry.stamp);
        }
    }

    /// Forgets an agent.
    pub(crate) fn unmark(&mut self, slot: Slot) {
        let stamp = &mut self.stamps[slot as usize];
        if *stamp % 2 == 1 {
            *stamp = stamp.wrapping_add(1);
            self.marked -= 1;
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        let queued = std::mem::take(&mut self.queue).into_iter().map(|entry| (entry.slot, entry.stamp));
        for (slot, stamp) in queued.chain(std::mem::take(&mut self.fresh)) {
            if self.stamps[slot as usize] == stamp {
                self.unmark(slot);
            }
        }
    }

    /// Brings the agents in order, as they are now, before they are taken.
    pub(crate) fn sort(&mut self, candidate: impl Fn(Slot) -> Option<Candidate>) {
        if self.fresh.is_empty() && !self.broken {
            return;
        }
        for (slot, stamp) in std::mem::take(&mut self.fresh) {
            if self.stamps[slot as usize] == stamp
                && let Some(Candidate { free, last_grant, agent, slot }) = candidate(slot)
            {
                self.queue.push_back(Ranked { free: Reverse(free), last_grant, agent, slot, stamp });
            }
        }
        // What was in order already is a run that sorting finds.
        self.queue.make_contiguous().sort();
        self.broken = false;
    }

    /// Takes the next agent to visit, from the end that is asked for, or any that `dice` says.
    pub(crate) fn pop(&mut self, placement: Placement, dice: u64) -> Option<Slot> {
        loop {
            let length = self.queue.len().max(1) as u64;
            let next = match placement {
                Placement::Spread => self.queue.pop_front(),
                Placement::Pack => self.queue.pop_back(),
                Placement::Random => {
                    self.broken = true;
                    self.queue.swap_remove_front(usize::try_from(dice % length).unwrap_or(0))
                }
            };
            let next = next?;
            if self.stamps[next.slot as usize] == next.stamp {
                self.unmark(next.slot);
                return Some(next.slot);
            }
        }
    }

    /// Whether an agent is to be visited.
    pub(crate) fn is_marked(&self, slot: Slot) -> bool {
        self.stamps[slot as usize] % 2 == 1
    }

    /// Whether there is no agent to visit.
    pub(crate) fn is_empty(&self) -> bool {
        self.marked == 0
    }

    /// How many agents there are to visit.
    pub(crate) fn len(&self) -> usize {
        self.marked
    }
}
