//! ACCEPT: what is launched, what is refused and why, what goes back.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::{MAX_CALL_LAUNCHES, Options};

fn one_agent() -> (Cluster, TestAgent, TestFramework) {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB;ports:[31000-31009]");
    let framework = cluster.framework("a");
    (cluster, agent, framework)
}

fn only(cluster: &mut Cluster, by: TestFramework) -> (TaskState, Option<Reason>, String) {
    let mut heard = cluster.heard(by);
    assert_eq!(heard.len(), 1, "{heard:?}");
    let (source, update) = heard.remove(0);
    assert_eq!((source, update.sequence), (Source::Master, 0));
    (update.status.state, update.status.reason, update.status.message.to_string())
}

#[test]
fn an_accept_launches_in_order_and_returns_the_rest() {
    let (mut cluster, agent, framework) = one_agent();
    let shape = "cpus:1;mem:1GiB";
    cluster.launch(framework, vec![single("x", shape), array("y", 10, 2, shape)]);
    assert_eq!(cluster.launched(agent), vec![(1, "x".to_owned()), (2, "y".to_owned())]);
    let rest = cluster.offers(framework);
    assert_eq!(rest[0].resources, resources("cpus:1;mem:5GiB;ports:[31000-31009]"));
    cluster.accept(framework, &rest, vec![single("z", shape)], Refusal::NONE);
    assert_eq!(cluster.launched(agent).last(), Some(&(3, "z".to_owned())));
    assert!(cluster.heard(framework).is_empty(), "nothing was refused");
}

#[test]
fn the_unused_rest_is_refused_for_as_long_as_was_asked() {
    let (mut cluster, _, framework) = one_agent();
    let offers = cluster.offers(framework);
    let launches = vec![single("x", "cpus:1;mem:1GiB")];
    cluster.accept(framework, &offers, launches, Refusal::new(Duration::from_secs(5)));
    assert!(cluster.offers(framework).is_empty());
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn several_offers_of_one_agent_are_used_together() {
    let (mut cluster, agent, framework) = one_agent();
    cluster.launch(framework, vec![single("x", "cpus:2;mem:4GiB")]);
    let first = cluster.offers(framework);
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Finished)]);
    let second = cluster.offers(framework);
    let both = [first, second].concat();
    assert_eq!(both.len(), 2);
    cluster.accept(framework, &both, vec![single("y", "cpus:4;mem:8GiB;ports:[31000-31009]")], Refusal::NONE);
    assert_eq!(cluster.launched(agent).len(), 2);
}

#[test]
fn offers_of_two_agents_cannot_be_used_together() {
    let mut cluster = Cluster::new();
    let agents = [cluster.agent("cpus:4;mem:8GiB"), cluster.agent("cpus:4;mem:8GiB")];
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    let (state, reason, message) = only(&mut cluster, framework);
    assert_eq!((state, reason), (TaskState::Dropped, Some(Reason::InvalidOffers)));
    assert!(message.contains("of another agent"), "{message}");
    assert!(agents.iter().all(|agent| cluster.launched(*agent).is_empty()));
    assert_eq!(cluster.offers(framework).len(), 2, "both are free again, without a filter");
}

