//! Operations: reservations and volumes made and ended, by frameworks in an ACCEPT and by operators.
//!
//! Everything that is done to one agent is done one after another: what is in the registry is what the next operation is
//! checked against. An operation is planned when its turn comes, written, and only then visible: in the allocator's books, to
//! the agent, to whoever asked. What it takes stays charged meanwhile: to the framework whose offers were accepted, or to
//! [`OPERATOR`].

use std::collections::{BTreeMap, VecDeque};

use holm_model::{
    Action, AgentId, AgentInfo, Conversion, Epoch, FrameworkId, Launch, OfferId, Operation, OperationStatus, Portions,
    Principal, Reason, Refusal, Requested, ReservationRecord, Role, SchedulerEvent, TaskState, TaskStatus, ToAgent,
    Volume,
};

use crate::accept::Pool;
use crate::authorize::{Object, authorize};
use crate::writes::Then;
use crate::{Answer, Effect, Master, OperatorError, RegistryOp, RequestId};

/// In whose name resources are held while what an operator does to them is written.
pub(crate) const OPERATOR: FrameworkId = FrameworkId::new(Epoch(0), 0);

/// Most ACCEPTs with operations, and operators, that wait for one agent.
const MAX_WAITING: usize = 256;
/// Most origins that one agent may have besides those of its configuration.
const MAX_ORIGINS: usize = 512;

/// Who wants something done.
#[derive(Debug)]
enum Who {
    Framework(Accepted),
    Operator { request: RequestId, operation: Operation },
}

/// An ACCEPT with operations.
#[derive(Debug)]
struct Accepted {
    /// Its offers, charged as before.
    pool: Pool,
    operations: Vec<Requested>,
    launches: Vec<Launch>,
    refusal: Refusal,
    /// The subscription that asked.
    subscription: u64,
}

/// Something that is to be done to an agent.
#[derive(Debug)]
struct Waiting {
    who: Who,
    /// What is being written; none while others are before it.
    plan: Option<Plan>,
    /// False once the agent was given up: nothing is charged any more.
    charged: bool,
}

/// What is being written.
#[derive(Debug)]
struct Plan {
    conversions: Vec<Conversion>,
    record: ReservationRecord,
    statuses: Vec<OperationStatus>,
}

/// What is reserved where, and what is about to change.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// As the registry has it; agents without are as configured.
    records: BTreeMap<AgentId, ReservationRecord>,
    queues: BTreeMap<AgentId, VecDeque<Waiting>>,
}

impl Operations {
    pub(crate) fn recover(records: BTreeMap<AgentId, ReservationRecord>) -> Operations {
        Operations { records, queues: BTreeMap::new() }
    }

    /// What is reserved on an agent.
    pub(crate) fn record(&self, agent: AgentId) -> ReservationRecord {
        self.records.get(&agent).cloned().unwrap_or_else(|| ReservationRecord::new(agent))
    }

    /// What an agent has by origin.
    pub(crate) fn stock(&self, agent: AgentId, info: &AgentInfo) -> Portions {
        // Checked when the agent registered.
        let configured = info.configured().unwrap_or_else(|_| Portions::unreserved(info.resources.clone()));
        self.records.get(&agent).map_or_else(|| configured.clone(), |record| record.applied_to(&configured))
    }

    /// The volumes of an agent.
    pub(crate) fn volumes(&self, agent: AgentId) -> Vec<Volume> {
        self.records.get(&agent).map(ReservationRecord::volumes).unwrap_or_default()
    }

    /// The agent was given up: the allocator has forgotten what is held there.
    pub(crate) fn lose(&mut self, agent: AgentId) {
        self.queues.get_mut(&agent).into_iter().flatten().for_each(|waiting| waiting.charged = false);
    }

    /// What is charged for operations, for the invariants.
    pub(crate) fn charged(&self) -> impl Iterator<Item = (FrameworkId, Role, AgentId, Portions)> {
        let held = |(agent, waiting): (AgentId, &Waiting)| match (&waiting.who, &waiting.plan) {
            (Who::Framework(accepted), _) => {
                Some((accepted.pool.framework, accepted.pool.role.clone(), agent, accepted.pool.left.clone()))
            }
            (Who::Operator { operation, .. }, Some(plan)) => {
                let consumed = plan.conversions.first().map(|conversion| conversion.consumed.clone())?;
                Some((OPERATOR, operation.role().clone(), agent, consumed))
            }
            (Who::Operator { .. }, None) => None,
        };
        let all = self.queues.iter().flat_map(|(agent, queue)| queue.iter().map(|waiting| (*agent, waiting)));
        all.filter(|(_, waiting)| waiting.charged).filter_map(held)
    }

