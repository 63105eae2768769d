//! How the tasks of an array are dealt out over offers.

use std::collections::VecDeque;
use std::ops::Range;

use holm_model::MAX_BATCH_TASKS;

/// Array indices that are not launched, as ranges.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ranges: VecDeque<Range<u32>>,
    count: u32,
}

/// Neighbouring tasks for one launch, and how many of them at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) slots: u32,
}

impl Pending {
    pub(super) fn new(count: u32) -> Pending {
        Pending { ranges: std::iter::once(0..count).collect(), count }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Tasks that are to be launched after all.
    pub(super) fn give_back(&mut self, indices: Range<u32>) {
        self.count += indices.end - indices.start;
        self.ranges.push_front(indices);
    }

    /// Forgets everything; how many tasks that were.
    pub(super) fn clear(&mut self) -> u32 {
        self.ranges.clear();
        std::mem::take(&mut self.count)
    }

    /// Takes tasks for an offer with room for `slots` of them at a time, on a cluster with room for `capacity`.
    ///
    /// An offer that is the whole cluster's room gets everything. Otherwise it gets half of its proportional share: dealt out in
    /// ever smaller pieces, the work ends on all agents at about the same time, however different they are. It never gets more
    /// than `per_slot` tasks for a slot. Without that limit it gets its whole share at once, since nobody will be there to deal
    /// out the rest.
    pub(super) fn take(&mut self, slots: u32, capacity: u32, per_slot: Option<u32>) -> Vec<Share> {
        let slots = slots.min(self.count);
        if slots == 0 {
            return Vec::new();
        }
        let capacity = capacity.max(slots);
        let proportional = (u64::from(self.count) * u64::from(slots)).div_ceil(u64::from(capacity));
        let wanted = if per_slot.is_none() || slots == capacity { proportional } else { proportional.div_ceil(2) };
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let wanted = wanted.min(per_slot.unwrap_or(u32::MAX).saturating_mul(slots)).clamp(slots, self.count);
        // More than a launch may have are several launches, which then share the slots.
        let launches = wanted.div_ceil(MAX_BATCH_TASKS).min(slots);
        let mut shares = Vec::new();
        for launch in 0..launches {
            let own_slots = slots / launches + u32::from(launch < slots % launches);
            let own = (wanted / launches + u32::from(launch < wanted % launches)).min(MAX_BATCH_TASKS);
            shares.extend(self.take_pieces(own, own_slots));
        }
        shares
    }

    /// `count` tasks as few pieces; every piece has at least one slot, and all together have `slots` where there are enough.
    fn take_pieces(&mut self, count: u32, slots: u32) -> Vec<Share> {
        let (mut left, mut slots_left) = (count, slots);
        let mut shares = Vec::new();
        while left > 0 && slots_left > 0 {
            let Some(range) = self.ranges.pop_front() else { break };
            let own = (range.end - range.start).min(left);
            if range.start + own < range.end {
                self.ranges.push_front(range.start + own..range.end);
            }
            let is_last = own == left || self.ranges.is_empty();
            let own_slots = if is_last { slots_left.min(own) } else { 1 };
            shares.push(Share { first: range.start, count: own, slots: own_slots });
            self.count -= own;
            left -= own;
            slots_left -= own_slots;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(shares: &[Share]) -> (u32, u32) {
        (shares.iter().map(|share| share.count).sum(), shares.iter().map(|share| share.slots).sum())
    }

    #[test]
    fn an_offer_of_all_there_is_gets_everything() {
        let mut pending = Pending::new(100);
        assert_eq!(pending.take(4, 4, Some(u32::MAX)), [Share { first: 0, count: 100, slots: 4 }]);
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn a_small_offer_gets_half_its_share_and_leaves_the_rest_for_others() {
        let mut pending = Pending::new(1000);
        assert_eq!(pending.take(2, 10, Some(u32::MAX)), [Share { first: 0, count: 100, slots: 2 }]);
        assert_eq!(pending.take(8, 10, None), [Share { first: 100, count: 720, slots: 8 }]);
        assert_eq!(pending.count(), 180);
    }

    #[test]
    fn no_slot_gets_more_than_it_may() {
        let mut pending = Pending::new(1000);
        assert_eq!(pending.take(2, 2, Some(1)), [Share { first: 0, count: 2, slots: 2 }]);
        assert_eq!(pending.take(2, 10, Some(4)), [Share { first: 2, count: 8, slots: 2 }]);
        assert_eq!(pending.take(10, 10, Some(1000)).iter().map(|share| share.count).sum::<u32>(), 990);
    }

    #[test]
    fn no_launch_is_larger_than_allowed_and_all_slots_are_used() {
        let mut pending = Pending::new(10_000);
        let shares = pending.take(2, 2, Some(u32::MAX));
        assert_eq!(total(&shares), (8192, 2));
        assert!(shares.iter().all(|share| share.count <= MAX_BATCH_TASKS && share.slots >= 1));
        assert_eq!(pending.take(1, 2, None).len(), 1);
    }

    #[test]
    fn every_task_is_dealt_exactly_once_whatever_the_offers() {
        for count in [1, 2, 7, 4096, 4097, 100_000] {
            for slots in [1, 3, 50] {
                let mut pending = Pending::new(count);
                let mut seen = vec![false; count as usize];
                while pending.count() > 0 {
                    let shares = pending.take(slots, 60, Some(u32::MAX));
                    assert!(!shares.is_empty());
                    for share in shares {
                        assert!(share.slots >= 1 && share.slots <= share.count, "{share:?}");
                        for index in share.first..share.first + share.count {
                            assert!(!std::mem::replace(&mut seen[index as usize], true));
                        }
                    }
                }
                assert!(seen.iter().all(|seen| *seen));
            }
        }
    }

    #[test]
    fn what_came_back_is_dealt_again() {
        let mut pending = Pending::new(4);
        pending.take(4, 4, Some(u32::MAX));
        pending.give_back(3..4);
        pending.give_back(0..1);
        let shares = pending.take(2, 2, Some(u32::MAX));
        assert_eq!(total(&shares), (2, 2));
        assert_eq!(pending.clear(), 0);
    }
}
