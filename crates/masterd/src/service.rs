//! The daemon: opens the store, leads, listens, and puts the parts together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use holm_coordination::{Coordination, Embedded, Leadership, StoreError};
use holm_datadir::DataDir;
use holm_master::{Master, Object};
use holm_model::{Action, ClusterId, Epoch, Principal};
use holm_proto::{limits, v1};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::{Request, Status};

use crate::auth::{Gate, TokenError};
use crate::blobs::Blobs;
use crate::bulk::Relay;
use crate::connection::{self, Peer};
use crate::driver::{self, Driver, DriverError, Input};
use crate::metrics::Metrics;
use crate::options::{Limits, Options};
use crate::registry::{self, RegistryError};
use crate::sessions::{AgentService, SchedulerService, SessionIds};
use crate::view::{self, View};
use crate::{blobs, bulk, clock, http, operator};

/// Connections that the operating system keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// Which reign this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) epoch: Epoch,
}

/// What all services share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) cluster: Cluster,
    pub(crate) view: Arc<View>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) relay: Arc<Relay>,
    pub(crate) driver: mpsc::Sender<Input>,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) session_ids: SessionIds,
    watches: Arc<Semaphore>,
    version: String,
    address: SocketAddr,
    started: Instant,
}

impl Shared {
    /// Lets an operator or a framework's client do `action`.
    ///
    /// # Errors
    /// UNAUTHENTICATED without the token this master wants, PERMISSION_DENIED when the principal may not.
    pub(crate) fn admit<T>(&self, request: &Request<T>, action: Action) -> Result<Principal, Status> {
        let principal = self.gate.admit(request.metadata().as_ref())?;
        self.authorize(principal, action)
    }

    /// Like [`Shared::admit`], and an agent that has proved itself on this connection may do it too.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn admit_agent_too<T>(&self, request: &Request<T>, action: Action) -> Result<Principal, Status> {
        let agent = request.extensions().get::<Arc<Peer>>().and_then(|peer| peer.agent.get().copied());
        match agent {
            Some(agent) => self.authorize(Principal::Agent(agent), action),
            None => self.admit(request, action),
        }
    }

    fn authorize(&self, principal: Principal, action: Action) -> Result<Principal, Status> {
        match holm_master::authorize(&principal, action, Object::Cluster) {
            Ok(()) => Ok(principal),
            Err(denied) => Err(Status::permission_denied(denied.to_string())),
        }
    }

    /// A place for one more watch.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when all are taken.
    pub(crate) fn watch_place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let limit = self.limits.watches;
        let full = |_| Status::resource_exhausted(format!("{limit} watches are open, which is the limit"));
        self.watches.clone().try_acquire_owned().map_err(full)
    }

    /// The cluster and this process.
    pub(crate) fn describe(&self) -> v1::GetClusterReply {
        v1::GetClusterReply {
            cluster_id: self.cluster.id.to_string(),
            epoch: self.cluster.epoch.0,
            version: self.version.clone(),
            uptime_micros: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            address: self.address.to_string(),
            ..self.view.read().cluster()
        }
    }
}

