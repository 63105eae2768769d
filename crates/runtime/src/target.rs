//! What machine code this machine runs: by which kind of engine, with which features of the CPU.

use std::fmt;
use std::str::FromStr;

/// The exact version of wasmtime, such as 48.0.8.
pub const WASMTIME_VERSION: &str = wasmtime_environ::VERSION;

/// Whether Cranelift makes code for this machine.
pub(crate) const HAS_COMPILER: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "s390x"));

/// The target of the interpreter's bytecode, which has the machine's pointers and byte order.
pub(crate) const PULLEY: &str = match (cfg!(target_pointer_width = "64"), cfg!(target_endian = "big")) {
    (true, false) => "pulley64",
    (true, true) => "pulley64be",
    (false, false) => "pulley32",
    (false, true) => "pulley32be",
};

/// How guests run. Results, exit codes and fuel are the same with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// As machine code made by Cranelift.
    Native,
    /// As bytecode run by wasmtime's interpreter, Pulley: on every machine, about ten times slower.
    Pulley,
}

impl EngineKind {
    /// Machine code where there is a compiler for it (x86-64, aarch64, riscv64, s390x), the interpreter elsewhere.
    pub const fn of_this_machine() -> EngineKind {
        if HAS_COMPILER { EngineKind::Native } else { EngineKind::Pulley }
    }

    /// Its name, as in options and attributes.
    pub const fn as_str(self) -> &'static str {
        match self {
            EngineKind::Native => "native",
            EngineKind::Pulley => "pulley",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no engine's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine {0:?} is neither native nor pulley")]
pub struct ParseEngineError(String);

impl FromStr for EngineKind {
    type Err = ParseEngineError;

    fn from_str(text: &str) -> Result<EngineKind, ParseEngineError> {
        let kinds = [EngineKind::Native, EngineKind::Pulley];
        kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| ParseEngineError(text.to_owned()))
    }
}

/// Looks at each named feature of the CPU.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! present {
    ($detected:path: $($feature:tt)*) => {{
        use $detected as detected;
        [$(($feature, detected!($feature))),*].into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }};
}

/// The features of this machine's CPU that compiled guests make use of, in a fixed order: the ones that decide whether
/// native code made elsewhere could run here. Empty on machines where the compiler uses none.
pub fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return present!(std::is_x86_feature_detected:
        "sse4.2" "popcnt" "lzcnt" "bmi1" "bmi2" "fma" "cmpxchg16b" "avx" "avx2" "avxvnni"
        "avx512f" "avx512vl" "avx512dq" "avx512bitalg" "avx512vbmi" "avx512vnni");
    #[cfg(target_arch = "aarch64")]
    return present!(std::arch::is_aarch64_feature_detected: "lse" "paca" "fp16" "dotprod" "i8mm");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_have_names() {
        for kind in [EngineKind::Native, EngineKind::Pulley] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "jit".parse::<EngineKind>().unwrap_err();
        assert_eq!(error.to_string(), "engine \"jit\" is neither native nor pulley");
    }

    #[test]
    fn features_are_few_and_each_is_named_once() {
        let features = cpu_features();
        let mut unique = features.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), features.len());
        // An attribute's value has at most 256 bytes.
        assert!(features.join(",").len() <= 256);
    }
}
