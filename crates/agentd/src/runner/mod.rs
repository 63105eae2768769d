//! The runner process: runs the Wasm tasks of one framework on one agent, and outlives its agent.
//!
//! The shell of [`holm_agent::Runner`]: it listens on a unix socket in its directory and hands the agent's messages to the
//! core; the run queue's threads hand it the ends of tasks, refill the slots and tell the agent themselves (`hub.rs`,
//! `mouth.rs`), after the output of the tasks that it is about has been written.

mod executed;
mod footing;
mod hub;
mod mouth;
mod network;
mod output;
mod socket;
mod tasks;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holm_agent::{Runner, RunnerEvent, RunnerOptions};
use holm_model::{RunnerId, Time, ToRunner, WorkId};
use holm_runtime::{
    Allocation, ConfineError, Confinement, Engine, EngineError, EngineKind, Queue, QueueOptions, io_runtime,
    slot_ceiling,
};
use tokio::sync::mpsc;

use crate::log::LogWriter;
use crate::machine::boot_clock;
use footing::Footing;
use hub::{End, Shared};
use output::SharedLog;
use socket::{Agent, Listener};
use tasks::{Guests, Ledgers, SandboxError, Tasks};

/// Messages from the agent that wait to be handled; beyond, the socket is not read.
const INBOX: usize = 64;
/// Threads for blocking file calls of guests.
const BLOCKING_THREADS: usize = 16;
/// Messages of guests to their frameworks that wait to be given to the socket; beyond, they are dropped.
const MESSAGES: usize = 1024;
/// How often the output of running tasks is handed to the operating system, for those who follow it.
const FLUSH: Duration = Duration::from_millis(20);
/// Most events handled before their effects are performed.
const BURST: usize = 4096;

/// What the agent tells a runner at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The runner's id.
    pub runner: RunnerId,
    /// Its directory: socket, process identity, log.
    pub dir: PathBuf,
    /// Threads that poll guests.
    pub threads: usize,
    /// Most tasks that run at a time; zero for as many as this machine's address space and maps allow.
    pub max_tasks: usize,
    /// Bytes of output kept.
    pub log_bytes: u64,
    /// How long to go on without an agent.
    pub recovery: Duration,
    /// How guests run.
    pub engine: EngineKind,
    /// Whether the tasks' memory is reserved in advance.
    pub pooled: bool,
    /// The table through which the agent's runners share CPU time, and this one's seat.
    pub cpu_seat: Option<(PathBuf, usize)>,
    /// Whether its tasks hold revocable resources: it has the CPU time that others leave, and goes first when the machine
    /// runs out of memory.
    pub revocable: bool,
    /// What it gives up before it runs anything.
    pub confinement: Confinement,
}

