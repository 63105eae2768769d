//! Demands and options of roles, as a component states them.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{Call, Constraint, Constraints, Demand, Placement, Role, RoleOptions, Subject, Test};
use holm_sdk::Intent;

use super::{parse, resources};
use crate::bindings::wit;

/// What is wanted in a role. One demand that makes no sense refuses the list.
pub(super) fn demands(call: wit::RoleDemands) -> Result<Intent, String> {
    let role = parse("demand.role", &call.role)?;
    let demands = call.demands.into_iter().map(demand).collect::<Result<Vec<_>, String>>()?;
    Demand::validate_all(&demands).map_err(|error| format!("demand.demands: {error}"))?;
    Ok(Intent::Call(Call::Demand { role, demands }))
}

fn demand(demand: wit::Demand) -> Result<Demand, String> {
    Ok(Demand {
        id: parse("demand.demands.id", &demand.id)?,
        shape: resources("demand.demands.shape", demand.shape)?,
        ports: demand.ports,
        constraints: constraints("demand.demands.constraints", demand.constraints)?,
        count: demand.count,
        minimum: demand.minimum,
        gang: demand.gang,
        priority: demand.priority,
        revocable_ok: demand.revocable_ok,
        max_duration: demand.max_duration.map(Duration::from_micros),
    })
}

/// The options of several roles.
pub(super) fn role_options(options: Vec<wit::RoleOptions>) -> Result<BTreeMap<Role, RoleOptions>, String> {
    let mut lifted = BTreeMap::new();
    for of_role in options {
        let role: Role = parse("role-options.role", &of_role.role)?;
        if lifted.insert(role.clone(), self::options(of_role)?).is_some() {
            return Err(format!("role-options: role {role} is given twice"));
        }
    }
    Ok(lifted)
}

/// The options of one role, whichever it is.
pub(super) fn options(options: wit::RoleOptions) -> Result<RoleOptions, String> {
    let options = RoleOptions {
        constraints: constraints("role-options.constraints", options.constraints)?,
        minimum: resources("role-options.minimum", options.minimum)?,
        placement: match options.placement {
            wit::Placement::Spread => Placement::Spread,
            wit::Placement::Pack => Placement::Pack,
            wit::Placement::Random => Placement::Random,
        },
        by_demand: options.by_demand,
        optimistic: options.optimistic,
    };
    options.validate().map_err(|error| format!("role-options: {error}"))?;
    Ok(options)
}

fn constraints(field: &str, constraints: Vec<wit::Constraint>) -> Result<Constraints, String> {
    Constraints::new(constraints.into_iter().map(constraint)).map_err(|error| format!("{field}: {error}"))
}

fn constraint(constraint: wit::Constraint) -> Constraint {
    Constraint {
        subject: match constraint.subject {
            wit::ConstraintSubject::Hostname => Subject::Hostname,
            wit::ConstraintSubject::Attribute(name) => Subject::Attribute(name.into()),
        },
        test: match constraint.test {
            wit::ConstraintTest::Exists => Test::Exists,
            wit::ConstraintTest::NotExists => Test::NotExists,
            wit::ConstraintTest::Equals(value) => Test::Equals(value.into()),
            wit::ConstraintTest::NotEquals(value) => Test::NotEquals(value.into()),
            wit::ConstraintTest::Matches(pattern) => Test::Matches(pattern.into()),
            wit::ConstraintTest::NotMatches(pattern) => Test::NotMatches(pattern.into()),
        },
    }
}
