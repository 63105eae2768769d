//! What is measured.

use std::time::{Duration, Instant};

use holm_model::Reason;
use holm_runtime::Program;

use crate::fallible::Fallible;
use crate::group::{self, process_cpu};
use crate::guests;
use crate::host::{Host, Running};

/// A measurement takes the time that shares are measured over.
type Test = fn(Duration) -> Fallible<()>;

/// All of them, by name.
pub(crate) const ALL: [(&str, Test); 7] = [
    ("shares", shares),
    ("processes", processes),
    ("cap", cap),
    ("ceiling", ceiling),
    ("wake", wake),
    ("kill", kill),
    ("metering", metering),
];

/// Four tasks of 0.125, two of 0.25 and two of 0.5 cores.
const LOADS: [(usize, u64); 3] = [(4, 125), (2, 250), (2, 500)];

fn row(what: &str, value: f64, unit: &str, ratio: f64) {
    println!("{}", serde_json::json!({ "what": what, "value": value, "unit": unit, "ratio": ratio }));
}

/// Rows for what each kind of task got, by its part of all that was got.
fn rows_of_shares(place: &str, tasks: &[Vec<f64>]) {
    let got: f64 = tasks.iter().flatten().sum();
    let weights: u64 = LOADS.iter().map(|(count, milli)| *count as u64 * milli).sum();
    let mut worst = 0.0_f64;
    for (tasks, (_, milli)) in tasks.iter().zip(LOADS) {
        let due = got * milli as f64 / weights as f64;
        let mean = tasks.iter().sum::<f64>() / tasks.len() as f64;
        row(&format!("share of a task of {} cores, {place}", milli as f64 / 1e3), mean, "cores", mean / due);
        worst = tasks.iter().map(|got| (got / due - 1.0).abs()).fold(worst, f64::max);
    }
    row(&format!("largest deviation of a task from its share, {place}"), worst * 100.0, "percent", worst);
    row(&format!("cores used, {place}"), got, "cores", got / 2.0);
}

fn shares(over: Duration) -> Fallible<()> {
    let host = Host::new(2, None)?;
    let program = host.program(&guests::busy_loop())?;
    let mut tasks: Vec<Vec<Running>> = Vec::new();
    for (count, milli) in LOADS {
        tasks.push((0..count).map(|_| host.run(&program, milli, None)).collect::<Fallible<_>>()?);
    }
    let read = || tasks.iter().map(|tasks| tasks.iter().map(|task| task.handle.cpu().as_secs_f64()).collect());
    std::thread::sleep(Duration::from_millis(200));
    let (begin, before): (_, Vec<Vec<f64>>) = (Instant::now(), read().collect());
    std::thread::sleep(over);
    let (wall, after): (_, Vec<Vec<f64>>) = (begin.elapsed().as_secs_f64(), read().collect());
    let grown = |(after, before): (&Vec<f64>, &Vec<f64>)| {
        after.iter().zip(before).map(|(after, before)| (after - before) / wall).collect()
    };
    rows_of_shares("one process", &after.iter().zip(&before).map(grown).collect::<Vec<_>>());
    Ok(())
}

fn processes(over: Duration) -> Fallible<()> {
    rows_of_shares("three processes", &group::measure(2_000, &LOADS, over)?.tasks);
    Ok(())
}

