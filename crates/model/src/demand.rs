//! What a framework says it wants: which offers it takes in a role, and the shapes it waits for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::{ConstraintError, Constraints, MAX_NAME_BYTES, Quantity, ResourceName, Resources};

/// Most demands of one framework, over all its roles.
pub const MAX_DEMANDS: usize = 1000;

/// Most bundles of one demand.
pub const MAX_DEMAND_COUNT: u32 = 1_000_000;

/// Most bundles of a gang, which the master grants and launches together.
pub const MAX_GANG_COUNT: u32 = 1024;

/// Most ports of one bundle.
pub const MAX_DEMAND_PORTS: u32 = 64;

/// Longest declared duration of what a demand is for: 365 days.
pub const MAX_DEMAND_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// From which end agents are chosen for a role's offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// The agent with the most free first: load is even, and one lost agent takes little with it.
    #[default]
    Spread,
    /// The agent with the least free first: large holes stay whole, and idle agents stay idle.
    Pack,
    /// Any agent, drawn anew for every decision.
    Random,
}

impl Placement {
    /// Every policy.
    pub const ALL: [Placement; 3] = [Placement::Spread, Placement::Pack, Placement::Random];

    /// The policy as people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Placement::Spread => "spread",
            Placement::Pack => "pack",
            Placement::Random => "random",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no placement policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("placement {0:?} is not spread, pack or random")]
pub struct ParsePlacementError(String);

impl FromStr for Placement {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Placement, ParsePlacementError> {
        let known = Placement::ALL.into_iter().find(|placement| placement.as_str() == text);
        known.ok_or_else(|| ParsePlacementError(text.chars().take(64).collect()))
    }
}

/// Which offers a framework takes in one of its roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleOptions {
    /// Only of agents of which all this holds.
    pub constraints: Constraints,
    /// Only offers that contain this: scalars. Empty leaves it to the master's own minimum.
    pub minimum: Resources,
    /// From which end agents are chosen.
    pub placement: Placement,
    /// Only offers that serve a demand it has stated in this subscription; without demands there are none.
    pub by_demand: bool,
    /// Whether it takes part in optimistic offers: the same resources go to several, and the first valid accept wins.
    pub optimistic: bool,
}

/// Why a role's options were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleOptionsError {
    /// The minimum has something that has no amount.
    #[error("minimum has {0}, which is not an amount")]
    Minimum(ResourceName),
}

impl RoleOptions {
    /// Checks the limits of every field.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), RoleOptionsError> {
        not_an_amount(&self.minimum).map_or(Ok(()), |name| Err(RoleOptionsError::Minimum(name.clone())))
    }
}

fn not_an_amount(resources: &Resources) -> Option<&ResourceName> {
    let not_scalar = |(_, quantity): &(&ResourceName, &Quantity)| !matches!(quantity, Quantity::Scalar(_));
    resources.iter().find(not_scalar).map(|(name, _)| name)
}

/// A framework's name for one of its demands: 1 to [`MAX_NAME_BYTES`] of `[A-Za-z0-9._-]`, unique within the role.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandId(Arc<str>);

impl DemandId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no demand's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("demand id {0:?} is not 1 to {MAX_NAME_BYTES} of [A-Za-z0-9._-]")]
pub struct DemandIdError(String);

impl FromStr for DemandId {
    type Err = DemandIdError;

    fn from_str(text: &str) -> Result<DemandId, DemandIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(allowed) {
            return Err(DemandIdError(text.chars().take(64).collect()));
        }
        Ok(DemandId(text.into()))
    }
}

impl fmt::Display for DemandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DemandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A shape that a framework waits for. It is offered multiples of the shape, no more than it wants, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The framework's name for it.
    pub id: DemandId,
    /// One bundle: scalars. A task's resources, without its ports.
    pub shape: Resources,
    /// How many ports each bundle needs beside that; whichever are free.
    pub ports: u32,
    /// Where, in addition to the role's own constraints.
    pub constraints: Constraints,
    /// How many bundles it wants that it has not launched yet. What it holds in offers for this demand counts towards it;
    /// the master counts down what is launched on those, until the demand is stated anew.
    pub count: u32,
    /// Of a gang: how many at least, together; zero for all of them. Otherwise: how many at least in one offer; zero for one.
    pub minimum: u32,
    /// Whether the bundles are of use together only: granted at one time, accepted all or none.
    pub gang: bool,
    /// Served before those of the same role with a lower one, whoever has the smaller share.
    pub priority: i32,
    /// Whether revocable resources will do.
    pub revocable_ok: bool,
    /// The longest that anything launched for it will hold resources. What is launched on offers for it needs a deadline
    /// within that; in return it may use resources that are kept for others for longer than that.
    pub max_duration: Option<Duration>,
}

