//! A scheduler's timers.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Most timers that a scheduler may have set at a time.
pub const MAX_TIMERS: usize = 1024;

/// Timers by token.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeMap<u64, Instant>,
}

impl Timers {
    /// Sets or replaces a timer. Whether there was room for it.
    pub(super) fn set(&mut self, token: u64, at: Instant) -> bool {
        if self.set.len() >= MAX_TIMERS && !self.set.contains_key(&token) {
            return false;
        }
        self.set.insert(token, at);
        true
    }

    /// When the first one runs out.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.values().min().copied()
    }

    /// The tokens of those that have run out, which are no longer set.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<u64> {
        let mut due: Vec<(Instant, u64)> =
            self.set.iter().filter(|(_, at)| **at <= now).map(|(token, at)| (*at, *token)).collect();
        due.sort_unstable();
        self.set.retain(|_, at| *at > now);
        due.into_iter().map(|(_, token)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_run_out_in_order_and_can_be_replaced() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(1, start + Duration::from_secs(3));
        timers.set(2, start + Duration::from_secs(2));
        timers.set(1, start + Duration::from_secs(1));
        assert_eq!(timers.next(), Some(start + Duration::from_secs(1)));
        assert_eq!(timers.take_due(start + Duration::from_secs(2)), [1, 2]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn timers_are_bounded() {
        let now = Instant::now();
        let mut timers = Timers::default();
        assert!((0..MAX_TIMERS as u64).all(|token| timers.set(token, now)));
        assert!(!timers.set(u64::MAX, now));
        assert!(timers.set(0, now));
    }
}
