//! Status updates on their way to frameworks: what agents have sent and frameworks have not acknowledged yet. The agents
//! have all of it too; a new master gets it again from them.

use std::collections::{BTreeMap, VecDeque};

use holm_model::{AgentId, Epoch, FrameworkId, Incarnation, Update};

/// The status log of one framework on one agent, as far as this master knows it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The current life of the agent's log.
    pub(crate) incarnation: Incarnation,
    /// The highest sequence received in it.
    pub(crate) highest: u64,
    /// The highest sequence acknowledged in it.
    pub(crate) acknowledged: u64,
    /// What is not acknowledged, earlier lives first.
    pub(crate) entries: VecDeque<(Incarnation, Update)>,
}

impl Log {
    /// Begins a new life of the log. What was received in earlier ones stays until it is acknowledged.
    pub(crate) fn begin(&mut self, incarnation: Incarnation) {
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.highest = 0;
            self.acknowledged = 0;
        }
    }

    /// Whether an entry of the current life has been received before.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        sequence <= self.highest.max(self.acknowledged)
    }

    /// Takes an entry of the current life that is new.
    pub(crate) fn push(&mut self, update: Update) {
        self.highest = update.sequence;
        self.entries.push_back((self.incarnation, update));
    }

    /// Notes an acknowledgement and gives back the entries it covers.
    pub(crate) fn acknowledge(&mut self, incarnation: Incarnation, sequence: u64) -> Vec<Update> {
        if incarnation == self.incarnation {
            self.acknowledged = self.acknowledged.max(sequence);
        }
        let covered = |(life, update): &(Incarnation, Update)| *life == incarnation && update.sequence <= sequence;
        let mut done = Vec::new();
        while let Some((_, update)) = self.entries.pop_front_if(|entry| covered(entry)) {
            done.push(update);
        }
        // Rare: entries of an earlier life are in front and not acknowledged.
        if self.entries.front().is_some_and(|(life, _)| *life != incarnation) {
            done.extend(self.entries.iter().filter(|entry| covered(entry)).map(|(_, update)| update.clone()));
            self.entries.retain(|entry| !covered(entry));
        }
        done
    }
}

/// All logs.
#[derive(Debug, Default)]
pub(crate) struct Logs(BTreeMap<(FrameworkId, AgentId), Log>);

const FIRST_AGENT: AgentId = AgentId::new(Epoch(0), 0);
const LAST_AGENT: AgentId = AgentId::new(Epoch(u64::MAX), u64::MAX);

impl Logs {
    pub(crate) fn get(&self, framework: FrameworkId, agent: AgentId) -> Option<&Log> {
        self.0.get(&(framework, agent))
    }

    /// The log, begun when there is none.
    pub(crate) fn of(&mut self, framework: FrameworkId, agent: AgentId, incarnation: Incarnation) -> &mut Log {
        let empty = || Log { incarnation, ..Log::default() };
        self.0.entry((framework, agent)).or_insert_with(empty)
    }

    pub(crate) fn get_mut(&mut self, framework: FrameworkId, agent: AgentId) -> Option<&mut Log> {
        self.0.get_mut(&(framework, agent))
    }

    /// The agents on which the framework has a log.
    pub(crate) fn of_framework(&self, framework: FrameworkId) -> Vec<AgentId> {
        self.0.range((framework, FIRST_AGENT)..=(framework, LAST_AGENT)).map(|((_, agent), _)| *agent).collect()
    }

    /// The logs on an agent.
    pub(crate) fn on_agent(&mut self, agent: AgentId) -> impl Iterator<Item = (FrameworkId, &mut Log)> {
        let there = self.0.iter_mut().filter(move |((_, at), _)| *at == agent);
        there.map(|((framework, _), log)| (*framework, log))
    }

    pub(crate) fn remove(&mut self, framework: FrameworkId, agent: AgentId) {
        self.0.remove(&(framework, agent));
    }

    /// Everything, for the invariants.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FrameworkId, AgentId, &Log)> {
        self.0.iter().map(|((framework, agent), log)| (*framework, *agent, log))
    }
}
