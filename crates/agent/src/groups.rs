//! Groups of launches: taken together or not at all, prepared before any of them starts, ended together.

use std::collections::BTreeSet;
use std::time::Duration;

use holm_model::{
    FrameworkId, Launch, MAX_GROUP_LAUNCHES, Portions, Reason, Role, TaskState, TaskStatus, Time, WorkId,
};

use crate::agent::Agent;
use crate::event::AgentEffect;
use crate::launching::{NewEntry, invalid};
use crate::record::Record;
use crate::work::Stage;

impl Agent {
    pub(crate) fn launch_group(
        &mut self,
        sequence: u64,
        (framework, role): (FrameworkId, Role),
        origins: Vec<Portions>,
        launches: Vec<Launch>,
        now: Time,
    ) {
        if !self.is_next_launch(sequence) {
            return;
        }
        if let Err(message) = self.make_way_for_group(framework, &launches) {
            return self.fault(&message);
        }
        let count = launches.iter().map(|launch| u64::from(launch.tasks.count())).sum();
        let mut refusals: Vec<Option<TaskStatus>> = launches.iter().map(invalid).collect();
        if let (None, Some(too_many)) = (&refusals[0], self.over_limit(framework, count)) {
            refusals[0] = Some(too_many);
        }
        let group = WorkId(self.durable.next_work);
        if !self.commit(Record::GroupAdded { first: group, framework, role, origins, launches }) {
            return;
        }
        let members = self.members(group);
        for (id, refusal) in members.iter().zip(&mut refusals) {
            if refusal.is_none() {
                *refusal = self.admit_member(*id).err();
            }
        }
        let culprit = members.iter().zip(refusals).find_map(|(id, refusal)| Some((*id, refusal?)));
        match culprit {
            None => members.into_iter().for_each(|id| self.begin(id, now)),
            Some((culprit, status)) => self.refuse_group(&members, culprit, status),
        }
    }

    /// Checks what cannot be answered under the names of the launches, as for a single one.
    fn make_way_for_group(&mut self, framework: FrameworkId, launches: &[Launch]) -> Result<(), String> {
        let count = launches.len();
        if count == 0 || count > MAX_GROUP_LAUNCHES {
            return Err(format!("group has {count} launches; it needs 1 to {MAX_GROUP_LAUNCHES}"));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = launches.iter().find(|launch| !names.insert(&launch.id)) {
            return Err(format!("launch {} is twice in its group", twice.id));
        }
        launches.iter().try_for_each(|launch| self.make_way(framework, launch))
    }

    /// Charges what a member holds, if it can run at all beside the others.
    fn admit_member(&mut self, id: WorkId) -> Result<(), TaskStatus> {
        let Some(work) = self.durable.works.get(&id) else { return Ok(()) };
        if let Some(status) = self.without_executor(work.framework, &work.launch) {
            return Err(status);
        }
        if self.home_of(id) > id {
            let why = "its executor comes after it in the group";
            return Err(TaskStatus::because(TaskState::Dropped, Reason::ExecutorLost, why));
        }
        self.admit(id)
    }

    fn refuse_group(&mut self, members: &[WorkId], culprit: WorkId, status: TaskStatus) {
        self.counters.refused_launches += members.len() as u64;
        let Some(name) = self.durable.works.get(&culprit).map(|work| work.launch.id.clone()) else { return };
        let why = format!("launch {name} of its group was refused: {}", status.message);
        for id in members {
            let status = if *id == culprit { status.clone() } else { failed(TaskState::Dropped, &why) };
            self.end_unsent(*id, status);
        }
    }

    /// The works of a group that are still known.
    fn members(&self, group: WorkId) -> Vec<WorkId> {
        let end = WorkId(group.0.saturating_add(MAX_GROUP_LAUNCHES as u64));
        let near = self.durable.works.range(group..end);
        near.filter(|(_, work)| work.group == Some(group)).map(|(id, _)| *id).collect()
    }

    /// Whether a member of the work's group is not prepared yet, so that none may start.
    pub(crate) fn group_prepares(&self, id: WorkId) -> bool {
        let Some(group) = self.durable.works.get(&id).and_then(|work| work.group) else { return false };
        let preparing = |id: &WorkId| self.durable.works.get(id).is_some_and(|work| work.stage == Stage::Preparing);
        self.members(group).iter().any(preparing)
    }

    /// Dispatches a work that is prepared, and what only waited for it.
    pub(crate) fn dispatch_group(&mut self, id: WorkId, now: Time) {
        let members = match self.durable.works.get(&id).and_then(|work| work.group) {
            Some(group) => self.members(group),
            None => vec![id],
        };
        for id in members {
            if self.prepared_of(id).is_some() {
                self.dispatch(id, now);
            }
        }
    }

    /// Ends every task of a group that has not been asked to end yet.
    pub(crate) fn end_group(&mut self, group: WorkId, why: &str, grace: Option<Duration>, now: Time) {
        for id in self.members(group) {
            let Some(work) = self.durable.works.get(&id).filter(|work| work.live > 0) else { continue };
            match &work.stage {
                Stage::Over => {}
                stage @ (Stage::Preparing | Stage::Ready(_)) => {
                    if *stage == Stage::Preparing {
                        self.out.push(AgentEffect::Abandon { work: id });
                    }
                    self.end_unsent(id, failed(TaskState::Dropped, why));
                }
                Stage::Sent { runner, .. } => {
                    let (runner, all) = (*runner, work.clip(0, u32::MAX));
                    let fresh = work.runs_where(all, |state| matches!(state, TaskState::Staging | TaskState::Running));
                    for (first, count) in fresh {
                        let status = failed(TaskState::Killing, why);
                        self.log(NewEntry::own(id, first, count, status));
                        self.forward_kill(id, runner, Some((first, count)), grace, now);
                    }
                }
            }
        }
    }
}

fn failed(state: TaskState, why: &str) -> TaskStatus {
    TaskStatus::because(state, Reason::GroupFailed, why)
}
