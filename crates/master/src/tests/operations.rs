//! Reservations and volumes: made, used, ended, kept across masters and agents.

use std::sync::Arc;

use holm_model::*;

use super::harness::*;
use crate::{Answer, Event, OperatorCall, OperatorError, PersistOutcome, RequestId};

fn portions(text: &str) -> Portions {
    text.parse().unwrap()
}

fn reservation(text: &str) -> Arc<Reservation> {
    Arc::new(text.parse().unwrap())
}

fn reserve(what: &str, of: &str) -> Operation {
    Operation::Reserve { resources: resources(what), reservation: reservation(of) }
}

fn unreserve(what: &str, of: &str) -> Operation {
    Operation::Unreserve { resources: resources(what), reservation: reservation(of) }
}

fn create(id: &str, gib: u64, of: &str) -> Operation {
    Operation::CreateVolume { id: id.parse().unwrap(), size: Amount(gib << 30), reservation: reservation(of) }
}

fn destroy(id: &str, of: &str) -> Operation {
    Operation::DestroyVolume { id: id.parse().unwrap(), role: role(of) }
}

fn ask(cluster: &mut Cluster, agent: TestAgent, operation: Operation) -> Result<Answer, OperatorError> {
    let (principal, call) = (Principal::Operator("root".into()), OperatorCall::Operate { agent: agent.id, operation });
    cluster.send(Event::Operator { request: RequestId(1), principal, call });
    cluster.replies.pop().expect("an answer")
}

fn done(cluster: &mut Cluster, agent: TestAgent, operation: Operation) {
    assert_eq!(ask(cluster, agent, operation.clone()), Ok(Answer::Done), "{operation:?}");
    cluster.settle();
}

fn refused(cluster: &mut Cluster, agent: TestAgent, operation: Operation) -> String {
    let before = cluster.registry.clone();
    let refusal = ask(cluster, agent, operation).unwrap_err().to_string();
    assert_eq!(cluster.registry, before, "a refused operation changes nothing");
    refusal
}

/// What a framework is offered now, by origin and all together.
fn offered(cluster: &mut Cluster, to: TestFramework) -> Portions {
    cluster.settle();
    let offers = cluster.offers(to);
    offers.iter().fold(Portions::EMPTY, |sum, offer| sum.plus(&offer.portions).unwrap())
}

fn operate(
    cluster: &mut Cluster,
    by: TestFramework,
    operations: &[(&str, Operation)],
    launches: Vec<Launch>,
) -> Vec<(String, Option<String>)> {
    cluster.settle();
    let offers = cluster.offers(by).iter().map(|offer| offer.id).collect();
    let requested =
        |(id, operation): &(&str, Operation)| Requested { id: id.parse().unwrap(), operation: operation.clone() };
    let operations = operations.iter().map(requested).collect();
    cluster.call(by, Call::Operate { offers, operations, launches, refusal: Refusal::NONE });
    told(cluster, by)
}

fn told(cluster: &mut Cluster, by: TestFramework) -> Vec<(String, Option<String>)> {
    let events = std::mem::take(cluster.events.entry(by.session).or_default());
    let (operations, others) = events.into_iter().partition(|event| matches!(event, SchedulerEvent::Operations { .. }));
    cluster.events.insert(by.session, others);
    let statuses = |event| match event {
        SchedulerEvent::Operations { statuses, .. } => statuses,
        _ => Vec::new(),
    };
    let told: Vec<SchedulerEvent> = operations;
    let shown = |status: OperationStatus| (status.id.to_string(), status.refusal.map(|why| why.to_string()));
    told.into_iter().flat_map(statuses).map(shown).collect()
}

fn volumes_told(cluster: &Cluster, agent: TestAgent) -> Option<Vec<(u64, String)>> {
    let messages = cluster.messages.get(&agent.session)?;
    messages.iter().rev().find_map(|message| match message {
        ToAgent::Volumes(volumes) => Some(volumes.iter().map(|v| (v.serial, v.id.to_string())).collect()),
        _ => None,
    })
}

