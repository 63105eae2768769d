//! The read model, as an operator sees it: folded from the leader's deltas, and held against what they may say.

use std::collections::BTreeMap;

use holm_master::{AgentPhase, AgentView, Delta, FrameworkPhase, FrameworkView, LaunchView};
use holm_model::{AgentId, BatchId, FrameworkId, Launch, Offer, OfferId, PolicyPhase, Resources, TaskStatus};

/// A launch as the master knows it.
#[derive(Clone, Debug)]
pub(crate) struct LaunchState {
    pub(crate) view: LaunchView,
    pub(crate) statuses: Vec<TaskStatus>,
}

impl LaunchState {
    fn live(&self) -> usize {
        self.statuses.iter().filter(|status| !status.state.is_terminal()).count()
    }

    fn held(&self) -> Resources {
        let slots = u32::try_from(self.live()).unwrap_or(u32::MAX).min(self.view.report.slots);
        if slots == 0 { Resources::EMPTY } else { self.view.report.shape.times(slots).unwrap_or_default() }
    }
}

/// Who has what.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) agents: BTreeMap<AgentId, AgentView>,
    pub(crate) frameworks: BTreeMap<FrameworkId, FrameworkView>,
    pub(crate) launches: BTreeMap<(FrameworkId, BatchId, AgentId), LaunchState>,
    pub(crate) offers: BTreeMap<OfferId, Offer>,
    pub(crate) roles: Vec<holm_allocator::RoleShare>,
    policy: Option<PolicyPhase>,
    broken: Vec<String>,
}

impl View {
    /// Folds one delta in; what a reader wants to know of it comes back as who and what.
    pub(crate) fn apply(&mut self, delta: Delta) -> Option<(String, String)> {
        match delta {
            Delta::AgentChanged(view) => {
                let (id, phase, name) = (view.id, view.phase, view.info.hostname.to_string());
                let old = self.agents.insert(id, view).map(|old| old.phase);
                (old != Some(phase)).then(|| (name, format!("is {phase}")))
            }
            Delta::AgentRemoved(id) => self.agents.remove(&id).map(|_| (id.to_string(), "is removed".to_owned())),
            Delta::FrameworkChanged(view) => {
                let (id, phase, name) = (view.id, view.phase, view.info.name.to_string());
                let old = self.frameworks.insert(id, view).map(|old| old.phase);
                (old != Some(phase)).then(|| (name, format!("is {phase}")))
            }
            Delta::FrameworkRemoved(id) => {
                self.frameworks.remove(&id).map(|_| (id.to_string(), "is removed".to_owned()))
            }
            Delta::OfferAdded(offer) => {
                self.offers.insert(offer.id, offer);
                None
            }
            Delta::OfferRemoved(id) => {
                self.offers.remove(&id);
                None
            }
            Delta::RolesChanged { shares, .. } => {
                self.roles = shares;
                None
            }
            Delta::PolicyChanged(view) => {
                let old = self.policy.replace(view.phase.clone());
                let said = match &view.phase {
                    PolicyPhase::Fallback { failure, retry_after } => {
                        format!("is tried again in {retry_after:?}: {failure}")
                    }
                    phase => format!("is {phase}"),
                };
                (old.as_ref() != Some(&view.phase)).then(|| ("policy".to_owned(), said))
            }
            delta => {
                self.apply_to_launch(delta);
                None
            }
        }
    }

    fn apply_to_launch(&mut self, delta: Delta) {
        match delta {
            Delta::LaunchAdded(view) => {
                let statuses =
                    view.report.runs.iter().flat_map(|run| (0..run.count).map(|_| run.status.clone())).collect();
                let key = (view.report.framework, view.report.id.clone(), view.agent);
                self.launches.insert(key, LaunchState { view, statuses });
            }
            Delta::TasksChanged { framework, batch, agent, first, count, status, usages } => {
                let Some(launch) = self.launches.get_mut(&(framework, batch.clone(), agent)) else {
                    return self.broken.push(format!("a change is of a known launch: {framework} {batch} on {agent}"));
                };
                for (offset, position) in (first..first.saturating_add(count)).enumerate() {
                    let Some(old) = launch.statuses.get_mut(position as usize) else {
                        return self.broken.push(format!("a change stays in its launch: {batch} position {position}"));
                    };
                    if let Err(error) = old.state.transition(status.state) {
                        self.broken
                            .push(format!("only legal steps are published: {batch} position {position}: {error}"));
                    }
                    *old = TaskStatus { usage: usages.of(offset, &status), ..(*status).clone() };
                }
            }
            Delta::LaunchRemoved { framework, batch, agent } => {
                let Some(launch) = self.launches.remove(&(framework, batch.clone(), agent)) else {
                    return self
                        .broken
                        .push(format!("only known launches are removed: {framework} {batch} on {agent}"));
                };
                let completed = self
                    .frameworks
                    .get(&framework)
                    .is_none_or(|view| matches!(view.phase, FrameworkPhase::Completing | FrameworkPhase::Completed));
                if launch.live() > 0 && !completed {
                    self.broken.push(format!("a launch is removed when it is over: {batch} has live tasks"));
                }
            }
            _ => {}
        }
    }

