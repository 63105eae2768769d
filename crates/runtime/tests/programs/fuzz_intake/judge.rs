//! What must hold for every input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holm_model::{Reason, TaskState};
use holm_runtime::{
    Allocation, COMPILE_STACK_BYTES, Command, CommandLimits, Compiled, CpuShare, Engine, EngineKind, LoadError,
    Observer, OutputSink, Program, Queue, QueueOptions, Stream, Task, TaskEnd, compile,
};
use serde::{Deserialize, Serialize};

/// Fuel of a run.
const FUEL: u64 = 2_000_000;
/// Memory of a run.
const MEMORY: u64 = 32 << 20;
/// How long a run may take, also on a busy machine: one that takes longer is found by who watches this process.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Looks through its whole memory for what somebody left there.
const CANARY: &str = r#"(module (memory 8) (func (export "_start") (local $at i32)
    (loop $next
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 512)))
        (br_if $next (i32.lt_u (local.get $at) (i32.const 524288))))
    (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 524288))))"#;

/// What became of the inputs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) seconds: u64,
    pub(crate) executions: u64,
    /// Not a module, or not a valid one.
    pub(crate) refused: u64,
    /// More than the compiler takes.
    pub(crate) over_limit: u64,
    pub(crate) out_of_memory: u64,
    /// Compiled, but not for a runner's slots.
    pub(crate) unusable: u64,
    /// Came to run, twice.
    pub(crate) ran: u64,
    /// And on the interpreter, too.
    pub(crate) interpreted: u64,
    pub(crate) finished: u64,
    pub(crate) trapped: u64,
    pub(crate) out_of_fuel: u64,
    pub(crate) over_memory: u64,
    pub(crate) findings: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.refused += other.refused;
        self.over_limit += other.over_limit;
        self.out_of_memory += other.out_of_memory;
        self.unusable += other.unusable;
        self.ran += other.ran;
        self.interpreted += other.interpreted;
        self.finished += other.finished;
        self.trapped += other.trapped;
        self.out_of_fuel += other.out_of_fuel;
        self.over_memory += other.over_memory;
        self.findings.extend(other.findings);
    }
}

/// Engines, queues, and what was seen so far.
pub(crate) struct Judge {
    pub(crate) tally: Tally,
    native: Machine,
    pulley: Machine,
    canary: Program,
    _tokio: tokio::runtime::Runtime,
}

struct Machine {
    engine: Engine,
    queue: Queue,
}

/// Everything about a seeded run that is the same in the next one.
#[derive(Debug, PartialEq)]
struct Seen {
    state: TaskState,
    reason: Option<Reason>,
    exit_code: Option<i32>,
    message: String,
    fuel: u64,
    peak_memory: u64,
    output: Vec<u8>,
}

impl Judge {
    pub(crate) fn new() -> Judge {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let machine = |kind| {
            let engine = Engine::of_kind(kind, Allocation::Pooled { tasks: 4 }).unwrap();
            let options = QueueOptions { threads: 1, max_tasks: 4 };
            let queue = Queue::start(&engine, options, tokio.handle().clone()).unwrap();
            Machine { engine, queue }
        };
        let (native, pulley) = (machine(EngineKind::Native), machine(EngineKind::Pulley));
        let canary = native.load(&compile(&native.engine, &wat::parse_str(CANARY).unwrap()).unwrap()).unwrap();
        Judge { tally: Tally::default(), native, pulley, canary, _tokio: tokio }
    }

