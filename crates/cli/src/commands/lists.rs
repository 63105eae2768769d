//! The lists: agents, frameworks, offers.

use std::time::Duration;

use holm_model::Resources;
use holm_proto::v1;
use holm_sdk::Client;
use serde::Serialize;
use serde_json::Value;

use crate::args::{Format, FrameworksArgs, Global, OffersArgs};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, brief, print_list, resources_json};

/// Prints the agents.
pub(crate) async fn agents(global: &Global, format: Format) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let agents: Vec<_> = all_agents(&client).await?.into_iter().map(AgentRow::from).collect();
    print_list(format, &agents, "no agents; `holm agent` starts one", |agents| {
        let mut table = Table::new(&[
            "AGENT",
            "HOST",
            "STATE",
            "TASKS",
            "TOTAL",
            "HELD",
            "OFFERED",
            "LENT",
            "RESERVE",
            "CONFINED",
            "ATTRIBUTES",
        ]);
        for agent in agents {
            let attributes: Vec<_> = agent.attributes.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            table.row([
                agent.agent_id.clone(),
                agent.hostname.clone(),
                agent.shown_state(),
                agent.tasks.live().to_string(),
                brief(&agent.total.0),
                brief(&agent.allocated.0),
                brief(&agent.offered.0),
                agent.shown_lent(),
                agent.shown_reserve(),
                confinement(&agent.confinement),
                attributes.join(";"),
            ]);
        }
        table
    })?;
    Ok(())
}

/// Prints the frameworks.
pub(crate) async fn frameworks(global: &Global, args: FrameworksArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let frameworks: Vec<_> = all_frameworks(&client, args.all).await?.into_iter().map(FrameworkRow::from).collect();
    print_list(args.output.output, &frameworks, "no frameworks", |frameworks| {
        let header = ["FRAMEWORK", "NAME", "STATE", "ROLES", "STAGING", "RUNNING", "ENDED", "HELD", "OFFERS", "AGE"];
        let mut table = Table::new(&header);
        for framework in frameworks {
            table.row([
                framework.framework_id.clone(),
                framework.name.clone(),
                framework.state.to_owned(),
                framework.roles.join(","),
                framework.tasks.staging.to_string(),
                framework.tasks.running.to_string(),
                (framework.tasks.finished + framework.tasks.failed).to_string(),
                brief(&framework.allocated.0),
                framework.offers.to_string(),
                output::ago(framework.registered_unix_micros),
            ]);
        }
        table
    })?;
    Ok(())
}

/// Prints the offers that are out.
pub(crate) async fn offers(global: &Global, args: OffersArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let framework_id = args.framework.map(|id| id.to_string()).unwrap_or_default();
    let (mut offers, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListOffersRequest { framework_id: framework_id.clone(), limit: 0, page_token };
        let page = client.operator().list_offers(request).await.map_err(refusal)?.into_inner();
        offers.extend(page.offers.into_iter().filter_map(OfferRow::from_wire));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    print_list(args.output.output, &offers, "no offers are out", |offers| {
        let mut table = Table::new(&["OFFER", "FRAMEWORK", "NAME", "ROLE", "AGENT", "RESOURCES", "AGE"]);
        for offer in offers {
            table.row([
                offer.offer_id.clone(),
                offer.framework_id.clone(),
                offer.framework_name.clone(),
                offer.role.clone(),
                offer.agent_id.clone(),
                brief(&offer.resources.0),
                output::span(Duration::from_secs_f64(offer.age_seconds)),
            ]);
        }
        table
    })?;
    Ok(())
}

/// Every agent that the master knows.
pub(crate) async fn all_agents(client: &Client) -> anyhow::Result<Vec<v1::AgentSummary>> {
    let (mut agents, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListAgentsRequest { limit: 0, page_token };
        let page = client.operator().list_agents(request).await.map_err(refusal)?.into_inner();
        agents.extend(page.agents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(agents);
        }
    }
}

/// Every framework that the master knows, and on demand those that have ended lately.
pub(crate) async fn all_frameworks(
    client: &Client,
    include_completed: bool,
) -> anyhow::Result<Vec<v1::FrameworkSummary>> {
    let (mut frameworks, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListFrameworksRequest { limit: 0, page_token, include_completed };
        let page = client.operator().list_frameworks(request).await.map_err(refusal)?.into_inner();
        frameworks.extend(page.frameworks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(frameworks);
        }
    }
}

/// Resources that are numbers for programs.
pub(crate) struct Shown(pub(crate) Resources);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        resources_json(&self.0).serialize(serializer)
    }
}

impl From<Option<v1::ResourceView>> for Shown {
    fn from(view: Option<v1::ResourceView>) -> Shown {
        Shown(output::resources(view))
    }
}

#[derive(Serialize)]
struct Counts {
    staging: u64,
    running: u64,
    unreachable: u64,
    finished: u64,
    failed: u64,
}

impl Counts {
    fn live(&self) -> u64 {
        self.staging + self.running + self.unreachable
    }
}

impl From<Option<v1::TaskCounts>> for Counts {
    fn from(counts: Option<v1::TaskCounts>) -> Counts {
        let v1::TaskCounts { staging, running, unreachable, finished, failed } = counts.unwrap_or_default();
        Counts { staging, running, unreachable, finished, failed }
    }
}

#[derive(Serialize)]
struct AgentRow {
    agent_id: String,
    hostname: String,
    state: &'static str,
    total: Shown,
    offered: Shown,
    allocated: Shown,
    /// Everything by origin, in the text form.
    #[serde(rename = "portions")]
    reserved: String,
    revocable: Shown,
    lent: Shown,
    attributes: std::collections::BTreeMap<String, String>,
    version: String,
    tasks: Counts,
    isolation: String,
    confinement: Vec<LayerRow>,
    reserve_bytes: u64,
    overhead_bytes: u64,
    held_back: Option<String>,
}

