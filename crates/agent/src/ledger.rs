//! Who holds how much of the agent's resources.

use std::collections::BTreeMap;

use holm_model::{Resources, ResourcesError, WorkId};

use crate::work::Work;

/// What the launches on this agent hold. Slots are given back one by one as the tail of a batch empties.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    total: Resources,
    held: Resources,
    slots: BTreeMap<WorkId, u32>,
}

impl Ledger {
    pub(crate) fn new(total: Resources) -> Ledger {
        Ledger { total, held: Resources::EMPTY, slots: BTreeMap::new() }
    }

    pub(crate) fn held(&self) -> &Resources {
        &self.held
    }

    pub(crate) fn slots(&self, work: WorkId) -> u32 {
        self.slots.get(&work).copied().unwrap_or(0)
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = WorkId> {
        self.slots.keys().copied()
    }

    /// Whether what the work asks is there, and what it would all be then.
    pub(crate) fn check(&self, asked: &Resources) -> Result<Resources, ResourcesError> {
        let sum = self.held.plus(asked)?;
        if !self.total.contains(&sum) {
            // Names the resource, what is asked and what is left; held may exceed a total that was lowered.
            self.total.minus(&self.held).unwrap_or_default().minus(asked)?;
        }
        Ok(sum)
    }

    /// Gives a new work its slots.
    pub(crate) fn admit(&mut self, id: WorkId, work: &Work) -> Result<(), ResourcesError> {
        self.held = self.check(&work.launch.held_by(work.slots()))?;
        self.slots.insert(id, work.slots());
        Ok(())
    }

    /// Gives a work its slots although the total may have been lowered since it was sent: it runs already.
    pub(crate) fn admit_running(&mut self, id: WorkId, work: &Work) {
        if let Ok(sum) = self.held.plus(&work.launch.held_by(work.slots())) {
            self.held = sum;
            self.slots.insert(id, work.slots());
        }
    }

    /// Takes back what a work does not hold any more.
    pub(crate) fn settle(&mut self, id: WorkId, work: &Work) {
        let Some(slots) = self.slots.get_mut(&id) else { return };
        let now = work.slots();
        if now >= *slots {
            return;
        }
        // Ports and set items are held once, by single-slot works only: their only slot goes last.
        let freed = work.launch.held_by(*slots - now);
        *slots = now;
        if now == 0 {
            self.slots.remove(&id);
        }
        self.held = self.held.minus(&freed).unwrap_or_default();
    }

    /// Takes back everything a work holds.
    pub(crate) fn release(&mut self, id: WorkId, work: &Work) {
        if let Some(slots) = self.slots.remove(&id) {
            self.held = self.held.minus(&work.launch.held_by(slots)).unwrap_or_default();
        }
    }
}
