//! What a build needs beyond a Rust toolchain, installed where it is missing and only there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::steps::Cargo;

/// The targets the sample tasks are built for (rust-toolchain.toml names them too, but rustup may be told not to install on its own).
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

/// Component of rustup, and the cargo subcommand that shows it is there.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "fmt"), ("clippy", "clippy")];

/// Installs missing targets and components. Without rustup it fails naming what is missing.
pub(crate) fn install_missing(cargo: &Cargo) -> Result<()> {
    let sysroot = sysroot(cargo)?;
    let targets: Vec<_> =
        TARGETS.into_iter().filter(|target| !sysroot.join("lib/rustlib").join(target).join("lib").is_dir()).collect();
    let components: Vec<_> =
        COMPONENTS.into_iter().filter(|(_, command)| !answers(cargo, command)).map(|(name, _)| name).collect();
    if !targets.is_empty() {
        rustup(cargo, "target", &targets)?;
    }
    if !components.is_empty() {
        rustup(cargo, "component", &components)?;
    }
    Ok(())
}

fn sysroot(cargo: &Cargo) -> Result<PathBuf> {
    let output = Command::new("rustc")
        .current_dir(cargo.root())
        .args(["--print", "sysroot"])
        .output()
        .context("run rustc --print sysroot")?;
    if !output.status.success() {
        bail!("rustc --print sysroot: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn answers(cargo: &Cargo, command: &str) -> bool {
    let status = cargo.command(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn rustup(cargo: &Cargo, kind: &str, names: &[&str]) -> Result<()> {
    println!("installing {kind} {}", names.join(", "));
    let status = Command::new("rustup").current_dir(cargo.root()).args([kind, "add"]).args(names).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("rustup {kind} add {}: {status}", names.join(" ")),
        Err(error) => bail!(
            "{kind} {} missing from the Rust toolchain, and rustup cannot be run to add it: {error}",
            names.join(", ")
        ),
    }
}
