//! Inverse offers.

use std::time::Duration;

use holm_model::{InverseOffer, InverseReason, Resources, TaskRange, TaskSpan};

use super::error::At;
use super::field::{explanation, micros, optional, parsed, text_or_empty};
use super::task::range_to_wire;
use super::{ConvertError, Decode, resources};
use crate::unknown::note_enum_value;
use crate::v1 as wire;

impl From<&InverseOffer> for wire::InverseOffer {
    fn from(offer: &InverseOffer) -> wire::InverseOffer {
        wire::InverseOffer {
            id: offer.id.to_string(),
            framework_id: offer.framework.to_string(),
            role: offer.role.to_string(),
            agent_id: text_or_empty(offer.agent.as_ref()),
            resources: resources::to_wire(&offer.resources),
            deadline_micros: micros(offer.deadline),
            reason: wire::InverseReason::from(offer.reason).into(),
            beneficiary: text_or_empty(offer.beneficiary.as_ref()),
            message: offer.message.to_string(),
        }
    }
}

impl Decode<wire::InverseOffer> for InverseOffer {
    fn decode(wire: wire::InverseOffer, at: &At<'_>) -> Result<InverseOffer, ConvertError> {
        Ok(InverseOffer {
            id: parsed(&wire.id, &at.field("id"))?,
            framework: parsed(&wire.framework_id, &at.field("framework_id"))?,
            role: parsed(&wire.role, &at.field("role"))?,
            agent: optional(&wire.agent_id, &at.field("agent_id"))?,
            resources: Resources::decode(wire.resources, &at.field("resources"))?,
            deadline: Duration::from_micros(wire.deadline_micros),
            reason: reason(wire.reason),
            beneficiary: optional(&wire.beneficiary, &at.field("beneficiary"))?,
            message: explanation(&wire.message),
        })
    }
}

impl From<InverseReason> for wire::InverseReason {
    fn from(reason: InverseReason) -> wire::InverseReason {
        match reason {
            InverseReason::Preemption => wire::InverseReason::Preemption,
            InverseReason::ScaleDown => wire::InverseReason::ScaleDown,
            InverseReason::Maintenance => wire::InverseReason::Maintenance,
        }
    }
}

/// The reason of a number from the wire. Whatever it is called, something is asked back: an unknown one is a preemption.
fn reason(number: i32) -> InverseReason {
    match wire::InverseReason::try_from(number) {
        Ok(wire::InverseReason::ScaleDown) => InverseReason::ScaleDown,
        Ok(wire::InverseReason::Maintenance) => InverseReason::Maintenance,
        Ok(wire::InverseReason::Preemption | wire::InverseReason::Unspecified) => InverseReason::Preemption,
        Err(_) => {
            note_enum_value();
            InverseReason::Preemption
        }
    }
}

impl From<&TaskSpan> for wire::TaskSpan {
    fn from(span: &TaskSpan) -> wire::TaskSpan {
        wire::TaskSpan { batch_id: span.batch.to_string(), array: range_to_wire(span.tasks) }
    }
}

impl Decode<wire::TaskSpan> for TaskSpan {
    fn decode(wire: wire::TaskSpan, at: &At<'_>) -> Result<TaskSpan, ConvertError> {
        Ok(TaskSpan {
            batch: parsed(&wire.batch_id, &at.field("batch_id"))?,
            tasks: TaskRange::decode(wire.array, &at.field("array"))?,
        })
    }
}
