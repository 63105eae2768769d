//! The wasmtime embedding: how Wasm becomes native code, and how native code runs under limits.
//!
//! The way of a module, and who calls what:
//!
//! 1. *Agent.* A blob arrives: [`inspect`] says whether it is a core module, a component, or nothing we run.
//! 2. *Compile worker* (`holm compile-worker --input X --output Y`, one short-lived process per module):
//!    [`compile_worker_main`] bounds its own process, gives up everything else ([`Confinement`]), validates, compiles, checks that
//!    every import is one we offer and that there is an entry point, and writes the native code. Its [`Verdict`] is one line of JSON. The agent
//!    caches the file under the module's digest and [`Engine::compatibility_key`]. A worker that dies without a verdict
//!    is [`holm_model::Reason::Compile`].
//! 3. *Runner process*, once: [`Engine::new`] (pooling allocator, fuel, epochs) and [`Queue::start`] with a tokio handle
//!    whose runtime has time and I/O enabled and its own threads; guests are polled by the queue's threads, never by tokio.
//! 4. *Runner process*, per module: [`Program::load`] maps the native code and links it; clones are cheap.
//! 5. *Runner process*, per task: [`Queue::submit`] a [`Task`]: a program, a [`Command`] (arguments, environment, limits,
//!    seed, directories), an [`OutputSink`] and an [`Observer`]. The returned [`TaskHandle`] brings it messages, asks it to
//!    stop and kills it.
//! 6. The observer hears `started` (unless the task is over within its first slice), a `message` for each that the guest
//!    sends, and then `ended` with a [`TaskEnd`], which [`TaskEnd::into_status`] turns into the model's status.
//!
//! ```no_run
//! # use holm_runtime::*;
//! # fn demo(command: Command, output: Box<dyn OutputSink>, observer: Box<dyn Observer>) -> Result<(), Box<dyn std::error::Error>> {
//! let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//! let engine = Engine::new(Allocation::Pooled { tasks: 1000 })?;
//! let options = QueueOptions { threads: 2, max_tasks: 1000 };
//! let queue = Queue::start(&engine, options, tokio.handle().clone())?;
//! let program = Program::load(&engine, "cache/ab12.w48".as_ref(), ModuleKind::Core)?;
//! let handle = queue.submit(Task { program, command, output, observer })?;
//! handle.kill(holm_model::Reason::Killed, "asked to by the framework");
//! # Ok(()) }
//! ```
//!
//! A service is a task whose [`Command`] says where to serve ([`ServiceOptions`]): it runs until it is stopped.
//!
//! Nothing is granted by default: no network, no directory, no inherited variable, a closed stdin. What a guest can make
//! the host hold is bounded by the constants of [`limits`].

mod clock;
mod command;
mod compile;
mod confine;
mod directories;
mod disk;
mod engine;
mod executor;
mod holm_task;
mod http;
mod intake;
pub mod limits;
mod links;
mod mailbox;
mod memory;
mod network;
mod outcome;
mod output;
mod policy;
pub mod precheck;
mod program;
mod queue;
mod random;
mod run;
mod seeded;
mod service;
mod shares;
mod target;
mod ticker;
mod touched;
mod worker;
mod worker_limits;

pub use clock::{io_runtime, uncharged};
pub use command::{Command, CommandLimits, CpuShare, HostDir, Observer, Preopen, Task};
pub use compile::{CompileError, Compiled, compile};
pub use confine::{
    Attempt, ConfineError, Confinement, Finding, Layer, LayerError, OpenPaths, Purpose, RunAs, Tried, survey,
};
pub use disk::{Disk, DiskError, DiskLimits};
pub use engine::{Allocation, Engine, EngineError, slot_ceiling};
pub use executor::{ExecutedTask, ExecutedUpdate, KillAnswer};
pub use intake::{IntakeError, MAX_MODULE_BYTES, ModuleKind, inspect};
pub use network::{NetworkPolicy, NotAllowed, public_internet};
pub use outcome::{Outcome, TaskEnd};
pub use output::{OutputSink, Stream};
pub use policy::{POLICY_WORLD, PolicyError, PolicyGuest, PolicyOptions, PolicyProgram};
pub use precheck::OverLimit;
pub use program::{LoadError, Program};
pub use queue::{Queue, QueueOptions, SubmitError, TaskHandle};
pub use service::ServiceOptions;
pub use shares::{SEATS, Seat, hungry_seats, prepare_cpu_table};
pub use target::{EngineKind, ParseEngineError, WASMTIME_VERSION, cpu_features};
pub use touched::watch_own_pages;
pub use worker::{Verdict, VerdictError, WorkerOptions, compile_worker_main};
pub use worker_limits::{COMPILE_STACK_BYTES, CompileLimits};
