//! Counts what newer peers say and this version does not know: ignored, never an error, but not unnoticed.

use std::sync::atomic::{AtomicU64, Ordering};

static VARIANTS: AtomicU64 = AtomicU64::new(0);
static ENUM_VALUES: AtomicU64 = AtomicU64::new(0);

/// Messages of this process's life that had no known variant.
pub fn variants() -> u64 {
    VARIANTS.load(Ordering::Relaxed)
}

/// Enum values of this process's life that were taken for their documented fallback.
pub fn enum_values() -> u64 {
    ENUM_VALUES.load(Ordering::Relaxed)
}

pub(crate) fn note_variant() {
    VARIANTS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn note_enum_value() {
    ENUM_VALUES.fetch_add(1, Ordering::Relaxed);
}
