//! Frameworks: in which roles, what they can use, what they want.

use std::collections::BTreeMap;

use holm_model::{FrameworkId, Placement, Role, RoleOptions};

use crate::Allocator;
use crate::constraints::{ConstraintId, PatternError};
use crate::error::FrameworkError;
use crate::roles::Node;

/// What a framework can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameworkAbilities {
    /// Resources that may be taken back at any time.
    pub revocable: bool,
    /// `gpus`. Agents that have them are kept for frameworks that can use them, as long as one of those wants offers.
    pub gpus: bool,
}

/// A framework in one role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    /// It wants no offers for now.
    pub(crate) suppressed: bool,
}

/// A framework's subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscription {
    /// Whether it is connected.
    pub(crate) active: bool,
    pub(crate) roles: BTreeMap<Role, Membership>,
}

/// What a run asks of a leaf, beside what is in the tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeafOptions {
    pub(crate) constraint: ConstraintId,
    /// The least that is worth an offer to it; empty: what is for everybody.
    pub(crate) minimum: Vec<(usize, u64)>,
    pub(crate) placement: Placement,
    pub(crate) abilities: FrameworkAbilities,
}

impl Allocator {
    /// Subscribes a framework, connected, to exactly `roles`. For one that is known already, roles it keeps stay as
    /// suppressed as they were, and what it holds in roles it gave up stays charged until released.
    ///
    /// # Errors
    /// A pattern of the roles' constraints that [`check_patterns`](crate::check_patterns) would refuse; then nothing has
    /// changed.
    pub fn add_framework(
        &mut self,
        framework: FrameworkId,
        roles: &BTreeMap<Role, RoleOptions>,
        abilities: FrameworkAbilities,
    ) -> Result<(), PatternError> {
        crate::check_patterns(roles.values().map(|options| &options.constraints))?;
        let before = self.frameworks.remove(&framework).unwrap_or_default();
        let membership = |role: &Role| {
            let suppressed = before.roles.get(role).is_some_and(|kept| kept.suppressed);
            (role.clone(), Membership { suppressed })
        };
        let subscription = Subscription { active: true, roles: roles.keys().map(membership).collect() };
        self.frameworks.insert(framework, subscription);
        for role in before.roles.keys().filter(|role| !roles.contains_key(*role)) {
            self.wanting_changed(framework, role);
        }
        for (role, options) in roles {
            let leaf = self.ensure_leaf(framework, role);
            self.set_options(leaf, options, abilities)?;
            self.wanting_changed(framework, role);
        }
        Ok(())
    }

    /// Takes over what a leaf is asked with; it may want now what it could not have before.
    fn set_options(
        &mut self,
        leaf: Node,
        options: &RoleOptions,
        abilities: FrameworkAbilities,
    ) -> Result<(), PatternError> {
        let constraint = self.constraints.acquire(&options.constraints)?;
        let before = self.stock.names.len();
        let mut minimum = Vec::new();
        for (name, amount) in options.minimum.iter_scalars() {
            minimum.extend(self.stock.names.intern(name).map(|r| (r, amount.0)));
        }
        self.widen(before);
        let place = &mut self.leaves[leaf as usize];
        let same = place.constraint == constraint && place.minimum == minimum && place.abilities == abilities;
        let is_wanting = self.roles.node(leaf).is_wanting();
        let old =
            std::mem::replace(place, LeafOptions { constraint, minimum, placement: options.placement, abilities });
        self.constraints.release(old.constraint);
        let moves = |placement| usize::from(placement != Placement::Spread);
        self.movers = self.movers + moves(options.placement) - moves(old.placement);
        if is_wanting {
            self.able = self.able + usize::from(abilities.gpus) - usize::from(old.abilities.gpus);
            if self.able == 0 && old.abilities.gpus {
                self.interest(crate::roles::ROOT, 0);
            }
        }
        if !same {
            self.interest(leaf, 0);
        }
        Ok(())
    }

    /// Ends a framework's subscription: no more grants, no more filters. What it still holds (tasks that are being
    /// killed) stays in use until it is released.
    ///
    /// # Errors
    /// [`FrameworkError::Unknown`].
    pub fn remove_framework(&mut self, framework: FrameworkId) -> Result<(), FrameworkError> {
        let subscription = self.frameworks.remove(&framework).ok_or(FrameworkError::Unknown(framework))?;
        for role in subscription.roles.keys() {
            self.wanting_changed(framework, role);
        }
        Ok(())
    }

