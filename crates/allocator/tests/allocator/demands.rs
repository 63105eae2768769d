//! Demands: sized grants, gangs, reservations and what is lent of them.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_allocator::{Allocator, Ends, FrameworkAbilities, Grant, Options};
use holm_model::{
    AgentId, Constraints, Demand, FrameworkId, Portions, Refusal, ResourceName, Resources, RoleOptions, Time,
};
use proptest::prelude::*;

use crate::tenants::{agent, framework, role, spec, stock};

const ROLE: &str = "eng";

/// A task, as large as a bundle of the demand it was launched for.
#[derive(Clone, Debug)]
struct Task {
    framework: FrameworkId,
    agent: AgentId,
    shape: Resources,
    ends: Time,
    /// Whether anybody knows.
    declared: bool,
}

/// Frameworks that launch on whatever they are granted, and tasks that end by themselves.
struct World {
    allocator: Allocator,
    now: Time,
    running: Vec<Task>,
    /// How long the tasks of each framework take.
    lasts: BTreeMap<FrameworkId, (Duration, bool)>,
    /// When a framework launched, and how many.
    launched: Vec<(FrameworkId, Time, u32)>,
}

struct Declared<'a>(&'a World);

impl Ends for Declared<'_> {
    fn free_by(&self, agent: AgentId, wanted: &Resources) -> Option<Time> {
        let there = self.0.running.iter().filter(|task| task.agent == agent && task.declared);
        let mut there: Vec<&Task> = there.collect();
        there.sort_by_key(|task| task.ends);
        let mut free = self.0.allocator.free(agent)?.total();
        there.into_iter().find_map(|task| {
            free = free.plus(&task.shape).unwrap();
            free.contains(wanted).then_some(task.ends)
        })
    }
}

fn join(allocator: &mut Allocator, id: FrameworkId) {
    let roles = BTreeMap::from([(role(ROLE), RoleOptions::default())]);
    allocator.add_framework(id, &roles, FrameworkAbilities::default()).unwrap();
}

impl World {
    fn new(options: Options, agents: &[&str]) -> World {
        let mut allocator = Allocator::new(options);
        for (n, total) in (1..).zip(agents) {
            allocator.add_agent(agent(n), &stock(&spec(total), &BTreeMap::new())).unwrap();
        }
        let (running, lasts, launched) = (Vec::new(), BTreeMap::new(), Vec::new());
        World { allocator, now: Time::from_micros(1), running, lasts, launched }
    }

    fn subscribe(&mut self, n: u64, seconds: u64, declared: bool) -> FrameworkId {
        let id = framework(n);
        join(&mut self.allocator, id);
        self.allocator.set_demands(id, &role(ROLE), Vec::new(), self.now).unwrap();
        self.lasts.insert(id, (Duration::from_secs(seconds), declared));
        id
    }

    fn wants(&mut self, id: FrameworkId, demands: Vec<Demand>) {
        self.allocator.set_demands(id, &role(ROLE), demands, self.now).unwrap();
    }

    /// One run, whose grants are launched whole.
    fn run(&mut self) -> Vec<Grant> {
        let due = self.allocator.keeps_at().is_some_and(|at| at <= self.now);
        if due {
            let mut allocator = self.allocator.clone();
            allocator.keep(self.now, &Declared(self));
            self.allocator = allocator;
        }
        let grants = self.allocator.allocate(self.now, 1000);
        self.sound();
        for grant in &grants {
            let served = grant.served.clone().unwrap();
            let (framework, agent) = (grant.framework, grant.agent);
            self.allocator.settle_demand(framework, &grant.role, &served.demand, served.bundles, served.bundles);
            let (lasts, declared) = self.lasts[&framework];
            let shape = served.bundle.shape.clone();
            let task = Task { framework, agent, shape, ends: self.now + lasts, declared };
            self.running.extend(std::iter::repeat_n(task, served.bundles as usize));
            self.launched.push((framework, self.now, served.bundles));
        }
        grants
    }

    fn sound(&self) {
        let violations = self.allocator.check();
        assert!(violations.is_empty(), "{violations:?}");
    }

