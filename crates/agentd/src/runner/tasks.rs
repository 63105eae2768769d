//! From the core's decisions to running guests: programs, sandboxes, the run queue.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io};

use holm_agent::{Runner, RunnerEvent};
use holm_model::{Amount, Launch, Metering, Prepared, Reason, ResourceName, TaskState, TaskStatus, WorkId};
use holm_runtime::{
    Command, CommandLimits, CpuShare, Disk, DiskError, DiskLimits, Engine, EngineError, ExecutedUpdate, HostDir,
    NetworkPolicy, Observer, OpenPaths, Preopen, Program, Queue, SubmitError, Task, TaskEnd, TaskHandle, uncharged,
};
use tokio::sync::mpsc;

use super::Happening;
use super::executed::Inside;
use super::hub::Shared;
use super::network::{self, Network};
use super::output::{SharedLog, TaskOutput};
use crate::control::describe;
use crate::grants::open_below;
use crate::log::LaunchName;
use crate::native;

/// Output kept of a task that names no limit, in bytes.
const DEFAULT_OUTPUT_BYTES: u64 = 16 << 20;
/// What a guest sees as its program name.
const PROGRAM_NAME: &str = "task";

/// Programs that stay loaded after their last task, those used last: the next task does not wait for them.
const KEPT_PROGRAMS: usize = 16;

pub(super) type TaskKey = (WorkId, u32);

/// The guests of this process.
pub(super) struct Tasks {
    engine: Engine,
    /// For tasks whose fuel is not counted, once there was one.
    uncounted: Option<Engine>,
    queue: Option<Queue>,
    max_tasks: usize,
    running: usize,
    /// Who hears what guests have to say.
    shared: Weak<Shared>,
    happenings: mpsc::Sender<Happening>,
    pub(super) log: SharedLog,
    /// By way of which files are reached.
    paths: OpenPaths,
    /// A directory with nothing in it.
    empty: Arc<OwnedFd>,
    programs: Programs,
    pub(super) works: HashMap<WorkId, Arc<Work>>,
    pub(super) live: HashMap<TaskKey, Phase>,
    pub(super) inside: Inside,
    /// Tasks that found the run queue full; they get the places of those that end.
    waiting: VecDeque<TaskKey>,
    unstarted: Vec<RunnerEvent>,
}

/// Programs that were loaded, the one used last at the end: at most [`KEPT_PROGRAMS`]. Launches hold their own besides.
#[derive(Default)]
struct Programs {
    loaded: VecDeque<(Arc<str>, Program)>,
}

impl Programs {
    fn find(&mut self, path: &str) -> Option<Program> {
        let place = self.loaded.iter().position(|(known, _)| **known == *path)?;
        let used = self.loaded.remove(place)?;
        let program = used.1.clone();
        self.loaded.push_back(used);
        Some(program)
    }

    fn keep(&mut self, path: Arc<str>, program: Program) {
        if self.loaded.len() >= KEPT_PROGRAMS {
            self.loaded.pop_front();
        }
        self.loaded.push_back((path, program));
    }
}

/// What runs the guests.
pub(super) struct Guests {
    pub(super) engine: Engine,
    pub(super) queue: Queue,
    pub(super) max_tasks: usize,
    /// By way of which it reaches files.
    pub(super) paths: OpenPaths,
}

/// What the tasks of one launch share.
pub(super) struct Work {
    id: WorkId,
    pub(super) launch: Launch,
    program: Program,
    inputs: Option<PathBuf>,
    scratch: Option<PathBuf>,
    directories: Vec<(Arc<OwnedFd>, String, bool)>,
    volumes: Vec<Mounted>,
    /// The root of tasks that have neither input files nor a directory of their own.
    empty: Arc<OwnedFd>,
    network: Network,
    /// What the runner has places for.
    max_tasks: usize,
}

/// A volume of a launch.
struct Mounted {
    path: PathBuf,
    guest: String,
    /// What it may take; none where it is only read.
    limits: Option<DiskLimits>,
}

/// The ledgers of what a task may write to.
#[derive(Default)]
pub(super) struct Ledgers {
    /// Of its own directory, if it has one.
    own: Option<Disk>,
    /// Of its volumes, in order; none where it only reads.
    volumes: Vec<Option<Disk>>,
}

