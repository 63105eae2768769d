//! What frameworks say they want: demands, and which offers they take in a role.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_allocator::{Ends, Served, Waiting, check_patterns};
use holm_model::{
    AgentId, Demand, FrameworkId, FrameworkInfo, Launch, MAX_DEMANDS, Resources, Role, RoleOptions, Time,
};

use crate::Master;
use crate::accept::{Pool, strangers};
use crate::launches::Launches;
use crate::offers::{Offers, Outstanding};

impl Master {
    /// Takes note of everything that a framework wants in a role, in place of what it wanted before.
    pub(crate) fn demand(&mut self, id: FrameworkId, role: Role, demands: Vec<Demand>) {
        match self.check_demands(id, &role, &demands) {
            Ok(()) => {
                let now = self.now;
                let Some(framework) = self.frameworks.get_mut(&id) else { return };
                framework.hungry |= !demands.is_empty() && framework.offers.is_empty();
                framework.stated_at = Some(now);
                framework.demands.insert(role.clone(), demands.clone());
                let taken = self.allocator.set_demands(id, &role, demands, now);
                self.check(taken);
                self.watch_waiting();
                self.out.roles = true;
            }
            Err(message) => self.complain(id, format!("demands in role {role} are refused: {message}")),
        }
    }

    /// A framework subscribes, knowing nothing of earlier demands: where its options say so it is by demand from the start.
    pub(crate) fn begin_demands(&mut self, id: FrameworkId) {
        self.allocator.forget_demands(id);
        let by_demand = self.roles_by_demand(id);
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        framework.stated_at = None;
        framework.hungry &= by_demand.len() < framework.info.roles.len();
        for role in by_demand {
            let taken = self.allocator.set_demands(id, &role, Vec::new(), self.now);
            self.check(taken);
        }
    }

    fn roles_by_demand(&self, id: FrameworkId) -> Vec<Role> {
        let options = self.frameworks.get(&id).into_iter().flat_map(|framework| &framework.role_options);
        options.filter(|(_, options)| options.by_demand).map(|(role, _)| role.clone()).collect()
    }

    fn check_demands(&self, id: FrameworkId, role: &Role, demands: &[Demand]) -> Result<(), String> {
        let Some(framework) = self.frameworks.get(&id) else { return Ok(()) };
        if strangers(&framework.info.roles, std::slice::from_ref(role)).is_some() {
            return Err("the framework is not subscribed to it".to_owned());
        }
        Demand::validate_all(demands).map_err(|error| error.to_string())?;
        let elsewhere = framework.demands.iter().filter(|(of, _)| *of != role);
        let count = demands.len() + elsewhere.map(|(_, demands)| demands.len()).sum::<usize>();
        if count > MAX_DEMANDS {
            return Err(format!("the framework would have {count} demands; the limit is {MAX_DEMANDS}"));
        }
        let options = framework.role_options.get(role).cloned().unwrap_or_default();
        for demand in demands {
            let both = demand.constraints.and(&options.constraints);
            both.map_err(|error| format!("demand {} together with its role: {error}", demand.id))?;
        }
        check_patterns(demands.iter().map(|demand| &demand.constraints)).map_err(|error| error.to_string())
    }

    /// What was launched on a pool counts off the demands that its offers served; the rest is wanted again.
    pub(crate) fn settle_demands(&mut self, pool: &Pool) {
        let mut left = pool.left.total();
        for served in &pool.served {
            let unused = served.bundle.fits(&left, served.bundles);
            if let Some(rest) = served.bundle.part_of(&left, unused).and_then(|part| left.minus(&part).ok()) {
                left = rest;
            }
            let launched = served.bundles - unused;
            self.allocator.settle_demand(pool.framework, &pool.role, &served.demand, served.bundles, launched);
        }
    }

    /// Nothing was launched on an offer: what it served is wanted again.
    pub(crate) fn settle_unused(&mut self, offer: &Outstanding) {
        if let Some(Served { demand, bundles, .. }) = &offer.served {
            self.allocator.settle_demand(offer.framework, &offer.role, demand, *bundles, 0);
        }
    }

