//! Agents that connect: admitted for the first time, or back under their id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_allocator::AgentStock;
use holm_model::{Action, AgentCondition, AgentId, AgentInfo, Principal, Registration, Resources, SecretHash, ToAgent};

use crate::agents::{Admission, Agent, AgentState, Report, Stream, validate_info};
use crate::authorize::{Object, authorize};
use crate::effect::{CloseCause, Unwelcome};
use crate::master::Peer;
use crate::timers::Timer;
use crate::writes::Then;
use crate::{Delta, Fresh, Master, RegistryOp, SessionId};

impl Master {
    pub(crate) fn agent_opened(
        &mut self,
        session: SessionId,
        principal: &Principal,
        registration: Registration,
        proof: Option<SecretHash>,
        fresh: Fresh,
    ) {
        if self.sessions.contains_key(&session) {
            return self.ignore("a second first message");
        }
        if registration.highest_epoch > self.cluster.epoch {
            let (seen, own) = (registration.highest_epoch, self.cluster.epoch);
            let message = format!("epoch {seen} has been seen; this master has {own}");
            return self.out.close(session, CloseCause::Precondition, &message);
        }
        if let Err(unwelcome) = self.check_registration(principal, &registration, proof) {
            return self.refuse_agent(session, &unwelcome);
        }
        match registration.id {
            None => self.admit_new(session, registration, fresh),
            Some(id) => self.readmit(id, Admission { session, registration, secret: None }),
        }
    }

    fn refuse_agent(&mut self, session: SessionId, unwelcome: &Unwelcome) {
        let Unwelcome { cause, message } = unwelcome;
        self.out.tell_agent(session, ToAgent::Refused { message: message.as_str().into() });
        self.out.close(session, *cause, message);
    }

    fn check_registration(
        &self,
        principal: &Principal,
        registration: &Registration,
        proof: Option<SecretHash>,
    ) -> Result<(), Unwelcome> {
        let object = registration.id.map_or(Object::Cluster, Object::Agent);
        authorize(principal, Action::RegisterAgent, object)
            .map_err(|denied| Unwelcome::new(CloseCause::Denied, denied))?;
        validate_info(&registration.info).map_err(|invalid| Unwelcome::new(CloseCause::Invalid, invalid))?;
        registration.info.configured().map_err(|excess| Unwelcome::new(CloseCause::Invalid, excess))?;
        let own = self.cluster.cluster;
        if let Some(other) = registration.cluster.filter(|cluster| *cluster != own) {
            let message = format!("the agent belongs to cluster {other}; this is cluster {own}");
            return Err(Unwelcome::new(CloseCause::Precondition, message));
        }
        let Some(id) = registration.id else {
            let (count, limit) = (self.agents.len(), self.options.max_agents);
            let full = || format!("the cluster has {count} agents; the limit is {limit}");
            return if count < limit { Ok(()) } else { Err(Unwelcome::new(CloseCause::Full, full())) };
        };
        let Some(agent) = self.agents.get(&id) else {
            return Err(Unwelcome::new(CloseCause::Unauthenticated, format!("{id} is not known to this cluster")));
        };
        if proof != Some(agent.secret) {
            let message = format!("the secret presented for {id} is not the one it was given");
            return Err(Unwelcome::new(CloseCause::Unauthenticated, message));
        }
        Ok(())
    }

    fn admit_new(&mut self, session: SessionId, registration: Registration, fresh: Fresh) {
        self.next_agent += 1;
        let id = AgentId::new(self.cluster.epoch, self.next_agent);
        let info = Arc::new(registration.info.clone());
        let admission = Some(Admission { session, registration, secret: Some(fresh.secret) });
        let agent = Agent {
            id,
            secret: fresh.hash,
            info: info.clone(),
            marked: false,
            incarnation: None,
            reported: false,
            allocated: false,
            kills: BTreeMap::new(),
            held_back: BTreeSet::new(),
            condition: AgentCondition::default(),
            revocable: Resources::EMPTY,
            state: AgentState::Registering { admission, info: info.clone(), first: true },
        };
        let record = agent.record(&info, false);
        self.sessions.insert(session, Peer::Agent(id));
        self.agents.insert(id, agent);
        self.out.agents.insert(id);
        self.persist(vec![RegistryOp::PutAgent(record)], Then::AdmitAgent(id));
    }

