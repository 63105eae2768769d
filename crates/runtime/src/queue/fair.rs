//! Who is polled next, and for how long nobody asks again: shares by weight, ceilings, and before everybody else those that
//! have been asked to end. No thread, no clock and no lock: the queue says what time it is and who used how much.
//!
//! Every task has a virtual time: CPU time it used, divided by its weight. Next is the one that would have the least after
//! another [`SLICE`], so over any stretch in which tasks compete each gets CPU time by its weight, however long its slices
//! are. Three rules keep that prompt and bounded:
//!
//! - The queue's own virtual time is the highest at which a task was taken. A task that comes back from waiting starts at
//!   most [`WAKE_BONUS`] behind it, a new one [`NEW_BONUS`]: enough to go before those that compute, and no gain in the long
//!   run, because nothing ever sets a task's time back.
//! - A task that could not use its share (it computes on one thread only) falls back at most [`LAG`], so that it cannot
//!   later keep everybody waiting.
//! - A task that ends hands its time to the next of its group, so that many short tasks get no more than a long one.
//!
//! A task with a ceiling has a bucket that fills at that rate; while it is empty the task is set aside until a known time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::CpuShare;

/// What a slice is expected to use, in nanoseconds.
const SLICE: u64 = 1_000_000;
/// CPU time that a new task may use before those that compute, in nanoseconds. Without it a start takes half a round.
const NEW_BONUS: u64 = 1_000_000;
/// CPU time that a task which waited may use before those that compute, in nanoseconds.
const WAKE_BONUS: u64 = 3_000_000;
/// CPU time that a task may be owed, in nanoseconds; more is forgotten.
const LAG: u64 = 20_000_000;
/// What a bucket holds: what it takes in during this many nanoseconds ...
const BUCKET_WINDOW: u64 = 40_000_000;
/// ... and at least this much, a slice.
const BUCKET_LEAST: u64 = 1_000_000;
/// A task that was set aside comes back with this part of its full bucket, so that it does not come and go every slice.
const BUCKET_RETURN: u64 = 4;
/// The smallest and the largest weight that make a difference, in thousandths of a core.
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// Groups whose ended tasks are remembered at a time; a power of two. One that is forgotten gains a little.
const GROUPS: usize = 256;
/// Ended tasks remembered per group: as many as end before the next one of the group starts.
const HEIRS: usize = 8;

/// A task's claim to CPU time.
#[derive(Debug)]
pub(super) struct Claim {
    weight: u64,
    group: u64,
    /// Virtual time: nanoseconds of CPU time by core of weight.
    time: u64,
    bucket: Option<Bucket>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It waits for something else than CPU time, or is over.
    Away,
    /// It is ready or being polled, and its weight counts.
    Competes,
    /// Its bucket was empty; the key under which it is or was set aside.
    Aside(u64, u64),
}

impl Claim {
    pub(super) fn new(share: CpuShare) -> Claim {
        let weight = share.milli.clamp(*WEIGHTS.start(), *WEIGHTS.end());
        // Nothing computes on more than one thread.
        let ceiling = share.limit_milli.filter(|limit| *limit < 1_000);
        let bucket = ceiling.map(|limit| Bucket::full(limit.max(*WEIGHTS.start())));
        Claim { weight, group: share.group, time: 0, bucket, standing: Standing::Away }
    }

    /// Virtual time, in nanoseconds.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// CPU time in units of this claim's virtual time.
    fn virtual_time(&self, cpu: u64) -> u64 {
        cpu.saturating_mul(1_000) / self.weight
    }
}

/// A ceiling: CPU time that may be used, taken in at a rate.
#[derive(Debug)]
struct Bucket {
    /// Thousandths of a core.
    rate: u64,
    /// Nanoseconds; below zero after a slice that took more than there was.
    level: i64,
    /// When the level was right.
    at: Option<u64>,
}

impl Bucket {
    fn full(rate: u64) -> Bucket {
        let mut bucket = Bucket { rate, level: 0, at: None };
        bucket.level = bucket.capacity();
        bucket
    }

