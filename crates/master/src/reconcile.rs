//! Reports: an agent that connects tells what it has, and the master makes its books agree. The agent is the authority on
//! what runs; what the master sent and the agent does not have never ran, or is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_model::{AgentId, BatchReport, FrameworkId, Reason, Source, TaskState, TaskStatus, ToAgent, Update};

use crate::Master;
use crate::agents::{AgentState, Report};
use crate::frameworks::FrameworkState;
use crate::launches::{Place, Record, ReportError, clipped, validate_report};
use crate::options::{MAX_AGENT_LAUNCHES, MAX_AGENT_TASKS};
use crate::tasks::derived;

impl Master {
    /// One page of an agent's report.
    pub(crate) fn report(&mut self, agent: AgentId, batches: Vec<BatchReport>, last: bool) {
        for batch in batches {
            if !matches!(self.agents.get(&agent).map(|agent| &agent.state), Some(AgentState::Recovering(..))) {
                return self.protocol_error(agent, "a report that nobody asked for");
            }
            if let Err(message) = self.reported(agent, batch) {
                return self.protocol_error(agent, &message);
            }
        }
        if last {
            self.report_complete(agent);
        }
    }

    /// One launch of a report.
    fn reported(&mut self, agent: AgentId, report: BatchReport) -> Result<(), String> {
        if !self.framework_is_live(report.framework) {
            self.remove_framework_from(agent, report.framework);
            return Ok(());
        }
        validate_report(&report).map_err(|invalid| invalid.to_string())?;
        self.count_reported(agent, report.tasks.count())?;
        let place = Place { framework: report.framework, batch: report.id.clone(), agent };
        let Some(record) = self.launches.get_mut(&place) else {
            if self.launches.count_on_agent(agent) >= MAX_AGENT_LAUNCHES {
                return Err(format!("a report of more than {MAX_AGENT_LAUNCHES} launches"));
            }
            self.seen(&place, true);
            let id = report.id.clone();
            let added = self.add_launch(&place, Record::reported(report), false);
            return if added { Ok(()) } else { Err(format!("launch {id} holds what another launch holds")) };
        };
        if !record.matches(&report) {
            return Err(ReportError::Changed { id: report.id }.to_string());
        }
        record.confirmed = true;
        let back = !record.ranges_where(|status| status.state == TaskState::Unreachable).is_empty();
        self.seen(&place, back);
        let mut first = 0;
        for run in report.runs {
            let positions = first..first + run.count;
            first = positions.end;
            self.enter(&place, positions, &Arc::new(clipped(run.status)));
        }
        if self.settle(&place) {
            return Ok(());
        }
        self.lose_conflicting(&place);
        Err(format!("launch {} holds what another launch holds", report.id))
    }

    fn count_reported(&mut self, agent: AgentId, tasks: u32) -> Result<(), String> {
        let state = self.agents.get_mut(&agent).map(|agent| &mut agent.state);
        let Some(AgentState::Recovering(_, report)) = state else { return Ok(()) };
        report.tasks += u64::from(tasks);
        let message = || format!("a report of more than {MAX_AGENT_TASKS} tasks");
        if report.tasks > MAX_AGENT_TASKS { Err(message()) } else { Ok(()) }
    }

    /// Ends a launch whose resources cannot be charged beside what else its agent reports.
    pub(crate) fn lose_conflicting(&mut self, place: &Place) {
        let message = "the agent came back with launches that hold the same resources";
        let status = TaskStatus::because(TaskState::Gone, Reason::AgentRestarted, message);
        let Some(record) = self.launches.get(place) else { return };
        let updates: Vec<_> = record
            .ranges_where(|status| !status.state.is_terminal())
            .into_iter()
            .map(|range| derived(place, range, &status))
            .collect();
        self.end_tasks(place, status);
        if let Some(record) = self.launches.get_mut(place) {
            record.derived = true;
        }
        self.send_updates(place.framework, place.agent, Source::Master, updates);
    }

    fn seen(&mut self, place: &Place, back: bool) {
        if let Some(AgentState::Recovering(_, report)) = self.agents.get_mut(&place.agent).map(|agent| &mut agent.state)
        {
            report.seen.insert((place.framework, place.batch.clone()));
            if back {
                report.back.insert((place.framework, place.batch.clone()));
            }
        }
    }

