//! Conversions between the model and the wire: what goes in comes out, and what does not belong is refused by name.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input has failed")]

mod hostile;
mod portions;
mod round_trip;
mod samples;
mod sizes;
