//! How fast a runner process starts and ends short tasks: from a launch on its socket to the reports of its tasks.
//!
//! `runner [--quick] [p1|p2]`, in release, with the example `launch` of `holm-runtime` built beside it: that one measures
//! bare wasmtime, in turns with this. One JSON object per row; "ratio" is against bare wasmtime's rate or CPU time.
//! The program plays the agent, and is started by itself once more as the runner.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use holm_agentd::runner;
use holm_model::{
    Epoch, FrameworkId, FromRunner, Launch, Prepared, RunnerId, TaskRange, TaskSpec, TaskState, ToRunner, WorkId,
};
use holm_proto::framing;
use holm_proto::runner::v1 as wire;
use holm_runtime::{Allocation, Confinement, Engine, EngineKind, ModuleKind, compile};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Tasks of one launch: the most there can be.
const BATCH: u32 = 4096;
/// How many run at a time; the first is what two single-CPU tasks of an agent of two CPUs are.
const SLOTS: [u32; 2] = [2, 64];

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, dir, threads] = &args[..]
        && role == "--as-runner"
    {
        return Ok(runner::run(runner::Options {
            confinement: Confinement::default(),
            runner: RunnerId(1),
            dir: dir.into(),
            threads: threads.parse()?,
            max_tasks: 0,
            log_bytes: 64 << 20,
            recovery: Duration::from_secs(5),
            engine: EngineKind::Native,
            pooled: true,
            cpu_seat: None,
            revocable: false,
        })?);
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let (repetitions, batches) = if quick { (3, 1) } else { (7, 4) };
    let cores = std::thread::available_parallelism()?.get().min(2);
    let hello = holm_test_programs::HELLO;
    for (form, wasm) in [("p1", hello.p1_bytes()?), ("p2", hello.p2_bytes()?)] {
        if ["p1", "p2"].into_iter().any(|other| other != form && args.iter().any(|arg| arg == other)) {
            continue;
        }
        for cores in 1..=cores {
            compare(form, &wasm, cores, repetitions, batches)?;
        }
    }
    Ok(())
}

fn compare(form: &str, wasm: &[u8], cores: usize, repetitions: usize, batches: u32) -> Result<(), Failure> {
    let mut set = rustix::thread::CpuSet::new();
    (0..cores).for_each(|core| set.set(core));
    rustix::thread::sched_setaffinity(None, &set)?;
    let mut agent = Agent::start(wasm, cores)?;
    let mut bare = Vec::new();
    let mut ours = vec![Vec::new(); SLOTS.len()];
    agent.run(SLOTS[1], 1)?;
    for _ in 0..repetitions {
        bare.push(bare_wasmtime(form, cores)?);
        for (slots, took) in SLOTS.into_iter().zip(&mut ours) {
            took.push(agent.run(slots, batches)?);
        }
    }
    for (slots, took) in SLOTS.into_iter().zip(ours) {
        let what = format!("launch/{form}/{cores}-cores/runner/{slots}-slots");
        let against = |figure: fn(&Speed) -> f64| {
            median(took.iter().zip(&bare).map(|(ours, bare)| figure(ours) / figure(bare)).collect())
        };
        let of = |figure: fn(&Speed) -> f64| median(took.iter().map(figure).collect());
        row(&what, of(|speed| speed.rate), "tasks/s", against(|speed| speed.rate));
        row(&format!("{what}/cpu"), of(|speed| speed.cpu), "us/task", against(|speed| speed.cpu));
    }
    Ok(())
}

/// Tasks per second, and microseconds of CPU time per task.
#[derive(Clone, Copy, Debug)]
struct Speed {
    rate: f64,
    cpu: f64,
}

/// What the example of the runtime says.
fn bare_wasmtime(form: &str, cores: usize) -> Result<Speed, Failure> {
    let program = std::env::current_exe()?.with_file_name("launch");
    let output = Command::new(&program).args(["--bare", form, &cores.to_string()]).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    match (figures.next(), figures.next()) {
        (Some(Ok(rate)), Some(Ok(cpu))) => Ok(Speed { rate, cpu }),
        _ => Err(format!("{} said {text:?}", program.display()).into()),
    }
}

