//! Who has to give is asked first, and chooses; what is missing at the deadline is taken.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::{
    Delta, Event, OperatorCall, Options, PreemptionOptions, PreemptionPhase, PreemptionRule, PreemptionView, RequestId,
    RolesUpdate, ScaleDown,
};

const SHAPE: &str = "cpus:1;mem:1GiB";
const DEADLINE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

fn guaranteed(preemption: PreemptionOptions) -> Cluster {
    Cluster::with(Options { preemption, ..Options::default() })
}

/// An operator guarantees this to role `a`.
fn guarantee(cluster: &mut Cluster, guarantee: &str) {
    let update = RoleUpdate { role: role("a"), weight: None, guarantee: Some(resources(guarantee)), limit: None };
    let update = RolesUpdate { updates: vec![update], dry_run: false, force: false };
    let (request, principal) = (RequestId(1), Principal::Operator("root".into()));
    cluster.send(Event::Operator { request, principal, call: OperatorCall::UpdateRoles(update) });
    assert!(cluster.replies.pop().unwrap().is_ok());
}

/// A framework in role `b` that runs `count` single tasks for half a minute, the last of which started last.
fn hog(cluster: &mut Cluster, agent: TestAgent, count: u64) -> TestFramework {
    let hog = cluster.framework("b");
    let names: Vec<String> = (1..=count).map(|number| format!("t{number}")).collect();
    cluster.launch(hog, names.iter().map(|name| single(name, SHAPE)).collect());
    for (sequence, name) in (1..).zip(&names) {
        cluster.pass(Duration::from_secs(1));
        cluster.updates(agent, hog.id, vec![update(sequence, name, 0, 1, TaskState::Running)]);
    }
    cluster.pass(Duration::from_secs(31));
    cluster.heard(hog);
    // Later: what is guaranteed from the start is kept free from the start.
    guarantee(cluster, if count == 8 { "cpus:8;mem:8GiB" } else { "cpus:2;mem:2GiB" });
    hog
}

fn asked(cluster: &Cluster, of: TestFramework) -> Vec<InverseOffer> {
    let events = cluster.events.get(&of.session).into_iter().flatten();
    let offers = events.filter_map(|event| match event {
        SchedulerEvent::InverseOffers(offers) => Some(offers.clone()),
        _ => None,
    });
    offers.flatten().collect()
}

/// What an agent was told to take: launch, first position, count.
fn taken(cluster: &Cluster, agent: TestAgent) -> Vec<(String, u32, u32)> {
    let messages = cluster.messages.get(&agent.session).into_iter().flatten();
    let preempt = |message: &ToAgent| match message {
        ToAgent::Preempt { batch, first, count, .. } => Some((batch.to_string(), *first, *count)),
        _ => None,
    };
    messages.filter_map(preempt).collect()
}

fn trimmed(cluster: &Cluster, agent: TestAgent) -> Vec<(String, u32)> {
    let messages = cluster.messages.get(&agent.session).into_iter().flatten();
    let trim = |message: &ToAgent| match message {
        ToAgent::Trim { batch, from, .. } => Some((batch.to_string(), *from)),
        _ => None,
    };
    messages.filter_map(trim).collect()
}

/// The latest of what audits see of each preemption.
fn audits(cluster: &Cluster) -> Vec<PreemptionView> {
    let views = cluster.deltas.iter().filter_map(|delta| match delta {
        Delta::Preemption(view) => Some((view.id, view.clone())),
        _ => None,
    });
    views.collect::<std::collections::BTreeMap<_, _>>().into_values().collect()
}

fn span(text: &str) -> TaskSpan {
    TaskSpan { batch: text.parse().unwrap(), tasks: TaskRange::Single }
}

