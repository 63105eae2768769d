//! Serving demands: what a visit of an agent gives to a leaf that is by demand.

use holm_model::{Demand, DemandId, FrameworkId, Portions, Resources, Role, Time};

use super::ground::{Leaf, Slot};
use super::plan::{self, Spot};
use super::{Entry, Served};
use crate::constraints::{ConstraintId, PatternError};
use crate::{Allocator, FrameworkError, Grant};

/// What a leaf takes at one visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Which of the leaf's demands it serves.
    pub(crate) number: u64,
    /// Where, and how many bundles; several agents for a gang only.
    pub(crate) parts: Vec<(Slot, u32)>,
}

impl Allocator {
    /// Replaces what a framework wants in a role; from now on the role is by demand, until
    /// [`Allocator::forget_demands`].
    ///
    /// # Errors
    /// The framework or the role is not known, or a pattern is refused; then nothing has changed.
    pub fn set_demands(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        demands: Vec<Demand>,
        now: Time,
    ) -> Result<(), DemandsError> {
        crate::check_patterns(demands.iter().map(|demand| &demand.constraints))?;
        let subscription = self.frameworks.get(&framework).ok_or(FrameworkError::Unknown(framework))?;
        if !subscription.roles.contains_key(role) {
            return Err(FrameworkError::NotSubscribed { framework, role: role.clone() }.into());
        }
        let leaf = self.ensure_leaf(framework, role);
        let mut stated = Vec::with_capacity(demands.len());
        for demand in demands {
            let constraint = self.constraints.acquire(&demand.constraints)?;
            stated.push((demand, constraint));
        }
        let released = self.demands.state(leaf, stated, now);
        self.release_constraints(released);
        self.review_reservation(leaf, now);
        self.demand_changed(framework, role, leaf);
        Ok(())
    }

    /// The framework's roles are by demand only where their options say so, and then without demands: it subscribes anew.
    pub fn forget_demands(&mut self, framework: FrameworkId) {
        let roles = self.frameworks.get(&framework).map(|of| of.roles.keys().cloned().collect::<Vec<_>>());
        for role in roles.into_iter().flatten() {
            let Some(leaf) = self.leaf_of(framework, &role) else { continue };
            self.forget_leaf(leaf);
            self.demand_changed(framework, &role, leaf);
        }
    }

    /// Nothing is left of what a leaf wanted.
    pub(crate) fn forget_leaf(&mut self, leaf: Leaf) {
        self.end_reservation(leaf);
        let released = self.demands.forget(leaf);
        self.release_constraints(released);
    }

    fn release_constraints(&mut self, released: Vec<ConstraintId>) {
        released.into_iter().for_each(|constraint| self.constraints.release(constraint));
    }

    /// Offered bundles of a demand have come back, except `launched` of them.
    pub fn settle_demand(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        demand: &DemandId,
        bundles: u32,
        launched: u32,
    ) {
        let Some(leaf) = self.leaf_of(framework, role) else { return };
        self.demands.settled(leaf, demand, bundles, launched);
        self.demand_changed(framework, role, leaf);
    }

    /// Brings a leaf in line with what it wants.
    fn demand_changed(&mut self, framework: FrameworkId, role: &Role, leaf: Leaf) {
        self.wanting_changed(framework, role);
        if self.demands.wants(leaf) {
            self.interest(leaf, 0);
        }
        self.rank_changed(leaf);
    }

    /// A leaf may stand in the way of others of its role no longer.
    pub(crate) fn rank_changed(&mut self, leaf: Leaf) {
        if self.demands.is_ranked() {
            self.siblings_of(leaf).into_iter().for_each(|sibling| self.interest(sibling, 0));
        }
    }

    /// Whether an agent satisfies a demand's own constraints.
    pub(crate) fn suits(&self, entry: &Entry, slot: Slot) -> bool {
        self.constraint_holds(entry.constraint, slot)
    }

    /// What a leaf that is by demand takes of what it could have on an agent: its first demand in order of priority of which
    /// something fits, unless somebody in its role has a more urgent one that fits too.
    pub(crate) fn choose_demand(&self, leaf: Leaf, slot: Slot, available: &Resources, draws: u64) -> Option<Choice> {
        let book = self.demands.book(leaf)?;
        for entry in book.wanting().filter(|entry| self.suits(entry, slot)) {
            let parts = if entry.demand.gang {
                self.plan_gang(leaf, entry, draws).filter(|parts| parts.iter().any(|(part, _)| *part == slot))
            } else {
                let bundles = entry.bundle.fits(available, entry.wanted());
                let part = entry.bundle.part_of(available, bundles).filter(|_| bundles >= entry.least());
                part.filter(|part| !self.filters_out(leaf, slot, part)).map(|_| vec![(slot, bundles)])
            };
            if let Some(parts) = parts {
                let outranked = self.is_outranked(leaf, entry.demand.priority, slot, || available.clone());
                return (!outranked).then_some(Choice { number: entry.number, parts });
            }
        }
        None
    }

    /// Whether another framework of a leaf's role has a demand of a higher priority that fits on an agent.
    pub(crate) fn is_outranked(
        &self,
        leaf: Leaf,
        priority: i32,
        slot: Slot,
        available: impl FnOnce() -> Resources,
    ) -> bool {
        if !self.demands.is_ranked() || self.demands.highest() <= priority {
            return false;
        }
        let available = &available();
        self.demands.iter().any(|(other, book)| {
            let sibling = self.are_siblings(leaf, other) && self.is_waiting(other);
            let urgent = book.wanting().take_while(|entry| entry.demand.priority > priority);
            sibling
                && self.admits(other, slot)
                && urgent.into_iter().any(|entry| {
                    let fits = entry.bundle.fits(available, entry.wanted());
                    let part = entry.bundle.part_of(available, fits).filter(|_| fits >= entry.least());
                    let takes = part.is_some_and(|part| !self.filters_out(other, slot, &part));
                    takes && !entry.demand.gang && self.suits(entry, slot)
                })
        })
    }

