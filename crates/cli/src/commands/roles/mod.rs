//! `holm roles`, `holm quota`, `holm weight`.

mod file;

use holm_model::{Resources, Role, RoleUpdate, show_weight};
use holm_proto::{roles, v1};
use serde::Serialize;
use serde_json::Value;

use super::lists::Shown;
use crate::args::{
    Amounts, Format, Global, OutputArgs, QuotaArgs, QuotaCommand, RolesArgs, UpdateArgs, WeightArgs, WeightCommand,
};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, brief, print_list};

/// Prints the roles.
pub(crate) async fn list(global: &Global, args: RolesArgs) -> anyhow::Result<()> {
    let rows = fetch(global, args.role.as_ref()).await?;
    print_list(args.output.output, &rows, "no roles: no framework is subscribed and nothing is set", |rows| {
        roles_table(rows, args.role.is_some())
    })?;
    Ok(())
}

/// Roles as an indented tree; on demand with the ids of their frameworks.
pub(crate) fn roles_table(rows: &[RoleRow], with_ids: bool) -> Table {
    let header = ["ROLE", "WEIGHT", "SHARE", "DESERVED", "OF", "GUARANTEE", "LIMIT", "USED", "OFFERED", "FRAMEWORKS"];
    let mut table = Table::new(&header);
    for row in rows {
        let frameworks = match with_ids && !row.framework_ids.is_empty() {
            true => row.framework_ids.join(","),
            false => row.framework_ids.len().to_string(),
        };
        table.row([
            row.indented(),
            row.weight.to_string(),
            percent(row.dominant_share),
            percent(row.deserved_share),
            row.dominant_resource.clone().unwrap_or_else(|| "-".to_owned()),
            row.guarantee.shown(),
            row.limit.shown(),
            brief(&row.used.0),
            brief(&row.offered.0),
            frameworks,
        ]);
    }
    table
}

/// A share for people.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Carries out `holm quota`.
pub(crate) async fn quota(global: &Global, args: QuotaArgs) -> anyhow::Result<()> {
    let (updates, how) = match args.command {
        QuotaCommand::Show(args) => return show_quotas(global, args).await,
        QuotaCommand::Set { role, guarantee, limit, update } => {
            let guarantee = guarantee.map(as_resources);
            (vec![RoleUpdate { guarantee, limit, ..RoleUpdate::of(role) }], update)
        }
        QuotaCommand::Rm { role, update } => {
            let (guarantee, limit) = (Some(Resources::EMPTY), Some(Amounts::new()));
            (vec![RoleUpdate { guarantee, limit, ..RoleUpdate::of(role) }], update)
        }
        QuotaCommand::Apply { file, update } => (file::read(&file)?, update),
    };
    update(global, &updates, how).await
}

/// Carries out `holm weight`.
pub(crate) async fn weight(global: &Global, args: WeightArgs) -> anyhow::Result<()> {
    match args.command {
        WeightCommand::Set { role, weight, update: how } => {
            update(global, &[RoleUpdate { weight: Some(weight), ..RoleUpdate::of(role) }], how).await
        }
        WeightCommand::Show(args) => {
            let rows = fetch(global, args.role.as_ref()).await?;
            print_list(args.output.output, &rows, "every role has weight 1", |rows| {
                let mut table = Table::new(&["ROLE", "WEIGHT", "SHARE", "DESERVED"]);
                for row in rows {
                    let (share, deserved) = (percent(row.dominant_share), percent(row.deserved_share));
                    table.row([row.indented(), row.weight.to_string(), share, deserved]);
                }
                table
            })?;
            Ok(())
        }
    }
}

async fn show_quotas(global: &Global, args: RolesArgs) -> anyhow::Result<()> {
    let mut rows = fetch(global, args.role.as_ref()).await?;
    if args.role.is_none() {
        let with_quota: Vec<String> = rows.iter().filter(|row| row.has_quota()).map(|row| row.role.clone()).collect();
        let is_above = |row: &RoleRow| with_quota.iter().any(|role| *role == row.role || is_below(role, &row.role));
        rows.retain(is_above);
    }
    print_list(args.output.output, &rows, "no quotas are set; `holm quota set` sets one", |rows| {
        let mut table = Table::new(&["ROLE", "GUARANTEE", "LIMIT", "USED"]);
        for row in rows {
            table.row([row.indented(), row.guarantee.shown(), row.limit.shown(), brief(&row.used.0)]);
        }
        table
    })?;
    Ok(())
}

