//! What takes long and needs more than a Rust toolchain: other architectures, fuzzing, many simulated clusters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::setup::CROSS;
use crate::steps::{self, Cargo};

/// Seeds that the longer simulation tries, from this one on.
const SIMULATED: (&str, &str) = ("100000", "2000");
/// How long `test --all` fuzzes.
const FUZZED: Duration = Duration::from_secs(60);

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz intake --for 60s\n  cargo xtask fuzz intake --for 1h --seed 7 --release"
)]
pub(crate) struct FuzzArgs {
    /// What to fuzz: `intake` is the way of a module through inspection, compilation, loading and a run
    #[arg(value_parser = ["intake"])]
    target: String,
    /// How long: a number with s, m or h
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,
    /// The inputs follow from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Faster, with fewer checks inside the engine
    #[arg(long)]
    release: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 60s, 5m or 1h");
    let at = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// Builds the fuzzer and runs it; what it finds is saved below the target directory.
pub(crate) fn fuzz(cargo: &Cargo, args: &FuzzArgs) -> Result<()> {
    let program = example(cargo, "fuzz_intake", args.release)?;
    let save = cargo.target_dir()?.join("fuzz");
    let mut command = Command::new(program);
    command
        .args(["--for", &args.time.as_secs().to_string(), "--seed", &args.seed.to_string()])
        .arg("--save")
        .arg(&save);
    let status = command.status().context("start the fuzzer")?;
    ensure!(status.success(), "the fuzzer found something; see above and {}", save.display());
    Ok(())
}

/// The steps that `test --all` has beyond `test`.
pub(crate) fn run(cargo: &Cargo) -> Result<()> {
    steps::run("longer simulation", || simulate(cargo))?;
    let minute = FuzzArgs { target: "intake".to_owned(), time: FUZZED, seed: 1, release: false };
    steps::run("fuzzing for a minute", || fuzz(cargo, &minute))?;
    steps::run("edge build", || edge(cargo))?;
    steps::run("the same on every machine", || architectures(cargo))
}

/// Seeds beyond the ones of the usual tests.
fn simulate(cargo: &Cargo) -> Result<()> {
    let mut command = cargo.command("test");
    command.args(["--release", "-p", "holm-sim", "--test", "random", "one_seed", "--", "--ignored"]);
    command.env("HOLM_SIM_SEED", SIMULATED.0).env("HOLM_SIM_COUNT", SIMULATED.1);
    succeed(&mut command)
}

/// The binary for edge devices builds without what an agent does not need.
fn edge(cargo: &Cargo) -> Result<()> {
    let mut command = cargo.command("check");
    succeed(command.args(["-p", "holm-cli", "--no-default-features", "--features", "agent"]))
}

/// Runs every sample task on this machine, interpreted, and on an emulated aarch64, from the same Wasm, and compares
/// outputs, exit codes and fuel.
fn architectures(cargo: &Cargo) -> Result<()> {
    let native = example(cargo, "outcomes", false)?;
    let listed = output(Command::new(&native).arg("--list"))?;
    let modules: Vec<&str> = listed.lines().collect();
    let here = outcomes(Command::new(&native), &modules)?;
    let mut interpreted = Command::new(&native);
    interpreted.args(["--engine", "pulley"]);
    same(&here, &outcomes(interpreted, &modules)?, "interpreted")?;
    let mut emulated = Command::new(CROSS.emulator);
    // What the program is linked against, from the cross compiler's packages.
    emulated.args(["-L", CROSS.root]).arg(cross_example(cargo, "outcomes")?);
    same(&here, &outcomes(emulated, &modules)?, CROSS.target)?;
    println!("{} modules gave the same on this machine, interpreted, and on {}", here.len(), CROSS.target);
    Ok(())
}

fn outcomes(mut program: Command, modules: &[&str]) -> Result<BTreeMap<String, Value>> {
    let text = output(program.args(modules))?;
    let objects = text.lines().map(|line| {
        let object: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let name = object["sample"].as_str().context("an outcome without its sample")?.to_owned();
        Ok((name, object))
    });
    objects.collect()
}

fn same(here: &BTreeMap<String, Value>, there: &BTreeMap<String, Value>, name: &str) -> Result<()> {
    ensure!(!here.is_empty(), "no sample was run");
    ensure!(here.len() == there.len(), "{} samples ran here and {} {name}", here.len(), there.len());
    for (sample, outcome) in here {
        let other = there.get(sample).with_context(|| format!("{sample} did not run {name}"))?;
        ensure!(outcome == other, "{sample}: here {outcome}\n{name}: {other}");
    }
    Ok(())
}

/// Builds an example of the runtime and says where it is.
fn example(cargo: &Cargo, name: &str, release: bool) -> Result<PathBuf> {
    let mut command = cargo.command("build");
    command.args(["-p", "holm-runtime", "--example", name]);
    if release {
        command.arg("--release");
    }
    succeed(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(cargo.target_dir()?.join(profile).join("examples").join(name))
}

/// The same for the other architecture, in a directory of its own: it shares nothing with the build for this machine.
fn cross_example(cargo: &Cargo, name: &str) -> Result<PathBuf> {
    let dir = cargo.target_dir()?.join("cross");
    let mut command = cargo.command("build");
    command.args(["-p", "holm-runtime", "--example", name, "--target", CROSS.target]).arg("--target-dir").arg(&dir);
    let linker = format!("CARGO_TARGET_{}_LINKER", CROSS.target.to_uppercase().replace('-', "_"));
    command.env(linker, CROSS.compiler);
    succeed(&mut command)?;
    Ok(dir.join(CROSS.target).join("debug/examples").join(name))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {:?}", command.get_program()))?;
    if status.success() { Ok(()) } else { bail!("{:?}: {status}", command.get_program()) }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let program = Path::new(command.get_program()).display();
    ensure!(output.status.success(), "{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("an answer that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "60", "h", "1d", "-1s"] {
            assert!(duration(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_difference_names_the_sample() {
        let outcome = |fuel: u64| BTreeMap::from([("hello.p1".to_owned(), serde_json::json!({"fuel": fuel}))]);
        assert!(same(&outcome(1), &outcome(1), "elsewhere").is_ok());
        let error = same(&outcome(1), &outcome(2), "elsewhere").unwrap_err().to_string();
        assert!(error.contains("hello.p1") && error.contains("elsewhere"), "{error}");
        assert!(same(&outcome(1), &BTreeMap::new(), "elsewhere").is_err());
        assert!(same(&BTreeMap::new(), &BTreeMap::new(), "elsewhere").is_err());
    }
}
