//! The tree of those who share the cluster.
//!
//! Below the root stand the top-level roles, below a role its sub-roles and the frameworks subscribed to it. When a role
//! has both, its frameworks stand together under one node of their own, so that they compete with the sub-roles as one,
//! however many they are. What is reserved for a role and used by nobody is held by a node that never wants anything.
//!
//! This module is the shape of the tree; `fair` keeps its shares, `quota` its guarantees and limits.

mod fair;
mod faults;
mod order;
mod quota;
mod shape;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use holm_model::{DEFAULT_WEIGHT, FrameworkId, Role};

use crate::lookup::Lookup;
use crate::names::Amounts;
use crate::policy::{Rank, Version};
use crate::queues::{Entry, Queues, Ties};

use order::Path;
pub(crate) use quota::{Bounds, Room};

/// A node.
pub(crate) type Node = u32;

/// The root.
pub(crate) const ROOT: Node = 0;

/// What a node stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything.
    Root,
    /// A role, by its whole path.
    Role(Role),
    /// The frameworks of a role that has sub-roles.
    Own,
    /// What is reserved for a role and not in use.
    Idle,
    /// A framework in the role above it.
    Framework(FrameworkId),
    /// A number that is free for the next node.
    Vacant,
}

/// How a node's usage is part of its parent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Joined {
    /// Not at all.
    #[default]
    Not,
    /// As it is: the node is blocked, or has nothing that counts.
    Aside,
    /// Rescaled to the smallest of its siblings.
    Rescaled,
}

/// Keys are a little coarser than shares, so that what is equal but for rounding along the tree ties.
const COARSE: u64 = 1 << 8;

/// One node, without its amounts.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) parent: Node,
    children: Vec<Node>,
    /// Its place among its parent's children.
    place: usize,
    weight: NonZeroU32,
    /// What the policy says of it.
    rank: Rank,
    /// Names this use of the number: it is not given again.
    born: u64,
    /// How often it was chosen.
    grants: u64,
    /// How many leaves at or below it want offers.
    wanting: u32,
    /// How many of its children are not blocked; for a leaf, whether it is not.
    open: u32,
    joined: Joined,
    /// Whether it counts among its parent's children that are not blocked.
    counted: bool,
    /// Its dominant share over resources that are not used up, in units of [`ONE`].
    share: u64,
    /// The same over all resources.
    full: u64,
    /// Wants offers, and needs what is used up.
    stuck: bool,
    /// Which resources a leaf needs; those it has, when nothing is known.
    needs: Option<u32>,
    bounds: Option<Box<Bounds>>,
    /// The resources of which a grant was cut down for the sake of this node's limit; at the root, of guarantees.
    pub(crate) cut: u32,
    /// On how many agents a leaf holds something.
    pub(crate) agents: u32,
}

impl Record {
    fn new(kind: Kind, parent: Node, weight: NonZeroU32) -> Record {
        Record {
            kind,
            parent,
            children: Vec::new(),
            place: 0,
            weight,
            rank: Rank::NONE,
            born: 0,
            grants: 0,
            wanting: 0,
            open: 0,
            joined: Joined::Not,
            counted: false,
            share: 0,
            full: 0,
            stuck: false,
            needs: None,
            bounds: None,
            cut: 0,
            agents: 0,
        }
    }

    /// Whether a leaf at or below it wants offers.
    pub(crate) fn is_wanting(&self) -> bool {
        self.wanting > 0
    }

    /// How many leaves at or below it want offers.
    pub(crate) fn wanting(&self) -> u32 {
        self.wanting
    }

    pub(crate) fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    fn is_leaf(&self) -> bool {
        matches!(self.kind, Kind::Framework(_) | Kind::Idle)
    }
}

