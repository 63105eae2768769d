//! From the world's types to the SDK's. What a host sends is well-formed; what is not becomes an error event.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    Amount, Epoch, FrameworkId, InverseOffer, InverseReason, Offer, Portions, Quantity, Ranges, Reason, ResourceName,
    Resources, RunnerId, TaskRange, TaskSpan, TaskState, TaskStatus, Usage, Usages,
};

use super::wit;
use crate::{Event, GiveBack, TaskUpdate};

/// The event, unless it is one that this version has no words for.
pub(super) fn event(event: wit::Event) -> Option<Event> {
    if matches!(event, wit::Event::Other(_)) {
        return None;
    }
    let lifted = known_event(event);
    Some(lifted.unwrap_or_else(|message| Event::Error { message: format!("the host sent {message}").into() }))
}

fn known_event(event: wit::Event) -> Result<Event, String> {
    Ok(match event {
        wit::Event::Registered(registered) => {
            Event::Registered { framework: parse(&registered.framework)?, epoch: Epoch(registered.epoch) }
        }
        wit::Event::Disconnected(message) => Event::Disconnected { message: message.into() },
        wit::Event::Offers(offers) => Event::Offers(offers.into_iter().map(offer).collect::<Result<_, _>>()?),
        wit::Event::Rescinded(offers) => Event::Rescinded(offers.iter().map(|id| parse(id)).collect::<Result<_, _>>()?),
        wit::Event::InverseOffers(offers) => {
            Event::InverseOffers(offers.into_iter().map(give_back).collect::<Result<_, _>>()?)
        }
        wit::Event::InverseRescinded(offers) => {
            Event::InverseRescinded(offers.iter().map(|id| parse(id)).collect::<Result<_, _>>()?)
        }
        wit::Event::Updates(updates) => Event::Updates(updates.into_iter().map(update).collect::<Result<_, _>>()?),
        wit::Event::AgentLost(lost) => Event::AgentLost { agent: parse(&lost.agent)?, message: lost.message.into() },
        wit::Event::RunnerLost(lost) => Event::RunnerLost {
            agent: parse(&lost.agent)?,
            runner: RunnerId(lost.runner),
            message: lost.message.into(),
        },
        wit::Event::Message(message) => {
            Event::Message { agent: parse(&message.agent)?, task: parse(&message.task)?, data: message.data.into() }
        }
        wit::Event::Input(bytes) => Event::Input(bytes),
        wit::Event::Timer(token) => Event::Timer(token),
        wit::Event::Error(message) | wit::Event::Other(message) => Event::Error { message: message.into() },
    })
}

fn give_back(offer: wit::InverseOffer) -> Result<GiveBack, String> {
    let suggested = offer.suggested.into_iter().map(span).collect::<Result<_, String>>()?;
    let of_scheduler = InverseOffer {
        id: parse(&offer.id)?,
        framework: parse(&offer.framework)?,
        role: parse(&offer.role)?,
        agent: offer.agent.as_deref().map(parse).transpose()?,
        resources: resources(offer.resources)?,
        deadline: Duration::from_micros(offer.deadline),
        reason: match offer.reason {
            wit::InverseReason::Preemption => InverseReason::Preemption,
            wit::InverseReason::ScaleDown => InverseReason::ScaleDown,
            wit::InverseReason::Maintenance => InverseReason::Maintenance,
        },
        beneficiary: offer.beneficiary.as_deref().map(parse).transpose()?,
        message: offer.message.into(),
    };
    Ok(GiveBack { offer: of_scheduler, suggested })
}

fn span(span: wit::TaskSpan) -> Result<TaskSpan, String> {
    let tasks = match span.tasks {
        wit::TaskRange::Single => TaskRange::Single,
        wit::TaskRange::Array(range) => TaskRange::Array { first: range.first, count: range.count },
    };
    Ok(TaskSpan { batch: parse(&span.launch)?, tasks })
}

fn offer(offer: wit::Offer) -> Result<Offer, String> {
    Ok(Offer {
        id: parse(&offer.id)?,
        framework: parse::<FrameworkId>(&offer.framework)?,
        role: parse(&offer.role)?,
        agent: parse(&offer.agent)?,
        hostname: offer.hostname.into(),
        portions: Portions::unreserved(resources(offer.resources.clone())?),
        resources: resources(offer.resources)?,
        attributes: offer.attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        demand: offer.demand.as_deref().map(parse).transpose()?,
        gang: offer.gang.as_deref().map(parse).transpose()?,
    })
}

fn resources(resources: Vec<wit::Resource>) -> Result<Resources, String> {
    let lifted = resources.into_iter().map(|resource| {
        let quantity = match resource.quantity {
            wit::Quantity::Scalar(raw) => Quantity::Scalar(Amount(raw)),
            wit::Quantity::Ranges(spans) => {
                Quantity::Ranges(Ranges::new(spans.iter().map(|span| (span.first, span.last))))
            }
            wit::Quantity::Items(items) => Quantity::Set(items.into_iter().map(Arc::from).collect()),
        };
        Ok((parse::<ResourceName>(&resource.name)?, quantity))
    });
    lifted.collect()
}

fn update(update: wit::TaskUpdate) -> Result<TaskUpdate, String> {
    let tasks = match update.tasks {
        wit::TaskRange::Single => TaskRange::Single,
        wit::TaskRange::Array(range) => TaskRange::Array { first: range.first, count: range.count },
    };
    Ok(TaskUpdate {
        agent: update.agent.as_deref().map(parse).transpose()?,
        batch: parse(&update.launch)?,
        tasks,
        status: status(update.status),
        usages: Usages::default(),
    })
}

fn status(status: wit::TaskStatus) -> TaskStatus {
    let known = |name: String| Reason::ALL.iter().copied().find(|reason| reason.as_str() == name);
    TaskStatus {
        state: state(status.state),
        reason: status.reason.and_then(known),
        message: status.message.into(),
        exit_code: status.exit_code,
        usage: Usage {
            cpu: Duration::from_micros(status.usage.cpu),
            fuel: status.usage.fuel,
            peak_memory: status.usage.peak_memory,
            queued: Duration::from_micros(status.usage.queued),
            run: Duration::from_micros(status.usage.run),
            output_bytes: status.usage.output_bytes,
            network_refusals: status.usage.network_refusals,
            requests: status.usage.requests,
            failed_requests: status.usage.failed_requests,
            peak_disk: status.usage.peak_disk,
        },
        attempt: status.attempt,
    }
}

fn state(state: wit::TaskState) -> TaskState {
    match state {
        wit::TaskState::Staging => TaskState::Staging,
        wit::TaskState::Running => TaskState::Running,
        wit::TaskState::Killing => TaskState::Killing,
        wit::TaskState::Unreachable => TaskState::Unreachable,
        wit::TaskState::Finished => TaskState::Finished,
        wit::TaskState::Failed => TaskState::Failed,
        wit::TaskState::Killed => TaskState::Killed,
        wit::TaskState::Dropped => TaskState::Dropped,
        wit::TaskState::Error => TaskState::Error,
        wit::TaskState::Gone => TaskState::Gone,
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
