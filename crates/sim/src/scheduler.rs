//! Simple schedulers: what a framework does with its offers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, BatchId, Call, Executed, Launch, Offer, OfferId, Refusal, Resources, Role, TaskId, TaskKind, TaskRange,
    TaskSpec,
};
use holm_session::{Notice, TaskUpdate};

use crate::guest::{Guest, GuestEnd};
use crate::rng::Rng;

/// How a scheduler answers offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It keeps them until the script says otherwise.
    Manual,
    /// One task per offer, the rest goes back.
    OnePerOffer,
    /// As many tasks as fit into each offer, each a launch of its own.
    Greedy,
    /// One launch per offer with all the tasks that are left, on as many slots as fit.
    Batch,
    /// Whatever comes to its mind.
    Random,
}

/// What a scheduler is set up with.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How it answers offers.
    pub policy: Policy,
    /// What each task holds.
    pub shape: Resources,
    /// What each task does.
    pub guest: Guest,
    /// How many tasks it wants to run.
    pub count: u32,
    /// For how long it refuses what its launches leave of an offer.
    pub refusal: Refusal,
}

/// A scheduler.
#[derive(Debug)]
pub(crate) struct Scheduler {
    name: String,
    pub(crate) workload: Workload,
    /// Tasks not launched yet.
    left: u32,
    next_name: u32,
    pub(crate) held: BTreeMap<OfferId, Offer>,
    live: BTreeSet<TaskId>,
    /// It launches nothing more and kills what it has.
    draining: bool,
    killed: BTreeSet<BatchId>,
}

impl Scheduler {
    pub(crate) fn new(name: &str, workload: Workload) -> Scheduler {
        Scheduler {
            name: name.to_owned(),
            left: workload.count,
            workload,
            next_name: 1,
            held: BTreeMap::new(),
            live: BTreeSet::new(),
            draining: false,
            killed: BTreeSet::new(),
        }
    }

