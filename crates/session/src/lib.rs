//! The framework's side of the scheduler protocol, without I/O, clock or randomness: a [`Subscription`] takes what the
//! master says and what the scheduler wants, and answers with effects for a shell to perform.
//!
//! What it owes the scheduler: every task it launches ends exactly once, whatever is cut, resent or replayed, and without
//! a reconciliation call. What it owes the master: nothing is acknowledged before it is in the scheduler's hands.

mod backoff;
mod book;
mod cursor;
mod epoch;
mod event;
mod giving;
mod phase;
mod subscription;

pub use backoff::{Backoff, MAX_DELAY, MIN_DELAY};
pub use book::MAX_ENDED;
pub use epoch::{EpochFilter, StaleEpoch};
pub use event::{Effect, End, GiveBack, Identity, Input, Notice, Outbound, TaskUpdate};
pub use phase::{Phase, PhaseError};
pub use subscription::{Options, Subscription};
