//! The clock the master runs by: monotonic, and going on while the machine sleeps.

use holm_model::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, by CLOCK_BOOTTIME.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

/// The calendar, in microseconds of Unix time; for display only.
pub(crate) fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
