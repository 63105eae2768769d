//! How every role stands: what it and those below it hold, and what it *deserves*.
//!
//! The deserved share is what the weights would give a role if everything could be divided at will, as a fraction of the
//! cluster in its dominant resource. Every node divides what it deserves among its children (the roles and the frameworks
//! directly below it) in proportion to their weights, except that nobody gets less than its guarantee, nor more than its
//! limit or than it asks for: who wants no more offers deserves what it holds. What one cannot take, the others share.
//!
//! This is for people and programs that ask; nothing is decided by it. It costs a pass over the roles.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use holm_model::{DEFAULT_WEIGHT, FrameworkId, Quota, ResourceName, Resources, Role, RoleRecord};

use crate::{Allocator, Dominant, RoleShare};

/// The whole cluster in the unit of shares here: parts per billion.
const WHOLE: u64 = 1_000_000_000;

/// How a role stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which role.
    pub role: Role,
    /// Its weight in thousandths.
    pub weight: NonZeroU32,
    /// Its quota.
    pub quota: Quota,
    /// The scalars it holds, offered or allocated, those below it included.
    pub used: Resources,
    /// Its dominant share; none when it holds nothing that counts.
    pub dominant: Option<Dominant>,
    /// What it deserves of the cluster, in millionths.
    pub deserved_ppm: u64,
    /// Whether a framework at or below it would take more.
    pub wanting: bool,
    /// Its own frameworks, by id; not those of the roles below it.
    pub frameworks: Vec<FrameworkStanding>,
}

/// How a framework stands in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkStanding {
    /// Which framework.
    pub framework: FrameworkId,
    /// The scalars it holds, offered or allocated.
    pub used: Resources,
    /// Its dominant share; none when it holds nothing that counts.
    pub dominant: Option<Dominant>,
    /// What it deserves of the cluster, in millionths.
    pub deserved_ppm: u64,
    /// Whether it would take more: connected and not suppressed.
    pub wanting: bool,
}

/// How every role stands that has a framework, a record, or a role below it that has: each role before those below it,
/// siblings by name. `capacity` is what counts in shares: the scalars of the cluster without those that are excluded.
pub fn standings(shares: &[RoleShare], records: &BTreeMap<Role, RoleRecord>, capacity: &Resources) -> Vec<Standing> {
    let mut nodes = BTreeMap::<Vec<String>, Node>::new();
    for role in shares.iter().map(|share| &share.role).chain(records.keys()) {
        for role in role.lineage() {
            nodes.entry(path(&role)).or_insert_with(|| Node::new(role, records));
        }
    }
    for share in shares {
        for role in share.role.lineage() {
            if let Some(node) = nodes.get_mut(&path(&role)) {
                node.take(share, role == share.role);
            }
        }
    }
    let mut nodes: Vec<Node> = nodes.into_values().collect();
    for node in &mut nodes {
        node.standing.dominant = dominant(&node.standing.used, capacity);
    }
    divide(&mut nodes, capacity);
    nodes.into_iter().map(|node| node.standing).collect()
}

/// What each role that holds something holds, those below it included.
pub fn used_by_role(shares: &[RoleShare]) -> BTreeMap<Role, Resources> {
    let mut used = BTreeMap::<Role, Resources>::new();
    for share in shares {
        for role in share.role.lineage() {
            let sum = used.entry(role).or_default();
            for framework in &share.frameworks {
                // Only scalars are in these sums, and they add up or saturate.
                *sum = sum.plus(&framework.allocated).unwrap_or_else(|_| sum.clone());
            }
        }
    }
    used
}

impl Allocator {
    /// What counts in shares: the scalars of the cluster without those that are excluded.
    pub fn capacity(&self) -> Resources {
        let counted = self.stock.names.ordered().filter(|(r, _)| self.roles.counts(*r));
        let amount = |r| u64::try_from(self.roles.capacity(r)).unwrap_or(u64::MAX);
        Resources::scalars(counted.map(|(r, name)| (name.clone(), amount(r))))
    }
}

