//! What many sleeping tasks cost one process: memory and mappings of each, CPU time while they sleep, time to start them.
//!
//! `density [TASKS [p1|p2]]`, in release; 4000 of each form by default, or as many as this machine's limit on mappings
//! allows. One JSON object per row. With `--maps` it prints which kinds of mappings a task has instead.

mod measure;

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use holm_runtime::{Allocation, Engine, Observer, Queue, QueueOptions, Task, TaskEnd, TaskHandle, slot_ceiling};
use measure::maps::Footprint;
use measure::{Failure, Nowhere, command, load, process_cpu, row, tokio};

/// How long the sleepers' CPU time is watched.
const WATCH: Duration = Duration::from_secs(5);
/// Longer than the measurement.
const SLEEP_MS: &str = "3600000";

struct Ear(SyncSender<Option<TaskEnd>>);

impl Observer for Ear {
    fn started(&mut self) {
        // The receiver lives as long as the queue.
        let _ = self.0.send(None);
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let _ = self.0.send(Some(end));
    }
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let only = args.iter().find(|arg| *arg == "p1" || *arg == "p2");
    let number = args.iter().find_map(|arg| arg.parse().ok());
    let ceiling = slot_ceiling();
    let tasks = number.unwrap_or(4_000_u32).min(ceiling);
    let sleep = holm_test_programs::SLEEP;
    for (form, wasm) in [("p1", sleep.p1_bytes()?), ("p2", sleep.p2_bytes()?)] {
        if only.is_none_or(|only| only == form) {
            measure(form, &wasm, tasks, args.iter().any(|arg| arg == "--maps"))?;
        }
    }
    Ok(())
}

fn measure(form: &str, wasm: &[u8], tasks: u32, maps: bool) -> Result<(), Failure> {
    let tokio = tokio()?;
    let empty = Footprint::now()?;
    let engine = Engine::new(Allocation::Pooled { tasks })?;
    let max_tasks = usize::try_from(tasks)?;
    let queue = Queue::start(&engine, QueueOptions { threads: 2, max_tasks }, tokio.handle().clone())?;
    let program = load(&engine, wasm)?;
    let (sender, heard) = sync_channel(2 * max_tasks);
    let submit = || {
        let (program, observer) = (program.clone(), Box::new(Ear(sender.clone())));
        queue.submit(Task { program, command: command(&[SLEEP_MS]), output: Box::new(Nowhere), observer })
    };
    let mut handles: Vec<TaskHandle> = Vec::with_capacity(max_tasks);
    let started = |count: usize| -> Result<(), Failure> {
        (0..count).try_for_each(|_| match heard.recv()? {
            None => Ok(()),
            Some(end) => Err(format!("a sleeper ended: {:?}", end.outcome).into()),
        })
    };
    // The first one brings along what all share.
    handles.push(submit()?);
    started(1)?;
    let one = Footprint::now()?;
    let mappings_of_one = kinds()?;
    let (begin, cpu) = (Instant::now(), process_cpu());
    for _ in 1..tasks {
        handles.push(submit()?);
    }
    started(max_tasks - 1)?;
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    if maps {
        return print_kinds(&mappings_of_one, tasks - 1);
    }
    let all = Footprint::now()?.minus(one);
    let others = f64::from(tasks - 1);
    let name = |what: &str| format!("density/{form}/{tasks}-tasks/{what}");
    row(&name("rss"), all.rss / others / 1024.0, "KiB/task", None);
    row(&name("pss"), all.pss / others / 1024.0, "KiB/task", None);
    row(&name("page-tables"), all.page_tables / others / 1024.0, "KiB/task", None);
    row(&name("mappings"), all.mappings / others, "per task", None);
    row(&name("empty-pool-rss"), (one.rss - empty.rss) / f64::from(1 << 20), "MiB", None);
    row(&name("empty-pool-page-tables"), (one.page_tables - empty.page_tables) / f64::from(1 << 20), "MiB", None);
    row(&name("empty-pool-mappings"), one.mappings - empty.mappings, "mappings", None);
    row(&name("launch"), others / wall.as_secs_f64(), "tasks/s", None);
    row(&name("launch-cpu"), cpu.as_secs_f64() * 1e6 / others, "us/task", None);
    let (begin, cpu) = (Instant::now(), process_cpu());
    std::thread::sleep(WATCH);
    let share = process_cpu().saturating_sub(cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    row(&name("asleep-cpu"), share * 1e3, "ms of CPU per s, all together", None);
    let (begin, cpu) = (Instant::now(), process_cpu());
    handles.iter().for_each(|handle| handle.kill(holm_model::Reason::Killed, "measured"));
    (0..tasks).try_for_each(|_| heard.recv().map(drop))?;
    row(&name("kill-all"), begin.elapsed().as_secs_f64() * 1e3, "ms", None);
    row(&name("kill-cpu"), process_cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / f64::from(tasks), "us/task", None);
    Ok(())
}

/// How many mappings there are of each kind: permissions, what is mapped, and the size class.
fn kinds() -> Result<BTreeMap<String, i64>, Failure> {
    let mut kinds = BTreeMap::new();
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_whitespace();
        let (range, permissions) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let what = words.nth(3).unwrap_or("anonymous").split('/').next_back().unwrap_or("");
        let (from, to) = range.split_once('-').unwrap_or(("0", "0"));
        let bytes = u64::from_str_radix(to, 16)? - u64::from_str_radix(from, 16)?;
        *kinds.entry(format!("{permissions} {what} {}", size(bytes))).or_default() += 1;
    }
    Ok(kinds)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn print_kinds(before: &BTreeMap<String, i64>, tasks: u32) -> Result<(), Failure> {
    for (kind, count) in kinds()? {
        let more = count - before.get(&kind).copied().unwrap_or(0);
        let per_task = more as f64 / f64::from(tasks);
        if per_task.abs() > 0.01 {
            println!("{per_task:8.3} per task: {kind}");
        }
    }
    Ok(())
}
