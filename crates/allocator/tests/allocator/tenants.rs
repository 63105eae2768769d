//! Frameworks that take one task of their shape per offer and return the rest unfiltered.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use holm_allocator::{AgentStock, Allocator, FrameworkAbilities, Options};
use holm_model::{AgentId, Attributes, Epoch, FrameworkId, Portions, Refusal, Resources, Role, RoleOptions, Time};

/// What an agent has, nothing of it reserved.
pub(crate) fn stock(total: &Resources, attributes: &Attributes) -> AgentStock {
    let portions = Portions::unreserved(total.clone());
    AgentStock { portions, attributes: attributes.clone(), hostname: "host".into() }
}

/// Roles with the usual options.
pub(crate) fn roles(roles: impl IntoIterator<Item = Role>) -> BTreeMap<Role, RoleOptions> {
    roles.into_iter().map(|role| (role, RoleOptions::default())).collect()
}

/// The same as unreserved portions.
pub(crate) fn plain(text: &str) -> Portions {
    Portions::unreserved(spec(text))
}

/// Resources from text.
pub(crate) fn spec(text: &str) -> Resources {
    text.parse().unwrap()
}

/// A role from text.
pub(crate) fn role(text: &str) -> Role {
    text.parse().unwrap()
}

/// The `n`-th agent.
pub(crate) fn agent(n: u64) -> AgentId {
    AgentId::new(Epoch(1), n)
}

/// The `n`-th framework.
pub(crate) fn framework(n: u64) -> FrameworkId {
    FrameworkId::new(Epoch(1), n)
}

/// An allocator that offers any remainder, with agents 1, 2, ... of these sizes.
pub(crate) fn cluster(sizes: &[&str]) -> Allocator {
    let mut allocator = Allocator::new(Options { minimum: Vec::new(), ..Options::default() });
    for (n, size) in (1..).zip(sizes) {
        allocator.add_agent(agent(n), &stock(&spec(size), &Attributes::new())).unwrap();
    }
    allocator
}

/// A framework and what its tasks need.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) demand: Resources,
    pub(crate) tasks: u32,
}

/// Subscribes one tenant per demand, each in a role of its own named `a`, `b`, ... with its weight in thousandths.
pub(crate) fn subscribe(allocator: &mut Allocator, demands: &[(Resources, u32)]) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for (n, (demand, weight)) in (0u8..).zip(demands) {
        let role = role(&char::from(b'a' + n).to_string());
        let framework = framework(u64::from(n) + 1);
        allocator.set_weight(&role, NonZeroU32::new(*weight).unwrap());
        allocator.add_framework(framework, &roles([role.clone()]), FrameworkAbilities::default()).unwrap();
        tenants.push(Tenant { framework, role, demand: demand.clone(), tasks: 0 });
    }
    tenants
}

/// Lets the tenants run as many tasks as they get, one grant after another; tells in which order they launched them. What
/// does not fit a task is declined for an hour.
pub(crate) fn fill(allocator: &mut Allocator, tenants: &mut [Tenant]) -> String {
    let mut order = String::new();
    while let Some(grant) = allocator.allocate(Time::ZERO, 1).pop() {
        assert_eq!(allocator.check(), []);
        let at = tenants.iter().position(|of| of.framework == grant.framework && of.role == grant.role).unwrap();
        let tenant = &mut tenants[at];
        let (rest, refusal) = match grant.portions.minus(&Portions::unreserved(tenant.demand.clone())) {
            Ok(rest) => {
                tenant.tasks += 1;
                order.push(char::from(b'A' + u8::try_from(at).unwrap()));
                (rest, Refusal::NONE)
            }
            Err(_) => (grant.portions, Refusal::new(Duration::from_secs(3600))),
        };
        allocator.decline(tenant.framework, &tenant.role, grant.agent, &rest, refusal, Time::ZERO).unwrap();
    }
    assert_eq!(allocator.check(), []);
    order
}
