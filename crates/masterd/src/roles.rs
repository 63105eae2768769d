//! Roles in the words of the operator service: updates, what they came to, and how each role stands.

use holm_master::{Answer, Gap, RolesPlan, RolesUpdate, Standing};
use holm_model::{Amount, Resources, RoleRecord};
use holm_proto::{roles, v1};
use tonic::Status;

use crate::view::query::{sum_scalars, view_of};

/// The update that a call asks for.
pub(crate) fn read_update(request: v1::UpdateRolesRequest) -> Result<RolesUpdate, Status> {
    let v1::UpdateRolesRequest { updates, dry_run, force } = request;
    Ok(RolesUpdate { updates: roles::updates_from_wire(updates).map_err(Status::from)?, dry_run, force })
}

/// What a call came to.
pub(crate) fn update_reply(answer: Answer) -> Result<v1::UpdateRolesReply, Status> {
    let Answer::Roles(plan) = answer else {
        return Err(Status::internal("the master answered something else than was asked"));
    };
    let RolesPlan { changed, quotas, rescinded, dry_run } = *plan;
    let over_commit = |(resource, guaranteed, capacity): (holm_model::ResourceName, Amount, Amount)| v1::OverCommit {
        resource: resource.to_string(),
        guaranteed: guaranteed.0,
        capacity: capacity.0,
    };
    Ok(v1::UpdateRolesReply {
        changed: changed.iter().map(|(before, after)| change(before, after)).collect(),
        over_limit: quotas.over_limit.iter().map(|over| gap(over, "allowed", "over")).collect(),
        unmet: quotas.unmet.iter().map(|short| gap(short, "guaranteed", "short")).collect(),
        over_committed: quotas.over_committed.into_iter().map(over_commit).collect(),
        rescinded_offers: rescinded.iter().map(ToString::to_string).collect(),
        dry_run,
    })
}

fn change(before: &RoleRecord, after: &RoleRecord) -> v1::RoleChange {
    let setting = |record: &RoleRecord| v1::RoleSetting {
        weight_thousandths: record.weight.get(),
        guarantee: Some(roles::guarantee_to_wire(&record.quota.guarantee)),
        limit: Some(roles::limit_to_wire(&record.quota.limit)),
    };
    v1::RoleChange { role: after.role.to_string(), before: Some(setting(before)), after: Some(setting(after)) }
}

fn gap(gap: &Gap, bound: &str, by: &str) -> v1::QuotaGap {
    let Gap { role, resource, used, bound: amount } = gap;
    let show = |amount: Amount| if amount.0 == 0 { "0".to_owned() } else { resource.show(amount) };
    let (used_text, bound_text, by_text) = (show(*used), show(*amount), show(gap.amount()));
    v1::QuotaGap {
        role: role.to_string(),
        resource: resource.to_string(),
        used: used.0,
        bound: amount.0,
        text: format!("{resource}: {used_text} used, {bound_text} {bound}, {by_text} {by}"),
    }
}

/// A role as lists show it; `held` and `offered` are its own, without those below it.
pub(crate) fn summary<'a>(
    standing: &Standing,
    held: &[Resources],
    offered: impl Iterator<Item = &'a Resources>,
) -> v1::RoleSummary {
    let ppm = |ppm: u64| u32::try_from(ppm).unwrap_or(u32::MAX);
    let dominant = standing.dominant.as_ref();
    let quota = &standing.quota;
    let guarantee = (!quota.guarantee.is_empty()).then(|| roles::guarantee_to_wire(&quota.guarantee));
    v1::RoleSummary {
        role: standing.role.to_string(),
        weight_thousandths: standing.weight.get(),
        framework_ids: standing.frameworks.iter().map(|own| own.framework.to_string()).collect(),
        dominant_share_ppm: dominant.map_or(0, |dominant| ppm(dominant.ppm())),
        dominant_resource: dominant.map(|dominant| dominant.resource.to_string()).unwrap_or_default(),
        allocated: view_of(&sum_scalars(held)),
        offered: view_of(&sum_scalars(offered)),
        guarantee,
        limit: (!quota.limit.is_empty()).then(|| roles::limit_to_wire(&quota.limit)),
        deserved_share_ppm: ppm(standing.deserved_ppm),
        used: view_of(&standing.used),
        wanting: standing.wanting,
    }
}
