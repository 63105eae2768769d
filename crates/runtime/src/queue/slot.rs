//! A task's place in the queue: its future, whether it is ready, and who hears of its end.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use holm_model::Reason;

use super::fair::Claim;
use super::{Shared, slice};
use crate::clock;
use crate::mailbox::{Hears, Mailbox, shielded};
use crate::output::Output;
use crate::run::{Control, run};
use crate::{Observer, Outcome, Task, TaskEnd};

// The phases of a slot. It waits until it is woken, is in the ready queue until a worker takes it, and is polled; a wake
// during the poll makes it ready again after it.
const WAITS: u8 = 0;
const READY: u8 = 1;
const POLLED: u8 = 2;
const POLLED_AND_WOKEN: u8 = 3;
const OVER: u8 = 4;

/// What came of a poll.
pub(super) enum Polled {
    /// Somebody else did or does.
    Nothing,
    /// It is not over; [`Slot::waits`] says whether it waits for a wake.
    Pending,
    /// It ended; nobody has been told.
    Over(Ending),
}

/// An end to be told once the queue has forgotten the task.
pub(super) struct Ending {
    observer: Box<dyn Observer>,
    end: TaskEnd,
}

impl Ending {
    pub(super) fn tell(self, cpu: Duration) {
        let Ending { observer, end } = self;
        shielded("ended", || observer.ended(TaskEnd { cpu, ..end }));
    }
}

/// One task.
pub(super) struct Slot {
    id: u64,
    phase: AtomicU8,
    /// Nanoseconds of CPU time: of completed polls, and of blocking calls that others did for it.
    cpu: AtomicU64,
    /// Those of blocking calls that its claim was not charged for yet.
    blocking_cpu: AtomicU64,
    /// Touched with the queue's lock held, so nobody ever waits for this one.
    claim: Mutex<Claim>,
    control: Arc<Control>,
    mailbox: Arc<Mailbox>,
    queue: Weak<Shared>,
    /// Taken by the one worker that polls it, so nobody ever waits for this lock.
    body: Mutex<Option<Body>>,
}

struct Body {
    future: Pin<Box<dyn Future<Output = TaskEnd> + Send>>,
    told_started: bool,
}

impl Slot {
    /// A slot in the phase "ready", to be put in the ready queue.
    pub(super) fn queued(id: u64, task: Task, queue: &Arc<Shared>) -> Arc<Slot> {
        let Task { program, command, output, observer } = task;
        let claim = Claim::new(command.limits.cpu);
        let control = Arc::new(Control::default());
        let output = Output::new(output, command.limits.output_bytes);
        // A seeded task must not depend on when somebody tells it something.
        let hears = match (&command.service, command.seed) {
            (Some(_service), _) => Hears { messages: false, stop: true },
            (None, Some(_seed)) => Hears::default(),
            (None, None) => program.hears(),
        };
        let mailbox = Arc::new(Mailbox::new(hears, program.is_executor(), observer));
        let of_future = (control.clone(), mailbox.clone());
        let future = Box::pin(async move {
            let (control, mailbox) = of_future;
            run(program, command, output, mailbox, &control).await
        });
        Arc::new(Slot {
            id,
            phase: AtomicU8::new(READY),
            cpu: AtomicU64::new(0),
            blocking_cpu: AtomicU64::new(0),
            claim: Mutex::new(claim),
            control,
            mailbox,
            queue: Arc::downgrade(queue),
            body: Mutex::new(Some(Body { future, told_started: false })),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    pub(super) fn add_cpu(&self, nanos: u64) {
        self.cpu.fetch_add(nanos, Ordering::Relaxed);
    }

    /// CPU time of blocking calls since the last time.
    pub(super) fn take_blocking_cpu(&self) -> u64 {
        self.blocking_cpu.swap(0, Ordering::Relaxed)
    }

    pub(super) fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a poll, with the queue's lock held: whether the task waits now. Otherwise it is ready again.
    pub(super) fn waits(&self) -> bool {
        if self.step(POLLED, WAITS).is_ok() {
            return true;
        }
        self.phase.store(READY, Ordering::SeqCst);
        false
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OVER
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.control.is_stopped()
    }

    /// Asks the task to end and has it polled before all others.
    pub(super) fn stop(self: &Arc<Slot>, reason: Reason, message: &str) {
        self.control.stop(reason, message);
        let Some(queue) = self.queue.upgrade() else { return };
        match self.phase.load(Ordering::SeqCst) {
            // In its turn already: it is entered once more among the urgent ones, and the second entry finds nothing to do.
            READY => queue.make_urgent(self.clone()),
            WAITS => self.wake_by_ref(),
            _ => {
                self.wake_by_ref();
                queue.interrupt_all();
            }
        }
    }

    fn enqueue(self: &Arc<Slot>) {
        if let Some(queue) = self.queue.upgrade() {
            queue.make_ready(self.clone());
        }
    }

    /// Polls the task once.
    pub(super) fn poll(self: &Arc<Slot>) -> Polled {
        if self.step(READY, POLLED).is_err() {
            return Polled::Nothing;
        }
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = body.as_mut() else { return Polled::Nothing };
        match self.poll_slice(running) {
            None => {
                if !running.told_started && self.control.is_instantiated() {
                    running.told_started = true;
                    self.mailbox.started();
                }
                Polled::Pending
            }
            Some(end) => {
                let ended = body.take();
                drop(body);
                self.phase.store(OVER, Ordering::SeqCst);
                let Some(Body { future, .. }) = ended else { return Polled::Nothing };
                // A future that panicked may do so again while it is dropped.
                drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
                let Some(observer) = self.mailbox.close() else { return Polled::Nothing };
                Polled::Over(Ending { observer, end })
            }
        }
    }

    fn poll_slice(self: &Arc<Slot>, body: &mut Body) -> Option<TaskEnd> {
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let polled = loop {
            let polled = catch_unwind(AssertUnwindSafe(|| body.future.as_mut().poll(&mut context)));
            // One that only paused goes on, up to the end of its slice: the way through the queue costs more than a pause.
            let paused = matches!(polled, Ok(Poll::Pending)) && !slice::is_used_up() && !self.is_stopped();
            if !(paused && self.step(POLLED_AND_WOKEN, POLLED).is_ok()) {
                break polled;
            }
        };
        match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(end)) => Some(end),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                tracing::error!(task = self.id, panic = text, "the runtime panicked while it polled a task");
                Some(TaskEnd::unused(Outcome::RunnerFailed(format!("the runtime panicked: {text}"))))
            }
        }
    }

    /// Moves from one phase to another.
    fn step(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.phase.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Slot>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Slot>) {
        let blocking_cpu = clock::take_blocking_cpu();
        if blocking_cpu > 0 {
            self.add_cpu(blocking_cpu);
            self.blocking_cpu.fetch_add(blocking_cpu, Ordering::Relaxed);
        }
        loop {
            match self.phase.load(Ordering::SeqCst) {
                WAITS if self.step(WAITS, READY).is_ok() => return self.enqueue(),
                POLLED if self.step(POLLED, POLLED_AND_WOKEN).is_ok() => return,
                WAITS | POLLED => {}
                _ => return,
            }
        }
    }
}
