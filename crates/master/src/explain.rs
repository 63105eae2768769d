//! Answers why somebody waits: gathers what the allocator's judgement needs, for as many agents as one event may look at.

use std::collections::{BTreeMap, BTreeSet};

use holm_allocator::{
    AgentFacts, Bound, Cause, Explained, RoleShare, Standing, Wish, explain, first_unmet, standings, used_by_role,
};
use holm_model::{
    Action, AgentId, Constraints, Demand, DemandId, FrameworkId, Principal, ResourceName, Resources, Role, RoleRecord,
};

use crate::agents::{Agent, AgentState};
use crate::authorize::{Object, authorize};
use crate::frameworks::Framework;
use crate::{AgentPhase, Answer, Master, OperatorError};

/// Most frameworks and demands of one explanation.
pub const MAX_EXPLAINED: usize = 16;

/// Most agents that one explanation looks at, all its frameworks and demands together: about 30 ms of the master's time.
pub const MAX_JUDGED: usize = 10_000;

/// What an operator wants explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A role: every framework in it or below it.
    Role(Role),
    /// A framework, in each of its roles and for each of its demands.
    Framework(FrameworkId),
    /// One demand.
    Demand {
        /// Whose.
        framework: FrameworkId,
        /// Its name; in whichever role.
        demand: DemandId,
    },
}

/// A question of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// About whom.
    pub subject: About,
    /// Only with regard to this agent.
    pub agent: Option<AgentId>,
    /// What if it needed this at one time on one agent; empty: what it has said.
    pub need: Resources,
}

/// What keeps one framework from offers in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which framework.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// For which demand; none where it has stated none.
    pub demand: Option<DemandId>,
    /// What it needs at least at one time on one agent; empty when it has not said.
    pub least: Resources,
    /// How many offers it holds in the role.
    pub offers: usize,
    /// How many agents were looked at.
    pub judged: usize,
    /// Why.
    pub explained: Explained,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// How the roles concerned stand, and those above them.
    pub roles: Vec<Standing>,
    /// Who waits, and why; at most [`MAX_EXPLAINED`].
    pub waiting: Vec<Waiting>,
    /// How many more there are.
    pub more: usize,
    /// How many agents there are.
    pub agents: usize,
}

/// One framework in one role, and one of its demands if it has any.
struct Leaf<'a> {
    framework: &'a Framework,
    role: Role,
    demand: Option<&'a Demand>,
}

/// What is the same for all who ask in one question.
struct Scene {
    shares: Vec<RoleShare>,
    used: BTreeMap<Role, Resources>,
    records: BTreeMap<Role, RoleRecord>,
}

impl Master {
    pub(crate) fn explain(&self, principal: &Principal, question: &Question) -> Result<Answer, OperatorError> {
        authorize(principal, Action::ReadState, Object::Cluster)?;
        if let Some(agent) = question.agent.filter(|agent| !self.agents.contains_key(agent)) {
            return Err(OperatorError::UnknownAgent(agent));
        }
        let shares: Vec<RoleShare> = self.allocator.shares().collect();
        let scene = Scene { used: used_by_role(&shares), records: self.roles.records().clone(), shares };
        let mut leaves = self.leaves(&question.subject, &scene)?;
        let more = leaves.len().saturating_sub(MAX_EXPLAINED);
        leaves.truncate(MAX_EXPLAINED);
        let each = MAX_JUDGED / leaves.len().max(1);
        let waiting = leaves.iter().map(|leaf| self.waiting(leaf, question, each, &scene)).collect();
        let roles = self.standings_of(&question.subject, &leaves, &scene);
        let explanation = Explanation { roles, waiting, more, agents: self.agents.len() };
        Ok(Answer::Explained(Box::new(explanation)))
    }

