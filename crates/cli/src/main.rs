//! The `holm` binary: daemons, a local cluster, and the commands that people and scripts use.
//!
//! Exit codes: 0 for success, 1 for failure, 2 for a wrong command line. `holm run` ends with its task's own exit code; see
//! [`commands::run()`].

#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "the agent alone takes fewer kinds of values and tokens"))]

mod args;
#[cfg(feature = "full")]
mod cluster;
mod commands;
#[cfg(feature = "full")]
mod connection;
mod logging;
#[cfg(feature = "full")]
mod output;
mod signals;
mod stdio;
mod token;
mod values;

use std::process::ExitCode;

use args::{Cli, Command};

/// What a wrong command line ends with, as everywhere.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too; printing them fails only when nobody reads.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    logging::start(cli.global.log_format, is_daemon(&cli.command));
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holm: error: {}", stdio::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Daemons log what they do; other commands say what they have to say on their own.
fn is_daemon(command: &Command) -> bool {
    match command {
        #[cfg(feature = "full")]
        Command::Master(_) => true,
        Command::Agent(_) | Command::Runner(_) => true,
        _ => false,
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        // These bring their own threads, or must not have any.
        Command::Runner(args) => commands::runner::run(args),
        Command::RunnerProbe(args) => commands::runner_probe::run(&args),
        Command::CompileWorker(args) => Ok(commands::compile_worker::run(&args)),
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            // The main thread lives as long as the process, which is what children that must not outlive it hang on to.
            let result = runtime.block_on(commands::run(&cli.global, command));
            // A thread that waits for a terminal or a pipe is not waited for.
            runtime.shutdown_background();
            result
        }
    }
}
