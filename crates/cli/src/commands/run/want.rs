//! What a run says it wants, so that it is offered what fits and nothing else.

use std::time::Duration;

use anyhow::Context;
use holm_model::{Constraints, Demand, DemandId, Placement, Quantity, ResourceName, Resources, Role, RoleOptions};
use holm_sdk::Calls;

use crate::args::PlaceArgs;

/// What to ask for, apart from how much of it.
#[derive(Clone, Debug)]
pub(super) struct Want {
    role: Role,
    options: RoleOptions,
    /// One task, or all of a group; none when it asks for ports or items by name, which a demand cannot.
    demand: Option<Demand>,
    /// How many the master was told last.
    stated: Option<u32>,
}

impl Want {
    /// A run that needs `bundle` once or more, and `ports` more ports of the agent's choice each time. One that is not
    /// `plain` (it has volumes, or takes what is lent) is offered whatever is free.
    pub(super) fn new(
        role: Role,
        (bundle, ports): (&Resources, u32),
        max_duration: Option<Duration>,
        place: &PlaceArgs,
        plain: bool,
    ) -> anyhow::Result<Want> {
        let constraints = Constraints::new(place.constraint.iter().cloned()).context("--constraint")?;
        let scalars = bundle.iter().all(|(_, quantity)| matches!(quantity, Quantity::Scalar(_)));
        let demand = (scalars && plain).then(|| -> anyhow::Result<Demand> {
            let id: DemandId = "tasks".parse()?;
            Ok(Demand { ports, priority: place.priority, max_duration, ..Demand::new(id, bundle.clone(), 1) })
        });
        let demand = demand.transpose()?;
        let options = RoleOptions {
            constraints,
            minimum: bundle.iter().filter(|(name, _)| **name != ResourceName::Ports).filter_map(scalar).collect(),
            placement: place.placement.unwrap_or(Placement::Spread),
            by_demand: demand.is_some(),
            optimistic: false,
        };
        Ok(Want { role, options, demand, stated: None })
    }

    /// The options of its one role.
    pub(super) fn options(&self) -> std::collections::BTreeMap<Role, RoleOptions> {
        [(self.role.clone(), self.options.clone())].into()
    }

    /// Whether the master serves demands for it.
    pub(super) fn is_stated(&self) -> bool {
        self.demand.is_some()
    }

    /// The subscription is new: nothing has been stated in it.
    pub(super) fn forget(&mut self) {
        self.stated = None;
    }

    /// Says how many are wanted, unless that has been said.
    pub(super) fn state(&mut self, count: u32, calls: &mut Calls) {
        let Some(demand) = &self.demand else { return };
        if self.stated.replace(count) != Some(count) {
            let wanted = (count > 0).then(|| Demand { count, ..demand.clone() });
            calls.demand(self.role.clone(), wanted);
        }
    }
}

fn scalar((name, quantity): (&ResourceName, &Quantity)) -> Option<(ResourceName, Quantity)> {
    matches!(quantity, Quantity::Scalar(_)).then(|| (name.clone(), quantity.clone()))
}
