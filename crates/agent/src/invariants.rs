//! What must hold of both machines after every event. The simulator and the tests check it; daemons may.

use std::fmt;

use holm_model::{Resources, TaskState};

use crate::agent::Agent;
use crate::placement::Place;
use crate::runner::{Runner, RunnerWork, Task};
use crate::work::{Stage, Work};

/// One invariant that does not hold, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks an agent.
pub fn check_agent(agent: &Agent) -> Vec<Violation> {
    let mut found = Vec::new();
    what_is_held_is_the_sum_of_what_works_hold(agent, &mut found);
    counts_of_a_work_agree_with_its_statuses(agent, &mut found);
    logs_are_in_order_and_about_known_works(agent, &mut found);
    tenants_and_works_name_each_other(agent, &mut found);
    every_runner_has_a_slot_and_no_slot_lacks_a_runner(agent, &mut found);
    nothing_waits_for_a_place_that_is_there(agent, &mut found);
    no_record_was_rejected(agent, &mut found);
    found
}

/// Checks a runner.
pub fn check_runner(runner: &Runner) -> Vec<Violation> {
    let mut found = Vec::new();
    let unacknowledged = runner.reports.counts();
    for (id, work) in &runner.works {
        counts_of_a_runners_work_agree_with_its_tasks(&id.to_string(), work, &mut found);
        let unacknowledged = unacknowledged.get(id).copied().unwrap_or(0);
        demand(&mut found, unacknowledged == work.unacknowledged, || {
            format!("{id} counts {} unacknowledged reports of {unacknowledged}", work.unacknowledged)
        });
        demand(&mut found, !work.is_settled(), || format!("{id} is settled and was not forgotten"));
    }
    for (deadline, id, position) in &runner.deadlines {
        let task = runner.works.get(id).and_then(|work| work.task(*position));
        let stopping = matches!(task, Some(Task::Stopping { deadline: Some(at), .. }) if at == *deadline);
        demand(&mut found, stopping, || format!("{id} position {position} has a deadline and is not stopping"));
    }
    let mut last = 0;
    for report in runner.reports.kept() {
        demand(&mut found, report.sequence == last + 1 || last == 0, || {
            format!("report {} follows {last}", report.sequence)
        });
        last = report.sequence;
    }
    found
}

fn demand(found: &mut Vec<Violation>, holds: bool, sentence: impl FnOnce() -> String) {
    if !holds {
        found.push(Violation(sentence()));
    }
}

fn what_is_held_is_the_sum_of_what_works_hold(agent: &Agent, found: &mut Vec<Violation>) {
    let (mut held, mut borrowed) = (Resources::EMPTY, Resources::EMPTY);
    for id in agent.ledger.works() {
        let slots = agent.ledger.slots(id);
        let Some(work) = agent.durable.works.get(&id) else {
            found.push(Violation(format!("{id} holds {slots} slots and does not exist")));
            continue;
        };
        demand(found, slots == work.slots(), || format!("{id} is charged {slots} slots of {}", work.slots()));
        let sum = if work.launch.spec.revocable { &mut borrowed } else { &mut held };
        match sum.plus(&work.launch.held_by(slots)) {
            Ok(more) => *sum = more,
            Err(error) => found.push(Violation(format!("{id} holds what another work holds: {error}"))),
        }
    }
    for (sum, booked) in [(held, agent.ledger.held()), (borrowed, agent.ledger.borrowed())] {
        demand(found, sum == *booked, || format!("works hold {sum}, the ledger says {booked}"));
    }
    for (id, work) in &agent.durable.works {
        demand(found, agent.ledger.slots(*id) == work.slots(), || format!("{id} is live and holds nothing"));
    }
}

fn counts_of_a_work_agree_with_its_statuses(agent: &Agent, found: &mut Vec<Violation>) {
    for (id, work) in &agent.durable.works {
        let live = work.statuses.iter().filter(|status| !status.state.is_terminal()).count();
        demand(found, live == work.live as usize, || format!("{id} counts {} live tasks of {live}", work.live));
        demand(found, (work.stage == Stage::Over) == (live == 0), || {
            format!("{id} with {live} live tasks is {:?}", work.stage)
        });
        demand(found, !work.is_settled(), || format!("{id} is settled and was not forgotten"));
        let alien = |work: &Work| work.statuses.iter().any(|status| status.state == TaskState::Unreachable);
        demand(found, !alien(work), || format!("{id} has a task in a state that only a master gives"));
    }
}

