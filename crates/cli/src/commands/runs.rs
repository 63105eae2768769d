//! Runs by name: `holm run` deals an array out in several launches, and people know it by one name.
//!
//! NAME is the whole run and NAME/INDEX one of its tasks, whichever launch it belongs to. What a run is, its framework's labels
//! say; other frameworks name their tasks as they like, and those are left as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use holm_model::{BatchId, FrameworkId, TaskId, TaskState};
use holm_proto::v1;
use holm_sdk::Client;

use super::lists::all_frameworks;
use crate::connection::refusal;

/// The label with the run's name.
const NAME_LABEL: &str = "holm.run";
/// The label with the number of its tasks.
const COUNT_LABEL: &str = "holm.run.count";
/// Tasks asked for at a time.
const PAGE: u32 = 4096;

/// What a run's framework says of itself.
pub(super) fn labels(name: &BatchId, count: u32) -> BTreeMap<Arc<str>, Arc<str>> {
    [(NAME_LABEL.into(), name.as_str().into()), (COUNT_LABEL.into(), count.to_string().into())].into()
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) framework: String,
    pub(super) name: String,
    pub(super) count: u32,
    /// Whether its program is there and may launch more.
    pub(super) connected: bool,
    /// Whether its framework has ended.
    pub(super) ended: bool,
    /// Tasks that have not ended.
    pub(super) live: u64,
    registered_unix_micros: u64,
}

impl Run {
    pub(super) fn from_wire(framework: v1::FrameworkSummary) -> Option<Run> {
        let state = framework.state();
        let counts = framework.tasks.unwrap_or_default();
        Some(Run {
            name: framework.labels.get(NAME_LABEL)?.clone(),
            count: framework.labels.get(COUNT_LABEL)?.parse().ok()?,
            framework: framework.id,
            connected: state == v1::FrameworkState::Connected,
            ended: state == v1::FrameworkState::Completed,
            live: counts.staging + counts.running + counts.unreachable,
            registered_unix_micros: framework.registered_unix_micros,
        })
    }

    pub(super) fn is_array(&self) -> bool {
        self.count > 1
    }

    /// Whether a task will end or begin that is part of it.
    pub(super) fn goes_on(&self) -> bool {
        self.live > 0 || self.connected
    }
}

/// Every run that the master remembers, by its framework.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<String, Run>);

/// What a name on the command line stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A task or launch by its own id; the framework may be empty.
    Exactly { framework: String, task: String },
    /// All tasks of an array of `holm run`.
    Array(Run),
}

impl Runs {
    pub(super) async fn list(client: &Client) -> anyhow::Result<Runs> {
        let runs = all_frameworks(client, true).await?.into_iter().filter_map(Run::from_wire);
        Ok(Runs(runs.map(|run| (run.framework.clone(), run)).collect()))
    }

    /// The runs of this name.
    pub(super) fn called<'a>(
        &'a self,
        name: &BatchId,
        of: Option<FrameworkId>,
    ) -> impl Iterator<Item = &'a Run> + use<'a> {
        let (name, of) = (name.clone(), of.map(|id| id.to_string()));
        self.0.values().filter(move |run| {
            run.name == name.as_str() && of.as_ref().is_none_or(|framework| run.framework == *framework)
        })
    }

    /// How a task is called for people.
    pub(super) fn shown(&self, framework: &str, task: &str) -> String {
        match (self.0.get(framework), task.rsplit_once('/')) {
            (Some(run), Some((_, index))) => format!("{}/{index}", run.name),
            _ => task.to_owned(),
        }
    }

    /// The run that a name stands for: one that goes on if there is any, else the latest.
    fn choose(&self, task: &TaskId, of: Option<FrameworkId>) -> anyhow::Result<Option<&Run>> {
        let live: Vec<&Run> = self.called(&task.batch, of).filter(|run| run.goes_on()).collect();
        match live.as_slice() {
            [] => Ok(self.called(&task.batch, of).max_by_key(|run| run.registered_unix_micros)),
            [run] => Ok(Some(run)),
            several => {
                let names: Vec<_> = several.iter().map(|run| run.framework.as_str()).collect();
                bail!("several frameworks have a task {task}: {}; name one with --framework", names.join(", "))
            }
        }
    }

    /// What a name on the command line stands for.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        task: &TaskId,
        of: Option<FrameworkId>,
    ) -> anyhow::Result<Named> {
        let exactly = |framework: String| Named::Exactly { framework, task: task.to_string() };
        let Some(run) = self.choose(task, of)? else {
            return Ok(exactly(of.map(|id| id.to_string()).unwrap_or_default()));
        };
        match task.index {
            _ if !run.is_array() => Ok(exactly(run.framework.clone())),
            None => Ok(Named::Array(run.clone())),
            Some(index) => {
                let task = find_task(client, run, index).await?;
                Ok(Named::Exactly { framework: run.framework.clone(), task })
            }
        }
    }
}

