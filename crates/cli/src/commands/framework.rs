//! `holm framework`: run a scheduler component, end a framework.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use holm_host::Hosted;
use holm_model::FrameworkId;
use holm_proto::v1;
use holm_sdk::{Client, Driver};

use super::blob::push_file;
use super::run::module;
use crate::args::{Format, FrameworkRunArgs, Global};
use crate::connection::{self, connect, refusal};
use crate::output;
use crate::signals::StopSignals;

/// How long to look for a master before the first registration.
const CONNECT: Duration = Duration::from_secs(10);
/// What an impatient second ctrl-C ends with.
const INTERRUPTED: u8 = 130;

/// Runs a scheduler component as a framework until it finishes.
pub(crate) async fn run(global: &Global, args: FrameworkRunArgs) -> anyhow::Result<ExitCode> {
    module::check(&args.component)?;
    let mut signals = StopSignals::listen()?;
    let bytes =
        std::fs::read(&args.component).with_context(|| format!("{} cannot be read", args.component.display()))?;
    let client = connect(global).await?;
    let options = holm_host::Options {
        config: configuration(&client, &args).await?,
        roles: vec![args.role.clone()],
        failover_timeout: args.failover_timeout,
        ..holm_host::Options::default()
    };
    let hosted = Hosted::start(bytes, options).await.with_context(|| args.component.display().to_string())?;
    let (driver, handle) = Driver::new(holm_sdk::Options {
        masters: global.master.clone(),
        token: connection::token(global)?,
        connect_within: Some(CONNECT),
        ..holm_sdk::Options::default()
    })?;
    let running = holm_host::run(hosted, driver);
    tokio::pin!(running);
    let outcome = tokio::select! {
        outcome = &mut running => outcome?,
        () = signals.next() => {
            eprintln!("holm: tearing the framework down; once more to leave at once");
            // It has ended already when it cannot be told.
            let _ = handle.tear_down().await;
            tokio::select! {
                outcome = &mut running => outcome?,
                () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
            }
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&outcome.report).and_then(|()| stdout.flush()).context("the report cannot be written")?;
    Ok(ExitCode::from(outcome.code))
}

/// The configuration file, and a line for each blob that is pushed.
async fn configuration(client: &Client, args: &FrameworkRunArgs) -> anyhow::Result<Vec<u8>> {
    let mut config = match &args.config {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("configuration {} cannot be read", path.display()))?
        }
        None => Vec::new(),
    };
    for (key, file) in &args.blob {
        let pushed = push_file(client, file.as_ref()).await?;
        if config.last().is_some_and(|last| *last != b'\n') {
            config.push(b'\n');
        }
        config.extend_from_slice(format!("{key}={}\n", pushed.digest).as_bytes());
    }
    Ok(config)
}

/// Ends a framework.
pub(crate) async fn teardown(global: &Global, framework: FrameworkId, format: Format) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::TeardownFrameworkRequest { framework_id: framework.to_string() };
    let reply = client.operator().teardown_framework(request).await.map_err(refusal)?.into_inner();
    match format {
        Format::Json => output::print_json(&serde_json::json!({
            "framework_id": framework.to_string(),
            "killed_tasks": reply.killed_tasks,
        }))?,
        Format::Text => {
            output::print(&format!("{framework} has ended; {} of its tasks were live\n", reply.killed_tasks))?
        }
    }
    Ok(())
}
