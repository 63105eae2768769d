//! The published vectors: Mesos' sorter, and hierarchies in which the plain sum of a subtree starves leaves.

use holm_model::Epoch;

use super::*;
use crate::names::NOTHING;

fn amounts(cpus: u64, mem: u64) -> Amounts {
    let mut amounts = NOTHING;
    (amounts[0], amounts[1]) = (cpus, mem);
    amounts
}

/// A client is a role with one framework.
struct Sorter {
    roles: Roles,
    total: Amounts,
}

impl Sorter {
    fn new(cpus: u64, mem: u64) -> Sorter {
        let mut sorter = Sorter { roles: Roles::new(4), total: NOTHING };
        sorter.resize(cpus, mem);
        sorter
    }

    fn resize(&mut self, cpus: u64, mem: u64) {
        let before = std::mem::replace(&mut self.total, amounts(cpus, mem));
        self.roles.resize(&before, &self.total);
    }

    fn leaf(&mut self, client: &str) -> Node {
        self.roles.ensure_leaf(FrameworkId::new(Epoch(1), 1), &client.parse().unwrap(), &|_| DEFAULT_WEIGHT)
    }

    fn add(&mut self, client: &str, cpus: u64, mem: u64) {
        let leaf = self.leaf(client);
        self.roles.set_wanting(leaf, true);
        self.roles.charge(leaf, &amounts(cpus, mem), None, true);
        self.sound();
    }

    fn weigh(&mut self, client: &str, thousandths: u32) {
        let role = self.roles.role(&client.parse().unwrap()).unwrap();
        self.roles.set_weight(role, NonZeroU32::new(thousandths).unwrap());
        self.sound();
    }

    fn take_off(&mut self, client: &str, cpus: u64, mem: u64) {
        let leaf = self.leaf(client);
        self.roles.release(leaf, &amounts(cpus, mem), None);
        self.sound();
    }

    fn deactivate(&mut self, client: &str) {
        let leaf = self.leaf(client);
        self.roles.set_wanting(leaf, false);
        self.sound();
    }

    fn remove(&mut self, client: &str, cpus: u64, mem: u64) {
        self.take_off(client, cpus, mem);
        self.deactivate(client);
        let leaf = self.leaf(client);
        self.roles.remove(leaf);
        self.sound();
    }

    fn sound(&mut self) {
        self.roles.settle();
        assert_eq!(self.roles.faults(), [] as [String; 0]);
    }

