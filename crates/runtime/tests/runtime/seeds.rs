//! Seeded runs repeat exactly.

use holm_model::TaskState;
use holm_runtime::Command;

use crate::guests::core;
use crate::harness::{Done, command, program, program_of, queue, run_program, submit};

/// Computes for as long as random bytes say, sleeps until the clock reaches a mark, and prints bytes and clocks.
fn curious() -> String {
    core(
        r#"(func (export "_start") (local $left i32) (local $end i64)
            (drop (call $random (i32.const 1024) (i32.const 16)))
            (local.set $left (i32.and (i32.load (i32.const 1024)) (i32.const 0xfffff)))
            (loop $compute (br_if $compute (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 1040)))
            (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 1048)))
            (local.set $end (i64.add (i64.load (i32.const 1048)) (i64.const 5000000000)))
            (loop $until
                (call $sleep (i64.const 1000000000))
                (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 1056)))
                (br_if $until (i64.lt_u (i64.load (i32.const 1056)) (local.get $end))))
            (call $print (i32.const 1024) (i32.const 40)))"#,
    )
}

fn seeded(seed: Option<u64>) -> Command {
    Command { seed, ..command() }
}

#[test]
fn the_same_seed_gives_the_same_output_and_fuel_even_beside_others() {
    let program = program(&curious());
    let queue = queue(2);
    let runs: Vec<_> = (0..20).map(|_| submit(&queue, &program, seeded(Some(7)))).collect();
    let ends: Vec<Done> = runs.into_iter().map(|run| run.wait()).collect();
    for done in &ends {
        assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
        assert_eq!((&done.stdout, done.end.fuel), (&ends[0].stdout, ends[0].end.fuel));
    }
    let other = run_program(&program, seeded(Some(8)));
    assert_ne!((other.stdout, other.end.fuel), (ends[0].stdout.clone(), ends[0].end.fuel));
}

#[test]
fn virtual_sleep_takes_no_real_time_and_moves_the_clock() {
    // Five seconds of sleep by its own clock; the deadline is real.
    let mut command = seeded(Some(1));
    command.limits.fuel = Some(100_000_000);
    let done = run_program(&program(&curious()), command);
    assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
    assert!(done.end.run < std::time::Duration::from_secs(5));
}

#[test]
fn without_a_seed_runs_differ() {
    let guest = core(
        r#"(func (export "_start")
            (drop (call $random (i32.const 1024) (i32.const 16)))
            (call $print (i32.const 1024) (i32.const 16)))"#,
    );
    let program = program(&guest);
    assert_ne!(run_program(&program, command()).stdout, run_program(&program, command()).stdout);
}

#[test]
fn a_seeded_component_sleeps_in_virtual_time() {
    let component = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $pollable-here))
            (export "pollable" (type $pollable-named (eq $pollable-here)))
            (export "now" (func (result u64)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable-named))))))
        (core func $now (canon lower (func $clock "now")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $main
            (import "host" "now" (func $now (result i64)))
            (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "host" "block" (func $block (param i32)))
            (func (export "run") (result i32) (local $begin i64)
                (local.set $begin (call $now))
                (call $block (call $subscribe (i64.const 3600000000000)))
                (i64.lt_u (i64.sub (call $now) (local.get $begin)) (i64.const 3600000000000))))
        (core instance $main (instantiate $main (with "host" (instance
            (export "now" (func $now)) (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance $exported (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exported)))"#;
    let program = program_of(&crate::harness::ENGINE, &wat::parse_str(component).unwrap());
    let ends: Vec<Done> = (0..3).map(|_| run_program(&program, seeded(Some(3)))).collect();
    for done in &ends {
        assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
        assert_eq!(done.end.fuel, ends[0].end.fuel);
    }
}
