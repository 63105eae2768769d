//! Which process is meant: a process id alone may by now be somebody else's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit};

/// How often a process is looked at where it cannot be waited for.
const POLL: Duration = Duration::from_millis(100);

/// Clock ticks of `/proc`: what Linux calls USER_HZ, on every architecture that agents run on.
const TICKS_PER_SECOND: u64 = 100;

/// Raises the limit on open files to what the system allows: every guest and every log that is read takes some.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}

/// A process by its id and the moment it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    pid: i32,
    start_ticks: u64,
}

impl ProcessIdentity {
    pub(crate) fn of_this_process() -> ProcessIdentity {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        ProcessIdentity { pid, start_ticks: start_ticks(pid).unwrap_or(0) }
    }

    /// Writes it into a runner's directory.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let draft = dir.join("process.new");
        fs::write(&draft, format!("{} {}\n", self.pid, self.start_ticks))?;
        fs::rename(draft, file(dir))
    }

    /// Reads what a runner wrote, if it wrote anything.
    pub(crate) fn read(dir: &Path) -> Option<ProcessIdentity> {
        let text = fs::read_to_string(file(dir)).ok()?;
        let (pid, start_ticks) = text.trim().split_once(' ')?;
        Some(ProcessIdentity { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? })
    }

    /// A handle on the process if it still is the same one. The order matters: once the handle is open, the id cannot
    /// be given to another process unnoticed.
    pub(crate) fn open(&self) -> Option<ProcessHandle> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (start_ticks(self.pid)? == self.start_ticks).then_some(ProcessHandle(fd))
    }
}

/// A handle that stays with its process.
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// A handle on a child that has been started and not been waited for, so that its id is still its own.
    pub(crate) fn of_child(pid: u32) -> io::Result<ProcessHandle> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(ProcessHandle(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Kills the process; one that has ended already is no error.
    pub(crate) fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.0, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "a runner cannot be killed");
        }
    }

    /// The CPU time that the process has used since it started, to a hundredth of a second; none when it has ended.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        cpu_of(&self.pid()?.to_string())
    }

    fn pid(&self) -> Option<u32> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd())).ok()?;
        // -1 once the process has been collected.
        info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
    }

    /// The memory that the process takes and that nothing could give back by dropping caches, in bytes; none when it has
    /// ended.
    pub(crate) fn memory(&self) -> Option<u64> {
        memory_of(&self.pid()?.to_string())
    }

    /// Whether the process has ended, be it that nobody has collected it yet.
    pub(crate) fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        if let Ok(fd) = self.0.try_clone() {
            // SAFETY: the descriptor is owned by what is registered, and so stays open for as long as it is registered.
            if let Ok(fd) = unsafe { AsyncFd::register(fd) } {
                // A process handle becomes readable when its process ends.
                let _ = fd.readable().await;
            }
        }
        // Without a descriptor to spare, it is asked again and again.
        while !self.has_ended() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The anonymous and shared memory of a process, in bytes. File pages, such as native code, are not among it: they are
/// shared between runners and given up when memory is short.
pub(crate) fn memory_of(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((field("RssAnon:")? + field("RssShmem:").unwrap_or(0)) * 1024)
}

/// Fields 14 and 15 of `/proc/PID/stat`: CPU time in user and kernel mode, in clock ticks.
fn cpu_of(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    let ticks: u64 = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_SECOND)))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("process")
}

/// Field 22 of `/proc/PID/stat`: when the process started, in clock ticks since boot. The command's name in field 2 may
/// have spaces and parentheses of its own.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_counted() {
        let me = ProcessIdentity::of_this_process().open().unwrap();
        let before = me.memory().unwrap();
        let touched = vec![1_u8; 64 << 20];
        let after = me.memory().unwrap();
        assert!(after >= before + (60 << 20), "{before} before, {after} after");
        drop(touched);
    }

    #[test]
    fn cpu_time_that_is_used_is_counted() {
        let me = ProcessIdentity::of_this_process().open().unwrap();
        let before = me.cpu().unwrap();
        let mut sum = 0_u64;
        while me.cpu().unwrap() < before + Duration::from_millis(30) {
            sum = std::hint::black_box((0..100_000_u64).fold(sum, u64::wrapping_add));
        }
    }

    #[test]
    fn a_process_is_known_by_its_id_and_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let me = ProcessIdentity::of_this_process();
        me.write(dir.path()).unwrap();
        assert_eq!(ProcessIdentity::read(dir.path()), Some(me));
        assert!(me.open().is_some());
        let earlier = ProcessIdentity { start_ticks: me.start_ticks + 1, ..me };
        assert!(earlier.open().is_none(), "another process with the same id was taken for it");
    }
}
