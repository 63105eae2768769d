//! What waits, since when, and where it would fit: for people.

use holm_model::{AgentId, Demand, FrameworkId, Portions, ResourceName, Role, Time};

use super::Entry;
use super::ground::Leaf;
use crate::Allocator;

/// A demand of which something is still wanted or offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// The demand; its count is what has not been launched.
    pub demand: Demand,
    /// How many bundles of it are out in offers.
    pub offered: u32,
    /// Since when it waits: it was stated, or it was last granted something.
    pub since: Time,
    /// What is kept for it.
    pub kept: Option<KeptFor>,
    /// Where it fits, and what is in its way.
    pub fit: Fit,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFor {
    /// The agents, with what is held there so far.
    pub agents: Vec<(AgentId, Portions)>,
    /// By when all of it is expected to be free, if that is known.
    pub expected: Option<Time>,
    /// When it is given up.
    pub until: Time,
}

/// On how many agents a demand fits; every active agent is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// The least number of bundles that is of use there fits on what is free.
    pub now: u32,
    /// It would fit if the agent were empty.
    pub busy: u32,
    /// It is too large for the agent.
    pub small: u32,
    /// A constraint excludes the agent.
    pub excluded: u32,
    /// How many bundles fit on what is free, together.
    pub bundles_now: u64,
    /// How many would fit if all agents were empty.
    pub bundles_ever: u64,
    /// The resource of which most of the agents that it would fit on have too little now.
    pub short: Option<ResourceName>,
}

impl Allocator {
    /// What is wanted and not launched by those that `wanted` names: the `most` demands that have waited longest, and how
    /// many more there are. Costs a look at every agent for each demand that is shown.
    pub fn waiting(&self, wanted: impl Fn(FrameworkId, &Role) -> bool, most: usize) -> (Vec<Waiting>, usize) {
        let mut all: Vec<(Time, u64, Leaf, FrameworkId, Role, &Entry)> = Vec::new();
        for (leaf, book) in self.demands.iter() {
            let Some((framework, role)) = self.owner_of(leaf).filter(|(of, role)| wanted(*of, role)) else { continue };
            let live = book.entries().iter().filter(|entry| entry.demand.count > 0);
            all.extend(live.map(|entry| (entry.since, entry.number, leaf, framework, role.clone(), entry)));
        }
        all.sort_by_key(|(since, number, ..)| (*since, *number));
        let left_out = all.len().saturating_sub(most);
        all.truncate(most);
        let waiting = all.into_iter().map(|(since, number, leaf, framework, role, entry)| Waiting {
            framework,
            role,
            demand: entry.demand.clone(),
            offered: entry.offered,
            since,
            kept: self.kept_for(leaf, number),
            fit: self.fit_of(leaf, entry),
        });
        (waiting.collect(), left_out)
    }

    fn kept_for(&self, leaf: Leaf, number: u64) -> Option<KeptFor> {
        let reservation = self.reservations.of(leaf).filter(|one| one.entry == number)?;
        let known = reservation.agents.values().all(|kept| kept.expected.is_some());
        let expected = reservation.agents.values().filter_map(|kept| kept.expected).max();
        let agents = reservation.agents.iter();
        Some(KeptFor {
            agents: agents.filter_map(|(slot, kept)| Some((self.agent_of(*slot)?, kept.held.clone()))).collect(),
            expected: expected.filter(|_| known),
            until: reservation.until,
        })
    }

    fn fit_of(&self, leaf: Leaf, entry: &Entry) -> Fit {
        let least = if entry.demand.gang { 1 } else { entry.least() };
        let most = entry.demand.count;
        let mut fit = Fit::default();
        let mut shorts: std::collections::BTreeMap<ResourceName, u32> = std::collections::BTreeMap::new();
        for slot in self.active_slots() {
            if !self.admits(leaf, slot) || !self.suits(entry, slot) {
                fit.excluded += 1;
                continue;
            }
            let ever = entry.bundle.fits(&self.usable(leaf, slot).total(), most);
            let free = self.available(leaf, slot).map(|free| free.total()).unwrap_or_default();
            let now = entry.bundle.fits(&free, most);
            fit.bundles_now += u64::from(now);
            fit.bundles_ever += u64::from(ever);
            match (now >= least, ever >= least) {
                (true, _) => fit.now += 1,
                (false, false) => fit.small += 1,
                (false, true) => {
                    fit.busy += 1;
                    if let Some(name) = entry.bundle.short_of(&free) {
                        *shorts.entry(name).or_default() += 1;
                    }
                }
            }
        }
        fit.short = shorts.into_iter().max_by_key(|(_, agents)| *agents).map(|(name, _)| name);
        fit
    }
}
