//! Tests of the runner's core: slots, kills, grace periods, reports, recovery.

use holm_model::{Epoch, RunnerId, RunnerReport, TaskRange, TaskSpec, Usage};
use proptest::prelude::*;

use super::*;
use crate::invariants::check_runner;

const WORK: WorkId = WorkId(3);
const GRACE: Duration = Duration::from_secs(3);

fn launch(count: u32, slots: u32) -> ToRunner {
    launch_as(WORK, count, slots)
}

fn launch_as(work: WorkId, count: u32, slots: u32) -> ToRunner {
    let spec = TaskSpec { resources: "cpus:1;mem:1MiB".parse().unwrap(), ..TaskSpec::default() };
    let tasks = TaskRange::Array { first: 0, count };
    let launch = Launch { id: "a".parse().unwrap(), tasks, slots, spec: spec.into() };
    let prepared = Prepared {
        program: "/cache/native".into(),
        inputs: None,
        scratch: None,
        directories: Default::default(),
        volumes: Vec::new(),
        network: Default::default(),
    };
    ToRunner::Launch { work, framework: FrameworkId::new(Epoch(1), 1), launch, prepared }
}

struct Rig {
    runner: Runner,
    now: Time,
    effects: Vec<RunnerEffect>,
}

impl Rig {
    fn new() -> Rig {
        Rig::with_window(usize::MAX)
    }

    fn with_window(report_window: usize) -> Rig {
        let options = RunnerOptions { report_window, ..RunnerOptions::new(RunnerId(4)) };
        let runner = Runner::new(options, Time::ZERO);
        let mut rig = Rig { runner, now: Time::ZERO, effects: Vec::new() };
        rig.event(RunnerEvent::AgentConnected);
        rig
    }

    fn event(&mut self, event: RunnerEvent) {
        self.runner.handle(self.now, event);
        self.effects.extend(self.runner.drain_effects());
        assert_eq!(check_runner(&self.runner), []);
    }

    fn agent(&mut self, message: ToRunner) {
        self.event(RunnerEvent::FromAgent(message));
    }

    fn kill(&mut self, positions: Option<(u32, u32)>, grace: Duration) {
        self.agent(ToRunner::Kill { work: WORK, positions, grace });
    }

    fn ended(&mut self, position: u32, state: TaskState) {
        self.event(RunnerEvent::Ended { work: WORK, position, status: TaskStatus::of(state) });
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.event(RunnerEvent::Wake);
    }

    fn spawned(&self) -> Vec<u32> {
        let spawned = self.effects.iter().filter_map(|effect| match effect {
            RunnerEffect::Spawn { position, .. } => Some(*position),
            _ => None,
        });
        spawned.collect()
    }

    fn reports(&self) -> Vec<RunnerReport> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            RunnerEffect::ToAgent(FromRunner::Reports(reports)) => Some(reports.clone()),
            _ => None,
        });
        said.flatten().collect()
    }

    fn told(&self) -> Vec<String> {
        let show = |report: &RunnerReport| {
            let reason = report.status.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            format!("{} [{}+{}] {}{reason}", report.sequence, report.first, report.count, report.status.state)
        };
        self.reports().iter().map(show).collect()
    }

    fn has(&self, wanted: impl Fn(&RunnerEffect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }
}

#[test]
fn a_batch_runs_on_its_slots_one_after_another() {
    let mut rig = Rig::new();
    rig.agent(launch(5, 2));
    assert_eq!(rig.spawned(), [0, 1]);
    rig.ended(1, TaskState::Finished);
    rig.ended(0, TaskState::Failed);
    assert_eq!(rig.spawned(), [0, 1, 2, 3]);
    assert_eq!(rig.told(), ["1 [1+1] FINISHED", "2 [0+1] FAILED"]);
    assert_eq!(rig.runner.live(), 2);
}

#[test]
fn ends_of_one_burst_share_a_message_and_neighbours_a_report() {
    let mut rig = Rig::new();
    rig.agent(launch(4096, 4096));
    for position in 0..4096 {
        let status = TaskStatus::of(TaskState::Finished);
        rig.runner.handle(rig.now, RunnerEvent::Ended { work: WORK, position, status });
    }
    rig.event(RunnerEvent::Wake);
    assert_eq!(rig.told(), ["1 [0+4096] FINISHED"]);
    rig.agent(ToRunner::Acknowledge { sequence: 1 });
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Forget { work: WORK })));
    assert!(rig.runner.work(WORK).is_none());
}

#[test]
fn ends_in_any_order_share_a_report_and_keep_what_each_used() {
    let mut rig = Rig::new();
    rig.agent(launch(6, 6));
    for position in [1, 0, 3, 2, 5] {
        let mut status = TaskStatus::of(TaskState::Finished);
        status.usage.fuel = 10 + u64::from(position);
        rig.runner.handle(rig.now, RunnerEvent::Ended { work: WORK, position, status });
    }
    rig.event(RunnerEvent::Wake);
    assert_eq!(rig.told(), ["1 [0+4] FINISHED", "2 [5+1] FINISHED"]);
    let fuel: Vec<u64> = rig.reports()[0].usages.entries().iter().map(|usage| usage.fuel).collect();
    assert_eq!(fuel, [10, 11, 12, 13]);
    assert_eq!(rig.reports()[1].status.usage.fuel, 15);
}