    /// Time passes, a second at a time; tasks end, and what they leave is granted again.
    fn pass(&mut self, seconds: u64, mut each: impl FnMut(&mut World)) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            let now = self.now;
            for task in self.running.extract_if(.., |task| task.ends <= now).collect::<Vec<_>>() {
                self.allocator
                    .release(task.framework, &role(ROLE), task.agent, &Portions::unreserved(task.shape.clone()))
                    .unwrap();
            }
            each(self);
            self.run();
        }
    }

    fn started(&self, id: FrameworkId) -> u32 {
        self.launched.iter().filter(|(of, ..)| *of == id).map(|(.., count)| count).sum()
    }
}

fn wants(id: &str, shape: &str, count: u32) -> Demand {
    Demand::new(id.parse().unwrap(), spec(shape), count)
}

fn cpus(grants: &[Grant]) -> Vec<u64> {
    grants.iter().map(|grant| grant.portions.total().scalar(&ResourceName::Cpus).0 / 1000).collect()
}

#[test]
fn what_is_granted_is_what_is_wanted() {
    let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB", "cpus:4;mem:8GiB"]);
    let id = world.subscribe(1, 60, false);
    assert!(world.run().is_empty(), "nothing is wanted");
    world.wants(id, vec![wants("a", "cpus:3;mem:1GiB", 2), wants("b", "cpus:1;mem:1GiB", 3)]);
    assert_eq!(cpus(&world.run()), [6, 2, 1]);
    assert!(world.run().is_empty(), "it has everything");
    let fits = world.allocator.waiting(|_, _| true, 10).0;
    assert!(fits.is_empty(), "{fits:?}");
}

#[test]
fn a_minimum_for_one_offer_holds_back_what_is_less() {
    let mut world = World::new(Options::default(), &["cpus:3;mem:8GiB", "cpus:3;mem:8GiB"]);
    let id = world.subscribe(1, 60, false);
    world.wants(id, vec![Demand { minimum: 4, ..wants("a", "cpus:1;mem:1GiB", 8) }]);
    assert!(world.run().is_empty());
    world.allocator.add_agent(agent(9), &stock(&spec("cpus:5;mem:8GiB"), &BTreeMap::new())).unwrap();
    assert_eq!(cpus(&world.run()), [5, 3], "the last three are fewer than the minimum and no less wanted");
}

#[test]
fn a_gang_is_granted_at_one_time_or_not_at_all() {
    let mut world = World::new(Options::default(), &["cpus:4;mem:8GiB", "cpus:4;mem:8GiB"]);
    let id = world.subscribe(1, 60, false);
    world.wants(id, vec![Demand { gang: true, ..wants("a", "cpus:3;mem:1GiB", 3) }]);
    assert!(world.run().is_empty(), "only two fit");
    world.allocator.add_agent(agent(3), &stock(&spec("cpus:4;mem:8GiB"), &BTreeMap::new())).unwrap();
    let grants = world.run();
    assert_eq!(cpus(&grants), [3, 3, 3]);
    assert!(grants.iter().all(|grant| grant.gang.is_some() && grant.gang == grants[0].gang));
}

#[test]
fn a_constraint_of_a_demand_chooses_its_agents() {
    let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB"]);
    let attributes = BTreeMap::from([("ssd".into(), "yes".into())]);
    world.allocator.add_agent(agent(2), &stock(&spec("cpus:2;mem:8GiB"), &attributes)).unwrap();
    let id = world.subscribe(1, 60, false);
    let constraints = Constraints::new(["ssd=yes".parse().unwrap()]).unwrap();
    world.wants(id, vec![Demand { constraints, ..wants("a", "cpus:1;mem:1GiB", 8) }]);
    assert_eq!(cpus(&world.run()), [2]);
    let (waiting, _) = world.allocator.waiting(|_, _| true, 10);
    assert_eq!((waiting[0].fit.excluded, waiting[0].fit.busy, waiting[0].fit.small), (1, 1, 0));
}

