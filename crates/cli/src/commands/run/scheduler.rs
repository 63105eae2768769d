//! The framework behind `holm run`: launches one program as often as asked, wherever it fits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, BatchId, FrameworkId, FrameworkInfo, Launch, ListenOn, Offer, OfferId, Quantity, Ranges, Reason, Refusal,
    ResourceName, Resources, Role, TaskId, TaskRange, TaskSpec, TaskState, VolumeId, VolumeMount,
};
use holm_sdk::{Calls, Event, GiveBack, Scheduler, TaskUpdate};
use tokio::sync::mpsc;

use super::job::with_ports;
use super::pace::Pace;
use super::plan::{Pending, Share};
use super::want::Want;
use crate::commands::runs;
use crate::output::brief;

/// Notices that may wait to be shown; more are dropped, since they are only for people.
pub(super) const NOTICES: usize = 256;
/// How often a task is launched again that was dropped before it ran.
const MAX_DROPS: u32 = 10;
/// How long nothing is launched after a launch was dropped, so that the cause can pass.
const PAUSE: Duration = Duration::from_secs(1);
/// After how long in which nothing happens it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often that is said at most: in so many times [`PATIENCE`].
const HUSH: u32 = 5;
/// How long a detached launch may take to be confirmed before it is taken for confirmed.
const CONFIRM: Duration = Duration::from_secs(3);
/// What is not needed stays away for this long; `revive` brings it back.
const NOT_NEEDED: Duration = Duration::from_secs(3600);

/// What the scheduler is told by its program.
pub(super) const KILL: &[u8] = b"kill";

const TIMER_PATIENCE: u64 = 1;
const TIMER_PAUSE: u64 = 2;
const TIMER_CONFIRM: u64 = 3;

/// What to launch.
pub(super) struct Job {
    pub(super) name: BatchId,
    pub(super) count: u32,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) role: Role,
    /// What the master is told of what is wanted.
    pub(super) want: Want,
    /// Whether each task gets a port that its agent has left.
    pub(super) free_port: bool,
    /// How many of the tasks the whole cluster has room for.
    pub(super) capacity: u32,
    /// Whether the program leaves once everything is launched.
    pub(super) detach: bool,
    pub(super) failover_timeout: Duration,
}

/// What the program is told, other than ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The framework has its id.
    Registered(FrameworkId),
    /// There is no master for now.
    Disconnected(String),
    /// Something that people should know: what is waited for, what was refused, what was lost.
    News(String),
    /// Everything is launched and confirmed.
    Launched,
    /// Nothing is live or pending any more; so many tasks were never launched.
    Over { never_launched: u32 },
}

/// Tells the program what happens.
pub(super) struct Outlet {
    pub(super) notices: mpsc::Sender<Notice>,
    /// Has room for every task.
    pub(super) ends: mpsc::Sender<TaskUpdate>,
}

pub(super) struct RunScheduler {
    job: Job,
    outlet: Outlet,
    pending: Pending,
    /// Launches with tasks that have not ended.
    live: BTreeMap<BatchId, Live>,
    pace: Pace,
    /// Slots that a detached run has dealt tasks to.
    dealt: u32,
    unconfirmed: BTreeSet<BatchId>,
    launches: u32,
    drops: BTreeMap<u32, u32>,
    paused: bool,
    stopping: bool,
    never_launched: u32,
    over: bool,
    largest_offer: Option<Resources>,
    /// A volume that an offer did not have.
    missing_volume: Option<VolumeId>,
    ticking: bool,
    /// Whether something happened since the last tick.
    active: bool,
    /// Ticks before something may be said again.
    hush: u32,
}

/// A launch on its way.
#[derive(Debug)]
struct Live {
    agent: AgentId,
    /// Tasks that have not ended.
    left: u32,
    per_slot: u32,
    /// Whether one of its tasks has begun to run.
    begun: bool,
    /// Where it is served, until that has been said.
    served: Option<String>,
}

impl RunScheduler {
    pub(super) fn new(job: Job, outlet: Outlet) -> RunScheduler {
        RunScheduler {
            pending: Pending::new(job.count),
            job,
            outlet,
            live: BTreeMap::new(),
            pace: Pace::new(),
            dealt: 0,
            unconfirmed: BTreeSet::new(),
            launches: 0,
            drops: BTreeMap::new(),
            paused: false,
            stopping: false,
            never_launched: 0,
            over: false,
            largest_offer: None,
            missing_volume: None,
            ticking: false,
            active: false,
            hush: 0,
        }
    }

