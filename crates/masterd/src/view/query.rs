//! Listings: pages of the folded state in the words of the operator service.

use std::collections::BTreeMap;
use std::str::FromStr;

use holm_master::{AgentPhase, FrameworkPhase, Standing, standings};
use holm_model::{
    AgentId, FrameworkId, OfferId, PolicyPhase, PolicyView, Resources, Role, TaskId, TaskState, TaskStatus,
};
use holm_proto::{resources, status, v1};
use tonic::Status;

use super::State;
use super::state::{AgentEntry, FrameworkEntry, LaunchEntry, OfferEntry};
use crate::roles;

/// Most entries of one page.
pub(crate) const MAX_PAGE: usize = 4096;

/// Entries of a page when the caller does not say.
const DEFAULT_PAGE: usize = 1000;

/// Tasks of a page when the caller does not say.
const DEFAULT_TASKS: usize = 100;

/// How many entries a page may have.
fn page_size(asked: u32, default: usize) -> usize {
    match asked as usize {
        0 => default,
        asked => asked.min(MAX_PAGE),
    }
}

/// An optional field of a request.
pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

/// Sums of bundles that may overlap for a moment: what does not add up is left out.
fn sum<'a>(bundles: impl IntoIterator<Item = &'a Resources>) -> Resources {
    bundles.into_iter().fold(Resources::EMPTY, |sum, bundle| sum.plus(bundle).unwrap_or(sum))
}

/// The scalars of `bundles`: roles and clusters hold the same port of several agents, which no bundle can say.
pub(crate) fn sum_scalars<'a>(bundles: impl IntoIterator<Item = &'a Resources>) -> Resources {
    let mut sums = BTreeMap::<_, u64>::new();
    for (name, amount) in bundles.into_iter().flat_map(|bundle| bundle.iter_scalars()) {
        let sum = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(amount.0);
    }
    Resources::scalars(sums)
}

pub(crate) fn view_of(bundle: &Resources) -> Option<v1::ResourceView> {
    Some(v1::ResourceView { resources: resources::to_wire(bundle), text: bundle.to_string() })
}

impl State {
    /// What is out in offers, by agent.
    pub(crate) fn offered_by_agent(&self) -> BTreeMap<AgentId, Resources> {
        let mut offered = BTreeMap::<AgentId, Resources>::new();
        for OfferEntry { offer, .. } in self.offers.values().filter(|entry| !entry.offer.is_revocable()) {
            let sum = offered.entry(offer.agent).or_insert(Resources::EMPTY);
            *sum = sum.plus(&offer.resources).unwrap_or_else(|_| std::mem::take(sum));
        }
        offered
    }

    /// A page of agents after the one the token names.
    pub(crate) fn list_agents(&self, request: &v1::ListAgentsRequest) -> Result<v1::ListAgentsReply, Status> {
        let after: Option<AgentId> = parse("page_token", &request.page_token)?;
        let limit = page_size(request.limit, DEFAULT_PAGE);
        let offered = self.offered_by_agent();
        let all = self.agents.values().filter(|entry| after.is_none_or(|after| entry.view.id > after));
        let (agents, next) = page(all, limit, |entry| entry.view.id.to_string());
        let agents = agents.into_iter().map(|entry| self.agent_summary(entry, &offered)).collect();
        Ok(v1::ListAgentsReply { agents, next_page_token: next })
    }

    /// An agent, where `offered` is what is out in offers.
    pub(crate) fn agent_summary(&self, entry: &AgentEntry, offered: &BTreeMap<AgentId, Resources>) -> v1::AgentSummary {
        let id = entry.view.id;
        v1::AgentSummary { lent: view_of(&self.lent(id)), ..agent_summary(entry, offered.get(&id)) }
    }

