//! The run queue: a few threads that poll guests, one slice at a time.
//!
//! A guest runs until it waits for something, ends, or has used up its slice: at every epoch tick it is asked whether
//! its slice is over, and then goes among the others that are ready. CPU time is what the thread's clock says around each
//! slice, so host calls are charged and waiting is not; that of blocking calls is added by the threads that do them. Who is
//! polled next is decided in [`fair`] alone, and how much this process may take from others like it in [`balance`].

mod balance;
mod fair;
mod slice;
mod slot;
mod spare;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use holm_model::Reason;

use self::balance::{Balance, Now};
use self::fair::FairQueue;
pub(crate) use self::slice::is_used_up as slice_is_used_up;
use self::slot::Slot;
use self::spare::{Poll, Spares};
use crate::shares::Seat;
use crate::{Engine, ExecutedTask, KillAnswer, Task, clock};

/// The most tasks that any queue takes, whatever its options say.
const MAX_TASKS: usize = 65_536;

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
    /// By worker: how long its poll takes.
    polls: Box<[Poll]>,
    /// By worker: its slice is to end at once.
    interrupts: Box<[Arc<AtomicBool>]>,
    /// Where the runners of this agent tell each other what they use.
    seat: Option<Seat>,
    /// What the operating system gives this process, in thousandths of a core.
    cores: u64,
    /// When the others are to be looked at again.
    next_look: AtomicU64,
}

