//! Starts masters and agents as processes, runs commands against them, and ends everything it started.
//!
//! Nothing here waits for a duration: tests wait for what they want to see, up to a limit that only failures reach.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `probe` gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A process that ends with its handle.
pub(crate) struct Process {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("a process ends", || {
            status = self.child.try_wait().unwrap();
            status
        })
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Answer {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The JSON objects on stdout, one per line.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"))).collect()
    }

    /// The only one.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        let objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.into_iter().next().unwrap()
    }
}

/// A temporary directory that stays when its test fails.
pub(crate) struct Dir(Option<TempDir>);

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(Some(tempfile::Builder::new().prefix("holm-e2e-").tempdir().unwrap()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    /// Processes that name this directory, other than the ones that `Process` ends.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        processes_naming(&self.path().to_string_lossy())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holm"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.path().join("home")).env("PATH", std::env::var_os("PATH").unwrap());
        if let Some(filter) = std::env::var_os("HOLM_LOG") {
            command.env("HOLM_LOG", filter);
        }
        command
    }

    /// Starts a command; what it says goes to a file.
    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Process {
        let log = self.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(args);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Process { child: command.spawn().unwrap(), log }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        self.finish(self.command(args))
    }

    pub(crate) fn finish(&self, mut command: Command) -> Answer {
        // Files instead of pipes: a command that hangs is killed without losing what it said.
        let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{command:?} did not end; stdout: {}\nstderr: {}", read(&mut out), read(&mut err));
            }
            std::thread::sleep(POLL);
        };
        Answer { code: status.code().unwrap_or(-1), stdout: read(&mut out), stderr: read(&mut err) }
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Runners outlive their agents; these are ours, since their directories are below this one.
        for (pid, _) in self.processes() {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        if std::thread::panicking()
            && let Some(dir) = self.0.take()
        {
            let kept = dir.keep();
            // The harness captures stderr only through the macro.
            eprintln!("logs are kept in {}", kept.display());
        }
    }
}

fn read(file: &mut File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn processes_naming(text: &str) -> Vec<(i32, String)> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let pid: i32 = name.parse().ok().filter(|_| name != own)?;
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        line.contains(text).then_some((pid, line))
    });
    processes.collect()
}

/// A master and its agents.
pub(crate) struct Cluster {
    pub(crate) master: Process,
    pub(crate) agents: Vec<Process>,
    pub(crate) address: String,
    specs: Vec<Vec<String>>,
    /// Last, so that it is removed when the processes are gone.
    pub(crate) dir: Dir,
}

impl Cluster {
    /// A cluster with one agent.
    pub(crate) fn new(resources: &str) -> Cluster {
        Cluster::with_agents(&[resources])
    }

    pub(crate) fn with_agents(resources: &[&str]) -> Cluster {
        let mut cluster = Cluster::bare();
        for resources in resources {
            cluster.add_agent(resources);
        }
        cluster.wait_for_agents(resources.len());
        cluster
    }

    /// A master alone.
    pub(crate) fn bare() -> Cluster {
        let dir = Dir::new();
        let (master, address) = start_master(&dir, "127.0.0.1:0");
        Cluster { master, agents: Vec::new(), address, specs: Vec::new(), dir }
    }

    pub(crate) fn add_agent(&mut self, resources: &str) {
        self.add_agent_with(resources, &[]);
    }

    /// Adds an agent with more options.
    pub(crate) fn add_agent_with(&mut self, resources: &str, more: &[&str]) {
        let number = self.specs.len();
        let own = self.dir.path().join(format!("agent-{number}")).display().to_string();
        let allow = self.dir.path().join("shared");
        fs::create_dir_all(&allow).unwrap();
        // Runners are not of this user.
        fs::set_permissions(&allow, fs::Permissions::from_mode(0o777)).unwrap();
        let allow = format!("{}:rw", allow.display());
        let spec = [
            "agent",
            "--master",
            &self.address,
            "--dir",
            &own,
            "--resources",
            resources,
            "--allow",
            &allow,
            "--end-tasks",
        ];
        self.specs.push(spec.iter().chain(more).map(|&arg| arg.to_owned()).collect());
        let agent = self.spawn_agent(number);
        self.agents.push(agent);
    }

