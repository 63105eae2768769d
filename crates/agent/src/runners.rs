//! Runner processes: started on demand, found again after a restart, stopped when idle or in disorder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{FrameworkId, FromRunner, Reason, RunnerId, TaskState, TaskStatus, Time, ToMaster, ToRunner, WorkId};

use crate::agent::Agent;
use crate::event::AgentEffect;
use crate::options::{AgentOptions, MAX_UNKNOWN_WORKS};
use crate::placement::{Load, RunnerScope};
use crate::record::Record;
use crate::work::{Stage, Step};

/// How long a runner that is not needed any more may take to exit by itself.
pub(crate) const IDLE_STOP_GRACE: Duration = Duration::from_secs(5);

/// Where the agent stands with a runner process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunnerLink {
    /// The shell starts it.
    Starting { deadline: Time },
    /// It should be there: the agent has restarted, or the socket broke.
    Awaited { deadline: Time },
    /// Its socket is connected; its Hello is due.
    Greeting { deadline: Time },
    /// It takes work.
    Live,
    /// It is to end; only its exit is awaited.
    Stopping,
}

enum LinkStep {
    Connected(Time),
    Greeted,
    Broken(Time),
    Stopped,
}

impl RunnerLink {
    /// The one transition function of a runner's link; none when the step means nothing where it stands.
    fn step(self, step: LinkStep) -> Option<RunnerLink> {
        match (self, step) {
            (RunnerLink::Stopping, _) => None,
            (_, LinkStep::Stopped) => Some(RunnerLink::Stopping),
            (_, LinkStep::Connected(deadline)) => Some(RunnerLink::Greeting { deadline }),
            (RunnerLink::Greeting { .. } | RunnerLink::Live, LinkStep::Greeted) => Some(RunnerLink::Live),
            (RunnerLink::Greeting { .. } | RunnerLink::Live, LinkStep::Broken(deadline)) => {
                Some(RunnerLink::Awaited { deadline })
            }
            _ => None,
        }
    }
}

/// A runner process as this life of the agent's process knows it.
#[derive(Clone, Debug)]
pub(crate) struct RunnerSlot {
    pub(crate) link: RunnerLink,
    /// Whether it has ever said Hello: a process that never did could not be started.
    greeted: bool,
    idle_since: Option<Time>,
    /// The launches on it.
    pub(crate) load: Load,
    /// The highest report sequence seen, those ignored included.
    pub(crate) applied: u64,
}

impl RunnerSlot {
    pub(crate) fn awaited(deadline: Time, applied: u64) -> RunnerSlot {
        RunnerSlot {
            link: RunnerLink::Awaited { deadline },
            greeted: true,
            idle_since: None,
            load: Load::default(),
            applied,
        }
    }

    fn starting(deadline: Time) -> RunnerSlot {
        let (link, load) = (RunnerLink::Starting { deadline }, Load::default());
        RunnerSlot { link, greeted: false, idle_since: None, load, applied: 0 }
    }

    pub(crate) fn next_wake(&self, options: &AgentOptions) -> Option<Time> {
        match self.link {
            RunnerLink::Starting { deadline }
            | RunnerLink::Awaited { deadline }
            | RunnerLink::Greeting { deadline } => Some(deadline),
            RunnerLink::Live => self.idle_since.map(|since| since + options.runner_idle),
            RunnerLink::Stopping => None,
        }
    }
}

impl Agent {
    pub(crate) fn is_live(&self, runner: RunnerId) -> bool {
        self.slots.get(&runner).is_some_and(|slot| slot.link == RunnerLink::Live)
    }

    pub(crate) fn start_runner(&mut self, scope: RunnerScope, now: Time) {
        let runner = RunnerId(self.durable.next_runner);
        if self.commit(Record::RunnerStarted { runner, scope, sequence: 0 }) {
            self.slots.insert(runner, RunnerSlot::starting(now + self.options.runner_patience));
            self.out.push(AgentEffect::StartRunner { runner, scope });
        }
    }

