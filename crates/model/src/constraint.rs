//! Conditions on an agent's attributes and host name, by which offers are chosen.
//!
//! The text form, for people: `rack=a`, `rack!=a`, `rack=~a[0-9]+`, `rack!~a.*`, `ssd` (there is such an attribute), `!ssd`
//! (there is none). `@hostname` in place of an attribute's name is the agent's host name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Most conditions of one conjunction.
pub const MAX_CONSTRAINTS: usize = 16;

/// Longest attribute name, value and pattern of a condition, in bytes.
pub const MAX_CONSTRAINT_BYTES: usize = 256;

/// How the agent's host name is written where an attribute's name may stand.
const HOSTNAME: &str = "@hostname";

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The agent's host name, which every agent has.
    Hostname,
    /// The attribute of this name, which an agent may have or not.
    Attribute(Arc<str>),
}

/// What must hold of it. Where there is no such attribute, the positive tests fail and the negative ones hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is there.
    Exists,
    /// It is not there.
    NotExists,
    /// It is this text.
    Equals(Arc<str>),
    /// It is another text, or not there.
    NotEquals(Arc<str>),
    /// The whole of it matches this regular expression: the syntax of the `regex` crate without Unicode classes. Its cost is
    /// checked by the master, which refuses what compiles to too much.
    Matches(Arc<str>),
    /// It does not match, or is not there.
    NotMatches(Arc<str>),
}

/// One condition on an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    /// What it looks at.
    pub subject: Subject,
    /// What must hold of it.
    pub test: Test,
}

/// Conditions all of which must hold; without any, every agent will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraints(Arc<[Constraint]>);

/// Why conditions were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// A text is longer than [`MAX_CONSTRAINT_BYTES`].
    #[error("constraint has a {what} of {bytes} bytes; the limit is {MAX_CONSTRAINT_BYTES}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// The name of the attribute is empty.
    #[error("constraint {0:?} names no attribute")]
    Unnamed(String),
    /// There are more than [`MAX_CONSTRAINTS`].
    #[error("{0} constraints; the limit is {MAX_CONSTRAINTS}")]
    TooMany(usize),
}

impl Test {
    /// The text that the subject is compared with, if there is one.
    pub fn operand(&self) -> Option<&Arc<str>> {
        match self {
            Test::Exists | Test::NotExists => None,
            Test::Equals(text) | Test::NotEquals(text) | Test::Matches(text) | Test::NotMatches(text) => Some(text),
        }
    }

    /// The regular expression, if there is one.
    pub fn pattern(&self) -> Option<&Arc<str>> {
        match self {
            Test::Matches(pattern) | Test::NotMatches(pattern) => Some(pattern),
            _ => None,
        }
    }
}

impl Constraint {
    /// Checks the lengths. Whether a pattern can be read and what it costs is up to who evaluates it.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), ConstraintError> {
        if let Subject::Attribute(name) = &self.subject {
            if name.is_empty() {
                return Err(ConstraintError::Unnamed(self.to_string()));
            }
            at_most("name", name)?;
        }
        match &self.test {
            Test::Matches(pattern) | Test::NotMatches(pattern) => at_most("pattern", pattern),
            test => test.operand().map_or(Ok(()), |value| at_most("value", value)),
        }
    }
}

fn at_most(what: &'static str, text: &str) -> Result<(), ConstraintError> {
    let bytes = text.len();
    if bytes > MAX_CONSTRAINT_BYTES { Err(ConstraintError::TooLong { what, bytes }) } else { Ok(()) }
}

impl Constraints {
    /// The conjunction of `conditions`, without repetitions; their order does not matter.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn new(conditions: impl IntoIterator<Item = Constraint>) -> Result<Constraints, ConstraintError> {
        let mut conditions: Vec<Constraint> = conditions.into_iter().take(MAX_CONSTRAINTS + 1).collect();
        if conditions.len() > MAX_CONSTRAINTS {
            return Err(ConstraintError::TooMany(conditions.len()));
        }
        conditions.iter().try_for_each(Constraint::validate)?;
        conditions.sort_unstable();
        conditions.dedup();
        Ok(Constraints(conditions.into()))
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions, in an order that is the same for equal conjunctions.
    pub fn iter(&self) -> impl Iterator<Item = &Constraint> {
        self.0.iter()
    }

