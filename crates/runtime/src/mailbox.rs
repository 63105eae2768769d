//! What passes between a task and those who launched it while it runs: messages both ways, and the request to stop.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use holm_model::MAX_MESSAGE_BYTES;

use crate::executor::Inbox as ExecutorInbox;
use crate::limits::{MAX_INBOX_BYTES, MAX_INBOX_MESSAGES};
use crate::{ExecutedUpdate, Observer};

/// What a task can take notice of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hears {
    /// Messages of its framework.
    pub(crate) messages: bool,
    /// The request to stop.
    pub(crate) stop: bool,
}

/// What came of waiting for a message.
#[derive(Debug)]
pub(crate) enum Received {
    /// The oldest one.
    Message(Arc<[u8]>),
    /// None came in time, or a request to stop came first.
    Nothing,
    /// The oldest one is larger than the room for it, and stays.
    TooLarge,
}

/// A task's mailbox and its observer, shared by its slot in the queue, its handles and its host functions.
pub(crate) struct Mailbox {
    hears: Hears,
    inbox: Mutex<Inbox>,
    /// What takes the inbox's place for an executor: it hears of tasks too, all in one order.
    executor: Option<ExecutorInbox>,
    /// Only the thread that polls the task takes this lock. Empty once the task has ended.
    observer: Mutex<Option<Box<dyn Observer>>>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Arc<[u8]>>,
    bytes: usize,
    stop: StopRequest,
    over: bool,
    /// Who waits for a message: at most the one task.
    waiting: Option<Waker>,
    /// Who waits for the request to stop: the host's part of a service.
    waiting_for_stop: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum StopRequest {
    #[default]
    None,
    /// The guest does not know yet: its next wait for a message ends at once.
    Made,
    /// The guest was told, or shown by the end of a wait.
    Noticed,
}

impl Inbox {
    fn take(&mut self, room: usize) -> Option<Received> {
        if let Some(oldest) = self.messages.pop_front() {
            if oldest.len() > room {
                self.messages.push_front(oldest);
                return Some(Received::TooLarge);
            }
            self.bytes -= oldest.len();
            return Some(Received::Message(oldest));
        }
        None
    }

    /// Whether there is a request that the guest does not know of; it is shown to it by the end of its wait.
    fn interrupt(&mut self) -> bool {
        let made = self.stop == StopRequest::Made;
        if made {
            self.stop = StopRequest::Noticed;
        }
        made
    }
}

/// Takes a lock. No panic leaves either of the two values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    pub(crate) fn new(hears: Hears, executor: bool, observer: Box<dyn Observer>) -> Mailbox {
        let executor = executor.then(ExecutorInbox::default);
        Mailbox { hears, inbox: Mutex::default(), executor, observer: Mutex::new(Some(observer)) }
    }

    /// The inbox of an executor; none for other tasks.
    pub(crate) fn executor(&self) -> Option<&ExecutorInbox> {
        self.executor.as_ref()
    }

    /// Puts a message into the inbox, if the task receives messages and there is room.
    pub(crate) fn deliver(&self, message: Arc<[u8]>) -> bool {
        if let Some(executor) = &self.executor {
            return executor.message(None, message);
        }
        if !self.hears.messages || message.len() > MAX_MESSAGE_BYTES {
            return false;
        }
        let mut inbox = lock(&self.inbox);
        let full = inbox.messages.len() >= MAX_INBOX_MESSAGES || inbox.bytes + message.len() > MAX_INBOX_BYTES;
        if inbox.over || full {
            return false;
        }
        inbox.bytes += message.len();
        inbox.messages.push_back(message);
        wake(inbox);
        true
    }

    /// Asks the task to stop within `grace`; returns whether it can hear that.
    pub(crate) fn request_stop(&self, grace: Duration) -> bool {
        if let Some(executor) = &self.executor {
            executor.shutdown(grace);
            return true;
        }
        if !self.hears.stop {
            return false;
        }
        let mut inbox = lock(&self.inbox);
        if inbox.stop == StopRequest::None {
            inbox.stop = StopRequest::Made;
            let for_stop = inbox.waiting_for_stop.take();
            wake(inbox);
            for_stop.into_iter().for_each(Waker::wake);
        }
        true
    }

    /// Waits until the task is asked to stop, without telling the guest.
    pub(crate) fn poll_stop(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inbox = lock(&self.inbox);
        if inbox.stop != StopRequest::None {
            return Poll::Ready(());
        }
        inbox.waiting_for_stop = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether the task was asked to stop; the guest is told.
    pub(crate) fn stop_requested(&self) -> bool {
        let mut inbox = lock(&self.inbox);
        inbox.interrupt() || inbox.stop == StopRequest::Noticed
    }

    /// Takes the oldest message, if it has no more than `room` bytes, or waits for one. A request to stop that the guest
    /// does not know of ends the wait.
    pub(crate) async fn receive(&self, wait: Duration, room: usize) -> Received {
        let mut timer = None;
        poll_fn(|context| {
            let mut inbox = lock(&self.inbox);
            inbox.waiting = None;
            if let Some(received) = inbox.take(room) {
                return Poll::Ready(received);
            }
            if wait.is_zero() || inbox.interrupt() {
                return Poll::Ready(Received::Nothing);
            }
            inbox.waiting = Some(context.waker().clone());
            drop(inbox);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            timer.as_mut().poll(context).map(|()| Received::Nothing)
        })
        .await
    }

    /// Hands a message of the guest to the observer.
    pub(crate) fn send(&self, data: Vec<u8>) {
        if let Some(observer) = lock(&self.observer).as_mut() {
            shielded("message", || observer.message(data));
        }
    }

    /// Tells the observer how tasks of the guest stand.
    pub(crate) fn executed(&self, updates: Vec<ExecutedUpdate>) {
        if let Some(observer) = lock(&self.observer).as_mut().filter(|_| !updates.is_empty()) {
            shielded("executed", || observer.executed(updates));
        }
    }

    /// Hands a message that the guest sends for a task of it to the observer.
    pub(crate) fn executed_message(&self, task: u64, data: Vec<u8>) {
        if let Some(observer) = lock(&self.observer).as_mut() {
            shielded("executed_message", || observer.executed_message(task, data));
        }
    }

    /// Tells the observer that the guest runs.
    pub(crate) fn started(&self) {
        if let Some(observer) = lock(&self.observer).as_mut() {
            shielded("started", || observer.started());
        }
    }

    /// The task is over: gives the observer back, the first time. Handles may live on; what they hold is let go.
    pub(crate) fn close(&self) -> Option<Box<dyn Observer>> {
        *lock(&self.inbox) = Inbox { over: true, ..Inbox::default() };
        if let Some(executor) = &self.executor {
            executor.close();
        }
        lock(&self.observer).take()
    }
}

/// Wakes the one who waits, without the lock.
fn wake(mut inbox: MutexGuard<'_, Inbox>) {
    let waiting = inbox.waiting.take();
    drop(inbox);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

/// Calls an observer; its panic must not take the worker along.
pub(crate) fn shielded(what: &str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!(call = what, "an observer panicked");
    }
}
