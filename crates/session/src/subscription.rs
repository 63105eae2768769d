//! The subscription: one framework's conversation with whichever master leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_model::{
    AgentId, BatchId, BatchReport, Call, Epoch, FrameworkId, FrameworkInfo, Incarnation, Launch, LaunchError,
    MAX_MESSAGE_BYTES, Offer, OfferId, Reason, Refusal, Requested, Role, SchedulerEvent, Secret, Source, Subscribe,
    TaskState, TaskStatus, Update, Usages,
};

use crate::backoff::Backoff;
use crate::book::Book;
use crate::cursor::Cursors;
use crate::epoch::EpochFilter;
use crate::event::{Effect, End, GiveBack, Identity, Input, Notice, Outbound, TaskUpdate};
use crate::phase::Phase;

mod demand;
mod group;

/// What a subscription starts with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the framework says of itself.
    pub info: FrameworkInfo,
    /// Who it is, when it comes back after a restart.
    pub identity: Option<Identity>,
    /// Roles in which it wants no offers at first.
    pub suppressed: Vec<Role>,
}

/// The framework's side of the protocol. Inputs never fail; what cannot be done is answered with a notice.
#[derive(Debug)]
pub struct Subscription {
    info: FrameworkInfo,
    framework: Option<FrameworkId>,
    secret: Option<Secret>,
    epochs: EpochFilter,
    phase: Phase,
    /// Counts the subscriptions of this process.
    round: u64,
    backoff: Backoff,
    suppressed: BTreeSet<Role>,
    offers: BTreeMap<OfferId, (AgentId, Role)>,
    book: Book,
    cursors: Cursors,
    tearing_down: bool,
    effects: Vec<Effect>,
}

impl Subscription {
    /// A subscription whose shell is to open the first stream now.
    pub fn new(options: Options) -> Subscription {
        let Options { info, identity, suppressed } = options;
        let seed = identity.as_ref().map_or_else(|| info.name.to_string(), |identity| identity.framework.to_string());
        Subscription {
            epochs: EpochFilter::new(identity.as_ref().map_or(Epoch(0), |identity| identity.highest_epoch)),
            framework: identity.as_ref().map(|identity| identity.framework),
            secret: identity.map(|identity| identity.secret),
            backoff: Backoff::new(&seed),
            suppressed: suppressed.into_iter().collect(),
            info,
            phase: Phase::Idle,
            round: 0,
            offers: BTreeMap::new(),
            book: Book::default(),
            cursors: Cursors::default(),
            tearing_down: false,
            effects: Vec::new(),
        }
    }

    /// Where it stands.
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What to keep in order to come back after a restart; known once registered.
    pub fn identity(&self) -> Option<Identity> {
        let (framework, secret) = (self.framework?, self.secret.clone()?);
        Some(Identity { framework, secret, highest_epoch: self.epochs.highest() })
    }

    /// Takes one input in. Never blocks, never fails.
    pub fn handle(&mut self, input: Input) {
        if self.phase == Phase::Ended {
            return;
        }
        match input {
            Input::Connected => self.subscribe(),
            Input::Disconnected { message } => self.disconnected(message),
            Input::FromMaster(event) => self.hear(event),
            Input::Call(call) => self.call(call),
            Input::Unsent { call, message } => self.unsent(call, &message),
        }
    }

    /// What the shell is to do, in order. Acknowledgements come last: by then the shell has handed the scheduler what
    /// they are for.
    pub fn drain_effects(&mut self) -> impl Iterator<Item = Effect> + use<> {
        for call in self.cursors.take_due() {
            self.send(call);
        }
        std::mem::take(&mut self.effects).into_iter()
    }

    fn enter(&mut self, next: Phase) -> bool {
        match self.phase.transition(next) {
            Ok(next) => self.phase = next,
            Err(_) => return false,
        }
        true
    }

