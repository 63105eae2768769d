//! What agents lend: to whom it is offered, who may use it, and what becomes of it when it shrinks.

use std::time::Duration;

use holm_model::*;

use super::harness::*;

fn borrower() -> FrameworkInfo {
    FrameworkInfo { capabilities: [FrameworkInfo::REVOCABLE.into()].into(), ..info(&["b"]) }
}

fn revocable(id: &str, shape: &str) -> Launch {
    let spec = TaskSpec { revocable: true, resources: resources(shape), ..TaskSpec::default() };
    Launch { spec: spec.into(), ..single(id, shape) }
}

/// A cluster whose only agent is held by an owner and lends half of it.
fn lent() -> (Cluster, TestAgent, TestFramework) {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let owner = cluster.framework("a");
    cluster.launch(owner, vec![single("owner", "cpus:4;mem:8GiB")]);
    cluster.say(agent.session, ToMaster::Revocable(resources("cpus:2;mem:4GiB;disk:1GiB")));
    (cluster, agent, owner)
}

#[test]
fn what_is_lent_is_offered_to_those_who_opted_in_and_to_nobody_else() {
    let (mut cluster, agent, owner) = lent();
    let plain = cluster.framework("b");
    let borrower = cluster.framework_with(borrower());
    assert!(cluster.offers(owner).is_empty() && cluster.offers(plain).is_empty());
    let offers = cluster.offers(borrower);
    assert_eq!(offers.len(), 1);
    assert!(offers[0].is_revocable());
    assert_eq!((offers[0].agent, &offers[0].resources), (agent.id, &resources("cpus:2;mem:4GiB")), "never disk");
}

#[test]
fn lent_and_ordinary_resources_never_mix() {
    let (mut cluster, agent, _) = lent();
    let other = cluster.agent("cpus:1;mem:1GiB");
    let borrower = cluster.framework_with(borrower());
    let offers = cluster.offers(borrower);
    let (lent, own): (Vec<_>, Vec<_>) = offers.into_iter().partition(Offer::is_revocable);
    assert_eq!((lent[0].agent, own[0].agent), (agent.id, other.id));
    // The wrong kind of launch is refused by name; what it asked for goes back.
    cluster.accept(borrower, &lent, vec![single("firm", "cpus:1;mem:1GiB")], Refusal::NONE);
    cluster.accept(borrower, &own, vec![revocable("loose", "cpus:1;mem:1GiB")], Refusal::NONE);
    let refused = |id: &str| (id.to_owned(), TaskState::Error, Some(Reason::InvalidTask));
    assert_eq!(cluster.states(borrower), [refused("firm"), refused("loose")]);
    let offers = cluster.offers(borrower);
    let lent: Vec<_> = offers.into_iter().filter(Offer::is_revocable).collect();
    cluster.accept(borrower, &lent, vec![revocable("loose", "cpus:1;mem:1GiB")], Refusal::NONE);
    assert_eq!(cluster.launched(agent).last().unwrap().1, "loose");
}

#[test]
fn what_a_borrower_gives_back_is_lent_again() {
    let (mut cluster, agent, _) = lent();
    let borrower = cluster.framework_with(borrower());
    let offers = cluster.offers(borrower);
    cluster.accept(borrower, &offers, vec![revocable("one", "cpus:2;mem:1GiB")], Refusal::NONE);
    cluster.updates(agent, borrower.id, vec![update(1, "one", 0, 1, TaskState::Running)]);
    assert!(cluster.offers(borrower).iter().all(|offer| offer.resources == resources("mem:3GiB")));
    let preempted = TaskStatus::because(TaskState::Killed, Reason::Preempted, "its memory is needed back");
    let end = Update { status: preempted, ..update(2, "one", 0, 1, TaskState::Killed) };
    cluster.updates(agent, borrower.id, vec![end]);
    assert_eq!(cluster.states(borrower).last().unwrap().2, Some(Reason::Preempted));
    cluster.settle();
    let free: Vec<_> = cluster.offers(borrower).into_iter().map(|offer| offer.resources.to_string()).collect();
    assert!(free.iter().any(|free| free.contains("cpus:2")), "{free:?}");
}

