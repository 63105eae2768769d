//! Keeping agents for demands that go on missing, and lending what is kept.

use std::cmp::Reverse;

use holm_model::{AgentId, Portions, Resources, Time};

use super::ground::{Leaf, Slot};
use super::reservations::{Kept, Reservation, Turn, can_borrow, patience};
use super::serve::Choice;
use super::{Bundle, Entry};
use crate::{Allocator, Grant};

/// Most agents whose expected ends are asked for when one is chosen: those with the least missing.
const ASKED: usize = 64;

/// Most grants from what is kept on one agent in one run.
const LENT: usize = 64;

/// What is known of when resources that are in use become free.
pub trait Ends {
    /// By when an agent will have `wanted` free, if it is known for enough of what is in use there.
    fn free_by(&self, agent: AgentId, wanted: &Resources) -> Option<Time>;
}

impl Allocator {
    /// Gives up reservations whose time is over and makes those whose turn it is. To be called before a run once
    /// [`Allocator::keeps_at`] has come.
    pub fn keep(&mut self, now: Time, ends: &dyn Ends) {
        for leaf in self.reservations.over(now) {
            let entry = self.reservations.of(leaf).map(|one| one.entry);
            self.end_reservation(leaf);
            entry.into_iter().for_each(|number| self.demands.disappointed(leaf, number, now));
        }
        for turn in self.turns(now) {
            self.reserve(turn.leaf, now, ends);
        }
    }

    /// When [`Allocator::keep`] has something to do next.
    pub fn keeps_at(&self) -> Option<Time> {
        let after = self.options.reserve_after;
        let wanting = self.demands.iter().filter(|(leaf, _)| self.is_waiting(*leaf) && !self.reservations.has(*leaf));
        let due = wanting.filter_map(|(_, book)| {
            book.wanting().map(|entry| (entry.since + patience(after, entry.tries)).max(entry.looked_at)).min()
        });
        due.chain(self.reservations.next_end()).min()
    }

    /// The leaves with a demand that has waited long enough, in the order in which they are served.
    fn turns(&mut self, now: Time) -> Vec<Turn> {
        let after = self.options.reserve_after;
        let mut turns = Vec::new();
        for (leaf, book) in
            self.demands.iter().filter(|(leaf, _)| self.is_waiting(*leaf) && !self.reservations.has(*leaf))
        {
            let due = |entry: &&Entry| (entry.since + patience(after, entry.tries)).max(entry.looked_at) <= now;
            let first = book.wanting().filter(due).map(|entry| (Reverse(entry.demand.priority), entry.since)).min();
            turns.extend(first.map(|(priority, since)| Turn { priority, since, leaf }));
        }
        turns.sort_unstable();
        turns
    }

    /// Keeps agents for the first of a leaf's demands that has waited long enough and fits nowhere now, if there are any on
    /// which it would fit and the cap allows it.
    fn reserve(&mut self, leaf: Leaf, now: Time, ends: &dyn Ends) {
        let after = self.options.reserve_after;
        let due = |entry: &&Entry| (entry.since + patience(after, entry.tries)).max(entry.looked_at) <= now;
        let entries: Vec<Entry> =
            self.demands.book(leaf).into_iter().flat_map(|book| book.wanting()).filter(due).cloned().collect();
        for entry in entries {
            self.demands.looked(leaf, entry.number, now + after);
            if self.fits_now(leaf, &entry) {
                continue;
            }
            if let Some(reservation) = self.find_place(leaf, &entry, now, ends) {
                let slots: Vec<Slot> = reservation.agents.keys().copied().collect();
                if self.reservations.insert(leaf, reservation) {
                    slots.into_iter().for_each(|slot| self.feed(slot));
                    return;
                }
            }
        }
    }

    fn fits_now(&self, leaf: Leaf, entry: &Entry) -> bool {
        let fitting = self.open_slots().filter(|slot| self.admits(leaf, *slot) && self.suits(entry, *slot));
        let mut fits = fitting.filter_map(|slot| {
            let available = self.available(leaf, slot)?;
            Some(entry.bundle.fits(&available.total(), entry.wanted()))
        });
        if entry.demand.gang { fits.sum::<u32>() >= entry.least() } else { fits.any(|fits| fits >= entry.least()) }
    }