    fn subscribe(&mut self) {
        if !self.enter(Phase::Subscribing) {
            return;
        }
        let subscribe = Subscribe {
            info: self.info.clone(),
            id: self.framework,
            highest_epoch: self.epochs.highest(),
            suppressed: self.suppressed.iter().cloned().collect(),
        };
        self.effects.push(Effect::Send(Outbound::Subscribe { subscribe, secret: self.secret.clone() }));
    }

    /// The stream is gone or to be given up: void the offers, tell the scheduler if it knew of a master, and try again.
    fn disconnected(&mut self, message: Arc<str>) {
        let was_subscribed = matches!(self.phase, Phase::Subscribed { .. });
        self.enter(Phase::Idle);
        self.cursors.cancel_due();
        let offers: Vec<OfferId> = std::mem::take(&mut self.offers).into_keys().collect();
        if !offers.is_empty() {
            self.deliver(Notice::Rescinded(offers));
        }
        if was_subscribed {
            self.deliver(Notice::Disconnected { message: message.clone() });
        }
        let delay = self.backoff.next_delay();
        self.effects.push(Effect::Reconnect { delay, message });
    }

    fn end(&mut self, end: End) {
        self.enter(Phase::Ended);
        self.effects.push(Effect::Ended(end));
    }

    fn hear(&mut self, event: SchedulerEvent) {
        match (&self.phase, event) {
            // Between giving up a stream and its end its last words may still arrive.
            (Phase::Idle | Phase::Ended, _) => {}
            // This master will not have the subscription; another one may.
            (Phase::Subscribing, SchedulerEvent::Error { message, fatal: false }) => self.disconnected(message),
            (_, SchedulerEvent::Error { message, fatal }) => self.error(message, fatal),
            (_, SchedulerEvent::Subscribed { framework, secret, epoch, framework_epoch, pending_agents }) => {
                let pending = pending_agents.into_iter().collect();
                self.subscribed(
                    framework,
                    secret,
                    epoch,
                    Phase::Subscribed { framework_epoch, pending, told: BTreeSet::new(), settled: false },
                );
            }
            (Phase::Subscribing, _) => {
                self.disconnected("the master spoke before it confirmed the subscription".into())
            }
            (Phase::Subscribed { .. }, event) => self.news(event),
        }
    }

    fn error(&mut self, message: Arc<str>, fatal: bool) {
        match (fatal, self.tearing_down) {
            (false, _) => self.deliver(Notice::Error { message }),
            // What is over cannot subscribe again: that is how a lost answer to a teardown shows.
            (true, true) => self.end(End::TornDown),
            (true, false) => self.end(End::Refused(message)),
        }
    }

    fn subscribed(&mut self, framework: FrameworkId, secret: Option<Secret>, epoch: Epoch, phase: Phase) {
        if let Err(stale) = self.epochs.admit(epoch) {
            return self.disconnected(stale.to_string().into());
        }
        if !self.enter(phase) {
            return self.disconnected("the master confirmed the subscription twice".into());
        }
        self.framework = Some(framework);
        self.secret = secret.or_else(|| self.secret.take());
        self.round += 1;
        self.backoff.reset();
        if self.tearing_down {
            return self.send(Call::Teardown);
        }
        self.deliver(Notice::Registered { framework, epoch });
    }

    fn news(&mut self, event: SchedulerEvent) {
        match event {
            SchedulerEvent::Tasks { agent, incarnation, batches, last } => {
                self.book.heard(agent, incarnation);
                self.tasks(agent, &batches, last);
            }
            SchedulerEvent::Offers(offers) => self.offered(offers),
            SchedulerEvent::Rescinded(mut offers) => {
                offers.retain(|offer| self.offers.remove(offer).is_some());
                if !offers.is_empty() {
                    self.deliver(Notice::Rescinded(offers));
                }
            }
            SchedulerEvent::InverseOffers(offers) => {
                let give = |offer| GiveBack { suggested: self.book.suggest(&offer), offer };
                self.deliver(Notice::InverseOffers(offers.into_iter().map(give).collect()));
            }
            SchedulerEvent::InverseRescinded(offers) => self.deliver(Notice::InverseRescinded(offers)),
            SchedulerEvent::Updates { agent, incarnation, source, updates } => {
                self.updates(agent, incarnation, source, &updates);
            }
            SchedulerEvent::Operations { agent, statuses } => self.deliver(Notice::Operations { agent, statuses }),
            SchedulerEvent::AgentLost { agent, message } => self.agent_lost(agent, message),
            SchedulerEvent::RunnerLost { agent, runner, message } => {
                self.deliver(Notice::RunnerLost { agent, runner, message });
            }
            SchedulerEvent::Message { agent, task, data } => self.deliver(Notice::Message { agent, task, data }),
            SchedulerEvent::Heartbeat => self.settle(),
            SchedulerEvent::Subscribed { .. } | SchedulerEvent::Error { .. } => {}
        }
    }

