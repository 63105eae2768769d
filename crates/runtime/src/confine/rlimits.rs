//! Layer `rlimits`. A runner has no limit on address space, since its pools reserve terabytes of it, and none on file sizes,
//! since exceeding that would end the process with a signal: the disk ledger refuses the write instead.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits this process from here on. `threads` bounds the processes and threads of the process's user, when that is one of
/// its own.
pub(super) fn apply(threads: Option<u64>) -> io::Result<()> {
    // Core files hold tenants' data; nothing here locks memory or sends POSIX messages.
    let none = [(Resource::Core, 0), (Resource::Memlock, 0), (Resource::Msgqueue, 0), (Resource::Rtprio, 0)];
    let threads = threads.map(|threads| (Resource::Nproc, threads));
    none.into_iter().chain(threads).try_for_each(|(resource, limit)| lower(resource, limit))
}

/// Lowers a limit for good.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let limit = getrlimit(resource).maximum.map_or(limit, |hard| hard.min(limit));
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}
