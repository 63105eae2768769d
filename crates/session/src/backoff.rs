//! How long to wait before the next attempt to reach a master.

use std::time::Duration;

/// The longest possible first delay; each further attempt doubles it.
pub const MIN_DELAY: Duration = Duration::from_millis(100);
/// No delay is longer.
pub const MAX_DELAY: Duration = Duration::from_secs(5);

/// Exponential backoff whose jitter follows from a seed: frameworks that lose the same master at the same moment come
/// back spread out, and a simulation of them repeats exactly.
#[derive(Clone, Debug)]
pub struct Backoff {
    seed: u64,
    attempts: u32,
}

impl Backoff {
    /// A backoff whose jitter is derived from `name`.
    pub fn new(name: &str) -> Backoff {
        Backoff { seed: fnv1a(FNV_OFFSET, name.as_bytes()), attempts: 0 }
    }

    /// The next delay: between half of the current ceiling and the whole of it.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = MIN_DELAY.saturating_mul(1 << self.attempts.min(16)).min(MAX_DELAY);
        let [low, high, ..] = fnv1a(self.seed, &self.attempts.to_le_bytes()).to_le_bytes();
        self.attempts = self.attempts.saturating_add(1);
        let half = ceiling / 2;
        half + half * u32::from(u16::from_le_bytes([low, high])) / (1 << 16)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Delays handed out since the last success.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_start_over_after_a_success() {
        let mut backoff = Backoff::new("tiles");
        let delays: Vec<Duration> = (0..40).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= MIN_DELAY / 2 && delays[0] <= MIN_DELAY);
        assert!(delays.iter().all(|delay| *delay <= MAX_DELAY));
        assert!(delays[10..].iter().all(|delay| *delay >= MAX_DELAY / 2));
        backoff.reset();
        assert_eq!(backoff.next_delay(), delays[0]);
    }

    #[test]
    fn two_frameworks_do_not_come_back_in_step() {
        let (mut one, mut other) = (Backoff::new("one"), Backoff::new("other"));
        assert_ne!(one.next_delay(), other.next_delay());
    }
}
