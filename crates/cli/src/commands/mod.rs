//! One module per command.

mod agent;
#[cfg(feature = "full")]
mod blob;
pub(crate) mod compile_worker;
#[cfg(feature = "full")]
mod cp;
#[cfg(feature = "full")]
mod demands;
#[cfg(feature = "full")]
mod demo;
#[cfg(feature = "full")]
mod explain;
#[cfg(feature = "full")]
mod framework;
#[cfg(feature = "full")]
mod kill;
#[cfg(feature = "full")]
mod lists;
#[cfg(feature = "full")]
mod logs;
#[cfg(feature = "full")]
mod ls;
#[cfg(feature = "full")]
mod master;
#[cfg(feature = "full")]
mod policy;
#[cfg(feature = "full")]
mod preemptions;
#[cfg(feature = "full")]
mod ps;
#[cfg(feature = "full")]
mod reserve;
#[cfg(feature = "full")]
mod roles;
#[cfg(feature = "full")]
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod runner_probe;
#[cfg(feature = "full")]
mod runs;
#[cfg(feature = "full")]
mod up;

use std::process::ExitCode;

use crate::args::{Command, Global};
#[cfg(feature = "full")]
use crate::args::{FrameworkCommand, PolicyCommand};

/// Runs a command that needs no process of its own kind.
pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        #[cfg(feature = "full")]
        Command::Up(args) => up::run(args).await,
        #[cfg(feature = "full")]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(feature = "full")]
        Command::Run(args) => run::run(global, args).await,
        #[cfg(feature = "full")]
        Command::Group(args) => run::group::run(global, args).await,
        #[cfg(feature = "full")]
        Command::Ps(args) => done(ps::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Logs(args) => done(logs::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Kill(args) => done(kill::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Ls(args) => done(ls::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Cp(args) => done(cp::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Blob(args) => done(blob::run(global, args.command).await),
        #[cfg(feature = "full")]
        Command::Framework(args) => match args.command {
            FrameworkCommand::Run(args) => framework::run(global, args).await,
            FrameworkCommand::Ls(args) => done(lists::frameworks(global, args).await),
            FrameworkCommand::Teardown { framework, output } => {
                done(framework::teardown(global, framework, output.output).await)
            }
        },
        #[cfg(feature = "full")]
        Command::Agents(args) => done(lists::agents(global, args.output.output).await),
        #[cfg(feature = "full")]
        Command::Frameworks(args) => done(lists::frameworks(global, args).await),
        #[cfg(feature = "full")]
        Command::Roles(args) => done(roles::list(global, args).await),
        #[cfg(feature = "full")]
        Command::Explain(args) => done(explain::run(global, args).await),
        #[cfg(feature = "full")]
        Command::Quota(args) => done(roles::quota(global, args).await),
        #[cfg(feature = "full")]
        Command::Weight(args) => done(roles::weight(global, args).await),
        #[cfg(feature = "full")]
        Command::Reserve(args) => done(reserve::reserve(global, args.change).await),
        #[cfg(feature = "full")]
        Command::Unreserve(args) => done(reserve::unreserve(global, args.change).await),
        #[cfg(feature = "full")]
        Command::Volume(args) => done(reserve::volume(global, args.command).await),
        #[cfg(feature = "full")]
        Command::Offers(args) => done(lists::offers(global, args).await),
        #[cfg(feature = "full")]
        Command::Policy(args) => done(match args.command {
            PolicyCommand::Show(output) => policy::show(global, output.output).await,
            #[cfg(feature = "policy")]
            PolicyCommand::Check(args) => policy::check(args).await,
        }),
        #[cfg(feature = "full")]
        Command::Preemptions(args) => done(preemptions::preemptions(global, args.output.output).await),
        #[cfg(feature = "full")]
        Command::Demands(args) => done(demands::demands(global, args).await),
        #[cfg(feature = "full")]
        Command::Master(args) => done(master::run(global, args).await),
        Command::Agent(args) => done(agent::run(global, args).await),
        Command::Runner(_) | Command::RunnerProbe(_) | Command::CompileWorker(_) => {
            unreachable!("dispatched before a runtime is started")
        }
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
