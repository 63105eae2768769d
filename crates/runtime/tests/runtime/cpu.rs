//! Shares of CPU time, ceilings, what is charged, and guests that try to keep the CPU to themselves.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use holm_model::{Metering, Reason, TaskState};
use holm_runtime::{
    Command, CpuShare, Observer, OutputSink, Queue, QueueOptions, Seat, Stream, Task, TaskEnd, io_runtime,
    prepare_cpu_table,
};

use crate::guests::{core, hello, spin};
use crate::harness::{ENGINE, Run, TOKIO, command, preopen, program, program_of, queue, run, submit};

fn shared(milli: u64, limit_milli: Option<u64>, group: u64) -> Command {
    let mut command = command();
    command.limits.cpu = CpuShare { milli, limit_milli, group };
    command
}

/// Waits until a task has used so much CPU time.
fn wait_for_cpu(run: &Run, cpu: Duration) {
    while run.handle.cpu() < cpu {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn busy_loops_get_cpu_time_by_weight() {
    let queue = queue(1);
    let spin = program(&spin());
    let small = submit(&queue, &spin, shared(100, None, 1));
    let large = submit(&queue, &spin, shared(300, None, 2));
    wait_for_cpu(&small, Duration::from_millis(100));
    let (small, large) = (small.handle.cpu().as_secs_f64(), large.handle.cpu().as_secs_f64());
    assert!((2.6..3.4).contains(&(large / small)), "{large} to {small}");
}

#[test]
fn a_ceiling_holds_although_the_cpu_is_idle() {
    let queue = queue(2);
    let begin = Instant::now();
    let capped = submit(&queue, &program(&spin()), shared(50, Some(50), 1));
    wait_for_cpu(&capped, Duration::from_millis(25));
    let got = capped.handle.cpu().as_secs_f64() / begin.elapsed().as_secs_f64();
    // A bucket and a slice more than 0.05 at most.
    assert!(got < 0.06, "{got} cores");
}

#[test]
fn all_queues_at_a_table_keep_to_its_ceiling() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("cpus");
    prepare_cpu_table(&table, 100).unwrap();
    let seat = Seat::take(&table, 0).unwrap();
    let options = QueueOptions { threads: 1, max_tasks: 16 };
    let queue = Queue::start_seated(&ENGINE, options, TOKIO.handle().clone(), Some(seat)).unwrap();
    let spinner = submit(&queue, &program(&spin()), shared(100, None, 1));
    spinner.wait_until_started();
    // The process' CPU time counts, and the other tests of this process use more than there is. What is sure remains.
    wait_for_cpu(&spinner, Duration::from_millis(3));
    spinner.handle.kill(Reason::Killed, "enough");
    assert_eq!(spinner.wait().status().state, TaskState::Killed);
}

/// Guests that stay in host calls or in instructions that take long.
fn storms() -> [(&'static str, String); 5] {
    [
        ("random bytes", r#"(drop (call $random (i32.const 65536) (i32.const 1000000)))"#),
        ("clock readings", "(drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))"),
        ("copies", "(memory.copy (i32.const 2097152) (i32.const 65536) (i32.const 2000000))"),
        ("fills", "(memory.fill (i32.const 65536) (i32.const 7) (i32.const 8000000))"),
        (
            "reads",
            r#"(i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 4000000))
            (drop (call $read (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 16)))
            (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i64.const 2)
                (i64.const 2) (i32.const 0) (i32.const 32)))"#,
        ),
    ]
    .map(|(name, body)| {
        let body = format!(
            r#"(data (i32.const 64) "data") (func (export "_start")
                (drop (memory.grow (i32.const 150))) (loop $again {body} (br $again)))"#
        );
        (name, core(&body))
    })
}

#[test]
fn neighbours_of_a_storm_of_host_calls_go_on_and_a_kill_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), vec![7; 4_000_000]).unwrap();
    let hello = program(&hello());
    for (name, storm) in storms() {
        let queue = queue(1);
        let command = Command { preopens: vec![preopen(dir.path(), "/", false)], ..command() };
        let storm = submit(&queue, &program(&storm), command);
        storm.wait_until_started();
        for _ in 0..10 {
            assert_eq!(submit(&queue, &hello, shared(100, None, 7)).wait().stdout, "hello p1\n", "{name}");
        }
        assert!(!storm.handle.is_over(), "{name} ended by itself");
        storm.handle.kill(Reason::Killed, "enough");
        assert_eq!(storm.wait().status().state, TaskState::Killed, "{name}");
    }
}

#[test]
fn more_random_bytes_than_a_piece_come_in_one_call() {
    let guest = core(
        r#"(func (export "_start")
            (drop (memory.grow (i32.const 20)))
            (if (call $random (i32.const 65536) (i32.const 1000000)) (then unreachable))
            (if (i64.eqz (i64.load (i32.const 1065528))) (then unreachable))
            (call $exit (call $random (i32.const 65536) (i32.const 4000000))))"#,
    );
    // 21 says that the buffer is outside of the memory.
    assert_eq!(run(&guest, command()).status().exit_code, Some(21));
}

