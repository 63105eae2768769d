//! What the measuring programs share: rows, clocks, medians, modules, and guests on a run queue.

#![allow(dead_code, reason = "each of the measuring programs uses its part")]

use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use holm_runtime::{
    Command, CommandLimits, CpuShare, Engine, Observer, OutputSink, Program, Queue, QueueOptions, Stream, SubmitError,
    Task, TaskEnd, compile,
};
use rustix::time::{ClockId, clock_gettime};

pub(crate) mod bare;
pub(crate) mod maps;

/// What every program here may fail with.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints one figure as a line of JSON. `ratio` is against the reference measured in the same run.
pub(crate) fn row(what: &str, value: f64, unit: &str, ratio: Option<f64>) {
    let ratio = ratio.map_or(serde_json::Value::Null, |ratio| round(ratio).into());
    let line = serde_json::json!({ "what": what, "value": round(value), "unit": unit, "ratio": ratio });
    // Nobody reads on: there is nothing left to do either.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn round(number: f64) -> f64 {
    let digits = if number.abs() < 10.0 { 1000.0 } else { 10.0 };
    (number * digits).round() / digits
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}

/// CPU time of this process, and of this thread.
pub(crate) fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs something on a thread that may use only the first `cores` CPUs, and with it the threads it starts.
pub(crate) fn on_cores<R: Send>(cores: usize, run: impl FnOnce() -> Result<R, Failure> + Send) -> Result<R, Failure> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut set = rustix::thread::CpuSet::new();
            (0..cores).for_each(|core| set.set(core));
            rustix::thread::sched_setaffinity(None, &set)?;
            run()
        });
        thread.join().map_err(|_panic| "a measurement panicked")?
    })
}

/// How long a piece of work took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Took {
    pub(crate) fn of(work: impl FnOnce() -> Result<(), Failure>) -> Result<Took, Failure> {
        let (begin, cpu) = (Instant::now(), process_cpu());
        work()?;
        Ok(Took { wall: begin.elapsed(), cpu: process_cpu().saturating_sub(cpu) })
    }

    /// Per second of wall time.
    pub(crate) fn rate(&self, tasks: usize) -> f64 {
        tasks as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of CPU time each.
    pub(crate) fn cpu_micros(&self, tasks: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / tasks as f64
    }
}

/// Compiles and loads as an agent would.
pub(crate) fn load(engine: &Engine, wasm: &[u8]) -> Result<Program, Failure> {
    let compiled = compile(engine, wasm)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &compiled.native)?;
    Ok(Program::load(engine, file.path(), compiled.kind)?)
}

/// A tokio runtime as a runner has it.
pub(crate) fn tokio() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// A command with nothing granted.
pub(crate) fn command(args: &[&str]) -> Command {
    let limits = CommandLimits {
        fuel: None,
        memory_bytes: 64 << 20,
        deadline: None,
        output_bytes: 1 << 20,
        cpu: CpuShare::default(),
    };
    let args = std::iter::once("task").chain(args.iter().copied()).map(str::to_owned).collect();
    let (env, preopens, network) = (Vec::new(), Vec::new(), Default::default());
    Command { args, env, limits, seed: None, preopens, network, service: None }
}

/// Output that goes nowhere.
pub(crate) struct Nowhere;

impl OutputSink for Nowhere {
    fn write(&mut self, _: Stream, _: &[u8]) {}
}

/// Many runs of one program on a queue. The end of each submits the next, as a runner's slots do.
pub(crate) struct Flood {
    queue: OnceLock<Queue>,
    program: Program,
    args: Vec<String>,
    unstarted: AtomicUsize,
    left: AtomicUsize,
    failed: AtomicUsize,
    cpu_nanos: AtomicU64,
    done: SyncSender<()>,
}

struct Slot(Arc<Flood>);

impl Observer for Slot {
    fn ended(self: Box<Self>, end: TaskEnd) {
        self.0.ended(&end);
    }
}

impl Flood {
    fn submit_one(self: &Arc<Flood>) -> Result<(), SubmitError> {
        let took = self.unstarted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let (Ok(_), Some(queue)) = (took, self.queue.get()) else { return Ok(()) };
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let (program, command) = (self.program.clone(), command(&args));
        let observer = Box::new(Slot(self.clone()));
        queue.submit(Task { program, command, output: Box::new(Nowhere), observer }).map(drop)
    }

    fn ended(self: &Arc<Flood>, end: &TaskEnd) {
        if !matches!(end.outcome, holm_runtime::Outcome::Exited { code: 0, .. }) {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        self.cpu_nanos.fetch_add(u64::try_from(end.cpu.as_nanos()).unwrap_or(0), Ordering::SeqCst);
        let submitted = self.submit_one();
        if submitted.is_err() || self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The receiver waits until this comes.
            let _ = self.done.try_send(());
        }
    }
}

/// A queue that runs one program again and again.
pub(crate) struct Bed {
    flood: Arc<Flood>,
    done: std::sync::mpsc::Receiver<()>,
    _tokio: tokio::runtime::Runtime,
}

impl Bed {
    pub(crate) fn new(engine: &Engine, program: Program, args: &[&str], threads: usize) -> Result<Bed, Failure> {
        // As a runner does.
        holm_runtime::watch_own_pages();
        let tokio = tokio()?;
        let queue = Queue::start(engine, QueueOptions { threads, max_tasks: 128 }, tokio.handle().clone())?;
        let (sender, done) = sync_channel(1);
        let flood = Flood {
            queue: OnceLock::from(queue),
            program,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            unstarted: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            cpu_nanos: AtomicU64::new(0),
            done: sender,
        };
        Ok(Bed { flood: Arc::new(flood), done, _tokio: tokio })
    }

    /// Runs the program so many times, at most `slots` at a time. The second figure is the CPU time that was charged.
    pub(crate) fn run(&self, tasks: usize, slots: usize) -> Result<(Took, Duration), Failure> {
        self.flood.unstarted.store(tasks, Ordering::SeqCst);
        self.flood.left.store(tasks, Ordering::SeqCst);
        self.flood.cpu_nanos.store(0, Ordering::SeqCst);
        let took = Took::of(|| {
            (0..slots.min(tasks)).try_for_each(|_| self.flood.submit_one())?;
            Ok(self.done.recv()?)
        })?;
        match self.flood.failed.load(Ordering::SeqCst) {
            0 => Ok((took, Duration::from_nanos(self.flood.cpu_nanos.load(Ordering::SeqCst)))),
            failed => Err(format!("{failed} of {tasks} tasks failed").into()),
        }
    }
}