    /// The process died: what it held and knew is gone, what it called its launches is not.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
        self.live.clear();
        self.killed.clear();
    }

    /// The launch that the plan asks for, under the next name.
    fn next_launch(&mut self, tasks: TaskRange, slots: u32) -> Launch {
        let id = self.next_id(tasks.count());
        launch(&id, tasks, slots, self.workload.shape.clone(), self.workload.guest)
    }

    /// Takes a notice in; what comes back is to be called.
    pub(crate) fn notice(&mut self, notice: &Notice) -> Vec<Call> {
        match notice {
            Notice::Offers(offers) => self.offered(offers),
            Notice::Rescinded(offers) => {
                offers.iter().for_each(|offer| drop(self.held.remove(offer)));
                Vec::new()
            }
            Notice::Updates(updates) => {
                for update in updates {
                    if update.status.state.is_terminal() {
                        self.live.retain(|task| !covers(update, task));
                    } else {
                        self.live.extend(update.task_ids());
                    }
                }
                if self.draining { self.kill_all() } else { Vec::new() }
            }
            // Whoever decides for itself gives what costs least; others let the deadline pass.
            Notice::InverseOffers(requests) if self.workload.policy != Policy::Manual => {
                let give = |request: &holm_session::GiveBack| Call::AcceptInverse {
                    offer: request.offer.id,
                    tasks: request.suggested.clone(),
                    grace: None,
                };
                requests.iter().map(give).collect()
            }
            Notice::Registered { .. } if self.draining => vec![Call::Suppress { roles: Vec::new() }],
            _ => Vec::new(),
        }
    }

    /// A call is about to be made: remembers what it launches and uses up.
    pub(crate) fn calls(&mut self, call: &Call) {
        match call {
            Call::Accept { offers, launches, .. }
            | Call::Operate { offers, launches, .. }
            | Call::LaunchGroup { offers, launches, .. } => {
                offers.iter().for_each(|offer| drop(self.held.remove(offer)));
                for launch in launches {
                    self.live.extend((0..launch.tasks.count()).map(|position| launch.task_id(position)));
                }
            }
            Call::Decline { offers, .. } => offers.iter().for_each(|offer| drop(self.held.remove(offer))),
            _ => {}
        }
    }

    fn offered(&mut self, offers: &[Offer]) -> Vec<Call> {
        if self.draining {
            let offers = offers.iter().map(|offer| offer.id).collect();
            return vec![Call::Decline { offers, refusal: Refusal::new(Duration::from_secs(3600)) }];
        }
        match self.workload.policy {
            Policy::Manual | Policy::Random => {
                self.held.extend(offers.iter().map(|offer| (offer.id, offer.clone())));
                Vec::new()
            }
            Policy::OnePerOffer | Policy::Greedy | Policy::Batch => self.answer(offers),
        }
    }

    fn answer(&mut self, offers: &[Offer]) -> Vec<Call> {
        let wanting = self.left > 0;
        let mut calls: Vec<Call> = offers.iter().map(|offer| self.answer_one(offer)).collect();
        if wanting && self.left == 0 {
            calls.push(Call::Suppress { roles: Vec::new() });
        }
        calls
    }

    fn answer_one(&mut self, offer: &Offer) -> Call {
        let most = match self.workload.policy {
            Policy::OnePerOffer => self.left.min(1),
            _ => self.left,
        };
        let fitting = offer.resources.count_fitting(&self.workload.shape, most);
        let launches: Vec<Launch> = match self.workload.policy {
            _ if fitting == 0 => Vec::new(),
            Policy::Batch => vec![self.next_launch(TaskRange::Array { first: 0, count: self.left }, fitting)],
            _ => (0..fitting).map(|_| self.next_launch(TaskRange::Single, 1)).collect(),
        };
        if launches.is_empty() {
            return Call::Decline { offers: vec![offer.id], refusal: Refusal::default() };
        }
        Call::Accept { offers: vec![offer.id], launches, refusal: self.workload.refusal }
    }

    /// From now on it launches nothing.
    pub(crate) fn drain(&mut self) -> Vec<Call> {
        self.draining = true;
        let mut calls = vec![Call::Suppress { roles: Vec::new() }];
        if !self.held.is_empty() {
            let offers = self.held.keys().copied().collect();
            calls.push(Call::Decline { offers, refusal: Refusal::NONE });
        }
        calls.extend(self.kill_all());
        calls
    }

    /// A kill for every live launch, said once.
    fn kill_all(&mut self) -> Vec<Call> {
        let batches: BTreeSet<BatchId> = self.live.iter().map(|task| task.batch.clone()).collect();
        let fresh: Vec<BatchId> = batches.into_iter().filter(|batch| self.killed.insert(batch.clone())).collect();
        let kill = |batch| Call::Kill { task: TaskId { batch, index: None }, grace: Some(Duration::from_secs(2)) };
        fresh.into_iter().map(kill).collect()
    }

    /// Whatever comes to a random scheduler's mind.
    pub(crate) fn think(&mut self, rng: &mut Rng) -> Vec<Call> {
        if self.draining {
            return Vec::new();
        }
        match rng.below(10) {
            0..=5 => self.use_offers(rng),
            6 => self.kill_one(rng),
            7 => vec![Call::Suppress { roles: Vec::new() }],
            8 => vec![Call::Revive { roles: Vec::new() }],
            _ => Vec::new(),
        }
    }

    fn kill_one(&mut self, rng: &mut Rng) -> Vec<Call> {
        let live: Vec<&TaskId> = self.live.iter().collect();
        let Some(task) = rng.pick(&live).cloned() else { return Vec::new() };
        let task = if rng.chance(50) { TaskId { batch: task.batch, index: None } } else { task };
        let grace = rng.chance(50).then(|| rng.between((Duration::ZERO, Duration::from_secs(8))));
        vec![Call::Kill { task, grace }]
    }

    fn use_offers(&mut self, rng: &mut Rng) -> Vec<Call> {
        let agents: Vec<AgentId> = self.held.values().map(|offer| offer.agent).collect();
        let Some(agent) = rng.pick(&agents) else { return Vec::new() };
        let mut offers: Vec<&Offer> = self.held.values().filter(|offer| offer.agent == agent).collect();
        if rng.chance(30) {
            offers.truncate(1);
        }
        let ids: Vec<OfferId> = offers.iter().map(|offer| offer.id).collect();
        let refusals = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(600)];
        let refusal = Refusal::new(rng.pick(&refusals).unwrap_or_default());
        let mut free = offers.iter().fold(Resources::EMPTY, |sum, offer| sum.plus(&offer.resources).unwrap_or(sum));
        if self.left == 0 || rng.chance(15) {
            return vec![Call::Decline { offers: ids, refusal }];
        }
        let mut launches = Vec::new();
        let mut warm = None;
        for _ in 0..=rng.below(3) {
            let launch = match &warm {
                Some(executor) if rng.chance(50) => self.random_inside(executor, rng),
                _ if rng.chance(20) => self.random_executor(rng),
                _ => self.random_launch(&free, rng),
            };
            if launch.spec.kind == TaskKind::Executor {
                warm = Some(launch.id.clone());
            }
            free = free.minus(&launch.resources()).unwrap_or(free);
            launches.push(launch);
        }
        if rng.chance(40) {
            return vec![Call::LaunchGroup { offers: ids, launches, refusal }];
        }
        vec![Call::Accept { offers: ids, launches, refusal }]
    }

    fn random_executor(&mut self, rng: &mut Rng) -> Launch {
        let id = self.next_id(1);
        executor(&id, "cpus:0.5;mem:256MiB".parse().unwrap_or_default(), random_guest(rng))
    }

    /// Usually in the executor launched with it, at times in one of long ago.
    fn random_inside(&mut self, executor: &BatchId, rng: &mut Rng) -> Launch {
        let names: Vec<&BatchId> = self.live.iter().map(|task| &task.batch).collect();
        let other = rng.pick(&names).filter(|_| rng.chance(20)).cloned();
        let count = 1 + u32::try_from(rng.below(12)).unwrap_or(0);
        let id = self.next_id(count);
        let slots = 1 + u32::try_from(rng.below(u64::from(count.min(3)))).unwrap_or(0);
        let shape = "cpus:0.1".parse().unwrap_or_default();
        let tasks = TaskRange::Array { first: 0, count };
        inside(other.unwrap_or_else(|| executor.clone()), &id, tasks, slots.min(count), shape, random_guest(rng))
    }

    /// The next name, for a launch of so many tasks.
    fn next_id(&mut self, count: u32) -> String {
        let id = format!("{}-{}", self.name, self.next_name);
        self.next_name += 1;
        self.left = self.left.saturating_sub(count);
        id
    }

    /// Usually one that fits.
    fn random_launch(&mut self, free: &Resources, rng: &mut Rng) -> Launch {
        let shapes = ["cpus:1;mem:1GiB", "cpus:0.5;mem:256MiB", "cpus:2;mem:3GiB"];
        self.workload.shape = rng.pick(&shapes).and_then(|text| text.parse().ok()).unwrap_or_default();
        self.workload.guest = random_guest(rng);
        let fitting = free.count_fitting(&self.workload.shape, 4).max(1);
        if rng.chance(50) {
            return self.next_launch(TaskRange::Single, 1);
        }
        let slots = u32::try_from(1 + rng.below(u64::from(fitting))).unwrap_or(1);
        let count = slots + u32::try_from(rng.below(12)).unwrap_or(0);
        let first = u32::try_from(rng.below(3)).unwrap_or(0);
        self.next_launch(TaskRange::Array { first, count }, slots)
    }
}

