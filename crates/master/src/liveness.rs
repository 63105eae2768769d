//! Who is there: pings, silence, disconnection, unreachability, heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{AgentId, FrameworkId, Reason, SchedulerEvent, Source, TaskState, TaskStatus, ToAgent, Update};

use crate::CloseCause;
use crate::Master;
use crate::RegistryOp;
use crate::agents::{Agent, AgentState};
use crate::frameworks::FrameworkState;
use crate::tasks::derived;
use crate::timers::Timer;
use crate::writes::Then;

impl Master {
    /// Asks a connected agent for a sign of life, or ends the connection of one that has been silent for too long.
    pub(crate) fn ping(&mut self, id: AgentId) {
        let silence = self.options.agent_silence;
        let Some(stream) = self.agents.get(&id).and_then(Agent::stream).copied() else { return };
        if self.now.since(stream.heard) >= silence {
            return self.cut_off(id, CloseCause::Silent, &format!("the agent has said nothing for {silence:?}"));
        }
        self.out.tell_agent(stream.session, ToAgent::Ping);
        self.timers.set(Timer::Ping(id), self.now + self.options.ping_interval);
    }

    /// This process itself was stopped for a while: it wakes up `late`. What agents said meanwhile is still to be read,
    /// so their silence is counted from now; and whoever was away could not come back.
    pub(crate) fn forgive_pause(&mut self, late: Duration) {
        let now = self.now;
        self.timers.postpone(late, |timer| matches!(timer, Timer::AgentTimeout(_) | Timer::FrameworkTimeout(_)));
        for stream in self.agents.values_mut().filter_map(Agent::stream_mut) {
            stream.heard = now;
        }
    }

    /// Ends the connection of an agent that breaks the protocol.
    pub(crate) fn protocol_error(&mut self, id: AgentId, what: &str) {
        self.cut_off(id, CloseCause::Invalid, &format!("protocol error: {what}"));
    }

    fn cut_off(&mut self, id: AgentId, cause: CloseCause, message: &str) {
        if let Some(session) = self.agents.get(&id).and_then(Agent::session) {
            self.sessions.remove(&session);
            self.out.close(session, cause, message);
            self.agent_disconnected(id);
        }
    }

    /// An agent's connection is over, by whomever.
    pub(crate) fn agent_disconnected(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        self.out.agents.insert(id);
        match &mut agent.state {
            AgentState::Registering { admission, .. } | AgentState::Departing(admission) => *admission = None,
            AgentState::Recovering(..) | AgentState::Active(_) => self.await_agent(id),
            AgentState::Disconnected | AgentState::Unreachable => {}
        }
    }

    /// Begins to wait for an agent. Its tasks count on, its offers end.
    pub(crate) fn await_agent(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let allocated = agent.allocated;
        let entered = agent.state.enter(AgentState::Disconnected);
        self.check(entered);
        self.timers.cancel(Timer::Ping(id));
        self.timers.set(Timer::AgentTimeout(id), self.now + self.options.agent_timeout);
        if allocated {
            self.set_agent_offered(id, false);
        }
        self.rescind_agent(id);
        self.out.agents.insert(id);
    }

    /// A disconnected agent has not come back in time: the registry says so before anybody is told.
    pub(crate) fn agent_timed_out(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if !matches!(agent.state, AgentState::Disconnected) {
            return;
        }
        let record = agent.record(&agent.info, true);
        let entered = agent.state.enter(AgentState::Departing(None));
        self.check(entered);
        self.persist(vec![RegistryOp::PutAgent(record)], Then::GiveUpAgent(id));
    }

    /// The mark is durable: the agent's tasks are unreachable and hold nothing.
    pub(crate) fn agent_given_up(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.marked = true;
        let allocated = std::mem::replace(&mut agent.allocated, false);
        let entered = agent.state.enter(AgentState::Unreachable);
        let waiting = match self.check(entered) {
            Some(AgentState::Departing(waiting)) => waiting,
            _ => None,
        };
        if allocated {
            self.agent_deallocated(id);
            self.operations.lose(id);
        }
        self.touched(id);
        let lost = self.lose_tasks(id);
        for (framework, updates) in lost {
            self.send_updates(framework, id, Source::Master, updates);
        }
        let message: Arc<str> = "the agent has not been heard of for too long".into();
        for framework in self.frameworks.values_mut() {
            if let FrameworkState::Connected(subscription) = &mut framework.state {
                subscription.pending.remove(&id);
                let event = SchedulerEvent::AgentLost { agent: id, message: message.clone() };
                self.out.tell_framework(subscription.session, event);
            }
        }
        if let Some(admission) = waiting {
            self.admit(id, admission);
        }
    }

    fn lose_tasks(&mut self, id: AgentId) -> BTreeMap<FrameworkId, Vec<Update>> {
        let message = "the agent has not been heard of for too long";
        let status = TaskStatus::because(TaskState::Unreachable, Reason::AgentLost, message);
        let shared = Arc::new(status.clone());
        let mut lost: BTreeMap<FrameworkId, Vec<Update>> = BTreeMap::new();
        for place in self.launches.on_agent(id) {
            let Some(record) = self.launches.get_mut(&place) else { continue };
            // The allocator has forgotten the agent with everything held there.
            record.charged = 0;
            for range in record.ranges_where(|status| !status.state.is_terminal()) {
                self.enter(&place, range.clone(), &shared);
                lost.entry(place.framework).or_default().push(derived(&place, range, &status));
            }
        }
        lost
    }

    pub(crate) fn heartbeat(&mut self, id: FrameworkId) {
        let session = self.frameworks.get(&id).and_then(|framework| framework.connected());
        if let Some(session) = session {
            self.out.tell_framework(session, SchedulerEvent::Heartbeat);
            self.timers.set(Timer::Heartbeat(id), self.now + self.options.heartbeat_interval);
        }
    }
}
