//! What waits for an executor, and which tasks it has.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use holm_model::MAX_MESSAGE_BYTES;

use super::ExecutedTask;
use crate::limits::{MAX_EVENT_BYTES, MAX_EVENTS, MAX_EXECUTED_TASKS, MAX_INBOX_BYTES, MAX_INBOX_MESSAGES};

/// One thing to tell an executor.
#[derive(Debug)]
pub(crate) enum Event {
    Launch(ExecutedTask),
    Kill { task: u64, grace: Duration },
    Message { task: Option<u64>, data: Arc<[u8]> },
    Shutdown(Duration),
}

impl Event {
    fn bytes(&self) -> usize {
        match self {
            Event::Launch(task) => task.data.len() + task.name.len(),
            Event::Message { data, .. } => data.len(),
            Event::Kill { .. } | Event::Shutdown(_) => 0,
        }
    }
}

/// Where one task of an executor stands.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When it was told to the executor; until then it can be taken back.
    told: Option<Instant>,
    /// Whether the executor said that it runs.
    runs: bool,
    /// Whether it was asked to end.
    stop: bool,
}

/// What became of asking a task to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillAnswer {
    /// The executor is told.
    Asked,
    /// The executor has not heard of the task, and will not.
    TakenBack,
    /// There is no such task.
    Unknown,
}

/// What an executor says of a task, as far as its host believes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// It runs, for the first time.
    Runs,
    /// It says what was said before.
    Repeated,
    /// It has ended, after so long.
    Ended(Duration),
}

/// An executor's events and tasks. Shared by its handles and its host functions.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Messages among the events, and their bytes.
    messages: usize,
    message_bytes: usize,
    tasks: BTreeMap<u64, Entry>,
    shutdown: bool,
    over: bool,
    /// Who waits for an event: at most the one executor.
    waiting: Option<Waker>,
}

impl Inbox {
    /// No panic leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a task, if there is room for one more and the executor is not about to end.
    pub(crate) fn launch(&self, task: ExecutedTask) -> bool {
        let mut state = self.lock();
        if state.over || state.shutdown || state.tasks.len() >= MAX_EXECUTED_TASKS {
            return false;
        }
        state.tasks.insert(task.id, Entry { told: None, runs: false, stop: false });
        state.events.push_back(Event::Launch(task));
        wake(state);
        true
    }

    /// Asks a task to end. One that the executor has not heard of is taken back.
    pub(crate) fn kill(&self, task: u64, grace: Duration) -> KillAnswer {
        let mut state = self.lock();
        let Some(entry) = state.tasks.get_mut(&task) else { return KillAnswer::Unknown };
        if entry.told.is_none() {
            // Its event is passed over when its turn comes.
            state.tasks.remove(&task);
            return KillAnswer::TakenBack;
        }
        entry.stop = true;
        state.events.push_back(Event::Kill { task, grace });
        wake(state);
        KillAnswer::Asked
    }

    /// A task is over, whatever the executor says of it. An executor that knows of it is told, unless it was before.
    pub(crate) fn abandon(&self, task: u64) {
        let mut state = self.lock();
        let Some(entry) = state.tasks.remove(&task) else { return };
        if entry.told.is_some() && !entry.stop {
            state.events.push_back(Event::Kill { task, grace: Duration::ZERO });
            wake(state);
        }
    }

    /// Puts a message among the events, if there is room.
    pub(crate) fn message(&self, task: Option<u64>, data: Arc<[u8]>) -> bool {
        let mut state = self.lock();
        let full = state.messages >= MAX_INBOX_MESSAGES || state.message_bytes + data.len() > MAX_INBOX_BYTES;
        let unknown = task.is_some_and(|task| !state.tasks.contains_key(&task));
        if state.over || full || unknown || data.len() > MAX_MESSAGE_BYTES {
            return false;
        }
        state.messages += 1;
        state.message_bytes += data.len();
        state.events.push_back(Event::Message { task, data });
        wake(state);
        true
    }

    /// Asks the executor to end.
    pub(crate) fn shutdown(&self, grace: Duration) {
        let mut state = self.lock();
        if !state.shutdown && !state.over {
            state.shutdown = true;
            state.events.push_back(Event::Shutdown(grace));
            wake(state);
        }
    }

    /// Whether a task, or the executor itself, was asked to end. A task that is over was.
    pub(super) fn stop_requested(&self, task: Option<u64>) -> bool {
        let state = self.lock();
        match task {
            None => state.shutdown,
            Some(task) => state.shutdown || state.tasks.get(&task).is_none_or(|entry| entry.stop),
        }
    }

    pub(super) fn has(&self, task: u64) -> bool {
        self.lock().tasks.contains_key(&task)
    }

    /// The executor says how a task stands; none when it has no such task.
    pub(super) fn accept(&self, task: u64, ended: bool) -> Option<Accepted> {
        let mut state = self.lock();
        let entry = state.tasks.get_mut(&task)?;
        let told = entry.told?;
        if ended {
            state.tasks.remove(&task);
            return Some(Accepted::Ended(told.elapsed()));
        }
        Some(if std::mem::replace(&mut entry.runs, true) { Accepted::Repeated } else { Accepted::Runs })
    }

