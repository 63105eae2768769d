//! Throughput and latency of the whole cluster, alternating with its peers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::peers::{Peer, Peers};
use super::programs::rows_of;
use super::{Plan, Row, progress, work_dir};
use crate::steps::{Cargo, run_quietly};

/// Tasks of one repetition: enough that what begins and ends it does not count.
const TASKS: usize = 200_000;
const QUICK_TASKS: usize = 20_000;
/// Single tasks, one after another.
const SINGLES: usize = 2_000;
const QUICK_SINGLES: usize = 200;

/// What runs our side.
struct Ours {
    holm: PathBuf,
    flood: PathBuf,
    dir: PathBuf,
}

impl Ours {
    fn build(cargo: &Cargo) -> Result<Ours> {
        run_quietly(cargo.step("build", "build", &["--release", "-p", "holm-cli"]))?;
        run_quietly(cargo.step("build", "build", &["--release", "-p", "holm-sdk", "--example", "flood"]))?;
        let release = cargo.target_dir()?.join("release");
        let dir = work_dir(cargo)?.join("cluster");
        Ok(Ours { holm: release.join("holm"), flood: release.join("examples/flood"), dir })
    }

    /// One repetition on a fresh cluster.
    fn measure(&self, args: &[String]) -> Result<Vec<Row>> {
        let cluster = Cluster::start(&self.holm, &self.dir)?;
        let mut command = Command::new(&self.flood);
        command.arg(cluster.address()).args(args).arg(format!("pids={}", cluster.processes()));
        rows_of(&mut command).with_context(|| format!("{}", self.flood.display()))
    }
}

/// Tasks per second, with the CPU time of each process.
pub(crate) fn throughput(cargo: &Cargo, plan: Plan) -> Result<Vec<Row>> {
    let ours = Ours::build(cargo)?;
    let tasks = if plan.quick { QUICK_TASKS } else { TASKS };
    let mut peers = prepare_peers(cargo, plan)?;
    let mut runs = Vec::new();
    for repetition in 1..=plan.repeat {
        for form in ["p1", "p2", "executor"] {
            progress(&format!("holm, {tasks} tasks, {form}, {repetition} of {}", plan.repeat));
            let args = ["throughput".to_owned(), format!("tasks={tasks}"), format!("form={form}")];
            runs.push(ours.measure(&args)?);
        }
        peers.measure_throughput(repetition, plan.repeat);
    }
    let mut rows = medians(&runs);
    // Calls of an executor are no tasks with an instance of their own.
    let instances = rows.iter().filter(|row| row.unit == "tasks/s" && !row.what.contains("executor"));
    let best = instances.filter_map(|row| row.value).fold(f64::NAN, f64::max);
    rows.extend(peers.rows("tasks/s", |rate| best / rate));
    Ok(rows)
}

/// From submit to acknowledged end of one task at a time.
pub(crate) fn latency(cargo: &Cargo, plan: Plan) -> Result<Vec<Row>> {
    let ours = Ours::build(cargo)?;
    let singles = if plan.quick { QUICK_SINGLES } else { SINGLES };
    let mut peers = prepare_peers(cargo, plan)?;
    let mut runs = Vec::new();
    for repetition in 1..=plan.repeat {
        progress(&format!("holm, {singles} single tasks, {repetition} of {}", plan.repeat));
        runs.push(ours.measure(&["latency".to_owned(), format!("count={singles}")])?);
        peers.measure_latency(repetition, plan.repeat);
    }
    let mut rows = medians(&runs);
    let reference = rows.iter().find(|row| row.what.ends_with("p50")).and_then(|row| row.value).unwrap_or(f64::NAN);
    rows.extend(peers.rows("ms", |peer| peer / reference));
    Ok(rows)
}

fn prepare_peers(cargo: &Cargo, plan: Plan) -> Result<Peers> {
    if !plan.peers {
        return Ok(Peers::none());
    }
    let scripts: PathBuf = cargo.root().join("xtask/src/bench/peers");
    Ok(Peers::prepare(&work_dir(cargo)?, Path::new(&scripts), &Peer::ALL))
}

/// The rows of several repetitions, row by row as medians; what else they said is that of the last.
fn medians(runs: &[Vec<Row>]) -> Vec<Row> {
    let mut names: Vec<&Row> = Vec::new();
    for row in runs.iter().rev().flatten() {
        if !names.iter().any(|known| known.what == row.what) {
            names.push(row);
        }
    }
    names.sort_by_key(|row| runs.iter().flatten().position(|other| other.what == row.what));
    let of = |name: &Row| {
        let values: Vec<f64> =
            runs.iter().flatten().filter(|row| row.what == name.what).filter_map(|row| row.value).collect();
        let mut median = Row::median(name.what.clone(), &values, &name.unit);
        for (key, value) in &name.more {
            median.more.entry(key.clone()).or_insert_with(|| value.clone());
        }
        median
    };
    names.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_become_one_row_each_in_the_order_measured() {
        let run = |rate, cpu| vec![Row::new("holm p1", rate, "tasks/s"), Row::new("master", cpu, "us/task")];
        let rows = medians(&[run(10.0, 3.0), run(30.0, 1.0), run(20.0, 2.0)]);
        let shown: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.value)).collect();
        assert_eq!(shown, [("holm p1", Some(20.0)), ("master", Some(2.0))]);
        assert_eq!(rows[0].more["high"], 30.0);
    }
}
