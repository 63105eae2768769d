//! The agent's own reserve: the memory kept back for itself and for what its runners need beyond their tasks. While more
//! is taken the agent is held back: tasks that run go on, and nothing of it is offered.

use holm_model::{AgentCondition, ToMaster};

use crate::agent::Agent;

/// The agent takes launches again once it is this many tenths below its reserve.
const RELIEF_TENTHS: u64 = 9;
/// A change of the overhead of less than this part of the reserve is not worth telling.
const NOTICEABLE: u64 = 20;

/// What was measured and what was told of it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// None before the first measurement.
    now: Option<AgentCondition>,
    /// What the master of the present stream knows.
    told: Option<AgentCondition>,
}

impl Watch {
    /// Takes a measurement of `overhead` bytes against a reserve of `limit`.
    fn measured(&mut self, overhead: u64, limit: u64) {
        let was_held = self.now.as_ref().is_some_and(|condition| condition.held_back.is_some());
        let ceiling = if was_held { limit / 10 * RELIEF_TENTHS } else { limit };
        let held_back = (overhead > ceiling).then(|| {
            format!(
                "the agent and its runners take {overhead} bytes beyond their tasks' mem; the limit reserve is {limit}"
            )
            .into()
        });
        self.now = Some(AgentCondition { reserve_bytes: limit, overhead_bytes: overhead, held_back });
    }

    /// What a master is to hear, if there is anything new.
    fn news(&mut self) -> Option<AgentCondition> {
        let now = self.now.as_ref()?;
        let stale = self.told.as_ref().is_none_or(|told| {
            let change = told.overhead_bytes.abs_diff(now.overhead_bytes);
            told.held_back.is_some() != now.held_back.is_some() || change > now.reserve_bytes / NOTICEABLE
        });
        stale.then(|| {
            self.told = Some(now.clone());
            now.clone()
        })
    }
}

impl Agent {
    /// The shell has measured how much is taken beyond the tasks' declared memory.
    pub(crate) fn overhead_measured(&mut self, overhead: u64) {
        let Some(limit) = self.options.reserve_bytes else { return };
        self.watch.measured(overhead, limit);
        if self.link.registered().is_some()
            && let Some(condition) = self.watch.news()
        {
            self.tell_master(ToMaster::Condition(condition));
        }
    }

    /// A new stream: its master knows nothing yet.
    pub(crate) fn tell_condition(&mut self) {
        self.watch.told = None;
        if let Some(condition) = self.watch.news() {
            self.tell_master(ToMaster::Condition(condition));
        }
    }

    /// How the agent is, once it has been measured.
    pub fn condition(&self) -> Option<&AgentCondition> {
        self.watch.now.as_ref()
    }
}
