//! From Wasm to native code, with everything checked that can make a module unfit to be a task.

use holm_model::Reason;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wasmtime::component::{self, Component};
use wasmtime::{ExternType, InstancePre, Module, UnknownImportError};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::executor::{self, ExecutorPre};
use crate::links::PREVIEW1;
use crate::run::State;
use crate::service::Proxy;
use crate::{Engine, IntakeError, ModuleKind, OverLimit, holm_task, inspect, precheck};

/// Native code and what it was made from.
pub struct Compiled {
    /// What the Wasm was.
    pub kind: ModuleKind,
    /// The native code, to be loaded by an engine of the same [`Engine::compatibility_key`].
    pub native: Vec<u8>,
}

/// Why a module cannot be a task.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is no Wasm that we run.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// It ends in the middle.
    #[error("module is cut off after {bytes} bytes: {message}")]
    Truncated {
        /// Its size.
        bytes: usize,
        /// What is missing.
        message: String,
    },
    /// It breaks a rule of Wasm or uses a feature that is off.
    #[error("module is invalid: {0}")]
    Invalid(String),
    /// It imports something that tasks are not offered.
    #[error("module imports {import}, which is not offered; tasks can import {offered}")]
    Import {
        /// The import's name.
        import: String,
        /// What could be imported.
        offered: &'static str,
    },
    /// It imports something we offer, with another type.
    #[error("module imports do not fit what is offered: {0}")]
    ImportType(String),
    /// It has no entry point.
    #[error("module has no {0}: it cannot run as a task")]
    Entry(&'static str),
    /// It asks more of the compiler than is allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// It is of another world than the task's kind needs.
    #[error("module exports {found} and is launched as a {kind}, which needs {expected}")]
    World {
        /// The task's kind.
        kind: &'static str,
        /// What it exports.
        found: &'static str,
        /// What tasks of that kind export.
        expected: &'static str,
    },
    /// It exports the functions of an executor, with other types or of another version.
    #[error("module is an executor, but its exports do not fit holm:executor/handler@0.1.0: {0}")]
    Executor(String),
    /// The compiler gave up.
    #[error("module cannot be compiled: {0}")]
    Compiler(String),
}

impl CompileError {
    /// The reason for the tasks of such a module.
    pub fn reason(&self) -> Reason {
        match self {
            CompileError::Compiler(_) | CompileError::OverLimit(_) => Reason::Compile,
            _ => Reason::InvalidModule,
        }
    }
}

const OFFERED_CORE: &str = "the functions of wasi_snapshot_preview1 and holm_task";
const OFFERED_COMPONENT: &str =
    "the interfaces of wasi:cli, clocks, filesystem, http, io, random and sockets at 0.2 and of holm:task at 0.1";
const ENTRY_CORE: &str = "exported function \"_start\" without parameters and results";
const ENTRY_COMPONENT: &str = "exported interface wasi:cli/run@0.2 or wasi:http/incoming-handler@0.2";

/// Compiles a module and checks that it can run as a task. It can take minutes and gigabytes for hostile Wasm: call it
/// where that hurts nobody ([`crate::compile_worker_main`]).
///
/// # Errors
/// What is wrong with the module, or that the compiler gave up.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Compiled, CompileError> {
    let mut kind = inspect(bytes)?;
    precheck::check(bytes)?;
    validate(engine.wasm().get_wasm_features(), bytes)?;
    check_imports(kind, bytes)?;
    let failed = |error: wasmtime::Error| CompileError::Compiler(format!("{error:#}"));
    let native = match kind {
        ModuleKind::Core => {
            let module = Module::from_binary(engine.wasm(), bytes).map_err(failed)?;
            core_entry(&module)?;
            link_core(&engine.links().core, &module)?;
            module.serialize()
        }
        // Which of the two it is its exports tell.
        ModuleKind::Component | ModuleKind::Executor => {
            let component = Component::from_binary(engine.wasm(), bytes).map_err(failed)?;
            if executor::is_executor(engine.wasm(), &component) {
                link_executor(&engine.links().executor, &component)?;
                kind = ModuleKind::Executor;
            } else {
                link_component(&engine.links().component, &component)?;
            }
            component.serialize()
        }
    };
    Ok(Compiled { kind, native: native.map_err(failed)? })
}