/// Why a master did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] holm_datadir::OpenError),
    /// The registry cannot be opened.
    #[error(transparent)]
    Store(#[from] holm_coordination::OpenError),
    /// The registry cannot be led.
    #[error(transparent)]
    Campaign(#[from] StoreError),
    /// The registry cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The blobs cannot be opened.
    #[error(transparent)]
    Blobs(#[from] holm_datadir::StoreError),
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The address is taken or is not one of this machine.
    #[error("cannot listen at {address}{}", if source.kind() == std::io::ErrorKind::AddrInUse { ": another process does" } else { "" })]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused something else.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Why a master ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else leads, or the registry has failed for too long.
    #[error("this master leads no longer: {0}")]
    Deposed(Arc<str>),
    /// A part of it panicked; the log says where.
    #[error("the master's {0} panicked")]
    Panicked(&'static str),
}

/// A master that leads and listens, and will serve once it is run.
pub struct Service {
    shared: Arc<Shared>,
    listener: TcpListener,
    driver: Driver,
    view_thread: JoinHandle<()>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

/// What was found on disk.
struct Opened {
    store: Arc<dyn Coordination>,
    blobs: Blobs,
}

/// Opens directory, registry and blobs; blocks.
fn open(options: &Options) -> Result<Opened, StartError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| StartError::System { what: "get random bytes", source: std::io::Error::other(error) })?;
    let dir = DataDir::open(&options.store, "master", options.adopt)?;
    let blobs = Blobs::open(&dir.below("blobs")?, options.blobs, options.limits.pushes)?;
    let fresh_cluster = ClusterId(u128::from_le_bytes(random));
    let written_by = options.version.clone();
    let store = Embedded::open(dir, &holm_coordination::Options { fresh_cluster, adopted: options.adopt, written_by })?;
    Ok(Opened { store: Arc::new(store), blobs })
}

impl Service {
    /// Opens the store, becomes leader and listens; nobody is served before [`Service::run`]. Call it on a tokio runtime
    /// with several threads.
    ///
    /// # Errors
    /// When the address, the data directory or the token file cannot be used.
    pub async fn bind(options: Options) -> Result<Service, StartError> {
        let gate = Gate::open(options.token_file.as_deref())?;
        raise_file_limit();
        // First the port: a second master on a port in use must not start a new epoch in its store.
        let listener = listen(options.listen).await?;
        let address = listener.local_addr().map_err(|source| StartError::Listen { address: options.listen, source })?;
        let paths = options.clone();
        let opened = tokio::task::spawn_blocking(move || open(&paths)).await;
        let Opened { store, blobs } = opened
            .map_err(|error| StartError::System { what: "open the store", source: std::io::Error::other(error) })??;
        let leadership = store.campaign().await?;
        let registry = registry::load(&store, leadership).await?;
        let Leadership { cluster: id, epoch } = leadership;
        tracing::info!(
            %address, cluster = %id, %epoch, store = %options.store.display(), agents = registry.agents.len(),
            frameworks = registry.frameworks.len(), "leading"
        );
        warn_if_open(address, &gate);
        let (driver, inputs) = mpsc::channel(driver::INPUT_QUEUE);
        let mut of_master = options.master;
        #[cfg(feature = "policy")]
        let policy = open_policy(options.policy, &mut of_master, &driver)?;
        #[cfg(not(feature = "policy"))]
        {
            of_master.policy = None;
        }
        let master = Master::recover(registry, of_master, clock::now());

        let metrics = Arc::new(Metrics::new());
        let view = View::new();
        let (deltas, folded) = mpsc::channel(view::DELTA_QUEUE);
        let view_thread = view::start(view.clone(), metrics.clone(), folded)
            .map_err(|source| StartError::System { what: "start the read model's thread", source })?;
        let limits = options.limits;
        let shared = Arc::new(Shared {
            gate,
            limits,
            cluster: Cluster { id, epoch },
            view,
            metrics: metrics.clone(),
            blobs: Arc::new(blobs),
            relay: Arc::new(Relay::new(limits)),
            driver,
            sessions: Arc::new(Semaphore::new(limits.sessions)),
            session_ids: SessionIds::default(),
            watches: Arc::new(Semaphore::new(limits.watches)),
            version: options.version,
            address,
            started: Instant::now(),
        });
        let driver = Driver::new(driver::Parts {
            master,
            store,
            leadership,
            inputs,
            view: deltas,
            metrics,
            #[cfg(feature = "policy")]
            policy,
        });
        Ok(Service { shared, listener, driver, view_thread })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Serves until `shutdown` resolves; then stops accepting, flushes the registry, says goodbye to every stream, and
    /// gives the store up.
    ///
    /// # Errors
    /// When the master was deposed, or a part of it panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), RunError> {
        let Service { shared, listener, driver, view_thread } = self;
        let (stop, stopping) = watch::channel(false);
        let mut driver = drive(driver, stopping.clone());
        let (reporter, routes) = routes(&shared);
        reporter.set_serving::<v1::scheduler_server::SchedulerServer<SchedulerService>>().await;
        reporter.set_serving::<v1::agent_server::AgentServer<AgentService>>().await;
        reporter.set_serving::<v1::operator_server::OperatorServer<operator::Service>>().await;
        let serving = connection::serve(listener, routes, shared.limits, shared.metrics.clone(), stopping);
        let serving = tokio::spawn(serving);
        let ended = tokio::select! {
            () = shutdown => None,
            ended = &mut driver => Some(ended),
        };
        tracing::info!(address = %shared.address, "stopping");
        stop.send_replace(true);
        let ended = match ended {
            Some(ended) => ended,
            None => driver.await,
        };
        // The driver has dropped its end of the read model's queue, so the thread ends.
        let folded = tokio::task::spawn_blocking(move || view_thread.join().is_ok()).await.unwrap_or(false);
        shared.view.close();
        shared.relay.close();
        let served = serving.await.map_err(|_| RunError::Panicked("listener"));
        match ended {
            Ok(Ok(())) if folded => served,
            Ok(Ok(())) => Err(RunError::Panicked("read model")),
            Ok(Err(DriverError::Deposed(reason))) => Err(RunError::Deposed(reason)),
            Err(_) => Err(RunError::Panicked("driver")),
        }
    }
}

/// Starts the policy's thread, and has the master know of it.
#[cfg(feature = "policy")]
fn open_policy(
    policy: Option<crate::policy::Policy>,
    options: &mut holm_master::Options,
    driver: &mpsc::Sender<Input>,
) -> Result<Option<crate::policy::Desk>, StartError> {
    options.policy = policy.as_ref().map(|policy| policy.description().clone());
    let Some(policy) = policy else { return Ok(None) };
    tracing::info!(policy = policy.description().name, "a policy orders roles");
    let desk = crate::policy::Desk::open(policy, driver.clone());
    desk.map(Some).map_err(|source| StartError::System { what: "start the policy's thread", source })
}

/// Runs the driver as a task like the sessions: a message is then handled on the thread that read it and answered from there,
/// where a thread of the driver's own would have to be woken for each. What it does between two waits takes microseconds,
/// except for large reports; other threads serve meanwhile.
fn drive(driver: Driver, stop: watch::Receiver<bool>) -> tokio::task::JoinHandle<Result<(), DriverError>> {
    let store = driver.store();
    tokio::spawn(async move {
        let ended = driver.run(stop).await;
        // Whoever drops the store last waits for its writer: nothing for an async thread.
        let dropped = tokio::task::spawn_blocking(move || drop(store)).await;
        dropped.map_or_else(|panic| std::panic::resume_unwind(panic.into_panic()), |()| ended)
    })
}

fn routes(shared: &Arc<Shared>) -> (tonic_health::server::HealthReporter, axum::Router) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let most = limits::MAX_TO_MASTER_BYTES;
    let scheduler = SchedulerService { shared: shared.clone() };
    let agent = AgentService { shared: shared.clone() };
    let bulk = bulk::Service { shared: shared.clone() };
    let blobs = blobs::Service { shared: shared.clone() };
    let operator = operator::Service { shared: shared.clone() };
    let mut services = tonic::service::Routes::new(health)
        .add_service(v1::scheduler_server::SchedulerServer::new(scheduler).max_decoding_message_size(most))
        .add_service(v1::agent_server::AgentServer::new(agent).max_decoding_message_size(most))
        .add_service(v1::bulk_server::BulkServer::new(bulk).max_decoding_message_size(most))
        .add_service(v1::blobs_server::BlobsServer::new(blobs).max_decoding_message_size(most))
        .add_service(v1::operator_server::OperatorServer::new(operator).max_decoding_message_size(most));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(holm_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => services = services.add_service(reflection),
        // The descriptors are compiled in and tested; without them the master still does its work.
        Err(error) => tracing::error!(%error, "the reflection service is not available"),
    }
    (reporter, services.prepare().into_axum_router().merge(http::routes(shared.clone())).fallback(http::nothing))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { address, source };
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.map_err(failed)?;
    // A restarted master does not wait for the connections of its predecessor to time out.
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

fn warn_if_open(address: SocketAddr, gate: &Gate) {
    if !address.ip().is_loopback() && !gate.is_closed() {
        tracing::warn!(
            %address,
            "LISTENING BEYOND THIS MACHINE WITHOUT A TOKEN: whoever reaches this port can run code on every agent. \
             Use a token file, or listen on loopback"
        );
    } else if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening beyond this machine without TLS: tokens and secrets travel in the clear");
    }
}

/// Every connection is a file; the usual soft limit of 1024 is far below what the hard one allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit on open files cannot be raised");
    }
}
