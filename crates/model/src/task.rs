//! What a framework asks an agent to run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Amount, Digest, Executed, ExecutedError, MAX_CONCURRENCY, MAX_NET_PATTERNS, MAX_REQUEST_TIME, NetworkGrants,
    Quantity, Ranges, ResourceName, Resources, ServiceSpec, VolumeId,
};

/// What kind of guest a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// A WASI program that runs to completion: a core `wasip1` module or a `wasip2` component.
    #[default]
    Command,
    /// A `wasi:http/proxy` component that answers requests on a port it holds until it is told to stop.
    Service,
    /// A component of the world `holm:executor/executor`: it stays, and runs tasks of the kind [`TaskKind::Executed`].
    Executor,
    /// A task without a module of its own, which an executor of the same framework on the same agent runs.
    Executed,
}

impl TaskKind {
    /// The name, as written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskKind::Command => "command",
            TaskKind::Service => "service",
            TaskKind::Executor => "executor",
            TaskKind::Executed => "executed",
        }
    }
}

/// How the instructions of a task are counted and interrupted. Its CPU time is metered either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metering {
    /// Fuel is counted and can be limited; a clock interrupts.
    #[default]
    FuelAndEpochs,
    /// A clock interrupts; fuel is not counted. For code that calls a lot: counting can cost it half of its speed.
    Epochs,
}

/// A blob that the task finds at a path of its sandbox, read-only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputFile {
    /// The blob.
    pub digest: Digest,
    /// Where the guest finds it: a relative path without `.` and `..`, at most 512 bytes.
    pub path: Arc<str>,
}

/// A directory of the agent's host that the task may open, if the agent's operator allowed a prefix of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryGrant {
    /// The absolute path on the agent's host.
    pub host: Arc<str>,
    /// Where the guest finds it.
    pub guest: Arc<str>,
    /// Whether the task may write there.
    pub writable: bool,
}

/// A volume that the task finds at a path of its sandbox. It holds the volume, besides its resources, as long as it is not
/// over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeMount {
    /// The volume, of the launch's role or of one above it.
    pub id: VolumeId,
    /// Where the guest finds it: a relative path without `.` and `..`, at most 512 bytes.
    pub path: Arc<str>,
    /// Whether the task may not write there.
    pub read_only: bool,
}

/// Ceilings. Excess ends a task, except of `cpus`, which slow it down, and of output, which is dropped. Memory is limited by
/// the task's `mem` resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Units of fuel, about one per Wasm instruction; none is unlimited (fuel is still counted).
    pub fuel: Option<u64>,
    /// Wall time from the first instruction; none is unlimited.
    pub deadline: Option<Duration>,
    /// Bytes of stdout and stderr together that are kept; the rest is dropped and counted. None is the agent's default.
    pub output_bytes: Option<u64>,
    /// The most CPU that the task gets, at least its `cpus`; equal to them it is a hard cap. None lets it use what the agent's
    /// other tasks leave of the agent's `cpus`. A command computes on one core at most, whatever this says.
    pub cpus: Option<Amount>,
}

/// The template of a launch: everything but the task ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSpec {
    /// What kind of guest.
    pub kind: TaskKind,
    /// The module's blob; all zeros for a task that runs inside an executor.
    pub module: Digest,
    /// In which executor the task runs, and what it is given there; for the kind [`TaskKind::Executed`] and no other.
    pub executed: Option<Executed>,
    /// Arguments after the program's name.
    pub args: Vec<Arc<str>>,
    /// The environment.
    pub env: BTreeMap<Arc<str>, Arc<str>>,
    /// Input files.
    pub files: Vec<InputFile>,
    /// Host directories.
    pub directories: Vec<DirectoryGrant>,
    /// Volumes, at most [`TaskSpec::MAX_VOLUMES`]. A launch with volumes has one slot, and a runner process of its own.
    pub volumes: Vec<VolumeMount>,
    /// What each task (each slot of a batch) holds while it runs. `mem` is required: it is the memory limit. A task inside
    /// an executor has the executor's memory and disk, and holds neither.
    pub resources: Resources,
    /// Ceilings.
    pub limits: Limits,
    /// How its instructions are counted and interrupted.
    pub metering: Metering,
    /// Fixes the guest's randomness and clocks, so that a run can be repeated exactly.
    pub seed: Option<u64>,
    /// Uninterpreted key-value pairs.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it may do on the network.
    pub network: NetworkGrants,
    /// How it is served, if it is a service; none is the defaults.
    pub service: Option<ServiceSpec>,
    /// Whether it runs on revocable resources, and on those alone: what the owners of an agent's resources leave unused. It
    /// computes when they do not, and ends KILLED with the reason PREEMPTED when they need their memory back. Such a task holds
    /// `cpus` and `mem` and nothing else.
    pub revocable: bool,
}

