//! Who compiles next: a bounded number of workers, shared fairly between frameworks.
//!
//! A launch first takes a *place* in its framework's queue, and only then is its module fetched; a framework that fills
//! its places waits outside. From the queues, the workers serve the framework that compiles least and was served
//! longest ago, and while there is more than one worker, no framework has all of them: so one that sends modules which
//! take minutes cannot keep others from launching.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_model::FrameworkId;
use tokio::sync::oneshot;

/// Modules of one framework that may wait to be compiled; further launches wait for a place, with nothing fetched yet.
pub(crate) const PLACES: usize = 16;

/// The compile workers of an agent. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns {
    // Arc<Mutex>: guards give back their place or turn from whichever task drops them. Held for a few map operations.
    state: Arc<Mutex<State>>,
}

struct State {
    workers: usize,
    busy: usize,
    /// Counts turns, so that the one served longest ago is known.
    served: u64,
    tenants: BTreeMap<FrameworkId, Tenant>,
}

#[derive(Default)]
struct Tenant {
    places: usize,
    running: usize,
    last_served: u64,
    outside: VecDeque<oneshot::Sender<Place>>,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A place in a framework's queue, given back when dropped.
pub(crate) struct Place {
    turns: Turns,
    framework: FrameworkId,
    held: bool,
}

/// A worker's turn, given back when dropped.
pub(crate) struct Turn {
    turns: Turns,
    framework: FrameworkId,
    held: bool,
}

impl Turns {
    /// Turns for so many workers, at least one.
    pub(crate) fn new(workers: usize) -> Turns {
        let state = State { workers: workers.max(1), busy: 0, served: 0, tenants: BTreeMap::new() };
        Turns { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the framework's queue; `waits` is told if there is none at once.
    pub(crate) async fn place(&self, framework: FrameworkId, waits: impl FnOnce(String)) -> Place {
        let (sender, receiver) = oneshot::channel();
        self.lock().tenants.entry(framework).or_default().outside.push_back(sender);
        self.settle();
        await_or_say(receiver, waits, || {
            format!(
                "waits for a place in the compile queue: {PLACES} modules of its framework wait already, which is the \
                 limit"
            )
        })
        .await
    }

    /// Hands out what is free.
    fn settle(&self) {
        let mut state = self.lock();
        state.hand_out_places(self);
        state.hand_out_turns(self);
        state.tenants.retain(|_, tenant| tenant.is_known());
    }
}

impl Place {
    /// Waits for a worker; `waits` is told if none is free at once.
    pub(crate) async fn turn(&self, waits: impl FnOnce(String)) -> Turn {
        let (sender, receiver) = oneshot::channel();
        self.turns.lock().tenants.entry(self.framework).or_default().waiting.push_back(sender);
        self.turns.settle();
        await_or_say(receiver, waits, || self.turns.lock().queue_of(self.framework)).await
    }
}

/// Waits for a guard, saying why if it does not come at once.
async fn await_or_say<T>(
    mut receiver: oneshot::Receiver<T>,
    waits: impl FnOnce(String),
    why: impl FnOnce() -> String,
) -> T {
    match receiver.try_recv() {
        Ok(guard) => return guard,
        Err(_not_yet) => waits(why()),
    }
    match receiver.await {
        Ok(guard) => guard,
        // The sender stays in the state, which the caller's own handle keeps, until it is used.
        Err(_closed) => std::future::pending().await,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            if let Some(tenant) = self.turns.lock().tenants.get_mut(&self.framework) {
                tenant.places -= 1;
            }
            self.turns.settle();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.held {
            let mut state = self.turns.lock();
            state.busy -= 1;
            if let Some(tenant) = state.tenants.get_mut(&self.framework) {
                tenant.running -= 1;
            }
            drop(state);
            self.turns.settle();
        }
    }
}

impl State {
    fn queue_of(&self, framework: FrameworkId) -> String {
        let ahead = self.tenants.get(&framework).map_or(0, |tenant| tenant.waiting.len().saturating_sub(1));
        format!(
            "waits for a compile worker: {} of {} are busy, {ahead} modules of its framework wait before it",
            self.busy, self.workers
        )
    }

    fn hand_out_places(&mut self, turns: &Turns) {
        for (framework, tenant) in &mut self.tenants {
            while tenant.places < PLACES
                && let Some(sender) = tenant.outside.pop_front()
            {
                let place = Place { turns: turns.clone(), framework: *framework, held: true };
                match sender.send(place) {
                    Ok(()) => tenant.places += 1,
                    // Nobody waits any more; giving it back would want the lock that is held here.
                    Err(mut place) => place.held = false,
                }
            }
        }
    }

    fn hand_out_turns(&mut self, turns: &Turns) {
        let most = self.workers.saturating_sub(1).max(1);
        self.tenants.values_mut().for_each(|tenant| tenant.waiting.retain(|sender| !sender.is_closed()));
        while self.busy < self.workers {
            let ready =
                self.tenants.iter_mut().filter(|(_, tenant)| tenant.running < most && !tenant.waiting.is_empty());
            let next = ready.min_by_key(|(_, tenant)| (tenant.running, tenant.last_served));
            let Some((framework, tenant)) = next else { return };
            let Some(sender) = tenant.waiting.pop_front() else { return };
            let turn = Turn { turns: turns.clone(), framework: *framework, held: true };
            match sender.send(turn) {
                Ok(()) => {
                    self.served += 1;
                    self.busy += 1;
                    tenant.running += 1;
                    tenant.last_served = self.served;
                }
                Err(mut turn) => turn.held = false,
            }
        }
    }
}

impl Tenant {
    fn is_known(&self) -> bool {
        self.places > 0 || self.running > 0 || !self.outside.is_empty() || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use holm_model::Epoch;

    use super::*;

    fn framework(number: u64) -> FrameworkId {
        FrameworkId::new(Epoch(1), number)
    }

    fn silent(_why: String) {}

    /// Polls a future that nobody wakes by itself.
    fn poll<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn place(turns: &Turns, number: u64) -> Place {
        poll(&mut Box::pin(turns.place(framework(number), silent))).expect("a place is free")
    }

    fn turn(place: &Place) -> Turn {
        poll(&mut Box::pin(place.turn(silent))).expect("a worker is free")
    }

    #[test]
    fn no_framework_has_all_workers_while_there_are_several() {
        let turns = Turns::new(2);
        let (greedy, other) = ([place(&turns, 1), place(&turns, 1)], place(&turns, 2));
        let first = turn(&greedy[0]);
        let mut said = None;
        let mut second = Box::pin(greedy[1].turn(|why| said = Some(why)));
        assert!(poll(&mut second).is_none());
        let of_other = turn(&other);
        drop(first);
        let third = poll(&mut second).expect("the framework's own turn came back");
        drop(second);
        assert_eq!(
            said.as_deref(),
            Some("waits for a compile worker: 1 of 2 are busy, 0 modules of its framework wait before it")
        );
        drop((of_other, third));
        assert_eq!(turns.lock().busy, 0);
    }

    #[test]
    fn workers_go_round_among_frameworks() {
        let turns = Turns::new(1);
        let places: Vec<Place> = [1, 1, 2, 3].map(|number| place(&turns, number)).into();
        let running = turn(&places[0]);
        let mut waiting: Vec<_> = places[1..].iter().map(|place| Box::pin(place.turn(silent))).collect();
        for future in &mut waiting {
            assert!(poll(future).is_none());
        }
        drop(running);
        // The framework that was just served comes last, although it asked first.
        assert!(poll(&mut waiting[0]).is_none());
        drop(poll(&mut waiting[1]).expect("framework 2 is served"));
        drop(poll(&mut waiting[2]).expect("framework 3 is served"));
        assert!(poll(&mut waiting[0]).is_some());
    }

    #[test]
    fn a_full_queue_is_waited_for_and_the_limit_is_named() {
        let turns = Turns::new(1);
        let mut held: Vec<Place> = (0..PLACES).map(|_| place(&turns, 1)).collect();
        let mut said = None;
        let mut late = Box::pin(turns.place(framework(1), |why| said = Some(why)));
        assert!(poll(&mut late).is_none());
        drop(place(&turns, 2));
        held.pop();
        assert!(poll(&mut late).is_some());
        drop(late);
        assert!(said.expect("it waited").contains("16 modules of its framework wait already"));
    }

    #[test]
    fn who_gives_up_waiting_takes_nothing_along() {
        let turns = Turns::new(1);
        let (one, other) = (place(&turns, 1), place(&turns, 2));
        let running = turn(&one);
        let mut gone = Box::pin(other.turn(silent));
        assert!(poll(&mut gone).is_none());
        drop(gone);
        // A turn that was handed over but not taken.
        let mut lost = Box::pin(other.turn(silent));
        assert!(poll(&mut lost).is_none());
        drop(running);
        drop(lost);
        drop(turn(&one));
        drop((one, other));
        let state = turns.lock();
        assert!(state.busy == 0 && state.tenants.is_empty());
    }
}
