//! Gangs: offers on several agents that are accepted all or none.
//!
//! An ACCEPT of a gang's offers is held until every offer of the gang has one. Then all their launches are admitted together and
//! sent, or none is. Until every launch has been heard of by its agent, the refusal of one ends the others. A gang lives in this
//! master only: after a failover its launches are on their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_model::{
    BatchId, FrameworkId, GangId, Launch, OfferId, Portions, Reason, Refusal, TaskId, TaskState, TaskStatus, Update,
};

use crate::Master;
use crate::accept::{Pool, tied, whole};
use crate::launches::Place;

/// An ACCEPT that waits for the others of its gang.
#[derive(Debug)]
struct Held {
    offers: Vec<OfferId>,
    launches: Vec<Launch>,
    refusal: Refusal,
    /// Whether the launches are a group of their agent.
    group: bool,
}

/// A gang whose offers are out.
#[derive(Debug)]
struct Waiting {
    framework: FrameworkId,
    /// The offers without an ACCEPT.
    open: BTreeSet<OfferId>,
    held: Vec<Held>,
}

/// All gangs that are not over.
#[derive(Debug, Default)]
pub(crate) struct Gangs {
    minted: u64,
    waiting: BTreeMap<GangId, Waiting>,
    /// Gangs that lost an offer, and how.
    broken: BTreeMap<GangId, &'static str>,
    /// Launches of gangs that were sent, with those of them whose agents have not said that they have them.
    starting: BTreeMap<GangId, BTreeMap<Place, bool>>,
    by_place: BTreeMap<Place, GangId>,
}

/// What an agent's word about a launch means for its gang.
enum Word {
    Started,
    Refused,
}

impl Gangs {
    /// Whether an offer has an ACCEPT that is held.
    pub(crate) fn holds(&self, gang: GangId, offer: OfferId) -> bool {
        self.waiting.get(&gang).is_some_and(|waiting| !waiting.open.contains(&offer))
    }

    /// An offer of a gang ended otherwise than by the launch of the gang.
    pub(crate) fn lost(&mut self, gang: GangId, why: &'static str) {
        if self.waiting.contains_key(&gang) {
            self.broken.entry(gang).or_insert(why);
        }
    }

    /// The gangs that wait and the offers they have, for the invariants.
    pub(crate) fn offers(&self) -> impl Iterator<Item = (GangId, OfferId)> {
        self.waiting.iter().flat_map(|(gang, waiting)| {
            let held = waiting.held.iter().flat_map(|held| &held.offers);
            waiting.open.iter().chain(held).map(|offer| (*gang, *offer))
        })
    }
}

impl Master {
    /// The name of a new gang of a framework, for offers that are about to be made.
    pub(crate) fn open_gang(&mut self, framework: FrameworkId) -> GangId {
        self.gangs.minted += 1;
        let gang = GangId::new(self.cluster.epoch, self.gangs.minted);
        let waiting = Waiting { framework, open: BTreeSet::new(), held: Vec::new() };
        self.gangs.waiting.insert(gang, waiting);
        gang
    }

    /// An offer of a gang was made.
    pub(crate) fn join_gang(&mut self, gang: GangId, offer: OfferId) {
        if let Some(waiting) = self.gangs.waiting.get_mut(&gang) {
            waiting.open.insert(offer);
        }
    }

    /// The gang of the first of these offers. All of an ACCEPT are of one: see [`Master::check_offers`].
    pub(crate) fn gang_of(&self, ids: &[OfferId]) -> Option<GangId> {
        ids.first().and_then(|id| self.offers.out.get(id)?.gang)
    }

    /// Holds an ACCEPT of a gang's offers, which have been checked; the last one launches the gang.
    pub(crate) fn hold(
        &mut self,
        gang: GangId,
        offers: &[OfferId],
        launches: Vec<Launch>,
        refusal: Refusal,
        group: bool,
    ) {
        if launches.is_empty() {
            return self.decline_gang(gang, offers, refusal);
        }
        let Some(waiting) = self.gangs.waiting.get_mut(&gang) else { return };
        waiting.open.retain(|offer| !offers.contains(offer));
        waiting.held.push(Held { offers: offers.to_vec(), launches, refusal, group });
        if waiting.open.is_empty() {
            self.launch_gang(gang);
        }
    }

    fn decline_gang(&mut self, gang: GangId, offers: &[OfferId], refusal: Refusal) {
        let framework = self.gangs.waiting.get(&gang).map(|waiting| waiting.framework);
        if let Some(framework) = framework {
            self.decline(framework, offers, refusal);
        }
    }

    /// Every offer of a gang is accepted: launches everything, or nothing.
    fn launch_gang(&mut self, gang: GangId) {
        let Some(Waiting { framework, held, .. }) = self.gangs.waiting.remove(&gang) else { return };
        let mut pools = Vec::with_capacity(held.len());
        for one in &held {
            let Some(pool) = self.take_offers(&one.offers) else { return };
            pools.push(pool);
        }
        match self.admit_gang(&mut pools, &held) {
            Ok(origins) => {
                self.watch_gang(gang, framework, &pools, &held);
                for ((pool, one), origins) in pools.into_iter().zip(held).zip(origins) {
                    self.send_held(&pool, (one.launches, origins), one.group);
                    self.give_back(pool, one.refusal, Vec::new());
                }
            }
            Err((culprit, status)) => {
                for (pool, one) in pools.into_iter().zip(held) {
                    let refused = refuse(gang, &one.launches, &culprit, &status);
                    self.give_back(pool, Refusal::NONE, refused);
                }
            }
        }
    }

