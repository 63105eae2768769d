//! The framework's own book of its launches: what makes every end arrive exactly once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use holm_model::{
    AgentId, BatchId, BatchReport, Incarnation, Launch, Reason, Resources, Role, Source, TaskId, TaskRange, TaskState,
    TaskStatus, Update, Usages,
};

use crate::event::TaskUpdate;

/// How many launches that are over are remembered, so that a repetition of their last statuses is recognised. The
/// oldest is forgotten first; by then the master has long processed the acknowledgement that stops the repetitions.
pub const MAX_ENDED: usize = 1 << 16;

/// Every launch that is live, and the latest ones that are over.
#[derive(Debug, Default)]
pub(crate) struct Book {
    launches: BTreeMap<BatchId, Entry>,
    by_agent: BTreeMap<AgentId, BTreeSet<BatchId>>,
    /// Launches that are over, oldest first. An id that was used again may be in here more than once.
    ended: VecDeque<BatchId>,
    /// The latest life of each agent's logs that was heard of.
    incarnations: BTreeMap<AgentId, Incarnation>,
    /// How many launches have been written down.
    written: u64,
}

/// What a launch holds, as far as is known.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// In which role; none for what was launched without an offer.
    pub(crate) role: Option<Role>,
    pub(crate) slots: u32,
    pub(crate) shape: Resources,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) agent: AgentId,
    pub(crate) holding: Holding,
    /// How many launches were written down before it: the higher, the younger.
    pub(crate) order: u64,
    /// The life of the agent's logs in which it was launched or last seen, as far as is known.
    since: Option<Incarnation>,
    pub(crate) tasks: TaskRange,
    /// The subscription in which it was last sent or seen in a report.
    round: u64,
    /// Per position, the last state delivered; empty once every task has ended.
    pub(crate) states: Vec<Option<TaskState>>,
    /// Tasks that have not ended.
    pub(crate) live: u32,
    /// Kills to repeat to a master that may not have had them, by array index.
    kills: BTreeMap<Option<u32>, Kill>,
}

/// A kill that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    /// Which task, or launch.
    pub(crate) task: TaskId,
    /// How long it may take.
    pub(crate) grace: Option<Duration>,
}

impl Book {
    /// Whether a launch of this name has tasks that have not ended.
    pub(crate) fn is_live(&self, id: &BatchId) -> bool {
        self.launches.get(id).is_some_and(|entry| entry.live > 0)
    }

    /// Writes down a launch that is about to be sent in subscription `round`. Its id is not live.
    pub(crate) fn add(&mut self, launch: &Launch, agent: AgentId, role: Option<Role>, round: u64) {
        let holding = Holding { role, slots: launch.slots, shape: launch.spec.resources.clone() };
        self.insert(launch.id.clone(), launch.tasks, agent, holding, round);
    }

    fn insert(&mut self, id: BatchId, tasks: TaskRange, agent: AgentId, holding: Holding, round: u64) {
        self.written += 1;
        let order = self.written;
        let count = tasks.count();
        let states = vec![None; count as usize];
        let since = self.incarnations.get(&agent).copied();
        let entry = Entry { agent, holding, order, since, tasks, round, states, live: count, kills: BTreeMap::new() };
        if let Some(old) = self.launches.insert(id.clone(), entry) {
            self.unlink(old.agent, &id);
        }
        self.by_agent.entry(agent).or_default().insert(id);
    }

    fn unlink(&mut self, agent: AgentId, id: &BatchId) {
        if let Some(ids) = self.by_agent.get_mut(&agent) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
    }

    /// An agent's logs are heard of in this life of theirs.
    pub(crate) fn heard(&mut self, agent: AgentId, incarnation: Incarnation) {
        self.incarnations.insert(agent, incarnation);
    }

