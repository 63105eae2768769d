//! `holm reserve`, `holm unreserve`, `holm volume`.

use holm_model::{AgentId, Amount, Operation, ResourceName, Role};
use holm_proto::v1;
use serde::Serialize;

use super::lists::all_agents;
use crate::args::{ChangeArgs, Format, Global, VolumeCommand};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, print_list};

/// Reserves resources of an agent.
pub(crate) async fn reserve(global: &Global, args: ChangeArgs) -> anyhow::Result<()> {
    let (reservation, resources) = (args.of.reservation(false)?, args.resources);
    let done = format!("{resources} of {} is reserved for {reservation}\n", args.agent);
    operate(global, args.agent, Operation::Reserve { resources, reservation }, (args.output.output, &done)).await
}

/// Ends a reservation.
pub(crate) async fn unreserve(global: &Global, args: ChangeArgs) -> anyhow::Result<()> {
    let (reservation, resources) = (args.of.reservation(false)?, args.resources);
    let done = format!("{resources} of {} is not reserved for {reservation} any more\n", args.agent);
    operate(global, args.agent, Operation::Unreserve { resources, reservation }, (args.output.output, &done)).await
}

/// Makes, ends and lists volumes.
pub(crate) async fn volume(global: &Global, command: VolumeCommand) -> anyhow::Result<()> {
    match command {
        VolumeCommand::Create { agent, id, size, of, fixed, output } => {
            let reservation = of.reservation(fixed)?;
            let shown = ResourceName::Disk.show(size);
            let done = format!("volume {id} of {shown} is made on {agent} for {}\n", of.role);
            operate(global, agent, Operation::CreateVolume { id, size, reservation }, (output.output, &done)).await
        }
        VolumeCommand::Destroy { agent, id, role, output } => {
            let done = format!("volume {id} of {role} is destroyed on {agent}\n");
            operate(global, agent, Operation::DestroyVolume { id, role }, (output.output, &done)).await
        }
        VolumeCommand::Ls { role, output } => list(global, role, output.output).await,
    }
}

async fn operate(
    global: &Global,
    agent: AgentId,
    operation: Operation,
    (format, done): (Format, &str),
) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::OperateRequest { agent_id: agent.to_string(), operation: Some((&operation).into()) };
    client.operator().operate(request).await.map_err(refusal)?;
    match format {
        Format::Json => output::print_json(&serde_json::json!({
            "agent_id": agent.to_string(),
            "operation": operation.kind(),
            "role": operation.role().to_string(),
        }))?,
        Format::Text => output::print(done)?,
    }
    Ok(())
}

#[derive(Serialize)]
struct VolumeRow {
    agent_id: String,
    hostname: String,
    agent_state: &'static str,
    volume: String,
    role: String,
    bytes: u64,
}

async fn list(global: &Global, role: Option<Role>, format: Format) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let mut rows = Vec::new();
    for agent in all_agents(&client).await? {
        let agent_state = super::lists::agent_state(agent.state());
        for volume in agent.volumes {
            rows.push(VolumeRow {
                agent_id: agent.id.clone(),
                hostname: agent.hostname.clone(),
                agent_state,
                volume: volume.volume_id,
                role: volume.role,
                bytes: volume.bytes,
            });
        }
    }
    if let Some(role) = role {
        rows.retain(|row| row.role == role.as_str());
    }
    print_list(format, &rows, "no volumes; `holm volume create` makes one of reserved disk", |rows| {
        let mut table = Table::new(&["VOLUME", "ROLE", "SIZE", "AGENT", "HOST", "STATE"]);
        for row in rows {
            table.row([
                row.volume.clone(),
                row.role.clone(),
                ResourceName::Disk.show(Amount(row.bytes)),
                row.agent_id.clone(),
                row.hostname.clone(),
                row.agent_state.to_owned(),
            ]);
        }
        table
    })?;
    Ok(())
}
