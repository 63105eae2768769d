//! Output of tasks, merged from the agents that have some.
//!
//! What is there is asked of each agent once. To follow a framework, each of its launches is asked for by itself, from
//! its first byte, as it appears: so nothing is missed, whichever agent it runs on. When an agent's answer breaks off it
//! is asked again, and what was given already is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use holm_master::FrameworkPhase;
use holm_model::{AgentId, BatchId, FrameworkId, TaskId};
use holm_proto::v1::{self, frame::Body, open};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::bulk::Relay;
use crate::view::View;

/// Records held for one reader.
pub(crate) const RECORDS: usize = 16;

/// Launches of one framework followed at a time; the others wait for their turn, their output is kept by the agent.
const FOLLOWED: usize = 256;

/// How often a follower asks again for a launch whose agent does not know it yet or is away.
const RETRY: Duration = Duration::from_millis(200);

/// How long an ended launch's agent may be away before its output is given up.
const ABSENCE: Duration = Duration::from_secs(30);

/// What somebody wants to read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) framework: FrameworkId,
    /// A task, a launch, or (None) everything.
    pub(crate) task: Option<TaskId>,
    pub(crate) follow: bool,
    pub(crate) only_new: bool,
}

type Records = mpsc::Sender<Result<v1::LogRecord, Status>>;

/// Reads until everything was given, something failed, or the reader has gone.
pub(crate) async fn run(view: Arc<View>, relay: Arc<Relay>, wanted: Wanted, records: Records) {
    let end = if wanted.follow {
        follow(view, relay, &wanted, &records).await
    } else {
        read(&view, relay, &wanted, &records).await
    };
    if let Err(status) = end {
        // A reader that has gone needs no last word.
        drop(records.send(Err(status)).await);
    }
}

/// Everything there is now, agent by agent.
async fn read(view: &View, relay: Arc<Relay>, wanted: &Wanted, records: &Records) -> Result<(), Status> {
    let agents: BTreeSet<AgentId> = launches(view, wanted, 0).into_iter().map(|launch| launch.agent).collect();
    for agent in agents {
        let mut given = Given::default();
        let ask = Ask { agent, task: wanted.task.clone(), from_start: !wanted.only_new };
        match pump(&relay, wanted, &ask, &mut given, records).await {
            // An agent may have nothing of a framework whose tasks were refused.
            Err(status) if status.code() == Code::NotFound && wanted.task.is_none() => {}
            other => other?,
        }
    }
    Ok(())
}

/// A launch that has, or will have, output.
struct Source {
    serial: u64,
    agent: AgentId,
    batch: BatchId,
}

/// The launches with serial numbers above `after` that are wanted.
fn launches(view: &View, wanted: &Wanted, after: u64) -> Vec<Source> {
    let state = view.read();
    let Some(serials) = state.by_framework.get(&wanted.framework) else { return Vec::new() };
    let known = serials.range(after + 1..).filter_map(|serial| Some((*serial, state.launches.get(serial)?)));
    let named = |batch: &BatchId| wanted.task.as_ref().is_none_or(|task| task.batch == *batch);
    known
        .filter(|(_, launch)| named(&launch.id))
        .map(|(serial, launch)| Source { serial, agent: launch.agent, batch: launch.id.clone() })
        .collect()
}

async fn follow(view: Arc<View>, relay: Arc<Relay>, wanted: &Wanted, records: &Records) -> Result<(), Status> {
    let mut signal = view.follow();
    let mut open = JoinSet::new();
    let (mut seen, mut failed) = (0, None);
    let mut waiting = VecDeque::new();
    let mut from_start = !wanted.only_new;
    loop {
        // Ask whether it is over before looking for launches, so that the last ones are not missed.
        let over = is_over(&view, wanted);
        for source in launches(&view, wanted, seen) {
            seen = seen.max(source.serial);
            waiting.push_back((source, from_start));
        }
        from_start = true;
        while open.len() < FOLLOWED
            && let Some((source, from_start)) = waiting.pop_front()
        {
            let (view, relay, wanted, records) = (view.clone(), relay.clone(), wanted.clone(), records.clone());
            open.spawn(async move { follow_launch(&view, &relay, &wanted, &source, from_start, &records).await });
        }
        if over && open.is_empty() && waiting.is_empty() {
            return failed.map_or(Ok(()), Err);
        }
        tokio::select! {
            changed = signal.changed() => changed?,
            Some(ended) = open.join_next() => match ended {
                // One launch whose agent is gone does not end the others' output.
                Ok(ended) => failed = failed.or_else(|| ended.err()),
                Err(error) => return Err(Status::internal(error.to_string())),
            },
            () = records.closed() => return Ok(()),
        }
    }
}

/// Whether nothing more will be launched that is wanted.
fn is_over(view: &View, wanted: &Wanted) -> bool {
    let state = view.read();
    let ended = |phase| matches!(phase, FrameworkPhase::Completing | FrameworkPhase::Completed);
    // A task or launch that is named is in the listing already: that is how it was found.
    wanted.task.is_some() || state.frameworks.get(&wanted.framework).is_none_or(|entry| ended(entry.view.phase))
}

