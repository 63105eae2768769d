//! How an agent keeps its tasks from each other and from the host: which of them share a process, and what the operating
//! system holds that process back from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which tasks of an agent share a runner process. What a crash or an escape of one task reaches ends with its process;
/// more processes cost more memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// None: each launch (a task, or an array of tasks) has runners of its own.
    Task,
    /// Those of one framework.
    #[default]
    Framework,
    /// All of them.
    Agent,
}

impl Isolation {
    /// Every mode, from the strictest.
    pub const ALL: [Isolation; 3] = [Isolation::Task, Isolation::Framework, Isolation::Agent];

    /// The mode as it is written in options and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Isolation::Task => "task",
            Isolation::Framework => "framework",
            Isolation::Agent => "agent",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no isolation mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("isolation {0:?} is none of task, framework, agent")]
pub struct IsolationError(String);

impl FromStr for Isolation {
    type Err = IsolationError;

    fn from_str(text: &str) -> Result<Isolation, IsolationError> {
        let found = Isolation::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| IsolationError(text.chars().take(40).collect()))
    }
}

/// One thing that holds runner processes back, on an agent that has it or lacks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfinementLayer {
    /// Its name: `user`, `landlock`, `seccomp`, ... At most 64 bytes.
    pub name: Arc<str>,
    /// Whether runners are under it.
    pub active: bool,
    /// What it consists of, or why it is missing. At most 256 bytes.
    pub detail: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_is_read_as_it_is_written() {
        for mode in Isolation::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("process".parse::<Isolation>().unwrap_err().to_string().contains("\"process\""));
    }
}
