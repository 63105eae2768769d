//! `holm runner-probe`: confines itself as a runner is, tries what somebody would who had taken one over (with everything the
//! runner holds open), and says how each attempt went, one line each. Some attempts end the process.

use std::process::ExitCode;

use crate::args::RunnerProbeArgs;
use crate::stdio;

/// Confines this process, then tries.
pub(crate) fn run(args: &RunnerProbeArgs) -> anyhow::Result<ExitCode> {
    let open = args.confine.open()?;
    args.confine.apply(&open)?;
    for attempt in &args.attempts {
        stdio::print(&format!("{}\n", attempt.run(&open)))?;
    }
    Ok(ExitCode::SUCCESS)
}
