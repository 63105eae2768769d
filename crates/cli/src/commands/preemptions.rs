//! What was asked back or taken, for whom and by which rule.

use holm_model::{TaskRange, TaskSpan};
use holm_proto::v1;
use serde::Serialize;

use crate::args::{Format, Global};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, print_list};

/// Prints the preemptions, newest first.
pub(crate) async fn preemptions(global: &Global, format: Format) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::ListPreemptionsRequest { limit: 0 };
    let reply = client.operator().list_preemptions(request).await.map_err(refusal)?.into_inner();
    let rows: Vec<_> = reply.preemptions.into_iter().map(Row::from).collect();
    print_list(format, &rows, "nothing was asked back", |rows| {
        let mut table =
            Table::new(&["OFFER", "PHASE", "FROM", "ROLE", "AGENT", "RESOURCES", "TASKS", "FOR", "RULE", "AGE"]);
        for row in rows {
            let rule =
                row.guarantee_of.as_ref().map_or_else(|| row.rule.clone(), |role| format!("{} {role}", row.rule));
            table.row([
                row.id.clone(),
                row.phase.clone(),
                row.framework_id.clone(),
                row.role.clone(),
                row.agent_id.clone().unwrap_or_else(|| "-".to_owned()),
                row.resources.clone(),
                if row.tasks.is_empty() { "-".to_owned() } else { row.tasks.join(",") },
                format!("{} in {}", row.for_framework_id, row.for_role),
                rule,
                output::ago(row.asked_unix_micros),
            ]);
        }
        table
    })?;
    Ok(())
}

#[derive(Serialize)]
struct Row {
    id: String,
    phase: String,
    framework_id: String,
    role: String,
    agent_id: Option<String>,
    resources: String,
    tasks: Vec<String>,
    for_framework_id: String,
    for_role: String,
    rule: String,
    guarantee_of: Option<String>,
    asked_unix_micros: u64,
    phase_unix_micros: u64,
}

impl From<v1::PreemptionSummary> for Row {
    fn from(summary: v1::PreemptionSummary) -> Row {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        Row {
            id: summary.id,
            phase: summary.phase,
            framework_id: summary.framework_id,
            role: summary.role,
            agent_id: filled(summary.agent_id),
            resources: summary.resources_text,
            tasks: summary.tasks.iter().filter_map(shown).collect(),
            for_framework_id: summary.for_framework_id,
            for_role: summary.for_role,
            rule: summary.rule,
            guarantee_of: filled(summary.guarantee_of),
            asked_unix_micros: summary.asked_unix_micros,
            phase_unix_micros: summary.phase_unix_micros,
        }
    }
}

/// `tiles/4..9`, or the launch's name.
fn shown(span: &v1::TaskSpan) -> Option<String> {
    let tasks = match span.array {
        Some(v1::TaskArray { first, count }) => TaskRange::Array { first, count },
        None => TaskRange::Single,
    };
    Some(TaskSpan { batch: span.batch_id.parse().ok()?, tasks }.to_string())
}
