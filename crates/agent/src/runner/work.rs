//! One launch in a runner: which tasks wait, run, or are over.

use holm_model::{FrameworkId, Launch, Prepared, Time, WorkId};

/// Where one task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// It waits for a slot.
    Queued,
    /// It occupies a slot.
    Running { since: Time },
    /// It occupies a slot and was asked to stop; at the deadline it is killed. Without one it has been.
    Stopping { since: Time, deadline: Option<Time> },
    /// It is over.
    Over,
}

/// What happens to a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TaskStep {
    Spawn(Time),
    /// With the time at which asking turns into killing; none is now.
    Stop(Option<Time>),
    End,
    /// Ended without having been spawned.
    GiveUp,
}

impl Task {
    /// The one transition function of a task in a runner; none when the step is illegal where it stands.
    pub(crate) fn step(self, step: TaskStep) -> Option<Task> {
        match (self, step) {
            (Task::Queued, TaskStep::Spawn(since)) => Some(Task::Running { since }),
            (Task::Queued, TaskStep::GiveUp) => Some(Task::Over),
            (Task::Running { since }, TaskStep::Stop(deadline)) => Some(Task::Stopping { since, deadline }),
            // A later kill can only shorten the time left.
            (Task::Stopping { since, deadline: Some(earlier) }, TaskStep::Stop(deadline)) => {
                let deadline = deadline.map(|later| later.min(earlier));
                Some(Task::Stopping { since, deadline })
            }
            (Task::Running { .. } | Task::Stopping { .. }, TaskStep::End) => Some(Task::Over),
            _ => None,
        }
    }

    pub(crate) fn is_spawned(self) -> bool {
        matches!(self, Task::Running { .. } | Task::Stopping { .. })
    }
}

/// One launch in a runner.
#[derive(Clone, Debug)]
pub(crate) struct RunnerWork {
    pub(crate) framework: FrameworkId,
    pub(crate) launch: Launch,
    pub(crate) prepared: Prepared,
    /// The launch of the executor that its tasks run in, if they do.
    pub(crate) inside: Option<WorkId>,
    /// When it arrived.
    pub(crate) accepted: Time,
    pub(crate) tasks: Vec<Task>,
    /// Every task before this position has left the queue.
    pub(crate) next: u32,
    /// Slots in use.
    pub(crate) spawned: u32,
    /// Tasks that are not over.
    pub(crate) left: u32,
    /// Tasks, once for each state that they entered, whose report the agent has not acknowledged.
    pub(crate) unacknowledged: u64,
}

impl RunnerWork {
    pub(crate) fn new(framework: FrameworkId, launch: Launch, prepared: Prepared, accepted: Time) -> RunnerWork {
        let count = launch.tasks.count();
        let tasks = vec![Task::Queued; count as usize];
        RunnerWork {
            framework,
            launch,
            prepared,
            inside: None,
            accepted,
            tasks,
            next: 0,
            spawned: 0,
            left: count,
            unacknowledged: 0,
        }
    }

    pub(crate) fn task(&self, position: u32) -> Option<Task> {
        self.tasks.get(position as usize).copied()
    }

    /// Moves one task on; the counts follow. None when the step is illegal.
    pub(crate) fn step(&mut self, position: u32, step: TaskStep) -> Option<Task> {
        let task = self.tasks.get_mut(position as usize)?;
        let next = task.step(step)?;
        let (was, is) = (task.is_spawned(), next.is_spawned());
        *task = next;
        self.spawned = self.spawned + u32::from(is && !was) - u32::from(was && !is);
        self.left -= u32::from(next == Task::Over);
        Some(next)
    }

    /// Spawns the next queued task if a slot is free, and says which. Amortised constant time: the cursor never goes back.
    pub(crate) fn spawn_next(&mut self, now: Time) -> Option<u32> {
        if self.spawned >= self.launch.slots {
            return None;
        }
        while let Some(task) = self.task(self.next) {
            let position = self.next;
            self.next += 1;
            if task == Task::Queued {
                self.step(position, TaskStep::Spawn(now))?;
                return Some(position);
            }
        }
        None
    }

    /// Takes queued tasks of a range off the queue and returns them as runs of first and count.
    pub(crate) fn give_up(&mut self, range: std::ops::Range<u32>) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let end = range.end.min(self.launch.tasks.count());
        for position in range.start.max(self.next)..end {
            if self.step(position, TaskStep::GiveUp).is_none() {
                continue;
            }
            match runs.last_mut() {
                Some((first, count)) if *first + *count == position => *count += 1,
                _ => runs.push((position, 1)),
            }
        }
        runs
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.left == 0 && self.unacknowledged == 0
    }
}
