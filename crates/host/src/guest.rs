//! One scheduler component: compiled, checked, instantiated, and called within its limits.

use std::fmt::Write as _;
use std::time::Duration;

use holm_runtime::{IntakeError, ModuleKind};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::{Scheduler, SchedulerPre, wit};
use crate::inert::{self, Output};
use crate::memory::MemoryLimit;
use crate::watchdog::Watchdog;

/// The world that a scheduler component is of.
pub const WORLD: &str = "holm:framework/scheduler@0.1.0";

/// What one call may make the host copy, in bytes.
const HOSTCALL_BYTES: usize = 64 << 20;

/// Why a component is not, or is no longer, a scheduler.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The bytes are nothing that runs.
    #[error("the scheduler cannot be loaded")]
    Intake(#[from] IntakeError),
    /// The bytes are a core module.
    #[error("the scheduler is a core module; it has to be a component of the world {WORLD}")]
    CoreModule,
    /// The component is not valid.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// The component imports what the world does not have.
    #[error("the component imports {0}, which the world {WORLD} does not offer")]
    Import(String),
    /// The component does not export what the world asks for.
    #[error("the component is not of the world {WORLD}: {0}")]
    World(String),
    /// The machine cannot run components.
    #[error("components cannot run here: {0}")]
    Host(String),
    /// A call took too long.
    #[error("the scheduler took longer than {0:?} for {1}, which is the limit{2}")]
    TooLong(Duration, &'static str, String),
    /// The component asked for too much memory.
    #[error("the scheduler asked for more than {0} bytes of memory, which is the limit{1}")]
    TooMuchMemory(u64, String),
    /// The component trapped.
    #[error("the scheduler trapped in {during}: {trap}{output}")]
    Trapped {
        /// In which function.
        during: &'static str,
        /// The trap with its backtrace.
        trap: String,
        /// What it wrote last, introduced; empty when that is nothing.
        output: String,
    },
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    memory: MemoryLimit,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// How much a scheduler may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) budget: Duration,
    pub(crate) memory: u64,
}

/// An instance.
pub(crate) struct Guest {
    store: Store<State>,
    scheduler: Scheduler,
    watchdog: Watchdog,
    output: Output,
    limits: Limits,
}

impl Guest {
    /// Compiles, checks and instantiates.
    pub(crate) async fn instantiate(bytes: &[u8], limits: Limits) -> Result<Guest, GuestError> {
        if holm_runtime::inspect(bytes)? == ModuleKind::Core {
            return Err(GuestError::CoreModule);
        }
        let host = |error: wasmtime::Error| GuestError::Host(format!("{error:#}"));
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(host)?;
        let component = Component::new(&engine, bytes).map_err(|error| GuestError::Compile(format!("{error:#}")))?;
        let scheduler = link(&engine, &component)?;
        let watchdog = Watchdog::start(&engine).map_err(|error| GuestError::Host(error.to_string()))?;

        let output = Output::default();
        let memory = MemoryLimit::new(limits.memory);
        let state = State { table: ResourceTable::new(), wasi: inert::wasi(&output), memory };
        let mut store = Store::new(&engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_epoch_deadline(1);
        watchdog.arm(limits.budget);
        let instance = tokio::time::timeout(limits.budget, scheduler.instantiate_async(&mut store)).await;
        watchdog.disarm();
        let scheduler = judge(instance, "its start", &store, &output, limits)?;
        Ok(Guest { store, scheduler, watchdog, output, limits })
    }

    /// Asks how the framework registers. The inner error is the scheduler's own.
    pub(crate) async fn describe(&mut self, config: &[u8]) -> Result<Result<wit::FrameworkInfo, String>, GuestError> {
        self.begin();
        let call = self.scheduler.call_describe(&mut self.store, config);
        let result = tokio::time::timeout(self.limits.budget, call).await;
        self.end(result, "describe")
    }

    /// Tells what happened.
    pub(crate) async fn on_events(&mut self, events: &[wit::Event]) -> Result<Vec<wit::Call>, GuestError> {
        self.begin();
        let call = self.scheduler.call_on_events(&mut self.store, events);
        let result = tokio::time::timeout(self.limits.budget, call).await;
        self.end(result, "on-events")
    }

    fn begin(&mut self) {
        self.store.set_epoch_deadline(1);
        self.watchdog.arm(self.limits.budget);
    }

    fn end<T>(&self, result: Timed<T>, during: &'static str) -> Result<T, GuestError> {
        self.watchdog.disarm();
        judge(result, during, &self.store, &self.output, self.limits)
    }
}

type Timed<T> = Result<wasmtime::Result<T>, tokio::time::error::Elapsed>;

/// Names the limit that was exceeded, if one was: the trap itself does not.
fn judge<T>(
    result: Timed<T>,
    during: &'static str,
    store: &Store<State>,
    output: &Output,
    limits: Limits,
) -> Result<T, GuestError> {
    let tail = || match output.tail() {
        tail if tail.is_empty() => tail,
        tail => format!("\nits last output:\n{tail}"),
    };
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if error.downcast_ref::<Trap>() != Some(&Trap::Interrupt) => error,
        Ok(Err(_)) | Err(_) => return Err(GuestError::TooLong(limits.budget, during, tail())),
    };
    if store.data().memory.exceeded {
        return Err(GuestError::TooMuchMemory(limits.memory, tail()));
    }
    Err(GuestError::Trapped { during, trap: explain(&error), output: tail() })
}

fn explain(error: &wasmtime::Error) -> String {
    let mut text = error.root_cause().to_string();
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        // Cannot fail: a string takes everything.
        let _ = write!(text, "\n{backtrace}");
    }
    text
}

/// Links what the world offers, and says by name what it does not.
fn link(engine: &Engine, component: &Component) -> Result<SchedulerPre<State>, GuestError> {
    let ours = |name: &str| name.starts_with("holm:framework/types@");
    let kind = component.component_type();
    if let Some((name, _)) = kind.imports(engine).find(|(name, _)| !inert::allows(name) && !ours(name)) {
        return Err(GuestError::Import(name.to_owned()));
    }
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(|error| GuestError::Host(format!("{error:#}")))?;
    let instance = linker.instantiate_pre(component).map_err(|error| GuestError::Import(format!("{error:#}")))?;
    SchedulerPre::new(instance).map_err(|error| GuestError::World(format!("{error:#}")))
}
