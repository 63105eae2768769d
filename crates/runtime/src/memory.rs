//! One limit over everything a task's guests hold: linear memories, tables and the GC heap together.

use wasmtime::ResourceLimiter;

use crate::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES, TABLE_ELEMENT_BYTES};

/// The growth that would have exceeded the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the task would have held after it, in bytes.
    pub(crate) asked: u64,
    /// What it may hold.
    pub(crate) limit: u64,
}

/// Counts what a task holds and refuses what would exceed its limit. A guest sees a refusal as a failed growth and
/// usually turns it into a trap, so the refusal is remembered to name the real reason of its end.
pub(crate) struct MemoryLimiter {
    limit: u64,
    held: u64,
    peak: u64,
    /// What the last granted growth added, to be taken back when it fails after all.
    last_growth: u64,
    refusal: Option<Refusal>,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: u64) -> MemoryLimiter {
        MemoryLimiter { limit, held: 0, peak: 0, last_growth: 0, refusal: None }
    }

    /// The most that was held at one time, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// The latest refusal.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    fn grow(&mut self, growth: u64) -> bool {
        let asked = self.held.saturating_add(growth);
        if asked > self.limit {
            self.refusal = Some(Refusal { asked, limit: self.limit });
            return false;
        }
        self.last_growth = growth;
        self.held = asked;
        self.peak = self.peak.max(asked);
        true
    }

    fn take_back(&mut self) {
        self.held = self.held.saturating_sub(std::mem::take(&mut self.last_growth));
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Above the memory's own maximum the growth fails whatever we say: that is no matter of the task's limit.
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let elements = desired.saturating_sub(current) as u64;
        Ok(possible && self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = MemoryLimiter::new(200_000);
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.table_growing(0, 8_000, None).unwrap());
        assert!(!limiter.table_growing(8_000, 16_000, None).unwrap());
        assert_eq!(limiter.refusal(), Some(Refusal { asked: 2 * 65_536 + 128_000, limit: 200_000 }));
        assert_eq!(limiter.peak(), 2 * 65_536 + 64_000);
    }

    #[test]
    fn a_growth_that_fails_later_is_not_charged() {
        let mut limiter = MemoryLimiter::new(131_072);
        assert!(limiter.memory_growing(0, 131_072, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(limiter.memory_growing(0, 131_072, None).unwrap());
        assert_eq!(limiter.refusal(), None);
    }

    #[test]
    fn a_module_that_hits_its_own_maximum_did_not_hit_the_tasks_limit() {
        let mut limiter = MemoryLimiter::new(1 << 30);
        assert!(!limiter.memory_growing(65_536, 131_072, Some(65_536)).unwrap());
        assert_eq!(limiter.refusal(), None);
    }
}