    pub(crate) fn stop_runner(&mut self, runner: RunnerId, grace: Duration, message: &str) {
        let Some(slot) = self.slots.get_mut(&runner) else { return };
        let connected = matches!(slot.link, RunnerLink::Greeting { .. } | RunnerLink::Live);
        let Some(link) = slot.link.step(LinkStep::Stopped) else { return };
        slot.link = link;
        if connected {
            self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Stop });
        }
        self.out.push(AgentEffect::StopRunner { runner, grace, message: message.into() });
    }

    fn step_link(&mut self, runner: RunnerId, step: LinkStep) -> bool {
        let Some(slot) = self.slots.get_mut(&runner) else { return false };
        match slot.link.step(step) {
            Some(link) => slot.link = link,
            None => return false,
        }
        true
    }

    pub(crate) fn runner_connected(&mut self, runner: RunnerId, now: Time) {
        let deadline = now + self.options.runner_patience;
        if !self.step_link(runner, LinkStep::Connected(deadline)) {
            // Unknown, or meant to be gone.
            self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Stop });
            let message = "the agent does not want it any more".into();
            self.out.push(AgentEffect::StopRunner { runner, grace: Duration::ZERO, message });
        }
    }

    pub(crate) fn runner_disconnected(&mut self, runner: RunnerId, now: Time) {
        let deadline = now + self.options.runner_patience;
        self.step_link(runner, LinkStep::Broken(deadline));
    }

    pub(crate) fn hear_runner(&mut self, runner: RunnerId, message: FromRunner, now: Time) {
        let Some(slot) = self.slots.get(&runner) else {
            self.counters.stale_messages += 1;
            return;
        };
        let speaks = slot.link == RunnerLink::Live || (slot.link == RunnerLink::Stopping && slot.greeted);
        match message {
            FromRunner::Hello { runner: named, works } => self.hello(runner, named, works, now),
            FromRunner::Reports(reports) if speaks => self.reports(runner, reports),
            FromRunner::Message { work, position, data } if speaks => {
                self.message_from_task(runner, work, position, data);
            }
            FromRunner::Reports(_) | FromRunner::Message { .. } => self.counters.stale_messages += 1,
        }
    }

    /// Brings the agent's books and the runner's together: what it never received is sent (again), what was wished for
    /// while it was away is repeated, what the agent does not know is killed.
    fn hello(&mut self, runner: RunnerId, named: RunnerId, works: Vec<WorkId>, now: Time) {
        if named != runner {
            self.counters.runner_faults += 1;
            return self.stop_runner(runner, Duration::ZERO, "it says that it is another runner");
        }
        if !self.step_link(runner, LinkStep::Greeted) {
            return;
        }
        let Some(scope) = self.scope_of_runner(runner) else { return };
        let Some(slot) = self.slots.get_mut(&runner) else { return };
        slot.greeted = true;
        let sequence = slot.applied;
        self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Acknowledge { sequence } });
        let held: BTreeSet<WorkId> = works.into_iter().collect();
        for id in self.works_on(runner) {
            self.reconcile(runner, id, held.contains(&id), now);
        }
        let ours = |id: &WorkId| self.admits(scope, *id);
        let unknown: Vec<WorkId> = held.into_iter().filter(|id| !ours(id)).take(MAX_UNKNOWN_WORKS).collect();
        for work in unknown {
            let message = ToRunner::Kill { work, positions: None, grace: Duration::ZERO };
            self.out.push(AgentEffect::ToRunner { runner, message });
        }
        self.dispatch_scope(scope, now);
        for id in self.works_on(runner) {
            self.dispatch_inside(id, now);
        }
    }

    /// The launches that a runner has or may have, in the order of launch.
    fn works_on(&self, runner: RunnerId) -> Vec<WorkId> {
        let works = self.durable.works.iter().filter(|(_, work)| work.runner() == Some(runner));
        works.map(|(id, _)| *id).collect()
    }

    fn reconcile(&mut self, runner: RunnerId, id: WorkId, held: bool, now: Time) {
        let Some(work) = self.durable.works.get_mut(&id) else { return };
        match &work.stage {
            Stage::Sent { .. } if held => {
                let count = work.launch.tasks.count();
                for positions in work.runs_where(0..count, |state| state == TaskState::Killing) {
                    self.forward_kill(id, runner, Some(positions), None, now);
                }
                self.forward_trim(id, runner);
            }
            Stage::Sent { .. } if work.reported => {
                let message = "its runner does not know the launch any more";
                self.end_unsent(id, TaskStatus::because(TaskState::Failed, Reason::RunnerError, message));
            }
            Stage::Sent { .. } => {
                // Sent into a socket that broke, or not sent at all because the agent died in between.
                if let Ok(stage) = work.stage.step(Step::NeverReceived) {
                    work.stage = stage;
                }
                self.note_load(runner, id, 0);
                self.start_over(id, now);
            }
            Stage::Preparing | Stage::Ready(_) | Stage::Over => {}
        }
    }

    /// Goes on with a work that turned out not to have reached its runner.
    fn start_over(&mut self, id: WorkId, now: Time) {
        let killed = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
        self.end_where(id, |state| state == TaskState::Killing, killed);
        match self.durable.works.get(&id).map(|work| &work.stage) {
            Some(Stage::Ready(_)) => self.dispatch(id, now),
            Some(Stage::Preparing) => self.prepare(id, now),
            Some(Stage::Sent { .. } | Stage::Over) | None => {}
        }
    }

    pub(crate) fn runner_exited(&mut self, runner: RunnerId, message: &Arc<str>) {
        let (Some(slot), Some(entry)) = (self.slots.remove(&runner), self.durable.runners.get(&runner).copied()) else {
            return;
        };
        let works = self.works_on(runner);
        let mut frameworks: BTreeSet<FrameworkId> = entry.scope.framework.into_iter().collect();
        for id in &works {
            frameworks.extend(self.durable.works.get(id).map(|work| work.framework));
            self.lose(*id, message);
        }
        self.commit(Record::RunnerEnded { runner });
        self.note_runner_ended();
        if !works.is_empty() || slot.link != RunnerLink::Stopping {
            for framework in frameworks {
                self.tell_master(ToMaster::RunnerLost { framework, runner, message: message.clone() });
            }
        }
        if !slot.greeted && self.usable(entry.scope).next().is_none() {
            // A runner that never came up would not come up the next time either.
            let message = format!("the runner process could not be started: {message}");
            while let Some(id) = self.waiting.first(&entry.scope) {
                self.end_unsent(id, TaskStatus::because(TaskState::Failed, Reason::RunnerError, message.as_str()));
                self.waiting.remove(&entry.scope, id);
            }
        }
    }

    fn lose(&mut self, id: WorkId, message: &str) {
        let message: Arc<str> = format!("the runner process died: {message}").into();
        let end = |state| TaskStatus::because(state, Reason::RunnerLost, message.clone());
        // Whoever was being killed got what was asked for.
        self.end_where(id, |state| state == TaskState::Killing, end(TaskState::Killed));
        self.end_unsent(id, end(TaskState::Failed));
    }

    /// A launch was taken: the runners that may get it are needed a while longer.
    pub(crate) fn mark_busy(&mut self, id: WorkId) {
        let Some(scope) = self.scope_of(id) else { return };
        for runner in self.usable(scope).collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&runner) {
                slot.idle_since = None;
            }
        }
    }

    /// Starts the idle clocks of runners that have nothing left to do; those of a launch that is over end at once.
    pub(crate) fn watch_idle(&mut self, now: Time) {
        let mut done = Vec::new();
        for (runner, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.link == RunnerLink::Live) {
            if !slot.load.is_empty() {
                slot.idle_since = None;
            } else if slot.idle_since.is_none() {
                slot.idle_since = Some(now);
                let only = self.durable.runners.get(runner).and_then(|entry| entry.scope.work);
                if only.is_some_and(|id| self.durable.works.get(&id).is_none_or(|work| work.live == 0)) {
                    done.push(*runner);
                }
            }
        }
        for runner in done {
            self.stop_runner(runner, IDLE_STOP_GRACE, "its launch is over");
        }
    }

    pub(crate) fn expire_runners(&mut self, now: Time) {
        let due = |slot: &RunnerSlot| slot.next_wake(&self.options).is_some_and(|wake| wake <= now);
        let due: Vec<(RunnerId, bool)> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(runner, slot)| (*runner, slot.link == RunnerLink::Live))
            .collect();
        for (runner, idle) in due {
            if idle {
                self.stop_runner(runner, IDLE_STOP_GRACE, "it has had no work for a while");
            } else {
                self.stop_runner(runner, Duration::ZERO, "it did not answer in time");
            }
        }
    }
}
