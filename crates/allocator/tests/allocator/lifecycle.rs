//! Agents and frameworks that come, go, pause and return.

use std::num::NonZeroU32;

use holm_allocator::{AgentError, Allocator, ChargeError, FrameworkAbilities, FrameworkError, Options, ReleaseError};
use holm_model::{Attributes, Refusal, Resources, Time};

use crate::tenants::{agent, cluster, framework, plain, role, roles, spec, stock};

fn granted(allocator: &mut Allocator) -> Vec<u64> {
    let grants = allocator.allocate(Time::ZERO, 99);
    assert_eq!(allocator.check(), []);
    grants.iter().map(|grant| grant.framework.counter()).collect()
}

#[test]
fn suppressed_roles_get_nothing_until_revived() {
    let mut allocator = cluster(&["cpus:4", "cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a"), role("b")]), FrameworkAbilities::default()).unwrap();
    allocator.suppress(framework(1), &[]).unwrap();
    assert_eq!(granted(&mut allocator), []);
    allocator.revive(framework(1), &[role("b")]).unwrap();
    let grants = allocator.allocate(Time::ZERO, 9);
    assert!(grants.len() == 2 && grants.iter().all(|grant| grant.role == role("b")));
}

#[test]
fn subscribing_again_keeps_the_suppression_of_roles_that_stay() {
    let mut allocator = cluster(&["cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a"), role("b")]), FrameworkAbilities::default()).unwrap();
    allocator.suppress(framework(1), &[role("a"), role("b")]).unwrap();
    allocator.set_framework_active(framework(1), false).unwrap();
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), []);
    allocator.add_framework(framework(1), &roles([role("a"), role("b")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(allocator.allocate(Time::ZERO, 9)[0].role, role("b"), "a role that is new is not suppressed");
}

#[test]
fn a_framework_that_left_stays_charged_for_what_still_runs() {
    let mut allocator = cluster(&["cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), [1]);
    allocator.release(framework(1), &role("a"), agent(1), &plain("cpus:1")).unwrap();
    allocator.remove_framework(framework(1)).unwrap();
    allocator.add_framework(framework(2), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let rest = allocator.allocate(Time::ZERO, 9);
    assert_eq!(rest[0].portions, plain("cpus:1"));
    assert_eq!(allocator.shares().next().unwrap().frameworks.len(), 2);
    allocator.release(framework(1), &role("a"), agent(1), &plain("cpus:3")).unwrap();
    assert_eq!(granted(&mut allocator), [2]);
    assert_eq!(allocator.shares().next().unwrap().frameworks.len(), 1, "nothing is left of the one that is gone");
}

#[test]
fn what_runs_is_charged_before_its_framework_is_back() {
    let mut allocator = cluster(&[]);
    allocator.add_agent(agent(1), &stock(&spec("cpus:4;mem:1GiB"), &Attributes::new())).unwrap();
    allocator.allocated(framework(1), &role("a"), agent(1), &plain("cpus:3")).unwrap();
    assert_eq!(allocator.check(), []);
    assert_eq!(allocator.free(agent(1)), Some(plain("cpus:1;mem:1GiB")));
    assert_eq!(granted(&mut allocator), [], "nobody is subscribed");
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    allocator.add_framework(framework(2), &roles([role("b")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), [2], "its share counts from the start");
    assert_eq!(allocator.held(framework(1), &role("a"), agent(1)), Some(plain("cpus:3")));
}

#[test]
fn an_agent_that_came_back_smaller_offers_nothing_until_enough_has_ended() {
    let mut allocator = cluster(&["cpus:4;ports:[1-4]"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), [1]);
    allocator.update_agent(agent(1), &stock(&spec("cpus:2;ports:[3-6]"), &Attributes::new())).unwrap();
    assert_eq!(allocator.free(agent(1)), Some(plain("ports:[5-6]")));
    allocator.suppress(framework(1), &[]).unwrap();
    allocator.release(framework(1), &role("a"), agent(1), &plain("cpus:3;ports:[1-3]")).unwrap();
    assert_eq!(allocator.free(agent(1)), Some(plain("cpus:1;ports:[3-3,5-6]")));
    assert_eq!(allocator.check(), []);
}

#[test]
fn inactive_agents_are_left_alone_and_still_count() {
    let mut allocator = cluster(&["cpus:4", "cpus:4"]);
    allocator.set_agent_active(agent(1), false).unwrap();
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let grants = allocator.allocate(Time::ZERO, 9);
    assert_eq!((grants.len(), grants[0].agent), (1, agent(2)));
    assert_eq!(allocator.shares().next().unwrap().dominant.unwrap().ppm(), 500_000);
    allocator.set_agent_active(agent(1), true).unwrap();
    assert_eq!(granted(&mut allocator), [1]);
}

#[test]
fn a_removed_agent_takes_everything_held_on_it_along() {
    let mut allocator = cluster(&["cpus:4", "cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), [1, 1]);
    allocator.remove_agent(agent(1)).unwrap();
    assert_eq!(allocator.check(), []);
    let late = allocator.release(framework(1), &role("a"), agent(1), &plain("cpus:4"));
    assert_eq!(late, Err(ReleaseError::UnknownAgent(agent(1))));
    assert_eq!(allocator.shares().next().unwrap().allocated, spec("cpus:4"));
    assert_eq!(allocator.remove_agent(agent(1)), Err(AgentError::Unknown(agent(1))));
}

#[test]
fn remainders_below_the_minimum_are_not_offered() {
    let mut allocator = Allocator::new(Options::default());
    for (n, total) in [(1, "cpus:0.009;mem:31MiB"), (2, "cpus:0.01"), (3, "mem:32MiB"), (4, "ports:[1-9]")] {
        allocator.add_agent(agent(n), &stock(&spec(total), &Attributes::new())).unwrap();
    }
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let agents: Vec<u64> = allocator.allocate(Time::ZERO, 9).iter().map(|grant| grant.agent.counter()).collect();
    assert_eq!(agents.len(), 2);
    assert!(agents.contains(&2) && agents.contains(&3));
}

#[test]
fn a_run_that_ended_at_its_maximum_goes_on_in_the_next() {
    let mut allocator = cluster(&["cpus:4"; 5]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(allocator.allocate(Time::ZERO, 2).len(), 2);
    assert!(allocator.has_candidates());
    assert_eq!(allocator.allocate(Time::ZERO, 99).len(), 3);
    assert!(!allocator.has_candidates());
    allocator.sweep();
    assert_eq!(granted(&mut allocator), []);
}

#[test]
fn a_weight_set_before_the_role_appears_counts() {
    let mut allocator = cluster(&["cpus:4"; 4]);
    allocator.set_weight(&role("a"), NonZeroU32::new(3000).unwrap());
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    allocator.add_framework(framework(2), &roles([role("b")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator).iter().filter(|id| **id == 1).count(), 3);
}

#[test]
fn books_that_do_not_add_up_are_refused_and_unchanged() {
    let mut allocator = cluster(&["cpus:4;ports:[1-9]"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    assert_eq!(granted(&mut allocator), [1]);
    let (a, one) = (role("a"), agent(1));
    let error = allocator.release(framework(1), &a, one, &plain("cpus:5")).unwrap_err();
    assert_eq!(error.to_string(), "framework framework-1-1 in role a does not hold the resources on agent agent-1-1");
    assert!(matches!(allocator.release(framework(2), &a, one, &plain("cpus:1")), Err(ReleaseError::NotHeld { .. })));
    let refusal = Refusal::default();
    assert!(allocator.decline(framework(1), &a, one, &plain("cpus:5"), refusal, Time::ZERO).is_err());
    assert_eq!(allocator.next_wake(), None, "no filter is left of it");
    let taken = allocator.allocated(framework(2), &role("b"), one, &plain("ports:[3-3]"));
    assert!(matches!(taken, Err(ChargeError::Conflict { .. })));
    let nowhere = allocator.allocated(framework(2), &role("b"), agent(7), &plain("cpus:1"));
    assert_eq!(nowhere, Err(ChargeError::UnknownAgent(agent(7))));
    assert_eq!(allocator.add_agent(one, &stock(&Resources::EMPTY, &Attributes::new())), Err(AgentError::Exists(one)));
    assert_eq!(allocator.revive(framework(3), &[]), Err(FrameworkError::Unknown(framework(3))));
    let other = allocator.suppress(framework(1), &[a.clone(), role("b")]);
    assert_eq!(other, Err(FrameworkError::NotSubscribed { framework: framework(1), role: role("b") }));
    assert_eq!(allocator.held(framework(1), &a, one), Some(plain("cpus:4;ports:[1-9]")));
    assert_eq!(allocator.check(), []);
    assert_eq!(allocator.shares().count(), 1, "refused charges leave no empty roles behind");
}
