//! The allocator: stock, tree, filters and candidates kept in step.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use holm_model::{AgentId, DEFAULT_WEIGHT, FrameworkId, Origin, Portions, Quota, Refusal, Resources, Role, Time};

use crate::candidates::{Candidate, Candidates};
use crate::constraints::ConstraintTable;
use crate::demand::Demands;
use crate::demand::reservations::Reservations;
use crate::error::{AgentError, ChargeError, ReleaseError};
use crate::filters::Filters;
use crate::names::{Amounts, NOTHING};
use crate::options::Options;
use crate::policy::Inputs;
use crate::roles::{Bounds, Node, ROOT, Roles};
use crate::stock::{AgentStock, Bundle, Slot, Stock};
use crate::subscriptions::{LeafOptions, Subscription};

/// Decides who is offered what. See the crate's documentation for the rule.
#[derive(Clone, Debug)]
pub struct Allocator {
    pub(crate) options: Options,
    /// What `options` says, by number.
    pub(crate) minimum: Vec<Vec<(usize, u64)>>,
    pub(crate) stock: Stock,
    pub(crate) roles: Roles,
    pub(crate) filters: Filters,
    pub(crate) candidates: Candidates,
    pub(crate) constraints: ConstraintTable,
    /// By node.
    pub(crate) leaves: Vec<LeafOptions>,
    /// Agents that are active and have enough free to be worth an offer, in no order that means anything, and the place of
    /// each of them there.
    pub(crate) open: Vec<Slot>,
    pub(crate) open_places: Vec<Option<u32>>,
    /// By slot: whether anyone may want what is free on a candidate, and not only who was woken.
    pub(crate) everyone: Vec<bool>,
    /// Nodes that may want what they refused, or could not have, before; and of which resources their limit has room
    /// again, if it was that.
    pub(crate) keen: BTreeMap<Node, u32>,
    /// Of which resources an offer was cut down to keep something for guarantees.
    pub(crate) withheld: u32,
    pub(crate) frameworks: BTreeMap<FrameworkId, Subscription>,
    pub(crate) weights: BTreeMap<Role, NonZeroU32>,
    pub(crate) quotas: BTreeMap<Role, Quota>,
    /// How many leaves want offers and can use what is scarce.
    pub(crate) able: usize,
    /// How many leaves do not take agents in the usual order.
    pub(crate) movers: usize,
    /// How many grants were made.
    pub(crate) granted: u64,
    pub(crate) demands: Demands,
    pub(crate) reservations: Reservations,
    /// When the current run began.
    pub(crate) now: Time,
    /// What the policy is told.
    pub(crate) policy: Option<Inputs>,
}

impl Allocator {
    /// An allocator that knows nobody.
    pub fn new(options: Options) -> Allocator {
        let mut stock = Stock::new();
        let amounts = |stock: &mut Stock, least: &Resources| {
            let scalars = least.iter_scalars();
            scalars.filter_map(|(name, amount)| Some((stock.names.intern(name)?, amount.0))).collect()
        };
        let minimum = options.minimum.iter().map(|least| amounts(&mut stock, least)).collect();
        let excluded = options.excluded.iter().filter_map(|name| stock.names.intern(name));
        let excluded = excluded.fold(0u32, |mask, r| mask | 1 << r);
        let mut roles = Roles::new(stock.names.len());
        roles.exclude(excluded);
        Allocator {
            options,
            minimum,
            stock,
            roles,
            filters: Filters::default(),
            candidates: Candidates::default(),
            constraints: ConstraintTable::default(),
            leaves: Vec::new(),
            open: Vec::new(),
            open_places: Vec::new(),
            everyone: Vec::new(),
            keen: BTreeMap::new(),
            withheld: 0,
            frameworks: BTreeMap::new(),
            weights: BTreeMap::new(),
            quotas: BTreeMap::new(),
            able: 0,
            movers: 0,
            granted: 0,
            demands: Demands::default(),
            reservations: Reservations::default(),
            now: Time::ZERO,
            policy: None,
        }
    }

