//! The runner process: runs the Wasm tasks of one framework on one agent, and outlives its agent.
//!
//! The shell of [`holm_agent::Runner`]: it listens on a unix socket in its directory, hands the agent's messages and the
//! tasks' ends to the core, and performs what the core decides on the run queue, the log and the socket.

mod network;
mod output;
mod socket;
mod tasks;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holm_agent::{Runner, RunnerEffect, RunnerEvent, RunnerOptions};
use holm_model::{FromRunner, RunnerId, ToRunner, WorkId};
use holm_runtime::{Allocation, Disk, Engine, EngineError, EngineKind, Queue, QueueOptions, Seat, io_runtime, slot_ceiling};
use tokio::sync::mpsc;

use crate::log::LogWriter;
use crate::machine::boot_clock;
use crate::process::{ProcessIdentity, raise_open_files};
use socket::{Agent, Listener};
use tasks::{Channels, GuestEvent, Guests, SandboxError, Tasks};

/// Messages from the agent that wait to be handled; beyond, the socket is not read.
const INBOX: usize = 64;
/// Messages to the agent that wait to be written; beyond, the socket is closed and the agent connects again. Messages of
/// guests take at most half of it.
const OUTBOX: usize = 1024;
/// Threads for blocking file calls of guests.
const BLOCKING_THREADS: usize = 16;
/// Messages of guests to their frameworks that wait to be handled; beyond, they are dropped.
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
}

/// Why a runner could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The Wasm engine could not be built.
    #[error("the Wasm engine cannot be built")]
    Engine(#[from] EngineError),
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
    Sandbox(WorkId, u32, Result<Disk, SandboxError>),
}

/// Runs a runner until its agent tells it to stop or nobody reclaims it.
///
/// # Errors
/// When it cannot start, or can no longer write its log.
pub fn run(options: Options) -> Result<(), RunnerError> {
    raise_open_files();
    let dir = options.dir.clone();
    let io = |what| move |source| RunnerError::Io { dir, what, source };
    let runtime = io_runtime(BLOCKING_THREADS).map_err(io("start its threads"))?;
    let result = runtime.block_on(Shell::start(options, &runtime)?.run());
    // Blocking file calls of killed guests are not waited for.
    runtime.shutdown_background();
    result
}

struct Shell {
    core: Runner,
    tasks: Tasks,
    happenings: mpsc::Receiver<Happening>,
    guests: mpsc::Receiver<GuestEvent>,
    agent: Option<Agent>,
    dir: PathBuf,
}

impl Shell {
    fn start(options: Options, runtime: &tokio::runtime::Runtime) -> Result<Shell, RunnerError> {
        let dir = options.dir.clone();
        let io = |what| {
            let dir = dir.clone();
            move |source| RunnerError::Io { dir, what, source }
        };
        let ceiling = usize::try_from(slot_ceiling()).unwrap_or(usize::MAX);
        let max_tasks = if options.max_tasks == 0 { ceiling } else { options.max_tasks.min(ceiling) };
        let tasks = u32::try_from(max_tasks).unwrap_or(u32::MAX);
        let allocation = if options.pooled { Allocation::Pooled { tasks } } else { Allocation::OnDemand };
        let engine = Engine::of_kind(options.engine, allocation)?;
        let queue = QueueOptions { threads: options.threads.max(1), max_tasks };
        let seat = options.cpu_seat.as_ref().map(|(table, seat)| Seat::take(table, *seat)).transpose();
        let seat = seat.map_err(io("take its seat at the table of CPU shares"))?;
        let queue = Queue::start_seated(&engine, queue, runtime.handle().clone(), seat);
        let queue = queue.map_err(io("start its run queue"))?;
        let _entered = runtime.enter();
        let (sender, happenings) = mpsc::channel(INBOX);
        // Room for the start and the end of every task that can run, so that a worker thread never finds it full.
        let (events, guests) = mpsc::channel(2 * max_tasks + MESSAGES);
        let log =
            std::fs::create_dir_all(log_dir(&dir)).and_then(|()| LogWriter::open(&log_dir(&dir), options.log_bytes));
        let channels = Channels { events, happenings: sender.clone() };
        let log = log.map_err(io("open its log"))?;
        let empty = empty_directory(&dir).map_err(io("make an empty directory"))?;
        let tasks = Tasks::new(Guests { engine, queue, max_tasks }, channels, log, empty);
        ProcessIdentity::of_this_process().write(&dir).map_err(io("write its identity"))?;
        let listener = Listener::bind(&dir, sender).map_err(io("listen on its socket"))?;
        runtime.spawn(listener.run());
        let core_options = RunnerOptions { recovery: options.recovery, ..RunnerOptions::new(options.runner) };
        Ok(Shell { core: Runner::new(core_options, boot_clock()), tasks, happenings, guests, agent: None, dir })
    }