#[test]
fn offers_that_are_used_foreign_expired_or_made_up_drop_every_launch() {
    let (mut cluster, agent, framework) = one_agent();
    let offer = cluster.offers(framework).remove(0);
    let other = cluster.framework("b");
    cluster.call(other, Call::Suppress { roles: Vec::new() });
    let try_with = |cluster: &mut Cluster, by, offers: Vec<OfferId>| {
        let launches = vec![single("x", "cpus:1;mem:1GiB")];
        cluster.call(by, Call::Accept { offers, launches, refusal: Refusal::NONE });
        let (state, reason, message) = only(cluster, by);
        assert_eq!((state, reason), (TaskState::Dropped, Some(Reason::InvalidOffers)), "{message}");
        message
    };
    let message = try_with(&mut cluster, other, vec![offer.id]);
    assert!(message.contains("another framework"), "{message}");
    let message = try_with(&mut cluster, framework, vec![OfferId::new(Epoch(1), 999)]);
    assert!(message.contains("offer-1-999 was never made"), "{message}");
    let message = try_with(&mut cluster, framework, vec![OfferId::new(Epoch(0), 1)]);
    assert!(message.contains("earlier master"), "{message}");
    let message = try_with(&mut cluster, framework, Vec::new());
    assert!(message.contains("no offer"), "{message}");
    cluster.accept(framework, std::slice::from_ref(&offer), Vec::new(), Refusal::NONE);
    let message = try_with(&mut cluster, framework, vec![offer.id]);
    assert!(message.contains(&format!("{} was used", offer.id)), "{message}");
    let again = cluster.offers(framework).remove(0);
    cluster.pass(Duration::from_secs(31));
    let message = try_with(&mut cluster, framework, vec![again.id]);
    assert!(message.contains("has expired"), "{message}");
    let held = cluster.offers(framework).pop().unwrap();
    let message = try_with(&mut cluster, framework, vec![held.id, held.id]);
    assert!(message.contains("twice"), "{message}");
    assert!(cluster.launched(agent).is_empty());
}

#[test]
fn one_bad_offer_frees_the_good_ones_of_the_same_accept() {
    let (mut cluster, _, framework) = one_agent();
    let good = cluster.offers(framework).remove(0);
    let offers = vec![good.id, OfferId::new(Epoch(1), 999)];
    let launches = vec![single("x", "cpus:1;mem:1GiB"), array("y", 3, 1, "cpus:1;mem:1GiB")];
    cluster.call(framework, Call::Accept { offers, launches, refusal: Refusal::default() });
    let heard = cluster.heard(framework);
    let counts: Vec<u32> = heard.iter().map(|(_, update)| update.count).collect();
    assert_eq!(counts, vec![1, 3], "every task of every launch");
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn a_launch_that_exceeds_what_is_left_is_an_error_alone() {
    let (mut cluster, agent, framework) = one_agent();
    let launches =
        vec![single("x", "cpus:3;mem:1GiB"), single("big", "cpus:2;mem:1GiB"), single("y", "cpus:1;mem:1GiB")];
    cluster.launch(framework, launches);
    let (state, reason, message) = only(&mut cluster, framework);
    assert_eq!((state, reason), (TaskState::Error, Some(Reason::InvalidTask)));
    assert!(message.contains("cpus") && message.contains('2') && message.contains('1'), "{message}");
    assert_eq!(cluster.launched(agent).len(), 2);
}

#[test]
fn two_launches_cannot_have_one_port() {
    let (mut cluster, agent, framework) = one_agent();
    let shape = "cpus:1;mem:1GiB;ports:[31000-31000]";
    cluster.launch(framework, vec![single("x", shape), single("y", shape)]);
    assert_eq!(only(&mut cluster, framework).1, Some(Reason::InvalidTask));
    assert_eq!(cluster.launched(agent).len(), 1);
}

#[test]
fn invalid_launches_name_the_field_and_the_limit() {
    let (mut cluster, agent, framework) = one_agent();
    let launches = vec![
        single("nocpu", "mem:1GiB"),
        array("many", 5000, 1, "cpus:1;mem:1GiB"),
        array("slots", 2, 3, "cpus:1;mem:1GiB"),
    ];
    cluster.launch(framework, launches);
    let messages: Vec<_> = cluster.heard(framework).into_iter().map(|(_, update)| update.status.message).collect();
    assert_eq!(messages.len(), 3);
    assert!(messages[0].contains("cpus"), "{messages:?}");
    assert!(messages[1].contains("5000") && messages[1].contains("4096"), "{messages:?}");
    assert!(messages[2].contains("3 slots for 2 tasks"), "{messages:?}");
    assert!(cluster.launched(agent).is_empty());
}

#[test]
fn a_live_launch_keeps_its_name() {
    let (mut cluster, agent, framework) = one_agent();
    let shape = "cpus:1;mem:1GiB";
    cluster.launch(framework, vec![single("x", shape), single("x", shape)]);
    assert_eq!(only(&mut cluster, framework).1, Some(Reason::DuplicateTask));
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Finished)]);
    cluster.heard(framework);
    cluster.launch(framework, vec![single("x", shape)]);
    assert_eq!(only(&mut cluster, framework).1, Some(Reason::DuplicateTask), "its end is not acknowledged");
    cluster.call(framework, Call::Acknowledge { agent: agent.id, incarnation: LIFE, sequence: 1 });
    cluster.launch(framework, vec![single("x", shape)]);
    assert!(cluster.heard(framework).is_empty());
    assert_eq!(cluster.launched(agent).len(), 2);
}

