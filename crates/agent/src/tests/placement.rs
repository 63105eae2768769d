//! Which launches share a runner process, when another is started, and what happens when there can be no more.

use holm_model::Isolation;

use super::*;
use crate::RunnerScope;

/// A registered agent whose runners hold `slots` tasks, at most `runners` of them.
fn rig(isolation: Isolation, slots: u32, runners: usize) -> Rig {
    let mut options = options();
    options.info.isolation = isolation;
    options.runner_slots = slots;
    options.max_runners = runners;
    let mut rig = Rig::new(options);
    rig.register();
    rig.effects.clear();
    rig
}

fn of(number: u64) -> RunnerScope {
    RunnerScope { framework: Some(framework(number)), ..RunnerScope::default() }
}

/// The runner that each launch was sent to last.
fn sent(rig: &Rig) -> Vec<(u64, u64)> {
    let mut sent: Vec<(u64, u64)> = Vec::new();
    for effect in &rig.effects {
        if let AgentEffect::ToRunner { runner, message: ToRunner::Launch { work, .. } } = effect {
            sent.retain(|(known, _)| *known != work.0);
            sent.push((work.0, runner.0));
        }
    }
    sent
}

fn scopes(rig: &Rig) -> Vec<RunnerScope> {
    rig.agent.runners().map(|(_, scope)| scope).collect()
}

fn ends(rig: &mut Rig, runner: u64, sequence: u64, work: WorkId, count: u32) {
    let reports = vec![report(sequence, work, 0, count, TaskState::Finished)];
    rig.runner_says(RunnerId(runner), FromRunner::Reports(reports));
}

#[test]
fn a_full_runner_is_joined_by_another_and_the_oldest_with_room_takes_what_comes() {
    let mut rig = rig(Isolation::Framework, 4, 10);
    let first = rig.run(launch("a", 3, 3));
    rig.run(launch("b", 2, 2));
    assert_eq!(sent(&rig), [(0, 0), (1, 1)]);
    rig.run(launch("c", 1, 1));
    assert_eq!(sent(&rig)[2], (2, 0));
    // What ends makes room again, slot by slot.
    ends(&mut rig, 0, 1, first, 2);
    rig.run(launch("d", 2, 2));
    assert_eq!(sent(&rig)[3], (3, 0));
    assert_eq!(scopes(&rig), [of(1), of(1)]);
}

#[test]
fn a_launch_larger_than_a_runner_gets_one_for_itself() {
    let mut rig = rig(Isolation::Framework, 2, 10);
    rig.run(launch("a", 1, 1));
    rig.run(launch("b", 5, 5));
    rig.run(launch("c", 1, 1));
    assert_eq!(sent(&rig), [(0, 0), (1, 1), (2, 0)]);
}

#[test]
fn a_runner_that_is_not_needed_any_more_goes_though_its_framework_has_work_elsewhere() {
    let mut rig = rig(Isolation::Framework, 2, 10);
    rig.run(launch("a", 2, 2));
    let second = rig.run(launch("b", 2, 2));
    ends(&mut rig, 1, 1, second, 2);
    for _ in 0..7 {
        rig.advance(Duration::from_secs(10));
        rig.master(ToAgent::Ping);
    }
    let stopped = |runner| move |effect: &AgentEffect| matches!(effect, AgentEffect::StopRunner { runner: it, .. } if *it == RunnerId(runner));
    assert!(rig.has(stopped(1)));
    assert!(!rig.has(stopped(0)));
}

