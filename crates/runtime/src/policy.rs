//! Allocation policies: components of the world `wit/policy`, which import nothing and are called within limits.
//!
//! [`PolicyProgram`] is the compiled component, [`PolicyGuest`] an instance of it. A guest that failed is dropped and another one
//! started: nothing of it is to be trusted after a trap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_model::{PolicyColumn, PolicyCost, PolicyDescription, PolicyFailure, PolicyPatch, PolicyValues};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Store, Trap, UpdateDeadline};

use self::bindings::exports::holm::policy::ranking as wit;
use self::bindings::{Policy, PolicyPre};
use crate::memory::MemoryLimiter;
use crate::outcome::clip;
use crate::ticker::Ticker;
use crate::{IntakeError, ModuleKind, inspect};

mod bindings {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "../../wit/policy",
        world: "policy",
        // What is told is not copied before it is copied into the guest.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The world that a policy component is of.
pub const POLICY_WORLD: &str = "holm:policy/policy@0.1.0";

const RANKING: &str = "holm:policy/ranking@0.1.0";

/// What an answer may take in the host, in bytes; ranks of half a million rows fit.
const ANSWER_BYTES: usize = 8 << 20;

/// Bytes of a policy's own error text that are kept.
const MESSAGE_BYTES: usize = 512;

/// How a policy is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Bytes for the policy to make sense of.
    pub config: Vec<u8>,
    /// Units of fuel that one call may use: about one per Wasm instruction.
    pub fuel: u64,
    /// How long one call may take.
    pub time: Duration,
    /// Bytes of memory that it may hold.
    pub memory: u64,
}

impl Default for PolicyOptions {
    fn default() -> PolicyOptions {
        PolicyOptions { config: Vec::new(), fuel: 200_000_000, time: Duration::from_secs(1), memory: 64 << 20 }
    }
}

/// Why a component is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The bytes are nothing that runs.
    #[error("the policy cannot be loaded")]
    Intake(#[from] IntakeError),
    /// The bytes are a core module.
    #[error("the policy is a core module; it has to be a component of the world {POLICY_WORLD}")]
    CoreModule,
    /// The component is not valid.
    #[error("the policy cannot be compiled: {0}")]
    Compile(String),
    /// The component imports something.
    #[error(
        "the policy imports {0}; a component of the world {POLICY_WORLD} imports nothing, not even WASI (in Rust: build it \
         without the standard library, whose panics write to stderr)"
    )]
    Import(String),
    /// The component does not export what the world asks for.
    #[error("the policy does not export {RANKING}, which the world {POLICY_WORLD} asks for; it exports {0}")]
    Export(String),
    /// What it exports has other types.
    #[error("the policy's {RANKING} is not that of the world {POLICY_WORLD}: {0}")]
    Types(String),
    /// It does not accept its configuration.
    #[error("the policy refuses its configuration: {0}")]
    Config(String),
    /// It failed when it was asked what it is.
    #[error("the policy cannot say what it is")]
    Describe(#[source] PolicyFailure),
    /// The machine cannot run policies.
    #[error("policies cannot run here: {0}")]
    Host(String),
}

struct State {
    memory: MemoryLimiter,
    until: Instant,
}

/// A component that was compiled and found to be of the world of policies. Clones share it.
#[derive(Clone)]
pub struct PolicyProgram {
    engine: wasmtime::Engine,
    policy: PolicyPre<State>,
    ticker: Arc<Ticker>,
    options: Arc<PolicyOptions>,
}

impl std::fmt::Debug for PolicyProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyProgram").field("options", &self.options).finish_non_exhaustive()
    }
}

