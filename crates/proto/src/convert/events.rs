//! What the master says to frameworks.

use holm_model::{Capabilities, Epoch, Incarnation, MAX_OPERATIONS, RunnerId, SchedulerEvent};

use super::error::At;
use super::field::{
    explanation, hello, list, message_bytes, parsed, parsed_list, read_hello, secret, secret_to_wire, texts,
};
use super::status::{decode_source, source_to_wire};
use super::{ConvertError, Decode};
use crate::limits::{MAX_ITEMS, MAX_PENDING};
use crate::v1 as wire;
use wire::event_envelope::Event as WireEvent;

/// The version of the master's software, for people.
pub(super) const SOFTWARE: &str = env!("CARGO_PKG_VERSION");

/// An event for the wire. [`crate::pages::event`] splits what is large.
pub(crate) fn event_to_wire(event: &SchedulerEvent) -> WireEvent {
    match event {
        SchedulerEvent::Subscribed { framework, secret, epoch, framework_epoch, pending_agents } => {
            WireEvent::Subscribed(wire::Subscribed {
                hello: Some(hello(SOFTWARE, &Capabilities::new())),
                framework_id: framework.to_string(),
                secret: secret_to_wire(secret.as_ref()),
                epoch: epoch.0,
                framework_epoch: *framework_epoch,
                pending_agents: texts(pending_agents),
            })
        }
        SchedulerEvent::Tasks { agent, incarnation, batches, last } => WireEvent::Tasks(wire::Tasks {
            agent_id: agent.to_string(),
            incarnation: incarnation.0,
            batches: batches.iter().map(wire::BatchReport::from).collect(),
            last: *last,
        }),
        SchedulerEvent::Offers(offers) => {
            WireEvent::Offers(wire::Offers { offers: offers.iter().map(wire::Offer::from).collect() })
        }
        SchedulerEvent::Rescinded(offers) => WireEvent::Rescinded(wire::Rescinded { offer_ids: texts(offers) }),
        SchedulerEvent::InverseOffers(offers) => WireEvent::InverseOffers(wire::InverseOffers {
            offers: offers.iter().map(wire::InverseOffer::from).collect(),
        }),
        SchedulerEvent::InverseRescinded(offers) => {
            WireEvent::InverseRescinded(wire::InverseRescinded { offer_ids: texts(offers) })
        }
        SchedulerEvent::Updates { agent, incarnation, source, updates } => WireEvent::Updates(wire::Updates {
            agent_id: agent.to_string(),
            incarnation: incarnation.0,
            source: source_to_wire(*source),
            updates: updates.iter().map(wire::Update::from).collect(),
        }),
        SchedulerEvent::Operations { agent, statuses } => WireEvent::Operations(wire::Operations {
            agent_id: agent.to_string(),
            statuses: statuses.iter().map(wire::OperationStatus::from).collect(),
        }),
        SchedulerEvent::AgentLost { agent, message } => {
            WireEvent::AgentLost(wire::AgentLost { agent_id: agent.to_string(), message: message.to_string() })
        }
        SchedulerEvent::RunnerLost { agent, runner, message } => WireEvent::RunnerLost(wire::RunnerLost {
            agent_id: agent.to_string(),
            runner: runner.0,
            message: message.to_string(),
        }),
        SchedulerEvent::Message { agent, task, data } => WireEvent::Message(wire::TaskMessage {
            agent_id: agent.to_string(),
            task_id: task.to_string(),
            data: data.to_vec().into(),
        }),
        SchedulerEvent::Error { message, fatal } => {
            WireEvent::Error(wire::ErrorEvent { message: message.to_string(), fatal: *fatal })
        }
        SchedulerEvent::Heartbeat => WireEvent::Heartbeat(wire::Heartbeat {}),
    }
}

