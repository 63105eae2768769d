//! What each task of a run used: short tasks end by the hundred in the same way, and differ in this alone.

use std::ops::Range;
use std::sync::Arc;

use crate::{TaskStatus, Usage};

/// What neighbouring tasks of one status used, one entry for each; empty when the status says it for all of them. Clones
/// share the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usages(Arc<[Usage]>);

impl Usages {
    /// One entry per task, in the order of positions. Those that are all the same belong into the status: see
    /// [`Usages::fold`].
    pub fn new(usages: impl Into<Arc<[Usage]>>) -> Usages {
        Usages(usages.into())
    }

    /// Whether every task used what the status says.
    pub fn are_shared(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are: none, or one for each task.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry; the same as [`Usages::are_shared`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the task at `offset` in the run used.
    pub fn of(&self, offset: usize, status: &TaskStatus) -> Usage {
        self.0.get(offset).copied().unwrap_or(status.usage)
    }

    /// The entries; empty when the status says it for all.
    pub fn entries(&self) -> &[Usage] {
        &self.0
    }

    /// The entries of a part of the run, by offset.
    pub fn part(&self, range: Range<usize>) -> Usages {
        if range == (0..self.0.len()) {
            return self.clone();
        }
        Usages(self.0.get(range).map(Arc::from).unwrap_or_default())
    }

    /// Brings what every task used into its one form: what is the same for all goes into the status, and the status of
    /// what is not names no usage.
    pub fn fold(status: &mut TaskStatus, usages: &[Usage]) -> Usages {
        let first = usages.first().copied().unwrap_or(status.usage);
        if usages.iter().all(|usage| *usage == first) {
            status.usage = first;
            return Usages::default();
        }
        status.usage = Usage::default();
        Usages(usages.into())
    }

    /// The sum over `count` tasks; of memory and disk the highest.
    pub fn total(&self, status: &TaskStatus, count: u32) -> Usage {
        let add = |sum: Usage, usage: &Usage| Usage {
            cpu: sum.cpu.saturating_add(usage.cpu),
            fuel: sum.fuel.saturating_add(usage.fuel),
            peak_memory: sum.peak_memory.max(usage.peak_memory),
            queued: sum.queued.saturating_add(usage.queued),
            run: sum.run.saturating_add(usage.run),
            output_bytes: sum.output_bytes.saturating_add(usage.output_bytes),
            network_refusals: sum.network_refusals.saturating_add(usage.network_refusals),
            requests: sum.requests.saturating_add(usage.requests),
            failed_requests: sum.failed_requests.saturating_add(usage.failed_requests),
            peak_disk: sum.peak_disk.max(usage.peak_disk),
        };
        if !self.are_shared() {
            return self.0.iter().fold(Usage::default(), add);
        }
        let each = status.usage;
        let times = |number: u64| number.saturating_mul(count.into());
        Usage {
            cpu: each.cpu.saturating_mul(count),
            fuel: times(each.fuel),
            peak_memory: each.peak_memory,
            queued: each.queued.saturating_mul(count),
            run: each.run.saturating_mul(count),
            output_bytes: times(each.output_bytes),
            network_refusals: times(each.network_refusals),
            requests: times(each.requests),
            failed_requests: times(each.failed_requests),
            peak_disk: each.peak_disk,
        }
    }
}

impl TaskStatus {
    /// Whether both say the same, whatever the tasks used.
    pub fn is_alike(&self, other: &TaskStatus) -> bool {
        let head = |status: &TaskStatus| (status.state, status.reason, status.exit_code, status.attempt);
        head(self) == head(other) && (Arc::ptr_eq(&self.message, &other.message) || self.message == other.message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::TaskState;

    fn used(fuel: u64) -> Usage {
        Usage { fuel, peak_memory: 10 - fuel, cpu: Duration::from_micros(fuel), ..Usage::default() }
    }

    #[test]
    fn what_is_the_same_for_all_is_said_once() {
        let mut status = TaskStatus::of(TaskState::Finished);
        let usages = Usages::fold(&mut status, &[used(3); 4]);
        assert!(usages.are_shared());
        assert_eq!((status.usage, usages.of(2, &status)), (used(3), used(3)));
        assert_eq!(usages.total(&status, 4).fuel, 12);
        let usages = Usages::fold(&mut status, &[used(1), used(2), used(4)]);
        assert_eq!((usages.len(), status.usage), (3, Usage::default()));
        let total = usages.total(&status, 3);
        assert_eq!((total.fuel, total.peak_memory, total.cpu), (7, 9, Duration::from_micros(7)));
    }

    #[test]
    fn a_part_of_a_run_keeps_its_own_entries() {
        let mut status = TaskStatus::of(TaskState::Finished);
        let usages = Usages::fold(&mut status, &[used(1), used(2), used(4)]);
        assert_eq!(usages.part(1..3).entries(), [used(2), used(4)]);
        assert_eq!(usages.part(0..3), usages);
        assert!(Usages::default().part(0..2).are_shared());
    }
}