struct State {
    fair: FairQueue<Arc<Slot>>,
    balance: Option<Balance>,
    spares: Spares,
    /// By worker, spare ones included: the virtual time of the task that it polls.
    polling: Box<[Option<u64>]>,
    /// Until when a sleeping worker sleeps, so that the others need not look at the time.
    timekeeper: Option<u64>,
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
        self.stop_within(Duration::ZERO)
    }

    /// The same, and tells an executor that it has this long. Nothing ends it then.
    pub fn stop_within(&self, grace: Duration) -> bool {
        self.slot.mailbox().request_stop(grace)
    }

    /// Gives a task to an executor. `false` when this is none, it is about to end, or has
    /// [`crate::limits::MAX_EXECUTED_TASKS`].
    pub fn launch_task(&self, task: ExecutedTask) -> bool {
        self.slot.mailbox().executor().is_some_and(|executor| executor.launch(task))
    }

    /// Asks a task of an executor to end within `grace`. Nothing ends it then: see [`TaskHandle::abandon_task`].
    pub fn kill_task(&self, task: u64, grace: Duration) -> KillAnswer {
        self.slot.mailbox().executor().map_or(KillAnswer::Unknown, |executor| executor.kill(task, grace))
    }

    /// From now on nothing that the executor says of this task counts.
    pub fn abandon_task(&self, task: u64) {
        if let Some(executor) = self.slot.mailbox().executor() {
            executor.abandon(task);
        }
    }

    /// Gives an executor a message for one of its tasks, as [`TaskHandle::deliver`] does for the executor itself.
    pub fn deliver_to_task(&self, task: u64, message: Arc<[u8]>) -> bool {
        self.slot.mailbox().executor().is_some_and(|executor| executor.message(Some(task), message))
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
        Queue::start_seated(engine, options, tokio, None)
    }

    /// Starts the threads of one of several processes that share CPU time: all of them together keep to what the table says,
    /// and a task gets its share whatever process it is in.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start_seated(
        engine: &Engine,
        options: QueueOptions,
        tokio: tokio::runtime::Handle,
        seat: Option<Seat>,
    ) -> io::Result<Queue> {
        let threads = options.threads.max(1);
        let is_lent = seat.as_ref().is_some_and(Seat::is_lent);
        let balance = |seat: &Seat| Balance::new(seat.number(), clock::now().max(1), threads).lent(is_lent);
        let state = State {
            fair: FairQueue::default().lent(is_lent),
            balance: seat.as_ref().map(balance),
            polling: vec![None; 2 * threads].into(),
            spares: Spares::new(threads),
            timekeeper: None,
            live: BTreeMap::new(),
            next_id: 0,
            parked: 0,
            stopped: false,
        };
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            tokio,
            max_tasks: options.max_tasks.clamp(1, MAX_TASKS),
            state: Mutex::new(state),
            work: Condvar::new(),
            interrupts: (0..2 * threads).map(|_| Arc::default()).collect(),
            polls: (0..2 * threads).map(|_| Poll::default()).collect(),
            seat,
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64) * 1_000,
            next_look: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        engine.watch(weak);
        let mut queue = Queue { shared, threads: Vec::new() };
        for number in 0..threads {
            let shared = queue.shared.clone();
            let thread = std::thread::Builder::new().name(format!("guests-{number}"));
            queue.threads.push(thread.spawn(move || shared.work(number))?);
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
        state.fair.enter(&mut slot.claim(), clock::now(), slot.clone());
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
        let own = std::thread::current().id();
        // Whoever hears of an end may hold the queue: then it is dropped on a worker, which cannot wait for itself.
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
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

    /// Takes a task that was woken, from wherever.
    fn make_ready(&self, slot: Arc<Slot>) {
        let now = clock::now();
        let mut state = self.lock();
        if slot.is_stopped() {
            return self.urge(state, slot);
        }
        let is_first = state.fair.wake(&mut slot.claim(), now, slot.clone());
        if is_first && state.parked == 0 {
            // The one that is furthest ahead gives way.
            let time = slot.claim().time();
            let ahead = (0..).zip(&state.polling).filter_map(|(worker, polled)| Some(((*polled)?, worker)));
            if let Some((_, worker)) = ahead.filter(|(polled, _)| *polled > time).max() {
                self.interrupt(worker..worker + 1);
            }
        }
        self.call_worker(state);
    }

    /// Has a task polled at once that is to end.
    fn make_urgent(&self, slot: Arc<Slot>) {
        self.urge(self.lock(), slot);
    }

    fn urge(&self, mut state: MutexGuard<'_, State>, slot: Arc<Slot>) {
        if slot.is_over() {
            return;
        }
        state.fair.urge(&mut slot.claim(), slot.clone());
        if state.parked == 0 {
            self.interrupt_all();
        }
        self.call_worker(state);
    }

    /// Ends all slices: the worker that polls a certain task is not known.
    fn interrupt_all(&self) {
        self.interrupt(0..self.interrupts.len());
    }

    /// Ends the slices of these workers.
    fn interrupt(&self, workers: std::ops::Range<usize>) {
        self.interrupts[workers].iter().for_each(|interrupt| interrupt.store(true, Ordering::Relaxed));
        // Not before the next tick would they look.
        self.engine.advance_epochs();
    }

    /// Tells the other processes when nothing competes here any more: they need not wait for this one.
    fn tell_idle(&self, state: &mut State, now: u64) {
        let Some(seat) = &self.seat else { return };
        let is_idle = state.fair.len() == 0 && state.polling.iter().all(Option::is_none);
        let now = || Now { time: now, process: clock::process_cpu(), cores: self.cores };
        let record = state.balance.as_mut().filter(|_| is_idle).and_then(|balance| balance.goes_idle(now()));
        if let Some(record) = record {
            seat.write(&record);
        }
    }

    /// Whether it is time to look at what the other processes use.
    fn looks(&self, now: u64) -> bool {
        self.seat.is_some() && now >= self.next_look.load(Ordering::Relaxed)
    }

    /// Looks, when it is time, at what the other processes use, and says what this one does.
    fn balance(&self, now: u64) {
        let Some(seat) = &self.seat else { return };
        let due = self.next_look.load(Ordering::Relaxed);
        // One worker does it; the others go on.
        let mine = now >= due
            && self.next_look.compare_exchange(due, now + balance::LOOK, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !mine {
            return;
        }
        let table = seat.read();
        let now = Now { time: now, process: clock::process_cpu(), cores: self.cores };
        let mut state = self.lock();
        let tasks = state.fair.len() + state.polling.iter().filter(|polled| polled.is_some()).count();
        let weight = state.fair.weight();
        let Some(balance) = &mut state.balance else { return };
        let record = balance.look(now, tasks, weight, table.as_ref());
        drop(state);
        seat.write(&record);
    }
}
