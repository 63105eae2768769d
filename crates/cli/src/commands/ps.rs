//! `holm ps`.

use holm_model::{TaskState, TaskStatus};
use holm_proto::v1;
use holm_sdk::Client;
use serde::Serialize;
use serde_json::Value;

use super::lists::Shown;
use crate::args::{Global, PsArgs};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, brief, print_list};
use crate::values::live_states;

/// Tasks asked for at a time.
const PAGE: u32 = 4096;

/// Prints tasks, the newest first.
pub(crate) async fn run(global: &Global, args: PsArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let (tasks, more) = list(&client, &args).await?;
    let empty = if args.all { "no tasks" } else { "no live tasks; --all shows those that have ended" };
    print_list(args.output.output, &tasks, empty, table)?;
    if more {
        eprintln!("holm: there are more; --limit {} shows twice as many", args.limit.saturating_mul(2));
    }
    Ok(())
}

async fn list(client: &Client, args: &PsArgs) -> anyhow::Result<(Vec<TaskRow>, bool)> {
    let states = match (&args.state, args.all || args.task.is_some()) {
        (states, _) if !states.is_empty() => states.clone(),
        (_, true) => Vec::new(),
        (_, false) => live_states(),
    };
    let states: Vec<i32> = states.into_iter().map(|state| v1::TaskState::from(state).into()).collect();
    let (mut tasks, mut page_token) = (Vec::new(), String::new());
    loop {
        let wanted = u32::try_from(args.limit.saturating_sub(tasks.len())).unwrap_or(PAGE).min(PAGE);
        if wanted == 0 {
            return Ok((tasks, true));
        }
        let request = v1::ListTasksRequest {
            framework_id: args.framework.map(|id| id.to_string()).unwrap_or_default(),
            role: args.role.as_ref().map(ToString::to_string).unwrap_or_default(),
            states: states.clone(),
            agent_id: String::new(),
            task_id: args.task.as_ref().map(ToString::to_string).unwrap_or_default(),
            limit: wanted,
            page_token,
        };
        let page = client.operator().list_tasks(request).await.map_err(refusal)?.into_inner();
        tasks.extend(page.tasks.into_iter().map(TaskRow::from));
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
            task.task_id.clone(),
            task.framework_id.clone(),
            task.role.clone(),
            task.state.clone(),
            task.reason.clone().unwrap_or_else(|| "-".to_owned()),
            task.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            task.agent_id.clone(),
            brief(&task.resources.0),
            format!("{:.2}s", task.cpu_seconds),
            output::ago(task.launched_unix_micros),
            output::one_line(&task.message, 60),
        ]);
    }
    table
}

#[derive(Serialize)]
struct TaskRow {
    task_id: String,
    framework_id: String,
    framework_name: String,
    role: String,
    agent_id: String,
    state: String,
    reason: Option<String>,
    exit_code: Option<i32>,
    message: String,
    cpu_seconds: f64,
    fuel: u64,
    peak_memory_bytes: u64,
    queued_ms: f64,
    run_ms: f64,
    output_bytes: u64,
    attempt: u32,
    module: String,
    resources: Shown,
    launched: Value,
    started: Value,
    ended: Value,
    #[serde(skip)]
    launched_unix_micros: u64,
}

impl From<v1::TaskSummary> for TaskRow {
    fn from(task: v1::TaskSummary) -> TaskRow {
        let status = task.status.and_then(|status| TaskStatus::try_from(status).ok());
        let status = status.unwrap_or_else(|| TaskStatus::of(TaskState::Staging));
        let usage = status.usage;
        TaskRow {
            task_id: task.task_id,
            framework_id: task.framework_id,
            framework_name: task.framework_name,
            role: task.role,
            agent_id: task.agent_id,
            state: status.state.to_string(),
            reason: status.reason.map(|reason| reason.to_string()),
            exit_code: status.exit_code,
            message: status.message.to_string(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory,
            queued_ms: output::millis(usage.queued),
            run_ms: output::millis(usage.run),
            output_bytes: usage.output_bytes,
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