    async fn run(mut self) -> Result<(), RunnerError> {
        let (mut burst, mut events) = (Vec::new(), Vec::new());
        let mut flush = tokio::time::interval(FLUSH);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.core.next_wake().map(|at| at.since(boot_clock()));
            tokio::select! {
                received = self.happenings.recv_many(&mut burst, BURST) => if received == 0 { return Ok(()) },
                _some = self.guests.recv_many(&mut events, BURST) => {}
                () = sleep(wake) => self.core.handle(boot_clock(), RunnerEvent::Wake),
                // What a guest writes while nothing else happens is passed on too.
                _tick = flush.tick(), if self.tasks.are_live() => {}
            }
            for happening in burst.drain(..) {
                self.take(happening);
            }
            for GuestEvent { event, permit } in events.drain(..) {
                if let RunnerEvent::Ended { work, position, .. } = &event {
                    self.tasks.ended(*work, *position);
                }
                self.core.handle(boot_clock(), event);
                drop(permit);
            }
            if let Some(exit) = self.perform()? {
                tracing::info!(reason = %exit, "runner exits");
                self.tasks.stop();
                return Ok(());
            }
        }
    }

    fn take(&mut self, happening: Happening) {
        let current = self.agent.as_ref().map(|agent| agent.connection);
        let event = match happening {
            Happening::Agent(agent) => {
                self.agent = Some(agent);
                RunnerEvent::AgentConnected
            }
            Happening::Lost(connection) if current == Some(connection) => {
                self.agent = None;
                RunnerEvent::AgentDisconnected
            }
            Happening::Message(connection, message) if current == Some(connection) => RunnerEvent::FromAgent(message),
            Happening::Lost(_) | Happening::Message(..) => return,
            Happening::Sandbox(work, position, result) => return self.tasks.sandbox_ready(work, position, result),
        };
        self.core.handle(boot_clock(), event);
    }

    /// Performs what the core wants; the reason to exit, if it wants that.
    fn perform(&mut self) -> Result<Option<String>, RunnerError> {
        self.flush_log()?;
        loop {
            let effects: Vec<_> = self.core.drain_effects().collect();
            if effects.is_empty() {
                return Ok(None);
            }
            for effect in effects {
                match effect {
                    RunnerEffect::ToAgent(message) => self.send(message),
                    RunnerEffect::Spawn { work, position } => self.tasks.spawn(&self.core, work, position),
                    RunnerEffect::Stop { work, position } => self.tasks.ask_to_stop(work, position),
                    RunnerEffect::Kill { work, position } => self.tasks.kill(work, position),
                    RunnerEffect::Deliver { work, position, data } => self.tasks.deliver(work, position, data),
                    RunnerEffect::Forget { work } => self.tasks.forget(work),
                    RunnerEffect::Exit { message } => return Ok(Some(message.to_string())),
                }
            }
            for event in self.tasks.take_unstarted() {
                self.core.handle(boot_clock(), event);
            }
            self.flush_log()?;
        }
    }

    /// What a task wrote is readable before anybody is told that it has ended.
    fn flush_log(&self) -> Result<(), RunnerError> {
        let flushed = self.tasks.flush_log();
        flushed.map_err(|source| RunnerError::Io { dir: self.dir.clone(), what: "write its log", source })
    }

    fn send(&mut self, message: FromRunner) {
        let Some(agent) = &self.agent else { return };
        // A guest that floods its framework must not cost the runner its connection.
        if matches!(message, FromRunner::Message { .. }) && agent.outbox.capacity() <= OUTBOX / 2 {
            tracing::debug!(limit = OUTBOX / 2, "a message of a task was dropped: the agent does not keep up");
            return;
        }
        if agent.outbox.try_send(message).is_err() {
            tracing::warn!(limit = OUTBOX, "the agent does not read; its connection is closed");
            self.agent = None;
            self.core.handle(boot_clock(), RunnerEvent::AgentDisconnected);
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

/// The directory that guests without files see as their root.
fn empty_directory(dir: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let path = dir.join("empty");
    std::fs::create_dir_all(&path)?;
    Ok(std::fs::File::open(path)?.into())
}

/// The directory of a runner's output log.
pub(crate) fn log_dir(runner_dir: &Path) -> PathBuf {
    runner_dir.join("log")
}
