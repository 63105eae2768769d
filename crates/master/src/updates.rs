//! What registered agents say, apart from their report.

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_model::{
    Action, AgentCondition, AgentId, FrameworkId, Incarnation, MAX_MESSAGE_BYTES, Principal, RunnerId, SchedulerEvent,
    Source, TaskId, TaskState, ToAgent, ToMaster, Update,
};

use crate::agents::AgentState;
use crate::authorize::{Object, authorize};
use crate::launches::{Place, clipped};
use crate::master::Peer;
use crate::options::MAX_UNACKNOWLEDGED;
use crate::{Master, SessionId};

impl Master {
    pub(crate) fn agent_said(&mut self, session: SessionId, message: ToMaster) {
        let Some(Peer::Agent(agent)) = self.sessions.get(&session).copied() else {
            return self.ignore("a message of a closed stream");
        };
        if let Err(denied) = authorize(&Principal::Agent(agent), Action::Report, Object::Agent(agent)) {
            return self.protocol_error(agent, &denied.to_string());
        }
        let now = self.now;
        let Some(stream) = self.agents.get_mut(&agent).and_then(|agent| agent.stream_mut()) else {
            return self.protocol_error(agent, "a message before the agent was registered");
        };
        stream.heard = now;
        match message {
            ToMaster::Register(_) => self.protocol_error(agent, "a second registration on one stream"),
            ToMaster::Report { batches, last } => self.report(agent, batches, last),
            ToMaster::Updates { framework, incarnation, updates } => {
                self.updates(agent, framework, incarnation, updates);
            }
            ToMaster::Message { framework, task, data } => self.message_from_task(agent, framework, task, data),
            ToMaster::RunnerLost { framework, runner, message } => {
                self.runner_lost(agent, framework, runner, message);
            }
            ToMaster::Condition(condition) => self.agent_condition(agent, condition),
            ToMaster::Revocable(estimate) => self.revocable_estimate(agent, &estimate),
            ToMaster::Pong => {}
        }
    }

