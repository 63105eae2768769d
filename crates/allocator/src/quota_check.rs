//! Whether a set of quotas suits the tree of roles and the cluster: one pure function for the update itself and for its dry
//! run. All or nothing: one fault refuses the whole set.
//!
//! # The rules, for every resource by itself
//! 1. No guarantee over the role's own limit.
//! 2. What the roles below a role are guaranteed together is not over its guarantee, if it has one of that resource, nor over
//!    its limit.
//! 3. What the top-level roles are guaranteed together is not over what the cluster has. This one can be forced.
//!
//! A role without a guarantee of a resource passes on what those below it are guaranteed: its *effective* guarantee is the
//! larger of its own and their sum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holm_model::{Amount, Quota, QuotaChange, QuotaFormError, ResourceName, Resources, Role};

/// Most faults that one refusal names; how many there are in all is told.
pub const MAX_FAULTS_TOLD: usize = 32;

/// What is asked, and what it is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// The quotas as they are; a role without one is not listed.
    pub present: &'a BTreeMap<Role, Quota>,
    /// The changes, each role at most once.
    pub changes: &'a [QuotaChange],
    /// The scalars of all admitted agents that are not given up, connected or not.
    pub cluster: &'a Resources,
    /// What each role holds, offered or allocated, those below it included. A role that holds nothing may be absent.
    pub used: &'a BTreeMap<Role, Resources>,
    /// Whether the cluster may be promised more than once, and resources that no agent has may be promised.
    pub force: bool,
}

/// One rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaFault {
    /// A role is changed twice.
    Twice(Role),
    /// A quota is malformed by itself.
    Form {
        /// Whose.
        role: Role,
        /// What is wrong with it.
        why: QuotaFormError,
    },
    /// A resource that no agent has; probably a slip of the pen.
    UnknownResource {
        /// Whose quota.
        role: Role,
        /// The name.
        resource: ResourceName,
    },
    /// A guarantee is over the role's own limit.
    OverOwnLimit(Excess),
    /// The roles below are guaranteed more than the role is guaranteed.
    OverParentGuarantee(Excess),
    /// The roles below are guaranteed more than the role may use.
    OverParentLimit(Excess),
    /// More is guaranteed than there is. Can be forced.
    OverCommitted {
        /// Of what.
        resource: ResourceName,
        /// How much is guaranteed to the top-level roles together.
        guaranteed: Amount,
        /// How much the cluster has.
        capacity: Amount,
    },
}

/// An amount over the bound that holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The role with the bound.
    pub role: Role,
    /// Of what.
    pub resource: ResourceName,
    /// How much is guaranteed: to the role, or to those below it together.
    pub guaranteed: Amount,
    /// The bound.
    pub bound: Amount,
    /// Those below it that have a part of it, largest first, at most four; empty when it is the role's own.
    pub parts: Vec<(Role, Amount)>,
}

impl fmt::Display for QuotaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaFault::Twice(role) => write!(f, "role {role} is changed twice in one update"),
            QuotaFault::Form { role, why } => write!(f, "role {role}: {why}"),
            QuotaFault::UnknownResource { role, resource } => {
                write!(f, "role {role}: no agent has the resource {resource} (--force sets the quota anyway)")
            }
            QuotaFault::OverOwnLimit(Excess { role, resource, guaranteed, bound, .. }) => {
                let (guaranteed, bound) = (show(resource, *guaranteed), show(resource, *bound));
                write!(f, "role {role}: the guarantee of {resource}:{guaranteed} is over its limit of {bound}")
            }
            QuotaFault::OverParentGuarantee(excess) => excess.below(f, "guarantee"),
            QuotaFault::OverParentLimit(excess) => excess.below(f, "limit"),
            QuotaFault::OverCommitted { resource, guaranteed, capacity } => {
                let (guaranteed, capacity) = (show(resource, *guaranteed), show(resource, *capacity));
                write!(
                    f,
                    "over-commit: {resource}:{guaranteed} is guaranteed in all, the cluster has {capacity} \
                     (--force permits it)"
                )
            }
        }
    }
}

impl Excess {
    fn below(&self, f: &mut fmt::Formatter<'_>, bound: &str) -> fmt::Result {
        let Excess { role, resource, guaranteed, bound: amount, parts } = self;
        let parts: Vec<String> = parts.iter().map(|(role, part)| format!("{role} {}", show(resource, *part))).collect();
        let (guaranteed, amount) = (show(resource, *guaranteed), show(resource, *amount));
        let parts = parts.join(", ");
        write!(
            f,
            "role {role}: the roles below it are guaranteed {resource}:{guaranteed} ({parts}), over its {bound} of {amount}"
        )
    }
}

/// An amount as text; zero without a unit.
fn show(resource: &ResourceName, amount: Amount) -> String {
    if amount.0 == 0 { "0".to_owned() } else { resource.show(amount) }
}

