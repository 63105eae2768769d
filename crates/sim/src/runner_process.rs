//! Runner processes around the real core, and the simulated guests they run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_agent::{Runner, RunnerEffect, RunnerEvent, RunnerOptions};
use holm_model::{BatchId, FrameworkId, Reason, RunnerId, TaskState, TaskStatus, Time, WorkId};

use crate::guest::Guest;
use crate::net::{ConnId, Direction, Packet};
use crate::queue::{Happening, Place};
use crate::world::{Process, World};

/// How long a polite guest takes to end when it is asked to.
const POLITE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(100));

/// A runner process.
#[derive(Debug)]
pub(crate) struct RunnerProcess {
    pub(crate) id: RunnerId,
    pub(crate) process: Process,
    core: Runner,
    /// Its end of the socket.
    conn: Option<ConnId>,
    /// The agent's end of the socket.
    pub(crate) agent_conn: Option<ConnId>,
    guests: BTreeMap<(WorkId, u32), GuestRun>,
    next_token: u64,
}

/// A guest that runs.
#[derive(Debug)]
struct GuestRun {
    /// What is still to happen to it has this number.
    token: u64,
    framework: FrameworkId,
    batch: BatchId,
    guest: Guest,
    /// The executor that it runs in, if it does.
    inside: Option<WorkId>,
    since: Time,
}

impl RunnerProcess {
    pub(crate) fn new(id: RunnerId, now: Time) -> RunnerProcess {
        let core = Runner::new(RunnerOptions::new(id), now);
        let process = Process::born();
        RunnerProcess { id, process, core, conn: None, agent_conn: None, guests: BTreeMap::new(), next_token: 1 }
    }