fn validate(features: WasmFeatures, bytes: &[u8]) -> Result<(), CompileError> {
    let mut validator = Validator::new_with_features(features);
    match validator.validate_all(bytes) {
        Ok(_) => Ok(()),
        // The parser was at the last byte and wanted more.
        Err(error) if error.offset() >= bytes.len() || error.message().contains("unexpected end") => {
            Err(CompileError::Truncated { bytes: bytes.len(), message: error.to_string() })
        }
        Err(error) => Err(CompileError::Invalid(error.to_string())),
    }
}

/// Refuses imports of foreign namespaces before compiling: for whole packages that is a matter of names. What remains
/// (unknown functions of known packages, types, versions) is decided by linking.
fn check_imports(kind: ModuleKind, bytes: &[u8]) -> Result<(), CompileError> {
    let invalid = |error: wasmparser::BinaryReaderError| CompileError::Invalid(error.to_string());
    for payload in Parser::new(0).parse_all(bytes) {
        match (kind, payload.map_err(invalid)?) {
            (ModuleKind::Core, Payload::ImportSection(section)) => {
                for import in section.into_imports() {
                    let import = import.map_err(invalid)?;
                    if import.module != PREVIEW1 && import.module != holm_task::CORE_MODULE {
                        let import = format!("{:?} {:?}", import.module, import.name);
                        return Err(CompileError::Import { import, offered: OFFERED_CORE });
                    }
                }
                return Ok(());
            }
            // The import sections of nested components and modules come after this point: they are wired inside.
            (ModuleKind::Component, Payload::ComponentImportSection(section)) => {
                for import in section {
                    check_component_import(import.map_err(invalid)?.name.name)?;
                }
            }
            (ModuleKind::Component, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

fn check_component_import(name: &str) -> Result<(), CompileError> {
    let wasi =
        ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
    let mut offered = wasi.iter().chain([&holm_task::PACKAGE, &executor::PACKAGE]);
    if offered.any(|package| name.starts_with(package)) {
        return Ok(());
    }
    Err(CompileError::Import { import: name.to_owned(), offered: OFFERED_COMPONENT })
}

/// Checks a core module's entry point.
pub(crate) fn core_entry(module: &Module) -> Result<(), CompileError> {
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() == 0 && start.results().len() == 0 => Ok(()),
        _ => Err(CompileError::Entry(ENTRY_CORE)),
    }
}

/// Links a core module.
pub(crate) fn link_core(linker: &wasmtime::Linker<State>, module: &Module) -> Result<InstancePre<State>, CompileError> {
    linker.instantiate_pre(module).map_err(|error| match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => CompileError::Import {
            import: format!("{:?} {:?}", unknown.module(), unknown.name()),
            offered: OFFERED_CORE,
        },
        None => CompileError::ImportType(format!("{error:#}")),
    })
}

/// The entry points of a component: at least one.
pub(crate) struct Entries {
    /// As a program that runs to completion.
    pub(crate) command: Option<CommandPre<State>>,
    /// As a service.
    pub(crate) proxy: Option<Proxy>,
}

/// Links a component and finds its entry points.
pub(crate) fn link_component(
    linker: &component::Linker<State>,
    component: &Component,
) -> Result<Entries, CompileError> {
    let pre = linker.instantiate_pre(component).map_err(|error| CompileError::ImportType(format!("{error:#}")))?;
    let entries = Entries { command: CommandPre::new(pre.clone()).ok(), proxy: Proxy::new(pre).ok() };
    let some = entries.command.is_some() || entries.proxy.is_some();
    some.then_some(entries).ok_or(CompileError::Entry(ENTRY_COMPONENT))
}

/// Links an executor and finds its functions.
pub(crate) fn link_executor(
    linker: &component::Linker<State>,
    component: &Component,
) -> Result<ExecutorPre, CompileError> {
    let pre = linker.instantiate_pre(component).map_err(|error| CompileError::ImportType(format!("{error:#}")))?;
    ExecutorPre::new(pre).map_err(|error| CompileError::Executor(format!("{error:#}")))
}
