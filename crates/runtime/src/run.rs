//! The life of one guest, as a future that the queue polls.

use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use holm_model::{Metering, Reason};
use wasmtime::{Instance, Store, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::directories;
use crate::disk::{self, Sandbox};
use crate::executor::{self, Left};
use crate::http::Http;
use crate::limits::{HOSTCALL_BYTES, MAX_COMPONENT_HANDLES, MAX_HANDLES, MAX_RANDOM_BYTES};
use crate::mailbox::Mailbox;
use crate::memory::{MemoryLimiter, MemoryPool, Refusal};
use crate::network::TaskNetwork;
use crate::outcome::{Refusals, exited, of_error};
use crate::output::Output;
use crate::program::Entry;
use crate::queue::slice_is_used_up;
use crate::seeded::{self, VirtualClock};
use crate::service;
use crate::{Command, HostDir, ModuleKind, Outcome, Preopen, Program, Stream, TaskEnd};

/// The precision, in units, to which the fuel of a guest is known that was ended from outside. Each costs a short pause.
const FUEL_INTERVAL: u64 = 1_000_000;

/// What the host keeps for one guest.
pub(crate) struct State {
    pub(crate) wasi: WasiP1Ctx,
    /// Only seeded tasks look at it.
    pub(crate) clock: VirtualClock,
    pub(crate) seeded: bool,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) network: Arc<TaskNetwork>,
    pub(crate) http: Http,
    pub(crate) sandbox: Sandbox,
    /// What people call the task.
    pub(crate) name: String,
    memory: MemoryLimiter,
}

impl State {
    /// The latest growth of memory that was refused.
    pub(crate) fn memory_refusal(&self) -> Option<Refusal> {
        self.memory.refusal()
    }

    pub(crate) fn memory_limit(&self) -> u64 {
        self.memory.limit()
    }
}

/// Whose memory a guest's is.
pub(crate) enum Memory {
    /// Its own.
    Own,
    /// Its task's, with that of others.
    Shared(MemoryPool),
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// What the queue and a task know of each other while it runs.
#[derive(Default)]
pub(crate) struct Control {
    stop: OnceLock<(Reason, String)>,
    instantiated: AtomicBool,
}

impl Control {
    /// Asks the task to end; the first one to ask is the one named. It takes effect when the task is polled next.
    pub(crate) fn stop(&self, reason: Reason, message: &str) {
        // Losing against another one who asks is fine: the task ends either way.
        let _ = self.stop.set((reason, message.to_owned()));
    }

    /// Whether somebody asked.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    /// How a stopped task ends.
    pub(crate) fn stop_outcome(&self) -> Option<Outcome> {
        self.stop.get().map(|(reason, message)| Outcome::Killed { reason: *reason, message: message.clone() })
    }

    /// The guest has been instantiated, or what stands for it.
    pub(crate) fn set_instantiated(&self) {
        self.instantiated.store(true, Ordering::Release);
    }

