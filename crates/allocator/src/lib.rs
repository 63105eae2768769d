//! Decides who is offered what: weighted dominant resource fairness (DRF) across roles, then across the frameworks of a
//! role. Pure bookkeeping: it proposes [`Grant`]s and never sends them, and time is passed in.
//!
//! # The rule
//! A role's *dominant share* is the largest fraction it holds of any scalar resource of the cluster; what is offered
//! counts as held. Whoever has the smallest share divided by its weight is next; among equals, who was granted less
//! often; then the smaller name. Frameworks of a role follow the same rule with equal weights. A grant is all that is
//! free on one agent and is charged at once, so that the next decision of the same run already sees it. A framework that
//! uses a part and returns the rest is thereby asked again only when its share is the smallest: this is how task-sized
//! DRF comes out of agent-sized offers.
//!
//! # Work is proportional to what changed
//! [`Allocator::allocate`] visits *candidates* only: agents on which something became free for anyone, and pairs of an
//! agent and a framework that stopped refusing it (subscribed, revived, a filter ran out). What is free on any other agent
//! is known to be refused by everybody, and [`Allocator::check`] proves it.
//!
//! A framework that returns everything without a filter is offered the same again in the next run, for as long as its
//! share is the smallest. That is what it asked for; the master bounds the cost by running once per coalesced batch of
//! events instead of once per event.
//!
//! # What is left open
//! Nodes form a tree of any depth (module `tree`). For now each role, whatever its path, is a child of the root; hierarchy
//! hangs `a/b` below `a`, quotas and reservations bound what a node may be granted, and none of it changes the interface.

mod allocator;
mod candidates;
mod check;
#[cfg_attr(not(test), allow(dead_code, reason = "the table is for the demands, which follow"))]
mod constraints;
#[cfg_attr(not(test), allow(dead_code, reason = "served once the core has leaves and agents by number"))]
mod demand;
mod error;
mod explain;
mod filters;
mod ledger;
mod options;
mod quota_check;
mod report;
mod run;
mod scalars;
mod share;
mod standing;
mod tree;

pub use allocator::Allocator;
pub use check::Violation;
pub use constraints::{MAX_PATTERN_BYTES, MAX_PATTERNS, PatternError, check_patterns, first_unmet};
pub use demand::{Bundle, Served};
pub use error::{AgentError, ChargeError, FrameworkError, ReleaseError};
pub use explain::{
    AgentFacts, Bound, Cause, ClassReasons, Exclusion, Explained, MAX_CLASSES, Short, Wish, explain, first_cause,
};
pub use options::Options;
pub use quota_check::{Excess, Gap, MAX_FAULTS_TOLD, Proposal, QuotaError, QuotaFault, QuotaPlan, check_quotas};
pub use report::{Dominant, FrameworkShare, RoleShare};
pub use run::Grant;
pub use standing::{FrameworkStanding, Standing, standings, used_by_role};
