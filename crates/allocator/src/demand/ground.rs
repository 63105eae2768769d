//! What demands need of the rest of the allocator, in one place.

use holm_model::{AgentId, FrameworkId, Placement, Portions, Resources, Role};

use crate::Allocator;
use crate::constraints::ConstraintId;
use crate::roles::{Node, ROOT};
use crate::willing::{Notes, Pass, Visit};

/// A framework in a role.
pub(crate) type Leaf = Node;
/// An agent.
pub(crate) type Slot = crate::stock::Slot;

#[cfg(test)]
pub(crate) fn slot(number: u32) -> Slot {
    number
}

#[cfg(test)]
pub(crate) fn leaf(number: u32) -> Leaf {
    number
}

impl Allocator {
    pub(super) fn leaf_of(&self, framework: FrameworkId, role: &Role) -> Option<Leaf> {
        self.roles.leaf(framework, role)
    }

    pub(super) fn owner_of(&self, leaf: Leaf) -> Option<(FrameworkId, Role)> {
        self.roles.owner(leaf).map(|(framework, role)| (framework, role.clone()))
    }

    pub(super) fn is_waiting(&self, leaf: Leaf) -> bool {
        self.roles.node(leaf).is_wanting()
    }

    /// Whether two leaves are of one role.
    pub(super) fn are_siblings(&self, one: Leaf, other: Leaf) -> bool {
        one != other && self.roles.role_of(one) == self.roles.role_of(other)
    }

    /// The other leaves of a leaf's role.
    pub(super) fn siblings_of(&self, leaf: Leaf) -> Vec<Leaf> {
        self.roles.all_leaves().filter(|other| self.are_siblings(leaf, *other)).collect()
    }

    /// The first leaf in order that `visit` takes, with what it makes of it.
    pub(super) fn first_leaf<T>(&self, mut visit: impl FnMut(Leaf) -> Option<T>) -> Option<T> {
        self.roles.find(ROOT, &|_| true, &mut visit)
    }

    pub(super) fn slot_of(&self, agent: AgentId) -> Option<Slot> {
        self.stock.find(agent)
    }

    pub(super) fn agent_of(&self, slot: Slot) -> Option<AgentId> {
        self.stock.id(slot)
    }

    /// The active agents.
    pub(super) fn active_slots(&self) -> Vec<Slot> {
        self.stock.slots().filter(|slot| self.stock.is_active(*slot)).collect()
    }

    /// The agents with something to offer.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = Slot> {
        self.open.iter().copied()
    }

    /// Whether a leaf may be offered an agent at all: its role's constraints, and what is scarce there.
    pub(super) fn admits(&self, leaf: Leaf, slot: Slot) -> bool {
        let options = &self.leaves[leaf as usize];
        let scarce = self.able > 0 && !options.abilities.gpus && self.stock.classes.is_scarce(self.stock.class(slot));
        !scarce && self.constraint_holds(options.constraint, slot)
    }

    pub(super) fn constraint_holds(&self, constraint: ConstraintId, slot: Slot) -> bool {
        let attributes = self.stock.classes.attributes(self.stock.class(slot));
        self.constraints.evaluate(constraint, attributes, self.stock.hostname(slot))
    }

    /// What is free on an agent and may be granted to a leaf, limits and guarantees of others applied.
    pub(crate) fn available_for(&self, leaf: Leaf, slot: Slot) -> Option<Portions> {
        self.available(leaf, slot)
    }

    pub(super) fn available(&self, leaf: Leaf, slot: Slot) -> Option<Portions> {
        if !self.stock.is_active(slot) {
            return None;
        }
        let free = self.stock.free(slot);
        let visit = Visit::new(self, &self.roles, slot, Pass::Share, &free);
        visit.grantable(leaf, &mut Notes::default()).map(|bundle| self.stock.portions(&bundle))
    }

    /// What a leaf might be granted on an agent that is empty.
    pub(super) fn usable(&self, leaf: Leaf, slot: Slot) -> Portions {
        let total = self.stock.portions(&self.stock.total(slot));
        self.roles.role_of(leaf).map(|role| total.usable_by(role)).unwrap_or_default()
    }

    /// Whether a filter holds back a part of what is free on an agent.
    pub(super) fn filters_out(&self, leaf: Leaf, slot: Slot, part: &Resources) -> bool {
        let bundle = self.stock.split(&Portions::unreserved(part.clone()));
        self.filters.refuses(slot, leaf, &bundle)
    }

    pub(super) fn placement_of(&self, leaf: Leaf) -> Placement {
        self.leaves[leaf as usize].placement
    }

    /// Whether the limits on a leaf leave room for so much more.
    pub(super) fn is_within_limits(&self, leaf: Leaf, more: &Resources) -> bool {
        let amounts = self.stock.names.amounts(more);
        self.roles.rooms(leaf).iter().all(|room| u128::from(amounts[room.resource]) <= room.left)
    }

    /// How much is free on an agent, as a share of the cluster.
    pub(super) fn share_of_free(&self, slot: Slot) -> u64 {
        self.roles.share_of(&self.stock.free_plain(slot))
    }

    /// Everything that the cluster has.
    pub(super) fn cluster(&self) -> Resources {
        let of = |r| u64::try_from(self.roles.capacity(r)).unwrap_or(u64::MAX);
        let scalars = self.stock.names.ordered().filter(|(r, _)| *r < self.stock.names.len());
        Resources::scalars(scalars.map(|(r, name)| (name.clone(), of(r))).collect::<Vec<_>>())
    }

    pub(super) fn charge_portions(&mut self, slot: Slot, leaf: Leaf, portions: &Portions, is_grant: bool) -> bool {
        let bundle = self.stock.split(portions);
        let charged = self.charge(slot, leaf, &bundle, is_grant).is_ok();
        if charged && is_grant {
            self.granted += 1;
            self.stock.note_grant(slot, self.granted);
        }
        charged
    }

    /// Takes off a leaf what it was charged before.
    pub(super) fn release_portions(&mut self, slot: Slot, leaf: Leaf, portions: &Portions) {
        let agent = self.stock.id(slot);
        if let (Some((framework, role)), Some(agent), false) = (self.owner_of(leaf), agent, portions.is_empty()) {
            let released = self.release(framework, &role, agent, portions);
            debug_assert!(released.is_ok());
        }
    }
}
