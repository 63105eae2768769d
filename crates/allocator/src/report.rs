//! Shares as people and the read model see them.

use std::num::NonZeroU32;

use holm_model::{FrameworkId, ResourceName, Resources, Role};

use crate::Allocator;
use crate::names::MAX_SCALARS;
use crate::roles::Node;

/// The resource of which someone holds the largest fraction of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dominant {
    /// Which resource.
    pub resource: ResourceName,
    /// How much it holds, in the resource's smallest unit.
    pub used: u128,
    /// How much the registered agents have, in the same unit; not zero.
    pub total: u128,
}

impl Dominant {
    /// The fraction in parts per million, rounded down.
    pub fn ppm(&self) -> u64 {
        let ppm = self.used.saturating_mul(1_000_000).checked_div(self.total);
        ppm.and_then(|ppm| u64::try_from(ppm).ok()).unwrap_or(u64::MAX)
    }
}

/// What a role has of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleShare {
    /// The role.
    pub role: Role,
    /// Its weight in thousandths.
    pub weight: NonZeroU32,
    /// Its dominant share, before division by the weight; `None` when it holds nothing that counts.
    pub dominant: Option<Dominant>,
    /// The scalars that it and the roles below it hold: offered, allocated, or reserved for it.
    pub allocated: Resources,
    /// The frameworks subscribed to it or holding something in it, by id; not those of roles below it.
    pub frameworks: Vec<FrameworkShare>,
}

/// What a framework has of the cluster in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkShare {
    /// The framework.
    pub framework: FrameworkId,
    /// Its dominant share; `None` when it holds nothing that counts.
    pub dominant: Option<Dominant>,
    /// The scalars it holds, offered or allocated.
    pub allocated: Resources,
    /// Whether it is connected and has not suppressed offers.
    pub wanting: bool,
}

impl Allocator {
    /// The roles in which a framework is subscribed or holds something, those above them, and those with a quota or
    /// something reserved for them; by name.
    pub fn shares(&self) -> impl Iterator<Item = RoleShare> {
        self.roles.iter().map(|(role, node)| RoleShare {
            role: role.clone(),
            weight: self.roles.node(node).weight(),
            dominant: self.dominant(node),
            allocated: self.holdings(node),
            frameworks: self.roles.frameworks_of(node).into_iter().map(|of| self.framework_share(of)).collect(),
        })
    }

    fn framework_share(&self, (framework, leaf): (FrameworkId, Node)) -> FrameworkShare {
        FrameworkShare {
            framework,
            dominant: self.dominant(leaf),
            allocated: self.holdings(leaf),
            wanting: self.roles.node(leaf).is_wanting(),
        }
    }

    /// The scalars that a node holds, each cut off at 64 bits; for display only.
    fn holdings(&self, node: Node) -> Resources {
        let mut amounts = [0; MAX_SCALARS];
        for (amount, used) in amounts.iter_mut().zip(self.roles.used(node)) {
            *amount = u64::try_from(*used).unwrap_or(u64::MAX);
        }
        self.stock.names.resources(&amounts)
    }

    /// The resource with the dominant share of what a node holds. Among equals, the first.
    fn dominant(&self, node: Node) -> Option<Dominant> {
        let used = self.roles.used(node);
        let part = |(r, name): (usize, &ResourceName)| {
            let counts = self.roles.counts(r) && used[r] > 0;
            counts.then(|| Dominant { resource: name.clone(), used: used[r], total: self.roles.capacity(r) })
        };
        let larger = |a: &Dominant, b: &Dominant| {
            let share = |of: &Dominant| of.used as f64 / of.total as f64;
            share(b) > share(a)
        };
        self.stock.names.ordered().filter_map(part).reduce(|best, next| if larger(&best, &next) { next } else { best })
    }
}
