//! Programs that run, end and share the CPU.

use std::time::{Duration, Instant};

use holm_model::{Reason, TaskState};
use holm_runtime::{Outcome, QueueOptions, SubmitError, Task};

use crate::guests::{component, component_hello, core, exit, hello, sleep, spin};
use crate::harness::{ENGINE, TOKIO, command, program, queue, run, run_program, submit};

#[test]
fn a_core_module_says_hello() {
    let done = run(&hello(), command());
    assert_eq!((done.stdout.as_str(), done.status().state), ("hello p1\n", TaskState::Finished));
    assert_eq!(done.status().exit_code, Some(0));
    assert_eq!(done.status().usage.output_bytes, 9);
    assert!(done.end.fuel > 0 && done.end.peak_memory == 65_536 && done.end.cpu > Duration::ZERO);
}

#[test]
fn a_component_says_hello_whatever_patch_of_wasi_it_was_made_for() {
    for version in ["0.2.0", "0.2.3", "0.2.9", "0.2.40"] {
        let done = run(&component_hello(version), command());
        assert_eq!((done.stdout.as_str(), done.status().state), ("hello p2\n", TaskState::Finished), "{version}");
    }
}

#[test]
fn exit_codes_arrive() {
    assert_eq!(run(&exit(0), command()).status().state, TaskState::Finished);
    for code in [1, 3, 125, 126, 255] {
        let status = run(&exit(code), command()).status();
        assert_eq!((status.reason, status.exit_code), (Some(Reason::ExitCode), Some(code)));
    }
    let status = run(&component("0.2.0", "(i32.const 1)"), command()).status();
    assert_eq!((status.reason, status.exit_code), (Some(Reason::ExitCode), Some(1)));
}

#[test]
fn a_trap_comes_with_its_backtrace() {
    let guest =
        core(r#"(func $inner unreachable) (func $outer (call $inner)) (func $main (export "_start") (call $outer))"#);
    let status = run(&guest, command()).status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Trap)));
    for part in ["unreachable", "inner", "outer", "main"] {
        assert!(status.message.contains(part), "{part:?} is missing in: {}", status.message);
    }
    let status = run(&component("0.2.0", "unreachable"), command()).status();
    assert_eq!(status.reason, Some(Reason::Trap));
}

