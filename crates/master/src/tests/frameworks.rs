//! Frameworks: subscription, return, supersession, failover, the end.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::{Answer, Event, OperatorCall, OperatorError, Options, PersistOutcome, RequestId};

#[test]
fn a_framework_is_subscribed_only_once_its_record_is_durable() {
    let mut cluster = Cluster::new();
    cluster.commits = false;
    let session = cluster.open_framework(info(&["a"]), None, None);
    assert_eq!(cluster.subscribed(session), None);
    cluster.answer(PersistOutcome::Committed);
    assert_eq!(cluster.subscribed(session).unwrap().0, FrameworkId::new(Epoch(1), 1));
    let secret = cluster.events[&session]
        .iter()
        .any(|event| matches!(event, SchedulerEvent::Subscribed { secret: Some(_), .. }));
    assert!(secret);
}

#[test]
fn a_framework_that_leaves_before_it_is_subscribed_leaves_nothing_behind() {
    let mut cluster = Cluster::new();
    cluster.commits = false;
    let session = cluster.open_framework(info(&["a"]), None, None);
    cluster.send(Event::FrameworkClosed { session });
    cluster.commits = true;
    cluster.answer(PersistOutcome::Committed);
    assert!(cluster.registry.frameworks.is_empty());
}

#[test]
fn invalid_subscriptions_are_refused_for_good_with_the_field_and_the_limit() {
    let mut cluster = Cluster::with(Options { max_frameworks: 1, ..Options::default() });
    let bad = [
        (FrameworkInfo { name: "".into(), ..info(&["a"]) }, "name"),
        (info(&[]), "0 roles"),
        (FrameworkInfo { failover_timeout: MAX_FAILOVER_TIMEOUT * 2, ..info(&["a"]) }, "failover_timeout"),
    ];
    for (info, wanted) in bad {
        let session = cluster.open_framework(info, None, None);
        let errors = cluster.errors(session);
        assert!(errors[0].0.contains(wanted) && errors[0].1, "{errors:?}");
        assert!(cluster.closed.contains_key(&session));
    }
    cluster.framework("a");
    let session = cluster.open_framework(info(&["a"]), None, None);
    assert!(cluster.errors(session)[0].0.contains("the limit is 1"));
}

#[test]
fn a_returning_framework_must_present_its_secret() {
    let mut cluster = Cluster::new();
    let framework = cluster.framework("a");
    for proof in [None, Some(framework.secret + 1)] {
        let session = cluster.open_framework(info(&["a"]), Some(framework.id), proof);
        let errors = cluster.errors(session);
        assert!(errors[0].0.contains("secret") && errors[0].1);
    }
    let session = cluster.open_framework(info(&["a"]), Some(FrameworkId::new(Epoch(1), 9)), Some(1));
    assert!(cluster.errors(session)[0].0.contains("framework-1-9 is not known"));
    assert!(!cluster.closed.contains_key(&framework.session), "the true framework is not disturbed");
}

#[test]
fn the_newer_subscription_wins() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let old = cluster.framework("a");
    let offers = cluster.offers(old);
    let new = cluster.resubscribe(old, info(&["a"]));
    let errors = cluster.errors(old.session);
    assert!(errors[0].0.contains("superseded") && errors[0].1);
    assert!(cluster.closed.contains_key(&old.session));
    assert_eq!(cluster.subscribed(new.session).unwrap().1, 2);
    let again = cluster.offers(new);
    assert_ne!(again[0].id, offers[0].id, "offers die with the subscription");
    let launches = vec![single("x", "cpus:1;mem:1GiB")];
    let call = Call::Accept { offers: vec![again[0].id], launches, refusal: Refusal::NONE };
    cluster.send(Event::FromFramework { session: old.session, framework_epoch: 1, call: call.clone() });
    cluster.send(Event::FromFramework { session: new.session, framework_epoch: 1, call });
    assert!(cluster.errors(new.session)[0].0.contains("framework_epoch 1"));
    assert!(cluster.launched(agent).is_empty());
}

#[test]
fn a_framework_that_is_back_learns_what_it_has_and_what_it_missed() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![array("x", 3, 2, "cpus:1;mem:1GiB"), single("y", "cpus:1;mem:1GiB")]);
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 2, TaskState::Running)]);
    cluster.call(framework, Call::Acknowledge { agent: agent.id, incarnation: LIFE, sequence: 1 });
    cluster.send(Event::FrameworkClosed { session: framework.session });
    let ended = vec![update(2, "x", 0, 1, TaskState::Finished), update(3, "y", 0, 1, TaskState::Failed)];
    cluster.updates(agent, framework.id, ended);
    let back = cluster.resubscribe(framework, info(&["a"]));
    assert!(cluster.subscribed(back.session).unwrap().2.is_empty(), "no agent is pending");
    let tasks = cluster.tasks(back);
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].0, tasks[0].2), (agent.id, true));
    let states: Vec<Vec<(u32, TaskState)>> =
        tasks[0].1.iter().map(|batch| batch.runs.iter().map(|run| (run.count, run.status.state)).collect()).collect();
    let x = vec![(1, TaskState::Finished), (1, TaskState::Running), (1, TaskState::Staging)];
    assert_eq!(states, vec![x, vec![(1, TaskState::Failed)]]);
    let sequences: Vec<u64> = cluster.heard(back).iter().map(|(_, update)| update.sequence).collect();
    assert_eq!(sequences, vec![2, 3], "what was not acknowledged comes again");
}

