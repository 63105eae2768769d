//! What `wit/framework` says, from the host's side.

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit/framework",
        world: "scheduler",
        exports: { default: async },
    });
}

pub(crate) use generated::holm::framework::types as wit;
pub(crate) use generated::{Scheduler, SchedulerPre};
