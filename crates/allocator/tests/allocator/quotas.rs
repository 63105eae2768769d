//! Guarantees, limits, reservations and revocable resources, seen from outside.

use std::collections::BTreeMap;

use holm_allocator::{AgentStock, Allocator, FrameworkAbilities, Grant, Options};
use holm_model::{
    Amount, Attributes, Conversion, Labels, Origin, Portions, Quota, Refusal, Reservation, ResourceName, Role, Time,
};
use proptest::prelude::*;

use crate::tenants::{agent, cluster, framework, plain, role, roles, spec, stock};

fn subscribe(allocator: &mut Allocator, n: u64, to: &str) {
    allocator.add_framework(framework(n), &roles([role(to)]), FrameworkAbilities::default()).unwrap();
}

fn quota(guarantee: &str, limit: &[(ResourceName, u64)]) -> Quota {
    let limit: BTreeMap<_, _> = limit.iter().map(|(name, amount)| (name.clone(), Amount(*amount))).collect();
    Quota { guarantee: spec(guarantee), limit }
}

fn granted(allocator: &mut Allocator) -> Vec<Grant> {
    let grants = allocator.allocate(Time::ZERO, 100);
    assert_eq!(allocator.check(), []);
    grants
}

fn used(allocator: &Allocator, of: &str) -> u64 {
    let share = allocator.shares().find(|share| share.role == role(of));
    share.map_or(0, |share| share.allocated.scalar(&ResourceName::Cpus).0)
}

#[test]
fn an_offer_is_cut_down_to_the_limits_of_all_above_and_the_rest_goes_to_others() {
    let mut allocator = cluster(&["cpus:8;mem:8GiB;ports:[1-9]"]);
    allocator.set_quota(&role("eng"), &quota("", &[(ResourceName::Cpus, 5000)]));
    allocator.set_quota(&role("eng/a"), &quota("", &[(ResourceName::Cpus, 3000)]));
    subscribe(&mut allocator, 1, "eng/a");
    let first = granted(&mut allocator);
    assert_eq!(first[0].portions, plain("cpus:3;mem:8GiB;ports:[1-9]"));
    subscribe(&mut allocator, 2, "eng/b");
    assert_eq!(granted(&mut allocator)[0].portions, plain("cpus:2"));
    subscribe(&mut allocator, 3, "ops");
    assert_eq!(granted(&mut allocator)[0].portions, plain("cpus:3"));
    // What a role gives back makes room for another below the same limit, on whichever agent.
    allocator.add_agent(agent(2), &stock(&spec("cpus:8"), &Attributes::new())).unwrap();
    allocator.suppress(framework(3), &[]).unwrap();
    assert_eq!(granted(&mut allocator), []);
    allocator.release(framework(1), &role("eng/a"), agent(1), &first[0].portions).unwrap();
    allocator.suppress(framework(1), &[]).unwrap();
    let next = granted(&mut allocator);
    let cpus: u64 = next.iter().map(|grant| grant.portions.total().scalar(&ResourceName::Cpus).0).sum();
    assert_eq!((cpus, used(&allocator, "eng")), (3000, 5000));
}

#[test]
fn a_guarantee_is_met_first_and_what_it_lacks_is_kept() {
    let mut allocator = cluster(&["cpus:4", "cpus:4"]);
    allocator.set_quota(&role("eng/a"), &quota("cpus:4", &[]));
    subscribe(&mut allocator, 1, "ops");
    let first = granted(&mut allocator);
    assert_eq!(first.len(), 1, "half is kept for a role that is not even there");
    subscribe(&mut allocator, 2, "eng/a");
    let second = granted(&mut allocator);
    assert_eq!((second.len(), second[0].framework), (1, framework(2)));
    // The one with a guarantee is served before one that has less.
    allocator.release(framework(1), &role("ops"), first[0].agent, &plain("cpus:4")).unwrap();
    allocator.release(framework(2), &role("eng/a"), second[0].agent, &plain("cpus:1")).unwrap();
    let third = granted(&mut allocator);
    assert!(used(&allocator, "eng/a") >= 4000, "{third:?}");
}

#[test]
fn what_is_reserved_goes_to_its_role_counts_as_its_own_and_can_be_turned_back() {
    let reserved = Origin::Reserved(Reservation::new(role("eng"), Labels::new()).unwrap().into());
    let mut portions = plain("cpus:2");
    portions.add(reserved.clone(), &spec("cpus:6")).unwrap();
    let mut allocator = Allocator::new(Options { minimum: Vec::new(), ..Options::default() });
    allocator.add_agent(agent(1), &AgentStock { portions, ..AgentStock::default() }).unwrap();
    assert_eq!(used(&allocator, "eng"), 6000, "whether used or not");
    subscribe(&mut allocator, 1, "eng/backend");
    subscribe(&mut allocator, 2, "ops");
    let grants = granted(&mut allocator);
    assert_eq!(grants[0].framework, framework(2), "the other has the larger share already");
    assert_eq!((&grants[0].portions, grants[1].portions.get(&reserved)), (&plain("cpus:2"), Some(&spec("cpus:6"))));
    let back = Conversion {
        consumed: Portions::of(reserved.clone(), spec("cpus:6")),
        produced: Portions::unreserved(spec("cpus:6")),
    };
    assert!(allocator.convert(agent(1), None, &back).is_err(), "it is in use");
    allocator.convert(agent(1), Some((framework(1), &role("eng/backend"))), &back).unwrap();
    assert_eq!(allocator.check(), []);
    assert_eq!(allocator.held(framework(1), &role("eng/backend"), agent(1)), Some(plain("cpus:6")));
    allocator.release(framework(1), &role("eng/backend"), agent(1), &plain("cpus:6")).unwrap();
    allocator.suppress(framework(1), &[]).unwrap();
    assert_eq!(granted(&mut allocator)[0].portions, plain("cpus:6"));
}

