//! `holm runner`: the process that runs the tasks of one framework.

use std::process::ExitCode;

use holm_model::RunnerId;

use crate::args::RunnerArgs;

/// Runs until the agent says so or nobody reclaims the runner.
pub(crate) fn run(args: RunnerArgs) -> anyhow::Result<ExitCode> {
    holm_agentd::runner::run(holm_agentd::runner::Options {
        runner: RunnerId(args.id),
        dir: args.dir,
        threads: args.threads,
        max_tasks: args.max_tasks,
        log_bytes: args.log_bytes,
        recovery: args.recovery,
        engine: args.engine.into(),
        pooled: !args.on_demand,
        revocable: args.revocable,
        cpu_seat: args.cpu_table.zip(args.cpu_seat),
        confinement: args.confine.unwrap_or_default(),
    })?;
    Ok(ExitCode::SUCCESS)
}
