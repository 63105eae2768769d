//! The master as its peers see it. `harness` plays the shell, the agents and the frameworks.

mod accept;
mod agents;
mod demands;
mod frameworks;
mod gangs;
mod harness;
mod offers;
mod operations;
mod policy;
mod preemption;
mod properties;
mod reconcile;
mod revocable;
mod roles;
