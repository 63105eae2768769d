//! Runner processes as the agent sees them: started, found again after a restart, told, ended.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use holm_agent::{AgentEvent, RunnerScope};
use holm_model::{FromRunner, RunnerId, ToRunner};
use holm_proto::runner::v1 as wire;
use holm_runtime::EngineKind;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::confining::{Confining, Grounds};
use crate::link::{read_messages, short_path, write_messages};
use crate::process::{ProcessHandle, ProcessIdentity};
use crate::seats::Seats;
use crate::tenants;

/// Messages to one runner that wait to be written; beyond, its connection is closed and made anew.
const OUTBOX: usize = 4096;
/// How long a runner may take to listen on its socket.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long what a dead runner said last may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often a socket that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(5);

/// How runners are started.
#[derive(Clone, Debug)]
pub(crate) struct RunnerCommand {
    pub(crate) program: PathBuf,
    pub(crate) threads: usize,
    pub(crate) max_tasks: usize,
    pub(crate) log_bytes: u64,
    pub(crate) engine: EngineKind,
    pub(crate) pooled: bool,
}

/// The agent's runner processes.
pub(crate) struct Runners {
    command: RunnerCommand,
    seats: Seats,
    dir: PathBuf,
    confining: Arc<Confining>,
    grounds: Grounds,
    events: mpsc::Sender<AgentEvent>,
    known: HashMap<RunnerId, Known>,
}

struct Known {
    /// Present while connected.
    outbox: Option<mpsc::Sender<ToRunner>>,
    link: AbortHandle,
    process: Arc<ProcessHandle>,
}

/// The directory of a runner.
pub(crate) fn runner_dir(runners: &Path, scope: &RunnerScope, runner: RunnerId) -> PathBuf {
    let tenant = scope.framework.map_or_else(|| tenants::SHARED.to_owned(), |framework| framework.to_string());
    runners.join(tenant).join(runner.to_string())
}

impl Runners {
    /// Runners below `dir`, which exists, confined to their part of `grounds`; what happens to them goes to `events`.
    pub(crate) fn new(
        command: RunnerCommand,
        seats: Seats,
        dir: &Path,
        (confining, grounds): (Arc<Confining>, Grounds),
        events: mpsc::Sender<AgentEvent>,
    ) -> Runners {
        Runners { command, seats, dir: dir.to_owned(), confining, grounds, events, known: HashMap::new() }
    }

    /// Starts a runner. It belongs to no group or session of the agent, so that it outlives it.
    /// It is given `volumes` besides its grounds, each for writing or not.
    pub(crate) fn start(&mut self, runner: RunnerId, scope: RunnerScope, volumes: Vec<(PathBuf, bool)>) {
        let dir = runner_dir(&self.dir, &scope, runner);
        match self.spawn(&dir, runner, &scope, volumes) {
            Ok(process) => self.follow(runner, dir, process.into()),
            Err(error) => self.exited(runner, format!("its process cannot be started: {error}")),
        }
    }

