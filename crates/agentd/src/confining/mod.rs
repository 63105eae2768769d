//! What the agent's runners and compile workers are held back by: decided once at the agent's start, from what the operator
//! wants and what the host has; carried out by each process itself ([`holm_runtime::Confinement`]).

mod cgroup;
mod users;

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use holm_agent::RunnerScope;
use holm_model::{ConfinementLayer, RunnerId};
use holm_runtime::{Confinement, Finding, Layer, Purpose, RunAs, survey};

pub(crate) use cgroup::GroupLimits;
pub use users::{RunnerUsers, RunnerUsersError, runner_group};

use cgroup::Cgroups;

use crate::tenants;

/// Threads of a runner besides those that poll guests: its loop, its timers, blocking file calls and look-ups.
const RUNNER_THREADS: u64 = 256;
/// Threads of all compile workers together, which share a user: each has some per core.
const COMPILER_THREADS: u64 = 2048;
/// Longest explanation of a layer, in bytes.
const MAX_DETAIL_BYTES: usize = 256;

/// What an operator says about confinement.
#[derive(Clone, Debug, Default)]
pub struct ConfinementOptions {
    /// The users that runners become.
    pub users: RunnerUsers,
    /// Their group; the first of their users' numbers when absent.
    pub group: Option<u32>,
    /// Layers without which the agent refuses to start.
    pub required: Vec<Layer>,
    /// Layers that are left out although the host may have them.
    pub without: Vec<Layer>,
}

/// The agent's directories that runners are given a part of.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    /// Of native code: one for each way of metering.
    pub(crate) native: [PathBuf; 2],
    pub(crate) works: PathBuf,
    /// Host directories that tasks may be granted, and whether for writing.
    pub(crate) allowed: Vec<(PathBuf, bool)>,
}

impl Grounds {
    /// Prepares what runners pass through, and warns of host directories that tasks may be granted and runners cannot write.
    pub(crate) fn check(&self, group: Option<u32>) {
        let Some(group) = group else { return };
        // Runners open native code by names that they were told; nobody lists it.
        for native in &self.native {
            if let Err(error) = std::fs::set_permissions(native, std::fs::Permissions::from_mode(0o711)) {
                tracing::warn!(%error, "runners may not be able to open native code");
            }
        }
        for (path, _) in self.allowed.iter().filter(|(_, writable)| *writable) {
            let by_group = |meta: &std::fs::Metadata| meta.gid() == group && meta.mode() & 0o020 != 0;
            if std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o002 == 0 && !by_group(&meta)) {
                tracing::warn!(path = %path.display(), group, "tasks may be granted writing here, and the group of runners may not write");
            }
        }
    }
}

/// A layer that the operator insists on and the host does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runners cannot be confined as required: {0}")]
pub struct RequiredError(String);

/// How runners and compile workers are confined.
#[derive(Debug)]
pub(crate) struct Confining {
    findings: Vec<Finding>,
    users: Option<users::Range>,
    cgroups: Option<Cgroups>,
    /// Tells the users and groups of agents on one machine apart.
    salt: u64,
    /// Most threads of a runner.
    threads: u64,
}