    /// Whether the guest has been instantiated.
    pub(crate) fn is_instantiated(&self) -> bool {
        self.instantiated.load(Ordering::Acquire)
    }
}

/// Runs a command to its end, or serves a service until it is stopped. All of the guest's memory is gone when the future
/// is done.
pub(crate) async fn run(
    program: Program,
    mut command: Command,
    output: Output,
    mailbox: Arc<Mailbox>,
    control: &Control,
) -> TaskEnd {
    let network = Arc::new(TaskNetwork::new(command.network.clone(), output.clone()));
    if let Some(options) = command.service.take() {
        return service::run(program, options, command, output, mailbox, network, control).await;
    }
    let mut state = match state(&command, &output, mailbox, network.clone(), Memory::Own) {
        Ok(state) => state,
        Err(outcome) => return TaskEnd::unused(outcome),
    };
    if program.kind() == ModuleKind::Core
        && let Err(error) = disk::p1::begin(&mut state)
    {
        return TaskEnd::unused(Outcome::RunnerFailed(format!("no ledger for the task's directory: {error:#}")));
    }
    let budget = command.limits.fuel.unwrap_or(u64::MAX);
    let mut store = match store(&program, state, budget) {
        Ok(store) => store,
        Err(error) => return TaskEnd::unused(Outcome::RunnerFailed(format!("no store for the task: {error:#}"))),
    };
    let begin = Instant::now();
    let called = call_within(&program, &command, &mut store, control).await;
    let fuel = store.get_fuel().map_or(0, |left| budget - left);
    let refusals = Refusals { memory: store.data().memory.refusal(), disk: store.data().sandbox.refusal() };
    let outcome = match called {
        Called::Returned(Ok(code)) => exited(code, refusals),
        Called::Returned(Err(error)) => of_error(&error, budget, refusals),
        Called::GaveUp(message) => Outcome::GaveUp(message),
        Called::NotInstantiated(message) => Outcome::RunnerFailed(message),
        Called::PastDeadline(deadline) => Outcome::PastDeadline(deadline),
        Called::Stopped(outcome) => outcome,
    };
    let (kept, output_dropped) = output.totals();
    TaskEnd {
        fuel,
        peak_memory: store.data().memory.peak(),
        run: begin.elapsed(),
        output_bytes: kept + output_dropped,
        output_dropped,
        network_refusals: network.refusals(),
        peak_disk: store.data().sandbox.peak(),
        ..TaskEnd::unused(outcome)
    }
}

enum Called {
    /// With the exit code, or with what ended it.
    Returned(wasmtime::Result<i32>),
    /// With what it said.
    GaveUp(String),
    NotInstantiated(String),
    PastDeadline(Duration),
    Stopped(Outcome),
}

/// Calls the guest until it ends, is stopped, or its deadline passes. In the last two cases the call is dropped where it
/// stands: between two slices or in a host call that waits.
async fn call_within(program: &Program, command: &Command, store: &mut Store<State>, control: &Control) -> Called {
    let mut call = pin!(call(program, command.seed.is_some(), store, control));
    let mut deadline = command.limits.deadline.map(|limit| (limit, Box::pin(tokio::time::sleep(limit))));
    poll_fn(|context| {
        if let Some(outcome) = control.stop_outcome() {
            return Poll::Ready(Called::Stopped(outcome));
        }
        if let Some((limit, timer)) = &mut deadline
            && timer.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Called::PastDeadline(*limit));
        }
        call.as_mut().poll(context)
    })
    .await
}

async fn call(program: &Program, seeded: bool, store: &mut Store<State>, control: &Control) -> Called {
    match program.entry(seeded) {
        Entry::Core(pre) => {
            let instance = match pre.instantiate_async(&mut *store).await {
                Ok(instance) => instance,
                Err(error) => return not_instantiated(error, store),
            };
            control.instantiated.store(true, Ordering::Release);
            Called::Returned(call_start(program, instance, store).await)
        }
        Entry::Component(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return not_instantiated(error, store),
            };
            control.set_instantiated();
            let run = command.wasi_cli_run().call_run(store).await;
            Called::Returned(run.map(|result| if result.is_ok() { 0 } else { 1 }))
        }
        // The runner has checked; this is for whoever else submits tasks.
        Entry::Service => Called::NotInstantiated("a service was to be run as a command".to_owned()),
        Entry::Executor(pre) => {
            let executor = match pre.instantiate_async(&mut *store).await {
                Ok(executor) => executor,
                Err(error) => return not_instantiated(error, store),
            };
            control.instantiated.store(true, Ordering::Release);
            match executor::serve(&executor, store).await {
                Ok(Left::Done) => Called::Returned(Ok(0)),
                Ok(Left::GaveUp(message)) => Called::GaveUp(message),
                Err(error) => Called::Returned(Err(error)),
            }
        }
    }
}

