//! Why a message was refused, and where in it.

use std::fmt;

use tonic::{Code, Status};

/// A field that could not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// The path of the field, such as `accept.launches[3].template.files[0].digest`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is required and was not given.
    Missing,
    /// It is a variant of a oneof that this version does not know. Ignore the message; it has been counted.
    UnknownVariant,
    /// It has too many entries.
    TooMany {
        /// How many.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// It is too long.
    TooLong {
        /// Its size in bytes.
        bytes: usize,
        /// How many bytes are allowed.
        limit: usize,
    },
    /// It is too high.
    TooHigh {
        /// Its value.
        value: u64,
        /// The highest value allowed.
        limit: u64,
    },
    /// The peer speaks another version of the protocol.
    Protocol {
        /// The peer's version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// It is malformed, or does not fit the rest of the message; the text says how.
    Invalid(String),
}

impl ConvertError {
    /// Whether the message is merely of a kind that this version does not know, and is to be ignored.
    pub fn is_unknown(&self) -> bool {
        self.problem == Problem::UnknownVariant
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing => write!(f, "is required"),
            Problem::UnknownVariant => write!(f, "is not known to this version"),
            Problem::TooMany { count, limit } => write!(f, "{count} entries are over the limit of {limit}"),
            Problem::TooLong { bytes, limit } => write!(f, "{bytes} bytes are over the limit of {limit}"),
            Problem::TooHigh { value, limit } => write!(f, "{value} is over the limit of {limit}"),
            Problem::Protocol { theirs, ours } => {
                write!(f, "protocol version {theirs} is not supported; this side speaks {ours}")
            }
            Problem::Invalid(text) => f.write_str(text),
        }
    }
}

impl From<ConvertError> for Status {
    fn from(error: ConvertError) -> Status {
        let code = match error.problem {
            Problem::Protocol { .. } => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        };
        Status::new(code, error.to_string())
    }
}

/// The place of a value in a message: a chain on the stack that becomes text only when there is an error.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The message itself.
    pub(super) const ROOT: At<'static> = At { parent: None, step: Step::Root };

    /// A field of the value at this place.
    pub(super) fn field(&'a self, name: &'static str) -> At<'a> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    /// An entry of the list at this place.
    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    /// The error that the value at this place has a problem.
    pub(super) fn error(&self, problem: Problem) -> ConvertError {
        let mut field = String::new();
        self.write(&mut field);
        if field.is_empty() {
            field.push_str("message");
        }
        ConvertError { field, problem }
    }

    /// The error that the value at this place is malformed.
    pub(super) fn invalid(&self, text: impl fmt::Display) -> ConvertError {
        self.error(Problem::Invalid(text.to_string()))
    }

    /// The error that the variant at this place is unknown; counts it.
    pub(super) fn unknown(&self) -> ConvertError {
        crate::unknown::note_variant();
        self.error(Problem::UnknownVariant)
    }

    fn write(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(path);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
}