#[test]
fn whoever_is_asked_chooses_what_it_gives() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    let owed = cluster.framework("a");
    cluster.pass(Duration::from_secs(1));
    let offers = asked(&cluster, hog);
    assert_eq!(offers.len(), 1);
    assert_eq!((offers[0].reason, offers[0].deadline), (InverseReason::Preemption, DEADLINE));
    assert_eq!((offers[0].agent, offers[0].beneficiary.clone()), (Some(agent.id), Some(role("a"))));
    assert_eq!(offers[0].resources, resources(SHAPE));
    assert!(taken(&cluster, agent).is_empty(), "nothing is taken before the deadline");

    // It would rather lose its oldest.
    let tasks = vec![span("t1")];
    cluster.call(hog, Call::AcceptInverse { offer: offers[0].id, tasks: tasks.clone(), grace: Some(GRACE) });
    assert_eq!(taken(&cluster, agent), [("t1".to_owned(), 0, 1)]);
    let audit = audits(&cluster).remove(0);
    assert_eq!((audit.phase, audit.tasks), (PreemptionPhase::Chosen, tasks));
    cluster.updates(agent, hog.id, vec![update(5, "t1", 0, 1, TaskState::Killed)]);
    assert_eq!(cluster.offers(owed)[0].resources, resources(SHAPE));
    cluster.pass(DEADLINE * 2);
    assert_eq!(taken(&cluster, agent).len(), 1, "more was taken than was needed");
    let audit = audits(&cluster).remove(0);
    assert_eq!(audit.phase, PreemptionPhase::Given);
    assert_eq!(audit.rule, PreemptionRule::Guarantee(role("a")));
    assert_eq!((audit.framework, audit.for_framework), (hog.id, owed.id));
}

#[test]
fn whoever_does_not_answer_loses_its_youngest_at_the_deadline() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    cluster.framework("a");
    cluster.pass(DEADLINE);
    assert!(taken(&cluster, agent).is_empty());
    cluster.pass(Duration::from_secs(2));
    assert_eq!(taken(&cluster, agent), [("t4".to_owned(), 0, 1)]);
    let audit = audits(&cluster).remove(0);
    assert_eq!((audit.phase, audit.tasks), (PreemptionPhase::Taken, vec![span("t4")]));
    let messages = cluster.messages.get(&agent.session).unwrap();
    let told = messages.iter().find_map(|message| match message {
        ToAgent::Preempt { grace, message, .. } => Some((*grace, message.to_string())),
        _ => None,
    });
    let (grace, message) = told.unwrap();
    assert_eq!(grace, Some(GRACE));
    assert!(message.contains("the guarantee of a is not met") && message.contains("inverse-1-1"), "{message}");
    assert!(!asked(&cluster, hog).is_empty());
}

#[test]
fn declining_leaves_the_choice_to_the_master_at_once() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    cluster.framework("a");
    cluster.pass(Duration::from_secs(1));
    let offers = asked(&cluster, hog).into_iter().map(|offer| offer.id).collect();
    cluster.call(hog, Call::DeclineInverse { offers });
    assert_eq!(taken(&cluster, agent), [("t4".to_owned(), 0, 1)]);
}

#[test]
fn nothing_is_taken_for_somebody_who_has_left() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    let owed = cluster.framework("a");
    cluster.pass(Duration::from_secs(1));
    assert_eq!(asked(&cluster, hog).len(), 1);
    cluster.call(owed, Call::Teardown);
    cluster.pass(DEADLINE * 2);
    assert!(taken(&cluster, agent).is_empty());
    assert_eq!(audits(&cluster)[0].phase, PreemptionPhase::Withdrawn);
    let withdrawn = |event: &SchedulerEvent| matches!(event, SchedulerEvent::InverseRescinded(ids) if ids.len() == 1);
    assert!(cluster.events[&hog.session].iter().any(withdrawn));
}

#[test]
fn a_batch_of_somebody_above_its_share_loses_its_unstarted_end_only() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:2;mem:2GiB");
    let hog = cluster.framework("b");
    cluster.launch(hog, vec![array("tiles", 100, 2, SHAPE)]);
    cluster.updates(agent, hog.id, vec![update(1, "tiles", 0, 2, TaskState::Running)]);
    let newcomer = cluster.framework("a");
    cluster.pass(Duration::from_secs(2));
    assert_eq!(asked(&cluster, hog)[0].reason, InverseReason::ScaleDown);
    cluster.pass(DEADLINE - Duration::from_millis(500));
    assert_eq!((trimmed(&cluster, agent), taken(&cluster, agent)), (vec![("tiles".to_owned(), 2)], vec![]));
    let mut tail = update(2, "tiles", 2, 98, TaskState::Killed);
    tail.status.reason = Some(Reason::Trimmed);
    cluster.updates(agent, hog.id, vec![tail]);
    assert!(cluster.offers(newcomer).is_empty(), "what runs there runs on");
    cluster.pass(Duration::from_secs(10));
    assert_eq!(asked(&cluster, hog).len(), 1, "there is nothing more to give");
    cluster.updates(agent, hog.id, vec![update(3, "tiles", 0, 1, TaskState::Finished)]);
    assert_eq!(cluster.offers(newcomer)[0].resources, resources(SHAPE));
}

