//! Agents: admission, identity, silence, kills, hostile streams.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::{CloseCause, Event, MAX_STATUS_MESSAGE_BYTES, Options, PersistOutcome};

fn refused(cluster: &Cluster, session: crate::SessionId) -> Option<String> {
    cluster.messages.get(&session)?.iter().find_map(|message| match message {
        ToAgent::Refused { message } => Some(message.to_string()),
        _ => None,
    })
}

#[test]
fn an_agent_that_is_held_back_keeps_its_tasks_and_is_not_offered() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    let held = AgentCondition { held_back: Some("over its reserve".into()), ..AgentCondition::default() };
    cluster.say(agent.session, ToMaster::Condition(held.clone()));
    assert_eq!(cluster.rescinded(framework), vec![offers[0].id]);
    cluster.pass(Duration::from_secs(60));
    assert!(cluster.offers(framework).is_empty());
    // It comes back and says so before its report.
    let agent = cluster.reopen(agent, "cpus:4;mem:8GiB", LIFE);
    cluster.say(agent.session, ToMaster::Condition(held));
    cluster.report(agent, Vec::new());
    cluster.settle();
    assert!(cluster.offers(framework).is_empty());
    cluster.say(agent.session, ToMaster::Condition(AgentCondition::default()));
    cluster.settle();
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn an_agent_is_admitted_only_once_its_record_is_durable() {
    let mut cluster = Cluster::new();
    cluster.commits = false;
    let session = cluster.open_agent(registration("cpus:1;mem:1GiB"), None);
    assert_eq!(cluster.registered(session), None);
    cluster.answer(PersistOutcome::Committed);
    assert_eq!(cluster.registered(session), Some(AgentId::new(Epoch(1), 1)));
}

#[test]
fn a_write_of_unknown_outcome_is_repeated_and_a_fenced_one_ends_the_master() {
    let mut cluster = Cluster::new();
    cluster.commits = false;
    let session = cluster.open_agent(registration("cpus:1;mem:1GiB"), None);
    cluster.answer(PersistOutcome::Unknown);
    assert!(cluster.pending.is_empty());
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.pending.len(), 1, "asked for again");
    cluster.answer(PersistOutcome::Fenced);
    assert!(cluster.deposed);
    assert_eq!(cluster.registered(session), None);
    assert_eq!(cluster.master.next_wake(), None);
}

#[test]
fn an_agent_that_leaves_before_it_is_admitted_leaves_nothing_behind() {
    let mut cluster = Cluster::new();
    cluster.commits = false;
    let session = cluster.open_agent(registration("cpus:1;mem:1GiB"), None);
    cluster.send(Event::AgentClosed { session });
    cluster.commits = true;
    cluster.answer(PersistOutcome::Committed);
    assert!(cluster.registry.agents.is_empty());
}

#[test]
fn a_returning_agent_must_present_its_secret_and_its_cluster() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:1;mem:1GiB");
    let back = || Registration { id: Some(agent.id), ..registration("cpus:1;mem:1GiB") };
    for proof in [None, Some(agent.secret + 1)] {
        let session = cluster.open_agent(back(), proof);
        assert!(refused(&cluster, session).unwrap().contains("secret"));
        assert_eq!(cluster.causes[&session], CloseCause::Unauthenticated);
    }
    let stranger = Registration { cluster: Some(ClusterId(99)), ..back() };
    let session = cluster.open_agent(stranger, Some(agent.secret));
    assert!(refused(&cluster, session).unwrap().contains("belongs to cluster"));
    assert_eq!(cluster.causes[&session], CloseCause::Precondition);
    let unknown = Registration { id: Some(AgentId::new(Epoch(1), 77)), ..back() };
    let session = cluster.open_agent(unknown, Some(agent.secret));
    assert!(refused(&cluster, session).unwrap().contains("agent-1-77 is not known"));
    assert!(!cluster.closed.contains_key(&agent.session), "the true agent is not disturbed");
}

#[test]
fn an_agent_that_has_seen_a_later_epoch_is_sent_away_but_not_for_good() {
    let mut cluster = Cluster::new();
    let later = Registration { highest_epoch: Epoch(9), ..registration("cpus:1;mem:1GiB") };
    let session = cluster.open_agent(later, None);
    assert!(cluster.closed[&session].contains("epoch 9"));
    assert_eq!(refused(&cluster, session), None);
}

#[test]
fn a_second_stream_replaces_the_first() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    let again = cluster.reopen(agent, "cpus:4;mem:8GiB", LIFE);
    assert!(cluster.closed[&agent.session].contains("replaced"));
    assert_eq!(cluster.rescinded(framework), vec![offers[0].id]);
    assert!(cluster.offers(framework).is_empty(), "no offers before the report");
    cluster.report(again, Vec::new());
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn changed_resources_are_written_down_and_offered() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let again = cluster.reopen(agent, "cpus:8;mem:8GiB", LIFE);
    cluster.report(again, Vec::new());
    assert_eq!(cluster.registry.agents[&agent.id].info.resources, resources("cpus:8;mem:8GiB"));
    assert_eq!(cluster.offers(framework)[0].resources, resources("cpus:8;mem:8GiB"));
}

