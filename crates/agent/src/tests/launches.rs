//! Taking, refusing, preparing and sending launches; the resource ledger; the status log.

use holm_model::{Reason, Usage};

use super::*;
use crate::PrepareError;

#[test]
fn a_launch_is_prepared_handed_to_a_new_runner_and_its_end_frees_what_it_held() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 1, 1));
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Prepare { work: WORK, .. })));
    assert_eq!(rig.agent.held().to_string(), "cpus:1;mem:1MiB");
    rig.prepared(WORK);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::StartRunner { runner: RUNNER, .. })));
    assert!(rig.to_runner().is_empty());
    rig.hello(RUNNER, &[]);
    assert!(rig.to_runner().iter().any(|message| matches!(message, ToRunner::Launch { work: WORK, .. })));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Running)]);
    rig.reports(vec![report(2, WORK, 0, 1, TaskState::Finished)]);
    assert_eq!(rig.told(), ["1 a[0+1] RUNNING", "2 a[0+1] FINISHED"]);
    assert_eq!(rig.agent.held().to_string(), "");
    assert!(matches!(rig.to_runner().last(), Some(ToRunner::Acknowledge { sequence: 2 })));
}

#[test]
fn nothing_depends_on_a_record_that_was_not_written_before_it() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.reports(vec![report(1, WORK, 0, 2, TaskState::Finished)]);
    let first = |wanted: fn(&AgentEffect) -> bool| rig.effects.iter().position(wanted).unwrap();
    let written = |wanted: fn(&Record) -> bool| {
        rig.effects
            .iter()
            .position(|effect| matches!(effect, AgentEffect::Checkpoint(records) if records.iter().any(wanted)))
            .unwrap()
    };
    assert!(
        written(|record| matches!(record, Record::WorkAdded { .. }))
            < first(|effect| matches!(effect, AgentEffect::Prepare { .. }))
    );
    let sent = first(|effect| matches!(effect, AgentEffect::ToRunner { message: ToRunner::Launch { .. }, .. }));
    assert!(written(|record| matches!(record, Record::WorkSent { .. })) < sent);
    let told = first(|effect| matches!(effect, AgentEffect::ToMaster { message: ToMaster::Updates { .. }, .. }));
    assert!(written(|record| matches!(record, Record::Updated { .. })) < told);
}

#[test]
fn slots_are_given_back_one_by_one_as_the_tail_empties() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 5, 3));
    let held = |rig: &Rig| rig.agent.held().to_string();
    assert_eq!(held(&rig), "cpus:3;mem:3MiB");
    rig.reports(vec![report(1, WORK, 0, 2, TaskState::Finished)]);
    assert_eq!(held(&rig), "cpus:3;mem:3MiB");
    rig.reports(vec![report(2, WORK, 2, 1, TaskState::Finished)]);
    assert_eq!(held(&rig), "cpus:2;mem:2MiB");
    rig.reports(vec![report(3, WORK, 3, 2, TaskState::Failed)]);
    assert_eq!(held(&rig), "");
}

#[test]
fn only_the_next_launch_of_a_stream_is_applied() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 1, 1));
    rig.launches = 0;
    rig.launch(launch("b", 1, 1));
    assert_eq!((rig.agent.works().count(), rig.agent.counters().repeated_launches), (1, 1));
    rig.launches = 2;
    rig.launch(launch("c", 1, 1));
    assert!(rig.reconnects().unwrap().contains("3 where 2 is next"));
    assert_eq!(rig.agent.works().count(), 1);
}

#[test]
fn a_launch_beyond_what_is_left_is_refused_and_names_the_resource() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 6, 6));
    rig.launch(launch("b", 3, 3));
    assert_eq!(rig.told(), ["1 b[0+3] DROPPED AGENT_REFUSED"]);
    let message = &rig.updates()[0].status.message;
    assert!(message.contains("cpus: 3 asked, 2 available"), "{message}");
    rig.launch(launch_of("c", 1, 1, "cpus:1;mem:1MiB;ports:[1000-1001]"));
    rig.launch(launch_of("d", 1, 1, "cpus:1;mem:1MiB;ports:[1001-1001]"));
    assert_eq!(rig.told().last().unwrap(), "2 d[0+1] DROPPED AGENT_REFUSED");
    assert_eq!(rig.agent.counters().refused_launches, 2);
}

