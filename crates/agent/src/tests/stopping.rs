//! Kills, trims, removals and messages.

use std::time::Duration;

use super::*;

const GRACE: Duration = Duration::from_secs(3);

type Kill = (WorkId, Option<(u32, u32)>, Duration);

fn kills(rig: &Rig) -> Vec<Kill> {
    let kills = rig.to_runner().into_iter().filter_map(|message| match message {
        ToRunner::Kill { work, positions, grace } => Some((work, positions, grace)),
        _ => None,
    });
    kills.collect()
}

#[test]
fn a_kill_while_preparing_ends_the_tasks_at_once() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 3, 2));
    rig.kill("a", None);
    assert_eq!(rig.told(), ["1 a[0+3] KILLED KILLED"]);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Abandon { work: WORK })));
    rig.prepared(WORK);
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StartRunner { .. })));
}

#[test]
fn a_task_killed_while_preparing_is_kept_from_running_by_a_kill_before_the_launch() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 4, 2));
    rig.kill("a/1", None);
    rig.master(ToAgent::Trim { framework: framework(1), batch: "a".parse().unwrap(), from: 3, message: "".into() });
    assert_eq!(rig.told(), ["1 a[1+1] KILLED KILLED", "2 a[3+1] KILLED TRIMMED"]);
    assert_eq!(rig.agent.held().to_string(), "cpus:2;mem:2MiB");
    rig.prepared(WORK);
    rig.hello(RUNNER, &[]);
    assert_eq!(kills(&rig), [(WORK, Some((1, 1)), Duration::ZERO), (WORK, Some((3, 1)), Duration::ZERO)]);
    let sent = rig.to_runner();
    let launch = sent.iter().position(|message| matches!(message, ToRunner::Launch { .. })).unwrap();
    assert!(sent[..launch].iter().filter(|message| matches!(message, ToRunner::Kill { .. })).count() == 2);
}

#[test]
fn a_kill_of_running_tasks_goes_to_the_runner_with_its_grace() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 3, 2));
    rig.reports(vec![report(1, WORK, 0, 2, TaskState::Running)]);
    rig.kill("a/1", Some(GRACE));
    rig.kill("a", None);
    assert_eq!(kills(&rig), [(WORK, Some((1, 1)), GRACE), (WORK, None, Duration::from_secs(5))]);
    assert_eq!(rig.told()[1..], ["2 a[1+1] KILLING KILLED", "3 a[0+1] KILLING KILLED", "4 a[2+1] KILLING KILLED"]);
    // The runner's own word for it says nothing new; its ends do.
    rig.reports(vec![report(2, WORK, 0, 2, TaskState::Killing)]);
    assert_eq!(rig.told().len(), 4);
    rig.reports(vec![report(3, WORK, 0, 3, TaskState::Killed)]);
    assert_eq!(rig.told()[4], "5 a[0+3] KILLED");
}

#[test]
fn a_kill_outlives_the_agent() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.kill("a/0", Some(GRACE));
    assert!(kills(&rig).is_empty());
    rig.restart();
    rig.hello(RUNNER, &[WORK]);
    assert_eq!(kills(&rig), [(WORK, Some((0, 1)), Duration::from_secs(5))]);
}

#[test]
fn a_runner_that_does_not_kill_is_killed() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.kill("a/0", Some(GRACE));
    rig.advance(GRACE);
    rig.advance(Duration::from_secs(9));
    rig.master(ToAgent::Ping);
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { .. })));
    rig.advance(Duration::from_secs(1));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { grace: Duration::ZERO, .. })));
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "signal 9".into() });
    assert_eq!(rig.told()[1..], ["2 a[0+1] KILLED RUNNER_LOST", "3 a[1+1] FAILED RUNNER_LOST"]);
}

#[test]
fn a_kill_carried_out_in_time_leaves_the_runner_alone() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.kill("a/0", Some(GRACE));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Killed)]);
    rig.advance(Duration::from_secs(14));
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { .. })));
}

