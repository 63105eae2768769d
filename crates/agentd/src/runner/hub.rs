//! The core of a runner with its guests, in one place for all threads of the process.
//!
//! The end of a small task is worth some ten microseconds; handing it to another thread and waiting for the next task to
//! come back costs as much. So the thread on which a task ended tells the core itself, puts the next task of the slot on the
//! queue, and tells the agent. One thread at a time does that last part, for the others too; none waits for it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use holm_agent::{Runner, RunnerEffect, RunnerEvent};
use holm_model::{FromRunner, Time};
use tokio::sync::Notify;

use super::MESSAGES;
use super::mouth::{Mouth, Unheard};
use super::output::SharedLog;
use super::tasks::Tasks;
use crate::machine::boot_clock;

/// While tasks run, what ends within this time of a report shares the next: a report costs its runner, agent, master and
/// framework as much as several small tasks. The end of a single one does not wait.
pub(super) const PACE: Duration = Duration::from_millis(1);

/// What the threads share.
pub(super) struct Shared {
    // A lock, and shared, because every worker thread ends tasks and starts others. It is held for microseconds, and never
    // over a file, a socket or a wait, except that the first task of a launch loads its program.
    hub: Mutex<Hub>,
    /// Taken before the hub's lock, never after it.
    speaker: Mutex<Speaker>,
    /// Somebody has something to say.
    unsaid: AtomicBool,
    /// The shell is to look at something.
    news: Notify,
    /// Locked to be set or taken.
    end: Mutex<Option<End>>,
}

/// Who says what the core wants to say, in order.
struct Speaker {
    log: SharedLog,
    mouth: Option<Mouth>,
}

/// Why the process is to end.
pub(super) enum End {
    /// The core says so.
    Told(Arc<str>),
    /// Its log cannot be written any more.
    Log(io::Error),
}

/// The core, what carries out its decisions about tasks, and what it wants to say.
pub(super) struct Hub {
    pub(super) core: Runner,
    pub(super) tasks: Tasks,
    /// Not yet given to the socket. At most [`MESSAGES`] of guests are among them.
    outgoing: Vec<FromRunner>,
    exit: Option<Arc<str>>,
    /// When reports were last given to the socket.
    reported: Option<Time>,
    /// The shell was told that reports wait for their time.
    put_off: bool,
}

/// Whether there is something to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Nothing,
    Now,
    /// Reports that wait for their time.
    Later,
}

/// What is to be said and done.
pub(super) struct Orders {
    /// For the agent, in order; what the log holds so far must be readable before.
    pub(super) outgoing: Vec<FromRunner>,
    /// End the process, for this reason.
    pub(super) exit: Option<Arc<str>>,
}

impl Shared {
    pub(super) fn new(core: Runner, tasks: Tasks) -> Arc<Shared> {
        let speaker = Mutex::new(Speaker { log: tasks.log.clone(), mouth: None });
        let hub = Hub { core, tasks, outgoing: Vec::new(), exit: None, reported: None, put_off: false };
        Arc::new_cyclic(|shared| {
            let mut hub = hub;
            hub.tasks.heard_by(shared.clone());
            let (unsaid, news, end) = (AtomicBool::new(false), Notify::new(), Mutex::new(None));
            Shared { hub: Mutex::new(hub), speaker, unsaid, news, end }
        })
    }

    /// A panic while the lock was held has ended one task's observer; core and tasks never leave a step half done.
    pub(super) fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the shell is to look.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// A guest has something to say, on the thread that polls it. Any guest can do so as often as it likes, so the shell
    /// gathers it.
    pub(super) fn hear(&self, event: RunnerEvent) {
        if self.take_in(vec![event]) != News::Nothing {
            self.news.notify_one();
        }
    }

    /// Tasks have ended, or an executor has something to say of its own: what that frees is filled once for all of it, and the
    /// agent is told at once.
    pub(super) fn hear_all(&self, events: Vec<RunnerEvent>) {
        match self.take_in(events) {
            News::Nothing => {}
            News::Now => self.say(),
            News::Later => self.news.notify_one(),
        }
    }

    fn take_in(&self, events: Vec<RunnerEvent>) -> News {
        let mut hub = self.lock();
        events.into_iter().for_each(|event| hub.hear_guest(event));
        hub.settle();
        match hub.news() {
            // The shell knows already.
            News::Later if std::mem::replace(&mut hub.put_off, true) => News::Nothing,
            news => news,
        }
    }

