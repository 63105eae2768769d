//! Executors and the tasks inside them.

use holm_model::{Executed, Reason, TaskKind};

use super::*;
use crate::PrepareError;

const WARM: WorkId = WorkId(0);
const INSIDE: WorkId = WorkId(1);

fn executor(id: &str) -> Launch {
    let spec =
        TaskSpec { kind: TaskKind::Executor, resources: "cpus:1;mem:1MiB".parse().unwrap(), ..TaskSpec::default() };
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: spec.into() }
}

fn inside(executor: &str, id: &str, count: u32, slots: u32) -> Launch {
    let executed = Executed { executor: executor.parse().unwrap(), data: [][..].into() };
    let spec = TaskSpec {
        kind: TaskKind::Executed,
        resources: "cpus:0.5".parse().unwrap(),
        executed: Some(executed),
        ..TaskSpec::default()
    };
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Array { first: 0, count }, slots, spec: spec.into() }
}

/// An executor that runs, with tasks inside it that were sent after it.
fn warm() -> Rig {
    let mut rig = Rig::registered();
    rig.run(executor("warm"));
    rig.launch(inside("warm", "t", 4, 2));
    assert_eq!(rig.sent(), ["warm", "t"]);
    rig.reports(vec![report(1, WARM, 0, 1, TaskState::Running), report(2, INSIDE, 0, 2, TaskState::Running)]);
    rig.effects.clear();
    rig
}

#[test]
fn tasks_wait_for_their_executor_and_hold_what_is_theirs() {
    let mut rig = Rig::registered();
    rig.launch(executor("warm"));
    rig.launch(inside("warm", "t", 4, 2));
    assert_eq!(rig.agent.held().to_string(), "cpus:2;mem:1MiB");
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::Prepare { work: INSIDE, .. })), "there is nothing to do");
    rig.hello(RUNNER, &[]);
    assert!(rig.sent().is_empty());
    rig.prepared(WARM);
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.sent(), ["warm", "t"]);
}

#[test]
fn tasks_without_an_executor_are_dropped_and_say_why() {
    let mut rig = Rig::registered();
    rig.launch(inside("warm", "t", 4, 2));
    rig.run(launch("plain", 1, 1));
    rig.launch(inside("plain", "u", 1, 1));
    rig.run(executor("warm"));
    rig.kill("warm", None);
    rig.launch(inside("warm", "v", 1, 1));
    let ends: Vec<String> = rig.told().into_iter().filter(|line| !line.contains("warm")).collect();
    assert_eq!(
        ends,
        ["1 t[0+4] DROPPED EXECUTOR_LOST", "2 u[0+1] ERROR INVALID_TASK", "4 v[0+1] DROPPED EXECUTOR_LOST"]
    );
    let messages: Vec<String> = rig.updates().iter().map(|update| update.status.message.to_string()).collect();
    assert!(messages[0].contains("executor warm is not here"), "{messages:?}");
    assert!(messages[1].contains("of the kind command"), "{messages:?}");
    assert!(messages[3].contains("executor warm is KILLING"), "{messages:?}");
}

#[test]
fn an_executor_takes_its_tasks_along_although_its_runner_does_not_say_so() {
    let mut rig = warm();
    let mut trapped = report(3, WARM, 0, 1, TaskState::Failed);
    trapped.status = TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable\nbacktrace");
    rig.reports(vec![trapped]);
    assert_eq!(rig.told(), ["3 warm[0+1] FAILED TRAP", "4 t[0+4] FAILED EXECUTOR_LOST"]);
    assert_eq!(&*rig.updates()[1].status.message, "its executor ended FAILED (TRAP): unreachable");
    assert_eq!(rig.agent.held().to_string(), "");
}

#[test]
fn tasks_that_never_left_are_dropped_with_their_executor() {
    let mut rig = Rig::registered();
    rig.launch(executor("warm"));
    rig.launch(inside("warm", "t", 4, 2));
    let error = PrepareError { state: TaskState::Failed, reason: Reason::InvalidModule, message: "no executor".into() };
    rig.event(AgentEvent::Prepared { work: WARM, result: Err(error) });
    assert_eq!(rig.told(), ["1 warm[0+1] FAILED INVALID_MODULE", "2 t[0+4] DROPPED EXECUTOR_LOST"]);
}

