//! Native code by digest: a module is compiled once, in a child process that can be killed.
//!
//! Compiling hostile Wasm can take gigabytes and minutes, and that is not a bug of the compiler. So the agent never
//! compiles: a worker with resource limits and a wall limit does, and what it leaves in this directory is the only
//! native code a runner ever loads.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use holm_datadir::digest_of_file;
use holm_model::{Digest, Reason};
use holm_runtime::{COMPILE_STACK_BYTES, CompileLimits, ModuleKind, Verdict};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Native code used within this time is not evicted: a runner may be about to load it.
const EVICTION_AGE: Duration = Duration::from_secs(60);
/// A use is noted when the last one that was is this old: not for each of thousands of launches.
const NOTED_AGE: Duration = Duration::from_secs(10);
/// Most bytes read of what a worker says on each of its outputs; one that says more waits until its time is up.
const MAX_SAID_BYTES: u64 = 64 << 10;

/// The directory of native code.
#[derive(Clone, Debug)]
pub(crate) struct NativeCache {
    dir: Arc<Path>,
    key: Arc<str>,
    worker: Arc<WorkerCommand>,
}

/// How to start a compile worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerCommand {
    /// The program.
    pub(crate) program: PathBuf,
    /// The arguments before `--input X --output Y`.
    pub(crate) args: Vec<String>,
    /// Threads that compile in one worker.
    pub(crate) threads: usize,
    /// What it may use, as its arguments say too.
    pub(crate) limits: CompileLimits,
    /// How long it may take.
    pub(crate) wall: Duration,
}

/// Why there is no native code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CompileError {
    /// [`Reason::InvalidModule`] or [`Reason::Compile`].
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) message: String,
    /// Whether it is the module's fault, so that trying again would end the same.
    pub(crate) lasting: bool,
}

impl CompileError {
    pub(crate) fn passing(message: impl Into<String>) -> CompileError {
        CompileError { reason: Reason::Compile, message: message.into(), lasting: false }
    }

    fn lasting(reason: Reason, message: String) -> CompileError {
        CompileError { reason, message, lasting: true }
    }
}

impl NativeCache {
    /// The cache in `dir`, which exists; `key` names the engine and its settings.
    pub(crate) fn new(dir: &Path, key: &str, worker: WorkerCommand) -> NativeCache {
        // What a worker left that was killed.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("draft-") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        NativeCache { dir: dir.into(), key: key.into(), worker: worker.into() }
    }

