//! From the SDK's types to the world's.

use std::time::Duration;

use holm_model::{InverseReason, Offer, Quantity, ResourceName, Resources, TaskRange, TaskSpan, TaskState, TaskStatus};
use holm_sdk::{Event, GiveBack, TaskUpdate};

use crate::bindings::wit;

/// None for what the world has no word for: it has no call that could cause it either.
pub(crate) fn event(event: Event) -> Option<wit::Event> {
    Some(match event {
        Event::Operations { .. } => return None,
        Event::Registered { framework, epoch } => {
            wit::Event::Registered(wit::Registered { framework: framework.to_string(), epoch: epoch.0 })
        }
        Event::Disconnected { message } => wit::Event::Disconnected(message.to_string()),
        Event::Offers(offers) => wit::Event::Offers(offers.iter().map(offer).collect()),
        Event::Rescinded(offers) => wit::Event::Rescinded(offers.iter().map(ToString::to_string).collect()),
        Event::InverseOffers(requests) => wit::Event::InverseOffers(requests.iter().map(give_back).collect()),
        Event::InverseRescinded(offers) => {
            wit::Event::InverseRescinded(offers.iter().map(ToString::to_string).collect())
        }
        Event::Updates(updates) => wit::Event::Updates(updates.iter().flat_map(update).collect()),
        Event::AgentLost { agent, message } => {
            wit::Event::AgentLost(wit::AgentLost { agent: agent.to_string(), message: message.to_string() })
        }
        Event::RunnerLost { agent, runner, message } => wit::Event::RunnerLost(wit::RunnerLost {
            agent: agent.to_string(),
            runner: runner.0,
            message: message.to_string(),
        }),
        Event::Message { agent, task, data } => wit::Event::Message(wit::TaskMessage {
            agent: agent.to_string(),
            task: task.to_string(),
            data: data.to_vec(),
        }),
        Event::Input(bytes) => wit::Event::Input(bytes),
        Event::Timer(token) => wit::Event::Timer(token),
        Event::Error { message } => wit::Event::Error(message.to_string()),
    })
}

fn give_back(request: &GiveBack) -> wit::InverseOffer {
    let GiveBack { offer, suggested } = request;
    wit::InverseOffer {
        id: offer.id.to_string(),
        framework: offer.framework.to_string(),
        role: offer.role.to_string(),
        agent: offer.agent.map(|agent| agent.to_string()),
        resources: resources(&offer.resources),
        deadline: micros(offer.deadline),
        reason: match offer.reason {
            InverseReason::Preemption => wit::InverseReason::Preemption,
            InverseReason::ScaleDown => wit::InverseReason::ScaleDown,
            InverseReason::Maintenance => wit::InverseReason::Maintenance,
        },
        beneficiary: offer.beneficiary.as_ref().map(ToString::to_string),
        message: offer.message.to_string(),
        suggested: suggested.iter().map(span).collect(),
    }
}

fn span(span: &TaskSpan) -> wit::TaskSpan {
    wit::TaskSpan { launch: span.batch.to_string(), tasks: range(span.tasks) }
}

fn range(tasks: TaskRange) -> wit::TaskRange {
    match tasks {
        TaskRange::Single => wit::TaskRange::Single,
        TaskRange::Array { first, count } => wit::TaskRange::Array(wit::IndexRange { first, count }),
    }
}

fn offer(offer: &Offer) -> wit::Offer {
    let pair = |(name, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| (name.to_string(), value.to_string());
    wit::Offer {
        id: offer.id.to_string(),
        framework: offer.framework.to_string(),
        role: offer.role.to_string(),
        agent: offer.agent.to_string(),
        hostname: offer.hostname.to_string(),
        resources: resources(&offer.resources),
        attributes: offer.attributes.iter().map(pair).collect(),
        demand: offer.demand.as_ref().map(ToString::to_string),
        gang: offer.gang.map(|gang| gang.to_string()),
    }
}

fn resources(resources: &Resources) -> Vec<wit::Resource> {
    let lower = |(name, quantity): (&ResourceName, &Quantity)| {
        let quantity = match quantity {
            Quantity::Scalar(amount) => wit::Quantity::Scalar(amount.0),
            Quantity::Ranges(ranges) => {
                wit::Quantity::Ranges(ranges.iter().map(|(first, last)| wit::Span { first, last }).collect())
            }
            Quantity::Set(items) => wit::Quantity::Items(items.iter().map(|item| item.to_string()).collect()),
        };
        wit::Resource { name: name.to_string(), quantity }
    };
    resources.iter().map(lower).collect()
}

/// The world's update has one usage: tasks that used different amounts become an update each.
fn update(update: &TaskUpdate) -> Vec<wit::TaskUpdate> {
    if update.usages.are_shared() { vec![alike(update)] } else { update.one_by_one().iter().map(alike).collect() }
}

fn alike(update: &TaskUpdate) -> wit::TaskUpdate {
    let tasks = range(update.tasks);
    wit::TaskUpdate {
        agent: update.agent.map(|agent| agent.to_string()),
        launch: update.batch.to_string(),
        tasks,
        status: status(&update.status),
    }
}

fn status(status: &TaskStatus) -> wit::TaskStatus {
    wit::TaskStatus {
        state: state(status.state),
        reason: status.reason.map(|reason| reason.as_str().to_owned()),
        message: status.message.to_string(),
        exit_code: status.exit_code,
        usage: wit::Usage {
            cpu: micros(status.usage.cpu),
            fuel: status.usage.fuel,
            peak_memory: status.usage.peak_memory,
            queued: micros(status.usage.queued),
            run: micros(status.usage.run),
            output_bytes: status.usage.output_bytes,
            network_refusals: status.usage.network_refusals,
            requests: status.usage.requests,
            failed_requests: status.usage.failed_requests,
            peak_disk: status.usage.peak_disk,
        },
        attempt: status.attempt,
    }
}

fn state(state: TaskState) -> wit::TaskState {
    match state {
        TaskState::Staging => wit::TaskState::Staging,
        TaskState::Running => wit::TaskState::Running,
        TaskState::Killing => wit::TaskState::Killing,
        TaskState::Unreachable => wit::TaskState::Unreachable,
        TaskState::Finished => wit::TaskState::Finished,
        TaskState::Failed => wit::TaskState::Failed,
        TaskState::Killed => wit::TaskState::Killed,
        TaskState::Dropped => wit::TaskState::Dropped,
        TaskState::Error => wit::TaskState::Error,
        TaskState::Gone => wit::TaskState::Gone,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