/// A shape as large as an agent, beside tasks that refill every hole. Returns when it started.
fn large_among_small(options: Options, declared: bool) -> Option<Duration> {
    let mut world = World::new(options, &["cpus:8;mem:8GiB"; 4]);
    let small = world.subscribe(1, 40, declared);
    let large = world.subscribe(2, 60, true);
    let refill = move |world: &mut World| {
        let max_duration = declared.then(|| Duration::from_secs(40));
        world.wants(small, vec![Demand { max_duration, ..wants("s", "cpus:1;mem:1GiB", 100) }]);
    };
    refill(&mut world);
    // They start one after the other, so that they never end together.
    for _ in 0..40 {
        world.pass(1, |world| {
            let count = if world.running.len() < 32 { 1 } else { 0 };
            let wanted = (count > 0).then(|| wants("s", "cpus:1;mem:1GiB", count));
            world.wants(small, wanted.into_iter().collect());
        });
    }
    let begin = world.now;
    world.wants(large, vec![wants("l", "cpus:8;mem:8GiB", 1)]);
    world.pass(600, refill);
    let start = world.launched.iter().find(|(of, ..)| *of == large).map(|(_, at, _)| at.since(begin));
    assert!(world.started(small) > 100, "small tasks go on meanwhile");
    start
}

#[test]
fn a_large_shape_starts_in_bounded_time_however_many_small_tasks_come() {
    let after = Options::default().reserve_after;
    let start = large_among_small(Options::default(), true).expect("it starts");
    assert!(start <= after + Duration::from_secs(41), "{start:?}");
    let undeclared = large_among_small(Options::default(), false).expect("it starts without declared durations too");
    assert!(undeclared <= after + Duration::from_secs(41), "{undeclared:?}");
    let never = Options { reserve_after: Duration::from_secs(100_000), ..Options::default() };
    assert_eq!(large_among_small(never, true), None, "without a reservation it starves: that is what they are for");
}

#[test]
fn what_is_kept_is_lent_to_what_is_over_in_time_and_to_nobody_else() {
    let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB"]);
    let long = world.subscribe(1, 300, true);
    let large = world.subscribe(2, 60, true);
    let short = world.subscribe(3, 10, true);
    let endless = world.subscribe(4, 1000, false);
    world.wants(long, vec![wants("x", "cpus:2;mem:1GiB", 1)]);
    world.run();
    world.wants(large, vec![wants("l", "cpus:8;mem:8GiB", 1)]);
    world.pass(40, |_| {});
    let (waiting, _) = world.allocator.waiting(|_, _| true, 10);
    let kept = waiting[0].kept.as_ref().expect("the agent is kept");
    assert_eq!(kept.agents[0].1.total(), spec("cpus:6;mem:7GiB"), "all but what runs");
    world.wants(endless, vec![wants("e", "cpus:1;mem:1GiB", 1)]);
    let ten = Some(Duration::from_secs(10));
    world.wants(short, vec![Demand { max_duration: ten, ..wants("s", "cpus:1;mem:1GiB", 4) }]);
    world.pass(5, |_| {});
    assert_eq!((world.started(short), world.started(endless)), (4, 0));
    world.pass(240, |_| {});
    world.wants(short, vec![Demand { max_duration: ten, ..wants("s", "cpus:1;mem:1GiB", 4) }]);
    world.pass(10, |_| {});
    assert_eq!(world.started(short), 8, "there is still time for it");
    world.pass(10, |_| {});
    assert_eq!(world.started(large), 1, "what was lent came back in time");
    world.pass(70, |_| {});
    assert_eq!(world.started(endless), 1);
}

#[test]
fn a_reservation_that_comes_to_nothing_is_given_up_and_tried_later() {
    let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB"]);
    let long = world.subscribe(1, 100_000, false);
    let large = world.subscribe(2, 60, true);
    let other = world.subscribe(3, 10, false);
    world.wants(long, vec![wants("x", "cpus:2;mem:1GiB", 1)]);
    world.run();
    world.wants(large, vec![wants("l", "cpus:8;mem:8GiB", 1)]);
    let is_kept = |world: &World| world.allocator.waiting(|_, _| true, 10).0.iter().any(|one| one.kept.is_some());
    world.pass(31, |_| {});
    assert!(is_kept(&world));
    world.wants(other, vec![wants("o", "cpus:1;mem:1GiB", 1)]);
    world.pass(290, |_| {});
    assert_eq!(world.started(other), 0);
    world.pass(15, |_| {});
    assert!(!is_kept(&world), "five minutes are over");
    assert_eq!(world.started(other), 1, "others have the agent meanwhile");
    world.pass(30, |_| {});
    assert!(!is_kept(&world), "the second try waits twice as long");
    world.pass(40, |_| {});
    assert!(is_kept(&world));
}

