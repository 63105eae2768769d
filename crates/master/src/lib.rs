//! The master: who is connected, who is offered what, which launches run where. A state machine without I/O.
//!
//! A shell feeds [`Event`]s into [`Master::handle`], performs the [`Effect`]s it drains, in order, and calls again when
//! [`Master::next_wake`] says so. The master is made from a registry snapshot when a leader is elected and dropped when
//! it is deposed; it does not know how many masters there are.
//!
//! # Where things are
//! - An offer is made in `offers`, used up in `accept`, and rescinded or expired in `offers`.
//! - A task changes state in `tasks::enter`, and nowhere else; what agents say of tasks arrives in `updates` and `reconcile`.
//! - An agent is admitted in `admission` and given up in `liveness`; a framework is admitted in `subscribe` and ended in
//!   `completion`.
//! - Weights and quotas are set in `roles`.
//! - The organisation's policy is asked in `policy`; its ranks are kept by the allocator.
//! - Limits are in [`Options`] and in the constants beside it; each refusal names the limit.
//! - What must hold after every event is in [`invariants`].

mod accept;
mod admission;
mod agents;
mod allocation;
mod authorize;
mod calls;
mod completion;
mod delta;
mod demands;
mod effect;
mod event;
mod explain;
mod frameworks;
mod gang;
mod group;
pub mod invariants;
mod inverse;
mod launches;
mod liveness;
mod logs;
mod master;
mod offers;
mod operations;
mod operator;
mod options;
mod outbox;
mod policy;
mod preemption;
mod reconcile;
mod registry;
mod revocable;
mod roles;
mod subscribe;
mod tasks;
mod timers;
mod updates;
mod writes;

pub use authorize::{Denied, Object, authorize};
pub use delta::{AgentPhase, AgentView, Delta, FrameworkPhase, FrameworkView, LaunchView};
pub use demands::{MAX_LISTED_DEMANDS, Wanted};
pub use effect::{Answer, CloseCause, Effect, OperatorError};
pub use event::{Event, Fresh, OperatorCall, PersistOutcome, RequestId, SessionId, WriteId};
pub use explain::{About, Explanation, MAX_EXPLAINED, MAX_JUDGED, Question, Waiting};
/// Policies, for the shells that run them.
pub use holm_allocator::policy::{BuiltIn, DescriptionError, Policy, StrictPriority};
/// Shares as the allocator reports them, and its options: shells see the allocator through the master only.
pub use holm_allocator::{
    Bound, Cause, ClassReasons, Dominant, Exclusion, Explained, Fit, FrameworkShare, FrameworkStanding, Gap, KeptFor,
    Options as AllocatorOptions, QuotaError, QuotaPlan, RoleShare, Short, Standing, Waiting as WaitingDemand,
    standings,
};
pub use holm_allocator::{Trial, TrialRank};
pub use master::Master;
pub use options::{
    MAX_AGENT_LAUNCHES, MAX_AGENT_TASKS, MAX_CALL_LAUNCHES, MAX_CALL_OFFERS, MAX_GRANTS, MAX_STATUS_MESSAGE_BYTES,
    MAX_UNACKNOWLEDGED, MAX_WAITING_KILLS, MESSAGE_TARGET_BYTES, Options,
};
pub use preemption::{
    MAX_ASKED, ParseScaleDownError, PreemptionOptions, PreemptionPhase, PreemptionRule, PreemptionView, ScaleDown,
};
pub use registry::{Registry, RegistryOp};
pub use roles::{MAX_WAITING_UPDATES, RolesPlan, RolesUpdate};

#[cfg(test)]
mod tests;
