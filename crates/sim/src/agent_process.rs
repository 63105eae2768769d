//! Agent processes around the real core: a checkpoint, a stream to the master, sockets to runners.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_agent::{Agent, AgentEffect, AgentEvent, AgentOptions, PrepareError, Record, SessionId};
use holm_model::{
    AgentInfo, BatchId, BootId, FrameworkId, Prepared, Reason, Resources, RunnerId, TaskState, ToMaster, WorkId,
};

use crate::guest::Guest;
use crate::net::{ConnId, Direction, Packet};
use crate::queue::{Happening, Place};
use crate::runner_process::RunnerProcess;
use crate::world::{Process, World};

/// An agent's host: the agent process, its data directory, and its runners, which outlive it.
#[derive(Debug)]
pub(crate) struct AgentProcess {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) core: Option<Agent>,
    info: AgentInfo,
    boot: u64,
    /// The checkpoint, as the operating system has it.
    records: Vec<Record>,
    /// The numbers of the volumes whose directories it has.
    volumes: Vec<u64>,
    /// How much of it is on the disk.
    synced: usize,
    /// Records at the last rewriting.
    compacted: usize,
    /// The stream to the master, open or being opened.
    pub(crate) conn: Option<ConnId>,
    pub(crate) runners: BTreeMap<RunnerId, RunnerProcess>,
    /// Which launch each number stands for, for the truth.
    works: BTreeMap<WorkId, (FrameworkId, BatchId)>,
}

impl AgentProcess {
    pub(crate) fn new(name: &str, info: AgentInfo) -> AgentProcess {
        AgentProcess {
            name: name.to_owned(),
            process: Process::default(),
            core: None,
            info,
            boot: 1,
            records: Vec::new(),
            volumes: Vec::new(),
            synced: 0,
            compacted: 0,
            conn: None,
            runners: BTreeMap::new(),
            works: BTreeMap::new(),
        }
    }

    pub(crate) const fn total(&self) -> &Resources {
        &self.info.resources
    }

    pub(crate) fn wants_to_dial(&self) -> bool {
        self.core.is_some() && self.conn.is_none()
    }
}

