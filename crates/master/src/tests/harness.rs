//! A shell without I/O: it commits every write at once, remembers what was sent to whom, and checks the invariants after
//! every event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::*;

use crate::*;

pub(crate) struct Cluster {
    pub(crate) master: Master,
    pub(crate) now: Time,
    pub(crate) registry: Registry,
    /// Writes are answered by the test when this is off.
    pub(crate) commits: bool,
    pub(crate) pending: Vec<WriteId>,
    pub(crate) events: BTreeMap<SessionId, Vec<SchedulerEvent>>,
    pub(crate) messages: BTreeMap<SessionId, Vec<ToAgent>>,
    pub(crate) closed: BTreeMap<SessionId, String>,
    pub(crate) causes: BTreeMap<SessionId, CloseCause>,
    pub(crate) replies: Vec<Result<Answer, OperatorError>>,
    pub(crate) deltas: Vec<Delta>,
    /// What the policy was asked: the request, whether a new instance is, and what it was told.
    pub(crate) asked: Vec<(u64, bool, Vec<PolicyPatch>)>,
    pub(crate) deposed: bool,
    /// Agents whose pings are not answered.
    pub(crate) mute: Vec<SessionId>,
    sessions: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<Id> {
    pub(crate) session: SessionId,
    pub(crate) id: Id,
    pub(crate) secret: u8,
}

pub(crate) type TestAgent = Peer<AgentId>;
pub(crate) type TestFramework = Peer<FrameworkId>;

pub(crate) const LIFE: Incarnation = Incarnation(7);

pub(crate) fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

pub(crate) fn role(text: &str) -> Role {
    text.parse().unwrap()
}

pub(crate) fn task(text: &str) -> TaskId {
    text.parse().unwrap()
}

pub(crate) fn spec(shape: &str) -> Arc<TaskSpec> {
    TaskSpec { resources: resources(shape), ..TaskSpec::default() }.into()
}

pub(crate) fn single(id: &str, shape: &str) -> Launch {
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: spec(shape) }
}

pub(crate) fn array(id: &str, count: u32, slots: u32, shape: &str) -> Launch {
    let tasks = TaskRange::Array { first: 0, count };
    Launch { id: id.parse().unwrap(), tasks, slots, spec: spec(shape) }
}

pub(crate) fn update(sequence: u64, batch: &str, first: u32, count: u32, state: TaskState) -> Update {
    let (batch, status) = (batch.parse().unwrap(), TaskStatus::of(state));
    Update { sequence, batch, first, count, status, usages: Usages::default() }
}

pub(crate) fn info(roles: &[&str]) -> FrameworkInfo {
    FrameworkInfo {
        name: "test".into(),
        roles: roles.iter().map(|text| role(text)).collect(),
        role_options: BTreeMap::new(),
        failover_timeout: Duration::from_secs(60),
        capabilities: Capabilities::new(),
        labels: BTreeMap::new(),
    }
}

/// A framework that is offered what it states to want.
pub(crate) fn by_demand(name: &str) -> FrameworkInfo {
    let options = RoleOptions { by_demand: true, ..RoleOptions::default() };
    FrameworkInfo { role_options: [(role(name), options)].into(), ..info(&[name]) }
}

pub(crate) fn wants(id: &str, shape: &str, count: u32) -> Demand {
    Demand::new(id.parse().unwrap(), resources(shape), count)
}

pub(crate) fn demand(name: &str, demands: impl IntoIterator<Item = Demand>) -> Call {
    Call::Demand { role: role(name), demands: demands.into_iter().collect() }
}

pub(crate) fn registration(shape: &str) -> Registration {
    let configured = Portions::parse_configured(shape).unwrap();
    let able = [AgentInfo::TASK_GROUPS, AgentInfo::EXECUTORS, AgentInfo::PREEMPTION, AgentInfo::VOLUMES];
    Registration {
        id: None,
        cluster: None,
        highest_epoch: Epoch(0),
        incarnation: LIFE,
        boot: BootId("boot".into()),
        info: AgentInfo {
            hostname: "host".into(),
            resources: configured.total(),
            reserved: configured.filtered(|origin| *origin != Origin::Unreserved),
            capabilities: able.map(Into::into).into(),
            ..AgentInfo::default()
        },
    }
}