#[test]
fn a_shape_that_fits_no_agent_keeps_nobody_waiting() {
    let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB"]);
    let large = world.subscribe(1, 60, true);
    let other = world.subscribe(2, 10, false);
    world.wants(large, vec![wants("l", "cpus:9;mem:8GiB", 1)]);
    world.pass(120, |_| {});
    world.wants(other, vec![wants("o", "cpus:8;mem:1GiB", 1)]);
    world.pass(1, |_| {});
    assert_eq!(world.started(other), 1);
    assert_eq!(world.allocator.waiting(|_, _| true, 10).0[0].fit.small, 1);
}

/// Something that happens among frameworks with demands.
#[derive(Clone, Debug)]
enum Op {
    Want(u64, Vec<(u64, u32, bool, i32, bool)>),
    Return(usize, bool, u64),
    End(usize),
    AgentActive(u64, bool),
    Replace(u64),
    Away(u64),
    Wait(u64),
    Run,
}

fn op() -> impl Strategy<Value = Op> {
    let one = (1..9u64, 1..5u32, any::<bool>(), -1..2i32, any::<bool>());
    prop_oneof![
        4 => (1..4u64, prop::collection::vec(one, 0..3)).prop_map(|(n, demands)| Op::Want(n, demands)),
        4 => (any::<usize>(), any::<bool>(), 0..4u64).prop_map(|(at, use_it, secs)| Op::Return(at, use_it, secs)),
        4 => any::<usize>().prop_map(Op::End),
        1 => (1..5u64, any::<bool>()).prop_map(|(n, active)| Op::AgentActive(n, active)),
        1 => (1..5u64).prop_map(Op::Replace),
        1 => (1..4u64).prop_map(Op::Away),
        3 => (1..40u64).prop_map(Op::Wait),
        6 => Just(Op::Run),
    ]
}

struct Nobody;

impl Ends for Nobody {
    fn free_by(&self, _: AgentId, _: &Resources) -> Option<Time> {
        None
    }
}

/// The state of a random run.
struct Churn {
    world: World,
    out: Vec<Grant>,
    wanted: BTreeMap<FrameworkId, Vec<Demand>>,
}