pub(super) enum Phase {
    /// Its own directory is being made.
    Preparing,
    /// There was no place for it yet.
    Waiting(Ledgers),
    /// On the run queue.
    Running(TaskHandle),
    /// Its executor does not run yet, or has enough tasks.
    WaitingInside,
    /// The executor of this handle has it.
    Inside(TaskHandle),
}

impl Tasks {
    /// Directories are made on tokio's threads, which tell `happenings` of it.
    pub(super) fn new(guests: Guests, happenings: mpsc::Sender<Happening>, log: SharedLog, empty: OwnedFd) -> Tasks {
        let Guests { engine, queue, max_tasks, paths } = guests;
        Tasks {
            engine,
            uncounted: None,
            queue: Some(queue),
            max_tasks,
            running: 0,
            shared: Weak::new(),
            happenings,
            log,
            paths,
            empty: empty.into(),
            programs: Programs::default(),
            works: HashMap::new(),
            live: HashMap::new(),
            inside: Inside::default(),
            waiting: VecDeque::new(),
            unstarted: Vec::new(),
        }
    }

    /// Says who hears what guests have to say; before the first one runs.
    pub(super) fn heard_by(&mut self, shared: Weak<Shared>) {
        self.shared = shared;
    }

    /// Whether any task runs or waits.
    pub(super) fn are_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// The run queue, to be stopped: no task starts any more.
    pub(super) fn take_queue(&mut self) -> Option<Queue> {
        self.queue.take()
    }

    pub(super) fn spawn(&mut self, core: &Runner, work: WorkId, position: u32) {
        if Tasks::is_inside(core, work) {
            return self.spawn_inside(core, work, position);
        }
        let shared = match self.work(core, work) {
            Ok(shared) => shared,
            Err(status) => return self.report_end(work, position, status),
        };
        if shared.scratch.is_none() && shared.volumes.is_empty() {
            return self.submit((work, position), Ledgers::default());
        }
        let happenings = self.happenings.clone();
        self.live.insert((work, position), Phase::Preparing);
        tokio::task::spawn_blocking(move || {
            let result = uncharged(|| shared.ledgers(position));
            // The receiver is gone only when the process exits.
            let _ = happenings.blocking_send(Happening::Sandbox(work, position, result));
        });
    }

    /// A task's own directory is ready, or could not be made.
    pub(super) fn sandbox_ready(&mut self, work: WorkId, position: u32, result: Result<Ledgers, SandboxError>) {
        if !matches!(self.live.get(&(work, position)), Some(Phase::Preparing)) {
            return;
        }
        match result {
            Ok(ledgers) => self.submit((work, position), ledgers),
            Err(error) => {
                let status = TaskStatus::because(TaskState::Failed, error.reason(), describe(&error));
                self.report_end(work, position, status);
            }
        }
    }

    /// A guest has ended, or a task inside an executor; its place goes to one that waits. False when its end has been
    /// reported already.
    pub(super) fn ended(&mut self, work: WorkId, position: u32) -> bool {
        match self.live.remove(&(work, position)) {
            Some(Phase::Running(_)) => {
                let places = self.works.get(&work).map_or(1, |work| work.places(self.max_tasks));
                self.running = self.running.saturating_sub(places);
            }
            Some(Phase::Inside(_)) => {
                self.left_inside(work);
                return true;
            }
            Some(_) => {}
            None => return false,
        }
        self.executor_ended(work);
        self.submit_waiting();
        true
    }

    /// Gives free places to those that wait.
    fn submit_waiting(&mut self) {
        // One that does not fit goes to the end of those that wait, and the next is tried.
        for _ in 0..self.waiting.len() {
            if self.running >= self.max_tasks {
                return;
            }
            let Some(next) = self.waiting.pop_front() else { return };
            if let Some(Phase::Waiting(ledgers)) = self.live.get_mut(&next) {
                let ledgers = std::mem::take(ledgers);
                self.submit(next, ledgers);
            }
        }
    }

    pub(super) fn ask_to_stop(&mut self, work: WorkId, position: u32, grace: Duration) {
        if let Some(Phase::Inside(handle)) = self.live.get(&(work, position)) {
            let handle = handle.clone();
            return self.stop_inside((work, position), &handle, grace);
        }
        let running = self.live.get(&(work, position));
        let asked = matches!(running, Some(Phase::Running(handle)) if handle.stop_within(grace));
        // A guest that cannot hear it can do nothing with a grace period, and one that does not run needs none.
        if !asked {
            self.kill(work, position);
        }
    }

