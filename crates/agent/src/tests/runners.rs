//! Runner processes: started, lost, found again, idle, hostile.

use std::time::Duration;

use holm_model::Reason;

use super::*;
use crate::RunnerScope;

fn exits(rig: &mut Rig, runner: RunnerId) {
    rig.event(AgentEvent::RunnerExited { runner, message: "signal 9".into() });
}

fn starts(rig: &Rig) -> usize {
    rig.effects.iter().filter(|effect| matches!(effect, AgentEffect::StartRunner { .. })).count()
}

fn launches(rig: &Rig) -> usize {
    rig.to_runner().iter().filter(|message| matches!(message, ToRunner::Launch { .. })).count()
}

#[test]
fn a_lost_runner_fails_its_tasks_and_no_others() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 3, 2));
    rig.launch(launch("b", 1, 1));
    rig.launches += 1;
    let sequence = rig.launches;
    rig.master(ToAgent::Launch {
        sequence,
        framework: framework(2),
        role: role(),
        origins: Portions::EMPTY,
        launch: launch("c", 1, 1),
    });
    rig.prepared(WorkId(2));
    rig.hello(RunnerId(1), &[]);
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    exits(&mut rig, RUNNER);
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED", "2 a[1+2] FAILED RUNNER_LOST"]);
    assert!(rig.updates()[1].status.message.contains("signal 9"));
    assert!(rig.to_master().iter().any(|message| matches!(message, ToMaster::RunnerLost { runner: RUNNER, .. })));
    // The launch that was being prepared gets a new runner.
    rig.prepared(WorkId(1));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StartRunner { runner: RunnerId(2), .. })));
}

#[test]
fn a_runner_that_does_not_start_fails_its_launch_instead_of_being_started_for_ever() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 2, 2));
    rig.prepared(WORK);
    exits(&mut rig, RUNNER);
    assert_eq!(rig.told(), ["1 a[0+2] FAILED RUNNER_ERROR"]);
    assert_eq!(starts(&rig), 1);
}

#[test]
fn a_runner_that_says_nothing_after_its_start_is_killed() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 1, 1));
    rig.prepared(WORK);
    rig.event(AgentEvent::RunnerConnected { runner: RUNNER });
    rig.advance(Duration::from_secs(30));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    exits(&mut rig, RUNNER);
    assert_eq!(rig.agent.works().map(|work| work.live).sum::<u32>(), 0);
}

#[test]
fn one_runner_serves_a_framework_and_goes_when_idle() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    let second = rig.run(launch("b", 1, 1));
    assert_eq!((starts(&rig), launches(&rig)), (1, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    for _ in 0..9 {
        rig.advance(Duration::from_secs(10));
        rig.master(ToAgent::Ping);
    }
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { .. })));
    rig.reports(vec![report(2, second, 0, 1, TaskState::Finished)]);
    rig.advance(Duration::from_secs(60));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    assert!(matches!(rig.to_runner().last(), Some(ToRunner::Stop)));
    // Work that comes while it goes gets another runner.
    rig.register();
    rig.run(launch("c", 1, 1));
    assert_eq!(starts(&rig), 2);
    exits(&mut rig, RUNNER);
    assert!(!rig.to_master().iter().any(|message| matches!(message, ToMaster::RunnerLost { .. })));
}

#[test]
fn work_that_comes_in_time_keeps_an_idle_runner() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    rig.advance(Duration::from_secs(14));
    rig.run(launch("b", 1, 1));
    rig.advance(Duration::from_secs(100));
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { .. })));
}

#[test]
fn a_restarted_agent_finds_its_runners_and_takes_what_they_have_done() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 3, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    rig.restart();
    assert_eq!(
        rig.agent.runners().collect::<Vec<_>>(),
        [(RUNNER, RunnerScope { framework: Some(framework(1)), ..RunnerScope::default() })]
    );
    assert_eq!(rig.agent.held().to_string(), "cpus:2;mem:2MiB");
    rig.hello(RUNNER, &[WORK]);
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished), report(2, WORK, 1, 2, TaskState::Finished)]);
    rig.register();
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED", "2 a[1+2] FINISHED"]);
    assert_eq!(launches(&rig), 0);
}

#[test]
fn a_restarted_agent_prepares_again_what_it_was_preparing() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 2, 2));
    rig.restart();
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Prepare { work: WORK, .. })));
    rig.prepared(WORK);
    rig.hello(RUNNER, &[]);
    assert_eq!(launches(&rig), 1);
}

#[test]
fn a_launch_that_never_reached_its_runner_is_sent_again() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    // The socket broke: what was prepared is still known.
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.hello(RUNNER, &[]);
    assert_eq!(launches(&rig), 2);
    // The agent died: it has to be prepared again.
    rig.restart();
    rig.hello(RUNNER, &[]);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Prepare { work: WORK, .. })));
    rig.prepared(WORK);
    assert_eq!(launches(&rig), 1);
}

#[test]
fn a_task_killed_before_its_launch_arrived_never_runs() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.kill("a/0", None);
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.told(), ["1 a[0+1] KILLING KILLED", "2 a[0+1] KILLED KILLED"]);
    let sent = rig.to_runner();
    let [.., ToRunner::Kill { positions: Some((0, 1)), .. }, ToRunner::Launch { .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
}

#[test]
fn a_launch_of_which_a_runner_has_reported_is_never_sent_again() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Running)]);
    rig.restart();
    rig.register();
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.told()[1..], ["2 a[0+2] FAILED RUNNER_ERROR"]);
    assert_eq!(launches(&rig), 0);
}

