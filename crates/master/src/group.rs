//! Launches made together or not at all, and tasks that need an executor to be there.

use std::collections::BTreeSet;

use holm_model::{
    AgentInfo, FrameworkId, Launch, MAX_GROUP_LAUNCHES, OfferId, Portions, Reason, Refusal, TaskKind, TaskState,
    TaskStatus, ToAgent, Update,
};

use crate::Master;
use crate::accept::{Chosen, Pool, tied, whole};
use crate::launches::Place;

impl Master {
    /// Launches a group on offers: every launch is accepted and sent in one message, or none is.
    pub(crate) fn launch_group(
        &mut self,
        framework: FrameworkId,
        ids: &[OfferId],
        launches: Vec<Launch>,
        refusal: Refusal,
    ) {
        let checked = self.check_accept(framework, ids, &launches).map_err(|why| (Reason::InvalidOffers, why));
        let checked = checked.and_then(|()| check_group(&launches).map_err(|why| (Reason::GroupFailed, why)));
        if let Err((reason, why)) = checked {
            let status = TaskStatus::because(TaskState::Dropped, reason, why);
            return self.refuse_accept(framework, ids, &launches, &status);
        }
        self.answered(framework);
        if let Some(gang) = self.gang_of(ids) {
            return self.hold(gang, ids, launches, refusal, true);
        }
        let Some(mut pool) = self.take_offers(ids) else { return };
        let refused = match self.admit_group(&mut pool, &launches) {
            Ok(origins) => {
                self.send_group(&pool, launches, origins);
                Vec::new()
            }
            Err(refused) => refused,
        };
        self.give_back(pool, refusal, refused);
    }

    /// Takes what the launches hold off the pool, or nothing and the statuses that refuse them.
    fn admit_group(&self, pool: &mut Pool, launches: &[Launch]) -> Result<Vec<Portions>, Vec<Update>> {
        let all = pool.left.clone();
        self.admit_members(pool, launches).map_err(|(at, status)| {
            pool.left = all;
            refuse_group(launches, &launches[at], &status)
        })
    }

    /// Takes what the launches of a group hold off the pool one by one, as far as the first that cannot be: gives its place
    /// and the status that refuses it.
    pub(crate) fn admit_members(
        &self,
        pool: &mut Pool,
        launches: &[Launch],
    ) -> Result<Vec<Portions>, (usize, TaskStatus)> {
        let mut origins = Vec::with_capacity(launches.len());
        for (at, launch) in launches.iter().enumerate() {
            let admitted = self
                .check_able(pool, AgentInfo::TASK_GROUPS, "groups of launches")
                .and_then(|()| self.admit_launch(pool, launch, &launches[..at]));
            let Chosen { held, left } = admitted.map_err(|status| (at, status))?;
            pool.left = left;
            origins.push(tied(held));
        }
        Ok(origins)
    }

    pub(crate) fn send_group(&mut self, pool: &Pool, launches: Vec<Launch>, origins: Vec<Portions>) {
        if launches.is_empty() {
            return;
        }
        for (launch, held) in launches.iter().zip(&origins) {
            self.book_launch(pool, launch, held.clone());
        }
        let Some((session, sequence)) = self.next_on_stream(pool.agent) else { return };
        let (framework, role) = (pool.framework, pool.role.clone());
        self.out.tell_agent(session, ToAgent::LaunchGroup { sequence, framework, role, origins, launches });
    }

    /// Whether the pool's agent can do what a launch needs; agents of an older version cannot do everything.
    fn check_able(&self, pool: &Pool, capability: &str, what: &str) -> Result<(), TaskStatus> {
        if self.agents.get(&pool.agent).is_some_and(|agent| agent.info.capabilities.contains(capability)) {
            return Ok(());
        }
        let message = format!("agent {} cannot run {what}: its version lacks the capability {capability}", pool.agent);
        Err(TaskStatus::because(TaskState::Dropped, Reason::AgentRefused, message))
    }

    /// Whether the executor that a launch needs is on the pool's agent, or about to be. That it is an executor is for
    /// the agent to say.
    pub(crate) fn check_executor(&self, pool: &Pool, launch: &Launch, before: &[Launch]) -> Result<(), TaskStatus> {
        if matches!(launch.spec.kind, TaskKind::Executor | TaskKind::Executed) {
            self.check_able(pool, AgentInfo::EXECUTORS, "executors")?;
        }
        let Some(executed) = &launch.spec.executed else { return Ok(()) };
        let place = Place { framework: pool.framework, batch: executed.executor.clone(), agent: pool.agent };
        let live = self.launches.get(&place).is_some_and(|record| record.live > 0);
        if live || before.iter().any(|launch| launch.id == executed.executor) {
            return Ok(());
        }
        let message = format!("executor {} is no live launch of the framework on {}", executed.executor, pool.agent);
        Err(TaskStatus::because(TaskState::Dropped, Reason::ExecutorLost, message))
    }
}

/// What concerns a group as a whole, so that nothing can be said of a single launch.
fn check_group(launches: &[Launch]) -> Result<(), String> {
    let count = launches.len();
    if count > MAX_GROUP_LAUNCHES {
        return Err(format!("group has {count} launches; the limit is {MAX_GROUP_LAUNCHES}"));
    }
    let mut names = BTreeSet::new();
    match launches.iter().find(|launch| !names.insert(&launch.id)) {
        Some(launch) => Err(format!("launch {} is twice in its group", launch.id)),
        None => Ok(()),
    }
}

/// The culprit ends by its own status, the others because of it.
fn refuse_group(launches: &[Launch], culprit: &Launch, status: &TaskStatus) -> Vec<Update> {
    let message = format!("launch {} of its group was refused: {}", culprit.id, status.message);
    let dropped = TaskStatus::because(TaskState::Dropped, Reason::GroupFailed, message);
    let status = |launch: &Launch| if launch.id == culprit.id { status.clone() } else { dropped.clone() };
    launches.iter().map(|launch| whole(launch, status(launch))).collect()
}
