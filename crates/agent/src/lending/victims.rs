//! Who goes first when borrowers have to: first those who lose nothing because none of their tasks has started, then the
//! youngest; and of a launch the tasks that have not started before any that has, and of those the last ones first.

use holm_model::{ResourceName, RunnerId, TaskState, WorkId};

use crate::agent::Agent;
use crate::work::Work;

/// A launch on revocable resources, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Borrower {
    pub(crate) work: WorkId,
    /// Slots that it holds.
    pub(crate) slots: u32,
    /// Positions of tasks that have not started.
    pub(crate) unstarted: Vec<u32>,
    /// Positions of tasks that run, in the order in which they started.
    pub(crate) running: Vec<u32>,
    /// What is free once a running task has ended.
    pub(crate) each: u64,
    /// What is free once a slot on which nothing runs is given up.
    pub(crate) unused: u64,
}

/// Tasks of one launch that are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) work: WorkId,
    /// Sorted.
    pub(crate) positions: Vec<u32>,
}

/// The least that has to end for `need` to be free, or everything. A launch keeps all of its unstarted tasks or none: an
/// agent that is short has nothing to start them with, and while one is left its slots are taken again.
pub(crate) fn choose(mut borrowers: Vec<Borrower>, need: u64) -> Vec<Victim> {
    borrowers.sort_by_key(|borrower| (!borrower.running.is_empty(), std::cmp::Reverse(borrower.work)));
    let mut victims = Vec::new();
    let mut freed = 0_u64;
    for borrower in borrowers {
        if freed >= need {
            break;
        }
        let Borrower { work, slots, unstarted, running, each, unused } = borrower;
        let idle = u64::from(slots).saturating_sub(running.len() as u64);
        freed = freed.saturating_add(idle.saturating_mul(unused));
        let mut positions = unstarted;
        for position in running.into_iter().rev() {
            if freed >= need {
                break;
            }
            positions.push(position);
            freed = freed.saturating_add(each);
        }
        positions.sort_unstable();
        victims.extend((!positions.is_empty()).then_some(Victim { work, positions }));
    }
    victims
}

impl Agent {
    /// What of `name` borrowers have: what each of their tasks uses, as far as its runner's use says, and what it holds.
    /// `used` are the bytes or thousandths that a runner uses; none counts what is held.
    pub(crate) fn borrowers(&self, name: &ResourceName, used: Option<&dyn Fn(RunnerId) -> u64>) -> Vec<Borrower> {
        let borrowed = self.durable.works.iter().filter(|(_, work)| work.launch.spec.revocable && work.live > 0);
        let borrower = |(id, work): (&WorkId, &Work)| {
            let held = work.launch.spec.resources.scalar(name).0;
            let (each, unused) = match used {
                None => (held, held),
                Some(used) => (work.runner().map_or(0, |runner| self.part_of_use(runner, name, held, used(runner))), 0),
            };
            let positions = |state| work.runs_where(work.clip(0, u32::MAX), |other| other == state);
            let flat = |runs: Vec<(u32, u32)>| runs.into_iter().flat_map(|(first, count)| first..first + count);
            Borrower {
                work: *id,
                slots: work.slots(),
                unstarted: flat(positions(TaskState::Staging)).collect(),
                running: flat(positions(TaskState::Running)).collect(),
                each,
                unused,
            }
        };
        borrowed
            .map(borrower)
            .filter(|borrower| !(borrower.unstarted.is_empty() && borrower.running.is_empty()))
            .collect()
    }

    /// The part that a task holding `held` has in what its runner uses. No measurement says how tasks share a runner's
    /// memory; what each holds is the bound that it was launched with.
    pub(crate) fn part_of_use(&self, runner: RunnerId, name: &ResourceName, held: u64, used: u64) -> u64 {
        let declared = self.declared_on(runner, name);
        if declared == 0 {
            return held;
        }
        u64::try_from(u128::from(held) * u128::from(used.min(declared)) / u128::from(declared)).unwrap_or(held)
    }

