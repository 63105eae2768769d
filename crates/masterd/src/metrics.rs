//! What the master counts, in the text format that Prometheus reads.

use std::collections::BTreeMap;

use holm_master::{AgentPhase, FrameworkPhase};
use holm_model::{PolicyCost, TaskStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::view::View;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PreemptionLabels {
    rule: &'static str,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    state: &'static str,
    reason: &'static str,
}

/// Why a session was ended by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its outbound queue was full.
    Slow,
    /// It said something that is not the protocol.
    Protocol,
    /// It said nothing in time, or too many were open.
    Refused,
}

/// Every instrument.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    events: Family<KindLabel, Counter>,
    tasks: Family<StatusLabels, Counter>,
    preemptions: Family<PreemptionLabels, Counter>,
    dropped: Family<KindLabel, Counter>,
    agents: Family<StateLabel, Gauge>,
    frameworks: Family<StateLabel, Gauge>,
    live_tasks: Family<StateLabel, Gauge>,
    offers: Gauge,
    blobs: Gauge,
    blob_bytes: Gauge,
    policy_calls: Counter,
    policy_seconds: Histogram,
    policy_fuel: Counter,
    policy_failures: Family<KindLabel, Counter>,
    /// Whether the policy's order is in force.
    pub(crate) policy_in_force: Gauge,
    unknown_variants: Gauge,
    unknown_values: Gauge,
    pub(crate) handle_seconds: Histogram,
    pub(crate) queue: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) writes: Counter,
    pub(crate) violations: Counter,
    pub(crate) bulk_open: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("holm_master"),
            events: Family::default(),
            tasks: Family::default(),
            preemptions: Family::default(),
            dropped: Family::default(),
            agents: Family::default(),
            frameworks: Family::default(),
            live_tasks: Family::default(),
            offers: Gauge::default(),
            blobs: Gauge::default(),
            blob_bytes: Gauge::default(),
            policy_calls: Counter::default(),
            policy_seconds: Histogram::new(exponential_buckets(1e-5, 4.0, 10)),
            policy_fuel: Counter::default(),
            policy_failures: Family::default(),
            policy_in_force: Gauge::default(),
            unknown_variants: Gauge::default(),
            unknown_values: Gauge::default(),
            handle_seconds: Histogram::new(exponential_buckets(1e-6, 4.0, 12)),
            queue: Gauge::default(),
            sessions: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            writes: Counter::default(),
            violations: Counter::default(),
            bulk_open: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("events", "Events handled, by kind", self.events.clone());
        registry.register("handle_seconds", "Time to handle an event", self.handle_seconds.clone());
        registry.register("queue", "Events waiting for the driver", self.queue.clone());
        registry.register("writes", "Registry commits", self.writes.clone());
        registry.register("violations", "Broken invariants found", self.violations.clone());
        registry.register("tasks_entered", "Tasks that entered a state, by state and reason", self.tasks.clone());
        registry.register("preemptions", "Preemptions that reached a phase, by rule", self.preemptions.clone());
        registry.register("tasks", "Tasks by where they are", self.live_tasks.clone());
        registry.register("agents", "Agents by state", self.agents.clone());
        registry.register("frameworks", "Frameworks by state", self.frameworks.clone());
        registry.register("offers", "Offers that are out", self.offers.clone());
        registry.register("sessions", "Open agent and framework streams", self.sessions.clone());
        registry.register("sessions_dropped", "Streams ended by the master, by cause", self.dropped.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections over the limit or silent",
            self.connections_refused.clone(),
        );
        registry.register("bulk_open", "Requests being relayed to agents", self.bulk_open.clone());
        registry.register("blobs", "Blobs stored", self.blobs.clone());
        registry.register("blob_bytes", "Bytes of the blobs stored", self.blob_bytes.clone());
        registry.register("policy_calls", "Calls of the allocation policy", self.policy_calls.clone());
        registry.register("policy_seconds", "Time of a call of the policy", self.policy_seconds.clone());
        registry.register("policy_fuel", "Fuel that the policy has used", self.policy_fuel.clone());
        registry.register("policy_failures", "Failures of the policy, by kind", self.policy_failures.clone());
        registry.register("policy_in_force", "Whether the policy's order is in force", self.policy_in_force.clone());
        registry.register("unknown_variants", "Messages of an unknown kind, ignored", self.unknown_variants.clone());
        registry.register("unknown_values", "Enum values not known, replaced", self.unknown_values.clone());
    }

    pub(crate) fn event(&self, kind: &'static str, seconds: f64) {
        self.events.get_or_create(&KindLabel { kind }).inc();
        self.handle_seconds.observe(seconds);
    }

    pub(crate) fn tasks_entered(&self, status: &TaskStatus, count: u64) {
        let reason = status.reason.map_or("", |reason| reason.as_str());
        self.tasks.get_or_create(&StatusLabels { state: status.state.as_str(), reason }).inc_by(count);
    }

    pub(crate) fn preemption(&self, rule: &'static str, phase: &'static str) {
        self.preemptions.get_or_create(&PreemptionLabels { rule, phase }).inc();
    }

    pub(crate) fn policy_called(&self, cost: PolicyCost) {
        self.policy_calls.inc();
        self.policy_fuel.inc_by(cost.fuel);
        self.policy_seconds.observe(cost.time.as_secs_f64());
    }

    pub(crate) fn policy_failed(&self, kind: &'static str) {
        self.policy_failures.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn dropped(&self, cause: Dropped) {
        let kind = match cause {
            Dropped::Slow => "slow",
            Dropped::Protocol => "protocol",
            Dropped::Refused => "refused",
        };
        self.dropped.get_or_create(&KindLabel { kind }).inc();
    }

    /// Everything as text; what only the read model and the blob store know is taken from there now.
    pub(crate) fn render(&self, view: &View, blobs: (u64, u64)) -> String {
        self.take_gauges(view);
        self.blobs.set(clamp(blobs.0));
        self.blob_bytes.set(clamp(blobs.1));
        self.unknown_variants.set(clamp(holm_proto::unknown::variants()));
        self.unknown_values.set(clamp(holm_proto::unknown::enum_values()));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a string does not fail.
            Err(std::fmt::Error) => String::new(),
        }
    }

    fn take_gauges(&self, view: &View) {
        let state = view.read();
        let mut agents = BTreeMap::from(
            [AgentPhase::Recovering, AgentPhase::Active, AgentPhase::Disconnected, AgentPhase::Unreachable]
                .map(|phase| (phase.as_str(), 0)),
        );
        for entry in state.agents.values() {
            *agents.entry(entry.view.phase.as_str()).or_insert(0) += 1;
        }
        let mut frameworks = BTreeMap::from(
            [FrameworkPhase::Connected, FrameworkPhase::Disconnected, FrameworkPhase::Completed]
                .map(|phase| (phase.as_str(), 0)),
        );
        for entry in state.frameworks.values() {
            *frameworks.entry(entry.view.phase.as_str()).or_insert(0) += 1;
        }
        for (family, counts) in [(&self.agents, agents), (&self.frameworks, frameworks)] {
            for (state, count) in counts {
                family.get_or_create(&StateLabel { state }).set(count);
            }
        }
        let counts = state.counts;
        for (state, count) in [
            ("staging", counts.staging),
            ("running", counts.running),
            ("unreachable", counts.unreachable),
            ("finished", counts.finished),
            ("failed", counts.failed),
        ] {
            self.live_tasks.get_or_create(&StateLabel { state }).set(clamp(count));
        }
        self.offers.set(i64::try_from(state.offers.len()).unwrap_or(i64::MAX));
    }
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
