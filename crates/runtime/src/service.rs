//! A task that answers HTTP requests: a `wasi:http/proxy` component behind a port of its own.
//!
//! The sockets are tokio's ([`front`]): they cost no guest any CPU time and no guest runs there. Each request becomes a fresh
//! instance of the component ([`request`]) that is polled within the service's own place in the run queue, a slice at a time
//! ([`several`]), so that shares, metering and kill hold for requests as they do for commands. A service therefore uses at
//! most one core, like every task; for more, launch more of them.
//!
//! When it is asked to stop, it takes no more connections, finishes the requests it has, and ends with exit code 0.

mod front;
mod request;
mod several;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use holm_model::ServiceSpec;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use self::front::{Front, Job, Requests};
use self::request::{Ground, Served, serve};
use self::several::Several;
use crate::memory::MemoryPool;
use crate::network::TaskNetwork;
use crate::output::Output;
use crate::queue::slice_is_used_up;
use crate::run::{Control, State};
use crate::{Command, Outcome, Preopen, Program, TaskEnd};

use crate::mailbox::Mailbox;

/// Where and how a service is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// The address it listens on.
    pub address: SocketAddr,
    /// What one request may use.
    pub limits: ServiceSpec,
}

/// What a service has come to.
#[derive(Default)]
struct Tally {
    requests: u64,
    failed: u64,
    failed_in_a_row: u32,
    fuel: u64,
}

/// Serves until the task is stopped, its deadline passes, or it fails.
pub(crate) async fn run(
    program: Program,
    options: ServiceOptions,
    command: Command,
    output: Output,
    mailbox: Arc<Mailbox>,
    network: Arc<TaskNetwork>,
    control: &Control,
) -> TaskEnd {
    let Some(proxy) = program.proxy().cloned() else {
        // The runner has checked; this is for whoever else submits tasks.
        return TaskEnd::unused(Outcome::RunnerFailed("a program that is no service was to be served".to_owned()));
    };
    let (front, jobs) = match Front::open(&options).await {
        Ok(opened) => opened,
        Err(error) => {
            let message = format!("cannot listen on {}: {error}", options.address);
            return TaskEnd::unused(Outcome::SandboxFailed(message));
        }
    };
    output.note(&format!("holm: serving http on {}\n", options.address));
    control.set_instantiated();
    let begin = Instant::now();
    let pool = MemoryPool::new(command.limits.memory_bytes);
    let budget = command.limits.fuel;
    let deadline = command.limits.deadline;
    let ground =
        Ground { program, proxy, command, output, mailbox, network, pool: pool.clone(), limits: options.limits };
    let mut service =
        Service { ground: Arc::new(ground), front, jobs, budget, running: Several::default(), tally: Tally::default() };
    let mut timer = pin!(deadline.map(tokio::time::sleep));
    let mut stopping = false;
    let outcome = poll_fn(|context| {
        if let Some(outcome) = control.stop_outcome() {
            return Poll::Ready(outcome);
        }
        if let (Some(timer), Some(limit)) = (timer.as_mut().as_pin_mut(), deadline)
            && timer.poll(context).is_ready()
        {
            return Poll::Ready(Outcome::PastDeadline(limit));
        }
        if !stopping && service.ground.mailbox.poll_stop(context).is_ready() {
            stopping = true;
            service.front.stop();
        }
        service.poll(context)
    })
    .await;
    let (kept, output_dropped) = service.ground.output.totals();
    TaskEnd {
        fuel: service.tally.fuel,
        peak_memory: pool.peak(),
        run: begin.elapsed(),
        output_bytes: kept + output_dropped,
        output_dropped,
        network_refusals: service.ground.network.refusals(),
        peak_disk: service.ground.command.preopens.iter().filter_map(Preopen::disk).map(|disk| disk.peak()).sum(),
        requests: service.tally.requests + service.front.answered_here(),
        failed_requests: service.tally.failed,
        ..TaskEnd::unused(outcome)
    }
}

struct Service {
    ground: Arc<Ground>,
    front: Front,
    jobs: Requests,
    /// Fuel for all requests together.
    budget: Option<u64>,
    running: Several<Served>,
    tally: Tally,
}

impl Service {
    /// Takes requests and goes on with those that there are; ready when nobody can send one any more, or none may be run.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut closed = false;
        while !closed {
            match self.jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => self.begin(job),
                Poll::Ready(None) => closed = true,
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(served) = self.running.poll(context) {
            if let Some(outcome) = self.count(served) {
                return Poll::Ready(outcome);
            }
            // Many short requests are no longer than one long one: the rest has its turn in the next slice.
            if slice_is_used_up() {
                context.waker().wake_by_ref();
                break;
            }
        }
        let over = closed && self.running.is_empty();
        if over { Poll::Ready(Outcome::Exited { code: 0, refused: None }) } else { Poll::Pending }
    }

    fn begin(&mut self, job: Job) {
        let left = self.budget.map_or(u64::MAX, |budget| budget.saturating_sub(self.tally.fuel));
        let ground = self.ground.clone();
        self.running.add(Box::pin(serve(ground, job, left)));
    }

    /// Takes down how a request ended; the task's end, if that is one.
    fn count(&mut self, served: Served) -> Option<Outcome> {
        let tally = &mut self.tally;
        tally.requests += 1;
        tally.fuel = tally.fuel.saturating_add(served.fuel);
        if let Some(budget) = self.budget.filter(|budget| tally.fuel >= *budget) {
            return Some(Outcome::OutOfFuel { budget });
        }
        let Some(failure) = served.failure else {
            tally.failed_in_a_row = 0;
            return None;
        };
        tally.failed += 1;
        self.ground.output.note(&format!("holm: a request failed: {failure}\n"));
        if !served.counts {
            return None;
        }
        tally.failed_in_a_row += 1;
        let limit = self.ground.limits.max_failures;
        let in_a_row = tally.failed_in_a_row;
        (limit > 0 && in_a_row >= limit).then(|| {
            let message =
                format!("{in_a_row} requests in a row failed (limit max failures {limit}), the last: {failure}");
            Outcome::Trapped(crate::outcome::clip(&message))
        })
    }
}

/// The component's entry point for requests.
pub(crate) type Proxy = ProxyPre<State>;
