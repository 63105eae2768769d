//! What this machine allows: cores of the affinity mask and the cgroup, memory, disk; less a reserve for the agent itself.

use std::fs;
use std::path::Path;

use holm_model::{Amount, Attributes, BootId, Quantity, Ranges, ResourceName, Resources};
use holm_runtime::{EngineKind, WASMTIME_VERSION, cpu_features};

/// Kept back for the agent, its runners' overhead and the system: a tenth, within these bounds.
const MEMORY_RESERVE_MIN: u64 = 128 << 20;
/// Most memory kept back.
const MEMORY_RESERVE_MAX: u64 = 2 << 30;
/// Disk kept back: a tenth of what is free.
const DISK_RESERVE_TENTHS: u64 = 1;
/// The ports an agent offers unless told otherwise.
const DEFAULT_PORTS: (u64, u64) = (31_000, 32_000);

/// The memory that is kept back unless told otherwise, in bytes: a tenth of the machine's or the cgroup's, at least
/// 128 MiB, at most 2 GiB.
pub fn default_reserve() -> u64 {
    (memory_bytes() / 10).clamp(MEMORY_RESERVE_MIN, MEMORY_RESERVE_MAX)
}

/// Everything this machine may offer: `cpus` of the affinity mask and the cgroup's quota, `mem` of the machine and the
/// cgroup less `reserve` bytes, `disk` free below `dir` less a tenth, ports 31000-32000.
pub fn detect_resources(dir: &Path, reserve: u64) -> Resources {
    let memory = memory_bytes();
    let disk = free_disk_bytes(dir);
    let mut resources = Resources::scalars([
        (ResourceName::Cpus, cpus_milli()),
        (ResourceName::Mem, memory.saturating_sub(reserve)),
        (ResourceName::Disk, (disk - disk * DISK_RESERVE_TENTHS / 10).min(Amount::MAX.0)),
    ]);
    resources.set(ResourceName::Ports, Quantity::Ranges(Ranges::new([DEFAULT_PORTS])));
    resources
}

/// `detected` shared out to `agents` on one machine: scalars divided, ports split.
pub fn divide(detected: &Resources, agents: u32) -> Vec<Resources> {
    let share = u64::from(agents.max(1));
    let part = |position: u64| {
        let divided = detected.iter().map(|(name, quantity)| {
            let quantity = match quantity {
                Quantity::Scalar(amount) => Quantity::Scalar(Amount(amount.0 / share)),
                Quantity::Ranges(ranges) => {
                    let each = ranges.len() / share;
                    let before = ranges.take(each * position);
                    Quantity::Ranges(ranges.difference(&before).take(each))
                }
                Quantity::Set(items) => Quantity::Set(items.clone()),
            };
            (name.clone(), quantity)
        });
        divided.collect()
    };
    (0..share).map(part).collect()
}

/// Facts about the machine that every agent states, for frameworks to choose by:
///
/// | name | value |
/// |---|---|
/// | `arch`, `os`, `hostname` | `x86_64`, `linux`, the host's name |
/// | `cpu_features` | those that compiled guests make use of, such as `avx,avx2,fma`; `none` if there are none |
/// | `engine` | `native`, or `pulley` where guests are interpreted |
/// | `wasmtime` | the exact version that runs guests, for draining agents by version |
pub fn detect_attributes(engine: EngineKind) -> Attributes {
    let fact = |name: &str, value: &str| (name.into(), value.into());
    let features = cpu_features().join(",");
    [
        fact("arch", std::env::consts::ARCH),
        fact("os", std::env::consts::OS),
        fact("hostname", &hostname()),
        fact("cpu_features", if features.is_empty() { "none" } else { &features }),
        fact("engine", engine.as_str()),
        fact("wasmtime", WASMTIME_VERSION),
    ]
    .into()
}

/// The host's name.
pub fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// The kernel's id of this boot.
pub(crate) fn boot_id() -> BootId {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BootId(text.trim().into())
}

/// Microseconds of the clock that goes on while the machine sleeps.
pub fn boot_clock() -> holm_model::Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    holm_model::Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

fn cpus_milli() -> u64 {
    let affinity = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64 * 1000;
    affinity.min(cgroup_cpu_milli().unwrap_or(u64::MAX)).max(1)
}

/// The quota of cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_quota_us`), as thousandths of a core.
fn cgroup_cpu_milli() -> Option<u64> {
    let milli = |quota: &str, period: &str| {
        let quota: u64 = quota.trim().parse().ok()?;
        let period: u64 = period.trim().parse().ok()?;
        quota.saturating_mul(1000).checked_div(period)
    };
    if let Some(text) = read_cgroup("cpu.max") {
        let (quota, period) = text.trim().split_once(' ')?;
        return milli(quota, period);
    }
    let quota = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()?;
    let period = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us").ok()?;
    milli(&quota, &period)
}

fn memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    let machine = kib.map_or(1 << 30, |kib| kib * 1024);
    let limit =
        read_cgroup("memory.max").or_else(|| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes").ok());
    machine.min(limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX))
}

/// The memory that the machine, or the cgroup of this process, could still give without ending anybody, in bytes; none where
/// nobody says.
pub(crate) fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let number = |file: &str| read_cgroup(file)?.trim().parse::<u64>().ok();
    let of_group = number("memory.max").zip(number("memory.current"));
    let left = of_group.map(|(limit, used)| limit.saturating_sub(used) + reclaimable());
    Some((kib * 1024).min(left.unwrap_or(u64::MAX)))
}

/// File pages that the cgroup would drop for others.
fn reclaimable() -> u64 {
    let stat = read_cgroup("memory.stat").unwrap_or_default();
    let field =
        |name: &str| -> Option<u64> { stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok() };
    field("inactive_file ").unwrap_or(0)
}

/// A file of this process's own cgroup (version 2), or of the root of what a container sees.
fn read_cgroup(file: &str) -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let nested = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')).join(file);
    fs::read_to_string(nested).or_else(|_| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file))).ok()
}

fn free_disk_bytes(dir: &Path) -> u64 {
    free_and_total_disk(dir).map_or(0, |(free, _)| free)
}

/// How much of the file system of `dir`, or of what is there of it, is free for us, and how large it is, in bytes.
pub(crate) fn free_and_total_disk(dir: &Path) -> Option<(u64, u64)> {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_cores_memory_and_ports() {
        let resources = detect_resources(Path::new("/no/such/directory"), default_reserve());
        for name in [ResourceName::Cpus, ResourceName::Mem] {
            assert!(resources.scalar(&name).0 > 0, "{name} missing in {resources}");
        }
        assert!(resources.contains(&"ports:[31000-32000]".parse().unwrap()));
    }

    #[test]
    fn division_gives_no_port_twice_and_no_more_than_there_is() {
        let whole: Resources = "cpus:2;mem:1GiB;ports:[31000-31009]".parse().unwrap();
        let parts = divide(&whole, 3);
        let sum = parts.iter().try_fold(Resources::EMPTY, |sum, part| sum.plus(part)).unwrap();
        assert!(whole.contains(&sum));
        assert_eq!(parts[0].scalar(&ResourceName::Cpus), Amount(666));
        assert_eq!(
            parts[2].get(&ResourceName::Ports),
            "ports:[31006-31008]".parse::<Resources>().unwrap().get(&ResourceName::Ports)
        );
    }
}
