//! The same module gives the same results however it runs: as machine code and interpreted.

use std::sync::LazyLock;

use holm_model::TaskState;
use holm_runtime::{Allocation, Command, Engine, EngineKind};
use holm_test_programs as samples;
use holm_test_programs::{assert_test_exists, foreach_sample};

use crate::harness::{Done, ENGINE, command, preopen, program_of, queue_of, submit};

static PULLEY: LazyLock<Engine> = LazyLock::new(|| Engine::of_kind(EngineKind::Pulley, Allocation::OnDemand).unwrap());

fn run_on(engine: &Engine, wasm: &[u8], command: Command) -> Done {
    submit(&queue_of(engine, 1), &program_of(engine, wasm), command).wait()
}

/// Runs both forms of a sample with a seed on both kinds of engine and compares everything that is the same in two runs.
fn same(sample: samples::Program, args: &[&str], change: impl Fn(&mut Command)) {
    for wasm in [sample.p1_bytes().unwrap(), sample.p2_bytes().unwrap()] {
        let run = |engine: &Engine| {
            let mut command = Command { seed: Some(7), ..command() };
            command.args.extend(args.iter().map(|&arg| arg.to_owned()));
            command.limits.fuel = Some(20_000_000);
            change(&mut command);
            let done = run_on(engine, &wasm, command);
            let (status, end) = (done.status(), &done.end);
            // Of the message the first line: where a stack overflows depends on the size of machine frames.
            let message = status.message.lines().next().unwrap_or_default().to_owned();
            (
                status.state,
                status.reason,
                status.exit_code,
                message,
                end.fuel,
                end.peak_memory,
                done.stdout,
                done.stderr,
            )
        };
        let (native, pulley) = (run(&ENGINE), run(&PULLEY));
        assert_eq!(native, pulley, "{} {args:?}", sample.name);
    }
}

/// A test per sample: a sample that has none does not compile.
macro_rules! deterministic {
    ($($name:ident $sample:ident [$($arg:literal)*])*) => {
        $(#[test]
        fn $name() {
            same(samples::$sample, &[$($arg),*], |_| {});
        })*
    };
}

deterministic! {
    cat CAT []
    count COUNT ["20000"]
    dir_bomb DIR_BOMB []
    echo_env ECHO_ENV ["-x" "y"]
    echo_messages ECHO_MESSAGES []
    escape ESCAPE []
    exit_code EXIT_CODE ["42"]
    file_flood FILE_FLOOD ["many"]
    file_ops FILE_OPS ["open" "a" "f" ":" "mkdir" "d"]
    grow_memory GROW_MEMORY ["64"]
    handle_bomb HANDLE_BOMB []
    hello HELLO []
    host_call_storm HOST_CALL_STORM []
    kernel KERNEL ["hash"]
    lines LINES []
    list_dir LIST_DIR ["/"]
    net_probe NET_PROBE ["tcp:127.0.0.1:22" "listen:0.0.0.0:8080" "resolve:localhost:80"]
    random_and_time RANDOM_AND_TIME []
    render_tile RENDER_TILE ["64" "64" "24" "24" "6" "5" "80"]
    sleep SLEEP ["3600000"]
    sleep_spin SLEEP_SPIN ["3" "10" "20000"]
    slow_loris SLOW_LORIS []
    spin SPIN []
    stderr_flood STDERR_FLOOD ["300000"]
    stdout_flood STDOUT_FLOOD ["300000"]
    string_bomb STRING_BOMB []
    wordcount_reduce WORDCOUNT_REDUCE []
}

#[test]
fn trap() {
    for way in ["panic", "unreachable", "oob", "div"] {
        same(samples::TRAP, &[way], |_| {});
    }
}

#[test]
fn read_file_write_file_and_wordcount_map() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("text"), "one two two three three three\n".repeat(50)).unwrap();
    let grant = |command: &mut Command| command.preopens = vec![preopen(directory.path(), "data", true)];
    same(samples::READ_FILE, &["data/text"], grant);
    same(samples::WORDCOUNT_MAP, &["data/text"], grant);
    same(samples::WRITE_FILE, &["data/new", "content"], grant);
}

use read_file_write_file_and_wordcount_map as read_file;
use read_file_write_file_and_wordcount_map as write_file;
use read_file_write_file_and_wordcount_map as wordcount_map;
foreach_sample!(assert_test_exists);

#[test]
fn what_was_made_for_one_kind_of_engine_does_not_load_on_the_other() {
    let compiled = holm_runtime::compile(&ENGINE, &samples::HELLO.p1_bytes().unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), compiled.native).unwrap();
    assert!(holm_runtime::Program::load(&PULLEY, file.path(), compiled.kind).is_err());
}

#[test]
fn an_interpreted_guest_shares_the_cpu_and_can_be_killed() {
    let queue = queue_of(&PULLEY, 1);
    let spin = program_of(&PULLEY, &samples::SPIN.p1_bytes().unwrap());
    let running = submit(&queue, &spin, command());
    running.wait_until_started();
    let hello = program_of(&PULLEY, &samples::HELLO.p2_bytes().unwrap());
    assert_eq!(submit(&queue, &hello, command()).wait().status().state, TaskState::Finished);
    running.handle.kill(holm_model::Reason::Killed, "enough");
    assert_eq!(running.wait().status().state, TaskState::Killed);
}
