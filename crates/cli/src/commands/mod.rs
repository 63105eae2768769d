//! One module per command.

mod agent;
mod blob;
pub(crate) mod compile_worker;
mod cp;
mod demo;
mod framework;
mod kill;
mod lists;
mod logs;
mod ls;
mod master;
mod ps;
pub(crate) mod run;
pub(crate) mod runner;
mod runs;
mod up;

use std::process::ExitCode;

use crate::args::{Command, FrameworkCommand, Global};

/// Runs a command that needs no process of its own kind.
pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Run(args) => run::run(global, args).await,
        Command::Ps(args) => done(ps::run(global, args).await),
        Command::Logs(args) => done(logs::run(global, args).await),
        Command::Kill(args) => done(kill::run(global, args).await),
        Command::Ls(args) => done(ls::run(global, args).await),
        Command::Cp(args) => done(cp::run(global, args).await),
        Command::Blob(args) => done(blob::run(global, args.command).await),
        Command::Framework(args) => match args.command {
            FrameworkCommand::Run(args) => framework::run(global, args).await,
            FrameworkCommand::Ls(args) => done(lists::frameworks(global, args).await),
            FrameworkCommand::Teardown { framework, output } => {
                done(framework::teardown(global, framework, output.output).await)
            }
        },
        Command::Agents(args) => done(lists::agents(global, args.output.output).await),
        Command::Frameworks(args) => done(lists::frameworks(global, args).await),
        Command::Roles(args) => done(lists::roles(global, args.output.output).await),
        Command::Offers(args) => done(lists::offers(global, args).await),
        Command::Master(args) => done(master::run(global, args).await),
        Command::Agent(args) => done(agent::run(global, args).await),
        Command::Runner(_) | Command::CompileWorker(_) => unreachable!("dispatched before a runtime is started"),
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
