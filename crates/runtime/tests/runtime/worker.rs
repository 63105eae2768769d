//! The compile worker as a process.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use holm_model::{Metering, Reason};
use holm_runtime::{
    CompileLimits, Confinement, EngineKind, ModuleKind, Program, Verdict, WorkerOptions, compile_worker_main,
};

use crate::guests::hello;
use crate::harness::{ENGINE, command, run_program};

const INPUT: &str = "HOLM_TEST_WORKER_INPUT";
const OUTPUT: &str = "HOLM_TEST_WORKER_OUTPUT";
/// Memory in bytes, CPU time in seconds and native code in bytes.
const LIMITS: &str = "HOLM_TEST_WORKER_LIMITS";

/// Not a test by itself: the process that [`start`] starts.
#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let path = |name| std::env::var_os(name).unwrap();
    let limits: Vec<u64> = std::env::var(LIMITS).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    let limits =
        CompileLimits { memory_bytes: limits[0], cpu: Duration::from_secs(limits[1]), native_bytes: limits[2] };
    let confinement = Confinement::default();
    let options = WorkerOptions { engine: EngineKind::Native, metering: Metering::FuelAndEpochs, limits, confinement };
    println!("\n{}", compile_worker_main(Path::new(&path(INPUT)), Path::new(&path(OUTPUT)), &options).to_line());
}

fn start(wasm: &[u8], output: &Path, limits: &CompileLimits) -> Output {
    let input = output.with_extension("wasm");
    std::fs::write(&input, wasm).unwrap();
    let CompileLimits { memory_bytes, cpu, native_bytes } = limits;
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker::child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(INPUT, &input)
        .env(OUTPUT, output)
        .env(LIMITS, format!("{memory_bytes},{},{native_bytes}", cpu.as_secs()))
        // As the agent does.
        .env("RUST_MIN_STACK", holm_runtime::COMPILE_STACK_BYTES.to_string())
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap()
}

fn verdict(output: &Output) -> Option<Verdict> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    stdout.lines().find(|line| line.starts_with('{')).map(|line| Verdict::parse(line).unwrap())
}

fn compile_in_process(wasm: &[u8], output: &Path) -> Verdict {
    let done = start(wasm, output, &CompileLimits::default());
    verdict(&done).unwrap_or_else(|| panic!("no verdict: {done:?}"))
}

/// What an agent would say of a module whose compilation may use so much.
pub(crate) fn judged(wasm: &[u8], limits: &CompileLimits) -> Result<ModuleKind, (Reason, String)> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("native");
    let done = start(wasm, &output, limits);
    let judged = match verdict(&done) {
        Some(verdict) => verdict.into_result(),
        None => Err((Reason::Compile, limits.explain(done.status, &String::from_utf8_lossy(&done.stderr)))),
    };
    // A worker opens its output before it confines itself: what one that was ended leaves is a draft, which the agent drops.
    assert!(judged.is_err() || output.exists(), "{judged:?}");
    judged
}

#[test]
fn what_the_worker_compiled_runs() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("native");
    let verdict = compile_in_process(&wat::parse_str(hello()).unwrap(), &output);
    assert_eq!(verdict.native_bytes, std::fs::metadata(&output).unwrap().len());
    assert_eq!(verdict.into_result(), Ok(ModuleKind::Core));
    let program = Program::load(&ENGINE, &output, ModuleKind::Core).unwrap();
    assert_eq!(run_program(&program, command()).stdout, "hello p1\n");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 2, "input and output, no temporary file");
}

#[test]
fn a_refusal_leaves_no_file() {
    let (reason, message) = judged(b"PK\x03\x04", &CompileLimits::default()).unwrap_err();
    assert_eq!(reason, Reason::InvalidModule);
    assert!(message.contains("not Wasm"), "{message}");
}

#[test]
fn what_the_worker_cannot_write_is_no_fault_of_the_module() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("native");
    std::fs::create_dir(&output).unwrap();
    let (reason, message) = compile_in_process(&wat::parse_str(hello()).unwrap(), &output).into_result().unwrap_err();
    assert_eq!(reason, Reason::Compile);
    assert!(message.contains("cannot write"), "{message}");
}