fn origins_launched(cluster: &Cluster, agent: TestAgent) -> Vec<String> {
    let messages = cluster.messages.get(&agent.session).into_iter().flatten();
    let origins = messages.filter_map(|message| match message {
        ToAgent::Launch { origins, .. } => Some(origins.to_string()),
        _ => None,
    });
    origins.collect()
}

#[test]
fn static_reservations_are_offered_to_their_role_and_those_below_only() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:4GiB;cpus(a):2;mem(a/b):1GiB");
    let other = cluster.framework("other");
    assert_eq!(offered(&mut cluster, other), portions("cpus:4;mem:4GiB"));
    let a = cluster.framework("a");
    assert_eq!(offered(&mut cluster, a), portions("cpus(a,static):2"));
    let below = cluster.framework("a/b");
    assert_eq!(offered(&mut cluster, below), portions("mem(a/b,static):1GiB"));
}

#[test]
fn an_operator_reserves_what_no_task_uses_and_offers_in_the_way_end() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let other = cluster.framework("other");
    cluster.launch(other, vec![single("x", "cpus:1;mem:1GiB")]);
    cluster.settle();
    let held = cluster.offers(other);
    done(&mut cluster, agent, reserve("cpus:2;mem:2GiB", "a"));
    assert_eq!(cluster.rescinded(other), held.iter().map(|offer| offer.id).collect::<Vec<_>>());
    assert_eq!(offered(&mut cluster, other), portions("cpus:1;mem:5GiB"));
    let a = cluster.framework("a");
    assert_eq!(offered(&mut cluster, a), portions("cpus(a):2;mem(a):2GiB"));
    let why = refused(&mut cluster, agent, reserve("cpus:2", "a"));
    assert!(why.contains("cpus: 2 asked, 1 available"), "{why}");
    assert!(cluster.rescinded(other).is_empty(), "a refused operation takes no offer");
    let why = refused(&mut cluster, agent, unreserve("cpus:3", "a"));
    assert!(why.contains("cpus: 3 asked, 2 available"), "{why}");
}

#[test]
fn what_is_in_use_is_not_unreserved_and_goes_first_to_those_it_is_reserved_for() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    done(&mut cluster, agent, reserve("cpus:2", "a"));
    let a = cluster.framework("a");
    cluster.launch(a, vec![single("x", "cpus:3;mem:1GiB")]);
    assert_eq!(origins_launched(&cluster, agent), ["cpus:1;mem:1GiB;cpus(a):2"]);
    let why = refused(&mut cluster, agent, unreserve("cpus:1", "a"));
    assert!(why.contains("cpus: 1 asked, 0 available"), "{why}");
    cluster.updates(agent, a.id, vec![update(1, "x", 0, 1, TaskState::Finished)]);
    done(&mut cluster, agent, unreserve("cpus:2", "a"));
    assert_eq!(offered(&mut cluster, a), portions("cpus:4;mem:8GiB"));
}

#[test]
fn the_slots_of_a_batch_give_back_first_what_everybody_may_have() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB;cpus(a):2");
    let a = cluster.framework("a");
    cluster.launch(a, vec![array("x", 4, 4, "cpus:1;mem:1GiB")]);
    let other = cluster.framework("other");
    offered(&mut cluster, other);
    cluster.updates(agent, a.id, vec![update(1, "x", 0, 2, TaskState::Finished)]);
    assert_eq!(offered(&mut cluster, other), portions("cpus:2;mem:2GiB"));
}

#[test]
fn reservations_are_refined_down_the_tree_and_popped() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:4GiB");
    done(&mut cluster, agent, reserve("cpus:3", "a"));
    done(&mut cluster, agent, reserve("cpus:2", "a>a/b,tier=gold"));
    let why = refused(&mut cluster, agent, unreserve("cpus:2", "a"));
    assert!(why.contains("cpus: 2 asked, 1 available"), "{why}");
    let above = cluster.framework("a");
    assert_eq!(offered(&mut cluster, above), portions("cpus:1;mem:4GiB;cpus(a):1"));
    let below = cluster.framework("a/b");
    assert_eq!(offered(&mut cluster, below), portions("cpus(a>a/b,tier=gold):2"));
    done(&mut cluster, agent, unreserve("cpus:2", "a>a/b,tier=gold"));
    done(&mut cluster, agent, unreserve("cpus:3", "a"));
    assert!(cluster.registry.reservations[&agent.id].reserved.is_empty());
}

