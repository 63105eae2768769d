//! Offers: made, used up, rescinded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_allocator::Served;
use holm_model::{AgentId, FrameworkId, GangId, Offer, OfferId, Portions, Refusal, Role, SchedulerEvent, Time};

use crate::frameworks::Framework;
use crate::options::MESSAGE_TARGET_BYTES;
use crate::revocable::portions_of;
use crate::timers::Timer;
use crate::{Delta, Master};

/// How often it is looked whether somebody waits for what others hold.
const CONTENTION_INTERVAL: Duration = Duration::from_secs(1);
/// For how long after it said what it wants a framework that was offered nothing makes others answer sooner.
const STATED_HUNGER: Duration = Duration::from_secs(10);
/// How long resources stay away from a framework that let a second offer time out, and the most this grows to as it goes on.
const UNANSWERED_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// An offer that is out.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) agent: AgentId,
    pub(crate) portions: Portions,
    /// Whether it is lent.
    pub(crate) revocable: bool,
    pub(crate) made: Time,
    /// What of a demand it serves.
    pub(crate) served: Option<Served>,
    /// The gang it belongs to.
    pub(crate) gang: Option<GangId>,
}

/// All offers that are out.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// How many have been made in this epoch.
    pub(crate) minted: u64,
    pub(crate) out: BTreeMap<OfferId, Outstanding>,
    pub(crate) by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
}

impl Offers {
    /// The offers of an agent.
    pub(crate) fn on_agent(&self, agent: AgentId) -> impl Iterator<Item = (OfferId, &Outstanding)> {
        let ids = self.by_agent.get(&agent).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.out.get(id)?)))
    }
}

/// Why an offer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("offer {0} was made by an earlier master")]
    Epoch(OfferId),
    #[error("offer {0} was never made")]
    Unknown(OfferId),
    #[error("offer {0} was used, declined, rescinded or has expired")]
    Spent(OfferId),
    #[error("offer {0} belongs to another framework")]
    Foreign(OfferId),
    #[error("offer {0} is named twice")]
    Twice(OfferId),
    #[error("offer {0} is of another agent or role than the first, or only one of them is revocable")]
    Mixed(OfferId),
    #[error("offer {0} is of another gang than the first")]
    MixedGang(OfferId),
    #[error("offer {0} is accepted already and waits for the others of its gang")]
    Held(OfferId),
}

/// Resources that are to become an offer.
pub(crate) struct NewOffer {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) agent: AgentId,
    pub(crate) portions: Portions,
    pub(crate) served: Option<Served>,
    pub(crate) gang: Option<GangId>,
    /// Whether it is lent.
    pub(crate) revocable: bool,
}

impl Master {
    /// Makes an offer of resources that are charged already. The caller sends it.
    pub(crate) fn make_offer(&mut self, new: NewOffer) -> Option<Offer> {
        let agent = self.agents.get(&new.agent)?;
        self.offers.minted += 1;
        let id = OfferId::new(self.cluster.epoch, self.offers.minted);
        let offer = Offer {
            id,
            framework: new.framework,
            role: new.role.clone(),
            agent: new.agent,
            hostname: agent.info.hostname.clone(),
            resources: new.portions.total(),
            portions: if new.revocable { portions_of(new.portions.total(), true) } else { new.portions.clone() },
            attributes: agent.info.attributes.clone(),
            demand: new.served.as_ref().map(|served| served.demand.clone()),
            gang: new.gang,
        };
        let to = self.frameworks.get_mut(&new.framework)?;
        to.offers.insert(id);
        to.hungry = false;
        let NewOffer { framework, role, agent, portions, revocable, served, gang } = new;
        if let Some(gang) = gang {
            self.join_gang(gang, id);
        }
        let made = self.now;
        let outstanding = Outstanding { framework, role, agent, portions, revocable, made, served, gang };
        self.offers.out.insert(id, outstanding);
        self.offers.by_agent.entry(agent).or_default().insert(id);
        self.timers.set(Timer::Offer(id), self.now + self.options.offer_timeout);
        self.timers.set_once(Timer::Contention, self.now + CONTENTION_INTERVAL);
        self.out.frameworks.insert(framework);
        self.touched(agent);
        self.out.delta(Delta::OfferAdded(offer.clone()));
        Some(offer)
    }