/// Follows one launch to the end of its output, waiting for its agent to know it.
async fn follow_launch(
    view: &View,
    relay: &Arc<Relay>,
    wanted: &Wanted,
    source: &Source,
    from_start: bool,
    records: &Records,
) -> Result<(), Status> {
    let task = match &wanted.task {
        Some(task) => task.clone(),
        None => TaskId { batch: source.batch.clone(), index: None },
    };
    let ask = Ask { agent: source.agent, task: Some(task.clone()), from_start };
    let is_live = || view.read().launches.get(&source.serial).is_some_and(|launch| launch.has_live(&task));
    let mut given = Given::default();
    let mut absent = Duration::ZERO;
    loop {
        let live = is_live();
        match pump(relay, wanted, &ask, &mut given, records).await {
            Ok(()) if !is_live() => return Ok(()),
            // An answer lasts as long as the tasks: the agent is stopping.
            Ok(()) => {}
            Err(status) if status.code() == Code::NotFound && !live => return Ok(()),
            Err(status) if status.code() == Code::NotFound => {}
            // Absence counts from the end of the task on: until then the agent may well come back.
            Err(status) if status.code() == Code::Unavailable && live => absent = Duration::ZERO,
            Err(status) if status.code() == Code::Unavailable && absent < ABSENCE => absent += RETRY,
            Err(status) => return Err(status),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = records.closed() => return Ok(()),
        }
    }
}

/// What is asked of one agent.
struct Ask {
    agent: AgentId,
    /// A task, a launch, or (None) everything of the framework.
    task: Option<TaskId>,
    from_start: bool,
}

/// How far the output of each task was passed on, so that it can be asked for again.
#[derive(Debug, Default)]
struct Given {
    /// By task and stream: the bytes of its output that the reader has, or has been told are lost.
    bytes: BTreeMap<(String, i32), u64>,
    /// The same for the answer that is being read.
    position: BTreeMap<(String, i32), u64>,
    /// Tasks whose end mark was passed on.
    ended: BTreeSet<String>,
}

impl Given {
    /// An answer begins; one from the start repeats what was given.
    fn rewind(&mut self, from_start: bool) {
        self.position = if from_start { BTreeMap::new() } else { self.bytes.clone() };
    }

    /// What of a record is new to the reader.
    fn admit(&mut self, mut record: v1::LogRecord) -> Option<v1::LogRecord> {
        if record.stream() == v1::LogStream::End {
            return self.ended.insert(record.task_id.clone()).then_some(record);
        }
        let key = (record.task_id.clone(), record.stream);
        let given = self.bytes.entry(key.clone()).or_default();
        let position = self.position.entry(key).or_default();
        let start = position.saturating_add(record.dropped_bytes);
        *position = start.saturating_add(record.data.len() as u64);
        if *position <= *given {
            return None;
        }
        let known = usize::try_from(given.saturating_sub(start)).unwrap_or(usize::MAX);
        record.data.advance(known.min(record.data.len()));
        record.dropped_bytes = start.saturating_sub(*given).min(record.dropped_bytes);
        *given = *position;
        Some(record)
    }
}

/// Asks one agent and passes on what the reader does not have.
async fn pump(
    relay: &Arc<Relay>,
    wanted: &Wanted,
    ask: &Ask,
    given: &mut Given,
    records: &Records,
) -> Result<(), Status> {
    let framework_id = wanted.framework.to_string();
    let task_id = ask.task.as_ref().map(TaskId::to_string).unwrap_or_default();
    let request =
        v1::ReadLogs { framework_id: framework_id.clone(), task_id, follow: wanted.follow, from_start: ask.from_start };
    let mut answer = relay.ask(ask.agent, open::Request::ReadLogs(request)).await?;
    given.rewind(ask.from_start);
    loop {
        let body = tokio::select! {
            body = answer.next() => body,
            () = records.closed() => return Ok(()),
        };
        let record = match body {
            None => return Ok(()),
            Some(Ok(Body::Log(record))) => given.admit(record),
            Some(Ok(_)) => None,
            Some(Err(status)) => return Err(status),
        };
        let Some(mut record) = record else { continue };
        record.framework_id.clone_from(&framework_id);
        record.agent_id = ask.agent.to_string();
        if records.send(Ok(record)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(dropped_bytes: u64, data: &'static str) -> v1::LogRecord {
        let stream = v1::LogStream::Stdout.into();
        v1::LogRecord {
            task_id: "t".to_owned(),
            stream,
            data: Bytes::from_static(data.as_bytes()),
            dropped_bytes,
            ..v1::LogRecord::default()
        }
    }

    fn text(record: Option<v1::LogRecord>) -> Option<(u64, String)> {
        record.map(|record| (record.dropped_bytes, String::from_utf8(record.data.to_vec()).unwrap()))
    }

    #[test]
    fn an_answer_that_is_repeated_goes_on_where_it_broke_off() {
        let mut given = Given::default();
        given.rewind(true);
        assert_eq!(text(given.admit(record(0, "abc"))), Some((0, "abc".to_owned())));
        assert_eq!(text(given.admit(record(2, "fg"))), Some((2, "fg".to_owned())));
        given.rewind(true);
        assert_eq!(text(given.admit(record(0, "abc"))), None);
        assert_eq!(text(given.admit(record(2, "fghi"))), Some((0, "hi".to_owned())));
        // The oldest segment has been deleted since.
        given.rewind(true);
        assert_eq!(text(given.admit(record(7, "hijk"))), Some((0, "jk".to_owned())));
        given.rewind(true);
        assert_eq!(text(given.admit(record(20, "u"))), Some((9, "u".to_owned())));
        // An answer that begins now goes on from what was given.
        given.rewind(false);
        assert_eq!(text(given.admit(record(0, "v"))), Some((0, "v".to_owned())));
    }

    #[test]
    fn a_task_ends_once() {
        let mut given = Given::default();
        let end = || v1::LogRecord { stream: v1::LogStream::End.into(), ..record(0, "") };
        given.rewind(true);
        assert!(given.admit(end()).is_some());
        given.rewind(true);
        assert!(given.admit(end()).is_none());
    }
}
