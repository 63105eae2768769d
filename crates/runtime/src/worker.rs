//! The compile worker: a process that turns one module into native code, says what came of it, and ends.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holm_model::{Metering, Reason};
use serde::{Deserialize, Serialize};

use crate::{
    Allocation, COMPILE_STACK_BYTES, CompileError, CompileLimits, Compiled, Confinement, Engine, EngineKind,
    MAX_MODULE_BYTES, ModuleKind, compile,
};

/// How a compile worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// What native code is made for.
    pub engine: EngineKind,
    /// How its tasks are metered.
    pub metering: Metering,
    /// What it may use.
    pub limits: CompileLimits,
    /// What it gives up before it reads the module.
    pub confinement: Confinement,
}

/// What a compile worker says, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether there is native code.
    pub ok: bool,
    /// What the module is, if it is fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ModuleKind>,
    /// The size of the native code.
    #[serde(default)]
    pub native_bytes: u64,
    /// `INVALID_MODULE` or `COMPILE`, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A line that is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("compile worker said no verdict")]
pub struct VerdictError(#[source] serde_json::Error);

impl Verdict {
    fn refused(reason: Reason, message: &str) -> Verdict {
        let message = Some(crate::outcome::clip(message));
        Verdict { ok: false, kind: None, native_bytes: 0, reason: Some(reason.as_str().to_owned()), message }
    }

    /// The verdict as a line, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("plain fields always serialize")
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no verdict.
    pub fn parse(line: &str) -> Result<Verdict, VerdictError> {
        serde_json::from_str(line).map_err(VerdictError)
    }

    /// What the module is, or the reason and the message for its tasks.
    ///
    /// # Errors
    /// When the module was refused.
    pub fn into_result(self) -> Result<ModuleKind, (Reason, String)> {
        match (self.ok, self.kind) {
            (true, Some(kind)) => Ok(kind),
            _ => {
                let invalid = self.reason.as_deref() == Some(Reason::InvalidModule.as_str());
                let reason = if invalid { Reason::InvalidModule } else { Reason::Compile };
                Err((reason, self.message.unwrap_or_else(|| "the compiler gave no message".to_owned())))
            }
        }
    }
}

/// Compiles the module in `input` and puts its native code at `output`, read-only. Both are opened first; then the process
/// limits and confines itself for good, so it must be one of its own, without threads. What is at `output` counts only after
/// a verdict that is fine; whoever started the process removes it otherwise, prints nothing else than [`Verdict::to_line`]
/// and bounds its wall time.
pub fn compile_worker_main(input: &Path, output: &Path, options: &WorkerOptions) -> Verdict {
    let verdict = compile_file(input, output, options);
    if !verdict.ok {
        // A confined process may not; an unconfined one leaves nothing behind.
        let _ = std::fs::remove_file(output);
    }
    verdict
}

fn compile_file(input: &Path, output: &Path, options: &WorkerOptions) -> Verdict {
    let limits = options.limits;
    let failed = |what: &str, error: &dyn std::error::Error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Verdict::refused(Reason::Compile, &format!("compile worker cannot {what}: {error}{source}"))
    };
    let module = match File::open(input) {
        Ok(module) => module,
        Err(error) => return failed("read", &error),
    };
    let mut target = match create(output) {
        Ok(target) => target,
        Err(error) => return failed("write", &error),
    };
    if let Err(error) = limits.apply() {
        return failed("limit itself", &error);
    }
    if let Err(error) = options.confinement.open().and_then(|open| options.confinement.apply(&open)) {
        return failed("confine itself", &error);
    }
    let bytes = match read(module) {
        Ok(bytes) => bytes,
        Err(error) => return failed("read", &error),
    };
    let compiled = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(COMPILE_STACK_BYTES);
        thread.spawn_scoped(scope, || compile_bytes(&bytes, options)).map(|thread| thread.join())
    });
    let compiled = match compiled {
        Ok(Ok(Ok(compiled))) => compiled,
        Ok(Ok(Err(refused))) => return refused,
        Ok(Err(_panic)) => return Verdict::refused(Reason::Compile, "the compiler panicked"),
        Err(error) => return Verdict::refused(Reason::Compile, &format!("compile worker has no thread: {error}")),
    };
    let native_bytes = compiled.native.len() as u64;
    if native_bytes > limits.native_bytes {
        let limit = limits.native_bytes;
        let message = format!("native code has {native_bytes} bytes; the limit is {limit} (limit compile-output)");
        return Verdict::refused(Reason::Compile, &message);
    }
    match target.write_all(&compiled.native) {
        Ok(()) => Verdict { ok: true, kind: Some(compiled.kind), native_bytes, reason: None, message: None },
        Err(error) => failed("write", &error),
    }
}

fn compile_bytes(bytes: &[u8], options: &WorkerOptions) -> Result<Compiled, Verdict> {
    let engine = Engine::of_kind(options.engine, Allocation::OnDemand)
        .and_then(|engine| engine.metered(options.metering))
        .map_err(|error| Verdict::refused(Reason::Compile, &format!("compile worker has no engine: {error}")))?;
    compile(&engine, bytes).map_err(|error| match error {
        CompileError::Compiler(message) if message.contains(OUT_OF_MEMORY) => {
            Verdict::refused(Reason::Compile, &options.limits.over_memory(None))
        }
        error => Verdict::refused(error.reason(), &error.to_string()),
    })
}

/// How the system says that a mapping found no room.
const OUT_OF_MEMORY: &str = "Cannot allocate memory";

/// One byte more than allowed is enough for the intake to refuse it.
fn read(module: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    module.take(MAX_MODULE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the file anew, to be read by every runner and changed by nobody.
fn create(output: &Path) -> std::io::Result<File> {
    if let Err(error) = std::fs::remove_file(output)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = File::options().write(true).create_new(true).open(output)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
    Ok(file)
}
