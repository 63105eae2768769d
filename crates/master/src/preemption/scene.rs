//! The cluster as the rules of preemption see it.

use std::collections::BTreeMap;

use holm_allocator::preemption::{Amounts, Demand, Node, Unit, View, admitted};
use holm_model::{AgentId, Amount, FrameworkId, ResourceName, Resources, Role, TaskState, Time};

use super::ScaleDown;
use crate::Master;
use crate::launches::{Place, Record};

/// Most agents that are looked at at a time; the next look goes on with others.
const MAX_AGENTS: usize = 1000;
/// What a framework that does not say what it wants is thought to want: one core and a little memory.
const NOMINAL: [(ResourceName, u64); 2] = [(ResourceName::Cpus, 1000), (ResourceName::Mem, 64 << 20)];

/// Somebody who waits, and for what.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    framework: FrameworkId,
    role: Role,
    shape: Resources,
    count: u32,
    priority: i32,
    constraints: Option<holm_model::Constraints>,
}

/// A view, and what its indices stand for.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) view: View,
    /// The roles of the nodes; the root and frameworks in roles have none.
    pub(super) roles: Vec<Option<Role>>,
    pub(super) agents: Vec<AgentId>,
    pub(super) owners: Vec<FrameworkId>,
    /// Who each demand is for.
    pub(super) takers: Vec<(FrameworkId, Role)>,
    pub(super) launches: Vec<(Place, Role)>,
    /// The launch of each unit.
    pub(super) launch_of: Vec<usize>,
    dimensions: Vec<ResourceName>,
    by_role: BTreeMap<Role, usize>,
    leaves: BTreeMap<(FrameworkId, Role), usize>,
    by_owner: BTreeMap<FrameworkId, usize>,
}

impl Master {
    /// Whether a framework still waits for something in a role.
    pub(super) fn still_waits(&self, framework: FrameworkId, role: &Role) -> bool {
        let Some(framework) = self.frameworks.get(&framework) else { return false };
        let states = framework.demands.get(role).is_some_and(|demands| !demands.is_empty());
        framework.connected().is_some() && (states || framework.hungry)
    }

    /// Everybody who waits and for whom nothing has been asked back yet, the highest priority first.
    pub(super) fn those_waiting(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        let served = |framework: FrameworkId, role: &Role| {
            let mut cases = self.inverse.out.values().filter_map(|asked| asked.case.as_ref());
            cases.any(|case| case.for_framework == framework && case.for_role == *role)
        };
        for framework in self.frameworks.values().filter(|framework| framework.connected().is_some()) {
            for role in &framework.info.roles {
                if !self.still_waits(framework.id, role) || served(framework.id, role) {
                    continue;
                }
                match framework.demands.get(role).filter(|demands| !demands.is_empty()) {
                    Some(demands) => waiting.extend(demands.iter().map(|demand| Waiting {
                        framework: framework.id,
                        role: role.clone(),
                        shape: demand.shape.clone(),
                        count: demand.count,
                        priority: demand.priority,
                        constraints: Some(demand.constraints.clone()),
                    })),
                    None => waiting.push(self.nominal(framework.id, role)),
                }
            }
        }
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.priority));
        waiting
    }

    /// What a framework is thought to want that does not say: as much as the role's smallest offer, or a little.
    fn nominal(&self, framework: FrameworkId, role: &Role) -> Waiting {
        let options = self.frameworks.get(&framework).and_then(|framework| framework.role_options.get(role));
        let minimum = options.map(|options| options.minimum.clone()).filter(|minimum| !minimum.is_empty());
        let shape = minimum.unwrap_or_else(|| Resources::scalars(NOMINAL));
        Waiting { framework, role: role.clone(), shape, count: 1, priority: 0, constraints: None }
    }
}

impl Scene {
    /// The scene of a master in which these wait.
    pub(super) fn of(master: &mut Master, waiting: Vec<Waiting>) -> Scene {
        let mut scene = Scene::default();
        scene.add_agents(master);
        scene.add_launches(master);
        for waiting in waiting {
            scene.add_demand(master, waiting);
        }
        scene
    }

    /// The agents that take part, as many as are looked at in one go; the whole of the cluster counts all.
    fn add_agents(&mut self, master: &mut Master) {
        let mut present: Vec<AgentId> = Vec::new();
        let mut total: BTreeMap<ResourceName, u64> = BTreeMap::new();
        for agent in master.agents.values().filter(|agent| agent.allocated) {
            for (name, amount) in agent.info.resources.iter_scalars() {
                let sum = total.entry(name.clone()).or_default();
                *sum = sum.saturating_add(amount.0);
            }
            if agent.active().is_some() && agent.condition.held_back.is_none() {
                present.push(agent.id);
            }
        }
        (self.dimensions, self.view.total) = total.into_iter().unzip();
        let (nothing, limit) = (vec![0; self.dimensions.len()], vec![u64::MAX; self.dimensions.len()]);
        self.view.nodes.push(Node { parent: None, weight: 1000, guarantee: nothing.clone(), limit, held: nothing });
        self.roles.push(None);
        if present.len() > MAX_AGENTS {
            let start = master.preemption.cursor % present.len();
            master.preemption.cursor = start + MAX_AGENTS;
            present.rotate_left(start);
            present.truncate(MAX_AGENTS);
        }
        for id in present {
            let free = master.allocator.free(id).map(|free| free.total()).unwrap_or_default();
            let mut free = self.amounts(&free);
            // What is on offer is as good as free: offers end by themselves.
            let offers = master.offers.by_agent.get(&id).into_iter().flatten();
            for offer in offers.filter_map(|offer| master.offers.out.get(offer)).filter(|offer| !offer.revocable) {
                add(&mut free, &self.amounts(&offer.portions.total()));
            }
            self.agents.push(id);
            self.view.agents.push(free);
        }
    }

