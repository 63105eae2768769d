//! Launches that are to be made together or not at all.

use std::collections::BTreeSet;

use holm_model::{Call, Launch, LaunchError, MAX_GROUP_LAUNCHES, OfferId, Reason, Refusal, TaskState, TaskStatus};

use super::{Subscription, unlaunched, with_sources};
use crate::event::TaskUpdate;

impl Subscription {
    /// Passes a group on, or refuses all of it for the first of its launches that cannot be.
    pub(super) fn launch_group(&mut self, offers: Vec<OfferId>, launches: Vec<Launch>, refusal: Refusal) {
        if launches.is_empty() {
            return self.decline(offers, refusal);
        }
        if let Err(refused) = self.check_group(&launches) {
            self.decline(offers, Refusal::NONE);
            return match refused {
                Refused::Unnamed(message) => self.refuse(message),
                Refused::Named(updates) => self.deliver_updates(updates),
            };
        }
        match self.agent_of(&offers) {
            Ok((agent, role)) => {
                self.offers.retain(|offer, _| !offers.contains(offer));
                launches.iter().for_each(|launch| self.book.add(launch, agent, Some(role.clone()), self.round));
                self.send(Call::LaunchGroup { offers, launches, refusal });
            }
            Err(message) => {
                self.decline(offers, Refusal::NONE);
                let status = TaskStatus::because(TaskState::Dropped, Reason::InvalidOffers, message);
                let dropped = launches.iter().map(|launch| unlaunched(launch, status.clone())).collect();
                self.deliver_updates(dropped);
            }
        }
    }

    fn check_group(&self, launches: &[Launch]) -> Result<(), Refused> {
        let count = launches.len();
        if count > MAX_GROUP_LAUNCHES {
            return Err(Refused::Unnamed(format!(
                "a group of {count} launches is refused; the limit is {MAX_GROUP_LAUNCHES}"
            )));
        }
        let mut names = BTreeSet::new();
        for launch in launches {
            let id = &launch.id;
            if self.book.is_live(id) {
                let why = "the framework has a live launch of that name";
                return Err(Refused::Unnamed(format!("the group of launch {id} is refused: {why}")));
            }
            if !names.insert(id) {
                return Err(Refused::Unnamed(format!("the group of launch {id} is refused: it is in it twice")));
            }
            if let Err(error @ (LaunchError::Count(_) | LaunchError::Index(_))) = launch.validate() {
                return Err(Refused::Unnamed(format!("the group of launch {id} is refused: {error}")));
            }
        }
        for culprit in launches {
            if let Err(error) = culprit.validate() {
                return Err(Refused::Named(refusals(launches, culprit, &with_sources(&error))));
            }
        }
        Ok(())
    }
}

/// Why a group is not passed on.
enum Refused {
    /// Nothing can be said in the name of its tasks.
    Unnamed(String),
    /// With how its tasks end.
    Named(Vec<TaskUpdate>),
}

/// The launch that is not valid ends as such, the others because of it.
fn refusals(launches: &[Launch], culprit: &Launch, message: &str) -> Vec<TaskUpdate> {
    let invalid = TaskStatus::because(TaskState::Error, Reason::InvalidTask, message);
    let why = format!("launch {} of its group was refused: {message}", culprit.id);
    let dropped = TaskStatus::because(TaskState::Dropped, Reason::GroupFailed, why);
    let status = |launch: &Launch| if launch.id == culprit.id { invalid.clone() } else { dropped.clone() };
    launches.iter().map(|launch| unlaunched(launch, status(launch))).collect()
}