/// Why a runner could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The Wasm engine could not be built.
    #[error("the Wasm engine cannot be built")]
    Engine(#[from] EngineError),
    /// It could not be confined as its agent wants it.
    #[error("the runner cannot be confined")]
    Confine(#[from] ConfineError),
    /// The runner's directory, socket or threads could not be made.
    #[error("runner directory {dir}: cannot {what}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What happens in a runner process, other than to its guests.
enum Happening {
    Agent(Agent),
    Lost(u64),
    Message(u64, ToRunner),
    Sandbox(WorkId, u32, Result<Ledgers, SandboxError>),
}

/// Runs a runner until its agent tells it to stop or nobody reclaims it.
///
/// # Errors
/// When it cannot start, or can no longer write its log.
pub fn run(options: Options) -> Result<(), RunnerError> {
    let footing = Footing::take(&options)?;
    let dir = options.dir.clone();
    let io = |what| move |source| RunnerError::Io { dir, what, source };
    let runtime = io_runtime(BLOCKING_THREADS).map_err(io("start its threads"))?;
    let shell = Shell::start(options, footing, &runtime)?;
    let shared = shell.shared.clone();
    // A task of the runtime, not this thread's: a message is then handled on the thread that read it.
    let ended = runtime.block_on(async { tokio::spawn(shell.serve()).await });
    // Without the lock: the worker threads need it to end their tasks.
    let queue = shared.lock().tasks.take_queue();
    queue.into_iter().for_each(Queue::stop);
    // Blocking file calls of killed guests are not waited for.
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

struct Shell {
    shared: Arc<Shared>,
    log: SharedLog,
    happenings: mpsc::Receiver<Happening>,
    /// The connection to the agent, if there is one.
    connection: Option<u64>,
    dir: PathBuf,
}

impl Shell {
    fn start(options: Options, footing: Footing, runtime: &tokio::runtime::Runtime) -> Result<Shell, RunnerError> {
        let dir = options.dir.clone();
        let io = |what| {
            let dir = dir.clone();
            move |source| RunnerError::Io { dir, what, source }
        };
        let ceiling = usize::try_from(slot_ceiling()).unwrap_or(usize::MAX);
        let max_tasks = if options.max_tasks == 0 { ceiling } else { options.max_tasks };
        let tasks = u32::try_from(max_tasks).unwrap_or(u32::MAX);
        let allocation = if options.pooled { Allocation::Pooled { tasks } } else { Allocation::OnDemand };
        let engine = Engine::of_kind(options.engine, allocation)?;
        let queue = QueueOptions { threads: options.threads.max(1), max_tasks };
        let Footing { paths, listener, log, empty, seat } = footing;
        let queue = Queue::start_seated(&engine, queue, runtime.handle().clone(), seat);
        let queue = queue.map_err(io("start its run queue"))?;
        let _entered = runtime.enter();
        let (sender, happenings) = mpsc::channel(INBOX);
        let log = LogWriter::open(&log, options.log_bytes);
        let log = SharedLog::new(log.map_err(io("open its log"))?);
        let guests = Guests { engine, queue, max_tasks, paths };
        let tasks = Tasks::new(guests, sender.clone(), log.clone(), empty);
        let listener = Listener::new(listener, sender).map_err(io("listen on its socket"))?;
        runtime.spawn(listener.run());
        let core_options = RunnerOptions { recovery: options.recovery, ..RunnerOptions::new(options.runner) };
        let shared = Shared::new(Runner::new(core_options, boot_clock()), tasks);
        Ok(Shell { shared, log, happenings, connection: None, dir })
    }

    async fn serve(mut self) -> Result<(), RunnerError> {
        let mut burst = Vec::new();
        let mut flush = tokio::time::interval(FLUSH);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (wake, report, live) = {
                let hub = self.shared.lock();
                let until = |at: Option<Time>| at.map(|at| at.since(boot_clock()));
                (until(hub.core.next_wake()), until(hub.next_report()), hub.tasks.are_live())
            };
            tokio::select! {
                received = self.happenings.recv_many(&mut burst, BURST) => if received == 0 { return Ok(()) },
                () = self.shared.news() => {}
                () = sleep(wake) => self.shared.lock().handle(RunnerEvent::Wake),
                () = sleep(report) => {}
                // What a guest writes while nothing else happens is passed on too.
                _tick = flush.tick(), if live => {
                    let flushed = self.log.lock().flush();
                    flushed.map_err(|source| self.log_failed(source))?;
                }
            }
            for happening in burst.drain(..) {
                self.take(happening);
            }
            self.shared.say();
            match self.shared.take_end() {
                None => {}
                Some(End::Told(reason)) => {
                    tracing::info!(%reason, "runner exits");
                    return Ok(());
                }
                Some(End::Log(source)) => return Err(self.log_failed(source)),
            }
        }
    }

    fn log_failed(&self, source: io::Error) -> RunnerError {
        RunnerError::Io { dir: self.dir.clone(), what: "write its log", source }
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Agent(Agent { connection, mouth }) => {
                self.connection = Some(connection);
                self.shared.agent_is(Some(mouth));
            }
            Happening::Lost(connection) if self.connection == Some(connection) => {
                self.connection = None;
                self.shared.agent_is(None);
            }
            Happening::Message(connection, message) if self.connection == Some(connection) => {
                self.shared.lock().handle(RunnerEvent::FromAgent(message));
            }
            Happening::Lost(_) | Happening::Message(..) => {}
            Happening::Sandbox(work, position, result) => {
                let mut hub = self.shared.lock();
                hub.tasks.sandbox_ready(work, position, result);
                hub.settle();
            }
        }
    }
}

/// Sleeps for as long, or for ever.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The directory of a runner's output log.
pub(crate) fn log_dir(runner_dir: &Path) -> PathBuf {
    runner_dir.join("log")
}
