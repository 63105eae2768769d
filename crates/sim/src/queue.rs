//! What will happen, in the order in which it will.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holm_master::{Event, RegistryOp, WriteId};
use holm_model::{RunnerId, TaskStatus, Time, WorkId};

use crate::net::{ConnId, Direction};

/// A process of the cluster, by its position in the world's lists. Masters are numbered by their terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The master of one term.
    Master(usize),
    /// An agent.
    Agent(usize),
    /// A runner of an agent.
    Runner(usize, RunnerId),
    /// A framework's scheduler.
    Framework(usize),
}

/// One event of the simulation.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// The head of a pipe may have arrived.
    Arrive(ConnId, Direction),
    /// The process's core wanted to be woken about now.
    Wake(Place),
    /// The registry has answered a write.
    Write { term: usize, write: WriteId, ops: Vec<RegistryOp> },
    /// The policy has answered.
    Ranked { term: usize, event: Box<Event> },
    /// The lease of a deposed master has ended.
    LeaseEnd(usize),
    /// A client opens a stream to a master.
    Dial { place: Place, life: u64 },
    /// A client gives up a stream that is not open yet.
    DialTimeout(ConnId),
    /// This end of a stream finds that it is broken.
    Closed(Place, ConnId),
    /// A framework looks whether it still hears its master.
    Silence { framework: usize, conn: ConnId },
    /// The master's transport finds that a peer no longer answers.
    Keepalive { place: Place, trouble: u64 },
    /// A launch has been prepared.
    Prepared { agent: usize, life: u64, work: WorkId, fetchable: bool },
    /// An agent's shell connects to a runner.
    RunnerUp { agent: usize, life: u64, runner: RunnerId },
    /// An agent's shell makes sure that a runner is gone.
    RunnerKill { agent: usize, life: u64, runner: RunnerId },
    /// A guest has started (no status) or ended.
    Guest { agent: usize, runner: RunnerId, token: u64, work: WorkId, position: u32, end: Option<TaskStatus> },
    /// A guest answers a message with the same bytes.
    Echo { agent: usize, runner: RunnerId, token: u64, work: WorkId, position: u32, data: Arc<[u8]> },
    /// A random scheduler has an idea.
    Think { framework: usize, life: u64 },
    /// Something goes wrong, or is repaired.
    Trouble(Trouble),
}

/// What goes wrong in a random run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// The next fault is drawn.
    Draw,
    /// Nothing goes between this client and its master.
    Cut(Place),
    /// It does again.
    Heal(Place),
    /// The process stands still.
    Pause(Place),
    /// It goes on.
    Resume(Place),
    /// The process dies.
    Crash(Place),
    /// It is started again.
    Start(Place),
}

/// Happenings by time, those of one moment in the order in which they were scheduled.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BTreeMap<(Time, u64), Happening>,
    next: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Time, happening: Happening) {
        self.entries.insert((at, self.next), happening);
        self.next += 1;
    }

    pub(crate) fn pop_until(&mut self, limit: Time) -> Option<(Time, Happening)> {
        let entry = self.entries.first_entry().filter(|entry| entry.key().0 <= limit)?;
        let ((at, _), happening) = entry.remove_entry();
        Some((at, happening))
    }
}

/// When and how far apart things happen; a pair is drawn from evenly.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between two hosts.
    pub latency: (Duration, Duration),
    /// Between processes of one host.
    pub local_latency: (Duration, Duration),
    /// Of a registry write.
    pub write: (Duration, Duration),
    /// Of fetching and compiling.
    pub prepare: (Duration, Duration),
    /// Of starting a process or a guest.
    pub start: (Duration, Duration),
    /// Before an agent dials again.
    pub redial: (Duration, Duration),
    /// Out of a hundred registry writes, how many get no clear answer.
    pub unknown_writes: u64,
    /// Messages that wait in one direction of a stream before its sender gives the stream up.
    pub queue_limit: usize,
    /// After how many new records an agent rewrites its checkpoint.
    pub compact_every: usize,
}

impl Settings {
    /// Small fixed delays: what scripts use, so that their transcripts read easily.
    pub fn fixed() -> Settings {
        let fixed = |millis| (Duration::from_millis(millis), Duration::from_millis(millis));
        Settings {
            latency: fixed(1),
            local_latency: fixed(0),
            write: fixed(1),
            prepare: fixed(10),
            start: fixed(1),
            redial: fixed(100),
            unknown_writes: 0,
            queue_limit: 10_000,
            compact_every: usize::MAX,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Master(term) => write!(f, "master {term}"),
            Place::Agent(agent) => write!(f, "agent {agent}"),
            Place::Runner(agent, runner) => write!(f, "{runner} of agent {agent}"),
            Place::Framework(framework) => write!(f, "framework {framework}"),
        }
    }
}
