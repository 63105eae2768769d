//! The compile worker as a process.

use std::path::Path;
use std::process::Command;

use holm_model::Reason;
use holm_runtime::{ModuleKind, Program, Verdict, compile_worker_main};

use crate::guests::hello;
use crate::harness::{ENGINE, command, run_program};

const INPUT: &str = "HOLM_TEST_WORKER_INPUT";
const OUTPUT: &str = "HOLM_TEST_WORKER_OUTPUT";

/// Not a test by itself: the process that [`compile_in_process`] starts.
#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let path = |name| std::env::var_os(name).unwrap();
    println!("\n{}", compile_worker_main(Path::new(&path(INPUT)), Path::new(&path(OUTPUT))).to_line());
}

fn compile_in_process(wasm: &[u8], output: &Path) -> Verdict {
    let input = output.with_extension("wasm");
    std::fs::write(&input, wasm).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker::child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(INPUT, &input)
        .env(OUTPUT, output)
        .output()
        .unwrap();
    let stdout = String::from_utf8(child.stdout).unwrap();
    let line = stdout.lines().find(|line| line.starts_with('{'));
    Verdict::parse(line.unwrap_or_else(|| panic!("no verdict in {stdout:?}"))).unwrap()
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
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("native");
    let (reason, message) = compile_in_process(b"PK\x03\x04", &output).into_result().unwrap_err();
    assert_eq!(reason, Reason::InvalidModule);
    assert!(message.contains("not Wasm"), "{message}");
    assert!(!output.exists());
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
