//! Weights and quotas of roles: checked, written, and only then in force.
//!
//! Updates are made one after the other: while one is being written, the others wait, so that each is checked against what
//! the one before it left. A dry run is the same check and waits for nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holm_allocator::{Gap, Proposal, QuotaPlan, check_quotas, used_by_role};
use holm_model::{
    Action, MAX_WEIGHT, OfferId, Principal, Quota, QuotaChange, ResourceName, Resources, Role, RoleRecord, RoleUpdate,
};

use crate::authorize::{Object, authorize};
use crate::writes::Then;
use crate::{AgentPhase, Answer, Delta, Effect, Master, OperatorError, RegistryOp, RequestId};

/// Most updates of roles that wait for the one being written.
pub const MAX_WAITING_UPDATES: usize = 64;

/// An operator's wish to set weights and quotas: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolesUpdate {
    /// What to change, each role at most once.
    pub updates: Vec<RoleUpdate>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Permit guarantees over what the cluster has.
    pub force: bool,
}

/// What an update of roles changes, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolesPlan {
    /// The records that are other ones afterwards: before, after.
    pub changed: Vec<(RoleRecord, RoleRecord)>,
    /// What follows from the quotas.
    pub quotas: QuotaPlan,
    /// Offers that are rescinded for it.
    pub rescinded: Vec<OfferId>,
    /// Whether it was only asked.
    pub dry_run: bool,
}

#[derive(Debug)]
struct Asked {
    request: RequestId,
    update: RolesUpdate,
}

/// What operators have set.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    /// By role; none is the default.
    records: BTreeMap<Role, RoleRecord>,
    /// The update being written. Its records are in `RolesPlan::changed`.
    writing: Option<(RequestId, RolesPlan)>,
    waiting: VecDeque<Asked>,
}

impl Roles {
    pub(crate) fn record(&self, role: &Role) -> RoleRecord {
        self.records.get(role).cloned().unwrap_or_else(|| RoleRecord::new(role.clone()))
    }

    pub(crate) fn records(&self) -> &BTreeMap<Role, RoleRecord> {
        &self.records
    }

    fn quotas(&self) -> BTreeMap<Role, Quota> {
        let with_quota = self.records.values().filter(|record| !record.quota.is_none());
        with_quota.map(|record| (record.role.clone(), record.quota.clone())).collect()
    }

    fn set(&mut self, record: &RoleRecord) {
        if record.is_default() {
            self.records.remove(&record.role);
        } else {
            self.records.insert(record.role.clone(), record.clone());
        }
    }
}

impl Master {
    /// Takes over what the registry has, before anything else is known to the allocator. What the options say of a role
    /// holds as long as no operator has said otherwise.
    pub(crate) fn recover_roles(&mut self, recorded: BTreeMap<Role, RoleRecord>) {
        let weights = std::mem::take(&mut self.options.weights);
        let configured = |(role, weight): (&Role, _)| RoleRecord { weight, ..RoleRecord::new(role.clone()) };
        let configured = weights.iter().map(|(role, weight)| configured((role, *weight)));
        let absent = configured.filter(|record| !recorded.contains_key(&record.role)).collect::<Vec<_>>();
        self.options.weights = weights;
        for record in absent.into_iter().chain(recorded.into_values()) {
            self.enforce(&record);
        }
    }

    /// Puts a record in force.
    fn enforce(&mut self, record: &RoleRecord) {
        self.roles.set(record);
        self.weigh_role(&record.role, record.weight);
        self.allocator.set_quota(&record.role, &record.quota);
        self.out.delta(Delta::RoleSet(record.clone()));
        self.out.roles = true;
        self.watch_waiting();
    }