struct Node {
    standing: Standing,
    depth: usize,
}

fn path(role: &Role) -> Vec<String> {
    role.parts().map(str::to_owned).collect()
}

impl Node {
    fn new(role: Role, records: &BTreeMap<Role, RoleRecord>) -> Node {
        let record = records.get(&role);
        let depth = role.parts().count();
        let standing = Standing {
            weight: record.map_or(DEFAULT_WEIGHT, |record| record.weight),
            quota: record.map(|record| record.quota.clone()).unwrap_or_default(),
            role,
            used: Resources::EMPTY,
            dominant: None,
            deserved_ppm: 0,
            wanting: false,
            frameworks: Vec::new(),
        };
        Node { standing, depth }
    }

    /// Counts what the frameworks of `share` hold, at this role or below it.
    fn take(&mut self, share: &RoleShare, own: bool) {
        for framework in &share.frameworks {
            let sum = self.standing.used.plus(&framework.allocated);
            // Only scalars are in these sums, and they add up or saturate.
            self.standing.used = sum.unwrap_or_else(|_| self.standing.used.clone());
            self.standing.wanting |= framework.wanting;
            if own {
                self.standing.frameworks.push(FrameworkStanding {
                    framework: framework.framework,
                    used: framework.allocated.clone(),
                    dominant: framework.dominant.clone(),
                    deserved_ppm: 0,
                    wanting: framework.wanting,
                });
            }
        }
    }
}

fn dominant(used: &Resources, capacity: &Resources) -> Option<Dominant> {
    let counted = used.iter_scalars().filter_map(|(name, used)| {
        let total = capacity.scalar(name).0;
        (total > 0).then(|| Dominant { resource: name.clone(), used: used.0.into(), total: total.into() })
    });
    counted.reduce(|best, next| if next.used * best.total > best.used * next.total { next } else { best })
}

fn share(used: u64, total: u64) -> u64 {
    let share = u128::from(used) * u128::from(WHOLE);
    share.checked_div(total.into()).and_then(|share| u64::try_from(share).ok()).unwrap_or(WHOLE)
}

fn share_of(dominant: Option<&Dominant>) -> u64 {
    let cut = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
    dominant.map_or(0, |dominant| share(cut(dominant.used), cut(dominant.total)))
}

/// Between which bounds a child's part lies.
#[derive(Clone, Copy, Debug)]
struct Claim {
    weight: NonZeroU32,
    least: u64,
    most: u64,
}

impl Claim {
    fn of_role(standing: &Standing, capacity: &Resources) -> Claim {
        let counted = || capacity.iter_scalars();
        let guaranteed = |(name, amount): (&ResourceName, _)| share(standing.quota.guarantee.scalar(name).0, amount);
        let least = counted().map(|(name, total)| guaranteed((name, total.0))).max().unwrap_or(0);
        // Its dominant share can grow for as long as one resource is left of which it may have more.
        let allowed =
            |name: &ResourceName, total| standing.quota.limit_of(name).map_or(WHOLE, |most| share(most.0, total));
        let allowed = counted().map(|(name, total)| allowed(name, total.0)).max().unwrap_or(WHOLE);
        let asked = if standing.wanting { WHOLE } else { share_of(standing.dominant.as_ref()) };
        Claim { weight: standing.weight, least, most: allowed.min(asked).max(least) }
    }

    fn of_framework(framework: &FrameworkStanding) -> Claim {
        let held = share_of(framework.dominant.as_ref());
        Claim { weight: DEFAULT_WEIGHT, least: 0, most: if framework.wanting { WHOLE } else { held } }
    }
}

