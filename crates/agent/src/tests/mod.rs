//! Tests of the agent's core. The harness plays shell, master and runner, and checks every invariant after every event.

mod crash;
mod executors;
mod groups;
mod launches;
mod lending;
mod placement;
mod registration;
mod reserve;
mod runners;
mod stopping;
mod world;

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, AgentInfo, BatchReport, BootId, ClusterId, Epoch, FrameworkId, FromRunner, Launch, Portions, Prepared,
    Role, RunnerId, RunnerReport, Secret, TaskRange, TaskSpec, TaskState, TaskStatus, Time, ToAgent, ToMaster,
    ToRunner, Update, Usages, WorkId,
};

use crate::invariants::check_agent;
use crate::runners::RunnerLink;
use crate::{Agent, AgentEffect, AgentEvent, AgentOptions, Record, SessionId};

pub(super) const SILENCE: Duration = Duration::from_secs(15);
pub(super) const RUNNER: RunnerId = RunnerId(0);
pub(super) const WORK: WorkId = WorkId(0);

pub(super) fn framework(number: u64) -> FrameworkId {
    FrameworkId::new(Epoch(1), number)
}

pub(super) fn agent_id() -> AgentId {
    AgentId::new(Epoch(1), 1)
}

pub(super) fn role() -> Role {
    "web".parse().unwrap()
}

pub(super) fn options() -> AgentOptions {
    let info = AgentInfo { resources: "cpus:8;mem:8GiB;ports:[1000-1009]".parse().unwrap(), ..AgentInfo::default() };
    AgentOptions::new(info, BootId("boot-1".into()))
}

pub(super) fn prepared() -> Prepared {
    Prepared {
        program: "/cache/native".into(),
        inputs: None,
        scratch: None,
        directories: Default::default(),
        volumes: Vec::new(),
        network: Default::default(),
    }
}

/// A launch of `count` tasks (one that is no array when 1) of 1 CPU on `slots` slots.
pub(super) fn launch(id: &str, count: u32, slots: u32) -> Launch {
    launch_of(id, count, slots, "cpus:1;mem:1MiB")
}

pub(super) fn launch_of(id: &str, count: u32, slots: u32, resources: &str) -> Launch {
    let tasks = if count == 1 { TaskRange::Single } else { TaskRange::Array { first: 0, count } };
    let spec = TaskSpec { resources: resources.parse().unwrap(), ..TaskSpec::default() };
    Launch { id: id.parse().unwrap(), tasks, slots, spec: spec.into() }
}

pub(super) fn report(sequence: u64, work: WorkId, first: u32, count: u32, state: TaskState) -> RunnerReport {
    RunnerReport { sequence, work, first, count, status: TaskStatus::of(state), usages: Usages::default() }
}

/// An agent with everything it has said.
pub(super) struct Rig {
    pub(super) agent: Agent,
    pub(super) now: Time,
    pub(super) session: SessionId,
    pub(super) launches: u64,
    pub(super) records: Vec<Record>,
    pub(super) effects: Vec<AgentEffect>,
}

impl Rig {
    pub(super) fn new(options: AgentOptions) -> Rig {
        Rig::recovered(Vec::new(), options, Time::ZERO)
    }

    pub(super) fn recovered(records: Vec<Record>, options: AgentOptions, now: Time) -> Rig {
        let agent = Agent::recover(records.clone(), options, now);
        let mut rig = Rig { agent, now, session: SessionId(0), launches: 0, records, effects: Vec::new() };
        rig.perform();
        rig
    }

    /// A registered agent whose effects so far are forgotten.
    pub(super) fn registered() -> Rig {
        let mut rig = Rig::new(options());
        rig.register();
        rig.effects.clear();
        rig
    }

    pub(super) fn register(&mut self) {
        self.session.0 += 1;
        self.launches = 0;
        self.event(AgentEvent::Connected { session: self.session });
        self.admit(Epoch(1));
    }

    pub(super) fn admit(&mut self, epoch: Epoch) {
        let secret = self.agent.identity().is_none().then(|| Secret::from_bytes([7; 32]));
        let (agent, cluster) = (agent_id(), ClusterId(9));
        self.master(ToAgent::Registered { agent, secret, cluster, epoch, silence: SILENCE });
    }

    /// The agent's process dies and another takes over its records; runners live on.
    pub(super) fn restart(&mut self) {
        let options = self.agent.options.clone();
        *self = Rig::recovered(std::mem::take(&mut self.records), options, self.now);
    }

    pub(super) fn event(&mut self, event: AgentEvent) {
        self.agent.handle(self.now, event);
        self.perform();
    }

