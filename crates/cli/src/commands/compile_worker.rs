//! `holm compile-worker`: turns one module into native code and says what came of it, as one line on stdout.

use std::process::ExitCode;

use crate::args::CompileWorkerArgs;
use crate::output;

/// Compiles. The verdict is the answer, so a refusal is no failure of this process.
pub(crate) fn run(args: &CompileWorkerArgs) -> ExitCode {
    let verdict = holm_agentd::compile_worker_main(&args.input, &args.output);
    match output::print(&format!("{}\n", verdict.to_line())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
