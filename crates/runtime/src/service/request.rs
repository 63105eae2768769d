//! One request: a fresh instance of the component, under the limits of a request and within those of its task.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use holm_model::ServiceSpec;
use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep_until;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::Proxy;
use super::front::{Answer, Job};
use crate::mailbox::Mailbox;
use crate::memory::MemoryPool;
use crate::network::TaskNetwork;
use crate::output::Output;
use crate::run::{Memory, State, state, store};
use crate::{Command, Program};

/// What all requests of a service share.
pub(super) struct Ground {
    pub(super) program: Program,
    pub(super) proxy: Proxy,
    pub(super) command: Command,
    pub(super) output: Output,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) network: Arc<TaskNetwork>,
    pub(super) pool: MemoryPool,
    pub(super) limits: ServiceSpec,
}

/// How a request ended.
pub(super) struct Served {
    /// Fuel it used.
    pub(super) fuel: u64,
    /// What went wrong.
    pub(super) failure: Option<String>,
    /// Whether that is the program's fault.
    pub(super) counts: bool,
}

/// How a guest's call ended.
enum Called {
    Returned,
    Failed(wasmtime::Error),
    /// There was no room for another instance.
    NoRoom(String),
    PastDeadline,
    ClientGone,
}

/// Works on a request with at most `fuel_left`.
pub(super) async fn serve(ground: Arc<Ground>, job: Job, fuel_left: u64) -> Served {
    let Job { request, answer, verdict, gone, deadline, place } = job;
    let fuel = ground.limits.request_fuel.unwrap_or(u64::MAX).min(fuel_left);
    let prepared = prepare(&ground, fuel);
    let mut store = match prepared {
        Ok(store) => store,
        Err(message) => return refused(StatusCode::INTERNAL_SERVER_ERROR, message, verdict),
    };
    let answered = Arc::new(AtomicBool::new(false));
    let called = {
        let mut call = pin!(call(&ground.proxy, &mut store, request, answer, answered.clone()));
        let mut timer = pin!(sleep_until(deadline));
        let mut gone = pin!(gone);
        let mut listens = true;
        poll_fn(|context| {
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Called::PastDeadline);
            }
            if listens && let Poll::Ready(told) = gone.as_mut().poll(context) {
                if told.is_err() {
                    return Poll::Ready(Called::ClientGone);
                }
                listens = false;
            }
            call.as_mut().poll(context)
        })
        .await
    };
    // An engine that counts no fuel knows none.
    let used = store.get_fuel().map_or(0, |left| fuel - left);
    let refusal = store.data().memory_refusal();
    // The instance's memory is given back before anybody is told, and before another takes its place.
    drop(store);
    end(place);
    let failed = |failure: String, counts| Served { fuel: used, failure: Some(failure), counts };
    match called {
        Called::Returned if answered.load(Ordering::Acquire) => Served { fuel: used, failure: None, counts: false },
        Called::Returned => {
            tell(verdict, StatusCode::INTERNAL_SERVER_ERROR);
            failed("the program returned without an answer".to_owned(), true)
        }
        Called::ClientGone => failed("the client went away".to_owned(), false),
        Called::PastDeadline => {
            let limit = ground.limits.request_time;
            failed(format!("took longer than {limit:?} (limit request time)"), false)
        }
        Called::NoRoom(message) => {
            tell(verdict, StatusCode::SERVICE_UNAVAILABLE);
            failed(message, false)
        }
        Called::Failed(error) => {
            tell(verdict, StatusCode::INTERNAL_SERVER_ERROR);
            let out_of_fuel = matches!(error.downcast_ref::<Trap>(), Some(Trap::OutOfFuel));
            let message = match refusal {
                _ if out_of_fuel => format!("used up its fuel of {fuel} units (limit request fuel)"),
                Some(refusal) => format!("{}; then: {}", refusal.describe(), crate::outcome::describe(&error)),
                None => crate::outcome::describe(&error),
            };
            failed(message, true)
        }
    }
}

fn refused(status: StatusCode, message: String, verdict: tokio::sync::oneshot::Sender<StatusCode>) -> Served {
    tell(verdict, status);
    Served { fuel: 0, failure: Some(message), counts: false }
}

fn tell(verdict: tokio::sync::oneshot::Sender<StatusCode>, status: StatusCode) {
    // Who has gone needs no verdict.
    let _ = verdict.send(status);
}

/// Lets the next request in.
fn end(place: OwnedSemaphorePermit) {
    drop(place);
}

fn prepare(ground: &Ground, fuel: u64) -> Result<Store<State>, String> {
    let memory = Memory::Shared(ground.pool.clone());
    let state = state(&ground.command, &ground.output, ground.mailbox.clone(), ground.network.clone(), memory);
    let state = state.map_err(|outcome| format!("the sandbox of a request cannot be made: {outcome:?}"))?;
    store(&ground.program, state, fuel).map_err(|error| format!("no store for a request: {error:#}"))
}

async fn call(
    proxy: &Proxy,
    store: &mut Store<State>,
    request: http::Request<super::front::RequestBody>,
    answer: tokio::sync::oneshot::Sender<Answer>,
    answered: Arc<AtomicBool>,
) -> Called {
    let instance = match proxy.instantiate_async(&mut *store).await {
        Ok(instance) => instance,
        Err(error) => return not_instantiated(error, store),
    };
    let give = move |value| {
        answered.store(true, Ordering::Release);
        // Nobody may wait for it any more.
        let _ = answer.send(value);
    };
    let mut http = store.data_mut().http();
    let made = http.new_incoming_request(Scheme::Http, request).and_then(|request| {
        let out = http.new_response_outparam_from_callback(give)?;
        Ok((request, out))
    });
    let called = match made {
        Ok((request, out)) => instance.wasi_http_incoming_handler().call_handle(store, request, out).await,
        Err(error) => Err(error),
    };
    called.map_or_else(Called::Failed, |()| Called::Returned)
}

/// An instance that does not fit beside the others is no fault of the program.
fn not_instantiated(error: wasmtime::Error, store: &Store<State>) -> Called {
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Called::NoRoom(format!("the runner has no free slot: {}", error.root_cause()));
    }
    match store.data().memory_refusal() {
        Some(refusal) if refusal.is_others() => Called::NoRoom(refusal.describe()),
        _ => Called::Failed(error),
    }
}
