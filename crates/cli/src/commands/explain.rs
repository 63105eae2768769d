//! `holm explain`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holm_proto::{resources, v1};
use serde::Serialize;

use super::lists::Shown;
use super::roles::{RoleRow, percent, roles_table};
use crate::args::{ExplainArgs, ExplainOptions, ExplainSubject, Format, Global};
use crate::connection::{connect, refusal};
use crate::output::{self, brief};

/// Prints why somebody waits.
pub(crate) async fn run(global: &Global, args: ExplainArgs) -> anyhow::Result<()> {
    use v1::explain_request::Subject;
    let (subject, options) = match args.subject {
        ExplainSubject::Role { role, options } => (Subject::Role(role.to_string()), options),
        ExplainSubject::Framework { framework, options } => (Subject::FrameworkId(framework.to_string()), options),
        ExplainSubject::Demand { framework, demand, options } => {
            let name = v1::DemandName { framework_id: framework.to_string(), demand_id: demand.to_string() };
            (Subject::Demand(name), options)
        }
    };
    let ExplainOptions { agent, need, output } = options;
    let request = v1::ExplainRequest {
        subject: Some(subject),
        agent_id: agent.map(|agent| agent.to_string()).unwrap_or_default(),
        need: need.as_ref().map(resources::to_wire).unwrap_or_default(),
    };
    let client = connect(global).await?;
    let reply = client.operator().explain(request).await.map_err(refusal)?.into_inner();
    let explanation = Explanation::from(reply);
    match output.output {
        Format::Json => output::print_json(&explanation)?,
        Format::Text => output::print(&explanation.text())?,
    }
    Ok(())
}

#[derive(Serialize)]
struct Explanation {
    roles: Vec<RoleRow>,
    waiting: Vec<Waiting>,
    more: u64,
    agents: u64,
}

#[derive(Serialize)]
struct Waiting {
    framework_id: String,
    framework_name: String,
    role: String,
    demand_id: Option<String>,
    least: Shown,
    offers: u64,
    judged: u64,
    dominant_share: f64,
    deserved_share: f64,
    everywhere: Option<Cause>,
    classes: Vec<Class>,
    more_agents: u64,
}

#[derive(Serialize)]
struct Class {
    attributes: BTreeMap<String, String>,
    agents: u64,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct Reason {
    cause: Cause,
    agents: u64,
    example_agent_id: String,
}

#[derive(Serialize)]
struct Cause {
    kind: String,
    text: String,
    resource: Option<String>,
    short_by: u64,
    role: Option<String>,
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = roles_table(&self.roles, false).render();
        if self.waiting.is_empty() {
            text.push_str("\nno framework is subscribed to it\n");
        }
        for waiting in &self.waiting {
            waiting.write(&mut text, self.agents);
        }
        if self.more > 0 {
            // Writing to a string does not fail, here and below.
            let _ = writeln!(text, "\nand {} more: ask for one of them by its framework", self.more);
        }
        output::clean(&text).into_owned()
    }
}

impl Waiting {
    fn write(&self, text: &mut String, agents: u64) {
        let Waiting { framework_id, framework_name, role, .. } = self;
        let _ = write!(text, "\n{framework_id} ({framework_name}) in role {role}");
        if let Some(demand) = &self.demand_id {
            let _ = write!(text, ", demand {demand}");
        }
        let (share, deserved) = (percent(self.dominant_share), percent(self.deserved_share));
        let _ = write!(text, ": share {share}, deserves {deserved}, holds {} offers", self.offers);
        if !self.least.0.is_empty() {
            let _ = write!(text, ", needs at least {} on one agent", brief(&self.least.0));
        }
        text.push('\n');
        if let Some(cause) = &self.everywhere {
            let _ = writeln!(text, "  everywhere: {}", cause.text);
        }
        for class in &self.classes {
            // What all classes have in common tells nothing apart.
            let tells = |(name, value): &(&String, &String)| {
                self.classes.iter().any(|other| other.attributes.get(*name) != Some(*value))
            };
            let told = class.attributes.iter().filter(tells).map(|(name, value)| format!("{name}:{value}"));
            let told: Vec<_> = told.collect();
            let with = if told.is_empty() { String::new() } else { format!(", {}", told.join(";")) };
            let _ = writeln!(text, "  {}{with}", counted(class.agents));
            for Reason { cause, agents, example_agent_id } in &class.reasons {
                let closest = if *agents > 1 { format!(" (closest: {example_agent_id})") } else { String::new() };
                let _ = writeln!(text, "    {agents}: {}{closest}", cause.text);
            }
        }
        if self.more_agents > 0 {
            let _ = writeln!(text, "  {} in further classes", counted(self.more_agents));
        }
        if agents == 0 {
            text.push_str("  there are no agents\n");
        } else if self.judged < agents && self.judged > 1 {
            let _ = writeln!(text, "  {} of {agents} agents were looked at", self.judged);
        }
    }
}