#[test]
fn a_runner_not_found_again_is_lost() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.restart();
    rig.register();
    rig.master(ToAgent::Ping);
    rig.advance(Duration::from_secs(14));
    rig.master(ToAgent::Ping);
    rig.advance(Duration::from_secs(14));
    rig.master(ToAgent::Ping);
    rig.advance(Duration::from_secs(2));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    exits(&mut rig, RUNNER);
    assert_eq!(rig.told(), ["1 a[0+2] FAILED RUNNER_LOST"]);
}

#[test]
fn what_a_runner_holds_beyond_the_agents_books_is_killed() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.effects.clear();
    rig.hello(RUNNER, &[WORK, WorkId(40)]);
    let kills = rig.to_runner().into_iter().filter(|message| matches!(message, ToRunner::Kill { .. })).count();
    assert_eq!(kills, 1);
    assert!(
        rig.to_runner()
            .iter()
            .any(|message| matches!(message, ToRunner::Kill { work: WorkId(40), positions: None, .. }))
    );
}

#[test]
fn a_runner_under_another_name_is_stopped() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.runner_says(RUNNER, FromRunner::Hello { runner: RunnerId(7), works: vec![] });
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    rig.event(AgentEvent::RunnerConnected { runner: RunnerId(9) });
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RunnerId(9), .. })));
}

#[test]
fn absurd_reports_change_nothing_but_a_counter() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    let absurd = [
        (WorkId(9), 0, 1, TaskState::Finished),
        (WORK, 2, 1, TaskState::Finished),
        (WORK, u32::MAX, u32::MAX, TaskState::Finished),
        (WORK, 0, 1, TaskState::Gone),
        (WORK, 0, 1, TaskState::Dropped),
        (WORK, 0, 1, TaskState::Error),
        (WORK, 0, 1, TaskState::Unreachable),
        (WORK, 0, 1, TaskState::Staging),
    ];
    let reports =
        absurd.iter().zip(1..).map(|((work, first, count, state), at)| report(at, *work, *first, *count, *state));
    rig.reports(reports.collect());
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(rig.agent.counters().ignored_reports, 8);
    assert!(matches!(rig.to_runner().last(), Some(ToRunner::Acknowledge { sequence: 8 })));
}

#[test]
fn a_task_ends_once_whatever_its_runner_says() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.reports(vec![
        report(1, WORK, 0, 1, TaskState::Finished),
        report(2, WORK, 0, 1, TaskState::Failed),
        report(3, WORK, 0, 2, TaskState::Killed),
    ]);
    rig.reports(vec![report(3, WORK, 1, 1, TaskState::Finished), report(4, WORK, 0, 2, TaskState::Running)]);
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED", "2 a[1+1] KILLED"]);
}

#[test]
fn a_runner_speaks_for_its_own_framework_only() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.launches += 1;
    let sequence = rig.launches;
    rig.master(ToAgent::Launch {
        sequence,
        framework: framework(2),
        role: role(),
        origins: Portions::EMPTY,
        launch: launch("b", 1, 1),
    });
    rig.prepared(WorkId(1));
    rig.hello(RunnerId(1), &[WORK, WorkId(1)]);
    rig.runner_says(RunnerId(1), FromRunner::Reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]));
    rig.runner_says(RunnerId(1), FromRunner::Message { work: WORK, position: 0, data: vec![1].into() });
    assert!(rig.told().is_empty());
    assert_eq!((rig.agent.counters().ignored_reports, rig.agent.counters().dropped_messages), (1, 1));
}

#[test]
fn statuses_are_cut_to_what_a_runner_may_say() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    let message: Arc<str> = "é".repeat(5000).into();
    let status =
        TaskStatus { reason: Some(Reason::AgentLost), message, attempt: 9, ..TaskStatus::of(TaskState::Failed) };
    rig.reports(vec![RunnerReport { sequence: 1, work: WORK, first: 0, count: 1, status, usages: Usages::default() }]);
    let status = rig.updates()[0].status.clone();
    assert_eq!((status.message.len(), status.reason, status.attempt), (4096, Some(Reason::RunnerError), 0));
    assert_eq!(rig.agent.counters().clipped_statuses, 1);
}

#[test]
fn messages_of_tasks_reach_the_master_within_their_limit() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    let message = |position, bytes: usize| FromRunner::Message { work: WORK, position, data: vec![0; bytes].into() };
    rig.runner_says(RUNNER, message(1, 10));
    assert!(matches!(rig.to_master().last(), Some(ToMaster::Message { task, .. }) if task.to_string() == "a/1"));
    rig.runner_says(RUNNER, message(2, 10));
    rig.runner_says(RUNNER, message(0, (64 << 10) + 1));
    rig.event(AgentEvent::Disconnected { session: rig.session });
    rig.runner_says(RUNNER, message(0, 10));
    assert_eq!(rig.agent.counters().dropped_messages, 3);
}

#[test]
fn reports_before_hello_are_not_acknowledged() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.event(AgentEvent::RunnerConnected { runner: RUNNER });
    rig.effects.clear();
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    assert!(rig.effects.is_empty());
}
