//! What is too large for a message becomes several, and nothing of it is lost.

use holm_model::*;
use holm_proto::{FromAgent, FromFramework, Message, Problem, limits, pages};

use crate::samples;

fn chatty(state: TaskState) -> TaskStatus {
    TaskStatus::because(state, Reason::Trap, "x".repeat(limits::MAX_EXPLANATION_BYTES))
}

fn update(sequence: u64, status: TaskStatus) -> Update {
    Update { sequence, batch: "a".parse().unwrap(), first: 0, count: 1, status, usages: Usages::default() }
}

#[test]
fn a_long_log_arrives_in_order_over_several_messages() {
    let updates: Vec<_> = (1..=3000).map(|sequence| update(sequence, chatty(TaskState::Failed))).collect();
    let message =
        ToMaster::Updates { framework: samples::framework(), incarnation: Incarnation(1), updates: updates.clone() };
    let mut got = Vec::new();
    for page in pages::to_master(&message) {
        assert!(page.encoded_len() <= limits::PAGE_BYTES + 1024);
        let Ok(FromAgent::Message(ToMaster::Updates { updates, .. })) = FromAgent::try_from(page) else {
            panic!("a page was refused")
        };
        got.extend(updates);
    }
    assert_eq!(got, updates);
}

#[test]
fn many_small_items_stay_within_the_limit_of_a_list() {
    let ids: Vec<_> = (0..20_000).map(samples::offer_id).collect();
    let mut got = Vec::new();
    for page in pages::event(&SchedulerEvent::Rescinded(ids.clone())) {
        let Ok(SchedulerEvent::Rescinded(part)) = SchedulerEvent::try_from(page) else { panic!("a page was refused") };
        got.extend(part);
    }
    assert_eq!(got, ids);
}

#[test]
fn only_the_final_page_of_a_report_is_the_last() {
    let run = |_| StatusRun { count: 1, status: chatty(TaskState::Failed) };
    let report = BatchReport {
        tasks: TaskRange::Array { first: 0, count: 200 },
        runs: (0..200).map(run).collect(),
        ..samples::report()
    };
    let message = ToMaster::Report { batches: vec![report.clone(), report.clone(), report], last: true };
    let pages = pages::to_master(&message);
    assert!(pages.len() > 1);
    let lasts: Vec<bool> = pages
        .into_iter()
        .map(|page| match FromAgent::try_from(page) {
            Ok(FromAgent::Message(ToMaster::Report { last, .. })) => last,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lasts.iter().filter(|last| **last).count(), 1);
    assert_eq!(lasts.last(), Some(&true));
}

#[test]
fn an_empty_last_page_is_still_sent() {
    let event =
        SchedulerEvent::Tasks { agent: samples::agent(), incarnation: Incarnation(1), batches: vec![], last: true };
    assert_eq!(pages::event(&event).len(), 1);
}

#[test]
fn a_report_full_of_backtraces_fits_a_message() {
    let run = |fuel| StatusRun {
        count: 1,
        status: TaskStatus { usage: Usage { fuel, ..samples::usage() }, ..chatty(TaskState::Failed) },
    };
    let report = BatchReport {
        tasks: TaskRange::Array { first: 0, count: MAX_BATCH_TASKS },
        runs: (0..MAX_BATCH_TASKS.into()).map(run).collect(),
        ..samples::report()
    };
    let pages = pages::to_master(&ToMaster::Report { batches: vec![report], last: true });
    assert_eq!(pages.len(), 1);
    assert!(pages[0].encoded_len() < limits::MAX_TO_MASTER_BYTES);
    let Ok(FromAgent::Message(ToMaster::Report { batches, .. })) = FromAgent::try_from(pages[0].clone()) else {
        panic!("the report was refused")
    };
    assert_eq!(batches[0].runs.len(), MAX_BATCH_TASKS as usize);
    assert_eq!(batches[0].runs[4095].status.usage.fuel, 4095);
}

#[test]
fn a_decline_of_many_offers_is_split() {
    let offers: Vec<_> = (0..3000).map(samples::offer_id).collect();
    let call = Call::Decline { offers: offers.clone(), refusal: Refusal::NONE };
    let mut got = Vec::new();
    for envelope in pages::call(1, &call).unwrap() {
        let Ok(FromFramework::Call { call: Call::Decline { offers, .. }, .. }) = FromFramework::try_from(envelope)
        else {
            panic!("a part was refused")
        };
        got.extend(offers);
    }
    assert_eq!(got, offers);
}

#[test]
fn an_accept_that_no_master_would_take_is_refused_before_it_is_sent() {
    let offers = (0..1025).map(samples::offer_id).collect();
    let call = Call::Accept { offers, launches: vec![], refusal: Refusal::NONE };
    let error = pages::call(1, &call).unwrap_err();
    assert_eq!(error.to_string(), "accept.offer_ids: 1025 entries are over the limit of 1024");
    let spec = TaskSpec { args: vec!["x".repeat(5 << 20).into()], ..TaskSpec::default() };
    let launch = Launch { spec: spec.into(), ..samples::launches().remove(0) };
    let call = Call::Accept { offers: vec![], launches: vec![launch], refusal: Refusal::NONE };
    assert!(matches!(pages::call(1, &call).unwrap_err().problem, Problem::TooLong { limit, .. } if limit == 4 << 20));
}
