//! What changed lately, by name: enough for a watcher to fetch the present state of what it has not seen.

use std::collections::VecDeque;

use holm_model::{AgentId, FrameworkId, OfferId};

/// How many changes a watcher may be behind before it is cut off.
pub(crate) const REMEMBERED: usize = 65_536;

/// Something that changed or went; what it is now is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Agent(AgentId),
    Framework(FrameworkId),
    Offer(OfferId),
    Roles,
    /// Tasks of the launch with this serial number.
    Tasks {
        serial: u64,
        first: u32,
        count: u32,
    },
}

/// The latest changes, numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    latest: u64,
    recent: VecDeque<Change>,
}

/// The watcher is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind;

impl Changes {
    pub(crate) fn push(&mut self, change: Change) {
        self.latest += 1;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(change);
    }

    pub(crate) fn latest(&self) -> u64 {
        self.latest
    }

    /// At most `limit` changes after number `seen`, each once, and the number of the last one considered.
    pub(crate) fn after(&self, seen: u64, limit: usize) -> Result<(Vec<Change>, u64), Behind> {
        let missed = usize::try_from(self.latest.checked_sub(seen).ok_or(Behind)?).map_err(|_| Behind)?;
        let from = self.recent.len().checked_sub(missed).ok_or(Behind)?;
        let taken = missed.min(limit);
        let mut changes: Vec<Change> = self.recent.range(from..from + taken).copied().collect();
        changes.sort_unstable();
        changes.dedup();
        Ok((changes, seen + taken as u64))
    }
}

#[cfg(test)]
mod tests {
    use holm_model::Epoch;

    use super::*;

    #[test]
    fn a_watcher_sees_each_change_once_and_falls_off_the_end() {
        let mut changes = Changes::default();
        let agent = |n| Change::Agent(AgentId::new(Epoch(1), n));
        for n in [1, 2, 1] {
            changes.push(agent(n));
        }
        assert_eq!(changes.after(0, 10), Ok((vec![agent(1), agent(2)], 3)));
        assert_eq!(changes.after(0, 1), Ok((vec![agent(1)], 1)));
        assert_eq!(changes.after(3, 10), Ok((vec![], 3)));
        assert_eq!(changes.after(4, 10), Err(Behind), "a number from the future");
        for _ in 0..REMEMBERED {
            changes.push(Change::Roles);
        }
        assert_eq!(changes.after(2, 10), Err(Behind));
        assert!(changes.after(3, 10).is_ok());
    }
}
