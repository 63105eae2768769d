//! Resources by origin, and the operations on them.

use std::sync::Arc;

use holm_model::{
    Amount, Operation, OperationStatus, Origin, Portions, Requested, Reservation, ReservationError, ReservationRecord,
    ResourceName, Resources, Role, Volume,
};

use super::error::At;
use super::field::{
    at_most, capped, decoded, explanation, list, optional, pairs, pairs_to_wire, parsed, required, text_or_empty,
};
use super::{ConvertError, Decode, resources};
use crate::limits::MAX_PORTIONS;
use crate::v1 as wire;

/// Portions for the wire.
pub fn to_wire(portions: &Portions) -> Vec<wire::Portion> {
    let entry = |(origin, resources): (&Origin, &Resources)| wire::Portion {
        reservation: origin.reservation().map(|by| layers(by)).unwrap_or_default(),
        volume_id: match origin {
            Origin::Volume(id, _) => id.to_string(),
            _ => String::new(),
        },
        revocable: *origin == Origin::Revocable,
        resources: resources::to_wire(resources),
    };
    portions.iter().map(entry).collect()
}

/// Portions from the wire, checked.
///
/// # Errors
/// The path of the first portion that is malformed, given twice or over a limit.
pub fn from_wire(portions: Vec<wire::Portion>) -> Result<Portions, ConvertError> {
    Portions::decode(portions, &At::ROOT)
}

/// What a launch holds or an offer has: nothing where all of it is unreserved, since the plain resources say it then.
pub(super) fn tied(portions: &Portions) -> Vec<wire::Portion> {
    if portions.iter().all(|(origin, _)| *origin == Origin::Unreserved) { Vec::new() } else { to_wire(portions) }
}

/// The portions of what [`tied`] says of `resources`.
pub(super) fn untied(wire: Vec<wire::Portion>, resources: &Resources, at: &At<'_>) -> Result<Portions, ConvertError> {
    if wire.is_empty() {
        return Ok(Portions::unreserved(resources.clone()));
    }
    let portions = Portions::decode(wire, at)?;
    if portions.total() != *resources {
        return Err(at.invalid(format_args!("the portions are {portions}, the resources {resources}")));
    }
    Ok(portions)
}

/// Lists of portions.
pub(super) fn lists(all: &[Portions]) -> Vec<wire::PortionList> {
    all.iter().map(|portions| wire::PortionList { portions: to_wire(portions) }).collect()
}

impl Decode<wire::PortionList> for Portions {
    fn decode(wire: wire::PortionList, at: &At<'_>) -> Result<Portions, ConvertError> {
        Portions::decode(wire.portions, &at.field("portions"))
    }
}

impl From<&Volume> for wire::Volume {
    fn from(volume: &Volume) -> wire::Volume {
        let Volume { serial, id, role, bytes } = volume;
        wire::Volume { serial: *serial, volume_id: id.to_string(), role: role.to_string(), bytes: *bytes }
    }
}

impl Decode<wire::Volume> for Volume {
    fn decode(wire: wire::Volume, at: &At<'_>) -> Result<Volume, ConvertError> {
        Ok(Volume {
            serial: wire.serial,
            id: parsed(&wire.volume_id, &at.field("volume_id"))?,
            role: parsed(&wire.role, &at.field("role"))?,
            bytes: wire.bytes,
        })
    }
}

impl From<&[Volume]> for wire::Volumes {
    fn from(volumes: &[Volume]) -> wire::Volumes {
        wire::Volumes { volumes: volumes.iter().map(wire::Volume::from).collect() }
    }
}

impl TryFrom<wire::Volumes> for Vec<Volume> {
    type Error = ConvertError;

    fn try_from(wire: wire::Volumes) -> Result<Vec<Volume>, ConvertError> {
        volumes(wire, &At::ROOT)
    }
}

pub(super) fn volumes(wire: wire::Volumes, at: &At<'_>) -> Result<Vec<Volume>, ConvertError> {
    list(wire.volumes, MAX_PORTIONS, &at.field("volumes"))
}

