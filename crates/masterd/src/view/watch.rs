//! Following the read model: everything there is, then every change, as events that carry whole objects.
//!
//! A watcher that reads slowly sees fewer, newer states; one that falls behind by more changes than are remembered is
//! cut off.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{AgentId, FrameworkId, OfferId};
use holm_proto::v1::{self, watch_event};
use tokio::sync::mpsc;
use tonic::Status;

use super::query::task_summary;
use super::{Change, State, View};
use crate::clock;
use crate::service::Cluster;

/// How long a watcher may not read before it is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most changes rendered under one hold of the lock; one of them may be about 4096 tasks.
const CHANGES: usize = 16;

/// Most objects of a snapshot rendered under one hold of the lock.
const CHUNK: usize = 256;

/// Events that may wait for one watcher.
pub(crate) const WATCH_QUEUE: usize = 256;

type Events = mpsc::Sender<Result<v1::WatchEvent, Status>>;

/// Sends to `events` until the watcher goes or is too slow.
pub(crate) async fn run(view: Arc<View>, cluster: Cluster, resume: String, events: Events) {
    let end = match follow(&view, cluster, &resume, &events).await {
        Ok(()) => return,
        Err(status) => status,
    };
    // A watcher that has gone needs no last word.
    drop(tokio::time::timeout(PATIENCE, events.send(Err(end))).await);
}

async fn follow(view: &View, cluster: Cluster, resume: &str, events: &Events) -> Result<(), Status> {
    let mut signal = view.follow();
    let known = read_token(resume, cluster)?;
    let mut seen = match known.filter(|seen| view.read().changes.after(*seen, 0).is_ok()) {
        Some(seen) => seen,
        None => match snapshot(view, cluster, events).await {
            Some(seen) => seen,
            None => return Ok(()),
        },
    };
    loop {
        let (rendered, now_seen) = render_after(view, seen)?;
        let caught_up = rendered.is_empty();
        let last = rendered.len().saturating_sub(1);
        for (position, change) in rendered.into_iter().enumerate() {
            // Whoever is cut off among these resumes before them.
            let holds = if position == last { now_seen } else { seen };
            if send(events, cluster, holds, change).await.is_none() {
                return Ok(());
            }
        }
        seen = now_seen;
        if caught_up && seen == view.read().changes.latest() {
            tokio::select! {
                changed = signal.changed() => changed?,
                () = events.closed() => return Ok(()),
            }
        }
    }
}

async fn send(events: &Events, cluster: Cluster, seen: u64, change: watch_event::Change) -> Option<()> {
    let resume_token = format!("{}.{seen}", cluster.epoch);
    let event = v1::WatchEvent { resume_token, change: Some(change) };
    // A watcher that does not read is cut off; it may come back with its token.
    tokio::time::timeout(PATIENCE, events.send(Ok(event))).await.ok()?.ok()
}

fn read_token(token: &str, cluster: Cluster) -> Result<Option<u64>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('.').and_then(|(epoch, seen)| Some((epoch.parse().ok()?, seen.parse().ok()?)));
    let (epoch, seen): (u64, u64) =
        parts.ok_or_else(|| Status::invalid_argument(format!("resume_token {token:?} is malformed")))?;
    Ok((epoch == cluster.epoch.0).then_some(seen))
}

/// The present state of what changed after number `seen`, and the number up to which that holds.
fn render_after(view: &View, seen: u64) -> Result<(Vec<watch_event::Change>, u64), Status> {
    let state = view.read();
    let (changes, seen) = state
        .changes
        .after(seen, CHANGES)
        .map_err(|_| Status::resource_exhausted("the watcher reads too slowly; watch again to begin anew"))?;
    let now = clock::unix_micros();
    let offered = if changes.iter().any(|change| matches!(change, Change::Agent(_))) {
        state.offered_by_agent()
    } else {
        BTreeMap::new()
    };
    let mut rendered = Vec::with_capacity(changes.len());
    for change in changes {
        match change {
            Change::Agent(id) => rendered.push(match state.agents.get(&id) {
                Some(entry) => watch_event::Change::Agent(state.agent_summary(entry, &offered)),
                None => watch_event::Change::AgentRemoved(id.to_string()),
            }),
            Change::Framework(id) => rendered.push(match state.frameworks.get(&id) {
                Some(entry) => watch_event::Change::Framework(state.framework_summary(entry)),
                None => watch_event::Change::FrameworkRemoved(id.to_string()),
            }),
            Change::Offer(id) => rendered.push(match state.offers.get(&id) {
                Some(entry) => watch_event::Change::Offer(state.offer_summary(entry, now)),
                None => watch_event::Change::OfferRemoved(id.to_string()),
            }),
            Change::Roles => rendered.extend(state.role_summaries().into_iter().map(watch_event::Change::Role)),
            Change::Tasks { serial, first, count } => rendered.extend(tasks(&state, serial, first, count)),
        }
    }
    Ok((rendered, seen))
}