impl PolicyProgram {
    /// Compiles a component and checks what it imports and exports. Nothing of it runs yet.
    ///
    /// # Errors
    /// When it is no component of the world, naming what is missing or forbidden.
    pub fn load(bytes: &[u8], options: PolicyOptions) -> Result<PolicyProgram, PolicyError> {
        if inspect(bytes)? == ModuleKind::Core {
            return Err(PolicyError::CoreModule);
        }
        let host = |error: wasmtime::Error| PolicyError::Host(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&settings()).map_err(host)?;
        let component =
            Component::new(&engine, bytes).map_err(|error| PolicyError::Compile(clip(&format!("{error:#}"))))?;
        let kind = component.component_type();
        if let Some((name, _)) = kind.imports(&engine).next() {
            return Err(PolicyError::Import(name.to_owned()));
        }
        if component.get_export_index(None, RANKING).is_none() {
            let names: Vec<&str> = kind.exports(&engine).map(|(name, _)| name).take(16).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            return Err(PolicyError::Export(names));
        }
        let instance = Linker::new(&engine).instantiate_pre(&component).map_err(host)?;
        let policy = PolicyPre::new(instance).map_err(|error| PolicyError::Types(clip(&format!("{error:#}"))))?;
        let of_ticker = engine.clone();
        let ticker = Ticker::start(move || of_ticker.increment_epoch());
        let ticker = Arc::new(ticker.map_err(|error| PolicyError::Host(error.to_string()))?);
        Ok(PolicyProgram { engine, policy, ticker, options: Arc::new(options) })
    }

    /// Starts an instance and asks it what it is. Blocks for as long as a call may take.
    ///
    /// # Errors
    /// When its functions have other types than the world's, when it fails, or does not accept its configuration.
    pub fn start(&self) -> Result<PolicyGuest, PolicyError> {
        let options = self.options.clone();
        let until = Instant::now() + options.time;
        let mut store = Store::new(&self.engine, State { memory: MemoryLimiter::new(options.memory), until });
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(ANSWER_BYTES);
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().until {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        let mut budget = Budget::begin(&mut store, &options, &self.ticker);
        let instance = self.policy.instance_pre().instantiate(&mut *budget.store);
        let instance = budget.judge(instance).map_err(PolicyError::Describe)?;
        // Names were checked when it was loaded; types can be compared only now.
        let types = |error: wasmtime::Error| PolicyError::Types(clip(&format!("{error:#}")));
        let policy = Policy::new(&mut *budget.store, &instance).map_err(types)?;
        let described = policy.holm_policy_ranking().call_describe(&mut *budget.store, &options.config);
        let described = budget.judge(described).map_err(PolicyError::Describe)?;
        drop(budget);
        let described = described.map_err(|message| PolicyError::Config(short(&message)))?;
        let wit::Description { name, reads, writes } = described;
        let description = PolicyDescription { name, reads, writes };
        Ok(PolicyGuest { store, policy, ticker: self.ticker.clone(), options, description })
    }
}

/// The same everywhere: nothing of a policy may depend on the machine.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_features(wasmtime::WasmFeatures::THREADS, false)
        .native_unwind_info(false);
    config
}

/// An instance of a policy.
pub struct PolicyGuest {
    store: Store<State>,
    policy: Policy,
    ticker: Arc<Ticker>,
    options: Arc<PolicyOptions>,
    description: PolicyDescription,
}

impl std::fmt::Debug for PolicyGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyGuest").field("description", &self.description).finish_non_exhaustive()
    }
}

impl PolicyGuest {
    /// What it says of itself.
    pub fn description(&self) -> &PolicyDescription {
        &self.description
    }

    /// Tells what has changed and takes the answer. Blocks for as long as a call may take. Whether the answer makes sense is for
    /// the caller to find out. After a failure the guest is of no use any more.
    pub fn rank(&mut self, changes: &[PolicyPatch]) -> (Result<Vec<PolicyPatch>, PolicyFailure>, PolicyCost) {
        let start = Instant::now();
        let PolicyGuest { store, policy, ticker, options, .. } = self;
        let mut budget = Budget::begin(store, options, ticker);
        let answer = call(policy, &mut *budget.store, changes);
        let answer = budget.judge(answer);
        drop(budget);
        // A store with fuel metering knows its fuel.
        let fuel = self.options.fuel.saturating_sub(self.store.get_fuel().unwrap_or_default());
        let cost = PolicyCost { time: start.elapsed(), fuel };
        let answer = match answer {
            Ok(Ok(patches)) => Ok(patches.into_iter().map(lift).collect()),
            Ok(Err(message)) => Err(PolicyFailure::GaveUp(short(&message))),
            Err(failure) => Err(failure),
        };
        (answer, cost)
    }
}