    fn spawn(
        &mut self,
        dir: &Path,
        runner: RunnerId,
        scope: &RunnerScope,
        volumes: Vec<(PathBuf, bool)>,
    ) -> io::Result<ProcessHandle> {
        // A directory of that name can only be left from a life of the agent that nobody remembers.
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?,
        }
        let errors = fs::File::create(dir.join("stderr"))?;
        let RunnerCommand { program, threads, max_tasks, log_bytes, engine, pooled } = &self.command;
        let mut command = Command::new(program);
        command.arg("runner").arg("--dir").arg(dir).arg("--id").arg(runner.0.to_string());
        command.arg("--threads").arg(threads.to_string()).arg("--max-tasks").arg(max_tasks.to_string());
        command.arg("--log-bytes").arg(log_bytes.to_string()).arg("--engine").arg(engine.as_str());
        if !pooled {
            command.arg("--on-demand");
        }
        if scope.revocable {
            command.arg("--revocable");
        }
        if let Some(seat) = self.seats.assign(runner, dir)? {
            command.arg("--cpu-table").arg(self.seats.table()).arg("--cpu-seat").arg(seat.to_string());
        }
        let mut plan = self.confining.runner(runner, scope, dir, &self.grounds)?;
        for (path, writable) in volumes {
            if writable { plan.write.push(path) } else { plan.read.push(path) }
        }
        command.arg("--confine").arg(plan.to_text());
        // Nothing of the agent's environment reaches the process that runs guests.
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "HOLM_LOG"));
        command.current_dir(dir).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut child = command.spawn()?;
        let process = child.id().map_or(Err(io::ErrorKind::NotFound.into()), ProcessHandle::of_child);
        if process.is_err() {
            child.start_kill()?;
        }
        // Reaped here while the agent lives; by init afterwards.
        tokio::spawn(async move {
            let end = child.wait().await.ok().and_then(|status| status.signal());
            if end == Some(rustix::process::Signal::SYS.as_raw()) {
                tracing::error!(%runner, "a runner was ended by a forbidden system call: somebody may have taken it over");
            }
        });
        process
    }

    /// Connects to a runner that was started by an earlier life of the agent.
    pub(crate) fn reclaim(&mut self, runner: RunnerId, scope: RunnerScope) {
        let dir = runner_dir(&self.dir, &scope, runner);
        self.seats.recall(runner, &dir);
        match ProcessIdentity::read(&dir).and_then(|identity| identity.open()) {
            Some(process) => self.follow(runner, dir, process.into()),
            None => self.exited(runner, "its process was gone when the agent came back".to_owned()),
        }
    }

    /// Kills runner processes below the directory that nobody knows: the agent died between starting one and noting it,
    /// or its directory was reset.
    pub(crate) fn kill_unknown(&self, known: &[(RunnerId, RunnerScope)]) {
        for framework in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            for dir in fs::read_dir(framework.path()).into_iter().flatten().flatten() {
                let is_known = known.iter().any(|(runner, scope)| runner_dir(&self.dir, scope, *runner) == dir.path());
                if !is_known
                    && let Some(process) = ProcessIdentity::read(&dir.path()).and_then(|identity| identity.open())
                {
                    tracing::warn!(dir = %dir.path().display(), "a runner that nobody knows is killed");
                    process.kill();
                }
            }
        }
    }

    /// Connects to the runner's socket as soon as it listens, and watches its process.
    fn follow(&mut self, runner: RunnerId, dir: PathBuf, process: Arc<ProcessHandle>) {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let link = Link { runner, dir, process: process.clone(), events: self.events.clone() };
        let link = tokio::spawn(link.run(messages)).abort_handle();
        self.known.insert(runner, Known { outbox: Some(outbox), link, process });
    }

    /// A runner that did not exit was disconnected: try again.
    pub(crate) fn reconnect(&mut self, runner: RunnerId, scope: RunnerScope) {
        let Some(known) = self.known.remove(&runner) else { return self.reclaim(runner, scope) };
        known.link.abort();
        self.follow(runner, runner_dir(&self.dir, &scope, runner), known.process);
    }

    /// Sends to a runner; says whether its queue had room.
    pub(crate) fn send(&mut self, runner: RunnerId, message: ToRunner) -> bool {
        let Some(known) = self.known.get_mut(&runner) else { return true };
        let Some(outbox) = &known.outbox else { return true };
        // Messages to tasks may be lost, and must not cost the runner its connection.
        if matches!(message, ToRunner::Message { .. }) && outbox.capacity() < OUTBOX / 2 {
            return true;
        }
        match outbox.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(%runner, limit = OUTBOX, "a runner does not read; its connection is closed");
                known.outbox = None;
                false
            }
        }
    }

    /// Kills the runner unless it exits within `grace`. Whoever follows it tells of its end.
    pub(crate) fn stop(&mut self, runner: RunnerId, scope: RunnerScope, grace: Duration) {
        if !self.known.contains_key(&runner) {
            self.reclaim(runner, scope);
        }
        let Some(process) = self.known.get(&runner).map(|known| known.process.clone()) else { return };
        tokio::spawn(async move {
            if tokio::time::timeout(grace, process.ended()).await.is_err() {
                process.kill();
            }
        });
    }

    /// Forgets a runner that has exited.
    pub(crate) fn forget(&mut self, runner: RunnerId) {
        self.seats.free(runner);
        if let Some(known) = self.known.remove(&runner) {
            known.link.abort();
        }
        self.confining.forget(runner);
    }

    /// The runners that say that they get less CPU time than their tasks could use.
    pub(crate) fn hungry(&self) -> Vec<RunnerId> {
        self.seats.hungry()
    }

    /// The processes of the runners that are there.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (RunnerId, Arc<ProcessHandle>)> {
        self.known.iter().map(|(runner, known)| (*runner, known.process.clone()))
    }

    /// Waits until no runner process of this agent is left; used when the agent must leave nothing behind.
    pub(crate) async fn all_ended(&self) {
        for known in self.known.values() {
            known.process.ended().await;
        }
    }

    fn exited(&self, runner: RunnerId, message: String) {
        let events = self.events.clone();
        tokio::spawn(async move { events.send(AgentEvent::RunnerExited { runner, message: message.into() }).await });
    }
}