/// What an agent reports of a launch whose tasks all have one status.
pub(crate) fn reported(of: FrameworkId, launch: &Launch, state: TaskState) -> BatchReport {
    BatchReport {
        framework: of,
        role: role("a"),
        id: launch.id.clone(),
        tasks: launch.tasks,
        slots: launch.slots,
        shape: launch.spec.resources.clone(),
        module: launch.spec.module,
        revocable: launch.spec.revocable,
        origins: Portions::EMPTY,
        runs: vec![StatusRun { count: launch.tasks.count(), status: TaskStatus::of(state) }],
    }
}

fn fresh(seed: u8) -> Fresh {
    Fresh { secret: Secret::from_bytes([seed; 32]), hash: SecretHash([seed; 32]) }
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Cluster {
        let cluster = ClusterRecord { cluster: ClusterId(1), epoch: Epoch(1) };
        Cluster::recover(Registry::new(cluster), options)
    }

    pub(crate) fn recover(registry: Registry, options: Options) -> Cluster {
        let now = Time::from_micros(1);
        let master = Master::recover(registry.clone(), options, now);
        let mut cluster = Cluster {
            master,
            now,
            registry,
            commits: true,
            pending: Vec::new(),
            events: BTreeMap::new(),
            messages: BTreeMap::new(),
            closed: BTreeMap::new(),
            causes: BTreeMap::new(),
            replies: Vec::new(),
            deltas: Vec::new(),
            asked: Vec::new(),
            deposed: false,
            mute: Vec::new(),
            sessions: 0,
        };
        cluster.pump();
        cluster
    }

    /// The next master over the same registry; nobody is connected to it.
    pub(crate) fn fail_over(&self) -> Cluster {
        let mut registry = self.registry.clone();
        registry.cluster.epoch.0 += 1;
        let mut next = Cluster::recover(registry, Options::default());
        next.sessions = self.sessions;
        next
    }

    pub(crate) fn send(&mut self, event: Event) {
        self.master.handle(self.now, event);
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            let violations = invariants::check(&self.master);
            assert!(violations.is_empty(), "{violations:#?}");
            let effects: Vec<Effect> = self.master.drain_effects().collect();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::ToAgent { session, message } => {
                if matches!(message, ToAgent::Ping) && !self.mute.contains(&session) {
                    self.master.handle(self.now, Event::FromAgent { session, message: ToMaster::Pong });
                }
                self.messages.entry(session).or_default().push(message);
            }
            Effect::ToFramework { session, event } => self.events.entry(session).or_default().push(event),
            Effect::Close { session, cause, message } => {
                self.causes.insert(session, cause);
                self.closed.insert(session, message.to_string());
            }
            Effect::Reply { result, .. } => self.replies.push(result),
            Effect::Persist { write, ops } => {
                if self.commits {
                    for op in ops {
                        op.apply(&mut self.registry);
                    }
                    self.master.handle(self.now, Event::Persisted { write, outcome: PersistOutcome::Committed });
                } else {
                    self.pending.push(write);
                }
            }
            Effect::Rank { request, fresh, changes } => self.asked.push((request, fresh, changes)),
            Effect::Changed(delta) => self.deltas.push(delta),
            Effect::StepDown { .. } => self.deposed = true,
        }
    }

    /// Answers the writes that wait.
    pub(crate) fn answer(&mut self, outcome: PersistOutcome) {
        for write in std::mem::take(&mut self.pending) {
            self.send(Event::Persisted { write, outcome });
        }
    }

    /// Lets time pass, waking the master whenever it asks for it.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(wake) = self.master.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.send(Event::Wake);
        }
        self.now = end;
        self.send(Event::Wake);
    }

    /// Lets the allocator run.
    pub(crate) fn settle(&mut self) {
        self.pass(Duration::from_millis(2));
    }

    pub(crate) fn session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    pub(crate) fn open_agent(&mut self, registration: Registration, proof: Option<u8>) -> SessionId {
        let session = self.session();
        let seed = u8::try_from(session.0 % 250).unwrap();
        let proof = proof.map(|seed| SecretHash([seed; 32]));
        let principal = Principal::Anonymous;
        self.send(Event::AgentOpened { session, principal, registration, proof, fresh: fresh(seed) });
        session
    }

    /// An agent that has registered and reported that it runs nothing.
    pub(crate) fn agent(&mut self, shape: &str) -> TestAgent {
        let session = self.open_agent(registration(shape), None);
        self.say(session, ToMaster::Report { batches: Vec::new(), last: true });
        let id = self.registered(session).expect("the agent is admitted");
        TestAgent { session, id, secret: u8::try_from(session.0 % 250).unwrap() }
    }

    /// The agent again, on a new stream, before its report.
    pub(crate) fn reopen(&mut self, agent: TestAgent, shape: &str, life: Incarnation) -> TestAgent {
        let registration = Registration { id: Some(agent.id), incarnation: life, ..registration(shape) };
        let session = self.open_agent(registration, Some(agent.secret));
        TestAgent { session, ..agent }
    }

    pub(crate) fn report(&mut self, agent: TestAgent, batches: Vec<BatchReport>) {
        self.say(agent.session, ToMaster::Report { batches, last: true });
    }

    pub(crate) fn registered(&self, session: SessionId) -> Option<AgentId> {
        self.messages.get(&session)?.iter().find_map(|message| match message {
            ToAgent::Registered { agent, .. } => Some(*agent),
            _ => None,
        })
    }

    pub(crate) fn say(&mut self, session: SessionId, message: ToMaster) {
        self.send(Event::FromAgent { session, message });
    }

    pub(crate) fn updates(&mut self, agent: TestAgent, framework: FrameworkId, updates: Vec<Update>) {
        self.say(agent.session, ToMaster::Updates { framework, incarnation: LIFE, updates });
    }

    pub(crate) fn open_framework(
        &mut self,
        info: FrameworkInfo,
        id: Option<FrameworkId>,
        proof: Option<u8>,
    ) -> SessionId {
        let session = self.session();
        let seed = u8::try_from(session.0 % 250).unwrap();
        let subscribe = Subscribe { info, id, highest_epoch: Epoch(0), suppressed: Vec::new() };
        let proof = proof.map(|seed| SecretHash([seed; 32]));
        let principal = Principal::Anonymous;
        self.send(Event::FrameworkOpened { session, principal, subscribe, proof, fresh: fresh(seed) });
        session
    }

    pub(crate) fn framework(&mut self, name: &str) -> TestFramework {
        self.framework_with(info(&[name]))
    }

    pub(crate) fn framework_with(&mut self, info: FrameworkInfo) -> TestFramework {
        let session = self.open_framework(info, None, None);
        let id = self.subscribed(session).expect("the framework is admitted").0;
        TestFramework { session, id, secret: u8::try_from(session.0 % 250).unwrap() }
    }

    /// The framework again, on a new stream.
    pub(crate) fn resubscribe(&mut self, framework: TestFramework, info: FrameworkInfo) -> TestFramework {
        let session = self.open_framework(info, Some(framework.id), Some(framework.secret));
        TestFramework { session, ..framework }
    }

    /// Id, framework epoch and pending agents of a subscription.
    pub(crate) fn subscribed(&self, session: SessionId) -> Option<(FrameworkId, u64, Vec<AgentId>)> {
        self.events.get(&session)?.iter().find_map(|event| match event {
            SchedulerEvent::Subscribed { framework, framework_epoch, pending_agents, .. } => {
                Some((*framework, *framework_epoch, pending_agents.clone()))
            }
            _ => None,
        })
    }

    pub(crate) fn call(&mut self, framework: TestFramework, call: Call) {
        let framework_epoch = self.subscribed(framework.session).expect("the framework is subscribed").1;
        self.send(Event::FromFramework { session: framework.session, framework_epoch, call });
    }

    pub(crate) fn accept(&mut self, by: TestFramework, offers: &[Offer], launches: Vec<Launch>, refusal: Refusal) {
        let offers = offers.iter().map(|offer| offer.id).collect();
        self.call(by, Call::Accept { offers, launches, refusal });
    }

    fn take<T>(&mut self, session: SessionId, pick: impl Fn(&SchedulerEvent) -> Option<T>) -> Vec<T> {
        let events = self.events.entry(session).or_default();
        let taken = events.iter().filter_map(&pick).collect();
        events.retain(|event| pick(event).is_none());
        taken
    }

    /// The offers that have arrived since the last call and are still good.
    pub(crate) fn offers(&mut self, to: TestFramework) -> Vec<Offer> {
        self.settle();
        let offers = self.take(to.session, |event| match event {
            SchedulerEvent::Offers(offers) => Some(offers.clone()),
            _ => None,
        });
        let outstanding = &self.master.offers.out;
        offers.into_iter().flatten().filter(|offer| outstanding.contains_key(&offer.id)).collect()
    }

    pub(crate) fn rescinded(&mut self, to: TestFramework) -> Vec<OfferId> {
        let ids = self.take(to.session, |event| match event {
            SchedulerEvent::Rescinded(ids) => Some(ids.clone()),
            _ => None,
        });
        ids.into_iter().flatten().collect()
    }

    /// The updates that have arrived since the last call.
    pub(crate) fn heard(&mut self, by: TestFramework) -> Vec<(Source, Update)> {
        let updates = self.take(by.session, |event| match event {
            SchedulerEvent::Updates { source, updates, .. } => Some((*source, updates.clone())),
            _ => None,
        });
        updates.into_iter().flat_map(|(source, all)| all.into_iter().map(move |update| (source, update))).collect()
    }

    /// Batch, state and reason of the updates that have arrived since the last call.
    pub(crate) fn states(&mut self, by: TestFramework) -> Vec<(String, TaskState, Option<Reason>)> {
        let heard = self.heard(by).into_iter();
        heard.map(|(_, update)| (update.batch.to_string(), update.status.state, update.status.reason)).collect()
    }

    /// The batches of the Tasks pages that have arrived, with their agents.
    pub(crate) fn tasks(&mut self, to: TestFramework) -> Vec<(AgentId, Vec<BatchReport>, bool)> {
        self.take(to.session, |event| match event {
            SchedulerEvent::Tasks { agent, batches, last, .. } => Some((*agent, batches.clone(), *last)),
            _ => None,
        })
    }

    /// The errors that have arrived.
    pub(crate) fn errors(&mut self, session: SessionId) -> Vec<(String, bool)> {
        self.take(session, |event| match event {
            SchedulerEvent::Error { message, fatal } => Some((message.to_string(), *fatal)),
            _ => None,
        })
    }

    /// The launches sent to an agent, with their sequence numbers.
    pub(crate) fn launched(&self, on: TestAgent) -> Vec<(u64, String)> {
        let messages = self.messages.get(&on.session).into_iter().flatten();
        let launch = |message: &ToAgent| match message {
            ToAgent::Launch { sequence, launch, .. } => Some((*sequence, launch.id.to_string())),
            _ => None,
        };
        messages.filter_map(launch).collect()
    }

    pub(crate) fn sent(&self, to: TestAgent, wanted: impl Fn(&ToAgent) -> bool) -> usize {
        self.messages.get(&to.session).into_iter().flatten().filter(|message| wanted(message)).count()
    }

    /// The framework accepts all it is offered and launches these.
    pub(crate) fn launch(&mut self, by: TestFramework, launches: Vec<Launch>) {
        let offers = self.offers(by);
        assert!(!offers.is_empty(), "no offers to launch on");
        self.accept(by, &offers, launches, Refusal::NONE);
    }
}
