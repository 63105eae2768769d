//! The sample tasks, as core modules and as components: real programs of a real toolchain.

use std::time::Duration;

use holm_model::{Reason, TaskState};
use holm_runtime::Command;
use holm_test_programs as samples;

use crate::harness::{Done, ENGINE, command, preopen, program_of, queue, run_program, submit};

/// Runs both forms of a sample.
fn both(sample: samples::Program, args: &[&str], change: impl Fn(&mut Command)) -> [Done; 2] {
    [sample.p1_bytes(), sample.p2_bytes()].map(|bytes| {
        let mut command = command();
        command.args.extend(args.iter().map(|&arg| arg.to_owned()));
        change(&mut command);
        run_program(&program_of(&ENGINE, &bytes.unwrap()), command)
    })
}

#[test]
fn hello() {
    for done in both(samples::HELLO, &[], |_| {}) {
        assert_eq!(done.status().state, TaskState::Finished);
        assert!(done.stdout.starts_with("hello from guest"), "{}", done.stdout);
    }
}

#[test]
fn exit_code() {
    let [core, component] = both(samples::EXIT_CODE, &["42"], |_| {});
    assert_eq!(core.status().exit_code, Some(42));
    // WASI 0.2 programs of this toolchain can only say that they failed.
    assert_eq!(component.status().exit_code, Some(1));
}

#[test]
fn echo_env() {
    for done in both(samples::ECHO_ENV, &["-x"], |command| command.env = vec![("COLOUR".into(), "blue".into())]) {
        assert!(done.stdout.contains("-x") && done.stdout.contains("COLOUR=blue"), "{}", done.stdout);
        assert!(!done.stdout.contains("PATH"), "{}", done.stdout);
    }
}

#[test]
fn trap() {
    for way in ["panic", "unreachable", "oob", "div", "stack"] {
        for done in both(samples::TRAP, &[way], |_| {}) {
            let status = done.status();
            assert_eq!(status.reason, Some(Reason::Trap), "{way}: {}", status.message);
            assert!(status.message.contains("wasm backtrace") && status.message.len() <= 4096, "{}", status.message);
            assert_eq!(done.stderr.contains("panicked on purpose"), way == "panic");
        }
    }
}

#[test]
fn kernel() {
    for name in ["shifts", "fib", "sort", "hash", "matmul", "hashmap", "sieve"] {
        let [core, component] = both(samples::KERNEL, &[name], |_| {});
        assert_eq!(core.status().state, TaskState::Finished, "{name}: {}", core.message());
        assert_eq!(core.stdout, component.stdout, "{name}");
        match name {
            "fib" => assert_eq!(core.stdout.trim(), format!("{:016x}", 196_418)),
            "sieve" => assert_eq!(core.stdout.trim(), format!("{:016x}", 82_025)),
            _ => assert_ne!(core.stdout.trim(), format!("{:016x}", 0), "{name}"),
        }
    }
}

#[test]
fn grow_memory() {
    for done in both(samples::GROW_MEMORY, &["64"], |_| {}) {
        let status = done.status();
        assert_eq!(status.reason, Some(Reason::MemoryLimit), "{}", status.message);
        assert!(done.stdout.contains("8 MiB") && !done.stdout.contains("16 MiB"), "{}", done.stdout);
    }
    for done in both(samples::GROW_MEMORY, &["64"], |command| command.limits.memory_bytes = 80 << 20) {
        assert_eq!(done.status().state, TaskState::Finished);
        assert!((64 << 20..=80 << 20).contains(&done.end.peak_memory));
    }
}

#[test]
fn stdout_flood_and_stderr_flood() {
    for sample in [samples::STDOUT_FLOOD, samples::STDERR_FLOOD] {
        for done in both(sample, &["3000000"], |_| {}) {
            assert_eq!(done.status().state, TaskState::Finished);
            assert_eq!(done.stdout.len() + done.stderr.len(), 1 << 20);
            assert!(done.end.output_bytes >= 3_000_000 && done.end.output_dropped >= 3_000_000 - (1 << 20));
        }
    }
}

#[test]
fn string_bomb() {
    for done in both(samples::STRING_BOMB, &[], |_| {}) {
        assert!(done.end.peak_memory <= 16 << 20 && done.stdout.len() <= 1 << 20, "{:?}", done.end);
    }
}