    /// The conjunction of both.
    ///
    /// # Errors
    /// When together they are too many.
    pub fn and(&self, other: &Constraints) -> Result<Constraints, ConstraintError> {
        Constraints::new(self.iter().chain(other.iter()).cloned())
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Constraint, ConstraintError> {
        let constraint = match split(text) {
            Some((name, operator, operand)) => {
                let operand: Arc<str> = operand.into();
                let test = match operator {
                    "!=" => Test::NotEquals(operand),
                    "=~" => Test::Matches(operand),
                    "!~" => Test::NotMatches(operand),
                    _ => Test::Equals(operand),
                };
                Constraint { subject: subject(name), test }
            }
            None => match text.strip_prefix('!') {
                Some(name) => Constraint { subject: subject(name), test: Test::NotExists },
                None => Constraint { subject: subject(text), test: Test::Exists },
            },
        };
        constraint.validate()?;
        Ok(constraint)
    }
}

fn subject(name: &str) -> Subject {
    if name == HOSTNAME { Subject::Hostname } else { Subject::Attribute(name.into()) }
}

/// A text at its first operator.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (at, operator) =
        text.char_indices().find_map(|(at, _)| Some((at, operator_at(text.get(at..)?)?)).filter(|(at, _)| *at > 0))?;
    Some((&text[..at], operator, &text[at + operator.len()..]))
}

fn operator_at(rest: &str) -> Option<&'static str> {
    ["!=", "=~", "!~", "="].into_iter().find(|operator| rest.starts_with(operator))
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.subject {
            Subject::Hostname => HOSTNAME,
            Subject::Attribute(name) => name,
        };
        match &self.test {
            Test::Exists => f.write_str(name),
            Test::NotExists => write!(f, "!{name}"),
            Test::Equals(value) => write!(f, "{name}={value}"),
            Test::NotEquals(value) => write!(f, "{name}!={value}"),
            Test::Matches(pattern) => write!(f, "{name}=~{pattern}"),
            Test::NotMatches(pattern) => write!(f, "{name}!~{pattern}"),
        }
    }
}

impl fmt::Display for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, constraint) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{constraint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_reads_back_what_it_prints() {
        let attribute = |name: &str| Subject::Attribute(name.into());
        for (text, subject, test) in [
            ("rack=a", attribute("rack"), Test::Equals("a".into())),
            ("rack=", attribute("rack"), Test::Equals("".into())),
            ("rack!=a=b", attribute("rack"), Test::NotEquals("a=b".into())),
            ("rack=~a[0-9]+=?", attribute("rack"), Test::Matches("a[0-9]+=?".into())),
            ("@hostname!~web-.*", Subject::Hostname, Test::NotMatches("web-.*".into())),
            ("ssd", attribute("ssd"), Test::Exists),
            ("!ssd", attribute("ssd"), Test::NotExists),
        ] {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint, Constraint { subject, test }, "{text}");
            assert_eq!(constraint.to_string(), text);
        }
    }

    #[test]
    fn what_is_too_long_too_many_or_unnamed_is_refused_with_the_numbers() {
        let long = "x".repeat(MAX_CONSTRAINT_BYTES + 1);
        let message = |text: &str| text.parse::<Constraint>().unwrap_err().to_string();
        assert_eq!(message(&long), "constraint has a name of 257 bytes; the limit is 256");
        assert_eq!(message(&format!("a=~{long}")), "constraint has a pattern of 257 bytes; the limit is 256");
        assert!("!".parse::<Constraint>().is_err() && "".parse::<Constraint>().is_err());
        let many = (0..17).map(|n| format!("a{n}").parse().unwrap());
        assert_eq!(Constraints::new(many).unwrap_err().to_string(), "17 constraints; the limit is 16");
    }

    #[test]
    fn conjunctions_are_equal_whatever_their_order() {
        let of = |texts: &[&str]| Constraints::new(texts.iter().map(|text| text.parse().unwrap())).unwrap();
        assert_eq!(of(&["b", "a=1", "b"]), of(&["a=1", "b"]));
        assert_eq!(of(&["b"]).and(&of(&["a=1"])).unwrap(), of(&["a=1", "b"]));
        assert_eq!(of(&["a=1", "b"]).to_string(), "a=1, b");
    }
}
