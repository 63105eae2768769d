//! Decides who is offered what: weighted hierarchical dominant resource fairness (H-DRF) along the tree of roles, with
//! guarantees and limits at every level. Pure bookkeeping: it proposes [`Grant`]s and never sends them, and time is passed
//! in.
//!
//! # The rule
//! A framework's *dominant share* is the largest fraction it holds of any scalar resource of the cluster; what is offered
//! counts as held, and what is reserved for a role counts as held by it, used or not. Module `roles::fair` says how shares
//! add up along the tree so that no leaf starves. At each level whoever has the smallest share divided by its weight is
//! next; among equals, who was granted less often; then the smaller name. A grant is all that is free on one agent, cut down
//! to what limits leave and what guarantees of others do not need, and is charged at once, so that the next decision of the
//! same run already sees it. A framework that uses a part and returns the rest is thereby asked again only when its share is
//! the smallest: this is how task-sized DRF comes out of agent-sized offers.
//!
//! # Guarantees and limits
//! As long as a role that wants offers lacks some of its guarantee, a run first goes through the agents for those who lack
//! most of theirs; only then by fair share. What guarantees still lack stays free in the cluster. A limit is never exceeded
//! by a grant. What a role has above its guarantee competes by fair share like everything else.
//!
//! # Work is proportional to what changed
//! [`Allocator::allocate`] visits *candidates* only: agents on which something became free for anyone, pairs of an agent and
//! a framework whose filter ran out, and, for the sake of nodes that stopped refusing or came to have room under a limit, the
//! agents with anything free. What is free on any other agent is known to be refused by everybody, and
//! [`Allocator::check`] proves it.
//!
//! A framework that returns everything without a filter is offered the same again in the next run, for as long as its
//! share is the smallest. That is what it asked for; the master bounds the cost by running once per coalesced batch of
//! events instead of once per event.

mod allocator;
mod candidates;
mod check;
mod constraints;
mod convert;
mod demand;
mod error;
mod explain;
mod filters;
mod lookup;
mod names;
mod options;
pub mod policy;
pub mod preemption;
mod queues;
mod quota_check;
mod ranking;
mod report;
mod roles;
mod run;
mod standing;
mod stock;
mod subscriptions;
mod trial;
mod willing;

pub use allocator::Allocator;
pub use check::Violation;
pub use constraints::{MAX_PATTERN_BYTES, MAX_PATTERNS, PatternError, check_patterns, first_unmet};
pub use demand::{Bundle, DemandsError, Ends, Fit, KeptFor, Served, Waiting};
pub use error::{AgentError, ChargeError, ConvertError, FrameworkError, ReleaseError};
pub use explain::{
    AgentFacts, Bound, Cause, ClassReasons, Exclusion, Explained, MAX_CLASSES, Short, Wish, explain, first_cause,
};
pub use names::MAX_SCALARS;
pub use options::Options;
pub use quota_check::{Excess, Gap, MAX_FAULTS_TOLD, Proposal, QuotaError, QuotaFault, QuotaPlan, check_quotas};
pub use report::{Dominant, FrameworkShare, RoleShare};
pub use run::Grant;
pub use standing::{FrameworkStanding, Standing, standings, used_by_role};
pub use stock::AgentStock;
pub use subscriptions::FrameworkAbilities;
pub use trial::{Trial, TrialRank};
