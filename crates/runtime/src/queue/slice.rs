//! How long the guest that a thread polls may go on: asked at every tick of the epoch, on that thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock;

/// The shortest slice that a tick ends, in nanoseconds. A task polled just before a tick keeps running until the next.
const MIN_SLICE: u64 = 500_000;

thread_local! {
    static BEGIN: Cell<u64> = const { Cell::new(0) };
    static INTERRUPT: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// This thread polls guests from now on; `interrupt` ends a slice early.
pub(super) fn on_this_thread(interrupt: Arc<AtomicBool>) {
    INTERRUPT.set(Some(interrupt));
}

/// A slice begins.
pub(super) fn begin(now: u64) {
    BEGIN.set(now);
}

/// Whether somebody else is to be polled first.
fn is_interrupted() -> bool {
    INTERRUPT.with_borrow(|interrupt| interrupt.as_ref().is_some_and(|interrupt| interrupt.load(Ordering::Relaxed)))
}

/// Whether the task that this thread polls has had its slice.
pub(crate) fn is_used_up() -> bool {
    is_interrupted() || clock::now().saturating_sub(BEGIN.get()) >= MIN_SLICE
}
