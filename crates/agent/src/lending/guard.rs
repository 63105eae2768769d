//! When borrowers have to go: the judgement, in virtual time.
//!
//! Memory cannot be taken back slice by slice as CPU time is, so it is what borrowers are ended for, early enough that the
//! owners' next allocation still succeeds. CPU time they give way in by themselves (see ADR 19); they are ended for it when
//! they would wait for ever, or when giving way fails.
//!
//! After borrowers had to go nothing is lent for a while, and for longer every time it happens again soon: an agent whose
//! owners need their share back every other minute is no good place for borrowers.

use std::time::Duration;

use holm_model::Time;

use super::estimate::{Pair, Sight};

/// How long owners may starve while borrowers compute.
const STARVING: Duration = Duration::from_secs(3);
/// Owners starve because of borrowers when those use more than this part of the agent's `cpus`.
const NOTICEABLE: u64 = 20;
/// Borrowers that find no idle CPU for so many windows are of no use where they are.
const CROWDED_WINDOWS: u32 = 4;
/// How long what ended borrowers leave takes to be seen.
const SETTLING: Duration = Duration::from_secs(1);
/// Rests grow to at most this many windows, and are forgotten after as many of them without trouble.
const MAX_RESTS: u32 = 16;
const QUIET_RESTS: u32 = 4;

/// Why borrowers have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strain {
    /// The tasks use more of the agent's memory than the margin allows, or the host has less left: so many bytes are to be
    /// freed, and in an emergency without a grace period.
    Memory { need: u64, used: u64, limit: u64, available: u64, emergency: bool },
    /// The agent and its runners take more than the reserve.
    Reserve,
    /// Owners want CPU time and do not get it, while borrowers use so much.
    Starving { used: u64 },
    /// Borrowers hold more `cpus` than owners have left idle for a long time.
    Crowded { need: u64, idle: u64 },
}

/// What the judgement rests on, besides what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Case {
    pub(crate) sight: Sight,
    /// What borrowers hold.
    pub(crate) lent: Pair,
    /// Memory of borrowers that have been told to go.
    pub(crate) leaving: u64,
    pub(crate) margin: Pair,
    /// Whether an owner wants CPU time and does not get it.
    pub(crate) hungry: bool,
    /// Whether the reserve is exceeded while there are runners of borrowers, be it without tasks.
    pub(crate) over_reserve: bool,
}

/// The judge, and what it remembers.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    starving_since: Option<Time>,
    crowded_since: Option<Time>,
    /// No milder judgement before this time: the last one has not had its effect yet.
    settles: Option<Time>,
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Time,
    length: Duration,
}

impl Guard {
    /// Whether borrowers have to go, and why.
    pub(crate) fn judge(&mut self, now: Time, case: &Case, window: Duration) -> Option<Strain> {
        let starving = case.hungry && case.sight.borrowed.cpus > case.sight.total.cpus / NOTICEABLE;
        let starving = lasts(&mut self.starving_since, now, starving, STARVING);
        let idle = case.sight.idle().cpus;
        let patience = window.saturating_mul(CROWDED_WINDOWS);
        let crowded = lasts(&mut self.crowded_since, now, case.lent.cpus > idle, patience);
        if case.lent == Pair::default() && !case.over_reserve {
            return None;
        }
        let memory = memory_strain(case);
        if let Some(Strain::Memory { emergency: true, .. }) = memory {
            return memory;
        }
        if self.settles.is_some_and(|until| now < until) {
            return None;
        }
        let strain = memory.or_else(|| case.over_reserve.then_some(Strain::Reserve));
        let used = case.sight.borrowed.cpus;
        let strain = strain.or_else(|| starving.then_some(Strain::Starving { used }));
        let need = case.lent.cpus.saturating_sub(idle.saturating_sub(case.margin.cpus));
        strain.or_else(|| crowded.then_some(Strain::Crowded { need, idle }))
    }

    /// Borrowers were told to go, and have `grace` to do so.
    pub(crate) fn acted(&mut self, now: Time, grace: Duration, window: Duration) {
        self.settles = Some(now + grace.saturating_add(SETTLING));
        (self.starving_since, self.crowded_since) = (None, None);
        let length = match self.rest {
            // What goes on is one trouble, not several.
            Some(rest) if now < rest.until => rest.length,
            Some(rest) if now < rest.until + rest.length.saturating_mul(QUIET_RESTS) => {
                rest.length.saturating_mul(2).min(window.saturating_mul(MAX_RESTS))
            }
            _ => window,
        };
        self.rest = Some(Rest { until: now + length, length });
    }

    /// Whether nothing is to be lent for now.
    pub(crate) fn rests(&self, now: Time) -> bool {
        self.rest.is_some_and(|rest| now < rest.until)
    }
}

/// Half of the margin is there to be used while borrowers go; less than that is an emergency.
fn memory_strain(case: &Case) -> Option<Strain> {
    let Case { sight, margin, leaving, .. } = case;
    let used = sight.used.mem.saturating_add(sight.borrowed.mem);
    let slack = margin.mem / 2;
    let limit = sight.total.mem.saturating_sub(slack);
    let missing = used.saturating_sub(limit).max(slack.saturating_sub(sight.available));
    let need = missing.saturating_add(slack).saturating_sub(*leaving);
    let emergency = used > sight.total.mem || sight.available < slack / 2;
    let strained = missing > 0 && need > 0 && sight.borrowed.mem > *leaving;
    strained.then_some(Strain::Memory { need, used, limit, available: sight.available, emergency })
}

