//! One compilation per module: whoever wants its native code meanwhile waits for the same one, and hears of the same end.
//!
//! A compilation belongs to those who wait for it. When the last of them gives up, it ends, and its worker is killed.
//! That a module could not be compiled is remembered for a while, so that launching it again and again costs nobody else
//! the workers.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use holm_model::Digest;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::prepare::PrepareError;

/// Modules of which it is remembered that they cannot be compiled.
const MAX_FAILURES: usize = 256;
/// How long it is remembered: a wall limit may have been met for reasons of the machine.
const FAILURE_AGE: Duration = Duration::from_secs(300);
/// How long a launch waits before its tasks' status says for what.
const UNTOLD: Duration = Duration::from_millis(500);

/// How far a compilation is.
#[derive(Clone)]
pub(crate) enum Progress {
    /// What it does, or waits for.
    At(Arc<str>),
    /// How it ended.
    Over(Result<PathBuf, PrepareError>),
}

/// A compilation under way.
pub(crate) struct Flight {
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flight {
    /// Waits for the end. Once it has taken a while, `waits` hears what it is at, and each time that changes.
    pub(crate) async fn land(&self, waits: &(impl Fn(Arc<str>) + Sync)) -> Result<PathBuf, PrepareError> {
        let mut progress = self.progress.clone();
        let mut quiet = Some(Box::pin(tokio::time::sleep(UNTOLD)));
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Over(result) => return result,
                Progress::At(what) if quiet.is_none() => waits(what),
                Progress::At(_) => {}
            }
            let changed = match &mut quiet {
                None => progress.changed().await,
                Some(timer) => tokio::select! {
                    changed = progress.changed() => changed,
                    () = timer => {
                        quiet = None;
                        Ok(())
                    }
                },
            };
            if changed.is_err() {
                return Err(PrepareError::lost());
            }
        }
    }
}

/// The compilations under way, and those that failed lately.
#[derive(Default)]
pub(crate) struct Flights {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    flying: HashMap<Digest, Weak<Flight>>,
    failures: VecDeque<(Digest, Instant, PrepareError)>,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The compilation of `module` that is under way, or a new one by `compile`, which reports to the sender how far it is
    /// and at last its end.
    pub(crate) fn join<C>(&self, module: Digest, compile: impl FnOnce(watch::Sender<Progress>) -> C) -> Arc<Flight>
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let mut books = self.lock();
        if let Some(flight) = books.flying.get(&module).and_then(Weak::upgrade)
            && !matches!(*flight.progress.borrow(), Progress::Over(_))
        {
            return flight;
        }
        books.flying.retain(|_, flight| flight.strong_count() > 0);
        let (sender, progress) = watch::channel(Progress::At("".into()));
        let flight = Arc::new(Flight { progress, task: tokio::spawn(compile(sender)).abort_handle() });
        books.flying.insert(module, Arc::downgrade(&flight));
        flight
    }

    /// Remembers that `module` cannot be compiled.
    pub(crate) fn note_failure(&self, module: Digest, error: PrepareError) {
        let mut books = self.lock();
        books.failures.retain(|(failed, since, _)| *failed != module && since.elapsed() < FAILURE_AGE);
        if books.failures.len() >= MAX_FAILURES {
            books.failures.pop_front();
        }
        books.failures.push_back((module, Instant::now(), error));
    }

    /// Why `module` could not be compiled lately.
    pub(crate) fn failure(&self, module: Digest) -> Option<PrepareError> {
        let books = self.lock();
        let known = books.failures.iter().find(|(failed, since, _)| *failed == module && since.elapsed() < FAILURE_AGE);
        known.map(|(_, _, error)| error.clone())
    }
}
