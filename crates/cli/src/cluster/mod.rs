//! A cluster of this machine: a master and agents as child processes of this one.
//!
//! `holm up` and `holm demo` start the very daemons that an operator would, by this program's own name. What they say goes to
//! log files in the cluster's directory.

mod daemon;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use holm_datadir::DataDir;
use holm_model::Portions;
use holm_sdk::Client;
use tokio::time::{Instant, sleep, sleep_until};

use crate::token;
use daemon::{Daemon, Lifetime};

/// How long the daemons may take to be of use.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a daemon that starts is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long a daemon may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What to start.
pub(crate) struct Plan {
    /// Where everything is kept.
    pub(crate) dir: PathBuf,
    /// Where the master listens.
    pub(crate) listen: SocketAddr,
    /// What each agent offers.
    pub(crate) agents: Vec<Portions>,
    /// Directories below which tasks may open some, as `holm agent --allow` takes them.
    pub(crate) allow: Vec<String>,
    /// What tasks may be granted on the network, as `holm agent --allow-net` takes it.
    pub(crate) allow_net: Vec<String>,
    /// Whether the daemons outlive this process.
    pub(crate) keep: bool,
}

/// A running cluster.
pub(crate) struct Cluster {
    dir: PathBuf,
    address: String,
    token: String,
    /// The master first, then the agents.
    daemons: Vec<Daemon>,
    lifetime: Lifetime,
    _lock: DataDir,
}

impl Cluster {
    /// Starts the daemons and waits until every agent can be used. To be called on the main thread: daemons that are not
    /// kept end when the thread does that started them.
    ///
    /// # Errors
    /// When a daemon ends instead, with what it said; then none is left running.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Cluster> {
        make_dir(&plan.dir)?;
        let lock = DataDir::open(&plan.dir, "local cluster", true)?;
        let dir = lock.path().to_owned();
        let token = token::read_or_make(&dir.join("token"))?;
        let lifetime = if plan.keep { Lifetime::OwnWay } else { Lifetime::WithParent };
        let mut cluster = Cluster { dir, address: String::new(), token, daemons: Vec::new(), lifetime, _lock: lock };
        match cluster.bring_up(&plan).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await;
                Err(error)
            }
        }
    }

    /// The master's address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Where everything is kept.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process ids of the daemons.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.daemons.iter().filter_map(Daemon::process_id).collect()
    }

    async fn bring_up(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let until = Instant::now() + START_LIMIT;
        let address_file = self.dir.join("master.address");
        // An earlier master's address would be taken for this one's.
        let _ = fs::remove_file(&address_file);
        let mut master = self.daemon("master", &["master".to_owned()]);
        master.arg("--listen", plan.listen).arg_path("--store", &self.dir.join("master"));
        master.arg_path("--token-file", &self.dir.join("token")).arg_path("--address-file", &address_file);
        master.start()?;
        self.daemons.push(master);
        self.address = self.wait_for_address(&address_file, until).await?;
        // Restarted it must be where agents and clients look for it.
        self.daemons[0].replace_arg("--listen", &self.address);
        token::announce(&self.address, &self.token);
        for (index, resources) in plan.agents.iter().enumerate() {
            let name = format!("agent-{}", index + 1);
            let mut agent = self.daemon(&name, &["agent".to_owned(), "--end-tasks".to_owned()]);
            agent.arg("--master", &self.address).arg_path("--dir", &self.dir.join(&name));
            // The machine keeps its reserve back once, however many agents share it.
            let reserve = holm_agentd::default_reserve() / plan.agents.len().max(1) as u64;
            agent
                .arg("--reserve", reserve)
                .arg("--resources", resources)
                .arg_path("--token-file", &self.dir.join("token"));
            plan.allow.iter().for_each(|allowed| {
                agent.arg("--allow", allowed);
            });
            plan.allow_net.iter().for_each(|pattern| {
                agent.arg("--allow-net", pattern);
            });
            agent.start()?;
            self.daemons.push(agent);
        }
        self.wait_for_agents(plan.agents.len(), until).await
    }

    fn daemon(&self, name: &str, args: &[String]) -> Daemon {
        Daemon::new(name, self.dir.join(format!("{name}.log")), args, self.lifetime)
    }

    async fn wait_for_address(&mut self, file: &Path, until: Instant) -> anyhow::Result<String> {
        loop {
            if let Ok(address) = fs::read_to_string(file) {
                return Ok(address.trim().to_owned());
            }
            self.still_starting("the master does not listen", until)?;
            sleep(POLL).await;
        }
    }

    async fn wait_for_agents(&mut self, count: usize, until: Instant) -> anyhow::Result<()> {
        let masters = [self.address.clone()];
        loop {
            let active = match Client::connect(&masters, Some(&self.token)).await {
                Ok(client) => client.cluster().active_agents,
                Err(error) => {
                    tracing::debug!(%error, "the master does not answer yet");
                    0
                }
            };
            if active >= count as u64 {
                return Ok(());
            }
            self.still_starting(&format!("{active} of {count} agents are registered"), until)?;
            sleep(POLL).await;
        }
    }

    fn still_starting(&mut self, state: &str, until: Instant) -> anyhow::Result<()> {
        for daemon in &mut self.daemons {
            if let Some(status) = daemon.has_ended() {
                bail!("{} ended at its start with {status}: {}", daemon.name(), daemon.last_words());
            }
        }
        if Instant::now() < until {
            return Ok(());
        }
        let seconds = START_LIMIT.as_secs();
        bail!("after {seconds} s {state}; the logs are in {}", self.dir.display())
    }

    /// Watches the daemons for ever: one that ends is reported to `tell` and started again after a while.
    pub(crate) async fn supervise(&mut self, mut tell: impl FnMut(String)) -> anyhow::Error {
        loop {
            let restart = self.daemons.iter().filter_map(Daemon::restart_at).min();
            tokio::select! {
                (index, status) = daemon::any_end(&mut self.daemons) => {
                    let daemon = &mut self.daemons[index];
                    let pause = daemon.ended();
                    tell(format!(
                        "{} ended with {status}; it is started again in {:.1} s. Its last words: {}",
                        daemon.name(),
                        pause.as_secs_f64(),
                        daemon.last_words(),
                    ));
                }
                () = at(restart) => {
                    for daemon in self.daemons.iter_mut().filter(|daemon| daemon.is_due()) {
                        if let Err(error) = daemon.start() {
                            return error;
                        }
                    }
                }
            }
        }
    }

    /// Stops agents, then the master; what does not stop in time is killed.
    pub(crate) async fn stop(&mut self) {
        let mut daemons = std::mem::take(&mut self.daemons);
        let agents = daemons.split_off(daemons.len().min(1));
        for group in [agents, daemons] {
            futures::future::join_all(group.into_iter().map(|daemon| daemon.stop(STOP_LIMIT))).await;
        }
        token::withdraw(&self.address, &self.token);
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).with_context(|| format!("directory {} cannot be made", dir.display()))
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What each of `count` agents on this machine may offer.
pub(crate) fn shares_of_this_machine(dir: &Path, count: u32) -> Vec<Portions> {
    let all = holm_agentd::detect_resources(dir, holm_agentd::default_reserve());
    holm_agentd::divide(&all, count).into_iter().map(Portions::unreserved).collect()
}
