//! Which tasks a framework may give back when the cluster asks for something: a suggestion from its own book.

use holm_model::{BatchId, InverseOffer, InverseReason, Resources, TaskRange, TaskSpan, TaskState};

use crate::book::{Book, Entry};

/// One slot of a launch that could be given back: the tasks whose end frees it, once those of the units before it of the
/// same launch have ended too.
struct Unit<'a> {
    batch: &'a BatchId,
    entry: &'a Entry,
    /// Positions, the last ones first.
    positions: Vec<u32>,
    /// Whether one of them has started.
    started: bool,
}

impl Book {
    /// Tasks whose end gives what is asked for, or all there are if that is less. A launch holds its slots until fewer
    /// tasks than slots are left, so that its unstarted end goes first; then the youngest.
    pub(crate) fn suggest(&self, offer: &InverseOffer) -> Vec<TaskSpan> {
        let mut launches = self.live_on(offer.agent);
        launches.retain(|(_, entry)| entry.holding.role.as_ref().is_none_or(|role| *role == offer.role));
        launches.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.order));
        if offer.reason == InverseReason::ScaleDown {
            return tails(&launches, &offer.resources);
        }
        let mut units: Vec<Unit<'_>> = launches.into_iter().flat_map(|(batch, entry)| units_of(batch, entry)).collect();
        // Stable: the youngest launch first, and within a launch its last slot.
        units.sort_by_key(|unit| unit.started);
        let mut given = Resources::EMPTY;
        let mut chosen: Vec<Unit<'_>> = Vec::new();
        for unit in units {
            if given.contains(&offer.resources) {
                break;
            }
            if let Ok(more) = given.plus(&unit.entry.holding.shape) {
                given = more;
                chosen.push(unit);
            }
        }
        drop_unneeded(&mut chosen, given, &offer.resources);
        spans_of(&chosen)
    }
}

/// The unstarted ends of launches whose slots are as much as is wanted: nothing that runs is worth ending for an even share.
fn tails(launches: &[(&BatchId, &Entry)], wanted: &Resources) -> Vec<TaskSpan> {
    let mut given = Resources::EMPTY;
    let mut chosen: Vec<Unit<'_>> = Vec::new();
    for (batch, entry) in launches {
        if given.contains(wanted) {
            break;
        }
        let positions: Vec<u32> =
            (0u32..).zip(&entry.states).filter(|(_, state)| is_fresh(**state)).map(|(at, _)| at).collect();
        let slots = entry.holding.slots.min(entry.live);
        let more = entry.holding.shape.times(slots).and_then(|more| given.plus(&more).ok());
        if let Some(more) = more.filter(|_| !positions.is_empty()) {
            given = more;
            chosen.push(Unit { batch, entry, positions, started: false });
        }
    }
    spans_of(&chosen)
}

fn is_fresh(state: Option<TaskState>) -> bool {
    matches!(state, None | Some(TaskState::Staging))
}

/// The slots of a launch in the order in which they can be freed.
fn units_of<'a>(batch: &'a BatchId, entry: &'a Entry) -> Vec<Unit<'a>> {
    let is_fresh = |position: u32| entry.states.get(position as usize).is_some_and(|state| is_fresh(*state));
    let is_live = |position: &u32| {
        let state = entry.states.get(*position as usize).copied().flatten();
        state.is_none_or(|state| !state.is_terminal())
    };
    let count = u32::try_from(entry.states.len()).unwrap_or(u32::MAX);
    let (mut fresh, started): (Vec<u32>, Vec<u32>) = (0..count).filter(is_live).partition(|at| is_fresh(*at));
    let mut left = entry.live;
    let mut units = Vec::new();
    // What has started goes last; of both the last positions go first.
    let mut order = started;
    order.append(&mut fresh);
    for slots in (0..entry.holding.slots.min(left)).rev() {
        let ends = order.split_off(order.len().saturating_sub(left.saturating_sub(slots) as usize));
        let started = ends.iter().any(|at| !is_fresh(*at));
        units.push(Unit { batch, entry, positions: ends.into_iter().rev().collect(), started });
        left = slots;
    }
    units
}

/// The reverse pass: what was chosen first and is not needed after what was chosen later stays. Only the unit of a
/// launch that was chosen last can be left out of it.
fn drop_unneeded(chosen: &mut Vec<Unit<'_>>, mut given: Resources, wanted: &Resources) {
    if !given.contains(wanted) {
        return;
    }
    let mut at = 0;
    while at < chosen.len() {
        let unit = &chosen[at];
        let is_last = chosen[at + 1..].iter().all(|later| later.batch != unit.batch);
        match given.minus(&unit.entry.holding.shape) {
            Ok(rest) if is_last && rest.contains(wanted) => {
                given = rest;
                chosen.remove(at);
            }
            _ => at += 1,
        }
    }
}