    /// The agents of which a record is being written, for the invariants.
    pub(crate) fn writing(&self) -> impl Iterator<Item = AgentId> {
        let writes = |queue: &VecDeque<Waiting>| queue.front().is_some_and(|first| first.plan.is_some());
        self.queues.iter().filter(move |(_, queue)| writes(queue)).map(|(agent, _)| *agent)
    }
}

impl Master {
    /// An ACCEPT with operations: they come first, then its launches.
    pub(crate) fn operate(
        &mut self,
        framework: FrameworkId,
        ids: &[OfferId],
        operations: Vec<Requested>,
        (launches, refusal): (Vec<Launch>, Refusal),
    ) {
        let agent = ids.first().and_then(|id| self.offers.out.get(id)).map(|offer| offer.agent);
        let waiting = agent.and_then(|agent| self.operations.queues.get(&agent)).map_or(0, VecDeque::len);
        let full = || format!("{waiting} operations wait for the agent; the limit is {MAX_WAITING}");
        let room = if waiting < MAX_WAITING { Ok(()) } else { Err(full()) };
        let room = match self.gang_of(ids) {
            Some(gang) => Err(format!("the offers are of gang {gang}: operations do not go with a gang")),
            None => room,
        };
        if let Err(why) = self.check_accept(framework, ids, &launches).and(room) {
            let refused = refuse_all(&operations, &why);
            self.tell_operations(framework, agent, refused);
            let status = TaskStatus::because(TaskState::Dropped, Reason::InvalidOffers, why);
            return self.refuse_accept(framework, ids, &launches, &status);
        }
        self.answered(framework);
        let subscription = self.frameworks.get(&framework).map_or(0, |framework| framework.subscriptions);
        let Some(pool) = self.take_offers(ids) else { return };
        let agent = pool.agent;
        let who = Who::Framework(Accepted { pool, operations, launches, refusal, subscription });
        self.line_up(agent, who);
    }

    /// An operator's operation. Answered when it is done, or why it is not.
    pub(crate) fn operate_for_operator(
        &mut self,
        request: RequestId,
        principal: &Principal,
        agent: AgentId,
        operation: Operation,
    ) -> Result<(), OperatorError> {
        authorize(principal, Action::Reserve, Object::Role(operation.role()))?;
        authorize(principal, Action::Reserve, Object::Agent(agent))?;
        if !self.agents.contains_key(&agent) {
            return Err(OperatorError::UnknownAgent(agent));
        }
        let waiting = self.operations.queues.get(&agent).map_or(0, VecDeque::len);
        if waiting >= MAX_WAITING {
            return Err(OperatorError::TooManyOperations { waiting, limit: MAX_WAITING });
        }
        self.line_up(agent, Who::Operator { request, operation });
        Ok(())
    }

    fn line_up(&mut self, agent: AgentId, who: Who) {
        let queue = self.operations.queues.entry(agent).or_default();
        queue.push_back(Waiting { who, plan: None, charged: true });
        if queue.len() == 1 {
            self.start_operations(agent);
        }
    }

    /// Plans and writes what comes next for an agent; what changes nothing is over at once.
    fn start_operations(&mut self, agent: AgentId) {
        while let Some(mut first) = self.operations.queues.get_mut(&agent).and_then(VecDeque::pop_front) {
            let plan = match &first.who {
                Who::Framework(accepted) => Ok(self.plan_accepted(accepted, first.charged)),
                Who::Operator { operation, .. } => self.plan_for_operator(agent, operation),
            };
            match plan {
                Ok(plan) if plan.conversions.is_empty() => self.finish_operations(agent, first, plan),
                Ok(plan) => {
                    let op = RegistryOp::PutReservations(plan.record.clone());
                    first.plan = Some(plan);
                    self.operations.queues.entry(agent).or_default().push_front(first);
                    return self.persist(vec![op], Then::Operations(agent));
                }
                Err(refusal) => {
                    if let Who::Operator { request, .. } = first.who {
                        self.out.push(Effect::Reply { request, result: Err(refusal) });
                    }
                }
            }
        }
        self.operations.queues.remove(&agent);
    }

