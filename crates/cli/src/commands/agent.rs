//! `holm agent`.

use anyhow::{Context, bail};
use holm_agentd::{CompileLimits, CompileOptions, ConfinementOptions, EngineKind, Layer, LendingOptions};
use holm_model::Attributes;

use crate::args::{AgentArgs, Global, OnOff, Profile};
use crate::signals::StopSignals;
use crate::stdio;
use crate::token;

/// Runs an agent until it is told to stop.
pub(crate) async fn run(global: &Global, args: AgentArgs) -> anyhow::Result<()> {
    let confinement = confinement(&args)?;
    if args.check {
        let layers = holm_agentd::check_confinement(&confinement, &args.dir)?;
        stdio::print(&holm_agentd::confinement_table(&layers))?;
        return Ok(());
    }
    let mut signals = StopSignals::listen()?;
    let compile = compile_options(&args);
    let defaults = Defaults::of(args.profile);
    let lending = LendingOptions { margin_percent: args.revocable_margin, window: args.revocable_window };
    let lending = (args.revocable == OnOff::On).then_some(lending);
    let options = holm_agentd::Options {
        masters: global.master.clone(),
        dir: args.dir,
        adopt: args.adopt,
        resources: args.resources,
        attributes: attributes(&args.attributes)?,
        allow: args.allow,
        allow_net: (!args.allow_net.is_empty()).then(|| args.allow_net.into_iter().flatten().collect()),
        task_address: args.task_address,
        token: global.token_file.as_deref().map(token::read).transpose()?.or_else(|| token::find(&global.master)),
        program: std::env::current_exe().context("this program cannot find itself")?,
        threads: args.threads,
        max_tasks: if args.max_tasks == 0 { defaults.max_tasks } else { args.max_tasks },
        log_bytes: args.log_size.unwrap_or(defaults.log_bytes),
        cache_bytes: args.cache_size.unwrap_or(defaults.cache_bytes),
        compile,
        engine: args.engine.map_or(EngineKind::of_this_machine(), EngineKind::from),
        pooled: args.profile == Profile::Server,
        reserve: args.reserve,
        lending,
        sandbox_keep: args.sandbox_keep,
        disk_pressure: args.disk_pressure,
        max_runners: args.max_runners,
        isolation: args.isolation,
        confinement,
        keep_runners: !args.end_tasks,
    };
    holm_agentd::run(options, async move { signals.next().await }).await?;
    Ok(())
}

/// What a profile says of what the command line does not.
struct Defaults {
    /// Zero for what the address space allows.
    max_tasks: usize,
    log_bytes: u64,
    cache_bytes: u64,
    compile_workers: usize,
    compile_memory: u64,
}

impl Defaults {
    fn of(profile: Profile) -> Defaults {
        let compile = CompileOptions::default();
        match profile {
            Profile::Server => Defaults {
                max_tasks: 0,
                log_bytes: 256 << 20,
                cache_bytes: 4 << 30,
                compile_workers: compile.workers,
                compile_memory: compile.limits.memory_bytes,
            },
            Profile::Edge => Defaults {
                max_tasks: 64,
                log_bytes: 32 << 20,
                cache_bytes: 256 << 20,
                compile_workers: 1,
                compile_memory: 1 << 30,
            },
        }
    }
}

fn compile_options(args: &AgentArgs) -> CompileOptions {
    let defaults = Defaults::of(args.profile);
    let limits = CompileLimits {
        memory_bytes: args.compile_memory.unwrap_or(defaults.compile_memory),
        cpu: args.compile_cpu,
        ..CompileLimits::default()
    };
    let workers = args.compile_workers.unwrap_or(defaults.compile_workers);
    CompileOptions { workers, limits, wall: args.compile_time }
}

/// What the options say about confinement.
fn confinement(args: &AgentArgs) -> anyhow::Result<ConfinementOptions> {
    let required = match &args.require_confinement[..] {
        [all] if all == "all" => Layer::ALL.to_vec(),
        layers => layers.iter().map(|layer| layer.parse()).collect::<Result<_, _>>()?,
    };
    if let Some(layer) = args.without_confinement.iter().find(|layer| required.contains(layer)) {
        bail!("layer {layer} is both required and left out");
    }
    let users = args.runner_users.unwrap_or_default();
    Ok(ConfinementOptions { users, group: args.runner_group, required, without: args.without_confinement.clone() })
}

/// `name:value;name:value`.
fn attributes(text: &str) -> anyhow::Result<Attributes> {
    let mut attributes = Attributes::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let pair = entry.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = pair.filter(|(name, value)| !name.is_empty() && !value.is_empty()) else {
            bail!("attribute {entry:?} is not NAME:VALUE, such as rack:a");
        };
        if attributes.insert(name.into(), value.into()).is_some() {
            bail!("attribute {name:?} is given twice");
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_pairs() {
        let parsed = attributes("rack:a; arch:x86_64;").unwrap();
        assert_eq!(parsed, [("arch".into(), "x86_64".into()), ("rack".into(), "a".into())].into());
        for bad in ["rack", "rack:", ":a", "a:1;a:2"] {
            assert!(attributes(bad).is_err(), "{bad:?} passed");
        }
    }
}