    /// A page of frameworks after the one the token names.
    pub(crate) fn list_frameworks(
        &self,
        request: &v1::ListFrameworksRequest,
    ) -> Result<v1::ListFrameworksReply, Status> {
        let after: Option<FrameworkId> = parse("page_token", &request.page_token)?;
        let limit = page_size(request.limit, DEFAULT_PAGE);
        let shown = |entry: &&FrameworkEntry| {
            let ended = entry.view.phase == FrameworkPhase::Completed;
            after.is_none_or(|after| entry.view.id > after) && (request.include_completed || !ended)
        };
        let all = self.frameworks.values().filter(shown);
        let (frameworks, next) = page(all, limit, |entry| entry.view.id.to_string());
        let frameworks = frameworks.into_iter().map(|entry| self.framework_summary(entry)).collect();
        Ok(v1::ListFrameworksReply { frameworks, next_page_token: next })
    }

    /// All roles.
    pub(crate) fn list_roles(&self) -> v1::ListRolesReply {
        v1::ListRolesReply { roles: self.role_summaries() }
    }

    pub(crate) fn role_summaries(&self) -> Vec<v1::RoleSummary> {
        let mut held = BTreeMap::<&Role, Vec<Resources>>::new();
        for launch in self.launches.values().filter(|launch| launch.is_live()) {
            held.entry(&launch.role).or_default().push(launch.held());
        }
        let empty = Vec::new();
        let mut offered = BTreeMap::<&Role, Vec<&Resources>>::new();
        for OfferEntry { offer, .. } in self.offers.values() {
            offered.entry(&offer.role).or_default().push(&offer.resources);
        }
        let summary = |standing: &Standing| {
            let offers = offered.get(&standing.role).into_iter().flatten().copied();
            roles::summary(standing, held.get(&standing.role).unwrap_or(&empty), offers)
        };
        standings(&self.roles, &self.role_records, &self.capacity).iter().map(summary).collect()
    }

    /// A page of offers after the one the token names; `now` is in microseconds of Unix time.
    pub(crate) fn list_offers(&self, request: &v1::ListOffersRequest, now: u64) -> Result<v1::ListOffersReply, Status> {
        let after: Option<OfferId> = parse("page_token", &request.page_token)?;
        let framework: Option<FrameworkId> = parse("framework_id", &request.framework_id)?;
        let shown = |entry: &&OfferEntry| {
            let offer = &entry.offer;
            after.is_none_or(|after| offer.id > after) && framework.is_none_or(|wanted| offer.framework == wanted)
        };
        let all = self.offers.values().filter(shown);
        let (offers, next) = page(all, page_size(request.limit, DEFAULT_PAGE), |entry| entry.offer.id.to_string());
        let offers = offers.into_iter().map(|entry| self.offer_summary(entry, now)).collect();
        Ok(v1::ListOffersReply { offers, next_page_token: next })
    }

    /// A page of tasks, newest launch first.
    pub(crate) fn list_tasks(&self, request: &v1::ListTasksRequest) -> Result<v1::ListTasksReply, Status> {
        let filter = TaskFilter::read(request)?;
        let limit = page_size(request.limit, DEFAULT_TASKS);
        let (mut from, mut skip) = read_task_token(&request.page_token)?;
        let mut reply = v1::ListTasksReply::default();
        while let Some((serial, launch)) = self.launches.range(..=from).next_back() {
            let positions = skip..if filter.admits_launch(launch) { launch.tasks.len() } else { 0 };
            for position in positions {
                if !filter.admits_task(launch, position) {
                    continue;
                }
                if reply.tasks.len() == limit {
                    reply.next_page_token = format!("{serial}.{position}");
                    return Ok(reply);
                }
                reply.tasks.push(task_summary(launch, position));
            }
            skip = 0;
            let Some(next) = serial.checked_sub(1) else { break };
            from = next;
        }
        Ok(reply)
    }

