//! Messages in both directions, and the request to stop.

use std::time::Duration;

use holm_model::{Reason, TaskState};
use holm_runtime::Command;
use holm_runtime::limits::{MAX_INBOX_BYTES, MAX_INBOX_MESSAGES};

use crate::guests::{component_hello, hello, sleep};
use crate::harness::{Done, command, program, queue, run, run_program, submit};

/// A core module with the functions of `holm_task` imported as `$send`, `$receive` and `$stop`, and `$exit`,
/// `$clock` and `$poll` of WASI.
fn guest(body: &str) -> String {
    format!(
        r#"(module
            (import "holm_task" "message_send" (func $send (param i32 i32) (result i32)))
            (import "holm_task" "message_receive" (func $receive (param i32 i32 i32) (result i32)))
            (import "holm_task" "stop_requested" (func $stop (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 4)
            (data (i32.const 512) "hello")
            {body})"#
    )
}

/// Sends back what it receives, until a wait ends without a message.
fn echo() -> String {
    guest(
        r#"(func (export "_start") (local $length i32)
            (loop $again
                (local.set $length (call $receive (i32.const 1024) (i32.const 65536) (i32.const 60000)))
                (if (i32.ge_s (local.get $length) (i32.const 0)) (then
                    (drop (call $send (i32.const 1024) (local.get $length)))
                    (br $again)))))"#,
    )
}

/// Waits for one message and exits with what the wait returned.
fn exit_with_receive(size: u32, wait_ms: u32) -> String {
    let receive = format!("(call $receive (i32.const 1024) (i32.const {size}) (i32.const {wait_ms}))");
    guest(&format!(r#"(func (export "_start") (call $exit {receive}))"#))
}

#[test]
fn a_task_that_waits_for_messages_leaves_its_thread_to_others() {
    let queue = queue(1);
    let waiting = submit(&queue, &program(&echo()), command());
    waiting.wait_until_started();
    assert_eq!(submit(&queue, &program(&hello()), command()).wait().stdout, "hello p1\n");
    for message in ["one", "two", ""] {
        assert!(waiting.deliver(message));
    }
    assert_eq!([waiting.message(), waiting.message(), waiting.message()], ["one", "two", ""]);
    assert!(waiting.handle.stop());
    assert_eq!(waiting.wait().status().state, TaskState::Finished);
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let done = run(&exit_with_receive(65_536, 30), command());
    assert_eq!(done.status().exit_code, Some(-1));
    assert!(done.end.run >= Duration::from_millis(30));
    assert_eq!(run(&exit_with_receive(65_536, 0), command()).status().exit_code, Some(-1));
}

#[test]
fn a_waiting_task_is_killed_at_once_and_meets_its_deadline() {
    let queue = queue(1);
    let echo = program(&echo());
    let waiting = submit(&queue, &echo, command());
    waiting.wait_until_started();
    waiting.handle.kill(Reason::Killed, "enough");
    assert_eq!(waiting.wait().status().reason, Some(Reason::Killed));

    let mut command = command();
    command.limits.deadline = Some(Duration::from_millis(20));
    assert_eq!(run_program(&echo, command).status().reason, Some(Reason::Deadline));
}

#[test]
fn a_stop_ends_the_next_wait_even_if_it_came_before_it_and_only_that_one() {
    // Between the question and the wait the guest computes; then it waits twice, the second time for the message.
    let program = program(&guest(
        r#"(func (export "_start")
            (if (call $stop) (then unreachable))
            (drop (call $send (i32.const 512) (i32.const 5)))
            (loop $until (br_if $until (i32.ne (call $receive (i32.const 1024) (i32.const 0) (i32.const 0)) (i32.const -2))))
            (drop (call $receive (i32.const 1024) (i32.const 100) (i32.const 0)))
            (if (i32.ne (call $receive (i32.const 1024) (i32.const 100) (i32.const 60000)) (i32.const -1)) (then unreachable))
            (drop (call $send (i32.const 512) (i32.const 5)))
            (drop (call $receive (i32.const 1024) (i32.const 100) (i32.const 60000)))
            (if (i32.eqz (call $stop)) (then unreachable))
            (drop (call $send (i32.const 1024) (i32.const 4))))"#,
    ));
    let queue = queue(1);
    let running = submit(&queue, &program, command());
    assert_eq!(running.message(), "hello");
    // The guest polls for the message without waiting; the request is made while it does.
    assert!(running.handle.stop());
    running.handle.stop();
    assert!(running.deliver("go"));
    let first = running.message();
    assert!(running.deliver("last"));
    assert_eq!((first.as_str(), running.message().as_str()), ("hello", "last"));
    assert_eq!(running.wait().status().state, TaskState::Finished);
}

#[test]
fn the_inbox_is_bounded_in_messages_and_in_bytes() {
    // Asleep: it imports the inbox and takes nothing out.
    let program = program(&guest(
        r#"(func (export "_start")
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 3600000000000))
            (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))))"#,
    ));
    let queue = queue(1);
    let largest: std::sync::Arc<[u8]> = vec![7; 64 << 10].into();
    let running = submit(&queue, &program, command());
    for _ in 0..MAX_INBOX_MESSAGES {
        assert!(running.deliver("x"));
    }
    assert!(!running.deliver("x"));
    let other = submit(&queue, &program, command());
    assert!(!other.handle.deliver(vec![7; (64 << 10) + 1].into()));
    for _ in 0..MAX_INBOX_BYTES / largest.len() {
        assert!(other.handle.deliver(largest.clone()));
    }
    assert!(!other.handle.deliver(largest));
    other.handle.kill(Reason::Killed, "enough");
    let handle = other.handle.clone();
    other.wait();
    assert!(!handle.deliver("x".as_bytes().into()), "a task that is over takes no messages");
    running.handle.kill(Reason::Killed, "enough");
    running.wait();
}

