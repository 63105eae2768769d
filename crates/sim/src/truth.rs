//! What really happened to every task, as no process of the cluster can know it, and the promises it is held against.

use std::collections::BTreeMap;

use holm_model::{BatchId, FrameworkId, Launch, Resources, TaskRange, TaskState};

/// One task.
#[derive(Clone, Debug, Default)]
struct Task {
    /// A guest was started for it.
    spawned: bool,
    /// The guest runs.
    running: bool,
    /// An end is in its agent's status log, in the life of the log that still goes on.
    logged: bool,
    /// The end its framework was told, and the life of the framework in which it was last told.
    told: Option<(TaskState, u64)>,
}

/// One launch.
#[derive(Debug)]
struct Asked {
    tasks: TaskRange,
    slots: u32,
    shape: Resources,
    /// The life of the framework that asked for it.
    life: u64,
    positions: Vec<Task>,
}

/// Every launch that a scheduler ever asked for.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    launches: BTreeMap<(FrameworkId, BatchId), Asked>,
    broken: Vec<String>,
}

impl Truth {
    /// A scheduler asks for a launch. A name that was used before may be used again once that launch is over.
    pub(crate) fn asked(&mut self, framework: FrameworkId, launch: &Launch, life: u64) {
        let key = (framework, launch.id.clone());
        let live = |old: &Asked| old.positions.iter().any(|task| task.told.is_none());
        if self.launches.get(&key).is_some_and(live) {
            return;
        }
        let positions = vec![Task::default(); launch.tasks.count().min(holm_model::MAX_BATCH_TASKS) as usize];
        let shape = launch.spec.resources.clone();
        self.launches.insert(key, Asked { tasks: launch.tasks, slots: launch.slots, shape, life, positions });
    }

    /// How many launches there have been.
    pub(crate) fn count(&self) -> usize {
        self.launches.len()
    }

    /// How many tasks have been told to have ended so.
    pub(crate) fn told(&self, state: TaskState) -> usize {
        let tasks = self.launches.values().flat_map(|asked| &asked.positions);
        tasks.filter(|task| task.told.is_some_and(|(told, _)| told == state)).count()
    }

    fn task(&mut self, framework: FrameworkId, batch: &BatchId, position: u32) -> Option<&mut Task> {
        self.launches.get_mut(&(framework, batch.clone()))?.positions.get_mut(position as usize)
    }

    /// A guest is started.
    pub(crate) fn spawned(&mut self, framework: FrameworkId, batch: &BatchId, position: u32) {
        let Some(task) = self.task(framework, batch, position) else {
            return self.broken.push(format!("nothing runs that nobody asked for: {batch} position {position}"));
        };
        let (twice, told) = (task.spawned, task.told);
        task.spawned = true;
        task.running = true;
        if twice {
            self.broken.push(format!("no task runs twice: {framework} {batch} position {position}"));
        }
        if let Some((state, _)) = told {
            self.broken
                .push(format!("no task runs after its end: {framework} {batch} position {position} was {state}"));
        }
        self.slots_are_kept(framework, batch);
    }

    fn slots_are_kept(&mut self, framework: FrameworkId, batch: &BatchId) {
        let Some(asked) = self.launches.get(&(framework, batch.clone())) else { return };
        let running = asked.positions.iter().filter(|task| task.running).count();
        if running > asked.slots as usize {
            self.broken.push(format!("a launch runs at most {} tasks at a time: {batch} runs {running}", asked.slots));
        }
    }

    /// A guest is over, or died with its runner.
    pub(crate) fn stopped(&mut self, framework: FrameworkId, batch: &BatchId, position: u32) {
        if let Some(task) = self.task(framework, batch, position) {
            task.running = false;
        }
    }

    /// An agent wrote an end into its status log.
    pub(crate) fn logged(&mut self, framework: FrameworkId, batch: &BatchId, positions: std::ops::Range<u32>) {
        for position in positions {
            if let Some(task) = self.task(framework, batch, position) {
                task.logged = true;
            }
        }
    }

    /// An agent's status log is void: its host rebooted, or its launch was forgotten.
    pub(crate) fn log_lost(&mut self, framework: FrameworkId, batch: &BatchId) {
        if let Some(asked) = self.launches.get_mut(&(framework, batch.clone())) {
            asked.positions.iter_mut().for_each(|task| task.logged = false);
        }
    }

    /// A framework's scheduler is told an end.
    pub(crate) fn told_end(
        &mut self,
        framework: FrameworkId,
        batch: &BatchId,
        tasks: TaskRange,
        state: TaskState,
        life: u64,
    ) {
        let Some(asked) = self.launches.get_mut(&(framework, batch.clone())) else {
            return self.broken.push(format!("no end is told of a task that nobody asked for: {batch}"));
        };
        let first = match tasks {
            TaskRange::Single => 0,
            TaskRange::Array { first, .. } => asked.tasks.position_of(Some(first)).unwrap_or(u32::MAX),
        };
        for position in first..first.saturating_add(tasks.count()) {
            let Some(task) = asked.positions.get_mut(position as usize) else {
                self.broken.push(format!("no end is told of a task that nobody asked for: {batch} {tasks:?}"));
                return;
            };
            if let Some(broken) = task.tell(state, life) {
                self.broken.push(format!("{broken}: {framework} {batch} position {position} is {state}, was {task:?}"));
            }
            task.told = Some((state, life));
        }
    }

