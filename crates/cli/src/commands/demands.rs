//! `holm demands`: what waits, since when, and where it would fit.

use std::time::Duration;

use holm_model::Resources;
use holm_proto::v1;
use serde::Serialize;
use serde_json::Value;

use crate::args::{DemandsArgs, Global};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, brief, print_list, resources_json};

/// Prints what is wanted and not launched.
pub(crate) async fn demands(global: &Global, args: DemandsArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::ListDemandsRequest {
        framework_id: args.framework.map(|id| id.to_string()).unwrap_or_default(),
        role: args.role.map(|role| role.to_string()).unwrap_or_default(),
    };
    let reply = client.operator().list_demands(request).await.map_err(refusal)?.into_inner();
    let rows: Vec<Row> = reply.demands.into_iter().filter_map(Row::from_wire).collect();
    print_list(args.output.output, &rows, "nothing waits: no framework has stated a demand", table)?;
    if reply.left_out > 0 {
        eprintln!("holm: {} more demands wait; choose with --framework or --role", reply.left_out);
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let header = ["DEMAND", "FRAMEWORK", "NAME", "ROLE", "PRIORITY", "WANTED", "OFFERED", "EACH", "WAITING", "WHERE"];
    let mut table = Table::new(&header);
    for row in rows {
        let kind = if row.gang { " together" } else { "" };
        let mut each = brief(&row.shape);
        if row.ports > 0 {
            each.push_str(&format!(";{} ports", row.ports));
        }
        table.row([
            row.demand_id.clone(),
            row.framework_id.clone(),
            row.framework_name.clone(),
            row.role.clone(),
            row.priority.to_string(),
            format!("{}{kind}", row.wanted),
            row.offered.to_string(),
            each,
            output::span(Duration::from_secs_f64(row.waiting_seconds)),
            row.place(),
        ]);
    }
    table
}

/// A demand as JSON; the table shows a part of it.
#[derive(Serialize)]
struct Row {
    demand_id: String,
    framework_id: String,
    framework_name: String,
    role: String,
    priority: i32,
    wanted: u32,
    least: u32,
    gang: bool,
    offered: u32,
    #[serde(serialize_with = "as_json")]
    shape: Resources,
    ports: u32,
    constraints: Vec<String>,
    max_duration_seconds: Option<f64>,
    waiting_seconds: f64,
    agents: Agents,
    bundles_now: u64,
    bundles_ever: u64,
    short: Option<String>,
    kept: Option<Kept>,
}

/// On how many agents it fits.
#[derive(Serialize)]
struct Agents {
    fits_now: u32,
    busy: u32,
    too_small: u32,
    excluded: u32,
}

#[derive(Serialize)]
struct Kept {
    agent_ids: Vec<String>,
    expected_in_seconds: Option<f64>,
    given_up_in_seconds: f64,
}

fn as_json<S: serde::Serializer>(resources: &Resources, to: S) -> Result<S::Ok, S::Error> {
    let value: Value = resources_json(resources);
    value.serialize(to)
}

impl Row {
    fn from_wire(summary: v1::DemandSummary) -> Option<Row> {
        let demand = holm_model::Demand::try_from(summary.demand?).ok()?;
        let fit = summary.fit.unwrap_or_default();
        let seconds = |micros: u64| output::seconds(Duration::from_micros(micros));
        Some(Row {
            demand_id: demand.id.to_string(),
            framework_id: summary.framework_id,
            framework_name: summary.framework_name,
            role: summary.role,
            priority: demand.priority,
            wanted: demand.count,
            least: demand.least(),
            gang: demand.gang,
            offered: summary.offered,
            ports: demand.ports,
            constraints: summary.constraint_texts,
            max_duration_seconds: demand.max_duration.map(output::seconds),
            waiting_seconds: seconds(summary.waiting_micros),
            agents: Agents { fits_now: fit.now, busy: fit.busy, too_small: fit.small, excluded: fit.excluded },
            bundles_now: fit.bundles_now,
            bundles_ever: fit.bundles_ever,
            short: Some(fit.short).filter(|name| !name.is_empty()),
            kept: summary.kept.map(|kept| Kept {
                agent_ids: kept.agents.into_iter().map(|agent| agent.agent_id).collect(),
                expected_in_seconds: kept.expected_micros.map(seconds),
                given_up_in_seconds: seconds(kept.given_up_micros),
            }),
            shape: demand.shape,
        })
    }

    /// Where it would fit, or why it does not, in a few words.
    fn place(&self) -> String {
        let Agents { fits_now, busy, too_small, excluded } = &self.agents;
        if let Some(kept) = &self.kept {
            let by =
                kept.expected_in_seconds.map(|by| format!(", free in {}", output::span(Duration::from_secs_f64(by))));
            return format!("kept: {}{}", kept.agent_ids.join(","), by.unwrap_or_default());
        }
        if self.gang && self.bundles_ever < u64::from(self.least) {
            return format!("nowhere: {} of {} fit on all agents together", self.bundles_ever, self.least);
        }
        if *fits_now > 0 && !(self.gang && self.bundles_now < u64::from(self.least)) {
            return format!("fits on {fits_now}: others are served first, or it was refused");
        }
        if fits_now + busy == 0 {
            return format!("nowhere: too large for {too_small}, {excluded} excluded");
        }
        let short = self.short.as_ref().map(|name| format!(" (short of {name})")).unwrap_or_default();
        format!("{} busy{short}, too large for {too_small}, {excluded} excluded", fits_now + busy)
    }
}