    /// Takes a status in. What comes back is what the scheduler has not heard yet, as runs of neighbours. A launch that
    /// the master refused never had an agent, so that whichever the master names is meant.
    pub(crate) fn apply(&mut self, agent: AgentId, source: Source, update: &Update) -> Vec<TaskUpdate> {
        let unlaunched =
            source == Source::Master && matches!(update.status.state, TaskState::Dropped | TaskState::Error);
        let entry = self.launches.get_mut(&update.batch).filter(|entry| unlaunched || entry.agent == agent);
        let Some(entry) = entry else { return Vec::new() };
        if source == Source::Agent {
            entry.since = self.incarnations.get(&agent).copied();
        }
        let news = entry.apply(&update.batch, update.first, update.count, &update.status, &update.usages);
        self.settle(&update.batch);
        news
    }

    /// Ends every task of a launch that never left.
    pub(crate) fn end(&mut self, launch: &Launch, status: &TaskStatus) -> Vec<TaskUpdate> {
        let Some(entry) = self.launches.get_mut(&launch.id) else { return Vec::new() };
        let news = entry.apply(&launch.id, 0, launch.tasks.count(), status, &Usages::default());
        self.settle(&launch.id);
        news
    }

    /// Takes a launch of an agent's report in; one not known yet is written down, as after a restart of the framework.
    pub(crate) fn report(&mut self, agent: AgentId, report: &BatchReport, round: u64) -> Vec<TaskUpdate> {
        if !self.launches.contains_key(&report.id) {
            let (slots, shape) = (report.slots, report.shape.clone());
            let holding = Holding { role: Some(report.role.clone()), slots, shape };
            self.insert(report.id.clone(), report.tasks, agent, holding, round);
        }
        let entry = self.launches.get_mut(&report.id).filter(|entry| entry.agent == agent);
        let Some(entry) = entry.filter(|entry| entry.tasks == report.tasks) else { return Vec::new() };
        entry.round = round;
        entry.since = self.incarnations.get(&agent).copied();
        let mut news = Vec::new();
        let mut first = 0_u32;
        for run in &report.runs {
            news.extend(entry.apply(&report.id, first, run.count, &run.status, &Usages::default()));
            first = first.saturating_add(run.count);
        }
        self.settle(&report.id);
        news
    }

    /// Everything the agent has is in the reports of `round`: a launch of an earlier subscription that is in none of
    /// them never ran, or died with what ran it.
    pub(crate) fn resolve(&mut self, agent: AgentId, round: u64) -> Vec<TaskUpdate> {
        let ids = self.by_agent.get(&agent).cloned().unwrap_or_default();
        let mut news = Vec::new();
        for id in ids {
            let Some(entry) = self.launches.get_mut(&id).filter(|entry| entry.round < round) else { continue };
            if entry.live == 0 {
                // Nobody but us remembers it, so nobody will repeat it.
                self.launches.remove(&id);
                self.unlink(agent, &id);
                continue;
            }
            let same_life = entry.since.is_some() && entry.since == self.incarnations.get(&agent).copied();
            for (first, count, status) in entry.absent(same_life) {
                news.extend(entry.apply(&id, first, count, &status, &Usages::default()));
            }
            self.settle(&id);
        }
        news
    }

    /// The agent is out of reach, and nobody else knows what it runs.
    pub(crate) fn unreachable(&mut self, agent: AgentId, message: &str) -> Vec<TaskUpdate> {
        let status = TaskStatus::because(TaskState::Unreachable, Reason::AgentLost, message);
        let ids = self.by_agent.get(&agent).cloned().unwrap_or_default();
        let mut news = Vec::new();
        for id in ids {
            if let Some(entry) = self.launches.get_mut(&id) {
                news.extend(entry.apply(&id, 0, entry.tasks.count(), &status, &Usages::default()));
            }
        }
        news
    }

    /// The launches that have tasks which have not ended: on one agent, or anywhere.
    pub(crate) fn live_on(&self, agent: Option<AgentId>) -> Vec<(&BatchId, &Entry)> {
        let there = |(_, entry): &(&BatchId, &Entry)| entry.live > 0;
        match agent {
            Some(agent) => {
                let ids = self.by_agent.get(&agent).into_iter().flatten();
                ids.filter_map(|id| Some((id, self.launches.get(id)?))).filter(there).collect()
            }
            None => self.launches.iter().filter(there).collect(),
        }
    }