impl Confining {
    /// Finds out what the host has. `dir` is the agent's directory, `limits` what all its runners together may take.
    ///
    /// # Errors
    /// When a required layer is missing, naming each and why.
    pub(crate) fn new(
        options: &ConfinementOptions,
        dir: &Path,
        limits: GroupLimits,
    ) -> Result<Confining, RequiredError> {
        let users = options.users.range(options.group);
        let mut findings = survey(users.map(|users| (users.first(), users.last())));
        let salt = salt_of(dir);
        let without = |layer: Layer| options.without.contains(&layer);
        for finding in findings.iter_mut().filter(|finding| without(finding.layer)) {
            finding.result = Err("left out by --without-confinement".to_owned());
        }
        let cgroups = match without(Layer::Cgroup) {
            true => Err("left out by --without-confinement".to_owned()),
            false => Cgroups::find(&format!("holm-{salt:08x}"), limits),
        };
        let result = cgroups.as_ref().map(Cgroups::describe).map_err(Clone::clone);
        findings.push(Finding { layer: Layer::Cgroup, result });
        let missing = findings.iter().filter(|finding| options.required.contains(&finding.layer));
        let missing: Vec<_> = missing
            .filter_map(|finding| finding.result.as_ref().err().map(|why| format!("{} ({why})", finding.layer)))
            .collect();
        if !missing.is_empty() {
            return Err(RequiredError(missing.join("; ")));
        }
        let active = |layer| findings.iter().any(|finding| finding.layer == layer && finding.result.is_ok());
        let users = users.filter(|_| active(Layer::User));
        Ok(Confining { users, cgroups: cgroups.ok(), salt, threads: RUNNER_THREADS + limits.threads, findings })
    }

    /// Each layer and what it consists of, or why it is missing.
    pub(crate) fn report(&self) -> Vec<ConfinementLayer> {
        let show = |finding: &Finding| {
            let (active, detail) = match &finding.result {
                Ok(detail) => (true, detail),
                Err(why) => (false, why),
            };
            let detail = &detail[..detail.floor_char_boundary(MAX_DETAIL_BYTES)];
            ConfinementLayer { name: finding.layer.as_str().into(), active, detail: detail.into() }
        };
        self.findings.iter().map(show).collect()
    }

    /// The group that all runners are in, if they have users of their own: what they shall read and write must be its.
    pub(crate) fn group(&self) -> Option<u32> {
        self.users.map(|users| users.first().gid)
    }

    /// How a runner is confined whose directory is `dir`, with the directories that it is given made.
    ///
    /// # Errors
    /// When a directory or a control group cannot be made.
    pub(crate) fn runner(
        &self,
        runner: RunnerId,
        scope: &RunnerScope,
        dir: &Path,
        grounds: &Grounds,
    ) -> io::Result<Confinement> {
        let works = tenants::directory(&grounds.works, scope);
        tenants::make_passable(&works)?;
        let allowed = |writable: bool| {
            let wanted = grounds.allowed.iter().filter(move |(path, it)| *it == writable && path.is_dir());
            wanted.map(|(path, _)| path.clone())
        };
        let purpose = if scope.network { Purpose::RunNetworked } else { Purpose::Run };
        let look_ups = if scope.network { name_service_files() } else { Vec::new() };
        Ok(Confinement {
            purpose,
            run_as: self.users.map(|users| users.of_runner(self.salt.wrapping_add(runner.0))),
            threads: self.threads,
            read_known: grounds.native.to_vec(),
            read: allowed(false).chain(look_ups).collect(),
            write: [crate::runner::log_dir(dir), works].into_iter().chain(allowed(true)).collect(),
            cgroups: self
                .cgroups
                .as_ref()
                .map(|groups| groups.make(runner, self.threads))
                .transpose()?
                .unwrap_or_default(),
            layers: self.active(),
        })
    }

    /// How compile workers are confined: they keep what they have open and nothing else.
    pub(crate) fn compiler(&self) -> Confinement {
        let layers = self.active().into_iter().filter(|layer| *layer != Layer::Cgroup).collect();
        let run_as: Option<RunAs> = self.users.map(|users| users.first());
        Confinement { layers, purpose: Purpose::Compile, run_as, threads: COMPILER_THREADS, ..Confinement::default() }
    }

    /// Says how much of the CPU each runner's tasks are entitled to, in thousandths of a core.
    pub(crate) fn weigh(&self, entitled: impl Iterator<Item = (RunnerId, u64)>) {
        if let Some(groups) = &self.cgroups {
            entitled.for_each(|(runner, milli)| groups.weigh(runner, milli));
        }
    }

    /// Removes what a runner that has ended leaves of its confinement.
    pub(crate) fn forget(&self, runner: RunnerId) {
        if let Some(groups) = &self.cgroups {
            groups.remove(runner);
        }
    }

