//! The machine itself: its state, the dispatch of events, and what happens after each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holm_allocator::Allocator;
use holm_model::{AgentId, ClusterId, ClusterRecord, Epoch, FrameworkId, SecretHash, Time};

use crate::agents::{Agent, AgentState};
use crate::frameworks::{Framework, FrameworkState};
use crate::gang::Gangs;
use crate::inverse::InverseOffers;
use crate::launches::Launches;
use crate::logs::Logs;
use crate::offers::Offers;
use crate::operations::Operations;
use crate::outbox::Outbox;
use crate::policy::Seat;
use crate::preemption::Preemption;
use crate::roles::Roles;
use crate::timers::{Timer, Timers};
use crate::writes::Writes;
use crate::{AgentView, Delta, Effect, Event, FrameworkView, Options, Registry, SessionId};

/// Who is behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Agent(AgentId),
    Framework(FrameworkId),
}

/// Most faults that are kept for the invariants to show.
const MAX_FAULTS: usize = 16;

/// The leading master. See the crate's documentation.
#[derive(Debug)]
pub struct Master {
    pub(crate) now: Time,
    pub(crate) cluster: ClusterRecord,
    pub(crate) options: Options,
    pub(crate) allocator: Allocator,
    /// The same for what is lent.
    pub(crate) lending: Allocator,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) frameworks: BTreeMap<FrameworkId, Framework>,
    /// Completed frameworks that are still remembered, oldest first.
    pub(crate) completed: VecDeque<FrameworkId>,
    pub(crate) launches: Launches,
    pub(crate) offers: Offers,
    pub(crate) operations: Operations,
    pub(crate) inverse: InverseOffers,
    pub(crate) preemption: Preemption,
    pub(crate) gangs: Gangs,
    pub(crate) logs: Logs,
    pub(crate) sessions: BTreeMap<SessionId, Peer>,
    pub(crate) roles: Roles,
    pub(crate) writes: Writes,
    pub(crate) timers: Timers,
    pub(crate) out: Outbox,
    /// The organisation's policy.
    pub(crate) policy: Option<Seat>,
    pub(crate) next_agent: u64,
    pub(crate) next_framework: u64,
    /// When the allocator last ran.
    pub(crate) last_run: Option<Time>,
    /// When the shares of all roles were last told.
    pub(crate) roles_told: Option<Time>,
    /// Steps that cannot be, refused: each is a bug of this crate.
    pub(crate) faults: Vec<String>,
    /// Events that concerned nobody: what closed sessions still had under way.
    ignored: u64,
    deposed: bool,
}

impl Master {
    /// The master that has just been elected with the epoch in `registry.cluster`. Frameworks and agents are as the
    /// registry has them, none is connected, and every deadline starts in full. Effects are waiting already.
    pub fn recover(registry: Registry, options: Options, now: Time) -> Master {
        let mut master = Master {
            now,
            cluster: registry.cluster,
            allocator: Allocator::new(options.allocator.clone()),
            lending: Allocator::new(options.allocator.clone()),
            options,
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            launches: Launches::default(),
            offers: Offers::default(),
            operations: Operations::recover(registry.reservations),
            inverse: InverseOffers::default(),
            preemption: Preemption::default(),
            gangs: Gangs::default(),
            logs: Logs::default(),
            sessions: BTreeMap::new(),
            roles: Roles::default(),
            writes: Writes::default(),
            timers: Timers::default(),
            out: Outbox::default(),
            policy: None,
            next_agent: 0,
            next_framework: 0,
            last_run: None,
            roles_told: None,
            faults: Vec::new(),
            ignored: 0,
            deposed: false,
        };
        master.seat_policy();
        master.recover_roles(registry.roles);
        master.recover_agents(registry.agents.into_values());
        master.recover_frameworks(registry.frameworks.into_values());
        master.finish_event();
        master
    }

