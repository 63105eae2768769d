//! A policy for simulated masters: strict priority, and now and then a failure, as a shell would report it.

use std::time::Duration;

use holm_master::{Event, Policy, StrictPriority};
use holm_model::{PolicyCost, PolicyDescription, PolicyFailure, PolicyPatch, PolicyValues};

use crate::queue::Happening;
use crate::world::World;

/// A policy that fails in every so many calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimPolicy {
    pub(crate) strict: StrictPriority,
    /// Every so many calls it traps; 0 is never.
    pub(crate) trap_every: u32,
    /// Every so many calls its answer makes no sense.
    pub(crate) nonsense_every: u32,
    /// How often it was called.
    pub(crate) calls: u32,
}

impl SimPolicy {
    pub(crate) fn describe(&self) -> PolicyDescription {
        self.strict.describe()
    }

    fn rank(&mut self, changes: &[PolicyPatch]) -> Result<Vec<PolicyPatch>, PolicyFailure> {
        self.calls += 1;
        let hits = |every: u32| every > 0 && self.calls.is_multiple_of(every);
        if hits(self.trap_every) {
            return Err(PolicyFailure::Trapped("as told".to_owned()));
        }
        let nonsense = hits(self.nonsense_every);
        let mut answer = self.strict.rank(changes)?;
        for column in answer.iter_mut().filter(|_| nonsense).flat_map(|patch| &mut patch.columns) {
            column.values = PolicyValues::Numbers(vec![f64::NAN; column.values.len()]);
        }
        Ok(answer)
    }
}

impl World {
    /// The shell of a master has its policy rank.
    pub(crate) fn policy_is_asked(&mut self, term: usize, request: u64, changes: &[PolicyPatch]) {
        let Some(policy) = &mut self.policy else { return };
        let answer = policy.rank(changes);
        let time = self.rng.between(self.settings.write).min(Duration::from_secs(1));
        let cost = PolicyCost { time, fuel: 0 };
        self.queue
            .push(self.now + time, Happening::Ranked { term, event: Event::Ranked { request, answer, cost }.into() });
    }
}