    /// What the operations of an ACCEPT do, one after another; those that are refused do nothing.
    fn plan_accepted(&self, accepted: &Accepted, charged: bool) -> Plan {
        let Accepted { pool, operations, .. } = accepted;
        let mut available = pool.left.clone();
        let record = self.operations.record(pool.agent);
        let mut plan = Plan { conversions: Vec::new(), record, statuses: Vec::new() };
        for Requested { id, operation } in operations {
            let principal = Principal::Framework(pool.framework);
            let role = operation.role();
            let planned = match authorize(&principal, Action::Reserve, Object::Role(role)) {
                Err(denied) => Err(denied.to_string()),
                Ok(()) if !charged => Err(format!("agent {} is out of reach", pool.agent)),
                Ok(()) if !pool.role.covers(role) => {
                    let kind = operation.kind();
                    Err(format!("{kind} for role {role}: the offer is for role {}, which is not above it", pool.role))
                }
                Ok(()) => self.plan(&plan.record, operation, &available),
            };
            let done = planned.and_then(|(conversion, record)| {
                let after = conversion.apply(&available).map_err(|error| error.to_string())?;
                Ok((conversion, record, after))
            });
            let refusal = match done {
                Ok((conversion, record, after)) => {
                    plan.conversions.push(conversion);
                    plan.record = record;
                    available = after;
                    None
                }
                Err(why) => Some(why.as_str().into()),
            };
            plan.statuses.push(OperationStatus { id: id.clone(), refusal });
        }
        plan
    }

    /// What one operation does to what is available for it, and the record after it.
    fn plan(
        &self,
        record: &ReservationRecord,
        operation: &Operation,
        available: &Portions,
    ) -> Result<(Conversion, ReservationRecord), String> {
        let agent = record.agent;
        let has = |id, role: &Role| record.serials.contains_key(&(Role::clone(role), holm_model::VolumeId::clone(id)));
        match operation {
            Operation::CreateVolume { id, reservation, .. } => {
                let able = self.agents.get(&agent).is_some_and(|a| a.info.capabilities.contains(AgentInfo::VOLUMES));
                if !able {
                    return Err(format!("agent {agent} keeps no volumes: its version is too old"));
                }
                if has(id, reservation.role()) {
                    let role = reservation.role();
                    return Err(format!("volume {id} of role {role} exists on agent {agent}"));
                }
            }
            Operation::DestroyVolume { id, role } if has(id, role) && !available.has_volume(id, role) => {
                return Err(format!("volume {id} of role {role} is in use on agent {agent}"));
            }
            _ => {}
        }
        let conversion = operation.conversion(available).map_err(|error| error.to_string())?;
        let after = record.after(&conversion).map_err(|error| error.to_string())?;
        if after.reserved.len() > MAX_ORIGINS && after.reserved.len() > record.reserved.len() {
            let count = after.reserved.len();
            return Err(format!(
                "agent {agent} would have {count} reservations and volumes; the limit is {MAX_ORIGINS}"
            ));
        }
        Ok((conversion, after))
    }

    /// What an operator's operation does to what no task uses. Offers that are in the way end, unless it is refused.
    fn plan_for_operator(&mut self, agent: AgentId, operation: &Operation) -> Result<Plan, OperatorError> {
        let Some(free) = self.allocator.free(agent) else { return Err(OperatorError::AgentAway(agent)) };
        let out: Vec<_> = self.offers.on_agent(agent).map(|(id, offer)| (id, offer.portions.clone())).collect();
        let sum = |sum: Portions, (_, portions): &(OfferId, Portions)| sum.plus(portions).unwrap_or(sum);
        let available = out.iter().fold(free.clone(), sum);
        let record = self.operations.record(agent);
        let planned = self.plan(&record, operation, &available);
        let (conversion, record) =
            planned.map_err(|why| OperatorError::Operation(format!("{why} on {agent}").into()))?;
        let consumed = conversion.consumed.clone();
        for (id, portions) in out {
            let enough = self.allocator.free(agent).is_some_and(|free| free.contains(&consumed));
            if !enough && portions.iter().any(|(origin, _)| consumed.get(origin).is_some()) {
                self.rescind(&[id]);
            }
        }
        let held = self.allocator.allocated(OPERATOR, operation.role(), agent, &consumed);
        self.check(held);
        self.touched(agent);
        Ok(Plan { conversions: vec![conversion], record, statuses: Vec::new() })
    }