    fn capacity(&self) -> i64 {
        signed((BUCKET_WINDOW * self.rate / 1_000).max(BUCKET_LEAST))
    }

    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at.unwrap_or(now));
        let taken_in = signed(u64::try_from(u128::from(passed) * u128::from(self.rate) / 1_000).unwrap_or(u64::MAX));
        self.level = self.level.saturating_add(taken_in).min(self.capacity());
        self.at = Some(now);
    }

    /// When the task may come back, if it has to wait.
    fn empty_until(&mut self, now: u64) -> Option<u64> {
        self.refill(now);
        if self.level > 0 {
            return None;
        }
        let missing = (self.capacity() / signed(BUCKET_RETURN)).saturating_sub(self.level).unsigned_abs();
        Some(now.saturating_add(missing.saturating_mul(1_000) / self.rate))
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One that is ready: by its virtual time after another slice, then in the order of arrival.
struct Entry<T> {
    key: Reverse<(u64, u64)>,
    time: u64,
    task: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Entry<T>) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Entry<T>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Entry<T>) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

struct Aside<T> {
    entry: Entry<T>,
    weight: u64,
}

/// The tasks that want to be polled. Its length is bounded by the number of live tasks: a task is in here at most once, and
/// once more when it is asked to end.
pub(super) struct FairQueue<T> {
    urgent: VecDeque<T>,
    ready: BinaryHeap<Entry<T>>,
    /// Those whose bucket is empty, by the time at which they come back.
    aside: BTreeMap<(u64, u64), Aside<T>>,
    arrivals: u64,
    /// The queue's virtual time: the highest at which a task was taken.
    time: u64,
    /// Weight of all that compete.
    weight: u64,
    heirs: Box<[Heirs]>,
    /// Whether nobody is owed anything: while the process is held back, only those that are to end are taken.
    is_lent: bool,
}

/// Virtual times of ended tasks of a group, to be taken over.
#[derive(Clone, Copy, Default)]
struct Heirs {
    group: u64,
    count: usize,
    times: [u64; HEIRS],
}

impl<T> Default for FairQueue<T> {
    fn default() -> FairQueue<T> {
        FairQueue {
            urgent: VecDeque::new(),
            ready: BinaryHeap::new(),
            aside: BTreeMap::new(),
            arrivals: 0,
            time: 0,
            weight: 0,
            heirs: vec![Heirs::default(); GROUPS].into(),
            is_lent: false,
        }
    }
}

impl<T> FairQueue<T> {
    /// The queue of a process that has what others leave, if it `is_lent`.
    pub(super) fn lent(self, is_lent: bool) -> FairQueue<T> {
        FairQueue { is_lent, ..self }
    }

    /// A new task is ready.
    pub(super) fn enter(&mut self, claim: &mut Claim, now: u64, task: T) {
        let heirs = self.heirs_of(claim.group);
        heirs.count = heirs.count.saturating_sub(1);
        let inherited = std::mem::take(&mut heirs.times[heirs.count]);
        claim.time = self.behind(claim, NEW_BONUS).max(inherited);
        self.put(claim, now, task);
    }

    /// A task that waited is ready. Says whether it goes before those that are being polled.
    pub(super) fn wake(&mut self, claim: &mut Claim, now: u64, task: T) -> bool {
        claim.time = claim.time.max(self.behind(claim, WAKE_BONUS));
        self.put(claim, now, task);
        claim.time < self.time && claim.standing == Standing::Competes
    }

    /// A task that was polled is still ready.
    pub(super) fn again(&mut self, claim: &mut Claim, now: u64, task: T) {
        claim.time = claim.time.max(self.behind(claim, LAG));
        self.put(claim, now, task);
    }

    /// A task is to be polled at once, because it is to end. It may be among the ready ones too; whoever takes that entry
    /// finds nothing to do.
    pub(super) fn urge(&mut self, claim: &mut Claim, task: T) {
        if let Standing::Aside(at, arrival) = claim.standing
            && self.aside.remove(&(at, arrival)).is_some()
        {
            claim.standing = Standing::Away;
        }
        self.compete(claim);
        self.urgent.push_back(task);
    }