    /// Agents that have launches here.
    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.by_agent.keys().copied().collect()
    }

    /// Remembers a kill until its target has ended. Whether the target is known.
    pub(crate) fn kill(&mut self, task: &TaskId, grace: Option<Duration>) -> bool {
        let Some(entry) = self.launches.get_mut(&task.batch) else { return false };
        if entry.live > 0 {
            entry.kills.insert(task.index, Kill { task: task.clone(), grace });
        }
        true
    }

    /// Kills to repeat once the master knows what the agent runs.
    pub(crate) fn kills_on(&self, agent: AgentId) -> Vec<Kill> {
        let ids = self.by_agent.get(&agent).into_iter().flatten();
        let entries = ids.filter_map(|id| self.launches.get(id));
        entries.flat_map(|entry| entry.kills.values().cloned()).collect()
    }

    /// Turns a launch whose last task has ended into a memory of it.
    fn settle(&mut self, id: &BatchId) {
        let Some(entry) = self.launches.get_mut(id).filter(|entry| entry.live == 0) else { return };
        if entry.states.is_empty() {
            return;
        }
        entry.states = Vec::new();
        entry.kills.clear();
        self.ended.push_back(id.clone());
        if self.ended.len() <= MAX_ENDED {
            return;
        }
        let oldest = self.ended.pop_front().filter(|oldest| !self.is_live(oldest));
        if let Some((oldest, entry)) = oldest.and_then(|id| self.launches.remove_entry(&id)) {
            self.unlink(entry.agent, &oldest);
        }
    }
}

impl Entry {
    fn apply(&mut self, id: &BatchId, first: u32, count: u32, status: &TaskStatus, usages: &Usages) -> Vec<TaskUpdate> {
        let end = first.saturating_add(count).min(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        let mut news: Vec<(u32, u32)> = Vec::new();
        for position in first..end {
            if !self.enter(position, status.state) {
                continue;
            }
            match news.last_mut() {
                Some((start, length)) if *start + *length == position => *length += 1,
                _ => news.push((position, 1)),
            }
        }
        let update = |(start, count): (u32, u32)| {
            let offset = (start - first) as usize;
            TaskUpdate {
                agent: Some(self.agent),
                batch: id.clone(),
                tasks: part_of(self.tasks, start, count),
                status: status.clone(),
                usages: usages.part(offset..offset + count as usize),
            }
        };
        news.into_iter().map(update).collect()
    }

    /// Whether that is news. What is repeated, stale or past the end is not.
    fn enter(&mut self, position: u32, next: TaskState) -> bool {
        let Some(state) = self.states.get_mut(position as usize) else { return false };
        let news = match *state {
            None => true,
            Some(last) if last == next => false,
            Some(last) => last.transition(next).is_ok(),
        };
        if news {
            *state = Some(next);
            self.live -= u32::from(next.is_terminal());
        }
        news
    }

    /// What the tasks become when nobody knows of them any more, as runs of neighbours. An agent whose logs are still
    /// in the life in which the launch was sent would know it if it had come; one in another life may have run it and
    /// forgotten, and what may have run was not dropped.
    fn absent(&self, same_life: bool) -> Vec<(u32, u32, TaskStatus)> {
        let end_of = |state: &Option<TaskState>| match state {
            None | Some(TaskState::Staging) if same_life => Some(TaskStatus::because(
                TaskState::Dropped,
                Reason::AgentDisconnected,
                "the agent never received the launch",
            )),
            Some(state) if state.is_terminal() => None,
            _ => Some(TaskStatus::because(TaskState::Gone, Reason::AgentRestarted, "the agent no longer has the task")),
        };
        let positions = (0_u32..).zip(&self.states);
        positions.filter_map(|(position, state)| Some((position, 1, end_of(state)?))).fold(
            Vec::new(),
            |mut runs: Vec<(u32, u32, TaskStatus)>, (position, count, status)| {
                match runs.last_mut() {
                    Some((first, length, last)) if *first + *length == position && *last == status => *length += count,
                    _ => runs.push((position, count, status)),
                }
                runs
            },
        )
    }
}

fn part_of(tasks: TaskRange, first: u32, count: u32) -> TaskRange {
    match tasks {
        TaskRange::Single => TaskRange::Single,
        TaskRange::Array { first: base, .. } => TaskRange::Array { first: base + first, count },
    }
}

#[cfg(test)]
mod tests {
    use holm_model::{Epoch, StatusRun, TaskSpec};