#[test]
fn a_killed_executor_means_killed_tasks() {
    let mut rig = warm();
    rig.reports(vec![report(3, WARM, 0, 1, TaskState::Killed)]);
    assert_eq!(rig.told(), ["3 warm[0+1] KILLED", "4 t[0+4] KILLED EXECUTOR_LOST"]);
    let mut rig = warm();
    rig.kill("t/1", Some(Duration::from_secs(60)));
    rig.effects.clear();
    rig.reports(vec![report(3, WARM, 0, 1, TaskState::Failed)]);
    assert_eq!(
        rig.told(),
        [
            "4 warm[0+1] FAILED",
            "5 t[1+1] KILLED EXECUTOR_LOST",
            "6 t[0+1] FAILED EXECUTOR_LOST",
            "7 t[2+2] FAILED EXECUTOR_LOST"
        ]
    );
}

#[test]
fn a_lost_runner_is_the_reason_for_all_of_them() {
    let mut rig = warm();
    rig.event(AgentEvent::RunnerExited { runner: RUNNER, message: "signal 9".into() });
    let told = rig.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("3 warm[0+1] FAILED RUNNER_LOST"), "{told:?}");
    assert!(told[1].starts_with("4 t[0+4] FAILED RUNNER_LOST"), "{told:?}");
    rig.run(executor("warm"));
    rig.launch(inside("warm", "t", 4, 2));
    assert_eq!(rig.sent().len(), 2, "both names are free again");
}

#[test]
fn executors_and_their_tasks_survive_a_restart_of_the_agent() {
    let mut rig = warm();
    rig.restart();
    rig.register();
    rig.hello(RUNNER, &[WARM, INSIDE]);
    rig.effects.clear();
    rig.launch(inside("warm", "u", 2, 1));
    assert_eq!(rig.sent(), ["u"], "the executor that was there before is there still");
    rig.reports(vec![report(3, INSIDE, 0, 2, TaskState::Finished)]);
    assert_eq!(rig.told(), ["3 t[0+2] FINISHED"]);
}

#[test]
fn what_the_runner_never_received_is_sent_again_executor_first() {
    let mut rig = Rig::registered();
    rig.run(executor("warm"));
    rig.launch(inside("warm", "t", 4, 2));
    rig.effects.clear();
    rig.event(AgentEvent::RunnerDisconnected { runner: RUNNER });
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.sent(), ["warm", "t"]);
}

#[test]
fn an_agent_that_dies_between_the_end_of_an_executor_and_that_of_its_tasks_makes_up_for_it() {
    let mut rig = warm();
    rig.reports(vec![report(3, WARM, 0, 1, TaskState::Failed)]);
    let is_end =
        |record: &Record| matches!(record, Record::Updated { update, .. } if update.status.state.is_terminal());
    let end = rig.records.iter().position(is_end).unwrap();
    rig.records.truncate(end + 1);
    rig.restart();
    rig.register();
    assert!(rig.told().contains(&"4 t[0+4] FAILED EXECUTOR_LOST".to_owned()), "{:?}", rig.told());
}

#[test]
fn an_executor_and_its_tasks_can_be_a_group() {
    let mut rig = Rig::registered();
    rig.launch_group(vec![executor("warm"), inside("warm", "t", 4, 2), launch("plain", 1, 1)]);
    rig.prepared(WARM);
    rig.hello(RUNNER, &[]);
    assert!(rig.sent().is_empty());
    rig.prepared(WorkId(2));
    rig.hello(RUNNER, &[]);
    assert_eq!(rig.sent(), ["warm", "t", "plain"]);
    rig.reports(vec![report(1, WARM, 0, 1, TaskState::Failed)]);
    assert!(rig.told().contains(&"3 plain[0+1] KILLING GROUP_FAILED".to_owned()), "{:?}", rig.told());
}

#[test]
fn a_message_for_a_task_inside_goes_to_the_runner() {
    let mut rig = warm();
    let task = "t/1".parse().unwrap();
    rig.master(ToAgent::Message { framework: framework(1), task, data: [1][..].into() });
    assert!(
        rig.to_runner().iter().any(|message| matches!(message, ToRunner::Message { work: INSIDE, position: 1, .. }))
    );
}