/// The agent's end of a runner's socket.
struct Agent {
    dir: tempfile::TempDir,
    native: PathBuf,
    process: Child,
    stream: UnixStream,
    received: BytesMut,
    last_work: u64,
}

impl Agent {
    fn start(wasm: &[u8], threads: usize) -> Result<Agent, Failure> {
        let dir = tempfile::tempdir()?;
        let engine = Engine::new(Allocation::OnDemand)?;
        let compiled = compile(&engine, wasm)?;
        let extension = match compiled.kind {
            ModuleKind::Core => "core",
            ModuleKind::Component => "component",
            ModuleKind::Executor => "executor",
        };
        // As the agent's cache names it.
        let native = dir.path().join(format!("hello-{}.{extension}", engine.compatibility_key()));
        std::fs::write(&native, &compiled.native)?;
        let mut process = Command::new(std::env::current_exe()?);
        let process = process.arg("--as-runner").arg(dir.path()).arg(threads.to_string()).spawn()?;
        let stream = connect(&dir.path().join("socket"))?;
        Ok(Agent { dir, native, process, stream, received: BytesMut::new(), last_work: 0 })
    }

    /// Launches so many full batches, one after another, and waits for the last report.
    fn run(&mut self, slots: u32, batches: u32) -> Result<Speed, Failure> {
        let (begin, cpu) = (Instant::now(), cpu_seconds(self.process.id())?);
        for _ in 0..batches {
            self.last_work += 1;
            let spec = TaskSpec { resources: "cpus:1;mem:16MiB".parse()?, ..TaskSpec::default() };
            let tasks = TaskRange::Array { first: 0, count: BATCH };
            let launch = Launch { id: format!("b{}", self.last_work).parse()?, tasks, slots, spec: spec.into() };
            let program = self.native.to_str().ok_or("a path that is no text")?.into();
            let (directories, network) = (Vec::new(), Default::default());
            let prepared = Prepared { program, inputs: None, scratch: None, directories, volumes: Vec::new(), network };
            let framework = FrameworkId::new(Epoch(1), 1);
            self.say(&ToRunner::Launch { work: WorkId(self.last_work), framework, launch, prepared })?;
            let mut left = BATCH;
            while left > 0 {
                left -= self.hear_ends()?;
            }
        }
        let (wall, cpu) = (begin.elapsed(), cpu_seconds(self.process.id())? - cpu);
        let tasks = f64::from(batches * BATCH);
        Ok(Speed { rate: tasks / wall.as_secs_f64(), cpu: cpu * 1e6 / tasks })
    }

    fn say(&mut self, message: &ToRunner) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        framing::encode(&wire::ToRunner::from(message), &mut bytes)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// How many tasks have ended, by the next message.
    fn hear_ends(&mut self) -> Result<u32, Failure> {
        let message = loop {
            if let Some(message) = framing::decode::<wire::FromRunner>(&mut self.received)? {
                break FromRunner::try_from(message)?;
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(format!("the runner is gone; {} has more", self.dir.path().display()).into()),
                read => self.received.extend_from_slice(&chunk[..read]),
            }
        };
        let FromRunner::Reports(reports) = message else { return Ok(0) };
        let mut ended = 0;
        for report in reports.iter().filter(|report| report.status.state.is_terminal()) {
            if report.status.state != TaskState::Finished {
                return Err(format!("a task ended so: {:?}", report.status).into());
            }
            ended += report.count;
        }
        if let Some(last) = reports.last() {
            self.say(&ToRunner::Acknowledge { sequence: last.sequence })?;
        }
        Ok(ended)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.say(&ToRunner::Stop);
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path) -> Result<UnixStream, Failure> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if begin.elapsed() > Duration::from_secs(10) => return Err(error.into()),
            Err(_not_yet) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// CPU time of a process: what the scheduler has counted for each of its threads.
fn cpu_seconds(process: u32) -> Result<f64, Failure> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let counted = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += counted.split(' ').next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(what: &str, value: f64, unit: &str, ratio: f64) {
    println!(r#"{{"what":"{what}","value":{value:.1},"unit":"{unit}","ratio":{ratio:.3}}}"#);
}
