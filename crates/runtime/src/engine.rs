//! The engine: one set of settings for everything that compiles and runs tasks, and the memory they run in.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use holm_model::Metering;
use wasmtime::{
    Config, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures,
};

use crate::limits::MAX_BACKTRACE_FRAMES;
use crate::links::Links;
use crate::ticker::Ticker;
use crate::{EngineKind, target};

/// Where guests' memory comes from. It has no influence on native code: what a compile worker made with one allocation
/// runs with every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Mapped and unmapped per task: little address space, slower launches.
    OnDemand,
    /// Slots for this many tasks are reserved in advance and reused: fast launches. Needs about 9 GiB of address space
    /// per task, but memory only for what is touched.
    Pooled {
        /// How many tasks run at the same time.
        tasks: u32,
    },
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The settings do not fit this machine.
    #[error("the Wasm engine cannot be set up on this machine: {0:#}")]
    Settings(wasmtime::Error),
    /// Native code was asked for where there is no compiler for it.
    #[error("engine native: there is no compiler for {0}; engine pulley runs here")]
    NoCompiler(&'static str),
    /// The standard interfaces could not be linked.
    #[error("the interfaces for tasks cannot be linked: {0:#}")]
    Links(wasmtime::Error),
    /// The epoch thread could not be started.
    #[error("the epoch thread cannot be started")]
    Ticker(#[source] std::io::Error),
}

/// A wasmtime engine with the settings of tasks, its epoch thread and the interfaces it offers. Clones share all of it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasm: wasmtime::Engine,
    links: Links,
    ticker: Arc<Ticker>,
    epochs: Arc<Epochs>,
    kind: EngineKind,
    metering: Metering,
    allocation: Allocation,
    compatibility_key: String,
}

/// The engines that share a ticker: tasks of one run queue, metered in different ways; and who else wants to hear of ticks.
/// The locks are held for a push or while each is told.
#[derive(Default)]
struct Epochs {
    engines: Mutex<Vec<EngineWeak>>,
    watches: Mutex<Vec<Weak<dyn Watch>>>,
}

/// Looks at something at every tick.
pub(crate) trait Watch: Send + Sync {
    /// A tick, about a millisecond after the last one.
    fn tick(self: Arc<Self>);
}

impl Epochs {
    fn tick(&self) {
        self.advance();
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.iter().filter_map(Weak::upgrade).for_each(Watch::tick);
    }

    fn advance(&self) {
        let engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.iter().filter_map(EngineWeak::upgrade).for_each(|engine| engine.increment_epoch());
    }

    fn add(&self, engine: &wasmtime::Engine) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
    }
}

impl Engine {
    /// Sets up an engine of the kind that this machine runs best: [`EngineKind::of_this_machine`].
    ///
    /// # Errors
    /// As [`Engine::of_kind`].
    pub fn new(allocation: Allocation) -> Result<Engine, EngineError> {
        Engine::of_kind(EngineKind::of_this_machine(), allocation)
    }

