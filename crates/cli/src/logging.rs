//! The log on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts logging: `HOLM_LOG` filters; without it daemons say what they do, and other commands only what is wrong.
pub(crate) fn start(format: LogFormat, daemon: bool) {
    let default = if daemon { "info" } else { "error" };
    let filter = EnvFilter::builder().parse(std::env::var("HOLM_LOG").unwrap_or_else(|_| default.to_owned()));
    let (filter, refused) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(daemon);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    if let Some(error) = refused {
        tracing::error!(%error, "HOLM_LOG is not a filter and is ignored");
    }
}