#[test]
fn a_static_reservation_is_not_ended_and_volumes_are_cut_from_it() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:1;mem:1GiB;disk(a):8GiB");
    let why = refused(&mut cluster, agent, unreserve("disk:1GiB", "a,static"));
    assert!(why.contains("static"), "{why}");
    done(&mut cluster, agent, create("data", 2, "a,static"));
    let why = refused(&mut cluster, agent, create("data", 1, "a,static"));
    assert!(why.contains("exists"), "{why}");
    assert_eq!(volumes_told(&cluster, agent), Some(vec![(1, "data".to_owned())]));
    done(&mut cluster, agent, destroy("data", "a"));
    assert_eq!(volumes_told(&cluster, agent), Some(vec![]));
    done(&mut cluster, agent, create("data", 2, "a,static"));
    assert_eq!(volumes_told(&cluster, agent), Some(vec![(2, "data".to_owned())]), "another volume, not the old data");
    let why = refused(&mut cluster, agent, destroy("other", "a"));
    assert!(why.contains("volume other of role a is not on this agent"), "{why}");
}

#[test]
fn an_accept_reserves_makes_a_volume_and_launches_on_it() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB;disk:16GiB");
    let a = cluster.framework("a");
    let mount = VolumeMount { id: "data".parse().unwrap(), path: "db".into(), read_only: false };
    let mut launch = single("x", "cpus:1;mem:1GiB");
    launch.spec = Arc::new(TaskSpec { volumes: vec![mount], ..(*launch.spec).clone() });
    let operations = [("r", reserve("disk:4GiB", "a")), ("v", create("data", 1, "a")), ("bad", reserve("cpus:9", "a"))];
    let told = operate(&mut cluster, a, &operations, vec![launch.clone()]);
    assert_eq!(told[..2], [("r".to_owned(), None), ("v".to_owned(), None)]);
    assert!(told[2].1.as_ref().unwrap().contains("cpus: 9 asked, 4 available"), "{told:?}");
    assert_eq!(origins_launched(&cluster, agent), ["cpus:1;mem:1GiB;disk(a)#data:1GiB"]);
    let why = refused(&mut cluster, agent, destroy("data", "a"));
    assert!(why.contains("in use"), "{why}");
    assert_eq!(offered(&mut cluster, a), portions("cpus:3;mem:7GiB;disk:12GiB;disk(a):3GiB"));
    cluster.updates(agent, a.id, vec![update(1, "x", 0, 1, TaskState::Finished)]);
    assert_eq!(offered(&mut cluster, a), portions("cpus:1;mem:1GiB;disk(a)#data:1GiB"));
}

#[test]
fn a_framework_changes_reservations_of_its_own_role_and_below_only() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    done(&mut cluster, agent, reserve("cpus:1", "a"));
    let below = cluster.framework("a/b");
    let operations = [
        ("above", unreserve("cpus:1", "a")),
        ("beside", reserve("cpus:1", "c")),
        ("refine", reserve("cpus:1", "a>a/b")),
    ];
    let told = operate(&mut cluster, below, &operations, Vec::new());
    assert!(told[0].1.as_ref().unwrap().contains("the offer is for role a/b"), "{told:?}");
    assert!(told[1].1.is_some());
    assert_eq!(told[2], ("refine".to_owned(), None));
    assert_eq!(cluster.registry.reservations[&agent.id].reserved, portions("cpus(a>a/b):1"));
}

#[test]
fn nothing_is_visible_before_it_is_durable() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let a = cluster.framework("a");
    cluster.commits = false;
    let told_before = operate(&mut cluster, a, &[("r", reserve("cpus:2", "a"))], vec![single("x", "cpus:1;mem:1GiB")]);
    assert!(told_before.is_empty() && cluster.launched(agent).is_empty());
    assert!(offered(&mut cluster, a).is_empty(), "what is being converted is offered to nobody");
    cluster.answer(PersistOutcome::Committed);
    assert_eq!(told(&mut cluster, a), [("r".to_owned(), None)]);
    assert_eq!(origins_launched(&cluster, agent), ["mem:1GiB;cpus(a):1"]);
}