impl From<&Requested> for wire::RequestedOperation {
    fn from(requested: &Requested) -> wire::RequestedOperation {
        wire::RequestedOperation { id: requested.id.to_string(), operation: Some((&requested.operation).into()) }
    }
}

impl Decode<wire::RequestedOperation> for Requested {
    fn decode(wire: wire::RequestedOperation, at: &At<'_>) -> Result<Requested, ConvertError> {
        let id = parsed(&wire.id, &at.field("id"))?;
        Ok(Requested { id, operation: decoded(wire.operation, &at.field("operation"))? })
    }
}

impl From<&OperationStatus> for wire::OperationStatus {
    fn from(status: &OperationStatus) -> wire::OperationStatus {
        wire::OperationStatus { id: status.id.to_string(), refusal: text_or_empty(status.refusal.as_ref()) }
    }
}

impl Decode<wire::OperationStatus> for OperationStatus {
    fn decode(wire: wire::OperationStatus, at: &At<'_>) -> Result<OperationStatus, ConvertError> {
        let refusal = (!wire.refusal.is_empty()).then(|| explanation(&wire.refusal));
        Ok(OperationStatus { id: parsed(&wire.id, &at.field("id"))?, refusal })
    }
}

impl From<&ReservationRecord> for wire::ReservationRecord {
    fn from(record: &ReservationRecord) -> wire::ReservationRecord {
        wire::ReservationRecord {
            agent_id: record.agent.to_string(),
            reserved: to_wire(&record.reserved),
            volumes: record.volumes().iter().map(wire::Volume::from).collect(),
            next_serial: record.next_serial,
        }
    }
}

impl Decode<wire::ReservationRecord> for ReservationRecord {
    fn decode(wire: wire::ReservationRecord, at: &At<'_>) -> Result<ReservationRecord, ConvertError> {
        let volumes: Vec<Volume> = list(wire.volumes, MAX_PORTIONS, &at.field("volumes"))?;
        Ok(ReservationRecord {
            agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
            reserved: Portions::decode(wire.reserved, &at.field("reserved"))?,
            serials: volumes.into_iter().map(|volume| ((volume.role, volume.id), volume.serial)).collect(),
            next_serial: wire.next_serial,
        })
    }
}

fn layers(reservation: &Reservation) -> Vec<wire::ReservationLayer> {
    let layer = |layer: &Reservation| wire::ReservationLayer {
        role: layer.role().to_string(),
        labels: pairs_to_wire(layer.labels()),
        fixed: layer.is_fixed(),
    };
    let mut layers: Vec<_> = reservation.layers().map(layer).collect();
    layers.reverse();
    layers
}

impl Decode<Vec<wire::Portion>> for Portions {
    fn decode(wire: Vec<wire::Portion>, at: &At<'_>) -> Result<Portions, ConvertError> {
        at_most(wire.len(), MAX_PORTIONS, at)?;
        let mut portions = Portions::EMPTY;
        for (index, portion) in wire.into_iter().enumerate() {
            let at = at.index(index);
            let resources = Resources::decode(portion.resources, &at.field("resources"))?;
            let reservation = reservation(portion.reservation, &at.field("reservation"))?;
            let volume = optional(&portion.volume_id, &at.field("volume_id"))?;
            let origin = match (reservation, volume, portion.revocable) {
                (None, None, false) => Origin::Unreserved,
                (None, None, true) => Origin::Revocable,
                (Some(by), None, false) => Origin::Reserved(by),
                (Some(by), Some(id), false) => Origin::Volume(id, by),
                (_, Some(_), _) => return Err(at.field("volume_id").invalid("a volume is of a reservation")),
                (Some(_), None, true) => return Err(at.field("revocable").invalid("a reservation is not revocable")),
            };
            let is_disk = |name: &ResourceName| *name == ResourceName::Disk;
            if matches!(origin, Origin::Volume(..)) && !resources.iter().all(|(name, _)| is_disk(name)) {
                return Err(at.field("resources").invalid("a volume is of disk"));
            }
            if portions.get(&origin).is_some() {
                return Err(at.invalid(format_args!("{origin} is given twice")));
            }
            portions.add(origin, &resources).map_err(|error| at.invalid(error))?;
        }
        Ok(portions)
    }
}