    fn amounts(&self, resources: &Resources) -> Amounts {
        self.dimensions.iter().map(|name| resources.scalar(name).0).collect()
    }

    fn role(&mut self, master: &Master, role: &Role) -> usize {
        if let Some(known) = self.by_role.get(role) {
            return *known;
        }
        let parent = role.parent().map_or(0, |parent| self.role(master, &parent));
        let record = master.roles.record(role);
        let guarantee = self.amounts(&record.quota.guarantee);
        let limit = |name| record.quota.limit_of(name).map_or(u64::MAX, |limit| limit.0);
        let limit = self.dimensions.iter().map(limit).collect();
        self.roles.push(Some(role.clone()));
        let node = self.node(parent, record.weight.get(), guarantee, limit);
        self.by_role.insert(role.clone(), node);
        node
    }

    fn node(&mut self, parent: usize, weight: u32, guarantee: Amounts, limit: Amounts) -> usize {
        let held = vec![0; self.dimensions.len()];
        self.view.nodes.push(Node { parent: Some(parent), weight, guarantee, limit, held });
        self.view.nodes.len() - 1
    }

    fn leaf(&mut self, master: &Master, framework: FrameworkId, role: &Role) -> usize {
        if let Some(known) = self.leaves.get(&(framework, role.clone())) {
            return *known;
        }
        let parent = self.role(master, role);
        self.roles.push(None);
        let nothing = vec![0; self.dimensions.len()];
        let leaf = self.node(parent, 1000, nothing, vec![u64::MAX; self.dimensions.len()]);
        self.leaves.insert((framework, role.clone()), leaf);
        leaf
    }

    fn owner(&mut self, framework: FrameworkId) -> usize {
        let next = self.owners.len();
        let owner = *self.by_owner.entry(framework).or_insert(next);
        if owner == next {
            self.owners.push(framework);
        }
        owner
    }

    /// What everybody holds, and what of it could be taken on the agents that are looked at.
    fn add_launches(&mut self, master: &Master) {
        let asked = |place: &Place| {
            let mut cases = master.inverse.out.values().filter_map(|asked| asked.case.as_ref());
            cases.any(|case| case.plan.iter().any(|planned| planned.place == *place))
        };
        let index: BTreeMap<AgentId, usize> = self.agents.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        // What was lent is nobody's share, and agents take it back by themselves.
        for (place, record) in master.launches.iter().filter(|(_, record)| record.charged > 0 && !record.revocable) {
            let leaf = self.leaf(master, place.framework, &record.role);
            let held = self.amounts(&record.held_by(record.charged).total());
            let mut node = Some(leaf);
            while let Some(at) = node {
                add(&mut self.view.nodes[at].held, &held);
                node = self.view.nodes[at].parent;
            }
            if let Some(agent) = index.get(&place.agent)
                && !asked(&place)
            {
                self.add_units(master, (leaf, *agent), &place, record);
            }
        }
    }

    /// The slots of a launch, the first to be given up first.
    fn add_units(&mut self, master: &Master, (node, agent): (usize, usize), place: &Place, record: &Record) {
        let amounts = self.amounts(&record.held_by(1).total());
        let owner = self.owner(place.framework);
        let waiting = record.live.saturating_sub(record.charged);
        let staging = record.ranges_where(|status| status.state == TaskState::Staging);
        let fresh: u32 = staging.iter().map(|range| range.end - range.start).sum();
        let away = master.frameworks.get(&place.framework).is_none_or(|framework| framework.connected().is_none());
        let kept = away && master.options.preemption.scale_down != ScaleDown::All;
        let launch = self.launches.len();
        self.launches.push((place.clone(), record.role.clone()));
        for slot in 0..record.charged {
            // The slots that wait for their first task go before those with a running one.
            let started = slot >= fresh.saturating_sub(waiting) || kept;
            let after = (slot > 0).then(|| self.view.units.len() - 1);
            self.launch_of.push(launch);
            self.view.units.push(Unit {
                node,
                owner,
                agent,
                amounts: amounts.clone(),
                after,
                started,
                tail: waiting > 0 && !kept,
                age: master.now.since(record.started_last.unwrap_or(Time::ZERO)),
                priority: 0,
                revocable: false,
            });
        }
    }

    fn add_demand(&mut self, master: &Master, waiting: Waiting) {
        let Waiting { framework, role, shape, count, priority, constraints } = waiting;
        let known = |(name, amount): (&ResourceName, Amount)| amount.0 == 0 || self.dimensions.contains(name);
        if !shape.iter_scalars().all(known) {
            return;
        }
        let agents = constraints.filter(|constraints| !constraints.is_empty()).map(|constraints| {
            let facts = self.agents.iter().filter_map(|id| master.agents.get(id));
            admitted(&constraints, facts.map(|agent| (&agent.info.attributes, &*agent.info.hostname)))
        });
        let node = self.leaf(master, framework, &role);
        let gave = master.preemption.gave.contains_key(&(framework, role.clone()));
        let shape = self.amounts(&shape);
        self.view.demands.push(Demand { node, shape, count, priority, gave, agents });
        self.takers.push((framework, role));
    }
}

fn add(sums: &mut Amounts, more: &[u64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}
