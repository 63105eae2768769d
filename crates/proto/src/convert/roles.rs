//! Quotas, weights and what changes them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use holm_model::{
    Amount, MAX_QUOTA_CHANGES, MAX_QUOTA_RESOURCES, MAX_WEIGHT, Quota, ResourceName, Resources, RoleRecord, RoleUpdate,
    show_amounts,
};

use super::error::At;
use super::field::{at_most, capped, list, parsed};
use super::{ConvertError, Decode};
use crate::v1 as wire;

type Limit = BTreeMap<ResourceName, Amount>;

/// A limit for the wire, zeros included.
pub fn limit_to_wire(limit: &Limit) -> wire::Amounts {
    amounts(limit.iter().map(|(name, amount)| (name, *amount)))
}

/// A guarantee for the wire.
pub fn guarantee_to_wire(guarantee: &Resources) -> wire::Amounts {
    amounts(guarantee.iter_scalars())
}

/// Amounts from the wire, checked, zeros included.
///
/// # Errors
/// The path of the first amount that is malformed, given twice or over a limit.
pub fn amounts_from_wire(amounts: wire::Amounts) -> Result<Limit, ConvertError> {
    Limit::decode(amounts, &At::ROOT)
}

/// The updates of an operator's call, checked one by one.
///
/// # Errors
/// The path of the first that is malformed, or that there are too many.
pub fn updates_from_wire(updates: Vec<wire::RoleUpdate>) -> Result<Vec<RoleUpdate>, ConvertError> {
    list(updates, MAX_QUOTA_CHANGES, &At::ROOT.field("updates"))
}

fn amounts<'a>(amounts: impl Iterator<Item = (&'a ResourceName, Amount)>) -> wire::Amounts {
    let amounts: Vec<_> = amounts.collect();
    let text = show_amounts(amounts.iter().copied());
    let entry =
        |(name, amount): (&ResourceName, Amount)| wire::ScalarAmount { name: name.to_string(), amount: amount.0 };
    wire::Amounts { amounts: amounts.into_iter().map(entry).collect(), text }
}

impl Decode<wire::Amounts> for Limit {
    fn decode(wire: wire::Amounts, at: &At<'_>) -> Result<Limit, ConvertError> {
        let at = at.field("amounts");
        at_most(wire.amounts.len(), MAX_QUOTA_RESOURCES, &at)?;
        let mut amounts = Limit::new();
        for (index, entry) in wire.amounts.into_iter().enumerate() {
            let at = at.index(index);
            let name: ResourceName = parsed(&entry.name, &at.field("name"))?;
            if name == ResourceName::Ports {
                return Err(at.field("name").invalid("ports are ranges, not an amount"));
            }
            let amount = Amount(capped(entry.amount, Amount::MAX.0, &at.field("amount"))?);
            if name == ResourceName::Gpus && !amount.0.is_multiple_of(1000) {
                let why = format_args!("{} thousandths are not a whole number of gpus", amount.0);
                return Err(at.field("amount").invalid(why));
            }
            if amounts.insert(name.clone(), amount).is_some() {
                return Err(at.field("name").invalid(format_args!("resource {name} is given twice")));
            }
        }
        Ok(amounts)
    }
}

fn guarantee(wire: wire::Amounts, at: &At<'_>) -> Result<Resources, ConvertError> {
    let amounts = Limit::decode(wire, at)?;
    Ok(Resources::scalars(amounts.into_iter().map(|(name, amount)| (name, amount.0))))
}

fn weight(thousandths: u32, at: &At<'_>) -> Result<NonZeroU32, ConvertError> {
    capped(thousandths.into(), MAX_WEIGHT.get().into(), at)?;
    NonZeroU32::new(thousandths).ok_or_else(|| at.invalid("a weight is more than zero"))
}

impl Decode<wire::RoleUpdate> for RoleUpdate {
    fn decode(wire: wire::RoleUpdate, at: &At<'_>) -> Result<RoleUpdate, ConvertError> {
        let thousandths = wire.weight_thousandths;
        Ok(RoleUpdate {
            role: parsed(&wire.role, &at.field("role"))?,
            weight: thousandths.map(|weight_of| weight(weight_of, &at.field("weight_thousandths"))).transpose()?,
            guarantee: wire.guarantee.map(|wire| guarantee(wire, &at.field("guarantee"))).transpose()?,
            limit: wire.limit.map(|wire| Limit::decode(wire, &at.field("limit"))).transpose()?,
        })
    }
}

impl From<&RoleUpdate> for wire::RoleUpdate {
    fn from(update: &RoleUpdate) -> wire::RoleUpdate {
        wire::RoleUpdate {
            role: update.role.to_string(),
            weight_thousandths: update.weight.map(NonZeroU32::get),
            guarantee: update.guarantee.as_ref().map(guarantee_to_wire),
            limit: update.limit.as_ref().map(limit_to_wire),
        }
    }
}

impl From<&RoleRecord> for wire::RoleRecord {
    fn from(record: &RoleRecord) -> wire::RoleRecord {
        wire::RoleRecord {
            role: record.role.to_string(),
            weight_thousandths: record.weight.get(),
            guarantee: Some(guarantee_to_wire(&record.quota.guarantee)),
            limit: Some(limit_to_wire(&record.quota.limit)),
        }
    }
}

impl Decode<wire::RoleRecord> for RoleRecord {
    fn decode(wire: wire::RoleRecord, at: &At<'_>) -> Result<RoleRecord, ConvertError> {
        let quota = Quota {
            guarantee: guarantee(wire.guarantee.unwrap_or_default(), &at.field("guarantee"))?,
            limit: Limit::decode(wire.limit.unwrap_or_default(), &at.field("limit"))?,
        };
        Ok(RoleRecord {
            role: parsed(&wire.role, &at.field("role"))?,
            weight: weight(wire.weight_thousandths, &at.field("weight_thousandths"))?,
            quota,
        })
    }
}
