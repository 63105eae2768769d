//! Weights and quotas: checked, written, then in force; over a change of masters, too.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use holm_model::*;

use super::harness::*;
use crate::*;

fn update(name: &str, weight: Option<u32>, guarantee: Option<&str>, limit: Option<&str>) -> RoleUpdate {
    RoleUpdate {
        role: role(name),
        weight: weight.map(|weight| NonZeroU32::new(weight).unwrap()),
        guarantee: guarantee.map(resources),
        limit: limit.map(|text| parse_amounts(text).unwrap()),
    }
}

fn ask(cluster: &mut Cluster, updates: Vec<RoleUpdate>, dry_run: bool, force: bool) {
    let call = OperatorCall::UpdateRoles(RolesUpdate { updates, dry_run, force });
    let principal = Principal::Operator("root".into());
    cluster.send(Event::Operator { request: RequestId(1), principal, call });
}

fn set(cluster: &mut Cluster, updates: Vec<RoleUpdate>) -> Result<RolesPlan, OperatorError> {
    ask(cluster, updates, false, false);
    answer(cluster)
}

fn answer(cluster: &mut Cluster) -> Result<RolesPlan, OperatorError> {
    match cluster.replies.pop().expect("an answer") {
        Ok(Answer::Roles(plan)) => Ok(*plan),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

/// What the read model has of the records.
fn told(cluster: &Cluster) -> BTreeMap<String, RoleRecord> {
    let mut told = BTreeMap::new();
    for delta in &cluster.deltas {
        if let Delta::RoleSet(record) = delta {
            told.insert(record.role.to_string(), record.clone());
        }
    }
    told
}

#[test]
fn what_operators_set_is_written_first_told_and_known_to_the_next_master() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:10;mem:8GiB");
    cluster.commits = false;
    ask(&mut cluster, vec![update("eng", Some(2000), Some("cpus:4"), Some("cpus:8;gpus:0"))], false, false);
    assert!(cluster.replies.is_empty() && told(&cluster).is_empty(), "nothing acts before it is durable");
    cluster.commits = true;
    cluster.answer(PersistOutcome::Committed);
    let plan = answer(&mut cluster).unwrap();
    assert_eq!(plan.changed.len(), 1);
    assert_eq!(told(&cluster)["eng"].quota.to_string(), "guarantee cpus:4, limit cpus:8;gpus:0");

    let mut cluster = Cluster::new();
    cluster.agent("cpus:10;mem:8GiB");
    set(&mut cluster, vec![update("eng", Some(2000), Some("cpus:4"), None), update("ops", Some(500), None, None)])
        .unwrap();
    set(&mut cluster, vec![update("ops", Some(1000), None, None)]).unwrap();
    assert_eq!(cluster.registry.roles.keys().map(Role::as_str).collect::<Vec<_>>(), ["eng"], "defaults are no record");
    let next = cluster.fail_over();
    assert_eq!(told(&next)["eng"].weight.get(), 2000);
    assert_eq!(told(&next)["eng"].quota.guarantee, resources("cpus:4"));
}

#[test]
fn a_refused_update_changes_nothing_and_names_the_numbers() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:10;mem:8GiB");
    let updates = vec![update("a", Some(3000), Some("cpus:4"), None), update("b", None, Some("cpus:7"), None)];
    let error = set(&mut cluster, updates.clone()).unwrap_err();
    assert!(error.to_string().contains("cpus:11 is guaranteed in all, the cluster has 10"), "{error}");
    assert!(cluster.registry.roles.is_empty() && told(&cluster).is_empty());
    ask(&mut cluster, updates, false, true);
    assert_eq!(answer(&mut cluster).unwrap().quotas.over_committed.len(), 1);
    let heavy = set(&mut cluster, vec![update("a", Some(1_000_001), None, None)]).unwrap_err();
    assert_eq!(heavy.to_string(), "role a: weight 1000.001 is over the limit of 1000");
    let twice = vec![update("a", Some(1), None, None), update("a", Some(2), None, None)];
    assert_eq!(set(&mut cluster, twice), Err(OperatorError::RoleTwice(role("a"))));
}

