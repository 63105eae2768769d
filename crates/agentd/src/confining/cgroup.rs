//! Layer `cgroup`: a group for all runners of the agent, and one below it for each, in version 1 or 2, where the agent may
//! make them. They are a belt over what runners enforce themselves: the memory and the threads that a runner which has been
//! taken over could use, and how the kernel weighs runners against each other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holm_model::{ResourceName, Resources, RunnerId};

/// What an agent uses of each controller.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The cgroup below a delegated one in which the agent itself runs, in version 2: a group that has groups with limits below
/// it holds no process.
const AGENT: &str = "agent";

/// How long a group without processes is left alone.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// What all runners of an agent together may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Thousandths of a core that the agent offers: its weight.
    pub(crate) cpu_milli: u64,
    /// Threads of a runner that poll guests.
    pub(crate) threads: u64,
}

impl GroupLimits {
    /// What an agent offers, and an eighth and a gigabyte more for pools, native code and the file cache that are its
    /// runners'. `threads` is how many threads poll guests in each.
    pub(crate) fn of(resources: &Resources, threads: usize) -> GroupLimits {
        let memory = resources.scalar(&ResourceName::Mem).0;
        let memory = memory.saturating_add(memory / 8).saturating_add(1 << 30);
        let cpu_milli = resources.scalar(&ResourceName::Cpus).0;
        GroupLimits { memory, cpu_milli, threads: u64::try_from(threads).unwrap_or(u64::MAX) }
    }
}

/// The groups of an agent's runners.
#[derive(Debug)]
pub(super) struct Cgroups {
    version: Version,
    limits: GroupLimits,
}

#[derive(Debug)]
enum Version {
    /// The agent's own group in the hierarchy of each controller.
    One(Vec<(&'static str, PathBuf)>),
    /// The one hierarchy, and the controllers of it that there are.
    Two(PathBuf, Vec<&'static str>),
}

impl Cgroups {
    /// Makes the group of all runners, called `name`; what an earlier life of the agent left there and nobody uses goes.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) fn find(name: &str, limits: GroupLimits) -> Result<Cgroups, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
        let version = match unified(&own, &mounts) {
            Some(group) if !controllers_of(&group).is_empty() => {
                Version::Two(delegate(&group, name)?, controllers_of(&group))
            }
            _ => Version::One(separate(&own, &mounts, name)?),
        };
        let groups = Cgroups { version, limits };
        groups.set_up().map_err(|error| format!("the agent's group cannot be limited: {error}"))?;
        Ok(groups)
    }

    pub(super) fn describe(&self) -> String {
        let (version, controllers) = match &self.version {
            Version::One(groups) => (1, groups.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            Version::Two(_, controllers) => (2, controllers.clone()),
        };
        format!("version {version}: {}; memory at most {} MiB", controllers.join(", "), self.limits.memory >> 20)
    }

    fn set_up(&self) -> io::Result<()> {
        for (controller, group) in self.all() {
            self.limit(controller, &group, None)?;
            // Fails where a runner still is, as it should.
            subgroups(&group).filter(|left| is_old(left)).for_each(|left| drop(fs::remove_dir(left)));
        }
        Ok(())
    }

    /// The agent's group for each controller.
    fn all(&self) -> Vec<(&'static str, PathBuf)> {
        match &self.version {
            Version::One(groups) => groups.clone(),
            Version::Two(group, controllers) => controllers.iter().map(|name| (*name, group.clone())).collect(),
        }
    }

    /// Makes the group of a runner; what it joins is written to the files returned.
    pub(super) fn make(&self, runner: RunnerId, threads: u64) -> io::Result<Vec<PathBuf>> {
        let mut joins = Vec::new();
        for (controller, parent) in self.all() {
            let group = parent.join(runner.to_string());
            // Another agent that starts may have taken the empty group of this one for a dead agent's.
            make_below(&parent, &group, || self.limit(controller, &parent, None))?;
            self.limit(controller, &group, Some(threads))?;
            joins.push(group.join("cgroup.procs"));
        }
        joins.dedup();
        Ok(joins)
    }

    /// Removes the group of all runners; it stays while there is one.
    pub(super) fn dismiss(&self) {
        self.all().into_iter().for_each(|(_, group)| drop(fs::remove_dir(group)));
    }

    /// Removes the group of a runner that has ended.
    pub(super) fn remove(&self, runner: RunnerId) {
        let mut groups: Vec<_> = self.all().into_iter().map(|(_, parent)| parent.join(runner.to_string())).collect();
        groups.dedup();
        for group in groups {
            if let Err(error) = fs::remove_dir(&group)
                && error.kind() != io::ErrorKind::NotFound
            {
                // It goes at the agent's next start.
                tracing::debug!(%error, group = %group.display(), "a runner's control group stays");
            }
        }
    }

    /// Sets the weight of a runner to the CPU that its tasks are entitled to. One without tasks has a core's worth: its next
    /// task must not wait for the next look at the weights.
    pub(super) fn weigh(&self, runner: RunnerId, milli: u64) {
        let milli = if milli == 0 { 1000 } else { milli };
        let written = self.all().into_iter().find(|(controller, _)| *controller == "cpu").map(|(_, parent)| {
            let group = parent.join(runner.to_string());
            self.set_weight(&group, milli)
        });
        if let Some(Err(error)) = written {
            tracing::debug!(%error, %runner, "a runner's weight cannot be set");
        }
    }

    fn set_weight(&self, group: &Path, milli: u64) -> io::Result<()> {
        match &self.version {
            // 1024 is one core's worth; the kernel's least is 2.
            Version::One(_) => write(group, "cpu.shares", (milli * 1024 / 1000).clamp(2, 262_144)),
            // 100 is the default.
            Version::Two(..) => write(group, "cpu.weight", (milli / 10).clamp(1, 10_000)),
        }
    }

    fn limit(&self, controller: &str, group: &Path, threads: Option<u64>) -> io::Result<()> {
        let two = matches!(self.version, Version::Two(..));
        match (controller, threads) {
            ("memory", _) => write(group, if two { "memory.max" } else { "memory.limit_in_bytes" }, self.limits.memory),
            ("pids", Some(threads)) => write(group, "pids.max", threads),
            ("cpu", None) => self.set_weight(group, self.limits.cpu_milli),
            _ => Ok(()),
        }
    }
}

fn make_below(parent: &Path, group: &Path, limit: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(parent)?;
            limit()?;
            fs::create_dir(group)
        }
        result => result,
    }
}

/// Whether nothing has happened to a group for a while. A younger one may be a live agent's, which is about to put a runner
/// into it.
fn is_old(group: &Path) -> bool {
    let changed = fs::metadata(group).and_then(|meta| meta.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER))
}

