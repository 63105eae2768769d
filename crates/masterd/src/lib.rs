//! The master daemon: the state machine of `holm-master` on real sockets, files and clocks.
//!
//! [`Service::bind`] opens the store and listens, [`Service::run`] serves. Inside:
//! - `driver`: the one thread that owns the master; everything reaches it through one bounded queue.
//! - `sessions`: the control streams of agents and frameworks; `outbound`: what waits to be sent to them.
//! - `connection`: the port, which gRPC and HTTP share; `auth`: tokens and secrets.
//! - `view`: the read model, a fold of what the master says has changed; `operator`, `http` and `metrics` show it.
//! - `blobs`: the store of modules and input files; `bulk` and `logs`: the relay of logs and sandbox files.
//! - `policy` (a feature): the organisation's own order, a Wasm component on a thread of its own.
//! - `registry`: the master's records as keys of `holm-coordination`.
//!
//! Nobody waits for a slow peer: an outbound queue that is full ends its session. Every queue has a bound, either a
//! constant of the module that has the queue or a field of [`Limits`].

mod auth;
mod blobs;
mod bulk;
mod clock;
mod connection;
mod demands;
mod driver;
mod explain;
mod http;
mod logs;
mod metrics;
mod operator;
mod options;
mod outbound;
#[cfg(feature = "policy")]
pub mod policy;
mod registry;
mod roles;
mod service;
mod sessions;
mod view;

pub use auth::TokenError;
pub use blobs::BlobLimits;
/// What a master takes back, and when.
pub use holm_master::{PreemptionOptions, ScaleDown};
pub use options::{Limits, Options};
pub use outbound::OutboundLimits;
pub use registry::RegistryError;
pub use service::{RunError, Service, StartError};
