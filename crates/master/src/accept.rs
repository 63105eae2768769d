//! ACCEPT and DECLINE: offers become launches, the rest goes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_allocator::Served;
use holm_model::{
    Action, AgentId, Epoch, FrameworkId, Launch, MAX_BATCH_TASKS, OfferId, Origin, Portions, PortionsError, Principal,
    Reason, Refusal, Role, Source, TaskState, TaskStatus, ToAgent, Update, Usages, VolumeId,
};

use crate::authorize::{Object, authorize};
use crate::demands::{check_duration, expected_end};
use crate::launches::{Place, Record};
use crate::offers::Outstanding;
use crate::options::{MAX_CALL_LAUNCHES, MAX_CALL_OFFERS};
use crate::{Master, SessionId};

/// The agent of statuses about launches that no offer places anywhere.
pub(crate) const NO_AGENT: AgentId = AgentId::new(Epoch(0), 0);

/// The offers of an ACCEPT taken together, and what is left of them.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) agent: AgentId,
    pub(crate) left: Portions,
    /// What of demands the offers served.
    pub(crate) served: Vec<Served>,
    /// Whether it is lent.
    pub(crate) revocable: bool,
}

/// What a launch holds, and what it leaves.
pub(crate) struct Chosen {
    pub(crate) held: Portions,
    pub(crate) left: Portions,
}

impl Master {
    /// Launches tasks on offers; what they do not use goes back under `refusal`.
    pub(crate) fn accept(&mut self, framework: FrameworkId, ids: &[OfferId], launches: Vec<Launch>, refusal: Refusal) {
        let checked = self.check_accept(framework, ids, &launches);
        if let Err(why) = checked {
            let status = TaskStatus::because(TaskState::Dropped, Reason::InvalidOffers, why);
            return self.refuse_accept(framework, ids, &launches, &status);
        }
        self.answered(framework);
        if let Some(gang) = self.gang_of(ids) {
            return self.hold(gang, ids, launches, refusal, false);
        }
        let Some(mut pool) = self.take_offers(ids) else { return };
        let refused = self.launch_all(&mut pool, launches);
        self.give_back(pool, refusal, refused);
    }

    /// Launches what can be launched on what is left of offers; tells what was refused.
    pub(crate) fn launch_all(&mut self, pool: &mut Pool, launches: Vec<Launch>) -> Vec<Update> {
        let mut refused = Vec::new();
        for launch in launches {
            match self.admit_launch(pool, &launch, &[]) {
                Ok(Chosen { held, left }) => {
                    pool.left = left;
                    self.launch(pool, launch, held);
                }
                Err(status) => refused.push(whole(&launch, status)),
            }
        }
        refused
    }

    /// What launches left of the offers goes back, and the framework is told of those that were refused.
    pub(crate) fn give_back(&mut self, pool: Pool, refusal: Refusal, refused: Vec<Update>) {
        self.settle_demands(&pool);
        let Pool { framework, role, agent, left, revocable, .. } = pool;
        if !left.is_empty() {
            let now = self.now;
            let declined = self.market(revocable).decline(framework, &role, agent, &left, refusal, now);
            self.check(declined);
            self.touched(agent);
        }
        self.send_updates(framework, agent, Source::Master, refused);
    }

    /// Gives offers back. Unknown ones are ignored.
    pub(crate) fn decline(&mut self, framework: FrameworkId, ids: &[OfferId], refusal: Refusal) {
        for id in ids {
            if self.offers.out.get(id).is_some_and(|offer| offer.framework == framework)
                && let Some(offer) = self.take_offer(*id)
            {
                self.answered(framework);
                self.decline_offer(&offer, refusal);
            }
        }
    }

    pub(crate) fn check_accept(
        &self,
        framework: FrameworkId,
        ids: &[OfferId],
        launches: &[Launch],
    ) -> Result<(), String> {
        if ids.is_empty() {
            return Err("accept names no offer".to_owned());
        }
        let counts = [("offers", ids.len(), MAX_CALL_OFFERS), ("launches", launches.len(), MAX_CALL_LAUNCHES)];
        if let Some((what, count, limit)) = counts.into_iter().find(|(_, count, limit)| count > limit) {
            return Err(format!("accept has {count} {what}; the limit is {limit}"));
        }
        self.check_offers(framework, ids).map_err(|error| error.to_string())
    }

    /// Drops every launch of an ACCEPT and frees those of its offers that are the framework's own.
    pub(crate) fn refuse_accept(
        &mut self,
        framework: FrameworkId,
        ids: &[OfferId],
        launches: &[Launch],
        status: &TaskStatus,
    ) {
        let mut agent = None;
        for id in ids {
            if self.offers.out.get(id).is_some_and(|offer| offer.framework == framework)
                && let Some(offer) = self.take_offer(*id)
            {
                agent.get_or_insert(offer.agent);
                self.release_offer(&offer);
            }
        }
        let updates = launches.iter().map(|launch| whole(launch, status.clone())).collect();
        self.send_updates(framework, agent.unwrap_or(NO_AGENT), Source::Master, updates);
    }

    /// Uses up offers that have been checked.
    pub(crate) fn take_offers(&mut self, ids: &[OfferId]) -> Option<Pool> {
        let mut pool: Option<Pool> = None;
        for id in ids {
            let Some(offer) = self.take_offer(*id) else { continue };
            let (left, mut served) = pool.take().map_or((Portions::EMPTY, Vec::new()), |pool| (pool.left, pool.served));
            served.extend(offer.served);
            // Parts of one agent cannot overlap: a failure would be a fault of the books.
            let sum = left.plus(&offer.portions);
            let left = self.check(sum)?;
            let Outstanding { framework, role, agent, revocable, .. } = offer;
            pool = Some(Pool { framework, role, agent, left, served, revocable });
        }
        pool
    }

