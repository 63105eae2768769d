//! `holm compile-worker`: turns one module into native code and says what came of it, as one line on stdout.

use std::process::ExitCode;

use holm_agentd::{CompileLimits, WorkerOptions, compile_worker_main};

use crate::args::CompileWorkerArgs;
use crate::stdio;

/// Compiles. The verdict is the answer, so a refusal is no failure of this process.
pub(crate) fn run(args: &CompileWorkerArgs) -> ExitCode {
    let limits = CompileLimits { memory_bytes: args.memory, cpu: args.cpu, native_bytes: args.native };
    let confinement = args.confine.clone().unwrap_or_default();
    let options = WorkerOptions { engine: args.engine.into(), metering: args.metering.into(), limits, confinement };
    let verdict = compile_worker_main(&args.input, &args.output, &options);
    match stdio::print(&format!("{}\n", verdict.to_line())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