    fn tell(&self, notice: Notice) {
        // A notice that nobody takes in time is one that nobody needs.
        let _ = self.outlet.notices.try_send(notice);
    }

    fn registered(&mut self, framework: FrameworkId, calls: &mut Calls) {
        self.tell(Notice::Registered(framework));
        self.job.want.forget();
        if !std::mem::replace(&mut self.ticking, true) {
            calls.set_timer(TIMER_PATIENCE, PATIENCE);
        }
    }

    fn offers(&mut self, offers: Vec<Offer>, calls: &mut Calls) {
        let mut by_agent: BTreeMap<AgentId, (Vec<OfferId>, Resources, Arc<str>)> = BTreeMap::new();
        for offer in offers {
            if offer.is_revocable() != self.job.spec.revocable {
                // Ordinary resources are of no use to a revocable job.
                calls.decline([offer.id], Some(Refusal::new(NOT_NEEDED)));
                continue;
            }
            let has = |mount: &VolumeMount| offer.portions.volume(&mount.id, &offer.role).is_some();
            if let Some(absent) = self.job.spec.volumes.iter().find(|mount| !has(mount)) {
                self.missing_volume.get_or_insert_with(|| absent.id.clone());
                calls.decline([offer.id], None);
                continue;
            }
            let (ids, resources, hostname) = by_agent.entry(offer.agent).or_default();
            *hostname = offer.hostname.clone();
            match resources.plus(&offer.usable()) {
                Ok(sum) => {
                    ids.push(offer.id);
                    *resources = sum;
                }
                // Two offers of one agent hold different things; if they do not, one of them is not used.
                Err(_) => calls.decline([offer.id], None),
            }
        }
        for (agent, (ids, resources, hostname)) in by_agent {
            self.offer(agent, ids, &resources, &hostname, calls);
        }
        if self.pending.count() == 0 {
            calls.suppress([]);
        }
    }

    fn offer(&mut self, agent: AgentId, ids: Vec<OfferId>, resources: &Resources, hostname: &str, calls: &mut Calls) {
        if self.stopping || self.pending.count() == 0 {
            return calls.decline(ids, Some(Refusal::new(NOT_NEEDED)));
        }
        if self.paused {
            return calls.decline(ids, Some(Refusal::new(PAUSE)));
        }
        let mut free = free_ports(resources);
        let mut slots = resources.count_fitting(&self.job.spec.resources, self.pending.count());
        if !self.job.spec.volumes.is_empty() {
            slots = slots.min(1);
        }
        if self.job.free_port {
            slots = slots.min(u32::try_from(free.len()).unwrap_or(u32::MAX));
        }
        if slots == 0 {
            let larger = self.largest_offer.as_ref().is_none_or(|largest| resources.contains(largest));
            if larger {
                self.largest_offer = Some(resources.clone());
            }
            return calls.decline(ids, None);
        }
        let shares = if self.job.free_port {
            self.one_by_one(slots)
        } else if self.job.detach {
            // Nobody will be there to launch more later: what is left is for the agents that have nothing yet.
            let shares = self.pending.take(slots, self.job.capacity.saturating_sub(self.dealt), None);
            self.dealt = self.dealt.saturating_add(slots);
            shares
        } else {
            self.pending.take(slots, self.job.capacity, Some(self.pace.per_slot()))
        };
        let launches = shares.into_iter().filter_map(|share| self.launch(agent, hostname, &share, &mut free)).collect();
        self.active = true;
        calls.accept(ids, launches, Refusal::default());
        if self.pending.count() == 0 && self.job.detach {
            calls.set_timer(TIMER_CONFIRM, CONFIRM);
        }
    }

    /// Shares of one slot each: no two tasks can hold the same port.
    fn one_by_one(&mut self, slots: u32) -> Vec<Share> {
        (0..slots).flat_map(|_| self.pending.take(1, 1, Some(1))).collect()
    }

    /// What is launched with this share; `free` loses the port that it gets.
    fn spec(&self, free: &mut Ranges) -> Arc<TaskSpec> {
        if !self.job.free_port {
            return self.job.spec.clone();
        }
        let port = free.take(1);
        *free = free.difference(&port);
        with_ports(&self.job.spec, port).into()
    }

