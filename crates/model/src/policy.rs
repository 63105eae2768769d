//! What an allocation policy and the master tell each other: changes of tables, column by column.
//!
//! `wit/policy/policy.wit` says what the tables and columns are; these are its types.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a policy's name and of the name of a column.
pub const MAX_POLICY_NAME_BYTES: usize = 128;

/// Most columns that a policy may read.
pub const MAX_POLICY_READS: usize = 64;

/// Most columns that a policy may write.
pub const MAX_POLICY_WRITES: usize = 16;

/// The cells of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyValues {
    /// Counts and amounts.
    Integers(Vec<i64>),
    /// Fractions and scores.
    Numbers(Vec<f64>),
    /// Names and paths.
    Texts(Vec<Arc<str>>),
}

impl PolicyValues {
    /// How many cells there are.
    pub fn len(&self) -> usize {
        match self {
            PolicyValues::Integers(cells) => cells.len(),
            PolicyValues::Numbers(cells) => cells.len(),
            PolicyValues::Texts(cells) => cells.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the cells are, for people.
    pub const fn kind(&self) -> &'static str {
        match self {
            PolicyValues::Integers(_) => "integers",
            PolicyValues::Numbers(_) => "numbers",
            PolicyValues::Texts(_) => "texts",
        }
    }
}

/// One column's cells for the rows of its patch.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyColumn {
    /// Without its table's name.
    pub name: Arc<str>,
    /// As many as the patch has rows, in their order.
    pub values: PolicyValues,
}

/// What changed in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyPatch {
    /// The table.
    pub table: Arc<str>,
    /// Rows that have gone, before the others: a number may be in both.
    pub removed: Vec<u32>,
    /// Rows of which cells follow, ascending.
    pub rows: Vec<u32>,
    /// The cells.
    pub columns: Vec<PolicyColumn>,
}

/// What a policy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDescription {
    /// For people.
    pub name: String,
    /// The columns it wants to be told, as `table.column`.
    pub reads: Vec<String>,
    /// The columns it answers with.
    pub writes: Vec<String>,
}

/// What a call of a policy took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyCost {
    /// How long it took.
    pub time: Duration,
    /// Units of fuel; zero for a policy that is not Wasm.
    pub fuel: u64,
}

/// Why a policy gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFailure {
    /// It trapped.
    #[error("the policy trapped: {0}")]
    Trapped(String),
    /// It used up its fuel.
    #[error("the policy used more than {0} units of fuel, which is the limit of a call")]
    Fuel(u64),
    /// It took too long.
    #[error("the policy took longer than {0:?}, which is the limit of a call")]
    Time(Duration),
    /// It asked for too much memory.
    #[error("the policy asked for {asked} bytes of memory; the limit is {limit}")]
    Memory {
        /// What it would have held.
        asked: u64,
        /// What it may hold.
        limit: u64,
    },
    /// Its answer is larger than anything that makes sense.
    #[error("the policy's answer has more than {0} bytes, which is the limit")]
    TooLong(u64),
    /// It gave up by itself.
    #[error("the policy gave up: {0}")]
    GaveUp(String),
    /// Its answer makes no sense.
    #[error("the policy's answer makes no sense: {0}")]
    Nonsense(String),
    /// It cannot be run at all, at the moment.
    #[error("the policy cannot be run: {0}")]
    Host(String),
}

impl PolicyFailure {
    /// The kind in lower case, for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            PolicyFailure::Trapped(_) => "trap",
            PolicyFailure::Fuel(_) => "fuel",
            PolicyFailure::Time(_) => "time",
            PolicyFailure::Memory { .. } => "memory",
            PolicyFailure::TooLong(_) => "too_long",
            PolicyFailure::GaveUp(_) => "gave_up",
            PolicyFailure::Nonsense(_) => "nonsense",
            PolicyFailure::Host(_) => "host",
        }
    }
}

/// Where the master's policy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPhase {
    /// No answer of it has been seen yet; the built-in order is in force.
    Waiting,
    /// Its ranks are in force.
    InForce,
    /// It has failed; the built-in order is in force, and it is tried again.
    Fallback {
        /// Why.
        failure: PolicyFailure,
        /// How long after the failure it is tried again.
        retry_after: Duration,
    },
}

impl PolicyPhase {
    /// The phase in lower case, as shown.
    pub const fn as_str(&self) -> &'static str {
        match self {
            PolicyPhase::Waiting => "waiting",
            PolicyPhase::InForce => "in force",
            PolicyPhase::Fallback { .. } => "fallback",
        }
    }
}

impl fmt::Display for PolicyPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The master's policy as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// What it says of itself.
    pub description: Arc<PolicyDescription>,
    /// Where it stands.
    pub phase: PolicyPhase,
    /// How often it was called.
    pub calls: u64,
    /// How many of these calls failed.
    pub failures: u64,
    /// What the latest call took.
    pub last: PolicyCost,
}