    fn spawn_agent(&self, number: usize) -> Process {
        let args: Vec<_> = self.specs[number].iter().map(String::as_str).collect();
        self.dir.start(&format!("agent-{number}"), &args)
    }

    /// Starts an agent again on its directory.
    pub(crate) fn restart_agent(&mut self, number: usize) {
        self.agents[number] = self.spawn_agent(number);
    }

    /// Starts the master again, on its directory and address.
    pub(crate) fn restart_master(&mut self) {
        let address = self.address.clone();
        self.master = start_master(&self.dir, &address).0;
    }

    pub(crate) fn wait_for_agents(&self, count: usize) {
        wait_for("all agents are active", || {
            let agents = self.agents_json();
            (agents.iter().filter(|agent| agent["state"] == "ACTIVE").count() == count).then_some(())
        });
    }

    pub(crate) fn agents_json(&self) -> Vec<Value> {
        self.list(&["agents"])
    }

    /// What a read says as JSON.
    pub(crate) fn list(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<_> = args.iter().copied().chain(["--output", "json"]).collect();
        let answer = self.holm(&args);
        if answer.code != 0 {
            return Vec::new();
        }
        serde_json::from_str(&answer.stdout).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.dir.command(args);
        command.env("HOLM_MASTER", &self.address);
        command
    }

    /// Runs a command against the cluster.
    pub(crate) fn holm(&self, args: &[&str]) -> Answer {
        self.dir.finish(self.command(args))
    }

    /// Starts a command against the cluster.
    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Process {
        let mut all = vec!["--master", self.address.as_str()];
        all.extend_from_slice(args);
        self.dir.start(name, &all)
    }

    /// Waits until a task is in a state, and gives what `holm ps` says of it.
    pub(crate) fn wait_for_task(&self, task: &str, state: &str) -> Value {
        wait_for(&format!("{task} is {state}"), || {
            let tasks = self.list(&["ps", "--all", task]);
            tasks.into_iter().find(|found| found["task_id"] == task && found["state"] == state)
        })
    }

    /// The process ids of the runners below an agent's directory.
    pub(crate) fn runners(&self, agent: usize) -> Vec<i32> {
        let below = self.dir.path().join(format!("agent-{agent}")).join("runners").display().to_string();
        let runners = processes_naming(&below).into_iter().filter(|(_, line)| line.contains(" runner "));
        runners.map(|(pid, _)| pid).collect()
    }
}

fn start_master(dir: &Dir, listen: &str) -> (Process, String) {
    let file = dir.path().join("address");
    let _ = fs::remove_file(&file);
    let (store, shown) = (dir.path().join("master").display().to_string(), file.display().to_string());
    let mut master = dir.start("master", &["master", "--listen", listen, "--store", &store, "--address-file", &shown]);
    let address = wait_for("the master listens", || {
        assert!(master.is_running(), "the master ended: {}", master.said());
        fs::read_to_string(&file).ok()
    });
    (master, address.trim().to_owned())
}

/// The path of a sample task as a core module.
pub(crate) fn p1(name: &str) -> &'static str {
    holm_test_programs::find(name).unwrap_or_else(|| panic!("no sample {name}")).p1
}

/// The path of a sample task as a component.
pub(crate) fn p2(name: &str) -> &'static str {
    holm_test_programs::find(name).unwrap_or_else(|| panic!("no sample {name}")).p2
}

/// Sends bytes to an address and forgets about them.
pub(crate) fn send_bytes(address: &str, bytes: &[u8]) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    // The other side may hang up at once.
    let _ = stream.write_all(bytes);
    stream
}