    fn order(&mut self) -> String {
        self.roles.settle();
        let names = self.roles.served().into_iter().map(|leaf| self.roles.role_of(leaf).unwrap().to_string());
        names.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn mesos_drf_order() {
    let mut sorter = Sorter::new(100, 100);
    for (client, cpus, mem) in [("a", 5, 5), ("b", 6, 6), ("c", 1, 1), ("d", 3, 1)] {
        sorter.add(client, cpus, mem);
    }
    assert_eq!(sorter.order(), "c d a b");
    sorter.remove("a", 5, 5);
    sorter.take_off("b", 4, 4);
    sorter.add("e", 1, 5);
    sorter.resize(50, 100);
    assert_eq!(sorter.order(), "c b e d");
    sorter.add("f", 5, 1);
    sorter.resize(50, 200);
    sorter.add("c", 0, 15);
    assert_eq!(sorter.order(), "e b d c f");
    sorter.deactivate("d");
    assert_eq!(sorter.order(), "e b c f");
}

#[test]
fn mesos_weighted_order() {
    let mut sorter = Sorter::new(100, 100);
    for (client, cpus, mem, weight) in [("a", 5, 5, 1000), ("b", 6, 6, 2000), ("c", 4, 4, 1000), ("d", 10, 20, 10_000)]
    {
        sorter.add(client, cpus, mem);
        sorter.weigh(client, weight);
    }
    assert_eq!(sorter.order(), "d b c a");
    sorter.remove("b", 6, 6);
    sorter.add("d", 10, 25);
    assert_eq!(sorter.order(), "c d a");
    sorter.add("e", 1, 1);
    sorter.weigh("e", 100);
    assert_eq!(sorter.order(), "c d a e");
}

#[test]
fn of_equals_who_was_chosen_less_often_is_first() {
    let mut sorter = Sorter::new(1000, 1000);
    for (client, times) in [("a", 1), ("b", 1), ("c", 3), ("d", 2), ("e", 1)] {
        (0..times).for_each(|n| sorter.add(client, if n == 0 { 3 } else { 0 }, if n == 0 { 3 } else { 0 }));
    }
    assert_eq!(sorter.order(), "a b e d c");
    sorter.take_off("c", 3, 3);
    sorter.add("c", 3, 3);
    assert_eq!(sorter.order(), "a b e d c");
}

#[test]
fn mesos_hierarchical_order() {
    let mut sorter = Sorter::new(100, 100);
    sorter.add("a", 6, 6);
    sorter.add("b/c", 4, 4);
    sorter.add("b/d", 3, 3);
    assert_eq!(sorter.order(), "a b/d b/c");
    sorter.add("a", 2, 2);
    assert_eq!(sorter.order(), "b/d b/c a");
    sorter.add("b/e/f", 0, 0);
    assert!(sorter.order().starts_with("b/e/f"));
}

/// Demands of leaves by role, as `(cpus, mem)` of one task.
struct World {
    sorter: Sorter,
    demands: Vec<(&'static str, u64, u64)>,
    tasks: Vec<u64>,
    free: (u64, u64),
}

impl World {
    fn new(total: (u64, u64), demands: &[(&'static str, u64, u64)]) -> World {
        let mut sorter = Sorter::new(total.0, total.1);
        for (role, cpus, mem) in demands {
            let leaf = sorter.leaf(role);
            sorter.roles.set_wanting(leaf, true);
            sorter.roles.set_needs(leaf, Some(u32::from(*cpus > 0) | u32::from(*mem > 0) << 1));
        }
        World { sorter, demands: demands.to_vec(), tasks: vec![0; demands.len()], free: total }
    }

    /// Starts tasks, each of whoever is first in order and fits.
    fn fill(&mut self) {
        loop {
            self.sorter.roles.settle();
            assert_eq!(self.sorter.roles.faults(), [] as [String; 0]);
            let fits = |place: &usize| self.demands[*place].1 <= self.free.0 && self.demands[*place].2 <= self.free.1;
            let place_of = |leaf| {
                let role = self.sorter.roles.role_of(leaf).unwrap();
                self.demands.iter().position(|(name, ..)| *name == role.as_str()).unwrap()
            };
            let Some(place) = self.sorter.roles.served().into_iter().map(place_of).find(fits) else { return };
            let (role, cpus, mem) = self.demands[place];
            self.tasks[place] += 1;
            self.free = (self.free.0 - cpus, self.free.1 - mem);
            self.sorter.add(role, cpus, mem);
        }
    }

    /// Ends a task drawn by `dice`, and starts others.
    fn churn(&mut self, steps: u32) {
        let mut dice = 1u64;
        for _ in 0..steps {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let running: u64 = self.tasks.iter().sum();
            let mut drawn = (dice >> 33) % running;
            let place = self.tasks.iter().position(|tasks| {
                let here = drawn < *tasks;
                drawn = drawn.saturating_sub(*tasks);
                here
            });
            let place = place.unwrap();
            let (role, cpus, mem) = self.demands[place];
            self.tasks[place] -= 1;
            self.free = (self.free.0 + cpus, self.free.1 + mem);
            self.sorter.take_off(role, cpus, mem);
            self.fill();
        }
    }
}

/// The tasks after filling, and after many tasks ended and others started.
fn divide(total: (u64, u64), demands: &[(&'static str, u64, u64)]) -> (Vec<u64>, Vec<u64>) {
    let mut world = World::new(total, demands);
    world.fill();
    let filled = world.tasks.clone();
    world.churn(600);
    (filled, world.tasks)
}

/// Each within one task of what it is due.
fn near(tasks: &[u64], due: &[u64]) -> bool {
    tasks.iter().zip(due).all(|(has, due)| has.abs_diff(*due) <= 1)
}

#[test]
fn the_plain_sum_starves_a_leaf_and_this_does_not() {
    let (filled, churned) = divide((10, 10), &[("n1", 0, 1), ("n2/n21", 1, 0), ("n2/n22", 0, 1)]);
    assert_eq!(filled, [5, 10, 5]);
    assert!(near(&churned, &[5, 10, 5]), "{churned:?}; Mesos ends at 10, 10, 0");
}

#[test]
fn a_role_that_needs_both_shares_with_one_whose_parts_need_one_each() {
    let demands = [("n1", 1, 1), ("n2/n21", 1, 0), ("n2/n22", 0, 1)];
    assert_eq!(divide((10, 10), &demands).0, [5, 5, 5]);
    let (filled, churned) = divide((30, 30), &demands);
    assert_eq!(filled, [15, 15, 15]);
    assert!(near(&churned, &[15, 15, 15]), "{churned:?}; flattened it is 20, 10, 10");
}

#[test]
fn a_blocked_leaf_does_not_hold_its_siblings_back() {
    let demands = [("n1", 1, 0), ("n2", 1, 0), ("n3/n31", 1, 0), ("n3/n32", 0, 1), ("n4", 0, 1)];
    let (filled, churned) = divide((30, 30), &demands);
    assert_eq!(filled, [10, 10, 10, 15, 15]);
    assert!(near(&churned, &[10, 10, 10, 15, 15]), "{churned:?}; without the rule n3/n32 gets 20 of 30");
}

/// Shares as the definition has them, level by level and with floats.
struct Definition<'a> {
    roles: &'a Roles,
    total: [f64; 2],
    used_up: [bool; 2],
}

impl Definition<'_> {
    /// What a node has as fairness counts it, and whether it is blocked.
    fn of(&self, node: Node) -> ([f64; 2], bool) {
        let record = self.roles.node(node);
        if record.is_leaf() {
            let has = [0, 1].map(|r| self.roles.used(node)[r] as f64 / self.total[r]);
            let needs_used_up = (0..2).any(|r| self.used_up[r] && has[r] > 0.0);
            return (has, record.wanting == 0 || needs_used_up);
        }
        let children: Vec<_> = record.children.iter().map(|child| (*child, self.of(*child))).collect();
        let blocked = children.iter().all(|(_, (_, blocked))| *blocked);
        let weight = |child: Node| f64::from(self.roles.node(child).weight.get()) / 1000.0;
        let ratio = |child: Node, has: &[f64; 2]| self.share(has) / weight(child);
        let open = children.iter().filter(|(_, (_, blocked))| !blocked);
        let least = open.map(|(child, (has, _))| ratio(*child, has)).fold(f64::INFINITY, f64::min);
        let mut sum = [0.0; 2];
        for (child, (has, blocked)) in &children {
            let ratio = ratio(*child, has);
            let factor = if *blocked || ratio == 0.0 { 1.0 } else { least / ratio };
            (0..2).for_each(|r| sum[r] += has[r] * factor);
        }
        (sum, blocked)
    }

    fn share(&self, has: &[f64; 2]) -> f64 {
        (0..2).filter(|r| !self.used_up[*r]).map(|r| has[r]).fold(0.0, f64::max)
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// After every step of a long random history, the shares that are kept up are those of the definition.
    #[test]
    fn shares_are_those_of_the_recursive_definition(
        steps in proptest::collection::vec((0..12usize, 0..9u64, 0..9u64, 0..5u8, 1..5000u32), 1..80)
    ) {
        const ROLES: [&str; 12] =
            ["a", "a/b", "a/b/c", "a/b/d", "a/e", "f", "f/g", "h", "h/i/j", "h/i/k", "l", "l/m"];
        let mut sorter = Sorter::new(100, 80);
        for (at, cpus, mem, what, weight) in steps {
            let role = ROLES[at];
            let leaf = sorter.leaf(role);
            match what {
                0 => sorter.roles.set_weight(sorter.roles.node(leaf).parent, NonZeroU32::new(weight).unwrap()),
                1 => drop(sorter.roles.set_wanting(leaf, false)),
                2 => {
                    let held = [0, 1].map(|r| u64::try_from(sorter.roles.used(leaf)[r]).unwrap());
                    sorter.take_off(role, cpus.min(held[0]), mem.min(held[1]));
                }
                _ => sorter.add(role, cpus, mem),
            }
            sorter.sound();
            let used_up = [0, 1].map(|r| sorter.roles.saturated >> r & 1 == 1);
            let definition = Definition { roles: &sorter.roles, total: [100.0, 80.0], used_up };
            for (node, record) in (0u32..).zip(&sorter.roles.nodes).skip(1) {
                if record.kind == Kind::Vacant {
                    continue;
                }
                let (has, blocked) = definition.of(node);
                let (kept, due) = (record.share as f64 / (1u64 << 48) as f64, definition.share(&has));
                proptest::prop_assert!((kept - due).abs() < 1e-9, "{:?}: {kept} kept, {due} due", record.kind);
                proptest::prop_assert_eq!(blocked, record.open == 0, "{:?}", record.kind);
            }
        }
    }
}