    /// Makes an update, or lets it wait for its turn. The answer comes when it is durable.
    pub(crate) fn update_roles(&mut self, request: RequestId, principal: &Principal, update: RolesUpdate) {
        let refused = self.may_update(principal, &update).err();
        if let Some(error) = refused {
            return self.answer(request, Err(error));
        }
        let asked = Asked { request, update };
        if asked.update.dry_run || self.roles.writing.is_none() {
            self.begin_update(asked);
        } else {
            self.roles.waiting.push_back(asked);
        }
    }

    fn may_update(&self, principal: &Principal, update: &RolesUpdate) -> Result<(), OperatorError> {
        for RoleUpdate { role, .. } in &update.updates {
            authorize(principal, Action::UpdateRoles, Object::Role(role))?;
        }
        let count = self.roles.waiting.len();
        if !update.dry_run && self.roles.writing.is_some() && count >= MAX_WAITING_UPDATES {
            return Err(OperatorError::TooManyUpdates { count, limit: MAX_WAITING_UPDATES });
        }
        Ok(())
    }

    fn begin_update(&mut self, Asked { request, update }: Asked) {
        let plan = match self.plan_update(&update) {
            Ok(plan) => plan,
            Err(error) => return self.answer(request, Err(error)),
        };
        if update.dry_run || plan.changed.is_empty() {
            return self.answer(request, Ok(Answer::Roles(Box::new(plan))));
        }
        let op = |(_, after): &(RoleRecord, RoleRecord)| match after.is_default() {
            true => RegistryOp::RemoveRole(after.role.clone()),
            false => RegistryOp::PutRole(after.clone()),
        };
        let ops = plan.changed.iter().map(op).collect();
        self.roles.writing = Some((request, plan));
        self.persist(ops, Then::UpdateRoles);
    }

    /// The update is durable: it acts from now on. Then it is the next one's turn.
    pub(crate) fn roles_recorded(&mut self) {
        let Some((request, mut plan)) = self.roles.writing.take() else { return };
        for (_, after) in &plan.changed {
            self.enforce(after);
        }
        // What is out in offers may have changed while the record was written.
        plan.rescinded = self.offers_against(&plan);
        self.rescind(&plan.rescinded);
        self.answer(request, Ok(Answer::Roles(Box::new(plan))));
        while self.roles.writing.is_none()
            && let Some(next) = self.roles.waiting.pop_front()
        {
            self.begin_update(next);
        }
    }

    /// Checks an update against everything else, and says what it changes. Nothing happens.
    fn plan_update(&self, update: &RolesUpdate) -> Result<RolesPlan, OperatorError> {
        let mut changed = BTreeMap::new();
        let mut quotas = Vec::new();
        for each in &update.updates {
            if let Some(weight) = each.weight.filter(|weight| *weight > MAX_WEIGHT) {
                return Err(OperatorError::Weight { role: each.role.clone(), weight });
            }
            let before = self.roles.record(&each.role);
            let after = each.applied_to(&before);
            if each.guarantee.is_some() || each.limit.is_some() {
                quotas.push(QuotaChange { role: each.role.clone(), quota: after.quota.clone() });
            }
            if changed.insert(each.role.clone(), (before, after)).is_some() {
                return Err(OperatorError::RoleTwice(each.role.clone()));
            }
        }
        self.check_count(changed.values())?;
        let quotas = self.plan_quotas(&quotas, update.force)?;
        let changed = changed.into_values().filter(|(before, after)| before != after).collect();
        let mut plan = RolesPlan { changed, quotas, rescinded: Vec::new(), dry_run: update.dry_run };
        plan.rescinded = self.offers_against(&plan);
        Ok(plan)
    }