/// Where an agent stands, in capitals.
pub(super) fn agent_state(state: v1::AgentState) -> &'static str {
    match state {
        v1::AgentState::Active => "ACTIVE",
        v1::AgentState::Recovering => "RECOVERING",
        v1::AgentState::Disconnected => "DISCONNECTED",
        v1::AgentState::Unreachable => "UNREACHABLE",
        v1::AgentState::Unspecified => "UNKNOWN",
    }
}

/// One layer of an agent's confinement.
#[derive(Serialize)]
struct LayerRow {
    name: String,
    active: bool,
    detail: String,
}

impl From<v1::ConfinementLayer> for LayerRow {
    fn from(layer: v1::ConfinementLayer) -> LayerRow {
        let v1::ConfinementLayer { name, active, detail } = layer;
        LayerRow { name, active, detail }
    }
}

/// The layers that an agent lacks, by name; what is there goes without saying.
fn confinement(layers: &[LayerRow]) -> String {
    let missing: Vec<_> = layers.iter().filter(|layer| !layer.active).map(|layer| layer.name.as_str()).collect();
    match (layers.is_empty(), missing.is_empty()) {
        (true, _) => "unknown".to_owned(),
        (false, true) => "full".to_owned(),
        (false, false) => format!("without {}", missing.join(",")),
    }
}

impl From<v1::AgentSummary> for AgentRow {
    fn from(agent: v1::AgentSummary) -> AgentRow {
        let state = agent_state(agent.state());
        let v1::AgentCondition { reserve_bytes, overhead_bytes, held_back } = agent.condition.unwrap_or_default();
        AgentRow {
            agent_id: agent.id,
            hostname: agent.hostname,
            state,
            total: agent.total.into(),
            offered: agent.offered.into(),
            allocated: agent.allocated.into(),
            reserved: agent.portions_text,
            revocable: agent.revocable.into(),
            lent: agent.lent.into(),
            attributes: agent.attributes,
            version: agent.version,
            tasks: agent.tasks.into(),
            isolation: agent.isolation,
            confinement: agent.confinement.into_iter().map(LayerRow::from).collect(),
            reserve_bytes,
            overhead_bytes,
            held_back: Some(held_back).filter(|why| !why.is_empty()),
        }
    }
}

impl AgentRow {
    /// The state, and that nothing is offered of an agent in it.
    fn shown_state(&self) -> String {
        if self.held_back.is_some() { format!("{} (HELD BACK)", self.state) } else { self.state.to_owned() }
    }

    /// What revocable tasks hold of what can be lent, such as "cpus:1;mem:1GiB of cpus:3.2;mem:2GiB".
    fn shown_lent(&self) -> String {
        let nothing = self.revocable.0.is_empty() && self.lent.0.is_empty();
        if nothing { "-".to_owned() } else { format!("{} of {}", brief(&self.lent.0), brief(&self.revocable.0)) }
    }

    /// How much of the reserve is taken, such as "120MiB/2GiB".
    fn shown_reserve(&self) -> String {
        match self.reserve_bytes {
            0 => "-".to_owned(),
            reserve => format!("{}/{}", output::bytes(self.overhead_bytes), output::bytes(reserve)),
        }
    }
}

#[derive(Serialize)]
struct FrameworkRow {
    framework_id: String,
    name: String,
    state: &'static str,
    roles: Vec<String>,
    suppressed_roles: Vec<String>,
    failover_timeout_seconds: f64,
    labels: std::collections::BTreeMap<String, String>,
    allocated: Shown,
    offered: Shown,
    offers: u64,
    tasks: Counts,
    registered: Value,
    #[serde(skip)]
    registered_unix_micros: u64,
}

impl From<v1::FrameworkSummary> for FrameworkRow {
    fn from(framework: v1::FrameworkSummary) -> FrameworkRow {
        let state = match framework.state() {
            v1::FrameworkState::Connected => "CONNECTED",
            v1::FrameworkState::Disconnected => "DISCONNECTED",
            v1::FrameworkState::Completed => "COMPLETED",
            v1::FrameworkState::Unspecified => "UNKNOWN",
        };
        FrameworkRow {
            framework_id: framework.id,
            name: framework.name,
            state,
            roles: framework.roles,
            suppressed_roles: framework.suppressed_roles,
            failover_timeout_seconds: framework.failover_timeout_micros as f64 / 1e6,
            labels: framework.labels,
            allocated: framework.allocated.into(),
            offered: framework.offered.into(),
            offers: framework.offer_count,
            tasks: framework.tasks.into(),
            registered: output::time_json(framework.registered_unix_micros),
            registered_unix_micros: framework.registered_unix_micros,
        }
    }
}

#[derive(Serialize)]
struct OfferRow {
    offer_id: String,
    framework_id: String,
    framework_name: String,
    role: String,
    agent_id: String,
    hostname: String,
    resources: Shown,
    attributes: std::collections::BTreeMap<String, String>,
    age_seconds: f64,
}

impl OfferRow {
    fn from_wire(summary: v1::OfferSummary) -> Option<OfferRow> {
        let offer = summary.offer?;
        Some(OfferRow {
            offer_id: offer.id,
            framework_id: offer.framework_id,
            framework_name: summary.framework_name,
            role: offer.role,
            agent_id: offer.agent_id,
            hostname: offer.hostname,
            resources: Shown(holm_proto::resources::from_wire(offer.resources).unwrap_or(Resources::EMPTY)),
            attributes: offer.attributes,
            age_seconds: summary.age_micros as f64 / 1e6,
        })
    }
}