/// Divides the cluster from the root down. The nodes are in order, each before those below it.
fn divide(nodes: &mut [Node], capacity: &Resources) {
    let roots: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].depth == 1).collect();
    divide_among(nodes, &roots, WHOLE, None, capacity);
    for at in 0..nodes.len() {
        let deserved = nodes[at].standing.deserved_ppm;
        let end = nodes[at + 1..].iter().position(|node| node.depth <= nodes[at].depth);
        let end = end.map_or(nodes.len(), |offset| at + 1 + offset);
        let children: Vec<usize> = (at + 1..end).filter(|below| nodes[*below].depth == nodes[at].depth + 1).collect();
        divide_among(nodes, &children, deserved, Some(at), capacity);
    }
    for node in nodes {
        node.standing.deserved_ppm /= WHOLE / 1_000_000;
        for framework in &mut node.standing.frameworks {
            framework.deserved_ppm /= WHOLE / 1_000_000;
        }
    }
}

/// Divides `whole` among the roles `children` and the frameworks of the role above them. Until the end `deserved_ppm` holds
/// parts per billion.
fn divide_among(nodes: &mut [Node], children: &[usize], whole: u64, above: Option<usize>, capacity: &Resources) {
    let mut claims: Vec<Claim> = children.iter().map(|at| Claim::of_role(&nodes[*at].standing, capacity)).collect();
    let frameworks = above.map(|at| &nodes[at].standing.frameworks);
    claims.extend(frameworks.into_iter().flatten().map(Claim::of_framework));
    let mut parts = fill(&claims, whole).into_iter();
    for (at, part) in children.iter().zip(parts.by_ref()) {
        nodes[*at].standing.deserved_ppm = part;
    }
    if let Some(at) = above {
        for (framework, part) in nodes[at].standing.frameworks.iter_mut().zip(parts) {
            framework.deserved_ppm = part;
        }
    }
}

/// Fills all claims to one level per weight, each within its bounds, so that together they are not over `whole`.
fn fill(claims: &[Claim], whole: u64) -> Vec<u64> {
    let least: u128 = claims.iter().map(|claim| u128::from(claim.least)).sum();
    if least > u128::from(whole) {
        // More is guaranteed than there is to divide: everybody gets the same part of what it was promised.
        let cut = |claim: &Claim| u64::try_from(u128::from(claim.least) * u128::from(whole) / least).unwrap_or(whole);
        return claims.iter().map(cut).collect();
    }
    let part = |claim: &Claim, level: u64| {
        let due = u128::from(level) * u128::from(claim.weight.get()) / u128::from(DEFAULT_WEIGHT.get());
        u64::try_from(due).unwrap_or(WHOLE).clamp(claim.least, claim.most.max(claim.least))
    };
    let sum = |level: u64| claims.iter().map(|claim| u128::from(part(claim, level))).sum::<u128>();
    // The smallest weight is a thousandth, and its part at most everything.
    let (mut low, mut high) = (0, WHOLE * 1000);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if sum(middle) <= u128::from(whole) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    claims.iter().map(|claim| part(claim, low)).collect()
}

#[cfg(test)]
mod tests {
    use holm_model::{Epoch, parse_amounts};

    use super::*;
    use crate::FrameworkShare;

    fn role(text: &str) -> Role {
        text.parse().unwrap()
    }

    fn record(name: &str, weight: u32, guarantee: &str, limit: &str) -> RoleRecord {
        let quota = Quota { guarantee: guarantee.parse().unwrap(), limit: parse_amounts(limit).unwrap() };
        RoleRecord { role: role(name), weight: NonZeroU32::new(weight).unwrap(), quota }
    }

    const CLUSTER: &str = "cpus:100;mem:100GiB";

    /// Roles with one framework each: name, what it holds, whether it wants more.
    fn world(shares: &[(&str, &str, bool)], records: &[RoleRecord]) -> BTreeMap<String, Standing> {
        let capacity: Resources = CLUSTER.parse().unwrap();
        let share = |(number, (name, held, wanting)): (usize, &(&str, &str, bool))| {
            let allocated: Resources = held.parse().unwrap();
            let framework = FrameworkShare {
                framework: FrameworkId::new(Epoch(1), number as u64 + 1),
                dominant: dominant(&allocated, &capacity),
                allocated: allocated.clone(),
                wanting: *wanting,
            };
            let (weight, frameworks) = (DEFAULT_WEIGHT, vec![framework]);
            RoleShare { role: role(name), weight, dominant: None, allocated, frameworks }
        };
        let shares: Vec<RoleShare> = shares.iter().enumerate().map(share).collect();
        let records = records.iter().map(|record| (record.role.clone(), record.clone())).collect();
        let standings = standings(&shares, &records, &capacity);
        standings.into_iter().map(|standing| (standing.role.to_string(), standing)).collect()
    }