/// A reservation of these layers; none when there are none.
fn reservation(layers: Vec<wire::ReservationLayer>, at: &At<'_>) -> Result<Option<Arc<Reservation>>, ConvertError> {
    at_most(layers.len(), Role::MAX_DEPTH, at)?;
    let mut below: Option<Arc<Reservation>> = None;
    for (index, layer) in layers.into_iter().enumerate() {
        let at = at.index(index);
        let role: Role = parsed(&layer.role, &at.field("role"))?;
        let (most, longest) = (Reservation::MAX_LABELS, Reservation::MAX_LABEL_BYTES);
        let labels = pairs(layer.labels, most, longest, &at.field("labels"))?;
        let made: Result<Reservation, ReservationError> = match below {
            Some(_) if layer.fixed => return Err(at.field("fixed").invalid("a refinement is not static")),
            Some(below) => Reservation::refining(below, role, labels),
            None if layer.fixed => Reservation::fixed(role, labels),
            None => Reservation::new(role, labels),
        };
        below = Some(Arc::new(made.map_err(|error| at.invalid(error))?));
    }
    Ok(below)
}

fn some_reservation(layers: Vec<wire::ReservationLayer>, at: &At<'_>) -> Result<Arc<Reservation>, ConvertError> {
    required(reservation(layers, at)?, at)
}

impl From<&Operation> for wire::Operation {
    fn from(operation: &Operation) -> wire::Operation {
        let reserving = |resources: &Resources, reservation: &Reservation| wire::ReserveOperation {
            resources: resources::to_wire(resources),
            reservation: layers(reservation),
        };
        let operation = match operation {
            Operation::Reserve { resources, reservation } => {
                wire::operation::Operation::Reserve(reserving(resources, reservation))
            }
            Operation::Unreserve { resources, reservation } => {
                wire::operation::Operation::Unreserve(reserving(resources, reservation))
            }
            Operation::CreateVolume { id, size, reservation } => {
                let (volume_id, reservation) = (id.to_string(), layers(reservation));
                wire::operation::Operation::CreateVolume(wire::CreateVolumeOperation {
                    volume_id,
                    size: size.0,
                    reservation,
                })
            }
            Operation::DestroyVolume { id, role } => {
                let (volume_id, role) = (id.to_string(), role.to_string());
                wire::operation::Operation::DestroyVolume(wire::DestroyVolumeOperation { volume_id, role })
            }
        };
        wire::Operation { operation: Some(operation) }
    }
}

impl Decode<wire::Operation> for Operation {
    fn decode(wire: wire::Operation, at: &At<'_>) -> Result<Operation, ConvertError> {
        let reserving = |inner: wire::ReserveOperation, at: &At<'_>| {
            let resources = Resources::decode(inner.resources, &at.field("resources"))?;
            Ok::<_, ConvertError>((resources, some_reservation(inner.reservation, &at.field("reservation"))?))
        };
        Ok(match required(wire.operation, &at.field("operation"))? {
            wire::operation::Operation::Reserve(inner) => {
                let (resources, reservation) = reserving(inner, &at.field("reserve"))?;
                Operation::Reserve { resources, reservation }
            }
            wire::operation::Operation::Unreserve(inner) => {
                let (resources, reservation) = reserving(inner, &at.field("unreserve"))?;
                Operation::Unreserve { resources, reservation }
            }
            wire::operation::Operation::CreateVolume(inner) => {
                let at = at.field("create_volume");
                Operation::CreateVolume {
                    id: parsed(&inner.volume_id, &at.field("volume_id"))?,
                    size: Amount(capped(inner.size, Amount::MAX.0, &at.field("size"))?),
                    reservation: some_reservation(inner.reservation, &at.field("reservation"))?,
                }
            }
            wire::operation::Operation::DestroyVolume(inner) => {
                let at = at.field("destroy_volume");
                Operation::DestroyVolume {
                    id: parsed(&inner.volume_id, &at.field("volume_id"))?,
                    role: parsed(&inner.role, &at.field("role"))?,
                }
            }
        })
    }
}