/// Whether a role is below another one.
fn is_below(role: &str, other: &str) -> bool {
    role.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

async fn fetch(global: &Global, only: Option<&Role>) -> anyhow::Result<Vec<RoleRow>> {
    let client = connect(global).await?;
    let reply = client.operator().list_roles(v1::ListRolesRequest {}).await.map_err(refusal)?.into_inner();
    let rows: Vec<RoleRow> = reply.roles.into_iter().map(RoleRow::from).collect();
    let Some(only) = only.map(Role::as_str) else { return Ok(rows) };
    anyhow::ensure!(
        rows.iter().any(|row| row.role == only),
        "role {only} has no frameworks, no weight and no quota, and neither has one below it"
    );
    let related = |row: &RoleRow| row.role == only || is_below(&row.role, only) || is_below(only, &row.role);
    Ok(rows.into_iter().filter(related).collect())
}

fn as_resources(amounts: Amounts) -> Resources {
    Resources::scalars(amounts.into_iter().map(|(name, amount)| (name, amount.0)))
}

async fn update(global: &Global, updates: &[RoleUpdate], how: UpdateArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let UpdateArgs { dry_run, force, output: OutputArgs { output: format } } = how;
    let updates = updates.iter().map(v1::RoleUpdate::from).collect();
    let request = v1::UpdateRolesRequest { updates, dry_run, force };
    let reply = client.operator().update_roles(request).await.map_err(refusal)?.into_inner();
    let outcome = Outcome::from(reply);
    match format {
        Format::Json => output::print_json(&outcome)?,
        Format::Text => output::print(&outcome.text())?,
    }
    Ok(())
}

/// Amounts of an answer, zeros included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AmountsRow(Amounts);

impl AmountsRow {
    fn shown(&self) -> String {
        let entry = |(name, amount): (&holm_model::ResourceName, &holm_model::Amount)| match amount.0 {
            0 => format!("{name}:0"),
            _ => format!("{name}:{}", output::brief_amount(name, *amount)),
        };
        let text = self.0.iter().map(entry).collect::<Vec<_>>().join(";");
        if text.is_empty() { "-".to_owned() } else { text }
    }

    /// For a sentence: exact, and a word where there is nothing.
    fn spoken(&self) -> String {
        let text = holm_model::show_amounts(self.0.iter().map(|(name, amount)| (name, *amount)));
        if text.is_empty() { "none".to_owned() } else { text }
    }
}

impl From<Option<v1::Amounts>> for AmountsRow {
    fn from(amounts: Option<v1::Amounts>) -> AmountsRow {
        AmountsRow(roles::amounts_from_wire(amounts.unwrap_or_default()).unwrap_or_default())
    }
}

impl Serialize for AmountsRow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = |name: &holm_model::ResourceName, amount: &holm_model::Amount| match name.is_bytes() {
            true => Value::from(amount.0),
            false if amount.0.is_multiple_of(1000) => Value::from(amount.0 / 1000),
            false => Value::from(amount.0 as f64 / 1000.0),
        };
        serializer.collect_map(self.0.iter().map(|(name, amount)| (name.as_str(), number(name, amount))))
    }
}

/// One role.
#[derive(Serialize)]
pub(crate) struct RoleRow {
    role: String,
    weight: f64,
    dominant_share: f64,
    dominant_resource: Option<String>,
    deserved_share: f64,
    guarantee: AmountsRow,
    limit: AmountsRow,
    used: Shown,
    allocated: Shown,
    offered: Shown,
    wanting: bool,
    framework_ids: Vec<String>,
}

impl RoleRow {
    /// The last part of the path, under those above it.
    fn indented(&self) -> String {
        let depth = self.role.matches('/').count();
        let name = self.role.rsplit('/').next().unwrap_or_default();
        format!("{}{name}", "  ".repeat(depth))
    }

    fn has_quota(&self) -> bool {
        self.guarantee != AmountsRow::default() || self.limit != AmountsRow::default()
    }
}

impl From<v1::RoleSummary> for RoleRow {
    fn from(role: v1::RoleSummary) -> RoleRow {
        RoleRow {
            role: role.role,
            weight: f64::from(role.weight_thousandths) / 1e3,
            dominant_share: f64::from(role.dominant_share_ppm) / 1e6,
            dominant_resource: Some(role.dominant_resource).filter(|name| !name.is_empty()),
            deserved_share: f64::from(role.deserved_share_ppm) / 1e6,
            guarantee: role.guarantee.into(),
            limit: role.limit.into(),
            used: role.used.into(),
            allocated: role.allocated.into(),
            offered: role.offered.into(),
            wanting: role.wanting,
            framework_ids: role.framework_ids,
        }
    }
}