/// Why a task was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskSpecError {
    /// The task asks for no memory or no CPU.
    #[error("task asks for no {0}; every task needs some")]
    Missing(ResourceName),
    /// Too many of something.
    #[error("task has {count} {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many, or how many bytes.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A guest path is absolute, leaves the sandbox, or is too long.
    #[error("{field} {path:?} is not a relative path of at most 512 bytes without \".\", \"..\" and empty parts")]
    Path {
        /// Which field.
        field: &'static str,
        /// The path.
        path: String,
    },
    /// Two inputs have the same guest path.
    #[error("the guest path {0:?} is given twice")]
    DuplicatePath(String),
    /// A volume is mounted twice.
    #[error("volume {0} is given twice")]
    DuplicateVolume(VolumeId),
    /// A guest path lies below another one, which is a file.
    #[error("the guest path {path:?} lies below {file:?}, which is a file")]
    BelowFile {
        /// The path.
        path: String,
        /// The file.
        file: String,
    },
    /// A host directory is not an absolute path without `..`.
    #[error("directory {0:?} is not an absolute path without \"..\"")]
    HostPath(String),
    /// A string has a NUL byte, or an environment key is empty or has `=`.
    #[error("{0} has a NUL byte, or an environment name is empty or has \"=\"")]
    Text(&'static str),
    /// A limit of zero.
    #[error("limit {0} is zero; leave it out for no limit")]
    ZeroLimit(&'static str),
    /// The ceiling is below what the task is promised.
    #[error("limit cpus is {}, less than the {} cpus that the task holds", ResourceName::Cpus.show(*limit), ResourceName::Cpus.show(*held))]
    CpusBelowHeld {
        /// The ceiling.
        limit: Amount,
        /// The task's `cpus`.
        held: Amount,
    },
    /// A budget of fuel where none is counted.
    #[error("limit fuel is {0}, but the metering of the task counts no fuel")]
    FuelNotCounted(u64),
    /// It is to listen, and holds no port between 1 and 65535.
    #[error("task is to listen and holds no port; it needs one of the resource ports")]
    NoPort,
    /// It is to listen on a port that it does not hold.
    #[error("service port {port} is not one of the ports {held} that the task holds")]
    ForeignPort {
        /// The port.
        port: u16,
        /// What it holds.
        held: Ranges,
    },
    /// Something that goes with one kind of task only.
    #[error("task of kind {kind} has {what}, which does not go with it")]
    Kind {
        /// The kind.
        kind: &'static str,
        /// What it has.
        what: &'static str,
    },
    /// A number outside its bounds.
    #[error("{what} is {value}; it needs {least} to {most}")]
    Bounds {
        /// Which.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// It is to run on revocable resources and asks for one that never is.
    #[error("task is revocable and asks for {0}; only cpus and mem are ever revocable")]
    NeverRevocable(ResourceName),
    /// The template does not fit an executor, or a task inside one.
    #[error(transparent)]
    Executed(#[from] ExecutedError),
}

const MAX_TEXT_BYTES: usize = 128 << 10;
const MAX_ENTRIES: usize = 4096;
const MAX_GRANTS: usize = 1024;

impl TaskSpec {
    /// Most volumes of a task.
    pub const MAX_VOLUMES: usize = 16;

    /// Checks every field against its limit.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), TaskSpecError> {
        let needed: &[ResourceName] =
            if self.is_executed() { &[ResourceName::Cpus] } else { &[ResourceName::Cpus, ResourceName::Mem] };
        if let Some(name) = needed.iter().find(|name| self.resources.scalar(name).0 == 0) {
            return Err(TaskSpecError::Missing(name.clone()));
        }
        self.validate_kind()?;
        self.validate_revocable()?;
        check_count("arguments", self.args.len(), MAX_ENTRIES)?;
        check_count("environment variables", self.env.len(), MAX_ENTRIES)?;
        check_count("labels", self.labels.len(), 64)?;
        check_count("input files", self.files.len(), MAX_GRANTS)?;
        check_count("directories", self.directories.len(), 64)?;
        check_count("volumes", self.volumes.len(), TaskSpec::MAX_VOLUMES)?;
        let mut volumes = std::collections::BTreeSet::new();
        if let Some(twice) = self.volumes.iter().find(|mount| !volumes.insert(&mount.id)) {
            return Err(TaskSpecError::DuplicateVolume(twice.id.clone()));
        }
        self.validate_text()?;
        self.validate_paths()?;
        for (what, zero) in
            [("fuel", self.limits.fuel == Some(0)), ("deadline", self.limits.deadline == Some(Duration::ZERO))]
        {
            if zero {
                return Err(TaskSpecError::ZeroLimit(what));
            }
        }
        self.validate_metering()?;
        self.validate_network()
    }

    fn validate_revocable(&self) -> Result<(), TaskSpecError> {
        let firm = self.resources.iter().find(|(name, _)| !matches!(name, ResourceName::Cpus | ResourceName::Mem));
        match firm.filter(|_| self.revocable) {
            Some((name, _)) => Err(TaskSpecError::NeverRevocable(name.clone())),
            None => Ok(()),
        }
    }

    fn validate_metering(&self) -> Result<(), TaskSpecError> {
        let held = self.resources.scalar(&ResourceName::Cpus);
        match (self.limits.cpus, self.metering, self.limits.fuel) {
            (Some(limit), ..) if limit < held => Err(TaskSpecError::CpusBelowHeld { limit, held }),
            (_, Metering::Epochs, Some(fuel)) => Err(TaskSpecError::FuelNotCounted(fuel)),
            _ => Ok(()),
        }
    }

    /// The ports that each task holds.
    pub fn ports(&self) -> Ranges {
        match self.resources.get(&ResourceName::Ports) {
            Some(Quantity::Ranges(ports)) => ports.clone(),
            _ => Ranges::default(),
        }
    }

    /// The port that the task is served on, if it is a service: the one it names, else the lowest it holds.
    pub fn service_port(&self) -> Option<u16> {
        let lowest = || self.ports().iter().next().and_then(|(first, _)| u16::try_from(first).ok());
        let is_service = self.kind == TaskKind::Service;
        is_service.then(|| self.service.as_ref().and_then(|service| service.port).or_else(lowest)).flatten()
    }

    fn validate_network(&self) -> Result<(), TaskSpecError> {
        check_count("outbound patterns", self.network.outbound.len(), MAX_NET_PATTERNS)?;
        let is_service = self.kind == TaskKind::Service;
        if (is_service || self.network.listen.is_some()) && !self.ports().iter().any(|(_, last)| last > 0) {
            return Err(TaskSpecError::NoPort);
        }
        let kind = self.kind.as_str();
        match (&self.service, self.seed, is_service) {
            (Some(_), _, false) => return Err(TaskSpecError::Kind { kind, what: "settings of a service" }),
            (_, Some(_), true) => return Err(TaskSpecError::Kind { kind, what: "a seed" }),
            _ => {}
        }
        if self.seed.is_some() && !self.network.is_empty() {
            return Err(TaskSpecError::Kind { kind: "seeded command", what: "a network grant" });
        }
        self.service.as_ref().map_or(Ok(()), |service| self.validate_service(service))
    }

    fn validate_service(&self, service: &ServiceSpec) -> Result<(), TaskSpecError> {
        let held = self.ports();
        if let Some(port) = service.port
            && (port == 0 || !held.contains(&Ranges::new([(port.into(), port.into())])))
        {
            return Err(TaskSpecError::ForeignPort { port, held });
        }
        let millis = u64::try_from(service.request_time.as_millis()).unwrap_or(u64::MAX);
        let most_millis = u64::try_from(MAX_REQUEST_TIME.as_millis()).unwrap_or(u64::MAX);
        let bounds = [
            ("service concurrency", u64::from(service.concurrency), u64::from(MAX_CONCURRENCY)),
            ("service request time in milliseconds", millis, most_millis),
            ("service request fuel", service.request_fuel.unwrap_or(1), u64::MAX),
        ];
        match bounds.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((what, value, most)) => Err(TaskSpecError::Bounds { what, value, least: 1, most }),
            None => Ok(()),
        }
    }

    fn validate_text(&self) -> Result<(), TaskSpecError> {
        let env_bytes: usize = self.env.iter().map(|(key, value)| key.len() + value.len()).sum();
        let label_bytes: usize = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let bytes = self.args.iter().map(|arg| arg.len()).sum::<usize>() + env_bytes + label_bytes;
        check_count("bytes of arguments, environment and labels", bytes, MAX_TEXT_BYTES)?;
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(TaskSpecError::Text("an argument"));
        }
        let bad_key = |key: &Arc<str>| key.is_empty() || key.contains(['=', '\0']);
        if self.env.iter().any(|(key, value)| bad_key(key) || value.contains('\0')) {
            return Err(TaskSpecError::Text("the environment"));
        }
        Ok(())
    }

    fn validate_paths(&self) -> Result<(), TaskSpecError> {
        let mut seen = std::collections::BTreeSet::new();
        let files = self.files.iter().map(|file| ("file", &file.path));
        let directories = self.directories.iter().map(|grant| ("directory", &grant.guest));
        let volumes = self.volumes.iter().map(|mount| ("volume", &mount.path));
        for (field, path) in files.chain(directories).chain(volumes) {
            if !is_guest_path(path) {
                return Err(TaskSpecError::Path { field, path: path.chars().take(128).collect() });
            }
            if !seen.insert(path) {
                return Err(TaskSpecError::DuplicatePath(path.to_string()));
            }
        }
        let below_file = |path: &str| {
            let is_above = |file: &&InputFile| path.strip_prefix(&*file.path).is_some_and(|rest| rest.starts_with('/'));
            self.files.iter().find(is_above)
        };
        if let Some((path, file)) = seen.iter().find_map(|path| Some((*path, below_file(path)?))) {
            return Err(TaskSpecError::BelowFile { path: path.to_string(), file: file.path.to_string() });
        }
        let plain =
            |host: &str| host.starts_with('/') && !host.contains('\0') && host.split('/').all(|part| part != "..");
        match self.directories.iter().find(|grant| !plain(&grant.host) || grant.host.len() > 4096) {
            Some(grant) => Err(TaskSpecError::HostPath(grant.host.chars().take(128).collect())),
            None => Ok(()),
        }
    }
}

