//! Sets of quotas that are let through, and those that are not, with the rule and the numbers.

use holm_model::parse_amounts;

use super::*;

fn role(text: &str) -> Role {
    text.parse().unwrap()
}

fn quota(guarantee: &str, limit: &str) -> Quota {
    Quota { guarantee: guarantee.parse().unwrap(), limit: parse_amounts(limit).unwrap() }
}

fn change(name: &str, guarantee: &str, limit: &str) -> QuotaChange {
    QuotaChange { role: role(name), quota: quota(guarantee, limit) }
}

struct World {
    present: BTreeMap<Role, Quota>,
    cluster: Resources,
    used: BTreeMap<Role, Resources>,
}

impl World {
    fn new(present: &[QuotaChange], cluster: &str, used: &[(&str, &str)]) -> World {
        World {
            present: present.iter().map(|change| (change.role.clone(), change.quota.clone())).collect(),
            cluster: cluster.parse().unwrap(),
            used: used.iter().map(|(name, held)| (role(name), held.parse().unwrap())).collect(),
        }
    }

    fn check(&self, changes: &[QuotaChange], force: bool) -> Result<QuotaPlan, QuotaError> {
        let World { present, cluster, used } = self;
        check_quotas(&Proposal { present, changes, cluster, used, force })
    }

    #[track_caller]
    fn refused(&self, changes: &[QuotaChange]) -> String {
        self.check(changes, false).expect_err("the update passed").to_string()
    }
}

#[test]
fn a_guarantee_is_not_over_the_roles_own_limit() {
    let world = World::new(&[], "cpus:10;mem:10GiB", &[]);
    let why = world.refused(&[change("eng", "cpus:4;mem:1GiB", "cpus:3")]);
    assert_eq!(why, "role eng: the guarantee of cpus:4 is over its limit of 3");
    assert!(world.check(&[change("eng", "cpus:3", "cpus:3")], false).is_ok());
}

#[test]
fn roles_below_are_not_guaranteed_more_than_the_one_above_has_or_may_use() {
    let world = World::new(&[change("eng", "cpus:4", "cpus:6")], "cpus:10", &[]);
    let why = world.refused(&[change("eng/a", "cpus:3", ""), change("eng/b/x", "cpus:2", "")]);
    assert_eq!(why, "role eng: the roles below it are guaranteed cpus:5 (eng/a 3, eng/b 2), over its guarantee of 4");
    // Without a guarantee of its own, eng passes on what those below it have, up to its limit.
    let world = World::new(&[change("eng", "", "cpus:4")], "cpus:10", &[]);
    let why = world.refused(&[change("eng/a", "cpus:3", ""), change("eng/b", "cpus:2", "")]);
    assert_eq!(why, "role eng: the roles below it are guaranteed cpus:5 (eng/a 3, eng/b 2), over its limit of 4");
    assert!(world.check(&[change("eng/a", "cpus:3", ""), change("eng/b", "cpus:1", "")], false).is_ok());
}

#[test]
fn lowering_a_limit_below_what_was_promised_below_is_refused() {
    let world = World::new(&[change("eng/a/x", "cpus:3", "")], "cpus:10", &[]);
    assert!(world.refused(&[change("eng", "", "cpus:2")]).contains("over its limit of 2"));
    assert!(world.check(&[change("eng", "", "cpus:2"), change("eng/a/x", "", "")], false).is_ok());
}

#[test]
fn over_commit_is_refused_unless_forced_and_then_told() {
    let world = World::new(&[change("a", "cpus:6", "")], "cpus:10;mem:4GiB", &[]);
    let asked = [change("b/x", "cpus:5;mem:1GiB", "")];
    let why = world.refused(&asked);
    assert_eq!(why, "over-commit: cpus:11 is guaranteed in all, the cluster has 10 (--force permits it)");
    let plan = world.check(&asked, true).unwrap();
    assert_eq!(plan.over_committed, [(ResourceName::Cpus, Amount(11_000), Amount(10_000))]);
    // What became too much because agents left does not stand in the way of taking some of it back.
    let shrunk = World::new(&[change("a", "cpus:10", "")], "cpus:8", &[]);
    assert!(shrunk.check(&[change("a", "cpus:9", "")], false).is_ok());
    assert!(shrunk.check(&[change("b", "cpus:1", "")], false).is_err());
    // A parent's guarantee covers those below it: they do not count twice.
    let world = World::new(&[change("a", "cpus:10", "")], "cpus:10", &[]);
    assert!(world.check(&[change("a/x", "cpus:10", "")], false).is_ok());
}

