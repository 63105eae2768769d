//! The end of a framework: first in the registry, then everywhere.

use std::collections::BTreeSet;
use std::time::Duration;

use holm_model::{AgentId, FrameworkId, FrameworkInfo, Reason, SchedulerEvent, TaskState, TaskStatus};

use crate::frameworks::{Ending, FrameworkState};
use crate::master::Peer;
use crate::timers::Timer;
use crate::writes::Then;
use crate::{Answer, CloseCause, Delta, Master, RegistryOp};

/// How long a framework that ends when idle may be away with nothing to run.
const IDLE_GRACE: Duration = Duration::from_secs(10);

impl Master {
    /// Begins to end a framework that is connected or disconnected.
    pub(crate) fn complete(&mut self, id: FrameworkId, ending: Ending) {
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        let record = framework.record(&framework.info, true);
        let entered = framework.state.enter(FrameworkState::Completing(ending));
        if self.check(entered).is_none() {
            return;
        }
        self.timers.cancel(Timer::FrameworkTimeout(id));
        self.silence(id);
        self.out.frameworks.insert(id);
        self.persist(vec![RegistryOp::PutFramework(record)], Then::CompleteFramework(id));
    }

    /// Looks later at those of the frameworks just touched that want to be over once they are away and have nothing left
    /// to run: a connection may only have been interrupted.
    pub(crate) fn watch_idle(&mut self) {
        let idle: Vec<_> = self.out.frameworks.iter().copied().filter(|id| self.is_idle(*id)).collect();
        for id in idle {
            self.timers.set_once(Timer::Idle(id), self.now + IDLE_GRACE);
        }
    }

    /// Ends a framework that still is away and has nothing to run. What an agent that has not reported yet runs is not
    /// known to be over.
    pub(crate) fn complete_idle(&mut self, id: FrameworkId) {
        if !self.is_idle(id) {
            return;
        }
        if self.agents.values().any(|agent| agent.is_pending()) {
            return self.timers.set(Timer::Idle(id), self.now + IDLE_GRACE);
        }
        let why = "its last task has ended while it was away".into();
        self.complete(id, Ending { session: None, why, requests: Vec::new() });
    }

    fn is_idle(&self, id: FrameworkId) -> bool {
        self.frameworks.get(&id).is_some_and(|framework| {
            matches!(framework.state, FrameworkState::Disconnected)
                && framework.live_tasks == 0
                && framework.info.capabilities.contains(FrameworkInfo::ENDS_WHEN_IDLE)
        })
    }

    /// The end is durable: tasks are killed, and what they held is free. An agent gives up what a removed framework
    /// holds before it looks at the next launch, so that the master may count it as free at once; an agent that is away
    /// is told when it reports.
    pub(crate) fn framework_completed(&mut self, id: FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        let entered = framework.state.enter(FrameworkState::Completed);
        let Some(FrameworkState::Completing(ending)) = self.check(entered) else { return };
        self.remove_from_agents(id);
        self.drop_inverse_offers(id);
        self.framework_leaves(id);
        self.out.frameworks.insert(id);
        self.out.roles = true;
        self.completed.push_back(id);
        if let Some(session) = ending.session {
            if !ending.requests.is_empty() {
                let message = ending.why.clone();
                self.out.tell_framework(session, SchedulerEvent::Error { message, fatal: true });
            }
            if self.sessions.get(&session) == Some(&Peer::Framework(id)) {
                self.sessions.remove(&session);
            }
            self.out.close(session, CloseCause::Ended, &ending.why);
        }
        for request in ending.requests {
            self.answer(request, Ok(Answer::Done));
        }
        self.forget_oldest();
    }

    fn remove_from_agents(&mut self, id: FrameworkId) {
        let message = "the framework has ended";
        let status = TaskStatus::because(TaskState::Killed, Reason::FrameworkRemoved, message);
        let mut agents: BTreeSet<AgentId> = self.logs.of_framework(id).into_iter().collect();
        for agent in &agents {
            self.logs.remove(id, *agent);
        }
        for place in self.launches.of_framework(id) {
            agents.insert(place.agent);
            self.end_tasks(&place, status.clone());
            self.drop_launch(&place);
        }
        for agent in agents {
            if let Some(agent) = self.agents.get_mut(&agent) {
                agent.kills.retain(|(framework, _), _| *framework != id);
            }
            self.remove_framework_from(agent, id);
        }
    }

    /// Keeps the number of completed frameworks within its limit.
    fn forget_oldest(&mut self) {
        while self.completed.len() > self.options.max_completed_frameworks {
            let Some(oldest) = self.completed.pop_front() else { return };
            self.frameworks.remove(&oldest);
            self.out.delta(Delta::FrameworkRemoved(oldest));
            self.persist(vec![RegistryOp::RemoveFramework(oldest)], Then::Nothing);
        }
    }
}