/// Whether the update is about this task.
fn covers(update: &TaskUpdate, task: &TaskId) -> bool {
    update.batch == task.batch && update.tasks.position_of(task.index).is_some()
}

fn random_guest(rng: &mut Rng) -> Guest {
    let runs = [0, 1, 20, 700, 3_000, 20_000, 90_000].map(Duration::from_millis);
    let ends = [GuestEnd::Exit(0), GuestEnd::Exit(0), GuestEnd::Exit(3), GuestEnd::Trap, GuestEnd::Fuel];
    Guest {
        run: if rng.chance(5) { None } else { rng.pick(&runs) },
        end: rng.pick(&ends).unwrap_or(GuestEnd::Memory),
        polite: rng.chance(70),
        fetchable: rng.chance(95),
    }
}

/// A launch of simulated guests.
pub(crate) fn launch(id: &str, tasks: TaskRange, slots: u32, shape: Resources, guest: Guest) -> Launch {
    let spec = TaskSpec { resources: shape, args: vec![guest.text()], ..TaskSpec::default() };
    launch_of(id, tasks, slots, spec)
}

/// An executor that is a simulated guest itself.
pub(crate) fn executor(id: &str, shape: Resources, guest: Guest) -> Launch {
    let args = vec![guest.text()];
    let spec = TaskSpec { kind: TaskKind::Executor, resources: shape, args, ..TaskSpec::default() };
    launch_of(id, TaskRange::Single, 1, spec)
}

/// A launch of simulated guests inside an executor.
pub(crate) fn inside(
    executor: BatchId,
    id: &str,
    tasks: TaskRange,
    slots: u32,
    shape: Resources,
    guest: Guest,
) -> Launch {
    let executed = Some(Executed { executor, data: guest.text().as_bytes().into() });
    launch_of(
        id,
        tasks,
        slots,
        TaskSpec { kind: TaskKind::Executed, resources: shape, executed, ..TaskSpec::default() },
    )
}

fn launch_of(id: &str, tasks: TaskRange, slots: u32, spec: TaskSpec) -> Launch {
    // A name that is none becomes one that shows it.
    let name = id.parse().or_else(|_| "unnamed".parse::<BatchId>());
    let id = name.expect("\"unnamed\" is a name");
    Launch { id, tasks, slots, spec: Arc::new(spec) }
}

/// One of the roles that scripts and random runs use.
pub(crate) fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|error: holm_model::RoleError| error.to_string())
}