    /// Waits for events and takes as many as one call may have. With a `wait` that runs out there may be none.
    pub(super) async fn next(&self, wait: Option<Duration>) -> Vec<Event> {
        let (mut timer, mut yielded) = (None, false);
        poll_fn(|context| {
            let mut state = self.lock();
            state.waiting = None;
            let events = state.take();
            if !events.is_empty() || (yielded && wait == Some(Duration::ZERO)) {
                return Poll::Ready(events);
            }
            if wait == Some(Duration::ZERO) {
                // Behind the others that are ready, without a timer's delay.
                yielded = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            state.waiting = Some(context.waker().clone());
            drop(state);
            let Some(wait) = wait else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            timer.as_mut().poll(context).map(|()| Vec::new())
        })
        .await
    }

    /// The executor is over: lets go of what it holds.
    pub(crate) fn close(&self) {
        *self.lock() = State { over: true, ..State::default() };
    }
}

impl State {
    fn take(&mut self) -> Vec<Event> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(event) = self.events.front() {
            bytes += event.bytes();
            if taken.len() >= MAX_EVENTS || (bytes > MAX_EVENT_BYTES && !taken.is_empty()) {
                break;
            }
            let Some(event) = self.events.pop_front() else { break };
            match &event {
                Event::Launch(task) => match self.tasks.get_mut(&task.id) {
                    Some(entry) => entry.told = Some(Instant::now()),
                    // Taken back.
                    None => continue,
                },
                Event::Message { data, .. } => {
                    self.messages -= 1;
                    self.message_bytes -= data.len();
                }
                Event::Kill { .. } | Event::Shutdown(_) => {}
            }
            taken.push(event);
        }
        taken
    }
}

/// Wakes the one who waits, without the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = state.waiting.take();
    drop(state);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u64) -> ExecutedTask {
        ExecutedTask { id, name: format!("t/{id}"), index: None, data: [0; 1024][..].into() }
    }

    fn taken(inbox: &Inbox) -> Vec<Event> {
        inbox.lock().take()
    }

    #[test]
    fn a_task_that_the_executor_has_not_heard_of_is_taken_back() {
        let inbox = Inbox::default();
        assert!(inbox.launch(task(1)) && inbox.launch(task(2)));
        assert_eq!(inbox.kill(1, Duration::ZERO), KillAnswer::TakenBack);
        assert!(matches!(taken(&inbox)[..], [Event::Launch(ExecutedTask { id: 2, .. })]));
        assert_eq!(inbox.kill(2, Duration::ZERO), KillAnswer::Asked);
        assert_eq!(inbox.kill(1, Duration::ZERO), KillAnswer::Unknown);
        assert!(inbox.stop_requested(Some(2)) && !inbox.stop_requested(None));
        assert!(matches!(taken(&inbox)[..], [Event::Kill { task: 2, .. }]));
    }

    #[test]
    fn a_call_gets_a_bounded_number_of_events_and_bytes() {
        let inbox = Inbox::default();
        (0..300).for_each(|id| assert!(inbox.launch(ExecutedTask { data: [][..].into(), ..task(id) })));
        assert_eq!(taken(&inbox).len(), MAX_EVENTS);
        assert_eq!(taken(&inbox).len(), 300 - MAX_EVENTS);
        let large: Arc<[u8]> = vec![0; MAX_MESSAGE_BYTES].into();
        (0..40).for_each(|id| assert!(inbox.launch(ExecutedTask { data: large.clone(), ..task(1000 + id) })));
        assert_eq!(taken(&inbox).len(), 15);
        while !taken(&inbox).is_empty() {}
        assert!(inbox.message(None, large.clone()));
        (1..16).for_each(|_| assert!(inbox.message(Some(7), large.clone())));
        assert!(!inbox.message(None, large), "more than the inbox holds");
    }

    #[test]
    fn a_task_ends_once_and_only_when_it_is_there() {
        let inbox = Inbox::default();
        inbox.launch(task(1));
        assert_eq!(inbox.accept(1, false), None, "the executor has not heard of it");
        taken(&inbox);
        assert_eq!(inbox.accept(1, false), Some(Accepted::Runs));
        assert_eq!(inbox.accept(1, false), Some(Accepted::Repeated));
        assert!(matches!(inbox.accept(1, true), Some(Accepted::Ended(_))));
        assert_eq!(inbox.accept(1, true), None);
        inbox.launch(task(2));
        taken(&inbox);
        inbox.abandon(2);
        assert_eq!(inbox.accept(2, true), None);
        assert!(matches!(taken(&inbox)[..], [Event::Kill { task: 2, grace: Duration::ZERO }]));
    }

    #[test]
    fn an_executor_that_is_about_to_end_gets_no_more_tasks() {
        let inbox = Inbox::default();
        inbox.launch(task(1));
        taken(&inbox);
        inbox.shutdown(Duration::from_secs(1));
        assert!(!inbox.launch(task(2)));
        assert!(inbox.stop_requested(None) && inbox.stop_requested(Some(1)));
        assert!(matches!(taken(&inbox)[..], [Event::Shutdown(_)]));
    }
}
