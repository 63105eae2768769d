//! Offers: who gets them, what ends them, what a refusal means.

use std::time::Duration;

use holm_model::*;

use super::harness::*;
use crate::Options;

#[test]
fn a_connected_framework_is_offered_what_is_free() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 1);
    assert_eq!((offers[0].agent, &offers[0].resources), (agent.id, &resources("cpus:4;mem:8GiB")));
    assert_eq!(offers[0].framework, framework.id);
}

#[test]
fn declined_resources_stay_away_for_as_long_as_was_asked() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    let refusal = Refusal::new(Duration::from_secs(5));
    cluster.call(framework, Call::Decline { offers: vec![offers[0].id], refusal });
    cluster.pass(Duration::from_secs(4));
    assert!(cluster.offers(framework).is_empty());
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn resources_declined_without_a_filter_come_back_at_once() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    cluster.call(framework, Call::Decline { offers: vec![offers[0].id], refusal: Refusal::NONE });
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn what_one_framework_declines_another_is_offered() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let (first, second) = (cluster.framework("a"), cluster.framework("b"));
    let offers = cluster.offers(first);
    assert!(cluster.offers(second).is_empty());
    cluster.call(first, Call::Decline { offers: vec![offers[0].id], refusal: Refusal::default() });
    assert_eq!(cluster.offers(second).len(), 1);
}

#[test]
fn an_offer_that_is_held_too_long_is_rescinded_and_made_again() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.rescinded(framework), vec![offers[0].id]);
    let again = cluster.offers(framework);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].id, offers[0].id);
}

#[test]
fn a_framework_that_never_answers_is_asked_later_and_later_until_it_answers() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let mut made = 0;
    for _ in 0..200 {
        cluster.pass(Duration::from_secs(31));
        made += cluster.offers(framework).len();
    }
    assert!((5..60).contains(&made), "{made} offers in 6200 s");
    while cluster.offers(framework).is_empty() {
        cluster.pass(Duration::from_secs(31));
    }
}

#[test]
fn a_suppressed_framework_gets_no_offers_until_it_revives() {
    let mut cluster = Cluster::new();
    let framework = cluster.framework("a");
    cluster.call(framework, Call::Suppress { roles: Vec::new() });
    cluster.agent("cpus:4;mem:8GiB");
    assert!(cluster.offers(framework).is_empty());
    cluster.call(framework, Call::Revive { roles: vec![role("a")] });
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn reviving_forgets_refusals() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    cluster.call(framework, Call::Decline { offers: vec![offers[0].id], refusal: Refusal::new(MAX_REFUSE) });
    assert!(cluster.offers(framework).is_empty());
    cluster.call(framework, Call::Revive { roles: Vec::new() });
    assert_eq!(cluster.offers(framework).len(), 1);
}

#[test]
fn a_role_that_is_not_the_frameworks_own_is_named_in_the_refusal() {
    let mut cluster = Cluster::new();
    let framework = cluster.framework("a");
    cluster.call(framework, Call::Suppress { roles: vec![role("other")] });
    cluster.call(framework, Call::Revive { roles: vec![role("other")] });
    let errors = cluster.errors(framework.session);
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|(message, fatal)| message.contains("other") && !fatal));
}

#[test]
fn the_offers_of_a_lost_connection_go_to_others_at_once() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let first = cluster.framework("a");
    assert_eq!(cluster.offers(first).len(), 1);
    let second = cluster.framework("b");
    cluster.send(crate::Event::FrameworkClosed { session: first.session });
    assert_eq!(cluster.offers(second).len(), 1);
}

#[test]
fn the_offers_of_a_disconnected_agent_are_rescinded() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    cluster.send(crate::Event::AgentClosed { session: agent.session });
    assert_eq!(cluster.rescinded(framework), vec![offers[0].id]);
    assert!(cluster.offers(framework).is_empty());
}

#[test]
fn a_framework_holds_no_more_offers_than_its_limit() {
    let mut cluster = Cluster::with(Options { max_framework_offers: 2, ..Options::default() });
    for _ in 0..5 {
        cluster.agent("cpus:1;mem:1GiB");
    }
    let framework = cluster.framework("a");
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 2);
    let ids = offers.iter().map(|offer| offer.id).collect();
    cluster.call(framework, Call::Decline { offers: ids, refusal: Refusal::new(MAX_REFUSE) });
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.offers(framework).len(), 2, "the withheld ones follow");
}

/// The example of the DRF paper: 9 CPUs and 18 GiB; tasks of 1 CPU and 4 GiB against tasks of 3 CPUs and 1 GiB.
#[test]
fn the_example_of_the_drf_paper_comes_out_as_three_and_two_tasks() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:9;mem:18GiB");
    let frameworks = [(cluster.framework("a"), "cpus:1;mem:4GiB"), (cluster.framework("b"), "cpus:3;mem:1GiB")];
    let mut counts = [0, 0];
    for _ in 0..20 {
        for (at, (framework, shape)) in frameworks.iter().enumerate() {
            for offer in cluster.offers(*framework) {
                let fits = offer.resources.contains(&resources(shape));
                let id = format!("t{at}-{}", counts[at]);
                let launches = if fits { vec![single(&id, shape)] } else { Vec::new() };
                counts[at] += launches.len();
                cluster.accept(*framework, &[offer], launches, Refusal::NONE);
            }
        }
    }
    assert_eq!(counts, [3, 2]);
    assert_eq!(cluster.launched(agent).len(), 5);
}

#[test]
fn held_offers_are_rescinded_early_when_somebody_waits_with_empty_hands() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let silent = cluster.framework("a");
    let held = cluster.offers(silent);
    cluster.pass(Duration::from_secs(10));
    assert!(cluster.rescinded(silent).is_empty(), "nobody else wants it");
    let waiting = cluster.framework("b");
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.rescinded(silent), vec![held[0].id]);
    assert_eq!(cluster.offers(waiting).len(), 1);
    cluster.call(waiting, Call::Decline { offers: Vec::new(), refusal: Refusal::default() });
}

#[test]
fn who_has_seen_offers_and_wants_none_does_not_take_them_from_others() {
    let mut cluster = Cluster::new();
    for _ in 0..3 {
        cluster.agent("cpus:4;mem:8GiB");
    }
    let sated = cluster.framework("a");
    let offers: Vec<_> = cluster.offers(sated).iter().map(|offer| offer.id).collect();
    cluster.call(sated, Call::Decline { offers, refusal: Refusal::new(MAX_REFUSE) });
    let collector = cluster.framework("b");
    assert_eq!(cluster.offers(collector).len(), 3);
    cluster.pass(Duration::from_secs(25));
    assert!(cluster.rescinded(collector).is_empty());
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.rescinded(collector).len(), 3);
    assert_eq!(cluster.offers(collector).len(), 3, "one missed deadline, however many offers, is forgiven");
}