#[test]
fn targets_that_are_not_here_are_counted_and_nothing_else() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    for task in ["b", "a/2", "b/0"] {
        rig.kill(task, None);
    }
    rig.master(ToAgent::Trim { framework: framework(2), batch: "a".parse().unwrap(), from: 0, message: "".into() });
    assert_eq!(rig.agent.counters().unknown_targets, 4);
    assert!(rig.told().is_empty());
}

#[test]
fn a_trim_is_passed_on_and_repeated_until_the_runner_has_it() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 8, 2));
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.master(ToAgent::Trim {
        framework: framework(1),
        batch: "a".parse().unwrap(),
        from: 5,
        message: "for eng".into(),
    });
    rig.hello(RUNNER, &[WORK]);
    let trims: Vec<_> =
        rig.to_runner().into_iter().filter(|message| matches!(message, ToRunner::Trim { .. })).collect();
    assert!(matches!(&trims[..], [ToRunner::Trim { work: WORK, from: 5, message }] if &**message == "for eng"));
}

#[test]
fn removing_a_framework_leaves_nothing_of_it() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.launch(launch("b", 2, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    rig.effects.clear();
    rig.master(ToAgent::Remove { framework: framework(1) });
    assert_eq!((rig.agent.works().count(), rig.agent.held().to_string()), (0, String::new()));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, grace: Duration::ZERO, .. })));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Abandon { work: WorkId(1) })));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Cleanup { work: WORK, .. })));
    rig.reports(vec![report(2, WORK, 1, 1, TaskState::Killed)]);
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "exit 0".into() });
    assert!(rig.told().is_empty());
    assert_eq!(rig.agent.runners().count(), 0);
    assert!(!rig.to_master().iter().any(|message| matches!(message, ToMaster::RunnerLost { .. })));
}

#[test]
fn messages_reach_running_tasks_only_and_within_their_limit() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    let message = |task: &str, bytes: usize| ToAgent::Message {
        framework: framework(1),
        task: task.parse().unwrap(),
        data: vec![0; bytes].into(),
    };
    rig.master(message("a/1", 10));
    assert!(matches!(rig.to_runner().last(), Some(ToRunner::Message { work: WORK, position: 1, .. })));
    rig.reports(vec![report(1, WORK, 1, 1, TaskState::Finished)]);
    for refused in [message("a/1", 10), message("a", 10), message("b/0", 10), message("a/0", (64 << 10) + 1)] {
        rig.master(refused);
    }
    assert_eq!(rig.agent.counters().dropped_messages, 4);
}

fn preempt(first: u32, count: u32) -> ToAgent {
    ToAgent::Preempt {
        framework: framework(1),
        batch: "a".parse().unwrap(),
        first,
        count,
        grace: Some(GRACE),
        message: "the guarantee of eng is not met".into(),
    }
}

#[test]
fn preempted_tasks_say_so_to_the_end() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 3, 2));
    rig.reports(vec![report(1, WORK, 0, 2, TaskState::Running)]);
    rig.master(preempt(1, 1));
    assert_eq!(kills(&rig), [(WORK, Some((1, 1)), GRACE)]);
    rig.reports(vec![report(2, WORK, 1, 1, TaskState::Killed), report(3, WORK, 0, 1, TaskState::Finished)]);
    let told = rig.told();
    assert_eq!(told[1..3], ["2 a[1+1] KILLING PREEMPTED", "3 a[1+1] KILLED PREEMPTED"]);
    // Those that had ended by themselves did.
    rig.master(preempt(0, 1));
    assert_eq!(kills(&rig).len(), 1);
}

#[test]
fn a_launch_that_is_not_with_a_runner_yet_is_preempted_at_once() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 3, 2));
    rig.master(preempt(0, 3));
    assert_eq!(rig.told(), ["1 a[0+3] KILLED PREEMPTED"]);
    assert_eq!(rig.agent.held().to_string(), "");
}
