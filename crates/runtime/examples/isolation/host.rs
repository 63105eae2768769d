//! An engine and a queue to run guests on, and what became of them.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use holm_runtime::{
    Allocation, Command, CommandLimits, CpuShare, Engine, HostDir, Observer, OutputSink, Preopen, Program, Queue,
    QueueOptions, Seat, Stream, Task, TaskEnd, TaskHandle, compile, io_runtime,
};

use crate::fallible::Fallible;

/// A runner without its shell.
pub(crate) struct Host {
    engine: Engine,
    pub(crate) queue: Queue,
    dir: tempfile::TempDir,
    // Last: the queue's guests use it.
    _tokio: tokio::runtime::Runtime,
}

/// A task that runs or has ended.
pub(crate) struct Running {
    pub(crate) handle: TaskHandle,
    started: Receiver<()>,
    ended: Receiver<(TaskEnd, Instant)>,
    // Arc<Mutex>: written by the task's sink, read here once it has ended.
    written: Arc<Mutex<Vec<u8>>>,
}

// Arc<Mutex>: the other half of `Running::written`.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&mut self, _: Stream, bytes: &[u8]) {
        if let Ok(mut written) = self.0.lock() {
            written.extend_from_slice(bytes);
        }
    }
}

struct Ear(SyncSender<()>, SyncSender<(TaskEnd, Instant)>);

impl Observer for Ear {
    fn started(&mut self) {
        // Nobody waits for some of them.
        let _ = self.0.send(());
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let _ = self.1.send((end, Instant::now()));
    }
}

impl Host {
    pub(crate) fn new(threads: usize, seat: Option<(&Path, usize)>) -> Fallible<Host> {
        let tokio = io_runtime(16)?;
        let engine = Engine::new(Allocation::Pooled { tasks: 256 })?;
        let seat = seat.map(|(table, seat)| Seat::take(table, seat)).transpose()?;
        let options = QueueOptions { threads, max_tasks: 256 };
        let queue = Queue::start_seated(&engine, options, tokio.handle().clone(), seat)?;
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("data"), vec![7; 8 << 20])?;
        Ok(Host { engine, queue, dir, _tokio: tokio })
    }

    pub(crate) fn program(&self, text: &str) -> Fallible<Program> {
        let compiled = compile(&self.engine, &wat::parse_str(text)?)?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), &compiled.native)?;
        Ok(Program::load(&self.engine, file.path(), compiled.kind)?)
    }

    /// Starts a task of so many thousandths of a core.
    pub(crate) fn run(&self, program: &Program, milli: u64, limit_milli: Option<u64>) -> Fallible<Running> {
        let cpu = CpuShare { milli, limit_milli, group: 0 };
        let limits = CommandLimits { fuel: None, memory_bytes: 128 << 20, deadline: None, output_bytes: 1 << 20, cpu };
        let root = HostDir::Path(self.dir.path().to_owned());
        let preopens = vec![Preopen { host: root, guest: "/".to_owned(), writable: false }];
        let command = Command {
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            limits,
            seed: None,
            preopens,
            network: Arc::default(),
            service: None,
        };
        let (started_sender, started) = sync_channel(1);
        let (ended_sender, ended) = sync_channel(1);
        let written = Arc::default();
        let output = Box::new(Sink(Arc::clone(&written)));
        let observer = Box::new(Ear(started_sender, ended_sender));
        let handle = self.queue.submit(Task { program: program.clone(), command, output, observer })?;
        Ok(Running { handle, started, ended, written })
    }
}

impl Running {
    pub(crate) fn wait_until_started(&self) -> Fallible<()> {
        Ok(self.started.recv()?)
    }

    /// How it ended, when, and what it wrote.
    pub(crate) fn wait(self) -> Fallible<(TaskEnd, Instant, Vec<u8>)> {
        let (end, at) = self.ended.recv()?;
        let written = self.written.lock().map_err(|_| "a sink panicked")?.clone();
        Ok((end, at, written))
    }
}
