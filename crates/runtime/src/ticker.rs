//! The thread that advances an engine's epoch, and with it ends slices, while there is something to interrupt.
//!
//! It sleeps in a timer of the kernel that whoever becomes busy sets: a call, where waking the thread would have it run on
//! another core at the beginning of every small task. A task that is over within a tick never has it run.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How often the epoch advances while a guest may be running.
pub(crate) const TICK: Duration = Duration::from_millis(1);
const STILL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const A_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Advances an engine's epoch while at least one worker is busy. The thread ends when the ticker is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    busy: AtomicUsize,
    stopped: AtomicBool,
    /// Whether the timer is set.
    runs: AtomicBool,
    timer: OwnedFd,
}

impl Ticker {
    /// Starts the thread, which calls `tick` every [`TICK`] while somebody is busy.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Ticker> {
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared {
            busy: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            runs: AtomicBool::new(false),
            timer,
        });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("epoch".into()).spawn(move || of_thread.run(tick))?;
        Ok(Ticker { shared })
    }

    /// A worker is about to poll guests.
    pub(crate) fn busy(&self) {
        if self.shared.busy.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.set();
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
        self.shared.set();
    }
}

impl Shared {
    fn set(&self) {
        if !self.runs.swap(true, Ordering::SeqCst) {
            self.time(A_TICK);
        }
    }

    fn time(&self, tick: Timespec) {
        let setting = Itimerspec { it_interval: tick, it_value: tick };
        if let Err(error) = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting) {
            // The arguments are constants, and the descriptor is the ticker's own.
            tracing::error!(%error, "the timer of the epoch cannot be set");
        }
    }

    fn run(&self, tick: impl Fn()) {
        let mut ticks = [0; 8];
        while !self.stopped.load(Ordering::SeqCst) {
            match rustix::io::read(&self.timer, &mut ticks) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the timer of the epoch cannot be read");
                    std::thread::sleep(TICK);
                }
            }
            if self.busy.load(Ordering::SeqCst) > 0 {
                tick();
                continue;
            }
            self.time(STILL);
            self.runs.store(false, Ordering::SeqCst);
            // Whoever became busy or stopped this meanwhile found the timer set.
            if self.busy.load(Ordering::SeqCst) > 0 || self.stopped.load(Ordering::SeqCst) {
                self.set();
            }
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
