//! What happens at each limit.

use std::time::Duration;

use holm_model::{Reason, TaskState};
use holm_runtime::{Command, CommandLimits};

use crate::guests::{component, core, sleep, spin};
use crate::harness::{Done, ON_DEMAND, command, program_of, queue_of, run, submit};

fn limited(change: impl FnOnce(&mut CommandLimits)) -> Command {
    let mut command = command();
    change(&mut command.limits);
    command
}

#[test]
fn fuel_runs_out_at_the_budget_and_names_it() {
    let done = run(&spin(), limited(|limits| limits.fuel = Some(1_000_000)));
    let status = done.status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Fuel)));
    assert!(status.message.contains("1000000"), "{}", status.message);
    assert_eq!(status.usage.fuel, 1_000_000);
    let done = run(&component("0.2.0", "(loop $l (br $l)) unreachable"), limited(|limits| limits.fuel = Some(5_000)));
    assert_eq!(done.status().reason, Some(Reason::Fuel));
}

/// Grows page by page and traps when it is refused, as an allocator does.
fn grower() -> String {
    core(
        r#"(func (export "_start")
            (loop $again
                (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            unreachable)"#,
    )
}

#[test]
fn a_refused_growth_is_the_reason_of_the_trap_it_leads_to() {
    let done = run(&grower(), limited(|limits| limits.memory_bytes = 1 << 20));
    let status = done.status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::MemoryLimit)));
    let asked = (1 << 20) + 65_536;
    assert!(status.message.starts_with(&format!("asked for {asked} bytes of memory in all; the limit mem is 1048576")));
    assert!(status.message.contains("unreachable"));
    assert_eq!(status.usage.peak_memory, 1 << 20);
}

#[test]
fn several_memories_have_one_limit() {
    let guest = r#"(module (memory (export "memory") 1) (memory 1)
        (func (export "_start")
            (loop $again
                (br_if $again (i32.and
                    (i32.ne (memory.grow 0 (i32.const 1)) (i32.const -1))
                    (i32.ne (memory.grow 1 (i32.const 1)) (i32.const -1)))))
            unreachable))"#;
    let status = run(guest, limited(|limits| limits.memory_bytes = 1 << 20)).status();
    assert_eq!((status.reason, status.usage.peak_memory), (Some(Reason::MemoryLimit), 1 << 20), "{}", status.message);
}

#[test]
fn a_growth_that_no_memory_can_have_lets_nobody_exceed_the_limit() {
    let guest = core(
        r#"(func (export "_start")
            (loop $again
                (drop (memory.grow (i32.const 65537)))
                (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            unreachable)"#,
    );
    let done = run(&guest, limited(|limits| limits.memory_bytes = 1 << 20));
    assert_eq!(done.status().reason, Some(Reason::MemoryLimit), "{}", done.message());
    assert_eq!(done.end.peak_memory, 1 << 20);
    assert!(done.message().starts_with("asked for 1114112 bytes of memory in all; the limit mem is 1048576"));
}

#[test]
fn a_refused_growth_shows_in_the_exit_code_it_leads_to() {
    let guest = core(
        r#"(func (export "_start")
            (if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (call $exit (i32.const 2)))))"#,
    );
    let status = run(&guest, command()).status();
    assert_eq!((status.reason, status.exit_code), (Some(Reason::ExitCode), Some(2)));
    assert!(status.message.contains("asked for") && status.message.contains("16777216"), "{}", status.message);
}

#[test]
fn a_memory_that_starts_over_the_limit_never_runs() {
    let guest = r#"(module (memory (export "memory") 100) (func (export "_start")))"#;
    let status = run(guest, limited(|limits| limits.memory_bytes = 1 << 20)).status();
    assert_eq!(status.reason, Some(Reason::MemoryLimit));
    assert!(status.message.contains("6553600"), "{}", status.message);
}

#[test]
fn tables_count_as_memory() {
    let bomb = wat::parse_str(
        r#"(module (memory (export "memory") 1) (table 1 externref)
            (func (export "_start")
                (loop $again
                    (br_if $again (i32.ne (table.grow (ref.null extern) (i32.const 100000)) (i32.const -1))))
                unreachable))"#,
    )
    .unwrap();
    let program = program_of(&ON_DEMAND, &bomb);
    let done = submit(&queue_of(&ON_DEMAND, 1), &program, command()).wait();
    assert_eq!(done.status().reason, Some(Reason::MemoryLimit), "{}", done.message());
    assert!(done.end.peak_memory <= 16 << 20);
}

#[test]
fn garbage_collected_objects_count_as_memory() {
    let bomb = r#"(module (memory (export "memory") 1)
        (type $node (struct (field (ref null $node)) (field i64) (field i64)))
        (func (export "_start") (local $list (ref null $node))
            (loop $again
                (local.set $list (struct.new $node (local.get $list) (i64.const 1) (i64.const 2)))
                (br $again))))"#;
    let done = run(bomb, command());
    assert_eq!(done.status().reason, Some(Reason::MemoryLimit), "{}", done.message());
}

fn assert_past_deadline(done: &Done) {
    let status = done.status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Deadline)));
    assert!(status.message.contains("100ms"), "{}", status.message);
    assert!(status.usage.run >= Duration::from_millis(100));
}

#[test]
fn the_deadline_ends_a_spinner_and_a_sleeper() {
    let deadline = || limited(|limits| limits.deadline = Some(Duration::from_millis(100)));
    let spinner = run(&spin(), deadline());
    assert_past_deadline(&spinner);
    assert!(spinner.end.fuel > 0);
    assert_past_deadline(&run(&sleep(3_600_000_000_000), deadline()));
}

#[test]
fn output_over_the_cap_is_dropped_and_counted_and_the_guest_goes_on() {
    let guest = core(
        r#"(func (export "_start") (local $left i32)
            (local.set $left (i32.const 50))
            (loop $again
                (call $print (i32.const 1024) (i32.const 1000))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $exit (i32.const 7)))"#,
    );
    let done = run(&guest, limited(|limits| limits.output_bytes = 12_345));
    assert_eq!(done.stdout.len(), 12_345);
    assert_eq!((done.end.output_bytes, done.end.output_dropped), (50_000, 50_000 - 12_345));
    assert_eq!(done.status().exit_code, Some(7));
}

#[test]
fn a_host_call_that_asks_for_too_much_is_refused() {
    let write = core(
        r#"(func (export "_start")
            (drop (memory.grow (i32.const 200)))
            (i32.store (i32.const 0) (i32.const 0))
            (i32.store (i32.const 4) (i32.const 10000000))
            (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    let done = run(&write, command());
    // Errno 48 is "not enough memory".
    assert_eq!(done.status().exit_code, Some(48));
    assert_eq!(done.stdout, "");
}