#[test]
fn a_detached_run_keeps_its_tasks_unless_the_operator_wants_otherwise() {
    for (scale_down, trims) in [(ScaleDown::Connected, 0), (ScaleDown::All, 1), (ScaleDown::Off, 0)] {
        let preemption = PreemptionOptions { scale_down, ..PreemptionOptions::default() };
        let mut cluster = Cluster::with(Options { preemption, ..Options::default() });
        let agent = cluster.agent("cpus:2;mem:2GiB");
        let hog = cluster.framework_with(FrameworkInfo { failover_timeout: DEADLINE * 100, ..info(&["b"]) });
        cluster.launch(hog, vec![array("tiles", 100, 2, SHAPE)]);
        cluster.updates(agent, hog.id, vec![update(1, "tiles", 0, 2, TaskState::Running)]);
        cluster.send(Event::FrameworkClosed { session: hog.session });
        cluster.framework("a");
        cluster.pass(DEADLINE + Duration::from_secs(5));
        assert_eq!(trimmed(&cluster, agent).len(), trims, "{scale_down}");
    }
}

#[test]
fn a_framework_that_comes_back_is_asked_again() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    cluster.send(Event::FrameworkClosed { session: hog.session });
    cluster.framework("a");
    cluster.pass(Duration::from_secs(11));
    let hog = cluster.resubscribe(hog, info(&["b"]));
    let offers = asked(&cluster, hog);
    assert_eq!((offers.len(), offers[0].deadline), (1, Duration::from_secs(50)));
}

#[test]
fn answers_that_make_no_sense_are_refused_and_harm_nothing() {
    let mut cluster = guaranteed(PreemptionOptions::default());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    let owed = cluster.framework("a");
    cluster.pass(Duration::from_secs(1));
    let offer = asked(&cluster, hog)[0].id;
    let give = |offer, tasks| Call::AcceptInverse { offer, tasks, grace: None };
    cluster.call(owed, give(offer, vec![span("t1")]));
    cluster.call(hog, give(InverseOfferId::new(Epoch(1), 99), vec![span("t1")]));
    cluster.call(hog, give(offer, vec![span("nothing")]));
    let beyond = TaskSpan { batch: "t1".parse().unwrap(), tasks: TaskRange::Array { first: 0, count: 9 } };
    cluster.call(hog, give(offer, vec![beyond]));
    cluster.call(hog, give(offer, vec![span("t1"); MAX_GIVEN_SPANS + 1]));
    assert_eq!(cluster.errors(owed.session).len(), 1);
    let errors = cluster.errors(hog.session);
    assert_eq!(errors.len(), 4);
    assert!(errors[3].0.contains("4097") && errors[3].0.contains("4096"), "{errors:?}");
    assert!(taken(&cluster, agent).is_empty());
}

#[test]
fn no_more_is_taken_in_a_minute_than_the_rate_allows() {
    let mut cluster = guaranteed(PreemptionOptions { rate: 3, ..PreemptionOptions::default() });
    let agent = cluster.agent("cpus:8;mem:8GiB");
    let hog = hog(&mut cluster, agent, 8);
    let owed = cluster.framework("a");
    let shape = Demand::new("work".parse().unwrap(), resources(SHAPE), 8);
    cluster.call(owed, Call::Demand { role: role("a"), demands: vec![shape] });
    cluster.pass(Duration::from_secs(2));
    let amount = |offers: Vec<InverseOffer>| {
        offers.iter().map(|offer| offer.resources.scalar(&ResourceName::Cpus).0).sum::<u64>()
    };
    assert_eq!(amount(asked(&cluster, hog)), 3000);
}

#[test]
fn preemption_that_is_off_takes_nothing() {
    let mut cluster = guaranteed(PreemptionOptions::off());
    let agent = cluster.agent("cpus:4;mem:4GiB");
    let hog = hog(&mut cluster, agent, 4);
    cluster.framework("a");
    cluster.pass(DEADLINE * 3);
    assert!(asked(&cluster, hog).is_empty() && taken(&cluster, agent).is_empty());
}