    fn leaves(&self, subject: &About, scene: &Scene) -> Result<Vec<Leaf<'_>>, OperatorError> {
        let known = |id: &FrameworkId| {
            let framework = self.frameworks.get(id).filter(|framework| framework.is_live());
            framework.ok_or(OperatorError::UnknownFramework(*id))
        };
        match subject {
            About::Role(role) => {
                let within = scene.shares.iter().filter(|share| role.covers(&share.role));
                let members = within.flat_map(|share| share.frameworks.iter().map(|own| (own.framework, &share.role)));
                let members: Vec<_> = members.filter_map(|(id, role)| Some((known(&id).ok()?, role))).collect();
                if members.is_empty() && !scene.records.keys().any(|record| role.covers(record)) {
                    return Err(OperatorError::UnknownRole(role.clone()));
                }
                Ok(members.into_iter().flat_map(|(framework, role)| leaves_in(framework, role)).collect())
            }
            About::Framework(id) => {
                let framework = known(id)?;
                Ok(framework.info.roles.iter().flat_map(|role| leaves_in(framework, role)).collect())
            }
            About::Demand { framework: id, demand } => {
                let framework = known(id)?;
                let leaves = framework.info.roles.iter().flat_map(|role| leaves_in(framework, role));
                let named = |leaf: &Leaf<'_>| leaf.demand.is_some_and(|own| own.id == *demand);
                let found: Vec<_> = leaves.filter(named).collect();
                match found.is_empty() {
                    true => Err(OperatorError::UnknownDemand { framework: *id, demand: demand.clone() }),
                    false => Ok(found),
                }
            }
        }
    }

    fn standings_of(&self, subject: &About, leaves: &[Leaf<'_>], scene: &Scene) -> Vec<Standing> {
        let mut concerned: BTreeSet<Role> = leaves.iter().flat_map(|leaf| leaf.role.lineage()).collect();
        if let About::Role(role) = subject {
            concerned.extend(role.lineage());
        }
        let all = standings(&scene.shares, &scene.records, &self.allocator.capacity());
        all.into_iter().filter(|standing| concerned.contains(&standing.role)).collect()
    }

    fn waiting(&self, leaf: &Leaf<'_>, question: &Question, most: usize, scene: &Scene) -> Waiting {
        let options = leaf.framework.role_options.get(&leaf.role);
        let least = match leaf.demand {
            _ if !question.need.is_empty() => question.need.clone(),
            Some(demand) if demand.gang => demand.shape.clone(),
            Some(demand) => demand.shape.times(demand.least()).unwrap_or_else(|| demand.shape.clone()),
            None => options.map(|options| options.minimum.clone()).unwrap_or_default(),
        };
        let everywhere = self.everywhere(leaf, &least, scene);
        let kept = kept_for_others(&leaf.role, scene);
        let wish = Wish { framework: leaf.framework.id, least, everywhere, kept };
        let constraints = [options.map(|options| &options.constraints), leaf.demand.map(|demand| &demand.constraints)];
        let constraints: Vec<&Constraints> = constraints.into_iter().flatten().collect();
        let asked = self.agents.values().filter(|agent| question.agent.is_none_or(|only| only == agent.id));
        let facts: Vec<AgentFacts> = asked.take(most).map(|agent| self.facts(agent, leaf, &constraints)).collect();
        let offers = leaf.framework.offers.iter().filter_map(|id| self.offers.out.get(id));
        Waiting {
            framework: leaf.framework.id,
            role: leaf.role.clone(),
            demand: leaf.demand.map(|demand| demand.id.clone()),
            offers: offers.filter(|offer| offer.role == leaf.role).count(),
            judged: facts.len(),
            explained: explain(&wish, &facts),
            least: wish.least,
        }
    }

    /// What keeps a framework from offers in a role wherever they would be.
    fn everywhere(&self, leaf: &Leaf<'_>, least: &Resources, scene: &Scene) -> Option<Cause> {
        let Leaf { framework, role, demand } = leaf;
        if framework.connected().is_none() {
            return Some(Cause::Disconnected);
        }
        // First what is more telling: without a demand it does not want offers either.
        let by_demand = framework.role_options.get(role).is_some_and(|options| options.by_demand);
        if by_demand && demand.is_none_or(|demand| demand.count == 0) {
            return Some(Cause::NoDemand);
        }
        let share = scene.shares.iter().find(|share| share.role == *role);
        let own = share.and_then(|share| share.frameworks.iter().find(|own| own.framework == framework.id));
        if own.is_some_and(|own| !own.wanting) {
            return Some(Cause::Suppressed);
        }
        let (held, limit) = (framework.offers.len(), self.options.max_framework_offers);
        if held >= limit {
            return Some(Cause::OffersFull { held, limit });
        }
        role.lineage().find_map(|role| at_limit(&role, least, scene)).map(Cause::Quota)
    }

    fn facts(&self, agent: &Agent, leaf: &Leaf<'_>, constraints: &[&Constraints]) -> AgentFacts {
        let attributes = agent.info.attributes.clone();
        let offers = self.offers.by_agent.get(&agent.id).into_iter().flatten();
        let offers = offers.filter_map(|id| self.offers.out.get(id));
        // Every agent has a host name of its own; it makes no class.
        let class = attributes.iter().filter(|(name, _)| &***name != "hostname");
        let class = class.map(|(name, value)| (name.clone(), value.clone())).collect();
        let unmet = first_unmet(constraints.iter().copied(), &attributes, &agent.info.hostname).cloned();
        let total = agent.info.resources.clone();
        let portions = self.allocator.free(agent.id).unwrap_or_default();
        let (free, usable) = (portions.total(), portions.usable_by(&leaf.role).total());
        // What is free and not usable is set aside for others.
        let open = free.minus(&usable).and_then(|others| total.minus(&others)).unwrap_or_else(|_| total.clone());
        AgentFacts {
            agent: agent.id,
            away: away(agent),
            unmet,
            open,
            total,
            usable,
            free,
            offers: offers.map(|offer| (offer.framework, offer.role.clone(), offer.portions.total())).collect(),
            filtered: self.allocator.refuses(leaf.framework.id, &leaf.role, agent.id),
            attributes: class,
        }
    }
}

