//! A framework on the SDK that runs whatever single tasks it is given, wherever they fit, and tells their ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    BatchId, FrameworkInfo, Launch, Offer, Refusal, Resources, Role, TaskRange, TaskSpec, TaskState, TaskStatus,
};
use holm_sdk::{Calls, Event, Scheduler, TaskUpdate};
use tokio::sync::mpsc;

/// Jobs that may wait to be taken.
pub(super) const JOBS: usize = 4096;
/// How often a job is tried.
const ATTEMPTS: u32 = 3;
/// How long the framework's tasks outlive its connection.
const FAILOVER: Duration = Duration::from_secs(60);

/// Says that there are new jobs.
pub(super) const MORE: &[u8] = b"more";
/// Says that no more jobs will come.
pub(super) const FINISH: &[u8] = b"finish";

/// A task to run.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) spec: Arc<TaskSpec>,
}

/// A job that is done, or will never be.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) name: String,
    /// The name under which it ran in the end.
    pub(super) task: BatchId,
    pub(super) status: TaskStatus,
}

/// The framework.
pub(super) struct Pool {
    name: &'static str,
    role: Role,
    jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
    waiting: VecDeque<(Job, u32)>,
    running: BTreeMap<BatchId, (Job, u32)>,
    quiet: bool,
}

impl Pool {
    pub(super) fn new(name: &'static str, role: Role, jobs: mpsc::Receiver<Job>, done: mpsc::Sender<Done>) -> Pool {
        Pool { name, role, jobs, done, waiting: VecDeque::new(), running: BTreeMap::new(), quiet: false }
    }

    fn fill(&mut self, offer: Offer, calls: &mut Calls) {
        let mut room = offer.resources;
        let mut launches = Vec::new();
        while let Some((job, attempt)) = self.waiting.pop_front() {
            let Ok(rest) = room.minus(&job.spec.resources) else {
                self.waiting.push_front((job, attempt));
                break;
            };
            match launch(&job, attempt) {
                Ok(launch) => {
                    room = rest;
                    self.running.insert(launch.id.clone(), (job, attempt));
                    launches.push(launch);
                }
                Err(message) => calls.abort(message),
            }
        }
        // With no launches this is a decline.
        calls.accept([offer.id], launches, Refusal::default());
    }

    fn update(&mut self, update: TaskUpdate, calls: &mut Calls) {
        if !update.status.state.is_terminal() {
            return;
        }
        let Some((job, attempt)) = self.running.remove(&update.batch) else { return };
        if update.status.state != TaskState::Finished && attempt + 1 < ATTEMPTS {
            tracing::info!(task = %update.batch, state = %update.status.state, message = %update.status.message, "tried again");
            return self.waiting.push_front((job, attempt + 1));
        }
        let done = Done { name: job.name, task: update.batch, status: update.status };
        if self.done.try_send(done).is_err() {
            calls.abort("nobody takes the ends of tasks");
        }
    }

    /// Offers are wanted while something waits.
    fn ask(&mut self, calls: &mut Calls) {
        if self.waiting.is_empty() != self.quiet {
            self.quiet = self.waiting.is_empty();
            if self.quiet { calls.suppress([]) } else { calls.revive([]) }
        }
    }
}

fn launch(job: &Job, attempt: u32) -> Result<Launch, String> {
    let name = if attempt == 0 { job.name.clone() } else { format!("{}.{attempt}", job.name) };
    let id = name.parse().map_err(|error| format!("job name: {error}"))?;
    Ok(Launch { id, tasks: TaskRange::Single, slots: 1, spec: job.spec.clone() })
}

impl Scheduler for Pool {
    fn describe(&self) -> FrameworkInfo {
        FrameworkInfo { failover_timeout: FAILOVER, ..holm_sdk::framework_info(self.name, [self.role.clone()]) }
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) => offers.into_iter().for_each(|offer| self.fill(offer, calls)),
                Event::Updates(updates) => updates.into_iter().for_each(|update| self.update(update, calls)),
                Event::Input(input) if input == MORE => {
                    while let Ok(job) = self.jobs.try_recv() {
                        self.waiting.push_back((job, 0));
                    }
                }
                Event::Input(input) if input == FINISH => return calls.finish(0, []),
                Event::Error { message } => return calls.abort(&*message),
                _ => {}
            }
        }
        self.ask(calls);
    }
}

/// The largest part of `agent` that `parts` tasks can have at a time, with at least `mem` bytes of memory.
pub(super) fn part_of(agent: &Resources, parts: u64, mem: u64) -> Resources {
    use holm_model::ResourceName::{Cpus, Mem};
    let cpus = (agent.scalar(&Cpus).0 / parts).clamp(1, 1000);
    Resources::scalars([(Cpus, cpus), (Mem, mem.min(agent.scalar(&Mem).0))])
}

#[cfg(test)]
mod tests {
    use holm_model::{AgentId, Call, Epoch, FrameworkId, OfferId, Usages};
    use holm_sdk::Intent;

    use super::*;

    fn offer(number: u64, resources: &str) -> Event {
        Event::Offers(vec![Offer {
            id: OfferId::new(Epoch(1), number),
            framework: FrameworkId::new(Epoch(1), 1),
            role: Role::default_role(),
            agent: AgentId::new(Epoch(1), 1),
            hostname: "host".into(),
            resources: resources.parse().unwrap(),
            portions: holm_model::Portions::unreserved(resources.parse().unwrap()),
            attributes: BTreeMap::new(),
            demand: None,
            gang: None,
        }])
    }

    fn launched(pool: &mut Pool, event: Event) -> Vec<String> {
        let mut calls = Calls::new();
        pool.handle(vec![event], &mut calls);
        let accepts = calls.take().into_iter().filter_map(|intent| match intent {
            Intent::Call(Call::Accept { launches, .. }) => Some(launches),
            _ => None,
        });
        accepts.flatten().map(|launch| launch.id.to_string()).collect()
    }

    #[test]
    fn jobs_fill_offers_and_failures_are_tried_again_a_few_times() {
        let (give, jobs) = mpsc::channel(JOBS);
        let (tell, mut done) = mpsc::channel(8);
        let mut pool = Pool::new("pool", Role::default_role(), jobs, tell);
        let spec = Arc::new(TaskSpec { resources: "cpus:1;mem:1GiB".parse().unwrap(), ..TaskSpec::default() });
        for name in ["a", "b", "c"] {
            give.try_send(Job { name: name.to_owned(), spec: spec.clone() }).unwrap();
        }
        assert!(launched(&mut pool, Event::Input(MORE.to_vec())).is_empty());
        assert_eq!(launched(&mut pool, offer(1, "cpus:2;mem:8GiB")), ["a", "b"]);
        let mut name = "a".to_owned();
        for number in 2..2 + u64::from(ATTEMPTS) - 1 {
            let status = TaskStatus::of(TaskState::Failed);
            let update = TaskUpdate {
                agent: None,
                batch: name.parse().unwrap(),
                tasks: TaskRange::Single,
                status,
                usages: Usages::default(),
            };
            launched(&mut pool, Event::Updates(vec![update]));
            name = launched(&mut pool, offer(number, "cpus:1;mem:8GiB")).pop().unwrap();
        }
        assert_eq!(name, "a.2");
        let update = TaskUpdate {
            agent: None,
            batch: name.parse().unwrap(),
            tasks: TaskRange::Single,
            status: TaskStatus::of(TaskState::Failed),
            usages: Usages::default(),
        };
        launched(&mut pool, Event::Updates(vec![update]));
        assert_eq!(done.try_recv().unwrap().name, "a");
    }
}
