//! Executors: components of the world `wit/executor` that stay and run tasks of their own.
//!
//! An executor is a guest like any other: one future on the run queue, one store under its limits. It waits until its
//! inbox has something, is called with it, and waits again.

mod driver;
mod inbox;

use std::sync::Arc;
use std::time::Duration;

use holm_model::TaskStatus;
use wasmtime::Store;

pub(crate) use self::driver::{PACKAGE, add_to_components, is_executor};
use self::driver::{exports, types};
pub use self::inbox::KillAnswer;
pub(crate) use self::inbox::{Event, Inbox};
use crate::run::State;

/// A linked executor.
pub(crate) type ExecutorPre = driver::bindings::ExecutorPre<State>;

/// A task for an executor.
#[derive(Clone, Debug)]
pub struct ExecutedTask {
    /// Names it to the executor. The caller never uses a number twice.
    pub id: u64,
    /// What people call it.
    pub name: String,
    /// Its array index.
    pub index: Option<u32>,
    /// What it is given.
    pub data: Arc<[u8]>,
}

/// What an executor says of one of its tasks.
#[derive(Clone, Debug)]
pub enum ExecutedUpdate {
    /// It runs. Said at most once, and only before its end.
    Running(u64),
    /// It has ended; terminal. `usage.queued` is zero.
    Ended(u64, TaskStatus),
}

/// How an executor ended by itself.
pub(crate) enum Left {
    /// With success.
    Done,
    /// With a message.
    GaveUp(String),
}

/// Runs an executor that has been instantiated until it ends.
pub(crate) async fn serve(executor: &driver::bindings::Executor, store: &mut Store<State>) -> wasmtime::Result<Left> {
    let mailbox = store.data().mailbox.clone();
    let Some(inbox) = mailbox.executor() else { return Ok(Left::GaveUp("this task is no executor".to_owned())) };
    let handler = executor.holm_executor_handler();
    if let Err(message) = handler.call_start(&mut *store).await? {
        return Ok(Left::GaveUp(message));
    }
    let mut wait = None;
    loop {
        let events: Vec<types::Event> = inbox.next(wait).await.into_iter().map(event).collect();
        wait = match handler.call_on_events(&mut *store, &events).await? {
            Ok(exports::Next::OnEvent) => None,
            Ok(exports::Next::After(micros)) => Some(Duration::from_micros(micros)),
            Ok(exports::Next::Done) => return Ok(Left::Done),
            Err(message) => return Ok(Left::GaveUp(message)),
        };
    }
}

fn event(event: Event) -> types::Event {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    match event {
        Event::Launch(ExecutedTask { id, name, index, data }) => {
            types::Event::Launch(types::Task { id, name, index, data: data.to_vec() })
        }
        Event::Kill { task, grace } => types::Event::Kill(types::Kill { id: task, grace: micros(grace) }),
        Event::Message { task, data } => types::Event::Message(types::Message { task, data: data.to_vec() }),
        Event::Shutdown(grace) => types::Event::Shutdown(micros(grace)),
    }
}
