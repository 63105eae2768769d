//! Inverse offers: what was asked back, of whom, until when, and what becomes of the answers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, AgentInfo, FrameworkId, InverseOffer, InverseOfferId, InverseReason, MAX_GIVEN_SPANS, Resources, Role,
    SchedulerEvent, TaskSpan, TaskState, Time, ToAgent,
};

use crate::Master;
use crate::launches::{Place, Record};
use crate::options::MAX_CALL_OFFERS;
use crate::preemption::{PreemptionPhase, PreemptionRule};
use crate::timers::Timer;

/// An inverse offer that is out.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) agent: Option<AgentId>,
    pub(crate) resources: Resources,
    pub(crate) reason: InverseReason,
    pub(crate) beneficiary: Option<Role>,
    pub(crate) message: Arc<str>,
    /// When the master takes what is missing.
    pub(crate) due: Time,
    /// Whether the framework has answered.
    pub(crate) answered: bool,
    /// For whom, where it is for somebody.
    pub(crate) case: Option<Case>,
}

/// What an inverse offer is for, and what is taken if it is not given.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) for_framework: FrameworkId,
    pub(crate) for_role: Role,
    pub(crate) rule: PreemptionRule,
    pub(crate) plan: Vec<Planned>,
    /// What the framework's launches in the role held on the agent when it was asked.
    pub(crate) held: Resources,
    /// What the framework chose.
    pub(crate) chosen: Vec<TaskSpan>,
}

/// Slots of a launch that are to be taken.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) place: Place,
    /// How many it held when its framework was asked.
    pub(crate) before: u32,
    /// How many of them are to go.
    pub(crate) slots: u32,
}

/// All inverse offers that are out.
#[derive(Debug, Default)]
pub(crate) struct InverseOffers {
    pub(crate) minted: u64,
    pub(crate) out: BTreeMap<InverseOfferId, Asked>,
}

/// What the tasks of a launch are to be told when they are taken.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) grace: Option<Duration>,
    pub(crate) message: Arc<str>,
}

impl Master {
    /// Asks a framework to give something back. One that is not connected is not asked, but the deadline runs all the
    /// same: it may come back.
    pub(crate) fn ask_back(&mut self, asked: Asked) -> InverseOfferId {
        self.inverse.minted += 1;
        let id = InverseOfferId::new(self.cluster.epoch, self.inverse.minted);
        self.timers.set(Timer::Inverse(id), asked.due);
        let session = self.frameworks.get(&asked.framework).and_then(|framework| framework.connected());
        if let Some(session) = session {
            let offer = asked.offer(id, self.now);
            self.out.tell_framework(session, SchedulerEvent::InverseOffers(vec![offer]));
        }
        self.inverse.out.insert(id, asked);
        id
    }

