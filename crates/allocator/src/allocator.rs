//! The allocator: ledger, tree, filters and candidates kept in step.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use holm_model::{AgentId, Attributes, FrameworkId, Refusal, Resources, Role, Time};

use crate::candidates::{Candidates, Who};
use crate::error::{AgentError, ChargeError, FrameworkError, ReleaseError};
use crate::filters::Filters;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::share::{Capacity, DEFAULT_WEIGHT};
use crate::tree::{NodeId, Tree};

/// A framework's subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscription {
    /// Whether it is connected.
    pub(crate) active: bool,
    /// Its roles, and for which of them it wants no offers for now.
    pub(crate) suppressed: BTreeMap<Role, bool>,
}

/// Decides who is offered what. See the crate's documentation for the rule.
#[derive(Clone, Debug)]
pub struct Allocator {
    pub(crate) options: Options,
    pub(crate) capacity: Capacity,
    pub(crate) ledger: Ledger,
    pub(crate) tree: Tree,
    pub(crate) filters: Filters,
    pub(crate) candidates: Candidates,
    /// Agents that are active and have enough free to be worth an offer.
    pub(crate) open: BTreeSet<AgentId>,
    pub(crate) frameworks: BTreeMap<FrameworkId, Subscription>,
    pub(crate) weights: BTreeMap<Role, NonZeroU32>,
    /// How many grants were made.
    pub(crate) granted: u64,
}

impl Allocator {
    /// An allocator that knows nobody.
    pub fn new(options: Options) -> Allocator {
        Allocator {
            capacity: Capacity::new(options.excluded.clone()),
            options,
            ledger: Ledger::default(),
            tree: Tree::new(),
            filters: Filters::default(),
            candidates: Candidates::default(),
            open: BTreeSet::new(),
            frameworks: BTreeMap::new(),
            weights: BTreeMap::new(),
            granted: 0,
        }
    }

    /// Adds an agent with everything it has to offer. It is active at once.
    ///
    /// # Errors
    /// [`AgentError::Exists`]; an agent that comes back is updated or removed first.
    pub fn add_agent(&mut self, agent: AgentId, total: &Resources, attributes: &Attributes) -> Result<(), AgentError> {
        if !self.ledger.insert(agent, total.clone(), attributes.clone()) {
            return Err(AgentError::Exists(agent));
        }
        self.capacity.replace(&Resources::EMPTY, total);
        self.opened(agent, Who::Everyone);
        Ok(())
    }