#[test]
fn a_resource_that_nobody_has_is_refused_by_name() {
    let world = World::new(&[], "cpus:4;licences:2", &[]);
    assert!(world.refused(&[change("a", "", "cpu:4")]).contains("no agent has the resource cpu"));
    assert!(world.check(&[change("a", "", "cpu:4")], true).is_ok());
    assert!(world.check(&[change("a", "licences:1", "gpus:0")], false).is_ok(), "no gpus is a sensible limit");
}

#[test]
fn one_fault_refuses_everything_and_all_faults_are_told() {
    let world = World::new(&[], "cpus:4", &[]);
    let error = world.check(
        &[
            change("a", "cpus:2", "cpus:1"),
            change("b", "cpus:9", ""),
            change("b", "cpus:1", ""),
            change("c", "", "cpus:1"),
        ],
        false,
    );
    let why = error.unwrap_err().to_string();
    assert!(why.contains("role a: the guarantee of cpus:2") && why.contains("role b is changed twice"), "{why}");
    let many: Vec<_> = (0..100).map(|n| change(&format!("r{n}"), "cpus:2", "cpus:1")).collect();
    let error = world.check(&many, true).unwrap_err();
    assert_eq!((error.faults.len(), error.count), (MAX_FAULTS_TOLD, 100));
    assert!(error.to_string().ends_with("and 68 more"));
}

#[test]
fn a_plan_says_who_is_over_and_who_is_short() {
    let used = [("eng", "cpus:5;mem:2GiB"), ("eng/a", "cpus:5;mem:2GiB")];
    let world = World::new(&[change("ops", "cpus:2", "")], "cpus:10;mem:8GiB", &used);
    let plan = world.check(&[change("eng", "mem:3GiB", "cpus:4"), change("ops", "cpus:2", "")], false).unwrap();
    let gap = |name: &str, resource, used, bound| Gap { role: role(name), resource, used, bound };
    assert_eq!(plan.changed.len(), 1, "ops stays as it is");
    assert_eq!(plan.over_limit, [gap("eng", ResourceName::Cpus, Amount(5000), Amount(4000))]);
    assert_eq!(plan.over_limit[0].amount(), Amount(1000));
    assert_eq!(
        plan.unmet,
        [
            gap("eng", ResourceName::Mem, Amount(2 << 30), Amount(3 << 30)),
            gap("ops", ResourceName::Cpus, Amount(0), Amount(2000)),
        ]
    );
}

#[test]
fn removing_a_quota_removes_its_promise() {
    let world = World::new(&[change("a", "cpus:6", "cpus:8")], "cpus:10", &[]);
    let plan = world.check(&[change("a", "", ""), change("b", "cpus:9", "")], false).unwrap();
    assert_eq!(plan.changed[0].2, Quota::NONE);
    assert_eq!(plan.unmet.len(), 1);
}

#[test]
fn sums_do_not_overflow() {
    let most = Resources::scalars([(ResourceName::Mem, Amount::MAX.0)]);
    let changes: Vec<_> = (0..17_000)
        .map(|n| QuotaChange { role: role(&format!("r{n}")), quota: Quota { guarantee: most.clone(), ..Quota::NONE } })
        .collect();
    let world = World::new(&[], "mem:1GiB", &[]);
    assert!(matches!(world.check(&changes, false).unwrap_err().faults[0], QuotaFault::OverCommitted { .. }));
}
