//! Fuzzes the way of a module into a runner: inspect, compile, load, run under limits.
//!
//! `fuzz_intake [--for SECONDS] [--seed N] [--from N] [--save DIR]` starts itself as a child that makes inputs, and watches
//! it: an input that kills the child, or on which it stays for too long, is saved and the next child goes on after it. Every
//! input follows from the seed and its number alone. Prints one JSON object; the exit code is 1 if anything was found.
//!
//! `fuzz_intake --only N [--seed N]` runs one input in this process, to see it with a debugger.
//!
//! What counts as found: the death of the process, a panic, an input that takes longer than [`PATIENCE`], two seeded runs that
//! differ, a run that differs between machine code and interpreter, and a guest that finds what another one left in its
//! memory. A compilation that wants more memory than it gets is none: in an agent a worker process dies of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a tool for developers")]

mod input;
mod judge;
mod random;
mod task;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use input::Inputs;
use judge::{Judge, Tally};

/// CPU time that one input may take, everything included.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take on a machine that has other things to do.
const LONG_PATIENCE: Duration = Duration::from_secs(1200);
/// How often the child is looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// Bytes of data the child may have: a compiler that wants more is a matter of the worker's limits.
const CHILD_MEMORY: u64 = 4 << 30;
/// How long a child lives: a fresh one shows that nothing depends on what came before.
const CHILD_LIFE: Duration = Duration::from_secs(300);

struct Args {
    time: Duration,
    seed: u64,
    from: u64,
    save: PathBuf,
    only: Option<u64>,
    /// Where a child notes the number of its input.
    note: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = parse();
    match (&args.only, &args.note) {
        (Some(number), _) => only(&args, *number),
        (None, Some(note)) => child(&args, note),
        (None, None) => supervise(&args),
    }
}

fn parse() -> Args {
    let mut args = Args {
        time: Duration::from_secs(60),
        seed: 1,
        from: 0,
        save: std::env::temp_dir().join("holm-fuzz"),
        only: None,
        note: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--for" => args.time = Duration::from_secs(value().parse().unwrap()),
            "--seed" => args.seed = value().parse().unwrap(),
            "--from" => args.from = value().parse().unwrap(),
            "--save" => args.save = value().into(),
            "--only" => args.only = Some(value().parse().unwrap()),
            "--note" => args.note = Some(value().into()),
            other => panic!("unknown argument {other}"),
        }
    }
    args
}

/// One input, in this process.
fn only(args: &Args, number: u64) -> ExitCode {
    let bytes = Inputs::new(args.seed).make(number);
    fs::create_dir_all(&args.save).unwrap();
    let path = save(args, number, &bytes);
    println!("{} bytes in {}", bytes.len(), path.display());
    let mut judge = Judge::new();
    judge.judge(number, &bytes);
    println!("{:?}", judge.tally);
    if judge.tally.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Judges inputs until the time is up, then prints the tally.
fn child(args: &Args, note: &Path) -> ExitCode {
    let limit = rustix::process::Rlimit { current: Some(CHILD_MEMORY), maximum: Some(CHILD_MEMORY) };
    rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
    let note = fs::File::options().write(true).open(note).unwrap();
    let (inputs, mut judge, begin) = (Inputs::new(args.seed), Judge::new(), Instant::now());
    let mut number = args.from;
    while begin.elapsed() < args.time {
        note.write_all_at(&number.to_le_bytes(), 0).unwrap();
        let bytes = inputs.make(number);
        let before = judge.tally.findings.len();
        judge.judge(number, &bytes);
        if judge.tally.findings.len() > before {
            save(args, number, &bytes);
        }
        number += 1;
    }
    note.write_all_at(&number.to_le_bytes(), 0).unwrap();
    println!("{}", serde_json::to_string(&judge.tally).unwrap());
    ExitCode::SUCCESS
}

fn save(args: &Args, number: u64, bytes: &[u8]) -> PathBuf {
    let path = args.save.join(format!("seed-{}-input-{number}.wasm", args.seed));
    fs::write(&path, bytes).unwrap();
    path
}

fn supervise(args: &Args) -> ExitCode {
    fs::create_dir_all(&args.save).unwrap();
    let note = args.save.join(format!("note-{}", std::process::id()));
    let (begin, mut number, mut total) = (Instant::now(), args.from, Tally::default());
    while begin.elapsed() < args.time {
        let left = args.time.saturating_sub(begin.elapsed()).min(CHILD_LIFE);
        fs::write(&note, number.to_le_bytes()).unwrap();
        let mut child = spawn(args, &note, number, left);
        let hung = watch(&mut child, &note);
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        let status = child.wait().unwrap();
        let at = read_note(&note);
        total.executions += at - number;
        if let Ok(tally) = serde_json::from_str::<Tally>(said.trim()) {
            total.add(tally);
            number = at;
            continue;
        }
        number = at + 1;
        total.executions += 1;
        if !hung && complaint.contains("memory allocation of") {
            total.out_of_memory += 1;
            continue;
        }
        let path = save(args, at, &Inputs::new(args.seed).make(at));
        let what = if hung { format!("no end within {PATIENCE:?}") } else { format!("the process died: {status}") };
        let tail: Vec<&str> = complaint.lines().rev().take(3).collect();
        let finding = format!("input {at}: {what}; {tail:?}; saved as {}", path.display());
        eprintln!("{finding}");
        total.findings.push(finding);
    }
    fs::remove_file(&note).unwrap();
    total.seconds = begin.elapsed().as_secs();
    println!("{}", serde_json::to_string(&total).unwrap());
    if total.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn spawn(args: &Args, note: &Path, from: u64, time: Duration) -> Child {
    let seconds = time.as_secs().max(1);
    Command::new(std::env::current_exe().unwrap())
        .args(["--seed", &args.seed.to_string(), "--from", &from.to_string(), "--for", &seconds.to_string()])
        .arg("--save")
        .arg(&args.save)
        .arg("--note")
        .arg(note)
        .env("RAYON_NUM_THREADS", "1")
        .env("RUST_MIN_STACK", holm_runtime::COMPILE_STACK_BYTES.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Panics that the child survives are findings of its own and say little; what kills it is said last.
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn read_note(note: &Path) -> u64 {
    let bytes = fs::read(note).unwrap();
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Waits for the child; says whether it had to be killed for staying on one input.
fn watch(child: &mut Child, note: &Path) -> bool {
    let (mut at, mut since, mut used) = (read_note(note), Instant::now(), Duration::ZERO);
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(GLANCE);
        let now = read_note(note);
        if now != at {
            (at, since, used) = (now, Instant::now(), cpu_time(child));
        } else if cpu_time(child).saturating_sub(used) > PATIENCE || since.elapsed() > LONG_PATIENCE {
            child.kill().unwrap();
            return true;
        }
    }
    false
}

/// CPU time of the child, from fields 14 and 15 of its `stat`.
fn cpu_time(child: &Child) -> Duration {
    /// What Linux has on every machine, whatever its clock does.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
