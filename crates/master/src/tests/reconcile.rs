//! Agents and masters that come back: whose word counts, what is told to whom.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::Event;

const SHAPE: &str = "cpus:1;mem:1GiB";
const ALL: &str = "cpus:4;mem:8GiB";

fn running() -> (Cluster, TestAgent, TestFramework, Launch) {
    let mut cluster = Cluster::new();
    let agent = cluster.agent(ALL);
    let framework = cluster.framework("a");
    let launch = single("x", SHAPE);
    cluster.launch(framework, vec![launch.clone()]);
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    cluster.heard(framework);
    (cluster, agent, framework, launch)
}

fn free_cpus(cluster: &mut Cluster, by: TestFramework) -> u64 {
    let offers = cluster.offers(by);
    offers.iter().map(|offer| offer.resources.scalar(&ResourceName::Cpus).0 / 1000).sum()
}

#[test]
fn a_short_disconnection_changes_nothing_for_tasks() {
    let (mut cluster, agent, framework, launch) = running();
    cluster.send(Event::AgentClosed { session: agent.session });
    let back = cluster.reopen(agent, ALL, LIFE);
    cluster.report(back, vec![reported(framework.id, &launch, TaskState::Running)]);
    cluster.updates(back, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    assert!(cluster.heard(framework).is_empty());
    assert_eq!(free_cpus(&mut cluster, framework), 3);
}

#[test]
fn a_launch_that_never_arrived_is_dropped() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent(ALL);
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![array("x", 5, 2, SHAPE)]);
    let back = cluster.reopen(agent, ALL, LIFE);
    cluster.report(back, Vec::new());
    let expected = vec![("x".to_owned(), TaskState::Dropped, Some(Reason::AgentDisconnected))];
    assert_eq!(cluster.states(framework), expected);
    assert_eq!(free_cpus(&mut cluster, framework), 4);
    cluster.pass(Duration::from_secs(31));
    cluster.launch(framework, vec![single("x", SHAPE)]);
    assert!(cluster.states(framework).is_empty(), "the name is free again");
}

#[test]
fn a_task_that_ran_on_an_agent_which_comes_back_without_it_is_gone() {
    let (mut cluster, agent, framework, _) = running();
    let back = cluster.reopen(agent, ALL, Incarnation(8));
    cluster.report(back, Vec::new());
    let expected = vec![("x".to_owned(), TaskState::Gone, Some(Reason::AgentRestarted))];
    assert_eq!(cluster.states(framework), expected);
    assert_eq!(free_cpus(&mut cluster, framework), 4);
}

#[test]
fn a_launch_that_may_have_run_in_an_earlier_life_of_the_agent_is_gone_and_not_dropped() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent(ALL);
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", SHAPE)]);
    let back = cluster.reopen(agent, ALL, Incarnation(8));
    cluster.report(back, Vec::new());
    let expected = vec![("x".to_owned(), TaskState::Gone, Some(Reason::AgentRestarted))];
    assert_eq!(cluster.states(framework), expected);
}

#[test]
fn an_unreachable_agent_brings_its_tasks_back() {
    let (mut cluster, agent, framework, launch) = running();
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.pass(Duration::from_secs(80));
    assert_eq!(cluster.states(framework)[0].1, TaskState::Unreachable);
    let back = cluster.reopen(agent, ALL, LIFE);
    assert!(!cluster.registry.agents[&agent.id].unreachable);
    cluster.report(back, vec![reported(framework.id, &launch, TaskState::Running)]);
    assert_eq!(cluster.states(framework), vec![("x".to_owned(), TaskState::Running, None)]);
    assert_eq!(free_cpus(&mut cluster, framework), 3);
}

#[test]
fn a_new_master_learns_from_agents_what_runs() {
    let (cluster, agent, framework, launch) = running();
    let mut next = cluster.fail_over();
    let framework = next.resubscribe(framework, info(&["a"]));
    assert_eq!(next.subscribed(framework.session).unwrap().2, vec![agent.id], "the agent is pending");
    assert!(next.tasks(framework).is_empty());
    let agent = next.reopen(agent, ALL, LIFE);
    next.report(agent, vec![reported(framework.id, &launch, TaskState::Running)]);
    let tasks = next.tasks(framework);
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].1[0].id.as_str(), tasks[0].2), ("x", true));
    next.updates(agent, framework.id, vec![update(1, "x", 0, 1, TaskState::Running)]);
    next.updates(agent, framework.id, vec![update(2, "x", 0, 1, TaskState::Finished)]);
    let sequences: Vec<u64> = next.heard(framework).iter().map(|(_, update)| update.sequence).collect();
    assert_eq!(sequences, vec![1, 2]);
    assert_eq!(free_cpus(&mut next, framework), 4);
}

#[test]
fn agents_that_report_before_the_framework_returns_are_told_of_on_its_return() {
    let (cluster, agent, framework, launch) = running();
    let mut next = cluster.fail_over();
    let agent = next.reopen(agent, ALL, LIFE);
    next.report(agent, vec![reported(framework.id, &launch, TaskState::Finished)]);
    let end = vec![update(1, "x", 0, 1, TaskState::Running), update(2, "x", 0, 1, TaskState::Finished)];
    next.updates(agent, framework.id, end);
    let framework = next.resubscribe(framework, info(&["a"]));
    assert!(next.subscribed(framework.session).unwrap().2.is_empty());
    assert_eq!(next.tasks(framework)[0].1[0].runs[0].status.state, TaskState::Finished);
    let heard = next.heard(framework);
    assert_eq!(heard.last().map(|(_, update)| update.sequence), Some(2));
    next.call(framework, Call::Acknowledge { agent: agent.id, incarnation: LIFE, sequence: 2 });
    assert_eq!(next.sent(agent, |m| matches!(m, ToAgent::Acknowledge { sequence: 2, .. })), 1);
    let again = next.resubscribe(framework, info(&["a"]));
    assert!(next.tasks(again)[0].1.is_empty(), "what is over and acknowledged is forgotten");
}

