//! A component as a scheduler of the SDK: the component lives on a thread of its own, and this is its other end.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use holm_model::{FrameworkInfo, Role};
use holm_sdk::{Calls, Driver, DriverError, Event, GiveBack, Intent, Outcome, Scheduler};
use tokio::sync::oneshot;

use crate::guest::{Guest, GuestError, Limits};
use crate::{lift, lower};

/// How a component is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes for the scheduler to make sense of.
    pub config: Vec<u8>,
    /// Roles in place of those that the scheduler describes; none leaves it its own.
    pub roles: Vec<Role>,
    /// How long the framework's tasks outlive its connection, in place of what the scheduler describes.
    pub failover_timeout: Option<Duration>,
    /// How long one call of the scheduler may take.
    pub budget: Duration,
    /// How many bytes of memory the scheduler may hold.
    pub memory: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            config: Vec::new(),
            roles: Vec::new(),
            failover_timeout: None,
            budget: Duration::from_secs(1),
            memory: 256 << 20,
        }
    }
}

/// Why a component does not run as a framework.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The component itself.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The scheduler does not accept its configuration.
    #[error("the scheduler refuses its configuration: {0}")]
    Config(String),
    /// What the scheduler says of itself cannot be registered.
    #[error("the scheduler describes a framework that cannot be registered: {0}")]
    Info(String),
    /// The conversation with the master.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// A scheduler component that runs.
pub struct Hosted {
    info: FrameworkInfo,
    events: SyncSender<Vec<Event>>,
    intents: Receiver<Result<Vec<Intent>, GuestError>>,
    failure: Option<GuestError>,
}

impl Hosted {
    /// Compiles the component, starts it, and asks it to describe itself.
    ///
    /// # Errors
    /// When the bytes are no scheduler, or it does not accept its configuration.
    pub async fn start(bytes: Vec<u8>, options: Options) -> Result<Hosted, HostError> {
        let (described, description) = oneshot::channel();
        // One batch of events is out at a time.
        let (events, inbox) = sync_channel(1);
        let (outbox, intents) = sync_channel(1);
        let thread = std::thread::Builder::new().name("scheduler".into());
        let spawned = thread.spawn(move || live(&bytes, options, described, &inbox, &outbox));
        spawned.map_err(|error| GuestError::Host(error.to_string()))?;
        let ended = |_| HostError::Guest(GuestError::Host("the scheduler's thread has ended".to_owned()));
        let info = description.await.map_err(ended)??;
        Ok(Hosted { info, events, intents, failure: None })
    }

    /// Why it stopped, if it did.
    pub fn take_failure(&mut self) -> Option<GuestError> {
        self.failure.take()
    }
}

impl Scheduler for Hosted {
    fn describe(&self) -> FrameworkInfo {
        self.info.clone()
    }

    /// Waits for the component, which is at most as long as its budget.
    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        let answer = match self.events.send(events) {
            Ok(()) => self.intents.recv().ok(),
            Err(_) => None,
        };
        match answer {
            Some(Ok(intents)) => intents.into_iter().for_each(|intent| calls.push(intent)),
            Some(Err(error)) => {
                calls.abort(error.to_string());
                self.failure = Some(error);
            }
            None => calls.abort("the scheduler's thread has ended"),
        }
    }

    /// The component has had the event and answered by itself.
    fn give_back(&mut self, _requests: Vec<GiveBack>, _calls: &mut Calls) {}
}

/// Runs a started scheduler as a framework until it finishes.
///
/// # Errors
/// When the component fails, or the conversation with the master cannot go on.
pub async fn run(mut hosted: Hosted, driver: Driver) -> Result<Outcome, HostError> {
    let outcome = driver.run(&mut hosted).await;
    match hosted.take_failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(outcome?),
    }
}

/// The thread of the component: it lives as long as somebody sends events.
fn live(
    bytes: &[u8],
    options: Options,
    described: oneshot::Sender<Result<FrameworkInfo, HostError>>,
    inbox: &Receiver<Vec<Event>>,
    outbox: &SyncSender<Result<Vec<Intent>, GuestError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever asked may be gone; then there is nobody to tell.
            let _ = described.send(Err(GuestError::Host(error.to_string()).into()));
            return;
        }
    };
    let limits = Limits { budget: options.budget, memory: options.memory };
    let mut guest = match runtime.block_on(begin(bytes, options, limits)) {
        Ok((guest, info)) => {
            if described.send(Ok(info)).is_err() {
                return;
            }
            guest
        }
        Err(error) => {
            let _ = described.send(Err(error));
            return;
        }
    };
    while let Ok(events) = inbox.recv() {
        let events: Vec<_> = events.into_iter().filter_map(lower::event).collect();
        let calls = runtime.block_on(guest.on_events(&events));
        let failed = calls.is_err();
        let intents = calls.map(|calls| calls.into_iter().flat_map(lift::call).collect());
        if outbox.send(intents).is_err() || failed {
            return;
        }
    }
}

async fn begin(bytes: &[u8], options: Options, limits: Limits) -> Result<(Guest, FrameworkInfo), HostError> {
    let mut guest = Guest::instantiate(bytes, limits).await?;
    let described = guest.describe(&options.config).await?.map_err(HostError::Config)?;
    let mut info = lift::info(described, options.roles).map_err(HostError::Info)?;
    if let Some(timeout) = options.failover_timeout {
        info.failover_timeout = timeout;
        info.validate().map_err(|error| HostError::Info(error.to_string()))?;
    }
    Ok((guest, info))
}
