//! The simulator: whole clusters of the real cores in virtual time, from one seed, on one thread.
//!
//! A [`World`] holds one master per term, agents with their checkpoints and runners, and frameworks on the session core,
//! joined by streams with latency that can be cut, reset or left unread. The shells' part (performing effects in
//! order, dialling, committing registry writes, writing checkpoints, running guests) is played by the simulator; every
//! decision is the cores'. Nothing here has a clock, a file or a socket.
//!
//! Promises are held against it all the time. After each turn of a core its own `invariants` are checked (a core's
//! state changes in no other way), and after each event those that only somebody who sees everything can know: no task
//! runs twice or after its end; every end is told exactly once; nobody holds more than there is; the published read
//! model only ever takes legal steps. A broken promise stops the run and shows the latest events.
//!
//! - [`run_script`] carries out a scenario script and returns the transcript, which is kept beside the script as what is
//!   expected. Commands: `master`, `policy`, `agent`, `framework`, `advance`, `accept`, `decline`, `suppress`, `revive`, `kill`,
//!   `message`, `teardown`, `trim`, `crash`, `start`, `reboot`, `cut`, `heal`, `reset`, `pause`, `resume`, `show`.
//! - [`run_random`] lets random schedulers work while random troubles happen, then waits in peace until all has come
//!   right: every task ended and told, nothing held, nothing left behind.

mod agent_process;
mod framework_process;
mod guest;
mod master_process;
mod native_policy;
mod net;
mod queue;
mod random;
mod rng;
mod runner_process;
mod scheduler;
mod script;
mod text;
mod transcript;
mod truth;
mod view;
mod world;

pub use guest::{Guest, GuestEnd};
pub use queue::{Place, Settings};
pub use random::{Outcome, Plan, run_random};
pub use rng::Rng;
pub use scheduler::{Policy, Workload};
pub use script::{ScriptError, run_script};
pub use transcript::TAIL;
pub use world::{Failure, World};
