//! Who gets how much: the examples of the DRF paper and their known variants.

use holm_allocator::{Allocator, FrameworkAbilities, Options};
use holm_model::{Attributes, Resources, Time};

use crate::tenants::{Tenant, agent, cluster, fill, framework, plain, role, roles, spec, stock, subscribe};

/// The tasks each tenant got of one agent, with unequal weights in thousandths, and the order of their launches.
fn divide(total: &str, demands: &[(&str, u32)]) -> (Vec<u32>, String) {
    let mut allocator = cluster(&[total]);
    let demands: Vec<(Resources, u32)> = demands.iter().map(|(demand, weight)| (spec(demand), *weight)).collect();
    let mut tenants = subscribe(&mut allocator, &demands);
    let order = fill(&mut allocator, &mut tenants);
    (tenants.iter().map(|tenant| tenant.tasks).collect(), order)
}

const PAPER: &str = "cpus:9;mem:18GiB";
const A: &str = "cpus:1;mem:4GiB";
const B: &str = "cpus:3;mem:1GiB";

#[test]
fn the_paper_example_is_3_and_2_tasks_whoever_comes_first() {
    assert_eq!(divide(PAPER, &[(A, 1000), (B, 1000)]), (vec![3, 2], "ABABA".to_owned()));
    // Here the letters are the other way round: A is the paper's B.
    assert_eq!(divide(PAPER, &[(B, 1000), (A, 1000)]), (vec![2, 3], "ABBAB".to_owned()));
}

#[test]
fn the_paper_example_is_the_same_within_one_role_and_both_shares_are_two_thirds() {
    for demands in [[A, B], [B, A]] {
        let mut allocator = cluster(&[PAPER]);
        let tenant = |(n, demand): (u64, &str)| Tenant {
            framework: framework(n),
            role: role("shared"),
            demand: spec(demand),
            tasks: 0,
        };
        let mut tenants: Vec<Tenant> = (1..).zip(demands).map(tenant).collect();
        for tenant in &tenants {
            allocator
                .add_framework(tenant.framework, &roles([tenant.role.clone()]), FrameworkAbilities::default())
                .unwrap();
        }
        fill(&mut allocator, &mut tenants);
        let tasks_of = |demand: &str| tenants.iter().find(|of| of.demand == spec(demand)).unwrap().tasks;
        assert_eq!((tasks_of(A), tasks_of(B)), (3, 2));
        let shares: Vec<_> = allocator.shares().collect();
        assert_eq!(shares.len(), 1);
        for of in &shares[0].frameworks {
            assert_eq!(of.dominant.as_ref().unwrap().ppm(), 666_666);
        }
        assert_eq!(shares[0].dominant.as_ref().unwrap().ppm(), 1_000_000, "together they hold all of the cpus");
        assert_eq!(shares[0].allocated, spec("cpus:9;mem:14GiB"));
    }
}

#[test]
fn two_agents_are_divided_like_one_twice() {
    let mut allocator = cluster(&["cpus:9;mem:18GiB", "cpus:9;mem:18GiB"]);
    let mut tenants = subscribe(&mut allocator, &[(spec(A), 1000), (spec(B), 1000)]);
    fill(&mut allocator, &mut tenants);
    let tasks: Vec<u32> = tenants.iter().map(|tenant| tenant.tasks).collect();
    assert_eq!(tasks, [6, 4]);
}

#[test]
fn weights_shift_the_division() {
    // At 1/3 each the shares tie; the one chosen less often is next, so B gets its second task where name order would
    // have given A a fourth. Both are DRF: neither is further from the fluid 54/13 and 18/13 than a task.
    assert_eq!(divide(PAPER, &[(A, 2000), (B, 1000)]), (vec![3, 2], "ABAAB".to_owned()));
    assert_eq!(divide(PAPER, &[(A, 1000), (B, 2000)]), (vec![3, 2], "ABBAA".to_owned()));
    assert_eq!(divide(PAPER, &[(A, 3000), (B, 1000)]).0, [4, 1]);
    assert_eq!(divide(PAPER, &[(A, 1000), (B, 3000)]).0, [3, 2]);
    assert_eq!(divide("cpus:100", &[("cpus:1", 3000), ("cpus:1", 1000)]).0, [75, 25]);
    assert_eq!(divide("cpus:100", &[("cpus:1", 100), ("cpus:1", 900)]).0, [10, 90]);
}

