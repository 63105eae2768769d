//! Frameworks that connect: registered for the first time, or back under their id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_allocator::check_patterns;
use holm_model::{Action, AgentId, FrameworkId, Principal, SchedulerEvent, SecretHash, Subscribe};

use crate::accept::strangers;
use crate::agents::{Agent, AgentState};
use crate::authorize::{Object, authorize};
use crate::effect::{CloseCause, Unwelcome};
use crate::frameworks::{Ending, Framework, FrameworkState, Subscriber, Subscription};
use crate::launches::Place;
use crate::master::Peer;
use crate::timers::Timer;
use crate::writes::Then;
use crate::{Delta, Fresh, Master, RegistryOp, SessionId};

impl Master {
    pub(crate) fn framework_opened(
        &mut self,
        session: SessionId,
        principal: &Principal,
        subscribe: Subscribe,
        proof: Option<SecretHash>,
        fresh: Fresh,
    ) {
        if self.sessions.contains_key(&session) {
            return self.ignore("a second first message");
        }
        if subscribe.highest_epoch > self.cluster.epoch {
            let (seen, own) = (subscribe.highest_epoch, self.cluster.epoch);
            let message = format!("epoch {seen} has been seen; this master has {own}");
            return self.refuse_framework(session, &Unwelcome::new(CloseCause::Precondition, message), false);
        }
        if let Err(unwelcome) = self.check_subscription(principal, &subscribe, proof) {
            return self.refuse_framework(session, &unwelcome, true);
        }
        let Subscribe { info, id, suppressed, .. } = subscribe;
        match id {
            None => {
                let secret = Some(fresh.secret);
                self.register(Subscriber { session, info, suppressed, secret }, fresh.hash);
            }
            Some(id) => self.resubscribe(id, Subscriber { session, info, suppressed, secret: None }),
        }
    }

    fn refuse_framework(&mut self, session: SessionId, unwelcome: &Unwelcome, fatal: bool) {
        let Unwelcome { cause, message } = unwelcome;
        self.out.tell_framework(session, SchedulerEvent::Error { message: message.as_str().into(), fatal });
        self.out.close(session, *cause, message);
    }

    fn check_subscription(
        &self,
        principal: &Principal,
        subscribe: &Subscribe,
        proof: Option<SecretHash>,
    ) -> Result<(), Unwelcome> {
        subscribe.info.validate().map_err(|invalid| Unwelcome::new(CloseCause::Invalid, invalid))?;
        for role in &subscribe.info.roles {
            authorize(principal, Action::Subscribe, Object::Role(role))
                .map_err(|denied| Unwelcome::new(CloseCause::Denied, denied))?;
        }
        check_patterns(subscribe.info.role_options.values().map(|options| &options.constraints))
            .map_err(|invalid| Unwelcome::new(CloseCause::Invalid, invalid))?;
        if let Some(role) = strangers(&subscribe.info.roles, &subscribe.suppressed) {
            let message = format!("suppressed role {role} is not among the framework's roles");
            return Err(Unwelcome::new(CloseCause::Invalid, message));
        }
        let Some(id) = subscribe.id else {
            let (live, limit) = (self.frameworks.len() - self.completed.len(), self.options.max_frameworks);
            let full = || format!("the cluster has {live} frameworks; the limit is {limit}");
            return if live < limit { Ok(()) } else { Err(Unwelcome::new(CloseCause::Full, full())) };
        };
        let Some(framework) = self.frameworks.get(&id) else {
            return Err(Unwelcome::new(CloseCause::Unauthenticated, format!("{id} is not known to this cluster")));
        };
        if proof != Some(framework.secret) {
            let message = format!("the secret presented for {id} is not the one it was given");
            return Err(Unwelcome::new(CloseCause::Unauthenticated, message));
        }
        let over = match framework.state {
            FrameworkState::Completed => "has ended",
            FrameworkState::Completing(_) => "is ending",
            _ => return Ok(()),
        };
        Err(Unwelcome::new(CloseCause::Precondition, format!("{id} {over}; subscribe without an id")))
    }