    fn percent(world: &BTreeMap<String, Standing>, name: &str) -> u64 {
        (world[name].deserved_ppm + 5_000) / 10_000
    }

    #[test]
    fn weights_divide_and_who_wants_nothing_leaves_the_rest() {
        let all = world(&[("a", "", true), ("b", "", true)], &[record("a", 3000, "", "")]);
        assert_eq!((percent(&all, "a"), percent(&all, "b")), (75, 25));
        let idle = world(&[("a", "cpus:10", false), ("b", "", true)], &[record("a", 3000, "", "")]);
        assert_eq!((percent(&idle, "a"), percent(&idle, "b")), (10, 90));
    }

    #[test]
    fn guarantees_and_limits_bound_what_is_deserved() {
        let shares = [("a", "", true), ("b", "", true), ("c", "", true)];
        let bounded = [record("a", 1000, "cpus:60", ""), record("b", 1000, "", "cpus:10;mem:5GiB")];
        let all = world(&shares, &bounded);
        assert_eq!((percent(&all, "a"), percent(&all, "b"), percent(&all, "c")), (60, 10, 30));
        // A limit of one resource only does not bound the dominant share: the other may grow.
        let half = world(&shares[1..], &[record("b", 1000, "", "cpus:10")]);
        assert_eq!(percent(&half, "b"), 50);
        // A guarantee is deserved even by who is not there.
        let absent = world(&[("b", "", true)], &[record("a", 1000, "mem:40GiB", "")]);
        assert_eq!((percent(&absent, "a"), percent(&absent, "b")), (40, 60));
        let over = world(&shares, &[record("a", 1000, "cpus:90", ""), record("b", 1000, "cpus:90", "")]);
        assert_eq!((percent(&over, "a"), percent(&over, "b"), percent(&over, "c")), (50, 50, 0));
    }

    #[test]
    fn what_a_role_deserves_is_divided_below_it_and_what_those_hold_is_its_own() {
        let shares =
            [("eng", "cpus:1", true), ("eng/a", "cpus:2", true), ("eng/b/x", "mem:4GiB", true), ("ops", "", true)];
        let all = world(&shares, &[record("eng/a", 2000, "", "")]);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["eng", "eng/a", "eng/b", "eng/b/x", "ops"], "eng/b is listed for what is below it");
        assert_eq!(all["eng"].used, "cpus:3;mem:4GiB".parse().unwrap());
        assert_eq!(all["eng"].dominant.as_ref().unwrap().resource, ResourceName::Mem);
        assert_eq!((percent(&all, "eng"), percent(&all, "ops")), (50, 50));
        // Its own framework, a with twice the weight, and b.
        assert_eq!((percent(&all, "eng/a"), percent(&all, "eng/b"), percent(&all, "eng/b/x")), (25, 13, 13));
        assert_eq!(all["eng"].frameworks[0].deserved_ppm / 10_000, 12);
        assert_eq!(all["eng/b/x"].frameworks[0].deserved_ppm / 10_000, 12);
    }

    #[test]
    fn siblings_are_listed_under_their_parent_whatever_their_names() {
        let capacity: Resources = CLUSTER.parse().unwrap();
        let records = ["eng-x", "eng/a", "eng"].map(|name| (role(name), record(name, 1000, "cpus:1", "")));
        let standings = standings(&[], &records.into(), &capacity);
        let names: Vec<&str> = standings.iter().map(|standing| standing.role.as_str()).collect();
        assert_eq!(names, ["eng", "eng/a", "eng-x"]);
    }
}
