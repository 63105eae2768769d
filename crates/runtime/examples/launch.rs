//! How fast short tasks start and end: bare wasmtime against the run queue, both in this process with one engine.
//!
//! `launch [--quick]`, in release. One JSON object per row; "ratio" is the queue's rate divided by that of bare wasmtime
//! in the same repetition (the median of these), "cpu" rows are CPU time per task of the whole process. Bare wasmtime
//! runs without an async stack ("sync") and with one; the faster of the two is the reference.
//!
//! `launch --bare p1|p2 CORES` prints the rate and the CPU time per task (microseconds) of bare wasmtime alone, once.

mod measure;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use holm_runtime::{Allocation, Engine};
use measure::bare::{Bare, Metering};
use measure::{Bed, Failure, Took, load, median, on_cores, row};

/// Tasks on the queue at a time.
const SLOTS: usize = 64;
/// Slots of the engine's pool.
const POOL: u32 = 1_000;
/// Tasks of bare wasmtime alone.
const ALONE: usize = 8_000;
const ARGS: &[&str] = &["hello"];

struct Size {
    repetitions: usize,
    tasks: usize,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, form, cores] = &args[..]
        && role == "--bare"
    {
        return bare_alone(form, cores.parse()?);
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let size = if quick { Size { repetitions: 3, tasks: 2_000 } } else { Size { repetitions: 9, tasks: 8_000 } };
    let cores = std::thread::available_parallelism()?.get().min(2);
    let hello = holm_test_programs::HELLO;
    for (form, wasm) in [("p1", hello.p1_bytes()?), ("p2", hello.p2_bytes()?)] {
        let one = on_cores(1, || compare(form, &wasm, 1, &size))?;
        if cores > 1 {
            let two = on_cores(2, || compare(form, &wasm, 2, &size))?;
            row(&format!("launch/{form}/queue/2-over-1-cores"), two / one, "x", Some(two / one));
        }
    }
    Ok(())
}

fn bare_alone(form: &str, cores: usize) -> Result<(), Failure> {
    let hello = holm_test_programs::HELLO;
    let wasm = if form == "p1" { hello.p1_bytes()? } else { hello.p2_bytes()? };
    let took = on_cores(cores, || {
        let engine = Engine::new(Allocation::Pooled { tasks: POOL })?;
        let bare = Bare::new(engine.wasm(), &wasm)?;
        bare_sync(&engine, &bare, cores, 1_000)?;
        let sync = bare_sync(&engine, &bare, cores, ALONE)?;
        let on_stacks = bare_async(&engine, &bare, cores, ALONE)?;
        Ok(if sync.wall <= on_stacks.wall { sync } else { on_stacks })
    })?;
    println!("{} {}", took.rate(ALONE), took.cpu_micros(ALONE));
    Ok(())
}

/// Alternates the three ways; returns the queue's rate.
fn compare(form: &str, wasm: &[u8], threads: usize, size: &Size) -> Result<f64, Failure> {
    let engine = Engine::new(Allocation::Pooled { tasks: POOL })?;
    let bare = Bare::new(engine.wasm(), wasm)?;
    let bed = Bed::new(&engine, load(&engine, wasm)?, ARGS, threads)?;
    let ways: [&dyn Fn(usize) -> Result<Took, Failure>; 3] = [
        &|tasks| bare_sync(&engine, &bare, threads, tasks),
        &|tasks| bare_async(&engine, &bare, threads, tasks),
        &|tasks| bed.run(tasks, SLOTS).map(|(took, _)| took),
    ];
    let mut took: [Vec<Took>; 3] = Default::default();
    for way in ways {
        way(size.tasks / 4)?;
    }
    for _ in 0..size.repetitions {
        for (way, took) in ways.iter().zip(&mut took) {
            took.push(way(size.tasks)?);
        }
    }
    let rates = |way: usize| median(took[way].iter().map(|took| took.rate(size.tasks)).collect());
    let reference = if rates(0) >= rates(1) { 0 } else { 1 };
    for (way, name) in ["bare-sync", "bare-async", "queue"].into_iter().enumerate() {
        let against = |figure: &dyn Fn(&Took) -> f64| {
            median(took[way].iter().zip(&took[reference]).map(|(ours, bare)| figure(ours) / figure(bare)).collect())
        };
        let what = format!("launch/{form}/{threads}-cores/{name}");
        row(&what, rates(way), "tasks/s", Some(against(&|took| took.rate(size.tasks))));
        let cpu = median(took[way].iter().map(|took| took.cpu_micros(size.tasks)).collect());
        row(&format!("{what}/cpu"), cpu, "us/task", Some(against(&|took| took.cpu_micros(size.tasks))));
    }
    Ok(rates(2))
}

fn bare_sync(engine: &Engine, bare: &Bare, threads: usize, tasks: usize) -> Result<Took, Failure> {
    spread(threads, tasks, || bare.run_sync(engine.wasm(), ARGS, Metering::BOTH))
}

fn bare_async(engine: &Engine, bare: &Bare, threads: usize, tasks: usize) -> Result<Took, Failure> {
    spread(threads, tasks, || {
        let mut future = pin!(bare.run(engine.wasm(), ARGS, Metering::BOTH));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => ended,
            Poll::Pending => Err("hello has nothing to wait for".into()),
        }
    })
}

fn spread(threads: usize, tasks: usize, run: impl Fn() -> Result<(), Failure> + Sync) -> Result<Took, Failure> {
    Took::of(|| {
        std::thread::scope(|scope| {
            let share = || (0..tasks / threads).try_for_each(|_| run());
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(share)).collect();
            share()?;
            others.into_iter().try_for_each(|thread| thread.join().map_err(|_panic| "a bare run panicked")?)
        })
    })
}
