//! An engine, a queue and a way to run a guest and look at what came of it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use holm_model::TaskStatus;
use holm_runtime::{
    Allocation, Command, CommandLimits, CpuShare, Engine, HostDir, ModuleKind, Observer, OutputSink, Preopen, Program,
    Queue, QueueOptions, Stream, Task, TaskEnd, TaskHandle, compile,
};

/// Much longer than anything takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Allocation::Pooled { tasks: 256 }).unwrap());
pub(crate) static ON_DEMAND: LazyLock<Engine> = LazyLock::new(|| Engine::new(Allocation::OnDemand).unwrap());
pub(crate) static TOKIO: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

pub(crate) fn queue(threads: usize) -> Queue {
    queue_of(&ENGINE, threads)
}

pub(crate) fn queue_of(engine: &Engine, threads: usize) -> Queue {
    let options = QueueOptions { threads, max_tasks: 256 };
    Queue::start(engine, options, TOKIO.handle().clone()).unwrap()
}

/// A module in text form, compiled and loaded as an agent would.
pub(crate) fn program(text: &str) -> Program {
    program_of(&ENGINE, &wat::parse_str(text).unwrap())
}

pub(crate) fn program_of(engine: &Engine, wasm: &[u8]) -> Program {
    let compiled = compile(engine, wasm).unwrap();
    let directory = tempfile::tempdir().unwrap();
    load(engine, directory.path(), &compiled.native, compiled.kind)
}

fn load(engine: &Engine, directory: &Path, native: &[u8], kind: ModuleKind) -> Program {
    let path = directory.join("native");
    std::fs::write(&path, native).unwrap();
    Program::load(engine, &path, kind).unwrap()
}

pub(crate) fn command() -> Command {
    Command {
        args: vec!["guest".into()],
        env: Vec::new(),
        limits: CommandLimits {
            fuel: None,
            memory_bytes: 16 << 20,
            deadline: None,
            output_bytes: 1 << 20,
            cpu: CpuShare::default(),
        },
        seed: None,
        preopens: Vec::new(),
        network: Arc::default(),
        service: None,
    }
}

pub(crate) fn preopen(host: &Path, guest: &str, writable: bool) -> Preopen {
    Preopen { host: HostDir::Path(host.into()), guest: guest.into(), writable }
}

pub(crate) enum Heard {
    Started,
    Ended(TaskEnd),
}

/// A task under way.
pub(crate) struct Run {
    pub(crate) handle: TaskHandle,
    heard: Receiver<Heard>,
    messages: Receiver<Vec<u8>>,
    written: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
}

/// What a task left behind.
pub(crate) struct Done {
    pub(crate) end: TaskEnd,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn status(&self) -> TaskStatus {
        self.end.clone().into_status(Duration::ZERO, 0)
    }

    pub(crate) fn message(&self) -> String {
        self.status().message.to_string()
    }
}

impl Run {
    /// The next message of the guest.
    pub(crate) fn message(&self) -> String {
        let message = self.messages.recv_timeout(PATIENCE).expect("the task sends");
        String::from_utf8(message).unwrap()
    }

    pub(crate) fn deliver(&self, message: &str) -> bool {
        self.handle.deliver(message.as_bytes().into())
    }

    pub(crate) fn wait_until_started(&self) {
        match self.heard.recv_timeout(PATIENCE).expect("the task starts") {
            Heard::Started => {}
            Heard::Ended(end) => panic!("the task ended at once: {end:?}"),
        }
    }

    pub(crate) fn wait(self) -> Done {
        loop {
            if let Heard::Ended(end) = self.heard.recv_timeout(PATIENCE).expect("the task ends") {
                let written = self.written.lock().unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Done { end, stdout: text(&written.0), stderr: text(&written.1) };
            }
        }
    }
}

struct Sink(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl OutputSink for Sink {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut written = self.0.lock().unwrap();
        match stream {
            Stream::Stdout => written.0.extend_from_slice(bytes),
            Stream::Stderr => written.1.extend_from_slice(bytes),
        }
    }
}

struct Ear {
    heard: SyncSender<Heard>,
    messages: SyncSender<Vec<u8>>,
}

impl Observer for Ear {
    fn started(&mut self) {
        let _ = self.heard.send(Heard::Started);
    }

    fn message(&mut self, data: Vec<u8>) {
        let _ = self.messages.try_send(data);
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let _ = self.heard.send(Heard::Ended(end));
    }
}

pub(crate) fn submit(queue: &Queue, program: &Program, command: Command) -> Run {
    let (sender, heard) = sync_channel(2);
    let (message_sender, messages) = sync_channel(64);
    let ear = Ear { heard: sender, messages: message_sender };
    let written = Arc::default();
    let output = Box::new(Sink(Arc::clone(&written)));
    let task = Task { program: program.clone(), command, output, observer: Box::new(ear) };
    let handle = queue.submit(task).unwrap();
    Run { handle, heard, messages, written }
}

/// Runs a module in text form to its end.
pub(crate) fn run(text: &str, command: Command) -> Done {
    run_program(&program(text), command)
}

pub(crate) fn run_program(program: &Program, command: Command) -> Done {
    submit(&queue(1), program, command).wait()
}