    /// Tells a framework that has come back what is asked of it.
    pub(crate) fn repeat_inverse_offers(&mut self, framework: FrameworkId) {
        let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) else { return };
        let own = self.inverse.out.iter().filter(|(_, asked)| asked.framework == framework);
        let offers: Vec<InverseOffer> = own.map(|(id, asked)| asked.offer(*id, self.now)).collect();
        if !offers.is_empty() {
            self.out.tell_framework(session, SchedulerEvent::InverseOffers(offers));
        }
    }

    /// Takes an inverse offer out of the books.
    pub(crate) fn take_inverse(&mut self, id: InverseOfferId) -> Option<Asked> {
        self.timers.cancel(Timer::Inverse(id));
        self.inverse.out.remove(&id)
    }

    /// Ends inverse offers and tells whoever was asked.
    pub(crate) fn rescind_inverse(&mut self, ids: &[InverseOfferId]) {
        let mut told: BTreeMap<FrameworkId, Vec<InverseOfferId>> = BTreeMap::new();
        for id in ids {
            if let Some(asked) = self.take_inverse(*id) {
                told.entry(asked.framework).or_default().push(*id);
            }
        }
        for (framework, ids) in told {
            if let Some(session) = self.frameworks.get(&framework).and_then(|framework| framework.connected()) {
                self.out.tell_framework(session, SchedulerEvent::InverseRescinded(ids));
            }
        }
    }

    /// Ends every inverse offer made to a framework that is over.
    pub(crate) fn drop_inverse_offers(&mut self, framework: FrameworkId) {
        let own = self.inverse.out.iter().filter(|(_, asked)| asked.framework == framework);
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.audit(id, PreemptionPhase::Given);
            self.take_inverse(id);
        }
    }

    /// The framework gives something back: what it names is ended at once.
    pub(crate) fn accept_inverse(
        &mut self,
        framework: FrameworkId,
        id: InverseOfferId,
        tasks: &[TaskSpan],
        grace: Option<Duration>,
    ) {
        if tasks.len() > MAX_GIVEN_SPANS {
            let count = tasks.len();
            return self
                .complain(framework, format!("{id} is answered with {count} runs; the limit is {MAX_GIVEN_SPANS}"));
        }
        let Some(asked) = self.inverse.out.get_mut(&id).filter(|asked| asked.framework == framework) else {
            return self.complain(framework, format!("inverse offer {id} is not out (any more)"));
        };
        asked.answered = true;
        if let Some(case) = asked.case.as_mut().filter(|_| !tasks.is_empty()) {
            case.chosen = tasks.to_vec();
        }
        let asked = asked.clone();
        let why = Why { grace, message: format!("given back for {id}: {}", asked.message).into() };
        for span in tasks {
            match self.span_of(framework, &asked, span) {
                Ok((place, range)) => self.take_positions(&place, range, &why),
                Err(message) => self.complain(framework, message),
            }
        }
        self.audit(id, PreemptionPhase::Chosen);
    }

    /// The framework leaves the choice to the master.
    pub(crate) fn decline_inverse(&mut self, framework: FrameworkId, ids: &[InverseOfferId]) {
        if ids.len() > MAX_CALL_OFFERS {
            let count = ids.len();
            let message = format!("decline names {count} inverse offers; the limit is {MAX_CALL_OFFERS}");
            return self.complain(framework, message);
        }
        let now = self.now;
        for id in ids {
            let Some(asked) = self.inverse.out.get_mut(id).filter(|asked| asked.framework == framework) else {
                continue;
            };
            asked.answered = true;
            if asked.reason != InverseReason::Maintenance {
                asked.due = now;
                self.timers.set(Timer::Inverse(*id), now);
            }
        }
    }

    /// The tasks that an answer names: live, held in the role and on the agent that was asked about.
    fn span_of(&self, framework: FrameworkId, asked: &Asked, span: &TaskSpan) -> Result<(Place, Range<u32>), String> {
        let places = self.launches.named(framework, &span.batch);
        let here = |place: &Place| {
            let record = self.launches.get(place).filter(|record| record.live > 0 && record.role == asked.role);
            record.is_some() && asked.agent.is_none_or(|agent| agent == place.agent)
        };
        let Some(place) = places.into_iter().find(here) else {
            let (batch, role) = (&span.batch, &asked.role);
            let where_ = asked.agent.map_or_else(String::new, |agent| format!(" on {agent}"));
            return Err(format!("launch {batch} has no live task in role {role}{where_} to give back"));
        };
        let range = self.launches.get(&place).map(|record| record.range);
        let first = range.and_then(|range| range.position_of(span.tasks.index_at(0)));
        match (range, first) {
            (Some(range), Some(first)) if first.saturating_add(span.tasks.count()) <= range.count() => {
                Ok((place, first..first.saturating_add(span.tasks.count())))
            }
            _ => Err(format!("{span} are not all tasks of the launch")),
        }
    }

    /// Ends tasks of a launch on their agent: its unstarted end is trimmed, what runs is preempted.
    pub(crate) fn take_positions(&mut self, place: &Place, range: Range<u32>, why: &Why) {
        let Some(record) = self.launches.get(place) else { return };
        let tail = unstarted_end(record).max(range.start);
        let live = record.ranges_where(|status| !status.state.is_terminal());
        let last = live.last().map_or(0, |last| last.end);
        let Some(agent) = self.agents.get(&place.agent) else { return };
        let able = agent.info.capabilities.contains(AgentInfo::PREEMPTION);
        // An agent that is away keeps what it has; whoever asked will ask again.
        let Some(session) = agent.active() else { return };
        let (framework, batch) = (place.framework, place.batch.clone());
        if tail < last && range.end >= last {
            self.trim_from(place, tail, &why.message);
        }
        for part in live {
            let (first, end) = (part.start.max(range.start), part.end.min(range.end));
            if first >= end {
                continue;
            }
            let (grace, message) = (why.grace, Arc::clone(&why.message));
            if able {
                let (count, batch) = (end - first, batch.clone());
                let preempt = ToAgent::Preempt { framework, batch, first, count, grace, message };
                self.out.tell_agent(session, preempt);
            } else if let Some(range) = self.launches.get(place).map(|record| record.range) {
                // An agent of an older version calls them killed.
                for position in first..end {
                    let task = holm_model::TaskId { batch: batch.clone(), index: range.index_at(position) };
                    self.out.tell_agent(session, ToAgent::Kill { framework, task, grace });
                }
            }
        }
    }

    /// Gives up the unstarted tasks of a launch from a position on.
    pub(crate) fn trim_from(&mut self, place: &Place, from: u32, message: &Arc<str>) {
        let Some(session) = self.agents.get(&place.agent).and_then(|agent| agent.active()) else { return };
        let (framework, batch, message) = (place.framework, place.batch.clone(), Arc::clone(message));
        self.out.tell_agent(session, ToAgent::Trim { framework, batch, from, message });
    }
}

impl Asked {
    /// As the framework sees it.
    fn offer(&self, id: InverseOfferId, now: Time) -> InverseOffer {
        InverseOffer {
            id,
            framework: self.framework,
            role: self.role.clone(),
            agent: self.agent,
            resources: self.resources.clone(),
            deadline: self.due.since(now),
            reason: self.reason,
            beneficiary: self.beneficiary.clone(),
            message: Arc::clone(&self.message),
        }
    }
}

/// The position from which on no task of a launch has started and is not over.
pub(crate) fn unstarted_end(record: &Record) -> u32 {
    let started = record.ranges_where(|status| !status.state.is_terminal() && status.state != TaskState::Staging);
    started.last().map_or(0, |last| last.end)
}