/// Why a demand was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// The shape is empty.
    #[error("demand {0} has an empty shape")]
    Empty(DemandId),
    /// The shape has something that has no amount.
    #[error("demand {id} has {name} in its shape, which is not an amount; ports are asked for by their number")]
    Shape {
        /// Which demand.
        id: DemandId,
        /// Which resource.
        name: ResourceName,
    },
    /// A number is out of bounds.
    #[error("demand {id} has a {field} of {value}; the limits are {least} to {most}")]
    Number {
        /// Which demand.
        id: DemandId,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u32,
        /// What it may say at least.
        least: u32,
        /// What it may say at most.
        most: u32,
    },
    /// The duration is zero or over [`MAX_DEMAND_DURATION`].
    #[error("demand {id} has a max_duration of {duration:?}; the limit is {MAX_DEMAND_DURATION:?}, and it is not zero")]
    Duration {
        /// Which demand.
        id: DemandId,
        /// What it says.
        duration: Duration,
    },
    /// There are more than [`MAX_DEMANDS`].
    #[error("{0} demands; the limit of a framework is {MAX_DEMANDS}")]
    TooMany(usize),
    /// Two demands have one name.
    #[error("demand {0} is given twice")]
    Duplicate(DemandId),
    /// The conditions are too many.
    #[error("demand {id} has too many constraints")]
    Constraints {
        /// Which demand.
        id: DemandId,
        /// How many, and the limit.
        source: ConstraintError,
    },
}

impl Demand {
    /// A demand for `count` bundles of `shape`, with everything else as usual.
    pub fn new(id: DemandId, shape: Resources, count: u32) -> Demand {
        Demand {
            id,
            shape,
            ports: 0,
            constraints: Constraints::default(),
            count,
            minimum: 0,
            gang: false,
            priority: 0,
            revocable_ok: false,
            max_duration: None,
        }
    }

    /// The least number of bundles that are of use at one time: of a gang together, otherwise in one offer.
    pub fn least(&self) -> u32 {
        match self.minimum {
            0 if self.gang => self.count,
            0 => 1,
            minimum => minimum,
        }
    }

    /// Checks the limits of every field.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), DemandError> {
        let id = || self.id.clone();
        if self.shape.is_empty() {
            return Err(DemandError::Empty(id()));
        }
        if let Some(name) = not_an_amount(&self.shape) {
            return Err(DemandError::Shape { id: id(), name: name.clone() });
        }
        let most = if self.gang { MAX_GANG_COUNT } else { MAX_DEMAND_COUNT };
        let numbers = [
            ("count", self.count, 1, most),
            ("minimum", self.minimum, 0, self.count),
            ("ports", self.ports, 0, MAX_DEMAND_PORTS),
        ];
        let bad = numbers.into_iter().find(|(_, value, least, most)| value < least || value > most);
        if let Some((field, value, least, most)) = bad {
            return Err(DemandError::Number { id: id(), field, value, least, most });
        }
        match self.max_duration {
            Some(duration) if duration.is_zero() || duration > MAX_DEMAND_DURATION => {
                Err(DemandError::Duration { id: id(), duration })
            }
            _ => Ok(()),
        }
    }

    /// Checks a role's demands.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate_all(demands: &[Demand]) -> Result<(), DemandError> {
        if demands.len() > MAX_DEMANDS {
            return Err(DemandError::TooMany(demands.len()));
        }
        let mut ids: Vec<&DemandId> = demands.iter().map(|demand| &demand.id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(DemandError::Duplicate(pair[0].clone()));
        }
        demands.iter().try_for_each(Demand::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> Demand {
        Demand::new("big".parse().unwrap(), "cpus:4;mem:1GiB".parse().unwrap(), 8)
    }

    #[test]
    fn what_is_least_depends_on_the_kind_of_demand() {
        assert_eq!(demand().least(), 1);
        assert_eq!(Demand { gang: true, ..demand() }.least(), 8);
        assert_eq!(Demand { gang: true, minimum: 3, ..demand() }.least(), 3);
    }

    #[test]
    fn demands_outside_the_limits_are_refused_with_the_numbers() {
        assert_eq!(demand().validate(), Ok(()));
        let message = |demand: Demand| demand.validate().unwrap_err().to_string();
        assert_eq!(
            message(Demand { count: 0, ..demand() }),
            "demand big has a count of 0; the limits are 1 to 1000000"
        );
        assert_eq!(
            message(Demand { gang: true, count: 1025, ..demand() }),
            "demand big has a count of 1025; the limits are 1 to 1024"
        );
        assert_eq!(message(Demand { minimum: 9, ..demand() }), "demand big has a minimum of 9; the limits are 0 to 8");
        assert!(message(Demand { shape: Resources::EMPTY, ..demand() }).contains("empty"));
        let ports = Demand { shape: "cpus:1;ports:[1-2]".parse().unwrap(), ..demand() };
        assert!(message(ports).contains("ports"));
        assert!(message(Demand { max_duration: Some(Duration::ZERO), ..demand() }).contains("max_duration"));
        assert!(Demand::validate_all(&[demand(), demand()]).unwrap_err().to_string().contains("twice"));
        assert!(Demand::validate_all(&vec![demand(); 1001]).unwrap_err().to_string().contains("1001 demands"));
    }

    #[test]
    fn a_minimum_of_ports_is_refused() {
        let options = RoleOptions { minimum: "cpus:1;ports:[1-2]".parse().unwrap(), ..RoleOptions::default() };
        assert_eq!(options.validate().unwrap_err().to_string(), "minimum has ports, which is not an amount");
    }
}
