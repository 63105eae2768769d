//! Groups of launches: all or nothing, prepared before any starts, ended together.

use holm_model::Reason;

use super::*;
use crate::PrepareError;

const FIRST: WorkId = WorkId(0);
const SECOND: WorkId = WorkId(1);

impl Rig {
    pub(super) fn launch_group(&mut self, launches: Vec<Launch>) {
        self.launches += 1;
        let sequence = self.launches;
        self.master(ToAgent::LaunchGroup {
            sequence,
            framework: framework(1),
            role: role(),
            origins: Vec::new(),
            launches,
        });
    }

    /// What each runner was told to run, by the launch's name.
    pub(super) fn sent(&self) -> Vec<String> {
        let launched = |message: &ToRunner| match message {
            ToRunner::Launch { launch, .. } => Some(launch.id.to_string()),
            _ => None,
        };
        self.to_runner().iter().filter_map(launched).collect()
    }

    fn kills(&self) -> Vec<(WorkId, Option<(u32, u32)>)> {
        let kill = |message: &ToRunner| match message {
            ToRunner::Kill { work, positions, .. } => Some((*work, *positions)),
            _ => None,
        };
        self.to_runner().iter().filter_map(kill).collect()
    }
}

fn running_group() -> Rig {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 3, 2)]);
    rig.prepared(FIRST);
    rig.prepared(SECOND);
    rig.hello(RUNNER, &[]);
    rig.reports(vec![report(1, FIRST, 0, 1, TaskState::Running), report(2, SECOND, 0, 2, TaskState::Running)]);
    rig.effects.clear();
    rig
}

#[test]
fn no_member_starts_before_all_are_prepared() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 3, 2)]);
    assert_eq!(rig.agent.held().to_string(), "cpus:3;mem:3MiB");
    rig.prepared(FIRST);
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StartRunner { .. })));
    rig.prepared(SECOND);
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.sent(), ["a", "b"]);
}

#[test]
fn a_member_that_does_not_fit_refuses_the_whole_group() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 6, 6), launch("b", 3, 3), launch("c", 1, 1)]);
    assert_eq!(
        rig.told(),
        ["1 a[0+6] DROPPED GROUP_FAILED", "2 b[0+3] DROPPED AGENT_REFUSED", "3 c[0+1] DROPPED GROUP_FAILED"]
    );
    let message = &rig.updates()[0].status.message;
    assert!(message.contains("launch b of its group was refused") && message.contains("cpus: 3 asked"), "{message}");
    assert_eq!(rig.agent.held().to_string(), "");
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::Prepare { .. })));
}

#[test]
fn a_member_that_is_not_valid_refuses_the_whole_group() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 2, 3)]);
    assert_eq!(rig.told(), ["1 a[0+1] DROPPED GROUP_FAILED", "2 b[0+2] ERROR INVALID_TASK"]);
    assert_eq!(rig.reconnects(), None);
}

#[test]
fn a_group_that_cannot_be_answered_task_by_task_ends_the_stream_and_leaves_nothing_behind() {
    let bad: [(Vec<Launch>, &str); 3] = [
        (vec![], "0 launches"),
        (vec![launch("a", 1, 1), launch("a", 2, 1)], "twice in its group"),
        (vec![launch("a", 1, 1), launch("b", 5000, 1)], "5000 tasks"),
    ];
    for (launches, why) in bad {
        let mut rig = Rig::registered();
        rig.launch_group(launches);
        assert!(rig.reconnects().unwrap().contains(why));
        assert_eq!(rig.agent.works().count(), 0);
    }
}

#[test]
fn a_member_that_cannot_be_prepared_drops_the_others() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 2, 1), launch("b", 1, 1)]);
    rig.prepared(FIRST);
    let error = PrepareError { state: TaskState::Failed, reason: Reason::Fetch, message: "no such blob".into() };
    rig.event(AgentEvent::Prepared { work: SECOND, result: Err(error) });
    assert_eq!(rig.told(), ["1 b[0+1] FAILED FETCH", "2 a[0+2] DROPPED GROUP_FAILED"]);
    assert_eq!(&*rig.updates()[1].status.message, "task b of its group ended FAILED (FETCH): no such blob");
    assert_eq!(rig.agent.held().to_string(), "");
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StartRunner { .. })));
}

#[test]
fn a_task_that_fails_has_the_others_killed_with_the_reason() {
    let mut rig = running_group();
    rig.reports(vec![report(3, SECOND, 1, 1, TaskState::Failed)]);
    assert_eq!(rig.kills(), [(FIRST, Some((0, 1))), (SECOND, Some((0, 1))), (SECOND, Some((2, 1)))]);
    assert_eq!(
        rig.told(),
        [
            "3 b[1+1] FAILED",
            "4 a[0+1] KILLING GROUP_FAILED",
            "5 b[0+1] KILLING GROUP_FAILED",
            "6 b[2+1] KILLING GROUP_FAILED"
        ]
    );
    rig.effects.clear();
    let mut killed = report(4, FIRST, 0, 1, TaskState::Killed);
    killed.status.reason = Some(Reason::Killed);
    rig.reports(vec![killed, report(5, SECOND, 0, 1, TaskState::Finished), report(6, SECOND, 2, 1, TaskState::Killed)]);
    assert_eq!(rig.told(), ["7 a[0+1] KILLED GROUP_FAILED", "8 b[0+1] FINISHED", "9 b[2+1] KILLED GROUP_FAILED"]);
    assert_eq!(&*rig.updates()[0].status.message, "task b/1 of its group ended FAILED");
    assert!(rig.kills().is_empty());
}

