//! Answers to requests for logs and sandbox files. Each runs on a thread of its own and reads files as it likes.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holm_model::{FrameworkId, TaskId, WorkId};
use holm_proto::v1 as wire;
use tokio::sync::{mpsc, oneshot};

use crate::log::{LaunchName, Record, RecordKind, Tail};
use crate::runner::log_dir;
use crate::sandbox;
use crate::tenants;

/// Bytes read from one log before the next has its turn.
const READ_BYTES: usize = 1 << 20;
/// How often a followed log is looked at when nothing comes: at first, and after a while.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// How long a follower waits for a task that nobody here knows: the question may overtake the launch, which comes over
/// another connection.
const UNKNOWN: Duration = Duration::from_millis(500);
/// Bytes of a file in one frame.
const CHUNK_BYTES: usize = 64 << 10;

const INVALID_ARGUMENT: u32 = 3;
const NOT_FOUND: u32 = 5;
const FAILED_PRECONDITION: u32 = 9;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;

/// Asks the agent's loop whether a framework's task (or, with `None`, anything of it) still runs or waits here.
pub(crate) struct IsLive {
    pub(crate) framework: FrameworkId,
    pub(crate) task: Option<TaskId>,
    pub(crate) reply: oneshot::Sender<bool>,
}

/// Runners' logs and sandboxes lie below these directories.
pub(crate) struct Places {
    pub(crate) runners: Box<Path>,
    pub(crate) works: Box<Path>,
}

/// Knows where everything lies.
pub(crate) struct Answerer {
    places: Places,
    questions: mpsc::Sender<IsLive>,
}

/// Where an answer goes.
pub(crate) struct Frames {
    channel: u64,
    sender: mpsc::Sender<wire::Frame>,
}

/// Why an answer ends before its end.
enum Stop {
    /// Nobody wants it any more.
    Gone,
    /// It is an error.
    Error(u32, String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        let code = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                FAILED_PRECONDITION
            }
            _ => INTERNAL,
        };
        Stop::Error(code, error.to_string())
    }
}

impl Frames {
    pub(crate) fn new(channel: u64, sender: mpsc::Sender<wire::Frame>) -> Frames {
        Frames { channel, sender }
    }

    fn send(&self, body: Option<wire::frame::Body>) -> Result<(), Stop> {
        let frame = wire::Frame { channel: self.channel, body };
        self.sender.blocking_send(frame).map_err(|_closed| Stop::Gone)
    }
}

impl Answerer {
    pub(crate) fn new(places: Places, questions: mpsc::Sender<IsLive>) -> Answerer {
        Answerer { places, questions }
    }

    /// Answers one request.
    pub(crate) fn answer(&self, open: wire::Open, frames: &Frames) {
        let result = frames.send(None).and_then(|()| match open.request {
            Some(wire::open::Request::ReadLogs(request)) => self.read_logs(&request, frames),
            Some(wire::open::Request::ListFiles(request)) => self.list_files(&request, frames),
            Some(wire::open::Request::ReadFile(request)) => self.read_file(&request, frames),
            None => Err(Stop::Error(UNIMPLEMENTED, "this agent does not know the request".to_owned())),
        });
        let last = match result {
            Ok(()) => wire::frame::Body::End(wire::EndOfAnswer {}),
            Err(Stop::Error(code, message)) => wire::frame::Body::Error(wire::BulkError { code, message }),
            Err(Stop::Gone) => return,
        };
        // A requester that has gone needs no last word.
        let _ = frames.send(Some(last));
    }