fn cap(over: Duration) -> Fallible<()> {
    for others in [0, 2] {
        let host = Host::new(2, None)?;
        let program = host.program(&guests::busy_loop())?;
        let capped = host.run(&program, 500, Some(500))?;
        let _others: Vec<Running> = (0..others).map(|_| host.run(&program, 500, None)).collect::<Fallible<_>>()?;
        std::thread::sleep(Duration::from_millis(200));
        let (begin, before) = (Instant::now(), capped.handle.cpu());
        std::thread::sleep(over / 2);
        let got = (capped.handle.cpu() - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        row(&format!("task capped at 0.5 cores beside {others} busy loops"), got, "cores", got / 0.5);
    }
    Ok(())
}

fn ceiling(over: Duration) -> Fallible<()> {
    let got = group::measure(500, &[(2, 50), (2, 100), (1, 200)], over)?;
    let all: f64 = got.processes.iter().sum();
    row("all three processes of an agent with 0.5 cpus", all, "cores", all / 0.5);
    let tasks: f64 = got.tasks.iter().flatten().sum();
    row("their tasks", tasks, "cores", tasks / 0.5);
    for (tasks, milli) in got.tasks.iter().zip([50.0, 100.0, 200.0]) {
        let mean = tasks.iter().sum::<f64>() / tasks.len() as f64;
        row(&format!("share of a task of {} cores of them", milli / 1e3), mean, "cores", mean / (0.5 * milli / 500.0));
    }
    Ok(())
}

/// The value below which so many thousandths of the values lie.
fn percentile(sorted: &[f64], milli: usize) -> f64 {
    let at = sorted.len() * milli / 1_000;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn wake(_over: Duration) -> Fallible<()> {
    let mut quiet = f64::NAN;
    for hogs in [0, 64] {
        let host = Host::new(2, None)?;
        let busy = host.program(&guests::busy_loop())?;
        let _hogs: Vec<Running> = (0..hogs).map(|_| host.run(&busy, 28, None)).collect::<Fallible<_>>()?;
        let sleeper = host.program(&guests::sleeper(500))?;
        let (_, _, written) = host.run(&sleeper, 100, None)?.wait()?;
        let (delays, _rest) = written.as_chunks::<8>();
        let mut delays: Vec<f64> = delays.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64 / 1e6).collect();
        delays.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(&delays, 500), percentile(&delays, 990));
        if hogs == 0 {
            quiet = p99;
        }
        row(&format!("wake delay p50 beside {hogs} busy loops"), p50, "ms", p50 / 5.0);
        row(&format!("wake delay p99 beside {hogs} busy loops"), p99, "ms", p99 / 5.0);
        if hogs > 0 {
            row("wake delay p99 with to without busy loops", p99 / quiet, "times", p99 / quiet);
        }
    }
    Ok(())
}

fn kill(_over: Duration) -> Fallible<()> {
    let guests = [
        ("busy loop", guests::busy_loop()),
        ("random bytes", guests::random_storm()),
        ("clock readings", guests::clock_storm()),
        ("copies of 16 MiB", guests::copy_storm()),
        ("reads of 1 MiB", guests::read_storm(1 << 20, None)),
    ];
    for (name, guest) in guests {
        let host = Host::new(2, None)?;
        let busy = host.program(&guests::busy_loop())?;
        let _hogs: Vec<Running> = (0..16).map(|_| host.run(&busy, 100, None)).collect::<Fallible<_>>()?;
        let program = host.program(&guest)?;
        let mut delays: Vec<f64> = (0..50).map(|round| kill_once(&host, &program, round)).collect::<Fallible<_>>()?;
        delays.sort_by(f64::total_cmp);
        for (part, milli) in [("p50", 500), ("max", 1_000)] {
            let delay = percentile(&delays, milli);
            row(&format!("kill delay {part}, {name} beside 16 busy loops"), delay, "ms", delay / 20.0);
        }
    }
    Ok(())
}

fn kill_once(host: &Host, program: &Program, round: u64) -> Fallible<f64> {
    let victim = host.run(program, 100, None)?;
    victim.wait_until_started()?;
    std::thread::sleep(Duration::from_micros(5_000 + 137 * round));
    let begin = Instant::now();
    victim.handle.kill(Reason::Killed, "measured");
    let (_, at, _) = victim.wait()?;
    Ok(at.saturating_duration_since(begin).as_secs_f64() * 1e3)
}

fn metering(_over: Duration) -> Fallible<()> {
    let kinds = [
        ("computing guests", guests::compute(300_000_000)),
        ("guests that read files in pieces of 64 KiB", guests::read_storm(64 << 10, Some(4_000))),
        ("guests that read files in pieces of 1 MiB", guests::read_storm(1 << 20, Some(800))),
        ("short guests", guests::compute(1_000)),
    ];
    for (name, guest) in kinds {
        let host = Host::new(2, None)?;
        let program = host.program(&guest)?;
        // The first one brings pages and threads along.
        host.run(&program, 100, None)?.wait()?;
        let count = if name == "short guests" { 20_000 } else { 8 };
        let before = process_cpu();
        let mut charged = Duration::ZERO;
        let mut running = std::collections::VecDeque::new();
        for _ in 0..count {
            if running.len() >= 8 {
                let oldest: Option<Running> = running.pop_front();
                charged += oldest.ok_or("none")?.wait()?.0.cpu;
            }
            running.push_back(host.run(&program, 100, None)?);
        }
        for task in running {
            charged += task.wait()?.0.cpu;
        }
        let process = process_cpu() - before;
        let ratio = charged.as_secs_f64() / process.as_secs_f64();
        row(&format!("charged to {name}, of the process' CPU time"), charged.as_secs_f64(), "s", ratio);
    }
    Ok(())
}