#[test]
fn known_divisions_come_out() {
    let even = |total: &str, demands: &[&str]| {
        let demands: Vec<(&str, u32)> = demands.iter().map(|demand| (*demand, 1000)).collect();
        divide(total, &demands).0
    };
    // Where asset fairness gives 6 and 12, less than half of everything to the second.
    assert_eq!(even("cpus:30;mem:30GiB", &["cpus:1;mem:3GiB", "cpus:1;mem:1GiB"]), [5, 15]);
    assert_eq!(even("cpus:10;mem:10GiB", &["cpus:1", "mem:1GiB", "cpus:1;mem:1GiB"]), [5, 5, 5]);
    // Whole tasks cost DRF properties that hold for divisible ones; these stay as they are known to be.
    assert_eq!(even("cpus:73;mem:70GiB", &["cpus:8;mem:1GiB", "cpus:1;mem:1GiB"]), [5, 33]);
    assert_eq!(even("cpus:83;mem:108GiB;x:47", &["cpus:9;mem:2GiB;x:8", "cpus:2;mem:9GiB;x:2"]), [4, 7]);
    let four = ["cpus:7;mem:8GiB;x:7", "cpus:2;mem:3GiB;x:3", "cpus:3;mem:1GiB;x:3", "cpus:8;mem:3GiB;x:8"];
    assert_eq!(even("cpus:62;mem:31GiB;x:112", &four), [1, 3, 8, 2]);
}

#[test]
fn agents_go_in_turn_to_whoever_has_the_smallest_share() {
    let mut allocator = cluster(&["cpus:4"; 6]);
    let tenants = subscribe(&mut allocator, &[(spec("cpus:1"), 1000), (spec("cpus:1"), 2000)]);
    let grants = allocator.allocate(Time::ZERO, 100);
    let count = |tenant: &Tenant| grants.iter().filter(|grant| grant.framework == tenant.framework).count();
    assert_eq!((count(&tenants[0]), count(&tenants[1])), (2, 4));
    assert!(!allocator.has_candidates());
}

#[test]
fn the_agent_with_most_free_goes_first_and_equals_rotate() {
    let mut allocator = cluster(&["cpus:1", "cpus:4", "cpus:2"]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let visited: Vec<_> = allocator.allocate(Time::ZERO, 9).into_iter().map(|grant| grant.agent).collect();
    assert_eq!(visited, [agent(2), agent(3), agent(1)]);

    let mut allocator = cluster(&["cpus:4"; 3]);
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    let mut visited = Vec::new();
    for _ in 0..6 {
        let grant = allocator.allocate(Time::ZERO, 1).pop().unwrap();
        allocator.release(grant.framework, &grant.role, grant.agent, &grant.portions).unwrap();
        visited.push(grant.agent);
    }
    assert_eq!(visited, [agent(1), agent(2), agent(3), agent(1), agent(2), agent(3)]);
}

#[test]
fn excluded_resources_do_not_count() {
    let options = Options { excluded: ["gpus".parse().unwrap()].into(), ..Options::default() };
    let mut allocator = Allocator::new(options);
    allocator.add_agent(agent(1), &stock(&spec("cpus:10;gpus:2"), &Attributes::new())).unwrap();
    allocator.add_framework(framework(1), &roles([role("a")]), FrameworkAbilities::default()).unwrap();
    allocator.allocated(framework(1), &role("a"), agent(1), &plain("cpus:1;gpus:2")).unwrap();
    let share = allocator.shares().next().unwrap();
    let dominant = share.dominant.unwrap();
    assert_eq!((dominant.resource.as_str(), dominant.ppm()), ("cpus", 100_000));
    assert_eq!(share.allocated, spec("cpus:1;gpus:2"));
}