    pub(super) fn kill(&mut self, work: WorkId, position: u32) {
        match self.live.get(&(work, position)) {
            Some(Phase::Running(handle)) => handle.kill(Reason::Killed, "asked to"),
            Some(Phase::Preparing | Phase::Waiting(_) | Phase::WaitingInside) => {
                let status = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
                self.report_end(work, position, status);
            }
            Some(Phase::Inside(handle)) => {
                let handle = handle.clone();
                self.kill_inside((work, position), &handle);
            }
            None => {}
        }
    }

    pub(super) fn deliver(&self, work: WorkId, position: u32, data: Arc<[u8]>) {
        let bytes = data.len();
        let delivered = match self.live.get(&(work, position)) {
            Some(Phase::Running(handle)) => handle.deliver(data),
            Some(Phase::Inside(handle)) => Tasks::deliver_inside((work, position), handle, data),
            _ => false,
        };
        if !delivered {
            tracing::debug!(%work, position, bytes, "a message was dropped: the task does not listen or its inbox is full");
        }
    }

    pub(super) fn forget(&mut self, work: WorkId) {
        self.log.lock().forget(work);
        self.works.remove(&work);
        self.forget_inside(work);
    }

    fn work(&mut self, core: &Runner, work: WorkId) -> Result<Arc<Work>, TaskStatus> {
        if let Some(known) = self.works.get(&work) {
            return Ok(known.clone());
        }
        let failed = |reason, message: String| TaskStatus::because(TaskState::Failed, reason, message);
        let Some((framework, launch, prepared)) = core.work(work) else {
            return Err(failed(Reason::RunnerError, format!("{work} is not known to the runner")));
        };
        let program = self.program(prepared, launch.spec.metering)?;
        program.suits(launch.spec.kind).map_err(|error| failed(error.reason(), describe(&error)))?;
        let open = |directory: &holm_model::PreparedDirectory| match open_below(directory, &self.paths) {
            Ok(fd) => Ok((Arc::new(fd), format!("/{}", directory.guest), directory.writable)),
            Err(error) => {
                let path = Path::new(&*directory.prefix).join(&*directory.below);
                Err(failed(Reason::NotAllowed, format!("directory {} cannot be opened: {error}", path.display())))
            }
        };
        let directories = prepared.directories.iter().map(open).collect::<Result<_, _>>()?;
        let mounted = |volume: &holm_model::PreparedVolume| Mounted {
            path: self.paths.resolve(Path::new(&*volume.path)),
            guest: format!("/{}", volume.guest),
            limits: volume.writable.then(|| DiskLimits::of_bytes(volume.bytes)),
        };
        let volumes = prepared.volumes.iter().map(mounted).collect();
        let name = LaunchName { framework, batch: launch.id.clone(), tasks: launch.tasks };
        if let Err(error) = self.log.lock().launch(work, &name) {
            tracing::error!(%error, "the log cannot be written");
        }
        let path = |text: &Option<Arc<str>>| text.as_deref().map(|text| self.paths.resolve(Path::new(text)));
        let (inputs, scratch) = (path(&prepared.inputs), path(&prepared.scratch));
        let empty = self.empty.clone();
        let spec = &launch.spec;
        let network = NetworkPolicy::new(spec.network.clone(), spec.ports(), prepared.network.clone());
        let network = Network { policy: Arc::new(network), listen: prepared.network.listen };
        let (launch, max_tasks) = (launch.clone(), self.max_tasks);
        let shared = Arc::new(Work {
            id: work,
            launch,
            program,
            inputs,
            scratch,
            directories,
            volumes,
            empty,
            network,
            max_tasks,
        });
        self.works.insert(work, shared.clone());
        Ok(shared)
    }

