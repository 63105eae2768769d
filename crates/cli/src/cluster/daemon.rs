//! One daemon as a child process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The pause before a daemon is started again; doubled at every early end, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A daemon that ran this long did start.
const SETTLED: Duration = Duration::from_secs(60);
/// How much of a log is looked at for the reason of an end, in bytes.
const LAST_WORDS: u64 = 16 << 10;

/// How long a daemon lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// It is told to stop when this process is gone, however that ended.
    WithParent,
    /// It goes on.
    OwnWay,
}

/// A daemon: how it is started, and the process when there is one.
pub(super) struct Daemon {
    name: String,
    log: PathBuf,
    args: Vec<OsString>,
    lifetime: Lifetime,
    child: Option<Child>,
    started: Instant,
    /// Where in the log its present life begins.
    log_from: u64,
    pause: Duration,
    restart_at: Option<Instant>,
}

impl Daemon {
    pub(super) fn new(name: &str, log: PathBuf, args: &[String], lifetime: Lifetime) -> Daemon {
        Daemon {
            name: name.to_owned(),
            log,
            args: args.iter().map(OsString::from).collect(),
            lifetime,
            child: None,
            started: Instant::now(),
            log_from: 0,
            pause: FIRST_PAUSE,
            restart_at: None,
        }
    }

    pub(super) fn arg(&mut self, option: &str, value: impl ToString) -> &mut Daemon {
        self.args.extend([option.into(), value.to_string().into()]);
        self
    }

    pub(super) fn arg_path(&mut self, option: &str, value: &Path) -> &mut Daemon {
        self.args.extend([option.into(), value.into()]);
        self
    }

    pub(super) fn replace_arg(&mut self, option: &str, value: &str) {
        if let Some(at) = self.args.iter().position(|arg| arg == option) {
            self.args[at + 1] = value.into();
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = open_log(&self.log).with_context(|| format!("log {} cannot be opened", self.log.display()))?;
        self.log_from = log.metadata().map_or(0, |metadata| metadata.len());
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let mut command = Command::new(program);
        command.args(&self.args).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // The terminal's ctrl-C is for this process, which then stops the daemons in order.
        command.process_group(0);
        if self.lifetime == Lifetime::WithParent {
            let parent = getpid();
            let hook = move || {
                set_parent_process_death_signal(Some(Signal::TERM))?;
                // The parent may have died before the line above.
                if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
            };
            // SAFETY: the hook makes two system calls and neither allocates nor takes a lock.
            unsafe { command.pre_exec(hook) };
        }
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        self.child = Some(child);
        self.started = Instant::now();
        self.restart_at = None;
        Ok(())
    }

    /// How the process ended, if it has.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Takes note of the end and says how long to wait before the next start.
    pub(super) fn ended(&mut self) -> Duration {
        self.child = None;
        if self.started.elapsed() >= SETTLED {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.restart_at = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    pub(super) fn restart_at(&self) -> Option<Instant> {
        self.restart_at
    }

    pub(super) fn is_due(&self) -> bool {
        self.restart_at.is_some_and(|at| at <= Instant::now())
    }

    /// The line of the log that says why the process ended: its error, else the last line.
    pub(super) fn last_words(&self) -> String {
        let text = read_tail(&self.log, self.log_from).unwrap_or_default();
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines().rev().find_map(|line| line.strip_prefix("holm: error: "));
        let words = error.or_else(|| lines().next_back()).unwrap_or("it said nothing");
        crate::output::clean(words).into_owned()
    }

    /// Asks the process to stop, and kills it when it does not.
    pub(super) async fn stop(mut self, limit: Duration) {
        let Some(child) = &mut self.child else { return };
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // The process is not reaped yet, so the id is still its own; one that has ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(limit, child.wait()).await.is_err() {
            tracing::warn!(daemon = self.name, limit = limit.as_secs(), "does not stop and is killed");
            // It fails only when the process has ended meanwhile.
            let _ = child.kill().await;
        }
    }
}

/// Waits until one of the daemons ends: which, and how.
pub(super) async fn any_end(daemons: &mut [Daemon]) -> (usize, String) {
    let ends = daemons.iter_mut().enumerate().filter_map(|(index, daemon)| {
        let child = daemon.child.as_mut()?;
        let end = async move {
            let status = child.wait().await;
            (index, status.map_or_else(|error| error.to_string(), |status| status.to_string()))
        };
        Some(Box::pin(end))
    });
    let ends: Vec<_> = ends.collect();
    if ends.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(ends).await.0
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn read_tail(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(LAST_WORDS))))?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
