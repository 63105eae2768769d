//! The agent's loop: one task owns the core, hands it what happens, and performs what it decides, in order.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use holm_agent::{Agent, AgentEffect, AgentEvent, AgentOptions, LendingOptions, PrepareError, RunnerScope, SessionId};
use holm_datadir::{BlobStore, DataDir, OpenError, StoreError};
use holm_model::{
    AgentInfo, Amount, Attributes, Capabilities, ConfinementLayer, FrameworkId, Isolation, Launch, Metering,
    NetPattern, Origin, Portions, Prepared, Reason, ResourceName, Resources, TaskState, ToAgent, ToMaster, ToRunner,
    Volume, WorkId,
};
use holm_proto::agent;
use holm_runtime::{Allocation, CompileLimits, Engine, EngineError, EngineKind, slot_ceiling};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior};

use crate::answer::{Answerer, IsLive, Places};
use crate::bulk::{self, Attachment, MasterBlobs};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::confining::{ConfinementOptions, Confining, Grounds, GroupLimits, RequiredError};
use crate::control::{self, ControlEvent, Masters, Stream};
use crate::grants::{AllowError, AllowedDirectories};
use crate::machine::{boot_clock, boot_id, default_reserve, detect_resources, hostname};
use crate::native::{NativeCache, WorkerCommand};
use crate::network::AgentNetwork;
use crate::overhead;
use crate::prepare::{Caches, NativeCaches, Preparer, Sandboxes};
use crate::pressure::DiskPressure;
use crate::process::raise_open_files;
use crate::runners::{RunnerCommand, Runners, runner_dir};
use crate::sandbox::{self, Keeping};
use crate::seats::Seats;
use crate::tenants;
use crate::volumes::Volumes;

/// Events that wait for the loop; beyond, their senders wait.
const EVENTS: usize = 1024;
/// Most events handled before their effects are performed.
const BURST: usize = 1024;
/// Questions about tasks that wait for the loop.
const QUESTIONS: usize = 64;
/// How often old sandboxes and logs are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How often it is measured what memory and disk are left.
const MEASURE: Duration = Duration::from_secs(2);
/// How often an agent that lends looks at what runners use.
const LOOK: Duration = Duration::from_millis(500);
/// How often the weights of runners follow their tasks.
const WEIGH: Duration = Duration::from_secs(1);
/// How long runners may take to end when the agent is to leave nothing behind.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Native code that counts fuel, below the data directory.
const NATIVE: &str = "native";
/// Native code that does not.
const NATIVE_EPOCHS: &str = "native-epochs";
/// Largest blob an agent takes.
const MAX_BLOB_BYTES: u64 = 4 << 30;

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The masters, `host:port` each.
    pub masters: Vec<String>,
    /// The data directory.
    pub dir: PathBuf,
    /// Whether a copied or restored data directory is accepted.
    pub adopt: bool,
    /// What to offer, by origin: what is reserved there is reserved for good; what the machine allows when absent.
    pub resources: Option<Portions>,
    /// Facts in addition to the detected ones.
    pub attributes: Attributes,
    /// Host directories that tasks may be granted: `PATH` or `PATH:rw`.
    pub allow: Vec<String>,
    /// What tasks may be granted on the network; none is the public internet, an empty list is nothing.
    pub allow_net: Option<Vec<NetPattern>>,
    /// The address on which tasks listen that are to be reached from elsewhere; none is the one that faces the master.
    pub task_address: Option<IpAddr>,
    /// The token that a first registration presents.
    pub token: Option<String>,
    /// This program, which is also the runner's and the compile worker's.
    pub program: PathBuf,
    /// Threads that poll guests in each runner; zero for the agent's whole `cpus`.
    pub threads: usize,
    /// Most tasks in a runner; zero for as many as the machine allows.
    pub max_tasks: usize,
    /// Most runners at a time.
    pub max_runners: usize,
    /// Which tasks share a runner.
    pub isolation: Isolation,
    /// How runners and compile workers are held back.
    pub confinement: ConfinementOptions,
    /// Bytes of output kept by each runner.
    pub log_bytes: u64,
    /// Bytes of blobs kept, and of native code.
    pub cache_bytes: u64,
    /// How modules become native code.
    pub compile: CompileOptions,
    /// How guests run.
    pub engine: EngineKind,
    /// Whether runners reserve their tasks' memory in advance (fast) or map it when it is needed (small).
    pub pooled: bool,
    /// Memory kept back for the agent and its runners, in bytes; while they take more, nothing is offered. The default
    /// of [`crate::default_reserve`] when absent.
    pub reserve: Option<u64>,
    /// How what owners leave unused is lent to revocable tasks; none lends nothing.
    pub lending: Option<LendingOptions>,
    /// How long a sandbox stays after its launch has ended and been acknowledged.
    pub sandbox_keep: Duration,
    /// When sandboxes and logs of what has ended go early.
    pub disk_pressure: DiskPressure,
    /// Whether runners and their tasks go on when the agent is told to stop; otherwise they are ended.
    pub keep_runners: bool,
}