    /// What the tasks on a runner hold together.
    pub(crate) fn declared_on(&self, runner: RunnerId, name: &ResourceName) -> u64 {
        let Some(slot) = self.slots.get(&runner) else { return 0 };
        let held = slot.load.works().filter_map(|(id, slots)| {
            let shape = &self.durable.works.get(id)?.launch.spec.resources;
            Some(shape.scalar(name).0.saturating_mul(u64::from(slots)))
        });
        held.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn borrower(work: u64, slots: u32, unstarted: &[u32], running: &[u32]) -> Borrower {
        let (unstarted, running) = (unstarted.to_vec(), running.to_vec());
        Borrower { work: WorkId(work), slots, unstarted, running, each: 10, unused: 4 }
    }

    fn chosen(borrowers: Vec<Borrower>, need: u64) -> Vec<(u64, Vec<u32>)> {
        choose(borrowers, need).into_iter().map(|victim| (victim.work.0, victim.positions)).collect()
    }

    #[test]
    fn the_youngest_goes_first_and_no_more_than_needed() {
        let all = || vec![borrower(1, 1, &[], &[0]), borrower(2, 1, &[], &[0]), borrower(3, 1, &[], &[0])];
        assert_eq!(chosen(all(), 0), []);
        assert_eq!(chosen(all(), 10), [(3, vec![0])]);
        assert_eq!(chosen(all(), 11), [(3, vec![0]), (2, vec![0])]);
        assert_eq!(chosen(all(), u64::MAX).len(), 3);
    }

    #[test]
    fn who_has_not_started_goes_before_who_has() {
        let all = || vec![borrower(1, 2, &[0, 1], &[]), borrower(2, 1, &[], &[0])];
        assert_eq!(chosen(all(), 8), [(1, vec![0, 1])]);
        assert_eq!(chosen(all(), 9), [(1, vec![0, 1]), (2, vec![0])]);
    }

    #[test]
    fn a_batch_loses_its_tail_first_and_then_the_tasks_that_started_last() {
        let batch = || vec![borrower(7, 3, &[5, 6, 7, 8], &[2, 3, 4])];
        assert_eq!(chosen(batch(), 1), [(7, vec![4, 5, 6, 7, 8])]);
        assert_eq!(chosen(batch(), 20), [(7, vec![3, 4, 5, 6, 7, 8])]);
    }

    proptest! {
        #[test]
        fn nobody_older_goes_while_somebody_younger_stays(
            sizes in prop::collection::vec((0_u32..4, 0_u32..4, 0_u64..50), 1..12),
            need in 0_u64..400,
        ) {
            let all: Vec<Borrower> = (0..).zip(&sizes).map(|(work, (running, unstarted, each))| Borrower {
                work: WorkId(work),
                slots: running + u32::from(*unstarted > 0),
                running: (0..*running).collect(),
                unstarted: (*running..running + unstarted).collect(),
                each: *each,
                unused: 0,
            }).collect();
            let victims = choose(all.clone(), need);
            let gone = |work: WorkId| victims.iter().find(|victim| victim.work == work);
            let freed: u64 = victims.iter().map(|victim| {
                let of = &all[usize::try_from(victim.work.0).unwrap()];
                of.each * victim.positions.iter().filter(|position| of.running.contains(position)).count() as u64
            }).sum();
            let everything: u64 = all.iter().map(|of| of.each * of.running.len() as u64).sum();
            prop_assert!(freed >= need.min(everything));
            for pair in all.windows(2) {
                let (older, younger) = (&pair[0], &pair[1]);
                let older_loses_work = gone(older.work).is_some_and(|victim| {
                    victim.positions.iter().any(|position| older.running.contains(position))
                });
                if older_loses_work {
                    let all_of_younger = younger.running.len() + younger.unstarted.len();
                    prop_assert_eq!(gone(younger.work).map_or(0, |victim| victim.positions.len()), all_of_younger);
                }
            }
            for victim in &victims {
                let of = &all[usize::try_from(victim.work.0).unwrap()];
                prop_assert!(of.unstarted.iter().all(|position| victim.positions.contains(position)));
            }
        }
    }
}
