//! Everything between a launch and its first task: blobs fetched, module compiled, grants checked, inputs laid out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use holm_agent::RunnerScope;
use holm_datadir::{BlobStore, digest_of_file};
use holm_model::{Digest, FrameworkId, Launch, Metering, Prepared, Reason, ResourceName, TaskKind, WorkId};
use holm_runtime::ModuleKind;
use tokio::sync::{Mutex, watch};

use crate::flights::{Flights, Progress};
use crate::grants::AllowedDirectories;
use crate::native::{self, CompileError, NativeCache};
use crate::network::AgentNetwork;
use crate::remove::remove_tree;
use crate::tenants;
use crate::turns::Turns;

/// Why a launch cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PrepareError {
    /// FETCH, COMPILE, INVALID_MODULE, NOT_ALLOWED or SANDBOX.
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) message: String,
}

impl PrepareError {
    fn new(reason: Reason, message: impl Into<String>) -> PrepareError {
        PrepareError { reason, message: message.into() }
    }

    /// The compilation ended without saying how.
    pub(crate) fn lost() -> PrepareError {
        PrepareError::new(Reason::Compile, "the compilation was lost: the agent is stopping")
    }
}

impl From<CompileError> for PrepareError {
    fn from(error: CompileError) -> PrepareError {
        PrepareError::new(error.reason, error.message)
    }
}

/// Where missing blobs come from.
pub(crate) trait Fetch: Send + Sync {
    /// Brings a blob into the store, verified; the text says why it could not.
    fn fetch(&self, digest: Digest, store: &BlobStore) -> impl Future<Output = Result<(), String>> + Send;
}

/// Native code, by how its tasks are metered.
pub(crate) struct NativeCaches {
    pub(crate) counted: NativeCache,
    pub(crate) uncounted: NativeCache,
}

impl NativeCaches {
    fn of(&self, metering: Metering) -> &NativeCache {
        match metering {
            Metering::FuelAndEpochs => &self.counted,
            Metering::Epochs => &self.uncounted,
        }
    }
}

/// Prepares launches, several at a time; one digest is fetched and compiled once however many wait for it.
pub(crate) struct Preparer<F> {
    blobs: Arc<BlobStore>,
    native: NativeCaches,
    turns: Turns,
    flights: Flights,
    /// Of modules whose fuel is not counted.
    uncounted_flights: Flights,
    allowed: AllowedDirectories,
    network: AgentNetwork,
    sandboxes: Sandboxes,
    max_cache_bytes: u64,
    source: F,
    // Arc<Mutex>: the gate of one digest, shared by those who wait for the same fetch or compilation. The outer lock is
    // held only to look up a gate, never across an await.
    gates: std::sync::Mutex<HashMap<Digest, Weak<Mutex<()>>>>,
    /// Files of the caches that were found whole since this process started.
    checked: std::sync::Mutex<HashSet<PathBuf>>,
}

/// The caches that a preparer fills.
pub(crate) struct Caches {
    /// Modules and input files.
    pub(crate) blobs: Arc<BlobStore>,
    /// What was compiled.
    pub(crate) native: NativeCaches,
    /// How much each of them may take.
    pub(crate) max_bytes: u64,
}

/// Where sandboxes go, and who works in them.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    /// A directory for each tenant, with its sandboxes.
    pub(crate) works: PathBuf,
    /// The group of runners that are not of the agent's user.
    pub(crate) group: Option<u32>,
}

