//! When the allocator runs, and what becomes of its grants.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_allocator::{Allocator, FrameworkAbilities, Grant};
use holm_model::{AgentId, FrameworkId, FrameworkInfo, GangId, Offer, Refusal, Resources, Time};

use crate::Master;
use crate::demands::KnownEnds;
use crate::offers::{NewOffer, Outstanding};
use crate::options::MAX_GRANTS;
use crate::timers::Timer;

/// How long a framework with too many offers is not granted what it could not be offered.
const WITHHELD: Duration = Duration::from_secs(1);

impl Master {
    /// Tells the allocator of a framework's roles, what it takes in each, and what it can use.
    pub(crate) fn subscribe_to_roles(&mut self, id: FrameworkId) {
        let Some(framework) = self.frameworks.get(&id) else { return };
        let info = &framework.info;
        let roles = info
            .roles
            .iter()
            .map(|role| (role.clone(), framework.role_options.get(role).cloned().unwrap_or_default()))
            .collect();
        let able = |what: &str| info.capabilities.iter().any(|capability| &**capability == what);
        let abilities =
            FrameworkAbilities { revocable: able(FrameworkInfo::REVOCABLE), gpus: able(FrameworkInfo::GPUS) };
        // Patterns were checked when the framework's information arrived.
        let added = self.allocator.add_framework(id, &roles, abilities);
        self.check(added);
        if abilities.revocable {
            let added = self.lending.add_framework(id, &roles, abilities);
            self.check(added);
        } else {
            // It may have borrowed before; who never did is not known there.
            let _ = self.lending.remove_framework(id);
        }
    }

    /// The earliest time of the next run. The first event after a pause causes one at once, those that follow closely
    /// join the next.
    pub(crate) fn next_run(&self) -> Time {
        self.last_run.map_or(Time::ZERO, |last| last + self.options.allocation_delay)
    }

    /// Keeps agents for demands that wait for too long, or gives them up.
    fn keep_if_due(&mut self) {
        if self.allocator.keeps_at().is_none_or(|due| due > self.now) {
            return;
        }
        let free = |agent: &AgentId| Some((*agent, self.allocator.free(*agent)?.total()));
        let free: BTreeMap<AgentId, Resources> = self.agents.keys().filter_map(free).collect();
        let (launches, offers, offer_timeout) = (&self.launches, &self.offers, self.options.offer_timeout);
        self.allocator.keep(self.now, &KnownEnds { launches, offers, offer_timeout, free: &free });
    }

    /// Runs the allocator if something may be granted, or sees to it that it runs soon.
    pub(crate) fn allocate_if_due(&mut self) {
        self.keep_if_due();
        let now = self.now;
        let expired = |market: &Allocator| market.next_wake().is_some_and(|due| due <= now);
        let has_work = |market: &Allocator| market.has_candidates();
        let markets = [&self.allocator, &self.lending];
        if !markets.into_iter().any(|market| expired(market) || has_work(market)) {
            return;
        }
        if self.now < self.next_run() {
            return self.timers.set(Timer::Allocate, self.next_run());
        }
        self.last_run = Some(self.now);
        for revocable in [false, true] {
            let grants = self.market(revocable).allocate(now, MAX_GRANTS);
            self.offer_grants(grants, revocable);
        }
        if [&self.allocator, &self.lending].into_iter().any(has_work) {
            self.timers.set(Timer::Allocate, self.next_run());
        }
    }

    fn offer_grants(&mut self, grants: Vec<Grant>, revocable: bool) {
        let mut made: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        let mut gangs: BTreeMap<u64, GangId> = BTreeMap::new();
        let sizes = gang_sizes(&grants);
        for Grant { framework, role, agent, portions, served, gang } in grants {
            let held = self.frameworks.get(&framework).map_or(0, |framework| framework.offers.len());
            // A gang finds room for all of its offers or for none: what was made of it counts already.
            let named = gang.and_then(|number| gangs.get(&number).copied());
            let more = gang.map_or(1, |number| sizes.get(&number).copied().unwrap_or(1));
            if named.is_none() && held + more > self.options.max_framework_offers {
                let made = self.now;
                let withheld = Outstanding { framework, role, agent, portions, revocable, made, served, gang: None };
                self.decline_offer(&withheld, Refusal::new(WITHHELD));
                continue;
            }
            let gang = gang.map(|number| *gangs.entry(number).or_insert_with(|| self.open_gang(framework)));
            let new = NewOffer { framework, role, agent, portions, revocable, served, gang };
            made.entry(framework).or_default().extend(self.make_offer(new));
        }
        for (framework, offers) in made {
            self.send_offers(framework, offers);
        }
    }
}

/// How many offers each gang comes to.
fn gang_sizes(grants: &[Grant]) -> BTreeMap<u64, usize> {
    let mut sizes = BTreeMap::new();
    for gang in grants.iter().filter_map(|grant| grant.gang) {
        *sizes.entry(gang).or_default() += 1;
    }
    sizes
}
