//! Launches: a template and the tasks to run from it.

use std::sync::Arc;

use crate::{BatchId, Resources, TaskId, TaskKind, TaskSpec, TaskSpecError};

/// Most tasks of one launch.
pub const MAX_BATCH_TASKS: u32 = 4096;

/// Most launches of a group.
pub const MAX_GROUP_LAUNCHES: usize = 64;

/// Which tasks a launch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskRange {
    /// One task whose id is the launch's.
    Single,
    /// The tasks `<launch>/first` to `<launch>/(first + count - 1)`.
    Array {
        /// The first index.
        first: u32,
        /// How many, 1 to [`MAX_BATCH_TASKS`].
        count: u32,
    },
}

impl TaskRange {
    /// How many tasks.
    pub const fn count(self) -> u32 {
        match self {
            TaskRange::Single => 1,
            TaskRange::Array { count, .. } => count,
        }
    }

    /// The array index of the task at `position` (0 to count - 1).
    pub const fn index_at(self, position: u32) -> Option<u32> {
        match self {
            TaskRange::Single => None,
            TaskRange::Array { first, .. } => Some(first.saturating_add(position)),
        }
    }

    /// The position of the task with this array index, if it is one of the range.
    pub fn position_of(self, index: Option<u32>) -> Option<u32> {
        match (self, index) {
            (TaskRange::Single, None) => Some(0),
            (TaskRange::Array { first, count }, Some(index)) => index.checked_sub(first).filter(|at| *at < count),
            _ => None,
        }
    }
}

/// One launch of an ACCEPT: tasks of one shape that an agent runs on `slots` slots, one after another on each, without a
/// round trip between them. A single task is a launch of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The framework's name for it.
    pub id: BatchId,
    /// Which tasks.
    pub tasks: TaskRange,
    /// How many run at a time; the launch holds `slots` times the template's resources.
    pub slots: u32,
    /// The template.
    pub spec: Arc<TaskSpec>,
}

/// Why a launch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The range has no task, or more than [`MAX_BATCH_TASKS`].
    #[error("launch has {0} tasks; it needs 1 to {MAX_BATCH_TASKS}")]
    Count(u32),
    /// The last index does not fit 32 bits.
    #[error("launch indices from {0} exceed 32 bits")]
    Index(u32),
    /// There are no slots, or more than tasks.
    #[error("launch has {slots} slots for {count} tasks; it needs 1 to {count}")]
    Slots {
        /// Slots asked.
        slots: u32,
        /// Tasks.
        count: u32,
    },
    /// Ports or set items cannot be shared by several slots.
    #[error("launch with {0} slots asks for ports or set items, which only one slot can hold")]
    Items(u32),
    /// An executor is one task, so that others can name it.
    #[error("launch of an executor is an array; an executor is launched as a single task")]
    ExecutorArray,
    /// A volume is held by one task at a time.
    #[error("launch with {0} slots has volumes, which only one slot can hold")]
    Volumes(u32),
    /// The template was refused.
    #[error("the task template is not valid")]
    Spec(#[from] TaskSpecError),
}

impl Launch {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// The first limit that does not hold.
    pub fn validate(&self) -> Result<(), LaunchError> {
        let count = self.tasks.count();
        if count == 0 || count > MAX_BATCH_TASKS {
            return Err(LaunchError::Count(count));
        }
        if let TaskRange::Array { first, count } = self.tasks
            && first.checked_add(count).is_none()
        {
            return Err(LaunchError::Index(first));
        }
        if self.slots == 0 || self.slots > count {
            return Err(LaunchError::Slots { slots: self.slots, count });
        }
        if self.spec.kind == TaskKind::Executor && self.tasks != TaskRange::Single {
            return Err(LaunchError::ExecutorArray);
        }
        self.spec.validate()?;
        if self.slots > 1 && !self.spec.volumes.is_empty() {
            return Err(LaunchError::Volumes(self.slots));
        }
        self.spec.resources.times(self.slots).map(|_| ()).ok_or(LaunchError::Items(self.slots))
    }

    /// What the launch holds while at least `slots` tasks are left. Ports and set items are held once.
    pub fn resources(&self) -> Resources {
        self.held_by(self.slots)
    }

    /// What `slots` slots of the launch hold.
    pub fn held_by(&self, slots: u32) -> Resources {
        if slots == 0 {
            Resources::EMPTY
        } else {
            self.spec.resources.times(slots).unwrap_or_else(|| self.spec.resources.clone())
        }
    }

    /// The id of the task at `position` (0 to count - 1).
    pub fn task_id(&self, position: u32) -> TaskId {
        TaskId { batch: self.id.clone(), index: self.tasks.index_at(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(tasks: TaskRange, slots: u32, resources: &str) -> Launch {
        let spec = TaskSpec { resources: resources.parse().unwrap(), ..TaskSpec::default() };
        Launch { id: "a".parse().unwrap(), tasks, slots, spec: spec.into() }
    }

    #[test]
    fn a_launch_holds_its_shape_once_per_slot() {
        let batch = launch(TaskRange::Array { first: 10, count: 100 }, 3, "cpus:0.5;mem:16MiB");
        assert_eq!(batch.validate(), Ok(()));
        assert_eq!(batch.resources().to_string(), "cpus:1.5;mem:48MiB");
        assert_eq!(batch.held_by(0), Resources::EMPTY);
        assert_eq!(batch.task_id(2).to_string(), "a/12");
        assert_eq!(batch.tasks.position_of(Some(12)), Some(2));
        assert_eq!(batch.tasks.position_of(Some(110)), None);
        assert_eq!(batch.tasks.position_of(None), None);
    }

    #[test]
    fn launches_outside_the_limits_are_refused() {
        let shape = "cpus:1;mem:1MiB";
        assert!(launch(TaskRange::Array { first: 0, count: 0 }, 1, shape).validate().is_err());
        assert!(launch(TaskRange::Array { first: 0, count: 4097 }, 1, shape).validate().is_err());
        assert!(launch(TaskRange::Array { first: u32::MAX, count: 2 }, 1, shape).validate().is_err());
        assert!(launch(TaskRange::Single, 2, shape).validate().is_err());
        assert!(launch(TaskRange::Single, 0, shape).validate().is_err());
        let ports = "cpus:1;mem:1MiB;ports:[5-5]";
        assert!(launch(TaskRange::Array { first: 0, count: 2 }, 2, ports).validate().is_err());
        assert!(launch(TaskRange::Array { first: 0, count: 2 }, 1, ports).validate().is_ok());
    }

    #[test]
    fn an_executor_is_launched_alone() {
        let resources = "cpus:1;mem:1MiB".parse().unwrap();
        let spec = Arc::new(TaskSpec { kind: TaskKind::Executor, resources, ..TaskSpec::default() });
        let single = Launch { id: "a".parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec };
        assert_eq!(single.validate(), Ok(()));
        let array = Launch { tasks: TaskRange::Array { first: 0, count: 2 }, ..single };
        assert_eq!(array.validate(), Err(LaunchError::ExecutorArray));
    }
}