#[test]
fn operations_on_one_agent_wait_for_each_other() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    cluster.commits = false;
    for _ in 0..2 {
        let operation = reserve("cpus:3", "a");
        let (principal, call) =
            (Principal::Operator("root".into()), OperatorCall::Operate { agent: agent.id, operation });
        cluster.send(Event::Operator { request: RequestId(1), principal, call });
    }
    assert!(cluster.replies.is_empty());
    cluster.answer(PersistOutcome::Committed);
    let second = cluster.replies.pop().unwrap().unwrap_err().to_string();
    assert!(second.contains("cpus: 3 asked, 1 available"), "{second}");
    assert_eq!(cluster.replies.pop(), Some(Ok(Answer::Done)));
}

#[test]
fn reservations_and_volumes_outlive_master_and_agent() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB;disk:8GiB");
    done(&mut cluster, agent, reserve("cpus:2;disk:4GiB", "a"));
    done(&mut cluster, agent, create("data", 1, "a"));
    let a = cluster.framework("a");
    let launch = single("x", "cpus:1;mem:1GiB");
    cluster.launch(a, vec![launch.clone()]);
    let held = origins_launched(&cluster, agent)[0].clone();
    let mut next = cluster.fail_over();
    let back = next.reopen(agent, "cpus:4;mem:8GiB;disk:8GiB", LIFE);
    assert_eq!(volumes_told(&next, back), Some(vec![(1, "data".to_owned())]));
    let again = next.resubscribe(a, info(&["a"]));
    let report = BatchReport { origins: portions(&held), ..reported(a.id, &launch, TaskState::Running) };
    next.report(back, vec![report]);
    let rest = "cpus:2;mem:7GiB;disk:4GiB;cpus(a):1;disk(a):3GiB;disk(a)#data:1GiB";
    assert_eq!(offered(&mut next, again), portions(rest));
    // The agent comes back with less than is reserved: what is left of it counts, and nothing is lost.
    let smaller = next.reopen(back, "cpus:2;mem:8GiB;disk:8GiB", LIFE);
    let report = BatchReport { origins: portions(&held), ..reported(a.id, &launch, TaskState::Running) };
    next.report(smaller, vec![report]);
    assert_eq!(offered(&mut next, again), portions("mem:7GiB;disk:4GiB;cpus(a):1;disk(a):3GiB;disk(a)#data:1GiB"));
}

#[test]
fn an_agent_that_reports_holding_what_its_role_may_not_is_not_believed() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB;cpus(b):2");
    let a = cluster.framework("a");
    let mut next = cluster.fail_over();
    let back = next.reopen(agent, "cpus:4;mem:8GiB;cpus(b):2", LIFE);
    next.resubscribe(a, info(&["a"]));
    let origins = portions("mem:1GiB;cpus(b,static):1");
    let report = BatchReport { origins, ..reported(a.id, &single("x", "cpus:1;mem:1GiB"), TaskState::Running) };
    next.report(back, vec![report]);
    assert!(next.closed[&back.session].contains("by origin"), "{:?}", next.closed);
}

#[test]
fn an_agent_that_is_given_up_meanwhile_takes_its_launches_along() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let a = cluster.framework("a");
    cluster.settle();
    let offers = cluster.offers(a).iter().map(|offer| offer.id).collect();
    cluster.commits = false;
    let operations = vec![Requested { id: "r".parse().unwrap(), operation: reserve("cpus:2", "a") }];
    let launches = vec![single("x", "cpus:1;mem:1GiB")];
    cluster.call(a, Call::Operate { offers, operations, launches, refusal: Refusal::NONE });
    let write = std::mem::take(&mut cluster.pending);
    cluster.commits = true;
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.pass(std::time::Duration::from_secs(3600));
    cluster.pending = write;
    cluster.answer(PersistOutcome::Committed);
    let (_, state, reason) = cluster.states(a).remove(0);
    assert_eq!((state, reason), (TaskState::Dropped, Some(Reason::AgentDisconnected)));
    let why = refused(&mut cluster, agent, reserve("cpus:1", "a"));
    assert!(why.contains("given up"), "{why}");
}