    /// How an agent is. One that is held back keeps its tasks; its offers end, and no new ones are made.
    fn agent_condition(&mut self, id: AgentId, condition: AgentCondition) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let held_back = condition.held_back.is_some();
        let before = std::mem::replace(&mut agent.condition, condition);
        let active = agent.active().is_some();
        self.out.agents.insert(id);
        if !active || before.held_back.is_some() == held_back {
            return;
        }
        self.set_agent_offered(id, !held_back);
        if held_back {
            self.rescind_agent(id);
        }
        self.touched(id);
    }

    /// New entries of a status log, or old ones that the agent has no acknowledgement of.
    fn updates(&mut self, agent: AgentId, framework: FrameworkId, incarnation: Incarnation, updates: Vec<Update>) {
        if self.agents.get(&agent).is_none_or(|agent| agent.incarnation != Some(incarnation)) {
            return self.protocol_error(agent, "updates of another incarnation than it registered with");
        }
        if !self.framework_is_live(framework) {
            return self.remove_framework_from(agent, framework);
        }
        let (mut fresh, mut old) = (Vec::new(), BTreeSet::new());
        let mut fault = None;
        for update in updates {
            if update.sequence == 0 || update.count == 0 || update.status.state == TaskState::Unreachable {
                fault = Some("an update without a sequence number or tasks, or with a state that is not an agent's");
                break;
            }
            let log = self.logs.of(framework, agent, incarnation);
            if log.has(update.sequence) {
                old.insert(update.batch);
            } else if log.entries.len() >= MAX_UNACKNOWLEDGED {
                fault = Some("more unacknowledged updates of one framework than the master keeps");
                break;
            } else {
                fresh.extend(self.update(agent, framework, incarnation, update));
            }
        }
        self.forward(agent, framework, fresh);
        if !old.is_empty() {
            self.acknowledge_again(agent, framework, incarnation, old);
        }
        if let Some(fault) = fault {
            self.protocol_error(agent, fault);
        }
    }

    /// Applies one new entry; gives it back when the framework is to have it. An entry that changes nothing any more is
    /// covered by the acknowledgement of a later one.
    fn update(
        &mut self,
        agent: AgentId,
        framework: FrameworkId,
        incarnation: Incarnation,
        mut update: Update,
    ) -> Option<Update> {
        update.status = clipped(update.status);
        let place = Place { framework, batch: update.batch.clone(), agent };
        // What it says of positions that the launch does not have is left out.
        let known = self.launches.get(&place).map_or(0, |record| record.range.count());
        update.count = update.count.min(known.saturating_sub(update.first)).max(1);
        update.usages = update.usages.part(0..update.usages.len().min(update.count as usize));
        let status = Arc::new(update.status.clone());
        let applied = self.enter_each(&place, update.positions(), &status, &update.usages);
        let stale = applied.changed.is_empty() && applied.repeated == 0;
        let log = self.logs.of(framework, agent, incarnation);
        // An agent has no say about launches that are not there, or not any more.
        let Some(record) = self.launches.get_mut(&place).filter(|_| !stale) else {
            log.highest = update.sequence;
            return None;
        };
        record.confirmed = true;
        record.unacknowledged += 1;
        log.push(update.clone());
        Some(update)
    }

    fn forward(&mut self, agent: AgentId, framework: FrameworkId, fresh: Vec<Update>) {
        if fresh.is_empty() {
            return;
        }
        if let Some(peer) = self.agents.get_mut(&agent)
            && matches!(peer.state, AgentState::Recovering(..))
        {
            peer.held_back.insert(framework);
            return;
        }
        self.send_updates(framework, agent, Source::Agent, fresh);
    }

    /// Repeats an acknowledgement that the agent has not received, and forgets launches that only waited for it.
    fn acknowledge_again(
        &mut self,
        agent: AgentId,
        framework: FrameworkId,
        incarnation: Incarnation,
        old: BTreeSet<holm_model::BatchId>,
    ) {
        let sequence = self.logs.get(framework, agent).map_or(0, |log| log.acknowledged);
        let session = self.agents.get(&agent).and_then(|agent| agent.stream()).map(|stream| stream.session);
        if let Some(session) = session.filter(|_| sequence > 0) {
            self.out.tell_agent(session, ToAgent::Acknowledge { framework, incarnation, sequence });
        }
        for batch in old {
            self.retire(&Place { framework, batch, agent });
        }
    }

    /// Tells an agent that a framework is over, or was never known.
    pub(crate) fn remove_framework_from(&mut self, agent: AgentId, framework: FrameworkId) {
        let Some(agent) = self.agents.get_mut(&agent) else { return };
        if let AgentState::Recovering(_, report) = &mut agent.state
            && !report.removed.insert(framework)
        {
            return;
        }
        if let Some(stream) = agent.stream() {
            self.out.tell_agent(stream.session, ToAgent::Remove { framework });
        }
    }

    /// Best effort: what is too large, or not about a live task of the framework, is dropped.
    fn message_from_task(&mut self, agent: AgentId, framework: FrameworkId, task: TaskId, data: Arc<[u8]>) {
        if data.len() > MAX_MESSAGE_BYTES {
            return self.protocol_error(agent, "a message of a task over the limit of 65536 bytes");
        }
        let place = Place { framework, batch: task.batch.clone(), agent };
        let session = self.frameworks.get(&framework).and_then(|framework| framework.connected());
        match session.filter(|_| self.is_live(&place, &task).is_some()) {
            Some(session) => self.out.tell_framework(session, SchedulerEvent::Message { agent, task, data }),
            None => self.ignore("a message to a framework that is away"),
        }
    }

    fn runner_lost(&mut self, agent: AgentId, framework: FrameworkId, runner: RunnerId, message: Arc<str>) {
        let message = if message.len() > 1024 { message.chars().take(256).collect::<String>().into() } else { message };
        if let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) {
            self.out.tell_framework(session, SchedulerEvent::RunnerLost { agent, runner, message });
        }
    }
}
