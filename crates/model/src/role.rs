//! Roles: the tenants among whom the cluster is shared.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A role is a path such as `eng/backend`; each part is a tenant of the one before it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Arc<str>);

const MAX_BYTES: usize = 255;
const MAX_DEPTH: usize = Role::MAX_DEPTH;

/// Why a role was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The path is over 255 bytes.
    #[error("role has {0} bytes; the limit is {MAX_BYTES}")]
    TooLong(usize),
    /// The path has more than 8 parts.
    #[error("role {0:?} has more than {MAX_DEPTH} levels")]
    TooDeep(String),
    /// A part is empty, `.`, `..` or starts with `-`.
    #[error(
        "role {role:?} has the part {part:?}; a part is not empty, not \".\" or \"..\", and does not start with \"-\""
    )]
    Part {
        /// The whole path.
        role: String,
        /// The part that is not allowed.
        part: String,
    },
    /// The path has a space or a control character.
    #[error("role {0:?} has white space or a control character")]
    Character(String),
}

impl Role {
    /// Most parts of a path.
    pub const MAX_DEPTH: usize = 8;

    /// The role of those who name none.
    pub fn default_role() -> Role {
        Role("default".into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of the path, outermost first.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The role above, if it is not a top-level one.
    pub fn parent(&self) -> Option<Role> {
        self.0.rsplit_once('/').map(|(above, _)| Role(above.into()))
    }

    /// This role and every role above it, innermost first.
    pub fn lineage(&self) -> impl Iterator<Item = Role> {
        std::iter::successors(Some(self.clone()), Role::parent)
    }

    /// Whether this role is `other` or above it: whether `other` is part of this tenant.
    pub fn covers(&self, other: &Role) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How many parts the path has.
    pub fn depth(&self) -> usize {
        self.parts().count()
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Role, RoleError> {
        if text.len() > MAX_BYTES {
            return Err(RoleError::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(RoleError::Character(text.to_owned()));
        }
        let bad = text.split('/').find(|part| matches!(*part, "" | "." | "..") || part.starts_with('-'));
        if let Some(part) = bad {
            return Err(RoleError::Part { role: text.to_owned(), part: part.to_owned() });
        }
        if text.split('/').count() > MAX_DEPTH {
            return Err(RoleError::TooDeep(text.to_owned()));
        }
        Ok(Role(text.into()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_covers_what_is_below_it_and_nothing_that_only_looks_so() {
        let role = |text: &str| text.parse::<Role>().unwrap();
        assert_eq!(role("a/b/c").lineage().collect::<Vec<_>>(), [role("a/b/c"), role("a/b"), role("a")]);
        assert!(role("a").covers(&role("a")) && role("a").covers(&role("a/b/c")));
        assert!(!role("a").covers(&role("ab")) && !role("a/b").covers(&role("a")));
    }

    #[test]
    fn roles_follow_the_rules_of_path_components() {
        for text in ["eng", "eng/backend", "*", "a.b/c_d"] {
            assert!(text.parse::<Role>().is_ok(), "{text:?} refused");
        }
        for text in ["", "/eng", "eng/", "a//b", ".", "a/..", "-x", "a/-x", "a b", "a\u{7f}", "a/b/c/d/e/f/g/h/i"] {
            assert!(text.parse::<Role>().is_err(), "{text:?} passed");
        }
    }
}