    fn program(&mut self, prepared: &Prepared, metering: Metering) -> Result<Program, TaskStatus> {
        if let Some(program) = self.programs.find(&prepared.program) {
            return Ok(program);
        }
        let path = self.paths.resolve(Path::new(&*prepared.program));
        let failed = |reason, message: String| TaskStatus::because(TaskState::Failed, reason, message);
        let Some(kind) = native::kind_of(&path) else {
            return Err(failed(Reason::RunnerError, format!("{} is not native code", path.display())));
        };
        let engine = self.engine_for(metering).map_err(|error| failed(Reason::RunnerError, describe(&error)))?;
        let key = engine.compatibility_key();
        if !native::is_for(&path, key) {
            // The agent was replaced by one with another engine, and this runner is from before.
            let message = format!("native code {path:?} is not for the engine of this runner, {key}");
            return Err(failed(Reason::RunnerError, message));
        }
        let loaded = Program::load(&engine, &path, kind);
        let program = loaded.map_err(|error| failed(error.reason(), describe(&error)))?;
        self.programs.keep(prepared.program.clone(), program.clone());
        Ok(program)
    }

    fn engine_for(&mut self, metering: Metering) -> Result<Engine, EngineError> {
        if metering == self.engine.metering() {
            return Ok(self.engine.clone());
        }
        let engine = match self.uncounted.take() {
            Some(engine) => engine,
            None => self.engine.metered(metering)?,
        };
        Ok(self.uncounted.insert(engine).clone())
    }

    fn submit(&mut self, (work, position): TaskKey, ledgers: Ledgers) {
        let (Some(shared), Some(queue)) = (self.works.get(&work), &self.queue) else { return };
        let output = TaskOutput { log: self.log.clone(), work, position };
        let places = shared.places(self.max_tasks);
        if self.running + places > self.max_tasks {
            self.waiting.push_back((work, position));
            self.live.insert((work, position), Phase::Waiting(ledgers));
            return;
        }
        let ear = Ear { work, position, log: self.log.clone(), shared: self.shared.clone() };
        let task = Task {
            program: shared.program.clone(),
            command: shared.command(position, &ledgers),
            output: Box::new(output),
            observer: Box::new(ear),
        };
        let phase = match queue.submit(task) {
            Ok(handle) => {
                self.running += places;
                Phase::Running(handle)
            }
            Err(SubmitError::Full { .. }) => {
                self.waiting.push_back((work, position));
                Phase::Waiting(ledgers)
            }
            Err(error) => {
                let status = TaskStatus::because(TaskState::Failed, Reason::RunnerError, describe(&error));
                return self.report_end(work, position, status);
            }
        };
        self.live.insert((work, position), phase);
        self.give(work);
    }

    /// Reports the end of a task that never reached the run queue.
    pub(super) fn report_end(&mut self, work: WorkId, position: u32, status: TaskStatus) {
        self.live.remove(&(work, position));
        self.executor_ended(work);
        self.close_output(work, position);
        self.unstarted.push(RunnerEvent::Ended { work, position, status });
    }

    /// There is no output of this task.
    pub(super) fn close_output(&self, work: WorkId, position: u32) {
        if let Err(error) = self.log.lock().end(work, position, 0) {
            tracing::error!(%error, "the log cannot be written");
        }
    }

    /// The ends of tasks that never reached the run queue, since the last call.
    pub(super) fn take_unstarted(&mut self) -> Vec<RunnerEvent> {
        std::mem::take(&mut self.unstarted)
    }
}

impl Work {
    /// How many of the runner's places for instances a task takes.
    fn places(&self, max_tasks: usize) -> usize {
        network::places(&self.launch.spec, max_tasks)
    }

    /// Makes a task's own directory, if it is to have one, and ledgers of all it may write to.
    fn ledgers(&self, position: u32) -> Result<Ledgers, SandboxError> {
        let own = |scratch: &PathBuf| {
            let own = scratch.join(position.to_string());
            make_scratch(&own, self.inputs.as_deref()).map_err(SandboxError::Make)?;
            let Amount(disk) = self.launch.spec.resources.scalar(&ResourceName::Disk);
            Disk::open(&own, DiskLimits::of_bytes(disk)).map_err(SandboxError::Ledger)
        };
        let volume = |volume: &Mounted| volume.limits.map(|limits| Disk::open(&volume.path, limits)).transpose();
        let volumes = self.volumes.iter().map(volume).collect::<Result<_, _>>().map_err(SandboxError::Ledger)?;
        Ok(Ledgers { own: self.scratch.as_ref().map(own).transpose()?, volumes })
    }