    /// Adds an agent with everything it has to offer. It is active at once.
    ///
    /// # Errors
    /// [`AgentError::Exists`]; an agent that comes back is updated or removed first.
    pub fn add_agent(&mut self, agent: AgentId, stock: &AgentStock) -> Result<(), AgentError> {
        self.intern(&stock.portions);
        let slot = self.stock.insert(agent).ok_or(AgentError::Exists(agent))?;
        self.ensure();
        self.restock(slot, stock);
        self.stock.set_active(slot, true);
        self.opened(slot);
        Ok(())
    }

    /// Replaces what an agent has and says of itself. What is in use stays in use: when it exceeds the new total, nothing
    /// is free until enough of it ends. Changed attributes drop the filters on the agent, since what was refused was
    /// another agent in the framework's eyes.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn update_agent(&mut self, agent: AgentId, stock: &AgentStock) -> Result<(), AgentError> {
        let slot = self.slot(agent)?;
        self.intern(&stock.portions);
        let bundle = self.stock.split(&stock.portions);
        let attributes = self.stock.classes.attributes(self.stock.class(slot));
        let same = *attributes == stock.attributes && *self.stock.hostname(slot) == stock.hostname;
        if same && self.stock.total(slot) == bundle {
            return Ok(());
        }
        if self.restock(slot, stock) && !same {
            self.filters.clear_agent(slot);
        }
        self.opened(slot);
        Ok(())
    }

    /// Replaces the revocable part of what an agent has: a new estimate of what others hold and do not use.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn set_revocable(&mut self, agent: AgentId, revocable: &Resources) -> Result<(), AgentError> {
        let slot = self.slot(agent)?;
        let mut portions = self.stock.portions(&self.stock.total(slot)).filtered(|of| *of != Origin::Revocable);
        // Only what is divisible is estimated; a port that is there already is not there a second time.
        let scalars = revocable.iter_scalars().map(|(name, amount)| (name.clone(), amount.0));
        let _ = portions.add(Origin::Revocable, &Resources::scalars(scalars));
        let attributes = self.stock.classes.attributes(self.stock.class(slot)).clone();
        let hostname = std::sync::Arc::clone(self.stock.hostname(slot));
        self.update_agent(agent, &AgentStock { portions, attributes, hostname })
    }

    /// Forgets an agent, and with it everything held on it: nothing of it is to be released afterwards.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn remove_agent(&mut self, agent: AgentId) -> Result<(), AgentError> {
        let slot = self.slot(agent)?;
        self.end_reservation_on(slot);
        let total = self.stock.all(&self.stock.total(slot));
        let idle = self.stock.idle(slot);
        let held = self.stock.remove(slot);
        self.roles.resize(&total, &NOTHING);
        self.filters.clear_agent(slot);
        self.filters.take_woken(slot);
        self.candidates.unmark(slot);
        self.reopen(slot);
        self.set_idle(&idle, &[]);
        for (leaf, bundle) in held {
            self.roles.node_mut(leaf).agents -= 1;
            self.discharge(leaf, &bundle);
            self.prune(leaf);
        }
        self.forget_classes();
        Ok(())
    }

    /// Sets whether an agent's free part may be granted. An inactive agent still counts in the cluster's total, and what
    /// is held on it still counts in shares.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn set_agent_active(&mut self, agent: AgentId, active: bool) -> Result<(), AgentError> {
        let slot = self.slot(agent)?;
        if self.stock.set_active(slot, active) != active {
            self.end_reservation_on(slot);
            self.opened(slot);
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
        if let Some(node) = self.roles.role(role) {
            self.roles.set_weight(node, thousandths);
        }
    }

    /// Sets what a role is promised and allowed, together with the roles below it; [`Quota::NONE`] takes it away. Whether
    /// it suits the other roles is not looked at: that is checked before. Resources without a number (see
    /// [`MAX_SCALARS`](crate::MAX_SCALARS)) are ignored.
    pub fn set_quota(&mut self, role: &Role, quota: &Quota) {
        let before = self.stock.names.len();
        let bounds = Bounds::of(quota, &mut self.stock.names);
        self.widen(before);
        if quota.is_none() {
            self.quotas.remove(role);
            let Some(node) = self.roles.role(role) else { return };
            self.roles.set_bounds(node, None);
            self.interest(node, 0);
            self.roles.remove(node);
        } else {
            self.quotas.insert(role.clone(), quota.clone());
            let node = self.roles.ensure_role(role, &weight_in(&self.weights));
            self.ensure();
            self.roles.set_bounds(node, Some(bounds));
            self.interest(node, 0);
        }
        if self.withheld != 0 || self.keen.contains_key(&ROOT) {
            // Roles above may come to be owed what was kept for this one.
            self.interest(ROOT, 0);
        }
        self.spare_changed();
    }

    /// A role's guarantee and limit; [`Quota::NONE`] when it has neither.
    pub fn quota(&self, role: &Role) -> Quota {
        self.quotas.get(role).cloned().unwrap_or_default()
    }

    /// Charges resources known to be in use: an agent came back with running tasks. The framework need not be known yet.
    /// Scalars may exceed what the agent has, since what runs, runs; and limits do not apply.
    ///
    /// # Errors
    /// See [`ChargeError`]; nothing is charged then.
    pub fn allocated(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        portions: &Portions,
    ) -> Result<(), ChargeError> {
        let slot = self.stock.find(agent).ok_or(ChargeError::UnknownAgent(agent))?;
        self.intern(portions);
        let leaf = self.ensure_leaf(framework, role);
        let bundle = self.stock.split(portions);
        let charged = self.charge(slot, leaf, &bundle, false);
        self.spare_changed();
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
        portions: &Portions,
    ) -> Result<(), ReleaseError> {
        let (slot, leaf, _) = self.give_back(framework, role, agent, portions)?;
        if let Some(leaf) = leaf {
            self.opened(slot);
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
        portions: &Portions,
        refusal: Refusal,
        now: Time,
    ) -> Result<(), ReleaseError> {
        let (slot, leaf, bundle) = self.give_back(framework, role, agent, portions)?;
        let Some(leaf) = leaf else { return Ok(()) };
        let wish = self.wish(framework, role);
        self.opened(slot);
        if let Some(wanting) = wish.filter(|_| !refusal.duration().is_zero()) {
            let free = self.stock.free(slot);
            self.filters.install(slot, leaf, bundle, now + refusal.duration(), &free, wanting);
            if self.is_refused_by_all(slot, &free) {
                self.candidates.unmark(slot);
                self.everyone[slot as usize] = false;
                self.filters.take_woken(slot);
            }
        }
        self.prune(leaf);
        Ok(())
    }

    /// Takes portions off whoever holds them. No leaf: there was nothing to take.
    fn give_back(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        portions: &Portions,
    ) -> Result<(Slot, Option<Node>, Bundle), ReleaseError> {
        let slot = self.stock.find(agent).ok_or(ReleaseError::UnknownAgent(agent))?;
        let bundle = self.stock.split(portions);
        if bundle.is_empty() {
            return Ok((slot, None, bundle));
        }
        let not_held = |source| ReleaseError::NotHeld { framework, role: role.clone(), agent, source };
        let Some(leaf) = self.roles.leaf(framework, role) else {
            return match Resources::EMPTY.minus(&portions.total()) {
                Err(source) => Err(not_held(source)),
                Ok(_) => Ok((slot, None, bundle)),
            };
        };
        let idle = self.idle(slot, &bundle);
        let last = self.stock.release(slot, leaf, &bundle).map_err(not_held)?;
        self.roles.node_mut(leaf).agents -= u32::from(last);
        self.discharge(leaf, &bundle);
        if let Some(before) = idle {
            let after = self.stock.idle(slot);
            self.set_idle(&before, &after);
        }
        Ok((slot, Some(leaf), bundle))
    }

    /// Takes a use off a leaf, and tells those whom limits or guarantees kept waiting that there is room.
    fn discharge(&mut self, leaf: Node, bundle: &Bundle) {
        let all = self.stock.all(bundle);
        self.roles.release(leaf, &all, self.stock.soft(bundle).as_ref());
        self.relieve(leaf, &all);
    }

    /// A leaf holds less: there may be room under limits, and who is owed more may take what was kept for it.
    fn relieve(&mut self, leaf: Node, freed: &Amounts) {
        for (node, resources) in self.roles.take_relieved(leaf, freed) {
            self.interest(node, resources);
        }
        if self.withheld != 0 || self.keen.contains_key(&ROOT) {
            let owed: Vec<Node> = self.roles.up(leaf).filter(|node| self.roles.is_guaranteed(*node)).collect();
            owed.into_iter().for_each(|node| self.interest(node, 0));
        }
        self.spare_changed();
    }

    /// More may be free that no guarantee needs.
    fn spare_changed(&mut self) {
        if self.withheld != 0 {
            let resources = std::mem::take(&mut self.withheld);
            self.interest(ROOT, resources);
        }
    }

    /// What is free on an agent.
    pub fn free(&self, agent: AgentId) -> Option<Portions> {
        let slot = self.stock.find(agent)?;
        Some(self.stock.portions(&self.stock.free(slot)))
    }

    /// What a framework holds in a role on an agent, offered or allocated.
    pub fn held(&self, framework: FrameworkId, role: &Role, agent: AgentId) -> Option<Portions> {
        let slot = self.stock.find(agent)?;
        let held = self.stock.held(slot, self.roles.leaf(framework, role)?);
        (!held.is_empty()).then(|| self.stock.portions(&held))
    }

    pub(crate) fn charge(
        &mut self,
        slot: Slot,
        leaf: Node,
        bundle: &Bundle,
        is_grant: bool,
    ) -> Result<(), ChargeError> {
        let idle = self.idle(slot, bundle);
        let first = self.stock.charge(slot, leaf, bundle)?;
        if bundle.is_empty() {
            return Ok(());
        }
        self.roles.node_mut(leaf).agents += u32::from(first);
        let all = self.stock.all(bundle);
        self.roles.charge(leaf, &all, self.stock.soft(bundle).as_ref(), is_grant);
        if let Some(before) = idle {
            let after = self.stock.idle(slot);
            self.set_idle(&before, &after);
        }
        self.reopen(slot);
        Ok(())
    }

    /// What is reserved on an agent and not in use, if a change of `bundle` may change that.
    fn idle(&self, slot: Slot, bundle: &Bundle) -> Option<Vec<(Role, Amounts)>> {
        let concerned = !bundle.rest.is_empty() && self.stock.cold(slot).is_some_and(|cold| cold.has_reserved());
        concerned.then(|| self.stock.idle(slot))
    }

    /// Reserved resources that nobody uses count as used by the role they are reserved for.
    pub(crate) fn set_idle(&mut self, before: &[(Role, Amounts)], after: &[(Role, Amounts)]) {
        if before == after {
            return;
        }
        for (role, amounts) in after {
            let node = self.roles.ensure_idle(role, &weight_in(&self.weights));
            self.ensure();
            self.roles.charge(node, amounts, None, false);
        }
        for (role, amounts) in before {
            let node = self.roles.ensure_idle(role, &weight_in(&self.weights));
            self.ensure();
            self.roles.release(node, amounts, None);
            self.relieve(node, amounts);
            if self.roles.used(node).iter().all(|used| *used == 0) {
                self.roles.remove(node);
            }
        }
        self.spare_changed();
    }

    /// Replaces an agent's books and what follows from them; tells whether it is another agent in frameworks' eyes.
    pub(crate) fn restock(&mut self, slot: Slot, stock: &AgentStock) -> bool {
        let (total, idle) = (self.stock.all(&self.stock.total(slot)), self.stock.idle(slot));
        let renamed = self.stock.replace(slot, stock);
        let now = self.stock.all(&self.stock.total(slot));
        self.roles.resize(&total, &now);
        let after = self.stock.idle(slot);
        self.set_idle(&idle, &after);
        self.forget_classes();
        renamed
    }

    fn forget_classes(&mut self) {
        for class in self.stock.classes.take_retired() {
            self.constraints.forget_class(class);
        }
    }

    fn slot(&self, agent: AgentId) -> Result<Slot, AgentError> {
        self.stock.find(agent).ok_or(AgentError::Unknown(agent))
    }

    pub(crate) fn ensure_leaf(&mut self, framework: FrameworkId, role: &Role) -> Node {
        let leaf = self.roles.ensure_leaf(framework, role, &weight_in(&self.weights));
        self.ensure();
        leaf
    }

    /// Gives every array room for all agents and nodes.
    fn ensure(&mut self) {
        let (agents, nodes) = (self.stock.len(), self.roles.len());
        self.filters.ensure(agents, nodes);
        self.candidates.ensure(agents);
        self.everyone.resize(agents, false);
        self.open_places.resize(agents, None);
        self.leaves.resize(nodes, LeafOptions::default());
    }

    pub(crate) fn intern(&mut self, portions: &Portions) {
        if self.stock.intern(portions) {
            self.roles.widen(self.stock.names.len());
        }
    }

    /// Makes room for names that got numbers since there were `before`.
    pub(crate) fn widen(&mut self, before: usize) {
        if self.stock.widen(before) {
            self.roles.widen(self.stock.names.len());
        }
    }

    /// A node may want what it refused, or could not have, before. `resources`: only those, of which there is room again;
    /// none: anything.
    pub(crate) fn interest(&mut self, node: Node, resources: u32) {
        self.demands.opened();
        let known = self.keen.entry(node).or_insert(resources);
        *known = if *known == 0 || resources == 0 { 0 } else { *known | resources };
    }

    /// More than before may be grantable on an agent, to anyone.
    pub(crate) fn opened(&mut self, slot: Slot) {
        self.demands.opened();
        self.feed(slot);
        self.reopen(slot);
        if self.is_open(slot) {
            self.everyone[slot as usize] = true;
            self.mark(slot);
        }
        self.spare_changed();
    }

    /// Makes an open agent a candidate.
    pub(crate) fn mark(&mut self, slot: Slot) {
        if self.is_open(slot) {
            self.candidates.mark(slot);
        }
    }

    pub(crate) fn candidate(&self, slot: Slot) -> Option<Candidate> {
        let agent = self.stock.id(slot).filter(|_| self.is_open(slot))?;
        let free = self.roles.share_of(&self.stock.free_plain(slot));
        Some(Candidate { free, last_grant: self.stock.last_grant(slot), agent, slot })
    }

    /// Whether something worth an offer may be granted on an agent.
    pub(crate) fn is_open(&self, slot: Slot) -> bool {
        self.open_places[slot as usize].is_some()
    }

    /// Brings `open` in line with an agent's books.
    pub(crate) fn reopen(&mut self, slot: Slot) {
        let opens = self.stock.is_active(slot) && self.is_worth_an_offer(slot);
        match (opens, self.open_places[slot as usize]) {
            (true, None) => {
                self.open_places[slot as usize] = u32::try_from(self.open.len()).ok();
                self.open.push(slot);
            }
            (false, Some(place)) => {
                self.open_places[slot as usize] = None;
                self.open.swap_remove(place as usize);
                if let Some(moved) = self.open.get(place as usize) {
                    self.open_places[*moved as usize] = Some(place);
                }
                self.candidates.unmark(slot);
                self.everyone[slot as usize] = false;
                self.filters.take_woken(slot);
            }
            _ => {}
        }
    }

    /// Whether what is free on an agent, all together, is as much as an offer has to be.
    pub(crate) fn is_worth_an_offer(&self, slot: Slot) -> bool {
        let plain = self.stock.free_plain(slot);
        let Some(cold) = self.stock.cold(slot).filter(|cold| !cold.free().is_empty()) else {
            return self.is_enough(&plain, plain == NOTHING);
        };
        let mut all = plain;
        cold.free().iter().for_each(|(_, resources)| self.stock.names.add_to(&mut all, resources));
        self.is_enough(&all, false)
    }

    /// Whether these scalars are as much as an offer has to be.
    pub(crate) fn is_enough(&self, all: &Amounts, is_empty: bool) -> bool {
        let enough = |least: &Vec<(usize, u64)>| least.iter().all(|(r, amount)| all[*r] >= *amount);
        !is_empty && (self.minimum.is_empty() || self.minimum.iter().any(enough))
    }
}

fn weight_in(weights: &BTreeMap<Role, NonZeroU32>) -> impl Fn(&Role) -> NonZeroU32 + '_ {
    |role| weights.get(role).copied().unwrap_or(DEFAULT_WEIGHT)
}