impl<F: Fetch + 'static> Preparer<F> {
    /// A preparer that lays out sandboxes and compiles with so many workers.
    pub(crate) fn new(
        caches: Caches,
        workers: usize,
        allowed: AllowedDirectories,
        network: AgentNetwork,
        sandboxes: Sandboxes,
        source: F,
    ) -> Preparer<F> {
        let Caches { blobs, native, max_bytes: max_cache_bytes } = caches;
        let gates = std::sync::Mutex::new(HashMap::new());
        Preparer {
            blobs,
            native,
            turns: Turns::new(workers),
            flights: Flights::default(),
            uncounted_flights: Flights::default(),
            allowed,
            network,
            sandboxes,
            max_cache_bytes,
            source,
            gates,
            checked: std::sync::Mutex::default(),
        }
    }

    /// Prepares a launch. Repeating it, also after a crash, is harmless. If it takes a while, `waits` hears for what.
    ///
    /// # Errors
    /// What is missing, refused or broken.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        work: WorkId,
        (framework, scope): (FrameworkId, &RunnerScope),
        launch: &Launch,
        waits: &(impl Fn(Arc<str>) + Sync),
    ) -> Result<Prepared, PrepareError> {
        let spec = &launch.spec;
        let granted = spec.directories.iter().map(|grant| self.allowed.grant(grant)).collect::<Result<_, _>>();
        let directories = granted.map_err(|error| PrepareError::new(Reason::NotAllowed, error.to_string()))?;
        let network = self.network.prepare(spec).await;
        let network = network.map_err(|error| PrepareError::new(Reason::NotAllowed, error.to_string()))?;
        let program = self.native_code(spec.module, spec.metering, framework, waits).await?;
        check_kind(spec.kind, native::kind_of(&program))?;
        let tenant = tenants::directory(&self.sandboxes.works, scope);
        let sandbox = tenant.join(work.to_string());
        let failed = |error| PrepareError::new(Reason::Sandbox, format!("the sandbox cannot be made: {error}"));
        clear(&sandbox).map_err(failed)?;
        let wants_disk = spec.resources.scalar(&ResourceName::Disk).0 > 0;
        if wants_disk || !spec.files.is_empty() {
            tenants::make_passable(&tenant).and_then(|()| tenants::make_passable(&sandbox)).map_err(failed)?;
        }
        for file in &spec.files {
            // Linked at once: the cache may give up a blob while the next is fetched.
            let blob = self.blob(file.digest).await?;
            self.sandboxes.place(&blob, &sandbox.join(INPUTS).join(&*file.path)).map_err(failed)?;
        }
        let inputs = (!spec.files.is_empty()).then(|| text(&sandbox.join(INPUTS)));
        let scratch = wants_disk.then(|| sandbox.join("scratch"));
        if let Some(scratch) = &scratch {
            self.sandboxes.make_scratch(scratch).map_err(failed)?;
        }
        let scratch = scratch.as_deref().map(text);
        Ok(Prepared { program: text(&program), inputs, scratch, directories, volumes: Vec::new(), network })
    }

    async fn native_code(
        self: &Arc<Self>,
        module: Digest,
        metering: Metering,
        framework: FrameworkId,
        waits: &(impl Fn(Arc<str>) + Sync),
    ) -> Result<PathBuf, PrepareError> {
        let cache = self.native.of(metering);
        if let Some(path) = cache.find(&module) {
            let native = cache.clone();
            if self.check_once(&path, move |path| native.is_whole(path)).await {
                return Ok(path);
            }
            tracing::warn!(path = %path.display(), "native code is damaged; it is compiled again");
            cache.discard(&path);
        }
        let flights = self.flights(metering);
        if let Some(error) = flights.failure(module) {
            return Err(error);
        }
        let flight = flights.join(module, |progress| {
            let preparer = self.clone();
            async move {
                let result = preparer.compile(module, metering, framework, &progress).await;
                progress.send_replace(Progress::Over(result));
            }
        });
        flight.land(waits).await
    }

    fn flights(&self, metering: Metering) -> &Flights {
        match metering {
            Metering::FuelAndEpochs => &self.flights,
            Metering::Epochs => &self.uncounted_flights,
        }
    }

    /// Fetches and compiles a module when it is its framework's turn.
    async fn compile(
        &self,
        module: Digest,
        metering: Metering,
        framework: FrameworkId,
        progress: &watch::Sender<Progress>,
    ) -> Result<PathBuf, PrepareError> {
        let tell = |what: String| {
            progress.send_replace(Progress::At(what.into()));
        };
        let place = self.turns.place(framework, tell).await;
        tell("its module is fetched".to_owned());
        let blob = self.blob(module).await?;
        let _turn = place.turn(tell).await;
        tell("its module is compiled".to_owned());
        let cache = self.native.of(metering);
        let compiled = cache.compile(&module, &blob).await;
        match compiled {
            Ok(path) => {
                cache.evict(self.max_cache_bytes);
                Ok(path)
            }
            Err(error) => {
                let lasting = error.lasting;
                let error = PrepareError::from(error);
                if lasting {
                    self.flights(metering).note_failure(module, error.clone());
                }
                Err(error)
            }
        }
    }

    async fn blob(&self, digest: Digest) -> Result<PathBuf, PrepareError> {
        if let Some(path) = self.blobs.find(&digest) {
            if self.check_once(&path, move |path| digest_of_file(path).is_ok_and(|found| found == digest)).await {
                return Ok(path);
            }
            tracing::warn!(path = %path.display(), "a cached blob is damaged; it is fetched again");
            let removed = self.blobs.remove(&digest);
            removed.map_err(|error| PrepareError::new(Reason::Fetch, error.to_string()))?;
        }
        let gate = self.gate(digest);
        let _passed = gate.lock().await;
        if self.blobs.find(&digest).is_none() {
            let fetched = self.source.fetch(digest, &self.blobs).await;
            fetched
                .map_err(|why| PrepareError::new(Reason::Fetch, format!("blob {digest} cannot be fetched: {why}")))?;
            if let Err(error) = self.blobs.evict(self.max_cache_bytes) {
                tracing::warn!(%error, "the blob cache cannot be trimmed");
            }
        }
        let gone = || PrepareError::new(Reason::Fetch, format!("blob {digest} vanished from the cache"));
        self.blobs.find(&digest).ok_or_else(gone)
    }

    /// Checks a file of a cache the first time that this process uses it: a disk may have lost what was written.
    async fn check_once(&self, path: &Path, is_whole: impl FnOnce(&Path) -> bool + Send + 'static) -> bool {
        let lock = || self.checked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lock().contains(path) {
            return true;
        }
        let file = path.to_owned();
        let whole = tokio::task::spawn_blocking(move || is_whole(&file)).await.unwrap_or(false);
        if whole {
            lock().insert(path.to_owned());
        } else {
            lock().remove(path);
        }
        whole
    }

    // Arc<Mutex>: see `gates`.
    fn gate(&self, digest: Digest) -> Arc<Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(gate) = gates.get(&digest).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Mutex::new(()));
        gates.insert(digest, Arc::downgrade(&gate));
        gate
    }
}

