//! The organisation's policy as this daemon runs it: on a thread of its own, one call at a time, never waited for.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use holm_master::{DescriptionError, Event, Master, Policy as _, Trial};
use holm_model::{PolicyCost, PolicyDescription, PolicyFailure, PolicyPatch, Role};
use holm_runtime::{PolicyError, PolicyGuest, PolicyProgram};
use tokio::sync::mpsc;

use crate::driver::Input;

pub use holm_master::TrialRank;
pub use holm_runtime::PolicyOptions;

/// Why a file is no policy for this master.
#[derive(Debug, thiserror::Error)]
pub enum PolicyLoadError {
    /// It cannot be read.
    #[error("policy {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no policy, or fails when it is asked what it is.
    #[error("policy {} cannot be used", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: PolicyError,
    },
    /// It wants what this master does not have.
    #[error("policy {} cannot be used", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: DescriptionError,
    },
}

/// A policy that was compiled, asked what it is, and found to be one that this master can go by.
#[derive(Clone, Debug)]
pub struct Policy {
    program: PolicyProgram,
    description: PolicyDescription,
}

impl Policy {
    /// Reads and checks a policy. Blocks while it is compiled and describes itself.
    ///
    /// # Errors
    /// What is wrong with it, by name.
    pub fn load(path: impl Into<PathBuf>, options: PolicyOptions) -> Result<Policy, PolicyLoadError> {
        let path = path.into();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(PolicyLoadError::Read { path, source }),
        };
        let started = PolicyProgram::load(&bytes, options).and_then(|program| Ok((program.start()?, program)));
        let (guest, program) = match started {
            Ok(started) => started,
            Err(source) => return Err(PolicyLoadError::Program { path, source }),
        };
        let description = guest.description().clone();
        match Master::check_policy(&description) {
            Ok(()) => Ok(Policy { program, description }),
            Err(source) => Err(PolicyLoadError::Description { path, source }),
        }
    }

    /// What it says of itself.
    pub fn description(&self) -> &PolicyDescription {
        &self.description
    }

    /// A new instance of it. Blocks for as long as a call may take.
    ///
    /// # Errors
    /// When it cannot be started any more, or describes itself otherwise than before.
    pub fn start(&self) -> Result<Running, PolicyFailure> {
        let guest = match self.program.start() {
            Ok(guest) => guest,
            Err(PolicyError::Describe(failure)) => return Err(failure),
            Err(error) => return Err(PolicyFailure::Host(error.to_string())),
        };
        if *guest.description() != self.description {
            return Err(PolicyFailure::Nonsense("a new instance describes itself otherwise than the first".to_owned()));
        }
        Ok(Running { guest, cost: PolicyCost::default() })
    }
}

/// An instance of a policy.
pub struct Running {
    guest: PolicyGuest,
    cost: PolicyCost,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl Running {
    /// What the latest call took.
    pub fn cost(&self) -> PolicyCost {
        self.cost
    }
}

impl holm_master::Policy for Running {
    fn describe(&self) -> PolicyDescription {
        self.guest.description().clone()
    }

    fn rank(&mut self, changes: &[PolicyPatch]) -> Result<Vec<PolicyPatch>, PolicyFailure> {
        let (answer, cost) = self.guest.rank(changes);
        self.cost = cost;
        answer
    }
}

/// How a policy did on a made-up cluster.
#[derive(Clone, Debug)]
pub struct Checked {
    /// How many agents the cluster had.
    pub agents: usize,
    /// How many roles.
    pub roles: usize,
    /// How many frameworks, each in one role.
    pub leaves: usize,
    /// What the first call took, which told everything.
    pub first: PolicyCost,
    /// What the next call took, which told what one grant changed; none when that is nothing the policy reads.
    pub next: Option<PolicyCost>,
    /// What it ranked.
    pub ranks: Vec<TrialRank>,
}

/// Roles of the made-up cluster, unless others are given.
const ROLES: [&str; 8] = ["prod", "prod/web", "prod/db", "batch", "batch/nightly", "eng", "eng/backend", "test"];

/// Runs a policy on a made-up cluster of `leaves` frameworks in `roles`, or in roles of its own when none is given.
///
/// # Errors
/// Its failure, or what makes no sense about its answer.
pub fn check(policy: &Policy, roles: &[Role], leaves: usize) -> Result<Checked, PolicyFailure> {
    let own = || ROLES.iter().filter_map(|role| role.parse().ok()).collect();
    let roles: Vec<Role> = if roles.is_empty() { own() } else { roles.to_vec() };
    let described = |error: DescriptionError| PolicyFailure::Nonsense(error.to_string());
    let mut trial = Trial::new(policy.description(), &roles, leaves).map_err(described)?;
    let mut running = policy.start()?;
    let changes = trial.ask();
    trial.answer(&running.rank(&changes)?)?;
    let first = running.cost();
    trial.grow();
    let changes = trial.ask();
    let mut next = None;
    if !changes.is_empty() {
        trial.answer(&running.rank(&changes)?)?;
        next = Some(running.cost());
    }
    let (agents, roles, leaves) = trial.size();
    Ok(Checked { agents, roles, leaves, first, next, ranks: trial.ranks() })
}

/// What the thread is asked.
struct Request {
    request: u64,
    fresh: bool,
    changes: Vec<PolicyPatch>,
}

/// The thread, from the driver's side. Dropping it ends the thread after the call under way.
pub(crate) struct Desk {
    requests: SyncSender<Request>,
}

impl Desk {
    /// Starts the thread; answers go to the driver's queue.
    pub(crate) fn open(policy: Policy, driver: mpsc::Sender<Input>) -> std::io::Result<Desk> {
        // The master has one request out at a time.
        let (requests, waiting) = sync_channel(1);
        let thread = std::thread::Builder::new().name("policy".to_owned());
        let _detached: JoinHandle<()> = thread.spawn(move || serve(&policy, &waiting, &driver))?;
        Ok(Desk { requests })
    }

    /// Passes a request on. What comes back instead of nothing is to be handled like an answer of the thread.
    pub(crate) fn ask(&self, request: u64, fresh: bool, changes: Vec<PolicyPatch>) -> Option<Event> {
        let sent = self.requests.try_send(Request { request, fresh, changes });
        sent.err().map(|_| {
            let failure = PolicyFailure::Host("its thread has ended or is busy".to_owned());
            Event::Ranked { request, answer: Err(failure), cost: PolicyCost::default() }
        })
    }
}

fn serve(policy: &Policy, requests: &Receiver<Request>, driver: &mpsc::Sender<Input>) {
    let mut running: Option<Running> = None;
    while let Ok(Request { request, fresh, changes }) = requests.recv() {
        if fresh {
            running = None;
        }
        let started = running.take().map_or_else(|| policy.start(), Ok);
        let mut cost = PolicyCost::default();
        let answer = started.and_then(|mut instance| {
            let answer = instance.rank(&changes);
            cost = instance.cost();
            running = answer.is_ok().then_some(instance);
            answer
        });
        if driver.blocking_send(Input::Ranked { request, answer, cost }).is_err() {
            return;
        }
    }
}