    /// Replaces what an agent has and says of itself. What is in use stays in use: when it exceeds the new total, nothing
    /// is free until enough of it ends. Changed attributes drop the filters on the agent, since what was refused was
    /// another agent in the framework's eyes.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn update_agent(
        &mut self,
        agent: AgentId,
        total: &Resources,
        attributes: &Attributes,
    ) -> Result<(), AgentError> {
        let before = self.ledger.replace(agent, total.clone(), attributes.clone());
        let (old_total, old_attributes) = before.ok_or(AgentError::Unknown(agent))?;
        if old_total == *total && old_attributes == *attributes {
            return Ok(());
        }
        self.capacity.replace(&old_total, total);
        if old_attributes != *attributes {
            self.filters.clear_agent(agent);
        }
        self.opened(agent, Who::Everyone);
        Ok(())
    }

    /// Forgets an agent, and with it everything held on it: nothing of it is to be released afterwards.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn remove_agent(&mut self, agent: AgentId) -> Result<(), AgentError> {
        let books = self.ledger.remove(agent).ok_or(AgentError::Unknown(agent))?;
        self.capacity.replace(&books.total, &Resources::EMPTY);
        self.filters.clear_agent(agent);
        self.candidates.remove(agent);
        self.open.remove(&agent);
        for (leaf, resources) in &books.held {
            self.tree.release(*leaf, resources, &self.capacity);
            self.prune(*leaf);
        }
        Ok(())
    }

    /// Sets whether an agent's free part may be granted. An inactive agent still counts in the cluster's total, and what
    /// is held on it still counts in shares.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn set_agent_active(&mut self, agent: AgentId, active: bool) -> Result<(), AgentError> {
        let before = self.ledger.set_active(agent, active).ok_or(AgentError::Unknown(agent))?;
        if before != active {
            self.opened(agent, Who::Everyone);
        }
        Ok(())
    }

    /// Subscribes a framework, connected, to exactly `roles`. For one that is known already, roles it keeps stay as
    /// suppressed as they were, and what it holds in roles it gave up stays charged until released.
    pub fn add_framework(&mut self, framework: FrameworkId, roles: impl IntoIterator<Item = Role>) {
        let before = self.frameworks.remove(&framework).unwrap_or_default();
        let kept = |role: Role| {
            let suppressed = before.suppressed.get(&role).copied().unwrap_or(false);
            (role, suppressed)
        };
        let suppressed: BTreeMap<Role, bool> = roles.into_iter().map(kept).collect();
        for role in suppressed.keys() {
            let weight = self.weights.get(role).copied().unwrap_or(DEFAULT_WEIGHT);
            self.tree.ensure_leaf(framework, role, weight);
        }
        self.frameworks.insert(framework, Subscription { active: true, suppressed });
        for role in before.suppressed.keys() {
            self.wanting_changed(framework, role);
        }
        for role in self.roles_of(framework) {
            self.wanting_changed(framework, &role);
        }
    }

    /// Ends a framework's subscription: no more grants, no more filters. What it still holds (tasks that are being
    /// killed) stays in use until it is released.
    ///
    /// # Errors
    /// [`FrameworkError::Unknown`].
    pub fn remove_framework(&mut self, framework: FrameworkId) -> Result<(), FrameworkError> {
        let subscription = self.frameworks.remove(&framework).ok_or(FrameworkError::Unknown(framework))?;
        for role in subscription.suppressed.keys() {
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
            if let Some(leaf) = self.tree.leaf(framework, &role) {
                self.filters.clear_leaf(leaf);
                self.interest(leaf);
            }
        }
        Ok(())
    }

    /// Sets a role's weight, in thousandths; 1000 is the default. Whether or not the role is in use now.
    pub fn set_weight(&mut self, role: &Role, thousandths: NonZeroU32) {
        if thousandths == DEFAULT_WEIGHT {
            self.weights.remove(role);
        } else {
            self.weights.insert(role.clone(), thousandths);
        }
        if let Some(node) = self.tree.role(role) {
            self.tree.set_weight(node, thousandths, &self.capacity);
        }
    }

    /// Charges resources known to be in use: an agent came back with running tasks. The framework need not be known yet.
    /// Scalars may exceed what the agent has, since what runs, runs.
    ///
    /// # Errors
    /// See [`ChargeError`]; nothing is charged then.
    pub fn allocated(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        resources: &Resources,
    ) -> Result<(), ChargeError> {
        let weight = self.weights.get(role).copied().unwrap_or(DEFAULT_WEIGHT);
        let leaf = self.tree.ensure_leaf(framework, role, weight);
        let charged = self.charge(leaf, agent, resources, false);
        self.prune(leaf);
        charged
    }

    /// Frees resources that were offered or allocated.
    ///
    /// # Errors
    /// See [`ReleaseError`]; nothing is released then.
    pub fn release(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        resources: &Resources,
    ) -> Result<(), ReleaseError> {
        let not_held = |source| ReleaseError::NotHeld { framework, role: role.clone(), agent, source };
        if self.ledger.agent(agent).is_none() {
            return Err(ReleaseError::UnknownAgent(agent));
        }
        let Some(leaf) = self.tree.leaf(framework, role) else {
            return Resources::EMPTY.minus(resources).map(drop).map_err(not_held);
        };
        let released = self.ledger.release(agent, leaf, resources).ok_or(ReleaseError::UnknownAgent(agent))?;
        released.map_err(not_held)?;
        if !resources.is_empty() {
            self.tree.release(leaf, resources, &self.capacity);
            self.opened(agent, Who::Everyone);
            self.prune(leaf);
        }
        Ok(())
    }

    /// Frees offered resources that the framework does not want to see again before `now` plus the refusal: neither they
    /// nor any part of them, but a larger offer of the same agent goes through. A zero refusal is a plain release; so is
    /// any refusal of a framework that is disconnected or gone.
    ///
    /// # Errors
    /// See [`ReleaseError`]; nothing is released and no filter left then.
    pub fn decline(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        resources: &Resources,
        refusal: Refusal,
        now: Time,
    ) -> Result<(), ReleaseError> {
        self.release(framework, role, agent, resources)?;
        let subscription = self.frameworks.get(&framework);
        let listens = subscription.is_some_and(|of| of.active && of.suppressed.contains_key(role));
        if let Some(leaf) = self.tree.leaf(framework, role)
            && listens
            && !refusal.duration().is_zero()
            && !resources.is_empty()
        {
            self.filters.install(agent, leaf, resources.clone(), now + refusal.duration());
        }
        Ok(())
    }

    /// What is free on an agent.
    pub fn free(&self, agent: AgentId) -> Option<&Resources> {
        self.ledger.agent(agent).map(|books| &books.free)
    }

    /// What a framework holds in a role on an agent, offered or allocated.
    pub fn held(&self, framework: FrameworkId, role: &Role, agent: AgentId) -> Option<&Resources> {
        self.ledger.agent(agent)?.held.get(&self.tree.leaf(framework, role)?)
    }

    pub(crate) fn charge(
        &mut self,
        leaf: NodeId,
        agent: AgentId,
        resources: &Resources,
        is_grant: bool,
    ) -> Result<(), ChargeError> {
        self.ledger.charge(agent, leaf, resources)?;
        self.tree.charge(leaf, resources, is_grant, &self.capacity);
        self.reopen(agent);
        Ok(())
    }

    fn set_suppressed(
        &mut self,
        framework: FrameworkId,
        roles: &[Role],
        suppressed: bool,
    ) -> Result<Vec<Role>, FrameworkError> {
        let subscription = self.frameworks.get_mut(&framework).ok_or(FrameworkError::Unknown(framework))?;
        let unknown = roles.iter().find(|role| !subscription.suppressed.contains_key(*role));
        if let Some(role) = unknown {
            return Err(FrameworkError::NotSubscribed { framework, role: role.clone() });
        }
        let all = || subscription.suppressed.keys().cloned().collect();
        let roles: Vec<Role> = if roles.is_empty() { all() } else { roles.to_vec() };
        for role in &roles {
            subscription.suppressed.insert(role.clone(), suppressed);
        }
        Ok(roles)
    }

    fn roles_of(&self, framework: FrameworkId) -> Vec<Role> {
        self.frameworks.get(&framework).map(|of| of.suppressed.keys().cloned().collect()).unwrap_or_default()
    }

    /// Brings a leaf in line with its framework's subscription.
    fn wanting_changed(&mut self, framework: FrameworkId, role: &Role) {
        let Some(leaf) = self.tree.leaf(framework, role) else { return };
        let subscription = self.frameworks.get(&framework).filter(|of| of.active);
        let suppressed = subscription.and_then(|of| of.suppressed.get(role).copied());
        if suppressed.is_none() {
            self.filters.clear_leaf(leaf);
        }
        let wanting = suppressed == Some(false);
        if self.tree.set_wanting(leaf, wanting, &self.capacity) && wanting {
            self.interest(leaf);
        }
        self.prune(leaf);
    }

    /// Drops a leaf that nobody is subscribed to and that holds nothing.
    fn prune(&mut self, leaf: NodeId) {
        let Some((framework, role)) = self.tree.owner(leaf) else { return };
        let subscribed = self.frameworks.get(&framework).is_some_and(|of| of.suppressed.contains_key(role));
        if !subscribed && !self.ledger.is_holding(leaf) {
            self.filters.clear_leaf(leaf);
            self.tree.remove_leaf(leaf);
        }
    }
}
