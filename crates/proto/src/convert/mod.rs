//! Conversions between the model and the wire.

pub mod agent;
mod demand;
mod error;
mod events;
mod field;
mod inverse;
mod network;
mod offer;
pub mod portions;
mod records;
pub mod resources;
pub mod roles;
mod runner;
pub mod scheduler;
pub mod status;
mod task;

pub use agent::FromAgent;
pub use error::{ConvertError, Problem};
pub use scheduler::FromFramework;

pub(crate) use agent::to_master_to_wire;
pub(crate) use events::event_to_wire;
pub(crate) use field::clip;
pub(crate) use runner::from_runner_to_wire;
pub(crate) use scheduler::call_to_wire;

use error::At;

/// A model type that can be read from the wire type `W`.
trait Decode<W>: Sized {
    /// Checks and converts `wire`, which stands at `at` of the message.
    fn decode(wire: W, at: &At<'_>) -> Result<Self, ConvertError>;
}

/// Makes [`Decode`] public as `TryFrom` for whole messages and for the parts that others store.
macro_rules! try_from {
    ($($wire:ty => $model:ty,)*) => {$(
        impl TryFrom<$wire> for $model {
            type Error = ConvertError;

            fn try_from(wire: $wire) -> Result<$model, ConvertError> {
                <$model>::decode(wire, &At::ROOT)
            }
        }
    )*};
}

use crate::{runner::v1 as runner_wire, v1 as wire};
use holm_model as model;

try_from! {
    wire::CallEnvelope => FromFramework,
    wire::EventEnvelope => model::SchedulerEvent,
    wire::ToMaster => FromAgent,
    wire::ToAgent => model::ToAgent,
    runner_wire::ToRunner => model::ToRunner,
    runner_wire::FromRunner => model::FromRunner,
    wire::TaskSpec => model::TaskSpec,
    wire::Launch => model::Launch,
    wire::Offer => model::Offer,
    wire::Demand => model::Demand,
    wire::Operation => model::Operation,
    wire::TaskStatus => model::TaskStatus,
    wire::Update => model::Update,
    wire::BatchReport => model::BatchReport,
    wire::ClusterRecord => model::ClusterRecord,
    wire::AgentRecord => model::AgentRecord,
    wire::FrameworkRecord => model::FrameworkRecord,
    wire::ReservationRecord => model::ReservationRecord,
    wire::PortionList => model::Portions,
    wire::RoleRecord => model::RoleRecord,
    wire::RoleUpdate => model::RoleUpdate,
}
