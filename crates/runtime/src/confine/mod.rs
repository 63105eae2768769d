//! Confinement: what a process that runs or compiles foreign code gives up before it touches any of it.
//!
//! A guest that breaks out of Wasm is a thread of its runner, with everything that the runner may do. So a runner first opens
//! what it needs, then takes a [`Confinement`] upon itself, layer by layer, and only then starts its threads: every later
//! thread inherits all of it, and nothing here can be undone. A layer that was asked for and cannot be had is an error,
//! never a silent omission. [`survey`] says beforehand which layers this host has.
//!
//! | file | layer |
//! |---|---|
//! | `user.rs` | `user`, `capabilities`, `no-new-privs` |
//! | `rlimits.rs` | `rlimits` |
//! | `paths.rs` | `landlock`, and the directories that stay open across the change of user |
//! | `syscalls.rs`, `filters.rs` | `seccomp` |
//! | `survey.rs` | which of these a host has |
//! | `attempts.rs` | what somebody who broke out would try, for tests and for `holm agent --check` |

mod attempts;
mod filters;
mod paths;
mod rlimits;
mod survey;
mod syscalls;
mod user;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use attempts::{Attempt, Tried};
pub use paths::OpenPaths;
pub use survey::{Finding, survey};
pub use user::RunAs;

/// One layer of confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A user of its own, without privileges and without further groups.
    User,
    /// Running a program never gives privileges.
    NoNewPrivs,
    /// No capability is left, and none can come back.
    Capabilities,
    /// Limits on processes, core files and locked memory.
    Rlimits,
    /// Files: only what it was given; no TCP unless granted; no signals and no sockets of others.
    Landlock,
    /// Only the system calls that a runner makes.
    Seccomp,
    /// Memory, processes and CPU weight as a group.
    Cgroup,
}

impl Layer {
    /// Every layer, in the order in which they are taken.
    pub const ALL: [Layer; 7] = [
        Layer::Cgroup,
        Layer::Rlimits,
        Layer::Capabilities,
        Layer::User,
        Layer::NoNewPrivs,
        Layer::Landlock,
        Layer::Seccomp,
    ];

    /// The layer's name in options and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Layer::User => "user",
            Layer::NoNewPrivs => "no-new-privs",
            Layer::Capabilities => "capabilities",
            Layer::Rlimits => "rlimits",
            Layer::Landlock => "landlock",
            Layer::Seccomp => "seccomp",
            Layer::Cgroup => "cgroup",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no layer of confinement; there are user, no-new-privs, capabilities, rlimits, landlock, seccomp, cgroup"
)]
pub struct LayerError(String);

impl FromStr for Layer {
    type Err = LayerError;

    fn from_str(text: &str) -> Result<Layer, LayerError> {
        let found = Layer::ALL.into_iter().find(|layer| layer.as_str() == text);
        found.ok_or_else(|| LayerError(text.chars().take(40).collect()))
    }
}

/// What the process is for, which decides the system calls that it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Runs tasks that were granted the network.
    RunNetworked,
    /// Runs tasks without network: it can make no socket.
    #[default]
    Run,
    /// Compiles one module: it opens no file any more.
    Compile,
}

/// What a process takes upon itself. The agent decides it and hands it to a runner or a compile worker as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The layers to take; those that are not named are left out.
    pub layers: Vec<Layer>,
    /// What the process is for.
    pub purpose: Purpose,
    /// The user to become, for [`Layer::User`].
    pub run_as: Option<RunAs>,
    /// Most processes and threads of that user.
    pub threads: u64,
    /// Directories whose files may be read but not listed: only who knows a name opens it.
    pub read_known: Vec<PathBuf>,
    /// Files and directories that may be read.
    pub read: Vec<PathBuf>,
    /// Directories that may be read and written.
    pub write: Vec<PathBuf>,
    /// The `cgroup.procs` files of the groups to join, for [`Layer::Cgroup`].
    pub cgroups: Vec<PathBuf>,
}