    /// An agent that has proved its id is back. A newer stream replaces an older one.
    fn readmit(&mut self, id: AgentId, admission: Admission) {
        if let Some(older) = self.agents.get(&id).and_then(Agent::session) {
            self.sessions.remove(&older);
            self.out.close(older, CloseCause::Replaced, "replaced by a newer connection of the same agent");
            self.agent_disconnected(id);
        }
        self.sessions.insert(admission.session, Peer::Agent(id));
        self.out.agents.insert(id);
        let Some(agent) = self.agents.get_mut(&id) else { return };
        match &mut agent.state {
            AgentState::Registering { admission: waiting, .. } | AgentState::Departing(waiting) => {
                *waiting = Some(admission);
            }
            _ => self.admit(id, admission),
        }
    }

    /// Goes on with an admission: writes what has changed, then begins the stream.
    pub(crate) fn admit(&mut self, id: AgentId, admission: Admission) {
        self.timers.cancel(Timer::AgentTimeout(id));
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if !agent.marked && *agent.info == admission.registration.info {
            return self.begin_stream(id, admission);
        }
        let info = Arc::new(admission.registration.info.clone());
        let record = agent.record(&info, false);
        let entered = agent.state.enter(AgentState::Registering { admission: Some(admission), info, first: false });
        self.check(entered);
        self.out.agents.insert(id);
        self.persist(vec![RegistryOp::PutAgent(record)], Then::AdmitAgent(id));
    }

    /// The record of an agent is durable.
    pub(crate) fn agent_recorded(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let AgentState::Registering { admission, info, first } = &mut agent.state else { return };
        let (admission, first) = (admission.take(), *first);
        agent.info = info.clone();
        agent.marked = false;
        self.out.agents.insert(id);
        match admission {
            Some(admission) => self.admit(id, admission),
            None if first => {
                // Nobody ever learned this id.
                self.agents.remove(&id);
                self.out.delta(Delta::AgentRemoved(id));
                self.persist(vec![RegistryOp::RemoveAgent(id)], Then::Nothing);
            }
            None => self.await_agent(id),
        }
    }

    /// What an agent has and says of itself.
    fn stock_of(&self, id: AgentId, info: &AgentInfo) -> AgentStock {
        AgentStock {
            portions: self.operations.stock(id, info),
            attributes: info.attributes.clone(),
            hostname: info.hostname.clone(),
        }
    }

    /// Tells the allocator again what an agent has.
    pub(crate) fn restock(&mut self, id: AgentId) {
        let Some(info) = self.agents.get(&id).filter(|agent| agent.allocated).map(|agent| agent.info.clone()) else {
            return;
        };
        let updated = self.allocator.update_agent(id, &self.stock_of(id, &info));
        self.check(updated);
    }

    fn begin_stream(&mut self, id: AgentId, admission: Admission) {
        let Admission { session, registration, secret } = admission;
        let stream = Stream { session, heard: self.now, sent: 0 };
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let entered = agent.state.enter(AgentState::Recovering(stream, Report::default()));
        let before = agent.incarnation.replace(registration.incarnation);
        let info = agent.info.clone();
        let known = std::mem::replace(&mut agent.allocated, true);
        agent.condition = AgentCondition::default();
        agent.revocable = Resources::EMPTY;
        self.check(entered);
        let stock = self.stock_of(id, &info);
        let put = if known { self.allocator.update_agent(id, &stock) } else { self.allocator.add_agent(id, &stock) };
        self.check(put);
        self.lender_added(id, known, &stock);
        self.set_agent_offered(id, false);
        let forgetful = before.is_some_and(|before| before != registration.incarnation);
        for place in self.launches.on_agent(id) {
            if forgetful && let Some(record) = self.launches.get_mut(&place) {
                record.confirmed = true;
            }
            // An agent that was given up held nothing; what it had counts again until its report says otherwise.
            if !self.settle(&place) {
                self.lose_conflicting(&place);
            }
        }
        for (_, log) in self.logs.on_agent(id) {
            log.begin(registration.incarnation);
        }
        self.touched(id);
        self.timers.set(Timer::Ping(id), self.now + self.options.ping_interval);
        let (cluster, epoch) = (self.cluster.cluster, self.cluster.epoch);
        let silence = self.options.agent_silence;
        self.out.tell_agent(session, ToAgent::Registered { agent: id, secret, cluster, epoch, silence });
        self.tell_volumes(id);
    }
}