    /// The native code of a module, if it is here.
    pub(crate) fn find(&self, module: &Digest) -> Option<PathBuf> {
        let kinds = [ModuleKind::Core, ModuleKind::Component, ModuleKind::Executor];
        let facts = |path: PathBuf| std::fs::metadata(&path).ok().map(|facts| (path, facts));
        let (path, facts) = kinds.into_iter().find_map(|kind| facts(self.path(module, kind)))?;
        let noted = facts.modified().ok().and_then(|noted| noted.elapsed().ok());
        if noted.is_none_or(|age| age > NOTED_AGE) {
            // A use that could not be noted makes it older than it is, no more.
            let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Some(path)
    }

    /// Removes the native code not used for the longest time until at most `max_bytes` are left. What runs has its file
    /// mapped and goes on.
    pub(crate) fn evict(&self, max_bytes: u64) {
        let mut files: Vec<_> = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().collect();
        files.retain(|file| kind_of(&file.path()).is_some());
        let facts = files.iter().filter_map(|file| {
            let meta = file.metadata().ok()?;
            Some((meta.modified().ok()?, file.path(), meta.len()))
        });
        let mut facts: Vec<_> = facts.collect();
        facts.sort();
        let mut total: u64 = facts.iter().map(|(_, _, bytes)| bytes).sum();
        for (used, path, bytes) in facts {
            if total <= max_bytes || used.elapsed().unwrap_or_default() < EVICTION_AGE {
                break;
            }
            self.discard(&path);
            total -= bytes;
        }
    }

    /// Whether the native code of a module is what the compile worker left there. Loading anything else could do
    /// anything; what a disk lost is compiled again.
    pub(crate) fn is_whole(&self, native: &Path) -> bool {
        let noted = std::fs::read_to_string(sum_file(native)).ok().and_then(|text| text.trim().parse::<Digest>().ok());
        noted.is_some() && digest_of_file(native).ok() == noted
    }

    /// Forgets the native code of a module.
    pub(crate) fn discard(&self, native: &Path) {
        for path in [native, &sum_file(native)] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "native code cannot be removed");
            }
        }
    }

    /// Compiles the module in `blob` unless its native code is here. Callers take care that one digest is asked once at
    /// a time.
    ///
    /// # Errors
    /// When the module is not valid or the compiler met its limits.
    pub(crate) async fn compile(&self, module: &Digest, blob: &Path) -> Result<PathBuf, CompileError> {
        if let Some(path) = self.find(module) {
            return Ok(path);
        }
        let draft = self.dir.join(format!("draft-{}", module.hex()));
        let result = self.run_worker(blob, &draft).await;
        let stored = result.and_then(|kind| {
            let path = self.path(module, kind);
            let sum = digest_of_file(&draft).and_then(|sum| std::fs::write(sum_file(&path), sum.to_string()));
            let renamed = sum.and_then(|()| std::fs::rename(&draft, &path));
            renamed
                .map(|()| path)
                .map_err(|error| CompileError::passing(format!("native code cannot be stored: {error}")))
        });
        if stored.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        stored
    }

    /// Runs a worker to its end. Dropped earlier, the worker is killed.
    async fn run_worker(&self, input: &Path, output: &Path) -> Result<ModuleKind, CompileError> {
        let WorkerCommand { program, args, threads, limits, wall } = &*self.worker;
        let mut command = Command::new(program);
        command.args(args).arg("--input").arg(input).arg("--output").arg(output).env_clear();
        // The compiler starts one thread per core, with the usual stack, unless it is told otherwise.
        command.env("RAYON_NUM_THREADS", threads.to_string()).env("RUST_MIN_STACK", COMPILE_STACK_BYTES.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn();
        let mut child =
            child.map_err(|error| CompileError::passing(format!("the compile worker cannot start: {error}")))?;
        let ended = tokio::time::timeout(*wall, outcome(&mut child)).await;
        let (status, said, complained) = match ended {
            Err(_elapsed) => {
                // Not to be waited for again and again, although a less busy machine may make it.
                return Err(CompileError::lasting(
                    Reason::Compile,
                    format!("compilation was not done after {wall:?}, the limit (limit compile-time)"),
                ));
            }
            Ok(Err(error)) => return Err(CompileError::passing(format!("the compile worker was lost: {error}"))),
            Ok(Ok(ended)) => ended,
        };
        match Verdict::parse(said.trim()) {
            Ok(verdict) => verdict.into_result().map_err(|(reason, message)| CompileError::lasting(reason, message)),
            Err(_no_verdict) => Err(CompileError::lasting(Reason::Compile, limits.explain(status, &complained))),
        }
    }

    fn path(&self, module: &Digest, kind: ModuleKind) -> PathBuf {
        self.dir.join(format!("{}-{}.{}", module.hex(), self.key, extension(kind)))
    }
}

/// How a worker ended, and what it said on its two outputs.
async fn outcome(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, String, String)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (said, complained, status) = tokio::join!(listen(stdout), listen(stderr), child.wait());
    Ok((status?, said, complained))
}

/// What comes out of a pipe, up to its end or to the most that is read.
async fn listen(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    // What was read before an error is all that there is.
    let _ = pipe.take(MAX_SAID_BYTES).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a file of the cache was made for the engine with this key.
pub(crate) fn is_for(path: &Path, key: &str) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    name.and_then(|name| name.split_once('-')).is_some_and(|(_module, found)| found == key)
}

const fn extension(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::Core => "core",
        ModuleKind::Component => "component",
        ModuleKind::Executor => "executor",
    }
}

/// Where the digest of native code is noted.
fn sum_file(native: &Path) -> PathBuf {
    let mut name = native.as_os_str().to_owned();
    name.push(".sum");
    name.into()
}

/// The kind of module behind a file of the cache, as its name says.
pub(crate) fn kind_of(path: &Path) -> Option<ModuleKind> {
    let found = path.extension()?.to_str()?;
    [ModuleKind::Core, ModuleKind::Component, ModuleKind::Executor].into_iter().find(|kind| extension(*kind) == found)
}