/// One connection to a runner, from the first attempt to its end.
struct Link {
    runner: RunnerId,
    dir: PathBuf,
    process: Arc<ProcessHandle>,
    events: mpsc::Sender<AgentEvent>,
}

impl Link {
    async fn run(self, messages: mpsc::Receiver<ToRunner>) {
        let runner = self.runner;
        let exited = |message: String| AgentEvent::RunnerExited { runner, message: message.into() };
        let end = match self.connect().await {
            Err(why) => exited(why),
            Ok(stream) => {
                // The receiver lives as long as the agent's loop.
                let _ = self.events.send(AgentEvent::RunnerConnected { runner }).await;
                let talk = talk(runner, stream, messages, &self.events);
                tokio::pin!(talk);
                tokio::select! {
                    () = self.process.ended() => {
                        // What it said before it died still counts.
                        let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                        exited(last_words(&self.dir))
                    }
                    () = &mut talk => AgentEvent::RunnerDisconnected { runner },
                }
            }
        };
        let _ = self.events.send(end).await;
    }

    /// Connects once the runner listens. One that never does is killed: nobody would know of its tasks.
    async fn connect(&self) -> Result<UnixStream, String> {
        let attempt = async {
            let short = short_path(&self.dir).map_err(|error| format!("its directory cannot be opened: {error}"))?;
            loop {
                if self.process.has_ended() {
                    return Err(last_words(&self.dir));
                }
                if let Ok(stream) = UnixStream::connect(short.path()).await {
                    return Ok(stream);
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        let result = tokio::time::timeout(START_LIMIT, attempt).await;
        let late = || Err(format!("it did not listen within {} s", START_LIMIT.as_secs()));
        let result = result.unwrap_or_else(|_elapsed| late());
        if result.is_err() {
            self.process.kill();
            self.process.ended().await;
        }
        result
    }
}

async fn talk(
    runner: RunnerId,
    stream: UnixStream,
    messages: mpsc::Receiver<ToRunner>,
    events: &mpsc::Sender<AgentEvent>,
) {
    let (read, write) = stream.into_split();
    let take = |message: wire::FromRunner| {
        let events = events.clone();
        async move {
            match FromRunner::try_from(message) {
                Ok(message) => events.send(AgentEvent::FromRunner { runner, message }).await.is_ok(),
                Err(error) if error.is_unknown() => true,
                Err(error) => {
                    tracing::warn!(%runner, %error, "a runner's message cannot be understood");
                    false
                }
            }
        }
    };
    let to_wire = |message: &ToRunner| [wire::ToRunner::from(message)];
    let result = tokio::select! {
        result = read_messages(read, take) => result,
        result = write_messages(write, messages, to_wire) => result,
    };
    if let Err(error) = result {
        tracing::debug!(%runner, %error, "a runner's connection broke");
    }
}

/// The end of what a runner wrote to stderr, to explain its death.
fn last_words(dir: &Path) -> String {
    const MOST: u64 = 500;
    // The file may have any size: whoever has taken over the runner can write to it.
    let tail = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(dir.join("stderr"))?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let tail = String::from_utf8_lossy(&tail().unwrap_or_default()).trim().to_owned();
    if tail.is_empty() { "its process ended".to_owned() } else { format!("its process ended: {tail}") }
}
