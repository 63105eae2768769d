//! What each agent has, what of it is in use, by whom, and what is free.
//!
//! Agents have slots; the counted scalars that nobody reserved lie in plain arrays, slot by slot. What few agents have, or
//! what is seldom looked at (ports, sets, reservations, volumes, revocable resources), is kept aside in [`Cold`].

mod classes;
mod cold;

use std::sync::Arc;

use holm_model::{AgentId, Attributes, Origin, Portions, Quantity, ResourceName, Resources, ResourcesError, Role};

use crate::ChargeError;
use crate::lookup::Lookup;
use crate::names::{Amounts, GPUS, MAX_SCALARS, NOTHING, Names};
use crate::roles::Node;
use classes::Classes;
use cold::Cold;

/// The place of an agent in the arrays.
pub(crate) type Slot = u32;

/// What an agent has and says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStock {
    /// Everything it has, by origin.
    pub portions: Portions,
    /// What constraints are about; agents with equal attributes form a class.
    pub attributes: Attributes,
    /// Its host name.
    pub hostname: Arc<str>,
}

/// Resources of one agent, as the allocator computes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// The counted scalars that nobody reserved.
    pub(crate) plain: Amounts,
    /// Everything else.
    pub(crate) rest: Portions,
}

impl Bundle {
    pub(crate) const EMPTY: Bundle = Bundle { plain: NOTHING, rest: Portions::EMPTY };

    pub(crate) fn is_empty(&self) -> bool {
        self.plain == NOTHING && self.rest.is_empty()
    }

    pub(crate) fn contains(&self, other: &Bundle) -> bool {
        let enough = self.plain.iter().zip(&other.plain).all(|(have, asked)| have >= asked);
        enough && (other.rest.is_empty() || self.rest == other.rest || self.rest.contains(&other.rest))
    }
}

/// What leaves hold on one agent: leaf by leaf, and as many amounts each as there are names.
#[derive(Clone, Debug, Default)]
struct Held {
    leaves: Vec<Node>,
    plain: Vec<u64>,
}

/// The books of all agents.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    pub(crate) names: Names,
    slots: Lookup<AgentId, Slot>,
    /// By slot; `None` for one that is free for the next agent.
    ids: Vec<Option<AgentId>>,
    vacant: Vec<Slot>,
    total: Vec<u64>,
    in_use: Vec<u64>,
    held: Vec<Held>,
    cold: Vec<Option<Box<Cold>>>,
    active: Vec<bool>,
    class: Vec<u32>,
    hostname: Vec<Arc<str>>,
    /// The number of the last grant; zero for none.
    last_grant: Vec<u64>,
    pub(crate) classes: Classes,
    /// The plain scalars that are free on active agents, together.
    spare: [u128; MAX_SCALARS],
}

impl Stock {
    pub(crate) fn new() -> Stock {
        Stock {
            names: Names::new(),
            slots: Lookup::default(),
            ids: Vec::new(),
            vacant: Vec::new(),
            total: Vec::new(),
            in_use: Vec::new(),
            held: Vec::new(),
            cold: Vec::new(),
            active: Vec::new(),
            class: Vec::new(),
            hostname: Vec::new(),
            last_grant: Vec::new(),
            classes: Classes::default(),
            spare: [0; MAX_SCALARS],
        }
    }

    fn width(&self) -> usize {
        self.names.len()
    }

    /// The slot of an agent.
    pub(crate) fn find(&self, agent: AgentId) -> Option<Slot> {
        self.slots.get(&agent).copied()
    }

    /// The agent of a slot.
    pub(crate) fn id(&self, slot: Slot) -> Option<AgentId> {
        self.ids[slot as usize]
    }

