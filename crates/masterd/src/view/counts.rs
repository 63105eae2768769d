//! How many tasks are where.

use holm_model::TaskState;
use holm_proto::v1;

/// Tasks by what people ask about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) staging: u64,
    pub(crate) running: u64,
    pub(crate) unreachable: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
}

impl Counts {
    fn slot(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Staging => &mut self.staging,
            TaskState::Running | TaskState::Killing => &mut self.running,
            TaskState::Unreachable => &mut self.unreachable,
            TaskState::Finished => &mut self.finished,
            TaskState::Failed | TaskState::Killed | TaskState::Dropped | TaskState::Error | TaskState::Gone => {
                &mut self.failed
            }
        }
    }

    pub(crate) fn add(&mut self, state: TaskState, count: u64) {
        *self.slot(state) += count;
    }

    pub(crate) fn remove(&mut self, state: TaskState, count: u64) {
        let slot = self.slot(state);
        *slot = slot.saturating_sub(count);
    }

    pub(crate) fn live(&self) -> u64 {
        self.staging + self.running + self.unreachable
    }

    pub(crate) fn to_wire(self) -> v1::TaskCounts {
        let Counts { staging, running, unreachable, finished, failed } = self;
        v1::TaskCounts { staging, running, unreachable, finished, failed }
    }
}
