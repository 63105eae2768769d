//! Runs a scheduler against the masters: the shell around [`holm_session::Subscription`].

mod link;
mod run;
mod timers;

use std::time::Duration;

use holm_model::{FrameworkId, FrameworkInfoError, Role};
use holm_session::Identity;
use tokio::sync::{mpsc, watch};

use crate::Scheduler;
use crate::address::AddressError;
use link::Link;
pub use run::MAX_OUTBOX;
use run::Run;
pub use timers::MAX_TIMERS;

/// Inputs that may wait for a scheduler.
const COMMANDS: usize = 64;

/// How to reach the masters and what to do when that fails.
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses of masters, `HOST:PORT`, in the order in which to try them; the one that leads is found.
    pub masters: Vec<String>,
    /// The operator's token, where masters want one.
    pub token: Option<String>,
    /// Who the framework is, when it comes back after a restart.
    pub identity: Option<Identity>,
    /// Roles in which it wants no offers at first.
    pub suppressed: Vec<Role>,
    /// How long to look for a master before the first registration; none looks for ever.
    pub connect_within: Option<Duration>,
    /// How long to look for a master after one was lost; none looks for ever.
    pub reconnect_within: Option<Duration>,
    /// What becomes of the framework when its scheduler has finished.
    pub on_finish: OnFinish,
}

/// What becomes of a framework when its scheduler has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFinish {
    /// Its tasks are killed, and its registration is forgotten.
    #[default]
    TearDown,
    /// The stream ends, and its failover timeout begins: its tasks go on and its logs can be read for that long.
    Leave,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            masters: vec!["127.0.0.1:5050".to_owned()],
            token: None,
            identity: None,
            suppressed: Vec::new(),
            connect_within: None,
            reconnect_within: None,
            on_finish: OnFinish::default(),
        }
    }
}

/// How a framework came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code that the scheduler asked for; 0 when it was stopped from outside.
    pub code: u8,
    /// What the scheduler reported; empty when it was stopped from outside.
    pub report: Vec<u8>,
    /// The framework's id, if it was ever registered.
    pub framework: Option<FrameworkId>,
}

/// Why a framework could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// An address or the token cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The scheduler describes a framework that cannot be.
    #[error("the framework cannot be registered")]
    Info(#[from] FrameworkInfoError),
    /// No master took the framework in time.
    #[error("no master at {masters} within {waited:.1?}: {last}")]
    NoMaster {
        /// Where it looked.
        masters: String,
        /// How long.
        waited: Duration,
        /// What came of the last attempt.
        last: String,
    },
    /// A master will not have the framework.
    #[error("the master refuses the framework: {0}")]
    Refused(String),
    /// The scheduler gave up.
    #[error("the scheduler cannot go on: {0}")]
    Aborted(String),
}

/// The driver of a framework that runs already is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the framework has ended")]
pub struct Stopped;

#[derive(Debug)]
enum Command {
    Input(Vec<u8>),
    TearDown,
    Leave,
}

/// Connects one scheduler to the masters. Made by [`Driver::new`], used up by [`Driver::run`].
pub struct Driver {
    options: Options,
    link: Link,
    commands: mpsc::Receiver<Command>,
    identity: watch::Sender<Option<Identity>>,
}

/// Reaches a framework that runs, from elsewhere in the program.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    identity: watch::Receiver<Option<Identity>>,
}

impl Driver {
    /// Checks the options; nothing is connected yet.
    ///
    /// # Errors
    /// An address or a token that cannot be used.
    pub fn new(options: Options) -> Result<(Driver, Handle), DriverError> {
        let link = Link::new(options.masters.clone(), options.token.as_deref())?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (identity, known) = watch::channel(options.identity.clone());
        Ok((Driver { options, link, commands, identity }, Handle { commands: sender, identity: known }))
    }

    /// Runs the scheduler until it finishes, or cannot go on. Between its calls the scheduler belongs to the caller's task
    /// alone: nothing of it is shared.
    ///
    /// # Errors
    /// When no master takes the framework, or the scheduler gives up.
    pub async fn run<S: Scheduler + ?Sized>(self, scheduler: &mut S) -> Result<Outcome, DriverError> {
        let info = scheduler.describe();
        info.validate()?;
        Run::new(self, info, scheduler).run().await
    }
}

impl Handle {
    /// Gives the scheduler an [`Event::Input`](crate::Event::Input).
    ///
    /// # Errors
    /// When the framework has ended.
    pub async fn input(&self, bytes: impl Into<Vec<u8>>) -> Result<(), Stopped> {
        self.commands.send(Command::Input(bytes.into())).await.map_err(|_| Stopped)
    }

    /// Ends the framework from outside: its tasks are killed, its registration is forgotten.
    ///
    /// # Errors
    /// When the framework has ended.
    pub async fn tear_down(&self) -> Result<(), Stopped> {
        self.commands.send(Command::TearDown).await.map_err(|_| Stopped)
    }

    /// Ends the driver from outside and leaves the tasks to the framework's failover timeout.
    ///
    /// # Errors
    /// When the framework has ended.
    pub async fn leave(&self) -> Result<(), Stopped> {
        self.commands.send(Command::Leave).await.map_err(|_| Stopped)
    }

    /// Who the framework is: to be kept by whoever wants to come back after a restart. None before the first
    /// registration.
    pub fn identity(&self) -> Option<Identity> {
        self.identity.borrow().clone()
    }

    /// Waits for the first registration.
    ///
    /// # Errors
    /// When the framework has ended before.
    pub async fn registered(&mut self) -> Result<Identity, Stopped> {
        let known = self.identity.wait_for(Option::is_some).await.map_err(|_| Stopped)?;
        known.clone().ok_or(Stopped)
    }
}
