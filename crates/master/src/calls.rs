//! Calls of subscribed frameworks, apart from ACCEPT and DECLINE.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    Action, AgentId, Call, FrameworkId, Incarnation, MAX_MESSAGE_BYTES, Principal, Role, TaskId, TaskState, ToAgent,
};

use crate::accept::strangers;
use crate::authorize::{Object, authorize};
use crate::frameworks::{Ending, FrameworkState};
use crate::launches::Place;
use crate::master::Peer;
use crate::options::{MAX_CALL_OFFERS, MAX_WAITING_KILLS};
use crate::{Master, SessionId};

/// Why a task was not asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KillError {
    /// There is no such task.
    Unknown,
    /// Too many kills wait for its agent.
    Full(usize),
}

/// What a call asks to do.
const fn action_of(call: &Call) -> Action {
    match call {
        Call::Accept { .. } | Call::LaunchGroup { .. } => Action::Launch,
        Call::Operate { .. } => Action::Reserve,
        Call::Kill { .. } => Action::KillTask,
        Call::Teardown => Action::Teardown,
        Call::Decline { .. }
        | Call::Suppress { .. }
        | Call::Revive { .. }
        | Call::Demand { .. }
        | Call::SetRoleOptions { .. }
        | Call::Acknowledge { .. }
        | Call::AcceptInverse { .. }
        | Call::DeclineInverse { .. }
        | Call::Message { .. } => Action::Schedule,
    }
}

impl Master {
    pub(crate) fn framework_said(&mut self, session: SessionId, framework_epoch: u64, call: Call) {
        let Some(Peer::Framework(id)) = self.sessions.get(&session).copied() else {
            return self.ignore("a call of a closed subscription");
        };
        let Some(framework) = self.frameworks.get(&id) else { return };
        if framework.connected() != Some(session) {
            return self.ignore("a call before the subscription stands");
        }
        if framework.subscriptions != framework_epoch {
            let current = framework.subscriptions;
            let message = format!("call of framework_epoch {framework_epoch} refused; the subscription is {current}");
            return self.complain(id, message);
        }
        let principal = Principal::Framework(id);
        if let Err(denied) = authorize(&principal, action_of(&call), Object::Framework(id)) {
            return self.complain(id, denied.to_string());
        }
        match call {
            Call::Accept { offers, launches, refusal } => self.accept(id, &offers, launches, refusal),
            Call::Operate { offers, operations, launches, refusal } => {
                self.operate(id, &offers, operations, (launches, refusal));
            }
            Call::LaunchGroup { offers, launches, refusal } => self.launch_group(id, &offers, launches, refusal),
            Call::Decline { offers, refusal } if offers.len() <= MAX_CALL_OFFERS => self.decline(id, &offers, refusal),
            Call::Decline { offers, .. } => {
                let count = offers.len();
                self.complain(id, format!("decline names {count} offers; the limit is {MAX_CALL_OFFERS}"));
            }
            Call::Suppress { roles } => self.suppress(id, &roles, true),
            Call::Revive { roles } => self.suppress(id, &roles, false),
            Call::Demand { role, demands } => self.demand(id, role, demands),
            Call::SetRoleOptions { options } => self.set_role_options(id, options),
            Call::Kill { task, grace } => self.kill_for(id, &task, grace),
            Call::Acknowledge { agent, incarnation, sequence } => self.acknowledge(id, agent, incarnation, sequence),
            Call::Message { agent, task, data } => self.message_to_task(id, agent, task, data),
            Call::AcceptInverse { offer, tasks, grace } => self.accept_inverse(id, offer, &tasks, grace),
            Call::DeclineInverse { offers } => self.decline_inverse(id, &offers),
            Call::Teardown => {
                let why = "torn down by the framework".into();
                self.complete(id, Ending { session: Some(session), why, requests: Vec::new() });
            }
        }
    }