    /// Sends a framework its new offers, in messages of a bounded size.
    pub(crate) fn send_offers(&mut self, framework: FrameworkId, offers: Vec<Offer>) {
        let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) else { return };
        let cost = |offer: &Offer| {
            let attributes: usize = offer.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
            let tied: usize = offer.portions.iter().map(|(_, resources)| 256 + 32 * resources.iter().count()).sum();
            256 + attributes + 32 * offer.resources.iter().count() + tied
        };
        for page in pages(offers, cost) {
            self.out.tell_framework(session, SchedulerEvent::Offers(page));
        }
    }

    /// Takes an offer out of the books. What it holds stays charged: the caller uses or releases it.
    pub(crate) fn take_offer(&mut self, id: OfferId) -> Option<Outstanding> {
        let offer = self.offers.out.remove(&id)?;
        if let Some(there) = self.offers.by_agent.get_mut(&offer.agent) {
            there.remove(&id);
            if there.is_empty() {
                self.offers.by_agent.remove(&offer.agent);
            }
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(&id);
        }
        if let Some(gang) = offer.gang {
            self.gangs.lost(gang, "was declined, expired or rescinded");
        }
        self.timers.cancel(Timer::Offer(id));
        self.out.frameworks.insert(offer.framework);
        self.touched(offer.agent);
        self.out.delta(Delta::OfferRemoved(id));
        Some(offer)
    }

    /// Gives what an offer held back, without a filter.
    pub(crate) fn release_offer(&mut self, offer: &Outstanding) {
        self.settle_unused(offer);
        let Outstanding { framework, role, agent, portions, revocable, .. } = offer;
        let released = self.market(*revocable).release(*framework, role, *agent, portions);
        self.check(released);
    }

    /// Gives what an offer held back; the framework does not want to see it for a while.
    pub(crate) fn decline_offer(&mut self, offer: &Outstanding, refusal: Refusal) {
        self.settle_unused(offer);
        let Outstanding { framework, role, agent, portions, revocable, .. } = offer;
        let now = self.now;
        let declined = self.market(*revocable).decline(*framework, role, *agent, portions, refusal, now);
        self.check(declined);
    }

    /// Ends offers and tells whoever holds them.
    pub(crate) fn rescind(&mut self, ids: &[OfferId]) {
        let mut told: BTreeMap<FrameworkId, Vec<OfferId>> = BTreeMap::new();
        for id in ids {
            if let Some(offer) = self.take_offer(*id) {
                self.release_offer(&offer);
                told.entry(offer.framework).or_default().push(*id);
            }
        }
        for (framework, ids) in told {
            if let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) {
                self.out.tell_framework(session, SchedulerEvent::Rescinded(ids));
            }
        }
    }

    /// An offer was held for too long. Who does not answer is asked again at once the first time, then later and later:
    /// while it holds an offer, others wait for what it does not use.
    pub(crate) fn expire_offer(&mut self, id: OfferId) {
        let now = self.now;
        let Some(offer) = self.take_offer(id) else { return };
        let Some(framework) = self.frameworks.get_mut(&offer.framework) else { return self.release_offer(&offer) };
        if framework.unanswered_at.replace(now) != Some(now) {
            framework.unanswered = framework.unanswered.saturating_add(1);
        }
        let (times, session) = (framework.unanswered, framework.connected());
        if times == 1 {
            self.release_offer(&offer);
        } else {
            let pause = UNANSWERED_PAUSE.0.saturating_mul(1 << times.saturating_sub(2).min(16));
            self.decline_offer(&offer, Refusal::new(pause.min(UNANSWERED_PAUSE.1)));
        }
        if let Some(session) = session {
            self.out.tell_framework(session, SchedulerEvent::Rescinded(vec![id]));
        }
    }

    /// Ends offers that have been held for a while, if a framework waits that has been offered nothing yet.
    pub(crate) fn relieve_contention(&mut self) {
        let now = self.now;
        let limit = self.options.contended_offer;
        let is_old = |offer: &Outstanding| offer.made + limit <= now;
        // What is demanded may fit nowhere: that is no reason to hurry others for ever.
        let recent = |framework: &Framework| framework.stated_at.is_none_or(|at| now <= at + STATED_HUNGER);
        let waits = |framework: &Framework| framework.hungry && framework.connected().is_some() && recent(framework);
        if self.frameworks.values().any(waits) {
            let old = self.offers.out.iter().filter(|(_, offer)| is_old(offer)).map(|(id, _)| *id);
            old.collect::<Vec<_>>().into_iter().for_each(|id| self.expire_offer(id));
        }
        if !self.offers.out.is_empty() {
            self.timers.set(Timer::Contention, now + CONTENTION_INTERVAL);
        }
    }

    /// A framework answered an offer.
    pub(crate) fn answered(&mut self, framework: FrameworkId) {
        if let Some(framework) = self.frameworks.get_mut(&framework) {
            framework.unanswered = 0;
        }
    }

    /// Ends every offer of an agent.
    pub(crate) fn rescind_agent(&mut self, agent: AgentId) {
        let ids: Vec<_> = self.offers.by_agent.get(&agent).into_iter().flatten().copied().collect();
        self.rescind(&ids);
    }

    /// Ends every offer of a framework that is not there to be told.
    pub(crate) fn recover_offers(&mut self, framework: FrameworkId) {
        let held = self.frameworks.get(&framework).map(|framework| framework.offers.clone());
        for id in held.into_iter().flatten() {
            if let Some(offer) = self.take_offer(id) {
                self.release_offer(&offer);
            }
        }
    }

    /// Checks that a framework may use these offers together: all its own, of one agent and one role, each named once.
    pub(crate) fn check_offers(&self, framework: FrameworkId, ids: &[OfferId]) -> Result<(), OfferError> {
        let mut first: Option<&Outstanding> = None;
        let mut seen = BTreeSet::new();
        for id in ids {
            let offer = self.find_offer(framework, *id)?;
            if !seen.insert(*id) {
                return Err(OfferError::Twice(*id));
            }
            let first = first.get_or_insert(offer);
            if (first.agent, &first.role, first.revocable) != (offer.agent, &offer.role, offer.revocable) {
                return Err(OfferError::Mixed(*id));
            }
            if first.gang != offer.gang {
                return Err(OfferError::MixedGang(*id));
            }
            if offer.gang.is_some_and(|gang| self.gangs.holds(gang, *id)) {
                return Err(OfferError::Held(*id));
            }
        }
        Ok(())
    }

    fn find_offer(&self, framework: FrameworkId, id: OfferId) -> Result<&Outstanding, OfferError> {
        match self.offers.out.get(&id) {
            Some(offer) if offer.framework == framework => Ok(offer),
            Some(_) => Err(OfferError::Foreign(id)),
            None if id.epoch() < self.cluster.epoch => Err(OfferError::Epoch(id)),
            None if id.epoch() > self.cluster.epoch || id.counter() == 0 || id.counter() > self.offers.minted => {
                Err(OfferError::Unknown(id))
            }
            None => Err(OfferError::Spent(id)),
        }
    }
}

/// Cuts a list into pages of about [`MESSAGE_TARGET_BYTES`] each. No page is empty.
pub(crate) fn pages<T>(items: Vec<T>, cost: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut pages: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = cost(&item);
        match pages.last_mut() {
            Some(page) if bytes <= room => {
                room -= bytes;
                page.push(item);
            }
            _ => {
                room = MESSAGE_TARGET_BYTES.saturating_sub(bytes);
                pages.push(vec![item]);
            }
        }
    }
    pages
}
