//! When the allocator runs, and what becomes of its grants.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_allocator::{Allocator, FrameworkAbilities, Grant};
use holm_model::{FrameworkId, FrameworkInfo, Offer, Refusal, Time};

use crate::Master;
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

    /// Runs the allocator if something may be granted, or sees to it that it runs soon.
    pub(crate) fn allocate_if_due(&mut self) {
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
        for Grant { framework, role, agent, portions, .. } in grants {
            let resources = portions.total();
            let held = self.frameworks.get(&framework).map_or(0, |framework| framework.offers.len());
            if held >= self.options.max_framework_offers {
                let withheld = Outstanding { framework, role, agent, resources, revocable, made: self.now };
                self.decline_offer(&withheld, Refusal::new(WITHHELD));
                continue;
            }
            let new = NewOffer { framework, role, agent, resources, revocable };
            made.entry(framework).or_default().extend(self.make_offer(new));
        }
        for (framework, offers) in made {
            self.send_offers(framework, offers);
        }
    }
}
