//! What may be too large for one message, as several.
//!
//! A core hands out lists of any length; a receiver refuses messages beyond [`crate::limits`]. Everything that can be long goes
//! through here, so that nothing a correct core says is ever refused for its size.

use holm_model::{Call, FromRunner, MAX_OPERATIONS, SchedulerEvent, ToMaster};
use prost::Message;

use crate::convert::{Problem, call_to_wire, clip, event_to_wire, from_runner_to_wire, to_master_to_wire};
use crate::limits::{
    MAX_ITEMS, MAX_LAUNCHES, MAX_OFFERS_PER_CALL, MAX_TO_MASTER_BYTES, PAGE_BYTES, SHORT_EXPLANATION_BYTES,
};
use crate::{ConvertError, runner, v1};
use v1::call_envelope::Call as WireCall;
use v1::event_envelope::Event;

/// A framework's call; a decline of many offers becomes several.
///
/// # Errors
/// The call cannot be sent, because it is larger than a master accepts; names the field, its size and the limit.
pub fn call(framework_epoch: u64, call: &Call) -> Result<Vec<v1::CallEnvelope>, ConvertError> {
    check_call(call)?;
    let calls = match call_to_wire(call) {
        WireCall::Decline(v1::Decline { offer_ids, refuse_micros }) => {
            let part = |ids: &[String]| WireCall::Decline(v1::Decline { offer_ids: ids.to_vec(), refuse_micros });
            offer_ids.chunks(MAX_OFFERS_PER_CALL).map(part).collect()
        }
        other => vec![other],
    };
    calls
        .into_iter()
        .map(|call| {
            let envelope = v1::CallEnvelope { framework_epoch, call: Some(call) };
            let (bytes, limit) = (envelope.encoded_len(), MAX_TO_MASTER_BYTES);
            if bytes > limit { Err(refused("call", Problem::TooLong { bytes, limit })) } else { Ok(envelope) }
        })
        .collect()
}

fn check_call(call: &Call) -> Result<(), ConvertError> {
    let (Call::Accept { offers, launches, .. }
    | Call::Operate { offers, launches, .. }
    | Call::LaunchGroup { offers, launches, .. }) = call
    else {
        return Ok(());
    };
    if let Call::Operate { operations, .. } = call
        && operations.len() > MAX_OPERATIONS
    {
        let (count, limit) = (operations.len(), MAX_OPERATIONS);
        return Err(refused("accept.operations", Problem::TooMany { count, limit }));
    }
    let lists =
        [("accept.offer_ids", offers.len(), MAX_OFFERS_PER_CALL), ("accept.launches", launches.len(), MAX_LAUNCHES)];
    match lists.into_iter().find(|(_, count, limit)| count > limit) {
        Some((field, count, limit)) => Err(refused(field, Problem::TooMany { count, limit })),
        None => Ok(()),
    }
}

fn refused(field: &str, problem: Problem) -> ConvertError {
    ConvertError { field: field.to_owned(), problem }
}

/// An event for a framework.
pub fn event(event: &SchedulerEvent) -> Vec<v1::EventEnvelope> {
    let events = match event_to_wire(event) {
        Event::Tasks(v1::Tasks { agent_id, incarnation, batches, last }) => {
            paged_to_last(shortened(batches), last, |batches, last| {
                Event::Tasks(v1::Tasks { agent_id: agent_id.clone(), incarnation, batches, last })
            })
        }
        Event::Offers(v1::Offers { offers }) => {
            paged(offers, Message::encoded_len, |offers| Event::Offers(v1::Offers { offers }))
        }
        Event::Rescinded(v1::Rescinded { offer_ids }) => {
            paged(offer_ids, String::len, |offer_ids| Event::Rescinded(v1::Rescinded { offer_ids }))
        }
        Event::InverseOffers(v1::InverseOffers { offers }) => {
            paged(offers, Message::encoded_len, |offers| Event::InverseOffers(v1::InverseOffers { offers }))
        }
        Event::InverseRescinded(v1::InverseRescinded { offer_ids }) => {
            paged(offer_ids, String::len, |offer_ids| Event::InverseRescinded(v1::InverseRescinded { offer_ids }))
        }
        Event::Updates(v1::Updates { agent_id, incarnation, source, updates }) => {
            paged(updates, Message::encoded_len, |updates| {
                Event::Updates(v1::Updates { agent_id: agent_id.clone(), incarnation, source, updates })
            })
        }
        other => vec![other],
    };
    events.into_iter().map(|event| v1::EventEnvelope { event: Some(event) }).collect()
}

