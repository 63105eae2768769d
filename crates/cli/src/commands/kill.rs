//! `holm kill`.

use holm_proto::v1;
use holm_sdk::Client;
use tonic::{Code, Status};

use super::runs::{Named, Run, Runs, live_launches};
use crate::args::{Format, Global, KillArgs};
use crate::connection::{connect, refusal};
use crate::output;

/// Asks agents to stop a task, or all tasks of an array.
pub(crate) async fn run(global: &Global, args: KillArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let runs = Runs::list(&client).await?;
    match runs.resolve(&client, &args.task, args.framework).await? {
        Named::Exactly { framework, task } => kill_one(&client, framework, task, &args).await,
        Named::Array(run) => kill_array(&client, &run, &args).await,
    }
}

fn request(framework_id: String, task_id: String, args: &KillArgs) -> v1::KillTaskRequest {
    let grace_micros = args.grace.map(|grace| u64::try_from(grace.as_micros()).unwrap_or(u64::MAX));
    v1::KillTaskRequest { framework_id, task_id, grace_micros }
}

async fn kill_one(client: &Client, framework: String, task: String, args: &KillArgs) -> anyhow::Result<()> {
    let request = request(framework, task.clone(), args);
    let reply = client.operator().kill_task(request).await.map_err(refusal)?.into_inner();
    match args.output.output {
        Format::Json => output::print_json(&serde_json::json!({
            "task_id": task,
            "framework_id": reply.framework_id,
            "agent_id": reply.agent_id,
        }))?,
        Format::Text => {
            let (task, framework, agent) = (&args.task, reply.framework_id, reply.agent_id);
            output::print(&format!("{task} of {framework}: {agent} was told to stop it\n"))?;
        }
    }
    Ok(())
}

/// Stops every launch of an array; where its program is still there, that must not launch more.
async fn kill_array(client: &Client, run: &Run, args: &KillArgs) -> anyhow::Result<()> {
    let Run { framework, name, .. } = run;
    anyhow::ensure!(run.goes_on() && !run.ended, "all tasks of the array {name} of {framework} have ended");
    // A teardown has the agent's grace period.
    if !run.connected || args.grace.is_some() {
        for launch in live_launches(client, run).await? {
            let request = request(framework.clone(), launch.to_string(), args);
            unless_ended(client.operator().kill_task(request).await)?;
        }
    }
    if run.connected {
        let request = v1::TeardownFrameworkRequest { framework_id: framework.clone() };
        unless_ended(client.operator().teardown_framework(request).await)?;
    }
    match args.output.output {
        Format::Json => output::print_json(
            &serde_json::json!({ "task_id": name, "framework_id": framework, "agent_id": null, "live": run.live }),
        )?,
        Format::Text => {
            output::print(&format!("{name} of {framework}: its tasks were told to stop, {} of them live\n", run.live))?;
        }
    }
    Ok(())
}

/// What has ended meanwhile needs no killing.
fn unless_ended<T>(reply: Result<T, Status>) -> anyhow::Result<()> {
    match reply {
        Ok(_) => Ok(()),
        Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => Ok(()),
        Err(status) => Err(refusal(status)),
    }
}