    /// Removes the group of all runners once there is none.
    pub(crate) fn dismiss(&self) {
        if let Some(groups) = &self.cgroups {
            groups.dismiss();
        }
    }

    /// Whether runners have control groups, whose weights are to be kept.
    pub(crate) fn has_groups(&self) -> bool {
        self.cgroups.is_some()
    }

    fn active(&self) -> Vec<Layer> {
        self.findings.iter().filter(|finding| finding.result.is_ok()).map(|finding| finding.layer).collect()
    }
}

/// What looking up a name reads, where it is there. Links are followed: what counts is the file behind them.
fn name_service_files() -> Vec<PathBuf> {
    let files =
        ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"];
    files.into_iter().filter_map(|file| std::fs::canonicalize(file).ok()).collect()
}

/// A number for the agent's directory, the same for every life of the agent.
fn salt_of(dir: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    hasher.finish() & 0xffff_ffff
}

/// What confinement an agent in `dir` would have.
///
/// # Errors
/// When a required layer is missing.
pub fn check_confinement(options: &ConfinementOptions, dir: &Path) -> Result<Vec<ConfinementLayer>, RequiredError> {
    let resources = crate::machine::detect_resources(dir, 0);
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_missing| dir.to_owned());
    let confining = Confining::new(options, &dir, GroupLimits::of(&resources, 1))?;
    let layers = confining.report();
    confining.dismiss();
    Ok(layers)
}

/// The layers as a table, for people.
pub fn confinement_table(layers: &[ConfinementLayer]) -> String {
    let line = |layer: &ConfinementLayer| {
        let state = if layer.active { "active" } else { "MISSING" };
        format!("{:<13} {state:<8} {}\n", layer.name, layer.detail)
    };
    layers.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GroupLimits = GroupLimits { memory: 1 << 40, cpu_milli: 1000, threads: 2 };

    #[test]
    fn a_layer_that_is_required_and_missing_is_named_with_its_reason() {
        let options = ConfinementOptions {
            required: vec![Layer::Landlock, Layer::NoNewPrivs],
            without: vec![Layer::Landlock, Layer::Cgroup],
            ..ConfinementOptions::default()
        };
        let error = Confining::new(&options, Path::new("/x"), LIMITS).unwrap_err().to_string();
        assert!(error.contains("landlock (left out"), "{error}");
        assert!(!error.contains("no-new-privs"), "{error}");
    }

    #[test]
    fn a_runner_gets_its_own_part_of_the_grounds() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (native, works, data) = (place("native"), place("works"), place("data"));
        let allowed = vec![(data.clone(), false), (dir.path().join("gone"), true)];
        let grounds = Grounds { native: [native, data.clone()], works: works.clone(), allowed };
        let options = ConfinementOptions { without: vec![Layer::Cgroup, Layer::User], ..ConfinementOptions::default() };
        let confining = Confining::new(&options, dir.path(), LIMITS).unwrap();
        let framework = "framework-1-7".parse().unwrap();
        let scope = RunnerScope { framework: Some(framework), ..RunnerScope::default() };
        let plan = confining.runner(RunnerId(3), &scope, Path::new("/r"), &grounds).unwrap();
        assert_eq!(plan.read, [data]);
        assert_eq!(plan.write, [PathBuf::from("/r/log"), works.join("framework-1-7")]);
        assert_eq!((plan.purpose, plan.run_as), (Purpose::Run, None));
        let only = RunnerScope { work: Some(holm_model::WorkId(4)), network: true, ..scope };
        let plan = confining.runner(RunnerId(3), &only, Path::new("/r"), &grounds).unwrap();
        assert_eq!(plan.write[1], works.join("framework-1-7.work-4"));
        assert_eq!(plan.purpose, Purpose::RunNetworked);
        let shared = confining.runner(RunnerId(3), &RunnerScope::default(), Path::new("/r"), &grounds).unwrap();
        assert_eq!(shared.write[1], works.join("shared"));
    }
}
