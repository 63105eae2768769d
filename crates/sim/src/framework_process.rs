//! Framework processes: a simple scheduler on the real session core.

use std::collections::VecDeque;
use std::time::Duration;

use holm_model::{Call, FrameworkInfo, Time};
use holm_session::{Effect, Identity, Input, Notice, Options, Outbound, Subscription, TaskUpdate};

use crate::net::{ConnId, Direction, Packet};
use crate::queue::{Happening, Place};
use crate::scheduler::{Policy, Scheduler};
use crate::view::show_asked;
use crate::world::{Process, World};

/// After this long without a heartbeat the framework's shell gives its master up, as the SDK does.
const SILENCE: Duration = Duration::from_secs(20);
/// How far apart a random scheduler's ideas are.
const THINK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// A framework.
#[derive(Debug)]
pub(crate) struct FrameworkProcess {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) session: Option<Subscription>,
    pub(crate) scheduler: Scheduler,
    /// What it has written down about itself.
    pub(crate) identity: Option<Identity>,
    pub(crate) info: FrameworkInfo,
    pub(crate) conn: Option<ConnId>,
    heard: Time,
    /// The subscription is over for good.
    pub(crate) ended: bool,
}

impl FrameworkProcess {
    pub(crate) fn new(name: &str, info: FrameworkInfo, scheduler: Scheduler) -> FrameworkProcess {
        FrameworkProcess {
            name: name.to_owned(),
            process: Process::default(),
            session: None,
            scheduler,
            identity: None,
            info,
            conn: None,
            heard: Time::ZERO,
            ended: false,
        }
    }

    /// This life of this process, unlike any other framework's.
    pub(crate) const fn life(&self, index: usize) -> u64 {
        ((index as u64) << 32) | self.process.life
    }

    pub(crate) fn wants_to_dial(&self) -> bool {
        self.session.is_some() && self.conn.is_none() && !self.ended
    }
}

impl World {
    pub(crate) fn start_framework(&mut self, index: usize) {
        let Some(framework) = self.frameworks.get_mut(index).filter(|it| it.session.is_none() && !it.ended) else {
            return;
        };
        framework.process.life += 1;
        let life = framework.process.life;
        let (info, identity) = (framework.info.clone(), framework.identity.clone());
        framework.session = Some(Subscription::new(Options { info, identity, suppressed: Vec::new() }));
        let random = framework.scheduler.workload.policy == Policy::Random;
        self.note_place(Place::Framework(index), "starts");
        self.queue.push(self.now, Happening::Dial { place: Place::Framework(index), life });
        if random {
            self.later(THINK, Happening::Think { framework: index, life });
        }
    }

    pub(crate) fn crash_framework(&mut self, index: usize) {
        let Some(framework) = self.frameworks.get_mut(index).filter(|it| it.session.is_some()) else { return };
        framework.session = None;
        framework.conn = None;
        framework.scheduler.forget();
        self.note_place(Place::Framework(index), "dies");
        self.bury(Place::Framework(index));
    }

    /// The scheduler wants something.
    pub(crate) fn framework_calls(&mut self, index: usize, calls: Vec<Call>) {
        self.framework_turn(index, calls);
    }

    fn framework_input(&mut self, index: usize, input: Input) {
        if let Some(session) = self.frameworks.get_mut(index).and_then(|framework| framework.session.as_mut()) {
            session.handle(input);
            self.framework_turn(index, Vec::new());
        }
    }

    /// Performs what the session wants, lets the scheduler answer, and so on until both are quiet.
    fn framework_turn(&mut self, index: usize, calls: Vec<Call>) {
        let mut calls: VecDeque<Call> = calls.into();
        loop {
            let Some(session) = self.frameworks.get_mut(index).and_then(|it| it.session.as_mut()) else { return };
            let effects: Vec<Effect> = session.drain_effects().collect();
            for effect in effects {
                if self.burns_out(Place::Framework(index)) {
                    return;
                }
                calls.extend(self.framework_effect(index, effect));
            }
            let Some(call) = calls.pop_front() else { return };
            self.call(index, call);
        }
    }

    fn call(&mut self, index: usize, call: Call) {
        let framework = &mut self.frameworks[index];
        framework.scheduler.calls(&call);
        let life = framework.life(index);
        let id = framework.identity.as_ref().map(|identity| identity.framework);
        if let (
            Call::Accept { launches, .. } | Call::Operate { launches, .. } | Call::LaunchGroup { launches, .. },
            Some(id),
        ) = (&call, id)
        {
            launches.iter().for_each(|launch| self.truth.asked(id, launch, life));
        }
        if let Some(text) = show_call(&call) {
            self.note_place(Place::Framework(index), &text);
        }
        if let Some(session) = self.frameworks[index].session.as_mut() {
            session.handle(Input::Call(call));
        }
    }