    /// Sets up an engine. Where the slots asked for do not fit the address space (small virtual addresses, a limit on
    /// it), it logs that and allocates on demand; [`Engine::allocation`] tells what it came to.
    ///
    /// # Errors
    /// When this machine cannot run the engine at all.
    pub fn of_kind(kind: EngineKind, allocation: Allocation) -> Result<Engine, EngineError> {
        if kind == EngineKind::Native && !target::HAS_COMPILER {
            return Err(EngineError::NoCompiler(std::env::consts::ARCH));
        }
        let (wasm, allocation) = match allocation {
            Allocation::OnDemand => (on_demand(kind, Metering::default())?, allocation),
            Allocation::Pooled { tasks } => match pooled(kind, tasks).and_then(|config| wasmtime::Engine::new(&config))
            {
                Ok(wasm) => (wasm, allocation),
                Err(error) => {
                    tracing::warn!(tasks, error = format!("{error:#}"), "task slots do not fit: allocating on demand");
                    (on_demand(kind, Metering::default())?, Allocation::OnDemand)
                }
            },
        };
        let links = Links::new(&wasm).map_err(EngineError::Links)?;
        let epochs = Arc::<Epochs>::default();
        epochs.add(&wasm);
        let of_ticker = epochs.clone();
        let ticker = Arc::new(Ticker::start(move || of_ticker.tick()).map_err(EngineError::Ticker)?);
        let compatibility_key = compatibility_key(kind, &wasm);
        let metering = Metering::default();
        let shared = Shared { wasm, links, ticker, epochs, kind, metering, allocation, compatibility_key };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// An engine for tasks that are metered like this. Native code belongs to one of the two; their tasks run on the same
    /// queue. Where no fuel is counted memory is allocated on demand: such tasks run long, and one pool takes enough
    /// address space. Keep it: each call makes a new one.
    ///
    /// # Errors
    /// When this machine cannot run it.
    pub fn metered(&self, metering: Metering) -> Result<Engine, EngineError> {
        if metering == self.shared.metering {
            return Ok(self.clone());
        }
        let kind = self.shared.kind;
        let wasm = on_demand(kind, metering)?;
        let links = Links::new(&wasm).map_err(EngineError::Links)?;
        let (ticker, epochs) = (self.shared.ticker.clone(), self.shared.epochs.clone());
        epochs.add(&wasm);
        let compatibility_key = compatibility_key(kind, &wasm);
        let allocation = Allocation::OnDemand;
        let shared = Shared { wasm, links, ticker, epochs, kind, metering, allocation, compatibility_key };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// How its tasks are metered.
    pub fn metering(&self) -> Metering {
        self.shared.metering
    }

    /// Where memory really comes from.
    pub fn allocation(&self) -> Allocation {
        self.shared.allocation
    }

    /// How guests run on it.
    pub fn kind(&self) -> EngineKind {
        self.shared.kind
    }

    /// Names all that native code depends on; a part of its file name in the cache. In it are wasmtime's exact version,
    /// the kind of engine, and a hash of the target, the CPU features that the compiler uses, the compiler's settings
    /// and the features of Wasm. Wasmtime itself checks these when it loads a file, but of the version only the first
    /// number: without the key, code of a compiler with a known hole would outlive the update that closes it.
    pub fn compatibility_key(&self) -> &str {
        &self.shared.compatibility_key
    }

    /// The engine itself, for worlds bound elsewhere.
    pub fn wasm(&self) -> &wasmtime::Engine {
        &self.shared.wasm
    }

    pub(crate) fn links(&self) -> &Links {
        &self.shared.links
    }

    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.shared.ticker
    }

    /// Has somebody hear of every tick while it lives.
    pub(crate) fn watch(&self, watch: Weak<dyn Watch>) {
        self.shared.epochs.watches.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
    }

    /// Has every guest that computes look at once whether its slice is over.
    pub(crate) fn advance_epochs(&self) {
        self.shared.epochs.advance();
    }
}

fn on_demand(kind: EngineKind, metering: Metering) -> Result<wasmtime::Engine, EngineError> {
    settings(kind, metering).and_then(|config| wasmtime::Engine::new(&config)).map_err(EngineError::Settings)
}

/// The features that no task gets: threads and shared memories escape the memory limit, 64-bit memories cost a bounds
/// check per access, stack switching is not finished.
const FEATURES_OFF: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::STACK_SWITCHING);

/// Every setting that native code depends on is fixed here, none comes from the environment: the compile worker and the
/// runner must agree. The results of a guest are the same on every machine: NaNs are canonical, relaxed SIMD is not.
fn settings(kind: EngineKind, metering: Metering) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if kind == EngineKind::Pulley {
        config.target(target::PULLEY)?;
    }
    config
        .consume_fuel(metering == Metering::FuelAndEpochs)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_features(FEATURES_OFF, false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(MAX_BACKTRACE_FRAMES))
        .native_unwind_info(false)
        // Interpreters bring their initialised heap along as one image; up to this size it is mapped instead of copied.
        .memory_guaranteed_dense_image_size(64 << 20);
    Ok(config)
}

/// Stacks of the pool beyond one for each task.
const SPARE_STACKS: u32 = 16;
/// Bytes of a table that are reset by writing over them: those of small programs have some hundred entries.
const TABLE_KEPT_BYTES: usize = 4 << 10;
/// Memories and tables that wait to be given back to the kernel together, with one interruption of the other cores.
const DECOMMIT_BATCH: usize = 16;

