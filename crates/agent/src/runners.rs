//! Runner processes: started on demand, one per framework, found again after a restart, stopped when idle or in disorder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{FrameworkId, FromRunner, Reason, RunnerId, TaskState, TaskStatus, Time, ToMaster, ToRunner, WorkId};

use crate::agent::Agent;
use crate::event::AgentEffect;
use crate::options::{AgentOptions, MAX_UNKNOWN_WORKS};
use crate::record::Record;
use crate::work::{Stage, Step};

/// How long a runner that is not needed any more may take to exit by itself.
const IDLE_STOP_GRACE: Duration = Duration::from_secs(5);

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
    /// The highest report sequence seen, those ignored included.
    pub(crate) applied: u64,
}

impl RunnerSlot {
    pub(crate) fn awaited(deadline: Time, applied: u64) -> RunnerSlot {
        RunnerSlot { link: RunnerLink::Awaited { deadline }, greeted: true, idle_since: None, applied }
    }

    fn starting(deadline: Time) -> RunnerSlot {
        RunnerSlot { link: RunnerLink::Starting { deadline }, greeted: false, idle_since: None, applied: 0 }
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
    pub(crate) fn runners_of(&self, framework: FrameworkId) -> Vec<RunnerId> {
        let runners = self.durable.runners.iter().filter(|(_, entry)| entry.framework == framework);
        runners.map(|(runner, _)| *runner).collect()
    }

    /// The runner that takes this framework's next work.
    pub(crate) fn runner_for(&self, framework: FrameworkId) -> Option<RunnerId> {
        let usable = |runner: &RunnerId| self.slots.get(runner).is_some_and(|slot| slot.link != RunnerLink::Stopping);
        self.runners_of(framework).into_iter().rfind(usable)
    }

    pub(crate) fn is_live(&self, runner: RunnerId) -> bool {
        self.slots.get(&runner).is_some_and(|slot| slot.link == RunnerLink::Live)
    }

    pub(crate) fn start_runner(&mut self, framework: FrameworkId, now: Time) {
        let runner = RunnerId(self.durable.next_runner);
        if self.commit(Record::RunnerStarted { runner, framework, sequence: 0 }) {
            self.slots.insert(runner, RunnerSlot::starting(now + self.options.runner_patience));
            self.out.push(AgentEffect::StartRunner { runner, framework });
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
            FromRunner::Reports(reports) if speaks => self.reports(runner, reports, now),
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
        let Some(framework) = self.durable.runners.get(&runner).map(|entry| entry.framework) else { return };
        let Some(slot) = self.slots.get_mut(&runner) else { return };
        slot.greeted = true;
        let sequence = slot.applied;
        self.out.push(AgentEffect::ToRunner { runner, message: ToRunner::Acknowledge { sequence } });
        let held: BTreeSet<WorkId> = works.into_iter().collect();
        for id in self.works_of(framework) {
            self.reconcile(runner, id, held.contains(&id), now);
        }
        let ours = |id: &WorkId| self.durable.works.get(id).is_some_and(|work| work.framework == framework);
        let unknown: Vec<WorkId> = held.into_iter().filter(|id| !ours(id)).take(MAX_UNKNOWN_WORKS).collect();
        for work in unknown {
            let message = ToRunner::Kill { work, positions: None, grace: Duration::ZERO };
            self.out.push(AgentEffect::ToRunner { runner, message });
        }
        self.note_idle(framework, now);
    }

    fn reconcile(&mut self, runner: RunnerId, id: WorkId, held: bool, now: Time) {
        let Some(work) = self.durable.works.get_mut(&id) else { return };
        match &work.stage {
            Stage::Ready(_) => self.dispatch(id, now),
            Stage::Sent { runner: sent_to, .. } if *sent_to == runner && held => {
                let count = work.launch.tasks.count();
                for positions in work.runs_where(0..count, |state| state == TaskState::Killing) {
                    self.forward_kill(id, runner, Some(positions), None, now);
                }
                self.forward_trim(id, runner);
            }
            Stage::Sent { runner: sent_to, .. } if *sent_to == runner && work.reported => {
                let message = "its runner does not know the launch any more";
                self.end_unsent(id, TaskStatus::because(TaskState::Failed, Reason::RunnerError, message));
            }
            Stage::Sent { runner: sent_to, .. } if *sent_to == runner => {
                // Sent into a socket that broke, or not sent at all because the agent died in between.
                if let Ok(stage) = work.stage.step(Step::NeverReceived) {
                    work.stage = stage;
                }
                self.start_over(id, now);
            }
            Stage::Preparing | Stage::Sent { .. } | Stage::Over => {}
        }
    }

    /// Goes on with a work that turned out not to have reached its runner.
    fn start_over(&mut self, id: WorkId, now: Time) {
        let killed = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
        self.end_where(id, |state| state == TaskState::Killing, killed);
        match self.durable.works.get(&id).map(|work| &work.stage) {
            Some(Stage::Ready(_)) => self.dispatch(id, now),
            Some(Stage::Preparing) => self.prepare(id),
            Some(Stage::Sent { .. } | Stage::Over) | None => {}
        }
    }

    pub(crate) fn runner_exited(&mut self, runner: RunnerId, message: &Arc<str>, now: Time) {
        let (Some(slot), Some(entry)) = (self.slots.remove(&runner), self.durable.runners.get(&runner).copied()) else {
            return;
        };
        let framework = entry.framework;
        let mut lost = false;
        let works = self.works_of(framework);
        for id in &works {
            if self.durable.works.get(id).and_then(|work| work.runner()) == Some(runner) {
                self.lose(*id, message);
                lost = true;
            }
        }
        self.commit(Record::RunnerEnded { runner });
        if lost || slot.link != RunnerLink::Stopping {
            self.tell_master(ToMaster::RunnerLost { framework, runner, message: message.clone() });
        }
        for id in works {
            if self.prepared_of(id).is_none() {
                continue;
            }
            if slot.greeted || self.runner_for(framework).is_some() {
                self.dispatch(id, now);
            } else {
                // A runner that never came up would not come up the next time either.
                let message = format!("the runner process could not be started: {message}");
                self.end_unsent(id, TaskStatus::because(TaskState::Failed, Reason::RunnerError, message));
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

    /// A framework has work again: its runners are needed.
    pub(crate) fn mark_busy(&mut self, framework: FrameworkId) {
        for runner in self.runners_of(framework) {
            if let Some(slot) = self.slots.get_mut(&runner) {
                slot.idle_since = None;
            }
        }
    }

    /// Starts the idle clock of a framework's runners if it has no live work.
    pub(crate) fn note_idle(&mut self, framework: FrameworkId, now: Time) {
        let live = self.durable.tenants.get(&framework).is_some_and(|tenant| tenant.live > 0);
        let current = self.runner_for(framework);
        for runner in self.runners_of(framework) {
            let superseded = current != Some(runner) && !self.has_work(runner);
            if let Some(slot) = self.slots.get_mut(&runner)
                && (!live || superseded)
            {
                slot.idle_since.get_or_insert(now);
            }
        }
    }

    fn has_work(&self, runner: RunnerId) -> bool {
        self.durable.works.values().any(|work| work.runner() == Some(runner))
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
