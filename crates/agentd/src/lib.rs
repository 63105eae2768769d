//! The agent daemon and the runner process: the shells around [`holm_agent`].
//!
//! | file | what happens there |
//! |---|---|
//! | `daemon.rs` | the agent's loop: events in, effects out |
//! | `control.rs` | the control stream to whichever master leads |
//! | `bulk.rs`, `answer.rs` | logs and sandbox files for those who ask; blobs for the agent |
//! | `prepare.rs`, `flights.rs`, `turns.rs`, `native.rs`, `grants.rs` | from a launch to something that can run |
//! | `overhead.rs` | how much memory is taken beyond the tasks' own |
//! | `sandbox.rs`, `remove.rs`, `pressure.rs` | sandboxes: listed, read, and removed by age and when the disk fills up |
//! | `checkpoint.rs` | what survives the agent's death |
//! | `confining/` | what runners and compile workers are held back by |
//! | `tenants.rs`, `sandbox.rs` | where sandboxes lie and how long |
//! | `runners.rs` | starting, finding again and ending runner processes |
//! | `runner/` | the runner process: the run queue, sandboxes, output |
//! | `log/` | the output log that a runner writes and the agent reads |

mod answer;
mod bulk;
mod checkpoint;
mod confining;
mod control;
mod daemon;
mod flights;
mod grants;
mod link;
mod log;
mod machine;
mod native;
mod network;
mod overhead;
mod prepare;
mod pressure;
mod process;
mod remove;
pub mod runner;
mod runners;
mod sandbox;
mod seats;
mod tenants;
mod turns;
mod volumes;

pub use confining::{
    ConfinementOptions, RequiredError, RunnerUsers, RunnerUsersError, check_confinement, confinement_table,
    runner_group,
};
pub use daemon::{AgentError, CompileOptions, Options, run};
pub use grants::AllowError;
pub use holm_agent::{LendingOptions, MAX_RUNNERS};
/// The whole of a compile worker's work: see [`runner`] for the other process that an agent starts.
pub use holm_runtime::{
    Attempt, CompileLimits, ConfineError, Confinement, EngineKind, Layer, LayerError, WorkerOptions,
    compile_worker_main,
};
pub use machine::{boot_clock, default_reserve, detect_attributes, detect_resources, divide, hostname};
pub use pressure::DiskPressure;
