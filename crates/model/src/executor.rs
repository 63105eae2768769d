//! Tasks that run inside an executor: what such a task is given, and what it cannot have.

use std::sync::Arc;

use crate::{BatchId, Digest, Metering, ResourceName, TaskKind, TaskSpec};

/// Most bytes that the template of a launch may give to tasks that run inside an executor.
pub const MAX_EXECUTED_BYTES: usize = 64 << 10;

/// What makes a task one that runs inside an executor instead of a module of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The launch of the executor: a single task of the kind [`TaskKind::Executor`], of the same framework, on the same
    /// agent.
    pub executor: BatchId,
    /// What the executor is given for every task of the launch, at most [`MAX_EXECUTED_BYTES`]; its meaning is the
    /// executor's own.
    pub data: Arc<[u8]>,
}

/// Why a template does not fit its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutedError {
    /// A task that runs inside an executor names none.
    #[error("executed is missing: a task of the kind executed names its executor")]
    NoExecutor,
    /// A task of another kind names an executor.
    #[error("executed is given, but the task is not of the kind executed")]
    NotExecuted,
    /// The executor is given too much.
    #[error("executed.data has {0} bytes; the limit is {MAX_EXECUTED_BYTES}")]
    Data(usize),
    /// Something that only a task with a module of its own can have.
    #[error("{0} is given, but a task that runs inside an executor has that of its executor")]
    OfExecutor(&'static str),
    /// An executor's run cannot be repeated: what it is told depends on others.
    #[error("seed is given, but an executor cannot be repeated")]
    Seed,
}

impl TaskSpec {
    /// Whether the task runs inside an executor.
    pub fn is_executed(&self) -> bool {
        self.kind == TaskKind::Executed
    }

    /// Checks what executors and the tasks inside them can and cannot have.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub(crate) fn validate_kind(&self) -> Result<(), ExecutedError> {
        match (self.kind, &self.executed) {
            (TaskKind::Executed, None) => Err(ExecutedError::NoExecutor),
            (TaskKind::Executed, Some(executed)) => self.validate_executed(executed),
            (_, Some(_)) => Err(ExecutedError::NotExecuted),
            (TaskKind::Executor, None) if self.seed.is_some() => Err(ExecutedError::Seed),
            (_, None) => Ok(()),
        }
    }

    fn validate_executed(&self, executed: &Executed) -> Result<(), ExecutedError> {
        if executed.data.len() > MAX_EXECUTED_BYTES {
            return Err(ExecutedError::Data(executed.data.len()));
        }
        let held = |name: &ResourceName| self.resources.scalar(name).0 > 0;
        let foreign = [
            ("module", self.module != Digest::default()),
            ("args", !self.args.is_empty()),
            ("env", !self.env.is_empty()),
            ("files", !self.files.is_empty()),
            ("directories", !self.directories.is_empty()),
            ("volumes", !self.volumes.is_empty()),
            ("resource mem", held(&ResourceName::Mem)),
            ("resource disk", held(&ResourceName::Disk)),
            ("limit fuel", self.limits.fuel.is_some()),
            ("limit deadline", self.limits.deadline.is_some()),
            ("limit output_bytes", self.limits.output_bytes.is_some()),
            ("limit cpus", self.limits.cpus.is_some()),
            ("metering", self.metering != Metering::default()),
            ("network", !self.network.is_empty()),
            ("seed", self.seed.is_some()),
        ];
        match foreign.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(ExecutedError::OfExecutor(field)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, TaskSpecError};

    fn executed() -> TaskSpec {
        let executed = Executed { executor: "warm".parse().unwrap(), data: [1, 2][..].into() };
        TaskSpec {
            kind: TaskKind::Executed,
            executed: Some(executed),
            resources: "cpus:0.1;gpus:1".parse().unwrap(),
            ..TaskSpec::default()
        }
    }

    #[test]
    fn a_task_inside_an_executor_needs_cpu_and_names_its_executor() {
        assert_eq!(executed().validate(), Ok(()));
        let none = TaskSpec { resources: "gpus:1".parse().unwrap(), ..executed() };
        assert_eq!(none.validate(), Err(TaskSpecError::Missing(ResourceName::Cpus)));
        let nobody = TaskSpec { executed: None, ..executed() };
        assert_eq!(nobody.validate(), Err(ExecutedError::NoExecutor.into()));
        let command = TaskSpec { kind: TaskKind::Command, resources: "cpus:1;mem:1MiB".parse().unwrap(), ..executed() };
        assert_eq!(command.validate(), Err(ExecutedError::NotExecuted.into()));
    }

    #[test]
    fn a_task_inside_an_executor_has_nothing_of_its_own_that_only_the_executor_has() {
        let foreign = [
            ("module", TaskSpec { module: Digest([1; 32]), ..executed() }),
            ("args", TaskSpec { args: vec!["a".into()], ..executed() }),
            ("resource mem", TaskSpec { resources: "cpus:1;mem:1MiB".parse().unwrap(), ..executed() }),
            ("limit fuel", TaskSpec { limits: Limits { fuel: Some(1), ..Limits::default() }, ..executed() }),
            ("seed", TaskSpec { seed: Some(1), ..executed() }),
        ];
        for (field, spec) in foreign {
            assert_eq!(spec.validate(), Err(ExecutedError::OfExecutor(field).into()));
        }
        let data = vec![0; MAX_EXECUTED_BYTES + 1].into();
        let large = TaskSpec { executed: Some(Executed { executor: "e".parse().unwrap(), data }), ..executed() };
        assert!(large.validate().unwrap_err().to_string().contains("65537 bytes; the limit is 65536"));
    }

    #[test]
    fn an_executor_has_no_seed() {
        let resources = "cpus:1;mem:1MiB".parse().unwrap();
        let executor = TaskSpec { kind: TaskKind::Executor, resources, ..TaskSpec::default() };
        assert_eq!(executor.validate(), Ok(()));
        assert_eq!(TaskSpec { seed: Some(1), ..executor }.validate(), Err(ExecutedError::Seed.into()));
    }
}
