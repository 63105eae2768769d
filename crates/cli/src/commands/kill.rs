//! `holm kill`.

use holm_proto::v1;

use crate::args::{Format, Global, KillArgs};
use crate::connection::{connect, refusal};
use crate::output;

/// Asks the agent to stop a task, or all tasks of an array.
pub(crate) async fn run(global: &Global, args: KillArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::KillTaskRequest {
        framework_id: args.framework.map(|id| id.to_string()).unwrap_or_default(),
        task_id: args.task.to_string(),
        grace_micros: args.grace.map(|grace| u64::try_from(grace.as_micros()).unwrap_or(u64::MAX)),
    };
    let reply = client.operator().kill_task(request).await.map_err(refusal)?.into_inner();
    match args.output.output {
        Format::Json => output::print_json(&serde_json::json!({
            "task_id": args.task.to_string(),
            "framework_id": reply.framework_id,
            "agent_id": reply.agent_id,
        }))?,
        Format::Text => {
            output::print(&format!(
                "{} of {}: {} was told to stop it\n",
                args.task, reply.framework_id, reply.agent_id
            ))?;
        }
    }
    Ok(())
}