    /// Replaces which offers a framework takes. Offers that are out stay out.
    pub(crate) fn set_role_options(&mut self, id: FrameworkId, options: BTreeMap<Role, RoleOptions>) {
        let Some(framework) = self.frameworks.get(&id) else { return };
        let info = FrameworkInfo { role_options: options, ..(*framework.info).clone() };
        let valid = info.validate().map_err(|error| crate::accept::explain(&error));
        let patterns = info.role_options.values().map(|options| &options.constraints);
        let checked = valid.and_then(|()| check_patterns(patterns).map_err(|error| error.to_string()));
        if let Err(message) = checked {
            return self.complain(id, format!("the options of the roles are refused: {message}"));
        }
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.role_options = info.role_options;
            self.subscribe_to_roles(id);
        }
        for role in self.roles_by_demand(id) {
            let stated = self.frameworks.get(&id).is_some_and(|framework| framework.demands.contains_key(&role));
            if !stated {
                let taken = self.allocator.set_demands(id, &role, Vec::new(), self.now);
                self.check(taken);
            }
        }
        self.out.roles = true;
    }
}

/// Whether a launch keeps the promise that the demands behind its offers made: how long it holds resources at most.
pub(crate) fn check_duration(pool: &Pool, launch: &Launch) -> Result<(), String> {
    let promise = |served: &Served| Some((served.max_duration?, served.demand.clone()));
    let Some((limit, demand)) = pool.served.iter().filter_map(promise).min() else { return Ok(()) };
    let id = &launch.id;
    match longest(launch) {
        Some(longest) if longest <= limit => Ok(()),
        Some(longest) => Err(format!(
            "launch {id} may take {longest:?}, its deadline for each round of its slots; demand {demand} promised a \
             max_duration of {limit:?}"
        )),
        None => Err(format!("launch {id} has no deadline; demand {demand} promised a max_duration of {limit:?}")),
    }
}

/// The longest that a launch may hold resources once it runs; none when it may run for ever.
pub(crate) fn longest(launch: &Launch) -> Option<Duration> {
    let rounds = launch.tasks.count().div_ceil(launch.slots.max(1));
    launch.spec.limits.deadline.map(|deadline| deadline.saturating_mul(rounds))
}

/// Most demands that are told of at one time.
pub const MAX_LISTED_DEMANDS: usize = 200;

/// What is wanted and not launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// When this was so.
    pub now: Time,
    /// The demands, the one that has waited longest first; at most [`MAX_LISTED_DEMANDS`].
    pub demands: Vec<Waiting>,
    /// How many more there are.
    pub left_out: usize,
}

impl Master {
    /// What frameworks want and have not launched: of one framework, in one role, or all. A look that changes nothing.
    pub fn wanted(&self, framework: Option<FrameworkId>, role: Option<&Role>) -> Wanted {
        let chosen = |of: FrameworkId, in_role: &Role| {
            framework.is_none_or(|framework| framework == of) && role.is_none_or(|role| role == in_role)
        };
        let (demands, left_out) = self.allocator.waiting(chosen, MAX_LISTED_DEMANDS);
        Wanted { now: self.now, demands, left_out }
    }
}

/// What is added to the deadline of a launch for the time until it runs and until its end is known.
const STAGING: Duration = Duration::from_secs(10);

/// When a launch that is sent now will have ended.
pub(crate) fn expected_end(launch: &Launch, now: Time) -> Option<Time> {
    longest(launch).map(|longest| now + longest.saturating_add(STAGING))
}

/// What the master knows of when resources become free: launches end by their deadlines, offers by the offer timeout.
pub(crate) struct KnownEnds<'a> {
    pub(crate) launches: &'a Launches,
    pub(crate) offers: &'a Offers,
    pub(crate) offer_timeout: Duration,
    /// What is free now on an agent.
    pub(crate) free: &'a BTreeMap<AgentId, Resources>,
}

impl Ends for KnownEnds<'_> {
    fn free_by(&self, agent: AgentId, wanted: &Resources) -> Option<Time> {
        let launches = self.launches.on_agent(agent);
        let launches = launches.iter().filter_map(|place| self.launches.get(place));
        let ends = launches
            .filter(|record| record.charged > 0)
            .map(|record| (record.until, record.held_by(record.charged).total()));
        let offers = self.offers.by_agent.get(&agent).into_iter().flatten().filter_map(|id| self.offers.out.get(id));
        let offers = offers.map(|offer| (Some(offer.made + self.offer_timeout), offer.portions.total()));
        let mut ends: Vec<(Time, Resources)> =
            ends.chain(offers).filter_map(|(until, resources)| Some((until?, resources))).collect();
        ends.sort_by_key(|(until, _)| *until);
        let mut free = self.free.get(&agent).cloned().unwrap_or_default();
        for (until, resources) in ends {
            let scalars = resources.iter_scalars().map(|(name, amount)| (name.clone(), amount.0));
            free = free.plus(&Resources::scalars(scalars)).unwrap_or(free);
            if free.contains(wanted) {
                return Some(until);
            }
        }
        None
    }
}