#[test]
fn a_dry_run_answers_the_same_and_does_nothing() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:10;mem:8GiB");
    let framework = cluster.framework("eng/a");
    assert_eq!(cluster.offers(framework).len(), 1);
    ask(&mut cluster, vec![update("eng", None, None, Some("cpus:4"))], true, false);
    let plan = answer(&mut cluster).unwrap();
    assert!(plan.dry_run && cluster.registry.roles.is_empty());
    assert_eq!(plan.quotas.over_limit[0].amount(), Amount(6000));
    assert_eq!(plan.rescinded.len(), 1);
    assert!(cluster.rescinded(framework).is_empty());
}

#[test]
fn a_new_limit_rescinds_the_offers_over_it_and_no_others() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let (eng, ops) = (cluster.framework("eng/a"), cluster.framework("ops"));
    let mine = cluster.offers(eng);
    cluster.agent("cpus:4;mem:8GiB");
    let theirs = cluster.offers(ops);
    assert_eq!((mine.len(), theirs.len()), (1, 1));
    let plan = set(&mut cluster, vec![update("eng", None, None, Some("cpus:1"))]).unwrap();
    assert_eq!(plan.rescinded, [mine[0].id]);
    assert_eq!(cluster.rescinded(eng), [mine[0].id]);
    assert!(cluster.rescinded(ops).is_empty());
}

#[test]
fn a_new_guarantee_rescinds_what_others_were_offered_of_it_if_somebody_waits() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    cluster.agent("cpus:4;mem:8GiB");
    let ops = cluster.framework("ops");
    let offers = cluster.offers(ops);
    assert_eq!(offers.len(), 2);
    let nobody = set(&mut cluster, vec![update("absent", None, Some("cpus:1"), None)]).unwrap();
    assert!(nobody.rescinded.is_empty(), "nobody waits in that role");
    cluster.framework("eng/a");
    let plan = set(&mut cluster, vec![update("eng", None, Some("cpus:3"), None)]).unwrap();
    assert_eq!(plan.quotas.unmet.iter().filter(|gap| gap.role == role("eng")).count(), 1);
    assert_eq!(plan.rescinded.len(), 1, "one offer has enough");
    assert_eq!(cluster.rescinded(ops).len(), 1);
}

#[test]
fn weights_rescind_nothing() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:8GiB");
    let framework = cluster.framework("a");
    assert_eq!(cluster.offers(framework).len(), 1);
    let plan = set(&mut cluster, vec![update("a", Some(10), None, None), update("b", Some(5000), None, None)]).unwrap();
    assert!(plan.rescinded.is_empty() && cluster.rescinded(framework).is_empty());
}

#[test]
fn updates_are_written_one_after_the_other_each_checked_against_the_last() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:10;mem:8GiB");
    cluster.commits = false;
    ask(&mut cluster, vec![update("a", None, Some("cpus:6"), None)], false, false);
    ask(&mut cluster, vec![update("b", None, Some("cpus:6"), None)], false, false);
    assert_eq!(cluster.pending.len(), 1, "the second waits");
    for _ in 0..MAX_WAITING_UPDATES {
        ask(&mut cluster, vec![update("c", Some(2000), None, None)], false, false);
    }
    let full = answer(&mut cluster).unwrap_err();
    assert_eq!(full, OperatorError::TooManyUpdates { count: MAX_WAITING_UPDATES, limit: MAX_WAITING_UPDATES });
    cluster.commits = true;
    cluster.answer(PersistOutcome::Committed);
    let answers: Vec<_> = std::mem::take(&mut cluster.replies);
    assert_eq!(answers.len(), 1 + MAX_WAITING_UPDATES);
    assert!(answers[0].is_ok());
    assert!(matches!(&answers[1], Err(OperatorError::Quota(error)) if error.to_string().contains("cpus:12")));
    assert!(answers[2..].iter().all(Result::is_ok));
}

#[test]
fn only_so_many_roles_have_a_record() {
    let mut cluster = Cluster::with(Options { max_roles: 2, ..Options::default() });
    cluster.agent("cpus:10;mem:8GiB");
    set(&mut cluster, vec![update("a", Some(2), None, None), update("b", Some(2), None, None)]).unwrap();
    let error = set(&mut cluster, vec![update("c", Some(2), None, None)]).unwrap_err();
    assert_eq!(error, OperatorError::TooManyRoles { count: 3, limit: 2 });
    set(&mut cluster, vec![update("c", Some(2), None, None), update("a", Some(1000), None, None)]).unwrap();
}