    /// Decides on one launch: what is left after it, or the status that refuses it. `before` are launches of its group
    /// that are to be there already.
    pub(crate) fn admit_launch(&self, pool: &Pool, launch: &Launch, before: &[Launch]) -> Result<Chosen, TaskStatus> {
        let error = |reason, message: String| TaskStatus::because(TaskState::Error, reason, message);
        let principal = Principal::Framework(pool.framework);
        authorize(&principal, Action::Launch, Object::Role(&pool.role))
            .map_err(|denied| error(Reason::Unauthorized, denied.to_string()))?;
        launch.validate().map_err(|invalid| error(Reason::InvalidTask, explain(&invalid)))?;
        if !self.launches.named(pool.framework, &launch.id).is_empty() {
            let message = format!("launch {} is still live, or its end is not acknowledged yet", launch.id);
            return Err(error(Reason::DuplicateTask, message));
        }
        check_duration(pool, launch).map_err(|message| error(Reason::InvalidTask, message))?;
        if launch.spec.revocable != pool.revocable {
            let message = match pool.revocable {
                true => "revocable: its offers are revocable, and the launch says that it is not",
                false => "revocable: the launch says that it is, and none of its offers is revocable",
            };
            return Err(error(Reason::InvalidTask, message.to_owned()));
        }
        self.check_limits(pool.framework, launch, before).map_err(|message| error(Reason::InvalidTask, message))?;
        let chosen = choose(pool, launch).map_err(|short| {
            let message = format!("launch {} does not fit what is left of the offers: {short}", launch.id);
            error(Reason::InvalidTask, message)
        })?;
        if self.agents.get(&pool.agent).is_none_or(|agent| agent.active().is_none()) {
            let message = format!("agent {} is not connected", pool.agent);
            return Err(TaskStatus::because(TaskState::Dropped, Reason::AgentDisconnected, message));
        }
        self.check_executor(pool, launch, before)?;
        Ok(chosen)
    }

    fn check_limits(&self, framework: FrameworkId, launch: &Launch, before: &[Launch]) -> Result<(), String> {
        let known = self.launches.count_of_framework(framework) + before.len();
        let (launches, limit) = (known, self.options.max_framework_launches);
        if launches >= limit {
            return Err(format!("framework has {launches} launches; the limit is {limit}"));
        }
        let live = self.frameworks.get(&framework).map_or(0, |framework| framework.live_tasks);
        let live = live + before.iter().map(|launch| u64::from(launch.tasks.count())).sum::<u64>();
        let (tasks, limit) = (live + u64::from(launch.tasks.count()), self.options.max_framework_tasks);
        if tasks > limit {
            return Err(format!("framework would have {tasks} live tasks; the limit is {limit}"));
        }
        Ok(())
    }

    pub(crate) fn launch(&mut self, pool: &Pool, launch: Launch, held: Portions) {
        let origins = tied(held);
        self.book_launch(pool, &launch, origins.clone());
        let Some((session, sequence)) = self.next_on_stream(pool.agent) else { return };
        let (framework, role) = (pool.framework, pool.role.clone());
        self.out.tell_agent(session, ToAgent::Launch { sequence, framework, role, origins, launch });
    }

    pub(crate) fn book_launch(&mut self, pool: &Pool, launch: &Launch, origins: Portions) {
        let place = Place { framework: pool.framework, batch: launch.id.clone(), agent: pool.agent };
        let until = expected_end(launch, self.now);
        let mut record = Record::accepted(pool.role.clone(), origins, launch);
        record.until = until;
        self.add_launch(&place, record, true);
    }

    /// The agent's stream and the number of what is launched on it next.
    pub(crate) fn next_on_stream(&mut self, agent: AgentId) -> Option<(SessionId, u64)> {
        let stream = self.agents.get_mut(&agent).and_then(|agent| agent.stream_mut())?;
        stream.sent += 1;
        Some((stream.session, stream.sent))
    }

    /// Tells a framework which of its calls was refused, and why.
    pub(crate) fn complain(&mut self, framework: FrameworkId, message: impl Into<Arc<str>>) {
        if let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) {
            let event = holm_model::SchedulerEvent::Error { message: message.into(), fatal: false };
            self.out.tell_framework(session, event);
        }
    }
}

/// Where what a launch asks for comes from: its volumes, then what is reserved for the lowest role first.
fn choose(pool: &Pool, launch: &Launch) -> Result<Chosen, PortionsError> {
    let volumes: Vec<VolumeId> = launch.spec.volumes.iter().map(|mount| mount.id.clone()).collect();
    let held = pool.left.choose(&pool.role, &launch.resources(), &volumes)?;
    let left = pool.left.minus(&held)?;
    Ok(Chosen { held, left })
}

/// What is told and remembered of origins: nothing where all of it is unreserved.
pub(crate) fn tied(held: Portions) -> Portions {
    if held.iter().all(|(origin, _)| *origin == Origin::Unreserved) { Portions::EMPTY } else { held }
}

/// The roles that were named and are not among those subscribed to.
pub(crate) fn strangers<'a>(subscribed: &[Role], named: &'a [Role]) -> Option<&'a Role> {
    let subscribed: BTreeSet<_> = subscribed.iter().collect();
    named.iter().find(|role| !subscribed.contains(role))
}

/// One status for every task of a launch that was not accepted.
pub(crate) fn whole(launch: &Launch, status: TaskStatus) -> Update {
    let count = launch.tasks.count().clamp(1, MAX_BATCH_TASKS);
    Update { sequence: 0, batch: launch.id.clone(), first: 0, count, status, usages: Usages::default() }
}

/// An error with everything below it.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text = format!("{text}: {below}");
        source = below.source();
    }
    text
}
