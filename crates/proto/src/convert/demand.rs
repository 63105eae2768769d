//! What a framework says it wants: demands, and which offers it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{
    Constraint, Constraints, Demand, MAX_CONSTRAINT_BYTES, MAX_CONSTRAINTS, Placement, Resources, Role, RoleOptions,
    Subject, Test,
};

use super::error::At;
use super::field::{at_most, bounded, list, micros, parsed};
use super::{ConvertError, Decode, resources};
use crate::limits::MAX_ROLES;
use crate::v1 as wire;

pub(super) fn role_options_to_wire(options: &BTreeMap<Role, RoleOptions>) -> Vec<wire::RoleOptions> {
    let entry = |(role, options): (&Role, &RoleOptions)| wire::RoleOptions {
        role: role.to_string(),
        constraints: constraints_to_wire(&options.constraints),
        minimum: resources::to_wire(&options.minimum),
        placement: placement_to_wire(options.placement).into(),
        by_demand: options.by_demand,
        optimistic: options.optimistic,
    };
    options.iter().map(entry).collect()
}

pub(super) fn role_options(
    wire: Vec<wire::RoleOptions>,
    at: &At<'_>,
) -> Result<BTreeMap<Role, RoleOptions>, ConvertError> {
    at_most(wire.len(), MAX_ROLES, at)?;
    let mut options = BTreeMap::new();
    for (index, entry) in wire.into_iter().enumerate() {
        let at = at.index(index);
        let role: Role = parsed(&entry.role, &at.field("role"))?;
        if options.insert(role.clone(), RoleOptions::decode(entry, &at)?).is_some() {
            return Err(at.field("role").invalid(format_args!("role {role} is given twice")));
        }
    }
    Ok(options)
}

impl Decode<wire::RoleOptions> for RoleOptions {
    fn decode(wire: wire::RoleOptions, at: &At<'_>) -> Result<RoleOptions, ConvertError> {
        let options = RoleOptions {
            constraints: constraints(wire.constraints, &at.field("constraints"))?,
            minimum: Resources::decode(wire.minimum, &at.field("minimum"))?,
            placement: decode_placement(wire.placement, &at.field("placement"))?,
            by_demand: wire.by_demand,
            optimistic: wire.optimistic,
        };
        options.validate().map_err(|error| at.invalid(error))?;
        Ok(options)
    }
}

const fn placement_to_wire(placement: Placement) -> wire::Placement {
    match placement {
        Placement::Spread => wire::Placement::Spread,
        Placement::Pack => wire::Placement::Pack,
        Placement::Random => wire::Placement::Random,
    }
}

fn decode_placement(value: i32, at: &At<'_>) -> Result<Placement, ConvertError> {
    match wire::Placement::try_from(value) {
        Ok(wire::Placement::Unspecified | wire::Placement::Spread) => Ok(Placement::Spread),
        Ok(wire::Placement::Pack) => Ok(Placement::Pack),
        Ok(wire::Placement::Random) => Ok(Placement::Random),
        Err(_) => Err(at.invalid(format_args!("{value} is no placement known here"))),
    }
}

fn constraints_to_wire(constraints: &Constraints) -> Vec<wire::Constraint> {
    constraints.iter().map(wire::Constraint::from).collect()
}

fn constraints(wire: Vec<wire::Constraint>, at: &At<'_>) -> Result<Constraints, ConvertError> {
    let conditions: Vec<Constraint> = list(wire, MAX_CONSTRAINTS, at)?;
    Constraints::new(conditions).map_err(|error| at.invalid(error))
}

impl From<&Constraint> for wire::Constraint {
    fn from(constraint: &Constraint) -> wire::Constraint {
        use wire::ConstraintTest;
        let (attribute, hostname) = match &constraint.subject {
            Subject::Hostname => (String::new(), true),
            Subject::Attribute(name) => (name.to_string(), false),
        };
        let test = match constraint.test {
            Test::Exists => ConstraintTest::Exists,
            Test::NotExists => ConstraintTest::NotExists,
            Test::Equals(_) => ConstraintTest::Equals,
            Test::NotEquals(_) => ConstraintTest::NotEquals,
            Test::Matches(_) => ConstraintTest::Matches,
            Test::NotMatches(_) => ConstraintTest::NotMatches,
        };
        let operand = constraint.test.operand().map(|text| text.to_string()).unwrap_or_default();
        wire::Constraint { attribute, hostname, test: test.into(), operand }
    }
}

impl Decode<wire::Constraint> for Constraint {
    fn decode(wire: wire::Constraint, at: &At<'_>) -> Result<Constraint, ConvertError> {
        use wire::ConstraintTest;
        let attribute = bounded(wire.attribute, MAX_CONSTRAINT_BYTES, &at.field("attribute"))?;
        let subject = match (wire.hostname, attribute.is_empty()) {
            (true, true) => Subject::Hostname,
            (true, false) => return Err(at.field("attribute").invalid("given together with hostname")),
            (false, _) => Subject::Attribute(attribute),
        };
        let operand = bounded(wire.operand, MAX_CONSTRAINT_BYTES, &at.field("operand"))?;
        let unknown = || at.field("test").invalid(format_args!("{} is no test known here", wire.test));
        let test = match ConstraintTest::try_from(wire.test).map_err(|_| unknown())? {
            ConstraintTest::Unspecified => return Err(unknown()),
            ConstraintTest::Exists => Test::Exists,
            ConstraintTest::NotExists => Test::NotExists,
            ConstraintTest::Equals => Test::Equals(operand),
            ConstraintTest::NotEquals => Test::NotEquals(operand),
            ConstraintTest::Matches => Test::Matches(operand),
            ConstraintTest::NotMatches => Test::NotMatches(operand),
        };
        let constraint = Constraint { subject, test };
        constraint.validate().map_err(|error| at.invalid(error))?;
        Ok(constraint)
    }
}

impl From<&Demand> for wire::Demand {
    fn from(demand: &Demand) -> wire::Demand {
        wire::Demand {
            id: demand.id.to_string(),
            shape: resources::to_wire(&demand.shape),
            ports: demand.ports,
            constraints: constraints_to_wire(&demand.constraints),
            count: demand.count,
            minimum: demand.minimum,
            gang: demand.gang,
            priority: demand.priority,
            revocable_ok: demand.revocable_ok,
            max_duration_micros: demand.max_duration.map(micros),
        }
    }
}

impl Decode<wire::Demand> for Demand {
    fn decode(wire: wire::Demand, at: &At<'_>) -> Result<Demand, ConvertError> {
        let demand = Demand {
            id: parsed(&wire.id, &at.field("id"))?,
            shape: Resources::decode(wire.shape, &at.field("shape"))?,
            ports: wire.ports,
            constraints: constraints(wire.constraints, &at.field("constraints"))?,
            count: wire.count,
            minimum: wire.minimum,
            gang: wire.gang,
            priority: wire.priority,
            revocable_ok: wire.revocable_ok,
            max_duration: wire.max_duration_micros.map(Duration::from_micros),
        };
        demand.validate().map_err(|error| at.invalid(error))?;
        Ok(demand)
    }
}
