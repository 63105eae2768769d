//! A made-up cluster on which a policy can be tried before it orders a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use holm_model::{
    AgentId, Epoch, FrameworkId, PolicyDescription, PolicyFailure, PolicyPatch, Portions, ResourceName, Resources,
    Role, RoleOptions, Time,
};

use crate::policy::{DescriptionError, Rank, Table};
use crate::{AgentStock, Allocator, FrameworkAbilities, Options};

/// Cores of each of its agents, in thousandths.
const CPUS: u64 = 16_000;

/// Memory of each of its agents.
const MEM: u64 = 64 << 30;

/// A made-up cluster.
#[derive(Clone, Debug)]
pub struct Trial {
    allocator: Allocator,
    agents: usize,
    leaves: usize,
    request: u64,
    now: Time,
}

/// What a policy ranks, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRank {
    /// `roles` or `leaves`.
    pub table: &'static str,
    /// A role, or a framework in a role.
    pub name: String,
    /// Its rank; none comes after all that have one.
    pub rank: Option<f64>,
}

impl Trial {
    /// A cluster of `leaves` frameworks spread over `roles`, with about one agent for each two of them, all of which are
    /// held by somebody.
    ///
    /// # Errors
    /// When the policy wants what there is not.
    pub fn new(description: &PolicyDescription, roles: &[Role], leaves: usize) -> Result<Trial, DescriptionError> {
        let mut allocator = Allocator::new(Options::default());
        allocator.set_policy(description)?;
        for (place, role) in roles.iter().enumerate() {
            let weight = 1000 * (1 + u32::try_from(place % 3).unwrap_or(0));
            allocator.set_weight(role, NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN));
        }
        for (number, role) in (1..).zip(roles.iter().cycle().take(leaves)) {
            let roles = BTreeMap::from([(role.clone(), RoleOptions::default())]);
            // Roles without constraints are never refused.
            let _ = allocator.add_framework(FrameworkId::new(Epoch(1), number), &roles, FrameworkAbilities::default());
        }
        let mut trial = Trial { allocator, agents: 0, leaves, request: 0, now: Time::ZERO };
        for _ in 0..(leaves / 2).max(1) {
            trial.grow();
        }
        trial.allocator.allocate(trial.now, trial.agents);
        Ok(trial)
    }

    /// One more agent, which somebody is granted.
    pub fn grow(&mut self) {
        self.agents += 1;
        let id = AgentId::new(Epoch(1), u64::try_from(self.agents).unwrap_or(u64::MAX));
        let total = Resources::scalars([(ResourceName::Cpus, CPUS), (ResourceName::Mem, MEM)]);
        let disk = if self.agents.is_multiple_of(4) { "hdd" } else { "ssd" };
        let attributes = [("disk".into(), disk.into())].into();
        // The id is new.
        let stock = AgentStock { portions: Portions::unreserved(total), attributes, hostname: "host".into() };
        let _ = self.allocator.add_agent(id, &stock);
        self.allocator.allocate(self.now, 1);
    }

    /// What the policy is to be told now; nothing when it need not be asked.
    pub fn ask(&mut self) -> Vec<PolicyPatch> {
        self.request += 1;
        self.allocator.tell_policy(self.request)
    }

    /// Takes its answer.
    ///
    /// # Errors
    /// When the answer makes no sense.
    pub fn answer(&mut self, answer: &[PolicyPatch]) -> Result<(), PolicyFailure> {
        self.allocator.take_ranks(self.request, answer)
    }

    /// How many agents, roles and frameworks there are.
    pub fn size(&self) -> (usize, usize, usize) {
        let roles: BTreeSet<Role> = self.allocator.shares().map(|share| share.role).collect();
        (self.agents, roles.len(), self.leaves)
    }

    /// Everything that the policy writes, by table and rank.
    pub fn ranks(&self) -> Vec<TrialRank> {
        let mut all = Vec::new();
        for table in Table::ALL {
            let ranks: Vec<(Rank, String)> = self.allocator.ranks(table);
            let shown = |(rank, name): (Rank, String)| TrialRank { table: table.as_str(), name, rank: rank.number() };
            all.extend(ranks.into_iter().map(shown));
        }
        all
    }
}
