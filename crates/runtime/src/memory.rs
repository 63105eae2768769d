//! One limit over everything a task's guests hold: linear memories, tables and the GC heap together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use crate::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES, TABLE_ELEMENT_BYTES};

/// One limit over what several instances of one task hold together, such as the requests of a service.
#[derive(Clone)]
pub(crate) struct MemoryPool(Arc<Pool>);

struct Pool {
    limit: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

impl MemoryPool {
    pub(crate) fn new(limit: u64) -> MemoryPool {
        MemoryPool(Arc::new(Pool { limit, held: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }

    /// The most that was held at one time, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Takes some, if there is that much; else what would be held.
    fn take(&self, growth: u64) -> Result<(), u64> {
        let add = |held: u64| held.checked_add(growth).filter(|sum| *sum <= self.0.limit);
        match self.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) => {
                self.0.peak.fetch_max(before + growth, Ordering::Relaxed);
                Ok(())
            }
            Err(held) => Err(held.saturating_add(growth)),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The growth that would have exceeded the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the task would have held after it, in bytes.
    pub(crate) asked: u64,
    /// What it may hold.
    pub(crate) limit: u64,
    /// Of what it would have held, what other instances of the task hold.
    pub(crate) others: u64,
}

impl Refusal {
    /// Whether the growth would have been granted without the others.
    pub(crate) fn is_others(&self) -> bool {
        self.others > 0 && self.asked - self.others <= self.limit
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let others = if self.others > 0 { format!(", {} of it in other requests", self.others) } else { String::new() };
        format!("asked for {} bytes of memory in all{others}; the limit mem is {}", self.asked, self.limit)
    }
}

/// Counts what a task holds and refuses what would exceed its limit. A guest sees a refusal as a failed growth and
/// usually turns it into a trap, so the refusal is remembered to name the real reason of its end.
pub(crate) struct MemoryLimiter {
    limit: u64,
    held: u64,
    peak: u64,
    refusal: Option<Refusal>,
    /// What it holds is held here, too.
    pool: Option<MemoryPool>,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: u64) -> MemoryLimiter {
        MemoryLimiter { limit, held: 0, peak: 0, refusal: None, pool: None }
    }

    /// A limiter for one of the instances that share a limit.
    pub(crate) fn of_pool(pool: MemoryPool) -> MemoryLimiter {
        MemoryLimiter { pool: Some(pool.clone()), ..MemoryLimiter::new(pool.0.limit) }
    }

    /// The most that may be held, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
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
            self.refusal = Some(Refusal { asked, limit: self.limit, others: 0 });
            return false;
        }
        if let Some(Err(all)) = self.pool.as_ref().map(|pool| pool.take(growth)) {
            self.refusal = Some(Refusal { asked: all, limit: self.limit, others: all.saturating_sub(asked) });
            return false;
        }
        self.held = asked;
        self.peak = self.peak.max(asked);
        true
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(self.held);
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Above the memory's own maximum the growth fails whatever we say: that is no matter of the task's limit.
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(desired.saturating_sub(current) as u64))
    }

    /// Gives nothing back: upstream also reports failures of growths that nobody was asked about (of tables whose size
    /// overflows, of memories with pages of one byte), and a guest that made those would get its last growth for nothing.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let elements = desired.saturating_sub(current) as u64;
        Ok(possible && self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
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
        assert_eq!(limiter.refusal(), Some(Refusal { asked: 2 * 65_536 + 128_000, limit: 200_000, others: 0 }));
        assert_eq!(limiter.peak(), 2 * 65_536 + 64_000);
    }

    #[test]
    fn instances_of_one_task_share_its_limit_and_give_back_what_they_held() {
        let pool = MemoryPool::new(200_000);
        let mut first = MemoryLimiter::of_pool(pool.clone());
        let mut second = MemoryLimiter::of_pool(pool.clone());
        assert!(first.memory_growing(0, 131_072, None).unwrap());
        assert!(!second.memory_growing(0, 131_072, None).unwrap());
        assert!(second.refusal().unwrap().is_others());
        drop(first);
        assert!(second.memory_growing(0, 131_072, None).unwrap());
        assert!(!second.memory_growing(131_072, 262_144, None).unwrap());
        assert!(!second.refusal().unwrap().is_others());
        assert_eq!(pool.peak(), 131_072);
    }

    #[test]
    fn a_growth_that_fails_gives_nothing_back() {
        let mut limiter = MemoryLimiter::new(131_072);
        assert!(limiter.memory_growing(0, 131_072, None).unwrap());
        // It may be another one that failed, of which nobody was asked.
        limiter.memory_grow_failed(wasmtime::Error::msg("beyond the limits of its type")).unwrap();
        limiter.table_grow_failed(wasmtime::Error::msg("likewise")).unwrap();
        assert!(!limiter.memory_growing(0, 65_536, None).unwrap());
    }

    #[test]
    fn a_module_that_hits_its_own_maximum_did_not_hit_the_tasks_limit() {
        let mut limiter = MemoryLimiter::new(1 << 30);
        assert!(!limiter.memory_growing(65_536, 131_072, Some(65_536)).unwrap());
        assert_eq!(limiter.refusal(), None);
    }
}