fn counted(agents: u64) -> String {
    if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<v1::ExplainReply> for Explanation {
    fn from(reply: v1::ExplainReply) -> Explanation {
        Explanation {
            roles: reply.roles.into_iter().map(RoleRow::from).collect(),
            waiting: reply.waiting.into_iter().map(Waiting::from).collect(),
            more: reply.more,
            agents: reply.agents,
        }
    }
}

impl From<v1::Waiting> for Waiting {
    fn from(waiting: v1::Waiting) -> Waiting {
        Waiting {
            framework_id: waiting.framework_id,
            framework_name: waiting.framework_name,
            role: waiting.role,
            demand_id: given(waiting.demand_id),
            least: waiting.least.into(),
            offers: waiting.offers,
            judged: waiting.judged,
            dominant_share: f64::from(waiting.dominant_share_ppm) / 1e6,
            deserved_share: f64::from(waiting.deserved_share_ppm) / 1e6,
            everywhere: waiting.everywhere.map(Cause::from),
            classes: waiting.classes.into_iter().map(Class::from).collect(),
            more_agents: waiting.more_agents,
        }
    }
}

impl From<v1::WaitClass> for Class {
    fn from(class: v1::WaitClass) -> Class {
        let reason = |reason: v1::WaitReason| Reason {
            cause: reason.cause.unwrap_or_default().into(),
            agents: reason.agents,
            example_agent_id: reason.example_agent_id,
        };
        let reasons = class.reasons.into_iter().map(reason).collect();
        Class { attributes: class.attributes, agents: class.agents, reasons }
    }
}

impl From<v1::WaitCause> for Cause {
    fn from(cause: v1::WaitCause) -> Cause {
        let v1::WaitCause { kind, text, resource, short_by, role } = cause;
        Cause { kind, text, resource: given(resource), short_by, role: given(role) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(kind: &str, text: &str) -> Option<v1::WaitCause> {
        Some(v1::WaitCause { kind: kind.to_owned(), text: text.to_owned(), ..v1::WaitCause::default() })
    }

    #[test]
    fn an_explanation_reads_from_the_role_down_to_the_agent() {
        let reason = |kind, text, agents, example: &str| v1::WaitReason {
            cause: cause(kind, text),
            agents,
            example_agent_id: example.to_owned(),
        };
        let class = v1::WaitClass {
            attributes: [("rack".to_owned(), "a".to_owned()), ("arch".to_owned(), "x".to_owned())].into(),
            agents: 3,
            reasons: vec![
                reason("in_use", "in use: cpus: 4 asked, 3 there, 1 short", 2, "agent-1-3"),
                reason("filter", "the framework declined", 1, "agent-1-1"),
            ],
        };
        let other = v1::WaitClass {
            attributes: [("arch".to_owned(), "x".to_owned())].into(),
            agents: 1,
            reasons: vec![reason("nothing", "nothing excludes it", 1, "agent-1-9")],
        };
        let waiting = v1::Waiting {
            framework_id: "framework-1-2".to_owned(),
            framework_name: "nightly".to_owned(),
            role: "eng".to_owned(),
            demand_id: "big".to_owned(),
            least: Some((&"cpus:4".parse::<holm_model::Resources>().unwrap()).into()),
            judged: 3,
            everywhere: cause("quota", "role eng is at its limit: cpus: 8 of 8 in use or on offer"),
            classes: vec![class, other],
            dominant_share_ppm: 250_000,
            deserved_share_ppm: 500_000,
            ..v1::Waiting::default()
        };
        let role = v1::RoleSummary { role: "eng".to_owned(), weight_thousandths: 2000, ..v1::RoleSummary::default() };
        let reply = v1::ExplainReply { roles: vec![role], waiting: vec![waiting], more: 0, agents: 3 };
        let explanation = Explanation::from(reply);
        let expected = "\
ROLE  WEIGHT  SHARE  DESERVED  OF  GUARANTEE  LIMIT  USED  OFFERED  FRAMEWORKS
eng   2       0.0%   0.0%      -   -          -      -     -        0

framework-1-2 (nightly) in role eng, demand big: share 25.0%, deserves 50.0%, holds 0 offers, needs at least cpus:4 on one agent
  everywhere: role eng is at its limit: cpus: 8 of 8 in use or on offer
  3 agents, rack:a
    2: in use: cpus: 4 asked, 3 there, 1 short (closest: agent-1-3)
    1: the framework declined
  1 agent
    1: nothing excludes it
";
        assert_eq!(explanation.text(), expected);
        let json = serde_json::to_value(&explanation).unwrap();
        assert_eq!(json["waiting"][0]["everywhere"]["kind"], "quota");
        assert_eq!(json["waiting"][0]["classes"][0]["reasons"][0]["agents"], 2);
    }
}