#[test]
fn escape() {
    let directory = tempfile::tempdir().unwrap();
    for writable in [false, true] {
        let grant = |command: &mut Command| command.preopens = vec![preopen(directory.path(), "data", writable)];
        for done in both(samples::ESCAPE, &["data"], grant) {
            assert_eq!(done.status().exit_code, Some(0), "{}", done.stdout);
        }
    }
    for done in both(samples::ESCAPE, &[], |_| {}) {
        assert_eq!(done.status().exit_code, Some(0), "{}", done.stdout);
    }
}

#[test]
fn random_and_time() {
    let seeded = |seed| both(samples::RANDOM_AND_TIME, &[], |command| command.seed = Some(seed));
    let (first, second, other) = (seeded(1), seeded(1), seeded(2));
    for form in 0..2 {
        assert_eq!(first[form].status().state, TaskState::Finished);
        assert_eq!((&first[form].stdout, first[form].end.fuel), (&second[form].stdout, second[form].end.fuel));
        assert_ne!(first[form].stdout, other[form].stdout);
    }
}

#[test]
fn sleep() {
    for done in both(samples::SLEEP, &["20"], |_| {}) {
        assert_eq!(done.status().state, TaskState::Finished);
        assert!(done.end.run >= Duration::from_millis(20));
    }
    // An hour of virtual time.
    for done in both(samples::SLEEP, &["3600000"], |command| command.seed = Some(1)) {
        assert_eq!(done.status().state, TaskState::Finished);
    }
}

#[test]
fn net_probe() {
    let args = ["tcp:127.0.0.1:22", "tcp:1.1.1.1:443", "udp:127.0.0.1:53", "listen:0.0.0.0:8080"];
    let [core, component] = both(samples::NET_PROBE, &args, |_| {});
    // Preview 1 has no call that opens a socket.
    assert_eq!((core.stdout.matches("Unsupported").count(), core.end.network_refusals), (4, 0), "{}", core.stdout);
    assert_eq!(component.stdout.matches("PermissionDenied").count(), 4, "{}", component.stdout);
    assert_eq!(component.end.network_refusals, 4);
    assert!(component.stderr.contains("a tcp socket is refused: no network is granted"), "{}", component.stderr);
}

#[test]
fn spin() {
    let queue = queue(1);
    for bytes in [samples::SPIN.p1_bytes(), samples::SPIN.p2_bytes()] {
        let running = submit(&queue, &program_of(&ENGINE, &bytes.unwrap()), command());
        running.wait_until_started();
        running.handle.kill(Reason::Killed, "enough");
        assert_eq!(running.wait().status().state, TaskState::Killed);
    }
}

#[test]
fn count() {
    let [p1, p2] = both(samples::COUNT, &["100000"], |_| {});
    assert_eq!((p1.status().state, &p1.stdout), (TaskState::Finished, &p2.stdout));
    let [again, _] = both(samples::COUNT, &["100000"], |command| command.seed = Some(5));
    let [once_more, _] = both(samples::COUNT, &["100000"], |command| command.seed = Some(5));
    assert_eq!(again.end.fuel, once_more.end.fuel);
}

#[test]
fn write_file_read_file_and_list_dir() {
    let directory = tempfile::tempdir().unwrap();
    let grant = |writable| {
        let path = directory.path().to_owned();
        move |command: &mut Command| command.preopens = vec![preopen(&path, "data", writable)]
    };
    for done in both(samples::WRITE_FILE, &["data/new", "content"], grant(false)) {
        assert_eq!(done.status().reason, Some(Reason::ExitCode), "{}", done.stderr);
    }
    assert!(!directory.path().join("new").exists());
    for done in both(samples::WRITE_FILE, &["data/new", "content"], grant(true)) {
        assert_eq!(done.status().state, TaskState::Finished, "{}", done.stderr);
    }
    for done in both(samples::READ_FILE, &["data/new"], grant(false)) {
        assert!(done.stdout.contains("content"), "{}", done.stdout);
    }
    for done in both(samples::LIST_DIR, &["data"], grant(false)) {
        assert!(done.stdout.contains("new"), "{}", done.stdout);
    }
}

#[test]
fn echo_messages() {
    let queue = queue(1);
    for bytes in [samples::ECHO_MESSAGES.p1_bytes(), samples::ECHO_MESSAGES.p2_bytes()] {
        let program = program_of(&ENGINE, &bytes.unwrap());
        assert!(program.hears_messages() && program.hears_stop());
        let running = submit(&queue, &program, command());
        for message in ["first", "", "third"] {
            assert!(running.deliver(message));
            assert_eq!(running.message(), message);
        }
        assert!(running.handle.stop());
        let done = running.wait();
        assert_eq!((done.status().state, &*done.stdout), (TaskState::Finished, "stopped after 3 messages\n"));
    }
}