    /// The agents on which a demand would fit soonest, were they kept for it.
    fn find_place(&self, leaf: Leaf, entry: &Entry, now: Time, ends: &dyn Ends) -> Option<Reservation> {
        let least = entry.least();
        let needs = entry.bundle.shape.times(least)?;
        if !self.reservations.has_room(&needs, &self.cluster(), self.options.reserve_cap)
            || !self.is_within_limits(leaf, &needs)
        {
            return None;
        }
        let mut places = Vec::new();
        for slot in self.active_slots() {
            let is_kept = self.reservations.leaf_on(slot).is_some();
            if is_kept || !self.admits(leaf, slot) || !self.suits(entry, slot) {
                continue;
            }
            let fits = entry.bundle.fits(&self.usable(leaf, slot).total(), least);
            if fits >= if entry.demand.gang { 1 } else { least } {
                let free = self.available(leaf, slot).map(|free| free.total()).unwrap_or_default();
                places.push((Reverse(self.portion_of(&entry.bundle, fits, &free)), slot, fits));
            }
        }
        places.sort_unstable();
        places.truncate(ASKED.max(least as usize));
        let mut timed: Vec<(bool, Option<Time>, usize, Slot, u32)> = Vec::with_capacity(places.len());
        for (rank, (_, slot, fits)) in places.into_iter().enumerate() {
            let agent = self.agent_of(slot)?;
            let wanted = entry.bundle.shape.times(fits)?;
            let by = ends.free_by(agent, &wanted);
            timed.push((by.is_none(), by, rank, slot, fits));
        }
        timed.sort_unstable();
        let mut left = least;
        let mut agents = std::collections::BTreeMap::new();
        let mut last = now;
        for (_, expected, _, slot, fits) in timed {
            if left == 0 {
                break;
            }
            let bundles = fits.min(left);
            left -= bundles;
            last = last.max(expected.unwrap_or(now));
            agents.insert(slot, Kept { bundles, held: Portions::EMPTY, expected, rests: false });
        }
        let until = (now + self.options.reserve_timeout).max(last + self.options.reserve_after);
        (left == 0).then_some(Reservation { entry: entry.number, needs, agents, until })
    }

    /// How much of bundles is there, in thousandths of what is least there.
    fn portion_of(&self, bundle: &Bundle, bundles: u32, free: &Resources) -> u64 {
        let goal = bundle.shape.times(bundles).unwrap_or_default();
        let parts = goal.iter_scalars().map(|(name, goal)| {
            u64::try_from(u128::from(free.scalar(name).0.min(goal.0)) * 1000 / u128::from(goal.0.max(1)))
                .unwrap_or(1000)
        });
        parts.min().unwrap_or(0)
    }

    /// Moves what has become free on a kept agent into its reservation.
    pub(crate) fn feed(&mut self, slot: Slot) {
        let Some(leaf) = self.reservations.leaf_on(slot) else { return };
        let Some(number) = self.reservations.of(leaf).map(|one| one.entry) else { return };
        let Some(entry) = self.demands.book(leaf).and_then(|book| book.by_number(number)).cloned() else { return };
        let kept = self.reservations.kept(slot).filter(|kept| !kept.rests);
        let (Some(kept), Some(available)) = (kept, self.available(leaf, slot)) else { return };
        let missing = entry.bundle.missing_of(&available.total(), &kept.held.total(), kept.bundles);
        let Some((_, role)) = self.owner_of(leaf) else { return };
        let Ok(portions) = available.choose(&role, &missing, &[]) else { return };
        if portions.is_empty() || !self.charge_portions(slot, leaf, &portions, false) {
            return;
        }
        if let Some(kept) = self.reservations.kept_mut(slot)
            && let Ok(sum) = kept.held.plus(&portions)
        {
            kept.held = sum;
        }
    }

    /// Frees what is held on a kept agent for a moment.
    fn suspend(&mut self, slot: Slot, leaf: Leaf) {
        let Some(kept) = self.reservations.kept_mut(slot) else { return };
        kept.rests = true;
        let held = std::mem::take(&mut kept.held);
        self.release_portions(slot, leaf, &held);
    }

    /// Holds again what is left.
    fn wake(&mut self, slot: Slot) {
        if let Some(kept) = self.reservations.kept_mut(slot) {
            kept.rests = false;
        }
        self.feed(slot);
    }

    /// Ends a leaf's reservation, if it has one; what it holds is free again.
    pub(crate) fn end_reservation(&mut self, leaf: Leaf) {
        let Some(reservation) = self.reservations.remove(leaf) else { return };
        for (slot, kept) in reservation.agents {
            self.release_portions(slot, leaf, &kept.held);
        }
    }

    /// An agent goes: what is kept on it, and elsewhere for the same demand, is free again.
    pub(crate) fn end_reservation_on(&mut self, slot: Slot) {
        self.reservations.leaf_on(slot).into_iter().for_each(|leaf| self.end_reservation(leaf));
    }

