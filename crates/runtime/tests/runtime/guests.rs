//! Small guests in text form.

/// A core module around a body, with preview 1 imported as `$write`, `$exit`, `$clock`, `$random`, `$poll`, `$open` and `$read`.
pub(crate) fn core(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            ;; Prints $length bytes at $at to stdout.
            (func $print (param $at i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            ;; Sleeps by the monotonic clock, relative.
            (func $sleep (param $nanos i64)
                (i32.store (i32.const 512) (i32.const 0))
                (i32.store (i32.const 520) (i32.const 0))
                (i32.store (i32.const 528) (i32.const 1))
                (i64.store (i32.const 536) (local.get $nanos))
                (i64.store (i32.const 544) (i64.const 0))
                (i32.store16 (i32.const 552) (i32.const 0))
                (drop (call $poll (i32.const 512) (i32.const 576) (i32.const 1) (i32.const 640))))
            {body})"#
    )
}

pub(crate) fn hello() -> String {
    core(
        r#"(data (i32.const 1024) "hello p1\n") (func (export "_start") (call $print (i32.const 1024) (i32.const 9)))"#,
    )
}

pub(crate) fn exit(code: i32) -> String {
    core(&format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#))
}

pub(crate) fn spin() -> String {
    core(r#"(func (export "_start") (loop $again (br $again)))"#)
}

pub(crate) fn sleep(nanos: u64) -> String {
    core(&format!(r#"(func (export "_start") (call $sleep (i64.const {nanos})))"#))
}

/// A component that prints and returns, importing WASI in the given version.
pub(crate) fn component_hello(version: &str) -> String {
    component(version, "(call $write (call $get) (i32.const 16) (i32.const 9) (i32.const 64)) (i32.const 0)")
}

/// A component around the body of its `run`, which leaves 0 for success and 1 for failure.
pub(crate) fn component(version: &str, body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:io/error@{version}" (instance $errors (export "error" (type (sub resource)))))
            (alias export $errors "error" (type $error))
            (import "wasi:io/streams@{version}" (instance $streams
                (export "output-stream" (type $stream (sub resource)))
                (alias outer 1 $error (type $error-here))
                (export "error" (type $error-named (eq $error-here)))
                (type $failure (variant (case "last-operation-failed" (own $error-named)) (case "closed")))
                (export "stream-error" (type $failure-named (eq $failure)))
                (export "[method]output-stream.blocking-write-and-flush" (func
                    (param "self" (borrow $stream)) (param "contents" (list u8))
                    (result (result (error $failure-named)))))))
            (alias export $streams "output-stream" (type $stream))
            (import "wasi:cli/stdout@{version}" (instance $stdout
                (alias outer 1 $stream (type $stream-here))
                (export "output-stream" (type $stream-named (eq $stream-here)))
                (export "get-stdout" (func (result (own $stream-named))))))
            (core module $memory (memory (export "memory") 1))
            (core instance $memory (instantiate $memory))
            (core func $get (canon lower (func $stdout "get-stdout")))
            (core func $write (canon lower
                (func $streams "[method]output-stream.blocking-write-and-flush") (memory (core memory $memory "memory"))))
            (core module $main
                (import "memory" "memory" (memory 1))
                (import "host" "get" (func $get (result i32)))
                (import "host" "write" (func $write (param i32 i32 i32 i32)))
                (data (i32.const 16) "hello p2\n")
                (func (export "run") (result i32) {body}))
            (core instance $main (instantiate $main
                (with "memory" (instance $memory))
                (with "host" (instance (export "get" (func $get)) (export "write" (func $write))))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $exported)))"#
    )
}