/// How an agent compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// Compilations at a time. With more than one, no framework has them all.
    pub workers: usize,
    /// What each may use.
    pub limits: CompileLimits,
    /// How long each may take.
    pub wall: Duration,
}

impl Default for CompileOptions {
    /// Two at a time, so that a module that takes long does not hold up all others; two minutes each.
    fn default() -> CompileOptions {
        CompileOptions { workers: 2, limits: CompileLimits::default(), wall: Duration::from_secs(120) }
    }
}

/// Why an agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its data directory cannot be used.
    #[error("the agent's data directory cannot be used")]
    DataDir(#[from] OpenError),
    /// Its blob cache cannot be used.
    #[error("the agent's blob cache cannot be used")]
    Blobs(#[from] StoreError),
    /// Its checkpoint cannot be used.
    #[error("the agent's checkpoint cannot be used")]
    Checkpoint(#[from] CheckpointError),
    /// Its checkpoint cannot be written any more.
    #[error("the agent's checkpoint cannot be written")]
    Write(#[source] io::Error),
    /// The table through which its runners share CPU time cannot be written.
    #[error("the table of CPU shares cannot be written")]
    CpuTable(#[source] io::Error),
    /// An allowed directory does not exist.
    #[error("an allowed directory cannot be used")]
    Allow(#[from] AllowError),
    /// The Wasm engine cannot be built.
    #[error("the Wasm engine cannot be built")]
    Engine(#[from] EngineError),
    /// What the operator insists on is missing.
    #[error(transparent)]
    Confinement(#[from] RequiredError),
    /// There is nothing to connect to.
    #[error("no master address is given")]
    NoMaster,
    /// There is nothing to offer.
    #[error("resources {0:?}: an agent offers some cpus and some mem")]
    NoResources(String),
}

/// Runs an agent until `shutdown` completes.
///
/// # Errors
/// When it cannot start, or can no longer write its checkpoint.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    raise_open_files();
    if options.masters.is_empty() {
        return Err(AgentError::NoMaster);
    }
    let offered =
        options.resources.as_ref().map(Portions::total).filter(|resources| {
            [ResourceName::Cpus, ResourceName::Mem].iter().any(|name| resources.scalar(name).0 == 0)
        });
    if let Some(resources) = offered {
        return Err(AgentError::NoResources(resources.to_string()));
    }
    let daemon = Daemon::start(&options)?;
    let (stop, stopping) = oneshot::channel();
    // A task of the runtime, not this thread's: what comes in over a socket is then handled where it was read, and no other
    // thread has to be woken for it.
    let mut running = tokio::spawn(daemon.live(stopping, options.keep_runners));
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = shutdown => {
            // It may have ended by itself meanwhile.
            let _ = stop.send(());
            running.await
        }
    };
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

struct Daemon {
    core: Agent,
    checkpoint: Checkpoint,
    runners: Runners,
    confining: Arc<Confining>,
    stream: Option<Stream>,
    preparer: Arc<Preparer<MasterBlobs>>,
    preparing: HashMap<WorkId, AbortHandle>,
    attachment: watch::Sender<Option<Attachment>>,
    events: mpsc::Sender<AgentEvent>,
    inbox: Inbox,
    places: Places,
    volumes: Volumes,
    keeping: Keeping,
    disk_pressure: DiskPressure,
    swept: Option<Instant>,
    sweeping: Option<JoinHandle<()>>,
    measuring: Option<JoinHandle<()>>,
    lends: bool,
    looking: Option<JoinHandle<()>>,
    background: Vec<AbortHandle>,
    _dir: DataDir,
}

struct Inbox {
    events: mpsc::Receiver<AgentEvent>,
    control: mpsc::Receiver<ControlEvent>,
    questions: mpsc::Receiver<IsLive>,
}

impl Daemon {
    fn start(options: &Options) -> Result<Daemon, AgentError> {
        let dir = DataDir::open(&options.dir, "agent", options.adopt)?;
        let (checkpoint, found) = Checkpoint::open(&dir.below("checkpoint")?)?;
        let mut info = describe_agent(options, dir.path());
        let runner_command = runner_command(options, &info.resources);
        let limits = GroupLimits::of(&info.resources, runner_command.threads);
        let confining = Arc::new(Confining::new(&options.confinement, dir.path(), limits)?);
        info.confinement = confining.report();
        tell_confinement(&info.confinement);
        tracing::info!(resources = %info.resources, dir = %dir.path().display(), "agent starts");
        let core_options = AgentOptions {
            records_lost: found.damaged,
            reserve_bytes: Some(reserve_of(options)),
            lending: options.lending,
            runner_slots: u32::try_from(runner_command.max_tasks).unwrap_or(u32::MAX),
            max_runners: options.max_runners,
            ..AgentOptions::new(info.clone(), boot_id())
        };
        let core = Agent::recover(found.records, core_options, boot_clock());

        let (events, inbox_events) = mpsc::channel(EVENTS);
        let (control_sender, control_inbox) = mpsc::channel(EVENTS);
        let (questions_sender, questions) = mpsc::channel(QUESTIONS);
        let masters = Masters {
            addresses: options.masters.iter().map(|address| address.as_str().into()).collect(),
            token: options.token.as_deref().map(Into::into),
        };
        let places = || -> Result<Places, OpenError> {
            Ok(Places { runners: dir.below("runners")?.into(), works: dir.below("works")?.into() })
        };
        let (attachment, attachments) = watch::channel(None);
        let (connection_sender, connection) = watch::channel(None);
        let answerer = Arc::new(Answerer::new(places()?, questions_sender));
        let background = vec![
            tokio::spawn(control::run(masters.clone(), control_sender)).abort_handle(),
            tokio::spawn(bulk::run(attachments, connection_sender, answerer)).abort_handle(),
        ];
        let source = MasterBlobs::new(connection, masters);
        let allowed = AllowedDirectories::new(&options.allow)?;
        let native = [dir.below(NATIVE)?, dir.below(NATIVE_EPOCHS)?];
        let grounds = Grounds { native, works: dir.below("works")?, allowed: allowed.prefixes() };
        let group = confining.group();
        grounds.check(group);
        let Amount(cpus) = info.resources.scalar(&ResourceName::Cpus);
        let seats = Seats::open(dir.path().join("cpu-shares"), cpus).map_err(AgentError::CpuTable)?;
        let preparer = Arc::new(preparer(options, &info.resources, &dir, (allowed, &confining), source)?);
        let confined = (confining.clone(), grounds);
        let runners = Runners::new(runner_command, seats, &places()?.runners, confined, events.clone());
        let inbox = Inbox { events: inbox_events, control: control_inbox, questions };
        Ok(Daemon {
            core,
            checkpoint,
            runners,
            confining,
            stream: None,
            preparer,
            preparing: HashMap::new(),
            attachment,
            events,
            inbox,
            places: places()?,
            volumes: Volumes::new(dir.below("volumes")?, group),
            keeping: Keeping { keep: options.sandbox_keep, log_bytes: options.log_bytes.saturating_mul(4) },
            disk_pressure: options.disk_pressure,
            swept: None,
            sweeping: None,
            measuring: None,
            lends: options.lending.is_some(),
            looking: None,
            background,
            _dir: dir,
        })
    }

    /// Runs until it is told to stop, and stops in order.
    async fn live(mut self, stopping: oneshot::Receiver<()>, keep_runners: bool) -> Result<(), AgentError> {
        tokio::select! {
            result = self.run() => result?,
            _asked = stopping => {}
        }
        self.stop(keep_runners).await;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), AgentError> {
        let known: Vec<_> = self.core.runners().collect();
        self.runners.kill_unknown(&known);
        known.iter().for_each(|(runner, scope)| self.runners.reclaim(*runner, *scope));
        self.perform()?;
        let (mut events, mut control) = (Vec::new(), Vec::new());
        let mut measure = tokio::time::interval(MEASURE);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut weigh = tokio::time::interval(WEIGH);
        loop {
            let wake = self.core.next_wake().map(|at| at.since(boot_clock()));
            tokio::select! {
                _some = self.inbox.events.recv_many(&mut events, BURST) => {}
                _some = self.inbox.control.recv_many(&mut control, BURST) => {}
                Some(question) = self.inbox.questions.recv() => self.answer(question),
                () = sleep(wake) => self.core.handle(boot_clock(), AgentEvent::Wake),
                _tick = measure.tick() => {
                    self.measure();
                    self.sweep();
                }
                _tick = look.tick(), if self.lends => self.look(),
                _tick = weigh.tick(), if self.confining.has_groups() => self.confining.weigh(self.core.entitled_cpus()),
            }
            control.drain(..).for_each(|event| self.take_control(event));
            events.drain(..).for_each(|event| self.take(event));
            self.perform()?;
        }
    }

    fn handle(&mut self, event: AgentEvent) {
        let _span = tracing::debug_span!("event", kind = name_of(&event)).entered();
        self.core.handle(boot_clock(), event);
    }

    fn take(&mut self, event: AgentEvent) {
        match &event {
            AgentEvent::RunnerExited { runner, message } => {
                tracing::info!(%runner, %message, "runner ended");
                self.runners.forget(*runner);
            }
            AgentEvent::RunnerDisconnected { runner } => {
                let (runner, scope) = (*runner, self.core.scope_of_runner(*runner));
                self.handle(event);
                if let Some(scope) = scope {
                    self.runners.reconnect(runner, scope);
                }
                return;
            }
            AgentEvent::Prepared { work, .. } => {
                self.preparing.remove(work);
            }
            _ => {}
        }
        self.handle(event);
    }

    fn take_control(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Opened(stream) => {
                let session = stream.session;
                self.stream = Some(stream);
                self.handle(AgentEvent::Connected { session });
            }
            ControlEvent::Message(session, message) => {
                let registered = matches!(message, ToAgent::Registered { .. });
                self.handle(AgentEvent::FromMaster { session, message });
                if registered {
                    self.attach();
                }
            }
            ControlEvent::Closed(session) => {
                if self.stream.as_ref().is_some_and(|stream| stream.session == session) {
                    self.stream = None;
                }
                self.handle(AgentEvent::Disconnected { session });
            }
        }
    }

    /// The master is known: bulk bytes go over a connection of their own to the same one.
    fn attach(&self) {
        let (Some(stream), Some((agent, secret, ..))) = (&self.stream, self.core.identity()) else { return };
        tracing::info!(%agent, master = %stream.master, "registered");
        let attachment = Attachment { master: stream.master.clone(), agent, secret: secret.clone() };
        self.attachment.send_replace(Some(attachment));
    }

    /// Performs what the core wants, in order, until it wants nothing more.
    fn perform(&mut self) -> Result<(), AgentError> {
        loop {
            let effects: Vec<_> = self.core.drain_effects().collect();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.perform_one(effect)?;
            }
        }
        if self.checkpoint.wants_rewrite() {
            self.checkpoint.rewrite(&self.core.snapshot()).map_err(AgentError::Write)?;
        }
        Ok(())
    }

    fn perform_one(&mut self, effect: AgentEffect) -> Result<(), AgentError> {
        match effect {
            AgentEffect::Checkpoint(records) => self.checkpoint.append(&records).map_err(AgentError::Write)?,
            AgentEffect::Sync => self.checkpoint.sync().map_err(AgentError::Write)?,
            AgentEffect::ToMaster { session, message } => self.send_to_master(session, &message),
            AgentEffect::Reconnect { session, message } => {
                tracing::warn!(reason = %message, "the stream to the master is closed");
                self.stream.take_if(|stream| stream.session == session);
            }
            AgentEffect::Refused { session, message } => {
                tracing::error!(reason = %message, "the master refused this agent");
                if let Some(stream) = self.stream.take_if(|stream| stream.session == session) {
                    stream.refused();
                }
            }
            AgentEffect::Prepare { work, framework, scope, launch, volumes } => {
                self.prepare(work, (framework, scope), launch, volumes);
            }
            AgentEffect::Volumes(volumes) => self.volumes.keep(&volumes),
            AgentEffect::Abandon { work } => {
                if let Some(task) = self.preparing.remove(&work) {
                    task.abort();
                }
            }
            AgentEffect::StartRunner { runner, scope } => {
                tracing::info!(%runner, framework = ?scope.framework, "runner starts");
                let volumes = scope.work.map(|work| self.core.volumes_of(work)).unwrap_or_default();
                self.runners.start(runner, scope, self.volumes.grounds(&volumes));
            }
            AgentEffect::ToRunner { runner, message } => {
                if !self.runners.send(runner, message) {
                    self.take(AgentEvent::RunnerDisconnected { runner });
                }
            }
            AgentEffect::StopRunner { runner, grace, message } => {
                tracing::info!(%runner, reason = %message, "runner is stopped");
                if let Some(scope) = self.core.scope_of_runner(runner) {
                    self.runners.stop(runner, scope, grace);
                }
            }
            AgentEffect::Cleanup { work, framework } => {
                for tenant in tenants::candidates(&self.places.works, framework, work) {
                    sandbox::retire(&tenant, work);
                }
            }
        }
        Ok(())
    }

    fn send_to_master(&mut self, session: SessionId, message: &ToMaster) {
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.session == session) else { return };
        let sent = match message {
            ToMaster::Register(registration) => {
                let secret = self.core.identity().map(|(_, secret, ..)| secret);
                stream.send_wire(agent::register(registration, secret))
            }
            message => stream.send(message),
        };
        if !sent {
            self.stream = None;
            self.handle(AgentEvent::Disconnected { session });
        }
    }

    /// Most launches need nothing that is not there already: they are ready at once. The others become so in a task.
    fn prepare(
        &mut self,
        work: WorkId,
        (framework, scope): (FrameworkId, RunnerScope),
        launch: Launch,
        volumes: Vec<Volume>,
    ) {
        let mounted = match self.volumes.mount(&launch.spec.volumes, &volumes) {
            Ok(mounted) => mounted,
            Err(error) => {
                let message = format!("a volume's directory cannot be made: {error}").into();
                let result = Err(PrepareError { state: TaskState::Failed, reason: Reason::Sandbox, message });
                return self.take(AgentEvent::Prepared { work, result });
            }
        };
        let (preparer, events) = (self.preparer.clone(), self.events.clone());
        let (without_files, delays) = (launch.spec.files.is_empty(), self.events.clone());
        let mut preparation = Box::pin(async move {
            // With a full inbox the loop has more urgent things to do than to tell people why they wait.
            let waits = |message| drop(delays.try_send(AgentEvent::Delayed { work, message }));
            let prepared = preparer.prepare(work, (framework, &scope), &launch, &waits).await;
            prepared.map(|prepared| Prepared { volumes: mounted, ..prepared }).map_err(|error| PrepareError {
                state: TaskState::Failed,
                reason: error.reason,
                message: error.message.into(),
            })
        });
        // The task below polls it again, so nobody has to be woken yet.
        let mut context = Context::from_waker(Waker::noop());
        if without_files && let Poll::Ready(result) = preparation.as_mut().poll(&mut context) {
            return self.take(AgentEvent::Prepared { work, result });
        }
        let task = tokio::spawn(async move {
            let result = preparation.await;
            // The receiver is gone only when the agent stops.
            let _ = events.send(AgentEvent::Prepared { work, result }).await;
        });
        self.preparing.insert(work, task.abort_handle());
    }

    fn answer(&self, question: IsLive) {
        let IsLive { framework, task, reply } = question;
        let live = match task {
            Some(task) => self.core.find(framework, &task).is_some_and(|(work, _)| work.live > 0),
            None => self.core.works().any(|work| work.framework == framework && work.live > 0),
        };
        // Whoever asked may have gone.
        let _ = reply.send(live);
    }

    /// Measures on a thread of its own what memory is taken beyond the tasks' own, one pass at a time.
    fn measure(&mut self) {
        if self.measuring.as_ref().is_some_and(|measuring| !measuring.is_finished()) {
            return;
        }
        let mut declared: HashMap<holm_model::RunnerId, u64> = HashMap::new();
        for work in self.core.works() {
            if let Some(runner) = work.runner {
                let held = work.launch.held_by(work.live.min(work.launch.slots));
                *declared.entry(runner).or_default() += held.scalar(&ResourceName::Mem).0;
            }
        }
        let runners: Vec<_> = self.runners.processes().collect();
        let events = self.events.clone();
        self.measuring = Some(tokio::task::spawn_blocking(move || {
            let bytes = overhead::measure(&runners, &declared);
            // The receiver is gone only when the agent stops; when it has much to do, it will hear the next one.
            let _ = events.try_send(AgentEvent::OverheadMeasured { bytes });
        }));
    }

    /// Looks on a thread of its own at what runners use, one pass at a time.
    fn look(&mut self) {
        if self.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return;
        }
        let (runners, hungry): (Vec<_>, _) = (self.runners.processes().collect(), self.runners.hungry());
        let events = self.events.clone();
        self.looking = Some(tokio::task::spawn_blocking(move || {
            if let Some(measured) = overhead::measure_each(&runners, &hungry) {
                // As for the overhead: there is always a next one.
                let _ = events.try_send(AgentEvent::UsageMeasured(measured));
            }
        }));
    }

    /// Looks for old sandboxes and logs on a thread of its own, one pass at a time: now and then, and whenever the disk
    /// is too full.
    fn sweep(&mut self) {
        if self.sweeping.as_ref().is_some_and(|sweep| !sweep.is_finished()) {
            return;
        }
        let (works, dir) = (self.places.works.clone(), self.places.runners.clone());
        let pressure = self.disk_pressure;
        let is_full = pressure.is_on(&works);
        if !is_full && self.swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
            return;
        }
        self.swept = Some(Instant::now());
        let known: HashSet<WorkId> = self.core.works().map(|work| work.work).collect();
        let running: HashSet<PathBuf> =
            self.core.runners().map(|(runner, scope)| runner_dir(&dir, &scope, runner)).collect();
        let keeping = self.keeping;
        // A launch that is being prepared may be about to use its tenant's directory.
        let tenants = self.core.works().map(|work| work.scope).chain(self.core.runners().map(|(_, scope)| scope));
        let in_use: HashSet<PathBuf> = tenants.map(|scope| tenants::directory(&works, &scope)).collect();
        self.sweeping = Some(tokio::task::spawn_blocking(move || {
            let is_full = || pressure.is_on(&works);
            let sandboxes = sandbox::sweep(&works, keeping, |work| known.contains(&work), is_full);
            let logs = sandbox::sweep_runners(&dir, keeping, |path| running.contains(path), is_full);
            let empty = tenants::sweep(&works, &in_use).map(|()| 0);
            for result in [sandboxes, logs, empty] {
                match result {
                    Ok(0) => {}
                    Ok(removed) => tracing::info!(removed, "old sandboxes or logs were removed"),
                    Err(error) => tracing::warn!(%error, "old sandboxes or logs cannot be removed"),
                }
            }
        }));
    }

    /// Kills every task that runs and waits until their ends are written down.
    async fn end_tasks(&mut self) {
        let running: Vec<_> = self.core.works().filter(|work| work.live > 0).collect();
        let kills: Vec<_> = running.iter().filter_map(|work| Some((work.runner?, work.work))).collect();
        for (runner, work) in kills {
            self.runners.send(runner, ToRunner::Kill { work, positions: None, grace: Duration::ZERO });
        }
        while self.core.works().any(|work| work.live > 0 && work.runner.is_some()) {
            let Some(event) = self.inbox.events.recv().await else { return };
            self.take(event);
            if let Err(error) = self.perform() {
                tracing::error!(%error, "the ends of tasks cannot be written down");
                return;
            }
        }
    }

    async fn stop(mut self, keep_runners: bool) {
        if !keep_runners && tokio::time::timeout(STOP_GRACE, self.end_tasks()).await.is_err() {
            tracing::warn!(limit = ?STOP_GRACE, "some tasks did not end in time");
        }
        self.background.iter().for_each(AbortHandle::abort);
        self.stream = None;
        if keep_runners {
            return;
        }
        let runners: Vec<_> = self.core.runners().collect();
        for (runner, scope) in &runners {
            self.runners.send(*runner, ToRunner::Stop);
            self.runners.stop(*runner, *scope, STOP_GRACE);
        }
        self.runners.all_ended().await;
        runners.iter().for_each(|(runner, _)| self.confining.forget(*runner));
        self.confining.dismiss();
    }
}

fn reserve_of(options: &Options) -> u64 {
    options.reserve.unwrap_or_else(default_reserve)
}

fn describe_agent(options: &Options, dir: &Path) -> AgentInfo {
    let mut attributes = crate::machine::detect_attributes(options.engine);
    attributes.extend(options.attributes.clone());
    let detected = || Portions::unreserved(detect_resources(dir, reserve_of(options)));
    let offered = options.resources.clone().unwrap_or_else(detected);
    AgentInfo {
        hostname: hostname().into(),
        resources: offered.total(),
        reserved: offered.filtered(|origin| *origin != Origin::Unreserved),
        attributes,
        capabilities: Capabilities::from([
            AgentInfo::TASK_GROUPS.into(),
            AgentInfo::EXECUTORS.into(),
            AgentInfo::PREEMPTION.into(),
            AgentInfo::VOLUMES.into(),
        ]),
        version: env!("CARGO_PKG_VERSION").into(),
        confinement: Vec::new(),
        isolation: options.isolation,
    }
}

fn preparer(
    options: &Options,
    resources: &Resources,
    dir: &DataDir,
    (allowed, confining): (AllowedDirectories, &Confining),
    source: MasterBlobs,
) -> Result<Preparer<MasterBlobs>, AgentError> {
    let engine = Engine::of_kind(options.engine, Allocation::OnDemand)?;
    let native = NativeCache::new(&dir.below(NATIVE)?, engine.compatibility_key(), worker_command(options, confining));
    let blobs = Arc::new(BlobStore::open(&dir.below("blobs")?, MAX_BLOB_BYTES)?);
    let uncounted = engine.metered(Metering::Epochs)?;
    let mut uncounted_worker = worker_command(options, confining);
    uncounted_worker.args.extend(["--metering", "epochs"].map(str::to_owned));
    let native = NativeCaches {
        counted: native,
        uncounted: NativeCache::new(&dir.below(NATIVE_EPOCHS)?, uncounted.compatibility_key(), uncounted_worker),
    };
    let caches = Caches { blobs, native, max_bytes: options.cache_bytes };
    let (net, address) = (options.allow_net.clone(), options.task_address);
    let network = AgentNetwork::new(net, &options.masters, resources, address);
    let sandboxes = Sandboxes { works: dir.below("works")?, group: confining.group() };
    Ok(Preparer::new(caches, options.compile.workers, allowed, network, sandboxes, source))
}

fn worker_command(options: &Options, confining: &Confining) -> WorkerCommand {
    let CompileOptions { workers, limits, wall } = options.compile;
    let CompileLimits { memory_bytes, cpu, native_bytes } = limits;
    let settings = [
        ("--engine", options.engine.to_string()),
        ("--memory", memory_bytes.to_string()),
        ("--cpu", format!("{}s", cpu.as_secs().max(1))),
        ("--native", native_bytes.to_string()),
        ("--confine", confining.compiler().to_text()),
    ];
    let mut args = vec!["compile-worker".to_owned()];
    args.extend(settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    WorkerCommand { program: options.program.clone(), args, threads: cores.div_ceil(workers.max(1)), limits, wall }
}

fn runner_command(options: &Options, resources: &Resources) -> RunnerCommand {
    let cpus = resources.scalar(&ResourceName::Cpus).0.div_ceil(1000);
    let threads = if options.threads == 0 { usize::try_from(cpus).unwrap_or(1).max(1) } else { options.threads };
    let ceiling = usize::try_from(slot_ceiling()).unwrap_or(usize::MAX);
    let max_tasks = if options.max_tasks == 0 { ceiling } else { options.max_tasks.min(ceiling) };
    RunnerCommand {
        program: options.program.clone(),
        threads,
        max_tasks,
        log_bytes: options.log_bytes,
        engine: options.engine,
        pooled: options.pooled,
    }
}

fn tell_confinement(layers: &[ConfinementLayer]) {
    for ConfinementLayer { name, active, detail } in layers {
        match active {
            true => tracing::info!(layer = %name, %detail, "runners are confined"),
            false => tracing::warn!(layer = %name, reason = %detail, "runners lack a layer of confinement"),
        }
    }
}

fn name_of(event: &AgentEvent) -> &'static str {
    match event {
        AgentEvent::Connected { .. } => "connected",
        AgentEvent::Disconnected { .. } => "disconnected",
        AgentEvent::FromMaster { .. } => "from_master",
        AgentEvent::Prepared { .. } => "prepared",
        AgentEvent::Delayed { .. } => "delayed",
        AgentEvent::RunnerConnected { .. } => "runner_connected",
        AgentEvent::RunnerDisconnected { .. } => "runner_disconnected",
        AgentEvent::FromRunner { .. } => "from_runner",
        AgentEvent::RunnerExited { .. } => "runner_exited",
        AgentEvent::OverheadMeasured { .. } => "overhead_measured",
        AgentEvent::UsageMeasured(_) => "usage_measured",
        AgentEvent::Wake => "wake",
    }
}

/// Sleeps for as long, or for ever.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
