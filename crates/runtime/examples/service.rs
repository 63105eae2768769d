//! What a service costs and how it holds up: requests per second, and the latency with and without CPU hogs beside it.
//!
//! `service [SECONDS [HOGS [THREADS]]]`, in release; one JSON object per row: what, value, unit, and the ratio to the reference
//! of the same run (none for references).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use holm_model::{Reason, ServiceSpec};
use holm_runtime::{
    Allocation, Command, CommandLimits, CpuShare, Engine, Observer, OutputSink, Program, Queue, QueueOptions,
    ServiceOptions, Stream, Task, TaskEnd, TaskHandle, compile,
};

type Failure = Box<dyn std::error::Error>;

/// Between two requests of the latency measurement.
const PAUSE: Duration = Duration::from_millis(2);

struct Drop0;

impl OutputSink for Drop0 {
    fn write(&mut self, _: Stream, _: &[u8]) {}
}

struct Ear {
    started: SyncSender<()>,
    ended: SyncSender<TaskEnd>,
}

impl Observer for Ear {
    fn started(&mut self) {
        // Only the first is waited for.
        let _ = self.started.try_send(());
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let _ = self.ended.send(end);
    }
}

struct Bench {
    engine: Engine,
    queue: Queue,
}

impl Bench {
    fn load(&self, wasm: &[u8]) -> Result<Program, Failure> {
        let compiled = compile(&self.engine, wasm)?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), &compiled.native)?;
        Ok(Program::load(&self.engine, file.path(), compiled.kind)?)
    }

    /// Starts a task and waits until it runs.
    fn start(&self, program: &Program, milli: u64, service: Option<SocketAddr>) -> Result<TaskHandle, Failure> {
        let cpu = CpuShare { milli, ..CpuShare::default() };
        let limits = CommandLimits { fuel: None, memory_bytes: 256 << 20, deadline: None, output_bytes: 1 << 20, cpu };
        let limits_of_service = ServiceSpec { concurrency: 256, ..ServiceSpec::default() };
        let command = Command {
            args: vec!["task".into()],
            env: Vec::new(),
            limits,
            seed: None,
            preopens: Vec::new(),
            network: Arc::default(),
            service: service.map(|address| ServiceOptions { address, limits: limits_of_service }),
        };
        let ((started, starts), (ended, _ends)) = (sync_channel(1), sync_channel(1));
        let observer = Box::new(Ear { started, ended });
        let handle =
            self.queue.submit(Task { program: program.clone(), command, output: Box::new(Drop0), observer })?;
        starts.recv()?;
        Ok(handle)
    }
}

/// A client with one connection that it keeps.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Result<Client, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, buffer: vec![0; 4096] })
    }

    /// Asks for a path and reads the answer up to its end, which is known.
    fn get(&mut self, path: &str, end: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        while !answer.windows(end.len()).any(|window| window == end) {
            let read = self.stream.read(&mut self.buffer)?;
            if read == 0 {
                return Err("the service closed the connection".into());
            }
            answer.extend_from_slice(&self.buffer[..read]);
        }
        if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err("the service did not answer 200".into()) }
    }
}

/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Latencies of requests made one after another for `time`, sorted.
fn latencies(address: SocketAddr, time: Duration) -> Result<Vec<Duration>, Failure> {
    let mut client = Client::new(address)?;
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let asked = Instant::now();
        client.get("/", LAST_CHUNK)?;
        took.push(asked.elapsed());
        std::thread::sleep(PAUSE);
    }
    took.sort_unstable();
    Ok(took)
}

/// Requests per second of `clients` that ask as fast as they get answers.
fn rate(address: SocketAddr, clients: usize, time: Duration) -> f64 {
    let begin = Instant::now();
    let count = |_| {
        std::thread::spawn(move || {
            let mut asked = 0u32;
            let Ok(mut client) = Client::new(address) else { return 0 };
            while begin.elapsed() < time && client.get("/", LAST_CHUNK).is_ok() {
                asked += 1;
            }
            asked
        })
    };
    let threads: Vec<_> = (0..clients).map(count).collect();
    let all: u32 = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    f64::from(all) / begin.elapsed().as_secs_f64()
}

fn quantile(sorted: &[Duration], thousandth: usize) -> f64 {
    let at = (sorted.len().saturating_sub(1)) * thousandth / 1000;
    sorted.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
}

fn row(what: &str, value: f64, unit: &str, reference: Option<f64>) {
    let ratio = reference.map(|reference| (value / reference * 1000.0).round() / 1000.0);
    let value = (value * 10.0).round() / 10.0;
    println!("{}", serde_json::json!({ "what": what, "value": value, "unit": unit, "ratio": ratio }));
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse());
    let (seconds, hogs, threads) = (number(0, 5)?, number(1, 16)?, number(2, 2)?);
    let time = Duration::from_secs(u64::try_from(seconds)?);

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Engine::new(Allocation::Pooled { tasks: 512 })?;
    let options = QueueOptions { threads, max_tasks: 512 };
    let queue = Queue::start(&engine, options, tokio.handle().clone())?;
    let bench = Bench { engine, queue };
    let service = bench.load(&std::fs::read(holm_test_programs::HELLO_HTTP.path)?)?;
    let spin = bench.load(&holm_test_programs::SPIN.p1_bytes()?)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let served = bench.start(&service, 500, Some(address))?;

    latencies(address, Duration::from_millis(500))?; // Warm.
    let quiet = latencies(address, time)?;
    for (name, thousandth) in [("p50", 500), ("p99", 990)] {
        row(&format!("service latency {name}, nothing beside it"), quantile(&quiet, thousandth), "us", None);
    }
    for clients in [1, 8] {
        row(&format!("service requests, {clients} clients"), rate(address, clients, time), "1/s", None);
    }
    let cpu = served.cpu();
    let before = Instant::now();
    let per_second = rate(address, 8, time);
    let requests = per_second * before.elapsed().as_secs_f64();
    row("service CPU time per request", (served.cpu() - cpu).as_secs_f64() * 1e6 / requests, "us", None);

    let beside = (0..hogs).map(|_| bench.start(&spin, 100, None)).collect::<Result<Vec<_>, _>>()?;
    let busy = latencies(address, time)?;
    for (name, thousandth) in [("p50", 500), ("p99", 990)] {
        let reference = Some(quantile(&quiet, thousandth));
        row(&format!("service latency {name}, {hogs} hogs beside it"), quantile(&busy, thousandth), "us", reference);
    }
    for handle in beside.iter().chain([&served]) {
        handle.kill(Reason::Killed, "measured");
    }
    bench.queue.stop();
    Ok(())
}