/// Components of one task instantiate several core modules with their own tables, most have one or two memories.
fn pooled(kind: EngineKind, tasks: u32) -> wasmtime::Result<Config> {
    let tasks = tasks.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(tasks)
        .total_core_instances(tasks.saturating_mul(16))
        .total_memories(tasks.saturating_mul(2))
        .total_tables(tasks.saturating_mul(8))
        // A task's store uses one stack at a time and keeps it; each has a guard and with it two mappings, used or not.
        .total_stacks(tasks.saturating_add(SPARE_STACKS))
        .total_gc_heaps(tasks)
        .max_core_instance_size(10 << 20)
        .max_component_instance_size(10 << 20)
        .max_memories_per_module(2)
        .max_tables_per_module(4)
        .table_elements(100_000)
        .max_memory_size(4 << 30)
        // A small program writes to a handful of pages in a memory of more than a megabyte: giving those back, many slots
        // in one call, costs less than writing zeros over all of it, and leaves nothing resident (docs/adr/0015).
        .linear_memory_keep_resident(0)
        .table_keep_resident(TABLE_KEPT_BYTES)
        .max_unused_warm_slots(tasks.min(32))
        .decommit_batch_size(DECOMMIT_BATCH)
        // The kernel reports a dirty page that is swapped out or being moved as not present, and the next task would read it.
        .pagemap_scan(wasmtime::Enabled::No);
    let mut config = settings(kind, Metering::FuelAndEpochs)?;
    // No guest can address its stack, and compiled code writes a stack slot before it reads it.
    config.async_stack_zeroing(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(config)
}

fn compatibility_key(kind: EngineKind, engine: &wasmtime::Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("w{}-{kind}-{:016x}", target::WASMTIME_VERSION, hasher.finish())
}

/// Mappings that a running task of the pool takes: four of each memory (before, in and behind its image, and its guard) and
/// two of its stack, as the example `density` counts them; there is room for a second memory or a GC heap.
const MAPPINGS_PER_TASK: u64 = 10;
/// Mappings of the process apart from tasks.
const MAPPINGS_RESERVED: u64 = 4_096;
/// What the kernel allows where it does not say.
const DEFAULT_MAX_MAPPINGS: u64 = 65_530;
/// Address space of a task's slots: two memories of 4 GiB with their guards, its tables and its stack.
const ADDRESSES_PER_TASK: u64 = 9 << 30;

/// How many tasks one runner process can hold on this machine: what the kernel's limit on mappings and the width of a
/// virtual address leave room for. The next task goes to another runner.
pub fn slot_ceiling() -> u32 {
    let read = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let mappings = read.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_MAX_MAPPINGS);
    ceiling(mappings, address_bits())
}

fn ceiling(mappings: u64, address_bits: u32) -> u32 {
    let by_mappings = mappings.saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_TASK;
    // Half of what a process may map, so that the rest of it has room.
    let by_addresses = (1_u64 << address_bits.clamp(32, 57)) / 4 / ADDRESSES_PER_TASK;
    u32::try_from(by_mappings.min(by_addresses).max(1)).unwrap_or(u32::MAX)
}

fn address_bits() -> u32 {
    // The first of "address sizes : 46 bits physical, 48 bits virtual"; elsewhere the smallest common width.
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpuinfo.lines().find(|line| line.starts_with("address sizes"));
    let bits = line.and_then(|line| line.rsplit(", ").next()?.split(' ').next()?.parse().ok());
    bits.unwrap_or(if cfg!(target_arch = "x86_64") { 48 } else { 39 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_code_does_not_depend_on_the_allocation() {
        let on_demand = Engine::new(Allocation::OnDemand).unwrap();
        let pooled = Engine::new(Allocation::Pooled { tasks: 4 }).unwrap();
        assert_eq!(on_demand.compatibility_key(), pooled.compatibility_key());
        assert_eq!(pooled.allocation(), Allocation::Pooled { tasks: 4 });
    }

    #[test]
    fn native_code_of_one_kind_of_engine_is_not_taken_for_that_of_another() {
        let native = Engine::of_kind(EngineKind::Native, Allocation::OnDemand).unwrap();
        let pulley = Engine::of_kind(EngineKind::Pulley, Allocation::OnDemand).unwrap();
        assert_eq!((native.kind(), pulley.kind()), (EngineKind::Native, EngineKind::Pulley));
        assert!(pulley.wasm().is_pulley() && !native.wasm().is_pulley());
        let hash = |engine: &Engine| engine.compatibility_key().rsplit('-').next().unwrap().to_owned();
        assert_ne!(hash(&native), hash(&pulley));
        let version = format!("w{}-native-", target::WASMTIME_VERSION);
        assert!(native.compatibility_key().starts_with(&version), "{}", native.compatibility_key());
    }

    #[test]
    fn native_code_depends_on_whether_fuel_is_counted() {
        let counted = Engine::new(Allocation::OnDemand).unwrap();
        let uncounted = counted.metered(Metering::Epochs).unwrap();
        assert_ne!(counted.compatibility_key(), uncounted.compatibility_key());
        assert_eq!(uncounted.metering(), Metering::Epochs);
    }

    #[test]
    fn slots_that_do_not_fit_the_address_space_fall_back_to_allocation_on_demand() {
        let engine = Engine::new(Allocation::Pooled { tasks: 1_000_000 }).unwrap();
        assert_eq!(engine.allocation(), Allocation::OnDemand);
    }

    #[test]
    fn the_ceiling_follows_the_tighter_of_mappings_and_addresses() {
        assert_eq!(ceiling(65_530, 48), 6_143);
        assert_eq!(ceiling(1 << 30, 48), 7_281);
        assert_eq!(ceiling(65_530, 39), 14);
        assert_eq!(ceiling(0, 39), 1);
        assert!(slot_ceiling() >= 1);
    }
}
