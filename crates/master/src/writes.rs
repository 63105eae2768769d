//! Durable writes that are under way. No two of them concern the same record.

use std::collections::BTreeMap;

use holm_model::{AgentId, FrameworkId};

use crate::timers::Timer;
use crate::{Effect, Master, PersistOutcome, RegistryOp, WriteId};

/// What waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: a record was dropped.
    Nothing,
    /// An agent's admission.
    AdmitAgent(AgentId),
    /// An agent's mark as unreachable.
    GiveUpAgent(AgentId),
    /// A framework's admission.
    AdmitFramework(FrameworkId),
    /// A framework's end.
    CompleteFramework(FrameworkId),
    /// What is done to an agent's reservations and volumes.
    Operations(AgentId),
    /// New weights and quotas; one such write at a time.
    UpdateRoles,
}

#[derive(Debug)]
struct Write {
    ops: Vec<RegistryOp>,
    then: Then,
}

#[derive(Debug, Default)]
pub(crate) struct Writes {
    next: u64,
    pending: BTreeMap<WriteId, Write>,
}

impl Writes {
    /// Whether something waits for `then`.
    pub(crate) fn waits(&self, then: Then) -> bool {
        self.pending.values().any(|write| write.then == then)
    }
}

impl Master {
    /// Asks for a write; `then` happens once it is durable.
    pub(crate) fn persist(&mut self, ops: Vec<RegistryOp>, then: Then) {
        self.writes.next += 1;
        let write = WriteId(self.writes.next);
        self.writes.pending.insert(write, Write { ops: ops.clone(), then });
        self.out.push(Effect::Persist { write, ops });
    }

    pub(crate) fn on_persisted(&mut self, write: WriteId, outcome: PersistOutcome) {
        if !self.writes.pending.contains_key(&write) {
            return self.ignore("the outcome of a write that nothing waits for");
        }
        match outcome {
            PersistOutcome::Unknown => self.timers.set(Timer::Retry(write), self.now + self.options.write_retry),
            PersistOutcome::Fenced => self.step_down("the registry is fenced: another master leads"),
            PersistOutcome::Committed => {
                self.timers.cancel(Timer::Retry(write));
                if let Some(done) = self.writes.pending.remove(&write) {
                    self.committed(done.then);
                }
            }
        }
    }

    fn committed(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::AdmitAgent(agent) => self.agent_recorded(agent),
            Then::GiveUpAgent(agent) => self.agent_given_up(agent),
            Then::AdmitFramework(framework) => self.framework_recorded(framework),
            Then::CompleteFramework(framework) => self.framework_completed(framework),
            Then::Operations(agent) => self.operations_recorded(agent),
            Then::UpdateRoles => self.roles_recorded(),
        }
    }

    pub(crate) fn retry_write(&mut self, write: WriteId) {
        if let Some(pending) = self.writes.pending.get(&write) {
            self.out.push(Effect::Persist { write, ops: pending.ops.clone() });
        }
    }
}
