//! What a framework says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Capabilities, Role, RoleOptions, RoleOptionsError};

/// Longest time a disconnected framework may stay away before its tasks are killed: 30 days.
pub const MAX_FAILOVER_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A framework's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkInfo {
    /// A name for people: 1 to 128 bytes without control characters.
    pub name: Arc<str>,
    /// The roles it subscribes to; at least one, at most 64, no duplicates.
    pub roles: Vec<Role>,
    /// Which offers it takes in a role; a role that is absent has the defaults.
    pub role_options: BTreeMap<Role, RoleOptions>,
    /// How long its tasks outlive its connection; zero means that they end with it.
    pub failover_timeout: Duration,
    /// What it understands beyond the base protocol.
    pub capabilities: Capabilities,
    /// Uninterpreted key-value pairs, at most 64.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// Why a registration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameworkInfoError {
    /// The name is empty, too long or has control characters.
    #[error("framework name {0:?} is not 1 to 128 bytes without control characters")]
    Name(String),
    /// There is no role, or there are more than 64.
    #[error("framework has {0} roles; it needs 1 to 64")]
    Roles(usize),
    /// A role is listed twice.
    #[error("framework lists the role {0} twice")]
    DuplicateRole(Role),
    /// The failover timeout is over [`MAX_FAILOVER_TIMEOUT`].
    #[error("failover_timeout of {0:?} is over the limit of {MAX_FAILOVER_TIMEOUT:?}")]
    FailoverTimeout(Duration),
    /// There are more than 64 labels.
    #[error("framework has {0} labels; the limit is 64")]
    Labels(usize),
    /// There are options for a role that is not among the roles.
    #[error("framework has options for the role {0}, which is not among its roles")]
    Options(Role),
    /// The options of a role are not valid.
    #[error("framework's options for the role {role} are not valid")]
    RoleOptions {
        /// Which role.
        role: Role,
        /// What is wrong.
        source: RoleOptionsError,
    },
}

impl FrameworkInfo {
    /// The capability of a framework that wants to be over once it is disconnected and its last task has ended, without
    /// waiting for its failover timeout.
    pub const ENDS_WHEN_IDLE: &str = "ends-when-idle";

    /// The capability of a framework that wants revocable offers too: what other tasks leave unused, to be taken back at any
    /// time.
    pub const REVOCABLE: &str = "revocable";

    /// The capability of a framework that can use `gpus`: agents that have them are kept for such frameworks as long as one
    /// of those wants offers.
    pub const GPUS: &str = "gpus";

    /// Whether it wants revocable offers too.
    pub fn is_revocable(&self) -> bool {
        self.capabilities.contains(FrameworkInfo::REVOCABLE)
    }

    /// Checks the limits of every field.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), FrameworkInfoError> {
        let name = &self.name;
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(FrameworkInfoError::Name(name.chars().take(64).collect()));
        }
        if self.roles.is_empty() || self.roles.len() > 64 {
            return Err(FrameworkInfoError::Roles(self.roles.len()));
        }
        let duplicate = self.roles.iter().enumerate().find(|(at, role)| self.roles[..*at].contains(role));
        if let Some((_, role)) = duplicate {
            return Err(FrameworkInfoError::DuplicateRole(role.clone()));
        }
        if self.failover_timeout > MAX_FAILOVER_TIMEOUT {
            return Err(FrameworkInfoError::FailoverTimeout(self.failover_timeout));
        }
        if self.labels.len() > 64 {
            return Err(FrameworkInfoError::Labels(self.labels.len()));
        }
        self.role_options.iter().try_for_each(|(role, options)| self.validate_options(role, options))
    }

    fn validate_options(&self, role: &Role, options: &RoleOptions) -> Result<(), FrameworkInfoError> {
        if !self.roles.contains(role) {
            return Err(FrameworkInfoError::Options(role.clone()));
        }
        options.validate().map_err(|source| FrameworkInfoError::RoleOptions { role: role.clone(), source })
    }

    /// Which offers it takes in `role`.
    pub fn options_of(&self, role: &Role) -> RoleOptions {
        self.role_options.get(role).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, roles: &[&str]) -> FrameworkInfo {
        FrameworkInfo {
            name: name.into(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            role_options: BTreeMap::new(),
            failover_timeout: Duration::ZERO,
            capabilities: Capabilities::new(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn registrations_outside_the_limits_are_refused() {
        assert_eq!(info("wc", &["eng"]).validate(), Ok(()));
        assert!(info("", &["eng"]).validate().is_err());
        assert!(info("a\u{1b}[2J", &["eng"]).validate().is_err());
        assert!(info("wc", &[]).validate().is_err());
        assert!(info("wc", &["a", "b", "a"]).validate().is_err());
        let late = FrameworkInfo { failover_timeout: MAX_FAILOVER_TIMEOUT * 2, ..info("wc", &["a"]) };
        assert!(late.validate().is_err());
        let elsewhere = [("b".parse().unwrap(), RoleOptions::default())].into();
        let error = FrameworkInfo { role_options: elsewhere, ..info("wc", &["a"]) }.validate().unwrap_err();
        assert!(error.to_string().contains("the role b"), "{error}");
    }
}
