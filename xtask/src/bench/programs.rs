//! Measurements that are example programs of the crate they measure: built, run, and their lines read.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Plan, Row, progress};
use crate::steps::{Cargo, run_quietly};

/// Example programs that together make one measurement.
pub(crate) struct Measurement {
    programs: &'static [Program],
}

/// An example of one of our crates that prints one JSON object per line.
struct Program {
    package: &'static str,
    example: &'static str,
    args: &'static [&'static str],
    /// Instead of `args`, for a short run.
    quick: &'static [&'static str],
}

pub(crate) const LAUNCH: Measurement =
    Measurement { programs: &[example("holm-runtime", "launch"), example("holm-agentd", "runner")] };
pub(crate) const OVERHEAD: Measurement = Measurement { programs: &[example("holm-runtime", "overhead")] };
pub(crate) const ISOLATION: Measurement = Measurement {
    programs: &[
        Program { quick: &["--seconds", "2"], ..example("holm-runtime", "isolation") },
        Program { quick: &["2"], ..example("holm-runtime", "service") },
    ],
};
pub(crate) const DENSITY: Measurement =
    Measurement { programs: &[Program { quick: &["500"], ..example("holm-runtime", "density") }] };

pub(crate) const ALLOCATOR: Measurement = Measurement { programs: &[example("holm-allocator", "cycles")] };

const fn example(package: &'static str, example: &'static str) -> Program {
    Program { package, example, args: &[], quick: &["--quick"] }
}

/// Builds and runs a measurement's programs, one after another.
pub(crate) fn run(cargo: &Cargo, measurement: &Measurement, plan: Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for Program { package, example, .. } in measurement.programs {
        let source = format!("crates/{}/examples/{example}", package.trim_start_matches("holm-"));
        if !cargo.root().join(&source).is_dir() && !cargo.root().join(format!("{source}.rs")).is_file() {
            bail!("{source} is not there: nothing measures this yet");
        }
    }
    // All before the first is run: some start each other.
    run_quietly(cargo.step(
        "build",
        "build",
        &["--release", "-p", "holm-runtime", "-p", "holm-agentd", "-p", "holm-allocator", "--examples"],
    ))?;
    for program in measurement.programs {
        rows.extend(run_program(cargo, program, plan)?);
    }
    Ok(rows)
}

fn run_program(cargo: &Cargo, program: &Program, plan: Plan) -> Result<Vec<Row>> {
    let path = cargo.target_dir()?.join("release/examples").join(program.example);
    progress(&format!("measuring: {}", program.example));
    let args = if plan.quick { program.quick } else { program.args };
    rows_of(Command::new(&path).args(args)).with_context(|| format!("example {}", program.example))
}

/// Runs a program and reads its rows; lines that do not begin with a brace are for people and go to stderr.
pub(crate) fn rows_of(command: &mut Command) -> Result<Vec<Row>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}: {}", output.status, text.trim());
    }
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with('{') {
            rows.push(Row::parse(line).with_context(|| format!("line {line:?}"))?);
        } else {
            eprintln!("{line}");
        }
    }
    Ok(rows)
}