#[test]
fn a_pending_agent_that_stays_away_is_resolved_as_lost() {
    let (cluster, agent, framework, _) = running();
    let mut next = cluster.fail_over();
    let lost = |next: &Cluster, session| {
        let events = next.events[&session].iter();
        events.filter(|e| matches!(e, SchedulerEvent::AgentLost { agent: id, .. } if *id == agent.id)).count()
    };
    let framework = next.resubscribe(framework, info(&["a"]));
    next.pass(Duration::from_secs(590));
    assert_eq!(lost(&next, framework.session), 0);
    next.pass(Duration::from_secs(20));
    assert_eq!(lost(&next, framework.session), 1);
    let mut third = next.fail_over();
    let framework = third.resubscribe(framework, info(&["a"]));
    assert!(third.subscribed(framework.session).unwrap().2.is_empty());
    assert_eq!(lost(&third, framework.session), 1, "the registry remembers");
}

#[test]
fn a_new_master_gives_frameworks_their_whole_failover_timeout() {
    let (cluster, agent, framework, launch) = running();
    let mut next = cluster.fail_over();
    let agent = next.reopen(agent, ALL, LIFE);
    next.report(agent, vec![reported(framework.id, &launch, TaskState::Running)]);
    next.pass(Duration::from_secs(59));
    assert_eq!(next.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 0);
    next.pass(Duration::from_secs(2));
    assert_eq!(next.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 1);
}

#[test]
fn tasks_of_ended_and_unknown_frameworks_are_removed_from_agents() {
    let (mut cluster, agent, framework, launch) = running();
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.call(framework, Call::Teardown);
    let back = cluster.reopen(agent, ALL, LIFE);
    let stranger = FrameworkId::new(Epoch(9), 9);
    let batches = [framework.id, stranger].map(|of| reported(of, &launch, TaskState::Running));
    cluster.report(back, batches.to_vec());
    for of in [framework.id, stranger] {
        assert_eq!(cluster.sent(back, |m| matches!(m, ToAgent::Remove { framework } if *framework == of)), 1);
    }
    let other = cluster.framework("b");
    assert_eq!(free_cpus(&mut cluster, other), 4);
}

#[test]
fn reports_that_cannot_be_end_the_connection() {
    let (cluster, agent, framework, launch) = running();
    let good = reported(framework.id, &launch, TaskState::Running);
    let run = |count| vec![StatusRun { count, status: TaskStatus::of(TaskState::Running) }];
    let bad = [
        BatchReport { slots: 2, ..good.clone() },
        BatchReport { runs: run(7), ..good.clone() },
        BatchReport { tasks: TaskRange::Array { first: 0, count: 1 << 30 }, runs: run(1 << 30), ..good.clone() },
        BatchReport { tasks: TaskRange::Array { first: u32::MAX, count: 2 }, runs: run(2), ..good.clone() },
    ];
    for report in bad {
        let mut next = cluster.fail_over();
        let agent = next.reopen(agent, ALL, LIFE);
        next.report(agent, vec![report]);
        assert!(next.closed[&agent.session].contains("launch x"), "{:?}", next.closed);
    }
}

#[test]
fn two_launches_that_hold_one_port_are_not_believed() {
    let (cluster, agent, framework, _) = running();
    let mut next = cluster.fail_over();
    let agent = next.reopen(agent, "cpus:4;mem:8GiB;ports:[1-9]", LIFE);
    let both =
        ["x", "y"].map(|name| reported(framework.id, &single(name, "cpus:1;mem:1GiB;ports:[5-5]"), TaskState::Running));
    next.report(agent, both.to_vec());
    assert!(next.closed[&agent.session].contains("launch y"), "{:?}", next.closed);
}

#[test]
fn updates_before_the_report_is_complete_wait_for_it() {
    let (mut cluster, agent, framework, launch) = running();
    let back = cluster.reopen(agent, ALL, LIFE);
    let page = vec![reported(framework.id, &launch, TaskState::Running)];
    cluster.say(back.session, ToMaster::Report { batches: page, last: false });
    cluster.updates(back, framework.id, vec![update(2, "x", 0, 1, TaskState::Finished)]);
    assert!(cluster.heard(framework).is_empty());
    cluster.say(back.session, ToMaster::Report { batches: Vec::new(), last: true });
    assert_eq!(cluster.heard(framework).last().map(|(_, update)| update.sequence), Some(2));
}

#[test]
fn an_acknowledgement_made_while_the_agent_is_away_reaches_it() {
    let (mut cluster, agent, framework, launch) = running();
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.call(framework, Call::Acknowledge { agent: agent.id, incarnation: LIFE, sequence: 1 });
    let back = cluster.reopen(agent, ALL, LIFE);
    cluster.report(back, vec![reported(framework.id, &launch, TaskState::Running)]);
    assert_eq!(cluster.sent(back, |m| matches!(m, ToAgent::Acknowledge { sequence: 1, .. })), 1);
}
