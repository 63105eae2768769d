//! Native code mapped into this process, linked and ready to be instantiated many times.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holm_model::{Reason, TaskKind};
use rustix::fs::{Mode, OFlags};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::compile::{core_entry, link_component, link_core, link_executor};
use crate::executor::ExecutorPre;
use crate::mailbox::Hears;
use crate::run::State;
use crate::service::Proxy;
use crate::touched::Touched;
use crate::{CompileError, Engine, ModuleKind, holm_task};

/// A module that can run as a task. Clones share everything.
#[derive(Clone)]
pub struct Program {
    shared: Arc<Linked>,
}

pub(crate) struct Linked {
    pub(crate) engine: Engine,
    hears: Hears,
    pub(crate) plain: Entry,
    /// Executors have none: they cannot be repeated.
    pub(crate) seeded: Option<Entry>,
    /// The entry point for requests, if it has one.
    proxy: Option<Proxy>,
    /// What its runs write, as far as it can be seen.
    touched: Touched,
}

impl Linked {
    /// An executor is told everything in one way, so that it always listens.
    fn executor(engine: &Engine, entry: Entry) -> Linked {
        let hears = Hears { messages: true, stop: true };
        Linked { engine: engine.clone(), hears, plain: entry, seeded: None, proxy: None, touched: Touched::default() }
    }
}

/// A linked module with its entry point.
pub(crate) enum Entry {
    Core(wasmtime::InstancePre<State>),
    Component(CommandPre<State>),
    Executor(ExecutorPre),
    /// There is none but that for requests.
    Service,
}

impl Entry {
    fn of(command: Option<CommandPre<State>>) -> Entry {
        command.map_or(Entry::Service, Entry::Component)
    }
}

/// Why native code was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened or is a link.
    #[error("native code {path:?} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else could have written the file.
    #[error("native code {path:?} is not trusted: {why}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file is of another version or does not fit the slots of the pool.
    #[error("the module does not fit what a task may have: {message}")]
    Unusable {
        /// What the engine says.
        message: String,
    },
    /// The module cannot run as a task.
    #[error(transparent)]
    Module(#[from] CompileError),
}

impl LoadError {
    /// The reason for a task that cannot start because of it.
    pub fn reason(&self) -> Reason {
        match self {
            LoadError::Module(error) => error.reason(),
            LoadError::Unusable { .. } => Reason::InvalidModule,
            LoadError::Open { .. } | LoadError::Untrusted { .. } => Reason::RunnerError,
        }
    }
}

impl Program {
    /// Maps and links native code made by [`crate::compile_worker_main`] of the same build.
    ///
    /// Native code is not confined, so the file must come from the agent's own cache and nowhere else. What can be checked
    /// is: it must be a regular file, not a link, owned by this process' user or by root, and writable by nobody else.
    ///
    /// # Errors
    /// When the file is missing or not trusted, made by another version, or does not fit the engine's slots.
    pub fn load(engine: &Engine, native: &Path, kind: ModuleKind) -> Result<Program, LoadError> {
        let file = open_trusted(native)?;
        let unusable = |error: wasmtime::Error| LoadError::Unusable { message: format!("{error:#}") };
        let links = engine.links();
        let (hears, plain, seeded, proxy) = match kind {
            ModuleKind::Core => {
                // SAFETY: the file was compiled by this agent from Wasm and cannot have been written by another user
                // (`open_trusted`); the cache never changes a file in place, it renames complete ones.
                let module = unsafe { wasmtime::Module::deserialize_open_file(engine.wasm(), file) };
                let module = module.map_err(unusable)?;
                core_entry(&module)?;
                (
                    holm_task::imported_by_module(&module),
                    Entry::Core(link_core(&links.core, &module)?),
                    Entry::Core(link_core(&links.core_seeded, &module)?),
                    None,
                )
            }
            ModuleKind::Component | ModuleKind::Executor => {
                // The path of the open descriptor: what is mapped is what was checked.
                let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
                // SAFETY: as above.
                let component = unsafe { wasmtime::component::Component::deserialize_file(engine.wasm(), opened) };
                let component = component.map_err(unusable)?;
                if kind == ModuleKind::Executor {
                    let entry = Entry::Executor(link_executor(&links.executor, &component)?);
                    return Ok(Program { shared: Arc::new(Linked::executor(engine, entry)) });
                }
                let plain = link_component(&links.component, &component)?;
                let seeded = link_component(&links.component_seeded, &component)?;
                (
                    holm_task::imported_by_component(engine.wasm(), &component),
                    Entry::of(plain.command),
                    Entry::of(seeded.command),
                    plain.proxy,
                )
            }
        };
        let seeded = Some(seeded);
        let (engine, touched) = (engine.clone(), Touched::default());
        Ok(Program { shared: Arc::new(Linked { engine, hears, plain, seeded, proxy, touched }) })
    }