/// Whether something has been so, without a break, for as long.
fn lasts(since: &mut Option<Time>, now: Time, is_so: bool, long: Duration) -> bool {
    if !is_so {
        *since = None;
        return false;
    }
    now.since(*since.get_or_insert(now)) >= long
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

    /// 4 cores and 20 GiB, all held; a borrower holds 1 core and 6 GiB and uses half a core and 4 GiB.
    fn case() -> Case {
        let (total, borrowed) = (pair(4_000, 20), pair(500, 4));
        let sight = Sight { total, held: total, used: pair(1_000, 8), borrowed, available: 8 * GIB };
        Case { sight, lent: pair(1_000, 6), margin: pair(400, 2), ..Case::default() }
    }

    fn using(gib: u64) -> Case {
        let mut case = case();
        case.sight.used.mem = gib * GIB;
        case
    }

    #[test]
    fn nobody_goes_while_there_is_room() {
        let mut guard = Guard::default();
        for second in 0..1_000 {
            assert_eq!(guard.judge(at(second), &case(), WINDOW), None);
        }
    }

    #[test]
    fn memory_is_freed_before_the_margin_is_gone() {
        let mut guard = Guard::default();
        assert_eq!(guard.judge(at(0), &using(15), WINDOW), None, "half of the margin may be used");
        let mut close = using(15);
        close.sight.used.mem += 1;
        let Some(Strain::Memory { need, emergency: false, .. }) = guard.judge(at(0), &close, WINDOW) else { panic!() };
        assert_eq!(need, GIB + 1, "the whole margin is to be free again");
        let Some(Strain::Memory { need, emergency: true, .. }) = guard.judge(at(0), &using(17), WINDOW) else {
            panic!()
        };
        assert_eq!(need, 3 * GIB);
        let leaving = Case { leaving: 3 * GIB, ..using(17) };
        assert_eq!(guard.judge(at(0), &leaving, WINDOW), None, "they are on their way");
    }

    #[test]
    fn the_host_running_out_is_a_strain_whatever_the_agent_declared() {
        let mut guard = Guard::default();
        let mut short = case();
        short.sight.available = GIB - 1;
        let strain = guard.judge(at(0), &short, WINDOW);
        assert!(matches!(strain, Some(Strain::Memory { emergency: false, .. })), "{strain:?}");
        short.sight.available = GIB / 2 - 1;
        let strain = guard.judge(at(0), &short, WINDOW);
        assert!(matches!(strain, Some(Strain::Memory { emergency: true, .. })), "{strain:?}");
        let nobody = Case { lent: Pair::default(), ..short };
        assert_eq!(guard.judge(at(0), &nobody, WINDOW), None, "there is nobody to go");
    }

    #[test]
    fn a_judgement_has_its_effect_before_the_next() {
        let mut guard = Guard::default();
        let mut close = using(15);
        close.sight.used.mem += 1;
        assert!(guard.judge(at(0), &close, WINDOW).is_some());
        guard.acted(at(0), Duration::from_secs(5), WINDOW);
        assert_eq!(guard.judge(at(5), &close, WINDOW), None);
        assert!(guard.judge(at(5), &using(17), WINDOW).is_some(), "an emergency does not wait");
        assert!(guard.judge(at(6), &close, WINDOW).is_some());
    }

    #[test]
    fn owners_starve_only_when_borrowers_take_what_they_want() {
        let mut guard = Guard::default();
        let hungry = Case { hungry: true, ..case() };
        assert_eq!(guard.judge(at(0), &hungry, WINDOW), None);
        assert_eq!(guard.judge(at(2), &hungry, WINDOW), None);
        assert_eq!(guard.judge(at(3), &hungry, WINDOW), Some(Strain::Starving { used: 500 }));
        let mut modest = hungry;
        modest.sight.borrowed.cpus = 200;
        for second in 4..100 {
            assert_eq!(guard.judge(at(second), &modest, WINDOW), None, "owners compete among themselves");
        }
    }

    #[test]
    fn borrowers_that_never_get_a_turn_go_elsewhere() {
        let mut guard = Guard::default();
        let mut busy = case();
        busy.sight.used.cpus = 4_000;
        for second in 0..100 {
            assert_eq!(guard.judge(at(second), &busy, WINDOW), None);
        }
        assert_eq!(guard.judge(at(100), &case(), WINDOW), None, "one idle moment, and they stay");
        for second in 101..221 {
            assert_eq!(guard.judge(at(second), &busy, WINDOW), None);
        }
        assert_eq!(guard.judge(at(221), &busy, WINDOW), Some(Strain::Crowded { need: 1_000, idle: 0 }));
    }

    #[test]
    fn rests_grow_while_trouble_comes_back_and_are_forgotten_after_quiet() {
        let mut guard = Guard::default();
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..6 {
            guard.acted(at(now), Duration::ZERO, WINDOW);
            let begin = now;
            while guard.rests(at(now)) {
                now += 1;
            }
            rests.push(now - begin);
            now += 1;
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 480]);
        now += 4 * 480 + 1;
        guard.acted(at(now), Duration::ZERO, WINDOW);
        assert!(guard.rests(at(now + 29)) && !guard.rests(at(now + 30)));
        guard.acted(at(now + 5), Duration::ZERO, WINDOW);
        assert!(guard.rests(at(now + 34)) && !guard.rests(at(now + 35)), "one trouble in two steps is one");
    }
}
