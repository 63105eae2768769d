//! Shares as people and the read model see them.

use std::num::NonZeroU32;

use holm_model::{FrameworkId, ResourceName, Resources, Role};

use crate::Allocator;
use crate::scalars::Scalars;
use crate::share::Capacity;
use crate::tree::{Name, Node, NodeId};

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
    /// The scalars it holds, offered or allocated.
    pub allocated: Resources,
    /// The frameworks subscribed to it or holding something in it, by id.
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

fn dominant(capacity: &Capacity, used: &Scalars) -> Option<Dominant> {
    let (resource, used, total) = capacity.dominant(used)?;
    Some(Dominant { resource: resource.clone(), used, total })
}

impl Allocator {
    /// The roles in which a framework is subscribed or holds something, by name.
    pub fn shares(&self) -> impl Iterator<Item = RoleShare> {
        self.children(NodeId::ROOT).filter_map(|(name, id, node)| match name {
            Name::Role(role) => Some(self.role_share(role, id, node)),
            Name::Framework(_) => None,
        })
    }

    fn role_share(&self, role: &Role, id: NodeId, node: &Node) -> RoleShare {
        let frameworks = self.children(id).filter_map(|(name, _, leaf)| match name {
            Name::Framework(framework) => Some(FrameworkShare {
                framework: *framework,
                dominant: dominant(&self.capacity, leaf.used()),
                allocated: leaf.used().to_resources(),
                wanting: leaf.is_wanting(),
            }),
            Name::Role(_) => None,
        });
        RoleShare {
            role: role.clone(),
            weight: node.weight(),
            dominant: dominant(&self.capacity, node.used()),
            allocated: node.used().to_resources(),
            frameworks: frameworks.collect(),
        }
    }

    fn children(&self, of: NodeId) -> impl Iterator<Item = (&Name, NodeId, &Node)> {
        let children = self.tree.node(of).into_iter().flat_map(|node| node.children());
        children.filter_map(|(name, id)| Some((name, *id, self.tree.node(*id)?)))
    }
}
