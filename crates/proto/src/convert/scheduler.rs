//! What frameworks say to the master.

use std::time::Duration;

use holm_model::{Call, Demand, MAX_DEMANDS, MAX_GIVEN_SPANS, MAX_OPERATIONS, Refusal, Secret, Subscribe};

use super::demand::{role_options, role_options_to_wire};
use super::error::At;
use super::field::{
    hello, list, message_bytes, micros, optional, parsed, parsed_list, read_hello, required, secret, secret_to_wire,
    text_or_empty, texts,
};
use super::offer::framework_info;
use super::{ConvertError, Decode};
use crate::limits::{MAX_LAUNCHES, MAX_OFFERS_PER_CALL, MAX_ROLES};
use crate::v1 as wire;
use wire::call_envelope::Call as WireCall;

/// A message of a framework, as its master reads it.
#[derive(Clone, Debug)]
pub enum FromFramework {
    /// The first words on a stream.
    Subscribe {
        /// What the framework wants.
        subscribe: Subscribe,
        /// What it presents to come back; to be hashed before any core sees it.
        secret: Option<Secret>,
    },
    /// A call of a subscribed framework.
    Call {
        /// The number of the subscription that the caller believes to hold.
        framework_epoch: u64,
        /// The call.
        call: Call,
    },
}

/// The first words on a stream. `software` is the version of the framework's software, for people.
pub fn subscribe(subscribe: &Subscribe, software: &str, secret: Option<&Secret>) -> wire::CallEnvelope {
    let call = wire::Subscribe {
        hello: Some(hello(software, &subscribe.info.capabilities)),
        info: Some((&subscribe.info).into()),
        framework_id: text_or_empty(subscribe.id.as_ref()),
        secret: secret_to_wire(secret),
        highest_epoch: subscribe.highest_epoch.0,
        suppressed_roles: texts(&subscribe.suppressed),
    };
    wire::CallEnvelope { framework_epoch: 0, call: Some(WireCall::Subscribe(call)) }
}

/// A call for the wire. [`crate::pages::call`] checks its size and splits it.
pub(crate) fn call_to_wire(call: &Call) -> WireCall {
    match call {
        Call::Accept { offers, launches, refusal } => WireCall::Accept(wire::Accept {
            offer_ids: texts(offers),
            launches: launches.iter().map(wire::Launch::from).collect(),
            operations: Vec::new(),
            refuse_micros: Some(micros(refusal.duration())),
        }),
        Call::Operate { offers, operations, launches, refusal } => WireCall::Accept(wire::Accept {
            offer_ids: texts(offers),
            launches: launches.iter().map(wire::Launch::from).collect(),
            operations: operations.iter().map(wire::RequestedOperation::from).collect(),
            refuse_micros: Some(micros(refusal.duration())),
        }),
        Call::LaunchGroup { offers, launches, refusal } => WireCall::LaunchGroup(wire::Accept {
            offer_ids: texts(offers),
            launches: launches.iter().map(wire::Launch::from).collect(),
            operations: Vec::new(),
            refuse_micros: Some(micros(refusal.duration())),
        }),
        Call::Decline { offers, refusal } => WireCall::Decline(wire::Decline {
            offer_ids: texts(offers),
            refuse_micros: Some(micros(refusal.duration())),
        }),
        Call::Suppress { roles } => WireCall::Suppress(wire::Suppress { roles: texts(roles) }),
        Call::Revive { roles } => WireCall::Revive(wire::Revive { roles: texts(roles) }),
        Call::Demand { role, demands } => WireCall::Demand(wire::StateDemands {
            role: role.to_string(),
            demands: demands.iter().map(wire::Demand::from).collect(),
        }),
        Call::SetRoleOptions { options } => {
            WireCall::SetRoleOptions(wire::SetRoleOptions { role_options: role_options_to_wire(options) })
        }
        Call::Kill { task, grace } => {
            WireCall::Kill(wire::Kill { task_id: task.to_string(), grace_micros: grace.map(micros) })
        }
        Call::Acknowledge { agent, incarnation, sequence } => WireCall::Acknowledge(wire::Acknowledge {
            agent_id: agent.to_string(),
            incarnation: incarnation.0,
            sequence: *sequence,
        }),
        Call::Message { agent, task, data } => WireCall::Message(wire::SendMessage {
            agent_id: agent.to_string(),
            task_id: task.to_string(),
            data: data.to_vec().into(),
        }),
        Call::AcceptInverse { offer, tasks, grace } => WireCall::AcceptInverse(wire::AcceptInverse {
            offer_id: offer.to_string(),
            tasks: tasks.iter().map(wire::TaskSpan::from).collect(),
            grace_micros: grace.map(micros),
        }),
        Call::DeclineInverse { offers } => WireCall::DeclineInverse(wire::DeclineInverse { offer_ids: texts(offers) }),
        Call::Teardown => WireCall::Teardown(wire::Teardown {}),
    }
}