    fn recover_agents(&mut self, records: impl Iterator<Item = holm_model::AgentRecord>) {
        for record in records {
            let agent = Agent::from_record(record);
            if matches!(agent.state, AgentState::Disconnected) {
                let deadline = self.now + self.options.agent_reregister_timeout;
                self.timers.set(Timer::AgentTimeout(agent.id), deadline);
            }
            self.out.agents.insert(agent.id);
            self.agents.insert(agent.id, agent);
        }
    }

    fn recover_frameworks(&mut self, records: impl Iterator<Item = holm_model::FrameworkRecord>) {
        for record in records {
            let framework = Framework::from_record(record);
            let id = framework.id;
            if matches!(framework.state, FrameworkState::Disconnected) {
                let patience = framework.info.failover_timeout.max(self.options.framework_reconnect);
                self.timers.set(Timer::FrameworkTimeout(id), self.now + patience);
                self.frameworks.insert(id, framework);
                self.subscribe_to_roles(id);
                self.set_framework_offered(id, false);
            } else {
                self.completed.push_back(id);
                self.frameworks.insert(id, framework);
            }
            self.out.frameworks.insert(id);
        }
    }

    /// Applies one event. Never blocks and never fails: refusals are effects addressed to the sender. `now` does not go
    /// back; an earlier time counts as the latest one seen.
    pub fn handle(&mut self, now: Time, event: Event) {
        if self.deposed {
            return;
        }
        self.now = self.now.max(now);
        let late = self.timers.next().map_or(Duration::ZERO, |due| self.now.since(due));
        if late >= self.options.agent_silence {
            self.forgive_pause(late);
        }
        self.dispatch(event);
        self.fire_timers();
        self.finish_event();
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::AgentOpened { session, principal, registration, proof, fresh } => {
                self.agent_opened(session, &principal, registration, proof, fresh);
            }
            Event::FromAgent { session, message } => self.agent_said(session, message),
            Event::AgentClosed { session } => {
                if let Some(Peer::Agent(agent)) = self.sessions.remove(&session) {
                    self.agent_disconnected(agent);
                }
            }
            Event::FrameworkOpened { session, principal, subscribe, proof, fresh } => {
                self.framework_opened(session, &principal, subscribe, proof, fresh);
            }
            Event::FromFramework { session, framework_epoch, call } => {
                self.framework_said(session, framework_epoch, call);
            }
            Event::FrameworkClosed { session } => {
                if let Some(Peer::Framework(framework)) = self.sessions.remove(&session) {
                    self.framework_disconnected(framework);
                }
            }
            Event::Operator { request, principal, call } => self.operator(request, &principal, call),
            Event::Persisted { write, outcome } => self.on_persisted(write, outcome),
            Event::Ranked { request, answer, cost } => self.on_ranked(request, answer, cost),
            Event::Wake => {}
        }
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                // Both are looked at after every event.
                Timer::Allocate | Timer::Roles => {}
                Timer::Contention => self.relieve_contention(),
                Timer::Policy => self.policy_timer(),
                Timer::Offer(offer) => self.expire_offer(offer),
                Timer::Inverse(offer) => self.inverse_due(offer),
                Timer::Preemption => self.preempt(),
                Timer::Ping(agent) => self.ping(agent),
                Timer::AgentTimeout(agent) => self.agent_timed_out(agent),
                Timer::Heartbeat(framework) => self.heartbeat(framework),
                Timer::Idle(framework) => self.complete_idle(framework),
                Timer::FrameworkTimeout(framework) => self.framework_timed_out(framework),
                Timer::Retry(write) => self.retry_write(write),
            }
        }
    }

    /// Allocates, and tells the read model what has changed, once per event.
    fn finish_event(&mut self) {
        if self.deposed {
            return;
        }
        self.end_broken_gangs();
        self.watch_idle();
        self.allocate_if_due();
        self.ask_policy_if_due();
        self.tell_roles();
        for id in std::mem::take(&mut self.out.agents) {
            if let Some(view) = self.agent_view(id) {
                self.out.delta(Delta::AgentChanged(view));
            }
        }
        for id in std::mem::take(&mut self.out.frameworks) {
            if let Some(view) = self.framework_view(id) {
                self.out.delta(Delta::FrameworkChanged(view));
            }
        }
    }

    fn tell_roles(&mut self) {
        if !self.out.roles {
            return;
        }
        let due = self.roles_told.map_or(self.now, |told| told + self.options.roles_interval);
        if due > self.now {
            return self.timers.set(Timer::Roles, due);
        }
        self.out.roles = false;
        self.roles_told = Some(self.now);
        let shares = self.allocator.shares().collect();
        let capacity = self.allocator.capacity();
        self.out.delta(Delta::RolesChanged { shares, capacity });
        self.tell_policy_view();
    }

    fn agent_view(&self, id: AgentId) -> Option<AgentView> {
        let agent = self.agents.get(&id)?;
        Some(AgentView {
            id,
            phase: agent.state.phase(),
            info: agent.info.clone(),
            incarnation: agent.incarnation,
            free: self.allocator.free(id).map(|free| free.total()),
            stock: self.operations.stock(id, &agent.info),
            volumes: self.operations.volumes(id),
            launches: self.launches.count_on_agent(id),
            condition: agent.condition.clone(),
            revocable: agent.revocable.clone(),
        })
    }

    fn framework_view(&self, id: FrameworkId) -> Option<FrameworkView> {
        let framework = self.frameworks.get(&id)?;
        Some(FrameworkView {
            id,
            phase: framework.state.phase(),
            info: framework.info.clone(),
            framework_epoch: framework.subscriptions,
            launches: self.launches.count_of_framework(id),
            live_tasks: framework.live_tasks,
            offers: framework.offers.len(),
        })
    }

    /// The effects since the last call, in order.
    pub fn drain_effects(&mut self) -> impl Iterator<Item = Effect> {
        std::mem::take(&mut self.out.effects).into_iter()
    }

    /// When [`Event::Wake`] is next useful; none when only other events can change anything.
    pub fn next_wake(&self) -> Option<Time> {
        if self.deposed {
            return None;
        }
        let filters = [&self.allocator, &self.lending].map(|market| market.next_wake());
        let filter = filters.into_iter().flatten().min().map(|due| due.max(self.next_run()));
        [filter, self.timers.next(), self.allocator.keeps_at()].into_iter().flatten().min()
    }

    /// The epoch of this master.
    pub fn epoch(&self) -> Epoch {
        self.cluster.epoch
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster.cluster
    }

    /// Whether `proof` is the hash of the agent's secret: for connections beside the control stream.
    pub fn verify_agent(&self, agent: AgentId, proof: SecretHash) -> bool {
        self.agents.get(&agent).is_some_and(|agent| agent.secret == proof)
    }

    /// Whether `proof` is the hash of the secret of a framework that has not ended.
    pub fn verify_framework(&self, framework: FrameworkId, proof: SecretHash) -> bool {
        self.frameworks.get(&framework).is_some_and(|framework| framework.is_live() && framework.secret == proof)
    }

    /// How many events concerned nobody: what closed sessions still had under way.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    pub(crate) fn ignore(&mut self, _what: &'static str) {
        self.ignored += 1;
    }

    pub(crate) fn step_down(&mut self, reason: &str) {
        self.deposed = true;
        self.out.push(Effect::StepDown { reason: reason.into() });
    }

    /// Notes a step that cannot be. Nothing has changed; the invariants show it.
    pub(crate) fn check<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push(fault.to_string());
                }
                None
            }
        }
    }

    /// Notes that what is free on an agent has changed.
    pub(crate) fn touched(&mut self, agent: AgentId) {
        self.out.agents.insert(agent);
        self.out.roles = true;
    }
}
