//! `holm policy`: how the master's stands, and what a new one would do.

use std::time::Duration;

use anyhow::Context;
use holm_proto::v1;
use serde_json::json;

use crate::args::{Format, Global};
use crate::connection::connect;
use crate::output::{self, clean, print_json, span};

/// Prints how the master's policy stands.
pub(crate) async fn show(global: &Global, format: Format) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let cluster = client.cluster().clone();
    let state =
        |policy: &v1::PolicySummary| policy.state().as_str_name().trim_start_matches("POLICY_STATE_").to_owned();
    if format == Format::Json {
        let value = cluster.policy.as_ref().map(|policy| {
            json!({
                "name": policy.name,
                "state": state(policy),
                "why": Some(&policy.why).filter(|why| !why.is_empty()),
                "retry_after_seconds": output::seconds(Duration::from_micros(policy.retry_after_micros)),
                "calls": policy.calls,
                "failures": policy.failures,
                "last_call_seconds": output::seconds(Duration::from_micros(policy.last_call_micros)),
                "last_call_fuel": policy.last_call_fuel,
                "reads": policy.reads,
                "writes": policy.writes,
            })
        });
        return Ok(print_json(&value)?);
    }
    let Some(policy) = cluster.policy else {
        println!("no policy: roles share fairly; `holm master --policy FILE` gives them another order");
        return Ok(());
    };
    let order = match policy.state() {
        v1::PolicyState::InForce => "its order is in force".to_owned(),
        v1::PolicyState::Fallback => format!(
            "the built-in order is in force: {}; tried again {} after that",
            clean(&policy.why),
            span(Duration::from_micros(policy.retry_after_micros))
        ),
        _ => "it has not been asked yet; the built-in order is in force".to_owned(),
    };
    println!("policy  {}", clean(&policy.name));
    println!("state   {}: {order}", state(&policy));
    println!("reads   {}", clean(&policy.reads.join(", ")));
    println!("writes  {}", clean(&policy.writes.join(", ")));
    let (last, fuel) = (Duration::from_micros(policy.last_call_micros), policy.last_call_fuel);
    println!("calls   {}, {} failed; the latest took {last:?} and {fuel} fuel", policy.calls, policy.failures);
    Ok(())
}

/// Reads and compiles a policy, away from the threads that serve.
#[cfg(feature = "policy")]
pub(crate) async fn load(
    path: std::path::PathBuf,
    limits: &crate::args::PolicyLimits,
) -> anyhow::Result<holm_masterd::policy::Policy> {
    let config = match &limits.config {
        Some(path) => std::fs::read(path).with_context(|| format!("policy's configuration {}", path.display()))?,
        None => Vec::new(),
    };
    let (fuel, time, memory) = (limits.fuel, limits.time, limits.memory);
    let options = holm_masterd::policy::PolicyOptions { config, fuel, time, memory };
    let policy = tokio::task::spawn_blocking(move || holm_masterd::policy::Policy::load(path, options)).await?;
    Ok(policy?)
}

/// Runs a policy on a made-up cluster.
#[cfg(feature = "policy")]
pub(crate) async fn check(args: crate::args::PolicyCheckArgs) -> anyhow::Result<()> {
    let policy = load(args.file, &args.limits).await?;
    let (leaves, roles) = (args.leaves as usize, args.role);
    let checked = tokio::task::spawn_blocking(move || {
        let checked = holm_masterd::policy::check(&policy, &roles, leaves);
        (policy, checked)
    });
    let (policy, checked) = checked.await?;
    let checked = checked.context("on a made-up cluster")?;
    let description = policy.description();
    let cost = |cost: &holm_model::PolicyCost| json!({ "seconds": cost.time.as_secs_f64(), "fuel": cost.fuel });
    if args.output.output == Format::Json {
        let ranks =
            checked.ranks.iter().map(|rank| json!({ "table": rank.table, "name": rank.name, "rank": rank.rank }));
        return Ok(print_json(&json!({
            "name": description.name,
            "reads": description.reads,
            "writes": description.writes,
            "agents": checked.agents,
            "roles": checked.roles,
            "leaves": checked.leaves,
            "first_call": cost(&checked.first),
            "next_call": checked.next.as_ref().map(cost),
            "ranks": ranks.collect::<Vec<_>>(),
        }))?);
    }
    println!("policy  {}", clean(&description.name));
    println!("reads   {}", clean(&description.reads.join(", ")));
    println!("writes  {}", clean(&description.writes.join(", ")));
    println!("on      {} agents, {} roles, {} frameworks\n", checked.agents, checked.roles, checked.leaves);
    let mut table = output::Table::new(&["TABLE", "RANK", "NAME"]);
    for rank in checked.ranks.iter().take(SHOWN) {
        let number = rank.rank.map_or_else(|| "-".to_owned(), |number| number.to_string());
        table.row([rank.table.to_owned(), number, clean(&rank.name).into_owned()]);
    }
    print!("{}", table.render());
    if checked.ranks.len() > SHOWN {
        println!("... and {} more; --output json has all", checked.ranks.len() - SHOWN);
    }
    let part = |fuel: u64| fuel as f64 * 100.0 / args.limits.fuel.max(1) as f64;
    let line = |what: &str, cost: &holm_model::PolicyCost| {
        println!("{what}  {:?}, {} fuel ({:.2} % of the limit)", cost.time, cost.fuel, part(cost.fuel));
    };
    println!();
    line("the first call, told everything ", &checked.first);
    match &checked.next {
        Some(next) => line("the next, told what one grant changes", next),
        None => println!("what a grant changes is nothing that it reads: it is not called for that"),
    }
    Ok(())
}

/// Ranks that are shown to people.
#[cfg(feature = "policy")]
const SHOWN: usize = 40;
