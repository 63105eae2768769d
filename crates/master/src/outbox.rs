//! Effects on their way out, and what is to be told to the read model once the event has been handled.

use std::collections::BTreeSet;

use holm_model::{AgentId, FrameworkId, SchedulerEvent, ToAgent};

use crate::{CloseCause, Delta, Effect, SessionId};

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) effects: Vec<Effect>,
    /// Agents whose view has changed during this event.
    pub(crate) agents: BTreeSet<AgentId>,
    /// Frameworks whose view has changed during this event.
    pub(crate) frameworks: BTreeSet<FrameworkId>,
    /// Whether shares have changed since they were last told.
    pub(crate) roles: bool,
}

impl Outbox {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn delta(&mut self, delta: Delta) {
        self.effects.push(Effect::Changed(delta));
    }

    pub(crate) fn tell_agent(&mut self, session: SessionId, message: ToAgent) {
        self.effects.push(Effect::ToAgent { session, message });
    }

    pub(crate) fn tell_framework(&mut self, session: SessionId, event: SchedulerEvent) {
        self.effects.push(Effect::ToFramework { session, event });
    }

    pub(crate) fn close(&mut self, session: SessionId, cause: CloseCause, message: &str) {
        self.effects.push(Effect::Close { session, cause, message: message.into() });
    }
}
