//! Several futures in one: those that are ready are polled in turn, until the slice of the one task they make up is used.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::queue::slice_is_used_up;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures with results of one type.
pub(super) struct Several<T> {
    places: Vec<Option<(Boxed<T>, Arc<Place>)>>,
    free: Vec<usize>,
    shared: Arc<Shared>,
}

/// Which futures are ready, and who is to be told. Wakes come from any thread, polls from one.
struct Shared {
    woken: Mutex<Woken>,
}

#[derive(Default)]
struct Woken {
    ready: VecDeque<usize>,
    parent: Option<Waker>,
}

struct Place {
    index: usize,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Place {
    fn wake(self: Arc<Place>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Place>) {
        if self.queued.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut woken = self.shared.lock();
        woken.ready.push_back(self.index);
        let parent = woken.parent.clone();
        drop(woken);
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

impl<T> Default for Several<T> {
    fn default() -> Several<T> {
        let shared = Arc::new(Shared { woken: Mutex::default() });
        Several { places: Vec::new(), free: Vec::new(), shared }
    }
}

impl<T> Several<T> {
    /// Adds a future, which is polled in its turn.
    pub(super) fn add(&mut self, future: Boxed<T>) {
        let index = self.free.pop().unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(None);
        }
        let place = Arc::new(Place { index, queued: AtomicBool::new(true), shared: self.shared.clone() });
        self.places[index] = Some((future, place));
        self.shared.lock().ready.push_back(index);
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Polls those that are ready until one is done. When the slice is used up, those behind go on in the next one, from
    /// where this one ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        self.shared.lock().parent = Some(context.waker().clone());
        loop {
            let Some(index) = self.shared.lock().ready.pop_front() else { return Poll::Pending };
            // A late wake of one that is done finds nothing, or another in its place, which loses nothing by it.
            let Some((future, place)) = self.places.get_mut(index).and_then(Option::as_mut) else { continue };
            place.queued.store(false, Ordering::SeqCst);
            let waker = Waker::from(place.clone());
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.places[index] = None;
                self.free.push(index);
                return Poll::Ready(result);
            }
            if slice_is_used_up() {
                if !self.shared.lock().ready.is_empty() {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is woken.
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Counter>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn turns(name: &'static str, times: usize) -> Boxed<&'static str> {
        let mut left = times;
        Box::pin(poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(name);
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    #[test]
    fn a_used_up_slice_ends_the_poll_and_the_next_goes_on_behind_it() {
        // Outside of the queue every slice is used up at once: each poll is of one future.
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(counter.clone());
        let mut context = Context::from_waker(&waker);
        let mut several = Several::default();
        several.add(turns("slow", 3));
        several.add(turns("quick", 1));
        let mut done = Vec::new();
        for _ in 0..20 {
            if let Poll::Ready(name) = several.poll(&mut context) {
                done.push(name);
            }
        }
        assert_eq!(done, ["quick", "slow"]);
        assert!(several.is_empty());
        assert!(counter.0.load(Ordering::SeqCst) >= 4, "who is ready must be polled again");
    }

    #[test]
    fn a_place_is_used_again_and_an_old_waker_harms_nobody() {
        let mut context = Context::from_waker(Waker::noop());
        let mut several = Several::default();
        let kept: Arc<Mutex<Option<Waker>>> = Arc::default(); // Arc<Mutex>: the test keeps what the future was given.
        let keep = kept.clone();
        several.add(Box::pin(poll_fn(move |context| {
            *keep.lock().unwrap() = Some(context.waker().clone());
            Poll::Ready("first")
        })));
        assert!(several.poll(&mut context).is_ready());
        several.add(turns("second", 0));
        kept.lock().unwrap().take().unwrap().wake();
        assert_eq!(several.poll(&mut context), Poll::Ready("second"));
        assert!(several.poll(&mut context).is_pending());
        assert!(several.is_empty());
    }
}
