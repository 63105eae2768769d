//! How much CPU time this process may take from others like it: fair shares over all runners of an agent, and a ceiling for
//! all of them together. No file and no clock: the queue brings both.
//!
//! Every runner keeps a virtual time, the CPU time it used divided by the weight of its tasks that compete, and says in the
//! shared table what it is. Where all get what they can use, nothing happens. A runner that does not is *hungry*, and those
//! ahead of it by more than [`AHEAD`] leave it the cores that it could use until it has caught up. Over any long stretch the
//! virtual times advance together, and with that every task gets its share, whatever runner it is in; how the operating
//! system shares out what is left to it does not matter.
//!
//! Runners of revocable tasks, whose seat is *lent*, stand below the others. Those do not see them: neither their virtual time
//! nor what they use counts. Lent runners poll on the cores that the others could not use, to the nearest whole one: the one
//! that is furthest behind takes what it can use of them, then the next. None has anything that it is sure of.
//!
//! All runners together stay below the agent's `cpus`: each takes what all say they used out of a bucket of its own that
//! fills at that rate, and polls nobody while it is empty.
//!
//! What the others say can be a lie. Whatever they say, a runner goes on with [`SURE`] of its weight.

use crate::shares::{Record, SEATS, STALE, Table};

/// How often the table is looked at, in nanoseconds; about as long as a slice.
pub(super) const LOOK: u64 = 1_000_000;
/// CPU time by which a runner may be ahead of a hungry one, in nanoseconds.
const AHEAD: u64 = 3_000_000;
/// A runner that was idle starts this much CPU time behind the others at most, in nanoseconds.
const BONUS: u64 = 3_000_000;
/// By how much more than [`AHEAD`] a runner can fall behind before it forgets the rest: it could not use its share.
const FORGET: u64 = 16;
/// CPU time after which lent runners take turns, on average, in nanoseconds.
const TURN: u64 = 30_000_000;
/// Hungry is who got less than this part, in hundredths, of the time in which it wanted to compute.
const SATED: u64 = 90;
/// The part of its weight, as a divisor, that a runner uses even if the others want it all.
const SURE: u64 = 20;
/// What a runner may save up of that, and the most it may owe, in nanoseconds.
const SURE_SAVED: i64 = 2_000_000;
const SURE_OWED: i64 = -10_000_000;
/// The longest sleep while the bucket of all runners is empty, in nanoseconds.
const LONGEST_DENIAL: u64 = 10_000_000;
/// What the bucket of all runners holds: what it takes in during this many nanoseconds.
const BUCKET_WINDOW: u64 = 20_000_000;
/// After waiting for the bucket a runner counts as hungry for this long, in nanoseconds.
const DENIED: u64 = 20_000_000;

/// What a look is told of the time and the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The machine's clock, in nanoseconds.
    pub(super) time: u64,
    /// CPU time of this process, in nanoseconds.
    pub(super) process: u64,
    /// What the operating system would give this process, in thousandths of a core.
    pub(super) cores: u64,
}

/// One runner's view of all.
pub(super) struct Balance {
    seat: usize,
    /// Tells this runner from others that had the seat.
    owner: u64,
    threads: usize,
    /// Whether it has what the others leave.
    is_lent: bool,
    /// Virtual time: nanoseconds of CPU time by core of weight.
    time: u64,
    effort: Effort,
    /// Cores that could be used, in thousandths, smoothed.
    wants: u64,
    /// By seat: it was hungry and behind, and has not caught up.
    waited_for: Box<[bool]>,
    /// CPU time that nobody can take away, saved up or owed.
    sure: i64,
    ceiling: Ceiling,
    /// Threads that may poll.
    allowed: usize,
    looked: u64,
    /// When to look again while this process is held back.
    recheck: u64,
    /// The others know that this runner wants nothing.
    is_known_idle: bool,
}

/// CPU time that the workers got, and the time in which they wanted it; older times count less.
#[derive(Default)]
struct Effort {
    cpu: u64,
    wall: u64,
    new_cpu: u64,
    new_wall: u64,
}

impl Effort {
    /// Less time than this says nothing, in nanoseconds.
    const LEAST: u64 = 2_000_000;

    fn add(&mut self, cpu: u64, wall: u64) {
        self.new_cpu = self.new_cpu.saturating_add(cpu.min(wall));
        self.new_wall = self.new_wall.saturating_add(wall);
    }

    fn fold(&mut self) {
        if self.new_wall >= Effort::LEAST {
            self.cpu = self.cpu - self.cpu / 4 + std::mem::take(&mut self.new_cpu);
            self.wall = self.wall - self.wall / 4 + std::mem::take(&mut self.new_wall);
        }
    }

    fn is_short(&self) -> bool {
        self.cpu.saturating_mul(100) < self.wall.saturating_mul(SATED)
    }
}

/// The bucket of all runners, as this one sees it.
struct Ceiling {
    level: i64,
    /// By seat: who has it, and what that one had used.
    used: Box<[(u64, u64)]>,
    denied_until: u64,
}

