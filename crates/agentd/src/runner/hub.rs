//! The core of a runner with its guests, in one place for all threads of the process.
//!
//! The end of a small task is worth some ten microseconds; handing it to another thread and waiting for the next task to
//! come back costs as much. So the thread on which a task ended tells the core itself and puts the next task of the slot on
//! the queue. The shell's own thread only hears that there is something to say to the agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_agent::{Runner, RunnerEffect, RunnerEvent};
use holm_model::FromRunner;
use tokio::sync::Notify;

use super::MESSAGES;
use super::tasks::Tasks;
use crate::machine::boot_clock;

/// What the threads share.
pub(super) struct Shared {
    // A lock, and shared, because every worker thread ends tasks and starts others. It is held for microseconds, and never
    // over a file, a socket or a wait, except that the first task of a launch loads its program.
    hub: Mutex<Hub>,
    /// There is something to say to the agent, or the process is to exit.
    news: Notify,
}

/// The core, what carries out its decisions about tasks, and what it wants to say.
pub(super) struct Hub {
    pub(super) core: Runner,
    pub(super) tasks: Tasks,
    /// Not yet given to the socket. At most [`MESSAGES`] of guests are among them.
    outgoing: Vec<FromRunner>,
    exit: Option<Arc<str>>,
}

/// What the shell is to do.
pub(super) struct Orders {
    /// For the agent, in order; what the log holds so far must be readable before.
    pub(super) outgoing: Vec<FromRunner>,
    /// End the process, for this reason.
    pub(super) exit: Option<Arc<str>>,
}

impl Shared {
    pub(super) fn new(core: Runner, tasks: Tasks) -> Arc<Shared> {
        let hub = Hub { core, tasks, outgoing: Vec::new(), exit: None };
        Arc::new_cyclic(|shared| {
            let mut hub = hub;
            hub.tasks.heard_by(shared.clone());
            Shared { hub: Mutex::new(hub), news: Notify::new() }
        })
    }

    /// A panic while the lock was held has ended one task's observer; core and tasks never leave a step half done.
    pub(super) fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be orders.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// A guest has something to say, on the thread that polls it.
    pub(super) fn hear(&self, event: RunnerEvent) {
        self.hear_all(vec![event]);
    }

    /// An executor has something to say of its tasks: what that frees is filled once for all of it.
    pub(super) fn hear_all(&self, events: Vec<RunnerEvent>) {
        let mut hub = self.lock();
        events.into_iter().for_each(|event| hub.hear_guest(event));
        hub.settle();
        let news = hub.has_news();
        drop(hub);
        if news {
            self.news.notify_one();
        }
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

    fn has_news(&self) -> bool {
        !self.outgoing.is_empty() || self.exit.is_some() || self.core.wants_to_report()
    }

    /// A new connection: what was meant for an earlier one is not for it.
    pub(super) fn forget_outgoing(&mut self) {
        self.outgoing.clear();
    }

    /// Takes what is to be said and done; the reports of all ends so far are among it.
    pub(super) fn orders(&mut self) -> Orders {
        self.settle();
        for effect in self.core.drain_effects().collect::<Vec<_>>() {
            self.perform(effect);
        }
        Orders { outgoing: std::mem::take(&mut self.outgoing), exit: self.exit.take() }
    }
}