#[test]
fn who_does_not_import_it_cannot_be_told() {
    for text in [hello(), component_hello("0.2.0")] {
        let program = program(&text);
        assert!(!program.hears_stop() && !program.hears_messages());
    }
    let queue = queue(1);
    let running = submit(&queue, &program(&sleep(3_600_000_000_000)), command());
    assert!(!running.handle.stop() && !running.deliver("x"));
    running.handle.kill(Reason::Killed, "enough");
    running.wait();
}

#[test]
fn a_message_larger_than_the_buffer_stays() {
    let program = program(&guest(
        r#"(func (export "_start")
            (if (i32.ne (call $receive (i32.const 1024) (i32.const 3) (i32.const 60000)) (i32.const -2)) (then unreachable))
            (call $exit (call $receive (i32.const 1024) (i32.const 4) (i32.const 0))))"#,
    ));
    let queue = queue(1);
    let running = submit(&queue, &program, command());
    assert!(running.deliver("four"));
    assert_eq!(running.wait().status().exit_code, Some(4));
}

#[test]
fn addresses_outside_of_the_memory_trap_and_large_messages_are_refused() {
    let traps = |call: &str| {
        let status = run(&guest(&format!(r#"(func (export "_start") (drop {call}))"#)), command()).status();
        assert_eq!(status.reason, Some(Reason::Trap), "{call}");
        assert!(status.message.contains("outside of the memory"), "{}", status.message);
    };
    traps("(call $send (i32.const 262140) (i32.const 5))");
    traps("(call $send (i32.const -1) (i32.const -1))");
    traps("(call $receive (i32.const 262144) (i32.const 1) (i32.const 60000))");
    traps("(call $receive (i32.const -1) (i32.const -1) (i32.const 60000))");
    let exits = |length| {
        let send = format!("(call $send (i32.const 0) (i32.const {length}))");
        run(&guest(&format!(r#"(func (export "_start") (call $exit {send}))"#)), command()).status().exit_code
    };
    assert_eq!((exits(65_536), exits(65_537)), (Some(0), Some(1)));

    let memoryless = r#"(module (import "holm_task" "message_send" (func $send (param i32 i32) (result i32)))
        (func (export "_start") (drop (call $send (i32.const 0) (i32.const 0)))))"#;
    assert!(run(memoryless, command()).message().contains("exports no memory"));
}

#[test]
fn a_seeded_task_receives_nothing_in_virtual_time_and_is_never_asked_to_stop() {
    // Waits a minute at a time until an hour of its clock has passed, then sends the clock.
    let program = program(&guest(
        r#"(func (export "_start")
            (loop $until
                (if (i32.ne (call $receive (i32.const 1024) (i32.const 9) (i32.const 90000)) (i32.const -1)) (then unreachable))
                (if (call $stop) (then unreachable))
                (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 512)))
                (br_if $until (i64.lt_u (i64.load (i32.const 512)) (i64.const 3600000000000))))
            (drop (call $send (i32.const 1024) (i32.const 0))))"#,
    ));
    let queue = queue(1);
    let ends: Vec<Done> = (0..3)
        .map(|_| {
            let running = submit(&queue, &program, Command { seed: Some(5), ..command() });
            assert!(!running.deliver("x") && !running.handle.stop());
            assert_eq!(running.message(), "");
            running.wait()
        })
        .collect();
    for done in &ends {
        assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
        assert_eq!(done.end.fuel, ends[0].end.fuel);
    }
}