#[test]
fn a_task_that_finishes_leaves_the_others_alone() {
    let mut rig = running_group();
    rig.reports(vec![report(3, FIRST, 0, 1, TaskState::Finished)]);
    assert_eq!(rig.told(), ["3 a[0+1] FINISHED"]);
    assert!(rig.kills().is_empty());
}

#[test]
fn a_kill_of_one_is_a_kill_of_all_with_the_same_grace() {
    let mut rig = running_group();
    rig.kill("b/0", Some(Duration::from_secs(60)));
    let graces: Vec<Duration> = rig
        .to_runner()
        .iter()
        .filter_map(|message| match message {
            ToRunner::Kill { grace, .. } => Some(*grace),
            _ => None,
        })
        .collect();
    assert_eq!(graces, [Duration::from_secs(60); 3], "b/0, then a, then the rest of b");
    rig.effects.clear();
    let killed = |sequence, work, first| {
        let mut report = report(sequence, work, first, 1, TaskState::Killed);
        report.status.reason = Some(Reason::Killed);
        report
    };
    rig.reports(vec![killed(3, SECOND, 0), killed(4, FIRST, 0), killed(5, SECOND, 1)]);
    assert_eq!(rig.told(), ["6 b[0+1] KILLED KILLED", "7 a[0+1] KILLED GROUP_FAILED", "8 b[1+1] KILLED GROUP_FAILED"]);
    assert!(rig.kills().is_empty(), "the grace period is not cut short");
}

#[test]
fn a_kill_before_the_start_drops_the_others() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 1, 1)]);
    rig.prepared(FIRST);
    rig.kill("b", None);
    assert_eq!(rig.told(), ["1 b[0+1] KILLED KILLED", "2 a[0+1] DROPPED GROUP_FAILED"]);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Abandon { work: SECOND })));
}

#[test]
fn a_trimmed_member_is_no_failure_and_the_others_start_without_it() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 2, 1)]);
    rig.prepared(FIRST);
    rig.master(ToAgent::Trim { framework: framework(1), batch: "b".parse().unwrap(), from: 0, message: "".into() });
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.told(), ["1 b[0+2] KILLED TRIMMED"]);
    assert_eq!(rig.sent(), ["a"]);
}

#[test]
fn a_lost_runner_fails_the_group_once() {
    let mut rig = running_group();
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "signal 9".into() });
    assert_eq!(rig.told(), ["3 a[0+1] FAILED RUNNER_LOST", "4 b[0+3] FAILED RUNNER_LOST"]);
}

#[test]
fn a_group_is_still_one_after_a_restart() {
    let mut rig = running_group();
    rig.restart();
    rig.hello(RUNNER, &[FIRST, SECOND]);
    rig.register();
    rig.effects.clear();
    rig.reports(vec![report(3, SECOND, 1, 1, TaskState::Failed)]);
    assert_eq!(rig.told()[1], "4 a[0+1] KILLING GROUP_FAILED");
    // From a checkpoint that was rewritten, too.
    let mut rig = running_group();
    rig.records = rig.agent.snapshot();
    rig.restart();
    rig.hello(RUNNER, &[FIRST, SECOND]);
    rig.register();
    rig.effects.clear();
    rig.reports(vec![report(3, SECOND, 1, 1, TaskState::Failed)]);
    assert_eq!(rig.told()[1], "4 a[0+1] KILLING GROUP_FAILED");
}

#[test]
fn an_agent_that_dies_between_an_end_and_its_meaning_for_the_group_makes_up_for_it() {
    let mut rig = running_group();
    rig.reports(vec![report(3, SECOND, 1, 1, TaskState::Failed)]);
    // What was written after the failure is torn off.
    let is_failure =
        |record: &Record| matches!(record, Record::Updated { update, .. } if update.status.state == TaskState::Failed);
    let end = rig.records.iter().position(is_failure).unwrap();
    rig.records.truncate(end + 1);
    rig.restart();
    rig.hello(RUNNER, &[FIRST, SECOND]);
    assert_eq!(rig.kills(), [(FIRST, Some((0, 1))), (SECOND, Some((0, 1))), (SECOND, Some((2, 1)))]);
    rig.register();
    assert!(rig.told().contains(&"4 a[0+1] KILLING GROUP_FAILED".to_owned()), "{:?}", rig.told());
}

#[test]
fn a_group_counts_as_one_launch_of_the_stream() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![launch("a", 1, 1), launch("b", 1, 1)]);
    rig.launches = 0;
    rig.launch_group(vec![launch("c", 1, 1)]);
    assert_eq!((rig.agent.works().count(), rig.agent.counters().repeated_launches), (2, 1));
    rig.launch(launch("d", 1, 1));
    assert_eq!(rig.agent.works().count(), 3);
}
