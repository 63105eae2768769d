//! Registration, reports, epochs, silence.

use std::time::Duration;

use super::*;

#[test]
fn the_first_registration_is_written_down_and_synced_before_anything_is_said() {
    let mut rig = Rig::new(options());
    rig.register();
    let identity = rig.agent.identity().unwrap();
    assert_eq!((identity.0, identity.2, identity.3), (agent_id(), ClusterId(9), Epoch(1)));
    let at = |wanted: fn(&AgentEffect) -> bool| rig.effects.iter().rposition(wanted).unwrap();
    let sync = at(|effect| matches!(effect, AgentEffect::Sync));
    let report =
        at(|effect| matches!(effect, AgentEffect::ToMaster { message: ToMaster::Report { last: true, .. }, .. }));
    assert!(matches!(&rig.effects[sync - 1], AgentEffect::Checkpoint(_)));
    assert!(sync < report);
}

#[test]
fn a_restarted_agent_presents_who_it_is() {
    let mut rig = Rig::registered();
    rig.restart();
    rig.event(AgentEvent::Connected { session: SessionId(1) });
    let Some(ToMaster::Register(registration)) = rig.to_master().into_iter().next() else { panic!("no registration") };
    assert_eq!((registration.id, registration.cluster), (Some(agent_id()), Some(ClusterId(9))));
    assert_eq!((registration.highest_epoch, registration.incarnation.0), (Epoch(1), 1));
}

#[test]
fn masters_of_lower_epochs_and_other_clusters_are_not_obeyed() {
    let registered =
        |agent, cluster, epoch| ToAgent::Registered { agent, secret: None, cluster, epoch, silence: SILENCE };
    let cases = [
        (registered(agent_id(), ClusterId(9), Epoch(4)), "epoch is 4"),
        (registered(agent_id(), ClusterId(8), Epoch(5)), "is of cluster"),
        (registered(AgentId::new(Epoch(1), 2), ClusterId(9), Epoch(5)), "calls the agent agent-1-2"),
    ];
    for (message, complaint) in cases {
        let mut rig = Rig::new(options());
        rig.session = SessionId(1);
        rig.event(AgentEvent::Connected { session: SessionId(1) });
        rig.admit(Epoch(5));
        rig.session = SessionId(2);
        rig.event(AgentEvent::Connected { session: SessionId(2) });
        rig.master(message);
        assert!(rig.reconnects().unwrap().contains(complaint));
        rig.launch(launch("a", 1, 1));
        assert_eq!(rig.agent.works().count(), 0);
    }
}

#[test]
fn a_higher_epoch_is_remembered_across_a_restart() {
    let mut rig = Rig::registered();
    rig.session = SessionId(5);
    rig.event(AgentEvent::Connected { session: SessionId(5) });
    rig.admit(Epoch(7));
    rig.restart();
    assert_eq!(rig.agent.identity().unwrap().3, Epoch(7));
}

#[test]
fn an_admission_without_a_secret_is_no_admission() {
    let mut rig = Rig::new(options());
    rig.session = SessionId(1);
    rig.event(AgentEvent::Connected { session: SessionId(1) });
    let (agent, cluster) = (agent_id(), ClusterId(9));
    rig.master(ToAgent::Registered { agent, secret: None, cluster, epoch: Epoch(1), silence: SILENCE });
    assert!(rig.reconnects().unwrap().contains("secret"));
    assert!(rig.agent.identity().is_none());
}

#[test]
fn a_refused_agent_says_so_and_stays_away() {
    let mut rig = Rig::new(options());
    rig.session = SessionId(1);
    rig.event(AgentEvent::Connected { session: SessionId(1) });
    rig.master(ToAgent::Refused { message: "copied directory".into() });
    assert!(
        rig.has(|effect| matches!(effect, AgentEffect::Refused { message, .. } if &**message == "copied directory"))
    );
    assert_eq!(rig.agent.next_wake(), None);
}

#[test]
fn a_silent_master_is_left_and_any_word_counts_as_life() {
    let mut rig = Rig::registered();
    rig.advance(Duration::from_secs(14));
    rig.master(ToAgent::Ping);
    assert!(rig.to_master().iter().any(|message| matches!(message, ToMaster::Pong)));
    rig.advance(Duration::from_secs(14));
    assert_eq!(rig.reconnects(), None);
    assert_eq!(rig.agent.next_wake(), Some(rig.now + Duration::from_secs(1)));
    rig.advance(Duration::from_secs(1));
    assert!(rig.reconnects().unwrap().contains("silent"));
}

#[test]
fn a_master_that_does_not_answer_a_registration_is_left() {
    let mut rig = Rig::new(options());
    rig.event(AgentEvent::Connected { session: SessionId(1) });
    rig.advance(crate::REGISTRATION_TIMEOUT);
    assert!(rig.reconnects().is_some());
}

