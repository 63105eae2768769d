//! What holds whatever happens, and in whatever order.

use std::num::NonZeroU32;
use std::time::Duration;

use holm_allocator::{Allocator, FrameworkAbilities, Grant, Options};
use holm_model::{Attributes, Portions, Refusal, ResourceName, Resources, Role, Time};
use proptest::prelude::*;

use crate::tenants::{agent, cluster, fill, framework, role, roles, stock, subscribe};

/// Something that happens; numbers pick among what is there.
#[derive(Clone, Debug)]
enum Op {
    AddAgent(u64, u64),
    UpdateAgent(u64, u64, bool),
    RemoveAgent(u64),
    AgentActive(u64, bool),
    AddFramework(u64, Vec<u8>),
    RemoveFramework(u64),
    FrameworkActive(u64, bool),
    Suppress(u64),
    Revive(u64),
    Weight(u8, u32),
    Running(u64, u8, u64, u64),
    /// Return a part of something held, in percent, refusing it for so many seconds.
    Return(usize, u64, u64),
    Allocate(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..6u64, 1..9u64).prop_map(|(n, size)| Op::AddAgent(n, size)),
        1 => (0..6u64, 0..9u64, any::<bool>()).prop_map(|(n, size, moved)| Op::UpdateAgent(n, size, moved)),
        1 => (0..6u64).prop_map(Op::RemoveAgent),
        1 => (0..6u64, any::<bool>()).prop_map(|(n, active)| Op::AgentActive(n, active)),
        2 => (0..5u64, prop::collection::vec(0..4u8, 1..4)).prop_map(|(n, roles)| Op::AddFramework(n, roles)),
        1 => (0..5u64).prop_map(Op::RemoveFramework),
        1 => (0..5u64, any::<bool>()).prop_map(|(n, active)| Op::FrameworkActive(n, active)),
        1 => (0..5u64).prop_map(Op::Suppress),
        1 => (0..5u64).prop_map(Op::Revive),
        1 => (0..4u8, 1..9000u32).prop_map(|(n, weight)| Op::Weight(n, weight)),
        1 => (0..5u64, 0..4u8, 0..6u64, 1..4u64).prop_map(|(f, r, a, size)| Op::Running(f, r, a, size)),
        8 => (any::<usize>(), 0..=100u64, 0..4u64).prop_map(|(at, part, secs)| Op::Return(at, part, secs)),
        6 => (1..5usize).prop_map(Op::Allocate),
        2 => (0..4u64).prop_map(Op::Wait),
    ]
}

fn size(cpus: u64) -> Resources {
    Resources::scalars([(ResourceName::Cpus, cpus * 1000), (ResourceName::Mem, (9 - cpus) << 30)])
}

fn percent(of: &Resources, part: u64) -> Resources {
    Resources::scalars(of.iter_scalars().map(|(name, amount)| (name.clone(), amount.0 * part / 100)))
}

fn nth_role(n: u8) -> Role {
    role(["eng", "eng/web", "ops", "x"][usize::from(n)])
}

/// A world that remembers what is held, as a master would.
struct World {
    allocator: Allocator,
    now: Time,
    held: Vec<Grant>,
    granted: Vec<Grant>,
}

impl World {
    fn new() -> World {
        World { allocator: Allocator::new(Options::default()), now: Time::ZERO, held: Vec::new(), granted: Vec::new() }
    }

    /// Operations on what is not there are refused, which is fine here.
    fn apply(&mut self, op: &Op) {
        let attributes = |moved: bool| Attributes::from([("rack".into(), if moved { "b" } else { "a" }.into())]);
        match op {
            Op::AddAgent(n, cpus) => {
                drop(self.allocator.add_agent(agent(*n), &stock(&size(*cpus), &attributes(false))))
            }
            Op::UpdateAgent(n, cpus, moved) => {
                drop(self.allocator.update_agent(agent(*n), &stock(&size(*cpus), &attributes(*moved))));
            }
            Op::RemoveAgent(n) => {
                drop(self.allocator.remove_agent(agent(*n)));
                self.held.retain(|held| held.agent != agent(*n));
            }
            Op::AgentActive(n, active) => drop(self.allocator.set_agent_active(agent(*n), *active)),
            Op::AddFramework(n, roles) => {
                self.allocator
                    .add_framework(
                        framework(*n),
                        &crate::tenants::roles(roles.iter().copied().map(nth_role)),
                        FrameworkAbilities::default(),
                    )
                    .unwrap();
            }
            Op::RemoveFramework(n) => drop(self.allocator.remove_framework(framework(*n))),
            Op::FrameworkActive(n, active) => drop(self.allocator.set_framework_active(framework(*n), *active)),
            Op::Suppress(n) => drop(self.allocator.suppress(framework(*n), &[])),
            Op::Revive(n) => drop(self.allocator.revive(framework(*n), &[])),
            Op::Weight(n, weight) => self.allocator.set_weight(&nth_role(*n), NonZeroU32::new(*weight).unwrap()),
            Op::Running(f, r, a, cpus) => {
                let (framework, role, agent) = (framework(*f), nth_role(*r), agent(*a));
                let portions = Portions::unreserved(size(*cpus));
                if self.allocator.allocated(framework, &role, agent, &portions).is_ok() {
                    self.held.push(Grant { framework, role, agent, portions, served: None, gang: None });
                }
            }
            Op::Return(at, part, seconds) => self.give_back(*at, *part, Duration::from_secs(*seconds)),
            Op::Allocate(max) => self.allocate(*max),
            Op::Wait(seconds) => self.now = self.now + Duration::from_secs(*seconds),
        }
    }