    /// What is offered and held on every agent, against what it has.
    pub(crate) fn check(&mut self) -> Vec<String> {
        let mut used: BTreeMap<AgentId, Vec<Resources>> = BTreeMap::new();
        for launch in self.launches.values() {
            used.entry(launch.view.agent).or_default().push(launch.held());
        }
        for offer in self.offers.values() {
            used.entry(offer.agent).or_default().push(offer.resources.clone());
        }
        for (agent, parts) in used {
            let Some(view) = self.agents.get(&agent).filter(|view| view.phase == AgentPhase::Active) else { continue };
            let sum = parts.iter().try_fold(Resources::EMPTY, |sum, part| sum.plus(part));
            match sum {
                Ok(sum) if view.info.resources.contains(&sum) => {}
                sum => {
                    let total = &view.info.resources;
                    self.broken.push(format!("offered and used never exceed the agent: {agent} {total}: {sum:?}"));
                }
            }
        }
        std::mem::take(&mut self.broken)
    }

    /// The launch of this name, wherever it is.
    pub(crate) fn agent_of(&self, framework: FrameworkId, batch: &BatchId) -> Option<AgentId> {
        let mut launches = self.launches.range((framework, batch.clone(), AgentId::new(holm_model::Epoch(0), 0))..);
        launches
            .next()
            .filter(|((owner, id, _), _)| *owner == framework && id == batch)
            .map(|((_, _, agent), _)| *agent)
    }

    /// A table for people.
    pub(crate) fn show(&self, what: &str) -> Result<Vec<String>, String> {
        Ok(match what {
            "agents" => self.agents.values().map(show_agent).collect(),
            "frameworks" => self.frameworks.values().map(show_framework).collect(),
            "offers" => self.offers.values().map(show_offer).collect(),
            "tasks" => self.launches.values().map(show_launch).collect(),
            "shares" => self.roles.iter().map(show_role).collect(),
            _ => return Err(format!("show knows agents, frameworks, offers, tasks, shares, registry, not {what:?}")),
        })
    }
}

fn show_resources(resources: &Resources) -> String {
    if resources.is_empty() { "nothing".to_owned() } else { resources.to_string() }
}

fn show_agent(view: &AgentView) -> String {
    let free = view.free.as_ref().map_or_else(|| "unknown".to_owned(), show_resources);
    format!("{} {} {} free {free} launches {}", view.id, view.info.hostname, view.phase, view.launches)
}

fn show_framework(view: &FrameworkView) -> String {
    let FrameworkView { id, phase, info, launches, live_tasks, offers, .. } = view;
    format!("{id} {} {phase} launches {launches} live tasks {live_tasks} offers {offers}", info.name)
}

fn show_offer(offer: &Offer) -> String {
    format!("{} to {} in {} of {} {}", offer.id, offer.framework, offer.role, offer.hostname, offer.resources)
}

fn show_launch(launch: &LaunchState) -> String {
    let report = &launch.view.report;
    let mut runs: Vec<(u32, String)> = Vec::new();
    for status in &launch.statuses {
        let reason = status.reason.map_or_else(String::new, |reason| format!(" {reason}"));
        let text = format!("{}{reason}", status.state);
        match runs.last_mut() {
            Some((count, last)) if *last == text => *count += 1,
            _ => runs.push((1, text)),
        }
    }
    let runs: Vec<String> = runs.into_iter().map(|(count, text)| format!("{count} {text}")).collect();
    let held = show_resources(&launch.held());
    format!("{} of {} on {}: {}; holds {held}", report.id, report.framework, launch.view.agent, runs.join(", "))
}

fn show_role(role: &holm_allocator::RoleShare) -> String {
    let dominant = role.dominant.as_ref();
    let share =
        dominant.map_or_else(|| "nothing".to_owned(), |share| format!("{} ppm of {}", share.ppm(), share.resource));
    format!("{} weight {} has {share}: {}", role.role, role.weight, role.allocated)
}

/// A launch as a scheduler's call shows it.
pub(crate) fn show_asked(launch: &Launch) -> String {
    let count = launch.tasks.count();
    let batch = if count == 1 { String::new() } else { format!(" x{count} on {} slots", launch.slots) };
    format!("{}{batch} {}", launch.id, launch.spec.resources)
}