    pub(super) fn perform(&mut self) {
        for effect in self.agent.drain_effects() {
            if let AgentEffect::Checkpoint(records) = &effect {
                self.records.extend(records.iter().cloned());
            }
            self.effects.push(effect);
        }
        assert_eq!(check_agent(&self.agent), []);
        assert_recovers(&self.agent, self.now);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.event(AgentEvent::Wake);
    }

    pub(super) fn master(&mut self, message: ToAgent) {
        self.event(AgentEvent::FromMaster { session: self.session, message });
    }

    pub(super) fn launch(&mut self, launch: Launch) {
        self.launch_for(framework(1), launch);
    }

    pub(super) fn launch_for(&mut self, framework: FrameworkId, launch: Launch) {
        self.launches += 1;
        let sequence = self.launches;
        self.master(ToAgent::Launch { sequence, framework, role: role(), origins: Portions::EMPTY, launch });
    }

    pub(super) fn prepared(&mut self, work: WorkId) {
        self.event(AgentEvent::Prepared { work, result: Ok(prepared()) });
    }

    pub(super) fn hello(&mut self, runner: RunnerId, works: &[WorkId]) {
        self.event(AgentEvent::RunnerConnected { runner });
        self.runner_says(runner, FromRunner::Hello { runner, works: works.to_vec() });
    }

    /// Launches, prepares and sends to a runner that is there afterwards.
    pub(super) fn run(&mut self, launch: Launch) -> WorkId {
        self.run_for(framework(1), launch)
    }

    pub(super) fn run_for(&mut self, framework: FrameworkId, launch: Launch) -> WorkId {
        let work = WorkId(self.agent.durable.next_work);
        self.launch_for(framework, launch);
        self.prepared(work);
        let starting =
            self.agent.slots.iter().find(|(_, slot)| !matches!(slot.link, RunnerLink::Live | RunnerLink::Stopping));
        if let Some(runner) = starting.map(|(runner, _)| *runner) {
            self.hello(runner, &[]);
        }
        work
    }

    pub(super) fn runner_says(&mut self, runner: RunnerId, message: FromRunner) {
        self.event(AgentEvent::FromRunner { runner, message });
    }

    pub(super) fn reports(&mut self, reports: Vec<RunnerReport>) {
        self.runner_says(RUNNER, FromRunner::Reports(reports));
    }

    pub(super) fn kill(&mut self, task: &str, grace: Option<Duration>) {
        self.master(ToAgent::Kill { framework: framework(1), task: task.parse().unwrap(), grace });
    }

    pub(super) fn acknowledge(&mut self, sequence: u64) {
        let incarnation = self.agent.incarnation();
        self.master(ToAgent::Acknowledge { framework: framework(1), incarnation, sequence });
    }

    pub(super) fn to_master(&self) -> Vec<ToMaster> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            AgentEffect::ToMaster { message, .. } => Some(message.clone()),
            _ => None,
        });
        said.collect()
    }

    pub(super) fn updates(&self) -> Vec<Update> {
        let said = self.to_master().into_iter().filter_map(|message| match message {
            ToMaster::Updates { updates, .. } => Some(updates),
            _ => None,
        });
        said.flatten().collect()
    }

    /// Updates as text: `1 a[0+3] FINISHED`, with the reason when there is one.
    pub(super) fn told(&self) -> Vec<String> {
        let show = |update: &Update| {
            let reason = update.status.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            let Update { sequence, batch, first, count, status, usages: _ } = update;
            format!("{sequence} {batch}[{first}+{count}] {}{reason}", status.state)
        };
        self.updates().iter().map(show).collect()
    }

    pub(super) fn reported(&self) -> Vec<BatchReport> {
        let said = self.to_master().into_iter().filter_map(|message| match message {
            ToMaster::Report { batches, .. } => Some(batches),
            _ => None,
        });
        said.flatten().collect()
    }

    pub(super) fn to_runner(&self) -> Vec<ToRunner> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            AgentEffect::ToRunner { message, .. } => Some(message.clone()),
            _ => None,
        });
        said.collect()
    }

    pub(super) fn has(&self, wanted: impl Fn(&AgentEffect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }

    /// Why the agent gave up the stream, if it did.
    pub(super) fn reconnects(&self) -> Option<Arc<str>> {
        self.effects.iter().find_map(|effect| match effect {
            AgentEffect::Reconnect { message, .. } => Some(message.clone()),
            _ => None,
        })
    }
}

/// A snapshot leads back to the same state.
pub(super) fn assert_recovers(agent: &Agent, now: Time) {
    let snapshot = agent.snapshot();
    let options = AgentOptions { records_lost: false, ..agent.options.clone() };
    let again = Agent::recover(snapshot.clone(), options, now);
    assert_eq!(format!("{:?}", again.snapshot()), format!("{snapshot:?}"));
    for (id, work) in &agent.durable.works {
        assert_eq!(again.durable.works[id].statuses, work.statuses);
    }
}
