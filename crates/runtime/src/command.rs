//! What to run: a command, what it is given and what it may use.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Disk, ExecutedUpdate, NetworkPolicy, OutputSink, Program, ServiceOptions, TaskEnd};

/// What a guest is given.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its arguments; the first is the program's name.
    pub args: Vec<String>,
    /// Its environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its ceilings.
    pub limits: CommandLimits,
    /// Fixes its clocks and randomness: time becomes virtual, sleeps take none, and random bytes are predictable.
    pub seed: Option<u64>,
    /// The directories it may open.
    pub preopens: Vec<Preopen>,
    /// What it may do on the network.
    pub network: Arc<NetworkPolicy>,
    /// Where it is served, if it is a service.
    pub service: Option<ServiceOptions>,
}

/// Ceilings whose excess ends a task, except for output, which is cut off, and CPU time, which it waits for.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// Units of fuel, about one per Wasm instruction; none is unlimited, and fuel is counted all the same.
    pub fuel: Option<u64>,
    /// Bytes of all linear memories, tables and the GC heap together.
    pub memory_bytes: u64,
    /// Wall time from the first instruction.
    pub deadline: Option<Duration>,
    /// Bytes of stdout and stderr together that are kept.
    pub output_bytes: u64,
    /// Its part of the CPU time.
    pub cpu: CpuShare,
}

/// A task's part of the CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShare {
    /// What it is promised, in thousandths of a core; its weight against other tasks.
    pub milli: u64,
    /// The most it may use, in thousandths of a core; none for what others leave. Nothing computes on more than one core.
    pub limit_milli: Option<u64>,
    /// Tasks of one group that run one after another count as one, so that many short tasks gain nothing over a long one.
    /// Zero is a group like any other.
    pub group: u64,
}

impl Default for CpuShare {
    /// A tenth of a core, without a ceiling.
    fn default() -> CpuShare {
        CpuShare { milli: 100, limit_milli: None, group: 0 }
    }
}

/// A directory that the guest may open. There is no way out of it through `..` or links.
#[derive(Clone, Debug)]
pub struct Preopen {
    /// Which directory.
    pub host: HostDir,
    /// What the guest calls it.
    pub guest: String,
    /// Whether the guest may change anything in it.
    pub writable: bool,
}

/// A directory of the host.
#[derive(Clone, Debug)]
pub enum HostDir {
    /// By path. Links in the path are followed, so use it only for paths nobody else can change.
    Path(PathBuf),
    /// A directory of the task's own, by path: what it takes is counted and limited by the ledger.
    Own(PathBuf, Disk),
    /// Already opened, for example beneath an allowed prefix: what was checked is what the guest gets.
    Opened(Arc<OwnedFd>),
}

impl Preopen {
    /// The ledger of what the guest writes there.
    pub(crate) fn disk(&self) -> Option<Disk> {
        match &self.host {
            HostDir::Own(_, disk) => Some(disk.clone()),
            HostDir::Path(_) | HostDir::Opened(_) => None,
        }
    }
}

/// Hears what becomes of a task. It is called on the threads that poll guests, so it must not block.
pub trait Observer: Send {
    /// The guest was instantiated and still runs after its first slice (about a millisecond). Shorter tasks end without.
    fn started(&mut self) {}

    /// The guest sends its framework a message of at most 64 KiB, at any time before its end. A guest can send as many as
    /// it has CPU time for: what cannot be taken at once is to be dropped.
    fn message(&mut self, data: Vec<u8>) {
        drop(data);
    }

    /// The guest is an executor and says how tasks of it stand; see [`crate::TaskHandle::launch_task`]. At most two updates for
    /// each task that it was given.
    fn executed(&mut self, updates: Vec<ExecutedUpdate>) {
        drop(updates);
    }

    /// The guest is an executor and sends its framework a message in the name of a task, as for [`Observer::message`].
    fn executed_message(&mut self, task: u64, data: Vec<u8>) {
        drop((task, data));
    }

    /// The task is over. Called exactly once, also when the queue stops.
    fn ended(self: Box<Self>, end: TaskEnd);
}

/// A task to be run by the [`crate::Queue`].
pub struct Task {
    /// What to run.
    pub program: Program,
    /// What it is given.
    pub command: Command,
    /// Where its output goes.
    pub output: Box<dyn OutputSink>,
    /// Who hears of its end.
    pub observer: Box<dyn Observer>,
}
