//! `holm ps`.

use anyhow::bail;
use holm_model::{TaskState, TaskStatus, Usage};
use holm_proto::v1;
use holm_sdk::Client;
use serde::Serialize;
use serde_json::Value;

use super::lists::Shown;
use super::runs::{Runs, find_task};
use crate::args::{Global, PsArgs};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, brief, print_list};
use crate::values::live_states;

/// Tasks asked for at a time.
const PAGE: u32 = 4096;

/// Prints tasks, the newest first.
pub(crate) async fn run(global: &Global, args: PsArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let runs = Runs::list(&client).await?;
    let mut tasks: Vec<v1::TaskSummary> = Vec::new();
    let mut more = false;
    for wanted in wanted(&client, &runs, &args).await? {
        let (found, rest) = list(&client, &args, &wanted).await?;
        more |= rest;
        for task in found {
            let known = |other: &v1::TaskSummary| {
                other.task_id == task.task_id
                    && other.framework_id == task.framework_id
                    && other.launched_unix_micros == task.launched_unix_micros
            };
            // A launch of an array may have been asked for by its own name, too.
            if wanted.is_all || !tasks.iter().any(known) {
                tasks.push(task);
            }
        }
    }
    if let Some(task) = args.task.as_ref().filter(|_| tasks.is_empty() && args.state.is_empty()) {
        match args.framework {
            Some(framework) => bail!("{framework} has no task {task}"),
            None => bail!("no framework has a task {task}"),
        }
    }
    let tasks: Vec<_> = tasks.into_iter().map(|task| TaskRow::new(&runs, task)).collect();
    let empty = if args.all { "no tasks" } else { "no live tasks; --all shows those that have ended" };
    print_list(args.output.output, &tasks, empty, table)?;
    if more {
        eprintln!("holm: there are more; --limit {} shows twice as many", args.limit.saturating_mul(2));
    }
    Ok(())
}

/// One question to the master; empty is any.
struct Wanted {
    framework: String,
    task: String,
    /// Whether it cannot overlap with another.
    is_all: bool,
}

/// A name may be an array of several runs, and a task of other frameworks as well.
async fn wanted(client: &Client, runs: &Runs, args: &PsArgs) -> anyhow::Result<Vec<Wanted>> {
    let framework = args.framework.map(|id| id.to_string()).unwrap_or_default();
    let Some(task) = &args.task else {
        return Ok(vec![Wanted { framework, task: String::new(), is_all: true }]);
    };
    let mut wanted = Vec::new();
    for run in runs.called(&task.batch, args.framework).filter(|run| run.is_array()) {
        let task = match task.index {
            None => String::new(),
            Some(index) => match find_task(client, run, index).await {
                Ok(task) => task,
                Err(_) => continue,
            },
        };
        wanted.push(Wanted { framework: run.framework.clone(), task, is_all: true });
    }
    wanted.push(Wanted { framework, task: task.to_string(), is_all: wanted.is_empty() });
    Ok(wanted)
}

async fn list(client: &Client, args: &PsArgs, wanted: &Wanted) -> anyhow::Result<(Vec<v1::TaskSummary>, bool)> {
    let states = match (&args.state, args.all || args.task.is_some()) {
        (states, _) if !states.is_empty() => states.clone(),
        (_, true) => Vec::new(),
        (_, false) => live_states(),
    };
    let states: Vec<i32> = states.into_iter().map(|state| v1::TaskState::from(state).into()).collect();
    let (mut tasks, mut page_token) = (Vec::new(), String::new());
    loop {
        let limit = u32::try_from(args.limit.saturating_sub(tasks.len())).unwrap_or(PAGE).min(PAGE);
        if limit == 0 {
            return Ok((tasks, true));
        }
        let request = v1::ListTasksRequest {
            framework_id: wanted.framework.clone(),
            role: args.role.as_ref().map(ToString::to_string).unwrap_or_default(),
            states: states.clone(),
            agent_id: String::new(),
            task_id: wanted.task.clone(),
            limit,
            page_token,
        };
        let page = client.operator().list_tasks(request).await.map_err(refusal)?.into_inner();
        tasks.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok((tasks, false));
        }
    }
}

fn table(tasks: &[TaskRow]) -> Table {
    let header = ["TASK", "FRAMEWORK", "ROLE", "STATE", "REASON", "EXIT", "AGENT", "HOLDS", "CPU", "AGE", "MESSAGE"];
    let mut table = Table::new(&header);
    for task in tasks {
        table.row([
            task.name.clone(),
            task.framework_id.clone(),
            task.role.clone(),
            task.state.clone(),
            task.reason.clone().unwrap_or_else(|| "-".to_owned()),
            task.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            task.agent_id.clone(),
            brief(&task.resources.0),
            task.cpu_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}s")),
            output::ago(task.launched_unix_micros),
            output::one_line(&task.message, 60),
        ]);
    }
    table
}

#[derive(Serialize)]
struct TaskRow {
    task_id: String,
    /// How it is called for people: NAME/INDEX in the arrays of `holm run`.
    name: String,
    framework_id: String,
    framework_name: String,
    role: String,
    agent_id: String,
    state: String,
    reason: Option<String>,
    exit_code: Option<i32>,
    message: String,
    cpu_seconds: Option<f64>,
    fuel: Option<u64>,
    peak_memory_bytes: Option<u64>,
    peak_disk_bytes: Option<u64>,
    queued_ms: Option<f64>,
    run_ms: Option<f64>,
    output_bytes: Option<u64>,
    network_refusals: Option<u64>,
    requests: Option<u64>,
    failed_requests: Option<u64>,
    attempt: u32,
    module: String,
    resources: Shown,
    launched: Value,
    started: Value,
    ended: Value,
    #[serde(skip)]
    launched_unix_micros: u64,
}

impl TaskRow {
    fn new(runs: &Runs, task: v1::TaskSummary) -> TaskRow {
        let status = task.status.and_then(|status| TaskStatus::try_from(status).ok());
        let status = status.unwrap_or_else(|| TaskStatus::of(TaskState::Staging));
        // What a task has used is told when it ends.
        let usage = Some(status.usage).filter(|usage| status.state.is_terminal() || *usage != Usage::default());
        TaskRow {
            name: runs.shown(&task.framework_id, &task.task_id),
            task_id: task.task_id,
            framework_id: task.framework_id,
            framework_name: task.framework_name,
            role: task.role,
            agent_id: task.agent_id,
            state: status.state.to_string(),
            reason: status.reason.map(|reason| reason.to_string()),
            exit_code: status.exit_code,
            message: status.message.to_string(),
            cpu_seconds: usage.map(|usage| output::seconds(usage.cpu)),
            fuel: usage.map(|usage| usage.fuel),
            peak_memory_bytes: usage.map(|usage| usage.peak_memory),
            peak_disk_bytes: usage.map(|usage| usage.peak_disk),
            queued_ms: usage.map(|usage| output::millis(usage.queued)),
            run_ms: usage.map(|usage| output::millis(usage.run)),
            output_bytes: usage.map(|usage| usage.output_bytes),
            network_refusals: usage.map(|usage| usage.network_refusals),
            requests: usage.map(|usage| usage.requests),
            failed_requests: usage.map(|usage| usage.failed_requests),
            attempt: status.attempt,
            module: task.module,
            resources: task.resources.into(),
            launched: output::time_json(task.launched_unix_micros),
            started: output::time_json(task.started_unix_micros),
            ended: output::time_json(task.ended_unix_micros),
            launched_unix_micros: task.launched_unix_micros,
        }
    }
}