    /// The last page: what was not in the report is not there, and the agent takes part again.
    fn report_complete(&mut self, agent: AgentId) {
        let Some(peer) = self.agents.get_mut(&agent) else { return };
        let AgentState::Recovering(stream, _) = peer.state else {
            return self.protocol_error(agent, "a report that nobody asked for");
        };
        let left = peer.state.enter(AgentState::Active(stream));
        let first = !std::mem::replace(&mut peer.reported, true);
        let takes_launches = peer.condition.held_back.is_none();
        let Some(AgentState::Recovering(_, report)) = self.check(left) else { return };
        self.set_agent_offered(agent, takes_launches);
        self.touched(agent);
        let absent = self.end_absent(agent, &report);
        self.tell_frameworks(agent, &report, first);
        for (framework, updates) in absent {
            self.send_updates(framework, agent, Source::Master, updates);
        }
        self.repeat_acknowledgements(agent);
        self.send_waiting_kills(agent);
        for place in self.launches.on_agent(agent) {
            if !report.seen.contains(&(place.framework, place.batch.clone())) {
                self.retire(&place);
            }
        }
    }

    /// Ends the tasks of launches that were not in the report: those the agent had, or may have had in an earlier life of
    /// its logs, are gone; the others never ran.
    fn end_absent(&mut self, agent: AgentId, report: &Report) -> BTreeMap<FrameworkId, Vec<Update>> {
        let mut ended: BTreeMap<FrameworkId, Vec<Update>> = BTreeMap::new();
        for place in self.launches.on_agent(agent) {
            if report.seen.contains(&(place.framework, place.batch.clone())) {
                continue;
            }
            let Some(record) = self.launches.get_mut(&place).filter(|record| record.live > 0) else { continue };
            record.derived = true;
            let live = record.ranges_where(|status| !status.state.is_terminal());
            let status = if record.confirmed {
                let message = "the agent came back without the task";
                TaskStatus::because(TaskState::Gone, Reason::AgentRestarted, message)
            } else {
                let message = "the connection to the agent ended before the launch arrived";
                TaskStatus::because(TaskState::Dropped, Reason::AgentDisconnected, message)
            };
            let shared = Arc::new(status.clone());
            for range in live {
                self.enter(&place, range.clone(), &shared);
                ended.entry(place.framework).or_default().push(derived(&place, range, &status));
            }
        }
        ended
    }

    /// Tells frameworks what the report means to them: everything, when it is the agent's first to this master; else
    /// that unreachable tasks are back, and what came while the report was incomplete.
    fn tell_frameworks(&mut self, agent: AgentId, report: &Report, first: bool) {
        let mut places: BTreeMap<FrameworkId, Vec<Place>> = BTreeMap::new();
        for place in self.launches.on_agent(agent) {
            places.entry(place.framework).or_default().push(place);
        }
        let mut sessions = Vec::new();
        for (id, framework) in &mut self.frameworks {
            if let FrameworkState::Connected(subscription) = &mut framework.state {
                let waited = subscription.pending.remove(&agent);
                if first && (waited || places.contains_key(id)) {
                    sessions.push((*id, subscription.session));
                }
            }
        }
        let told: BTreeSet<FrameworkId> = sessions.iter().map(|(framework, _)| *framework).collect();
        for (framework, session) in sessions {
            let there = places.get(&framework).map(Vec::as_slice).unwrap_or_default();
            self.send_tasks(session, framework, agent, there);
        }
        if !first {
            self.tell_back(agent, report);
        }
        let held_back = self.agents.get_mut(&agent).map(|agent| std::mem::take(&mut agent.held_back));
        for framework in held_back.into_iter().flatten().filter(|id| !told.contains(id)) {
            self.replay(framework, agent);
        }
    }

    /// Tells frameworks that tasks thought unreachable live. Ends come as entries of the agent's log.
    fn tell_back(&mut self, agent: AgentId, report: &Report) {
        let mut back: BTreeMap<FrameworkId, Vec<Update>> = BTreeMap::new();
        for (framework, batch) in &report.back {
            let place = Place { framework: *framework, batch: batch.clone(), agent };
            let Some(record) = self.launches.get(&place) else { continue };
            let mut first = 0;
            for run in record.runs() {
                let positions = first..first + run.count;
                first = positions.end;
                if !run.status.state.is_terminal() {
                    back.entry(*framework).or_default().push(derived(&place, positions, &run.status));
                }
            }
        }
        for (framework, updates) in back {
            self.send_updates(framework, agent, Source::Master, updates);
        }
    }

    /// Tells the agent what frameworks have acknowledged while it was away.
    fn repeat_acknowledgements(&mut self, agent: AgentId) {
        let Some(session) = self.agents.get(&agent).and_then(|agent| agent.active()) else { return };
        for (framework, log) in self.logs.on_agent(agent) {
            if log.acknowledged > 0 {
                let (incarnation, sequence) = (log.incarnation, log.acknowledged);
                self.out.tell_agent(session, ToAgent::Acknowledge { framework, incarnation, sequence });
            }
        }
    }
}