    fn framework_effect(&mut self, index: usize, effect: Effect) -> Vec<Call> {
        let life = self.frameworks[index].process.life;
        match effect {
            Effect::Send(outbound) => {
                let packet = match outbound {
                    Outbound::Subscribe { subscribe, secret } => Packet::FrameworkHello(subscribe, secret),
                    Outbound::Call { framework_epoch, call } => Packet::FromFramework(framework_epoch, call),
                };
                if let Some(conn) = self.frameworks[index].conn
                    && !self.send(conn, Direction::Up, packet)
                {
                    self.queue.push(self.now, Happening::Closed(Place::Framework(index), conn));
                }
                Vec::new()
            }
            Effect::Deliver(notice) => self.deliver(index, &notice),
            Effect::Reconnect { delay, message } => {
                self.transcript.trace(self.now, "session", &format!("reconnects: {message}"));
                self.hang_up(index);
                let place = Place::Framework(index);
                self.queue.push(self.now + delay, Happening::Dial { place, life });
                Vec::new()
            }
            Effect::Ended(end) => {
                self.note_place(Place::Framework(index), &format!("ended: {end:?}"));
                self.hang_up(index);
                self.frameworks[index].ended = true;
                Vec::new()
            }
        }
    }

    fn hang_up(&mut self, index: usize) {
        if let Some(conn) = self.frameworks[index].conn.take() {
            self.close(conn, Direction::Up);
        }
    }

    /// The scheduler has it, for good: what it was told survives its death.
    fn deliver(&mut self, index: usize, notice: &Notice) -> Vec<Call> {
        let framework = &mut self.frameworks[index];
        if let Notice::Registered { framework: id, .. } = notice {
            framework.identity = framework.session.as_ref().and_then(Subscription::identity);
            self.names.insert(id.to_string(), framework.name.clone());
        }
        let (life, id) = (framework.life(index), framework.identity.as_ref().map(|identity| identity.framework));
        if let (Notice::Updates(updates), Some(id)) = (notice, id) {
            for update in updates.iter().filter(|update| update.status.state.is_terminal()) {
                self.truth.told_end(id, &update.batch, update.tasks, update.status.state, life);
            }
        }
        for line in self.show_notice(notice) {
            self.note_place(Place::Framework(index), &line);
        }
        self.frameworks[index].scheduler.notice(notice)
    }

    pub(crate) fn framework_hears(&mut self, index: usize, conn: ConnId, packet: Packet) {
        let Some(framework) = self.frameworks.get_mut(index).filter(|it| it.conn == Some(conn)) else {
            return self.close(conn, Direction::Up);
        };
        framework.heard = self.now;
        match packet {
            Packet::Ack => {
                if let Some(state) = self.net.get_mut(conn) {
                    state.established = true;
                }
                self.queue.push(self.now + SILENCE, Happening::Silence { framework: index, conn });
                self.framework_input(index, Input::Connected);
            }
            Packet::Fin => self.framework_loses(index, conn),
            Packet::ToFramework(event) => self.framework_input(index, Input::FromMaster(event)),
            _ => {}
        }
    }

    pub(crate) fn framework_loses(&mut self, index: usize, conn: ConnId) {
        self.close(conn, Direction::Up);
        if let Some(framework) = self.frameworks.get_mut(index).filter(|it| it.conn == Some(conn)) {
            framework.conn = None;
            self.framework_input(index, Input::Disconnected { message: "the stream is broken".into() });
        }
    }

    pub(crate) fn check_silence(&mut self, index: usize, conn: ConnId) {
        let Some(framework) = self.frameworks.get(index).filter(|it| it.conn == Some(conn)) else { return };
        let deadline = framework.heard + SILENCE;
        if deadline <= self.now {
            self.framework_loses(index, conn);
        } else {
            self.queue.push(deadline, Happening::Silence { framework: index, conn });
        }
    }

    pub(crate) fn think(&mut self, index: usize, life: u64) {
        let Some(framework) = self.frameworks.get_mut(index) else { return };
        if framework.process.life != life || framework.session.is_none() || framework.ended {
            return;
        }
        let calls = framework.scheduler.think(&mut self.rng);
        self.later(THINK, Happening::Think { framework: index, life });
        self.framework_turn(index, calls);
    }

