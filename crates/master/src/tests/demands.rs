//! Demands: what fits is offered, no more than is wanted, and nothing else.

use std::time::Duration;

use holm_model::*;

use super::harness::*;

fn constraints(texts: &[&str]) -> Constraints {
    Constraints::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
}

#[test]
fn a_framework_is_offered_what_it_wants_and_no_more() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB;ports:[31000-31009]");
    let framework = cluster.framework_with(by_demand("a"));
    assert!(cluster.offers(framework).is_empty(), "it has not said what it wants");
    cluster.call(framework, demand("a", [Demand { ports: 2, ..wants("web", "cpus:1;mem:1GiB", 3) }]));
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].resources, resources("cpus:3;mem:3GiB;ports:[31000-31005]"));
    assert_eq!(offers[0].demand, Some("web".parse().unwrap()));
    cluster.accept(framework, &offers, vec![single("x", "cpus:1;mem:1GiB;ports:[31000-31001]")], Refusal::NONE);
    let rest = cluster.offers(framework);
    assert_eq!(rest[0].resources, resources("cpus:2;mem:2GiB;ports:[31002-31005]"), "two are left to be served");
    cluster.accept(framework, &rest, vec![array("y", 2, 2, "cpus:1;mem:1GiB")], Refusal::NONE);
    assert!(cluster.offers(framework).is_empty(), "it has what it wanted");
    cluster.pass(Duration::from_secs(120));
    assert!(cluster.offers(framework).is_empty());
}

/// The point of demands: the number of offers is the number of useful ones.
#[test]
fn no_offer_is_useless() {
    let mut cluster = Cluster::new();
    for _ in 0..20 {
        cluster.agent("cpus:2;mem:4GiB");
    }
    cluster.agent("cpus:8;mem:4GiB");
    let framework = cluster.framework_with(by_demand("a"));
    cluster.call(framework, demand("a", [wants("large", "cpus:5;mem:1GiB", 2)]));
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 1, "of the one agent on which it fits");
    assert_eq!(offers[0].resources, resources("cpus:5;mem:1GiB"));
    cluster.accept(framework, &offers, vec![single("x", "cpus:5;mem:1GiB")], Refusal::NONE);
    cluster.pass(Duration::from_secs(3600));
    assert!(cluster.offers(framework).is_empty(), "the second fits nowhere, and nothing else is of use");
    let made = cluster.master.offers.minted;
    assert_eq!(made, 1, "{made} offers were made in an hour; one was of use");
}

#[test]
fn a_demand_that_is_stated_anew_replaces_what_was_wanted() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework_with(by_demand("a"));
    cluster.call(framework, demand("a", [wants("x", "cpus:1", 1)]));
    assert_eq!(cluster.offers(framework).len(), 1);
    cluster.call(framework, demand("a", [wants("x", "cpus:1", 1)]));
    assert!(cluster.offers(framework).is_empty(), "the offer that is out is what it wants");
    cluster.call(framework, demand("a", [wants("x", "cpus:1", 3)]));
    assert_eq!(cluster.offers(framework)[0].resources, resources("cpus:2"));
    cluster.call(framework, demand("a", []));
    cluster.pass(Duration::from_secs(60));
    assert!(cluster.offers(framework).is_empty(), "without demands it is offered nothing, though its offers expired");
}

#[test]
fn a_role_without_demands_gets_whatever_is_free() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    let plain = cluster.framework("b");
    assert_eq!(cluster.offers(plain)[0].resources, resources("cpus:8;mem:8GiB"));
}

#[test]
fn constraints_and_minimum_of_a_role_hold_for_its_offers() {
    let mut cluster = Cluster::new();
    let with = |rack: &str, shape: &str| {
        let registration = registration(shape);
        let attributes = [("rack".into(), rack.into())].into();
        Registration { info: AgentInfo { attributes, ..registration.info }, ..registration }
    };
    for (rack, shape) in [("a1", "cpus:4;mem:8GiB"), ("a2", "cpus:1;mem:8GiB"), ("b1", "cpus:4;mem:8GiB")] {
        let session = cluster.open_agent(with(rack, shape), None);
        cluster.say(session, ToMaster::Report { batches: Vec::new(), last: true });
    }
    let options = RoleOptions {
        constraints: constraints(&["rack=~a.*"]),
        minimum: resources("cpus:2"),
        ..RoleOptions::default()
    };
    let chosen = FrameworkInfo { role_options: [(role("a"), options)].into(), ..info(&["a"]) };
    let framework = cluster.framework_with(chosen);
    let offers = cluster.offers(framework);
    assert_eq!(offers.len(), 1, "{offers:?}");
    assert_eq!(offers[0].attributes.get("rack").map(|rack| &**rack), Some("a1"));
    cluster.call(framework, Call::SetRoleOptions { options: [].into() });
    assert_eq!(cluster.offers(framework).len(), 2, "now any will do, and two are free");
}