    fn give_back(&mut self, at: usize, part: u64, refuse: Duration) {
        if self.held.is_empty() {
            return;
        }
        let at = at % self.held.len();
        let held = &mut self.held[at];
        let part = Portions::unreserved(percent(&held.portions.total(), part));
        let refusal = Refusal::new(refuse);
        self.allocator.decline(held.framework, &held.role, held.agent, &part, refusal, self.now).unwrap();
        held.portions = held.portions.minus(&part).unwrap();
        if held.portions.is_empty() {
            self.held.swap_remove(at);
        }
    }

    fn allocate(&mut self, max: usize) {
        let grants = self.allocator.allocate(self.now, max);
        self.granted.extend(grants.iter().cloned());
        self.held.extend(grants);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// After every operation: nothing is lost or doubled, sums and orders are right, and whatever is free is either refused
    /// by everyone or due to be granted. At the end everything can be returned, and all that is there is free again.
    #[test]
    fn books_balance_after_any_history(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            prop_assert_eq!(world.allocator.check(), vec![], "after {:?}", op);
        }
        for held in std::mem::take(&mut world.held) {
            world.allocator.release(held.framework, &held.role, held.agent, &held.portions).unwrap();
        }
        prop_assert_eq!(world.allocator.check(), vec![]);
        prop_assert!(world.allocator.shares().all(|share| share.allocated.is_empty()));
    }

    #[test]
    fn the_same_history_makes_the_same_grants(ops in prop::collection::vec(op(), 1..60)) {
        let run = || {
            let mut world = World::new();
            ops.iter().for_each(|op| world.apply(op));
            world.granted
        };
        prop_assert_eq!(run(), run());
    }

    /// Seen from outside: with somebody to take it and no refusals, nothing worth an offer stays free.
    #[test]
    fn nothing_stays_free_while_somebody_wants_it(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            match op {
                Op::Return(at, part, _) => world.apply(&Op::Return(*at, *part, 0)),
                Op::AgentActive(..) => {}
                op => world.apply(op),
            }
        }
        world.allocator.add_framework(framework(9), &roles([role("x")]), FrameworkAbilities::default()).unwrap();
        world.allocate(usize::MAX);
        for n in 0..6 {
            let free = world.allocator.free(agent(n)).unwrap_or_default().total();
            let minimum = Options::default().minimum;
            prop_assert!(!minimum.iter().any(|least| free.contains(least)), "{} has {} free", agent(n), free);
        }
    }

    /// Sharing incentive for whole tasks: everyone who could use more gets its weight's part, less one largest task.
    #[test]
    fn everyone_gets_its_part_but_for_one_task(
        cpus in 20..60u64,
        mem in 20..60u64,
        demands in prop::collection::vec((1..8u64, 1..8u64, 1..5u32), 2..5),
    ) {
        let bundle = |cpus: u64, mem: u64| {
            Resources::scalars([(ResourceName::Cpus, cpus * 1000), (ResourceName::Mem, mem << 30)])
        };
        let mut allocator = cluster(&[&bundle(cpus, mem).to_string()]);
        let wanted: Vec<_> = demands.iter().map(|(c, m, weight)| (bundle(*c, *m), weight * 1000)).collect();
        let mut tenants = subscribe(&mut allocator, &wanted);
        fill(&mut allocator, &mut tenants);
        let weights: u32 = demands.iter().map(|(_, _, weight)| weight).sum();
        let dominant = |(c, m, weight): &(u64, u64, u32)| {
            (*c as f64 / cpus as f64).max(*m as f64 / mem as f64) / f64::from(*weight)
        };
        let granularity = demands.iter().map(dominant).fold(0.0, f64::max);
        for (tenant, demand) in tenants.iter().zip(&demands) {
            let share = f64::from(tenant.tasks) * dominant(demand);
            let part = 1.0 / f64::from(weights);
            prop_assert!(share >= part - granularity - 1e-9, "{:?} of {:?}: {} < {}", tenant, demands, share, part);
        }
    }
}