    fn show_notice(&self, notice: &Notice) -> Vec<String> {
        let named = |ids: &[holm_model::OfferId]| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            ids.join(" ")
        };
        match notice {
            Notice::Registered { framework, epoch } => vec![format!("registered as {framework} in epoch {epoch}")],
            Notice::Disconnected { message } => vec![format!("disconnected: {message}")],
            Notice::Offers(offers) => {
                let show = |offer: &holm_model::Offer| {
                    format!("{} on {} in {}: {}", offer.id, offer.hostname, offer.role, offer.resources)
                };
                offers.iter().map(show).collect()
            }
            Notice::Rescinded(offers) => vec![format!("rescinded {}", named(offers))],
            Notice::InverseOffers(requests) => {
                let show = |request: &holm_session::GiveBack| {
                    let offer = &request.offer;
                    let agent = offer.agent.map_or_else(String::new, |agent| format!(" on {}", self.name_of_id(agent)));
                    let suggested: Vec<_> = request.suggested.iter().map(ToString::to_string).collect();
                    let within = crate::text::show_duration(offer.deadline);
                    let (id, reason, role, resources) = (offer.id, offer.reason, &offer.role, &offer.resources);
                    let suggested = suggested.join(" ");
                    let why = &offer.message;
                    format!(
                        "{id} asks {role} for {resources}{agent} within {within} ({reason}: {why}); say {suggested}"
                    )
                };
                requests.iter().map(show).collect()
            }
            Notice::InverseRescinded(offers) => {
                let ids: Vec<_> = offers.iter().map(ToString::to_string).collect();
                vec![format!("no longer asked for {}", ids.join(" "))]
            }
            Notice::Updates(updates) => updates.iter().map(|update| self.show_update(update)).collect(),
            Notice::Operations { agent, statuses } => {
                let show = |status: &holm_model::OperationStatus| match &status.refusal {
                    None => format!("operation {} is done on {}", status.id, self.name_of_id(*agent)),
                    Some(why) => format!("operation {} is refused on {}: {why}", status.id, self.name_of_id(*agent)),
                };
                statuses.iter().map(show).collect()
            }
            Notice::AgentLost { agent, message } => vec![format!("lost agent {}: {message}", self.name_of_id(agent))],
            Notice::RunnerLost { agent, runner, message } => {
                vec![format!("lost {runner} on {}: {message}", self.name_of_id(agent))]
            }
            Notice::Message { task, data, .. } => vec![format!("{task} says {:?}", String::from_utf8_lossy(data))],
            Notice::Error { message } => vec![format!("error: {message}")],
        }
    }

    fn show_update(&self, update: &TaskUpdate) -> String {
        let tasks = match (update.count(), update.indices()) {
            (1, _) => update.task_ids().next().map(|task| task.to_string()).unwrap_or_default(),
            (_, indices) => format!("{}/{}-{}", update.batch, indices.start, indices.end - 1),
        };
        let status = &update.status;
        let reason = status.reason.map_or_else(String::new, |reason| format!(" {reason}"));
        let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
        let agent = update.agent.map_or_else(String::new, |agent| format!(" on {}", self.name_of_id(agent)));
        format!("{tasks} {}{reason}{agent}{message}", status.state)
    }
}

fn show_call(call: &Call) -> Option<String> {
    let joined = |offers: &[holm_model::OfferId]| offers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Some(match call {
        Call::Accept { offers, launches, .. } => {
            let launches: Vec<String> = launches.iter().map(show_asked).collect();
            format!("accepts {} for {}", joined(offers), launches.join(" and "))
        }
        Call::Operate { offers, operations, launches, .. } => {
            let operations: Vec<&str> = operations.iter().map(|requested| requested.operation.kind()).collect();
            let launches: Vec<String> = launches.iter().map(show_asked).collect();
            let launches = if launches.is_empty() { String::new() } else { format!(" and {}", launches.join(" and ")) };
            format!("accepts {} for {}{launches}", joined(offers), operations.join(", "))
        }
        Call::LaunchGroup { offers, launches, .. } => {
            let launches: Vec<String> = launches.iter().map(show_asked).collect();
            format!("accepts {} for the group of {}", joined(offers), launches.join(" and "))
        }
        Call::Decline { offers, refusal } => {
            format!("declines {} for {}", joined(offers), crate::text::show_duration(refusal.duration()))
        }
        Call::Suppress { .. } => "suppresses offers".to_owned(),
        Call::Revive { .. } => "revives offers".to_owned(),
        Call::Demand { role, demands } => {
            let wanted = demands.iter().map(|demand| format!("{} x {} ({})", demand.count, demand.id, demand.shape));
            format!("wants in {role}: {}", wanted.collect::<Vec<_>>().join(", "))
        }
        Call::SetRoleOptions { .. } => "chooses its offers anew".to_owned(),
        Call::Kill { task, .. } => format!("kills {task}"),
        Call::Message { task, data, .. } => format!("tells {task} {:?}", String::from_utf8_lossy(data)),
        Call::AcceptInverse { offer, tasks, .. } => {
            let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
            format!(
                "gives back {} for {offer}",
                if tasks.is_empty() { "something".to_owned() } else { tasks.join(" ") }
            )
        }
        Call::DeclineInverse { offers } => {
            let ids: Vec<_> = offers.iter().map(ToString::to_string).collect();
            format!("leaves the choice for {}", ids.join(" "))
        }
        Call::Teardown => "tears itself down".to_owned(),
        Call::Acknowledge { .. } => return None,
    })
}
