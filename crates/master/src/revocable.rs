//! Revocable resources: what an agent's tasks hold and do not use, lent on condition that it can be taken back.
//!
//! They are a market of their own, with an allocator of its own: of agents it has what they lend, of frameworks those that
//! opted in. So what somebody borrows takes nothing off the share of his role, and quotas neither guarantee nor limit it; who
//! borrows least is offered next. An offer is of one market and so is a launch.

use std::num::NonZeroU32;

use holm_allocator::{AgentStock, Allocator};
use holm_model::{AgentId, FrameworkId, OfferId, Origin, Portions, ResourceName, Resources, Role};

use crate::Master;

impl Master {
    /// The allocator of revocable resources, or that of all others.
    pub(crate) fn market(&mut self, revocable: bool) -> &mut Allocator {
        if revocable { &mut self.lending } else { &mut self.allocator }
    }

    /// What an agent has to lend, from now on. Anything but `cpus` and `mem` of it is ignored: nothing else can be taken back
    /// without harm. What is held stays held, whatever the agent says: who has to go is its business, and its updates tell.
    pub(crate) fn revocable_estimate(&mut self, id: AgentId, estimate: &Resources) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let estimate = lendable(estimate);
        let shrinks = !estimate.contains(&agent.revocable);
        agent.revocable = estimate.clone();
        if agent.allocated {
            let (attributes, hostname) = (agent.info.attributes.clone(), agent.info.hostname.clone());
            if shrinks {
                let lent = |offer: &OfferId| self.offers.out.get(offer).is_some_and(|offer| offer.revocable);
                let out = self.offers.by_agent.get(&id).into_iter().flatten().copied().filter(lent);
                let out: Vec<OfferId> = out.collect();
                self.rescind(&out);
            }
            let stock = AgentStock { portions: Portions::unreserved(estimate), attributes, hostname };
            let updated = self.lending.update_agent(id, &stock);
            self.check(updated);
        }
        self.touched(id);
    }

    /// An agent takes part in allocation: with nothing to lend until it says what.
    pub(crate) fn lender_added(&mut self, id: AgentId, known: bool, stock: &AgentStock) {
        let stock = AgentStock { portions: Portions::EMPTY, ..stock.clone() };
        let added = if known { self.lending.update_agent(id, &stock) } else { self.lending.add_agent(id, &stock) };
        self.check(added);
    }

    /// Whether anything of an agent is offered.
    pub(crate) fn set_agent_offered(&mut self, id: AgentId, offered: bool) {
        for revocable in [false, true] {
            let set = self.market(revocable).set_agent_active(id, offered);
            self.check(set);
        }
    }

    /// An agent takes part in allocation no more.
    pub(crate) fn agent_deallocated(&mut self, id: AgentId) {
        for revocable in [false, true] {
            let removed = self.market(revocable).remove_agent(id);
            self.check(removed);
        }
    }

    /// A framework is over.
    pub(crate) fn framework_leaves(&mut self, id: FrameworkId) {
        let removed = self.allocator.remove_framework(id);
        self.check(removed);
        let _ = self.lending.remove_framework(id);
    }

    /// Whether a framework is there to be offered anything.
    pub(crate) fn set_framework_offered(&mut self, id: FrameworkId, offered: bool) {
        let set = self.allocator.set_framework_active(id, offered);
        self.check(set);
        if self.borrows(id) {
            let set = self.lending.set_framework_active(id, offered);
            self.check(set);
        }
    }

    /// A framework wants no more offers in these roles, or wants them again.
    pub(crate) fn set_suppressed(&mut self, id: FrameworkId, roles: &[Role], suppressed: bool) {
        let markets: &[bool] = if self.borrows(id) { &[false, true] } else { &[false] };
        for revocable in markets {
            let market = self.market(*revocable);
            let set = if suppressed { market.suppress(id, roles) } else { market.revive(id, roles) };
            self.check(set);
        }
    }

    /// The weight of a role holds for what is lent too.
    pub(crate) fn weigh_role(&mut self, role: &Role, weight: NonZeroU32) {
        self.allocator.set_weight(role, weight);
        self.lending.set_weight(role, weight);
    }

    fn borrows(&self, id: FrameworkId) -> bool {
        self.frameworks.get(&id).is_some_and(|framework| framework.info.is_revocable())
    }
}

/// The portions of what one market offers.
pub(crate) fn portions_of(resources: Resources, revocable: bool) -> Portions {
    if revocable { Portions::of(Origin::Revocable, resources) } else { Portions::unreserved(resources) }
}

fn lendable(estimate: &Resources) -> Resources {
    let names = [ResourceName::Cpus, ResourceName::Mem];
    Resources::scalars(names.map(|name| (name.clone(), estimate.scalar(&name).0)))
}