#[test]
fn an_invalid_launch_is_an_error_of_its_own() {
    let mut rig = Rig::registered();
    rig.launch(launch_of("a", 1, 1, "cpus:1"));
    assert_eq!(rig.told(), ["1 a[0+1] ERROR INVALID_TASK"]);
    assert!(rig.updates()[0].status.message.contains("no mem"));
    rig.launch(launch("b", 2, 3));
    assert_eq!(rig.told()[1], "2 b[0+2] ERROR INVALID_TASK");
    // A range that is none cannot be answered task by task.
    rig.launch(launch("c", 5000, 1));
    assert!(rig.reconnects().unwrap().contains("5000 tasks"));
}

#[test]
fn launching_a_live_name_again_cannot_end_the_live_tasks() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.launch(launch("a", 1, 1));
    assert!(rig.reconnects().unwrap().contains("live here"));
    assert!(rig.updates().is_empty());
    rig.register();
    assert_eq!(rig.reported().len(), 1);
}

#[test]
fn an_ended_name_may_be_used_again_before_its_end_is_acknowledged() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Failed)]);
    let again = rig.run(launch("a", 1, 1));
    rig.runner_says(RUNNER, FromRunner::Reports(vec![report(2, again, 0, 1, TaskState::Running)]));
    // The new entry has a sequence that the master has not seen, although the old one is gone.
    assert_eq!(rig.told(), ["1 a[0+1] FAILED", "2 a[0+1] RUNNING"]);
    rig.restart();
    rig.register();
    assert_eq!(rig.told(), ["2 a[0+1] RUNNING"]);
    assert_eq!(rig.reported().len(), 1);
}

#[test]
fn sequences_never_start_over_for_a_framework_that_comes_back() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 1, 1));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    rig.acknowledge(1);
    assert_eq!(rig.agent.works().count(), 0);
    rig.records = rig.agent.snapshot();
    rig.restart();
    rig.register();
    rig.launch(launch("b", 1, 9));
    assert_eq!(rig.told(), ["2 b[0+1] ERROR INVALID_TASK"]);
}

#[test]
fn what_could_not_be_prepared_says_why() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 2, 2));
    let error = PrepareError { state: TaskState::Error, reason: Reason::InvalidModule, message: "not Wasm".into() };
    rig.event(AgentEvent::Prepared { work: WORK, result: Err(error) });
    assert_eq!(rig.told(), ["1 a[0+2] ERROR INVALID_MODULE"]);
    assert_eq!(rig.agent.held().to_string(), "");
    rig.launch(launch("b", 1, 1));
    let error = PrepareError { state: TaskState::Running, reason: Reason::Fetch, message: "".into() };
    rig.event(AgentEvent::Prepared { work: WorkId(1), result: Err(error) });
    assert_eq!(rig.told()[1], "2 b[0+1] FAILED FETCH");
    assert!(!rig.has(|effect| matches!(effect, AgentEffect::StartRunner { .. })));
}

#[test]
fn a_launch_is_forgotten_when_all_is_over_and_acknowledged() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished), report(2, WORK, 1, 1, TaskState::Failed)]);
    rig.acknowledge(1);
    assert_eq!(rig.agent.works().count(), 1);
    rig.master(ToAgent::Acknowledge { framework: framework(1), incarnation: holm_model::Incarnation(77), sequence: 2 });
    assert_eq!(rig.agent.works().count(), 1);
    rig.acknowledge(u64::MAX);
    assert_eq!(rig.agent.works().count(), 0);
    assert!(rig.has(|effect| matches!(effect, AgentEffect::Cleanup { work: WORK, .. })));
}

#[test]
fn a_framework_that_does_not_acknowledge_gets_no_more_launches() {
    let mut rig = Rig::new(AgentOptions { max_framework_tasks: 10, ..options() });
    rig.register();
    rig.run(launch("a", 6, 1));
    rig.reports(vec![report(1, WORK, 0, 6, TaskState::Finished)]);
    rig.launch(launch("b", 5, 1));
    assert_eq!(rig.told()[1], "2 b[0+5] DROPPED AGENT_REFUSED");
    let message = rig.updates()[1].status.message.clone();
    assert!(
        message.contains("6 ended without acknowledgement; the limit for a framework on an agent is 10"),
        "{message}"
    );
    for name in ["c", "d"] {
        rig.launch(launch(name, 5, 1));
    }
    assert_eq!(rig.reconnects(), None);
    rig.launch(launch("e", 1, 1));
    assert!(rig.reconnects().unwrap().contains("21 unacknowledged ends; the limit is 10"));
    rig.register();
    rig.acknowledge(u64::MAX);
    rig.launch(launch("f", 5, 1));
    assert_eq!(rig.agent.works().map(|work| work.live).sum::<u32>(), 5);
}