/// Why a set of quotas was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct QuotaError {
    /// The rules that do not hold, at most [`MAX_FAULTS_TOLD`].
    pub faults: Vec<QuotaFault>,
    /// How many there are in all.
    pub count: usize,
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.faults.iter().map(QuotaFault::to_string).collect();
        f.write_str(&told.join("; "))?;
        match self.count.saturating_sub(self.faults.len()) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// What an update changes, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaPlan {
    /// Roles whose quota is another one afterwards: the role, before, after.
    pub changed: Vec<(Role, Quota, Quota)>,
    /// Roles that hold more than they may afterwards. Nothing running is stopped for that; offers are rescinded.
    pub over_limit: Vec<Gap>,
    /// Roles that hold less than they are guaranteed afterwards.
    pub unmet: Vec<Gap>,
    /// Where more is guaranteed than there is: resource, guaranteed, capacity. Only when forced.
    pub over_committed: Vec<(ResourceName, Amount, Amount)>,
}

/// How far a role is from a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which role.
    pub role: Role,
    /// Of what.
    pub resource: ResourceName,
    /// How much it holds, those below it included.
    pub used: Amount,
    /// Its limit, or its guarantee.
    pub bound: Amount,
}

impl Gap {
    /// By how much it is over or short.
    pub fn amount(&self) -> Amount {
        Amount(self.used.0.abs_diff(self.bound.0))
    }
}

/// Checks a proposal against every rule, and says what would follow from it.
///
/// # Errors
/// Every rule that does not hold, with its numbers.
pub fn check_quotas(proposal: &Proposal<'_>) -> Result<QuotaPlan, QuotaError> {
    let mut faults = form_faults(proposal);
    let after = proposal.after();
    let tree = Effective::of(&after);
    faults.extend(after.iter().flat_map(|(role, quota)| own_faults(role, quota)));
    faults.extend(tree.faults(&after));
    let over_committed = tree.over_committed(proposal.cluster);
    if !proposal.force {
        let before = Effective::of(proposal.present).totals;
        let grows = |resource: &ResourceName| tree.totals.get(resource) > before.get(resource);
        let worse = over_committed.iter().filter(|(resource, ..)| grows(resource)).cloned();
        let fault = |(resource, guaranteed, capacity)| QuotaFault::OverCommitted { resource, guaranteed, capacity };
        faults.extend(worse.map(fault));
    }
    if !faults.is_empty() {
        let count = faults.len();
        faults.truncate(MAX_FAULTS_TOLD);
        return Err(QuotaError { faults, count });
    }
    Ok(QuotaPlan {
        changed: proposal.changed(),
        over_limit: gaps(&after, proposal.used, |quota| quota.limit.clone(), |used, limit| used > limit),
        unmet: gaps(&after, proposal.used, guarantees, |used, guarantee| used < guarantee),
        over_committed,
    })
}

impl Proposal<'_> {
    /// The quotas as they would be.
    pub fn after(&self) -> BTreeMap<Role, Quota> {
        let mut after = self.present.clone();
        for QuotaChange { role, quota } in self.changes {
            if quota.is_none() {
                after.remove(role);
            } else {
                after.insert(role.clone(), quota.clone());
            }
        }
        after
    }

    fn changed(&self) -> Vec<(Role, Quota, Quota)> {
        let change = |change: &QuotaChange| {
            let before = self.present.get(&change.role).cloned().unwrap_or_default();
            (before != change.quota).then(|| (change.role.clone(), before, change.quota.clone()))
        };
        self.changes.iter().filter_map(change).collect()
    }
}

fn guarantees(quota: &Quota) -> BTreeMap<ResourceName, Amount> {
    quota.guarantee.iter_scalars().map(|(name, amount)| (name.clone(), amount)).collect()
}

/// What is wrong with the changes one by one.
fn form_faults(proposal: &Proposal<'_>) -> Vec<QuotaFault> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for QuotaChange { role, quota } in proposal.changes {
        if !seen.insert(role) {
            faults.push(QuotaFault::Twice(role.clone()));
        }
        if let Err(why) = quota.validate() {
            faults.push(QuotaFault::Form { role: role.clone(), why });
        }
        let named: BTreeSet<&ResourceName> = quota.limit.keys().chain(quota.guarantee.iter().map(|(n, _)| n)).collect();
        let unknown = |name: &&ResourceName| {
            matches!(name, ResourceName::Custom(_)) && proposal.cluster.get(name).is_none() && !proposal.force
        };
        let fault = |name: &ResourceName| QuotaFault::UnknownResource { role: role.clone(), resource: name.clone() };
        faults.extend(named.into_iter().filter(unknown).map(fault));
    }
    faults
}

