//! Clocks and randomness of a seeded task: the same seed gives the same readings, bytes and fuel in every run.
//!
//! Time is virtual. Each reading of the clock advances it by a microsecond, and a sleep jumps to its end without taking
//! real time, so that a guest that sleeps until a reading reaches a mark ends at the same instruction in every run. The
//! calendar starts at the first second of the year 2000. Random bytes, "secure" ones included, follow from the seed and
//! are predictable for whoever knows it. What stays outside is the content of directories granted to the task.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rand_core::TryRng;
use wasmtime::component::Resource;
use wasmtime::{Caller, Extern};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, ResourceTable, WasiCtxBuilder};

use crate::limits::MAX_POLL_EVENTS;
use crate::run::State;

/// What one reading of the clock advances it by, in nanoseconds.
const NANOS_PER_READING: u64 = 1_000;

/// Where the calendar starts: 2000-01-01T00:00:00Z, since 1970.
const WALL_START: Duration = Duration::from_secs(946_684_800);

/// The clock of one seeded task. Clones are the same clock.
#[derive(Clone, Default)]
pub(crate) struct VirtualClock {
    /// WASI's clock traits read through `&self` and its pollables live apart, so the task's parts share it by lock. Only
    /// the thread that polls the task takes it.
    inner: Arc<Mutex<Instants>>,
}

#[derive(Default)]
struct Instants {
    now: u64,
    next_ticket: u64,
    /// Ends of the sleeps that somebody waits for, earliest first.
    sleeps: BTreeSet<(u64, u64)>,
}

impl VirtualClock {
    fn lock(&self) -> MutexGuard<'_, Instants> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> u64 {
        let mut inner = self.lock();
        inner.now = inner.now.saturating_add(NANOS_PER_READING);
        inner.now
    }

    /// Sleeps.
    pub(crate) fn pass(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.jump_to(self.read().saturating_add(nanos));
    }

    fn jump_to(&self, instant: u64) {
        let mut inner = self.lock();
        inner.now = inner.now.max(instant);
    }
}

impl HostMonotonicClock for VirtualClock {
    fn resolution(&self) -> u64 {
        NANOS_PER_READING
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

impl HostWallClock for VirtualClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(NANOS_PER_READING)
    }

    fn now(&self) -> Duration {
        WALL_START.saturating_add(Duration::from_nanos(self.read()))
    }
}

/// Gives a task the clocks and generators of its seed.
pub(crate) fn configure(wasi: &mut WasiCtxBuilder, seed: u64) -> VirtualClock {
    let clock = VirtualClock::default();
    wasi.monotonic_clock(clock.clone()).wall_clock(clock.clone());
    wasi.secure_random(SeededRandom::new(seed, 1)).insecure_random(SeededRandom::new(seed, 2));
    let mut halves = SeededRandom::new(seed, 3);
    wasi.insecure_random_seed(u128::from(halves.next()) << 64 | u128::from(halves.next()));
    clock
}

/// xoshiro256** with its state filled by splitmix64, both as published by Blackman and Vigna.
struct SeededRandom([u64; 4]);

impl SeededRandom {
    /// The generator of one of the seed's independent streams.
    fn new(seed: u64, stream: u64) -> SeededRandom {
        let mut state = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        SeededRandom(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }
}

impl TryRng for SeededRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [_, _, _, _, bytes @ ..] = self.next().to_le_bytes();
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for chunk in target.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// What `wasi:clocks/monotonic-clock` of a seeded component works on.
pub(crate) struct ClockView<'a> {
    clock: VirtualClock,
    table: &'a mut ResourceTable,
}

/// Ties [`ClockView`] to the task's state.
pub(crate) struct SeededClocks;

impl wasmtime::component::HasData for SeededClocks {
    type Data<'a> = ClockView<'a>;
}

/// The view of a component's state that the seeded linker uses.
pub(crate) fn clock_view(state: &mut State) -> ClockView<'_> {
    let clock = state.clock.clone();
    ClockView { clock, table: wasmtime_wasi::WasiView::ctx(&mut state.wasi).table }
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(NANOS_PER_READING)
    }

    fn subscribe_instant(&mut self, end: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = self.table.push(VirtualSleep { clock: self.clock.clone(), end })?;
        subscribe(self.table, sleep)
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let end = self.clock.read().saturating_add(nanos);
        self.subscribe_instant(end)
    }
}

struct VirtualSleep {
    clock: VirtualClock,
    end: u64,
}

#[wasmtime_wasi::async_trait]
impl Pollable for VirtualSleep {
    async fn ready(&mut self) {
        Wait { clock: self.clock.clone(), end: self.end, ticket: None }.await;
    }
}

