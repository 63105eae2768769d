//! Who holds how much of the agent's resources.

use std::collections::BTreeMap;

use holm_model::{Launch, Resources, ResourcesError, WorkId};

use crate::work::Work;

/// What the launches on this agent hold. Slots are given back one by one as the tail of a batch empties.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    total: Resources,
    held: Resources,
    /// What revocable tasks hold: it is part of what others hold already.
    borrowed: Resources,
    slots: BTreeMap<WorkId, u32>,
}

impl Ledger {
    pub(crate) fn new(total: Resources) -> Ledger {
        Ledger { total, held: Resources::EMPTY, borrowed: Resources::EMPTY, slots: BTreeMap::new() }
    }

    /// What tasks hold that are not revocable.
    pub(crate) fn held(&self) -> &Resources {
        &self.held
    }

    /// What revocable tasks hold.
    pub(crate) fn borrowed(&self) -> &Resources {
        &self.borrowed
    }

    pub(crate) fn slots(&self, work: WorkId) -> u32 {
        self.slots.get(&work).copied().unwrap_or(0)
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = WorkId> {
        self.slots.keys().copied()
    }

    /// Whether what a launch asks is there, and what it would all be then. Revocable ones have what is `lent`.
    pub(crate) fn check(&self, launch: &Launch, lent: &Resources) -> Result<Resources, ResourcesError> {
        let (held, total) = if launch.spec.revocable { (&self.borrowed, lent) } else { (&self.held, &self.total) };
        let asked = launch.resources();
        let sum = held.plus(&asked)?;
        if !total.contains(&sum) {
            // Names the resource, what is asked and what is left; held may exceed a total that was lowered.
            left(total, held).minus(&asked)?;
        }
        Ok(sum)
    }

    /// Gives a new work its slots.
    pub(crate) fn admit(&mut self, id: WorkId, work: &Work, lent: &Resources) -> Result<(), ResourcesError> {
        *self.book(work) = self.check(&work.launch, lent)?;
        self.slots.insert(id, work.slots());
        Ok(())
    }

    fn book(&mut self, work: &Work) -> &mut Resources {
        if work.launch.spec.revocable { &mut self.borrowed } else { &mut self.held }
    }

    /// Gives a work its slots although the total may have been lowered since it was taken: it runs already, or is revocable.
    pub(crate) fn admit_running(&mut self, id: WorkId, work: &Work) {
        let book = self.book(work);
        if let Ok(sum) = book.plus(&work.launch.held_by(work.slots())) {
            *book = sum;
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
        let book = self.book(work);
        *book = book.minus(&freed).unwrap_or_default();
    }

    /// Takes back everything a work holds.
    pub(crate) fn release(&mut self, id: WorkId, work: &Work) {
        if let Some(slots) = self.slots.remove(&id) {
            let book = self.book(work);
            *book = book.minus(&work.launch.held_by(slots)).unwrap_or_default();
        }
    }
}

/// What is left of a total, by resource: nothing where more is held.
fn left(total: &Resources, held: &Resources) -> Resources {
    total.minus(held).unwrap_or_default()
}
