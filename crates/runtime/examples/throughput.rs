//! How many short tasks a queue runs per second: `throughput [TASKS [THREADS [p1|p2]]]`, best in release.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use holm_runtime::{
    Allocation, Command, CommandLimits, CpuShare, Engine, Observer, OutputSink, Program, Queue, QueueOptions, Stream,
    Task, TaskEnd, compile,
};

const SLOTS: usize = 64;

struct Drop0;

impl OutputSink for Drop0 {
    fn write(&mut self, _: Stream, _: &[u8]) {}
}

struct Ear(SyncSender<TaskEnd>);

impl Observer for Ear {
    fn ended(self: Box<Self>, end: TaskEnd) {
        // The receiver lives until all have ended.
        let _ = self.0.send(end);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse());
    let (tasks, threads) = (number(0, 20_000)?, number(1, 1)?);
    let hello = holm_test_programs::HELLO;
    let wasm = if args.get(2).is_some_and(|form| form == "p2") { hello.p2_bytes()? } else { hello.p1_bytes()? };

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Engine::new(Allocation::Pooled { tasks: 128 })?;
    let compiled = compile(&engine, &wasm)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &compiled.native)?;
    let program = Program::load(&engine, file.path(), compiled.kind)?;
    let queue = Queue::start(&engine, QueueOptions { threads, max_tasks: 2 * SLOTS }, tokio.handle().clone())?;

    let (sender, ends) = sync_channel(2 * SLOTS);
    let submit = || {
        let cpu = CpuShare::default();
        let limits = CommandLimits { fuel: None, memory_bytes: 16 << 20, deadline: None, output_bytes: 1 << 20, cpu };
        let command = Command {
            args: vec!["hello".into()],
            env: Vec::new(),
            limits,
            seed: None,
            preopens: Vec::new(),
            network: Default::default(),
            service: None,
        };
        let observer = Box::new(Ear(sender.clone()));
        queue.submit(Task { program: program.clone(), command, output: Box::new(Drop0), observer }).map(|_| ())
    };
    let begin = Instant::now();
    (0..SLOTS.min(tasks)).try_for_each(|_| submit())?;
    let mut cpu = Duration::ZERO;
    for ended in 0..tasks {
        cpu += ends.recv()?.cpu;
        if ended + SLOTS < tasks {
            submit()?;
        }
    }
    let wall = begin.elapsed();
    let rate = tasks as f64 / wall.as_secs_f64();
    println!("{tasks} tasks on {threads} threads in {wall:?}: {rate:.0}/s, {:?} CPU each", cpu / u32::try_from(tasks)?);
    Ok(())
}