#[test]
fn an_estimate_that_shrinks_takes_offers_back_and_no_tasks() {
    let (mut cluster, agent, _) = lent();
    let borrower = cluster.framework_with(borrower());
    let offers = cluster.offers(borrower);
    cluster.accept(borrower, &offers, vec![revocable("one", "cpus:1;mem:1GiB")], Refusal::NONE);
    let rest = cluster.offers(borrower);
    assert_eq!(rest.len(), 1);
    cluster.say(agent.session, ToMaster::Revocable(Resources::EMPTY));
    assert_eq!(cluster.rescinded(borrower), vec![rest[0].id]);
    assert!(cluster.offers(borrower).is_empty());
    assert_eq!(
        cluster.sent(agent, |message| matches!(message, ToAgent::Kill { .. })),
        0,
        "who goes is the agent's business"
    );
    // One that was used while it was taken back never ran.
    cluster.accept(borrower, &rest, vec![revocable("late", "cpus:1;mem:1GiB")], Refusal::NONE);
    assert_eq!(
        cluster.states(borrower).last().unwrap(),
        &("late".to_owned(), TaskState::Dropped, Some(Reason::InvalidOffers))
    );
    // It comes back less what is held.
    cluster.say(agent.session, ToMaster::Revocable(resources("cpus:2;mem:4GiB")));
    cluster.settle();
    assert_eq!(cluster.offers(borrower)[0].resources, resources("cpus:1;mem:3GiB"));
}

#[test]
fn a_new_stream_lends_nothing_until_it_says_what_and_borrowers_stay_charged() {
    let (mut cluster, agent, owner) = lent();
    let borrower = cluster.framework_with(borrower());
    let offers = cluster.offers(borrower);
    let one = revocable("one", "cpus:1;mem:1GiB");
    cluster.accept(borrower, &offers, vec![one.clone()], Refusal::NONE);
    cluster.updates(agent, borrower.id, vec![update(1, "one", 0, 1, TaskState::Running)]);
    cluster.offers(borrower);
    let agent = cluster.reopen(agent, "cpus:4;mem:8GiB", LIFE);
    let batches = vec![
        reported(owner.id, &single("owner", "cpus:4;mem:8GiB"), TaskState::Staging),
        BatchReport { role: role("b"), ..reported(borrower.id, &one, TaskState::Running) },
    ];
    cluster.report(agent, batches);
    cluster.settle();
    assert!(cluster.offers(borrower).is_empty());
    cluster.say(agent.session, ToMaster::Revocable(resources("cpus:2;mem:4GiB")));
    cluster.settle();
    assert_eq!(cluster.offers(borrower)[0].resources, resources("cpus:1;mem:3GiB"));
}

#[test]
fn an_agent_that_is_held_back_lends_nothing() {
    let (mut cluster, agent, _) = lent();
    let borrower = cluster.framework_with(borrower());
    let offers = cluster.offers(borrower);
    let held = AgentCondition { held_back: Some("the reserve".into()), ..AgentCondition::default() };
    cluster.say(agent.session, ToMaster::Condition(held));
    assert_eq!(cluster.rescinded(borrower), vec![offers[0].id]);
    cluster.pass(Duration::from_secs(10));
    assert!(cluster.offers(borrower).is_empty());
    cluster.say(agent.session, ToMaster::Condition(AgentCondition::default()));
    cluster.settle();
    assert_eq!(cluster.offers(borrower).len(), 1);
}

#[test]
fn who_borrows_less_is_offered_first_whatever_it_owns() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:8;mem:8GiB");
    let owner = cluster.framework_with(FrameworkInfo { name: "rich".into(), ..borrower() });
    cluster.launch(owner, vec![single("owner", "cpus:8;mem:8GiB")]);
    let poor = cluster.framework_with(FrameworkInfo { name: "poor".into(), ..borrower() });
    cluster.say(agent.session, ToMaster::Revocable(resources("cpus:2;mem:2GiB")));
    // Both borrow nothing; one of them is offered it and takes a half. The other half is then the other's.
    cluster.settle();
    let (first, second) = match cluster.offers(poor) {
        offers if offers.is_empty() => ((owner, cluster.offers(owner)), poor),
        offers => ((poor, offers), owner),
    };
    let (by, offers) = first;
    cluster.accept(by, &offers, vec![revocable("first", "cpus:1;mem:1GiB")], Refusal::NONE);
    cluster.settle();
    assert_eq!(cluster.offers(second)[0].resources, resources("cpus:1;mem:1GiB"));
}
