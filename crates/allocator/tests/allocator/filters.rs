//! What a refusal holds back, and until when.

use std::time::Duration;

use holm_allocator::{Allocator, FrameworkAbilities, Grant};
use holm_model::{Attributes, Refusal, Time};

use crate::tenants::{agent, cluster, framework, plain, role, roles, spec, stock};

const REFUSE: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// One framework that declined all of one agent at time zero, for 5 s.
fn declined() -> (Allocator, Grant) {
    let mut allocator = cluster(&["cpus:4;mem:8GiB"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let grant = allocator.allocate(Time::ZERO, 9).pop().unwrap();
    decline(&mut allocator, &grant, "cpus:4;mem:8GiB");
    (allocator, grant)
}

fn decline(allocator: &mut Allocator, grant: &Grant, resources: &str) {
    let refusal = Refusal::new(REFUSE);
    allocator.decline(grant.framework, &grant.role, grant.agent, &plain(resources), refusal, Time::ZERO).unwrap();
}

fn grants(allocator: &mut Allocator, seconds: u64) -> usize {
    let grants = allocator.allocate(at(seconds), 9);
    assert_eq!(allocator.check(), []);
    grants.len()
}

#[test]
fn a_refusal_lasts_until_its_end_and_tells_when_that_is() {
    let (mut allocator, _) = declined();
    assert_eq!(grants(&mut allocator, 0), 0);
    assert_eq!(grants(&mut allocator, 4), 0);
    assert_eq!(allocator.next_wake(), Some(at(5)));
    assert_eq!(grants(&mut allocator, 5), 1);
    assert_eq!(allocator.next_wake(), None);
}

#[test]
fn a_zero_refusal_leaves_no_filter() {
    let mut allocator = cluster(&["cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let grant = allocator.allocate(Time::ZERO, 9).pop().unwrap();
    allocator.decline(grant.framework, &grant.role, grant.agent, &grant.portions, Refusal::NONE, Time::ZERO).unwrap();
    assert_eq!(allocator.next_wake(), None);
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn a_larger_offer_goes_through_and_a_part_does_not() {
    let mut allocator = cluster(&["cpus:4;mem:8GiB"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let grant = allocator.allocate(Time::ZERO, 9).pop().unwrap();
    // Half is used for a task, the other half refused.
    decline(&mut allocator, &grant, "cpus:2;mem:4GiB");
    assert_eq!(grants(&mut allocator, 1), 0, "the same is held back");
    allocator.allocated(framework(9), &role("z"), agent(1), &plain("cpus:1")).unwrap();
    assert_eq!(grants(&mut allocator, 1), 0, "and so is a part of it");
    allocator.release(framework(9), &role("z"), agent(1), &plain("cpus:1")).unwrap();
    assert_eq!(grants(&mut allocator, 1), 0);
    allocator.release(framework(1), &role("a"), agent(1), &plain("cpus:1")).unwrap();
    assert_eq!(allocator.allocate(at(1), 9)[0].portions, plain("cpus:3;mem:4GiB"), "more than was refused is not");
}

#[test]
fn a_refusal_binds_only_its_framework_role_and_agent() {
    let mut allocator = cluster(&["cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a"), role("b")]), FrameworkAbilities::default()).unwrap();
    let grant = allocator.allocate(Time::ZERO, 9).pop().unwrap();
    assert_eq!(grant.role, role("a"));
    decline(&mut allocator, &grant, "cpus:4");
    let other_role = allocator.allocate(at(1), 9).pop().unwrap();
    assert_eq!(other_role.role, role("b"));
    decline(&mut allocator, &other_role, "cpus:4");
    assert_eq!(grants(&mut allocator, 1), 0);
    allocator.add_agent(agent(2), &stock(&spec("cpus:4"), &Attributes::new())).unwrap();
    let other_agent = allocator.allocate(at(1), 9);
    assert_eq!(other_agent.iter().map(|grant| grant.agent).collect::<Vec<_>>(), [agent(2)]);
    allocator.add_framework(framework(2), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let other_framework = allocator.allocate(at(1), 9);
    assert_eq!(other_framework[0].framework, framework(2));
    assert_eq!(allocator.check(), []);
}

#[test]
fn revive_forgets_refusals() {
    let (mut allocator, _) = declined();
    allocator.revive(framework(1), &[]).unwrap();
    assert_eq!(allocator.next_wake(), None);
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn a_lost_connection_forgets_refusals() {
    let (mut allocator, _) = declined();
    allocator.set_framework_active(framework(1), false).unwrap();
    assert_eq!(allocator.next_wake(), None);
    assert_eq!(grants(&mut allocator, 0), 0);
    allocator.set_framework_active(framework(1), true).unwrap();
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn a_decline_that_arrives_after_the_connection_was_lost_leaves_no_filter() {
    let mut allocator = cluster(&["cpus:4"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let grant = allocator.allocate(Time::ZERO, 9).pop().unwrap();
    allocator.set_framework_active(framework(1), false).unwrap();
    decline(&mut allocator, &grant, "cpus:4");
    allocator.set_framework_active(framework(1), true).unwrap();
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn changed_attributes_forget_refusals_and_a_changed_total_does_not() {
    let (mut allocator, _) = declined();
    allocator.update_agent(agent(1), &stock(&spec("cpus:3;mem:8GiB"), &Attributes::new())).unwrap();
    assert_eq!(grants(&mut allocator, 0), 0);
    let attributes = Attributes::from([("rack".into(), "b".into())]);
    allocator.update_agent(agent(1), &stock(&spec("cpus:3;mem:8GiB"), &attributes)).unwrap();
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn a_removed_agent_takes_its_refusals_along() {
    let (mut allocator, _) = declined();
    allocator.remove_agent(agent(1)).unwrap();
    assert_eq!(allocator.next_wake(), None);
    allocator.add_agent(agent(1), &stock(&spec("cpus:4;mem:8GiB"), &Attributes::new())).unwrap();
    assert_eq!(grants(&mut allocator, 0), 1);
}

#[test]
fn a_refusal_that_ends_gives_the_agent_to_the_one_who_waited() {
    let (mut allocator, _) = declined();
    allocator.add_framework(framework(2), &roles([role("b")]), FrameworkAbilities::default()).unwrap();
    let other = allocator.allocate(at(1), 9).pop().unwrap();
    allocator
        .decline(other.framework, &other.role, other.agent, &other.portions, Refusal::new(REFUSE * 10), at(1))
        .unwrap();
    assert_eq!(grants(&mut allocator, 1), 0);
    let first = allocator.allocate(at(5), 9);
    assert_eq!(first[0].framework, framework(1));
    assert_eq!(allocator.next_wake(), Some(at(51)));
}