#[test]
fn revocable_resources_are_an_offer_of_their_own_for_those_who_opted_in() {
    let mut allocator = cluster(&["cpus:4"]);
    subscribe(&mut allocator, 1, "a");
    allocator.set_revocable(agent(1), &spec("cpus:2")).unwrap();
    assert_eq!(granted(&mut allocator).len(), 1);
    let abilities = FrameworkAbilities { revocable: true, gpus: false };
    allocator.add_framework(framework(2), &roles([role("b")]), abilities).unwrap();
    let grants = granted(&mut allocator);
    assert_eq!(grants[0].portions, Portions::of(Origin::Revocable, spec("cpus:2")));
}

#[test]
fn a_thousand_frameworks_directly_in_a_role_do_not_crowd_out_its_sub_role() {
    let mut allocator = cluster(&["cpus:1"; 20]);
    (1..=9).for_each(|n| subscribe(&mut allocator, n, "eng"));
    subscribe(&mut allocator, 10, "eng/backend");
    let grants = granted(&mut allocator);
    assert_eq!(grants.iter().filter(|grant| grant.framework == framework(10)).count(), 10);
}

const ROLES: [&str; 5] = ["eng", "eng/a", "eng/a/x", "eng/b", "ops"];

#[derive(Clone, Debug)]
enum Op {
    Quota(usize, u64, u64),
    Agent(u64, u64),
    Revive(u64),
    Suppress(u64),
    Return(usize, bool),
    Allocate,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..5usize, 0..6u64, 0..12u64).prop_map(|(of, least, most)| Op::Quota(of, least, most)),
        1 => (0..5u64, 0..6u64).prop_map(|(n, size)| Op::Agent(n, size)),
        1 => (0..5u64).prop_map(Op::Revive),
        1 => (0..5u64).prop_map(Op::Suppress),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(at, refuse)| Op::Return(at, refuse)),
        6 => Just(Op::Allocate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// No grant takes anybody over a limit; whatever is free and allowed is granted or due; nothing is lost.
    #[test]
    fn limits_hold_and_nothing_waits_that_could_be_granted(ops in prop::collection::vec(op(), 1..60)) {
        let mut allocator = cluster(&["cpus:4", "cpus:3", "cpus:5"]);
        for (n, name) in (0..).zip(ROLES) {
            subscribe(&mut allocator, n, name);
        }
        let mut held: Vec<Grant> = Vec::new();
        let mut limits: BTreeMap<Role, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Quota(of, least, most) => {
                    let guarantee = format!("cpus:{}", least.min(most));
                    let most = most * 1000;
                    allocator.set_quota(&role(ROLES[of]), &quota(&guarantee, &[(ResourceName::Cpus, most)]));
                    limits.insert(role(ROLES[of]), most);
                }
                Op::Agent(n, size) => {
                    let stock = stock(&spec(&format!("cpus:{size}")), &Attributes::new());
                    if allocator.update_agent(agent(n), &stock).is_err() {
                        allocator.add_agent(agent(n), &stock).unwrap();
                    }
                }
                Op::Revive(n) => allocator.revive(framework(n), &[]).unwrap(),
                Op::Suppress(n) => allocator.suppress(framework(n), &[]).unwrap(),
                Op::Return(at, refuse) if !held.is_empty() => {
                    let grant = held.swap_remove(at % held.len());
                    let refusal = if refuse { Refusal::default() } else { Refusal::NONE };
                    let Grant { framework, role, agent, portions, .. } = grant;
                    allocator.decline(framework, &role, agent, &portions, refusal, Time::ZERO).unwrap();
                }
                Op::Return(..) => {}
                Op::Allocate => {
                    let before: BTreeMap<_, _> = ROLES.map(|name| (name, used(&allocator, name))).into();
                    held.extend(allocator.allocate(Time::ZERO, 3));
                    for name in ROLES {
                        let most = limits.get(&role(name)).copied().unwrap_or(u64::MAX);
                        prop_assert!(used(&allocator, name) <= most.max(before[name]), "{name} is over its limit");
                    }
                }
            }
            prop_assert_eq!(allocator.check(), vec![]);
        }
    }
}

#[test]
fn a_role_that_lost_some_of_its_guarantee_gets_what_is_kept() {
    let mut allocator = cluster(&["cpus:4", "cpus:3"]);
    allocator.set_quota(&role("ops"), &quota("cpus:2", &[]));
    allocator.set_quota(&role("away"), &quota("cpus:3", &[]));
    subscribe(&mut allocator, 1, "ops");
    let grants = granted(&mut allocator);
    assert_eq!((grants.len(), &grants[0].portions), (1, &plain("cpus:4")), "the rest is kept for one that is away");
    allocator.update_agent(agent(1), &stock(&spec("cpus:0"), &Attributes::new())).unwrap();
    allocator.release(framework(1), &role("ops"), agent(1), &plain("cpus:4")).unwrap();
    let grants = granted(&mut allocator);
    assert_eq!((grants[0].agent, &grants[0].portions), (agent(2), &plain("cpus:2")));
}
