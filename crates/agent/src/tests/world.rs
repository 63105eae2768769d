//! A whole agent in miniature: the real agent and runner cores, a shell that can die after any effect or record, and a
//! master that keeps its own books of every task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::invariants::check_runner;
use crate::{Runner, RunnerEffect, RunnerEvent, RunnerOptions};

/// What the master does, one step after another.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Launch(u64, Launch),
    Kill(u64, &'static str),
    Trim(u64, &'static str, u32),
    Remove(u64),
    /// Running tasks of this many positions end.
    Finish(usize),
    /// A runner process is killed from outside.
    KillRunner,
    /// The stream to the master breaks.
    Cut,
    /// A runner's socket breaks.
    CutRunner,
    /// The agent's process dies.
    Crash,
}

type Key = (FrameworkId, String, u32);

#[derive(Default)]
pub(super) struct World {
    agent: Option<Agent>,
    pub(super) disk: Vec<Record>,
    runners: BTreeMap<RunnerId, Runner>,
    session: u64,
    now: u64,
    events: VecDeque<AgentEvent>,
    running: VecDeque<(RunnerId, WorkId, u32)>,
    /// Effects and records performed so far.
    pub(super) steps: u64,
    pub(super) crash_at: Option<u64>,
    // The master's books.
    open: bool,
    launched: u64,
    sent: BTreeMap<Key, TaskState>,
    reported: BTreeSet<(FrameworkId, String)>,
    cursor: BTreeMap<FrameworkId, u64>,
    dropped: BTreeSet<Key>,
    removed: BTreeSet<FrameworkId>,
    spawned: BTreeMap<Key, u32>,
    withheld: bool,
}

impl World {
    pub(super) fn new(crash_at: Option<u64>) -> World {
        let mut world = World { crash_at, withheld: true, ..World::default() };
        world.start();
        world.settle();
        world
    }

    fn start(&mut self) {
        let agent = Agent::recover(self.disk.clone(), options(), Time::from_micros(self.now));
        self.events.clear();
        self.open = false;
        self.session += 1;
        for (runner, _) in agent.runners() {
            self.events.push_back(match self.runners.contains_key(&runner) {
                true => AgentEvent::RunnerConnected { runner },
                false => AgentEvent::RunnerExited { runner, message: "gone".into() },
            });
        }
        let known: BTreeSet<RunnerId> = agent.runners().map(|(runner, _)| runner).collect();
        self.runners.retain(|runner, _| known.contains(runner));
        self.events.push_back(AgentEvent::Connected { session: SessionId(self.session) });
        self.agent = Some(agent);
    }

    fn crash(&mut self) {
        self.agent = None;
        self.pump_runners();
        for runner in self.runners.values_mut() {
            runner.handle(Time::from_micros(self.now), RunnerEvent::AgentDisconnected);
        }
        self.start();
    }

    /// Whether the process lives on after this step.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.crash_at != Some(self.steps)
    }

    pub(super) fn act(&mut self, act: Act) {
        let session = SessionId(self.session);
        let message = match act {
            Act::Launch(number, launch) => {
                let id = launch.id.to_string();
                if !self.open || self.removed.contains(&framework(number)) || self.is_used(framework(number), &id) {
                    return;
                }
                self.reported.insert((framework(number), id.clone()));
                for position in 0..launch.tasks.count() {
                    self.sent.insert((framework(number), id.clone(), position), TaskState::Staging);
                }
                self.launched += 1;
                ToAgent::Launch {
                    sequence: self.launched,
                    framework: framework(number),
                    role: role(),
                    origins: Portions::EMPTY,
                    launch,
                }
            }
            Act::Kill(number, task) => {
                ToAgent::Kill { framework: framework(number), task: task.parse().unwrap(), grace: Some(Duration::ZERO) }
            }
            Act::Trim(number, batch, from) => {
                ToAgent::Trim { framework: framework(number), batch: batch.parse().unwrap(), from, message: "".into() }
            }
            Act::Remove(number) => {
                self.removed.insert(framework(number));
                ToAgent::Remove { framework: framework(number) }
            }
            Act::Finish(count) => return self.finish(count),
            Act::KillRunner => return self.kill_runner(),
            Act::Cut => {
                self.open = false;
                self.events.push_back(AgentEvent::Disconnected { session });
                self.session += 1;
                self.events.push_back(AgentEvent::Connected { session: SessionId(self.session) });
                return self.settle();
            }
            Act::CutRunner => return self.cut_runner(),
            Act::Crash => {
                self.crash();
                return self.settle();
            }
        };
        if self.open {
            self.events.push_back(AgentEvent::FromMaster { session, message });
        }
        self.settle();
    }

    /// A name is used once per framework, so that ends can be counted.
    fn is_used(&self, framework: FrameworkId, id: &str) -> bool {
        self.sent.keys().any(|key| key.0 == framework && key.1 == id)
    }

    fn finish(&mut self, count: usize) {
        for _ in 0..count {
            let Some((runner, work, position)) = self.running.pop_front() else { break };
            self.end(runner, work, position, TaskState::Finished);
        }
        self.settle();
    }

    fn end(&mut self, runner: RunnerId, work: WorkId, position: u32, state: TaskState) {
        if let Some(core) = self.runners.get_mut(&runner) {
            let status = TaskStatus::of(state);
            core.handle(Time::from_micros(self.now), RunnerEvent::Ended { work, position, status });
        }
    }

    fn kill_runner(&mut self) {
        if let Some((runner, _)) = self.runners.pop_first() {
            self.events.push_back(AgentEvent::RunnerExited { runner, message: "signal 9".into() });
        }
        self.settle();
    }

    fn cut_runner(&mut self) {
        self.pump_runners();
        if let Some((runner, core)) =
            self.runners.first_key_value().map(|(id, _)| *id).and_then(|id| Some((id, self.runners.get_mut(&id)?)))
        {
            core.handle(Time::from_micros(self.now), RunnerEvent::AgentDisconnected);
            self.events
                .retain(|event| !matches!(event, AgentEvent::FromRunner { runner: from, .. } if *from == runner));
            self.events.push_back(AgentEvent::RunnerDisconnected { runner });
            self.events.push_back(AgentEvent::RunnerConnected { runner });
        }
        self.settle();
    }

    /// Goes on until nothing is left to do but for tasks to end.
    pub(super) fn settle(&mut self) {
        loop {
            self.now += 1;
            let pumped = self.pump_runners();
            let event = self.events.pop_front();
            let idle = event.is_none() && !pumped;
            if let (Some(event), Some(agent)) = (event, &mut self.agent) {
                if let AgentEvent::RunnerConnected { runner } = &event
                    && let Some(core) = self.runners.get_mut(runner)
                {
                    core.handle(Time::from_micros(self.now), RunnerEvent::AgentConnected);
                }
                agent.handle(Time::from_micros(self.now), event);
            }
            if !self.perform() {
                self.crash();
                continue;
            }
            if idle && self.events.is_empty() {
                return;
            }
        }
    }

    fn pump_runners(&mut self) -> bool {
        let mut any = false;
        let mut ended = Vec::new();
        for (id, core) in &mut self.runners {
            let effects: Vec<RunnerEffect> = core.drain_effects().collect();
            assert_eq!(check_runner(core), []);
            for effect in effects {
                any = true;
                match effect {
                    RunnerEffect::ToAgent(message) => {
                        self.events.push_back(AgentEvent::FromRunner { runner: *id, message });
                    }
                    RunnerEffect::Spawn { work, position } => {
                        let (framework, launch, _) = core.work(work).unwrap();
                        *self.spawned.entry((framework, launch.id.to_string(), position)).or_default() += 1;
                        self.running.push_back((*id, work, position));
                        if position % 2 == 0 {
                            core.handle(Time::from_micros(self.now), RunnerEvent::Started { work, position });
                        }
                    }
                    RunnerEffect::Kill { work, position } => ended.push((*id, work, position)),
                    RunnerEffect::Stop { .. } | RunnerEffect::Deliver { .. } | RunnerEffect::Forget { .. } => {}
                    RunnerEffect::Exit { .. } => {}
                }
            }
        }
        for (runner, work, position) in ended {
            self.running.retain(|task| *task != (runner, work, position));
            self.end(runner, work, position, TaskState::Killed);
        }
        any
    }

    fn perform(&mut self) -> bool {
        let Some(agent) = &mut self.agent else { return true };
        let effects: Vec<AgentEffect> = agent.drain_effects().collect();
        assert_eq!(check_agent(agent), []);
        for effect in effects {
            match effect {
                AgentEffect::Checkpoint(records) => {
                    for record in records {
                        self.disk.push(record);
                        if !self.step() {
                            return false;
                        }
                    }
                    continue;
                }
                AgentEffect::ToMaster { session, message } if session.0 == self.session => self.master(message),
                AgentEffect::ToMaster { .. } | AgentEffect::Sync | AgentEffect::Abandon { .. } => {}
                AgentEffect::Cleanup { .. } | AgentEffect::Volumes(_) => {}
                AgentEffect::Reconnect { message, .. } | AgentEffect::Refused { message, .. } => panic!("{message}"),
                AgentEffect::Prepare { work, .. } => {
                    self.events.push_back(AgentEvent::Prepared { work, result: Ok(prepared()) });
                }
                AgentEffect::StartRunner { runner, .. } => {
                    self.runners.insert(runner, Runner::new(RunnerOptions::new(runner), Time::from_micros(self.now)));
                    self.events.push_back(AgentEvent::RunnerConnected { runner });
                }
                AgentEffect::ToRunner { runner, message } => {
                    if let Some(core) = self.runners.get_mut(&runner) {
                        core.handle(Time::from_micros(self.now), RunnerEvent::FromAgent(message));
                    }
                }
                AgentEffect::StopRunner { runner, .. } => {
                    self.runners.remove(&runner);
                    self.events.push_back(AgentEvent::RunnerExited { runner, message: "stopped".into() });
                }
            }
            if !self.step() {
                return false;
            }
        }
        true
    }

    fn master(&mut self, message: ToMaster) {
        let answers = match message {
            ToMaster::Register(_) => {
                self.launched = 0;
                let known = self.disk.iter().any(|record| matches!(record, Record::Identity { .. }));
                let secret = (!known).then(|| Secret::from_bytes([7; 32]));
                self.reported.clear();
                let (agent, cluster) = (agent_id(), ClusterId(9));
                vec![ToAgent::Registered { agent, secret, cluster, epoch: Epoch(1), silence: SILENCE }]
            }
            ToMaster::Report { batches, last } => {
                self.reported.extend(batches.iter().map(|batch| (batch.framework, batch.id.to_string())));
                if last { self.resolve() } else { Vec::new() }
            }
            ToMaster::Updates { framework, incarnation, updates } => self.take(framework, incarnation, updates),
            ToMaster::Message { .. } | ToMaster::RunnerLost { .. } => Vec::new(),
            ToMaster::Condition(_) | ToMaster::Revocable(_) | ToMaster::Pong => Vec::new(),
        };
        let session = SessionId(self.session);
        self.events.extend(answers.into_iter().map(|message| AgentEvent::FromMaster { session, message }));
    }

    /// The report is complete: what it lacks and has not ended never ran.
    fn resolve(&mut self) -> Vec<ToAgent> {
        self.open = true;
        for (key, state) in &self.sent {
            if !state.is_terminal() && !self.reported.contains(&(key.0, key.1.clone())) {
                self.dropped.insert(key.clone());
            }
        }
        self.removed.iter().map(|framework| ToAgent::Remove { framework: *framework }).collect()
    }

    fn take(
        &mut self,
        framework: FrameworkId,
        incarnation: holm_model::Incarnation,
        updates: Vec<Update>,
    ) -> Vec<ToAgent> {
        let cursor = self.cursor.entry(framework).or_default();
        for update in updates.into_iter() {
            if update.sequence <= *cursor {
                continue;
            }
            *cursor = update.sequence;
            for position in update.positions() {
                let key = (framework, update.batch.to_string(), position);
                let state = self.sent.get_mut(&key).expect("an update is about a task that was launched");
                *state = state.transition(update.status.state).unwrap_or_else(|error| panic!("{key:?}: {error}"));
            }
        }
        // Acknowledges every other time, so that entries stay around for a while.
        self.withheld = !self.withheld;
        let sequence = *cursor;
        if self.withheld { Vec::new() } else { vec![ToAgent::Acknowledge { framework, incarnation, sequence }] }
    }

    /// Lets everything end and checks that every task ended exactly once, or never ran.
    pub(super) fn conclude(&mut self) {
        for _ in 0..10_000 {
            self.act(Act::Finish(usize::MAX));
            if self.running.is_empty() {
                break;
            }
        }
        self.act(Act::Cut);
        for (key, state) in &self.sent {
            let spawned = self.spawned.get(key).copied().unwrap_or(0);
            assert!(spawned <= 1, "{key:?} ran {spawned} times");
            if self.removed.contains(&key.0) {
                continue;
            }
            if self.dropped.contains(key) {
                assert_eq!((spawned, state.is_terminal()), (0, false), "{key:?} was dropped and is {state}");
            } else {
                assert!(state.is_terminal(), "{key:?} is still {state}; crash at {:?}", self.crash_at);
                assert!(*state != TaskState::Finished || spawned == 1, "{key:?} finished without having run");
            }
        }
        // Acknowledge everything: nothing may be left.
        let agent = self.agent.as_mut().unwrap();
        let incarnation = agent.incarnation();
        for (framework, sequence) in self.cursor.clone() {
            let message = ToAgent::Acknowledge { framework, incarnation, sequence };
            self.events.push_back(AgentEvent::FromMaster { session: SessionId(self.session), message });
        }
        self.settle();
        let agent = self.agent.as_ref().unwrap();
        assert_eq!(agent.works().count(), 0);
        assert_eq!(agent.held().to_string(), "");
        assert!(self.runners.values().all(|core| core.works.is_empty()));
    }
}
