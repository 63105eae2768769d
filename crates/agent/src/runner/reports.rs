//! What a runner has to report, kept until its agent has written it down.
//!
//! What happens while messages are under way waits and shares the next one, so that many short tasks make few and long
//! messages, and a single task's end leaves at once. Nothing waits for a clock.

use std::collections::{BTreeMap, VecDeque};

use holm_model::{RunnerReport, TaskStatus, Usage, Usages, WorkId};

use crate::outbox::{USAGE_BYTES, pages};

/// Reports in order. Bounded by the tasks a runner holds: each enters at most three states.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    /// Numbered and not acknowledged; the last `unsent` of them have not been sent on this connection.
    kept: VecDeque<RunnerReport>,
    unsent: usize,
    /// What happened since the last message was made, not numbered yet.
    fresh: Vec<Fresh>,
    last: u64,
    /// The last report of each message that was sent on this connection and is not acknowledged.
    under_way: VecDeque<u64>,
    /// How many messages may be.
    window: usize,
}

#[derive(Clone, Debug)]
struct Fresh {
    work: WorkId,
    first: u32,
    count: u32,
    status: TaskStatus,
}

impl Fresh {
    fn is_end(&self) -> bool {
        self.status.state.is_terminal()
    }
}

impl Reports {
    /// Nothing to report; at most `window` messages will be under way.
    pub(crate) fn new(window: usize) -> Reports {
        let (kept, fresh, under_way) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Reports { kept, unsent: 0, fresh, last: 0, under_way, window: window.max(1) }
    }

    /// How many tasks of which work are reported on, once for each state that they entered; for the invariants.
    pub(crate) fn counts(&self) -> BTreeMap<WorkId, u64> {
        let kept = self.kept.iter().map(|report| (report.work, report.count));
        let fresh = self.fresh.iter().map(|report| (report.work, report.count));
        let mut counts = BTreeMap::new();
        for (work, count) in kept.chain(fresh) {
            *counts.entry(work).or_default() += u64::from(count);
        }
        counts
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = &RunnerReport> {
        self.kept.iter()
    }

    /// Adds that tasks entered a status.
    pub(crate) fn add(&mut self, work: WorkId, first: u32, count: u32, status: TaskStatus) {
        self.fresh.push(Fresh { work, first, count, status });
    }

    /// Whether there is something to send now: something to say, and not too much under way.
    pub(crate) fn has_unsent(&self) -> bool {
        self.under_way.len() < self.window && (self.unsent > 0 || !self.fresh.is_empty())
    }

    /// Whether what has been closed did not all go out: enough was under way.
    pub(crate) fn is_behind(&self) -> bool {
        self.unsent > 0
    }

    /// What is to be sent now, in messages of bounded size; nothing when nobody is connected, or enough is under way.
    pub(crate) fn seal(&mut self, connected: bool) -> Vec<Vec<RunnerReport>> {
        if !connected || !self.has_unsent() {
            return Vec::new();
        }
        self.number_fresh();
        let from = self.kept.len() - self.unsent;
        let bytes_of = |report: &RunnerReport| 96 + report.status.message.len() + USAGE_BYTES * report.usages.len();
        let mut messages = pages(self.kept.range(from..).cloned(), bytes_of);
        messages.truncate(self.window.saturating_sub(self.under_way.len()));
        for message in &messages {
            self.unsent -= message.len();
            self.under_way.extend(message.last().map(|report| report.sequence));
        }
        messages
    }

    /// Joins what happened to neighbours in the same way, and numbers it. A task's end comes after all else about it, and
    /// comes once: among ends that follow each other the order means nothing, and that of positions joins most.
    fn number_fresh(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for ends in fresh.chunk_by_mut(|before, after| before.is_end() && after.is_end()) {
            ends.sort_by_key(|end| (end.work, end.first));
        }
        let joins = |run: &Fresh, next: &Fresh| {
            run.work == next.work && run.first + run.count == next.first && run.status.is_alike(&next.status)
        };
        let mut fresh = fresh.into_iter().peekable();
        let mut usages: Vec<Usage> = Vec::new();
        while let Some(mut run) = fresh.next() {
            usages.clear();
            usages.extend(std::iter::repeat_n(run.status.usage, run.count as usize));
            while let Some(next) = fresh.next_if(|next| joins(&run, next)) {
                usages.extend(std::iter::repeat_n(next.status.usage, next.count as usize));
                run.count += next.count;
            }
            let Fresh { work, first, count, mut status } = run;
            let usages = Usages::fold(&mut status, &usages);
            self.last += 1;
            self.unsent += 1;
            self.kept.push_back(RunnerReport { sequence: self.last, work, first, count, status, usages });
        }
    }

    /// A new connection: nothing is under way on it.
    pub(crate) fn send_all_again(&mut self) {
        self.unsent = self.kept.len();
        self.under_way.clear();
    }

    /// Drops what is acknowledged, of what has been sent; says how many tasks of which work were reported on in it.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> BTreeMap<WorkId, u64> {
        let sent = self.kept.len() - self.unsent;
        let gone = self.kept.partition_point(|report| report.sequence <= sequence).min(sent);
        let mut counts = BTreeMap::new();
        for report in self.kept.drain(..gone) {
            *counts.entry(report.work).or_default() += u64::from(report.count);
        }
        let arrived = self.under_way.partition_point(|last| *last <= sequence);
        self.under_way.drain(..arrived);
        counts
    }
}