    pub(crate) fn framework_summary(&self, entry: &FrameworkEntry) -> v1::FrameworkSummary {
        let view = &entry.view;
        let serials = self.by_framework.get(&view.id).into_iter().flatten();
        let launches = serials.filter_map(|serial| self.launches.get(serial)).filter(|launch| launch.is_live());
        let held: Vec<Resources> = launches.map(LaunchEntry::held).collect();
        let offers = self.offers.values().map(|entry| &entry.offer).filter(|offer| offer.framework == view.id);
        let silent = |role: &&Role| {
            let role = self.roles.iter().find(|share| share.role == **role);
            let own = role.and_then(|role| role.frameworks.iter().find(|share| share.framework == view.id));
            own.is_some_and(|share| !share.wanting) && view.phase == FrameworkPhase::Connected
        };
        v1::FrameworkSummary {
            id: view.id.to_string(),
            name: view.info.name.to_string(),
            state: framework_state(view.phase).into(),
            roles: view.info.roles.iter().map(Role::to_string).collect(),
            suppressed_roles: view.info.roles.iter().filter(silent).map(Role::to_string).collect(),
            failover_timeout_micros: micros(view.info.failover_timeout),
            labels: view.info.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            allocated: view_of(&sum_scalars(&held)),
            offered: view_of(&sum_scalars(offers.map(|offer| &offer.resources))),
            tasks: Some(entry.counts.to_wire()),
            registered_unix_micros: entry.registered_at,
            offer_count: view.offers as u64,
        }
    }

    pub(crate) fn offer_summary(&self, entry: &OfferEntry, now: u64) -> v1::OfferSummary {
        let name = self.frameworks.get(&entry.offer.framework).map(|entry| entry.view.info.name.to_string());
        v1::OfferSummary {
            offer: Some((&entry.offer).into()),
            resources_text: entry.offer.resources.to_string(),
            age_micros: now.saturating_sub(entry.since),
            framework_name: name.unwrap_or_default(),
        }
    }

    /// Numbers of the whole cluster; what this process knows of itself is left for the caller to fill in.
    pub(crate) fn cluster(&self) -> v1::GetClusterReply {
        let active = || self.agents.values().filter(|entry| entry.view.phase == AgentPhase::Active);
        let connected = self.frameworks.values().filter(|entry| entry.view.phase == FrameworkPhase::Connected);
        let held: Vec<Resources> =
            self.launches.values().filter(|launch| launch.is_live()).map(LaunchEntry::held).collect();
        v1::GetClusterReply {
            active_agents: active().count() as u64,
            connected_frameworks: connected.count() as u64,
            tasks: Some(self.counts.to_wire()),
            total: view_of(&sum_scalars(active().map(|entry| &entry.view.info.resources))),
            allocated: view_of(&sum_scalars(&held)),
            offered: view_of(&sum_scalars(self.offers.values().map(|entry| &entry.offer.resources))),
            policy: self.policy.as_ref().map(policy_summary),
            ..v1::GetClusterReply::default()
        }
    }
}

/// The first `limit` of `all`, and the token of the last one when there are more.
fn page<T>(all: impl Iterator<Item = T>, limit: usize, token: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let mut all = all.peekable();
    let taken: Vec<T> = all.by_ref().take(limit).collect();
    let next = all.peek().and_then(|_| taken.last()).map(token);
    (taken, next.unwrap_or_default())
}