fn logs_are_in_order_and_about_known_works(agent: &Agent, found: &mut Vec<Violation>) {
    for (framework, tenant) in &agent.durable.tenants {
        let mut last = tenant.log.acknowledged();
        let mut ends = 0;
        for entry in tenant.log.entries() {
            let (sequence, update) = (entry.update.sequence, &entry.update);
            demand(found, sequence > last, || format!("{framework} has entry {sequence} after {last}"));
            demand(found, agent.durable.works.contains_key(&entry.work), || {
                format!("entry {sequence} of {framework} is about {}, which is gone", entry.work)
            });
            ends += if update.status.state.is_terminal() { u64::from(update.count) } else { 0 };
            last = sequence;
        }
        demand(found, ends == tenant.log.ends(), || format!("{framework} counts {} ends of {ends}", tenant.log.ends()));
        for id in tenant.batches.values() {
            let entries = tenant.log.entries().filter(|entry| entry.work == *id).count();
            let counted = agent.durable.works.get(id).map_or(0, |work| work.entries as usize);
            demand(found, entries == counted, || format!("{id} counts {counted} log entries of {entries}"));
        }
    }
}

fn tenants_and_works_name_each_other(agent: &Agent, found: &mut Vec<Violation>) {
    for (id, work) in &agent.durable.works {
        let named = agent.durable.tenants.get(&work.framework).and_then(|tenant| tenant.batches.get(&work.launch.id));
        demand(found, named == Some(id), || format!("{id} is not listed under its framework"));
    }
    let works = agent.durable.tenants.values().map(|tenant| tenant.batches.len()).sum::<usize>();
    demand(found, works == agent.durable.works.len(), || {
        format!("frameworks list {works} works of {}", agent.durable.works.len())
    });
    for (framework, tenant) in &agent.durable.tenants {
        let works = tenant.batches.values().filter_map(|id| agent.durable.works.get(id));
        let live: u64 = works.map(|work| u64::from(work.live)).sum();
        demand(found, live == tenant.live, || format!("{framework} counts {} live tasks of {live}", tenant.live));
    }
}

fn every_runner_has_a_slot_and_no_slot_lacks_a_runner(agent: &Agent, found: &mut Vec<Violation>) {
    let same = agent.slots.keys().eq(agent.durable.runners.keys());
    demand(found, same, || format!("runners {:?} and slots {:?}", agent.durable.runners, agent.slots));
    for (id, work) in &agent.durable.works {
        if let Some(runner) = work.runner() {
            let admitted = agent.scope_of_runner(runner).is_some_and(|scope| agent.admits(scope, *id));
            demand(found, admitted, || format!("{id} is on {runner}, which is gone or another's"));
        }
        // These wait for others before they wait for a runner.
        if work.executor().is_some() || agent.group_prepares(*id) {
            continue;
        }
        if matches!(work.stage, Stage::Ready(_)) {
            let waits = agent.waiting.scopes().any(|(_, works)| works.contains(id));
            demand(found, waits, || format!("{id} is ready and does not wait"));
        }
    }
    for (runner, slot) in &agent.slots {
        for (id, work) in agent.durable.works.iter().filter(|(_, work)| work.runner() == Some(*runner)) {
            let load = slot.load.slots(*id);
            demand(found, load == work.places(), || format!("{id} counts {load} of {} on {runner}", work.places()));
        }
        let sum: u64 = agent
            .durable
            .works
            .values()
            .filter(|work| work.runner() == Some(*runner))
            .map(|work| u64::from(work.places()))
            .sum();
        demand(found, sum == slot.load.total(), || format!("{runner} counts {} places of {sum}", slot.load.total()));
    }
}

/// What waits for a runner waits for one that is on its way, or because there can be none.
fn nothing_waits_for_a_place_that_is_there(agent: &Agent, found: &mut Vec<Violation>) {
    for (scope, works) in agent.waiting.scopes() {
        let first = works.first().and_then(|id| Some((id, agent.durable.works.get(id)?)));
        let Some((id, work)) = first else {
            found.push(Violation(format!("unknown launches {works:?} wait for a runner")));
            continue;
        };
        let place = agent.place(*scope, work.places());
        // One that is ending is looked at again when it has ended.
        let ending = place == Place::Another && agent.runners().any(|(_, other)| other == *scope);
        let waits = ending || matches!(place, Place::Soon | Place::Nowhere);
        demand(found, waits, || format!("{id} waits, and could be {place:?}"));
    }
}

fn no_record_was_rejected(agent: &Agent, found: &mut Vec<Violation>) {
    let rejected = agent.counters().rejected_records;
    demand(found, rejected == 0, || format!("{rejected} records did not fit the state they were to change"));
}

fn counts_of_a_runners_work_agree_with_its_tasks(id: &str, work: &RunnerWork, found: &mut Vec<Violation>) {
    let left = work.tasks.iter().filter(|task| **task != Task::Over).count();
    let spawned = work.tasks.iter().filter(|task| task.is_spawned()).count();
    demand(found, left == work.left as usize, || format!("{id} counts {} tasks left of {left}", work.left));
    demand(found, spawned == work.spawned as usize, || {
        format!("{id} counts {} spawned tasks of {spawned}", work.spawned)
    });
    demand(found, work.spawned <= work.launch.slots, || {
        format!("{id} runs {spawned} tasks on {} slots", work.launch.slots)
    });
    let passed = work.tasks.iter().take(work.next as usize).any(|task| *task == Task::Queued);
    demand(found, !passed, || format!("{id} has a queued task before its cursor"));
}
