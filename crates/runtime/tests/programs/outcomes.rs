//! Runs sample tasks with a seed and prints one JSON object for each: everything that must be the same on every machine
//! and with every kind of engine. `outcomes [--engine native|pulley] NAME=MODULE.wasm...`
//!
//! `cargo xtask test --all` compares what this prints for x86-64, for its interpreter, and for aarch64 under emulation. It
//! allocates on demand: an emulated process has no terabytes of address space to reserve.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holm_runtime::{
    Allocation, Command, CommandLimits, CpuShare, Engine, EngineKind, HostDir, Observer, OutputSink, Preopen, Program,
    Queue, QueueOptions, Stream, Task, TaskEnd, compile,
};

/// What a sample is started with, where its defaults take long or do nothing.
fn args_of(name: &str) -> &'static [&'static str] {
    match name {
        "cat" | "read-file" | "wordcount-map" => &["/text"],
        "count" => &["20000"],
        "echo-env" => &["-x", "y"],
        "exit-code" => &["42"],
        "list-dir" => &["/"],
        "render-tile" => &["64", "64", "24", "24", "6", "5", "80"],
        "sleep" => &["3600000"],
        "sleep-spin" => &["3", "10", "20000"],
        "stderr-flood" | "stdout-flood" => &["300000"],
        "trap" => &["oob"],
        _ => &[],
    }
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--list") {
        for sample in holm_test_programs::ALL {
            println!("{0}.p1={1}\n{0}.p2={2}", sample.name, sample.p1, sample.p2);
        }
        return;
    }
    let mut kind = EngineKind::of_this_machine();
    if args.first().is_some_and(|arg| arg == "--engine") {
        kind = args[1].parse().unwrap();
        args.drain(..2);
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = Engine::of_kind(kind, Allocation::OnDemand).unwrap();
    let queue = Queue::start(&engine, QueueOptions { threads: 1, max_tasks: 4 }, tokio.handle().clone()).unwrap();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("text"), "one two two three three three\n".repeat(50)).unwrap();
    for arg in args {
        let (name, path) = arg.split_once('=').expect("NAME=MODULE.wasm");
        println!("{}", run(&engine, &queue, name, &std::fs::read(path).unwrap(), files.path()));
    }
}

fn run(engine: &Engine, queue: &Queue, name: &str, wasm: &[u8], files: &Path) -> serde_json::Value {
    let compiled = match compile(engine, wasm) {
        Ok(compiled) => compiled,
        Err(error) => return serde_json::json!({"sample": name, "refused": error.to_string()}),
    };
    let native = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(native.path(), &compiled.native).unwrap();
    let program = Program::load(engine, native.path(), compiled.kind).unwrap();
    let sample = name.split('.').next().unwrap_or(name);
    let preopen = Preopen { host: HostDir::Path(files.into()), guest: "/".into(), writable: false };
    let command = Command {
        args: std::iter::once("task").chain(args_of(sample).iter().copied()).map(str::to_owned).collect(),
        env: vec![("COLOUR".into(), "blue".into())],
        limits: CommandLimits {
            fuel: Some(20_000_000),
            memory_bytes: 16 << 20,
            deadline: None,
            output_bytes: 1 << 20,
            cpu: CpuShare::default(),
        },
        seed: Some(7),
        preopens: vec![preopen],
        network: Arc::default(),
        service: None,
    };
    let (sender, ended) = sync_channel(1);
    let written = Arc::default();
    let output = Box::new(Sink(Arc::clone(&written)));
    let task = Task { program, command, output, observer: Box::new(Ear(sender)) };
    let _handle = queue.submit(task).unwrap();
    let end = ended.recv().unwrap();
    let (fuel, peak_memory) = (end.fuel, end.peak_memory);
    let status = end.into_status(Duration::ZERO, 0);
    let output = written.lock().unwrap();
    serde_json::json!({
        "sample": name,
        "state": status.state.as_str(),
        "reason": status.reason.map(|reason| reason.as_str()),
        "exit_code": status.exit_code,
        "message": status.message.lines().next().unwrap_or_default(),
        "fuel": fuel,
        "peak_memory": peak_memory,
        "output_bytes": output.len(),
        "output": format!("{:016x}", fnv(&output)),
    })
}

/// FNV-1a: tells outputs apart, the same on every machine.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut written = self.0.lock().unwrap();
        written.push(match stream {
            Stream::Stdout => b'1',
            Stream::Stderr => b'2',
        });
        written.extend_from_slice(bytes);
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
