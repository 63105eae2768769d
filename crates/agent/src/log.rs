//! The status log of one framework: entries that it has not acknowledged yet, in order.

use std::collections::VecDeque;

use holm_model::{Update, WorkId};

/// One entry and the launch it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) work: WorkId,
    pub(crate) update: Update,
}

/// The unacknowledged part of one framework's status log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatusLog {
    acknowledged: u64,
    entries: VecDeque<Entry>,
    /// Tasks whose end is among the entries.
    ends: u64,
}

impl StatusLog {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn ends(&self) -> u64 {
        self.ends
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The highest sequence that is in the log or was acknowledged.
    pub(crate) fn last(&self) -> u64 {
        self.entries.back().map_or(self.acknowledged, |entry| entry.update.sequence)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The caller has checked that the sequence is above [`StatusLog::last`].
    pub(crate) fn push(&mut self, work: WorkId, update: Update) {
        self.ends += ends_of(&update);
        self.entries.push_back(Entry { work, update });
    }

    /// Drops what is acknowledged and returns it.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Vec<Entry> {
        self.acknowledged = self.acknowledged.max(sequence);
        let gone = self.entries.partition_point(|entry| entry.update.sequence <= sequence);
        let gone: Vec<Entry> = self.entries.drain(..gone).collect();
        self.ends -= gone.iter().map(|entry| ends_of(&entry.update)).sum::<u64>();
        gone
    }

    /// Drops the entries for which `keep` says no and returns them.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (kept, gone): (VecDeque<Entry>, Vec<Entry>) = {
            let mut gone = Vec::new();
            let mut kept = VecDeque::with_capacity(self.entries.len());
            for entry in self.entries.drain(..) {
                if keep(&entry) { kept.push_back(entry) } else { gone.push(entry) }
            }
            (kept, gone)
        };
        self.entries = kept;
        self.ends -= gone.iter().map(|entry| ends_of(&entry.update)).sum::<u64>();
        gone
    }
}

fn ends_of(update: &Update) -> u64 {
    if update.status.state.is_terminal() { update.count.into() } else { 0 }
}