/// The tree and everything that is summed up along it. Amounts of all nodes lie side by side, `width` to a node.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    nodes: Vec<Record>,
    vacant: Vec<Node>,
    roles: BTreeMap<Role, Node>,
    leaves: Lookup<FrameworkId, Vec<Node>>,
    width: usize,
    /// What nodes hold.
    used: Vec<u128>,
    /// The revocable part of it.
    soft: Vec<u128>,
    /// What nodes hold as fairness counts it, each resource as a part of the cluster, in units of [`ONE`].
    scaled: Vec<u64>,
    /// `scaled` over the node's share.
    profile: Vec<u64>,
    /// The sum of the weighted profiles of children that are rescaled.
    rescaled: Vec<u128>,
    /// The sum of what the other children hold.
    aside: Vec<u128>,
    /// What must stay free for the guarantees at and below a node.
    owed: Vec<u128>,
    /// The sum of that of the children.
    owed_below: Vec<u128>,
    /// Children that want offers, by share.
    order: Queues,
    /// Children that are not blocked, by share; kept only while something is used up.
    floor: Queues,
    /// Children that want offers and have a guarantee to be met, by how much of it they have.
    urgent: Queues,
    /// What the cluster has.
    capacity: Vec<u128>,
    /// Resources that do not count in shares.
    excluded: u32,
    /// Resources that are used up.
    saturated: u32,
    /// Every share is to be computed anew before it is used.
    stale: bool,
    /// Whether any node has a rank: the first in order need not be the one with the smallest share then.
    ranked: bool,
    /// How often nodes came or went, and how often anything else changed.
    pub(crate) version: Version,
    /// How many nodes have a guarantee, and how many a limit.
    pub(crate) guarantees: usize,
    pub(crate) limits: usize,
}

impl Ties for Vec<Record> {
    fn compare(&self, a: Node, b: Node) -> Ordering {
        match (&self[a as usize].kind, &self[b as usize].kind) {
            (Kind::Framework(a), Kind::Framework(b)) => a.cmp(b),
            (Kind::Role(a), Kind::Role(b)) => a.cmp(b),
            (Kind::Role(_), _) => Ordering::Greater,
            (_, Kind::Role(_)) => Ordering::Less,
            _ => a.cmp(&b),
        }
    }
}

impl Roles {
    /// A tree of `width` resources with nobody in it.
    pub(crate) fn new(width: usize) -> Roles {
        let mut roles = Roles {
            nodes: Vec::new(),
            vacant: Vec::new(),
            roles: BTreeMap::new(),
            leaves: Lookup::default(),
            width,
            used: Vec::new(),
            soft: Vec::new(),
            scaled: Vec::new(),
            profile: Vec::new(),
            rescaled: Vec::new(),
            aside: Vec::new(),
            owed: Vec::new(),
            owed_below: Vec::new(),
            order: Queues::default(),
            floor: Queues::default(),
            urgent: Queues::default(),
            capacity: vec![0; width],
            excluded: 0,
            saturated: 0,
            stale: false,
            ranked: false,
            version: Version::default(),
            guarantees: 0,
            limits: 0,
        };
        roles.add(Kind::Root, ROOT, DEFAULT_WEIGHT);
        roles
    }

    pub(crate) fn node(&self, node: Node) -> &Record {
        &self.nodes[node as usize]
    }

    pub(crate) fn node_mut(&mut self, node: Node) -> &mut Record {
        &mut self.nodes[node as usize]
    }

    /// How many numbers of nodes there are, vacant ones included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node of a role.
    pub(crate) fn role(&self, role: &Role) -> Option<Node> {
        self.roles.get(role).copied()
    }