fn policy_summary(view: &PolicyView) -> v1::PolicySummary {
    let (why, retry_after) = match &view.phase {
        PolicyPhase::Fallback { failure, retry_after } => (failure.to_string(), *retry_after),
        _ => Default::default(),
    };
    v1::PolicySummary {
        name: view.description.name.clone(),
        state: match view.phase {
            PolicyPhase::Waiting => v1::PolicyState::Waiting,
            PolicyPhase::InForce => v1::PolicyState::InForce,
            PolicyPhase::Fallback { .. } => v1::PolicyState::Fallback,
        }
        .into(),
        why,
        retry_after_micros: micros(retry_after),
        calls: view.calls,
        failures: view.failures,
        last_call_micros: micros(view.last.time),
        last_call_fuel: view.last.fuel,
        reads: view.description.reads.clone(),
        writes: view.description.writes.clone(),
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn agent_summary(entry: &AgentEntry, offered: Option<&Resources>) -> v1::AgentSummary {
    let view = &entry.view;
    let total = &view.info.resources;
    let offered = offered.cloned().unwrap_or(Resources::EMPTY);
    let unused = view.free.as_ref().map(|free| sum([free, &offered]));
    let allocated = unused.and_then(|unused| total.minus(&unused).ok()).unwrap_or(Resources::EMPTY);
    let state = match view.phase {
        AgentPhase::Active => v1::AgentState::Active,
        AgentPhase::Registering | AgentPhase::Recovering => v1::AgentState::Recovering,
        AgentPhase::Disconnected => v1::AgentState::Disconnected,
        AgentPhase::Unreachable => v1::AgentState::Unreachable,
    };
    v1::AgentSummary {
        id: view.id.to_string(),
        hostname: view.info.hostname.to_string(),
        state: state.into(),
        total: view_of(total),
        offered: view_of(&offered),
        allocated: view_of(&allocated),
        attributes: view.info.attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        version: view.info.version.to_string(),
        tasks: Some(entry.counts.to_wire()),
        confinement: view.info.confinement.iter().map(v1::ConfinementLayer::from).collect(),
        isolation: view.info.isolation.to_string(),
        condition: Some((&view.condition).into()),
        portions: holm_proto::portions::to_wire(&view.stock),
        portions_text: view.stock.to_string(),
        volumes: view.volumes.iter().map(v1::Volume::from).collect(),
        revocable: view_of(&view.revocable),
        lent: None,
    }
}

fn framework_state(phase: FrameworkPhase) -> v1::FrameworkState {
    match phase {
        FrameworkPhase::Connected => v1::FrameworkState::Connected,
        FrameworkPhase::Registering | FrameworkPhase::Disconnected => v1::FrameworkState::Disconnected,
        FrameworkPhase::Completing | FrameworkPhase::Completed => v1::FrameworkState::Completed,
    }
}

pub(crate) fn task_summary(launch: &LaunchEntry, position: usize) -> v1::TaskSummary {
    let task = &launch.tasks[position];
    v1::TaskSummary {
        framework_id: launch.framework.to_string(),
        framework_name: launch.framework_name.to_string(),
        task_id: launch.task_id(position).to_string(),
        role: launch.role.to_string(),
        agent_id: launch.agent.to_string(),
        status: Some((&TaskStatus { usage: task.usage, ..(*task.status).clone() }).into()),
        module: launch.module.to_string(),
        resources: view_of(&launch.shape),
        launched_unix_micros: launch.launched_at,
        started_unix_micros: task.started_at,
        ended_unix_micros: task.ended_at,
    }
}

/// A page of tasks goes on at a position of a launch.
fn read_task_token(token: &str) -> Result<(u64, usize), Status> {
    if token.is_empty() {
        return Ok((u64::MAX, 0));
    }
    let parts = token.split_once('.').and_then(|(serial, at)| Some((serial.parse().ok()?, at.parse().ok()?)));
    parts.ok_or_else(|| Status::invalid_argument(format!("page_token {token:?} is not one of this master")))
}

/// What a listing of tasks is limited to.
struct TaskFilter {
    framework: Option<FrameworkId>,
    role: Option<Role>,
    agent: Option<AgentId>,
    task: Option<TaskId>,
    states: Vec<TaskState>,
}

impl TaskFilter {
    fn read(request: &v1::ListTasksRequest) -> Result<TaskFilter, Status> {
        let states: Result<Vec<TaskState>, _> = request.states.iter().map(|number| status::state(*number)).collect();
        Ok(TaskFilter {
            framework: parse("framework_id", &request.framework_id)?,
            role: parse("role", &request.role)?,
            agent: parse("agent_id", &request.agent_id)?,
            task: parse("task_id", &request.task_id)?,
            states: states.map_err(Status::from)?,
        })
    }

    fn admits_launch(&self, launch: &LaunchEntry) -> bool {
        self.framework.is_none_or(|wanted| wanted == launch.framework)
            && self.role.as_ref().is_none_or(|wanted| *wanted == launch.role)
            && self.agent.is_none_or(|wanted| wanted == launch.agent)
            && self.task.as_ref().is_none_or(|wanted| wanted.batch == launch.id)
    }

    fn admits_task(&self, launch: &LaunchEntry, position: usize) -> bool {
        let index = self.task.as_ref().and_then(|task| task.index);
        let named = index.is_none() || launch.task_id(position).index == index;
        named && (self.states.is_empty() || self.states.contains(&launch.tasks[position].status.state))
    }
}