    use super::*;

    const AGENT: u64 = 1;

    fn agent() -> AgentId {
        AgentId::new(Epoch(1), AGENT)
    }

    fn launch(id: &str, count: u32) -> Launch {
        let spec = TaskSpec::default().into();
        Launch { id: id.parse().unwrap(), tasks: TaskRange::Array { first: 10, count }, slots: 1, spec }
    }

    fn update(id: &str, first: u32, count: u32, state: TaskState) -> Update {
        let status = TaskStatus::of(state);
        Update { sequence: 1, batch: id.parse().unwrap(), first, count, status, usages: Usages::default() }
    }

    fn report(id: &str, runs: &[(u32, TaskState)]) -> BatchReport {
        let tasks = TaskRange::Array { first: 10, count: runs.iter().map(|(count, _)| count).sum() };
        let run = |(count, state): &(u32, TaskState)| StatusRun { count: *count, status: TaskStatus::of(*state) };
        BatchReport {
            framework: holm_model::FrameworkId::new(Epoch(1), 1),
            role: Role::default_role(),
            id: id.parse().unwrap(),
            tasks,
            slots: 1,
            shape: Resources::EMPTY,
            module: holm_model::Digest::default(),
            revocable: false,
            origins: holm_model::Portions::EMPTY,
            runs: runs.iter().map(run).collect(),
        }
    }

    fn shown(updates: &[TaskUpdate]) -> Vec<String> {
        let show = |update: &TaskUpdate| format!("{:?} {}", update.indices(), update.status.state);
        updates.iter().map(show).collect()
    }

    #[test]
    fn an_end_is_news_once_and_only_for_those_who_had_not_ended() {
        let mut book = Book::default();
        book.add(&launch("a", 4), agent(), None, 1);
        assert_eq!(
            shown(&book.apply(agent(), Source::Agent, &update("a", 1, 2, TaskState::Finished))),
            ["11..13 FINISHED"]
        );
        assert_eq!(
            shown(&book.apply(agent(), Source::Agent, &update("a", 0, 4, TaskState::Killed))),
            ["10..11 KILLED", "13..14 KILLED"]
        );
        assert!(!book.is_live(&"a".parse().unwrap()));
        assert!(book.apply(agent(), Source::Agent, &update("a", 0, 4, TaskState::Failed)).is_empty());
        assert!(book.report(agent(), &report("a", &[(4, TaskState::Failed)]), 2).is_empty());
    }

    #[test]
    fn news_about_a_part_of_a_run_keeps_what_those_tasks_used() {
        let mut book = Book::default();
        book.add(&launch("a", 3), agent(), None, 1);
        book.apply(agent(), Source::Agent, &update("a", 1, 1, TaskState::Failed));
        let used = |fuel| holm_model::Usage { fuel, ..Default::default() };
        let usages = Usages::new([1, 2, 3].map(used));
        let news = book.apply(agent(), Source::Agent, &Update { usages, ..update("a", 0, 3, TaskState::Finished) });
        assert_eq!(shown(&news), ["10..11 FINISHED", "12..13 FINISHED"]);
        let fuel: Vec<_> = news.iter().flat_map(TaskUpdate::usage_of_each).map(|usage| usage.fuel).collect();
        assert_eq!(fuel, [1, 3]);
        assert_eq!(news[1].one_by_one()[0].status.usage, used(3));
    }