#[test]
fn the_number_of_agents_and_their_descriptions_are_bounded() {
    let mut cluster = Cluster::with(Options { max_agents: 1, ..Options::default() });
    let mut long = registration("cpus:1;mem:1GiB");
    long.info.hostname = "h".repeat(300).into();
    let session = cluster.open_agent(long, None);
    assert!(refused(&cluster, session).unwrap().contains("hostname has 300 bytes; the limit is 256"));
    let mut many = registration("cpus:1;mem:1GiB");
    many.info.attributes = (0..200).map(|at| (format!("k{at}").into(), "v".into())).collect();
    let session = cluster.open_agent(many, None);
    assert!(refused(&cluster, session).unwrap().contains("200 attributes; the limit is 128"));
    cluster.agent("cpus:1;mem:1GiB");
    let session = cluster.open_agent(registration("cpus:1;mem:1GiB"), None);
    assert!(refused(&cluster, session).unwrap().contains("the limit is 1"));
}

#[test]
fn a_silent_agent_is_cut_off_and_later_given_up() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![array("x", 4, 2, "cpus:1;mem:1GiB")]);
    cluster.mute.push(agent.session);
    cluster.pass(Duration::from_secs(20));
    assert!(cluster.closed[&agent.session].contains("said nothing"));
    assert!(cluster.heard(framework).is_empty(), "its tasks may well run");
    cluster.pass(Duration::from_secs(80));
    assert!(cluster.registry.agents[&agent.id].unreachable);
    assert_eq!(cluster.states(framework), vec![("x".to_owned(), TaskState::Unreachable, Some(Reason::AgentLost))]);
    let lost = cluster.events[&framework.session]
        .iter()
        .any(|event| matches!(event, SchedulerEvent::AgentLost { agent: lost, .. } if *lost == agent.id));
    assert!(lost);
}

#[test]
fn an_agent_that_answers_pings_stays() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    cluster.pass(Duration::from_secs(600));
    assert!(!cluster.closed.contains_key(&agent.session));
}

#[test]
fn nobody_is_blamed_for_a_pause_of_the_master() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    cluster.send(Event::FrameworkClosed { session: framework.session });
    cluster.now = cluster.now + Duration::from_secs(70);
    cluster.send(Event::Wake);
    cluster.pass(Duration::from_secs(30));
    assert!(!cluster.closed.contains_key(&agent.session), "its pongs may still be unread");
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 0, "the framework could not come back");
    cluster.pass(Duration::from_secs(60));
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Remove { .. })), 1);
}

#[test]
fn unreachable_is_told_only_once_it_is_durable() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.commits = false;
    cluster.pass(Duration::from_secs(80));
    assert!(cluster.heard(framework).is_empty());
    let back = cluster.reopen(agent, "cpus:4;mem:8GiB", LIFE);
    assert_eq!(cluster.registered(back.session), None, "it waits for the mark");
    cluster.commits = true;
    cluster.answer(PersistOutcome::Committed);
    assert_eq!(cluster.states(framework)[0].1, TaskState::Unreachable);
    assert_eq!(cluster.registered(back.session), Some(agent.id));
    assert!(cluster.deltas.len() > 1);
}

#[test]
fn kills_reach_the_agent_now_or_on_its_return() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let launch = array("x", 4, 2, "cpus:1;mem:1GiB");
    cluster.launch(framework, vec![launch.clone()]);
    cluster.call(framework, Call::Kill { task: task("x/1"), grace: None });
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Kill { task: id, .. } if *id == task("x/1"))), 1);
    cluster.send(Event::AgentClosed { session: agent.session });
    cluster.call(framework, Call::Kill { task: task("x"), grace: Some(Duration::from_secs(9)) });
    let back = cluster.reopen(agent, "cpus:4;mem:8GiB", LIFE);
    assert_eq!(cluster.sent(back, |m| matches!(m, ToAgent::Kill { .. })), 0);
    cluster.report(back, vec![reported(framework.id, &launch, TaskState::Running)]);
    assert_eq!(cluster.sent(back, |m| matches!(m, ToAgent::Kill { task: id, .. } if *id == task("x"))), 1);
    for unknown in ["x/4", "y", "x/99"] {
        cluster.call(framework, Call::Kill { task: task(unknown), grace: None });
        let errors = cluster.errors(framework.session);
        assert!(errors[0].0.contains(unknown) && !errors[0].1, "{errors:?}");
    }
}