    fn launch(&mut self, agent: AgentId, hostname: &str, share: &Share, free: &mut Ranges) -> Option<Launch> {
        let name = match self.launches {
            0 => self.job.name.clone(),
            // The name was checked to leave room for a number.
            number => format!("{}.{number}", self.job.name).parse().ok()?,
        };
        self.launches += 1;
        let per_slot = share.count.div_ceil(share.slots.max(1));
        let spec = self.spec(free);
        let place = match spec.network.listen {
            Some(ListenOn::Loopback) => "127.0.0.1",
            _ => hostname,
        };
        let mut served = spec.service_port().map(|port| format!("{name} is served at http://{place}:{port}"));
        if self.job.detach {
            // Nobody will be there to say it later.
            served.take().into_iter().for_each(|served| self.tell(Notice::News(served)));
        }
        self.live.insert(name.clone(), Live { agent, left: share.count, per_slot, begun: false, served });
        self.unconfirmed.insert(name.clone());
        let tasks = match self.job.count {
            1 => TaskRange::Single,
            _ => TaskRange::Array { first: share.first, count: share.count },
        };
        Some(Launch { id: name, tasks, slots: share.slots, spec })
    }

    fn asked_back(&mut self, request: &GiveBack) {
        let GiveBack { offer, suggested } = request;
        let tasks: u32 = suggested.iter().map(|span| span.tasks.count()).sum();
        self.tell(Notice::News(format!("gives back {} ({}; {tasks} tasks)", offer.resources, offer.message)));
    }

    fn update(&mut self, update: TaskUpdate, calls: &mut Calls) {
        self.unconfirmed.remove(&update.batch);
        self.count(&update);
        if !update.status.state.is_terminal() {
            return;
        }
        let never_ran = update.status.state == TaskState::Dropped || update.status.reason == Some(Reason::Trimmed);
        if never_ran && !self.stopping && self.may_repeat(&update) {
            tracing::info!(batch = %update.batch, count = update.count(), message = %update.status.message, "launched again");
            self.pending.give_back(update.indices());
            self.pause(&update, calls);
            return;
        }
        // There is room for every task, and the receiver is gone only when nobody wants to know.
        let _ = self.outlet.ends.try_send(update);
    }

    /// Takes down how far a launch has come, and how long its tasks took.
    fn count(&mut self, update: &TaskUpdate) {
        let state = update.status.state;
        let Some(live) = self.live.get_mut(&update.batch) else { return };
        let begun = state != TaskState::Staging;
        let served = if state == TaskState::Running { live.served.take() } else { None };
        self.active |= begun;
        live.begun |= begun;
        if !state.is_terminal() {
            return served.into_iter().for_each(|served| self.tell(Notice::News(served)));
        }
        let run = update.total().run / update.count().max(1);
        if !run.is_zero() {
            self.pace.ended(update.count(), run);
        }
        live.left = live.left.saturating_sub(update.count());
        if live.left == 0 {
            let per_slot = live.per_slot;
            self.live.remove(&update.batch);
            if !run.is_zero() {
                self.pace.launch_ended(per_slot);
            }
        }
    }

    /// Whether tasks that were dropped are worth another try.
    fn may_repeat(&mut self, update: &TaskUpdate) -> bool {
        if update.status.reason == Some(Reason::Trimmed) {
            return true;
        }
        let mut most = 0;
        for index in update.indices() {
            let drops = self.drops.entry(index).or_default();
            *drops += 1;
            most = most.max(*drops);
        }
        most <= MAX_DROPS
    }

    fn pause(&mut self, update: &TaskUpdate, calls: &mut Calls) {
        // A race with an offer that ended is over already; other causes may last.
        let lasting = !matches!(update.status.reason, Some(Reason::InvalidOffers | Reason::Trimmed));
        if lasting && !self.paused {
            self.paused = true;
            calls.set_timer(TIMER_PAUSE, PAUSE);
        }
        if !self.paused {
            calls.revive([]);
        }
    }

    fn timer(&mut self, token: u64, calls: &mut Calls) {
        match token {
            TIMER_PAUSE => {
                self.paused = false;
                if self.pending.count() > 0 {
                    calls.revive([]);
                }
            }
            TIMER_PATIENCE => self.tick(calls),
            TIMER_CONFIRM => self.unconfirmed.clear(),
            _ => {}
        }
    }

    /// Says what is waited for when nothing happens.
    fn tick(&mut self, calls: &mut Calls) {
        calls.set_timer(TIMER_PATIENCE, PATIENCE);
        self.hush = self.hush.saturating_sub(1);
        if self.launches > 0 {
            // Agents that have not offered anything by now are in use: the next offer gets all that is left.
            self.dealt = self.job.capacity;
        }
        if std::mem::take(&mut self.active) || self.hush > 0 {
            return;
        }
        if let Some(news) = self.waits_for() {
            self.hush = HUSH;
            self.tell(Notice::News(news));
        }
    }

