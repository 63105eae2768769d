//! The organisation's policy: when it is asked, what its answers do, and what its failures do not.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::{Delta, Event, Options, Policy, StrictPriority};

fn strict() -> StrictPriority {
    StrictPriority { priorities: BTreeMap::from([("z".to_owned(), 10), ("m".to_owned(), 5)]) }
}

fn cluster() -> Cluster {
    Cluster::with(Options { policy: Some(strict().describe()), ..Options::default() })
}

impl Cluster {
    /// What the policy is asked now; none when it is not.
    fn take_asked(&mut self) -> Option<(u64, bool, Vec<PolicyPatch>)> {
        assert!(self.asked.len() <= 1, "more than one request is out: {:?}", self.asked);
        self.asked.pop()
    }

    fn ranked(&mut self, request: u64, answer: Result<Vec<PolicyPatch>, PolicyFailure>) {
        self.send(Event::Ranked { request, answer, cost: PolicyCost::default() });
    }

    /// The policy answers for as long as it is asked.
    fn rank(&mut self) {
        self.settle();
        while let Some((request, _, changes)) = self.take_asked() {
            self.ranked(request, strict().rank(&changes));
            self.pass(Duration::from_millis(20));
        }
    }

    fn phase(&self) -> PolicyPhase {
        let views = self.deltas.iter().rev().filter_map(|delta| match delta {
            Delta::PolicyChanged(view) => Some(view.phase.clone()),
            _ => None,
        });
        views.into_iter().next().unwrap_or(PolicyPhase::Waiting)
    }
}

fn paths(changes: &[PolicyPatch]) -> Vec<String> {
    let texts = changes.iter().flat_map(|patch| &patch.columns).filter_map(|column| match &column.values {
        PolicyValues::Texts(texts) => Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>()),
        _ => None,
    });
    let mut all: Vec<String> = texts.flatten().collect();
    all.sort();
    all
}

#[test]
fn the_role_that_the_policy_ranks_first_is_served_first() {
    let mut cluster = cluster();
    let (a, m, z) = (cluster.framework("a"), cluster.framework("m"), cluster.framework("z"));
    cluster.rank();
    assert_eq!(cluster.phase(), PolicyPhase::InForce);
    cluster.agent("cpus:4;mem:8GiB");
    let offers = cluster.offers(z);
    assert_eq!((offers.len(), cluster.offers(m).len(), cluster.offers(a).len()), (1, 0, 0));
    // What the first does not want, the second is offered, although its share is no smaller than the third's.
    let refusal = Refusal::new(Duration::from_secs(100));
    cluster.call(z, Call::Decline { offers: vec![offers[0].id], refusal });
    assert_eq!((cluster.offers(m).len(), cluster.offers(a).len()), (1, 0));
    // It goes on being first with everything in its hands.
    cluster.agent("cpus:4;mem:8GiB");
    assert_eq!((cluster.offers(z).len(), cluster.offers(a).len()), (1, 0));
}

#[test]
fn without_an_answer_the_built_in_order_is_in_force_and_nobody_waits() {
    let mut cluster = cluster();
    let (a, z) = (cluster.framework("a"), cluster.framework("z"));
    assert!(cluster.take_asked().is_some());
    cluster.agent("cpus:4;mem:8GiB");
    assert_eq!((cluster.offers(a).len(), cluster.offers(z).len()), (1, 0));
    assert_eq!(cluster.phase(), PolicyPhase::Waiting);
}

#[test]
fn it_is_asked_once_at_a_time_and_only_when_what_it_reads_has_changed() {
    let mut cluster = cluster();
    cluster.framework("a");
    let (request, fresh, changes) = cluster.take_asked().expect("a role is new");
    assert!(fresh);
    assert_eq!(paths(&changes), ["a"]);
    let z = cluster.framework("z");
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.take_asked().is_none(), "a request is out");
    cluster.ranked(request, strict().rank(&changes));
    cluster.pass(Duration::from_millis(20));
    let (request, fresh, changes) = cluster.take_asked().expect("another role is new");
    assert!(!fresh);
    assert_eq!(paths(&changes), ["z"]);
    cluster.ranked(request, strict().rank(&changes));
    // Usage changes, and the policy does not read it.
    cluster.agent("cpus:4;mem:8GiB");
    let offers = cluster.offers(z);
    cluster.accept(z, &offers, vec![single("t", "cpus:1;mem:1GiB")], Refusal::default());
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.take_asked().is_none());
}

