//! What a user would take instead: each from PyPI, in a virtual environment of its own that the benchmark makes.
//!
//! The unit of each is its own and is named in its row: Ray and Dask call a function in a Python process that exists already,
//! HyperQueue starts a process per task, we instantiate a fresh Wasm guest per task.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::programs::rows_of;
use super::progress;
use super::row::Row;

/// How long one measurement of a peer may take.
const PATIENCE: &str = "180s";

/// One peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    name: &'static str,
    requirement: &'static str,
    /// In the directory of the scripts.
    script: &'static str,
    unit: &'static str,
}

impl Peer {
    pub(crate) const ALL: [Peer; 3] = [
        Peer {
            name: "ray",
            requirement: "ray==2.60.0",
            script: "ray_peer.py",
            unit: "a call in a pooled Python process",
        },
        Peer {
            name: "dask",
            requirement: "distributed==2026.8.0",
            script: "dask_peer.py",
            unit: "a call in a Python process",
        },
        Peer {
            name: "hyperqueue",
            requirement: "hyperqueue==0.27.0",
            script: "hyperqueue_peer.py",
            unit: "a process: /bin/true",
        },
    ];
}

/// A peer with what was measured of it.
struct Measured {
    peer: Peer,
    script: PathBuf,
    /// Its interpreter, or why there is none.
    python: Result<PathBuf>,
    runs: Vec<Vec<Row>>,
    failed: Option<String>,
}

/// The peers of a measurement.
pub(crate) struct Peers(Vec<Measured>);

impl Peers {
    pub(crate) fn none() -> Peers {
        Peers(Vec::new())
    }

    /// Installs what is not installed yet. A peer that cannot be installed is a row that says so.
    pub(crate) fn prepare(dir: &Path, scripts: &Path, peers: &[Peer]) -> Peers {
        let prepared = peers.iter().map(|peer| Measured {
            peer: *peer,
            script: scripts.join(peer.script),
            python: install(dir, peer),
            runs: Vec::new(),
            failed: None,
        });
        Peers(prepared.collect())
    }

    pub(crate) fn measure_throughput(&mut self, repetition: usize, of: usize) {
        self.measure("throughput", repetition, of);
    }

    pub(crate) fn measure_latency(&mut self, repetition: usize, of: usize) {
        self.measure("latency", repetition, of);
    }

    fn measure(&mut self, what: &str, repetition: usize, of: usize) {
        // Another one first each time, so that none always runs on the warmest machine.
        let count = self.0.len().max(1);
        self.0.rotate_left(repetition % count);
        for measured in &mut self.0 {
            let Ok(python) = &measured.python else { continue };
            progress(&format!("{}, {what}, {repetition} of {of}", measured.peer.name));
            // Killed: one that hangs may not listen to less.
            let mut patient = Command::new("timeout");
            patient.args(["--signal=KILL", PATIENCE]).arg(python).arg(&measured.script).arg(what);
            match rows_of(&mut patient) {
                Ok(rows) => measured.runs.push(rows),
                Err(error) => measured.failed = Some(format!("{error:#}")),
            }
        }
        self.0.rotate_right(repetition % count);
    }

    /// The medians; those in `unit` with their ratio to ours.
    pub(crate) fn rows(&self, unit: &str, ratio: impl Fn(f64) -> f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for Measured { peer, python, runs, failed, .. } in &self.0 {
            let name = peer.name;
            let missing = match (python, failed) {
                (Err(error), _) => Some(format!("cannot be installed: {error:#}")),
                (Ok(_), Some(why)) if runs.is_empty() => Some(why.clone()),
                _ => None,
            };
            if let Some(why) = missing {
                rows.push(Row::missing(name, unit, why.lines().next().unwrap_or_default()));
                continue;
            }
            let names: Vec<&Row> = runs.first().into_iter().flatten().collect();
            for first in names {
                let values: Vec<f64> =
                    runs.iter().flatten().filter(|row| row.what == first.what).filter_map(|row| row.value).collect();
                let row = Row::median(format!("{name} {}", first.what), &values, &first.unit);
                let row = row.with("note", peer.unit);
                rows.push(match row.value {
                    Some(value) if first.unit == unit => row.ratio(ratio(value), "x better is holm"),
                    _ => row,
                });
            }
        }
        rows
    }
}

/// The interpreter of a peer's virtual environment, which is made if it is not there.
fn install(dir: &Path, peer: &Peer) -> Result<PathBuf> {
    let venv = dir.join(format!("venv-{}", peer.name));
    let (python, done) = (venv.join("bin/python"), venv.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == peer.requirement) {
        return Ok(python);
    }
    progress(&format!("installing {} into {}", peer.requirement, venv.display()));
    let _ = std::fs::remove_dir_all(&venv);
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .arg(peer.requirement),
    )?;
    std::fs::write(&done, peer.requirement).context("note that it is installed")?;
    Ok(python)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}", errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim());
    }
    Ok(())
}
