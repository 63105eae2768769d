//! The wire: everything generated from `/proto`, and the conversions between it and the model.
//!
//! This is the only crate that knows bytes on a wire or on a disk. A value that comes out of a conversion has passed the
//! checks of its type, and every list and text in it is within a documented limit ([`limits`]); a value that does not pass
//! is refused with a [`ConvertError`] that names the field, the value and the limit.
//!
//! - [`v1`] and [`runner::v1`] are the generated messages and services.
//! - `T: TryFrom<v1::T>` and `v1::T: From<&T>` convert; [`FromFramework`] and [`FromAgent`] are what a master receives.
//! - [`pages`] converts what may be too large for one message into several.
//! - [`framing`] and [`record`] turn messages into bytes for sockets and files.

mod convert;
pub mod framing;
pub mod limits;
pub mod pages;
pub mod record;
pub mod unknown;

pub use convert::{
    ConvertError, FromAgent, FromFramework, Problem, agent, portions, resources, roles, scheduler, status,
};
pub use prost::Message;

/// The services and messages of package `holm.v1`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("holm.v1");
}

/// The protocol between an agent and its runner processes.
pub mod runner {
    /// The messages of package `holm.runner.v1`.
    #[allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("holm.runner.v1");
    }
}

/// Every `.proto` file with its comments, encoded, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/holm.fds"));

/// The version of `holm.v1` that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// The version of `holm.runner.v1` that this crate speaks.
pub const RUNNER_PROTOCOL: u32 = 1;
