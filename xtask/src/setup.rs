//! What a build needs beyond a Rust toolchain, installed where it is missing and only there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::steps::Cargo;

/// The targets the sample tasks are built for (rust-toolchain.toml names them too, but rustup may be told not to install on its own).
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

/// Component of rustup, and the cargo subcommand that shows it is there.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "fmt"), ("clippy", "clippy")];

/// What it takes to build for another architecture and run the result.
pub(crate) struct Cross {
    /// The Rust target.
    pub(crate) target: &'static str,
    /// The C compiler, which also links.
    pub(crate) compiler: &'static str,
    /// Where its libraries are.
    pub(crate) root: &'static str,
    /// What runs programs of the target.
    pub(crate) emulator: &'static str,
    /// The Debian packages that have them.
    packages: [&'static str; 3],
}

/// The architecture that is tested besides this machine's.
pub(crate) const CROSS: Cross = Cross {
    target: "aarch64-unknown-linux-gnu",
    compiler: "aarch64-linux-gnu-gcc",
    root: "/usr/aarch64-linux-gnu",
    emulator: "qemu-aarch64-static",
    packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user-static"],
};

/// Installs what is missing, for everything that takes long as well if `all` is wanted.
pub(crate) fn install(cargo: &Cargo, all: bool) -> Result<()> {
    install_missing(cargo)?;
    if !all {
        return Ok(());
    }
    if !sysroot(cargo)?.join("lib/rustlib").join(CROSS.target).join("lib").is_dir() {
        rustup(cargo, "target", &[CROSS.target])?;
    }
    let runs = |program: &str| {
        let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if runs(CROSS.compiler) && runs(CROSS.emulator) {
        return Ok(());
    }
    let packages = CROSS.packages.join(" ");
    println!("installing packages {packages}");
    for args in [&["update"][..], &[&["install", "--yes", "--no-install-recommends"][..], &CROSS.packages].concat()] {
        let status = Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(args).status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            bail!("apt-get {} failed ({status:?}); install {packages} by hand, as root", args.join(" "));
        }
    }
    Ok(())
}

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