/// Why a process is not confined as it should be; it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A layer could not be taken.
    #[error("confinement: {layer} cannot be taken: {what}")]
    Layer {
        /// Which.
        layer: Layer,
        /// What failed.
        what: String,
    },
    /// Something that it is to keep could not be opened.
    #[error("confinement: {path} cannot be opened")]
    Open {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Threads that exist already would not be confined.
    #[error("confinement: the process has {0} threads already; it must have one")]
    Threads(usize),
    /// The text that says how to be confined cannot be read.
    #[error("confinement: the plan cannot be read")]
    Plan(#[source] serde_json::Error),
}

impl ConfineError {
    fn of(layer: Layer, error: impl fmt::Display) -> ConfineError {
        ConfineError::Layer { layer, what: error.to_string() }
    }
}

impl Confinement {
    /// The plan as text, for a command line.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain fields always serialize")
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Confinement, ConfineError> {
        serde_json::from_str(text).map_err(ConfineError::Plan)
    }

    /// Whether a layer is to be taken.
    pub fn has(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }

    /// Opens the directories that the process keeps. They are reached through these handles afterwards, since the new user
    /// may not pass through the directories above them.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(&self) -> Result<OpenPaths, ConfineError> {
        OpenPaths::open([&self.read_known, &self.read, &self.write])
    }

    /// Takes every layer of the plan, for good. To be called with everything opened that privileges were needed for, and
    /// before any thread is started.
    ///
    /// # Errors
    /// The first layer that could not be taken. The process is then in between and must end.
    pub fn apply(&self, open: &OpenPaths) -> Result<(), ConfineError> {
        if self.layers.is_empty() {
            return Ok(());
        }
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
        if threads > 1 {
            return Err(ConfineError::Threads(threads));
        }
        for layer in Layer::ALL.into_iter().filter(|layer| self.has(*layer)) {
            self.take(layer, open)?;
        }
        Ok(())
    }

    fn take(&self, layer: Layer, open: &OpenPaths) -> Result<(), ConfineError> {
        let failed = |error: io::Error| ConfineError::of(layer, error);
        match layer {
            Layer::Cgroup => self.cgroups.iter().try_for_each(|procs| {
                let joined =
                    std::fs::File::options().write(true).open(procs).and_then(|mut file| file.write_all(b"0\n"));
                joined.map_err(|error| ConfineError::of(layer, format_args!("{}: {error}", procs.display())))
            }),
            Layer::Rlimits => {
                // Counted per user: among a user's other processes it would hit the wrong ones.
                let threads = self.has(Layer::User).then_some(self.threads);
                rlimits::apply(threads).map_err(failed)
            }
            Layer::Capabilities => user::drop_bounding_set().map_err(failed),
            Layer::User => {
                let run_as = self.run_as.ok_or_else(|| ConfineError::of(layer, "the plan names no user"))?;
                user::become_user(run_as).map_err(failed)
            }
            Layer::NoNewPrivs => {
                if self.has(Layer::Capabilities) {
                    // A change of user has dropped them already; without one, this does.
                    user::drop_capabilities().map_err(|error| ConfineError::of(Layer::Capabilities, error))?;
                }
                rustix::thread::set_no_new_privs(true).map_err(|error| failed(error.into()))
            }
            Layer::Landlock => paths::restrict(self, open).map_err(|error| ConfineError::of(layer, error)),
            Layer::Seccomp => syscalls::restrict(self.purpose).map_err(|error| ConfineError::of(layer, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let plan = Confinement {
            layers: Layer::ALL.to_vec(),
            purpose: Purpose::RunNetworked,
            run_as: Some(RunAs { uid: 7, gid: 8 }),
            threads: 9,
            read: vec!["/a b".into()],
            ..Confinement::default()
        };
        assert_eq!(Confinement::parse(&plan.to_text()).unwrap(), plan);
        assert!(Confinement::parse("{").is_err());
    }

    #[test]
    fn layers_are_read_as_they_are_written() {
        for layer in Layer::ALL {
            assert_eq!(layer.to_string().parse(), Ok(layer));
        }
        assert!("selinux".parse::<Layer>().unwrap_err().to_string().contains("\"selinux\""));
    }

    #[test]
    fn a_process_with_threads_is_not_confined_by_half() {
        // The test harness has some.
        let plan = Confinement { layers: vec![Layer::NoNewPrivs], ..Confinement::default() };
        let error = plan.apply(&plan.open().unwrap()).unwrap_err();
        assert!(matches!(error, ConfineError::Threads(_)), "{error}");
    }
}