    fn check_count<'a>(
        &self,
        changed: impl Iterator<Item = &'a (RoleRecord, RoleRecord)>,
    ) -> Result<(), OperatorError> {
        let mut count = self.roles.records.len();
        for (before, after) in changed {
            count += usize::from(!after.is_default());
            count -= usize::from(!before.is_default()).min(count);
        }
        let limit = self.options.max_roles;
        if count > limit { Err(OperatorError::TooManyRoles { count, limit }) } else { Ok(()) }
    }

    fn plan_quotas(&self, changes: &[QuotaChange], force: bool) -> Result<QuotaPlan, OperatorError> {
        // Weights suit any quotas; and what was right when it was set is not refused because the cluster has shrunk since.
        if changes.is_empty() {
            return Ok(QuotaPlan::default());
        }
        let shares: Vec<_> = self.allocator.shares().collect();
        let (present, cluster, used) = (self.roles.quotas(), self.cluster_scalars(), used_by_role(&shares));
        let proposal = Proposal { present: &present, changes, cluster: &cluster, used: &used, force };
        Ok(check_quotas(&proposal)?)
    }

    /// The scalars of all agents that have not been given up.
    fn cluster_scalars(&self) -> Resources {
        let mut sums = BTreeMap::<ResourceName, u64>::new();
        let counted = self.agents.values().filter(|agent| agent.state.phase() != AgentPhase::Unreachable);
        for (name, amount) in counted.flat_map(|agent| agent.info.resources.iter_scalars()) {
            match sums.get_mut(name) {
                Some(sum) => *sum = sum.saturating_add(amount.0),
                None => drop(sums.insert(name.clone(), amount.0)),
            }
        }
        Resources::scalars(sums)
    }

    /// The offers that stand against a plan, newest first: what a role holds over its limit, and what others hold of what a
    /// role was promised by it.
    fn offers_against(&self, plan: &RolesPlan) -> Vec<OfferId> {
        let mut taken = BTreeSet::new();
        for gap in plan.quotas.over_limit.iter().filter(|gap| is_changed(plan, &gap.role)) {
            self.pick_offers(&mut taken, gap, gap.amount().0, |role| gap.role.covers(role));
        }
        let short = &plan.quotas.unmet;
        for gap in short.iter().filter(|gap| is_changed(plan, &gap.role) && self.wants(&gap.role)) {
            let free = self.free_of(&gap.resource);
            let wanted = gap.amount().0.saturating_sub(free);
            let is_short = |role: &Role| short.iter().any(|gap| gap.role.covers(role));
            self.pick_offers(&mut taken, gap, wanted, |role| !gap.role.covers(role) && !is_short(role));
        }
        taken.into_iter().rev().collect()
    }

    /// Takes offers of whom `concerned` says, newest first, until they have `wanted` of the resource.
    fn pick_offers(&self, taken: &mut BTreeSet<OfferId>, gap: &Gap, wanted: u64, concerned: impl Fn(&Role) -> bool) {
        let mut left = wanted;
        for (id, offer) in self.offers.out.iter().rev() {
            if left == 0 {
                return;
            }
            let amount = offer.portions.total().scalar(&gap.resource).0;
            if amount > 0 && concerned(&offer.role) {
                taken.insert(*id);
                left = left.saturating_sub(amount);
            }
        }
    }

    /// Whether somebody in a role or below it would take more.
    fn wants(&self, role: &Role) -> bool {
        let mut wanting = self.allocator.shares().filter(|share| role.covers(&share.role));
        wanting.any(|share| share.frameworks.iter().any(|framework| framework.wanting))
    }

    /// How much of a resource is free on all agents together.
    fn free_of(&self, resource: &ResourceName) -> u64 {
        let free = self.agents.keys().filter_map(|agent| self.allocator.free(*agent));
        free.fold(0, |sum, free| sum.saturating_add(free.total().scalar(resource).0))
    }

    pub(crate) fn answer(&mut self, request: RequestId, result: Result<Answer, OperatorError>) {
        self.out.push(Effect::Reply { request, result });
    }
}

/// Whether a plan changes the quota of a role.
fn is_changed(plan: &RolesPlan, role: &Role) -> bool {
    plan.quotas.changed.iter().any(|(changed, _, _)| changed == role)
}
