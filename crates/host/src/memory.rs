//! One limit over all memories and tables of a component.

use wasmtime::ResourceLimiter;

/// What a table element is charged with, in bytes.
const ELEMENT_BYTES: usize = 8;

/// Counts what a component holds and refuses what would exceed the limit.
pub(crate) struct MemoryLimit {
    limit: u64,
    held: u64,
    /// Whether something was refused: a guest usually turns that into a trap that says nothing of it.
    pub(crate) exceeded: bool,
}

impl MemoryLimit {
    pub(crate) fn new(limit: u64) -> MemoryLimit {
        MemoryLimit { limit, held: 0, exceeded: false }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let held = self.held.saturating_add(bytes as u64);
        self.exceeded |= held > self.limit;
        if held <= self.limit {
            self.held = held;
        }
        held <= self.limit
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT_BYTES)))
    }
}
