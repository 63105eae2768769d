//! `holm master`.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use anyhow::Context;

use crate::args::{Global, MasterArgs};
use crate::signals::StopSignals;

/// Runs a master until it is told to stop.
pub(crate) async fn run(global: &Global, args: MasterArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    #[cfg(feature = "policy")]
    let policy = match &args.policy.policy {
        Some(path) => Some(super::policy::load(path.clone(), &args.policy.limits).await?),
        None => None,
    };
    let mut options = holm_masterd::Options {
        #[cfg(feature = "policy")]
        policy,
        adopt: args.adopt,
        token_file: global.token_file.clone(),
        ..holm_masterd::Options::new(listen_address(&args.listen)?, args.store)
    };
    options.master.preemption = args.preemption.options();
    let service = holm_masterd::Service::bind(options).await?;
    if let Some(path) = &args.address_file {
        write_address(path, service.local_addr())?;
    }
    service.run(async move { signals.next().await }).await?;
    Ok(())
}

/// `HOST:PORT` as an address to listen on.
pub(crate) fn listen_address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut resolved = text
        .to_socket_addrs()
        .with_context(|| format!("listen address {text:?} is not HOST:PORT, such as 127.0.0.1:5050"))?;
    resolved.next().with_context(|| format!("listen address {text:?} has no address"))
}

/// Complete or not at all: somebody waits for the file to appear.
fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let written = fs::write(&draft, format!("{address}\n")).and_then(|()| fs::rename(&draft, path));
    written.with_context(|| format!("address file {} cannot be written", path.display()))
}
