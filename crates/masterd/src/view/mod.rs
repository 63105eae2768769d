//! The read model: what the master knows, kept on a thread of its own and read by everybody who only looks.
//!
//! The driver sends what changed; this thread folds it. Readers take the lock for one page at a time, so that neither
//! the fold nor, behind it, the master waits for a large listing.

mod changes;
mod counts;
pub(crate) mod json;
mod preemptions;
pub(crate) mod query;
mod state;
pub(crate) mod watch;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use holm_master::Delta;
use tokio::sync::{mpsc, watch as signal};
use tonic::Status;

use crate::clock;
use crate::metrics::Metrics;
pub(crate) use changes::Change;
pub(crate) use state::{LaunchEntry, State};

/// Most groups of changes that wait for the fold; the driver waits beyond that.
pub(crate) const DELTA_QUEUE: usize = 256;

/// The folded state, and a signal for those who follow it.
#[derive(Debug)]
pub(crate) struct View {
    state: RwLock<State>,
    /// The number of the latest change; none once there will be no more.
    latest: signal::Sender<Option<u64>>,
}

impl View {
    pub(crate) fn new() -> Arc<View> {
        Arc::new(View { state: RwLock::new(State::default()), latest: signal::Sender::new(Some(0)) })
    }

    /// The state as it is now; hold it for a page, not for a listing.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // The fold never panics halfway through a change that a reader could notice.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A signal that fires after every fold.
    pub(crate) fn follow(&self) -> Follower {
        Follower(self.latest.subscribe())
    }

    /// Ends everybody who follows: the master is going.
    pub(crate) fn close(&self) {
        self.latest.send_replace(None);
    }

    /// Folds one group of changes.
    pub(crate) fn fold(&self, deltas: Vec<Delta>, metrics: &Metrics) {
        let latest = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let now = clock::unix_micros();
            for delta in deltas {
                state.apply(delta, now, metrics);
            }
            state.changes.latest()
        };
        self.latest.send_replace(Some(latest));
    }
}

/// Waits for changes.
pub(crate) struct Follower(signal::Receiver<Option<u64>>);

impl Follower {
    /// Resolves when something has changed since the last time.
    ///
    /// # Errors
    /// UNAVAILABLE when nothing will change any more.
    pub(crate) async fn changed(&mut self) -> Result<(), Status> {
        let open = self.0.changed().await.is_ok() && self.0.borrow_and_update().is_some();
        if open { Ok(()) } else { Err(Status::unavailable("the master is shutting down")) }
    }
}

/// Starts the thread that folds until every sender is gone.
pub(crate) fn start(
    view: Arc<View>,
    metrics: Arc<Metrics>,
    mut deltas: mpsc::Receiver<Vec<Delta>>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let work = move || {
        while let Some(group) = deltas.blocking_recv() {
            view.fold(group, &metrics);
        }
    };
    std::thread::Builder::new().name("read-model".to_owned()).spawn(work)
}
