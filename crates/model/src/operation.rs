//! What frameworks and operators do to the origins of resources. All of it is one thing to the books: a [`Conversion`].

use std::sync::Arc;

use crate::{
    Amount, OperationId, Origin, Portions, PortionsError, Quantity, Reservation, ResourceName, Resources, Role,
    VolumeId,
};

/// A change of origins that leaves every amount as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// What is taken.
    pub consumed: Portions,
    /// What it becomes.
    pub produced: Portions,
}

/// What is to be done to free resources of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set resources aside. They come from what the reservation refines, or from the unreserved.
    Reserve {
        /// What.
        resources: Resources,
        /// For whom.
        reservation: Arc<Reservation>,
    },
    /// End a reservation, in whole or in part. The resources become again what they were before it.
    Unreserve {
        /// What.
        resources: Resources,
        /// Of which reservation.
        reservation: Arc<Reservation>,
    },
    /// Make a volume of reserved disk.
    CreateVolume {
        /// What it is called.
        id: VolumeId,
        /// Its size in bytes.
        size: Amount,
        /// Of which reservation.
        reservation: Arc<Reservation>,
    },
    /// End a volume: its data goes, its disk is reserved as before.
    DestroyVolume {
        /// Which.
        id: VolumeId,
        /// Whose: the role that its disk is reserved for.
        role: Role,
    },
}

/// An operation of an ACCEPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The framework's name for it.
    pub id: OperationId,
    /// What is to be done.
    pub operation: Operation,
}

/// How an operation of an ACCEPT ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationStatus {
    /// The framework's name for it.
    pub id: OperationId,
    /// Why it was refused, for people; none when it is done, and durable.
    pub refusal: Option<Arc<str>>,
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// It is about nothing.
    #[error("{0} of nothing: at least one resource is needed")]
    Nothing(&'static str),
    /// A reservation of the agent's configuration was to be made or ended.
    #[error("reservation {0} is static: it changes with the agent's configuration only")]
    Static(Reservation),
    /// There is less to convert.
    #[error("{kind}: {problem}")]
    Short {
        /// What was to be done.
        kind: &'static str,
        /// What is short.
        problem: PortionsError,
    },
    /// The role has a volume of this id on the agent.
    #[error("volume {id} of role {role} exists on this agent")]
    Exists {
        /// The volume.
        id: VolumeId,
        /// Its role.
        role: Role,
    },
    /// The role has no free volume of this id on the agent.
    #[error("volume {id} of role {role} is not on this agent, or in use")]
    NoVolume {
        /// The volume.
        id: VolumeId,
        /// The role.
        role: Role,
    },
}

impl Operation {
    /// The operation's name, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Operation::Reserve { .. } => "reserve",
            Operation::Unreserve { .. } => "unreserve",
            Operation::CreateVolume { .. } => "create volume",
            Operation::DestroyVolume { .. } => "destroy volume",
        }
    }

    /// The role whose resources it is about.
    pub fn role(&self) -> &Role {
        match self {
            Operation::Reserve { reservation, .. }
            | Operation::Unreserve { reservation, .. }
            | Operation::CreateVolume { reservation, .. } => reservation.role(),
            Operation::DestroyVolume { role, .. } => role,
        }
    }

    /// What it does to `available`, which is free for it. That a volume's id is new on the agent is for the caller to
    /// check too: `available` need not be all of it.
    ///
    /// # Errors
    /// The rule and the numbers; nothing has changed.
    pub fn conversion(&self, available: &Portions) -> Result<Conversion, OperationError> {
        let conversion = self.exchange(available)?;
        let kind = self.kind();
        available.minus(&conversion.consumed).map_err(|problem| OperationError::Short { kind, problem })?;
        Ok(conversion)
    }

    fn exchange(&self, available: &Portions) -> Result<Conversion, OperationError> {
        match self {
            Operation::Reserve { resources, reservation } => self.reserving(resources, reservation),
            Operation::Unreserve { resources, reservation } => {
                let Conversion { consumed, produced } = self.reserving(resources, reservation)?;
                Ok(Conversion { consumed: produced, produced: consumed })
            }
            Operation::CreateVolume { id, size, reservation } => {
                let disk = Resources::from_iter([(ResourceName::Disk, Quantity::Scalar(*size))]);
                if disk.is_empty() {
                    return Err(OperationError::Nothing(self.kind()));
                }
                if available.has_volume(id, reservation.role()) {
                    return Err(OperationError::Exists { id: id.clone(), role: reservation.role().clone() });
                }
                let volume = Origin::Volume(id.clone(), Arc::clone(reservation));
                Ok(Conversion {
                    consumed: Portions::of(Origin::Reserved(Arc::clone(reservation)), disk.clone()),
                    produced: Portions::of(volume, disk),
                })
            }
            Operation::DestroyVolume { id, role } => {
                let missing = || OperationError::NoVolume { id: id.clone(), role: role.clone() };
                let (volume, disk) = available.volume_of(id, role).ok_or_else(missing)?;
                let reservation = volume.reservation().ok_or_else(missing)?;
                Ok(Conversion {
                    consumed: Portions::of(volume.clone(), disk.clone()),
                    produced: Portions::of(Origin::Reserved(Arc::clone(reservation)), disk.clone()),
                })
            }
        }
    }

    fn reserving(&self, resources: &Resources, reservation: &Arc<Reservation>) -> Result<Conversion, OperationError> {
        if resources.is_empty() {
            return Err(OperationError::Nothing(self.kind()));
        }
        let before = reservation.unreserved().ok_or_else(|| OperationError::Static((**reservation).clone()))?;
        Ok(Conversion {
            consumed: Portions::of(before, resources.clone()),
            produced: Portions::of(Origin::Reserved(Arc::clone(reservation)), resources.clone()),
        })
    }
}

