//! What the registry remembers: only what cannot be learned again from agents.

use std::collections::BTreeMap;

use crate::{
    AgentId, AgentInfo, ClusterId, Conversion, Epoch, FrameworkId, FrameworkInfo, Origin, Portions, PortionsError,
    Role, SecretHash, Volume, VolumeId,
};

/// The one record about the cluster itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Which cluster this registry is of.
    pub cluster: ClusterId,
    /// The epoch of the latest leader.
    pub epoch: Epoch,
}

/// An agent that was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// What it must present to come back.
    pub secret: SecretHash,
    /// What it said of itself last.
    pub info: AgentInfo,
    /// Whether it has been marked unreachable.
    pub unreachable: bool,
}

/// What was reserved on an agent since it was admitted, and the volumes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationRecord {
    /// Which agent.
    pub agent: AgentId,
    /// Everything that is not as in the agent's configuration.
    pub reserved: Portions,
    /// The numbers of its volumes.
    pub serials: BTreeMap<(Role, VolumeId), u64>,
    /// The number of the next volume.
    pub next_serial: u64,
}

impl ReservationRecord {
    /// Of an agent that is as configured.
    pub fn new(agent: AgentId) -> ReservationRecord {
        ReservationRecord { agent, reserved: Portions::EMPTY, serials: BTreeMap::new(), next_serial: 1 }
    }

    /// The record after a conversion of the agent's resources.
    ///
    /// # Errors
    /// When what is consumed is not here.
    pub fn after(&self, conversion: &Conversion) -> Result<ReservationRecord, PortionsError> {
        let is_dynamic = |origin: &Origin| match origin {
            Origin::Reserved(by) => !by.is_fixed(),
            Origin::Volume(..) => true,
            Origin::Unreserved | Origin::Revocable => false,
        };
        let reserved = self.reserved.minus(&conversion.consumed.filtered(is_dynamic))?;
        let mut after = ReservationRecord { reserved, ..self.clone() };
        for (origin, resources) in conversion.produced.filtered(is_dynamic).iter() {
            after.reserved.add(origin.clone(), resources)?;
        }
        for key in volumes_of(&conversion.consumed) {
            after.serials.remove(&key);
        }
        for key in volumes_of(&conversion.produced) {
            after.serials.insert(key, after.next_serial);
            after.next_serial = after.next_serial.saturating_add(1);
        }
        Ok(after)
    }

    /// What the agent has by origin, when its configuration says `configured`. Of what is reserved and is not there any
    /// more, the rest counts; a volume that does not fit is not there.
    pub fn applied_to(&self, configured: &Portions) -> Portions {
        let mut stock = configured.clone();
        let (volumes, others): (Vec<_>, Vec<_>) =
            self.reserved.iter().partition(|(origin, _)| matches!(origin, Origin::Volume(..)));
        for (origin, resources) in volumes.into_iter().chain(others) {
            let Some(source) = origin.reservation().map(|by| by.configured()) else { continue };
            let is_volume = matches!(origin, Origin::Volume(..));
            let there = stock.get(&source).map(|have| have.common(resources)).unwrap_or_default();
            if is_volume && there != *resources {
                continue;
            }
            if stock.take(&source, &there).is_ok() {
                // What was just taken cannot be there twice.
                let _ = stock.add(origin.clone(), &there);
            }
        }
        stock
    }

    /// The volumes, as their agent is told of them.
    pub fn volumes(&self) -> Vec<Volume> {
        let volume = |(origin, resources): (&Origin, &crate::Resources)| {
            let Origin::Volume(id, by) = origin else { return None };
            let serial = *self.serials.get(&(by.role().clone(), id.clone()))?;
            let bytes = resources.scalar(&crate::ResourceName::Disk).0;
            Some(Volume { serial, id: id.clone(), role: by.role().clone(), bytes })
        };
        self.reserved.iter().filter_map(volume).collect()
    }
}

fn volumes_of(portions: &Portions) -> impl Iterator<Item = (Role, VolumeId)> {
    portions.iter().filter_map(|(origin, _)| match origin {
        Origin::Volume(id, by) => Some((by.role().clone(), id.clone())),
        _ => None,
    })
}

/// A framework's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkRecord {
    /// Its id.
    pub id: FrameworkId,
    /// What it must present to come back.
    pub secret: SecretHash,
    /// What it said of itself last.
    pub info: FrameworkInfo,
    /// Whether it has ended; its id is then refused and its tasks, wherever they turn up, are killed.
    pub completed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    fn portions(text: &str) -> Portions {
        text.parse().unwrap()
    }

    fn after(record: &ReservationRecord, available: &str, operation: &Operation) -> ReservationRecord {
        record.after(&operation.conversion(&portions(available)).unwrap()).unwrap()
    }

    #[test]
    fn a_record_remembers_what_is_not_as_configured() {
        let empty = ReservationRecord::new(AgentId::new(Epoch(1), 1));
        let reservation = std::sync::Arc::new("eng".parse().unwrap());
        let resources = "cpus:2;disk:4GiB".parse().unwrap();
        let reserve = Operation::Reserve { resources, reservation: std::sync::Arc::clone(&reservation) };
        let reserved = after(&empty, "cpus:4;disk:8GiB", &reserve);
        let (id, size) = ("data".parse::<VolumeId>().unwrap(), crate::Amount(1 << 30));
        let create = Operation::CreateVolume { id: id.clone(), size, reservation };
        let with_volume = after(&reserved, "disk(eng):4GiB", &create);
        assert_eq!(with_volume.reserved, portions("cpus(eng):2;disk(eng):3GiB;disk(eng)#data:1GiB"));
        let configured = portions("cpus:4;mem:1GiB;disk:8GiB");
        let stock = "cpus:2;mem:1GiB;disk:4GiB;cpus(eng):2;disk(eng):3GiB;disk(eng)#data:1GiB";
        assert_eq!(with_volume.applied_to(&configured), portions(stock));
        // The agent came back smaller: a volume comes first, and what is left of a reservation counts.
        assert_eq!(
            with_volume.applied_to(&portions("cpus:1;disk:2GiB")).to_string(),
            "cpus(eng):1;disk(eng):1GiB;disk(eng)#data:1GiB"
        );
        assert_eq!(with_volume.applied_to(&portions("disk:1MiB")).to_string(), "disk(eng):1MiB");
        let role = "eng".parse().unwrap();
        let destroyed = after(&with_volume, "disk(eng)#data:1GiB", &Operation::DestroyVolume { id, role });
        assert_eq!((destroyed.reserved.clone(), destroyed.volumes()), (reserved.reserved, vec![]));
        let again = after(&destroyed, "disk(eng):4GiB", &create);
        assert_eq!((with_volume.volumes()[0].serial, again.volumes()[0].serial), (1, 2));
    }
}
