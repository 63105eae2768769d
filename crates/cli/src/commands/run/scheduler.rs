//! The framework behind `holm run`: launches one program as often as asked, wherever it fits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, BatchId, FrameworkId, FrameworkInfo, Launch, Offer, OfferId, Reason, Refusal, Resources, Role, TaskId,
    TaskRange, TaskSpec, TaskState,
};
use holm_sdk::{Calls, Event, Scheduler, TaskUpdate};
use tokio::sync::mpsc;

use super::plan::{Pending, Share};

/// Notices that may wait to be shown; more are dropped, since they are only for people.
pub(super) const NOTICES: usize = 256;
/// How often a task is launched again that was dropped before it ran.
const MAX_DROPS: u32 = 10;
/// How long nothing is launched after a launch was dropped, so that the cause can pass.
const PAUSE: Duration = Duration::from_secs(1);
/// After how long without a suitable offer that is said.
const PATIENCE: Duration = Duration::from_secs(3);
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
    /// Tasks of each launch that have not ended.
    live: BTreeMap<BatchId, u32>,
    unconfirmed: BTreeSet<BatchId>,
    launches: u32,
    drops: BTreeMap<u32, u32>,
    paused: bool,
    stopping: bool,
    never_launched: u32,
    over: bool,
    largest_offer: Option<Resources>,
    shown_waiting: bool,
}

impl RunScheduler {
    pub(super) fn new(job: Job, outlet: Outlet) -> RunScheduler {
        RunScheduler {
            pending: Pending::new(job.count),
            job,
            outlet,
            live: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            launches: 0,
            drops: BTreeMap::new(),
            paused: false,
            stopping: false,
            never_launched: 0,
            over: false,
            largest_offer: None,
            shown_waiting: false,
        }
    }

    fn tell(&self, notice: Notice) {
        // A notice that nobody takes in time is one that nobody needs.
        let _ = self.outlet.notices.try_send(notice);
    }

    fn registered(&mut self, framework: FrameworkId, calls: &mut Calls) {
        self.tell(Notice::Registered(framework));
        if self.pending.count() > 0 {
            calls.set_timer(TIMER_PATIENCE, PATIENCE);
        }
    }

    fn offers(&mut self, offers: Vec<Offer>, calls: &mut Calls) {
        let mut by_agent: BTreeMap<AgentId, (Vec<OfferId>, Resources)> = BTreeMap::new();
        for offer in offers {
            let (ids, resources) = by_agent.entry(offer.agent).or_default();
            match resources.plus(&offer.resources) {
                Ok(sum) => {
                    ids.push(offer.id);
                    *resources = sum;
                }
                // Two offers of one agent hold different things; if they do not, one of them is not used.
                Err(_) => calls.decline([offer.id], None),
            }
        }
        for (ids, resources) in by_agent.into_values() {
            self.offer(ids, &resources, calls);
        }
        if self.pending.count() == 0 {
            calls.suppress([]);
        }
    }

    fn offer(&mut self, ids: Vec<OfferId>, resources: &Resources, calls: &mut Calls) {
        if self.stopping || self.pending.count() == 0 {
            return calls.decline(ids, Some(Refusal::new(NOT_NEEDED)));
        }
        if self.paused {
            return calls.decline(ids, Some(Refusal::new(PAUSE)));
        }
        let slots = resources.count_fitting(&self.job.spec.resources, self.pending.count());
        if slots == 0 {
            let larger = self.largest_offer.as_ref().is_none_or(|largest| resources.contains(largest));
            if larger {
                self.largest_offer = Some(resources.clone());
            }
            return calls.decline(ids, None);
        }
        let shares = self.pending.take(slots, self.job.capacity, self.job.detach);
        let launches = shares.into_iter().filter_map(|share| self.launch(&share)).collect();
        calls.accept(ids, launches, Refusal::default());
        if self.pending.count() == 0 && self.job.detach {
            calls.set_timer(TIMER_CONFIRM, CONFIRM);
        }
    }

    fn launch(&mut self, share: &Share) -> Option<Launch> {
        let name = match self.launches {
            0 => self.job.name.clone(),
            // The name was checked to leave room for a number.
            number => format!("{}.{number}", self.job.name).parse().ok()?,
        };
        self.launches += 1;
        self.live.insert(name.clone(), share.count);
        self.unconfirmed.insert(name.clone());
        let tasks = match self.job.count {
            1 => TaskRange::Single,
            _ => TaskRange::Array { first: share.first, count: share.count },
        };
        Some(Launch { id: name, tasks, slots: share.slots, spec: self.job.spec.clone() })
    }

    fn update(&mut self, update: TaskUpdate, calls: &mut Calls) {
        self.unconfirmed.remove(&update.batch);
        if !update.status.state.is_terminal() {
            return;
        }
        if let Some(live) = self.live.get_mut(&update.batch) {
            *live = live.saturating_sub(update.count());
            if *live == 0 {
                self.live.remove(&update.batch);
            }
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
            TIMER_PATIENCE if self.launches == 0 && !self.shown_waiting && self.pending.count() > 0 => {
                self.shown_waiting = true;
                let asked = &self.job.spec.resources;
                let largest = self.largest_offer.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                self.tell(Notice::News(format!("waiting for {asked}; what was offered so far: {largest}")));
            }
            TIMER_CONFIRM => self.unconfirmed.clear(),
            _ => {}
        }
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

impl Scheduler for RunScheduler {
    fn describe(&self) -> FrameworkInfo {
        let info = holm_sdk::framework_info(self.job.name.as_str(), [self.job.role.clone()]);
        FrameworkInfo { failover_timeout: self.job.failover_timeout, ..info }
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Registered { framework, .. } => self.registered(framework, calls),
                Event::Disconnected { message } => self.tell(Notice::Disconnected(message.to_string())),
                Event::Offers(offers) => self.offers(offers, calls),
                Event::Updates(updates) => updates.into_iter().for_each(|update| self.update(update, calls)),
                Event::Timer(token) => self.timer(token, calls),
                Event::Input(input) if input == KILL => self.stop(calls),
                Event::Error { message } => self.tell(Notice::News(message.to_string())),
                Event::AgentLost { agent, message } => self.tell(Notice::News(format!("{agent} is lost: {message}"))),
                // No offer is held, and the end of a runner shows in its tasks.
                Event::Rescinded(_) | Event::RunnerLost { .. } => {}
                Event::Message { .. } | Event::Input(_) => {}
            }
        }
        self.check_course();
    }
}

#[cfg(test)]
mod tests;