#[test]
fn a_failure_puts_the_built_in_order_in_force_and_is_tried_again_after_longer_and_longer() {
    let mut cluster = cluster();
    let (a, z) = (cluster.framework("a"), cluster.framework("z"));
    cluster.rank();
    cluster.framework("b");
    cluster.settle();
    cluster.pass(Duration::from_millis(20));
    let (request, ..) = cluster.take_asked().expect("a role is new");
    let trap = PolicyFailure::Trapped("unreachable".to_owned());
    cluster.ranked(request, Err(trap.clone()));
    assert_eq!(cluster.phase(), PolicyPhase::Fallback { failure: trap, retry_after: Duration::from_secs(1) });
    cluster.agent("cpus:4;mem:8GiB");
    assert_eq!((cluster.offers(a).len(), cluster.offers(z).len()), (1, 0), "the built-in order");
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        cluster.pass(Duration::from_millis(seconds * 1000 - 100));
        assert!(cluster.take_asked().is_none(), "{seconds} s are not over");
        cluster.pass(Duration::from_millis(200));
        let (request, fresh, changes) = cluster.take_asked().expect("it is tried again");
        assert!(fresh && paths(&changes) == ["a", "b", "z"], "a new instance is told everything: {changes:?}");
        cluster.ranked(request, Err(PolicyFailure::Fuel(1)));
    }
    cluster.pass(Duration::from_secs(301));
    let (request, _, changes) = cluster.take_asked().expect("it is tried again");
    cluster.ranked(request, strict().rank(&changes));
    assert_eq!(cluster.phase(), PolicyPhase::InForce);
}

#[test]
fn an_answer_that_makes_no_sense_changes_nothing_and_counts_as_a_failure() {
    let mut cluster = cluster();
    let (a, z) = (cluster.framework("a"), cluster.framework("z"));
    cluster.rank();
    cluster.framework("b");
    cluster.pass(Duration::from_millis(20));
    let (request, _, changes) = cluster.take_asked().expect("a role is new");
    let mut answer = strict().rank(&changes).unwrap();
    answer[0].rows[0] = 77;
    cluster.ranked(request, Ok(answer));
    let PolicyPhase::Fallback { failure: PolicyFailure::Nonsense(why), .. } = cluster.phase() else {
        panic!("{:?}", cluster.phase())
    };
    assert_eq!(why, "it ranks row 77 of roles, which the policy was not told");
    cluster.agent("cpus:4;mem:8GiB");
    assert_eq!((cluster.offers(a).len(), cluster.offers(z).len()), (1, 0));
}

#[test]
fn an_answer_that_does_not_come_is_given_up_and_its_late_answer_ignored() {
    let mut cluster = cluster();
    cluster.framework("a");
    let (request, _, changes) = cluster.take_asked().expect("a role is new");
    cluster.pass(Duration::from_secs(60));
    assert!(matches!(cluster.phase(), PolicyPhase::Fallback { failure: PolicyFailure::Host(_), .. }));
    cluster.ranked(request, strict().rank(&changes));
    assert!(matches!(cluster.phase(), PolicyPhase::Fallback { .. }), "nobody waits for it any more");
}

#[test]
fn an_expensive_policy_rests_four_times_as_long_as_it_took() {
    let mut cluster = cluster();
    cluster.framework("a");
    let (request, _, changes) = cluster.take_asked().expect("a role is new");
    let cost = PolicyCost { time: Duration::from_millis(500), fuel: 1 };
    cluster.send(Event::Ranked { request, answer: strict().rank(&changes), cost });
    cluster.framework("b");
    cluster.pass(Duration::from_millis(1900));
    assert!(cluster.take_asked().is_none());
    cluster.pass(Duration::from_millis(200));
    assert!(cluster.take_asked().is_some());
}