    /// A task used CPU time.
    pub(super) fn charge(&mut self, claim: &mut Claim, cpu: u64, now: u64) {
        claim.time = claim.time.saturating_add(claim.virtual_time(cpu));
        if let Some(bucket) = &mut claim.bucket {
            bucket.refill(now);
            bucket.level = bucket.level.saturating_sub(signed(cpu));
        }
    }

    /// A task was polled and waits for something.
    pub(super) fn leave(&mut self, claim: &mut Claim) {
        if claim.standing == Standing::Competes {
            self.weight = self.weight.saturating_sub(claim.weight);
        }
        claim.standing = Standing::Away;
    }

    /// A task is over.
    pub(super) fn end(&mut self, claim: &mut Claim) {
        self.leave(claim);
        if claim.time > self.behind(claim, NEW_BONUS) {
            let heirs = self.heirs_of(claim.group);
            let place = heirs.count.min(HEIRS - 1);
            heirs.times[place] = claim.time;
            heirs.count = place + 1;
        }
    }

    /// Takes the task to be polled next. While the process is `held` back, only those that are owed CPU time or are to end.
    /// In a process that has what others leave nobody is owed any.
    /// The caller follows up with [`FairQueue::taken`].
    pub(super) fn pop(&mut self, now: u64, held: bool) -> Option<T> {
        self.bring_back(now);
        if let Some(task) = self.urgent.pop_front() {
            return Some(task);
        }
        let time = self.ready.peek()?.time;
        if held && (time >= self.time || self.is_lent) {
            return None;
        }
        self.time = self.time.max(time);
        self.ready.pop().map(|entry| entry.task)
    }

    /// The task of this claim was popped.
    pub(super) fn taken(&mut self, claim: &mut Claim) {
        // One that was set aside and came back competes since then.
        if matches!(claim.standing, Standing::Aside(..)) {
            claim.standing = Standing::Competes;
        }
    }

    /// How many are ready now.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.ready.len()
    }

    /// When the next task comes back that was set aside.
    pub(super) fn next_return(&self) -> Option<u64> {
        self.aside.first_key_value().map(|((at, _), _)| *at)
    }

    /// Weight of all tasks that are ready or being polled, in thousandths of a core.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    fn bring_back(&mut self, now: u64) {
        while let Some(first) = self.aside.first_entry().filter(|first| first.key().0 <= now) {
            let Aside { entry, weight } = first.remove();
            self.weight = self.weight.saturating_add(weight);
            self.ready.push(entry);
        }
    }

    fn put(&mut self, claim: &mut Claim, now: u64, task: T) {
        self.arrivals += 1;
        let after = claim.time.saturating_add(claim.virtual_time(SLICE));
        let entry = Entry { key: Reverse((after, self.arrivals)), time: claim.time, task };
        match claim.bucket.as_mut().and_then(|bucket| bucket.empty_until(now)) {
            Some(at) => {
                self.leave(claim);
                claim.standing = Standing::Aside(at, self.arrivals);
                self.aside.insert((at, self.arrivals), Aside { entry, weight: claim.weight });
            }
            None => {
                self.compete(claim);
                self.ready.push(entry);
            }
        }
    }

    /// The virtual time at which a task of this claim is so much CPU time behind.
    fn behind(&self, claim: &Claim, cpu: u64) -> u64 {
        self.time.saturating_sub(claim.virtual_time(cpu))
    }

    fn compete(&mut self, claim: &mut Claim) {
        if claim.standing == Standing::Away {
            self.weight = self.weight.saturating_add(claim.weight);
        }
        claim.standing = Standing::Competes;
    }

    fn heirs_of(&mut self, group: u64) -> &mut Heirs {
        // Groups are numbered one after another.
        let place = usize::try_from(group % GROUPS as u64).unwrap_or(0);
        let heirs = &mut self.heirs[place];
        if heirs.group != group {
            *heirs = Heirs { group, ..Heirs::default() };
        }
        heirs
    }
}

#[cfg(test)]
mod tests;
