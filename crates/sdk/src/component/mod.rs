//! A scheduler as a component: the world `holm:framework/scheduler` (see `wit/framework`) over the [`Scheduler`] trait.
//!
//! [`export_scheduler!`](crate::export_scheduler) is the way in; the rest is what it expands to.

mod lift;
mod lower;

use std::cell::RefCell;

use crate::{Calls, Configured};

/// What `wit/framework` says, in Rust.
#[allow(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/framework",
        world: "scheduler",
        pub_export_macro: true,
        default_bindings_module: "holm_sdk::component::bindings",
    });
}

use bindings::holm::framework::types as wit;

/// The one scheduler of a component: made by `describe`, used by `on-events`.
pub struct Slot<S>(RefCell<Option<S>>);

impl<S: Configured> Slot<S> {
    /// No scheduler yet.
    pub const fn new() -> Slot<S> {
        Slot(RefCell::new(None))
    }

    /// What the export `describe` does.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn describe(&self, config: &[u8]) -> Result<wit::FrameworkInfo, String> {
        let scheduler = S::configure(config)?;
        let info = lower::info(&scheduler.describe());
        self.0.replace(Some(scheduler));
        Ok(info)
    }

    /// What the export `on-events` does.
    pub fn on_events(&self, events: Vec<wit::Event>) -> Vec<wit::Call> {
        let mut calls = Calls::new();
        match &mut *self.0.borrow_mut() {
            Some(scheduler) => {
                let events = events.into_iter().filter_map(lift::event).collect();
                crate::scheduler::call(scheduler, events, &mut calls);
            }
            None => calls.abort("on-events was called before describe"),
        }
        calls.take().into_iter().filter_map(lower::call).collect()
    }
}

impl<S: Configured> Default for Slot<S> {
    fn default() -> Slot<S> {
        Slot::new()
    }
}

/// Exports a [`Configured`] scheduler from this crate as a component of the world `holm:framework/scheduler`. Where the
/// crate is not built as a component, nothing happens.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! export_scheduler {
    ($scheduler:ty) => {
        mod __holm_scheduler {
            use super::*;

            ::std::thread_local! {
                static SLOT: $crate::component::Slot<$scheduler> = const { $crate::component::Slot::new() };
            }

            struct Exported;

            impl $crate::component::bindings::Guest for Exported {
                fn describe(
                    config: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<
                    $crate::component::bindings::holm::framework::types::FrameworkInfo,
                    ::std::string::String,
                > {
                    SLOT.with(|slot| slot.describe(&config))
                }

                fn on_events(
                    events: ::std::vec::Vec<$crate::component::bindings::holm::framework::types::Event>,
                ) -> ::std::vec::Vec<$crate::component::bindings::holm::framework::types::Call> {
                    SLOT.with(|slot| slot.on_events(events))
                }
            }

            $crate::component::bindings::export!(Exported with_types_in $crate::component::bindings);
        }
    };
}