/// Removes groups of agents that have gone; one that holds processes stays.
fn sweep(parent: &Path) {
    for group in
        subgroups(parent).filter(|group| group.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())))
    {
        subgroups(&group).filter(|runner| is_old(runner)).for_each(|runner| drop(fs::remove_dir(runner)));
        if is_old(&group) {
            drop(fs::remove_dir(group));
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix("holm-").is_some_and(|salt| salt.len() == 8 && salt.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn subgroups(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn write(group: &Path, file: &str, value: u64) -> io::Result<()> {
    let path = group.join(file);
    fs::write(&path, value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The path of this process's group in a hierarchy of version 1, or in that of version 2 for the empty name.
fn path_in<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut columns = line.splitn(3, ':').skip(1);
        let (names, path) = (columns.next()?, columns.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The directory of a group: where its hierarchy is mounted, and how far the mount's root lies above it.
fn directory_of(mounts: &str, kind: &str, option: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut what = what.split(' ');
        let is_it = what.next()? == kind;
        let options = what.nth(1).unwrap_or_default();
        if !is_it || option.is_some_and(|wanted| !options.split(',').any(|it| it == wanted)) {
            return None;
        }
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

/// This process's group in version 2, if that is mounted.
fn unified(own: &str, mounts: &str) -> Option<PathBuf> {
    directory_of(mounts, "cgroup2", None, path_in(own, "")?)
}

fn controllers_of(group: &Path) -> Vec<&'static str> {
    let there = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    CONTROLLERS.into_iter().filter(|name| there.split_whitespace().any(|it| it == *name)).collect()
}

/// Makes the group `name` in the hierarchy of each controller that is mounted and writable.
fn separate(own: &str, mounts: &str, name: &str) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let mut found = Vec::new();
    let mut why = "no controller is mounted".to_owned();
    for controller in CONTROLLERS {
        let path = path_in(own, controller);
        let Some(parent) = path.and_then(|path| directory_of(mounts, "cgroup", Some(controller), path)) else {
            continue;
        };
        let group = parent.join(name);
        sweep(&parent);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                why = format!("{}: {error}", parent.display())
            }
            _ => found.push((controller, group)),
        }
    }
    if found.is_empty() { Err(why) } else { Ok(found) }
}

/// Makes the group `name` in version 2. The agent must have a group of its own to divide (under systemd: Delegate=yes and
/// DelegateSubgroup=agent); it moves into a group below it unless it is in one already.
fn delegate(own: &Path, name: &str) -> Result<PathBuf, String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let in_subgroup = own.file_name().is_some_and(|last| last == AGENT);
    let parent = if in_subgroup { own.parent().unwrap_or(own) } else { own };
    // The root of all groups may hold processes and has no type.
    let is_root = !parent.join("cgroup.type").exists();
    if !in_subgroup && !is_root {
        let procs = fs::read_to_string(own.join("cgroup.procs")).map_err(at(own))?;
        if procs.lines().any(|pid| pid.trim() != std::process::id().to_string()) {
            return Err(format!(
                "{} holds other processes; give the agent a group of its own (systemd: Delegate=yes, \
                 DelegateSubgroup={AGENT})",
                own.display()
            ));
        }
        let subgroup = own.join(AGENT);
        match fs::create_dir(&subgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&subgroup)(error)),
            _ => fs::write(subgroup.join("cgroup.procs"), "0").map_err(at(&subgroup))?,
        }
    }
    let group = parent.join(name);
    sweep(parent);
    let enable: String = controllers_of(parent).iter().map(|name| format!("+{name} ")).collect();
    fs::write(parent.join("cgroup.subtree_control"), enable.trim_end()).map_err(at(parent))?;
    match fs::create_dir(&group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&group)(error)),
        _ => fs::write(group.join("cgroup.subtree_control"), enable.trim_end()).map_err(at(&group))?,
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/\n4:memory:/box/7\n2:cpu,cpuacct:/\n0::/user.slice/x\n";
    const MOUNTS: &str = "\
40 34 0:36 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 34 0:37 /box /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
42 34 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_process_finds_its_groups_below_the_mounts() {
        let found = |controller| directory_of(MOUNTS, "cgroup", Some(controller), path_in(OWN, controller)?);
        assert_eq!(found("memory"), Some(PathBuf::from("/sys/fs/cgroup/memory/7")));
        assert_eq!(found("cpu"), Some(PathBuf::from("/sys/fs/cgroup/cpu/")));
        assert_eq!(found("pids"), None);
        assert_eq!(unified(OWN, MOUNTS), Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/x")));
    }

    #[test]
    fn version_two_is_divided_and_weighed() {
        // A directory with the files of a delegated group stands in for the kernel's.
        let dir = tempfile::tempdir().unwrap();
        let (parent, own) = (dir.path(), dir.path().join(AGENT));
        fs::create_dir(&own).unwrap();
        for (file, text) in [("cgroup.controllers", "cpuset cpu memory"), ("cgroup.type", "domain")] {
            fs::write(parent.join(file), text).unwrap();
        }
        let group = delegate(&own, "holm-1").unwrap();
        assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "+cpu +memory");
        let limits = GroupLimits { memory: 5 << 30, cpu_milli: 2000, threads: 2 };
        let groups = Cgroups { version: Version::Two(group.clone(), vec!["cpu", "memory"]), limits };
        groups.set_up().unwrap();
        let joins = groups.make(RunnerId(3), 9).unwrap();
        assert_eq!(joins, [group.join("runner-3/cgroup.procs")]);
        groups.weigh(RunnerId(3), 500);
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!((read("cpu.weight"), read("runner-3/cpu.weight")), ("200".to_owned(), "50".to_owned()));
        assert_eq!(read("runner-3/memory.max"), (5_u64 << 30).to_string());
    }

    #[test]
    fn an_agent_among_others_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.type"), "domain").unwrap();
        fs::write(dir.path().join("cgroup.procs"), "1\n2\n").unwrap();
        let why = delegate(dir.path(), "holm-1").unwrap_err();
        assert!(why.contains("holds other processes"), "{why}");
        assert!(!dir.path().join(AGENT).exists());
    }
}