#[test]
fn what_happens_while_messages_are_under_way_shares_the_next_one() {
    let mut rig = Rig::with_window(2);
    rig.agent(launch(8, 8));
    for position in 0..5 {
        rig.ended(position, TaskState::Finished);
    }
    assert_eq!(rig.told(), ["1 [0+1] FINISHED", "2 [1+1] FINISHED"]);
    rig.agent(ToRunner::Acknowledge { sequence: 1 });
    assert_eq!(rig.told()[2..], ["3 [2+3] FINISHED"]);
    rig.ended(5, TaskState::Finished);
    assert!(!rig.runner.wants_to_report());
    // A new connection owes nothing to the one before.
    rig.event(RunnerEvent::AgentDisconnected);
    rig.effects.clear();
    rig.event(RunnerEvent::AgentConnected);
    assert_eq!(rig.told(), ["2 [1+1] FINISHED", "3 [2+3] FINISHED", "4 [5+1] FINISHED"]);
}

#[test]
fn time_in_the_queue_is_counted_from_the_arrival() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 1));
    rig.now = rig.now + Duration::from_secs(4);
    rig.ended(0, TaskState::Finished);
    rig.ended(1, TaskState::Finished);
    let queued: Vec<Usage> = rig.reports().iter().map(|report| report.status.usage).collect();
    assert_eq!(queued.iter().map(|usage| usage.queued.as_secs()).collect::<Vec<_>>(), [0, 4]);
}

#[test]
fn a_kill_gives_up_queued_tasks_and_asks_running_ones_first() {
    let mut rig = Rig::new();
    rig.agent(launch(5, 2));
    rig.kill(None, GRACE);
    assert_eq!(rig.told(), ["1 [2+3] KILLED KILLED", "2 [0+2] KILLING KILLED"]);
    let stops = rig.effects.iter().filter(|effect| matches!(effect, RunnerEffect::Stop { .. })).count();
    assert_eq!((stops, rig.runner.next_wake()), (2, Some(rig.now + GRACE)));
    rig.ended(0, TaskState::Finished);
    rig.advance(GRACE);
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Kill { position: 1, .. })));
    assert!(!rig.has(|effect| matches!(effect, RunnerEffect::Kill { position: 0, .. })));
    rig.ended(1, TaskState::Killed);
    assert_eq!(rig.told()[2..], ["3 [0+1] FINISHED", "4 [1+1] KILLED"]);
    assert_eq!(rig.runner.next_wake(), None);
}

#[test]
fn a_kill_without_grace_is_immediate_and_a_second_kill_only_shortens() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 2));
    rig.kill(Some((0, 1)), Duration::ZERO);
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Kill { position: 0, .. })));
    rig.kill(Some((1, 1)), GRACE);
    rig.kill(Some((1, 1)), GRACE * 9);
    assert_eq!(rig.runner.next_wake(), Some(rig.now + GRACE));
    rig.kill(Some((1, 1)), Duration::ZERO);
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Kill { position: 1, .. })));
    assert_eq!(rig.runner.next_wake(), None);
    // One KILLING each, however often they are asked.
    assert_eq!(rig.told(), ["1 [0+1] KILLING KILLED", "2 [1+1] KILLING KILLED"]);
}

#[test]
fn a_trim_gives_up_what_has_not_started() {
    let mut rig = Rig::new();
    rig.agent(launch(6, 2));
    rig.agent(ToRunner::Trim { work: WORK, from: 1, message: "".into() });
    assert_eq!(rig.told(), ["1 [2+4] KILLED TRIMMED"]);
    rig.ended(0, TaskState::Finished);
    rig.ended(1, TaskState::Finished);
    assert_eq!(rig.spawned(), [0, 1]);
}

#[test]
fn tasks_killed_ahead_of_their_launch_never_start() {
    let mut rig = Rig::new();
    rig.kill(Some((0, 1)), Duration::ZERO);
    rig.kill(Some((2, 1)), Duration::ZERO);
    rig.agent(launch(4, 4));
    assert_eq!(rig.spawned(), [1, 3]);
    // The agent knows of them; and they are not held against a later launch.
    assert!(rig.told().is_empty());
    rig.agent(launch_as(WorkId(9), 1, 1));
    assert_eq!(rig.spawned(), [1, 3, 0]);
}