    fn waits_for(&self) -> Option<String> {
        // Of what runs it is not known whether it should take long.
        if self.stopping || self.live.values().any(|live| live.begun) {
            return None;
        }
        if let Some(first) = self.live.values().next() {
            let tasks: u32 = self.live.values().map(|live| live.left).sum();
            let agents: BTreeSet<AgentId> = self.live.values().map(|live| live.agent).collect();
            let others = match agents.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} other agent{}", if others == 1 { "" } else { "s" }),
            };
            let what = if self.job.count == 1 {
                format!("{} is STAGING", self.job.name)
            } else {
                format!("{tasks} tasks are STAGING")
            };
            return Some(format!("waiting: {what} on {}{others}: the program is fetched or compiled", first.agent));
        }
        (self.pending.count() > 0).then(|| {
            let asked = brief(&self.job.spec.resources);
            if let Some(volume) = &self.missing_volume {
                return format!("waiting for {asked} with volume {volume}, which no offer has had so far");
            }
            if self.job.want.is_stated() {
                let count = self.pending.count();
                let of = if count == 1 { String::new() } else { format!(" for {count} tasks") };
                return format!("waiting for {asked}{of}: no agent that it may use has that free (see: holm demands)");
            }
            let largest = self.largest_offer.as_ref().map_or_else(|| "nothing".to_owned(), brief);
            format!("waiting for {asked}; what was offered so far: {largest}")
        })
    }

    fn stop(&mut self, calls: &mut Calls) {
        self.stopping = true;
        self.never_launched += self.pending.clear();
        for batch in self.live.keys() {
            calls.kill(TaskId { batch: batch.clone(), index: None }, None);
        }
    }

    fn check_course(&mut self) {
        if self.over || self.pending.count() > 0 {
            return;
        }
        if self.live.is_empty() {
            self.over = true;
            self.tell(Notice::Over { never_launched: self.never_launched });
        } else if self.job.detach && self.unconfirmed.is_empty() {
            self.tell(Notice::Launched);
        }
    }
}

/// The ports of an offer.
fn free_ports(resources: &Resources) -> Ranges {
    match resources.get(&ResourceName::Ports) {
        Some(Quantity::Ranges(ports)) => ports.clone(),
        _ => Ranges::default(),
    }
}

impl Scheduler for RunScheduler {
    fn describe(&self) -> FrameworkInfo {
        let info = holm_sdk::framework_info(self.job.name.as_str(), [self.job.role.clone()]);
        let labels = runs::labels(&self.job.name, self.job.count);
        // Nobody will come back for a detached run: it is over with its last task.
        let idle = self.job.detach.then(|| FrameworkInfo::ENDS_WHEN_IDLE.into());
        let lent = self.job.spec.revocable.then(|| FrameworkInfo::REVOCABLE.into());
        let capabilities = idle.into_iter().chain(lent).collect();
        let role_options = self.job.want.options();
        FrameworkInfo { failover_timeout: self.job.failover_timeout, labels, capabilities, role_options, ..info }
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        let mut is_registered = self.ticking;
        for event in events {
            is_registered |= matches!(event, Event::Registered { .. });
            match event {
                Event::Registered { framework, .. } => self.registered(framework, calls),
                Event::Disconnected { message } => self.tell(Notice::Disconnected(message.to_string())),
                Event::Offers(offers) => self.offers(offers, calls),
                Event::Updates(updates) => updates.into_iter().for_each(|update| self.update(update, calls)),
                Event::Timer(token) => self.timer(token, calls),
                Event::Input(input) if input == KILL => self.stop(calls),
                Event::Error { message } => self.tell(Notice::News(message.to_string())),
                Event::AgentLost { agent, message } => self.tell(Notice::News(format!("{agent} is lost: {message}"))),
                // What is suggested is given back, and launched again where it never ran.
                Event::InverseOffers(requests) => requests.iter().for_each(|request| self.asked_back(request)),
                Event::InverseRescinded(_) => {}
                // No offer is held, and the end of a runner shows in its tasks.
                Event::Rescinded(_) | Event::RunnerLost { .. } | Event::Operations { .. } => {}
                Event::Message { .. } | Event::Input(_) => {}
            }
        }
        if is_registered {
            self.job.want.state(if self.stopping { 0 } else { self.pending.count() }, calls);
        }
        self.check_course();
    }
}

#[cfg(test)]
mod tests;