    /// Says what there is to say. While another thread is at it, that one does so.
    pub(super) fn say(&self) {
        self.unsaid.store(true, Ordering::SeqCst);
        while self.unsaid.load(Ordering::SeqCst) {
            let mut speaker = match self.speaker.try_lock() {
                Ok(speaker) => speaker,
                Err(TryLockError::Poisoned(speaker)) => speaker.into_inner(),
                // Whoever has it looks again after letting go of it.
                Err(TryLockError::WouldBlock) => return,
            };
            while self.unsaid.swap(false, Ordering::SeqCst) {
                let orders = self.lock().orders();
                match speaker.obey(orders) {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        // The ends of the tasks that die with the process are not said.
                        speaker.mouth = None;
                        self.end().get_or_insert(end);
                        self.news.notify_one();
                    }
                    Err(Unheard) => {
                        speaker.mouth = None;
                        self.lock().handle(RunnerEvent::AgentDisconnected);
                        self.news.notify_one();
                    }
                }
            }
        }
    }

    /// An agent has come, or the one that was here has gone. [`Shared::say`] is to be called then.
    pub(super) fn agent_is(&self, mouth: Option<Mouth>) {
        let event = if mouth.is_some() { RunnerEvent::AgentConnected } else { RunnerEvent::AgentDisconnected };
        let mut speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        speaker.mouth = mouth;
        let mut hub = self.lock();
        // What was meant for an earlier connection is not for this one.
        hub.outgoing.clear();
        hub.handle(event);
    }

    fn end(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process is to end.
    pub(super) fn take_end(&self) -> Option<End> {
        self.end().take()
    }
}

impl Speaker {
    /// Says and does what has come together.
    fn obey(&mut self, orders: Orders) -> Result<Option<End>, Unheard> {
        let Orders { outgoing, exit } = orders;
        if !outgoing.is_empty() {
            // What a task wrote is readable before anybody is told that it has ended.
            if let Err(error) = self.log.lock().flush() {
                return Ok(Some(End::Log(error)));
            }
            if let Some(mouth) = &mut self.mouth {
                mouth.say(outgoing)?;
            }
        }
        Ok(exit.map(End::Told))
    }
}

impl Hub {
    fn hear_guest(&mut self, event: RunnerEvent) {
        match &event {
            // Any guest can send as many as it has CPU time for.
            RunnerEvent::TaskMessage { work, position, .. } if self.outgoing.len() >= MESSAGES => {
                tracing::debug!(%work, position, limit = MESSAGES, "a message was dropped: too many wait");
                return;
            }
            // It has ended in another way before this was heard of.
            RunnerEvent::Ended { work, position, .. } if !self.tasks.ended(*work, *position) => return,
            _ => {}
        }
        self.core.handle(boot_clock(), event);
    }

    /// Applies an event and carries out what it means for tasks.
    pub(super) fn handle(&mut self, event: RunnerEvent) {
        self.core.handle(boot_clock(), event);
        self.settle();
    }

    /// Carries out what the core wants done about tasks.
    pub(super) fn settle(&mut self) {
        loop {
            let unstarted = self.tasks.take_unstarted();
            for event in unstarted {
                self.core.handle(boot_clock(), event);
            }
            let effects: Vec<_> = self.core.drain_decisions().collect();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: RunnerEffect) {
        match effect {
            RunnerEffect::ToAgent(message) => self.outgoing.push(message),
            RunnerEffect::Spawn { work, position } => self.tasks.spawn(&self.core, work, position),
            RunnerEffect::Stop { work, position, grace } => self.tasks.ask_to_stop(work, position, grace),
            RunnerEffect::Kill { work, position } => self.tasks.kill(work, position),
            RunnerEffect::Deliver { work, position, data } => self.tasks.deliver(work, position, data),
            RunnerEffect::Forget { work } => self.tasks.forget(work),
            RunnerEffect::Exit { message } => self.exit = Some(message),
        }
    }

    fn news(&self) -> News {
        if !self.outgoing.is_empty() || self.exit.is_some() {
            News::Now
        } else if !self.core.wants_to_report() {
            News::Nothing
        } else if self.may_report() {
            News::Now
        } else {
            News::Later
        }
    }

    /// Whether reports go out now. When nothing runs any more there is nothing to wait for.
    fn may_report(&self) -> bool {
        !self.tasks.are_live() || self.core.is_behind() || self.reported.is_none_or(|at| boot_clock().since(at) >= PACE)
    }

    /// When reports that were put off are to be said.
    pub(super) fn next_report(&self) -> Option<Time> {
        self.reported.filter(|_| self.core.wants_to_report()).map(|at| at + PACE)
    }

    /// Takes what is to be said and done; if it is time for them, the reports of all ends so far are among it.
    pub(super) fn orders(&mut self) -> Orders {
        self.settle();
        if self.core.wants_to_report() && self.may_report() {
            (self.reported, self.put_off) = (Some(boot_clock()), false);
            for effect in self.core.drain_effects().collect::<Vec<_>>() {
                self.perform(effect);
            }
        }
        Orders { outgoing: std::mem::take(&mut self.outgoing), exit: self.exit.take() }
    }
}
