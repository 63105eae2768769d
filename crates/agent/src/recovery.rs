//! How an agent takes up its state again after its process died, and how it starts afresh when everything else died too.

use holm_model::{Incarnation, Reason, Resources, TaskState, TaskStatus, Time, WorkId};

use crate::agent::Agent;
use crate::durable::is_preparing;
use crate::event::AgentEffect;
use crate::record::Record;
use crate::runners::RunnerSlot;

impl Agent {
    /// The processes of the last life are still there: charge what they hold, wait for them, go on preparing.
    pub(crate) fn resume(&mut self, now: Time) {
        for (id, work) in &self.durable.works {
            if work.runner().is_some() {
                self.ledger.admit_running(*id, work);
            }
        }
        let waiting: Vec<WorkId> =
            self.durable.works.iter().filter(|(_, work)| is_preparing(work)).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(work) = self.durable.works.get(&id) else { continue };
            if work.launch.spec.revocable {
                // What is lent is not known yet; if it is less than before, the youngest go.
                self.ledger.admit_running(id, work);
                self.prepare(id, now);
                continue;
            }
            // The process may have died between taking a launch and refusing it, or come back with less to offer.
            match self.ledger.admit(id, work, &Resources::EMPTY) {
                Ok(()) => self.prepare(id, now),
                Err(error) => {
                    let status = TaskStatus::because(
                        TaskState::Dropped,
                        Reason::AgentRefused,
                        format!("the agent has come back without room for it: {error}"),
                    );
                    self.end_unsent(id, status);
                }
            }
        }
        let deadline = now + self.options.runner_patience;
        for (runner, entry) in &self.durable.runners {
            self.slots.insert(*runner, RunnerSlot::awaited(deadline, entry.sequence));
        }
        for (id, work) in &self.durable.works {
            if let Some(slot) = work.runner().and_then(|runner| self.slots.get_mut(&runner)) {
                slot.load.set(*id, work.places());
            }
        }
        self.recall_fallout();
    }

    /// Nothing of the last life is left, or can be trusted to be complete: a new incarnation without works.
    pub(crate) fn begin_incarnation(&mut self) {
        let runners: Vec<_> = self.durable.runners.keys().copied().collect();
        let number = Incarnation(self.durable.incarnation.0.saturating_add(1));
        self.commit(Record::Incarnation { number, boot: self.options.boot.clone() });
        self.out.sync();
        for runner in runners {
            let message = "its agent has lost the records of its tasks".into();
            self.out.push(AgentEffect::StopRunner { runner, grace: std::time::Duration::ZERO, message });
        }
    }
}