    #[test]
    fn what_no_report_mentions_was_dropped_or_is_gone() {
        let mut book = Book::default();
        book.heard(agent(), Incarnation(1));
        book.add(&launch("a", 3), agent(), None, 1);
        book.add(&launch("seen", 2), agent(), None, 1);
        book.apply(agent(), Source::Agent, &update("a", 1, 1, TaskState::Running));
        book.report(agent(), &report("seen", &[(2, TaskState::Running)]), 2);
        book.add(&launch("later", 1), agent(), None, 2);
        assert_eq!(shown(&book.resolve(agent(), 2)), ["10..11 DROPPED", "11..12 GONE", "12..13 DROPPED"]);
        assert!(book.is_live(&"seen".parse().unwrap()) && book.is_live(&"later".parse().unwrap()));
        assert!(book.resolve(agent(), 2).is_empty());
    }

    #[test]
    fn what_an_agent_of_another_life_does_not_know_may_have_run() {
        for (at_launch, at_report) in [(Some(1), 2), (None, 2)] {
            let mut book = Book::default();
            at_launch.into_iter().for_each(|number| book.heard(agent(), Incarnation(number)));
            book.add(&launch("a", 2), agent(), None, 1);
            book.heard(agent(), Incarnation(at_report));
            assert_eq!(shown(&book.resolve(agent(), 2)), ["10..12 GONE"]);
        }
    }

    #[test]
    fn a_refusal_holds_whatever_agent_the_master_names() {
        let nobody = AgentId::new(Epoch(0), 0);
        let mut book = Book::default();
        book.add(&launch("a", 2), agent(), None, 1);
        assert!(book.apply(nobody, Source::Agent, &update("a", 0, 2, TaskState::Dropped)).is_empty());
        assert!(book.apply(nobody, Source::Master, &update("a", 0, 2, TaskState::Gone)).is_empty());
        assert_eq!(
            shown(&book.apply(nobody, Source::Master, &update("a", 0, 2, TaskState::Dropped))),
            ["10..12 DROPPED"]
        );
    }

    #[test]
    fn a_framework_without_memory_learns_its_tasks_from_the_report() {
        let mut book = Book::default();
        let page = report("a", &[(2, TaskState::Finished), (1, TaskState::Running)]);
        assert_eq!(shown(&book.report(agent(), &page, 1)), ["10..12 FINISHED", "12..13 RUNNING"]);
        assert!(book.report(agent(), &page, 2).is_empty());
    }

    #[test]
    fn a_report_that_contradicts_the_book_is_not_believed() {
        let mut book = Book::default();
        book.add(&launch("a", 3), agent(), None, 1);
        assert!(book.report(agent(), &report("a", &[(9, TaskState::Finished)]), 2).is_empty());
        let elsewhere = AgentId::new(Epoch(1), 2);
        assert!(book.apply(elsewhere, Source::Agent, &update("a", 0, 3, TaskState::Finished)).is_empty());
        assert!(book.apply(agent(), Source::Agent, &update("a", 2, u32::MAX, TaskState::Finished)).len() == 1);
    }

    #[test]
    fn kills_are_repeated_until_their_target_has_ended() {
        let mut book = Book::default();
        book.add(&launch("a", 2), agent(), None, 1);
        assert!(book.kill(&"a/11".parse().unwrap(), None));
        assert!(!book.kill(&"b".parse().unwrap(), None));
        assert_eq!(book.kills_on(agent()).len(), 1);
        book.apply(agent(), Source::Agent, &update("a", 0, 2, TaskState::Killed));
        assert!(book.kills_on(agent()).is_empty());
    }

    #[test]
    fn memories_of_ended_launches_are_bounded() {
        let mut book = Book::default();
        for number in 0..MAX_ENDED + 10 {
            let id = format!("t{number}");
            book.add(&launch(&id, 1), agent(), None, 1);
            book.apply(agent(), Source::Agent, &update(&id, 0, 1, TaskState::Finished));
        }
        assert_eq!(book.launches.len(), MAX_ENDED);
        assert_eq!(book.by_agent[&agent()].len(), MAX_ENDED);
    }
}
