//! Times the allocator in the cases of the Mesos benchmarks, one JSON line per figure. Release builds only mean something.

#![allow(clippy::unwrap_used, reason = "a measuring program that cannot go on has nothing to measure")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures are shown with a few digits, and counts are small"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holm_allocator::{AgentStock, Allocator, FrameworkAbilities, Grant, Options};
use holm_model::{AgentId, Attributes, Epoch, FrameworkId, Portions, Refusal, Role, RoleOptions, Time};

fn agent(n: u64) -> AgentId {
    AgentId::new(Epoch(1), n)
}

fn framework(n: u64) -> FrameworkId {
    FrameworkId::new(Epoch(1), n)
}

fn row(what: &str, value: f64, unit: &str, note: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value},\"unit\":\"{unit}\",\"note\":\"{note}\"}}");
}

/// Time on a processor, so that what else runs on the machine does not count; from the clock where the system does not tell.
#[derive(Clone, Copy)]
struct Watch(Instant, Option<u64>);

impl Watch {
    fn start() -> Watch {
        Watch(Instant::now(), on_processor())
    }
}

fn on_processor() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

fn millis(since: Watch) -> f64 {
    let wall = since.0.elapsed().as_secs_f64() * 1e3;
    match (since.1, on_processor()) {
        // The system counts in ticks of some milliseconds.
        (Some(before), Some(now)) if wall > 20.0 => (now - before) as f64 / 1e6,
        _ => wall,
    }
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}

fn portions(text: &str) -> Portions {
    Portions::unreserved(text.parse().unwrap())
}

/// A cluster with these many agents and frameworks; frameworks spread over these many roles.
fn cluster(agents: u64, frameworks: u64, roles: u64, total: &str) -> Allocator {
    let mut allocator = Allocator::new(Options::default());
    for n in 0..frameworks {
        let role: Role = format!("role{}", n % roles).parse().unwrap();
        let roles: BTreeMap<Role, RoleOptions> = [(role, RoleOptions::default())].into();
        allocator.add_framework(framework(n), &roles, FrameworkAbilities::default()).unwrap();
    }
    let stock = AgentStock { portions: portions(total), attributes: Attributes::new(), hostname: "host".into() };
    (0..agents).for_each(|n| allocator.add_agent(agent(n), &stock).unwrap());
    allocator
}

fn give_back(allocator: &mut Allocator, grants: &[Grant], refusal: Refusal) {
    for of in grants {
        allocator.decline(of.framework, &of.role, of.agent, &of.portions, refusal, Time::ZERO).unwrap();
    }
}

const AGENT: &str = "cpus:24;mem:4096MiB;disk:4096MiB;ports:[31000-32000]";

fn full_cycles(sizes: &[(u64, u64, u64)]) {
    for (agents, frameworks, roles) in sizes {
        let start = Watch::start();
        let mut allocator = cluster(*agents, *frameworks, *roles, AGENT);
        let name = format!("{agents} agents x {frameworks} frameworks in {roles} roles");
        row(&format!("add all, {name}"), millis(start), "ms", "");
        let start = Watch::start();
        let grants = allocator.allocate(Time::ZERO, usize::MAX);
        row(&format!("full cycle, {name}"), millis(start), "ms", &format!("{} offers", grants.len()));
        let start = Watch::start();
        (0..*frameworks).for_each(|n| allocator.revive(framework(n), &[]).unwrap());
        allocator.allocate(Time::ZERO, usize::MAX);
        row(&format!("all revive, nothing free, {name}"), millis(start), "ms", "");
        (0..*frameworks).for_each(|n| allocator.suppress(framework(n), &[]).unwrap());
        give_back(&mut allocator, &grants, Refusal::NONE);
        let start = Watch::start();
        allocator.allocate(Time::ZERO, usize::MAX);
        row(&format!("all free, all suppressed, {name}"), millis(start), "ms", "");
    }
}