#[test]
fn updates_are_forwarded_once_and_acknowledged_through() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    let all = vec![update(1, "x", 0, 1, TaskState::Running), update(2, "x", 0, 1, TaskState::Finished)];
    cluster.updates(agent, framework.id, all.clone());
    cluster.updates(agent, framework.id, all);
    let sequences: Vec<u64> = cluster.heard(framework).iter().map(|(_, update)| update.sequence).collect();
    assert_eq!(sequences, vec![1, 2]);
    cluster.call(framework, Call::Acknowledge { agent: agent.id, incarnation: LIFE, sequence: 2 });
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Acknowledge { sequence: 2, .. })), 1);
    cluster.updates(agent, framework.id, vec![update(2, "x", 0, 1, TaskState::Finished)]);
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Acknowledge { sequence: 2, .. })), 2, "it is told again");
    assert!(cluster.heard(framework).is_empty());
}

#[test]
fn a_hostile_agent_is_cut_off_or_ignored() {
    let wrong_life = |framework| ToMaster::Updates { framework, incarnation: Incarnation(1), updates: Vec::new() };
    let zero = |framework| ToMaster::Updates {
        framework,
        incarnation: LIFE,
        updates: vec![update(0, "x", 0, 1, TaskState::Running)],
    };
    let huge = |framework| ToMaster::Message { framework, task: task("x"), data: vec![0; 1 << 20].into() };
    let twice = |_| ToMaster::Register(registration("cpus:1;mem:1GiB"));
    let unasked = |_| ToMaster::Report { batches: Vec::new(), last: true };
    let bad: [&dyn Fn(FrameworkId) -> ToMaster; 5] = [&wrong_life, &zero, &huge, &twice, &unasked];
    for message in bad {
        let mut cluster = Cluster::new();
        let agent = cluster.agent("cpus:4;mem:8GiB");
        let framework = cluster.framework("a");
        cluster.say(agent.session, message(framework.id));
        assert!(cluster.closed[&agent.session].contains("protocol error"), "{:?}", cluster.closed);
    }
}

#[test]
fn what_each_task_used_reaches_the_framework_and_its_reports() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![array("x", 3, 2, "cpus:1;mem:1GiB")]);
    let used = |fuel| Usage { fuel, ..Usage::default() };
    let usages = Usages::new([used(7), used(8)]);
    cluster.updates(agent, framework.id, vec![Update { usages, ..update(1, "x", 0, 2, TaskState::Finished) }]);
    let (_, heard) = cluster.heard(framework).pop().unwrap();
    assert_eq!(heard.usages.entries(), [used(7), used(8)]);
    let back = cluster.resubscribe(framework, info(&["dev"]));
    let (_, batches, _) = cluster.tasks(back).pop().unwrap();
    let fuel: Vec<_> = batches[0].runs.iter().map(|run| (run.count, run.status.usage.fuel)).collect();
    assert_eq!(fuel, [(1, 7), (1, 8), (1, 0)]);
}

#[test]
fn ends_do_not_change_and_positions_beyond_the_launch_do_not_count() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![array("x", 2, 2, "cpus:1;mem:1GiB")]);
    cluster.updates(agent, framework.id, vec![update(1, "x", 0, u32::MAX, TaskState::Finished)]);
    cluster.updates(agent, framework.id, vec![update(2, "x", 0, 2, TaskState::Running)]);
    let states = cluster.states(framework);
    assert_eq!(states.len(), 1, "an ended task does not run again: {states:?}");
    let long = TaskStatus::because(TaskState::Failed, Reason::Trap, "ä".repeat(10_000));
    cluster.launch(framework, vec![single("y", "cpus:1;mem:1GiB")]);
    cluster.updates(agent, framework.id, vec![Update { status: long, ..update(3, "y", 0, 1, TaskState::Failed) }]);
    assert!(cluster.heard(framework)[0].1.status.message.len() <= MAX_STATUS_MESSAGE_BYTES);
}

#[test]
fn messages_pass_both_ways_for_live_tasks_only() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    cluster.launch(framework, vec![single("x", "cpus:1;mem:1GiB")]);
    let data: std::sync::Arc<[u8]> = vec![1, 2, 3].into();
    let to_task = |name: &str, bytes| Call::Message { agent: agent.id, task: task(name), data: bytes };
    cluster.call(framework, to_task("x", data.clone()));
    assert_eq!(cluster.sent(agent, |m| matches!(m, ToAgent::Message { .. })), 1);
    cluster.call(framework, to_task("y", data.clone()));
    cluster.call(framework, to_task("x", vec![0; MAX_MESSAGE_BYTES + 1].into()));
    let errors = cluster.errors(framework.session);
    assert!(errors[0].0.contains("not live") && errors[1].0.contains("65536"), "{errors:?}");
    let message = ToMaster::Message { framework: framework.id, task: task("x"), data };
    cluster.say(agent.session, message);
    let lost = ToMaster::RunnerLost { framework: framework.id, runner: RunnerId(3), message: "signal 9".into() };
    cluster.say(agent.session, lost);
    let events = &cluster.events[&framework.session];
    assert!(events.iter().any(|event| matches!(event, SchedulerEvent::Message { .. })));
    assert!(events.iter().any(|event| matches!(event, SchedulerEvent::RunnerLost { runner: RunnerId(3), .. })));
}