impl Conversion {
    /// `portions` after it.
    ///
    /// # Errors
    /// When they do not hold what is consumed.
    pub fn apply(&self, portions: &Portions) -> Result<Portions, PortionsError> {
        portions.minus(&self.consumed)?.plus(&self.produced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portions(text: &str) -> Portions {
        text.parse().unwrap()
    }

    fn reservation(text: &str) -> Arc<Reservation> {
        Arc::new(text.parse().unwrap())
    }

    fn done(operation: &Operation, before: &str) -> String {
        operation.conversion(&portions(before)).unwrap().apply(&portions(before)).unwrap().to_string()
    }

    #[test]
    fn operations_undo_each_other() {
        let resources: Resources = "cpus:2;ports:[31000-31004]".parse().unwrap();
        let before = "cpus:4;ports:[31000-31009]";
        let reserve = Operation::Reserve { resources: resources.clone(), reservation: reservation("eng") };
        let after = done(&reserve, before);
        assert_eq!(after, "cpus:2;ports:[31005-31009];cpus(eng):2;ports(eng):[31000-31004]");
        let refine = Operation::Reserve { resources: "cpus:1".parse().unwrap(), reservation: reservation("eng>eng/a") };
        let refined = done(&refine, &after);
        let pop = Operation::Unreserve { resources: "cpus:1".parse().unwrap(), reservation: reservation("eng>eng/a") };
        assert_eq!(done(&pop, &refined), after);
        assert_eq!(done(&Operation::Unreserve { resources, reservation: reservation("eng") }, &after), before);
    }

    #[test]
    fn a_volume_is_cut_from_its_reservation_and_returns_to_it() {
        let id: VolumeId = "data".parse().unwrap();
        let create =
            Operation::CreateVolume { id: id.clone(), size: Amount(1 << 30), reservation: reservation("eng,static") };
        let after = done(&create, "disk(eng,static):4GiB");
        assert_eq!(after, "disk(eng,static):3GiB;disk(eng,static)#data:1GiB");
        assert!(matches!(create.conversion(&portions(&after)), Err(OperationError::Exists { .. })));
        let destroy = Operation::DestroyVolume { id, role: "eng".parse().unwrap() };
        assert_eq!(done(&destroy, &after), "disk(eng,static):4GiB");
        let above = "disk(eng>eng/a)#data:1GiB";
        assert!(matches!(destroy.conversion(&portions(above)), Err(OperationError::NoVolume { .. })));
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_numbers() {
        let resources: Resources = "cpus:2".parse().unwrap();
        let refused =
            |operation: Operation| operation.conversion(&portions("cpus:1;cpus(eng):1")).unwrap_err().to_string();
        let reserve = refused(Operation::Reserve { resources: resources.clone(), reservation: reservation("eng") });
        assert_eq!(reserve, "reserve: unreserved: cpus: 2 asked, 1 available");
        let unreserve = refused(Operation::Unreserve { resources: resources.clone(), reservation: reservation("eng") });
        assert_eq!(unreserve, "unreserve: reserved for eng: cpus: 2 asked, 1 available");
        let fixed = refused(Operation::Unreserve { resources, reservation: reservation("eng,static") });
        assert!(fixed.contains("static"), "{fixed}");
        let nothing = Operation::Reserve { resources: Resources::EMPTY, reservation: reservation("eng") };
        assert_eq!(refused(nothing), "reserve of nothing: at least one resource is needed");
    }
}
