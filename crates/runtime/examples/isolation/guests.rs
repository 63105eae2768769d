//! The guests, as text.

fn around(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
            (memory (export "memory") 1024)
            (data (i32.const 64) "data")
            (func $now (result i64)
                (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))
                (i64.load (i32.const 16)))
            (func $sleep (param $nanos i64)
                (i32.store (i32.const 528) (i32.const 1))
                (i64.store (i32.const 536) (local.get $nanos))
                (drop (call $poll (i32.const 512) (i32.const 576) (i32.const 1) (i32.const 640))))
            {body})"#
    )
}

/// Computes for ever.
pub(crate) fn busy_loop() -> String {
    around(r#"(func (export "_start") (loop $again (br $again)))"#)
}

/// Computes for a while: so many rounds of a loop.
pub(crate) fn compute(rounds: u64) -> String {
    around(&format!(
        r#"(func (export "_start") (local $left i64)
            (local.set $left (i64.const {rounds}))
            (loop $again (br_if $again (i64.ne (local.tee $left (i64.sub (local.get $left) (i64.const 1))) (i64.const 0)))))"#
    ))
}

/// Asks for random bytes for ever.
pub(crate) fn random_storm() -> String {
    around(
        r#"(func (export "_start") (loop $again (drop (call $random (i32.const 65536) (i32.const 65536))) (br $again)))"#,
    )
}

/// Reads the clock for ever.
pub(crate) fn clock_storm() -> String {
    around(r#"(func (export "_start") (loop $again (drop (call $now)) (br $again)))"#)
}

/// Copies and fills 16 MiB for ever.
pub(crate) fn copy_storm() -> String {
    around(
        r#"(func (export "_start") (loop $again
            (memory.copy (i32.const 33554432) (i32.const 1048576) (i32.const 16777216))
            (memory.fill (i32.const 33554432) (i32.const 7) (i32.const 16777216))
            (br $again)))"#,
    )
}

/// Reads a file in pieces of `bytes`, so many times, or for ever.
pub(crate) fn read_storm(bytes: u32, times: Option<u64>) -> String {
    let times = times.unwrap_or(u64::MAX);
    around(&format!(
        r#"(func (export "_start") (local $left i64)
            (local.set $left (i64.const {times}))
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i64.const 2)
                    (i64.const 2) (i32.const 0) (i32.const 32)) (then unreachable))
            (i32.store (i32.const 40) (i32.const 65536))
            (i32.store (i32.const 44) (i32.const {bytes}))
            (loop $again
                (if (call $pread (i32.load (i32.const 32)) (i32.const 40) (i32.const 1) (i64.const 0) (i32.const 48))
                    (then unreachable))
                (br_if $again
                    (i64.ne (local.tee $left (i64.sub (local.get $left) (i64.const 1))) (i64.const 0)))))"#
    ))
}

/// Sleeps 10 ms and works for 1 ms, `times` times, and then writes by how many nanoseconds each sleep was too long.
pub(crate) fn sleeper(times: u32) -> String {
    let bytes = times * 8;
    around(&format!(
        r#"(func (export "_start") (local $at i32) (local $begin i64)
            (loop $again
                (local.set $begin (call $now))
                (call $sleep (i64.const 10000000))
                (i64.store (i32.add (local.get $at) (i32.const 65536))
                    (i64.sub (call $now) (i64.add (local.get $begin) (i64.const 10000000))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (local.set $begin (i64.const 1000000))
                (loop $work
                    (br_if $work
                        (i64.ne (local.tee $begin (i64.sub (local.get $begin) (i64.const 1))) (i64.const 0))))
                (br_if $again (i32.lt_u (local.get $at) (i32.const {bytes}))))
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const {bytes}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#
    ))
}