    /// Finds out which gangs fit nowhere, so that no visit has to.
    pub(crate) fn scout_gangs(&mut self) {
        let mut missed = Vec::new();
        for (leaf, book) in self.demands.iter().filter(|(leaf, _)| self.is_waiting(*leaf)) {
            let gangs =
                book.wanting().filter(|entry| entry.demand.gang && !self.demands.has_missed(leaf, entry.number));
            let misses = gangs.filter(|entry| self.plan_gang(leaf, entry, 0).is_none());
            missed.extend(misses.map(|entry| (leaf, entry.number)));
        }
        missed.into_iter().for_each(|(leaf, number)| self.demands.miss(leaf, number));
    }

    /// All of a gang over the open agents, or nothing.
    fn plan_gang(&self, leaf: Leaf, entry: &Entry, draws: u64) -> Option<Vec<(Slot, u32)>> {
        if self.demands.has_missed(leaf, entry.number) {
            return None;
        }
        let wanted = entry.wanted();
        let spots = self.open_slots().filter(|slot| self.admits(leaf, *slot) && self.suits(entry, *slot));
        let spots = spots.filter_map(|slot| {
            let available = self.available(leaf, slot)?;
            let fits = entry.bundle.fits(&available.total(), wanted);
            let part = entry.bundle.part_of(&available.total(), fits)?;
            (!self.filters_out(leaf, slot, &part)).then_some(())?;
            Some(Spot { agent: slot, fits, spares: false, free: self.share_of_free(slot) })
        });
        let placement = self.placement_of(leaf);
        plan::gang(spots.collect(), (entry.least(), wanted), placement, &mut plan::Draws::new(draws))
    }

    /// Grants what was chosen: every part is charged at once. Nothing is granted when a part cannot be after all.
    pub(crate) fn grant_choice(&mut self, leaf: Leaf, choice: &Choice, now: Time) -> Vec<Grant> {
        let Some(entry) = self.demands.book(leaf).and_then(|book| book.by_number(choice.number)).cloned() else {
            return Vec::new();
        };
        let mut charged: Vec<(Slot, Portions, u32)> = Vec::with_capacity(choice.parts.len());
        for (slot, bundles) in &choice.parts {
            match self.charge_part(leaf, &entry, *slot, *bundles) {
                Some(portions) => charged.push((*slot, portions, *bundles)),
                None => {
                    charged.iter().for_each(|(slot, portions, _)| self.release_portions(*slot, leaf, portions));
                    return Vec::new();
                }
            }
        }
        let gang = entry.demand.gang.then(|| self.demands.next_gang());
        let total = charged.iter().map(|(.., bundles)| bundles).sum();
        self.demands.granted(leaf, entry.number, total, now);
        self.served(leaf, now);
        self.grants(leaf, &entry, charged, gang)
    }

    /// A leaf was granted something: it may want nothing more, and what is kept for it may not be needed.
    pub(crate) fn served(&mut self, leaf: Leaf, now: Time) {
        self.review_reservation(leaf, now);
        if let Some((framework, role)) = self.owner_of(leaf) {
            self.demand_changed(framework, &role, leaf);
        }
    }

    fn charge_part(&mut self, leaf: Leaf, entry: &Entry, slot: Slot, bundles: u32) -> Option<Portions> {
        let available = self.available(leaf, slot)?;
        let part = entry.bundle.part_of(&available.total(), bundles)?;
        let (_, role) = self.owner_of(leaf)?;
        let portions = available.choose(&role, &part, &[]).ok()?;
        self.charge_portions(slot, leaf, &portions, true).then_some(portions)
    }

    /// What a choice comes to on one of its agents.
    pub(crate) fn part_of(&self, leaf: Leaf, slot: Slot, choice: &Choice, available: &Portions) -> Option<Portions> {
        let entry = self.demands.book(leaf)?.by_number(choice.number)?;
        let (_, bundles) = choice.parts.iter().find(|(part, _)| *part == slot)?;
        let part = entry.bundle.part_of(&available.total(), *bundles)?;
        available.choose(self.roles.role_of(leaf)?, &part, &[]).ok()
    }

    /// What was charged, as grants.
    pub(crate) fn grants(
        &self,
        leaf: Leaf,
        entry: &Entry,
        charged: Vec<(Slot, Portions, u32)>,
        gang: Option<u64>,
    ) -> Vec<Grant> {
        let Some((framework, role)) = self.owner_of(leaf) else { return Vec::new() };
        let grant = |(slot, portions, bundles): (Slot, Portions, u32)| {
            let served = Served {
                demand: entry.demand.id.clone(),
                bundle: entry.bundle.clone(),
                bundles,
                max_duration: entry.demand.max_duration,
            };
            let agent = self.agent_of(slot)?;
            Some(Grant { framework, role: role.clone(), agent, portions, served: Some(served), gang })
        };
        charged.into_iter().filter_map(grant).collect()
    }
}

/// Why demands were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandsError {
    /// The framework is not known, or not in that role.
    #[error(transparent)]
    Framework(#[from] FrameworkError),
    /// A pattern is refused.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}