    /// The roles that have a node, by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Role, Node)> {
        self.roles.iter().map(|(role, node)| (role, *node))
    }

    /// The leaf of a framework in a role.
    pub(crate) fn leaf(&self, framework: FrameworkId, role: &Role) -> Option<Node> {
        let leaves = self.leaves.get(&framework)?;
        leaves.iter().copied().find(|leaf| self.role_of(*leaf) == Some(role))
    }

    /// The role of a leaf.
    pub(crate) fn role_of(&self, leaf: Node) -> Option<&Role> {
        self.up(leaf).find_map(|node| match &self.node(node).kind {
            Kind::Role(role) => Some(role),
            _ => None,
        })
    }

    /// Whose leaf it is, and in which role.
    pub(crate) fn owner(&self, leaf: Node) -> Option<(FrameworkId, &Role)> {
        match self.nodes.get(leaf as usize)?.kind {
            Kind::Framework(framework) => Some((framework, self.role_of(leaf)?)),
            _ => None,
        }
    }

    /// A node and those above it, without the root.
    pub(crate) fn up(&self, node: Node) -> impl Iterator<Item = Node> {
        let real = |node: Node| (node != ROOT).then_some(node);
        std::iter::successors(real(node), move |node| real(self.node(*node).parent))
    }

    /// The leaves of a role's own frameworks, by framework.
    pub(crate) fn frameworks_of(&self, role: Node) -> Vec<(FrameworkId, Node)> {
        let children = |node: Node| self.node(node).children.iter().copied();
        let own = children(role).find(|child| self.node(*child).kind == Kind::Own);
        let leaf = |child: Node| match self.node(child).kind {
            Kind::Framework(framework) => Some((framework, child)),
            _ => None,
        };
        let mut found: Vec<_> = children(own.unwrap_or(role)).filter_map(leaf).collect();
        found.sort_unstable();
        found
    }

    /// The leaves of all frameworks, in no order that means anything.
    pub(crate) fn all_leaves(&self) -> impl Iterator<Item = Node> {
        let is_leaf = |(_, record): &(Node, &Record)| matches!(record.kind, Kind::Framework(_));
        (0u32..).zip(&self.nodes).filter(is_leaf).map(|(node, _)| node)
    }

    /// What is reserved and not in use, by role.
    pub(crate) fn all_idle(&self) -> impl Iterator<Item = (Role, &[u128])> {
        let idle = (0u32..).zip(&self.nodes).filter(|(_, record)| record.kind == Kind::Idle);
        idle.filter_map(|(node, _)| Some((self.role_of(node)?.clone(), self.used(node))))
    }

    /// Makes room for more resources.
    pub(crate) fn widen(&mut self, width: usize) {
        let old = std::mem::replace(&mut self.width, width);
        let count = self.nodes.len();
        for amounts in
            [&mut self.used, &mut self.soft, &mut self.rescaled, &mut self.aside, &mut self.owed, &mut self.owed_below]
        {
            *amounts = restride(amounts, old, width, count);
        }
        self.scaled = restride(&self.scaled, old, width, count);
        self.profile = restride(&self.profile, old, width, count);
        self.capacity.resize(width, 0);
    }

    /// Sets which resources do not count in shares.
    pub(crate) fn exclude(&mut self, mask: u32) {
        self.excluded = mask;
        self.stale = true;
    }

    /// Adds a use of a leaf all the way up, and counts it as a grant if it was one.
    pub(crate) fn charge(&mut self, leaf: Node, all: &Amounts, soft: Option<&Amounts>, is_grant: bool) {
        self.change(leaf, all, soft, |sum, more| sum + more);
        if is_grant {
            for node in self.up(leaf).collect::<Path>() {
                self.node_mut(node).grants += 1;
            }
        }
        self.refresh(leaf);
    }

    /// Takes a use off a leaf all the way up.
    pub(crate) fn release(&mut self, leaf: Node, all: &Amounts, soft: Option<&Amounts>) {
        self.change(leaf, all, soft, u128::saturating_sub);
        self.refresh(leaf);
    }

    fn change(&mut self, leaf: Node, all: &Amounts, soft: Option<&Amounts>, apply: impl Fn(u128, u128) -> u128) {
        let mut node = leaf;
        loop {
            let at = node as usize * self.width;
            for (used, more) in self.used[at..at + self.width].iter_mut().zip(all) {
                *used = apply(*used, u128::from(*more));
            }
            if let Some(amounts) = soft {
                for (used, more) in self.soft[at..at + self.width].iter_mut().zip(amounts) {
                    *used = apply(*used, u128::from(*more));
                }
            }
            if node == ROOT {
                return;
            }
            node = self.node(node).parent;
        }
    }

    /// Sets whether a leaf wants offers; tells whether that is a change.
    pub(crate) fn set_wanting(&mut self, leaf: Node, wanting: bool) -> bool {
        if self.node(leaf).is_wanting() == wanting {
            return false;
        }
        let path = self.up(leaf).chain([ROOT]).collect::<Path>();
        for node in path {
            let count = &mut self.node_mut(node).wanting;
            *count = if wanting { *count + 1 } else { count.saturating_sub(1) };
        }
        self.refresh(leaf);
        true
    }

    /// Sets which resources a leaf needs: it is set aside while one of them is used up. `None`: those that it has.
    #[cfg_attr(not(test), expect(dead_code, reason = "for demands, which say what they need"))]
    pub(crate) fn set_needs(&mut self, leaf: Node, needs: Option<u32>) {
        if std::mem::replace(&mut self.node_mut(leaf).needs, needs) != needs {
            self.refresh(leaf);
        }
    }

    /// Sets what the policy says of a node. The frameworks of a role that has sub-roles stand among these with its rank.
    pub(crate) fn set_rank(&mut self, node: Node, rank: Rank) {
        let own = self.node(node).children.iter().copied().find(|child| self.node(*child).kind == Kind::Own);
        for node in [Some(node), own].into_iter().flatten() {
            if self.node(node).rank == rank {
                continue;
            }
            if !std::mem::replace(&mut self.ranked, true) {
                self.stale = true;
            }
            self.leave(node);
            self.node_mut(node).rank = rank;
            self.refresh(node);
        }
    }

    /// Forgets what the policy said.
    pub(crate) fn forget_ranks(&mut self) {
        if std::mem::take(&mut self.ranked) {
            self.nodes.iter_mut().for_each(|record| record.rank = Rank::NONE);
            self.stale = true;
        }
    }

    /// What the policy says of a node.
    pub(crate) fn rank(&self, node: Node) -> Rank {
        self.node(node).rank
    }

    /// Names a node for as long as it is there; no other is ever named so.
    pub(crate) fn born(&self, node: Node) -> u64 {
        self.node(node).born
    }

    /// Every node but the root, by number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Node, &Record)> {
        (0u32..).zip(&self.nodes).skip(1).filter(|(_, record)| record.kind != Kind::Vacant)
    }

    /// Sets the weight of a node.
    pub(crate) fn set_weight(&mut self, node: Node, weight: NonZeroU32) {
        self.leave(node);
        self.node_mut(node).weight = weight;
        self.refresh(node);
    }

    /// What a node holds.
    pub(crate) fn used(&self, node: Node) -> &[u128] {
        &self.used[node as usize * self.width..][..self.width]
    }

    /// What a node holds that counts against guarantees and limits: all that cannot be taken back at any time.
    pub(crate) fn firm(&self, node: Node, resource: usize) -> u128 {
        let at = node as usize * self.width + resource;
        self.used[at].saturating_sub(self.soft[at])
    }

    fn entry(&self, node: Node, key: u64) -> Entry {
        Entry { rank: Rank::NONE, key: key.saturating_add(COARSE / 2) / COARSE, grants: self.node(node).grants, node }
    }
}

fn restride<T: Copy + Default>(amounts: &[T], old: usize, new: usize, count: usize) -> Vec<T> {
    let mut wide = vec![T::default(); new * count];
    for (to, from) in wide.chunks_mut(new).zip(amounts.chunks(old)) {
        to[..old].copy_from_slice(from);
    }
    wide
}

#[cfg(test)]
mod tests;
