//! Ids that the master or an agent mints: `<kind>-<epoch>-<counter>`, no randomness.

use std::fmt;
use std::str::FromStr;

/// The reign of one elected master: incremented in the transaction that makes it leader. Everybody remembers the
/// highest epoch seen and refuses lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a {kind}; expected {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

fn parse_parts(kind: &'static str, text: &str) -> Result<(u64, u64), ParseIdError> {
    let parts = || {
        let (epoch, counter) = text.strip_prefix(kind)?.strip_prefix('-')?.split_once('-')?;
        Some((parse_canonical(epoch)?, parse_canonical(counter)?))
    };
    let expected = "<kind>-<epoch>-<counter>";
    parts().ok_or_else(|| ParseIdError { kind, expected, text: text.chars().take(64).collect() })
}

/// One number has one spelling, so that two texts are equal exactly when their ids are.
fn parse_canonical(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

macro_rules! minted_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            epoch: u64,
            counter: u64,
        }

        impl $name {
            /// The `counter`-th id of its kind minted in `epoch`.
            pub const fn new(epoch: Epoch, counter: u64) -> $name {
                $name { epoch: epoch.0, counter }
            }

            /// The epoch in which the id was minted.
            pub const fn epoch(self) -> Epoch {
                Epoch(self.epoch)
            }

            /// The number of the id within its epoch.
            pub const fn counter(self) -> u64 {
                self.counter
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($kind, "-{}-{}"), self.epoch, self.counter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                let (epoch, counter) = parse_parts($kind, text)?;
                Ok($name { epoch, counter })
            }
        }
    };
}

minted_id! {
    /// One agent, for as long as its data directory lives.
    AgentId, "agent"
}
minted_id! {
    /// One framework, across its reconnections and failovers.
    FrameworkId, "framework"
}
minted_id! {
    /// One offer. It dies with the epoch in which it was made.
    OfferId, "offer"
}
minted_id! {
    /// Offers that are accepted all or none. It dies with the epoch in which they were made.
    GangId, "gang"
}
minted_id! {
    /// One inverse offer: a request to give something back. It dies with the epoch in which it was made.
    InverseOfferId, "inverse"
}

/// One runner process of one agent, numbered in the order the agent started them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunnerId(pub u64);

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runner-{}", self.0)
    }
}

impl fmt::Debug for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One cluster, for as long as its registry lives: 128 random bits minted by the shell that creates the registry.
/// Agents pin it and refuse masters of another cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<ClusterId, ParseIdError> {
        let id = u128::from_str_radix(text, 16).ok().map(ClusterId);
        id.filter(|id| id.to_string() == text).ok_or_else(|| ParseIdError {
            kind: "cluster",
            expected: "32 lower-case hex digits",
            text: text.chars().take(64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = AgentId::new(Epoch(3), 17);
        assert_eq!(id.to_string(), "agent-3-17");
        assert_eq!("agent-3-17".parse(), Ok(id));
        let cluster = ClusterId(0xabc);
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
    }

    #[test]
    fn an_id_of_another_kind_or_spelling_is_refused() {
        for text in ["offer-3-17", "agent-3", "agent-03-17", "agent-3-17-1", "agent--3", "agent-3-+1", ""] {
            assert!(text.parse::<AgentId>().is_err(), "{text:?} passed");
        }
    }
}