#[test]
fn a_backtrace_of_an_endless_recursion_stays_small() {
    let guest = core(r#"(func $again (call $again)) (func (export "_start") (call $again))"#);
    let status = run(&guest, command()).status();
    assert_eq!(status.reason, Some(Reason::Trap));
    assert!(status.message.contains("call stack exhausted") && status.message.len() <= 4096);
}

#[test]
fn spinners_do_not_starve_a_short_task() {
    let queue = queue(1);
    let spin = program(&spin());
    let spinners: Vec<_> = (0..100).map(|_| submit(&queue, &spin, command())).collect();
    spinners.iter().for_each(|spinner| spinner.wait_until_started());
    let done = submit(&queue, &program(&hello()), command()).wait();
    assert_eq!(done.stdout, "hello p1\n");
    // Each of them has had a share of the one thread.
    for spinner in &spinners {
        assert!(spinner.handle.cpu() > Duration::ZERO && !spinner.handle.is_over());
    }
    spinners.iter().for_each(|spinner| spinner.handle.kill(Reason::Killed, "enough"));
    for spinner in spinners {
        assert_eq!(spinner.wait().status().state, TaskState::Killed);
    }
    assert_eq!(queue.live(), 0);
}

#[test]
fn many_short_tasks_end_each_once() {
    let queue = queue(2);
    let hello = program(&hello());
    let runs: Vec<_> = (0..200).map(|_| submit(&queue, &hello, command())).collect();
    for run in runs {
        assert_eq!(run.wait().stdout, "hello p1\n");
    }
    assert_eq!(queue.live(), 0);
}

#[test]
fn a_spinner_is_killed_with_the_reason_given() {
    let queue = queue(1);
    let running = submit(&queue, &program(&spin()), command());
    while running.handle.cpu() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    running.handle.kill(Reason::Preempted, "role a is entitled to more");
    running.handle.kill(Reason::Killed, "too late");
    let done = running.wait();
    let status = done.status();
    assert_eq!((status.state, status.reason), (TaskState::Killed, Some(Reason::Preempted)));
    assert_eq!(&*status.message, "role a is entitled to more");
    assert!(done.end.fuel > 0);
}

#[test]
fn a_sleeper_is_killed_in_its_sleep() {
    let queue = queue(1);
    for guest in [
        sleep(3_600_000_000_000),
        core(r#"(func (export "_start") (loop $l (call $sleep (i64.const 1000000)) (br $l)))"#),
    ] {
        let begin = Instant::now();
        let running = submit(&queue, &program(&guest), command());
        running.wait_until_started();
        running.handle.kill(Reason::Killed, "asked to");
        let done = running.wait();
        assert_eq!(done.status().reason, Some(Reason::Killed));
        assert!(done.end.run <= begin.elapsed());
    }
}

#[test]
fn a_sleep_ends_by_itself_and_costs_no_cpu() {
    let done = run(&sleep(30_000_000), command());
    assert_eq!(done.status().state, TaskState::Finished);
    assert!(done.end.run >= Duration::from_millis(30) && done.end.cpu < done.end.run);
}

#[test]
fn a_full_queue_says_its_limit_and_a_stopped_one_ends_its_tasks() {
    let options = QueueOptions { threads: 1, max_tasks: 2 };
    let queue = holm_runtime::Queue::start(&ENGINE, options, TOKIO.handle().clone()).unwrap();
    let sleep = program(&sleep(3_600_000_000_000));
    let (first, second) = (submit(&queue, &sleep, command()), submit(&queue, &sleep, command()));
    struct Nowhere;
    impl holm_runtime::OutputSink for Nowhere {
        fn write(&mut self, _: holm_runtime::Stream, _: &[u8]) {}
    }
    impl holm_runtime::Observer for Nowhere {
        fn ended(self: Box<Self>, _: holm_runtime::TaskEnd) {
            panic!("a task that was not taken has no end");
        }
    }
    let third = Task { program: sleep, command: command(), output: Box::new(Nowhere), observer: Box::new(Nowhere) };
    assert_eq!(queue.submit(third).map(drop).unwrap_err(), SubmitError::Full { limit: 2 });
    queue.stop();
    for run in [first, second] {
        assert_eq!(run.wait().status().reason, Some(Reason::RunnerLost));
    }
}

#[test]
fn a_sink_that_panics_ends_its_task_and_no_other() {
    struct Panics;
    impl holm_runtime::OutputSink for Panics {
        fn write(&mut self, _: holm_runtime::Stream, _: &[u8]) {
            panic!("the disk is gone");
        }
    }
    struct Ear(std::sync::mpsc::SyncSender<holm_runtime::TaskEnd>);
    impl holm_runtime::Observer for Ear {
        fn ended(self: Box<Self>, end: holm_runtime::TaskEnd) {
            let _ = self.0.send(end);
        }
    }
    let (queue, hello) = (queue(1), program(&hello()));
    let (sender, ends) = std::sync::mpsc::sync_channel(1);
    let observer = Box::new(Ear(sender));
    queue.submit(Task { program: hello.clone(), command: command(), output: Box::new(Panics), observer }).unwrap();
    let end = ends.recv().unwrap();
    assert_eq!(end.outcome, Outcome::RunnerFailed("the runtime panicked: the disk is gone".into()));
    assert_eq!(submit(&queue, &hello, command()).wait().stdout, "hello p1\n");
}

#[test]
fn arguments_and_environment_are_what_was_given_and_nothing_more() {
    let guest = r#"(module
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $args (i32.const 100) (i32.const 1000)))
            (drop (call $sizes (i32.const 16) (i32.const 20)))
            (drop (call $environ (i32.const 200) (i32.const 1010)))
            (i32.store (i32.const 0) (i32.const 1000))
            (i32.store (i32.const 4) (i32.add (i32.const 10) (i32.load (i32.const 20))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let args = vec!["task-1".into(), "-v".into()];
    let done = run(guest, holm_runtime::Command { args, env: vec![("K".into(), "V".into())], ..command() });
    assert_eq!(done.stdout, "task-1\0-v\0K=V\0");
}

#[test]
fn a_program_runs_again_and_again_from_a_fresh_memory() {
    let counter = core(
        r#"(func (export "_start")
            (if (i32.load (i32.const 60000)) (then unreachable))
            (i32.store (i32.const 60000) (i32.const 1)))"#,
    );
    let program = program(&counter);
    for _ in 0..20 {
        assert_eq!(run_program(&program, command()).status().state, TaskState::Finished);
    }
}
