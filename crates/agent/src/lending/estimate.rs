//! How much of what owners hold can be lent: what they do not use now and have not used for a while, less a margin.
//!
//! Both resources go through the same steps. What is *idle* is what owners hold and do not use; of memory also no more than
//! the host has beyond what it still owes to those who have not asked yet. The *estimate* is the least that was idle during a
//! window, less the margin: it falls with the first sample in which owners use more, and rises only after they have used
//! less for a whole window. It is *told* when it has changed enough to matter.

use std::collections::VecDeque;
use std::time::Duration;

use holm_model::{ResourceName, Resources, Time};

/// The unit in which `cpus` are lent, in thousandths of a core.
const CPUS_UNIT: u64 = 50;
/// The unit in which `mem` is lent, in bytes.
const MEM_UNIT: u64 = 16 << 20;
/// An estimate that falls by this part of everything is told at once.
const FALL: u64 = 32;
/// One that rises by less than this part is not worth a message.
const RISE: u64 = 16;
/// Samples kept of a window. When there are more, neighbours share one, with the lower value.
const MAX_SAMPLES: usize = 256;

/// `cpus` in thousandths of a core and `mem` in bytes: all that is ever lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) cpus: u64,
    pub(crate) mem: u64,
}

impl Pair {
    pub(crate) fn of(resources: &Resources) -> Pair {
        Pair { cpus: resources.scalar(&ResourceName::Cpus).0, mem: resources.scalar(&ResourceName::Mem).0 }
    }

    pub(crate) fn to_resources(self) -> Resources {
        Resources::scalars([(ResourceName::Cpus, self.cpus), (ResourceName::Mem, self.mem)])
    }

    pub(crate) fn plus(self, other: Pair) -> Pair {
        Pair { cpus: self.cpus.saturating_add(other.cpus), mem: self.mem.saturating_add(other.mem) }
    }

    /// What is left; nothing where the other has more.
    pub(crate) fn less(self, other: Pair) -> Pair {
        Pair { cpus: self.cpus.saturating_sub(other.cpus), mem: self.mem.saturating_sub(other.mem) }
    }

    /// So many hundredths of it.
    pub(crate) fn hundredths(self, part: u8) -> Pair {
        let of = |whole: u64| whole / 100 * u64::from(part) + whole % 100 * u64::from(part) / 100;
        Pair { cpus: of(self.cpus), mem: of(self.mem) }
    }

    fn rounded(self) -> Pair {
        Pair { cpus: self.cpus / CPUS_UNIT * CPUS_UNIT, mem: self.mem / MEM_UNIT * MEM_UNIT }
    }
}

/// What was seen at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Everything the agent has.
    pub(crate) total: Pair,
    /// What owners hold of it.
    pub(crate) held: Pair,
    /// What they use.
    pub(crate) used: Pair,
    /// What borrowers use.
    pub(crate) borrowed: Pair,
    /// Memory that the host could still give, in bytes.
    pub(crate) available: u64,
}

impl Sight {
    /// What owners hold and do not use. Memory that nobody holds may be launched on at any time, so the host has to have it
    /// besides what is lent.
    pub(crate) fn idle(&self) -> Pair {
        let idle = self.held.less(self.used);
        let owed = self.total.less(self.held).mem;
        let room = self.available.saturating_add(self.borrowed.mem).saturating_sub(owed);
        Pair { mem: idle.mem.min(room), ..idle }
    }
}

/// The least of a value during a window.
#[derive(Debug, Default)]
struct Trough {
    /// Rising values: each is the least since its time.
    samples: VecDeque<(Time, u64)>,
}

impl Trough {
    fn see(&mut self, now: Time, value: u64, window: Duration) -> u64 {
        if self.samples.is_empty() {
            // Nothing is known of the time before the first sample.
            self.samples.push_back((now, 0));
        }
        while self.samples.back().is_some_and(|(_, last)| *last >= value) {
            self.samples.pop_back();
        }
        let full = self.samples.len() >= MAX_SAMPLES;
        match self.samples.back_mut() {
            Some(last) if full => last.0 = now,
            _ => self.samples.push_back((now, value)),
        }
        while self.samples.len() > 1 && self.samples.front().is_some_and(|(at, _)| now.since(*at) >= window) {
            self.samples.pop_front();
        }
        self.samples.front().map_or(0, |(_, least)| *least)
    }
}

/// What can be lent, and what the master knows of it.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    cpus: Trough,
    mem: Trough,
    /// The estimate of the last sample.
    now: Pair,
    /// What was told last, on whatever stream; launches are measured against it.
    told: Pair,
}