    /// A framework that has never been here: it gets an id, which counts once it is durable.
    fn register(&mut self, subscriber: Subscriber, secret: SecretHash) {
        self.next_framework += 1;
        let id = FrameworkId::new(self.cluster.epoch, self.next_framework);
        let info = Arc::new(subscriber.info.clone());
        self.sessions.insert(subscriber.session, Peer::Framework(id));
        let framework = Framework {
            id,
            secret,
            info: info.clone(),
            role_options: BTreeMap::new(),
            demands: BTreeMap::new(),
            subscriptions: 0,
            live_tasks: 0,
            offers: BTreeSet::new(),
            unanswered: 0,
            unanswered_at: None,
            hungry: false,
            stated_at: None,
            state: FrameworkState::Registering { subscriber: Some(subscriber), info: info.clone(), first: true },
        };
        let record = framework.record(&info, false);
        self.frameworks.insert(id, framework);
        self.out.frameworks.insert(id);
        self.persist(vec![RegistryOp::PutFramework(record)], Then::AdmitFramework(id));
    }

    /// A framework that has proved its id is back. The newer subscription wins.
    fn resubscribe(&mut self, id: FrameworkId, subscriber: Subscriber) {
        if let Some(older) = self.frameworks.get(&id).and_then(Framework::session) {
            self.sessions.remove(&older);
            let message = "superseded by a newer subscription of the same framework";
            self.refuse_framework(older, &Unwelcome::new(CloseCause::Replaced, message), true);
            self.detach(id);
        }
        self.sessions.insert(subscriber.session, Peer::Framework(id));
        self.out.frameworks.insert(id);
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        match &mut framework.state {
            FrameworkState::Registering { subscriber: waiting, .. } => *waiting = Some(subscriber),
            _ => self.admit_subscriber(id, subscriber),
        }
    }

    /// Goes on with a subscription: writes what has changed, then lets it stand.
    fn admit_subscriber(&mut self, id: FrameworkId, subscriber: Subscriber) {
        self.timers.cancel(Timer::FrameworkTimeout(id));
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        if *framework.info == subscriber.info {
            return self.connect(id, subscriber);
        }
        let info = Arc::new(subscriber.info.clone());
        let record = framework.record(&info, false);
        let next = FrameworkState::Registering { subscriber: Some(subscriber), info, first: false };
        let entered = framework.state.enter(next);
        self.check(entered);
        self.persist(vec![RegistryOp::PutFramework(record)], Then::AdmitFramework(id));
    }

    /// The record of a framework is durable.
    pub(crate) fn framework_recorded(&mut self, id: FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        let FrameworkState::Registering { subscriber, info, first } = &mut framework.state else { return };
        let (subscriber, first) = (subscriber.take(), *first);
        framework.info = info.clone();
        self.out.frameworks.insert(id);
        match subscriber {
            Some(subscriber) => self.admit_subscriber(id, subscriber),
            None if first => {
                // Nobody ever learned this id.
                self.frameworks.remove(&id);
                self.out.delta(Delta::FrameworkRemoved(id));
                self.persist(vec![RegistryOp::RemoveFramework(id)], Then::Nothing);
            }
            None => {
                let entered = framework.state.enter(FrameworkState::Disconnected);
                self.check(entered);
                self.await_framework(id);
            }
        }
    }

