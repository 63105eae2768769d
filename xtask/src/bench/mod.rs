//! `cargo xtask bench`: builds what a measurement needs, runs it beside its reference, and prints one row per figure.
//!
//! Every reference is measured in the same run on the same machine: ratios survive a move to another machine, figures do
//! not. The programs that measure print JSON lines; see [`row::Row`].

mod cluster;
mod end_to_end;
mod peers;
mod programs;
mod row;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::setup;
use crate::steps::Cargo;
use row::{Machine, Row};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench throughput                 tasks per second through the whole cluster, beside Ray, Dask and HyperQueue
  cargo xtask bench throughput --quick         one short repetition, without the peers
  cargo xtask bench latency --output json      one JSON object per row: what, value, unit, ratio, cores
  cargo xtask bench launch                     the runner alone, beside bare wasmtime

Close what else runs on the machine. docs/benchmarks.md says what each row means and what bounds it.";

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[command(subcommand)]
    what: What,
    /// One short repetition and no peers: to see that it works
    #[arg(long, global = true)]
    quick: bool,
    /// Repetitions of each measurement; medians are shown
    #[arg(long, global = true, value_name = "N")]
    repeat: Option<usize>,
    /// Leave out Ray, Dask and HyperQueue
    #[arg(long, global = true)]
    no_peers: bool,
    /// A table for people, or one JSON object per row
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum What {
    /// Launches in the runner against bare wasmtime with the same engine settings
    Launch,
    /// Tasks per second: framework, master, agent, runner and back, beside Ray, Dask and HyperQueue
    Throughput,
    /// From submitting one task to its acknowledged end, beside Ray, Dask and HyperQueue
    Latency,
    /// Long computations against bare wasmtime, metered in every way
    Overhead,
    /// CPU shares, ceilings, and a service beside CPU hogs
    Isolation,
    /// Ten thousand sleeping tasks: memory of each
    Density,
    /// The allocator alone, in the cases of the Mesos benchmarks
    Allocator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// How a measurement is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Short, to see that it works.
    pub(crate) quick: bool,
    /// How often each side is measured.
    pub(crate) repeat: usize,
    /// Whether peers are measured too.
    pub(crate) peers: bool,
}

/// Builds, measures and prints.
pub(crate) fn run(cargo: &Cargo, args: &BenchArgs) -> Result<()> {
    setup::install_missing(cargo)?;
    let repeat = args.repeat.unwrap_or(if args.quick { 1 } else { 3 }).max(1);
    let plan = Plan { quick: args.quick, repeat, peers: !(args.quick || args.no_peers) };
    let rows = match args.what {
        What::Launch => programs::run(cargo, &programs::LAUNCH, plan)?,
        What::Overhead => programs::run(cargo, &programs::OVERHEAD, plan)?,
        What::Isolation => programs::run(cargo, &programs::ISOLATION, plan)?,
        What::Density => programs::run(cargo, &programs::DENSITY, plan)?,
        What::Allocator => programs::run(cargo, &programs::ALLOCATOR, plan)?,
        What::Throughput => end_to_end::throughput(cargo, plan)?,
        What::Latency => end_to_end::latency(cargo, plan)?,
    };
    let machine = Machine::this();
    match args.output {
        Output::Json => rows.iter().for_each(|row| println!("{}", row.to_json(&machine))),
        Output::Table => print!("{}", row::table(&rows, &machine)),
    }
    Ok(())
}

/// Where a benchmark keeps what it makes: virtual environments, stores, sandboxes.
fn work_dir(cargo: &Cargo) -> Result<PathBuf> {
    let dir = cargo.target_dir()?.join("bench");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Says on stderr what is going on; rows go to stdout alone.
fn progress(what: &str) {
    eprintln!("==> {what}");
}