impl Estimator {
    /// Takes a sample of what is idle. While nothing is to be `lent`, the estimate is nothing.
    pub(crate) fn see(&mut self, now: Time, idle: Pair, margin: Pair, window: Duration, lent: bool) -> Pair {
        let least = Pair { cpus: self.cpus.see(now, idle.cpus, window), mem: self.mem.see(now, idle.mem, window) };
        self.now = if lent { least.less(margin).rounded() } else { Pair::default() };
        self.now
    }

    /// What was told last.
    pub(crate) fn told(&self) -> Pair {
        self.told
    }

    /// What is to be told, if the estimate has changed enough since it was.
    pub(crate) fn news(&mut self, total: Pair) -> Option<Pair> {
        let matters = |now: u64, told: u64, total: u64| {
            let falls = now < told && (now == 0 || told - now >= total / FALL);
            falls || (now > told && now - told >= total / RISE)
        };
        let Estimator { now, told, .. } = *self;
        let is_news = matters(now.cpus, told.cpus, total.cpus) || matters(now.mem, told.mem, total.mem);
        is_news.then(|| {
            self.told = self.now;
            self.now
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const WINDOW: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn pair(cpus: u64, gib: u64) -> Pair {
        Pair { cpus, mem: gib * GIB }
    }

    #[test]
    fn idle_is_what_owners_hold_and_do_not_use() {
        let sight = Sight {
            total: pair(8_000, 32),
            held: pair(6_000, 20),
            used: pair(1_500, 5),
            borrowed: pair(400, 1),
            available: 26 * GIB,
        };
        assert_eq!(sight.idle(), pair(4_500, 15));
        // Those who hold less than they use leave nothing.
        assert_eq!(Sight { used: pair(9_000, 21), ..sight }.idle(), pair(0, 0));
        // 12 GiB are not allocated and may be at any time; of the 14 GiB that the host can give, 3 are left to lend.
        assert_eq!(Sight { available: 14 * GIB, ..sight }.idle(), pair(4_500, 3));
        assert_eq!(Sight { available: 0, ..sight }.idle(), pair(4_500, 0));
    }

    #[test]
    fn the_estimate_falls_at_once_and_rises_after_a_window() {
        let mut estimator = Estimator::default();
        let margin = pair(400, 1);
        let mut see = |second, cpus, gib| estimator.see(at(second), pair(cpus, gib), margin, WINDOW, true);
        assert_eq!(see(0, 4_000, 8), pair(0, 0), "nothing is known of the time before");
        assert_eq!(see(29, 4_000, 8), pair(0, 0));
        assert_eq!(see(30, 4_000, 8), pair(3_600, 7));
        assert_eq!(see(31, 1_000, 8), pair(600, 7), "a burst of the owners counts at once");
        assert_eq!(see(32, 4_000, 8), pair(600, 7));
        assert_eq!(see(60, 4_000, 9), pair(600, 7), "and is remembered for the window");
        assert_eq!(see(61, 4_000, 9), pair(3_600, 7));
        assert_eq!(see(62, 300, 0), pair(0, 0), "what is below the margin is not lent");
    }

    #[test]
    fn a_window_of_many_samples_forgets_no_low() {
        let mut estimator = Estimator::default();
        let window = Duration::from_secs(3_000);
        // Rising values are the worst case for what has to be remembered.
        let mut last = Pair::default();
        for second in 0..5_000 {
            last = estimator.see(at(second), pair(second * 50, 0), Pair::default(), window, true);
            assert!(estimator.cpus.samples.len() <= MAX_SAMPLES);
            let least = second.saturating_sub(3_000) * 50;
            assert!(last.cpus <= least + 50, "{second}: {} is more than the least of the window, {least}", last.cpus);
        }
        assert!(last.cpus > 0);
    }

    #[test]
    fn small_changes_are_not_worth_a_message_but_the_end_is() {
        let mut estimator = Estimator::default();
        let total = pair(8_000, 32);
        let mut tell = |cpus: u64, gib| {
            estimator.now = pair(cpus, gib);
            estimator.news(total)
        };
        assert_eq!(tell(450, 1), None);
        assert_eq!(tell(500, 1), Some(pair(500, 1)));
        assert_eq!(tell(950, 2), None, "a small rise");
        assert_eq!(tell(950, 3), Some(pair(950, 3)));
        assert_eq!(tell(750, 3), None, "a small fall");
        assert_eq!(tell(700, 3), Some(pair(700, 3)));
        assert_eq!(tell(0, 3), Some(pair(0, 3)), "nothing at all is always told");
        assert_eq!(tell(0, 3), None);
    }
}