impl Churn {
    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Want(n, demands) => self.want(*n, demands),
            Op::Return(at, launch, seconds) => self.give_back(*at, *launch, *seconds),
            Op::End(at) if !self.world.running.is_empty() => {
                let task = self.world.running.swap_remove(at % self.world.running.len());
                let released = self.world.allocator.release(
                    task.framework,
                    &role(ROLE),
                    task.agent,
                    &Portions::unreserved(task.shape.clone()),
                );
                released.unwrap();
            }
            Op::End(_) => {}
            Op::AgentActive(n, active) => self.world.allocator.set_agent_active(agent(*n), *active).unwrap(),
            Op::Replace(n) => {
                self.world.allocator.remove_agent(agent(*n)).unwrap();
                for grant in self.out.extract_if(.., |grant| grant.agent == agent(*n)) {
                    let served = grant.served.unwrap();
                    let (id, bundles) = (&served.demand, served.bundles);
                    self.world.allocator.settle_demand(grant.framework, &grant.role, id, bundles, 0);
                }
                self.world.running.retain(|task| task.agent != agent(*n));
                self.world.allocator.add_agent(agent(*n), &stock(&spec("cpus:8;mem:8GiB"), &BTreeMap::new())).unwrap();
            }
            Op::Away(n) => self.away(framework(*n)),
            Op::Wait(seconds) => self.world.now = self.world.now + Duration::from_secs(*seconds),
            Op::Run => self.run()?,
        }
        self.world.sound();
        Ok(())
    }

    fn want(&mut self, n: u64, demands: &[(u64, u32, bool, i32, bool)]) {
        let demand = |(at, (cpus, count, gang, priority, short)): (usize, &(u64, u32, bool, i32, bool))| Demand {
            gang: *gang,
            priority: *priority,
            max_duration: short.then(|| Duration::from_secs(20)),
            ..wants(&format!("d{at}"), &format!("cpus:{cpus};mem:512MiB"), *count)
        };
        let demands: Vec<Demand> = demands.iter().enumerate().map(demand).collect();
        self.wanted.insert(framework(n), demands.clone());
        self.world.wants(framework(n), demands);
    }

    fn give_back(&mut self, at: usize, launch: bool, seconds: u64) {
        if self.out.is_empty() {
            return;
        }
        let Grant { framework, role, agent, portions, served, .. } = self.out.swap_remove(at % self.out.len());
        let served = served.unwrap();
        let launched = if launch { served.bundles } else { 0 };
        self.world.allocator.settle_demand(framework, &role, &served.demand, served.bundles, launched);
        if launch {
            let shape = served.bundle.shape;
            let task = Task { framework, agent, shape, ends: self.world.now, declared: false };
            self.world.running.extend(std::iter::repeat_n(task, served.bundles as usize));
        } else {
            let refusal = Refusal::new(Duration::from_secs(seconds));
            let now = self.world.now;
            self.world.allocator.decline(framework, &role, agent, &portions, refusal, now).unwrap();
        }
    }

    /// A framework is disconnected and comes back.
    fn away(&mut self, id: FrameworkId) {
        for grant in self.out.extract_if(.., |grant| grant.framework == id) {
            let served = grant.served.unwrap();
            self.world.allocator.settle_demand(id, &grant.role, &served.demand, served.bundles, 0);
            self.world.allocator.release(id, &grant.role, grant.agent, &grant.portions).unwrap();
        }
        self.world.allocator.set_framework_active(id, false).unwrap();
        self.world.sound();
        join(&mut self.world.allocator, id);
        self.wanted.remove(&id);
        self.world.wants(id, Vec::new());
    }

    fn run(&mut self) -> Result<(), TestCaseError> {
        self.world.allocator.keep(self.world.now, &Nobody);
        self.check_reservations()?;
        let grants = self.world.allocator.allocate(self.world.now, 1000);
        let mut gangs: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for grant in &grants {
            let served = grant.served.as_ref().unwrap();
            let whole = served.bundle.shape.times(served.bundles).unwrap();
            prop_assert_eq!(&grant.portions.total(), &whole, "no grant is larger than useful");
            let wanted = self.wanted[&grant.framework].iter().find(|one| one.id == served.demand).unwrap();
            let out = self.out.iter().filter(|of| of.framework == grant.framework);
            let out = out.filter(|of| of.served.as_ref().is_some_and(|of| of.demand == served.demand));
            let offered: u32 = out.map(|of| of.served.as_ref().unwrap().bundles).sum();
            prop_assert!(served.bundles + offered <= wanted.count.max(offered), "no more than is wanted");
            prop_assert_eq!(grant.gang.is_some(), wanted.gang);
            if let Some(gang) = grant.gang {
                let entry = gangs.entry(gang).or_insert((0, wanted.count));
                entry.0 += served.bundles;
            }
        }
        let launched_before = |(granted, count): (u32, u32)| granted <= count && granted > 0;
        prop_assert!(gangs.into_values().all(launched_before));
        self.out.extend(grants);
        Ok(())
    }

    fn check_reservations(&self) -> Result<(), TestCaseError> {
        let (waiting, _) = self.world.allocator.waiting(|_, _| true, 1000);
        let kept: Vec<_> = waiting.iter().filter(|one| one.kept.is_some()).collect();
        let mut owners: Vec<FrameworkId> = kept.iter().map(|one| one.framework).collect();
        owners.dedup();
        prop_assert_eq!(owners.len(), kept.len(), "one reservation for each leaf");
        let agents: Vec<AgentId> = kept
            .iter()
            .flat_map(|one| one.kept.iter().flat_map(|kept| kept.agents.iter().map(|(id, _)| *id)))
            .collect();
        let distinct: std::collections::BTreeSet<_> = agents.iter().collect();
        prop_assert_eq!(distinct.len(), agents.len(), "an agent is kept for one");
        // A tenth of 32 cpus is less than any agent: beside the one that is always possible, a second one is small.
        let needs = |one: &&holm_allocator::Waiting| one.demand.shape.scalar(&ResourceName::Cpus).0;
        let smallest: u64 = kept.iter().map(needs).sum::<u64>() - kept.iter().map(needs).max().unwrap_or(0);
        prop_assert!(smallest <= 3_200, "{smallest}");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_grants_fit_their_demands_and_reservations_stay_bounded(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let mut world = World::new(Options::default(), &["cpus:8;mem:8GiB"; 4]);
        for n in 1..4 {
            world.subscribe(n, 60, false);
        }
        let mut churn = Churn { world, out: Vec::new(), wanted: BTreeMap::new() };
        for op in ops {
            churn.apply(&op)?;
        }
    }
}