/// What an update changed, or would change.
#[derive(Serialize)]
struct Outcome {
    dry_run: bool,
    changed: Vec<Change>,
    over_limit: Vec<GapRow>,
    unmet: Vec<GapRow>,
    over_committed: Vec<OverCommit>,
    rescinded_offers: Vec<String>,
}

#[derive(Serialize)]
struct Change {
    role: String,
    before: Setting,
    after: Setting,
}

#[derive(PartialEq, Serialize)]
struct Setting {
    weight: f64,
    guarantee: AmountsRow,
    limit: AmountsRow,
    #[serde(skip)]
    weight_text: String,
}

#[derive(Serialize)]
struct GapRow {
    role: String,
    resource: String,
    used: u64,
    bound: u64,
    text: String,
}

#[derive(Serialize)]
struct OverCommit {
    resource: String,
    guaranteed: u64,
    capacity: u64,
}

impl Outcome {
    fn text(&self) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let mut lines: Vec<String> = self.changed.iter().map(Change::text).collect();
        if lines.is_empty() {
            lines.push("nothing to change".to_owned());
        }
        lines.extend(self.over_limit.iter().map(|gap| format!("{}: {would}over its limit: {}", gap.role, gap.text)));
        let unmet = self.unmet.iter();
        lines.extend(unmet.map(|gap| format!("{}: {would}short of its guarantee: {}", gap.role, gap.text)));
        lines.extend(self.over_committed.iter().map(OverCommit::text));
        match self.rescinded_offers.as_slice() {
            [] => {}
            [offer] => lines.push(format!("{would}rescinded: {offer}")),
            offers => lines.push(format!("{would}rescinded: {} offers: {}", offers.len(), offers.join(", "))),
        }
        if self.dry_run {
            lines.push("dry run: nothing was changed".to_owned());
        }
        lines.iter().map(|line| format!("{}\n", output::clean(line))).collect()
    }
}

impl Change {
    fn text(&self) -> String {
        let Change { role, before, after } = self;
        let mut parts = Vec::new();
        if before.weight_text != after.weight_text {
            parts.push(format!("weight {} -> {}", before.weight_text, after.weight_text));
        }
        let sides = [("guarantee", &before.guarantee, &after.guarantee), ("limit", &before.limit, &after.limit)];
        let differ = sides.into_iter().filter(|(_, before, after)| before != after);
        parts.extend(differ.map(|(name, before, after)| format!("{name} {} -> {}", before.spoken(), after.spoken())));
        format!("{role}: {}", parts.join(", "))
    }
}

impl OverCommit {
    fn text(&self) -> String {
        let OverCommit { resource, guaranteed, capacity } = self;
        let show = |amount: u64| match resource.parse::<holm_model::ResourceName>() {
            Ok(name) if amount > 0 => name.show(holm_model::Amount(amount)),
            _ => amount.to_string(),
        };
        format!("over-committed: {resource}: {} guaranteed, the cluster has {}", show(*guaranteed), show(*capacity))
    }
}

impl From<v1::UpdateRolesReply> for Outcome {
    fn from(reply: v1::UpdateRolesReply) -> Outcome {
        let gap = |gap: v1::QuotaGap| {
            let v1::QuotaGap { role, resource, used, bound, text } = gap;
            GapRow { role, resource, used, bound, text }
        };
        let over = |over: v1::OverCommit| {
            let v1::OverCommit { resource, guaranteed, capacity } = over;
            OverCommit { resource, guaranteed, capacity }
        };
        let change = |change: v1::RoleChange| Change {
            role: change.role,
            before: change.before.unwrap_or_default().into(),
            after: change.after.unwrap_or_default().into(),
        };
        Outcome {
            dry_run: reply.dry_run,
            changed: reply.changed.into_iter().map(change).collect(),
            over_limit: reply.over_limit.into_iter().map(gap).collect(),
            unmet: reply.unmet.into_iter().map(gap).collect(),
            over_committed: reply.over_committed.into_iter().map(over).collect(),
            rescinded_offers: reply.rescinded_offers,
        }
    }
}

impl From<v1::RoleSetting> for Setting {
    fn from(setting: v1::RoleSetting) -> Setting {
        let thousandths = std::num::NonZeroU32::new(setting.weight_thousandths);
        Setting {
            weight: f64::from(setting.weight_thousandths) / 1e3,
            guarantee: setting.guarantee.into(),
            limit: setting.limit.into(),
            weight_text: thousandths.map(show_weight).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
