//! Names that clients choose.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest client-chosen name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("task id is empty; it needs 1 to {MAX_NAME_BYTES} of [A-Za-z0-9._-]")]
    Empty,
    /// The name is over [`MAX_NAME_BYTES`].
    #[error("task id has {0} bytes; the limit is {MAX_NAME_BYTES}")]
    TooLong(usize),
    /// The name has a character outside `[A-Za-z0-9._-]`.
    #[error("task id {name:?} has the character {bad:?}; allowed are [A-Za-z0-9._-]")]
    Character {
        /// The name.
        name: String,
        /// Its first character that is not allowed.
        bad: char,
    },
    /// The name is `.` or `..`.
    #[error("task id {0:?} is a directory's name")]
    Reserved(String),
    /// What follows the slash is not an array index.
    #[error("task id {0:?} does not end in an array index")]
    Index(String),
}

/// What a framework calls one launch: 1 to [`MAX_NAME_BYTES`] of `[A-Za-z0-9._-]`, unique among the framework's live
/// launches. A launch is a single task or an array of tasks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(Arc<str>);

impl BatchId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BatchId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<BatchId, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { name: text.to_owned(), bad });
        }
        if matches!(text, "." | "..") {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Ok(BatchId(text.into()))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// One task of one framework: `build` for a single task, `build/17` for one of an array. The slash is not allowed in a
/// [`BatchId`], so no two launches can name the same task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The launch the task belongs to.
    pub batch: BatchId,
    /// Its index in the array; `None` for a single task.
    pub index: Option<u32>,
}

impl FromStr for TaskId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<TaskId, NameError> {
        let Some((batch, index)) = text.split_once('/') else {
            return Ok(TaskId { batch: text.parse()?, index: None });
        };
        let batch = batch.parse()?;
        let number: Option<u32> = index.parse().ok();
        match number.filter(|n| n.to_string() == index) {
            Some(index) => Ok(TaskId { batch, index: Some(index) }),
            None => Err(NameError::Index(text.chars().take(MAX_NAME_BYTES).collect())),
        }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => self.batch.fmt(f),
            Some(index) => write!(f, "{}/{index}", self.batch),
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_or_confuse_a_log_are_refused() {
        for text in ["", ".", "..", "a/b", "a b", "a\n", "ä", &"x".repeat(129)] {
            assert!(text.parse::<BatchId>().is_err(), "{text:?} passed");
        }
        assert!("x".repeat(128).parse::<BatchId>().is_ok());
    }

    #[test]
    fn a_task_id_reads_back_what_it_prints() {
        for text in ["build", "build/0", "a.b-c_d/4095"] {
            let id: TaskId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        for text in ["build/", "build/01", "build/x", "build/1/2", "/1"] {
            assert!(text.parse::<TaskId>().is_err(), "{text:?} passed");
        }
    }
}