    fn connect(&mut self, id: FrameworkId, subscriber: Subscriber) {
        let Subscriber { session, suppressed, secret, .. } = subscriber;
        let pending_agents = self.agents.values().filter(|agent| agent.is_pending()).map(|agent| agent.id).collect();
        // An unreachable agent is not waited for, but should it come back, the framework hears what is left there.
        let unheard = self.agents.values().filter(|agent| !agent.reported);
        let pending: BTreeSet<AgentId> = unheard.map(|agent| agent.id).collect();
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        let first = secret.is_some();
        framework.subscriptions += 1;
        framework.hungry = suppressed.is_empty();
        framework.role_options = framework.info.role_options.clone();
        framework.demands.clear();
        let framework_epoch = framework.subscriptions;
        let entered = framework.state.enter(FrameworkState::Connected(Subscription { session, pending }));
        self.check(entered);
        self.subscribe_to_roles(id);
        self.begin_demands(id);
        self.set_suppressed(id, &[], false);
        if !suppressed.is_empty() {
            self.set_suppressed(id, &suppressed, true);
        }
        self.out.roles = true;
        self.timers.set(Timer::Heartbeat(id), self.now + self.options.heartbeat_interval);
        let epoch = self.cluster.epoch;
        let subscribed = SchedulerEvent::Subscribed { framework: id, secret, epoch, framework_epoch, pending_agents };
        self.out.tell_framework(session, subscribed);
        self.watch_waiting();
        if !first {
            self.send_everything(id, session);
            self.repeat_inverse_offers(id);
        }
    }

    /// Tells a framework that is back what it has on every agent that has reported, and which agents are out of reach.
    fn send_everything(&mut self, id: FrameworkId, session: SessionId) {
        let mut places: BTreeMap<AgentId, Vec<Place>> = BTreeMap::new();
        for place in self.launches.of_framework(id) {
            places.entry(place.agent).or_default().push(place);
        }
        let reported: Vec<AgentId> =
            self.agents.values().filter(|agent| agent.reported).map(|agent| agent.id).collect();
        for agent in reported {
            let there = places.get(&agent).map(Vec::as_slice).unwrap_or_default();
            self.send_tasks(session, id, agent, there);
        }
        let gone = |agent: &&Agent| !agent.reported && matches!(agent.state, AgentState::Unreachable);
        for agent in self.agents.values().filter(gone) {
            let message = "the agent was out of reach when this master was elected".into();
            self.out.tell_framework(session, SchedulerEvent::AgentLost { agent: agent.id, message });
        }
    }

    /// A framework's connection is over.
    pub(crate) fn framework_disconnected(&mut self, id: FrameworkId) {
        self.detach(id);
        self.await_framework(id);
    }

    /// Takes the connection away from a framework. Its offers end, its tasks run on.
    fn detach(&mut self, id: FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        self.out.frameworks.insert(id);
        match &mut framework.state {
            FrameworkState::Registering { subscriber, .. } => *subscriber = None,
            FrameworkState::Completing(ending) => ending.session = None,
            FrameworkState::Disconnected | FrameworkState::Completed => {}
            FrameworkState::Connected(_) => {
                let entered = framework.state.enter(FrameworkState::Disconnected);
                self.check(entered);
                self.silence(id);
            }
        }
    }

    /// No more offers and heartbeats for a framework; those that are out come back.
    pub(crate) fn silence(&mut self, id: FrameworkId) {
        self.timers.cancel(Timer::Heartbeat(id));
        self.recover_offers(id);
        self.set_framework_offered(id, false);
        self.out.roles = true;
    }

    /// Begins to wait for a framework that is disconnected, unless it ends with its connection.
    fn await_framework(&mut self, id: FrameworkId) {
        let Some(framework) = self.frameworks.get(&id) else { return };
        if !matches!(framework.state, FrameworkState::Disconnected) {
            return;
        }
        let timeout = framework.info.failover_timeout;
        if timeout.is_zero() {
            let why = "disconnected, with a failover_timeout of zero".into();
            return self.complete(id, Ending { session: None, why, requests: Vec::new() });
        }
        self.timers.set(Timer::FrameworkTimeout(id), self.now + timeout);
    }

    pub(crate) fn framework_timed_out(&mut self, id: FrameworkId) {
        if self.frameworks.get(&id).is_some_and(|framework| matches!(framework.state, FrameworkState::Disconnected)) {
            let why = "stayed away longer than its failover_timeout".into();
            self.complete(id, Ending { session: None, why, requests: Vec::new() });
        }
    }
}