#[test]
fn neighbours_that_entered_the_same_status_share_an_entry() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 6, 6));
    rig.reports((0..6).map(|at| report(u64::from(at) + 1, WORK, at, 1, TaskState::Finished)).collect());
    assert_eq!(rig.told(), ["1 a[0+6] FINISHED"]);
}

#[test]
fn a_start_is_not_told_when_the_end_arrives_with_it() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    rig.reports(vec![
        report(1, WORK, 0, 2, TaskState::Running),
        report(2, WORK, 0, 1, TaskState::Finished),
        report(3, WORK, 1, 1, TaskState::Failed),
    ]);
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED", "2 a[1+1] FAILED"]);
}

#[test]
fn a_log_over_its_bound_keeps_every_end_and_drops_what_is_history() {
    let mut rig = Rig::new(AgentOptions { max_log_entries: 1000, ..options() });
    rig.register();
    rig.run(launch("a", 4096, 1));
    rig.event(AgentEvent::Disconnected { session: rig.session });
    rig.effects.clear();
    for position in 0..600u32 {
        let sequence = u64::from(position) * 2;
        rig.agent.handle(
            rig.now,
            AgentEvent::FromRunner {
                runner: RUNNER,
                message: FromRunner::Reports(vec![report(sequence + 1, WORK, position, 1, TaskState::Running)]),
            },
        );
        rig.agent.handle(
            rig.now,
            AgentEvent::FromRunner {
                runner: RUNNER,
                message: FromRunner::Reports(vec![report(sequence + 2, WORK, position, 1, TaskState::Finished)]),
            },
        );
    }
    rig.perform();
    let entries = rig.agent.durable.tenants[&framework(1)].log.len();
    assert!(entries < 700, "{entries}");
    rig.register();
    let ends = rig.updates().iter().filter(|update| update.status.state == TaskState::Finished).count();
    assert_eq!(ends, 600);
}

#[test]
fn what_each_task_used_is_kept_through_the_log_and_a_restart() {
    let used = |fuel| Usage { fuel, ..Usage::default() };
    let mut rig = Rig::registered();
    rig.launch(launch("a", 4, 4));
    rig.prepared(WORK);
    rig.hello(RUNNER, &[]);
    let both = |sequence, first, fuel| RunnerReport {
        usages: Usages::new([used(fuel), used(fuel + 1)]),
        ..report(sequence, WORK, first, 2, TaskState::Finished)
    };
    rig.reports(vec![both(1, 0, 1), both(2, 2, 3)]);
    let update = rig.updates().remove(0);
    assert_eq!((update.first, update.count), (0, 4));
    assert_eq!(update.usages.entries(), [1, 2, 3, 4].map(used));
    let mut again = Rig::recovered(rig.agent.snapshot(), options(), rig.now);
    again.register();
    assert_eq!(again.updates()[0].usages, update.usages);
}

#[test]
fn the_time_of_preparation_counts_as_time_in_the_queue() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 1, 1));
    rig.now = rig.now + Duration::from_secs(2);
    rig.prepared(WORK);
    rig.hello(RUNNER, &[]);
    let mut end = report(1, WORK, 0, 1, TaskState::Finished);
    end.status.usage.queued = Duration::from_secs(3);
    rig.reports(vec![end]);
    assert_eq!(rig.updates()[0].status.usage.queued, Duration::from_secs(5));
}

#[test]
fn what_a_preparation_waits_for_is_told_while_its_tasks_stay_in_staging() {
    let mut rig = Rig::registered();
    rig.launch(launch("a", 3, 3));
    let delayed = |message: &str| AgentEvent::Delayed { work: WORK, message: message.into() };
    rig.event(delayed("waits for a compile worker"));
    let said = |rig: &Rig| -> Vec<String> {
        let runs = rig.agent.durable.works[&WORK].runs();
        runs.iter().map(|run| format!("{} {} {}", run.count, run.status.state, run.status.message)).collect()
    };
    assert_eq!(said(&rig), ["3 STAGING waits for a compile worker"]);
    assert_eq!(rig.told(), ["1 a[0+3] STAGING"]);
    rig.event(delayed("waits for a compile worker"));
    assert_eq!(rig.told(), ["1 a[0+3] STAGING"], "the same was told twice");
    rig.prepared(WORK);
    rig.hello(RUNNER, &[]);
    rig.event(delayed("late"));
    assert_eq!(said(&rig), ["3 STAGING waits for a compile worker"]);
    rig.reports(vec![report(1, WORK, 0, 3, TaskState::Finished)]);
    assert_eq!(rig.told(), ["1 a[0+3] STAGING", "2 a[0+3] FINISHED"]);
}