    fn read_logs(&self, request: &wire::ReadLogs, frames: &Frames) -> Result<(), Stop> {
        let framework = parse::<FrameworkId>("framework_id", &request.framework_id)?;
        let task = match request.task_id.as_str() {
            "" => None,
            text => Some(parse::<TaskId>("task_id", text)?),
        };
        let mut query = LogQuery::new(&self.places.runners, framework, task.clone());
        if !request.from_start {
            query.pass(|_record, _name| Ok(()))?;
        }
        let mut pause = POLL.0;
        let asked = Instant::now();
        loop {
            let known = !query.names.borrow().is_empty();
            let live = request.follow && self.is_live(framework, task.clone())?;
            let mut sent = 0;
            query.pass(|record, name| {
                sent += 1;
                frames.send(Some(wire::frame::Body::Log(log_record(record, name))))
            })?;
            // A launch that was not there when the question was put may have come, and begun to write, since.
            let unknown = query.names.borrow().is_empty() && asked.elapsed() >= UNKNOWN;
            let over = task.is_some() && !live && (known || unknown);
            if query.is_complete() || !request.follow || over {
                break;
            }
            pause = if sent > 0 { POLL.0 } else { (pause * 2).min(POLL.1) };
            if frames.sender.is_closed() {
                return Err(Stop::Gone);
            }
            std::thread::sleep(pause);
        }
        match task {
            Some(task)
                if query.names.borrow().is_empty()
                    && (request.follow || !self.is_live(framework, Some(task.clone()))?) =>
            {
                Err(Stop::Error(NOT_FOUND, format!("no output of task {task} is kept on this agent")))
            }
            _ => Ok(()),
        }
    }

    fn list_files(&self, request: &wire::ListFiles, frames: &Frames) -> Result<(), Stop> {
        let root = self.sandbox(&request.framework_id, &request.task_id)?;
        for entry in sandbox::list(&root, &request.path).map_err(|error| refuse_path(&request.path, &error))? {
            let file = wire::FileEntry { name: entry.name, size: entry.bytes, directory: entry.directory };
            frames.send(Some(wire::frame::Body::File(file)))?;
        }
        Ok(())
    }

    fn read_file(&self, request: &wire::ReadFile, frames: &Frames) -> Result<(), Stop> {
        let root = self.sandbox(&request.framework_id, &request.task_id)?;
        let mut file = sandbox::open_file(&root, &request.path).map_err(|error| refuse_path(&request.path, &error))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            frames.send(Some(wire::frame::Body::Chunk(buffer[..read].to_vec().into())))?;
        }
    }

    /// The directory of a task, running or ended. The latest launch of the name counts.
    fn sandbox(&self, framework: &str, task: &str) -> Result<PathBuf, Stop> {
        let framework = parse::<FrameworkId>("framework_id", framework)?;
        let task = parse::<TaskId>("task_id", task)?;
        let mut query = LogQuery::new(&self.places.runners, framework, Some(task.clone()));
        query.pass(|_record, _name| Ok(()))?;
        let names = query.names.into_inner();
        let latest = names.iter().max_by_key(|(work, _)| **work);
        let Some((work, name)) = latest else {
            return Err(Stop::Error(NOT_FOUND, format!("task {task} has not run on this agent")));
        };
        let position = name.tasks.position_of(task.index).unwrap_or(0);
        let tenants = tenants::candidates(&self.places.works, framework, *work);
        tenants.iter().find_map(|tenant| sandbox::directory_of(tenant, *work, position)).ok_or_else(|| {
            let message =
                format!("task {task} has no directory: it asked for no disk and has no input files, or they are gone");
            Stop::Error(FAILED_PRECONDITION, message)
        })
    }

    fn is_live(&self, framework: FrameworkId, task: Option<TaskId>) -> Result<bool, Stop> {
        let (reply, answer) = oneshot::channel();
        let asked = self.questions.blocking_send(IsLive { framework, task, reply });
        asked.map_err(|_stopping| Stop::Gone)?;
        answer.blocking_recv().map_err(|_stopping| Stop::Gone)
    }
}

/// The logs of one framework's runners, read side by side.
struct LogQuery {
    framework: FrameworkId,
    /// Where its own runners are, and those that it shares with others.
    dirs: [PathBuf; 2],
    task: Option<TaskId>,
    tails: HashMap<PathBuf, Tail>,
    /// The launches asked for, by work.
    names: RefCell<HashMap<WorkId, LaunchName>>,
    /// The tasks whose output is complete.
    ended: BTreeSet<(WorkId, u32)>,
}

