//! Strict priority by role, natively: what `sample-tasks/crates/strict-priority` is as a component. For the simulator, and to measure
//! the component against.

use std::collections::BTreeMap;
use std::sync::Arc;

use holm_model::{PolicyColumn, PolicyDescription, PolicyFailure, PolicyPatch, PolicyValues};

use super::Policy;

/// Serves a role only when no sibling of a higher priority wants anything.
#[derive(Clone, Debug, Default)]
pub struct StrictPriority {
    /// Priorities by role, the higher going first. A role without one has its parent's; at the top that is 0.
    pub priorities: BTreeMap<String, i32>,
}

impl StrictPriority {
    fn priority(&self, role: &str) -> i32 {
        let mut path = role;
        loop {
            if let Some(priority) = self.priorities.get(path) {
                return *priority;
            }
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => return 0,
            }
        }
    }
}

impl Policy for StrictPriority {
    fn describe(&self) -> PolicyDescription {
        PolicyDescription {
            name: "strict priority".to_owned(),
            reads: vec!["roles.path".to_owned()],
            writes: vec!["roles.rank".to_owned()],
        }
    }

    fn rank(&mut self, changes: &[PolicyPatch]) -> Result<Vec<PolicyPatch>, PolicyFailure> {
        let mut answer = Vec::new();
        let rank: Arc<str> = "rank".into();
        for patch in changes {
            for column in &patch.columns {
                let PolicyValues::Texts(paths) = &column.values else { continue };
                let ranks = paths.iter().map(|path| -f64::from(self.priority(path))).collect();
                answer.push(PolicyPatch {
                    table: patch.table.clone(),
                    removed: Vec::new(),
                    rows: patch.rows.clone(),
                    columns: vec![PolicyColumn { name: rank.clone(), values: PolicyValues::Numbers(ranks) }],
                });
            }
        }
        Ok(answer)
    }
}
