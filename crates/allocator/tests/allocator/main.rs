//! What users of the allocator rely on, through its public interface only.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod demands;
mod fairness;
mod filters;
mod lifecycle;
mod properties;
mod quotas;
mod tenants;
