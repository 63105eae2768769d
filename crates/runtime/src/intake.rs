//! What a blob is, judged by its first bytes and its size, before anybody spends time on it.

use serde::{Deserialize, Serialize};

/// The largest module taken, in bytes.
pub const MAX_MODULE_BYTES: u64 = 64 << 20;

/// What kind of Wasm a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// A core module: for tasks, one that uses WASI preview 1.
    Core,
    /// A component: for tasks, one that uses WASI 0.2.
    Component,
    /// A component that exports what executors do. Its first bytes do not tell; compiling it does.
    Executor,
}

/// Why a blob is not taken. All of them are the task's reason INVALID_MODULE.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// Too large.
    #[error("module has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// [`MAX_MODULE_BYTES`].
        limit: u64,
    },
    /// Nothing in it.
    #[error("module is empty")]
    Empty,
    /// Native code. It would not be confined, so it is only ever made here, from Wasm.
    #[error("module is native code ({0}), not Wasm; native code is never taken, push the .wasm file")]
    Native(&'static str),
    /// The text format.
    #[error("module is Wasm in text form; push the binary form (.wasm)")]
    Text,
    /// A version of Wasm that does not exist or that we do not run.
    #[error("module is Wasm of version {version} layer {layer}; version 1 modules and version 13 components run here")]
    Version {
        /// The version field.
        version: u16,
        /// The layer field: 0 for modules, 1 for components.
        layer: u16,
    },
    /// The file ends within its header.
    #[error("module is cut off: it has {0} bytes, a Wasm header has 8")]
    Truncated(usize),
    /// Anything else.
    #[error("module is not Wasm: it starts with {0:02x?}, Wasm starts with [00, 61, 73, 6d]")]
    NotWasm(Vec<u8>),
}

/// Says what a blob is.
///
/// # Errors
/// When it is too large or no Wasm that we run. The rest of the module is not looked at.
pub fn inspect(bytes: &[u8]) -> Result<ModuleKind, IntakeError> {
    let size = bytes.len() as u64;
    if size > MAX_MODULE_BYTES {
        return Err(IntakeError::TooLarge { bytes: size, limit: MAX_MODULE_BYTES });
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(IntakeError::Native("compiled by wasmtime"));
    }
    let native = [(&b"\x7fELF"[..], "ELF"), (b"MZ", "PE"), (b"\xcf\xfa\xed\xfe", "Mach-O"), (b"#!", "a script")];
    if let Some((_, format)) = native.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(IntakeError::Native(format));
    }
    match bytes {
        [] => Err(IntakeError::Empty),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(ModuleKind::Core),
        [0, b'a', b's', b'm', 13, 0, 1, 0, ..] => Ok(ModuleKind::Component),
        [0, b'a', b's', b'm', v0, v1, l0, l1, ..] => {
            Err(IntakeError::Version { version: u16::from_le_bytes([*v0, *v1]), layer: u16::from_le_bytes([*l0, *l1]) })
        }
        short if b"\0asm".starts_with(short) || short.starts_with(b"\0asm") => Err(IntakeError::Truncated(short.len())),
        text if text.trim_ascii_start().starts_with(b"(") => Err(IntakeError::Text),
        other => Err(IntakeError::NotWasm(other.iter().copied().take(4).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_components_are_told_apart() {
        assert_eq!(inspect(&wat::parse_str("(module)").unwrap()), Ok(ModuleKind::Core));
        assert_eq!(inspect(&wat::parse_str("(component)").unwrap()), Ok(ModuleKind::Component));
    }

    #[test]
    fn what_is_no_wasm_is_named() {
        let message = |bytes: &[u8]| inspect(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("empty"));
        assert!(message(b"\0as").contains("cut off: it has 3 bytes"));
        assert!(message(b"\0asm\x01").contains("cut off: it has 5 bytes"));
        assert!(message(b"\x7fELF\x02\x01\x01").contains("native code (ELF)"));
        assert!(message(b"#!/bin/sh\n").contains("a script"));
        assert!(message(b" (module)").contains("text form"));
        assert!(message(b"\0asm\x02\0\0\0").contains("version 2 layer 0"));
        assert!(message(b"PK\x03\x04").contains("[50, 4b, 03, 04]"));
    }

    #[test]
    fn a_module_over_the_size_cap_is_refused_with_the_limit() {
        let bytes = vec![0; usize::try_from(MAX_MODULE_BYTES).unwrap() + 1];
        assert!(inspect(&bytes).unwrap_err().to_string().ends_with("67108865 bytes; the limit is 67108864"));
    }
}
