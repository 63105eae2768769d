//! The allocation policy: who goes first where fairness alone would decide, as an organisation wants it.
//!
//! A policy *ranks* siblings of the tree (the roles with one parent, the frameworks in one role); the smaller
//! rank goes first, and equal ranks are ordered as ever. It only reorders: whatever it answers, limits, headroom for guarantees,
//! reservations and filters decide what may be granted at all.
//!
//! A policy is never asked within a decision. It is told what has changed of the columns it reads (`columns` names them, `rows`
//! remembers what was told), and its answer, once found to make sense (`answer`), stands until the next. `wit/policy` says
//! the same to authors of Wasm policies.

mod answer;
mod columns;
mod inputs;
mod rows;
mod strict;

use holm_model::{PolicyDescription, PolicyFailure, PolicyPatch};

pub use answer::Rank;
pub use columns::DescriptionError;
pub(crate) use columns::{Column, Table};
pub(crate) use inputs::{Inputs, Key, Source, Version};
pub(crate) use rows::Cell;
pub use strict::StrictPriority;

/// Whether a description is one that an allocator can go by.
///
/// # Errors
/// What cannot be, by name.
pub fn check(description: &PolicyDescription) -> Result<(), DescriptionError> {
    Inputs::of(description).map(drop)
}

/// Orders roles and frameworks. Synchronous and without effects of its own: the same calls in the same
/// order give the same answers.
pub trait Policy {
    /// What it is, which columns it reads and which it writes.
    fn describe(&self) -> PolicyDescription;

    /// Told what has changed since the last call, it answers with what it changes of its ranks.
    ///
    /// # Errors
    /// When it has no answer; it is out of force then, and told everything again before its next one.
    fn rank(&mut self, changes: &[PolicyPatch]) -> Result<Vec<PolicyPatch>, PolicyFailure>;
}

/// The order of an allocator without a policy: hierarchical dominant resource fairness. As a policy it reads and ranks nothing,
/// since ties are decided so anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltIn;

impl Policy for BuiltIn {
    fn describe(&self) -> PolicyDescription {
        PolicyDescription { name: "built-in".to_owned(), reads: Vec::new(), writes: Vec::new() }
    }

    fn rank(&mut self, _changes: &[PolicyPatch]) -> Result<Vec<PolicyPatch>, PolicyFailure> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