impl Decode<wire::EventEnvelope> for SchedulerEvent {
    fn decode(wire: wire::EventEnvelope, at: &At<'_>) -> Result<SchedulerEvent, ConvertError> {
        Ok(match wire.event {
            Some(WireEvent::Subscribed(wire)) => decode_subscribed(wire, &at.field("subscribed"))?,
            Some(WireEvent::Tasks(wire)) => decode_tasks(wire, &at.field("tasks"))?,
            Some(WireEvent::Offers(wire)) => {
                SchedulerEvent::Offers(list(wire.offers, MAX_ITEMS, &at.field("offers").field("offers"))?)
            }
            Some(WireEvent::Rescinded(wire)) => {
                let at = at.field("rescinded");
                SchedulerEvent::Rescinded(parsed_list(&wire.offer_ids, MAX_ITEMS, &at.field("offer_ids"))?)
            }
            Some(WireEvent::InverseOffers(wire)) => {
                let at = at.field("inverse_offers");
                SchedulerEvent::InverseOffers(list(wire.offers, MAX_ITEMS, &at.field("offers"))?)
            }
            Some(WireEvent::InverseRescinded(wire)) => {
                let at = at.field("inverse_rescinded");
                SchedulerEvent::InverseRescinded(parsed_list(&wire.offer_ids, MAX_ITEMS, &at.field("offer_ids"))?)
            }
            Some(WireEvent::Updates(wire)) => decode_updates(wire, &at.field("updates"))?,
            Some(WireEvent::Operations(wire)) => {
                let at = at.field("operations");
                SchedulerEvent::Operations {
                    agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
                    statuses: list(wire.statuses, MAX_OPERATIONS, &at.field("statuses"))?,
                }
            }
            Some(WireEvent::AgentLost(wire)) => SchedulerEvent::AgentLost {
                agent: parsed(&wire.agent_id, &at.field("agent_lost").field("agent_id"))?,
                message: explanation(&wire.message),
            },
            Some(WireEvent::RunnerLost(wire)) => SchedulerEvent::RunnerLost {
                agent: parsed(&wire.agent_id, &at.field("runner_lost").field("agent_id"))?,
                runner: RunnerId(wire.runner),
                message: explanation(&wire.message),
            },
            Some(WireEvent::Message(wire)) => decode_message(&wire, &at.field("message"))?,
            Some(WireEvent::Error(wire)) => {
                SchedulerEvent::Error { message: explanation(&wire.message), fatal: wire.fatal }
            }
            Some(WireEvent::Heartbeat(wire::Heartbeat {})) => SchedulerEvent::Heartbeat,
            None => return Err(at.field("event").unknown()),
        })
    }
}

fn decode_subscribed(wire: wire::Subscribed, at: &At<'_>) -> Result<SchedulerEvent, ConvertError> {
    read_hello(wire.hello, &at.field("hello"))?;
    Ok(SchedulerEvent::Subscribed {
        framework: parsed(&wire.framework_id, &at.field("framework_id"))?,
        secret: secret(&wire.secret, &at.field("secret"))?,
        epoch: Epoch(wire.epoch),
        framework_epoch: wire.framework_epoch,
        pending_agents: parsed_list(&wire.pending_agents, MAX_PENDING, &at.field("pending_agents"))?,
    })
}

fn decode_tasks(wire: wire::Tasks, at: &At<'_>) -> Result<SchedulerEvent, ConvertError> {
    Ok(SchedulerEvent::Tasks {
        agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
        incarnation: Incarnation(wire.incarnation),
        batches: list(wire.batches, MAX_ITEMS, &at.field("batches"))?,
        last: wire.last,
    })
}

fn decode_updates(wire: wire::Updates, at: &At<'_>) -> Result<SchedulerEvent, ConvertError> {
    Ok(SchedulerEvent::Updates {
        agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
        incarnation: Incarnation(wire.incarnation),
        source: decode_source(wire.source, &at.field("source"))?,
        updates: list(wire.updates, MAX_ITEMS, &at.field("updates"))?,
    })
}

fn decode_message(wire: &wire::TaskMessage, at: &At<'_>) -> Result<SchedulerEvent, ConvertError> {
    Ok(SchedulerEvent::Message {
        agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
        task: parsed(&wire.task_id, &at.field("task_id"))?,
        data: message_bytes(&wire.data, &at.field("data"))?,
    })
}