#[test]
fn only_the_latest_stream_is_heard() {
    let mut rig = Rig::registered();
    rig.event(AgentEvent::Connected { session: SessionId(9) });
    rig.launch(launch("a", 1, 1));
    rig.event(AgentEvent::Disconnected { session: SessionId(1) });
    assert_eq!(rig.agent.works().count(), 0);
    assert_eq!(rig.agent.counters().stale_messages, 1);
    assert!(rig.agent.link.session() == Some(SessionId(9)));
}

#[test]
fn after_registration_everything_live_and_unacknowledged_is_reported_and_sent_again() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 3, 2));
    rig.reports(vec![report(1, WORK, 0, 1, TaskState::Finished)]);
    rig.event(AgentEvent::Disconnected { session: rig.session });
    rig.reports(vec![report(2, WORK, 1, 1, TaskState::Running)]);
    rig.effects.clear();
    rig.register();
    let reported = rig.reported();
    let states: Vec<_> = reported[0].runs.iter().map(|run| (run.count, run.status.state)).collect();
    assert_eq!(states, [(1, TaskState::Finished), (1, TaskState::Running), (1, TaskState::Staging)]);
    assert_eq!(rig.told(), ["1 a[0+1] FINISHED", "2 a[1+1] RUNNING"]);
}

#[test]
fn a_large_report_comes_in_pages_that_each_fit() {
    let mut options = options();
    options.info.resources = "cpus:5000;mem:5000GiB".parse().unwrap();
    let mut rig = Rig::new(options);
    rig.register();
    for number in 0..3u64 {
        let work = rig.run(launch(&format!("a{number}"), 4096, 1));
        let long: Arc<str> = "x".repeat(4000).into();
        let reports = (0..4096u32).map(|position| {
            let status = TaskStatus {
                message: long.clone(),
                exit_code: Some(position as i32 + 1),
                ..TaskStatus::of(TaskState::Failed)
            };
            RunnerReport {
                sequence: number * 4096 + u64::from(position) + 1,
                work,
                first: position,
                count: 1,
                status,
                usages: Usages::default(),
            }
        });
        rig.reports(reports.collect());
    }
    rig.effects.clear();
    rig.register();
    let pages = rig.to_master().into_iter().filter_map(|message| match message {
        ToMaster::Report { batches, last } => Some((batches, last)),
        _ => None,
    });
    let pages: Vec<_> = pages.collect();
    assert_eq!(
        pages.iter().map(|(batches, last)| (batches.len(), *last)).collect::<Vec<_>>(),
        [(1, false), (1, false), (1, true)]
    );
    let bytes = |batch: &BatchReport| batch.runs.iter().map(|run| run.status.message.len() + 96).sum::<usize>();
    assert!(pages.iter().all(|(batches, _)| bytes(&batches[0]) < 1 << 20));
    // The whole text follows in the updates, in messages of bounded size.
    assert_eq!(rig.updates().len(), 3 * 4096);
    assert!(rig.updates().iter().all(|update| update.status.message.len() == 4000));
    let largest = rig.to_master().into_iter().filter_map(|message| match message {
        ToMaster::Updates { updates, .. } => {
            Some(updates.iter().map(|update| update.status.message.len()).sum::<usize>())
        }
        _ => None,
    });
    assert!(largest.max().unwrap() <= crate::PAGE_BYTES);
}

#[test]
fn a_reboot_or_lost_records_begin_a_new_incarnation_without_works() {
    let mut rig = Rig::registered();
    rig.run(launch("a", 2, 2));
    let records = rig.records.clone();
    let rebooted = AgentOptions { boot: BootId("boot-2".into()), ..options() };
    let lost = AgentOptions { records_lost: true, ..options() };
    for options in [rebooted, lost] {
        let mut rig = Rig::recovered(records.clone(), options.clone(), Time::ZERO);
        assert_eq!(rig.agent.incarnation().0, 2);
        assert_eq!((rig.agent.works().count(), rig.agent.runners().count()), (0, 0));
        assert_eq!(rig.agent.held().to_string(), "");
        assert!(rig.has(|effect| matches!(effect, AgentEffect::Cleanup { work: WORK, .. })));
        assert!(rig.has(|effect| matches!(effect, AgentEffect::StopRunner { runner: RUNNER, .. })));
        assert_eq!(rig.agent.identity().unwrap().0, agent_id());
        // Work and runner numbers are not used again.
        rig.register();
        assert_eq!(rig.run(launch("a", 1, 1)), WorkId(1));
        assert_eq!(rig.agent.runners().next().unwrap().0, RunnerId(1));
    }
}
