//! What a compile worker may use. A compiler fed with hostile Wasm can take any amount of time and memory; the process
//! ends itself before that hurts others.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Seconds of CPU time.
pub(crate) const CPU_SECONDS: u64 = 300;
/// Bytes of address space.
pub(crate) const ADDRESS_SPACE: u64 = 4 << 30;
/// Bytes of the file written: the largest module makes about three times its size of native code.
pub(crate) const FILE_BYTES: u64 = 1 << 30;
/// Open files.
const OPEN_FILES: u64 = 64;

/// Limits this process from here on.
pub(crate) fn apply() -> io::Result<()> {
    let limits = [
        (Resource::Cpu, CPU_SECONDS),
        (Resource::As, ADDRESS_SPACE),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Nofile, OPEN_FILES),
        // No copy of a tenant's module is left behind by a crash.
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        let hard = getrlimit(resource).maximum;
        let limit = hard.map_or(limit, |hard| hard.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}
