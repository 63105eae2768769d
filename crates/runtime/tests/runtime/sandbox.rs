//! What a guest can reach: what it was granted, and nothing else.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use holm_model::{Reason, TaskState};
use holm_runtime::{Command, HostDir, Preopen};

use crate::guests::core;
use crate::harness::{command, preopen, run};

const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
const CREATE: u32 = 1;

/// Opens a path below the first preopen and exits with the errno, or prints what it reads of it, or writes to it.
fn guest(path: &str, create: u32, rights: u64) -> String {
    let length = path.len();
    core(&format!(
        r#"(data (i32.const 1024) "{path}")
        (data (i32.const 2048) "written\n")
        (func (export "_start") (local $errno i32) (local $fd i32)
            (local.set $errno (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {length})
                (i32.const {create}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16)))
            (if (local.get $errno) (then (call $exit (local.get $errno))))
            (local.set $fd (i32.load (i32.const 16)))
            (i32.store (i32.const 20) (i32.const 2048))
            (i32.store (i32.const 24) (i32.const 8))
            (if (i32.const {create}) (then
                (call $exit (call $write (local.get $fd) (i32.const 20) (i32.const 1) (i32.const 32)))))
            (i32.store (i32.const 20) (i32.const 4096))
            (i32.store (i32.const 24) (i32.const 1000))
            (drop (call $read (local.get $fd) (i32.const 20) (i32.const 1) (i32.const 32)))
            (call $print (i32.const 4096) (i32.load (i32.const 32))))"#,
    ))
}

fn with(preopens: Vec<Preopen>) -> Command {
    Command { preopens, ..command() }
}

#[test]
fn nothing_is_granted_by_default() {
    for path in ["/", ".", "/etc/passwd", "etc/passwd"] {
        let status = run(&guest(path, 0, READ), command()).status();
        // Errno 8 is "bad file descriptor": there is no directory to start from.
        assert_eq!(status.exit_code, Some(8), "{path}");
    }
}

#[test]
fn a_read_only_directory_can_be_read_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("input"), "content\n").unwrap();
    let granted = || with(vec![preopen(directory.path(), "data", false)]);
    assert_eq!(run(&guest("input", 0, READ), granted()).stdout, "content\n");
    for (path, create) in [("new", CREATE), ("input", CREATE), ("input", 0)] {
        let status = run(&guest(path, create, READ | WRITE), granted()).status();
        assert_eq!(status.state, TaskState::Failed, "{path} {create}");
    }
    assert_eq!(std::fs::read_to_string(directory.path().join("input")).unwrap(), "content\n");
    assert!(!directory.path().join("new").exists());
}

#[test]
fn a_writable_directory_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let done = run(&guest("new", CREATE, READ | WRITE), with(vec![preopen(directory.path(), "data", true)]));
    assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
    assert_eq!(std::fs::read_to_string(directory.path().join("new")).unwrap(), "written\n");
}

#[test]
fn an_opened_directory_is_granted_as_opened() {
    let parent = tempfile::tempdir().unwrap();
    let (path, moved) = (parent.path().join("a"), parent.path().join("b"));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("input"), "right\n").unwrap();
    let opened = OwnedFd::from(std::fs::File::open(&path).unwrap());
    // Somebody puts another directory in its place after it was checked.
    std::fs::rename(&path, &moved).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("input"), "wrong\n").unwrap();
    let host = HostDir::Opened(Arc::new(opened));
    let done = run(&guest("input", 0, READ), with(vec![Preopen { host, guest: "data".into(), writable: false }]));
    assert_eq!(done.stdout, "right\n");
}

#[test]
fn there_is_no_way_out_of_a_directory() {
    let parent = tempfile::tempdir().unwrap();
    let inside = parent.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(parent.path().join("secret"), "secret\n").unwrap();
    symlink("../secret", inside.join("relative")).unwrap();
    symlink(parent.path().join("secret"), inside.join("absolute")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    let absolute = parent.path().join("secret");
    for path in
        ["../secret", "x/../../secret", "relative", "absolute", "up/secret", "/etc/passwd", absolute.to_str().unwrap()]
    {
        for writable in [false, true] {
            let done = run(&guest(path, 0, READ), with(vec![preopen(&inside, "data", writable)]));
            assert_eq!((done.status().state, done.stdout.as_str()), (TaskState::Failed, ""), "{path}");
        }
        let done = run(&guest(path, CREATE, READ | WRITE), with(vec![preopen(&inside, "data", true)]));
        assert_eq!(done.status().state, TaskState::Failed, "{path}");
    }
    assert_eq!(std::fs::read_to_string(parent.path().join("secret")).unwrap(), "secret\n");
}

#[test]
fn a_directory_that_cannot_be_opened_is_named() {
    let status = run(&guest("x", 0, READ), with(vec![preopen("/nowhere/at/all".as_ref(), "data", false)])).status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Sandbox)));
    assert!(status.message.contains("\"data\""), "{}", status.message);
}

/// Asks for a socket of each kind and fails if it gets one.
const SOCKETS: &str = r#"(component
    (import "wasi:sockets/network@0.2.0" (instance $network
        (type $code (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
        (export "error-code" (type (eq $code)))
        (type $family (enum "ipv4" "ipv6"))
        (export "ip-address-family" (type (eq $family)))))
    (alias export $network "error-code" (type $code))
    (alias export $network "ip-address-family" (type $family))
    (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
    (alias export $tcp "tcp-socket" (type $tcp-socket))
    (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
    (alias export $udp "udp-socket" (type $udp-socket))
    (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
        (alias outer 1 $code (type $code-here)) (export "error-code" (type $code-named (eq $code-here)))
        (alias outer 1 $family (type $family-here)) (export "ip-address-family" (type $family-named (eq $family-here)))
        (alias outer 1 $tcp-socket (type $socket-here)) (export "tcp-socket" (type $socket (eq $socket-here)))
        (export "create-tcp-socket" (func (param "address-family" $family-named)
            (result (result (own $socket) (error $code-named)))))))
    (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
        (alias outer 1 $code (type $code-here)) (export "error-code" (type $code-named (eq $code-here)))
        (alias outer 1 $family (type $family-here)) (export "ip-address-family" (type $family-named (eq $family-here)))
        (alias outer 1 $udp-socket (type $socket-here)) (export "udp-socket" (type $socket (eq $socket-here)))
        (export "create-udp-socket" (func (param "address-family" $family-named)
            (result (result (own $socket) (error $code-named)))))))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $tcp (canon lower (func $create-tcp "create-tcp-socket") (memory (core memory $memory "memory"))))
    (core func $udp (canon lower (func $create-udp "create-udp-socket") (memory (core memory $memory "memory"))))
    (core module $main
        (import "memory" "memory" (memory 1))
        (import "host" "tcp" (func $tcp (param i32 i32)))
        (import "host" "udp" (func $udp (param i32 i32)))
        (func (export "run") (result i32)
            (call $tcp (i32.const 0) (i32.const 16))
            (call $udp (i32.const 0) (i32.const 32))
            (i32.and
                (i32.and (i32.load8_u (i32.const 16)) (i32.load8_u (i32.const 32)))
                (i32.const 1))
            (i32.eqz)))
    (core instance $main (instantiate $main
        (with "memory" (instance $memory))
        (with "host" (instance (export "tcp" (func $tcp)) (export "udp" (func $udp))))))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

#[test]
fn no_socket_is_granted() {
    let done = run(SOCKETS, command());
    assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
}