/// Waits for the end of a sleep. Of several that are waited for together the earliest jumps the clock to its end: so all
/// of them are enlisted on the first poll and decided on the second.
struct Wait {
    clock: VirtualClock,
    end: u64,
    ticket: Option<u64>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        match this.ticket {
            None if this.clock.read() >= this.end => return Poll::Ready(()),
            None => {
                let mut inner = this.clock.lock();
                inner.next_ticket += 1;
                let ticket = inner.next_ticket;
                inner.sleeps.insert((this.end, ticket));
                this.ticket = Some(ticket);
            }
            Some(ticket) => {
                let earliest = this.clock.lock().sleeps.first().copied();
                if earliest == Some((this.end, ticket)) {
                    this.clock.jump_to(this.end);
                    return Poll::Ready(());
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.clock.lock().sleeps.remove(&(self.end, ticket));
        }
    }
}

const ERRNO_SUCCESS: i32 = 0;
const ERRNO_FAULT: i32 = 21;
const ERRNO_INVAL: i32 = 28;
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
const EVENT_CLOCK: u8 = 0;
const EVENT_FD_WRITE: u8 = 2;

/// `poll_oneoff` of a seeded core module. Files and stdio are always ready (preview 1 gives tasks nothing else); if only
/// clocks are waited for, the earliest end is jumped to.
pub(crate) fn poll_oneoff(
    mut caller: Caller<'_, State>,
    subscriptions: u32,
    events: u32,
    count: u32,
    ready: u32,
) -> i32 {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return ERRNO_FAULT };
    if count == 0 || count > MAX_POLL_EVENTS {
        return ERRNO_INVAL;
    }
    let (data, state) = memory.data_and_store_mut(&mut caller);
    let size = count as usize * SUBSCRIPTION_BYTES;
    let Some(bytes) = data.get(subscriptions as usize..).and_then(|tail| tail.get(..size)) else { return ERRNO_FAULT };
    let (list, _) = bytes.as_chunks::<SUBSCRIPTION_BYTES>();
    let Some(parsed) = list.iter().map(|raw| Subscription::parse(raw, &state.clock)).collect::<Option<Vec<_>>>() else {
        return ERRNO_INVAL;
    };
    let fired = fire(&parsed, &state.clock);
    let mut out = Vec::with_capacity(fired.len() * EVENT_BYTES);
    fired.iter().for_each(|subscription| out.extend_from_slice(&subscription.event()));
    let number = u32::try_from(fired.len()).unwrap_or(MAX_POLL_EVENTS).to_le_bytes();
    for (place, content) in [(events, &out[..]), (ready, &number[..])] {
        let Some(target) = data.get_mut(place as usize..).and_then(|tail| tail.get_mut(..content.len())) else {
            return ERRNO_FAULT;
        };
        target.copy_from_slice(content);
    }
    ERRNO_SUCCESS
}

/// One thing waited for; `end` is `None` for files.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    end: Option<u64>,
}

impl Subscription {
    fn parse(raw: &[u8; SUBSCRIPTION_BYTES], clock: &VirtualClock) -> Option<Subscription> {
        let word = |at: usize| raw[at..].first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let (userdata, kind) = (word(0)?.to_le_bytes(), raw[8]);
        let end = match kind {
            EVENT_CLOCK => {
                let (realtime, timeout, absolute) = (raw[16] == 0, word(24)?, raw[40] & 1 == 1);
                let wall_start = u64::try_from(WALL_START.as_nanos()).unwrap_or(u64::MAX);
                Some(match (absolute, realtime) {
                    (true, true) => timeout.saturating_sub(wall_start),
                    (true, false) => timeout,
                    (false, _) => clock.read().saturating_add(timeout),
                })
            }
            kind if kind <= EVENT_FD_WRITE => None,
            _ => return None,
        };
        Some(Subscription { userdata, kind, end })
    }

    fn event(&self) -> [u8; EVENT_BYTES] {
        let mut event = [0; EVENT_BYTES];
        event[..8].copy_from_slice(&self.userdata);
        event[10] = self.kind;
        if self.end.is_none() {
            event[16] = 1;
        }
        event
    }
}

fn fire<'a>(parsed: &'a [Subscription], clock: &VirtualClock) -> Vec<&'a Subscription> {
    if parsed.iter().all(|subscription| subscription.end.is_some())
        && let Some(earliest) = parsed.iter().filter_map(|subscription| subscription.end).min()
    {
        clock.jump_to(earliest);
    }
    let now = clock.read();
    parsed.iter().filter(|subscription| subscription.end.is_none_or(|end| end <= now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_xoshiro256_star_star() {
        // The reference implementation's first outputs for the state 1, 2, 3, 4.
        let mut random = SeededRandom([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| random.next()).collect();
        assert_eq!(first, [11520, 0, 1509978240, 1215971899390074240]);
    }

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let bytes = |seed, stream| {
            let mut bytes = [0; 13];
            let Ok(()) = SeededRandom::new(seed, stream).try_fill_bytes(&mut bytes);
            bytes
        };
        assert_eq!(bytes(7, 1), bytes(7, 1));
        assert_ne!(bytes(7, 1), bytes(7, 2));
        assert_ne!(bytes(7, 1), bytes(8, 1));
    }

    #[test]
    fn of_two_sleeps_waited_for_together_the_earlier_ends_first() {
        let clock = VirtualClock::default();
        let mut late = Box::pin(Wait { clock: clock.clone(), end: 2_000_000, ticket: None });
        let mut early = Box::pin(Wait { clock: clock.clone(), end: 1_000_000, ticket: None });
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert!(early.as_mut().poll(&mut context).is_pending());
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert!(early.as_mut().poll(&mut context).is_ready());
        drop(early);
        assert!((1_000_000..1_100_000).contains(&clock.read()));
        assert!(late.as_mut().poll(&mut context).is_ready());
        assert!(clock.read() > 2_000_000);
    }
}
