//! How fast things may be taken: so many a minute, saved up for a minute at most.

use std::time::Duration;

use holm_model::Time;

/// What a rate allows at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    per_minute: u32,
    /// Thousandths of a unit that may be used at `at`.
    level: u64,
    at: Time,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Meter {
    /// A rate that has not been used yet.
    pub fn new(per_minute: u32, now: Time) -> Meter {
        Meter { per_minute, level: u64::from(per_minute) * 1000, at: now }
    }

    fn level(&self, now: Time) -> u64 {
        let full = u64::from(self.per_minute) * 1000;
        let elapsed = now.since(self.at).min(MINUTE).as_millis();
        let gained = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(u64::from(self.per_minute)) / 60;
        self.level.saturating_add(gained).min(full)
    }

    /// How much may be used now.
    pub fn left(&self, now: Time) -> u32 {
        u32::try_from(self.level(now) / 1000).unwrap_or(u32::MAX)
    }

    /// Uses some.
    pub fn spend(&mut self, units: u32, now: Time) {
        self.level = self.level(now).saturating_sub(u64::from(units) * 1000);
        self.at = self.at.max(now);
    }

    /// When at least one may be used; none if never.
    pub fn next(&self, now: Time) -> Option<Time> {
        if self.per_minute == 0 {
            return None;
        }
        let short = 1000_u64.saturating_sub(self.level(now));
        let millis = short.saturating_mul(60).div_ceil(u64::from(self.per_minute));
        Some(now + Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_used_up_and_comes_back() {
        let start = Time::ZERO;
        let mut meter = Meter::new(6, start);
        assert_eq!(meter.left(start), 6);
        meter.spend(6, start);
        assert_eq!(meter.left(start), 0);
        assert_eq!(meter.next(start), Some(start + Duration::from_secs(10)));
        assert_eq!(meter.left(start + Duration::from_secs(10)), 1);
        assert_eq!(meter.left(start + Duration::from_secs(3600)), 6);
        assert_eq!(Meter::new(0, start).next(start), None);
    }
}