#[test]
fn two_frameworks_may_use_one_name() {
    let (mut cluster, agent, framework) = one_agent();
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    let other = cluster.framework("b");
    cluster.call(framework, Call::Suppress { roles: Vec::new() });
    let offers = cluster.offers(framework);
    for offer in offers {
        cluster.call(framework, Call::Decline { offers: vec![offer.id], refusal: Refusal::NONE });
    }
    cluster.launch(other, vec![single("x", "cpus:1;mem:1GiB")]);
    assert_eq!(cluster.launched(agent).len(), 2);
}

#[test]
fn the_limits_of_a_framework_are_named_when_they_refuse() {
    let options = Options { max_framework_launches: 2, max_framework_tasks: 10, ..Options::default() };
    let mut cluster = Cluster::with(options);
    cluster.agent("cpus:100;mem:100GiB");
    let framework = cluster.framework("a");
    let shape = "cpus:1;mem:1GiB";
    let launches = vec![array("a", 9, 1, shape), array("b", 2, 1, shape), single("c", shape), single("d", shape)];
    cluster.launch(framework, launches);
    let heard = cluster.heard(framework);
    let messages: Vec<_> = heard.into_iter().map(|(_, update)| update.status.message).collect();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].contains("11 live tasks; the limit is 10"), "{messages:?}");
    assert!(messages[1].contains("2 launches; the limit is 2"), "{messages:?}");
}

#[test]
fn an_oversized_accept_is_dropped_whole() {
    let (mut cluster, agent, framework) = one_agent();
    let launches = (0..=MAX_CALL_LAUNCHES).map(|at| single(&format!("t{at}"), "cpus:0.001;mem:1MiB")).collect();
    cluster.launch(framework, launches);
    let heard = cluster.heard(framework);
    assert_eq!(heard.len(), MAX_CALL_LAUNCHES + 1);
    assert!(heard[0].1.status.message.contains("the limit is 1024"));
    assert!(cluster.launched(agent).is_empty());
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn a_batch_frees_its_slots_one_by_one_as_its_tail_empties() {
    let (mut cluster, agent, framework) = one_agent();
    cluster.launch(framework, vec![array("x", 6, 4, "cpus:1;mem:1GiB")]);
    assert!(cluster.offers(framework).iter().all(|offer| offer.resources.scalar(&ResourceName::Cpus).0 == 0));
    let mut free = Vec::new();
    for position in 0..6 {
        let ended = update(u64::from(position) + 1, "x", position, 1, TaskState::Finished);
        cluster.updates(agent, framework.id, vec![ended]);
        cluster.settle();
        let cpus: u64 = cluster.offers(framework).iter().map(|o| o.resources.scalar(&ResourceName::Cpus).0).sum();
        free.push(cpus / 1000);
    }
    assert_eq!(free, vec![0, 0, 1, 1, 1, 1], "six tasks on four slots: the last four ends free one each");
}
