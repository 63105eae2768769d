//! Frameworks for Holm. A framework is a [`Scheduler`]: it is told what happened and answers with what it wants. The rest
//! (finding the leading master, coming back after a failure, acknowledging, telling every end exactly once) is done here.
//!
//! The same source runs in two bindings:
//!
//! - feature `grpc` (default): a program of its own. [`Driver`] connects a scheduler to the masters; [`Client`] pushes blobs,
//!   reads logs and asks the operator's questions.
//! - feature `component`: a component of the world `holm:framework/scheduler` (`wit/framework`), built for `wasm32-wasip2` and run
//!   by `holm framework run`. [`export_scheduler!`] makes the exports.
//!
//! ```
//! use holm_sdk::model::{FrameworkInfo, Role};
//! use holm_sdk::{Calls, Event, Scheduler};
//!
//! /// Gives every offer back and ends at the first one.
//! struct Glance;
//!
//! impl Scheduler for Glance {
//!     fn describe(&self) -> FrameworkInfo {
//!         holm_sdk::framework_info("glance", [Role::default_role()])
//!     }
//!
//!     fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
//!         for event in events {
//!             if let Event::Offers(offers) = event {
//!                 calls.decline(offers.iter().map(|offer| offer.id), None);
//!                 calls.finish(0, format!("{} offers", offers.len()));
//!             }
//!         }
//!     }
//! }
//! ```

mod calls;
mod scheduler;

#[cfg(feature = "grpc")]
mod address;
#[cfg(feature = "grpc")]
mod client;
#[cfg(feature = "component")]
pub mod component;
#[cfg(feature = "grpc")]
mod driver;

#[cfg(feature = "grpc")]
pub use address::{AddressError, Bearer};
pub use calls::{Calls, Intent};
#[cfg(feature = "grpc")]
pub use client::{Authorized, Client, ClientError, PushError, Pushed};
#[cfg(feature = "grpc")]
pub use driver::{Driver, DriverError, Handle, MAX_OUTBOX, MAX_TIMERS, OnFinish, Options, Outcome, Stopped};
pub use holm_model as model;
#[cfg(feature = "grpc")]
pub use holm_proto as proto;
pub use holm_session::{GiveBack, Identity, TaskUpdate};
pub use scheduler::{Configured, Event, Scheduler, framework_info};

/// Exports a [`Configured`] scheduler from this crate as a component of the world `holm:framework/scheduler`. Where the
/// crate is not built as a component, nothing happens.
///
/// ```
/// # struct Tiles;
/// # impl holm_sdk::Scheduler for Tiles {
/// #     fn describe(&self) -> holm_sdk::model::FrameworkInfo { holm_sdk::framework_info("tiles", []) }
/// #     fn handle(&mut self, _: Vec<holm_sdk::Event>, _: &mut holm_sdk::Calls) {}
/// # }
/// # impl holm_sdk::Configured for Tiles {
/// #     fn configure(_: &[u8]) -> Result<Self, String> { Ok(Tiles) }
/// # }
/// holm_sdk::export_scheduler!(Tiles);
/// ```
#[cfg(not(all(feature = "component", target_family = "wasm")))]
#[macro_export]
macro_rules! export_scheduler {
    ($scheduler:ty) => {
        const _: fn() = || {
            fn is_configured<T: $crate::Configured>() {}
            is_configured::<$scheduler>();
        };
    };
}