#[test]
fn what_finds_no_runner_waits_in_staging_says_why_and_goes_on_when_there_is_room() {
    let mut rig = rig(Isolation::Framework, 2, 1);
    let first = rig.run(launch("a", 2, 2));
    let second = rig.run(launch("b", 2, 2));
    let third = rig.run(launch("c", 1, 1));
    assert_eq!(rig.told(), ["1 b[0+2] STAGING", "2 c[0+1] STAGING"]);
    let message = rig.updates()[0].status.message.clone();
    for part in ["waits for a runner", "needs 2 places", "a runner has 2", "all 1 runners"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(sent(&rig), [(0, 0)]);
    // One place is not enough for the next in line, and what comes after it does not overtake it.
    ends(&mut rig, 0, 1, first, 1);
    assert_eq!(sent(&rig), [(0, 0)]);
    let last = vec![report(2, first, 1, 1, TaskState::Finished)];
    rig.runner_says(RUNNER, FromRunner::Reports(last));
    assert_eq!(sent(&rig), [(0, 0), (second.0, 0)]);
    ends(&mut rig, 0, 3, second, 2);
    assert_eq!(sent(&rig)[2], (third.0, 0));
    let ended = rig.told().into_iter().filter(|update| update.contains("FINISHED")).count();
    assert_eq!(ended, 3);
}

#[test]
fn an_idle_runner_gives_way_to_a_framework_that_waits() {
    let mut rig = rig(Isolation::Framework, 4, 1);
    let first = rig.run(launch("a", 1, 1));
    ends(&mut rig, 0, 1, first, 1);
    let second = rig.run_for(framework(2), launch("b", 1, 1));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    assert_eq!(sent(&rig), [(0, 0)]);
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "it was told to".into() });
    rig.hello(RunnerId(1), &[]);
    assert_eq!(sent(&rig), [(0, 0), (second.0, 1)]);
}

#[test]
fn a_waiting_launch_can_be_killed_and_forgotten() {
    let mut rig = rig(Isolation::Framework, 1, 1);
    rig.run(launch("a", 1, 1));
    rig.run(launch("b", 1, 1));
    rig.kill("b", None);
    assert_eq!(rig.told(), ["1 b[0+1] STAGING", "2 b[0+1] KILLED KILLED"]);
    rig.run_for(framework(2), launch("c", 1, 1));
    rig.master(ToAgent::Remove { framework: framework(2) });
    assert_eq!(rig.agent.works().count(), 2);
}

#[test]
fn in_isolation_by_task_each_launch_has_a_runner_that_ends_with_it() {
    let mut rig = rig(Isolation::Task, 4, 10);
    let first = rig.run(launch("a", 2, 1));
    let second = rig.run(launch("b", 1, 1));
    assert_eq!(sent(&rig), [(0, 0), (1, 1)]);
    let only = |work| RunnerScope { work: Some(work), ..of(1) };
    assert_eq!(scopes(&rig), [only(first), only(second)]);
    ends(&mut rig, 0, 1, first, 2);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RunnerId(1), .. })));
}

#[test]
fn in_isolation_by_agent_frameworks_share_a_runner_and_one_goes_without_the_other() {
    let mut rig = rig(Isolation::Agent, 10, 10);
    let first = rig.run(launch("a", 1, 1));
    let second = rig.run_for(framework(2), launch("b", 1, 1));
    assert_eq!(sent(&rig), [(0, 0), (1, 0)]);
    rig.effects.clear();
    rig.master(ToAgent::Remove { framework: framework(2) });
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StopRunner { .. })));
    let kills = rig.to_runner().into_iter().filter(|message| matches!(message, ToRunner::Kill { .. }));
    assert!(
        matches!(&kills.collect::<Vec<_>>()[..], [ToRunner::Kill { work, positions: None, .. }] if *work == second)
    );
    ends(&mut rig, 0, 1, first, 1);
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED"]);
}

#[test]
fn a_shared_runner_that_dies_is_lost_for_each_of_its_frameworks() {
    let mut rig = rig(Isolation::Agent, 10, 10);
    rig.run(launch("a", 1, 1));
    rig.run_for(framework(2), launch("b", 1, 1));
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "signal 9".into() });
    let lost = rig.to_master().into_iter().filter_map(|message| match message {
        ToMaster::RunnerLost { framework, .. } => Some(framework),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [framework(1), framework(2)]);
    assert_eq!(rig.told(), ["1 a[0+1] FAILED RUNNER_LOST", "1 b[0+1] FAILED RUNNER_LOST"]);
}

#[test]
fn loads_and_scopes_survive_a_restart_of_the_agent() {
    let mut rig = rig(Isolation::Framework, 2, 2);
    rig.run(launch("a", 2, 2));
    rig.run(launch("b", 1, 1));
    rig.restart();
    rig.register();
    rig.hello(RUNNER, &[WORK]);
    rig.hello(RunnerId(1), &[WorkId(1)]);
    rig.run(launch("c", 1, 1));
    assert_eq!(sent(&rig), [(2, 1)]);
}