#[test]
fn what_operators_set_outweighs_the_options() {
    let mut options = Options::default();
    options.weights.insert(role("a"), NonZeroU32::new(3000).unwrap());
    options.weights.insert(role("b"), NonZeroU32::new(4000).unwrap());
    let mut cluster = Cluster::with(options.clone());
    set(&mut cluster, vec![update("a", Some(5000), None, None)]).unwrap();
    let next = Cluster::recover(cluster.registry.clone(), options);
    let told = told(&next);
    assert_eq!((told["a"].weight.get(), told["b"].weight.get()), (5000, 4000));
}

fn explain(cluster: &mut Cluster, subject: About, need: &str) -> Result<Explanation, OperatorError> {
    let question = Question { subject, agent: None, need: resources(need) };
    let principal = Principal::Operator("root".into());
    cluster.send(Event::Operator { request: RequestId(1), principal, call: OperatorCall::Explain(question) });
    match cluster.replies.pop().expect("an answer")? {
        Answer::Explained(explanation) => Ok(*explanation),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_holds_for_all_below_it_and_is_named_as_the_cause() {
    let mut cluster = Cluster::new();
    set(&mut cluster, vec![update("eng", None, None, Some("cpus:3"))]).unwrap();
    cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework("eng/a");
    let offers = cluster.offers(framework);
    assert_eq!(offers[0].resources, resources("cpus:3;mem:8GiB"), "the offer is cut to the limit");
    cluster.accept(framework, &offers, vec![single("x", "cpus:3;mem:1GiB")], Refusal::NONE);
    cluster.settle();
    let explanation = explain(&mut cluster, About::Framework(framework.id), "cpus:1").unwrap();
    let cause = explanation.waiting[0].explained.everywhere.clone().expect("a cause");
    assert_eq!(cause.to_string(), "role eng is at its limit: cpus: 3 of 3 in use or on offer");
    let roles: Vec<&str> = explanation.roles.iter().map(|standing| standing.role.as_str()).collect();
    assert_eq!(roles, ["eng", "eng/a"]);
}

#[test]
fn a_question_about_a_role_is_about_everybody_below_it_up_to_a_number() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    for number in 0..MAX_EXPLAINED + 3 {
        cluster.framework(&format!("eng/r{number}"));
    }
    let explanation = explain(&mut cluster, About::Role(role("eng")), "cpus:64").unwrap();
    assert_eq!((explanation.waiting.len(), explanation.more, explanation.agents), (MAX_EXPLAINED, 3, 1));
    let reason = &explanation.waiting[0].explained.classes[0].reasons[0];
    assert_eq!(reason.cause.to_string(), "too small even when empty: cpus: 64 asked, 8 there, 56 short");
    let stranger = explain(&mut cluster, About::Role(role("ops")), "");
    assert_eq!(stranger, Err(OperatorError::UnknownRole(role("ops"))));
    let demand: DemandId = "big".parse().unwrap();
    let id = explanation.waiting[0].framework;
    let unknown = explain(&mut cluster, About::Demand { framework: id, demand: demand.clone() }, "");
    assert_eq!(unknown, Err(OperatorError::UnknownDemand { framework: id, demand }));
}

#[test]
fn a_demand_is_explained_by_its_own_shape_and_conditions() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:8GiB");
    let framework = cluster.framework("eng");
    let demand: DemandId = "big".parse().unwrap();
    let shape = Demand { minimum: 2, ..Demand::new(demand.clone(), resources("cpus:3"), 4) };
    let constraint = "gpu".parse().unwrap();
    let picky: DemandId = "picky".parse().unwrap();
    let where_gpu = Demand {
        constraints: Constraints::new([constraint]).unwrap(),
        ..Demand::new(picky.clone(), resources("cpus:1"), 1)
    };
    cluster.call(framework, Call::Demand { role: role("eng"), demands: vec![shape, where_gpu] });
    let big = explain(&mut cluster, About::Demand { framework: framework.id, demand }, "").unwrap();
    assert_eq!(big.waiting[0].least, resources("cpus:6"), "two bundles at a time");
    let picky = explain(&mut cluster, About::Demand { framework: framework.id, demand: picky }, "").unwrap();
    let reason = &picky.waiting[0].explained.classes[0].reasons[0];
    assert_eq!(reason.cause.to_string(), "constraint gpu does not hold");
}