    fn command(&self, position: u32, ledgers: &Ledgers) -> Command {
        let spec = &self.launch.spec;
        let mut env: Vec<(String, String)> =
            spec.env.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        if let Some(index) = self.launch.tasks.index_at(position) {
            env.push(("HOLM_TASK_INDEX".to_owned(), index.to_string()));
        }
        // A seeded run repeats exactly; the name of its launch is not part of its input.
        if spec.seed.is_none() {
            env.push(("HOLM_TASK_ID".to_owned(), self.launch.task_id(position).to_string()));
        }
        let mut args = vec![PROGRAM_NAME.to_owned()];
        args.extend(spec.args.iter().map(|arg| arg.to_string()));
        let Amount(memory_bytes) = spec.resources.scalar(&ResourceName::Mem);
        let limits = CommandLimits {
            fuel: spec.limits.fuel,
            memory_bytes,
            deadline: spec.limits.deadline,
            output_bytes: spec.limits.output_bytes.unwrap_or(DEFAULT_OUTPUT_BYTES),
            cpu: self.cpu_share(),
        };
        env.extend(self.network.environment(spec));
        Command {
            args,
            env,
            limits,
            seed: spec.seed,
            preopens: self.preopens(position, ledgers),
            network: self.network.policy.clone(),
            service: self.network.service(spec, self.max_tasks),
        }
    }

    /// The tasks of a launch follow one another on its slots.
    fn cpu_share(&self) -> CpuShare {
        let spec = &self.launch.spec;
        let Amount(milli) = spec.resources.scalar(&ResourceName::Cpus);
        CpuShare { milli, limit_milli: spec.limits.cpus.map(|Amount(limit)| limit), group: self.id.0 }
    }

    /// The sandbox is the guest's root and working directory: its own directory if it asked for disk, else the input
    /// files, read-only, else an empty directory. Granted directories lie below it; what it writes there is the
    /// operator's affair and counts for no ledger. Volumes lie below it too, each with a ledger of its own.
    fn preopens(&self, position: u32, ledgers: &Ledgers) -> Vec<Preopen> {
        let own = ledgers.own.clone();
        let (host, writable) = match (self.scratch.as_ref().zip(own), &self.inputs) {
            (Some((scratch, disk)), _) => (HostDir::Own(scratch.join(position.to_string()), disk), true),
            (None, Some(inputs)) => (HostDir::Path(inputs.clone()), false),
            (None, None) => (HostDir::Opened(self.empty.clone()), false),
        };
        let root = Preopen { host, guest: "/".to_owned(), writable };
        let granted = self.directories.iter().map(|(fd, guest, writable)| {
            let host = HostDir::Opened(fd.clone());
            Preopen { host, guest: guest.clone(), writable: *writable }
        });
        let volumes = self.volumes.iter().zip(&ledgers.volumes).map(|(volume, disk)| {
            let path = volume.path.clone();
            let (host, writable) = match disk {
                Some(disk) => (HostDir::Own(path, disk.clone()), true),
                None => (HostDir::Path(path), false),
            };
            Preopen { host, guest: volume.guest.clone(), writable }
        });
        std::iter::once(root).chain(granted).chain(volumes).collect()
    }
}

/// Why a task's own directory is not there for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// The directory or a copy of an input file cannot be made.
    #[error("the task's directory cannot be made")]
    Make(#[source] io::Error),
    /// It has no ledger.
    #[error(transparent)]
    Ledger(DiskError),
}

impl SandboxError {
    fn reason(&self) -> Reason {
        match self {
            SandboxError::Ledger(DiskError::Full { .. }) => Reason::DiskLimit,
            SandboxError::Make(_) | SandboxError::Ledger(DiskError::Scan { .. }) => Reason::Sandbox,
        }
    }
}

/// Tells the core what becomes of one task, on the thread that polls it.
pub(super) struct Ear {
    work: WorkId,
    position: u32,
    pub(super) log: SharedLog,
    /// Gone when the process is about to end.
    pub(super) shared: Weak<Shared>,
}

impl Ear {
    pub(super) fn tell(&self, event: RunnerEvent) {
        if let Some(shared) = self.shared.upgrade() {
            shared.hear(event);
        }
    }
}

impl Observer for Ear {
    fn started(&mut self) {
        self.tell(RunnerEvent::Started { work: self.work, position: self.position });
    }

    fn message(&mut self, data: Vec<u8>) {
        self.tell(RunnerEvent::TaskMessage { work: self.work, position: self.position, data: data.into() });
    }

    fn executed(&mut self, updates: Vec<ExecutedUpdate>) {
        self.executed_updates(updates);
    }

