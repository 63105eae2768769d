//! Gangs: accepted all or none, launched all or none.

use std::time::Duration;

use holm_model::*;

use super::harness::*;

/// Two agents, and a framework that waits for a gang of two that needs both.
fn gang_of_two() -> (Cluster, [TestAgent; 2], TestFramework, Vec<Offer>) {
    let mut cluster = Cluster::new();
    let agents = [cluster.agent("cpus:4;mem:8GiB"), cluster.agent("cpus:4;mem:8GiB")];
    let framework = cluster.framework_with(by_demand("a"));
    cluster.call(framework, demand("a", [Demand { gang: true, ..wants("both", "cpus:3;mem:1GiB", 2) }]));
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 2, "one on each agent");
    assert!(offers[0].gang.is_some() && offers[0].gang == offers[1].gang);
    assert!(offers.iter().all(|offer| offer.resources == resources("cpus:3;mem:1GiB")));
    (cluster, agents, framework, offers)
}

fn launch(cluster: &mut Cluster, by: TestFramework, offer: &Offer, id: &str) {
    cluster.accept(by, std::slice::from_ref(offer), vec![single(id, "cpus:3;mem:1GiB")], Refusal::NONE);
}

#[test]
fn nothing_is_launched_before_every_offer_is_accepted() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()), "it waits for the other");
    launch(&mut cluster, framework, &offers[1], "y");
    let launched: usize = agents.iter().map(|agent| cluster.launched(*agent).len()).sum();
    assert_eq!(launched, 2);
    assert!(cluster.heard(framework).is_empty(), "nothing was refused");
    assert!(cluster.offers(framework).is_empty(), "the demand is satisfied");
}

#[test]
fn one_declined_offer_ends_the_gang_and_drops_what_waited() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    cluster.call(framework, Call::Decline { offers: vec![offers[1].id], refusal: Refusal::default() });
    assert_eq!(cluster.states(framework), [("x".into(), TaskState::Dropped, Some(Reason::GroupFailed))]);
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()));
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.offers(framework).len(), 2, "once the refusal is over the gang is offered again");
}

#[test]
fn an_offer_that_is_never_answered_ends_the_gang_in_time() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[1], "y");
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.states(framework), [("y".into(), TaskState::Dropped, Some(Reason::GroupFailed))]);
    assert!(cluster.rescinded(framework).contains(&offers[0].id));
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()));
}

#[test]
fn a_gang_of_which_one_launch_is_not_valid_is_not_launched() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    let large = vec![single("y", "cpus:4;mem:1GiB")];
    cluster.accept(framework, &offers[1..], large, Refusal::NONE);
    let mut states = cluster.states(framework);
    states.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("x".to_owned(), TaskState::Dropped, Some(Reason::GroupFailed)),
        ("y".to_owned(), TaskState::Error, Some(Reason::InvalidTask)),
    ];
    assert_eq!(states, expected);
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()));
}

#[test]
fn an_agent_that_refuses_has_the_others_killed() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    launch(&mut cluster, framework, &offers[1], "y");
    let on = |offer: &Offer| *agents.iter().find(|agent| agent.id == offer.agent).unwrap();
    let (first, second) = (on(&offers[0]), on(&offers[1]));
    cluster.updates(first, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    cluster.updates(second, framework.id, vec![update(1, "y", 0, 1, TaskState::Dropped)]);
    let kills = cluster.sent(first, |message| matches!(message, ToAgent::Kill { task, .. } if task.to_string() == "x"));
    assert_eq!(kills, 1);
}

#[test]
fn a_launch_that_ends_after_all_have_started_does_not_concern_the_others() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    launch(&mut cluster, framework, &offers[1], "y");
    let on = |offer: &Offer| *agents.iter().find(|agent| agent.id == offer.agent).unwrap();
    let (first, second) = (on(&offers[0]), on(&offers[1]));
    cluster.updates(first, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    cluster.updates(second, framework.id, vec![update(1, "y", 0, 1, TaskState::Running)]);
    cluster.updates(second, framework.id, vec![update(2, "y", 0, 1, TaskState::Failed)]);
    assert_eq!(cluster.sent(first, |message| matches!(message, ToAgent::Kill { .. })), 0);
}

#[test]
fn an_offer_of_a_gang_is_accepted_once_and_not_with_others() {
    let (mut cluster, _, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    launch(&mut cluster, framework, &offers[0], "x2");
    let heard = cluster.heard(framework);
    let message = |id: &str| {
        let of = heard.iter().find(|(_, update)| update.batch.to_string() == id).unwrap();
        of.1.status.message.to_string()
    };
    assert!(message("x2").contains("accepted already"), "{}", message("x2"));
    assert!(message("x").contains("gang-1-1"), "the mistake ends the gang: {}", message("x"));
}

#[test]
fn a_framework_that_leaves_takes_its_gangs_with_it() {
    let (mut cluster, agents, framework, offers) = gang_of_two();
    launch(&mut cluster, framework, &offers[0], "x");
    cluster.send(crate::Event::FrameworkClosed { session: framework.session });
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()));
    let other = cluster.framework("b");
    assert_eq!(cluster.offers(other).len(), 2, "everything is free again");
}
