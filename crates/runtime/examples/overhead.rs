//! What metering costs long computations, and what the run queue adds to bare wasmtime.
//!
//! `overhead [--quick]`, in release. One JSON object per row. For each kernel (`sample-tasks/src/bin/kernel.rs`): the CPU
//! time of a run under bare wasmtime compiled with fuel, epochs, both and neither, "ratio" against neither; then the CPU
//! time of the same run on the run queue, "ratio" against bare wasmtime with the same metering (fuel and epochs, ticked).
//! All ways alternate; the figures are the least of the repetitions, since whatever else the machine does only adds to them.

mod measure;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use holm_runtime::{Allocation, Engine};
use measure::bare::{Bare, Metering};
use measure::{Bed, Failure, load, row, thread_cpu};
use wasmtime::{Config, WasmFeatures};

/// Each with the number of rounds that takes some hundred milliseconds.
const KERNELS: [(&str, u32); 7] =
    [("shifts", 20), ("fib", 60), ("sort", 30), ("hash", 20), ("matmul", 25), ("hashmap", 25), ("sieve", 30)];

const PROFILES: [(&str, Metering); 4] = [
    ("neither", Metering { fuel: false, epochs: false }),
    ("fuel", Metering { fuel: true, epochs: false }),
    ("epochs", Metering { fuel: false, epochs: true }),
    ("both", Metering::BOTH),
];

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (repetitions, divisor) = if quick { (3, 4) } else { (9, 1) };
    let wasm = holm_test_programs::KERNEL.p1_bytes()?;
    let ours = Engine::new(Allocation::Pooled { tasks: 16 })?;
    let mut bare = Vec::new();
    for (_, metering) in PROFILES {
        let engine = wasmtime::Engine::new(&settings(metering))?;
        bare.push((Bare::new(&engine, &wasm)?, engine, metering));
    }
    let same = Bare::new(ours.wasm(), &wasm)?;
    let program = load(&ours, &wasm)?;
    for (kernel, rounds) in KERNELS {
        let rounds = (rounds / divisor).max(1).to_string();
        let args = ["kernel", kernel, &rounds];
        let bed = Bed::new(&ours, program.clone(), &args[1..], 1)?;
        let mut alone: [Vec<f64>; 4] = Default::default();
        let (mut reference, mut queue) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            for ((bare, engine, metering), took) in bare.iter().zip(&mut alone) {
                took.push(cpu_of(|| block_on(bare.run(engine, &args[1..], *metering)))?);
            }
            reference.push(cpu_of(|| block_on(same.run(ours.wasm(), &args[1..], Metering::BOTH)))?);
            queue.push(bed.run(1, 1)?.1.as_secs_f64() * 1e3);
        }
        for ((profile, _), took) in PROFILES.iter().zip(&alone) {
            let ratio = least(took) / least(&alone[0]);
            row(&format!("overhead/{kernel}/bare/{profile}"), least(took), "ms CPU", Some(ratio));
        }
        let ratio = least(&queue) / least(&reference);
        row(&format!("overhead/{kernel}/queue-over-bare/both"), least(&queue), "ms CPU", Some(ratio));
    }
    Ok(())
}

fn cpu_of(work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let before = thread_cpu();
    work()?;
    Ok(thread_cpu().saturating_sub(before).as_secs_f64() * 1e3)
}

/// Kernels wait for nothing.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(ended) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return ended;
        }
    }
}

/// The engine's settings (`holm_runtime::Engine`) with another metering.
fn settings(metering: Metering) -> Config {
    let mut config = Config::new();
    let off = WasmFeatures::THREADS
        .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
        .union(WasmFeatures::MEMORY64)
        .union(WasmFeatures::STACK_SWITCHING);
    config
        .consume_fuel(metering.fuel)
        .epoch_interruption(metering.epochs)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_features(off, false)
        .native_unwind_info(false)
        .memory_guaranteed_dense_image_size(64 << 20);
    config
}