    /// Sets whether a framework is connected. A disconnected one gets no grants and loses its filters; what it holds stays
    /// charged, and what it suppressed stays suppressed.
    ///
    /// # Errors
    /// [`FrameworkError::Unknown`].
    pub fn set_framework_active(&mut self, framework: FrameworkId, active: bool) -> Result<(), FrameworkError> {
        self.frameworks.get_mut(&framework).ok_or(FrameworkError::Unknown(framework))?.active = active;
        for role in self.roles_of(framework) {
            self.wanting_changed(framework, &role);
        }
        Ok(())
    }

    /// Stops offers to a framework in `roles`, or in all its roles when the list is empty. Filters stay.
    ///
    /// # Errors
    /// The framework or a role that is not known; then nothing is suppressed.
    pub fn suppress(&mut self, framework: FrameworkId, roles: &[Role]) -> Result<(), FrameworkError> {
        for role in self.set_suppressed(framework, roles, true)? {
            self.wanting_changed(framework, &role);
        }
        Ok(())
    }

    /// Resumes offers to a framework in `roles`, or in all its roles when the list is empty, and forgets what it refused
    /// in them, whether it was suppressed or not.
    ///
    /// # Errors
    /// The framework or a role that is not known; then nothing is revived.
    pub fn revive(&mut self, framework: FrameworkId, roles: &[Role]) -> Result<(), FrameworkError> {
        for role in self.set_suppressed(framework, roles, false)? {
            self.wanting_changed(framework, &role);
            if let Some(leaf) = self.roles.leaf(framework, &role) {
                self.filters.clear_leaf(leaf);
                self.interest(leaf, 0);
            }
        }
        Ok(())
    }

    fn set_suppressed(
        &mut self,
        framework: FrameworkId,
        roles: &[Role],
        suppressed: bool,
    ) -> Result<Vec<Role>, FrameworkError> {
        let subscription = self.frameworks.get_mut(&framework).ok_or(FrameworkError::Unknown(framework))?;
        let unknown = roles.iter().find(|role| !subscription.roles.contains_key(*role));
        if let Some(role) = unknown {
            return Err(FrameworkError::NotSubscribed { framework, role: role.clone() });
        }
        let all = || subscription.roles.keys().cloned().collect();
        let roles: Vec<Role> = if roles.is_empty() { all() } else { roles.to_vec() };
        for role in &roles {
            if let Some(membership) = subscription.roles.get_mut(role) {
                membership.suppressed = suppressed;
            }
        }
        Ok(roles)
    }

    fn roles_of(&self, framework: FrameworkId) -> Vec<Role> {
        self.frameworks.get(&framework).map(|of| of.roles.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether a framework wants offers in a role; `None` when it is not connected or not subscribed to it.
    pub(crate) fn wish(&self, framework: FrameworkId, role: &Role) -> Option<bool> {
        let subscription = self.frameworks.get(&framework).filter(|of| of.active)?;
        let sated = |leaf| self.demands.is_by_demand(leaf) && !self.demands.wants(leaf);
        let sated = self.roles.leaf(framework, role).is_some_and(sated);
        subscription.roles.get(role).map(|membership| !membership.suppressed && !sated)
    }

    /// Brings a leaf in line with its framework's subscription.
    pub(crate) fn wanting_changed(&mut self, framework: FrameworkId, role: &Role) {
        let Some(leaf) = self.roles.leaf(framework, role) else { return };
        let wish = self.wish(framework, role);
        if wish.is_none() {
            self.filters.clear_leaf(leaf);
            self.forget_leaf(leaf);
        }
        let wanting = wish == Some(true);
        if !wanting {
            self.end_reservation(leaf);
        }
        self.rank_changed(leaf);
        if self.roles.set_wanting(leaf, wanting) {
            self.filters.recount();
            if self.leaves[leaf as usize].abilities.gpus {
                self.able = if wanting { self.able + 1 } else { self.able - 1 };
            }
            if wanting {
                self.interest(leaf, 0);
            } else if self.able == 0 && self.leaves[leaf as usize].abilities.gpus {
                // Nobody is left for whom agents with something scarce are kept.
                self.interest(crate::roles::ROOT, 0);
            }
        }
        self.prune(leaf);
    }

    /// Drops a leaf that nobody is subscribed to and that holds nothing.
    pub(crate) fn prune(&mut self, leaf: Node) {
        if self.roles.node(leaf).agents > 0 {
            return;
        }
        let Some((framework, role)) = self.roles.owner(leaf) else { return };
        let subscribed = self.frameworks.get(&framework).is_some_and(|of| of.roles.contains_key(role));
        if !subscribed {
            self.filters.clear_leaf(leaf);
            self.keen.remove(&leaf);
            let old = std::mem::take(&mut self.leaves[leaf as usize]);
            self.constraints.release(old.constraint);
            self.movers -= usize::from(old.placement != Placement::Spread);
            self.roles.remove(leaf);
        }
    }
}
