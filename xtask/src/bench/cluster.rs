//! A master and an agent as processes of their own, for as long as a measurement lasts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(30);

/// The daemons, which end with this value.
pub(crate) struct Cluster {
    dir: PathBuf,
    address: String,
    agent: Child,
    master: Child,
}

impl Cluster {
    /// Starts a master and one agent with two slots below `dir`, which is made anew.
    pub(crate) fn start(holm: &Path, dir: &Path) -> Result<Cluster> {
        // What an earlier run left is of no use.
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).with_context(|| format!("directory {}", dir.display()))?;
        let address_file = dir.join("address");
        let store = dir.join("master");
        let mut master = Command::new(holm);
        master.args(["master", "--listen", "127.0.0.1:0", "--store"]).arg(&store);
        master.arg("--address-file").arg(&address_file);
        let mut master = spawn(master, &dir.join("master.log"))?;
        let address = match wait_for_address(&address_file, &mut master) {
            Ok(address) => address,
            Err(error) => {
                let _ = master.kill();
                return Err(error).with_context(|| format!("{} says why", dir.join("master.log").display()));
            }
        };
        let mut agent = Command::new(holm);
        agent.args(["agent", "--master", &address, "--end-tasks", "--resources", "cpus:2;mem:4GiB", "--dir"]);
        agent.arg(dir.join("agent"));
        let agent = match spawn(agent, &dir.join("agent.log")) {
            Ok(agent) => agent,
            Err(error) => {
                let _ = master.kill();
                return Err(error);
            }
        };
        Ok(Cluster { dir: dir.to_owned(), address, agent, master })
    }

    /// Where the master listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The daemons' processes, as the measuring program wants to be told of them.
    pub(crate) fn processes(&self) -> String {
        format!("master:{},agent:{}", self.master.id(), self.agent.id())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The agent ends its runners before it goes, if it is asked and not killed.
        for child in [&mut self.agent, &mut self.master] {
            let _ = Command::new("kill").arg(child.id().to_string()).stderr(Stdio::null()).status();
            let begin = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if begin.elapsed() > START {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = File::create(log).with_context(|| format!("log {}", log.display()))?;
    command.env("HOLM_LOG", "warn").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("start {}", command.get_program().to_string_lossy()))
}

fn wait_for_address(file: &Path, master: &mut Child) -> Result<String> {
    let begin = Instant::now();
    loop {
        if let Some(address) = std::fs::read_to_string(file).ok().filter(|address| !address.trim().is_empty()) {
            return Ok(address.trim().to_owned());
        }
        if let Some(status) = master.try_wait()? {
            bail!("the master ended: {status}");
        }
        if begin.elapsed() > START {
            bail!("the master did not listen within {} s", START.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