    /// What was planned for an agent is durable.
    pub(crate) fn operations_recorded(&mut self, agent: AgentId) {
        let first = self.operations.queues.get_mut(&agent).and_then(VecDeque::pop_front);
        let Some(mut first) = first else { return };
        let Some(plan) = first.plan.take() else { return };
        self.operations.records.insert(agent, plan.record.clone());
        if first.charged {
            let (holder, role) = match &first.who {
                Who::Framework(accepted) => (accepted.pool.framework, accepted.pool.role.clone()),
                Who::Operator { operation, .. } => (OPERATOR, operation.role().clone()),
            };
            for conversion in &plan.conversions {
                let converted = self.allocator.convert(agent, Some((holder, &role)), conversion);
                self.check(converted);
            }
        } else {
            self.restock(agent);
        }
        self.tell_volumes(agent);
        self.touched(agent);
        self.finish_operations(agent, first, plan);
        self.start_operations(agent);
    }

    /// Tells who asked, and goes on with the launches of an ACCEPT.
    fn finish_operations(&mut self, agent: AgentId, done: Waiting, plan: Plan) {
        match done.who {
            Who::Operator { request, operation } => {
                if done.charged {
                    for conversion in &plan.conversions {
                        let free = self.allocator.release(OPERATOR, operation.role(), agent, &conversion.produced);
                        self.check(free);
                    }
                }
                self.out.push(Effect::Reply { request, result: Ok(Answer::Done) });
            }
            Who::Framework(mut accepted) => {
                self.tell_operations(accepted.pool.framework, Some(agent), plan.statuses);
                if !done.charged {
                    let why = format!("agent {agent} was given up before the operations were done");
                    let status = TaskStatus::because(TaskState::Dropped, Reason::AgentDisconnected, why);
                    let launches = accepted.launches.iter();
                    let refused = launches.map(|launch| crate::accept::whole(launch, status.clone())).collect();
                    let source = holm_model::Source::Master;
                    return self.send_updates(accepted.pool.framework, agent, source, refused);
                }
                for conversion in &plan.conversions {
                    let left = conversion.apply(&accepted.pool.left);
                    if let Some(left) = self.check(left) {
                        accepted.pool.left = left;
                    }
                }
                self.launch_on_converted(accepted, &plan.conversions);
            }
        }
    }

    fn launch_on_converted(&mut self, accepted: Accepted, conversions: &[Conversion]) {
        let Accepted { mut pool, launches, refusal, subscription, .. } = accepted;
        let framework = self.frameworks.get(&pool.framework);
        let same = framework.is_some_and(|f| f.connected().is_some() && f.subscriptions == subscription);
        // Who subscribed again has been told what there is: these launches were not among it.
        let refused = if same { self.launch_all(&mut pool, launches) } else { Vec::new() };
        // What operations made is not what the framework saw and did not want.
        let made = |origin: &holm_model::Origin| conversions.iter().any(|done| done.produced.get(origin).is_some());
        let fresh = pool.left.filtered(made);
        if !fresh.is_empty() {
            let released = self.allocator.release(pool.framework, &pool.role, pool.agent, &fresh);
            self.check(released);
            pool.left = pool.left.filtered(|origin| !made(origin));
            self.touched(pool.agent);
        }
        self.give_back(pool, refusal, refused);
    }

    fn tell_operations(&mut self, framework: FrameworkId, agent: Option<AgentId>, statuses: Vec<OperationStatus>) {
        let session = self.frameworks.get(&framework).and_then(|framework| framework.connected());
        if let Some(session) = session.filter(|_| !statuses.is_empty()) {
            let agent = agent.unwrap_or(crate::accept::NO_AGENT);
            self.out.tell_framework(session, SchedulerEvent::Operations { agent, statuses });
        }
    }

    /// Tells an agent which volumes it has.
    pub(crate) fn tell_volumes(&mut self, agent: AgentId) {
        let stream = self.agents.get(&agent).and_then(|agent| agent.stream()).map(|stream| stream.session);
        let able = self.agents.get(&agent).is_some_and(|agent| agent.info.capabilities.contains(AgentInfo::VOLUMES));
        if let Some(session) = stream.filter(|_| able) {
            let volumes = self.operations.volumes(agent);
            self.out.tell_agent(session, ToAgent::Volumes(volumes));
        }
    }
}

fn refuse_all(operations: &[Requested], why: &str) -> Vec<OperationStatus> {
    let refused = |requested: &Requested| OperationStatus { id: requested.id.clone(), refusal: Some(why.into()) };
    operations.iter().map(refused).collect()
}