/// The tasks of the chosen units as runs of neighbours, by launch.
fn spans_of(chosen: &[Unit<'_>]) -> Vec<TaskSpan> {
    let mut positions: Vec<(&BatchId, u32, &Entry)> = Vec::new();
    for unit in chosen {
        positions.extend(unit.positions.iter().map(|position| (unit.batch, *position, unit.entry)));
    }
    positions.sort_by_key(|(batch, position, _)| (*batch, *position));
    let mut spans: Vec<TaskSpan> = Vec::new();
    for (batch, position, entry) in positions {
        let TaskRange::Array { first: base, .. } = entry.tasks else {
            spans.push(TaskSpan { batch: batch.clone(), tasks: TaskRange::Single });
            continue;
        };
        let index = base.saturating_add(position);
        match spans.last_mut() {
            Some(TaskSpan { batch: last, tasks: TaskRange::Array { first, count } })
                if last == batch && first.saturating_add(*count) == index =>
            {
                *count += 1;
            }
            _ => spans.push(TaskSpan { batch: batch.clone(), tasks: TaskRange::Array { first: index, count: 1 } }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holm_model::{
        AgentId, Epoch, FrameworkId, InverseOfferId, Launch, Source, TaskSpec, TaskStatus, Update, Usages,
    };

    use super::*;

    fn agent(number: u64) -> AgentId {
        AgentId::new(Epoch(1), number)
    }

    fn add(book: &mut Book, id: &str, on: u64, tasks: TaskRange, slots: u32, running: u32) {
        let spec = TaskSpec { resources: "cpus:1;mem:10MiB".parse().unwrap(), ..TaskSpec::default() }.into();
        let launch = Launch { id: id.parse().unwrap(), tasks, slots, spec };
        book.add(&launch, agent(on), Some("eng".parse().unwrap()), 1);
        let status = TaskStatus::of(TaskState::Running);
        let batch = launch.id;
        let update = Update { sequence: 1, batch, first: 0, count: running, status, usages: Usages::default() };
        book.apply(agent(on), Source::Agent, &update);
    }

    fn suggested(book: &Book, resources: &str, on: Option<u64>) -> Vec<String> {
        asked(book, resources, on, InverseReason::Preemption)
    }

    fn asked(book: &Book, resources: &str, on: Option<u64>, reason: InverseReason) -> Vec<String> {
        let offer = InverseOffer {
            id: InverseOfferId::new(Epoch(1), 1),
            framework: FrameworkId::new(Epoch(1), 1),
            role: "eng".parse().unwrap(),
            agent: on.map(agent),
            resources: resources.parse().unwrap(),
            deadline: Duration::from_secs(60),
            reason,
            beneficiary: None,
            message: "".into(),
        };
        book.suggest(&offer).iter().map(ToString::to_string).collect()
    }

    const fn array(count: u32) -> TaskRange {
        TaskRange::Array { first: 10, count }
    }

    #[test]
    fn the_youngest_single_tasks_go_first_and_no_more_than_needed() {
        let mut book = Book::default();
        for id in ["old", "mid", "new"] {
            add(&mut book, id, 1, TaskRange::Single, 1, 1);
        }
        assert_eq!(suggested(&book, "cpus:1", None), ["new"]);
        assert_eq!(suggested(&book, "cpus:1.5", None), ["mid", "new"]);
        assert_eq!(suggested(&book, "cpus:9", None), ["mid", "new", "old"]);
    }

    #[test]
    fn what_has_not_started_goes_before_what_runs() {
        let mut book = Book::default();
        add(&mut book, "fresh", 1, array(4), 2, 0);
        add(&mut book, "new", 1, TaskRange::Single, 1, 1);
        // Both slots are free of work as yet: three tasks must go before the first slot is.
        assert_eq!(suggested(&book, "cpus:1", None), ["fresh/11..13"]);
        assert_eq!(suggested(&book, "cpus:3", None), ["fresh/10..13", "new"]);
    }

    #[test]
    fn a_running_slot_takes_the_whole_unstarted_end_along() {
        let mut book = Book::default();
        add(&mut book, "tiles", 1, array(100), 2, 2);
        assert_eq!(suggested(&book, "cpus:1", None), ["tiles/11..109"]);
    }

    #[test]
    fn scaling_down_ends_nothing_that_runs() {
        let mut book = Book::default();
        add(&mut book, "tiles", 1, array(100), 2, 2);
        add(&mut book, "new", 1, TaskRange::Single, 1, 1);
        assert_eq!(asked(&book, "cpus:1", None, InverseReason::ScaleDown), ["tiles/12..109"]);
    }

    #[test]
    fn only_the_agent_that_is_asked_about_counts() {
        let mut book = Book::default();
        add(&mut book, "here", 1, TaskRange::Single, 1, 1);
        add(&mut book, "there", 2, TaskRange::Single, 1, 1);
        assert_eq!(suggested(&book, "cpus:1", Some(1)), ["here"]);
        assert!(suggested(&book, "cpus:1", Some(3)).is_empty());
    }
}