    fn tasks(&mut self, agent: AgentId, batches: &[BatchReport], last: bool) {
        let round = self.round;
        let mut news: Vec<TaskUpdate> =
            batches.iter().flat_map(|batch| self.book.report(agent, batch, round)).collect();
        if last {
            news.extend(self.book.resolve(agent, round));
        }
        self.deliver_updates(news);
        if last {
            self.first_news_of(agent);
            for kill in self.book.kills_on(agent) {
                self.send(Call::Kill { task: kill.task, grace: kill.grace });
            }
        }
    }

    fn updates(&mut self, agent: AgentId, incarnation: Incarnation, source: Source, updates: &[Update]) {
        let mut news = Vec::new();
        if source == Source::Agent {
            self.book.heard(agent, incarnation);
        }
        for update in updates {
            let new = match source {
                Source::Agent => self.cursors.receive(agent, incarnation, update.sequence),
                Source::Master => true,
            };
            if new {
                news.extend(self.book.apply(agent, source, update));
            }
        }
        self.deliver_updates(news);
    }

    fn offered(&mut self, offers: Vec<Offer>) {
        self.offers.extend(offers.iter().map(|offer| (offer.id, (offer.agent, offer.role.clone()))));
        self.deliver(Notice::Offers(offers));
    }

    /// A lost agent that never reported to this master cannot be reported on by it: what ran there is known here only.
    fn agent_lost(&mut self, agent: AgentId, message: Arc<str>) {
        self.deliver(Notice::AgentLost { agent, message: message.clone() });
        if self.first_news_of(agent) {
            let news = self.book.unreachable(agent, &message);
            self.deliver_updates(news);
        }
    }

    /// Takes note that the master has told of an agent. Whether it had not before in this subscription.
    fn first_news_of(&mut self, agent: AgentId) -> bool {
        match &mut self.phase {
            Phase::Subscribed { pending, told, .. } => {
                pending.remove(&agent);
                told.insert(agent)
            }
            Phase::Idle | Phase::Subscribing | Phase::Ended => false,
        }
    }