    /// The slots that are in use.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0u32..).zip(&self.ids).filter(|(_, id)| id.is_some()).map(|(slot, _)| slot)
    }

    /// How many slots there are, vacant ones included.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn is_active(&self, slot: Slot) -> bool {
        self.active[slot as usize]
    }

    pub(crate) fn class(&self, slot: Slot) -> u32 {
        self.class[slot as usize]
    }

    pub(crate) fn hostname(&self, slot: Slot) -> &Arc<str> {
        &self.hostname[slot as usize]
    }

    pub(crate) fn last_grant(&self, slot: Slot) -> u64 {
        self.last_grant[slot as usize]
    }

    pub(crate) fn note_grant(&mut self, slot: Slot, number: u64) {
        self.last_grant[slot as usize] = number;
    }

    pub(crate) fn cold(&self, slot: Slot) -> Option<&Cold> {
        self.cold[slot as usize].as_deref()
    }

    /// How much of a plain scalar is free on active agents.
    pub(crate) fn spare(&self, resource: usize) -> u128 {
        self.spare[resource]
    }

    /// Gives numbers to the names of scalars; tells whether there are more than before, so that other arrays widen too.
    pub(crate) fn intern(&mut self, portions: &Portions) -> bool {
        let before = self.width();
        for (name, _) in portions.iter().flat_map(|(_, resources)| resources.iter_scalars()) {
            self.names.intern(name);
        }
        self.widen(before)
    }

    /// Makes the arrays as wide as there are names now; they were `before` wide.
    pub(crate) fn widen(&mut self, before: usize) -> bool {
        let width = self.width();
        if width == before {
            return false;
        }
        let restride = |old: &Vec<u64>| {
            let mut wide = vec![0; old.len() / before * width];
            wide.chunks_mut(width).zip(old.chunks(before)).for_each(|(to, from)| to[..before].copy_from_slice(from));
            wide
        };
        self.total = restride(&self.total);
        self.in_use = restride(&self.in_use);
        self.held.iter_mut().for_each(|held| held.plain = restride(&held.plain));
        true
    }

    /// Portions as the allocator computes with them.
    pub(crate) fn split(&self, portions: &Portions) -> Bundle {
        let mut bundle = Bundle::EMPTY;
        for (origin, resources) in portions.iter() {
            if *origin != Origin::Unreserved {
                // A portion of a valid bundle can be added to an empty one.
                let _ = bundle.rest.add(origin.clone(), resources);
                continue;
            }
            let mut others = Resources::EMPTY;
            for (name, quantity) in resources.iter() {
                match (quantity, self.names.find(name)) {
                    (Quantity::Scalar(amount), Some(r)) => bundle.plain[r] = amount.0,
                    _ => others.set(name.clone(), quantity.clone()),
                }
            }
            if !others.is_empty() {
                bundle.rest = Portions::unreserved(others);
            }
        }
        bundle
    }

    /// The other way round.
    pub(crate) fn portions(&self, bundle: &Bundle) -> Portions {
        let plain = self.names.resources(&bundle.plain);
        if bundle.rest.is_empty() {
            return Portions::unreserved(plain);
        }
        let mut unreserved = bundle.rest.get(&Origin::Unreserved).cloned().unwrap_or_default();
        for (name, quantity) in plain.iter() {
            // Scalars that are numbered are nowhere else among the unreserved.
            unreserved.set(name.clone(), quantity.clone());
        }
        let mut portions = Portions::unreserved(unreserved);
        for (origin, resources) in bundle.rest.iter().filter(|(origin, _)| **origin != Origin::Unreserved) {
            // What lay beside each other in one bundle can in another.
            let _ = portions.add(origin.clone(), resources);
        }
        portions
    }

    /// All counted scalars of a bundle, whatever their origin.
    pub(crate) fn all(&self, bundle: &Bundle) -> Amounts {
        let mut all = bundle.plain;
        bundle.rest.iter().for_each(|(_, resources)| self.names.add_to(&mut all, resources));
        all
    }

    /// The revocable scalars of a bundle, if it has any.
    pub(crate) fn soft(&self, bundle: &Bundle) -> Option<Amounts> {
        let resources = if bundle.rest.is_empty() { None } else { bundle.rest.get(&Origin::Revocable) };
        resources.map(|resources| self.names.amounts(resources))
    }

    /// Opens the books of an agent; `None` when they are open already.
    pub(crate) fn insert(&mut self, agent: AgentId) -> Option<Slot> {
        if self.slots.contains_key(&agent) {
            return None;
        }
        let slot = self.vacant.pop().unwrap_or_else(|| {
            let width = self.width();
            self.ids.push(None);
            self.total.resize(self.ids.len() * width, 0);
            self.in_use.resize(self.ids.len() * width, 0);
            self.held.push(Held::default());
            self.cold.push(None);
            self.active.push(false);
            self.class.push(Classes::NONE);
            self.hostname.push("".into());
            self.last_grant.push(0);
            Slot::try_from(self.ids.len() - 1).expect("far fewer than 2^32 agents fit memory")
        });
        self.ids[slot as usize] = Some(agent);
        self.slots.insert(agent, slot);
        Some(slot)
    }

    /// Closes the books of an agent that holds and has nothing any more.
    pub(crate) fn remove(&mut self, slot: Slot) -> Vec<(Node, Bundle)> {
        let held: Vec<_> = self.holders(slot).map(|leaf| (leaf, self.held(slot, leaf))).collect();
        self.set_active(slot, false);
        let range = self.range(slot);
        self.total[range.clone()].fill(0);
        self.in_use[range].fill(0);
        self.held[slot as usize] = Held::default();
        self.cold[slot as usize] = None;
        self.classes.release(std::mem::replace(&mut self.class[slot as usize], Classes::NONE));
        self.last_grant[slot as usize] = 0;
        if let Some(id) = self.ids[slot as usize].take() {
            self.slots.remove(&id);
        }
        self.vacant.push(slot);
        held
    }

    /// Sets whether an agent's free part may be granted; tells what it was before.
    pub(crate) fn set_active(&mut self, slot: Slot, active: bool) -> bool {
        let before = std::mem::replace(&mut self.active[slot as usize], active);
        if before != active {
            for (r, free) in self.free_plain(slot).into_iter().enumerate() {
                let spare = &mut self.spare[r];
                *spare = if active { *spare + u128::from(free) } else { *spare - u128::from(free) };
            }
        }
        before
    }

    /// Replaces what an agent has and says of itself; tells whether its class or host name is another.
    pub(crate) fn replace(&mut self, slot: Slot, stock: &AgentStock) -> bool {
        let bundle = self.split(&stock.portions);
        let active = self.set_active(slot, false);
        let range = self.range(slot);
        let width = self.width();
        self.total[range].copy_from_slice(&bundle.plain[..width]);
        let cold = &mut self.cold[slot as usize];
        match cold {
            Some(cold) => cold.replace(bundle.rest),
            None if bundle.rest.is_empty() => {}
            None => *cold = Some(Box::new(Cold::of(bundle.rest))),
        }
        self.set_active(slot, active);
        let scarce = self.all(&self.total(slot))[GPUS] > 0;
        let class = self.classes.acquire(&stock.attributes, scarce);
        let before = std::mem::replace(&mut self.class[slot as usize], class);
        self.classes.release(before);
        let renamed = self.hostname[slot as usize] != stock.hostname;
        self.hostname[slot as usize] = Arc::clone(&stock.hostname);
        before != class || renamed
    }

    /// Everything an agent has.
    pub(crate) fn total(&self, slot: Slot) -> Bundle {
        let mut bundle = Bundle::EMPTY;
        let width = self.width();
        bundle.plain[..width].copy_from_slice(&self.total[self.range(slot)]);
        if let Some(cold) = self.cold(slot) {
            bundle.rest = cold.total().clone();
        }
        bundle
    }

    /// The plain scalars that are free on an agent.
    pub(crate) fn free_plain(&self, slot: Slot) -> Amounts {
        let mut free = NOTHING;
        let range = self.range(slot);
        let (total, in_use) = (&self.total[range.clone()], &self.in_use[range]);
        for (free, (total, in_use)) in free.iter_mut().zip(total.iter().zip(in_use)) {
            *free = total.saturating_sub(*in_use);
        }
        free
    }

    /// Everything that is free on an agent.
    pub(crate) fn free(&self, slot: Slot) -> Bundle {
        Bundle {
            plain: self.free_plain(slot),
            rest: self.cold(slot).map_or(Portions::EMPTY, |cold| cold.free().clone()),
        }
    }

    /// The leaves that hold something on an agent.
    pub(crate) fn holders(&self, slot: Slot) -> impl Iterator<Item = Node> {
        let plain = self.held[slot as usize].leaves.iter().copied();
        let others = self.cold(slot).into_iter().flat_map(Cold::holders);
        plain.clone().chain(others.filter(move |leaf| !plain.clone().any(|other| other == *leaf)))
    }

    /// What a leaf holds on an agent.
    pub(crate) fn held(&self, slot: Slot, leaf: Node) -> Bundle {
        let mut bundle = Bundle::EMPTY;
        let (held, width) = (&self.held[slot as usize], self.width());
        if let Some(place) = held.leaves.iter().position(|other| *other == leaf) {
            bundle.plain[..width].copy_from_slice(&held.plain[place * width..][..width]);
        }
        if let Some(cold) = self.cold(slot) {
            bundle.rest = cold.held(leaf).cloned().unwrap_or_default();
        }
        bundle
    }

    /// Moves resources of an agent to a leaf; tells whether it is the first thing the leaf holds there.
    pub(crate) fn charge(&mut self, slot: Slot, leaf: Node, bundle: &Bundle) -> Result<bool, ChargeError> {
        let Some(agent) = self.id(slot) else { return Ok(false) };
        let range = self.range(slot);
        let mut sums = NOTHING;
        for (r, used) in self.in_use[range.clone()].iter().enumerate() {
            let overflow = || ChargeError::Overflow { agent, name: self.names.name(r).clone() };
            sums[r] = used.checked_add(bundle.plain[r]).ok_or_else(overflow)?;
        }
        let held_before = self.holds(slot, leaf);
        if !bundle.rest.is_empty() {
            let cold = self.cold[slot as usize].get_or_insert_with(|| Box::new(Cold::of(Portions::EMPTY)));
            cold.charge(leaf, &bundle.rest).map_err(|problem| problem.charging(agent))?;
        }
        self.set_in_use(slot, &sums);
        let width = self.width();
        if bundle.plain != NOTHING {
            let held = &mut self.held[slot as usize];
            let place = held.leaves.iter().position(|other| *other == leaf).unwrap_or_else(|| {
                held.leaves.push(leaf);
                held.plain.resize(held.leaves.len() * width, 0);
                held.leaves.len() - 1
            });
            let mine = &mut held.plain[place * width..][..width];
            mine.iter_mut().zip(&bundle.plain).for_each(|(mine, more)| *mine += more);
        }
        Ok(!held_before)
    }

    /// Takes resources of an agent off a leaf; tells whether it was the last thing the leaf held there.
    pub(crate) fn release(&mut self, slot: Slot, leaf: Node, bundle: &Bundle) -> Result<bool, ResourcesError> {
        let width = self.width();
        let held = &self.held[slot as usize];
        let place = held.leaves.iter().position(|other| *other == leaf);
        let mine = place.map_or(&NOTHING[..width], |place| &held.plain[place * width..][..width]);
        if mine.iter().zip(&bundle.plain).any(|(have, asked)| have < asked) {
            let (have, asked) = (self.names.resources(mine), self.names.resources(&bundle.plain));
            return have.minus(&asked).map(|_| false);
        }
        if !bundle.rest.is_empty() {
            let name = || bundle.rest.total().iter().next().map_or(ResourceName::Ports, |(name, _)| name.clone());
            let missing = || ResourcesError::Kind(name());
            self.cold[slot as usize].as_deref_mut().ok_or_else(missing)?.release(leaf, &bundle.rest)?;
        }
        let mut sums = NOTHING;
        for (r, used) in self.in_use[self.range(slot)].iter().enumerate() {
            sums[r] = used - bundle.plain[r];
        }
        self.set_in_use(slot, &sums);
        let held = &mut self.held[slot as usize];
        if let Some(place) = place {
            let mine = &mut held.plain[place * width..][..width];
            mine.iter_mut().zip(&bundle.plain).for_each(|(mine, less)| *mine -= less);
            if mine.iter().all(|left| *left == 0) {
                let last = held.leaves.len() - 1;
                held.leaves.swap_remove(place);
                held.plain.copy_within(last * width.., place * width);
                held.plain.truncate(last * width);
            }
        }
        Ok(!self.holds(slot, leaf))
    }

    /// What is reserved on an agent and not in use, by role.
    pub(crate) fn idle(&self, slot: Slot) -> Vec<(Role, Amounts)> {
        let Some(cold) = self.cold(slot).filter(|cold| cold.has_reserved()) else { return Vec::new() };
        let mut idle: Vec<(Role, Amounts)> = Vec::new();
        for (origin, resources) in cold.free().iter() {
            let Some(reservation) = origin.reservation() else { continue };
            match idle.iter_mut().find(|(role, _)| role == reservation.role()) {
                Some((_, amounts)) => self.names.add_to(amounts, resources),
                None => idle.push((reservation.role().clone(), self.names.amounts(resources))),
            }
        }
        idle
    }

    /// Whether an agent's parts add up.
    pub(crate) fn adds_up(&self, slot: Slot) -> bool {
        let mut sum = NOTHING;
        for chunk in self.held[slot as usize].plain.chunks(self.width()) {
            sum.iter_mut().zip(chunk).for_each(|(sum, more)| *sum += more);
        }
        sum[..self.width()] == self.in_use[self.range(slot)] && self.cold(slot).is_none_or(Cold::adds_up)
    }

    /// Whether the sum of what is spare is right.
    pub(crate) fn spare_adds_up(&self) -> bool {
        let mut sums = [0u128; MAX_SCALARS];
        for slot in self.slots().filter(|slot| self.is_active(*slot)) {
            sums.iter_mut().zip(self.free_plain(slot)).for_each(|(sum, free)| *sum += u128::from(free));
        }
        sums == self.spare
    }

    fn holds(&self, slot: Slot, leaf: Node) -> bool {
        let cold = self.cold(slot).is_some_and(|cold| cold.held(leaf).is_some());
        cold || self.held[slot as usize].leaves.contains(&leaf)
    }

    fn set_in_use(&mut self, slot: Slot, sums: &Amounts) {
        let range = self.range(slot);
        for (r, at) in range.enumerate() {
            let (total, before) = (self.total[at], self.in_use[at]);
            self.in_use[at] = sums[r];
            if self.active[slot as usize] {
                let (was, is) = (total.saturating_sub(before), total.saturating_sub(sums[r]));
                self.spare[r] = self.spare[r] + u128::from(is) - u128::from(was);
            }
        }
    }

    fn range(&self, slot: Slot) -> std::ops::Range<usize> {
        let width = self.width();
        slot as usize * width..(slot as usize + 1) * width
    }
}

#[cfg(test)]
mod tests;
