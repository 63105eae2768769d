//! Resource bundles.

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_model::{Amount, Quantity, Ranges, ResourceName, Resources};

use super::error::At;
use super::field::{at_most, capped, parsed, required};
use super::{ConvertError, Decode};
use crate::limits::{MAX_PORT, MAX_RESOURCE_ITEM_BYTES, MAX_RESOURCE_ITEMS, MAX_RESOURCES};
use crate::v1 as wire;

/// A bundle for the wire.
pub fn to_wire(resources: &Resources) -> Vec<wire::Resource> {
    let entry = |(name, quantity): (&ResourceName, &Quantity)| wire::Resource {
        name: name.to_string(),
        quantity: Some(quantity_to_wire(quantity)),
    };
    resources.iter().map(entry).collect()
}

/// A bundle from the wire, checked.
///
/// # Errors
/// The path of the first resource that is malformed, given twice or over a limit.
pub fn from_wire(resources: Vec<wire::Resource>) -> Result<Resources, ConvertError> {
    Resources::decode(resources, &At::ROOT)
}

impl From<&Resources> for wire::ResourceView {
    fn from(resources: &Resources) -> wire::ResourceView {
        wire::ResourceView { resources: to_wire(resources), text: resources.to_string() }
    }
}

fn quantity_to_wire(quantity: &Quantity) -> wire::resource::Quantity {
    match quantity {
        Quantity::Scalar(amount) => wire::resource::Quantity::Scalar(amount.0),
        Quantity::Ranges(ranges) => {
            let ranges = ranges.iter().map(|(begin, end)| wire::Range { begin, end }).collect();
            wire::resource::Quantity::Ranges(wire::RangeList { ranges })
        }
        Quantity::Set(items) => {
            let items = items.iter().map(|item| item.to_string()).collect();
            wire::resource::Quantity::Set(wire::ItemSet { items })
        }
    }
}

impl Decode<Vec<wire::Resource>> for Resources {
    fn decode(wire: Vec<wire::Resource>, at: &At<'_>) -> Result<Resources, ConvertError> {
        at_most(wire.len(), MAX_RESOURCES, at)?;
        let mut seen = BTreeSet::new();
        let mut resources = Resources::EMPTY;
        for (index, resource) in wire.into_iter().enumerate() {
            let at = at.index(index);
            let name: ResourceName = parsed(&resource.name, &at.field("name"))?;
            if !seen.insert(name.clone()) {
                return Err(at.field("name").invalid(format_args!("resource {name} is given twice")));
            }
            let quantity = required(resource.quantity, &at.field("quantity"))?;
            resources.set(name.clone(), decode_quantity(&name, quantity, &at)?);
        }
        Ok(resources)
    }
}

fn decode_quantity(
    name: &ResourceName,
    quantity: wire::resource::Quantity,
    at: &At<'_>,
) -> Result<Quantity, ConvertError> {
    let is_ports = *name == ResourceName::Ports;
    let is_custom = matches!(name, ResourceName::Custom(_));
    match quantity {
        wire::resource::Quantity::Scalar(_) if is_ports => {
            Err(at.field("scalar").invalid("ports are ranges, not an amount"))
        }
        wire::resource::Quantity::Ranges(_) if !is_custom && !is_ports => {
            Err(at.field("ranges").invalid(format_args!("{name} is an amount, not ranges")))
        }
        wire::resource::Quantity::Set(_) if !is_custom => {
            Err(at.field("set").invalid(format_args!("{name} is not a set")))
        }
        wire::resource::Quantity::Scalar(raw) => decode_scalar(name, raw, &at.field("scalar")),
        wire::resource::Quantity::Ranges(list) => decode_ranges(list, is_ports, &at.field("ranges")),
        wire::resource::Quantity::Set(set) => decode_set(set, &at.field("set")),
    }
}

fn decode_scalar(name: &ResourceName, raw: u64, at: &At<'_>) -> Result<Quantity, ConvertError> {
    let amount = Amount(capped(raw, Amount::MAX.0, at)?);
    if *name == ResourceName::Gpus && !raw.is_multiple_of(1000) {
        return Err(at.invalid(format_args!("{raw} thousandths are not a whole number of gpus")));
    }
    Ok(Quantity::Scalar(amount))
}

fn decode_ranges(list: wire::RangeList, is_ports: bool, at: &At<'_>) -> Result<Quantity, ConvertError> {
    at_most(list.ranges.len(), MAX_RESOURCE_ITEMS, at)?;
    for (index, range) in list.ranges.iter().enumerate() {
        let at = at.index(index);
        if range.begin > range.end {
            return Err(at.invalid(format_args!("the range begins at {} and ends at {}", range.begin, range.end)));
        }
        if is_ports {
            capped(range.end, MAX_PORT, &at.field("end"))?;
        }
    }
    Ok(Quantity::Ranges(Ranges::new(list.ranges.iter().map(|range| (range.begin, range.end)))))
}

fn decode_set(set: wire::ItemSet, at: &At<'_>) -> Result<Quantity, ConvertError> {
    at_most(set.items.len(), MAX_RESOURCE_ITEMS, at)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut items = BTreeSet::new();
    for (index, item) in set.items.into_iter().enumerate() {
        if item.is_empty() || item.len() > MAX_RESOURCE_ITEM_BYTES || !item.chars().all(allowed) {
            let limit = MAX_RESOURCE_ITEM_BYTES;
            return Err(at.index(index).invalid(format_args!("a set item is 1 to {limit} of [A-Za-z0-9._-]")));
        }
        items.insert(Arc::from(item));
    }
    Ok(Quantity::Set(items))
}
