//! Spare workers. Nothing interrupts a guest in a host call, nor in a `memory.fill` of a gigabyte. While a worker is stuck in
//! such a poll another thread takes its place, so that only the task itself and its thread are held up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Shared;
use crate::clock;
use crate::engine::Watch;

/// A poll that takes longer is looked at, in nanoseconds: slices end well before.
const LONG: u64 = 3_000_000;
/// One that takes this much more CPU time is stuck, in nanoseconds, and so is one that sleeps after this much more time.
const STUCK: u64 = 7_000_000;
/// The same where the system does not say what threads do.
const SURELY_STUCK: u64 = 100_000_000;

/// What is known of a worker's poll by those who wait for its end.
#[derive(Default)]
pub(super) struct Poll {
    /// Since when it polls the same task without a pause; zero when it does not.
    since: AtomicU64,
    thread: OnceLock<ThreadFiles>,
    /// The poll that was seen to be long. Only the thread that ticks takes this lock.
    seen: Mutex<Seen>,
}

/// Where the system says what a thread does.
struct ThreadFiles {
    stat: File,
    schedstat: File,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    since: u64,
    at: u64,
    cpu: u64,
}

impl ThreadFiles {
    fn of_this_thread() -> std::io::Result<ThreadFiles> {
        let open = |name: &str| File::open(format!("/proc/thread-self/{name}"));
        Ok(ThreadFiles { stat: open("stat")?, schedstat: open("schedstat")? })
    }

    /// Whether the thread sleeps; otherwise it computes or wants to.
    fn sleeps(&self) -> Option<bool> {
        let mut text = [0; 512];
        let read = self.stat.read_at(&mut text, 0).ok()?;
        let after_name = text[..read].rsplit(|byte| *byte == b')').next()?;
        Some(after_name.trim_ascii_start().first()? != &b'R')
    }

    /// CPU time of the thread, in nanoseconds.
    fn cpu(&self) -> Option<u64> {
        let mut text = [0; 64];
        let read = self.schedstat.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..read]).ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Poll {
    /// This thread is the worker.
    pub(super) fn is_of_this_thread(&self) {
        // Where the system says nothing, time alone counts.
        if let Ok(files) = ThreadFiles::of_this_thread() {
            let _ = self.thread.set(files);
        }
    }

    pub(super) fn begin(&self, now: u64) {
        self.since.store(now.max(1), Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether the poll takes long, and not because the thread has no core.
    fn is_stuck(&self, now: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 || now.saturating_sub(since) < LONG {
            return false;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = self.thread.get().and_then(ThreadFiles::cpu);
        if seen.since != since {
            *seen = Seen { since, at: now, cpu: cpu.unwrap_or(0) };
            return false;
        }
        let passed = now.saturating_sub(seen.at);
        let sleeps = || self.thread.get().and_then(ThreadFiles::sleeps);
        match cpu {
            _ if passed < STUCK => false,
            Some(cpu) => cpu.saturating_sub(seen.cpu) >= STUCK || sleeps() == Some(true),
            None => passed >= SURELY_STUCK,
        }
    }
}

/// Which workers are stuck, and the threads that stand in for them: at most one for each.
pub(super) struct Spares {
    /// Of the regular workers.
    stuck: Box<[bool]>,
    /// By number less the number of regular workers.
    running: Box<[bool]>,
}

impl Spares {
    pub(super) fn new(threads: usize) -> Spares {
        Spares { stuck: vec![false; threads].into(), running: vec![false; threads].into() }
    }

    /// Whether this worker is in a poll that does not end.
    pub(super) fn is_stuck(&self, worker: usize) -> bool {
        self.stuck.get(worker).is_some_and(|stuck| *stuck)
    }

    /// A worker is not stuck, or not any more.
    pub(super) fn is_back(&mut self, worker: usize) {
        if let Some(stuck) = self.stuck.get_mut(worker) {
            *stuck = false;
        }
    }

    /// Marks a worker as stuck; the number of the spare one to be started, if it was not marked before.
    fn replace(&mut self, worker: usize) -> Option<usize> {
        if std::mem::replace(&mut self.stuck[worker], true) {
            return None;
        }
        let free = self.running.iter().position(|running| !running)?;
        self.running[free] = true;
        Some(self.stuck.len() + free)
    }

    /// Whether this worker is a spare one and there are more of them than stuck ones; it is to end then.
    pub(super) fn dismisses(&mut self, worker: usize) -> bool {
        let Some(spare) = worker.checked_sub(self.stuck.len()) else { return false };
        let count = |marks: &[bool]| marks.iter().filter(|mark| **mark).count();
        let too_many = count(&self.running) > count(&self.stuck);
        if too_many {
            self.running[spare] = false;
        }
        too_many
    }

    fn give_up(&mut self, worker: usize) {
        self.running[worker - self.stuck.len()] = false;
    }
}

impl Watch for Shared {
    fn tick(self: Arc<Shared>) {
        let now = clock::now();
        for worker in (0..self.polls.len() / 2).filter(|worker| self.polls[*worker].is_stuck(now)) {
            let mut state = self.lock();
            // It may have come back meanwhile.
            let is_back = state.polling[worker].is_none() || !self.polls[worker].is_stuck(now);
            let Some(spare) = (!is_back).then(|| state.spares.replace(worker)).flatten() else { continue };
            drop(state);
            let shared = self.clone();
            let thread = std::thread::Builder::new().name(format!("guests-{spare}"));
            if let Err(error) = thread.spawn(move || shared.work(spare)) {
                tracing::warn!(%error, "a thread that polls guests is stuck, and another one cannot be started");
                self.lock().spares.give_up(spare);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stuck_worker_has_one_spare_that_leaves_when_it_is_back() {
        let mut spares = Spares::new(2);
        assert_eq!(spares.replace(0), Some(2));
        assert_eq!(spares.replace(0), None);
        assert_eq!(spares.replace(1), Some(3));
        assert!(!spares.dismisses(0) && !spares.dismisses(2));
        spares.is_back(0);
        assert!(spares.dismisses(2) && !spares.dismisses(3));
        assert_eq!(spares.replace(0), Some(2));
    }
}