/// A message for the master.
pub fn to_master(message: &ToMaster) -> Vec<v1::ToMaster> {
    use v1::to_master::Message as Wire;
    let wire = to_master_to_wire(message);
    let messages = match wire.message {
        Some(Wire::Report(v1::Report { batches, last })) => {
            paged_to_last(shortened(batches), last, |batches, last| Wire::Report(v1::Report { batches, last }))
        }
        Some(Wire::Updates(v1::AgentUpdates { framework_id, incarnation, updates })) => {
            paged(updates, Message::encoded_len, |updates| {
                Wire::Updates(v1::AgentUpdates { framework_id: framework_id.clone(), incarnation, updates })
            })
        }
        other => other.into_iter().collect(),
    };
    messages.into_iter().map(|message| v1::ToMaster { message: Some(message) }).collect()
}

/// A message for the agent.
pub fn from_runner(message: &FromRunner) -> Vec<runner::v1::FromRunner> {
    use runner::v1::from_runner::Message as Wire;
    let wire = from_runner_to_wire(message);
    let messages = match wire.message {
        Some(Wire::Reports(runner::v1::Reports { reports })) => {
            paged(reports, Message::encoded_len, |reports| Wire::Reports(runner::v1::Reports { reports }))
        }
        other => other.into_iter().collect(),
    };
    messages.into_iter().map(|message| runner::v1::FromRunner { message: Some(message) }).collect()
}

/// Splits a list into pages within [`MAX_ITEMS`] and, unless one item alone is larger, [`PAGE_BYTES`]. An empty list is
/// one empty page: it may mean something.
fn pages_of<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    /// The most that a list adds to an item: its tag and length.
    const OVERHEAD: usize = 6;
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = size(&item) + OVERHEAD;
        if page.len() == MAX_ITEMS || (bytes + size > PAGE_BYTES && !page.is_empty()) {
            pages.push(std::mem::take(&mut page));
            bytes = 0;
        }
        bytes += size;
        page.push(item);
    }
    pages.push(page);
    pages
}

fn paged<T, E>(items: Vec<T>, size: impl Fn(&T) -> usize, make: impl FnMut(Vec<T>) -> E) -> Vec<E> {
    pages_of(items, size).into_iter().map(make).collect()
}

/// Pages of which only the final one may say that it is the last.
fn paged_to_last<E>(
    items: Vec<v1::BatchReport>,
    last: bool,
    mut make: impl FnMut(Vec<v1::BatchReport>, bool) -> E,
) -> Vec<E> {
    let pages = pages_of(items, Message::encoded_len);
    let end = pages.len() - 1;
    pages.into_iter().enumerate().map(|(at, page)| make(page, last && at == end)).collect()
}

/// Cuts the texts of a report that is larger than a page: thousands of backtraces. The status log carries them whole.
fn shortened(mut batches: Vec<v1::BatchReport>) -> Vec<v1::BatchReport> {
    for report in &mut batches {
        if report.encoded_len() > PAGE_BYTES {
            for status in report.runs.iter_mut().filter_map(|run| run.status.as_mut()) {
                status.message.truncate(clip(&status.message, SHORT_EXPLANATION_BYTES).len());
            }
        }
    }
    batches
}
