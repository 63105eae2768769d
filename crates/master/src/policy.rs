//! The organisation's policy: when it is asked, and what becomes of its answers.
//!
//! The policy itself runs elsewhere, and nothing here waits for it: [`Effect::Rank`] carries what has changed of what it reads,
//! [`crate::Event::Ranked`] brings the answer, and in between the ranks of the last answer stand. There is one question at a time. A
//! failure takes its ranks out of force, and a new instance is asked after a while.

use std::sync::Arc;
use std::time::Duration;

use holm_allocator::policy::DescriptionError;
use holm_model::{PolicyCost, PolicyDescription, PolicyFailure, PolicyPatch, PolicyPhase, PolicyView, Time};

use crate::timers::Timer;
use crate::{Delta, Effect, Master};

/// Time after a failure until the policy is tried again; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest such time.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How long an answer may take before the shell counts as unable to give it. Far above what the shell allows a policy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy rests this many times as long as its last call took, so that it never takes more than a fifth of a core.
const REST: u32 = 4;

/// The policy of this master.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    description: Arc<PolicyDescription>,
    phase: PolicyPhase,
    /// The request that is out.
    out: Option<u64>,
    /// The number of the latest request.
    request: u64,
    /// The next request goes to a new instance.
    fresh: bool,
    /// It is not asked before.
    not_before: Time,
    /// Failures since the last answer that made sense.
    in_a_row: u32,
    calls: u64,
    failures: u64,
    last: PolicyCost,
    /// Whether the view has changed since it was told.
    told: bool,
}

impl Seat {
    fn view(&self) -> PolicyView {
        PolicyView {
            description: self.description.clone(),
            phase: self.phase.clone(),
            calls: self.calls,
            failures: self.failures,
            last: self.last,
        }
    }
}

impl Master {
    /// Seats the policy of the options, if there is one. The shell has checked the description: one that is refused here is
    /// no policy.
    pub(crate) fn seat_policy(&mut self) {
        let Some(description) = self.options.policy.clone() else { return };
        let seated = self.allocator.set_policy(&description);
        if self.check(seated).is_some() {
            self.policy = Some(Seat {
                description: Arc::new(description),
                phase: PolicyPhase::Waiting,
                out: None,
                request: 0,
                fresh: true,
                not_before: self.now,
                in_a_row: 0,
                calls: 0,
                failures: 0,
                last: PolicyCost::default(),
                told: false,
            });
        }
    }

    /// Whether a description is one that this master can go by.
    ///
    /// # Errors
    /// What cannot be, by name.
    pub fn check_policy(description: &PolicyDescription) -> Result<(), DescriptionError> {
        holm_allocator::policy::check(description)
    }

    /// Asks the policy if what it reads has changed, or sees to it that it is asked soon.
    pub(crate) fn ask_policy_if_due(&mut self) {
        let Some(seat) = &mut self.policy else { return };
        if seat.out.is_some() || !self.allocator.policy_is_stale() {
            return;
        }
        if self.now < seat.not_before {
            let due = seat.not_before;
            return self.timers.set(Timer::Policy, due);
        }
        let changes = self.allocator.tell_policy(seat.request + 1);
        if changes.is_empty() {
            return;
        }
        seat.request += 1;
        seat.calls += 1;
        seat.out = Some(seat.request);
        let fresh = std::mem::take(&mut seat.fresh);
        self.timers.set(Timer::Policy, self.now + PATIENCE);
        self.out.push(Effect::Rank { request: seat.request, fresh, changes });
    }

    /// The policy has answered, or failed to.
    pub(crate) fn on_ranked(
        &mut self,
        request: u64,
        answer: Result<Vec<PolicyPatch>, PolicyFailure>,
        cost: PolicyCost,
    ) {
        let Some(seat) = self.policy.as_mut().filter(|seat| seat.out == Some(request)) else { return };
        (seat.out, seat.last, seat.told) = (None, cost, false);
        self.timers.cancel(Timer::Policy);
        let ranked = answer.and_then(|answer| self.allocator.take_ranks(request, &answer));
        match ranked {
            Ok(()) => {
                seat.in_a_row = 0;
                seat.not_before = self.now + self.options.policy_interval.max(cost.time * REST);
                if seat.phase != PolicyPhase::InForce {
                    seat.phase = PolicyPhase::InForce;
                    self.tell_policy_view();
                }
                self.out.roles = true;
            }
            Err(failure) => self.policy_failed(failure),
        }
    }

    /// The timer of the policy: either it may be asked again, which happens by itself, or no answer has come.
    pub(crate) fn policy_timer(&mut self) {
        if let Some(seat) = &mut self.policy
            && seat.out.take().is_some()
        {
            self.policy_failed(PolicyFailure::Host(format!("no answer within {PATIENCE:?}")));
        }
    }

    fn policy_failed(&mut self, failure: PolicyFailure) {
        let Some(seat) = &mut self.policy else { return };
        self.allocator.forget_ranks();
        let retry_after = FIRST_RETRY.saturating_mul(1 << seat.in_a_row.min(16)).min(LAST_RETRY);
        seat.in_a_row += 1;
        seat.failures += 1;
        (seat.fresh, seat.told) = (true, false);
        seat.not_before = self.now + retry_after;
        seat.phase = PolicyPhase::Fallback { failure, retry_after };
        self.timers.set(Timer::Policy, seat.not_before);
        self.tell_policy_view();
    }

    /// Tells how the policy stands, if that has changed.
    pub(crate) fn tell_policy_view(&mut self) {
        if let Some(seat) = self.policy.as_mut().filter(|seat| !seat.told) {
            seat.told = true;
            let view = seat.view();
            self.out.delta(Delta::PolicyChanged(view));
        }
    }
}