    fn executed_message(&mut self, task: u64, data: Vec<u8>) {
        self.executed_said(task, data);
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let (work, position) = (self.work, self.position);
        if let Err(error) = self.log.lock().end(work, position, end.output_dropped) {
            tracing::error!(%error, "the log cannot be written");
        }
        if let Some(shared) = self.shared.upgrade() {
            let status = end.into_status(Duration::ZERO, 0);
            shared.hear_all(vec![RunnerEvent::Ended { work, position, status }]);
        }
    }
}

/// Makes a task's own directory with copies of the input files: it may write, the cache must not change.
fn make_scratch(own: &Path, inputs: Option<&Path>) -> io::Result<()> {
    fs::create_dir_all(own)?;
    inputs.map_or(Ok(()), |inputs| copy_tree(inputs, own))
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            let mut file = fs::File::create(&target)?;
            io::copy(&mut fs::File::open(entry.path())?, &mut file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use holm_agent::{RunnerEffect, RunnerOptions};
    use holm_model::{Epoch, FrameworkId, FromRunner, RunnerId, TaskRange, TaskSpec, Time, ToRunner};
    use holm_runtime::{Allocation, QueueOptions};

    use super::super::MESSAGES;
    use super::*;
    use crate::log::LogWriter;

    /// A core that believes that the first task of a launch runs, with an agent to report to.
    fn core_with_a_task(work: WorkId) -> Runner {
        let mut core = Runner::new(RunnerOptions::new(RunnerId(1)), Time::ZERO);
        let spec = TaskSpec { resources: "cpus:1;mem:1MiB".parse().unwrap(), ..TaskSpec::default() };
        let tasks = TaskRange::Array { first: 0, count: 1 };
        let launch = Launch { id: "a".parse().unwrap(), tasks, slots: 1, spec: spec.into() };
        let prepared = Prepared {
            program: "/x".into(),
            inputs: None,
            scratch: None,
            directories: Vec::new(),
            volumes: Vec::new(),
            network: Default::default(),
        };
        let framework = FrameworkId::new(Epoch(1), 1);
        core.handle(Time::ZERO, RunnerEvent::AgentConnected);
        core.handle(Time::ZERO, RunnerEvent::FromAgent(ToRunner::Launch { work, framework, launch, prepared }));
        let spawned = |effect: &RunnerEffect| matches!(effect, RunnerEffect::Spawn { .. });
        assert_eq!(core.drain_effects().filter(spawned).count(), 1);
        core
    }

    #[tokio::test]
    async fn a_flood_of_messages_is_bounded_and_the_end_comes_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let log = SharedLog::new(LogWriter::open(dir.path(), 1 << 20).unwrap());
        let engine = Engine::new(Allocation::OnDemand).unwrap();
        let tokio = tokio::runtime::Handle::current();
        let queue = Queue::start(&engine, QueueOptions { threads: 1, max_tasks: 1 }, tokio).unwrap();
        let (happenings, _none) = mpsc::channel(1);
        let empty = fs::File::open(dir.path()).unwrap().into();
        let tasks = Tasks::new(
            Guests { engine, queue, max_tasks: 1, paths: OpenPaths::default() },
            happenings,
            log.clone(),
            empty,
        );
        let work = WorkId(7);
        let shared = Shared::new(core_with_a_task(work), tasks);
        shared.lock().tasks.live.insert((work, 0), Phase::Preparing);
        let mut ear = Box::new(Ear { work, position: 0, log, shared: Arc::downgrade(&shared) });
        for number in 0..MESSAGES + 10 {
            ear.message(number.to_string().into_bytes());
        }
        let orders = shared.lock().orders();
        assert_eq!(orders.outgoing.len(), MESSAGES);
        assert!(matches!(&orders.outgoing[0], FromRunner::Message { data, .. } if **data == *b"0"));
        // The shell has taken them, and there is room again.
        ear.message(b"late".to_vec());
        ear.tell(RunnerEvent::Ended { work, position: 0, status: TaskStatus::of(TaskState::Finished) });
        ear.message(b"too late".to_vec());
        let rest = shared.lock().orders().outgoing;
        assert!(matches!(&rest[..], [FromRunner::Message { data, .. }, FromRunner::Reports(reports)]
            if **data == *b"late" && reports[0].status.state == TaskState::Finished));
    }
}
