//! The thread that advances an engine's epoch, and with it ends slices, while there is something to interrupt.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often the epoch advances while a guest may be running.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Advances an engine's epoch while at least one worker is busy. The thread ends when the ticker is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    busy: AtomicUsize,
    stopped: AtomicBool,
    /// Guards nothing but the decision to sleep, so that no wake-up is lost.
    asleep: Mutex<()>,
    wake: Condvar,
}

impl Ticker {
    /// Starts the thread, which calls `tick` every [`TICK`] while somebody is busy.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared {
            busy: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("epoch".into()).spawn(move || of_thread.run(tick))?;
        Ok(Ticker { shared })
    }

    /// A worker is about to poll guests.
    pub(crate) fn busy(&self) {
        if self.shared.busy.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.wake_up();
        }
    }

    /// A worker that was busy found nothing more to do.
    pub(crate) fn idle(&self) {
        self.shared.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.wake_up();
    }
}

impl Shared {
    fn wake_up(&self) {
        let _guard = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_one();
    }

    fn run(&self, tick: impl Fn()) {
        while !self.stopped.load(Ordering::SeqCst) {
            if self.busy.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(TICK);
                tick();
                continue;
            }
            let guard = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing = |_: &mut ()| self.busy.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst);
            drop(self.wake.wait_while(guard, nothing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn ticks_come_while_somebody_is_busy_and_the_thread_ends_with_the_ticker() {
        let (sender, ticks) = mpsc::sync_channel(100);
        let tick = move || {
            // A full channel only means that nobody looks at the moment.
            let _ = sender.try_send(());
        };
        let ticker = Ticker::start(tick).unwrap();
        ticker.busy();
        for _ in 0..3 {
            ticks.recv().unwrap();
        }
        ticker.idle();
        ticker.busy();
        ticks.recv().unwrap();
        drop(ticker);
        // The thread owned the sender: the channel closes when it is gone.
        while ticks.recv().is_ok() {}
    }
}
