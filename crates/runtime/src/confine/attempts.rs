//! What somebody would try who has broken out of Wasm. A probe, confined like a runner, tries it and says how it went: the
//! tests of confinement, and a way for operators to see for themselves.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Pid;

use super::OpenPaths;

/// How long a connection may take to be refused.
const CONNECT: Duration = Duration::from_secs(2);

/// One attempt, written as its name and, after a colon, what it is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// `read:PATH`: read a file.
    Read(String),
    /// `write:PATH`: write to a file, made if missing.
    Write(String),
    /// `list:PATH`: list a directory.
    List(String),
    /// `remove:PATH`: remove a file.
    Remove(String),
    /// `unix:PATH`: connect to a unix socket.
    Unix(String),
    /// `tcp:ADDRESS`: connect to a TCP port.
    Tcp(String),
    /// `listen:ADDRESS`: listen on a TCP port.
    Listen(String),
    /// `exec:PATH`: become another program.
    Exec(String),
    /// `spawn:PATH`: start another program.
    Spawn(String),
    /// `ptrace:PID`: take hold of another process.
    Ptrace(i32),
    /// `signal:PID`: send a signal to another process (one without effect).
    Signal(i32),
    /// `setuid`: become root.
    SetUid,
    /// `mount`: mount a file system.
    Mount,
    /// `memory`: read another process's memory (its parent's).
    Memory,
}

/// How an attempt went.
#[derive(Debug)]
pub struct Tried(io::Result<String>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(what) => write!(f, "succeeded: {what}"),
            Err(error) => write!(f, "failed: {error}"),
        }
    }
}

/// A text that names no attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no attempt")]
pub struct AttemptError(String);

impl FromStr for Attempt {
    type Err = AttemptError;

    fn from_str(text: &str) -> Result<Attempt, AttemptError> {
        let unknown = || AttemptError(text.chars().take(80).collect());
        let (name, target) = text.split_once(':').unwrap_or((text, ""));
        let pid = || target.parse().map_err(|_not_a_number| unknown());
        let target = target.to_owned();
        Ok(match name {
            "read" => Attempt::Read(target),
            "write" => Attempt::Write(target),
            "list" => Attempt::List(target),
            "remove" => Attempt::Remove(target),
            "unix" => Attempt::Unix(target),
            "tcp" => Attempt::Tcp(target),
            "listen" => Attempt::Listen(target),
            "exec" => Attempt::Exec(target),
            "spawn" => Attempt::Spawn(target),
            "ptrace" => Attempt::Ptrace(pid()?),
            "signal" => Attempt::Signal(pid()?),
            "setuid" => Attempt::SetUid,
            "mount" => Attempt::Mount,
            "memory" => Attempt::Memory,
            _ => return Err(unknown()),
        })
    }
}

impl Attempt {
    /// Tries it. Some attempts end the process: that is what they are for.
    /// Paths are reached by way of what the process holds open, as a runner reaches them.
    pub fn run(&self, open: &OpenPaths) -> Tried {
        Tried(self.try_it(open))
    }

    fn try_it(&self, open: &OpenPaths) -> io::Result<String> {
        let at = |path: &String| open.resolve(Path::new(path));
        let done = |_| "done".to_owned();
        match self {
            Attempt::Read(path) => {
                let mut bytes = Vec::new();
                fs::File::open(at(path))?.take(1 << 10).read_to_end(&mut bytes)?;
                Ok(format!("{} bytes", bytes.len()))
            }
            Attempt::Write(path) => {
                let mut file = fs::File::options().create(true).append(true).open(at(path))?;
                io::Write::write_all(&mut file, b"x").map(done)
            }
            Attempt::List(path) => Ok(format!("{} entries", fs::read_dir(at(path))?.count())),
            Attempt::Remove(path) => fs::remove_file(at(path)).map(done),
            Attempt::Unix(path) => UnixStream::connect(at(path)).map(|_| "connected".to_owned()),
            Attempt::Tcp(address) => {
                let address = address.parse().map_err(io::Error::other)?;
                TcpStream::connect_timeout(&address, CONNECT).map(|_| "connected".to_owned())
            }
            Attempt::Listen(address) => TcpListener::bind(address).map(|_| "listening".to_owned()),
            Attempt::Exec(path) => Err(Command::new(path).exec()),
            Attempt::Spawn(path) => Command::new(path).status().map(|status| status.to_string()),
            Attempt::Ptrace(pid) => trace(*pid).map(done),
            Attempt::Signal(pid) => {
                let pid = Pid::from_raw(*pid).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(rustix::process::test_kill_process(pid).map(done)?)
            }
            Attempt::SetUid => Ok(rustix::thread::set_thread_uid(rustix::thread::Uid::ROOT).map(done)?),
            Attempt::Mount => mount().map(done),
            Attempt::Memory => read_memory().map(done),
        }
    }
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: seizing a process with no options stops nothing and touches no memory of this one.
    answer(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })
}

fn mount() -> io::Result<()> {
    let (kind, target) = (c"tmpfs".as_ptr(), c"/tmp".as_ptr());
    // SAFETY: the strings are static and end in a zero byte; the rest is absent.
    answer(unsafe { libc::mount(kind, target, kind, libc::MS_RDONLY, std::ptr::null()) }.into())
}

fn read_memory() -> io::Result<()> {
    let parent = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
    // SAFETY: no ranges are named, so nothing is read or written.
    answer(unsafe { libc::process_vm_readv(parent, std::ptr::null(), 0, std::ptr::null(), 0, 0) } as libc::c_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read_and_say_how_they_went() {
        assert_eq!("read:/etc/a:b".parse(), Ok(Attempt::Read("/etc/a:b".to_owned())));
        assert_eq!("signal:17".parse(), Ok(Attempt::Signal(17)));
        for text in ["signal:x", "dance", ""] {
            assert!(text.parse::<Attempt>().is_err(), "{text}");
        }
        let open = OpenPaths::default();
        let own = format!("read:{}", file!().replace("crates/runtime/", ""));
        assert!(own.parse::<Attempt>().unwrap().run(&open).to_string().starts_with("succeeded"));
        assert!(Attempt::Read("/no/such".to_owned()).run(&open).to_string().starts_with("failed"));
    }
}