/// Whether a module is what its task says that it is.
fn check_kind(task: TaskKind, module: Option<ModuleKind>) -> Result<(), PrepareError> {
    let is_executor = module == Some(ModuleKind::Executor);
    let wrong = match task {
        TaskKind::Executor if !is_executor => {
            "the task is an executor, but the module is none: it exports no holm:executor/handler@0.1"
        }
        TaskKind::Command if is_executor => {
            "the module is an executor (it exports holm:executor/handler), but the task is a command: that needs a core \
             module with _start or a component with wasi:cli/run@0.2"
        }
        _ => return Ok(()),
    };
    Err(PrepareError::new(Reason::InvalidModule, wrong))
}

/// The directory of a sandbox that holds the input files under their guest paths.
const INPUTS: &str = "inputs";

/// Removes what a sandbox of this number has: it can only be left from a life of the agent that nobody remembers, or
/// from a preparation that was cut off. A task without files and disk has no sandbox, and costs nothing here.
fn clear(sandbox: &Path) -> std::io::Result<()> {
    if sandbox.symlink_metadata().is_ok() { remove_tree(sandbox) } else { Ok(()) }
}

/// Makes the directories of input files. Runners may pass and list them, and change nothing.
fn make(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

impl Sandboxes {
    /// Makes the directory in which a runner makes those of its tasks.
    fn make_scratch(&self, path: &Path) -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        let Some(group) = self.group else { return Ok(()) };
        std::os::unix::fs::chown(path, None, Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o770))
    }

    /// Puts a blob at a path of a sandbox, read-only; as a link where the file system allows and where runners are not of
    /// the agent's user, who could change the blob itself through it.
    fn place(&self, blob: &Path, path: &Path) -> std::io::Result<()> {
        make(path.parent().unwrap_or(path))?;
        let linked = self.group.is_some() && fs::hard_link(blob, path).is_ok();
        if !linked {
            fs::copy(blob, path)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o444))
    }
}

fn text(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

#[cfg(test)]
mod tests;
