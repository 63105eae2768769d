//! The run queue: a few threads that poll guests, one slice at a time.
//!
//! A guest runs until it waits for something, ends, or has used up its slice: at every epoch tick it is asked whether
//! its slice is over, and then goes behind the others that are ready. CPU time is what the thread's clock says around
//! each poll, so host calls are charged and waiting is not. Who is polled next is decided in [`ready`] alone.

mod ready;
mod slot;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holm_model::Reason;

use self::ready::ReadyQueue;
use self::slot::{Polled, Slot};
use crate::{Engine, Task};

/// The most tasks that any queue takes, whatever its options say.
const MAX_TASKS: usize = 65_536;

/// The shortest slice that a tick ends. A task polled just before a tick keeps running until the next.
const MIN_SLICE: Duration = Duration::from_micros(500);

/// How a queue is set up.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// Threads that poll guests, and with it the most CPUs that all guests together use.
    pub threads: usize,
    /// The most tasks held at a time, at most 65,536; with a pooling engine its number of tasks.
    pub max_tasks: usize,
}

/// Why a task was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: the task belongs into another runner, or has to wait.
    #[error("the runner holds {limit} tasks, which is its limit")]
    Full {
        /// The most it takes.
        limit: usize,
    },
    /// The queue was stopped.
    #[error("the runner is stopping")]
    Stopped,
}

/// Runs tasks on threads of its own. Dropping it stops it like [`Queue::stop`].
pub struct Queue {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    engine: Engine,
    tokio: tokio::runtime::Handle,
    max_tasks: usize,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    ready: ReadyQueue<Arc<Slot>>,
    /// Every task that has not ended, so that stopping finds those that wait.
    live: BTreeMap<u64, Arc<Slot>>,
    next_id: u64,
    parked: usize,
    stopped: bool,
}

/// A task's handle; clones are the same task.
#[derive(Clone)]
pub struct TaskHandle {
    slot: Arc<Slot>,
}

impl TaskHandle {
    /// Ends the task as KILLED with this reason, unless it is over already. A guest that computes dies within a tick or
    /// two, one that waits at once; its observer hears of it like of any other end.
    pub fn kill(&self, reason: Reason, message: &str) {
        self.slot.stop(reason, message);
    }

    /// Puts a message into the task's inbox. It is refused, and `false` returned, when the program does not receive, the
    /// task is seeded or over, the inbox is full, or the message is longer than 64 KiB.
    pub fn deliver(&self, message: Arc<[u8]>) -> bool {
        self.slot.mailbox().deliver(message)
    }

    /// Asks the task to end by itself. `false` when it cannot hear that, because its program does not import it or it is
    /// seeded: waiting for it is of no use then.
    pub fn stop(&self) -> bool {
        self.slot.mailbox().request_stop()
    }

    /// CPU time used so far, without the poll that is going on.
    pub fn cpu(&self) -> Duration {
        self.slot.cpu()
    }

    /// Whether the task has ended.
    pub fn is_over(&self) -> bool {
        self.slot.is_over()
    }
}

impl Queue {
    /// Starts the threads. Timers and file accesses of guests happen on the tokio runtime of the handle, which must have
    /// time and I/O enabled, threads of its own, and outlive the queue.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(engine: &Engine, options: QueueOptions, tokio: tokio::runtime::Handle) -> io::Result<Queue> {
        let state =
            State { ready: ReadyQueue::default(), live: BTreeMap::new(), next_id: 0, parked: 0, stopped: false };
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            tokio,
            max_tasks: options.max_tasks.clamp(1, MAX_TASKS),
            state: Mutex::new(state),
            work: Condvar::new(),
        });
        let mut queue = Queue { shared, threads: Vec::new() };
        for number in 0..options.threads.max(1) {
            let shared = queue.shared.clone();
            let thread = std::thread::Builder::new().name(format!("guests-{number}"));
            queue.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(queue)
    }

    /// Takes a task, which is ready at once.
    ///
    /// # Errors
    /// When the queue is full or stopped; the task is given up and its observer hears nothing.
    pub fn submit(&self, task: Task) -> Result<TaskHandle, SubmitError> {
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(SubmitError::Stopped);
        }
        if state.live.len() >= self.shared.max_tasks {
            return Err(SubmitError::Full { limit: self.shared.max_tasks });
        }
        state.next_id += 1;
        let slot = Slot::queued(state.next_id, task, &self.shared);
        let id = state.next_id;
        state.live.insert(id, slot.clone());
        state.ready.push(slot.clone());
        self.shared.call_worker(state);
        Ok(TaskHandle { slot })
    }

    /// How many tasks have not ended.
    pub fn live(&self) -> usize {
        self.shared.lock().live.len()
    }

    /// Ends every task as KILLED with the reason RUNNER_LOST and waits for the threads.
    pub fn stop(self) {}
}

impl Drop for Queue {
    fn drop(&mut self) {
        let live: Vec<Arc<Slot>> = {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.live.values().cloned().collect()
        };
        for slot in live {
            slot.stop(Reason::RunnerLost, "the runner stops");
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches the panics of guests; one of its own has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state and wakes a worker, if one sleeps.
    fn call_worker(&self, state: MutexGuard<'_, State>) {
        let parked = state.parked > 0;
        drop(state);
        if parked {
            self.work.notify_one();
        }
    }

    /// Takes a task that became ready, from wherever it was woken.
    fn make_ready(&self, slot: Arc<Slot>) {
        let mut state = self.lock();
        state.push(slot);
        self.call_worker(state);
    }

    /// A worker's life.
    fn work(&self) {
        let _entered = self.tokio.enter();
        let mut again = None;
        self.engine.ticker().busy();
        while let Some(slot) = self.next(again.take()) {
            begin_slice();
            match slot.poll() {
                Polled::Waits => {}
                Polled::Again => again = Some(slot),
                Polled::Over(ending) => {
                    // First make room: who hears of the end may submit the next task at once.
                    self.forget(&slot);
                    ending.tell();
                }
            }
        }
        self.engine.ticker().idle();
    }

    fn forget(&self, slot: &Slot) {
        let mut state = self.lock();
        state.live.remove(&slot.id());
        if state.stopped && state.live.is_empty() {
            drop(state);
            self.work.notify_all();
        }
    }

    /// Puts back the slot of the last poll, if it is still ready, and takes the next one. It returns nothing when the
    /// queue was stopped and every task has ended.
    fn next(&self, again: Option<Arc<Slot>>) -> Option<Arc<Slot>> {
        let mut state = self.lock();
        if let Some(slot) = again {
            state.push(slot);
            // This worker takes one of the two itself.
            if state.parked > 0 && state.ready.len() > 1 {
                self.work.notify_one();
            }
        }
        loop {
            if let Some(slot) = state.ready.pop() {
                return Some(slot);
            }
            if state.stopped && state.live.is_empty() {
                return None;
            }
            state.parked += 1;
            self.engine.ticker().idle();
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.engine.ticker().busy();
            state.parked -= 1;
        }
    }
}

impl State {
    fn push(&mut self, slot: Arc<Slot>) {
        if slot.is_stopped() { self.ready.push_urgent(slot) } else { self.ready.push(slot) }
    }
}

thread_local! {
    static SLICE_BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn begin_slice() {
    SLICE_BEGIN.set(Some(Instant::now()));
}

/// Whether the task that this thread polls has had its slice; asked at every tick.
pub(crate) fn slice_is_used_up() -> bool {
    SLICE_BEGIN.get().is_none_or(|begin| begin.elapsed() >= MIN_SLICE)
}