impl Decode<wire::CallEnvelope> for FromFramework {
    fn decode(wire: wire::CallEnvelope, at: &At<'_>) -> Result<FromFramework, ConvertError> {
        let call = match wire.call {
            Some(WireCall::Subscribe(wire)) => return decode_subscribe(wire, &at.field("subscribe")),
            Some(WireCall::Accept(wire)) => decode_accept(wire, &at.field("accept"))?,
            Some(WireCall::LaunchGroup(wire)) => decode_group(wire, &at.field("launch_group"))?,
            Some(WireCall::Decline(wire)) => decode_decline(wire, &at.field("decline"))?,
            Some(WireCall::Suppress(wire)) => {
                let at = at.field("suppress");
                Call::Suppress { roles: parsed_list(&wire.roles, MAX_ROLES, &at.field("roles"))? }
            }
            Some(WireCall::Revive(wire)) => {
                let at = at.field("revive");
                Call::Revive { roles: parsed_list(&wire.roles, MAX_ROLES, &at.field("roles"))? }
            }
            Some(WireCall::Demand(wire)) => decode_demand(wire, &at.field("demand"))?,
            Some(WireCall::SetRoleOptions(wire)) => {
                let at = at.field("set_role_options");
                Call::SetRoleOptions { options: role_options(wire.role_options, &at.field("role_options"))? }
            }
            Some(WireCall::Kill(wire)) => {
                let task = parsed(&wire.task_id, &at.field("kill").field("task_id"))?;
                Call::Kill { task, grace: wire.grace_micros.map(Duration::from_micros) }
            }
            Some(WireCall::Acknowledge(wire)) => Call::Acknowledge {
                agent: parsed(&wire.agent_id, &at.field("acknowledge").field("agent_id"))?,
                incarnation: holm_model::Incarnation(wire.incarnation),
                sequence: wire.sequence,
            },
            Some(WireCall::Message(wire)) => decode_message(&wire, &at.field("message"))?,
            Some(WireCall::AcceptInverse(wire)) => {
                let at = at.field("accept_inverse");
                Call::AcceptInverse {
                    offer: parsed(&wire.offer_id, &at.field("offer_id"))?,
                    tasks: list(wire.tasks, MAX_GIVEN_SPANS, &at.field("tasks"))?,
                    grace: wire.grace_micros.map(Duration::from_micros),
                }
            }
            Some(WireCall::DeclineInverse(wire)) => {
                let at = at.field("decline_inverse");
                let offers = parsed_list(&wire.offer_ids, MAX_OFFERS_PER_CALL, &at.field("offer_ids"))?;
                Call::DeclineInverse { offers }
            }
            Some(WireCall::Teardown(wire::Teardown {})) => Call::Teardown,
            None => return Err(at.field("call").unknown()),
        };
        Ok(FromFramework::Call { framework_epoch: wire.framework_epoch, call })
    }
}

fn decode_subscribe(wire: wire::Subscribe, at: &At<'_>) -> Result<FromFramework, ConvertError> {
    let (_, capabilities) = read_hello(wire.hello, &at.field("hello"))?;
    let info = required(wire.info, &at.field("info"))?;
    let subscribe = Subscribe {
        info: framework_info(info, capabilities, &at.field("info"))?,
        id: optional(&wire.framework_id, &at.field("framework_id"))?,
        highest_epoch: holm_model::Epoch(wire.highest_epoch),
        suppressed: parsed_list(&wire.suppressed_roles, MAX_ROLES, &at.field("suppressed_roles"))?,
    };
    Ok(FromFramework::Subscribe { subscribe, secret: secret(&wire.secret, &at.field("secret"))? })
}

fn refusal(refuse_micros: Option<u64>) -> Refusal {
    refuse_micros.map_or_else(Refusal::default, |micros| Refusal::new(Duration::from_micros(micros)))
}

fn decode_accept(wire: wire::Accept, at: &At<'_>) -> Result<Call, ConvertError> {
    let offers = parsed_list(&wire.offer_ids, MAX_OFFERS_PER_CALL, &at.field("offer_ids"))?;
    let launches = list(wire.launches, MAX_LAUNCHES, &at.field("launches"))?;
    let operations: Vec<_> = list(wire.operations, MAX_OPERATIONS, &at.field("operations"))?;
    let refusal = refusal(wire.refuse_micros);
    Ok(if operations.is_empty() {
        Call::Accept { offers, launches, refusal }
    } else {
        Call::Operate { offers, operations, launches, refusal }
    })
}

fn decode_group(wire: wire::Accept, at: &At<'_>) -> Result<Call, ConvertError> {
    if !wire.operations.is_empty() {
        return Err(at.field("operations").invalid("operations go with an accept, not with a group"));
    }
    Ok(Call::LaunchGroup {
        offers: parsed_list(&wire.offer_ids, MAX_OFFERS_PER_CALL, &at.field("offer_ids"))?,
        launches: list(wire.launches, MAX_LAUNCHES, &at.field("launches"))?,
        refusal: refusal(wire.refuse_micros),
    })
}

fn decode_decline(wire: wire::Decline, at: &At<'_>) -> Result<Call, ConvertError> {
    Ok(Call::Decline {
        offers: parsed_list(&wire.offer_ids, MAX_OFFERS_PER_CALL, &at.field("offer_ids"))?,
        refusal: refusal(wire.refuse_micros),
    })
}

fn decode_demand(wire: wire::StateDemands, at: &At<'_>) -> Result<Call, ConvertError> {
    let role = parsed(&wire.role, &at.field("role"))?;
    let at = at.field("demands");
    let demands: Vec<Demand> = list(wire.demands, MAX_DEMANDS, &at)?;
    Demand::validate_all(&demands).map_err(|error| at.invalid(error))?;
    Ok(Call::Demand { role, demands })
}

fn decode_message(wire: &wire::SendMessage, at: &At<'_>) -> Result<Call, ConvertError> {
    Ok(Call::Message {
        agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
        task: parsed(&wire.task_id, &at.field("task_id"))?,
        data: message_bytes(&wire.data, &at.field("data"))?,
    })
}
