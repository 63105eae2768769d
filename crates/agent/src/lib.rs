//! The agent and the runner process as state machines without I/O: task lifecycle, resource ledger, status log.
//!
//! [`Agent`] is the core of the control daemon, [`Runner`] that of a process that runs Wasm. Both have the same shape: a
//! shell hands in events with the time, performs the effects in order, and comes back at `next_wake`. Everything an agent
//! must not forget is a [`Record`] written before whatever depends on it; the agent is the authority on what runs, so its
//! records are what a task's history is made of.

mod agent;
mod durable;
mod event;
mod executors;
mod fallout;
mod groups;
pub mod invariants;
mod launching;
mod ledger;
mod lending;
mod log;
mod master_link;
mod options;
mod outbox;
mod placement;
mod record;
mod recovery;
mod reports;
mod reserve;
mod runner;
mod runners;
mod stopping;
mod volumes;
mod work;

#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentCounters, WorkView};
pub use event::{AgentEffect, AgentEvent, PrepareError, SessionId};
pub use lending::{LendingOptions, Measured, RunnerUse};
pub use options::{
    AgentOptions, MAX_FULL_RUNS, MAX_GRACE, MAX_PAGE_ENTRIES, MAX_RUNNERS, MAX_STATUS_MESSAGE_BYTES, MAX_UNKNOWN_WORKS,
    MIN_SILENCE, PAGE_BYTES, REGISTRATION_TIMEOUT, REPORT_MESSAGE_BYTES, RunnerOptions,
};
pub use placement::RunnerScope;
pub use record::Record;
pub use runner::{Runner, RunnerEffect, RunnerEvent};