#[test]
fn a_launch_sent_twice_runs_once() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 2));
    rig.agent(launch(2, 2));
    assert_eq!(rig.spawned(), [0, 1]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_hello() {
    let mut rig = Rig::new();
    rig.agent(launch(3, 3));
    rig.ended(0, TaskState::Finished);
    rig.agent(ToRunner::Acknowledge { sequence: 1 });
    rig.ended(1, TaskState::Failed);
    rig.event(RunnerEvent::AgentDisconnected);
    rig.ended(2, TaskState::Finished);
    rig.effects.clear();
    rig.event(RunnerEvent::AgentConnected);
    let RunnerEffect::ToAgent(FromRunner::Hello { runner, works }) = &rig.effects[0] else { panic!("no hello") };
    assert_eq!((*runner, &works[..]), (RunnerId(4), &[WORK][..]));
    assert_eq!(rig.told(), ["2 [1+1] FAILED", "3 [2+1] FINISHED"]);
    rig.agent(ToRunner::Acknowledge { sequence: 3 });
    assert!(rig.runner.work(WORK).is_none());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_no_acknowledgement() {
    let mut rig = Rig::new();
    rig.agent(launch(1, 1));
    rig.event(RunnerEvent::AgentDisconnected);
    rig.ended(0, TaskState::Finished);
    rig.agent(ToRunner::Acknowledge { sequence: u64::MAX });
    assert!(rig.runner.work(WORK).is_some());
}

#[test]
fn a_runner_without_an_agent_goes_on_and_gives_up_in_the_end() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 1));
    rig.event(RunnerEvent::AgentDisconnected);
    rig.ended(0, TaskState::Finished);
    assert_eq!(rig.spawned(), [0, 1]);
    rig.advance(Duration::from_secs(14 * 60));
    rig.event(RunnerEvent::AgentConnected);
    rig.event(RunnerEvent::AgentDisconnected);
    rig.advance(Duration::from_secs(14 * 60));
    assert!(!rig.has(|effect| matches!(effect, RunnerEffect::Exit { .. })));
    rig.advance(Duration::from_secs(60));
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Exit { .. })));
}

#[test]
fn a_runner_that_nobody_ever_connects_to_gives_up() {
    let mut runner = Runner::new(RunnerOptions::new(RunnerId(4)), Time::ZERO);
    let wake = runner.next_wake().unwrap();
    runner.handle(wake, RunnerEvent::Wake);
    assert!(runner.drain_effects().any(|effect| matches!(effect, RunnerEffect::Exit { .. })));
    assert_eq!(runner.next_wake(), None);
}

#[test]
fn a_stopped_runner_starts_nothing_more() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 1));
    rig.agent(ToRunner::Stop);
    assert!(rig.has(|effect| matches!(effect, RunnerEffect::Exit { .. })));
    rig.ended(0, TaskState::Killed);
    rig.agent(launch_as(WorkId(9), 1, 1));
    assert_eq!(rig.spawned(), [0]);
}

#[test]
fn messages_go_to_and_come_from_running_tasks_only() {
    let mut rig = Rig::new();
    rig.agent(launch(2, 1));
    for position in [0, 1, 7] {
        rig.agent(ToRunner::Message { work: WORK, position, data: vec![1].into() });
        rig.event(RunnerEvent::TaskMessage { work: WORK, position, data: vec![2].into() });
    }
    rig.event(RunnerEvent::TaskMessage { work: WORK, position: 0, data: vec![2; (64 << 10) + 1].into() });
    let delivered = rig.effects.iter().filter(|effect| matches!(effect, RunnerEffect::Deliver { .. })).count();
    let sent = rig.effects.iter().filter(|effect| matches!(effect, RunnerEffect::ToAgent(FromRunner::Message { .. })));
    assert_eq!((delivered, sent.count()), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order: the invariants hold after every event and every position ends at most once.
    #[test]
    fn every_position_ends_at_most_once(steps in prop::collection::vec((0u8..9, 0u64..3, 0u32..6), 1..120)) {
        let mut rig = Rig::new();
        for (what, work, position) in steps {
            let work = WorkId(work);
            match what {
                0 | 1 => rig.agent(launch_as(work, 5, 1 + position.min(4))),
                2 => rig.event(RunnerEvent::Ended { work, position, status: TaskStatus::of(TaskState::Finished) }),
                3 => rig.event(RunnerEvent::Started { work, position }),
                4 => rig.agent(ToRunner::Kill { work, positions: Some((position, 2)), grace: GRACE * (position % 2) }),
                5 => rig.agent(ToRunner::Trim { work, from: position, message: "".into() }),
                6 => rig.advance(Duration::from_secs(2)),
                7 => rig.event(RunnerEvent::AgentDisconnected),
                _ => rig.event(RunnerEvent::AgentConnected),
            }
        }
        rig.event(RunnerEvent::AgentConnected);
        let mut seen = BTreeSet::new();
        let mut reports: Vec<RunnerReport> = rig.reports();
        reports.sort_by_key(|report| report.sequence);
        reports.dedup_by_key(|report| report.sequence);
        for report in reports.iter().filter(|report| report.status.state.is_terminal()) {
            for position in report.first..report.first + report.count {
                prop_assert!(seen.insert((report.work, position)), "{:?} ended twice", (report.work, position));
            }
        }
    }
}