    fn send_held(&mut self, pool: &Pool, (launches, origins): (Vec<Launch>, Vec<Portions>), group: bool) {
        if group {
            return self.send_group(pool, launches, origins);
        }
        launches.into_iter().zip(origins).for_each(|(launch, held)| self.launch(pool, launch, held));
    }

    /// Takes what all launches hold off the pools and tells it by origin, or gives the one that cannot be and leaves the pools
    /// whole.
    fn admit_gang(&self, pools: &mut [Pool], held: &[Held]) -> Result<Vec<Vec<Portions>>, (BatchId, TaskStatus)> {
        let whole: Vec<_> = pools.iter().map(|pool| pool.left.clone()).collect();
        let admitted = self.admit_held(pools, held);
        if admitted.is_err() {
            for (pool, left) in pools.iter_mut().zip(whole) {
                pool.left = left;
            }
        }
        admitted
    }

    fn admit_held(&self, pools: &mut [Pool], held: &[Held]) -> Result<Vec<Vec<Portions>>, (BatchId, TaskStatus)> {
        let mut names = BTreeSet::new();
        let mut all = Vec::with_capacity(held.len());
        for (pool, one) in pools.iter_mut().zip(held) {
            let mut origins = Vec::new();
            if one.group {
                let members = self.admit_members(pool, &one.launches);
                origins = members.map_err(|(at, status)| (one.launches[at].id.clone(), status))?;
            }
            for (at, launch) in one.launches.iter().enumerate() {
                if !names.insert(&launch.id) {
                    let message = format!("launch {} is twice in its gang", launch.id);
                    let status = TaskStatus::because(TaskState::Error, Reason::DuplicateTask, message);
                    return Err((launch.id.clone(), status));
                }
                if !one.group {
                    let admitted = self.admit_launch(pool, launch, &one.launches[..at]);
                    let chosen = admitted.map_err(|status| (launch.id.clone(), status))?;
                    pool.left = chosen.left;
                    origins.push(tied(chosen.held));
                }
            }
            all.push(origins);
        }
        Ok(all)
    }

    fn watch_gang(&mut self, gang: GangId, framework: FrameworkId, pools: &[Pool], held: &[Held]) {
        let places = pools.iter().zip(held).flat_map(|(pool, one)| {
            let place = |launch: &Launch| Place { framework, batch: launch.id.clone(), agent: pool.agent };
            one.launches.iter().map(place)
        });
        let places: BTreeMap<Place, bool> = places.map(|place| (place, false)).collect();
        self.gangs.by_place.extend(places.keys().map(|place| (place.clone(), gang)));
        self.gangs.starting.insert(gang, places);
    }

    /// Tasks of a launch entered a state: ends the launch's gang when it was refused.
    pub(crate) fn note_for_gang(&mut self, place: &Place, state: TaskState) {
        let Some(gang) = self.gangs.by_place.get(place).copied() else { return };
        let word = match state {
            TaskState::Staging => return,
            TaskState::Dropped | TaskState::Error => Word::Refused,
            _ => Word::Started,
        };
        let Some(places) = self.gangs.starting.get_mut(&gang) else { return };
        match word {
            Word::Started => {
                places.insert(place.clone(), true);
                if places.values().all(|started| *started) {
                    self.forget_gang(gang);
                }
            }
            // One task of an array that could not run does not undo those that did.
            Word::Refused if places.get(place) == Some(&true) => {}
            Word::Refused => {
                let others: Vec<Place> = places.keys().filter(|other| *other != place).cloned().collect();
                self.forget_gang(gang);
                for other in others {
                    let task = TaskId { batch: other.batch, index: None };
                    // Nothing is left to be killed where it ended meanwhile.
                    drop(self.kill(other.framework, &task, None));
                }
            }
        }
    }

    fn forget_gang(&mut self, gang: GangId) {
        for place in self.gangs.starting.remove(&gang).into_iter().flatten().map(|(place, _)| place) {
            self.gangs.by_place.remove(&place);
        }
    }

    /// Ends the gangs that lost an offer: the others of their offers are rescinded, and what waited on them is dropped.
    pub(crate) fn end_broken_gangs(&mut self) {
        while let Some((gang, why)) = self.gangs.broken.pop_first() {
            let Some(Waiting { framework, open, held }) = self.gangs.waiting.remove(&gang) else { continue };
            self.rescind(&open.into_iter().collect::<Vec<_>>());
            let message: Arc<str> = format!("gang {gang}: an offer of it {why}").into();
            let status = TaskStatus::because(TaskState::Dropped, Reason::GroupFailed, message);
            for one in held {
                self.refuse_accept(framework, &one.offers, &one.launches, &status);
            }
        }
    }

    /// Nothing is left of the gangs of a framework that is over or of launches that are forgotten.
    pub(crate) fn forget_place(&mut self, place: &Place) {
        if let Some(gang) = self.gangs.by_place.get(place).copied() {
            self.note_for_gang(place, TaskState::Killed);
            self.gangs.by_place.remove(place);
            let emptied = self.gangs.starting.get_mut(&gang).is_some_and(|places| {
                places.remove(place);
                places.is_empty()
            });
            if emptied {
                self.forget_gang(gang);
            }
        }
    }
}

/// The culprit ends by its own status, all others because of it.
fn refuse(gang: GangId, launches: &[Launch], culprit: &BatchId, status: &TaskStatus) -> Vec<Update> {
    let message = format!("launch {culprit} of gang {gang} was refused: {}", status.message);
    let dropped = TaskStatus::because(TaskState::Dropped, Reason::GroupFailed, message);
    let status = |launch: &Launch| if launch.id == *culprit { status.clone() } else { dropped.clone() };
    launches.iter().map(|launch| whole(launch, status(launch))).collect()
}
