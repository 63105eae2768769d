//! Runs a scheduler component, the world `holm:framework/scheduler` of `wit/framework`, as a framework.
//!
//! [`Hosted::start`] compiles and instantiates the component on a thread of its own and asks it to describe itself;
//! [`run`] then gives it to a [`holm_sdk::Driver`] like any other [`holm_sdk::Scheduler`]. A component that traps, takes too
//! long or asks for too much memory is stopped, and the framework with it: its tasks are left to its failover timeout.

mod bindings;
mod guest;
mod hosted;
mod inert;
mod lift;
mod lower;
mod memory;
mod watchdog;

pub use guest::{GuestError, WORLD};
pub use hosted::{HostError, Hosted, Options, run};
