//! How far each agent's status log has been received, and what is owed an acknowledgement.

use std::collections::BTreeMap;

use holm_model::{AgentId, Call, Incarnation};

/// One cursor per agent, for the latest incarnation of its logs.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    received: BTreeMap<AgentId, (Incarnation, u64)>,
    /// By the life of the log: an agent that has begun a new one is still owed those of the old.
    due: BTreeMap<(AgentId, Incarnation), u64>,
}

impl Cursors {
    /// Records that the entry `sequence` has been received. Whether it is new; a repeated one is owed an
    /// acknowledgement all the same, because its repetition says that the first one was lost.
    pub(crate) fn receive(&mut self, agent: AgentId, incarnation: Incarnation, sequence: u64) -> bool {
        let cursor = self.received.entry(agent).or_insert((incarnation, 0));
        if cursor.0 != incarnation {
            *cursor = (incarnation, 0);
        }
        let new = sequence > cursor.1;
        cursor.1 = cursor.1.max(sequence);
        self.due.insert((agent, incarnation), cursor.1);
        new
    }

    /// The acknowledgements owed, one per log; afterwards none is.
    pub(crate) fn take_due(&mut self) -> Vec<Call> {
        let due = std::mem::take(&mut self.due);
        let acknowledge = |((agent, incarnation), sequence)| Call::Acknowledge { agent, incarnation, sequence };
        due.into_iter().map(acknowledge).collect()
    }

    /// Forgets what is owed: the stream that it was owed on is gone, and the agent will repeat itself.
    pub(crate) fn cancel_due(&mut self) {
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use holm_model::Epoch;

    use super::*;

    #[test]
    fn acknowledgements_are_cumulative_and_coalesced() {
        let agent = AgentId::new(Epoch(1), 1);
        let mut cursors = Cursors::default();
        assert!((1..=9).all(|sequence| cursors.receive(agent, Incarnation(7), sequence)));
        let expected = Call::Acknowledge { agent, incarnation: Incarnation(7), sequence: 9 };
        assert_eq!(cursors.take_due(), std::slice::from_ref(&expected));
        assert!(cursors.take_due().is_empty());
        assert!(!cursors.receive(agent, Incarnation(7), 4));
        assert_eq!(cursors.take_due(), [expected]);
    }

    #[test]
    fn a_new_incarnation_starts_over_and_the_old_one_is_acknowledged_too() {
        let agent = AgentId::new(Epoch(1), 1);
        let mut cursors = Cursors::default();
        cursors.receive(agent, Incarnation(7), 9);
        assert!(cursors.receive(agent, Incarnation(8), 1));
        let expected = [(7, 9), (8, 1)];
        let acknowledge = |(life, sequence)| Call::Acknowledge { agent, incarnation: Incarnation(life), sequence };
        assert_eq!(cursors.take_due(), expected.map(acknowledge));
    }
}