    pub(crate) fn has_guests_of(&self, work: WorkId) -> bool {
        self.guests.range((work, 0)..=(work, u32::MAX)).next().is_some()
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl World {
    fn runner(&mut self, agent: usize, id: RunnerId) -> Option<&mut RunnerProcess> {
        self.agents.get_mut(agent)?.runners.get_mut(&id)
    }

    /// The process dies, and its guests with it.
    pub(crate) fn crash_runner(&mut self, agent: usize, id: RunnerId, why: &str) {
        if self.runner(agent, id).is_none() {
            return;
        }
        self.note_place(Place::Runner(agent, id), &format!("dies: {why}"));
        let runner = self.agents[agent].runners.remove(&id);
        for ((_, position), run) in runner.iter().flat_map(|runner| &runner.guests) {
            self.truth.stopped(run.framework, &run.batch, *position);
        }
        self.bury(Place::Runner(agent, id));
    }

    fn runner_event(&mut self, agent: usize, id: RunnerId, event: RunnerEvent) {
        let now = self.now;
        if let Some(runner) = self.runner(agent, id) {
            runner.core.handle(now, event);
            self.runner_turn(agent, id);
        }
    }

    fn runner_turn(&mut self, agent: usize, id: RunnerId) {
        let Some(runner) = self.runner(agent, id) else { return };
        let effects: Vec<RunnerEffect> = runner.core.drain_effects().collect();
        for effect in effects {
            if self.burns_out(Place::Runner(agent, id)) {
                return;
            }
            self.runner_effect(agent, id, effect);
        }
        let Some(runner) = self.runner(agent, id) else { return };
        let next = runner.core.next_wake();
        let broken = holm_agent::invariants::check_runner(&runner.core);
        let (core, guests) = (runner.core.live(), runner.guests.len());
        self.broken.extend(broken.iter().map(|violation| format!("{id} of agent {agent}: {violation:?}")));
        if core != guests {
            self.broken.push(format!("a runner knows its guests: {id} of agent {agent} counts {core} of {guests}"));
        }
        self.check_guests(agent);
        self.arm(Place::Runner(agent, id), next);
    }

    /// What all guests of an agent hold together.
    fn check_guests(&mut self, agent: usize) {
        let mut running: BTreeMap<(FrameworkId, BatchId), u32> = BTreeMap::new();
        for run in self.agents[agent].runners.values().flat_map(|runner| runner.guests.values()) {
            *running.entry((run.framework, run.batch.clone())).or_default() += 1;
        }
        let total = self.agents[agent].total().clone();
        self.truth.guests_fit(&running, &total);
    }

    pub(crate) fn wake_runner(&mut self, agent: usize, id: RunnerId) {
        let now = self.now;
        let Some(runner) = self.runner(agent, id) else { return };
        match runner.core.next_wake() {
            Some(next) if next <= now => self.runner_event(agent, id, RunnerEvent::Wake),
            next => self.arm(Place::Runner(agent, id), next),
        }
    }

    pub(crate) fn runner_is_connected(&mut self, agent: usize, id: RunnerId, conn: ConnId) {
        if let Some(runner) = self.runner(agent, id) {
            runner.conn = Some(conn);
        }
        self.runner_event(agent, id, RunnerEvent::AgentConnected);
    }

    pub(crate) fn runner_hears(&mut self, agent: usize, id: RunnerId, conn: ConnId, packet: Packet) {
        if self.runner(agent, id).is_none() {
            return self.close(conn, Direction::Down);
        }
        match packet {
            Packet::Fin => self.runner_loses(agent, id, conn),
            Packet::ToRunner(message) => self.runner_event(agent, id, RunnerEvent::FromAgent(message)),
            _ => {}
        }
    }

    pub(crate) fn runner_loses(&mut self, agent: usize, id: RunnerId, conn: ConnId) {
        self.close(conn, Direction::Down);
        if let Some(runner) = self.runner(agent, id).filter(|runner| runner.conn == Some(conn)) {
            runner.conn = None;
            self.runner_event(agent, id, RunnerEvent::AgentDisconnected);
        }
    }

    fn runner_effect(&mut self, agent: usize, id: RunnerId, effect: RunnerEffect) {
        match effect {
            RunnerEffect::ToAgent(message) => {
                let conn = self.runner(agent, id).and_then(|runner| runner.conn);
                if let Some(conn) = conn
                    && !self.send(conn, Direction::Down, Packet::FromRunner(message))
                {
                    self.queue.push(self.now, Happening::Closed(Place::Runner(agent, id), conn));
                }
            }
            RunnerEffect::Spawn { work, position } => self.spawn(agent, id, work, position),
            RunnerEffect::Stop { work, position, .. } => self.stop_guest(agent, id, (work, position)),
            RunnerEffect::Kill { work, position } => {
                let killed = TaskStatus::because(TaskState::Killed, Reason::Killed, "");
                self.end_guest(agent, id, (work, position), self.settings.start, killed);
            }
            RunnerEffect::Deliver { work, position, data } => {
                let run = self.runner(agent, id).and_then(|runner| runner.guests.get(&(work, position)));
                if let Some(token) = run.map(|run| run.token) {
                    let echo = Happening::Echo { agent, runner: id, token, work, position, data };
                    self.later(self.settings.start, echo);
                }
            }
            RunnerEffect::Forget { work } => {
                if self.runner(agent, id).is_some_and(|runner| runner.has_guests_of(work)) {
                    self.broken.push(format!("no launch is forgotten while it runs: {work} on {id}"));
                }
            }
            RunnerEffect::Exit { message } => self.crash_runner(agent, id, &message),
        }
    }

    fn spawn(&mut self, agent: usize, id: RunnerId, work: WorkId, position: u32) {
        let now = self.now;
        let Some(runner) = self.runner(agent, id) else { return };
        let Some((framework, launch, _)) = runner.core.work(work) else {
            return self.broken.push(format!("only known launches run: {work} on {id}"));
        };
        let (batch, task, guest) = (launch.id.clone(), launch.task_id(position), Guest::of(&launch.spec));
        let executor = launch.spec.executed.as_ref().map(|executed| executed.executor.clone());
        let is_executor = |run: &GuestRun| run.framework == framework && Some(&run.batch) == executor.as_ref();
        let inside = runner.guests.iter().find(|(_, run)| is_executor(run)).map(|((work, _), _)| *work);
        let lost = executor.is_some() && inside.is_none();
        let token = runner.token();
        let run = GuestRun { token, framework, batch: batch.clone(), guest, inside, since: now };
        runner.guests.insert((work, position), run);
        if lost {
            self.broken.push(format!("a task inside an executor starts while that runs: {work} on {id}"));
        }
        self.truth.spawned(framework, &batch, position);
        self.note_place(Place::Runner(agent, id), &format!("runs {task}"));
        let started = now + self.rng.between(self.settings.start);
        let step = |end| Happening::Guest { agent, runner: id, token, work, position, end };
        if guest.run != Some(Duration::ZERO) {
            self.queue.push(started, step(None));
        }
        if let Some(run) = guest.run {
            self.queue.push(started + run, step(Some(guest.status(run))));
        }
    }

    fn stop_guest(&mut self, agent: usize, id: RunnerId, key: (WorkId, u32)) {
        let now = self.now;
        let Some(run) = self.runner(agent, id).and_then(|runner| runner.guests.get(&key)) else { return };
        if run.guest.polite {
            let status = Guest::default().status(now.since(run.since));
            self.end_guest(agent, id, key, POLITE, status);
        }
    }

    /// Whatever else was to happen to the guest, it ends so after a while.
    fn end_guest(
        &mut self,
        agent: usize,
        id: RunnerId,
        key: (WorkId, u32),
        after: (Duration, Duration),
        status: TaskStatus,
    ) {
        let Some(runner) = self.runner(agent, id) else { return };
        let token = runner.token();
        let Some(run) = runner.guests.get_mut(&key) else { return };
        run.token = token;
        let (work, position) = key;
        self.later(after, Happening::Guest { agent, runner: id, token, work, position, end: Some(status) });
    }

    pub(crate) fn guest(
        &mut self,
        agent: usize,
        id: RunnerId,
        token: u64,
        (work, position): (WorkId, u32),
        end: Option<TaskStatus>,
    ) {
        let Some(runner) = self.runner(agent, id) else { return };
        if runner.guests.get(&(work, position)).is_none_or(|run| run.token != token) {
            return;
        }
        let Some(status) = end else { return self.runner_event(agent, id, RunnerEvent::Started { work, position }) };
        let mut over = vec![(work, position)];
        over.extend(runner.guests.iter().filter(|(_, run)| run.inside == Some(work)).map(|(key, _)| *key));
        for key in over {
            if let Some(run) = self.runner(agent, id).and_then(|runner| runner.guests.remove(&key)) {
                self.truth.stopped(run.framework, &run.batch, key.1);
            }
        }
        self.runner_event(agent, id, RunnerEvent::Ended { work, position, status });
    }

    pub(crate) fn echo(
        &mut self,
        agent: usize,
        id: RunnerId,
        token: u64,
        (work, position): (WorkId, u32),
        data: Arc<[u8]>,
    ) {
        let run = self.runner(agent, id).and_then(|runner| runner.guests.get(&(work, position)));
        if run.is_some_and(|run| run.token == token) {
            self.runner_event(agent, id, RunnerEvent::TaskMessage { work, position, data });
        }
    }
}