    /// What the guests of these launches hold, if it exceeds `total`.
    pub(crate) fn guests_fit(&mut self, running: &BTreeMap<(FrameworkId, BatchId), u32>, total: &Resources) {
        let held = running.iter().try_fold(Resources::EMPTY, |held, (key, count)| {
            let asked = self.launches.get(key)?;
            held.plus(&asked.shape.times(*count)?).ok()
        });
        if let Some(held) = held
            && !total.contains(&held)
        {
            self.broken.push(format!("an agent's guests never hold more than the agent has: {held} of {total}"));
        }
    }

    /// Promises broken since the last call.
    pub(crate) fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Every task that ought to have ended and whose end was not told. A framework that forgot (a new life) is owed the
    /// ends that are in some agent's log, one that did not is owed every end.
    pub(crate) fn untold(&self, lives: &BTreeMap<FrameworkId, u64>) -> Vec<String> {
        let mut owed = Vec::new();
        for ((framework, batch), asked) in &self.launches {
            let Some(life) = lives.get(framework) else { continue };
            for (position, task) in asked.positions.iter().enumerate() {
                if task.told.is_none() && (*life == asked.life || task.logged) {
                    owed.push(format!("every end is told: {framework} {batch} position {position} {task:?}"));
                }
            }
        }
        owed
    }

    /// Every task that still runs.
    pub(crate) fn running(&self) -> Vec<String> {
        let runs = |((framework, batch), asked): (&(FrameworkId, BatchId), &Asked)| {
            let running = asked.positions.iter().filter(|task| task.running).count();
            (running > 0).then(|| format!("nothing runs for ever: {running} of {framework} {batch}"))
        };
        self.launches.iter().filter_map(runs).collect()
    }
}

impl Task {
    /// The promise that is broken by telling this end now.
    fn tell(&self, state: TaskState, life: u64) -> Option<&'static str> {
        let unstarted = matches!(state, TaskState::Dropped | TaskState::Error);
        match self.told {
            Some((_, told_in)) if told_in == life => Some("no end is told twice"),
            Some((told, _)) if told != state => Some("no task is told two different ends"),
            _ if self.running => Some("no end is told while the task runs"),
            _ if unstarted && self.spawned => Some("what was dropped or refused never ran"),
            _ if state == TaskState::Finished && !self.spawned => Some("nothing finishes that never ran"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use holm_model::{Epoch, TaskSpec};

    use super::*;

    fn asked() -> (Truth, FrameworkId, BatchId) {
        let framework = FrameworkId::new(Epoch(1), 1);
        let tasks = TaskRange::Array { first: 5, count: 2 };
        let launch = Launch { id: "a".parse().unwrap(), tasks, slots: 1, spec: TaskSpec::default().into() };
        let mut truth = Truth::default();
        truth.asked(framework, &launch, 1);
        (truth, framework, launch.id)
    }

    const FIRST: TaskRange = TaskRange::Array { first: 5, count: 1 };

    #[test]
    fn a_task_that_runs_twice_is_noticed() {
        let (mut truth, framework, batch) = asked();
        truth.spawned(framework, &batch, 0);
        truth.stopped(framework, &batch, 0);
        assert!(truth.take_broken().is_empty());
        truth.spawned(framework, &batch, 0);
        assert!(truth.take_broken()[0].starts_with("no task runs twice"));
    }

    #[test]
    fn more_guests_than_slots_are_noticed() {
        let (mut truth, framework, batch) = asked();
        truth.spawned(framework, &batch, 0);
        truth.spawned(framework, &batch, 1);
        assert!(truth.take_broken()[0].starts_with("a launch runs at most 1"));
    }

    #[test]
    fn ends_told_twice_too_early_or_never_are_noticed() {
        let (mut truth, framework, batch) = asked();
        truth.spawned(framework, &batch, 0);
        truth.told_end(framework, &batch, FIRST, TaskState::Finished, 1);
        assert!(truth.take_broken()[0].starts_with("no end is told while"));
        truth.stopped(framework, &batch, 0);
        truth.told_end(framework, &batch, FIRST, TaskState::Finished, 1);
        assert!(truth.take_broken()[0].starts_with("no end is told twice"));
        truth.told_end(framework, &batch, FIRST, TaskState::Killed, 2);
        assert!(truth.take_broken()[0].starts_with("no task is told two"));
        assert_eq!(truth.untold(&BTreeMap::from([(framework, 1)])).len(), 1);
        assert!(truth.untold(&BTreeMap::from([(framework, 2)])).is_empty());
        truth.logged(framework, &batch, 1..2);
        assert_eq!(truth.untold(&BTreeMap::from([(framework, 2)])).len(), 1);
    }
}
