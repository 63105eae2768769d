//! How many tasks a slot gets at a time: few enough that others get their turn soon, enough that short tasks flow.

use std::time::Duration;

use holm_model::MAX_BATCH_TASKS;

/// How long a launch should take: about so long another role may have to wait for its share.
const TARGET: Duration = Duration::from_secs(2);
/// By how much launches grow at most from one to the next.
const GROWTH: u32 = 4;
/// Ends after which older ones count for half.
const MEMORY: u32 = 1024;

/// What the tasks that ended say about those to come.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tasks per slot of the largest launch that has ended, times what the next may be larger.
    proven: u32,
    tasks: u32,
    run: Duration,
}

impl Pace {
    /// Nothing is known: every slot gets one task.
    pub(super) fn new() -> Pace {
        Pace { proven: 1, tasks: 0, run: Duration::ZERO }
    }

    /// Some tasks ended; each ran for `run`.
    pub(super) fn ended(&mut self, tasks: u32, run: Duration) {
        self.tasks = self.tasks.saturating_add(tasks);
        self.run = self.run.saturating_add(run.saturating_mul(tasks));
        while self.tasks > MEMORY {
            self.tasks /= 2;
            self.run /= 2;
        }
    }

    /// A launch with so many tasks per slot has ended.
    pub(super) fn launch_ended(&mut self, per_slot: u32) {
        self.proven = per_slot.saturating_mul(GROWTH).min(MAX_BATCH_TASKS).max(self.proven);
    }

    /// How many tasks the next launch may have for each of its slots.
    pub(super) fn per_slot(&self) -> u32 {
        let goal = (TARGET.as_nanos() * u128::from(self.tasks)).checked_div(self.run.as_nanos());
        let goal = goal.and_then(|goal| u32::try_from(goal).ok()).unwrap_or(u32::MAX);
        self.proven.min(goal).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_come_in_ever_larger_launches_and_long_ones_one_by_one() {
        let mut pace = Pace::new();
        assert_eq!(pace.per_slot(), 1);
        let mut sizes = Vec::new();
        for _ in 0..8 {
            let size = pace.per_slot();
            sizes.push(size);
            pace.ended(size, Duration::from_millis(10));
            pace.launch_ended(size);
        }
        assert_eq!(sizes, [1, 4, 16, 64, 200, 200, 200, 200]);
        pace.ended(100_000, Duration::from_secs(60));
        assert_eq!(pace.per_slot(), 1, "what ended lately counts most");
    }

    #[test]
    fn a_launch_is_never_larger_than_allowed() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.ended(1, Duration::ZERO);
            pace.launch_ended(pace.per_slot());
        }
        assert_eq!(pace.per_slot(), MAX_BATCH_TASKS);
    }
}
