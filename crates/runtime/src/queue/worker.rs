//! A thread that polls guests: takes the next one, polls it for a slice, charges it, and sleeps when there is none.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::slot::{Polled, Slot};
use super::{Shared, State, slice};
use crate::clock;

/// What a worker measures: CPU time from one poll to the next, so that what a task costs besides its polls, its start and
/// its end above all, is charged to it too. Each clock is read once per slice.
struct Meter {
    now: u64,
    cpu: u64,
}

impl Meter {
    fn start() -> Meter {
        Meter { now: clock::now(), cpu: clock::thread_cpu() }
    }

    /// The worker slept. What it did since the last lap, before and after, is charged to whom it polls next.
    fn slept(&mut self) {
        self.now = clock::now();
    }

    /// CPU time and time since the last lap, in nanoseconds.
    fn lap(&mut self) -> (u64, u64) {
        let last = std::mem::replace(self, Meter::start());
        (self.cpu.saturating_sub(last.cpu), self.now.saturating_sub(last.now))
    }
}

/// What became of the task of the last poll, and what it used.
struct Done {
    slot: Arc<Slot>,
    cpu: u64,
    wall: u64,
}

impl Shared {
    /// A worker's life.
    pub(super) fn work(&self, number: usize) {
        let _entered = self.tokio.enter();
        slice::on_this_thread(self.interrupts[number].clone());
        self.polls[number].is_of_this_thread();
        self.engine.ticker().busy();
        let mut meter = Meter::start();
        let mut done = None;
        while let Some(slot) = self.next(number, done.take(), &mut meter) {
            slice::begin(meter.now);
            self.polls[number].begin(meter.now);
            let polled = slot.poll();
            self.polls[number].end();
            let (cpu, wall) = meter.lap();
            slot.add_cpu(cpu);
            match polled {
                Polled::Nothing => {}
                Polled::Pending => done = Some(Done { slot, cpu, wall }),
                Polled::Over(ending) => {
                    // First make room: who hears of the end may submit the next task at once.
                    self.settle_end(number, &slot, cpu, wall, meter.now);
                    ending.tell(slot.cpu());
                }
            }
        }
        self.engine.ticker().idle();
    }

    /// Settles the last poll and takes the next task. It returns nothing when the queue was stopped and every task has ended.
    fn next(&self, number: usize, done: Option<Done>, meter: &mut Meter) -> Option<Arc<Slot>> {
        self.balance(meter.now);
        let mut state = self.lock();
        state.polling[number] = None;
        if state.spares.is_stuck(number) {
            state.spares.is_back(number);
            // The spare one may be asleep.
            self.work.notify_all();
        }
        if let Some(done) = done {
            state.settle(number, done, meter.now);
            // This worker takes one of the ready ones itself.
            if state.parked > 0 && state.fair.len() > 1 {
                self.work.notify_one();
            }
        }
        loop {
            if state.spares.dismisses(number) {
                // A call for work may have reached this thread.
                self.work.notify_one();
                return None;
            }
            let held = state.is_held();
            if let Some(slot) = state.fair.pop(meter.now, held) {
                let mut claim = slot.claim();
                state.fair.taken(&mut claim);
                state.polling[number] = Some(claim.time());
                drop(claim);
                self.interrupts[number].store(false, Ordering::Relaxed);
                if state.timekeeper.is_none() && state.parked > 0 && state.deadline(held).is_some() {
                    // Somebody has to look at the time.
                    self.work.notify_one();
                }
                return Some(slot);
            }
            if state.stopped && state.live.is_empty() {
                return None;
            }
            // Of what the others do only those look who are held back: for a task that has just come it would be in the way.
            if held && self.looks(meter.now) {
                drop(state);
                self.balance(meter.now);
                state = self.lock();
                continue;
            }
            self.tell_idle(&mut state, meter.now);
            let deadline = state.deadline(held);
            state = self.park(state, meter.now, deadline);
            meter.slept();
        }
    }

    /// Sleeps until there is work or, as the one that looks at the time, until the deadline.
    fn park<'a>(&self, mut state: MutexGuard<'a, State>, now: u64, deadline: Option<u64>) -> MutexGuard<'a, State> {
        state.parked += 1;
        self.engine.ticker().idle();
        // One of the sleepers is enough to keep the time.
        let keeps = deadline.filter(|at| state.timekeeper.is_none_or(|kept| *at < kept));
        state = if let Some(at) = keeps {
            state.timekeeper = Some(at);
            let sleep = Duration::from_nanos(at.saturating_sub(now).max(1));
            let (mut state, _timed_out) = self.work.wait_timeout(state, sleep).unwrap_or_else(PoisonError::into_inner);
            if state.timekeeper == Some(at) {
                state.timekeeper = None;
            }
            state
        } else {
            self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
        };
        self.engine.ticker().busy();
        state.parked -= 1;
        state
    }

    fn settle_end(&self, number: usize, slot: &Slot, cpu: u64, wall: u64, now: u64) {
        let mut state = self.lock();
        state.charge(number, slot, cpu, wall, now);
        state.fair.end(&mut slot.claim());
        state.live.remove(&slot.id());
        if state.stopped && state.live.is_empty() {
            drop(state);
            self.work.notify_all();
        }
    }
}

impl State {
    /// Charges a task for a poll, together with what others did for it meanwhile.
    fn charge(&mut self, number: usize, slot: &Slot, cpu: u64, wall: u64, now: u64) {
        self.polling[number] = None;
        let cpu_elsewhere = slot.take_blocking_cpu();
        if let Some(balance) = &mut self.balance {
            balance.used(cpu, wall, cpu_elsewhere, self.fair.weight());
        }
        self.fair.charge(&mut slot.claim(), cpu.saturating_add(cpu_elsewhere), now);
    }

    fn settle(&mut self, number: usize, done: Done, now: u64) {
        let Done { slot, cpu, wall } = done;
        self.charge(number, &slot, cpu, wall, now);
        if slot.waits() {
            self.fair.leave(&mut slot.claim());
        } else {
            let stopped = slot.is_stopped();
            let task = slot.clone();
            let mut claim = slot.claim();
            if stopped { self.fair.urge(&mut claim, task) } else { self.fair.again(&mut claim, now, task) }
        }
    }

    /// Whether this process is to leave the CPU to others: one more poll would be too many.
    fn is_held(&self) -> bool {
        let polls = |(worker, polled): (usize, &Option<u64>)| polled.is_some() && !self.spares.is_stuck(worker);
        let polling = self.polling.iter().enumerate().filter(|polled| polls(*polled)).count();
        self.balance.as_ref().is_some_and(|balance| polling >= balance.allowed())
    }

    /// When to look again although nobody calls.
    fn deadline(&self, held: bool) -> Option<u64> {
        let held_back = held && self.fair.len() > 0;
        let recheck = self.balance.as_ref().filter(|_| held_back).map(|balance| balance.recheck());
        self.fair.next_return().into_iter().chain(recheck).min()
    }
}