    fn suppress(&mut self, id: FrameworkId, roles: &[Role], suppress: bool) {
        let Some(framework) = self.frameworks.get(&id) else { return };
        if let Some(role) = strangers(&framework.info.roles, roles) {
            return self.complain(id, format!("framework is not subscribed to role {role}"));
        }
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.hungry = !suppress;
        }
        self.watch_waiting();
        self.set_suppressed(id, roles, suppress);
        self.out.roles = true;
    }

    fn kill_for(&mut self, id: FrameworkId, task: &TaskId, grace: Option<Duration>) {
        match self.kill(id, task, grace) {
            Ok(()) => {}
            Err(KillError::Unknown) => self.complain(id, format!("kill of unknown task {task}")),
            Err(KillError::Full(count)) => {
                let limit = MAX_WAITING_KILLS;
                let message = format!("kill of {task}: {count} kills wait for its agent; the limit is {limit}");
                self.complain(id, message);
            }
        }
    }

    /// Asks for the end of a task, or of every task of a launch. When the agent is away it is told on its return. For a
    /// task that is over already nothing happens: its end is known or under way.
    pub(crate) fn kill(&mut self, id: FrameworkId, task: &TaskId, grace: Option<Duration>) -> Result<(), KillError> {
        let mut known = false;
        for place in self.launches.named(id, &task.batch) {
            let Some(live) = self.is_live(&place, task) else { continue };
            known = true;
            let Some(agent) = self.agents.get_mut(&place.agent) else { continue };
            match agent.active() {
                _ if !live => {}
                Some(session) => {
                    let task = task.clone();
                    self.out.tell_agent(session, ToAgent::Kill { framework: id, task, grace });
                }
                None => {
                    let key = (id, task.clone());
                    if agent.kills.len() >= MAX_WAITING_KILLS && !agent.kills.contains_key(&key) {
                        return Err(KillError::Full(agent.kills.len()));
                    }
                    agent.kills.insert(key, grace);
                }
            }
        }
        if known { Ok(()) } else { Err(KillError::Unknown) }
    }

    /// Whether the task, or any task of the launch it names, is not over; none when the launch has no such task.
    pub(crate) fn is_live(&self, place: &Place, task: &TaskId) -> Option<bool> {
        let record = self.launches.get(place)?;
        if task.index.is_none() {
            return Some(record.live > 0);
        }
        Some(!record.state(record.range.position_of(task.index)?)?.is_terminal())
    }

    /// Notes what a framework has, lets the agent trim its log, and forgets launches that are over.
    fn acknowledge(&mut self, id: FrameworkId, agent: AgentId, incarnation: Incarnation, sequence: u64) {
        let Some(peer) = self.agents.get(&agent) else {
            return self.complain(id, format!("acknowledgement for unknown agent {agent}"));
        };
        let current = peer.incarnation == Some(incarnation);
        let session = peer.active().filter(|_| current);
        // Without a log this master has not been sent the entries yet, and the agent need not send them any more.
        let log = self.logs.get_mut(id, agent);
        let done = log.map(|log| log.acknowledge(incarnation, sequence)).unwrap_or_default();
        for update in done {
            let place = Place { framework: id, batch: update.batch, agent };
            if let Some(record) = self.launches.get_mut(&place) {
                record.unacknowledged = record.unacknowledged.saturating_sub(1);
            }
            self.retire(&place);
        }
        if let Some(session) = session {
            self.out.tell_agent(session, ToAgent::Acknowledge { framework: id, incarnation, sequence });
        }
    }

    fn message_to_task(&mut self, id: FrameworkId, agent: AgentId, task: TaskId, data: Arc<[u8]>) {
        if data.len() > MAX_MESSAGE_BYTES {
            let bytes = data.len();
            return self.complain(id, format!("message of {bytes} bytes to {task}; the limit is {MAX_MESSAGE_BYTES}"));
        }
        let place = Place { framework: id, batch: task.batch.clone(), agent };
        if self.is_live(&place, &task) != Some(true) {
            return self.complain(id, format!("message to {task}, which is not live on {agent}"));
        }
        match self.agents.get(&agent).and_then(|agent| agent.active()) {
            Some(session) => self.out.tell_agent(session, ToAgent::Message { framework: id, task, data }),
            None => self.complain(id, format!("message to {task}: {agent} is not connected")),
        }
    }

    /// Sends an agent that has become active the kills that waited for it.
    pub(crate) fn send_waiting_kills(&mut self, agent: AgentId) {
        let Some(peer) = self.agents.get_mut(&agent) else { return };
        let Some(session) = peer.active() else { return };
        for ((framework, task), grace) in std::mem::take(&mut peer.kills) {
            let place = Place { framework, batch: task.batch.clone(), agent };
            if self.is_live(&place, &task) == Some(true) {
                self.out.tell_agent(session, ToAgent::Kill { framework, task, grace });
            }
        }
    }

    /// Whether the framework may be told things that only a live one is told.
    pub(crate) fn framework_is_live(&self, id: FrameworkId) -> bool {
        self.frameworks.get(&id).is_some_and(|framework| match framework.state {
            FrameworkState::Registering { first, .. } => !first,
            _ => framework.is_live(),
        })
    }

    /// Puts every live task of a launch into a terminal status and tells the read model, not the framework.
    pub(crate) fn end_tasks(&mut self, place: &Place, status: holm_model::TaskStatus) {
        let Some(count) = self.launches.get(place).map(|record| record.count()) else { return };
        debug_assert!(status.state.is_terminal() || status.state == TaskState::Unreachable, "only ends come from here");
        self.enter(place, 0..count, &Arc::new(status));
    }
}