    /// Ends a leaf's reservation if the demand it is for does not want it any more.
    pub(crate) fn review_reservation(&mut self, leaf: Leaf, _now: Time) {
        let Some(reservation) = self.reservations.of(leaf) else { return };
        let kept: u32 = reservation.agents.values().map(|kept| kept.bundles).sum();
        let entry = self.demands.book(leaf).and_then(|book| book.by_number(reservation.entry));
        let fits = |entry: &Entry| {
            let same = entry.bundle.shape.times(entry.least()).as_ref() == Some(&reservation.needs);
            let suits = reservation.agents.keys().all(|slot| self.suits(entry, *slot));
            entry.wanted() >= kept && same && suits
        };
        if !entry.is_some_and(fits) {
            self.end_reservation(leaf);
        }
    }

    /// Whether a reservation holds all it needs.
    pub(crate) fn has_kept_all(&self) -> bool {
        self.reservations.iter().any(|(leaf, reservation)| self.is_full(leaf, reservation))
    }

    fn is_full(&self, leaf: Leaf, reservation: &Reservation) -> bool {
        let entry = self.demands.book(leaf).and_then(|book| book.by_number(reservation.entry));
        entry.is_some_and(|entry| {
            let full = |kept: &Kept| entry.bundle.fits(&kept.held.total(), kept.bundles) >= kept.bundles;
            self.is_waiting(leaf) && reservation.agents.values().all(full)
        })
    }

    /// The reservations that hold all they need, as grants.
    pub(crate) fn grant_kept(&mut self, now: Time) -> Vec<Grant> {
        let leaves: Vec<Leaf> = self.reservations.iter().map(|(leaf, _)| leaf).collect();
        let mut grants = Vec::new();
        for leaf in leaves {
            let Some(reservation) = self.reservations.of(leaf) else { continue };
            let Some(entry) = self.demands.book(leaf).and_then(|book| book.by_number(reservation.entry)).cloned()
            else {
                continue;
            };
            if !self.is_full(leaf, reservation) {
                continue;
            }
            let Some(reservation) = self.reservations.remove(leaf) else { continue };
            let charged: Vec<_> =
                reservation.agents.into_iter().map(|(slot, kept)| (slot, kept.held, kept.bundles)).collect();
            let gang = entry.demand.gang.then(|| self.demands.next_gang());
            let bundles = charged.iter().map(|(.., bundles)| bundles).sum();
            self.demands.granted(leaf, entry.number, bundles, now);
            self.served(leaf, now);
            grants.extend(self.grants(leaf, &entry, charged, gang));
        }
        grants
    }

    /// Lends what is kept to demands that promise to be over before it is needed.
    pub(crate) fn lend(&mut self, now: Time) -> Vec<Grant> {
        let mut grants = Vec::new();
        let kept: Vec<(Slot, Leaf)> =
            self.reservations.iter().flat_map(|(leaf, one)| one.agents.keys().map(move |slot| (*slot, leaf))).collect();
        for (slot, holder) in kept {
            for _ in 0..LENT {
                let Some((leaf, choice)) = self.find_borrower(slot, holder, now) else { break };
                self.suspend(slot, holder);
                let lent = self.grant_choice(leaf, &choice, now);
                self.wake(slot);
                if lent.is_empty() {
                    break;
                }
                grants.extend(lent);
            }
        }
        grants
    }

    fn find_borrower(&self, slot: Slot, holder: Leaf, now: Time) -> Option<(Leaf, Choice)> {
        let kept = self.reservations.kept(slot).filter(|kept| !kept.held.is_empty())?;
        self.first_leaf(|leaf| {
            let book = self.demands.book(leaf).filter(|_| leaf != holder && self.admits(leaf, slot))?;
            let free = self.available(leaf, slot).unwrap_or_default();
            let (_, role) = self.owner_of(leaf)?;
            let room = free.plus(&kept.held.usable_by(&role)).ok()?.total();
            let short = |entry: &&Entry| {
                !entry.demand.gang && can_borrow(kept, entry.demand.max_duration, now) && self.suits(entry, slot)
            };
            book.wanting().filter(short).find_map(|entry| {
                let bundles = entry.bundle.fits(&room, entry.wanted());
                let needs = entry.bundle.shape.times(bundles)?;
                let chosen = Choice { number: entry.number, parts: vec![(slot, bundles)] };
                let enough = bundles >= entry.least() && self.is_within_limits(leaf, &needs);
                enough.then_some((leaf, chosen))
            })
        })
    }

    /// What a reservation of a framework holds on an agent.
    pub fn kept(&self, framework: holm_model::FrameworkId, role: &holm_model::Role, agent: AgentId) -> Portions {
        let leaf = self.leaf_of(framework, role);
        let slot = self.slot_of(agent).filter(|slot| leaf.is_some() && self.reservations.leaf_on(*slot) == leaf);
        slot.and_then(|slot| self.reservations.kept(slot)).map(|kept| kept.held.clone()).unwrap_or_default()
    }
}
