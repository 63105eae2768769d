//! Guests that attack: each ends, or is ended, as stated, its neighbours go on, and beyond the guest's own memory the process
//! never holds more than [`limits::HOST_BYTES_PER_TASK`]. Each runs in a process of its own, so that what the process
//! holds is its doing.

use std::process::Command as Process;
use std::sync::LazyLock;

use holm_model::{Reason, TaskState};
use holm_runtime::{Disk, DiskLimits, HostDir, Preopen, limits};
use holm_test_programs as samples;

use crate::guests::hello;
use crate::harness::{Done, ENGINE, Run, command, program, program_of, queue, submit};

const ATTACK: &str = "HOLM_TEST_ATTACK";
/// Names the form of a sample: a core module or a component.
const FORM: &str = "HOLM_TEST_FORM";
/// The memory of every attacker, in bytes; room for the lists that some of them make.
const MEM: u64 = 96 << 20;
/// The disk of those that write, in bytes.
const DISK: u64 = 8 << 20;

/// Attackers that end only when they are ended.
const ENDLESS: [&str; 3] = ["slow-loris", "host-call-storm", "spin"];

fn wasm(name: &str, form: &str) -> Vec<u8> {
    let text = match name {
        "table-bomb" => samples::TABLE_BOMB_WAT,
        "recursion" => samples::RECURSION_WAT,
        "poll-bomb" => samples::POLL_BOMB_WAT,
        "poll-list-bomb" => samples::POLL_LIST_BOMB_WAT,
        "pollable-bomb" => samples::POLLABLE_BOMB_WAT,
        name => {
            let sample = samples::find(name).unwrap();
            return if form == "p2" { sample.p2_bytes() } else { sample.p1_bytes() }.unwrap();
        }
    };
    wat::parse_str(text).unwrap()
}

/// A number from the process's own status, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// Runs neighbours to their end while the attacker has the same thread.
fn neighbours(queue: &holm_runtime::Queue) {
    static HELLO: LazyLock<holm_runtime::Program> = LazyLock::new(|| program(&hello()));
    let runs: Vec<Run> = (0..20).map(|_| submit(queue, &HELLO, command())).collect();
    for done in runs.into_iter().map(Run::wait) {
        assert_eq!((done.status().state, &*done.stdout), (TaskState::Finished, "hello p1\n"), "{}", done.message());
    }
}

/// Not a test by itself: the process that [`attack`] starts.
#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let name = std::env::var(ATTACK).unwrap();
    let attacker = program_of(&ENGINE, &wasm(&name, &std::env::var(FORM).unwrap()));
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::open(root.path(), DiskLimits::of_bytes(DISK)).unwrap();
    let own = Preopen { host: HostDir::Own(root.path().into(), disk), guest: "/".into(), writable: true };
    let mut command = command();
    command.limits.memory_bytes = MEM;
    command.preopens = vec![own];
    let queue = queue(1);
    neighbours(&queue);
    // What compilation took is no concern: the peak begins anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let attack = submit(&queue, &attacker, command);
    if ENDLESS.contains(&&*name) {
        attack.wait_until_started();
        neighbours(&queue);
        attack.handle.kill(Reason::Killed, "enough");
    }
    let done = attack.wait();
    neighbours(&queue);
    // The guest's own memory is what it was given.
    let growth = memory("VmHWM:").saturating_sub(before + done.end.peak_memory);
    let status = done.status();
    let reason = status.reason.map_or("-", Reason::as_str);
    let said = format!("{}{}", done.stdout, done.stderr).replace('\n', "; ");
    println!("\nATTACK|{growth}|{}|{reason}|{:?}|{}|{said}", status.state, status.exit_code, message(&done));
}

fn message(done: &Done) -> String {
    done.message().lines().next().unwrap_or_default().to_owned()
}

/// How an attack ended.
struct Ended {
    state: String,
    reason: String,
    exit_code: String,
    message: String,
    said: String,
}

fn attack_as(name: &str, form: &str) -> Ended {
    let child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "attacks::child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(ATTACK, name)
        .env(FORM, form)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("ATTACK|"));
    let line = line.unwrap_or_else(|| panic!("{name} {form}: {text}\n{}", String::from_utf8_lossy(&child.stderr)));
    let mut fields = line.splitn(6, '|').map(str::to_owned);
    let mut field = || fields.next().unwrap();
    let growth: u64 = field().parse().unwrap();
    let most = limits::HOST_BYTES_PER_TASK;
    assert!(growth <= most, "{name} {form} made the process hold {growth} bytes; {most} is allowed: {line}");
    Ended { state: field(), reason: field(), exit_code: field(), message: field(), said: field() }
}

fn attack(name: &str) -> Ended {
    attack_as(name, "p1")
}

#[test]
fn table_bomb() {
    // A table of the pool ends before the memory does; then it is the module's own affair.
    let ended = attack("table-bomb");
    assert_eq!(ended.state, "FAILED");
    assert!(matches!(&*ended.reason, "TRAP" | "MEMORY_LIMIT"), "{}", ended.message);
}

#[test]
fn recursion() {
    let ended = attack("recursion");
    assert_eq!((&*ended.state, &*ended.reason), ("FAILED", "TRAP"));
    assert!(ended.message.contains("stack"), "{}", ended.message);
}

#[test]
fn poll_bomb() {
    let ended = attack("poll-bomb");
    // Errno 48 is "not enough memory": the list is more than a host call may bring.
    assert_eq!((&*ended.reason, &*ended.exit_code), ("EXIT_CODE", "Some(48)"), "{}", ended.message);
}

#[test]
fn poll_list_bomb() {
    let ended = attack("poll-list-bomb");
    assert!(ended.state == "FINISHED" || ended.reason == "TRAP", "{} {}", ended.state, ended.message);
}

#[test]
fn pollable_bomb() {
    let ended = attack("pollable-bomb");
    assert_eq!((&*ended.state, &*ended.reason), ("FAILED", "TRAP"));
    assert!(ended.message.contains("table"), "{}", ended.message);
}

#[test]
fn handle_bomb() {
    for form in ["p1", "p2"] {
        let ended = attack_as("handle-bomb", form);
        assert_eq!(ended.state, "FINISHED", "{}", ended.message);
        let limit = limits::MAX_OPEN_FILES;
        assert!(ended.said.starts_with(&format!("{limit} handles and then ")), "{}", ended.said);
    }
}

#[test]
fn dir_bomb() {
    for form in ["p1", "p2"] {
        let ended = attack_as("dir-bomb", form);
        assert_eq!(ended.state, "FINISHED", "{}", ended.message);
        let names = DiskLimits::of_bytes(DISK).entries;
        assert!(ended.said.contains(&format!("{names} names")), "{}", ended.said);
    }
}

#[test]
fn string_bomb() {
    for form in ["p1", "p2"] {
        attack_as("string-bomb", form);
    }
}

#[test]
fn slow_loris() {
    for form in ["p1", "p2"] {
        let ended = attack_as("slow-loris", form);
        assert_eq!((&*ended.state, &*ended.reason), ("KILLED", "KILLED"), "{}", ended.message);
    }
}

#[test]
fn host_call_storm() {
    for form in ["p1", "p2"] {
        let ended = attack_as("host-call-storm", form);
        assert_eq!((&*ended.state, &*ended.reason), ("KILLED", "KILLED"), "{}", ended.message);
    }
}

#[test]
fn spin() {
    let ended = attack("spin");
    assert_eq!((&*ended.state, &*ended.reason), ("KILLED", "KILLED"));
}