fn refused(agents: u64, frameworks: u64) {
    let mut allocator = cluster(agents, frameworks, 1, AGENT);
    let refusal = Refusal::new(Duration::from_secs(1 << 30));
    let mut filters = 0;
    loop {
        let start = Watch::start();
        let grants = allocator.allocate(Time::ZERO, usize::MAX);
        if grants.is_empty() {
            let name = format!("everything refused, {agents} x {frameworks}");
            row(&name, millis(start), "ms", &format!("{filters} filters, {:.0} MiB", resident_kib() / 1024.0));
            allocator.sweep();
            let start = Watch::start();
            allocator.allocate(Time::ZERO, usize::MAX);
            return row(&format!("{name}, every agent looked at"), millis(start), "ms", "");
        }
        filters += grants.len();
        give_back(&mut allocator, &grants, refusal);
    }
}

/// Tasks end one by one on a full cluster, and what each frees is granted again.
fn decisions(agents: u64, leaves: u64, tasks: u64) {
    let base = resident_kib();
    let mut allocator = cluster(agents, leaves, leaves, "cpus:10;mem:10GiB");
    let one = portions("cpus:1;mem:1GiB");
    let after_agents = resident_kib();
    let role = |leaf: u64| -> Role { format!("role{leaf}").parse().unwrap() };
    let roles: Vec<Role> = (0..leaves).map(role).collect();
    let mut held = Vec::new();
    for n in 0..tasks {
        // Ten tasks of an agent are of ten leaves.
        let leaf = (n * 7919 + n / agents) % leaves;
        allocator.allocated(framework(leaf), &roles[leaf as usize], agent(n % agents), &one).unwrap();
        held.push((leaf, n % agents));
    }
    let after_tasks = resident_kib();
    let name = format!("{agents} agents, {leaves} roles, {tasks} tasks");
    if after_agents > base {
        // Later runs are served from what the first one gave back.
        row(
            &format!("memory per agent, {name}"),
            (after_agents - base) * 1024.0 / agents as f64,
            "B",
            "with its roles",
        );
        row(&format!("memory per task, {name}"), (after_tasks - after_agents) * 1024.0 / tasks as f64, "B", "");
        row(&format!("memory in all, {name}"), after_tasks / 1024.0, "MiB", "");
    }
    allocator.allocate(Time::ZERO, usize::MAX);
    let (mut dice, mut times) = (1u64, Vec::new());
    for _ in 0..200_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from((dice >> 33) % tasks).unwrap();
        let (leaf, on) = held[at];
        let start = Instant::now();
        allocator.release(framework(leaf), &roles[leaf as usize], agent(on), &one).unwrap();
        let grants = allocator.allocate(Time::ZERO, 1);
        times.push(start.elapsed().as_nanos());
        held[at] = (grants[0].framework.counter(), on);
    }
    times.sort_unstable();
    row(&format!("decision p50, {name}"), times[100_000] as f64 / 1e3, "us", "a task ends, the next grant");
    row(&format!("decision p99, {name}"), times[198_000] as f64 / 1e3, "us", "");
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    if quick {
        full_cycles(&[(1_000, 50, 1)]);
        refused(1_000, 50);
        return decisions(1_000, 100, 10_000);
    }
    let only = |what: &str| std::env::args().len() == 1 || std::env::args().any(|arg| arg == what);
    // The largest first: its memory is the process's.
    if only("decisions") {
        for agents in [100_000, 10_000, 1_000] {
            decisions(agents, 10_000.min(agents), agents * 10);
        }
    }
    if only("cycles") {
        full_cycles(&[
            (10_000, 1_000, 1),
            (10_000, 1_000, 1_000),
            (20_000, 1_000, 1),
            (50_000, 1_000, 1),
            (50_000, 6_000, 1),
        ]);
    }
    if only("refused") {
        refused(5_000, 50);
        refused(10_000, 100);
    }
}