    /// What it was made from.
    pub fn kind(&self) -> ModuleKind {
        match self.shared.plain {
            Entry::Core(_) => ModuleKind::Core,
            Entry::Component(_) | Entry::Service => ModuleKind::Component,
            Entry::Executor(_) => ModuleKind::Executor,
        }
    }

    /// Checks that it can run as a task of a kind.
    ///
    /// # Errors
    /// The world that the kind needs, and the one it is of.
    pub fn suits(&self, kind: TaskKind) -> Result<(), CompileError> {
        const START: &str = "_start (WASI preview 1)";
        const EXECUTOR: &str = "holm:executor/handler (world holm:executor/executor)";
        const COMMAND: &str = "wasi:cli/run (world wasi:cli/command)";
        const PROXY: &str = "wasi:http/incoming-handler (world wasi:http/proxy)";
        let (found, expected) = match (kind, &self.shared.plain, &self.shared.proxy) {
            (TaskKind::Executor, Entry::Executor(_), _) => return Ok(()),
            (TaskKind::Executor, Entry::Core(_), _) => (START, EXECUTOR),
            (TaskKind::Executor, Entry::Service, _) => (PROXY, EXECUTOR),
            (TaskKind::Executor, ..) => (COMMAND, EXECUTOR),
            (TaskKind::Service, Entry::Executor(_), _) => (EXECUTOR, PROXY),
            (TaskKind::Command, Entry::Executor(_), _) => (EXECUTOR, COMMAND),
            (TaskKind::Service, Entry::Core(_), _) => (START, PROXY),
            (TaskKind::Service, _, None) => (COMMAND, PROXY),
            (TaskKind::Command, Entry::Service, _) => (PROXY, COMMAND),
            _ => return Ok(()),
        };
        Err(CompileError::World { kind: kind.as_str(), found, expected })
    }

    pub(crate) fn touched(&self) -> &Touched {
        &self.shared.touched
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.shared.proxy.as_ref()
    }

    /// Whether it can learn that it is asked to stop, so that a grace period makes sense.
    pub fn hears_stop(&self) -> bool {
        self.shared.hears.stop
    }

    /// Whether it can receive messages of its framework.
    pub fn hears_messages(&self) -> bool {
        self.shared.hears.messages
    }

    /// Whether it is an executor.
    pub fn is_executor(&self) -> bool {
        self.kind() == ModuleKind::Executor
    }

    pub(crate) fn hears(&self) -> Hears {
        self.shared.hears
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    pub(crate) fn entry(&self, seeded: bool) -> &Entry {
        self.shared.seeded.as_ref().filter(|_| seeded).unwrap_or(&self.shared.plain)
    }
}

fn open_trusted(path: &Path) -> Result<File, LoadError> {
    let open_error = |source| LoadError::Open { path: path.into(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| open_error(errno.into()))?);
    let stat = rustix::fs::fstat(&file).map_err(|errno| open_error(errno.into()))?;
    let untrusted = |why| Err(LoadError::Untrusted { path: path.into(), why });
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return untrusted("it is no regular file");
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return untrusted("it belongs to another user");
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return untrusted("others may write to it");
    }
    Ok(file)
}