#[test]
fn roles_can_change_with_a_new_subscription() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    assert_eq!(cluster.offers(framework)[0].role, role("a"));
    let back = cluster.resubscribe(framework, info(&["b"]));
    assert_eq!(cluster.offers(back)[0].role, role("b"));
    assert_eq!(cluster.registry.frameworks[&framework.id].info.roles, vec![role("b")]);
}

#[test]
fn tasks_outlive_a_disconnection_until_the_failover_timeout() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:4;mem:8GiB")]);
    cluster.send(Event::FrameworkClosed { session: framework.session });
    cluster.pass(Duration::from_secs(59));
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 0);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 1);
    assert!(cluster.registry.frameworks[&framework.id].completed);
    let other = cluster.framework("b");
    assert_eq!(cluster.offers(other)[0].resources, resources("cpus:4;mem:8GiB"));
    let session = cluster.open_framework(info(&["a"]), Some(framework.id), Some(framework.secret));
    let errors = cluster.errors(session);
    assert!(errors[0].0.contains("has ended") && errors[0].1);
}

#[test]
fn a_failover_timeout_of_zero_ends_the_framework_with_its_connection() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework_with(FrameworkInfo { failover_timeout: Duration::ZERO, ..info(&["a"]) });
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    cluster.send(Event::FrameworkClosed { session: framework.session });
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 1);
}

#[test]
fn a_teardown_is_durable_before_anything_is_killed() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    cluster.commits = false;
    cluster.call(framework, Call::Teardown);
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 0);
    assert!(!cluster.closed.contains_key(&framework.session));
    cluster.answer(PersistOutcome::Committed);
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 1);
    assert!(cluster.closed.contains_key(&framework.session));
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 2, "who has not heard is told again");
}

#[test]
fn operators_kill_and_tear_down() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    let ask = |cluster: &mut Cluster, call| {
        let principal = Principal::Operator("root".into());
        cluster.send(Event::Operator { request: RequestId(1), principal, call });
        cluster.replies.pop().expect("an answer")
    };
    let id = framework.id;
    assert_eq!(ask(&mut cluster, OperatorCall::Kill { framework: id, task: task("x"), grace: None }), Ok(Answer::Done));
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Kill { .. })), 1);
    let missing = OperatorCall::Kill { framework: id, task: task("y"), grace: None };
    assert_eq!(ask(&mut cluster, missing), Err(OperatorError::UnknownTask { framework: id, task: task("y") }));
    let stranger = FrameworkId::new(Epoch(5), 5);
    let unknown = ask(&mut cluster, OperatorCall::Teardown { framework: stranger });
    assert_eq!(unknown, Err(OperatorError::UnknownFramework(stranger)));
    assert_eq!(ask(&mut cluster, OperatorCall::Teardown { framework: id }), Ok(Answer::Done));
    assert!(cluster.errors(framework.session)[0].1, "the framework is told");
    assert!(ask(&mut cluster, OperatorCall::Teardown { framework: id }).is_err());
}

#[test]
fn only_so_many_completed_frameworks_are_remembered() {
    let mut cluster = Cluster::with(Options { max_completed_frameworks: 2, ..Options::default() });
    let all: Vec<_> = (0..4).map(|_| cluster.framework("a")).collect();
    for framework in &all {
        cluster.call(*framework, Call::Teardown);
    }
    let left: Vec<_> = cluster.registry.frameworks.keys().copied().collect();
    assert_eq!(left, vec![all[2].id, all[3].id]);
}

#[test]
fn connected_frameworks_hear_heartbeats() {
    let mut cluster = Cluster::with(Options { heartbeat_interval: Duration::from_secs(15), ..Options::default() });
    let framework = cluster.framework("a");
    cluster.pass(Duration::from_secs(31));
    let beats = cluster.events[&framework.session].iter().filter(|e| matches!(e, SchedulerEvent::Heartbeat)).count();
    assert_eq!(beats, 2);
}

#[test]
fn a_framework_that_ends_when_idle_is_over_with_its_last_task_but_not_while_it_is_connected() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:1;mem:1GiB");
    let idle = Capabilities::from([FrameworkInfo::ENDS_WHEN_IDLE.into()]);
    let away = FrameworkInfo { failover_timeout: Duration::from_secs(3600), capabilities: idle, ..info(&["a"]) };
    let framework = cluster.framework_with(away);
    cluster.launch(framework, vec![array("x", 2, 2, "cpus:0.5;mem:16MiB")]);
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Finished)]);
    cluster.send(Event::FrameworkClosed { session: framework.session });
    assert!(!cluster.registry.frameworks[&framework.id].completed, "a task is still running");
    cluster.pass(Duration::from_secs(60));
    cluster.updates(agent, framework.id, vec![update(2, "x", 1, 1, TaskState::Finished)]);
    assert!(!cluster.registry.frameworks[&framework.id].completed, "it may be back in a moment");
    cluster.pass(Duration::from_secs(11));
    assert!(cluster.registry.frameworks[&framework.id].completed);
}
