//! What a runner has to report, kept until its agent has written it down.

use std::collections::{BTreeMap, VecDeque};

use holm_model::{RunnerReport, TaskStatus, WorkId};

use crate::outbox::pages;

/// Reports in order. Bounded by the tasks a runner holds: each enters at most three states.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// Not acknowledged; the last `unsent` of them have not been sent on this connection.
    kept: VecDeque<RunnerReport>,
    unsent: usize,
    last: u64,
}

impl Reports {
    pub(crate) fn kept(&self) -> impl Iterator<Item = &RunnerReport> {
        self.kept.iter()
    }

    /// Adds a report, or widens the last one if it has not been sent and says the same of the tasks before. Says whether
    /// there is one more.
    pub(crate) fn add(&mut self, work: WorkId, first: u32, count: u32, status: TaskStatus) -> bool {
        if self.unsent > 0
            && let Some(report) = self.kept.back_mut()
            && report.work == work
            && report.first + report.count == first
            && report.status == status
        {
            report.count += count;
            return false;
        }
        self.last += 1;
        self.unsent += 1;
        self.kept.push_back(RunnerReport { sequence: self.last, work, first, count, status });
        true
    }

    /// What is to be sent now, in messages of bounded size; nothing when nobody is connected.
    pub(crate) fn seal(&mut self, connected: bool) -> Vec<Vec<RunnerReport>> {
        if !connected {
            return Vec::new();
        }
        let from = self.kept.len() - self.unsent;
        self.unsent = 0;
        pages(self.kept.range(from..).cloned(), |report| 96 + report.status.message.len())
    }

    pub(crate) fn send_all_again(&mut self) {
        self.unsent = self.kept.len();
    }

    /// Drops what is acknowledged, of what has been sent; says how many reports of which work.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> BTreeMap<WorkId, u64> {
        let sent = self.kept.len() - self.unsent;
        let gone = self.kept.partition_point(|report| report.sequence <= sequence).min(sent);
        let mut counts = BTreeMap::new();
        for report in self.kept.drain(..gone) {
            *counts.entry(report.work).or_default() += 1;
        }
        counts
    }
}
