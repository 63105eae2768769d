//! Interrupts a guest that computes for too long.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread that advances an engine's epoch once the time of the call that is under way is over. Between calls it sleeps.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
}

struct Shared {
    /// What is being watched. The epoch is advanced under this lock only, so a call never suffers for the one before it.
    watched: Mutex<Watched>,
    changed: Condvar,
}

struct Watched {
    until: Option<Instant>,
    stopped: bool,
}

impl Watchdog {
    /// Starts the thread for the one store of `engine`.
    pub(crate) fn start(engine: &wasmtime::Engine) -> io::Result<Watchdog> {
        let watched = Mutex::new(Watched { until: None, stopped: false });
        let shared = Arc::new(Shared { watched, changed: Condvar::new() });
        let (of_thread, engine) = (shared.clone(), engine.clone());
        std::thread::Builder::new().name("watchdog".into()).spawn(move || of_thread.watch(&engine))?;
        Ok(Watchdog { shared })
    }

    /// From now on the guest has `budget`.
    pub(crate) fn arm(&self, budget: Duration) {
        self.shared.lock().until = Instant::now().checked_add(budget);
        self.shared.changed.notify_one();
    }

    /// The guest is done.
    pub(crate) fn disarm(&self) {
        self.shared.lock().until = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, engine: &wasmtime::Engine) {
        let mut watched = self.lock();
        while !watched.stopped {
            let left = watched.until.map(|until| until.saturating_duration_since(Instant::now()));
            watched = match left {
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    engine.increment_epoch();
                    watched.until = None;
                    watched
                }
                Some(left) => self.changed.wait_timeout(watched, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