impl World {
    pub(crate) fn start_agent(&mut self, index: usize) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(index).filter(|agent| agent.core.is_none()) else { return };
        agent.process.life += 1;
        let life = agent.process.life;
        let boot = BootId(format!("{}-boot-{}", agent.name, agent.boot).into());
        let options = AgentOptions::new(agent.info.clone(), boot);
        let core = Agent::recover(agent.records.iter().cloned(), options, now);
        let known: Vec<RunnerId> = core.runners().map(|(runner, _)| runner).collect();
        let strays: Vec<RunnerId> = agent.runners.keys().copied().filter(|id| !known.contains(id)).collect();
        agent.core = Some(core);
        self.note_place(Place::Agent(index), "starts");
        for runner in strays {
            self.crash_runner(index, runner, "nobody knows it");
        }
        self.agent_turn(index);
        for runner in known {
            self.later(self.settings.start, Happening::RunnerUp { agent: index, life, runner });
        }
        self.queue.push(self.now, Happening::Dial { place: Place::Agent(index), life });
    }

    pub(crate) fn crash_agent(&mut self, index: usize) {
        let Some(agent) = self.agents.get_mut(index).filter(|agent| agent.core.is_some()) else { return };
        agent.core = None;
        agent.conn = None;
        self.note_place(Place::Agent(index), "dies");
        self.bury(Place::Agent(index));
    }

    /// The host goes down: every process on it dies, and what was not on the disk may be lost.
    pub(crate) fn power_off(&mut self, index: usize) {
        for (conn, _) in self.net.servers_of(Place::Agent(index)) {
            self.net.lose(conn);
        }
        self.crash_agent(index);
        let runners: Vec<RunnerId> = self.agents[index].runners.keys().copied().collect();
        for runner in runners {
            self.crash_runner(index, runner, "its host went down");
        }
        let unsynced = self.agents[index].records.len() - self.agents[index].synced;
        let kept = self.rng.index(unsynced + 1);
        let agent = &mut self.agents[index];
        agent.boot += 1;
        agent.records.truncate(agent.synced + kept);
        agent.compacted = agent.records.len();
        for (framework, batch) in std::mem::take(&mut agent.works).into_values() {
            self.truth.log_lost(framework, &batch);
        }
    }

    pub(crate) fn agent_event(&mut self, index: usize, event: AgentEvent) {
        let now = self.now;
        if let Some(core) = self.agents.get_mut(index).and_then(|agent| agent.core.as_mut()) {
            core.handle(now, event);
            self.agent_turn(index);
        }
    }

    fn agent_turn(&mut self, index: usize) {
        let Some(core) = self.agents.get_mut(index).and_then(|agent| agent.core.as_mut()) else { return };
        let effects: Vec<AgentEffect> = core.drain_effects().collect();
        for effect in effects {
            if self.burns_out(Place::Agent(index)) {
                return;
            }
            self.agent_effect(index, effect);
        }
        self.compact(index);
        self.check_agent(index);
        let next = self.agents[index].core.as_ref().and_then(Agent::next_wake);
        self.arm(Place::Agent(index), next);
    }

    fn check_agent(&mut self, index: usize) {
        let agent = &self.agents[index];
        let Some(core) = agent.core.as_ref() else { return };
        let broken = holm_agent::invariants::check_agent(core);
        self.broken.extend(broken.iter().map(|violation| format!("{}: {violation:?}", agent.name)));
        if !agent.info.resources.contains(core.held()) {
            let (held, total) = (core.held(), &agent.info.resources);
            self.broken
                .push(format!("what an agent holds never exceeds what it has: {} {held} of {total}", agent.name));
        }
    }

    /// Now and then the checkpoint is rewritten.
    fn compact(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let (Some(core), records) = (agent.core.as_ref(), agent.records.len()) else { return };
        if records.saturating_sub(agent.compacted) > self.settings.compact_every {
            agent.records = core.snapshot();
            agent.synced = agent.records.len();
            agent.compacted = agent.records.len();
        }
    }

    pub(crate) fn wake_agent(&mut self, index: usize) {
        let now = self.now;
        let Some(core) = self.agents.get(index).and_then(|agent| agent.core.as_ref()) else { return };
        match core.next_wake() {
            Some(next) if next <= now => self.agent_event(index, AgentEvent::Wake),
            next => self.arm(Place::Agent(index), next),
        }
    }

    fn agent_effect(&mut self, index: usize, effect: AgentEffect) {
        let life = self.agents[index].process.life;
        match effect {
            AgentEffect::Checkpoint(records) => self.checkpoint(index, records),
            AgentEffect::Sync => self.agents[index].synced = self.agents[index].records.len(),
            AgentEffect::ToMaster { session, message } => self.agent_sends(index, session, message),
            AgentEffect::Reconnect { session, message } => {
                self.transcript.trace(self.now, "agent", &format!("reconnects: {message}"));
                self.redial(index, session, self.settings.redial);
            }
            AgentEffect::Refused { session, message } => {
                self.note_place(Place::Agent(index), &format!("is refused: {message}"));
                self.redial(index, session, (Duration::from_secs(10), Duration::from_secs(10)));
            }
            AgentEffect::Prepare { work, launch, .. } => {
                let fetchable = Guest::of(&launch.spec).fetchable;
                self.later(self.settings.prepare, Happening::Prepared { agent: index, life, work, fetchable });
            }
            AgentEffect::StartRunner { runner, .. } => {
                let process = RunnerProcess::new(runner, self.now);
                self.agents[index].runners.insert(runner, process);
                self.note_place(Place::Runner(index, runner), "starts");
                self.later(self.settings.start, Happening::RunnerUp { agent: index, life, runner });
            }
            AgentEffect::ToRunner { runner, message } => {
                let conn = self.agents[index].runners.get(&runner).and_then(|runner| runner.agent_conn);
                if let Some(conn) = conn
                    && !self.send(conn, Direction::Up, Packet::ToRunner(message))
                {
                    self.queue.push(self.now, Happening::Closed(Place::Agent(index), conn));
                }
            }
            AgentEffect::StopRunner { runner, grace: Duration::ZERO, .. } => {
                self.crash_runner(index, runner, "its agent killed it");
            }
            AgentEffect::StopRunner { runner, grace, .. } => {
                self.queue.push(self.now + grace, Happening::RunnerKill { agent: index, life, runner });
            }
            AgentEffect::Cleanup { work, .. } => {
                if let Some(runner) = self.agents[index].runners.values().find(|runner| runner.has_guests_of(work)) {
                    self.broken.push(format!("nothing is cleaned up under a running task: {work} on {}", runner.id));
                }
            }
            AgentEffect::Volumes(volumes) => {
                if !volumes.is_empty() || !self.agents[index].volumes.is_empty() {
                    self.agents[index].volumes = volumes.iter().map(|volume| volume.serial).collect();
                    let names: Vec<String> =
                        volumes.iter().map(|volume| format!("{} of {}", volume.id, volume.role)).collect();
                    self.note_place(Place::Agent(index), &format!("has the volumes [{}]", names.join(", ")));
                }
            }
            AgentEffect::Abandon { .. } => {}
        }
    }

    fn checkpoint(&mut self, index: usize, records: Vec<Record>) {
        for record in &records {
            let agent = &mut self.agents[index];
            match record {
                Record::Identity { agent: id, .. } => {
                    let name = agent.name.clone();
                    self.names.insert(id.to_string(), name);
                }
                Record::WorkAdded { work, framework, launch, .. } => {
                    agent.works.insert(*work, (*framework, launch.id.clone()));
                }
                Record::GroupAdded { first, framework, launches, .. } => {
                    for (work, launch) in (first.0..).zip(launches) {
                        agent.works.insert(WorkId(work), (*framework, launch.id.clone()));
                    }
                }
                Record::WorkRemoved { work } => {
                    if let Some((framework, batch)) = agent.works.remove(work) {
                        self.truth.log_lost(framework, &batch);
                    }
                }
                Record::Updated { framework, update, .. } if update.status.state.is_terminal() => {
                    self.truth.logged(*framework, &update.batch, update.positions());
                }
                _ => {}
            }
        }
        self.agents[index].records.extend(records);
    }

    fn agent_sends(&mut self, index: usize, session: SessionId, message: ToMaster) {
        let conn = ConnId(session.0);
        if self.agents[index].conn != Some(conn) {
            return;
        }
        let packet = match message {
            ToMaster::Register(registration) => {
                let identity = self.agents[index].core.as_ref().and_then(Agent::identity);
                Packet::AgentHello(registration, identity.map(|(_, secret, _, _)| secret.clone()))
            }
            message => Packet::FromAgent(message),
        };
        if !self.send(conn, Direction::Up, packet) {
            self.queue.push(self.now, Happening::Closed(Place::Agent(index), conn));
        }
    }

    fn redial(&mut self, index: usize, session: SessionId, delay: (Duration, Duration)) {
        let conn = ConnId(session.0);
        let agent = &mut self.agents[index];
        if agent.conn == Some(conn) {
            agent.conn = None;
            let life = agent.process.life;
            self.close(conn, Direction::Up);
            self.later(delay, Happening::Dial { place: Place::Agent(index), life });
        }
    }

    pub(crate) fn agent_hears(&mut self, index: usize, conn: ConnId, packet: Packet) {
        let session = SessionId(conn.0);
        let to_runner =
            self.agents[index].runners.values().find(|runner| runner.agent_conn == Some(conn)).map(|it| it.id);
        match packet {
            Packet::Fin => self.agent_loses(index, conn),
            Packet::FromRunner(message) => {
                if let Some(runner) = to_runner {
                    self.agent_event(index, AgentEvent::FromRunner { runner, message });
                }
            }
            _ if self.agents[index].conn != Some(conn) => self.close(conn, Direction::Up),
            Packet::Ack => {
                if let Some(state) = self.net.get_mut(conn) {
                    state.established = true;
                }
                self.agent_event(index, AgentEvent::Connected { session });
            }
            Packet::ToAgent(message) => self.agent_event(index, AgentEvent::FromMaster { session, message }),
            _ => {}
        }
    }

    /// A stream or a socket has ended.
    pub(crate) fn agent_loses(&mut self, index: usize, conn: ConnId) {
        self.close(conn, Direction::Up);
        let server = self.net.get_mut(conn).map(|conn| conn.server);
        if let Some(Place::Runner(_, id)) = server {
            return self.agent_loses_runner(index, id, conn);
        }
        let life = self.agents[index].process.life;
        if self.agents[index].conn == Some(conn) {
            let established = self.net.get_mut(conn).is_some_and(|conn| conn.established);
            self.agents[index].conn = None;
            self.later(self.settings.redial, Happening::Dial { place: Place::Agent(index), life });
            if established {
                self.agent_event(index, AgentEvent::Disconnected { session: SessionId(conn.0) });
            }
        }
    }

    fn agent_loses_runner(&mut self, index: usize, id: RunnerId, conn: ConnId) {
        let life = self.agents[index].process.life;
        match self.agents[index].runners.get_mut(&id) {
            Some(runner) if runner.agent_conn == Some(conn) => {
                runner.agent_conn = None;
                self.agent_event(index, AgentEvent::RunnerDisconnected { runner: id });
                self.later(self.settings.start, Happening::RunnerUp { agent: index, life, runner: id });
            }
            Some(_) => {}
            None => self.runner_exited(index, id),
        }
    }

    fn runner_exited(&mut self, index: usize, runner: RunnerId) {
        self.agent_event(index, AgentEvent::RunnerExited { runner, message: "the runner's process is gone".into() });
    }

    /// The agent's shell connects to a runner, if there is one.
    pub(crate) fn runner_up(&mut self, index: usize, life: u64, id: RunnerId) {
        let agent = &mut self.agents[index];
        if agent.core.is_none() || agent.process.life != life {
            return;
        }
        let Some(runner) = agent.runners.get_mut(&id) else { return self.runner_exited(index, id) };
        let conn = self.net.open(Place::Agent(index), Place::Runner(index, id));
        runner.agent_conn = Some(conn);
        if let Some(state) = self.net.get_mut(conn) {
            state.established = true;
        }
        self.agent_event(index, AgentEvent::RunnerConnected { runner: id });
        self.runner_is_connected(index, id, conn);
    }

    pub(crate) fn runner_kill(&mut self, index: usize, life: u64, id: RunnerId) {
        if self.agents[index].process.life == life && self.agents[index].core.is_some() {
            self.crash_runner(index, id, "its agent killed it");
        }
    }

    pub(crate) fn prepared(&mut self, index: usize, life: u64, work: WorkId, fetchable: bool) {
        if self.agents[index].process.life != life {
            return;
        }
        let message: Arc<str> = "the module cannot be fetched".into();
        let refused = PrepareError { state: TaskState::Failed, reason: Reason::Fetch, message };
        let ready = Prepared {
            program: "program".into(),
            inputs: None,
            scratch: None,
            directories: Vec::new(),
            volumes: Vec::new(),
            network: Default::default(),
        };
        let result = if fetchable { Ok(ready) } else { Err(refused) };
        self.agent_event(index, AgentEvent::Prepared { work, result });
    }
}
