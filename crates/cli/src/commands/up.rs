//! `holm up`: a local cluster until ctrl-C.

use std::process::ExitCode;

use anyhow::Context;

use super::master::listen_address;
use crate::args::UpArgs;
use crate::cluster::{Cluster, Plan, shares_of_this_machine};
use crate::output;
use crate::signals::StopSignals;

/// What an impatient second ctrl-C ends with.
const INTERRUPTED: u8 = 130;

/// Brings a cluster up, watches over it, and stops it when asked to.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let here = std::env::current_dir().context("the current directory cannot be found")?;
    let agents = match &args.resources {
        Some(resources) => vec![resources.clone(); args.agents as usize],
        None => shares_of_this_machine(&args.dir, args.agents),
    };
    let listen = listen_address(&args.listen)?;
    if !listen.ip().is_loopback() {
        eprintln!(
            "holm: WARNING: {listen} can be reached from elsewhere, and neither the token nor anything else is encrypted"
        );
    }
    let plan = Plan {
        dir: args.dir.clone(),
        listen,
        agents: agents.clone(),
        allow: vec![format!("{}:rw", here.display())],
        allow_net: args
            .allow_net
            .iter()
            .map(|pattern| pattern.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string))
            .collect(),
        keep: false,
    };
    let mut cluster = tokio::select! {
        cluster = Cluster::start(plan) => cluster?,
        // The children end with this process.
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    greet(&args, &cluster, &agents)?;
    let failed = tokio::select! {
        error = cluster.supervise(|message| eprintln!("holm: {message}")) => Some(error),
        () = signals.next() => None,
    };
    eprintln!("holm: stopping; once more to leave without waiting for it");
    tokio::select! {
        () = cluster.stop() => {}
        // The daemons have been told, and end by themselves.
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn greet(args: &UpArgs, cluster: &Cluster, agents: &[holm_model::Portions]) -> anyhow::Result<()> {
    let address = cluster.address();
    let dir = cluster.dir().display();
    let mut text =
        format!("A master at {address} and {} agent{}:\n", args.agents, if args.agents == 1 { "" } else { "s" });
    for (index, resources) in agents.iter().enumerate() {
        text.push_str(&format!("  agent-{}  {}\n", index + 1, output::brief(&resources.total())));
    }
    text.push_str(&format!("State, token and logs: {dir}\n\nIn another terminal:\n"));
    if address != "127.0.0.1:5050" {
        text.push_str(&format!("  export HOLM_MASTER={address}\n"));
    }
    text.push_str("  holm run app.wasm        # any WASI program\n  holm agents              # what there is\n\nCtrl-C stops everything.\n");
    output::print(&text)?;
    Ok(())
}