/// A framework in a role: once for each of its demands, or once without one.
fn leaves_in<'a>(framework: &'a Framework, role: &Role) -> Vec<Leaf<'a>> {
    let demands = framework.demands.get(role).into_iter().flatten();
    let leaf = |demand| Leaf { framework, role: role.clone(), demand };
    let stated: Vec<_> = demands.map(|demand| leaf(Some(demand))).collect();
    if stated.is_empty() { vec![leaf(None)] } else { stated }
}

/// Why an agent takes no part.
fn away(agent: &Agent) -> Option<&'static str> {
    match &agent.state {
        AgentState::Active(_) if agent.condition.held_back.is_some() => Some("held back: over its reserve"),
        AgentState::Active(_) => None,
        state => Some(match state.phase() {
            AgentPhase::Registering | AgentPhase::Recovering => "still reporting what it runs",
            AgentPhase::Unreachable => "unreachable",
            _ => "disconnected",
        }),
    }
}

/// The limit of a role that leaves less than is asked. Who has not said what it needs needs CPU time and memory.
fn at_limit(role: &Role, least: &Resources, scene: &Scene) -> Option<Bound> {
    let quota = &scene.records.get(role)?.quota;
    quota.limit.iter().find_map(|(resource, bound)| {
        let used = scene.used.get(role).map_or_else(Default::default, |used| used.scalar(resource));
        let anything = least.is_empty() && matches!(resource, ResourceName::Cpus | ResourceName::Mem);
        let asked = least.scalar(resource).0.max(u64::from(anything));
        let short = asked > bound.0.saturating_sub(used.0) && asked > 0;
        short.then(|| Bound { role: role.clone(), resource: resource.clone(), bound: *bound, used })
    })
}

/// The guarantees of other roles that are not met; none for a role that is itself below one of those.
fn kept_for_others(role: &Role, scene: &Scene) -> Vec<Bound> {
    let mut kept = Vec::new();
    for record in scene.records.values() {
        for (resource, bound) in record.quota.guarantee.iter_scalars() {
            let used = scene.used.get(&record.role).map_or_else(Default::default, |used| used.scalar(resource));
            if used < bound {
                kept.push(Bound { role: record.role.clone(), resource: resource.clone(), bound, used });
            }
        }
    }
    if kept.iter().any(|bound| bound.role.covers(role)) { Vec::new() } else { kept }
}