impl Ceiling {
    fn new() -> Ceiling {
        Ceiling { level: 0, used: vec![(0, 0); SEATS].into(), denied_until: 0 }
    }

    /// Takes in `income`, and takes out what the runners used since the last time, each at most `most`.
    fn settle(&mut self, income: u64, most: u64, capacity: u64, totals: impl Iterator<Item = (usize, u64, u64)>) {
        let mut used = 0_u64;
        for (seat, owner, total) in totals {
            let last = std::mem::replace(&mut self.used[seat], (owner, total));
            if last.0 == owner {
                used = used.saturating_add(total.saturating_sub(last.1).min(most));
            }
        }
        // What all could have used at most bounds what can be owed.
        let capacity = signed(capacity);
        self.level = self.level.saturating_add(signed(income)).saturating_sub(signed(used)).min(capacity);
        self.level = self.level.max(capacity.saturating_mul(-10));
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Part of `time`, in thousandths.
fn part(time: u64, milli: u64) -> u64 {
    u64::try_from(u128::from(time) * u128::from(milli) / 1_000).unwrap_or(u64::MAX)
}

/// CPU time in virtual time of a runner of this weight.
fn virtual_time(cpu: u64, weight: u64) -> u64 {
    cpu.saturating_mul(1_000) / weight.max(1)
}

impl Balance {
    /// A runner with this seat and so many threads; `owner` is not zero and differs from those that had the seat before.
    pub(super) fn new(seat: usize, owner: u64, threads: usize) -> Balance {
        Balance {
            seat,
            owner,
            threads,
            is_lent: false,
            time: 0,
            effort: Effort::default(),
            wants: 0,
            waited_for: vec![false; SEATS].into(),
            sure: 0,
            ceiling: Ceiling::new(),
            allowed: threads,
            looked: 0,
            recheck: 0,
            is_known_idle: true,
        }
    }

    /// The same on a lent seat, if it `is_lent`.
    pub(super) fn lent(self, is_lent: bool) -> Balance {
        // Nobody has promised it anything: until it has looked, it does not poll.
        let allowed = if is_lent { 0 } else { self.allowed };
        Balance { is_lent, allowed, ..self }
    }

    /// A worker polled for `wall` and got `cpu` of it, while tasks of `weight` competed; `elsewhere` is CPU time of
    /// blocking calls.
    pub(super) fn used(&mut self, cpu: u64, wall: u64, elsewhere: u64, weight: u64) {
        let all = cpu.saturating_add(elsewhere);
        self.time = self.time.saturating_add(virtual_time(all, weight));
        self.effort.add(cpu, wall);
        self.sure = self.sure.saturating_sub(signed(all)).max(SURE_OWED);
    }

    /// How many threads may poll guests that are not owed CPU time.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// When to look again while this process is held back.
    pub(super) fn recheck(&self) -> u64 {
        self.recheck
    }

    /// Nothing competes here any more: what to tell the others, unless they know.
    pub(super) fn goes_idle(&mut self, now: Now) -> Option<Record> {
        if std::mem::replace(&mut self.is_known_idle, true) {
            return None;
        }
        self.wants = 0;
        let Balance { owner, time, is_lent, .. } = *self;
        Some(Record { owner, at: now.time, time, weight: 1, wants: 0, is_hungry: false, is_lent, used: now.process })
    }

    /// Takes in what the others say, decides, and says what this one has to say. `tasks` of together `weight` compete here.
    pub(super) fn look(&mut self, now: Now, tasks: usize, weight: u64, table: Option<&Table>) -> Record {
        let passed = now.time.saturating_sub(std::mem::replace(&mut self.looked, now.time));
        self.effort.fold();
        let wants = tasks.min(self.threads) as u64 * 1_000;
        self.wants = (self.wants * 3 + wants).div_ceil(4);
        self.sure = self.sure.saturating_add(signed(part(passed, weight) / SURE)).min(SURE_SAVED);
        let (above, others): (Vec<_>, Vec<_>) =
            others(self.seat, now.time, table).partition(|(_, other)| self.is_lent && !other.is_lent);
        let others: Vec<_> = others.into_iter().filter(|(_, other)| other.is_lent == self.is_lent).collect();
        let is_denied = self.is_over_ceiling(now, passed, table);
        let was_idle = std::mem::replace(&mut self.is_known_idle, false);
        self.recheck = now.time.saturating_add(LOOK);
        if let Some(table) = table.filter(|_| is_denied) {
            let missing = self.ceiling.level.min(0).unsigned_abs().saturating_mul(1_000) / table.cpus;
            self.recheck = now.time.saturating_add(missing.clamp(LOOK, LONGEST_DENIAL));
        }
        if is_denied && tasks > 0 {
            self.ceiling.denied_until = now.time.saturating_add(DENIED);
        }
        let is_short = now.time < self.ceiling.denied_until || (self.wants > 0 && self.effort.is_short());
        self.keep_time(was_idle, weight, is_short, &others);
        let cores = table.map_or(now.cores, |table| table.cpus.min(now.cores));
        let room = match table {
            None => self.threads,
            Some(_) if self.is_lent => self.room_below(cores, weight, &above, &others),
            Some(_) => self.room(cores, weight, &others),
        };
        self.allowed = if is_denied { 0 } else { room };
        if self.allowed == 0 && self.sure > 0 && !self.is_lent {
            self.allowed = 1;
        }
        // One that is held back does not get what it wants either.
        let is_hungry = is_short || room < self.threads;
        let Balance { owner, time, wants, is_lent, .. } = *self;
        Record { owner, at: now.time, time, weight: weight.max(1), wants, is_hungry, is_lent, used: now.process }
    }

    /// Settles what all used, if the agent declares less than the machine gives; whether there is nothing left.
    fn is_over_ceiling(&mut self, now: Now, passed: u64, table: Option<&Table>) -> bool {
        let Some(table) = table.filter(|table| table.cpus < now.cores) else {
            self.ceiling.level = 0;
            return false;
        };
        let all = table.records.iter().enumerate().filter_map(|(seat, record)| match record {
            _ if seat == self.seat => Some((seat, self.owner, now.process)),
            // What is lent is not there for those who lend.
            Some(record) if record.is_lent && !self.is_lent => None,
            Some(record) => Some((seat, record.owner, record.used)),
            None => None,
        });
        // Between two looks nobody can use more than the machine has, and a little that it said late.
        let most = part(passed.saturating_add(STALE), now.cores);
        self.ceiling.settle(part(passed, table.cpus), most, part(BUCKET_WINDOW, table.cpus), all);
        self.ceiling.level <= 0
    }

    /// Keeps the virtual time near that of the others, without ever setting it back.
    fn keep_time(&mut self, was_idle: bool, weight: u64, is_short: bool, others: &[(usize, Record)]) {
        let Some(top) = others.iter().map(|(_, other)| other.time).max() else { return };
        let forgets = |other: &Record| other.time.saturating_sub(virtual_time(AHEAD * FORGET, other.weight));
        let mut least = others.iter().map(|(_, other)| forgets(other)).max().unwrap_or(0);
        if was_idle {
            least = least.max(top.saturating_sub(virtual_time(BONUS, weight)));
        }
        // Where all get what they want there is nothing to make up for.
        if !is_short && others.iter().all(|(_, other)| !other.is_hungry) {
            least = least.max(top);
        }
        self.time = self.time.max(least);
    }

    /// How many threads may poll, once the hungry ones that are behind have what they can use of `cores`.
    fn room(&mut self, cores: u64, weight: u64, others: &[(usize, Record)]) -> usize {
        let ahead = virtual_time(AHEAD, weight);
        let before = std::mem::replace(&mut self.waited_for, vec![false; SEATS].into());
        let mut taken = 0_u64;
        for (seat, other) in others {
            let lead = self.time.saturating_sub(other.time);
            let waits = if before[*seat] { lead > ahead / 2 } else { other.is_hungry && lead > ahead };
            if waits {
                self.waited_for[*seat] = true;
                taken = taken.saturating_add(other.wants);
            }
        }
        if taken == 0 {
            return self.threads;
        }
        whole_cores(cores, taken).min(self.threads)
    }

    /// How many threads may poll on a lent seat: those `above` first, then its like in the order of their virtual times. All
    /// of them look at the same table, so together they take no more than there is.
    fn room_below(&self, cores: u64, weight: u64, above: &[(usize, Record)], others: &[(usize, Record)]) -> usize {
        let taken = above.iter().fold(0_u64, |taken, (_, other)| taken.saturating_add(other.wants));
        // Handing cores over takes a look of both sides, so turns are longer than that.
        let all = others.iter().fold(weight, |all, (_, other)| all.saturating_add(other.weight));
        let turn = virtual_time(TURN, all).saturating_mul(others.len() as u64 + 1).max(1);
        let own = (self.time / turn, self.seat);
        let before = others.iter().filter(|(seat, other)| (other.time / turn, *seat) < own);
        let taken_before = before.fold(0, |sum: usize, (_, other)| sum.saturating_add(whole_wants(other)));
        whole_cores(cores, taken).saturating_sub(taken_before).min(self.threads)
    }
}

/// The cores that a runner could use, whole ones.
fn whole_wants(record: &Record) -> usize {
    usize::try_from(record.wants.saturating_add(500) / 1_000).unwrap_or(usize::MAX)
}

/// Whole cores that are left, to the nearest: what is less than half a core the operating system shares out well enough.
fn whole_cores(cores: u64, taken: u64) -> usize {
    usize::try_from(cores.saturating_add(500).saturating_sub(taken) / 1_000).unwrap_or(usize::MAX)
}

/// The other runners that want CPU time now.
fn others(seat: usize, now: u64, table: Option<&Table>) -> impl Iterator<Item = (usize, Record)> {
    let fresh = now.saturating_sub(STALE)..=now.saturating_add(STALE);
    let records = table.map(|table| table.records.as_slice()).unwrap_or_default();
    let records = records.iter().enumerate().filter_map(|(number, record)| Some((number, (*record)?)));
    records.filter(move |(number, other)| *number != seat && other.wants > 0 && fresh.contains(&other.at))
}

#[cfg(test)]
mod tests;