#[test]
fn what_is_not_valid_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework_with(by_demand("a"));
    let refused = |cluster: &mut Cluster, call: Call, part: &str| {
        cluster.call(framework, call);
        let errors = cluster.errors(framework.session);
        assert!(errors.len() == 1 && !errors[0].1 && errors[0].0.contains(part), "{errors:?}");
    };
    refused(&mut cluster, demand("b", [wants("x", "cpus:1", 1)]), "not subscribed");
    refused(&mut cluster, demand("a", [wants("x", "cpus:1", 0)]), "count of 0; the limits are 1 to 1000000");
    let costly = Demand { constraints: constraints(&["rack=~(a{100}){100}"]), ..wants("x", "cpus:1", 1) };
    refused(&mut cluster, demand("a", [costly]), "65536 bytes");
    let options = RoleOptions { constraints: constraints(&["rack=~("]), ..RoleOptions::default() };
    refused(&mut cluster, Call::SetRoleOptions { options: [(role("a"), options)].into() }, "cannot be read");
    refused(&mut cluster, Call::SetRoleOptions { options: [(role("b"), RoleOptions::default())].into() }, "role b");
    assert!(cluster.offers(framework).is_empty());
    let bad = RoleOptions { constraints: constraints(&["rack=~("]), ..RoleOptions::default() };
    let session =
        cluster.open_framework(FrameworkInfo { role_options: [(role("a"), bad)].into(), ..info(&["a"]) }, None, None);
    assert!(cluster.errors(session)[0].0.contains("cannot be read"));
}

#[test]
fn a_promise_of_a_duration_is_kept_or_refused() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework_with(by_demand("a"));
    let minute = Some(Duration::from_secs(60));
    cluster.call(framework, demand("a", [Demand { max_duration: minute, ..wants("x", "cpus:1;mem:1GiB", 2) }]));
    let offers = cluster.offers(framework);
    let within = |id: &str, deadline: Option<u64>| {
        let launch = array(id, 4, 2, "cpus:1;mem:1GiB");
        let limits = Limits { deadline: deadline.map(Duration::from_secs), ..Limits::default() };
        Launch { spec: TaskSpec { limits, ..(*launch.spec).clone() }.into(), ..launch }
    };
    let launches = vec![within("never", None), within("long", Some(31)), within("short", Some(30))];
    cluster.accept(framework, &offers, launches, Refusal::NONE);
    let refused: Vec<String> = cluster.states(framework).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(refused, ["never", "long"], "two rounds of 31 seconds are more than a minute");
    assert_eq!(cluster.launched(agent).len(), 1);
}

#[test]
fn priority_decides_before_share_inside_a_role() {
    let mut cluster = Cluster::new();
    let low = cluster.framework_with(by_demand("a"));
    let high = cluster.framework_with(by_demand("a"));
    cluster.call(low, demand("a", [wants("x", "cpus:1;mem:1GiB", 9)]));
    cluster.call(high, demand("a", [Demand { priority: 5, ..wants("x", "cpus:1;mem:1GiB", 6) }]));
    cluster.agent("cpus:8;mem:8GiB");
    let total = |cluster: &mut Cluster, of| {
        let offers = cluster.offers(of);
        offers.iter().map(|offer| offer.resources.scalar(&ResourceName::Cpus).0 / 1000).sum::<u64>()
    };
    assert_eq!((total(&mut cluster, high), total(&mut cluster, low)), (6, 2), "the rest goes to who is next");
}

#[test]
fn a_framework_that_comes_back_states_its_demands_anew() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework_with(by_demand("a"));
    cluster.call(framework, demand("a", [wants("x", "cpus:1", 1)]));
    assert_eq!(cluster.offers(framework).len(), 1);
    let back = cluster.resubscribe(framework, by_demand("a"));
    assert!(cluster.offers(back).is_empty(), "what it wanted before is forgotten, and it is still by demand");
    cluster.call(back, demand("a", [wants("x", "cpus:1", 1)]));
    assert_eq!(cluster.offers(back).len(), 1);
}
