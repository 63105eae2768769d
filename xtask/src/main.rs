//! The project's own commands: `cargo xtask demo | test | bench | setup | tidy`.

mod bench;
mod setup;
mod steps;
mod thorough;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use steps::Cargo;

/// Builds, checks and shows Holm.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                        build, then show a cluster with two frameworks
  cargo xtask demo --input docs --keep    over your own text files; the cluster stays up
  cargo xtask test                        all that continuous integration checks
  cargo xtask test --all                  and what takes long: an emulated aarch64, fuzzing, many simulated clusters
  cargo xtask fuzz intake --for 1h        strange modules through the whole way into a runner
  CI=true cargo xtask test                the same, refusing to change a Cargo.lock
  cargo xtask bench throughput            tasks per second through the whole cluster, beside its peers
  cargo xtask tidy                        only the rules about the source itself";

#[derive(Subcommand)]
enum Task {
    /// Build the release binary and run `holm demo`; arguments are passed on
    Demo {
        /// Arguments for `holm demo` (see `cargo xtask demo -- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Install what is missing, then format, lints, tests and documentation; stops at the first failure
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --all\n\nCI=true adds --locked. CARGO_TARGET_DIR is honoured."
    )]
    Test {
        /// Also what takes long and needs more tools: an emulated aarch64, a minute of fuzzing, many simulated clusters
        #[arg(long)]
        all: bool,
    },
    /// Feed a part of the system with strange input
    Fuzz(thorough::FuzzArgs),
    /// Measure: launches, throughput, latency, overhead, isolation, density; each beside its reference
    Bench(bench::BenchArgs),
    /// Install the Rust targets and components the build needs, where they are missing
    #[command(after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --all")]
    Setup {
        /// Also what `test --all` needs: a Rust target, and on Debian the packages of a cross compiler and an emulator
        #[arg(long)]
        all: bool,
    },
    /// Check the source against the rules of the house: dependency arrows, budgets, headers, banned words
    #[command(after_help = "Example:\n  cargo xtask tidy")]
    Tidy,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let cargo = Cargo::from_env(root()?)?;
    match cli.task {
        Task::Demo { args } => demo(&cargo, &args),
        Task::Test { all } => {
            steps::run("setup", || setup::install(&cargo, all))?;
            steps::run_all(steps::test_plan(&cargo))?;
            if all { thorough::run(&cargo) } else { Ok(()) }
        }
        Task::Fuzz(args) => thorough::fuzz(&cargo, &args),
        Task::Bench(args) => bench::run(&cargo, &args),
        Task::Setup { all } => setup::install(&cargo, all),
        Task::Tidy => steps::run_all(vec![steps::tidy(&cargo)]),
    }
}

/// The checkout this was built from.
fn root() -> Result<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = parent.context("xtask lies below the root of the checkout")?;
    if !root.join("Cargo.toml").is_file() {
        bail!("the checkout this was built from is gone: {}", root.display());
    }
    Ok(root.to_owned())
}

/// The guests are built by the build script of `holm-test-programs`, so one build makes everything. Does not return when `holm` starts:
/// ctrl-C and the exit code are then between the caller and the demo.
fn demo(cargo: &Cargo, args: &[String]) -> Result<()> {
    setup::install_missing(cargo)?;
    steps::run_all(vec![cargo.step("build", "build", &["--release", "-p", "holm-cli"])])?;
    let binary = cargo.target_dir()?.join("release/holm");
    let failed = Command::new(&binary).arg("demo").args(args).exec();
    Err(failed).with_context(|| format!("start {}", binary.display()))
}