/// Rule 1.
fn own_faults(role: &Role, quota: &Quota) -> Vec<QuotaFault> {
    let over = |(resource, guaranteed): (&ResourceName, Amount)| {
        let bound = quota.limit_of(resource).filter(|bound| guaranteed > *bound)?;
        let (role, resource) = (role.clone(), resource.clone());
        Some(QuotaFault::OverOwnLimit(Excess { role, resource, guaranteed, bound, parts: Vec::new() }))
    };
    quota.guarantee.iter_scalars().filter_map(over).collect()
}

/// Roles whose usage stands on the wrong side of a bound.
fn gaps(
    quotas: &BTreeMap<Role, Quota>,
    used: &BTreeMap<Role, Resources>,
    bounds: impl Fn(&Quota) -> BTreeMap<ResourceName, Amount>,
    wrong: impl Fn(Amount, Amount) -> bool,
) -> Vec<Gap> {
    let of_role = |(role, quota): (&Role, &Quota)| {
        let gap = |(resource, bound): (ResourceName, Amount)| {
            let used = used.get(role).map_or(Amount(0), |used| used.scalar(&resource));
            wrong(used, bound).then(|| Gap { role: role.clone(), resource, used, bound })
        };
        bounds(quota).into_iter().filter_map(gap).collect::<Vec<_>>()
    };
    quotas.iter().flat_map(of_role).collect()
}

/// What a role and those below it are guaranteed of one resource.
#[derive(Clone, Debug, Default)]
struct Promise {
    /// To the role itself; zero for none.
    own: u128,
    /// To the roles directly below it, effectively.
    below: Vec<(Role, u128)>,
}

impl Promise {
    fn sum_below(&self) -> u128 {
        self.below.iter().map(|(_, part)| part).sum()
    }

    fn effective(&self) -> u128 {
        self.own.max(self.sum_below())
    }
}

/// The effective guarantees of a whole tree.
struct Effective {
    promises: BTreeMap<(ResourceName, Role), Promise>,
    /// Of the top-level roles together.
    totals: BTreeMap<ResourceName, u128>,
}

impl Effective {
    fn of(quotas: &BTreeMap<Role, Quota>) -> Effective {
        let mut promises = BTreeMap::<(ResourceName, Role), Promise>::new();
        let mut levels = BTreeMap::<usize, BTreeSet<(ResourceName, Role)>>::new();
        for (role, quota) in quotas {
            for (resource, amount) in quota.guarantee.iter_scalars() {
                promises.entry((resource.clone(), role.clone())).or_default().own = amount.0.into();
                for role in role.lineage() {
                    levels.entry(role.parts().count()).or_default().insert((resource.clone(), role));
                }
            }
        }
        // From the deepest level up, so that every role knows those below it before it is asked itself.
        let mut totals = BTreeMap::<ResourceName, u128>::new();
        for (resource, role) in levels.into_values().rev().flatten() {
            let effective = promises.get(&(resource.clone(), role.clone())).map_or(0, Promise::effective);
            match role.parent() {
                Some(parent) => promises.entry((resource, parent)).or_default().below.push((role, effective)),
                None => *totals.entry(resource).or_default() += effective,
            }
        }
        Effective { promises, totals }
    }

    /// Rule 2.
    fn faults(&self, quotas: &BTreeMap<Role, Quota>) -> Vec<QuotaFault> {
        let mut faults = Vec::new();
        for ((resource, role), promise) in &self.promises {
            let sum = promise.sum_below();
            let limit = quotas.get(role).and_then(|quota| quota.limit_of(resource));
            let excess = |bound: u128| Excess {
                role: role.clone(),
                resource: resource.clone(),
                guaranteed: cut(sum),
                bound: cut(bound),
                parts: largest(&promise.below),
            };
            if promise.own > 0 && sum > promise.own {
                faults.push(QuotaFault::OverParentGuarantee(excess(promise.own)));
            }
            if let Some(limit) = limit.filter(|limit| sum > u128::from(limit.0)) {
                faults.push(QuotaFault::OverParentLimit(excess(limit.0.into())));
            }
        }
        faults
    }

    /// Rule 3.
    fn over_committed(&self, cluster: &Resources) -> Vec<(ResourceName, Amount, Amount)> {
        let over = |(resource, guaranteed): (&ResourceName, &u128)| {
            let capacity = cluster.scalar(resource);
            (*guaranteed > u128::from(capacity.0)).then(|| (resource.clone(), cut(*guaranteed), capacity))
        };
        self.totals.iter().filter_map(over).collect()
    }
}

fn largest(parts: &[(Role, u128)]) -> Vec<(Role, Amount)> {
    let mut parts: Vec<_> = parts.iter().filter(|(_, part)| *part > 0).cloned().collect();
    parts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    parts.into_iter().take(4).map(|(role, part)| (role, cut(part))).collect()
}

fn cut(sum: u128) -> Amount {
    Amount(u64::try_from(sum).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
