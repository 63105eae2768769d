//! `holm agent`.

use anyhow::{Context, bail};
use holm_model::Attributes;

use crate::args::{AgentArgs, Global};
use crate::signals::StopSignals;
use crate::token;

/// Runs an agent until it is told to stop.
pub(crate) async fn run(global: &Global, args: AgentArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
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
        max_tasks: args.max_tasks,
        log_bytes: args.log_size,
        cache_bytes: args.cache_size,
        keep_runners: !args.end_tasks,
    };
    holm_agentd::run(options, async move { signals.next().await }).await?;
    Ok(())
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