    pub(crate) fn judge(&mut self, number: u64, bytes: &[u8]) {
        let result = catch_unwind(AssertUnwindSafe(|| self.try_judge(number, bytes)));
        let finding = match result {
            Ok(Ok(())) => return,
            Ok(Err(finding)) => finding,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .map_or_else(|| "a panic".to_owned(), |text| format!("panicked: {text}"))
            }
        };
        self.tally.findings.push(format!("input {number}: {finding}"));
    }

    fn try_judge(&mut self, number: u64, bytes: &[u8]) -> Result<(), String> {
        let compiled = match self.compile(&self.native.engine, bytes)? {
            Ok(compiled) => compiled,
            Err(Reason::Compile) => {
                self.tally.over_limit += 1;
                return Ok(());
            }
            Err(_invalid) => {
                self.tally.refused += 1;
                return Ok(());
            }
        };
        let program = match self.native.load(&compiled) {
            Ok(program) => program,
            Err(LoadError::Unusable { .. }) => {
                self.tally.unusable += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("what was compiled is not loaded: {error}")),
        };
        self.tally.ran += 1;
        let (first, second) = (self.native.run(&program), self.native.run(&program));
        if first != second {
            return Err(format!("two seeded runs differ: {first:?} and {second:?}"));
        }
        match first.reason {
            None => self.tally.finished += 1,
            Some(Reason::Fuel) => self.tally.out_of_fuel += 1,
            Some(Reason::MemoryLimit) => self.tally.over_memory += 1,
            Some(Reason::Trap) => self.tally.trapped += 1,
            Some(Reason::RunnerError) => return Err(format!("a guest's fault is blamed on the runner: {first:?}")),
            Some(_) => {}
        }
        if number.is_multiple_of(8) {
            let canary = self.native.run(&self.canary);
            if canary.state != TaskState::Finished {
                return Err(format!("the next guest in the slot found something: {canary:?}"));
            }
        }
        // The depth of a stack depends on the size of its frames.
        if number.is_multiple_of(3) && !first.message.contains("call stack exhausted") {
            self.interpret(bytes, &first)?;
        }
        Ok(())
    }

    fn interpret(&mut self, bytes: &[u8], native: &Seen) -> Result<(), String> {
        let compiled = self.compile(&self.pulley.engine, bytes)?;
        let compiled = compiled.map_err(|_refused| "it compiles for one engine only")?;
        let program = self.pulley.load(&compiled).map_err(|error| format!("not loaded by the interpreter: {error}"))?;
        let pulley = self.pulley.run(&program);
        self.tally.interpreted += 1;
        if pulley == *native { Ok(()) } else { Err(format!("native {native:?} and interpreted {pulley:?}")) }
    }

    /// On a stack as large as the worker's.
    fn compile(&self, engine: &Engine, bytes: &[u8]) -> Result<Result<Compiled, Reason>, String> {
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(COMPILE_STACK_BYTES);
            thread.spawn_scoped(scope, || compile(engine, bytes)).unwrap().join()
        });
        match compiled {
            Ok(Ok(compiled)) => Ok(Ok(compiled)),
            Ok(Err(error)) => match error.reason() {
                _ if error.to_string().is_empty() => Err("a refusal without a word".to_owned()),
                reason @ (Reason::InvalidModule | Reason::Compile) => Ok(Err(reason)),
                reason => Err(format!("refused for the reason {reason}")),
            },
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(format!("the compiler panicked: {}", text.unwrap_or("no message")))
            }
        }
    }
}

impl Machine {
    fn load(&self, compiled: &Compiled) -> Result<Program, LoadError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &compiled.native).unwrap();
        Program::load(&self.engine, file.path(), compiled.kind)
    }

    fn run(&self, program: &Program) -> Seen {
        let limits = CommandLimits {
            fuel: Some(FUEL),
            memory_bytes: MEMORY,
            deadline: Some(DEADLINE),
            output_bytes: 64 << 10,
            cpu: CpuShare::default(),
        };
        let command = Command {
            args: vec!["fuzz".into(), "some".into()],
            env: vec![("KEY".into(), "value".into())],
            limits,
            seed: Some(11),
            preopens: Vec::new(),
            network: Default::default(),
            service: None,
        };
        let (sender, receiver) = sync_channel(1);
        let written = Arc::default();
        let output = Box::new(Sink(Arc::clone(&written)));
        let task = Task { program: program.clone(), command, output, observer: Box::new(Ear(sender)) };
        let _handle = self.queue.submit(task).unwrap();
        let end = receiver.recv().unwrap();
        let (fuel, peak_memory) = (end.fuel, end.peak_memory);
        let status = end.into_status(Duration::ZERO, 0);
        let message = status.message.lines().next().unwrap_or_default().to_owned();
        let output = std::mem::take(&mut *written.lock().unwrap());
        let (state, reason, exit_code) = (status.state, status.reason, status.exit_code);
        Seen { state, reason, exit_code, message, fuel, peak_memory, output }
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

struct Ear(SyncSender<TaskEnd>);

impl Observer for Ear {
    fn started(&mut self) {}

    fn message(&mut self, _data: Vec<u8>) {}

    fn ended(self: Box<Self>, end: TaskEnd) {
        self.0.send(end).unwrap();
    }
}
