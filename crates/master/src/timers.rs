//! Deadlines: at most one per purpose, the earliest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_model::{AgentId, FrameworkId, InverseOfferId, OfferId, Time};

use crate::WriteId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A run of the allocator that waited for more events.
    Allocate,
    /// The shares of all roles, held back for a while.
    Roles,
    /// The policy may be asked again, or its answer is overdue.
    Policy,
    /// It is to be looked who waits for what others hold.
    Preemption,
    /// Somebody may wait for what others were offered.
    Contention,
    /// An offer expires.
    Offer(OfferId),
    /// The deadline of an inverse offer.
    Inverse(InverseOfferId),
    /// A connected agent is to be asked for a sign of life.
    Ping(AgentId),
    /// A disconnected agent is given up.
    AgentTimeout(AgentId),
    /// A connected framework gets a sign of life.
    Heartbeat(FrameworkId),
    /// A framework that is away and has nothing left to run may be over.
    Idle(FrameworkId),
    /// A disconnected framework has stayed away too long.
    FrameworkTimeout(FrameworkId),
    /// A write of unknown outcome is repeated.
    Retry(WriteId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// Sets a deadline that is not set yet.
    pub(crate) fn set_once(&mut self, timer: Timer, at: Time) {
        if !self.due.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Sets or moves a deadline.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.due.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// Moves the deadlines that satisfy `wanted`.
    pub(crate) fn postpone(&mut self, by: Duration, wanted: impl Fn(&Timer) -> bool) {
        let moved: Vec<_> =
            self.due.iter().filter(|(timer, _)| wanted(timer)).map(|(timer, at)| (*timer, *at)).collect();
        for (timer, at) in moved {
            self.set(timer, at + by);
        }
    }

    /// Takes the earliest deadline if it has come.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (_, timer) = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.cancel(timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }
}