async fn call_start(program: &Program, instance: Instance, store: &mut Store<State>) -> wasmtime::Result<i32> {
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
    let memory = instance.get_memory(&mut *store, "memory");
    if let Some(memory) = memory {
        program.touched().prepare(memory.data_ptr(&*store), memory.data_size(&*store));
    }
    let returned = start.call_async(&mut *store, ()).await;
    if let Some(memory) = memory.filter(|_| !program.touched().is_known()) {
        program.touched().learn(memory.data_ptr(&*store), memory.data_size(&*store));
    }
    returned.map(|()| 0)
}

/// Instantiation fails by the guest's start function, by its memory limit, or by the host's means.
fn not_instantiated(error: wasmtime::Error, store: &Store<State>) -> Called {
    let of_guest = error.downcast_ref::<WasmBacktrace>().is_some() || error.downcast_ref::<wasmtime::Trap>().is_some();
    if of_guest || store.data().memory.refusal().is_some() {
        return Called::Returned(Err(error));
    }
    Called::NotInstantiated(format!("the task cannot be instantiated: {error:#}"))
}

pub(crate) fn store(program: &Program, state: State, budget: u64) -> wasmtime::Result<Store<State>> {
    let mut store = Store::try_new(program.engine().wasm(), state)?;
    store.limiter(|state| &mut state.memory);
    if program.engine().metering() == Metering::FuelAndEpochs {
        store.set_fuel(budget)?;
        // Fuel that runs in a loop is known to the store only now and then; without this a guest killed there used none.
        store.fuel_async_yield_interval(Some(FUEL_INTERVAL))?;
    }
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(MAX_COMPONENT_HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| {
        Ok(if slice_is_used_up() { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
    });
    Ok(store)
}

/// What the guest is given. The builder grants nothing: stdin is at its end; sockets and names are refused, unless the
/// task's network has some.
pub(crate) fn state(
    command: &Command,
    output: &Output,
    mailbox: Arc<Mailbox>,
    network: Arc<TaskNetwork>,
    memory: Memory,
) -> Result<State, Outcome> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(false);
    network.configure(&mut wasi);
    wasi.max_random_size(MAX_RANDOM_BYTES);
    wasi.args(&command.args).envs(&command.env);
    wasi.stdout(output.stream(Stream::Stdout)).stderr(output.stream(Stream::Stderr));
    let mut sandbox = Sandbox::default();
    let opened = directories::recall(&command.preopens);
    for preopen in &command.preopens {
        if opened.is_none() {
            open(&mut wasi, preopen)?;
        }
        sandbox.preopen(preopen.disk());
    }
    let clock = command.seed.map(|seed| seeded::configure(&mut wasi, seed)).unwrap_or_default();
    let mut wasi = wasi.build_p1();
    let given = wasi.ctx();
    given.table.set_max_capacity(MAX_HANDLES);
    match opened {
        Some(opened) => *given.ctx.filesystem() = opened,
        None => directories::remember(&command.preopens, given.ctx.filesystem()),
    }
    let memory = match memory {
        Memory::Own => MemoryLimiter::new(command.limits.memory_bytes),
        Memory::Shared(pool) => MemoryLimiter::of_pool(pool),
    };
    let http = Http::new(network.clone());
    let name = command.env.iter().find(|(key, _)| key == "HOLM_TASK_ID").map(|(_, name)| name.clone());
    let (seeded, name) = (command.seed.is_some(), name.unwrap_or_default());
    Ok(State { wasi, clock, seeded, mailbox, network, http, sandbox, name, memory })
}

fn open(wasi: &mut WasiCtxBuilder, preopen: &Preopen) -> Result<(), Outcome> {
    let perms = if preopen.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    let path = match &preopen.host {
        HostDir::Path(path) | HostDir::Own(path, _) => path.clone(),
        HostDir::Opened(directory) => format!("/proc/self/fd/{}", directory.as_raw_fd()).into(),
    };
    wasi.preopened_dir(path, &preopen.guest, perms).map(drop).map_err(|error| {
        Outcome::SandboxFailed(format!("directory {:?} cannot be opened: {}", preopen.guest, error.root_cause()))
    })
}