/// Lowers what is told without copying the cells: they are copied once, into the guest.
fn call(
    policy: &Policy,
    store: &mut Store<State>,
    changes: &[PolicyPatch],
) -> wasmtime::Result<Result<Vec<wit::PatchResult>, String>> {
    let texts: Vec<Vec<Vec<&str>>> = changes.iter().map(|patch| patch.columns.iter().map(texts).collect()).collect();
    let columns: Vec<Vec<wit::ColumnParam<'_>>> = changes
        .iter()
        .zip(&texts)
        .map(|(patch, texts)| patch.columns.iter().zip(texts).map(|(column, texts)| lower(column, texts)).collect())
        .collect();
    let patches = changes.iter().zip(&columns).map(|(patch, columns)| wit::PatchParam {
        table: &patch.table,
        removed: &patch.removed,
        rows: &patch.rows,
        columns,
    });
    let patches: Vec<wit::PatchParam<'_>> = patches.collect();
    policy.holm_policy_ranking().call_rank(store, &patches)
}

fn texts(column: &PolicyColumn) -> Vec<&str> {
    match &column.values {
        PolicyValues::Texts(cells) => cells.iter().map(|cell| &**cell).collect(),
        _ => Vec::new(),
    }
}

fn lower<'a>(column: &'a PolicyColumn, texts: &'a [&'a str]) -> wit::ColumnParam<'a> {
    let values = match &column.values {
        PolicyValues::Integers(cells) => wit::ValuesParam::Integers(cells),
        PolicyValues::Numbers(cells) => wit::ValuesParam::Numbers(cells),
        PolicyValues::Texts(_) => wit::ValuesParam::Texts(texts),
    };
    wit::ColumnParam { name: &column.name, values }
}

fn lift(patch: wit::PatchResult) -> PolicyPatch {
    let column = |column: wit::ColumnResult| PolicyColumn {
        name: column.name.into(),
        values: match column.values {
            wit::ValuesResult::Integers(cells) => PolicyValues::Integers(cells),
            wit::ValuesResult::Numbers(cells) => PolicyValues::Numbers(cells),
            wit::ValuesResult::Texts(cells) => PolicyValues::Texts(cells.into_iter().map(Arc::from).collect()),
        },
    };
    PolicyPatch {
        table: patch.table.into(),
        removed: patch.removed,
        rows: patch.rows,
        columns: patch.columns.into_iter().map(column).collect(),
    }
}

/// A call under way: the ticker runs, and the store has the fuel and the time of one call.
struct Budget<'a> {
    store: &'a mut Store<State>,
    options: &'a PolicyOptions,
    ticker: &'a Ticker,
}

impl<'a> Budget<'a> {
    fn begin(store: &'a mut Store<State>, options: &'a PolicyOptions, ticker: &'a Ticker) -> Budget<'a> {
        ticker.busy();
        store.data_mut().until = Instant::now() + options.time;
        store.set_epoch_deadline(1);
        // The engine counts fuel, so this cannot fail; if it did, the store's own zero would end the call at once.
        let _ = store.set_fuel(options.fuel);
        Budget { store, options, ticker }
    }

    /// Names the limit that was exceeded, if one was: the trap itself does not.
    fn judge<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, PolicyFailure> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let refusal = self.store.data().memory.refusal();
        Err(match (error.downcast_ref::<Trap>(), refusal) {
            (Some(Trap::OutOfFuel), _) => PolicyFailure::Fuel(self.options.fuel),
            (Some(Trap::Interrupt), _) => PolicyFailure::Time(self.options.time),
            (_, Some(refusal)) => PolicyFailure::Memory { asked: refusal.asked, limit: refusal.limit },
            (Some(trap), None) => PolicyFailure::Trapped(trap.to_string()),
            // What is no trap is the host's refusal to take the answer: it is too long, or points outside the memory.
            (None, None) if error.to_string().contains("hostcalls") => PolicyFailure::TooLong(ANSWER_BYTES as u64),
            (None, None) => PolicyFailure::Nonsense(short(&error.root_cause().to_string())),
        })
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        self.ticker.idle();
    }
}

/// A foreign text that is fit to be shown on one line.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = line.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MESSAGE_BYTES).last();
    line[..end.unwrap_or(0)].to_owned()
}