fn check_count(what: &'static str, count: usize, limit: usize) -> Result<(), TaskSpecError> {
    if count > limit { Err(TaskSpecError::TooMany { what, count, limit }) } else { Ok(()) }
}

fn is_guest_path(path: &str) -> bool {
    let part_ok = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    path.len() <= 512 && !path.chars().any(char::is_control) && path.split('/').all(part_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TaskSpec {
        TaskSpec { resources: "cpus:0.1;mem:16MiB".parse().unwrap(), ..TaskSpec::default() }
    }

    #[test]
    fn a_task_needs_cpu_and_memory() {
        assert_eq!(spec().validate(), Ok(()));
        let none = TaskSpec { resources: "cpus:1".parse().unwrap(), ..spec() };
        assert_eq!(none.validate(), Err(TaskSpecError::Missing(ResourceName::Mem)));
    }

    #[test]
    fn a_revocable_task_asks_for_nothing_that_cannot_be_taken_back() {
        let of = |resources: &str| TaskSpec { revocable: true, resources: resources.parse().unwrap(), ..spec() };
        assert_eq!(of("cpus:0.1;mem:16MiB").validate(), Ok(()));
        let disk = of("cpus:0.1;mem:16MiB;disk:1MiB").validate();
        assert_eq!(disk, Err(TaskSpecError::NeverRevocable(ResourceName::Disk)));
    }

    #[test]
    fn paths_that_leave_the_sandbox_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../b", "a//b", "", ".", "a\0b", &"x".repeat(513)] {
            let file = InputFile { digest: Digest::default(), path: path.into() };
            assert!(TaskSpec { files: vec![file], ..spec() }.validate().is_err(), "{path:?} passed");
        }
        let file = |path: &str| InputFile { digest: Digest::default(), path: path.into() };
        assert!(TaskSpec { files: vec![file("a"), file("ab/c"), file("ab/d")], ..spec() }.validate().is_ok());
        assert!(TaskSpec { files: vec![file("a"), file("a/b")], ..spec() }.validate().is_err());
        let grant =
            |host: &str, guest: &str| DirectoryGrant { host: host.into(), guest: guest.into(), writable: false };
        for bad in [grant("data", "data"), grant("/data/../etc", "data"), grant("/data", "../data")] {
            assert!(TaskSpec { directories: vec![bad], ..spec() }.validate().is_err());
        }
        let mount = |id: &str, path: &str| VolumeMount { id: id.parse().unwrap(), path: path.into(), read_only: false };
        for bad in
            [vec![mount("a", "x"), mount("a", "y")], vec![mount("a", "x"), mount("b", "x")], vec![mount("a", "/x")]]
        {
            assert!(TaskSpec { volumes: bad, ..spec() }.validate().is_err());
        }
        assert!(TaskSpec { volumes: vec![mount("a", "x"), mount("b", "y")], ..spec() }.validate().is_ok());
        let twice = vec![grant("/a", "data"), grant("/b", "data")];
        assert!(TaskSpec { directories: twice, ..spec() }.validate().is_err());
    }

    #[test]
    fn a_ceiling_of_cpus_is_not_below_what_is_held() {
        let limited = |cpus| TaskSpec { limits: Limits { cpus: Some(Amount(cpus)), ..Limits::default() }, ..spec() };
        assert_eq!(limited(100).validate(), Ok(()));
        let error = limited(99).validate().unwrap_err();
        assert_eq!(error.to_string(), "limit cpus is 0.099, less than the 0.1 cpus that the task holds");
    }

    #[test]
    fn fuel_that_is_not_counted_cannot_be_limited() {
        let limits = Limits { fuel: Some(7), ..Limits::default() };
        let spec = TaskSpec { metering: Metering::Epochs, limits, ..spec() };
        assert_eq!(spec.validate(), Err(TaskSpecError::FuelNotCounted(7)));
    }

    #[test]
    fn a_service_holds_the_port_it_is_served_on() {
        let service = |ports: &str, service| {
            let resources = format!("cpus:0.1;mem:16MiB{ports}").parse().unwrap();
            TaskSpec { kind: TaskKind::Service, service, resources, ..TaskSpec::default() }
        };
        let on = |port| Some(ServiceSpec { port: Some(port), ..ServiceSpec::default() });
        assert_eq!(service("", None).validate(), Err(TaskSpecError::NoPort));
        assert_eq!(service(";ports:[8000-8001]", None).validate(), Ok(()));
        assert_eq!(service(";ports:[8000-8001]", None).service_port(), Some(8000));
        assert_eq!(service(";ports:[8000-8001]", on(8001)).service_port(), Some(8001));
        let error = service(";ports:[8000-8001]", on(80)).validate().unwrap_err().to_string();
        assert!(error.contains("port 80 is not one of the ports [8000-8001]"), "{error}");
        let slow = ServiceSpec { request_time: Duration::from_secs(3601), ..ServiceSpec::default() };
        let error = service(";ports:[8000-8001]", Some(slow)).validate().unwrap_err().to_string();
        assert!(error.contains("3601000; it needs 1 to 3600000"), "{error}");
        let seeded = TaskSpec { seed: Some(1), ..service(";ports:[8000-8001]", None) };
        assert!(seeded.validate().unwrap_err().to_string().contains("service has a seed"));
        let command = TaskSpec { service: Some(ServiceSpec::default()), ..spec() };
        assert!(command.validate().unwrap_err().to_string().contains("command has settings of a service"));
    }

    #[test]
    fn who_listens_holds_a_port() {
        let listen = NetworkGrants { listen: Some(crate::ListenOn::Agent), ..NetworkGrants::default() };
        assert_eq!(TaskSpec { network: listen, ..spec() }.validate(), Err(TaskSpecError::NoPort));
        let many = NetworkGrants { outbound: vec!["*:1".parse().unwrap(); 65], ..NetworkGrants::default() };
        assert!(TaskSpec { network: many, ..spec() }.validate().unwrap_err().to_string().contains("limit is 64"));
    }

    #[test]
    fn oversized_texts_are_refused_with_the_limit() {
        let spec = TaskSpec { args: vec!["x".repeat(200 << 10).into()], ..spec() };
        assert!(spec.validate().unwrap_err().to_string().contains("131072"));
    }
}