/// A sink in which a guest's write does not return until it is told to.
struct Stuck(Receiver<()>);

impl OutputSink for Stuck {
    fn write(&mut self, _: Stream, _: &[u8]) {
        // The sender is gone when the test has failed.
        let _ = self.0.recv();
    }
}

struct Nobody;

impl Observer for Nobody {
    fn ended(self: Box<Self>, _: TaskEnd) {}
}

#[test]
fn a_worker_that_is_stuck_in_a_host_call_is_replaced() {
    let queue = queue(1);
    let hello = program(&hello());
    let (release, held) = sync_channel(1);
    let stuck =
        Task { program: hello.clone(), command: command(), output: Box::new(Stuck(held)), observer: Box::new(Nobody) };
    let stuck = queue.submit(stuck).unwrap();
    // There is one thread, and it does not come back.
    for _ in 0..3 {
        assert_eq!(submit(&queue, &hello, command()).wait().stdout, "hello p1\n");
    }
    assert!(!stuck.is_over());
    release.send(()).unwrap();
    while !stuck.is_over() {
        std::thread::yield_now();
    }
    assert_eq!(submit(&queue, &hello, command()).wait().stdout, "hello p1\n");
}

/// Reads a file of 4 MB as often as the program says.
fn reader(times: u32) -> String {
    core(&format!(
        r#"(data (i32.const 64) "data") (func (export "_start") (local $left i32)
            (drop (memory.grow (i32.const 150)))
            (local.set $left (i32.const {times}))
            (loop $again
                (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i64.const 2)
                    (i64.const 2) (i32.const 0) (i32.const 32)) (then unreachable))
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) (i32.const 4000000))
                (if (call $read (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#
    ))
}

#[test]
fn blocking_file_calls_are_charged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), vec![7; 4_000_000]).unwrap();
    let reader = program(&reader(100));
    let io = io_runtime(4).unwrap();
    let options = QueueOptions { threads: 1, max_tasks: 16 };
    let charged = |tokio: &tokio::runtime::Handle| {
        let queue = Queue::start(&ENGINE, options, tokio.clone()).unwrap();
        let command = Command { preopens: vec![preopen(dir.path(), "/", false)], ..command() };
        submit(&queue, &reader, command).wait().end.cpu
    };
    // The same work on threads that are charged and on threads that are not.
    let (with, without) = (charged(io.handle()), charged(TOKIO.handle()));
    assert!(with > without.mul_f64(1.1), "{with:?} and {without:?}");
}

#[test]
fn without_fuel_a_task_is_interrupted_all_the_same() {
    let engine = ENGINE.metered(Metering::Epochs).unwrap();
    let wasm = wat::parse_str(spin()).unwrap();
    let (counted, uncounted) = (program_of(&ENGINE, &wasm), program_of(&engine, &wasm));
    let queue = queue(1);
    // Both kinds on one queue.
    let spinners = [submit(&queue, &uncounted, shared(100, None, 1)), submit(&queue, &counted, shared(100, None, 2))];
    spinners.iter().for_each(|spinner| wait_for_cpu(spinner, Duration::from_millis(10)));
    spinners.iter().for_each(|spinner| spinner.handle.kill(Reason::Killed, "enough"));
    let [uncounted, counted] = spinners.map(Run::wait);
    assert_eq!((uncounted.status().state, uncounted.end.fuel), (TaskState::Killed, 0));
    assert!(counted.end.fuel > 0);
    let hello = program_of(&engine, &wat::parse_str(hello()).unwrap());
    let done = submit(&queue, &hello, command()).wait();
    assert_eq!((done.stdout.as_str(), done.end.fuel), ("hello p1\n", 0));
}

/// Computes and reads the clock for a while.
fn worker() -> String {
    core(
        r#"(func (export "_start") (local $left i32)
            (local.set $left (i32.const 3000000))
            (loop $again
                (if (i32.eqz (i32.rem_u (local.get $left) (i32.const 10000)))
                    (then (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    )
}

#[test]
fn fuel_repeats_exactly_whoever_interrupts() {
    let worker = program(&worker());
    let seeded = |fuel| {
        let mut command = command();
        command.seed = Some(7);
        command.limits.fuel = fuel;
        command
    };
    let alone = submit(&queue(1), &worker, seeded(None)).wait();
    assert_eq!(alone.status().state, TaskState::Finished);
    let queue = queue(2);
    let spin = program(&spin());
    let _spinners: Vec<Run> = (0..8).map(|_| submit(&queue, &spin, command())).collect();
    for _ in 0..3 {
        let beside = submit(&queue, &worker, seeded(None)).wait();
        assert_eq!(beside.end.fuel, alone.end.fuel);
        // The exact budget is enough, and one unit less is not and is used to the last.
        let enough = submit(&queue, &worker, seeded(Some(alone.end.fuel + 1))).wait();
        assert_eq!((enough.status().state, enough.end.fuel), (TaskState::Finished, alone.end.fuel));
        let half = submit(&queue, &worker, seeded(Some(alone.end.fuel / 2))).wait();
        assert_eq!((half.status().reason, half.end.fuel), (Some(Reason::Fuel), alone.end.fuel / 2));
    }
}