    /// The first heartbeat after the confirmation comes after everything that the master had to tell. An agent that it
    /// neither told of nor expects is none of its agents any more.
    fn settle(&mut self) {
        let Phase::Subscribed { pending, told, settled, .. } = &mut self.phase else { return };
        if std::mem::replace(settled, true) {
            return;
        }
        let mut agents = self.book.agents();
        agents.retain(|agent| !pending.contains(agent) && !told.contains(agent));
        let news = agents.into_iter().flat_map(|agent| self.book.resolve(agent, self.round)).collect();
        self.deliver_updates(news);
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Accept { offers, launches, refusal } => self.accept(offers, launches, refusal),
            Call::Operate { offers, operations, launches, refusal } => {
                self.operate(offers, operations, launches, refusal);
            }
            Call::LaunchGroup { offers, launches, refusal } => self.launch_group(offers, launches, refusal),
            Call::Decline { offers, refusal } => self.decline(offers, refusal),
            Call::Suppress { roles } => {
                let roles = self.own_roles(roles);
                self.suppressed.extend(roles.iter().cloned());
                self.send(Call::Suppress { roles });
            }
            Call::Revive { roles } => {
                let roles = self.own_roles(roles);
                self.suppressed.retain(|role| !roles.contains(role));
                self.send(Call::Revive { roles });
            }
            Call::Demand { role, demands } => self.demand(role, demands),
            Call::SetRoleOptions { options } => self.set_role_options(options),
            Call::Kill { task, grace } => {
                let known = self.book.kill(&task, grace);
                if !known && !matches!(self.phase, Phase::Subscribed { .. }) {
                    self.refuse(format!(
                        "task {task} cannot be killed: it is not known, and there is no master to ask"
                    ));
                }
                self.send(Call::Kill { task, grace });
            }
            Call::Message { agent, task, data } if data.len() > MAX_MESSAGE_BYTES => {
                let bytes = data.len();
                self.refuse(format!(
                    "message to {task} on {agent} has {bytes} bytes; the limit is {MAX_MESSAGE_BYTES}"
                ));
            }
            call @ (Call::Message { .. } | Call::AcceptInverse { .. } | Call::DeclineInverse { .. }) => self.send(call),
            Call::Acknowledge { .. } => {}
            Call::Teardown => self.teardown(),
        }
    }

    /// Without roles all are meant; a role that the framework does not have is named and left out.
    fn own_roles(&mut self, roles: Vec<Role>) -> Vec<Role> {
        if roles.is_empty() {
            return self.info.roles.clone();
        }
        let (own, foreign): (Vec<Role>, Vec<Role>) = roles.into_iter().partition(|role| self.info.roles.contains(role));
        for role in foreign {
            self.refuse(format!("role {role} is not one of the framework's"));
        }
        own
    }

    fn decline(&mut self, mut offers: Vec<OfferId>, refusal: Refusal) {
        offers.retain(|offer| self.offers.remove(offer).is_some());
        if !offers.is_empty() {
            self.send(Call::Decline { offers, refusal });
        }
    }

    fn operate(&mut self, offers: Vec<OfferId>, operations: Vec<Requested>, launches: Vec<Launch>, refusal: Refusal) {
        let launches: Vec<Launch> = launches.into_iter().filter(|launch| self.check(launch)).collect();
        match self.agent_of(&offers) {
            Ok((agent, role)) => {
                self.offers.retain(|offer, _| !offers.contains(offer));
                let launches = self.write_down(launches, agent, &role);
                self.send(Call::Operate { offers, operations, launches, refusal });
            }
            Err(message) => {
                self.decline(offers, Refusal::NONE);
                let status = TaskStatus::because(TaskState::Dropped, Reason::InvalidOffers, message.clone());
                let dropped = launches.iter().map(|launch| unlaunched(launch, status.clone())).collect();
                self.deliver_updates(dropped);
                self.refuse(format!("operations are refused: {message}"));
            }
        }
    }

    fn accept(&mut self, offers: Vec<OfferId>, launches: Vec<Launch>, refusal: Refusal) {
        let launches: Vec<Launch> = launches.into_iter().filter(|launch| self.check(launch)).collect();
        if launches.is_empty() {
            return self.decline(offers, refusal);
        }
        match self.agent_of(&offers) {
            Ok((agent, role)) => {
                self.offers.retain(|offer, _| !offers.contains(offer));
                let launches = self.write_down(launches, agent, &role);
                self.send(Call::Accept { offers, launches, refusal });
            }
            Err(message) => {
                // As the master would: one invalid offer spoils all of them, and the valid ones go back unfiltered.
                self.decline(offers, Refusal::NONE);
                let status = TaskStatus::because(TaskState::Dropped, Reason::InvalidOffers, message);
                let dropped = launches.iter().map(|launch| unlaunched(launch, status.clone())).collect();
                self.deliver_updates(dropped);
            }
        }
    }

    fn write_down(&mut self, launches: Vec<Launch>, agent: AgentId, role: &Role) -> Vec<Launch> {
        let mut fresh = Vec::with_capacity(launches.len());
        for launch in launches {
            if self.book.is_live(&launch.id) {
                self.refuse_duplicate(&launch.id);
                continue;
            }
            self.book.add(&launch, agent, Some(role.clone()), self.round);
            fresh.push(launch);
        }
        fresh
    }

    /// The one agent whose offers these are, and the role of the first: that all are of one is for the master to check.
    fn agent_of(&self, offers: &[OfferId]) -> Result<(AgentId, Role), String> {
        let mut agents = BTreeMap::new();
        let mut role = None;
        for offer in offers {
            let (agent, of) = self.offers.get(offer).ok_or_else(|| format!("{offer} is not held (any more)"))?;
            role.get_or_insert(of);
            if agents.insert(*offer, *agent).is_some() {
                return Err(format!("{offer} is listed twice"));
            }
        }
        let agents: BTreeSet<AgentId> = agents.into_values().collect();
        match (agents.first(), agents.last(), role) {
            (Some(first), Some(last), Some(role)) if first == last => Ok((*first, role.clone())),
            (Some(first), Some(last), _) => {
                Err(format!("offers of one ACCEPT are of several agents, {first} and {last}"))
            }
            _ => Err("ACCEPT names no offer".to_owned()),
        }
    }

    /// A launch that cannot be is answered here: its tasks never existed, so nothing may be said in their name if their
    /// names are taken or out of bounds.
    fn check(&mut self, launch: &Launch) -> bool {
        if self.book.is_live(&launch.id) {
            self.refuse_duplicate(&launch.id);
            return false;
        }
        match launch.validate() {
            Ok(()) => return true,
            Err(error @ (LaunchError::Count(_) | LaunchError::Index(_))) => {
                self.refuse(format!("launch {} is refused: {error}", launch.id));
            }
            Err(error) => {
                let message = with_sources(&error);
                let status = TaskStatus::because(TaskState::Error, Reason::InvalidTask, message);
                self.deliver_updates(vec![unlaunched(launch, status)]);
            }
        }
        false
    }

    fn refuse_duplicate(&mut self, id: &BatchId) {
        self.refuse(format!("launch {id} is refused: the framework has a live launch of that name"));
    }

    /// The launches of an ACCEPT that could not be sent are invalid, and its offers go back.
    fn unsent(&mut self, call: Call, message: &Arc<str>) {
        let (Call::Accept { offers, launches, .. }
        | Call::Operate { offers, launches, .. }
        | Call::LaunchGroup { offers, launches, .. }) = call
        else {
            return self.refuse(message.to_string());
        };
        let status = TaskStatus::because(TaskState::Error, Reason::InvalidTask, message.clone());
        let news = launches.iter().flat_map(|launch| self.book.end(launch, &status)).collect();
        self.deliver_updates(news);
        self.send(Call::Decline { offers, refusal: Refusal::NONE });
    }

    fn teardown(&mut self) {
        self.tearing_down = true;
        match &self.phase {
            Phase::Idle if self.framework.is_none() => self.end(End::TornDown),
            Phase::Subscribed { .. } => self.send(Call::Teardown),
            // To be said as soon as there is somebody to hear it.
            Phase::Idle | Phase::Subscribing | Phase::Ended => {}
        }
    }

    fn refuse(&mut self, message: String) {
        self.deliver(Notice::Error { message: message.into() });
    }

    fn deliver(&mut self, notice: Notice) {
        self.effects.push(Effect::Deliver(notice));
    }

    fn deliver_updates(&mut self, updates: Vec<TaskUpdate>) {
        if !updates.is_empty() {
            self.deliver(Notice::Updates(updates));
        }
    }

    fn send(&mut self, call: Call) {
        if let Phase::Subscribed { framework_epoch, .. } = self.phase {
            self.effects.push(Effect::Send(Outbound::Call { framework_epoch, call }));
        }
    }
}

fn unlaunched(launch: &Launch, status: TaskStatus) -> TaskUpdate {
    TaskUpdate { agent: None, batch: launch.id.clone(), tasks: launch.tasks, status, usages: Usages::default() }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests;