impl LogQuery {
    fn new(runners: &Path, framework: FrameworkId, task: Option<TaskId>) -> LogQuery {
        let dirs = [runners.join(framework.to_string()), runners.join(tenants::SHARED)];
        LogQuery { framework, dirs, task, tails: HashMap::new(), names: RefCell::default(), ended: BTreeSet::new() }
    }

    /// Hands every record that is there and was not handed over before to `take`.
    fn pass(&mut self, mut take: impl FnMut(&Record, &LaunchName) -> Result<(), Stop>) -> Result<(), Stop> {
        for runner in self.dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            let dir = log_dir(&runner.path());
            self.tails.entry(dir.clone()).or_insert_with(|| Tail::new(&dir));
        }
        let mut tails = std::mem::take(&mut self.tails);
        let read_out = |tail: &mut Tail| {
            while self.read(tail, &mut take)? {}
            Ok(())
        };
        let result = tails.values_mut().try_for_each(read_out);
        self.tails = tails;
        result
    }

    fn read(
        &mut self,
        tail: &mut Tail,
        take: &mut impl FnMut(&Record, &LaunchName) -> Result<(), Stop>,
    ) -> Result<bool, Stop> {
        let names = &self.names;
        let (framework, task) = (self.framework, self.task.as_ref());
        let wanted = |work: WorkId, position: u32, _kind| {
            let names = names.borrow();
            let Some(name) = names.get(&work) else { return false };
            task.is_none_or(|task| task.index.is_none() || name.tasks.index_at(position) == task.index)
        };
        let mut records = Vec::new();
        let more = tail.read(READ_BYTES, wanted, |record| match record.launch_name() {
            Some(name) if name.framework == framework && task.is_none_or(|task| covers(&name, task)) => {
                names.borrow_mut().insert(record.work, name);
            }
            Some(_other) => {}
            None => records.push(record),
        })?;
        for record in records {
            if record.kind == RecordKind::End {
                self.ended.insert((record.work, record.position));
            }
            if let Some(name) = self.names.borrow().get(&record.work) {
                take(&record, name)?;
            }
        }
        Ok(more)
    }

    /// Whether every task asked for has ended: for one task or one launch.
    fn is_complete(&self) -> bool {
        let Some(task) = &self.task else { return false };
        let names = self.names.borrow();
        let Some((work, name)) = names.iter().max_by_key(|(work, _)| **work) else { return false };
        let expected = if task.index.is_some() { 1 } else { name.tasks.count() as usize };
        self.ended.range((*work, 0)..=(*work, u32::MAX)).count() >= expected
    }
}

/// Whether a launch has the task, or is the whole launch that the id names.
fn covers(name: &LaunchName, task: &TaskId) -> bool {
    name.batch == task.batch && (task.index.is_none() || name.tasks.position_of(task.index).is_some())
}

fn log_record(record: &Record, name: &LaunchName) -> wire::LogRecord {
    let (stream, data) = match record.kind {
        RecordKind::Stdout => (wire::LogStream::Stdout, record.payload.clone()),
        RecordKind::Stderr => (wire::LogStream::Stderr, record.payload.clone()),
        RecordKind::End | RecordKind::Launch => (wire::LogStream::End, Vec::new()),
    };
    wire::LogRecord {
        task_id: name.task_id(record.position).to_string(),
        stream: stream.into(),
        data: data.into(),
        dropped_bytes: if record.kind == RecordKind::End { record.dropped() } else { 0 },
        at_unix_micros: record.at_unix_micros,
        ..wire::LogRecord::default()
    }
}

/// Says what is wrong with a path of a sandbox.
fn refuse_path(path: &str, error: &io::Error) -> Stop {
    // The kernel's word for a path or link that leaves the directory it was to be opened in.
    if error.kind() == io::ErrorKind::CrossesDevices {
        return Stop::Error(INVALID_ARGUMENT, format!("path {path:?} leads out of the task's sandbox"));
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => FAILED_PRECONDITION,
        _ => INTERNAL,
    };
    Stop::Error(code, format!("path {path:?} of the task's sandbox cannot be read: {error}"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Stop> {
    text.parse().map_err(|error| Stop::Error(INVALID_ARGUMENT, format!("{field}: {error}")))
}