fn tasks(state: &State, serial: u64, first: u32, count: u32) -> impl Iterator<Item = watch_event::Change> {
    let launch = state.launches.get(&serial);
    let positions = first as usize..(first as usize).saturating_add(count as usize);
    let known = move |position: &usize| launch.is_some_and(|launch| *position < launch.tasks.len());
    let summary = move |position| launch.map(|launch| watch_event::Change::Task(task_summary(launch, position)));
    positions.take_while(known).filter_map(summary)
}

/// Sends everything; the number of the last change it certainly contains. None when the watcher has gone.
async fn snapshot(view: &View, cluster: Cluster, events: &Events) -> Option<u64> {
    let seen = view.read().changes.latest();
    let begin = v1::SnapshotBegin { cluster_id: cluster.id.to_string(), epoch: cluster.epoch.0 };
    send(events, cluster, 0, watch_event::Change::SnapshotBegin(begin)).await?;
    let mut cursor = Cursor::Agents(None);
    while cursor != Cursor::Done {
        let (rendered, next) = snapshot_chunk(&view.read(), cursor);
        for change in rendered {
            // Until the end mark a resume begins anew: number 0 is not remembered for long.
            send(events, cluster, 0, change).await?;
        }
        cursor = next;
    }
    send(events, cluster, seen, watch_event::Change::SnapshotEnd(v1::SnapshotEnd {})).await?;
    Some(seen)
}

/// Where a snapshot goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Agents(Option<AgentId>),
    Frameworks(Option<FrameworkId>),
    Launches(u64),
    Offers(Option<OfferId>),
    Roles,
    Done,
}

fn after<T>(id: Option<T>) -> (Bound<T>, Bound<T>) {
    (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn snapshot_chunk(state: &State, cursor: Cursor) -> (Vec<watch_event::Change>, Cursor) {
    match cursor {
        Cursor::Agents(last) => {
            let offered = state.offered_by_agent();
            let page: Vec<_> = state.agents.range(after(last)).take(CHUNK).collect();
            let next = page.last().map_or(Cursor::Frameworks(None), |(id, _)| Cursor::Agents(Some(**id)));
            let agent = |(_, entry)| watch_event::Change::Agent(state.agent_summary(entry, &offered));
            (page.into_iter().map(agent).collect(), next)
        }
        Cursor::Frameworks(last) => {
            let page: Vec<_> = state.frameworks.range(after(last)).take(CHUNK).collect();
            let next = page.last().map_or(Cursor::Launches(0), |(id, _)| Cursor::Frameworks(Some(**id)));
            let framework = |(_, entry)| watch_event::Change::Framework(state.framework_summary(entry));
            (page.into_iter().map(framework).collect(), next)
        }
        // A launch has at most 4096 tasks, so one at a time is a chunk.
        Cursor::Launches(last) => match state.launches.range(last + 1..).next() {
            Some((serial, _)) => (tasks(state, *serial, 0, u32::MAX).collect(), Cursor::Launches(*serial)),
            None => (Vec::new(), Cursor::Offers(None)),
        },
        Cursor::Offers(last) => {
            let now = clock::unix_micros();
            let page: Vec<_> = state.offers.range(after(last)).take(CHUNK).collect();
            let next = page.last().map_or(Cursor::Roles, |(id, _)| Cursor::Offers(Some(**id)));
            let offer = |(_, entry)| watch_event::Change::Offer(state.offer_summary(entry, now));
            (page.into_iter().map(offer).collect(), next)
        }
        Cursor::Roles => (state.role_summaries().into_iter().map(watch_event::Change::Role).collect(), Cursor::Done),
        Cursor::Done => (Vec::new(), Cursor::Done),
    }
}