/// The framework (empty where any will do) and the exact id of one task.
pub(super) async fn one_task(
    client: &Client,
    task: &TaskId,
    of: Option<FrameworkId>,
) -> anyhow::Result<(String, String)> {
    match Runs::list(client).await?.resolve(client, task, of).await? {
        Named::Exactly { framework, task } => Ok((framework, task)),
        Named::Array(Run { name, count, .. }) => {
            bail!("{name} is an array of {count} tasks: name one, such as {name}/0")
        }
    }
}

/// The id of a task of an array: the latest, where it was launched again.
pub(super) async fn find_task(client: &Client, run: &Run, index: u32) -> anyhow::Result<String> {
    let Run { framework, name, count, .. } = run;
    if index >= *count {
        bail!("{framework} has no task {name}/{index}: the array {name} has {count} tasks, 0 to {}", count - 1);
    }
    let end = format!("/{index}");
    let mut page_token = String::new();
    loop {
        let page = tasks_page(client, framework, &[], page_token).await?;
        if let Some(task) = page.tasks.into_iter().find(|task| task.task_id.ends_with(&end)) {
            return Ok(task.task_id);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            bail!("the task {name}/{index} of {framework} has not been launched, or ended too long ago");
        }
    }
}

/// The launches of a run with tasks that have not ended.
pub(super) async fn live_launches(client: &Client, run: &Run) -> anyhow::Result<Vec<BatchId>> {
    let mut launches = std::collections::BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let page = tasks_page(client, &run.framework, &crate::values::live_states(), page_token).await?;
        let ids = page.tasks.iter().filter_map(|task| task.task_id.parse::<TaskId>().ok());
        launches.extend(ids.map(|task| task.batch));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(launches.into_iter().collect());
        }
    }
}

async fn tasks_page(
    client: &Client,
    framework: &str,
    states: &[TaskState],
    page_token: String,
) -> anyhow::Result<v1::ListTasksReply> {
    let request = v1::ListTasksRequest {
        framework_id: framework.to_owned(),
        states: states.iter().map(|state| v1::TaskState::from(*state).into()).collect(),
        limit: PAGE,
        page_token,
        ..v1::ListTasksRequest::default()
    };
    Ok(client.operator().list_tasks(request).await.map_err(refusal)?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(framework: &str, name: &str, live: u64, registered_unix_micros: u64) -> (String, Run) {
        let run = Run {
            framework: framework.to_owned(),
            name: name.to_owned(),
            count: 50,
            connected: false,
            ended: live == 0,
            live,
            registered_unix_micros,
        };
        (framework.to_owned(), run)
    }

    #[test]
    fn a_name_stands_for_the_run_that_goes_on_else_for_the_latest() {
        let task: TaskId = "big/7".parse().unwrap();
        let mut runs = Runs([run("framework-1-1", "big", 0, 1), run("framework-1-2", "big", 0, 2)].into());
        let chosen = |runs: &Runs| {
            runs.choose(&task, None).map(|run| run.unwrap().framework.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&runs), Ok("framework-1-2".to_owned()));
        runs.0.extend([run("framework-1-0", "big", 3, 0), run("framework-1-3", "other", 3, 3)]);
        assert_eq!(chosen(&runs), Ok("framework-1-0".to_owned()));
        runs.0.extend([run("framework-1-4", "big", 3, 4)]);
        assert!(chosen(&runs).unwrap_err().contains("framework-1-0, framework-1-4; name one with --framework"));
    }

    #[test]
    fn tasks_of_runs_have_one_name_and_others_keep_theirs() {
        let runs = Runs([run("framework-1-1", "big", 0, 1)].into());
        assert_eq!(runs.shown("framework-1-1", "big.2/17"), "big/17");
        assert_eq!(runs.shown("framework-1-1", "big"), "big");
        assert_eq!(runs.shown("framework-1-2", "etl.2/17"), "etl.2/17");
    }
}
