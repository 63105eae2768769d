//! From the command line to a task specification, and from this machine's files to blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use holm_model::{
    BatchId, Digest, DirectoryGrant, InputFile, Launch, Limits, MAX_NAME_BYTES, NetworkGrants, Quantity, Ranges,
    ResourceName, Resources, TaskRange, TaskSpec,
};
use holm_proto::v1;
use holm_sdk::Client;

use crate::args::{PortArg, RunArgs};
use crate::commands::blob::push_file;
use crate::commands::lists::all_agents;
use crate::output;

/// How long the tasks of a run outlive its connection, for instance while a master starts again.
pub(super) const ATTACHED: Duration = Duration::from_secs(60);
/// How long detached tasks go on.
pub(super) const DETACHED: Duration = Duration::from_secs(24 * 3600);
/// Room in a name for the number of a launch: a dot and eight digits.
const SUFFIX_BYTES: usize = 9;
/// Longest part of a file's name that becomes a task's.
const STEM_BYTES: usize = 32;

/// A task whose files are not pushed yet.
pub(super) struct Draft {
    pub(super) name: BatchId,
    pub(super) spec: TaskSpec,
    /// Whether each task gets a port that its agent has left.
    pub(super) free_port: bool,
    count: u32,
}

/// The template with these ports.
pub(super) fn with_ports(spec: &TaskSpec, ports: Ranges) -> TaskSpec {
    let mut spec = spec.clone();
    spec.resources.set(ResourceName::Ports, Quantity::Ranges(ports));
    spec
}

impl Draft {
    /// Checks everything that can be checked here.
    pub(super) fn new(args: &RunArgs) -> anyhow::Result<Draft> {
        let name = match &args.name {
            Some(name) => name.clone(),
            None => default_name(&args.module)?,
        };
        let room = MAX_NAME_BYTES - SUFFIX_BYTES;
        if args.count > 1 && name.as_str().len() > room {
            bail!("name has {} bytes; the limit for an array is {room}", name.as_str().len());
        }
        // The digests are known once the files are pushed; a placeholder has the same form.
        let files =
            args.file.iter().map(|file| InputFile { digest: Digest::default(), path: file.guest.as_str().into() });
        let spec = TaskSpec {
            args: args.args.iter().map(|arg| arg.as_str().into()).collect(),
            env: environment(&args.env)?,
            files: files.collect(),
            directories: directories(args)?,
            volumes: args.volume.iter().map(|volume| volume.0.clone()).collect(),
            resources: resources(args)?,
            limits: Limits {
                fuel: args.fuel,
                deadline: args.timeout,
                output_bytes: args.output_limit,
                cpus: args.cpus_limit,
            },
            metering: args.metering.into(),
            seed: args.seed,
            kind: args.network.kind.into(),
            network: NetworkGrants { outbound: args.network.allow_net.clone(), listen: args.network.listen() },
            service: args.network.service(),
            revocable: args.revocable,
            ..TaskSpec::default()
        };
        for file in &args.file {
            let readable = std::fs::metadata(&file.host).is_ok_and(|metadata| metadata.is_file());
            anyhow::ensure!(readable, "input file {} is not a file that can be read", file.host.display());
        }
        if let Some((outer, inner)) = clash(args) {
            bail!("--file {outer} and --file {inner} cannot both be: one would be inside the other");
        }
        let free_port = args.network.wants_free_port();
        // Which port it will be is known when there is an offer.
        let checked = if free_port { with_ports(&spec, Ranges::new([(1, 1)])) } else { spec.clone() };
        let launch = Launch { id: name.clone(), tasks: TaskRange::Single, slots: 1, spec: Arc::new(checked) };
        launch.validate()?;
        Ok(Draft { name, spec, free_port, count: args.count })
    }

    /// Pushes the module and the input files, and fills in where they are.
    pub(super) async fn push(&mut self, client: &Client, args: &RunArgs) -> anyhow::Result<TaskSpec> {
        self.spec.module = push_file(client, &args.module).await?.digest;
        for (input, file) in self.spec.files.iter_mut().zip(&args.file) {
            input.digest = push_file(client, &file.host).await?.digest;
        }
        Ok(self.spec.clone())
    }
}

/// The file's name as far as it is one for a task, and a suffix that no other run has.
fn default_name(module: &Path) -> anyhow::Result<BatchId> {
    let stem = module.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let stem: String = stem.chars().map(allowed).take(STEM_BYTES).collect();
    let stem = if stem.is_empty() { "task".to_owned() } else { stem };
    let mut suffix = [0; 3];
    getrandom::fill(&mut suffix).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(format!("{stem}-{}", hex::encode(suffix)).parse()?)
}

/// Two input files of which one would have to be a directory.
fn clash(args: &RunArgs) -> Option<(&str, &str)> {
    let guests: Vec<&str> = args.file.iter().map(|file| file.guest.as_str()).collect();
    let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    guests.iter().find_map(|outer| Some((*outer, *guests.iter().find(|inner| inside(outer, inner))?)))
}

fn environment(pairs: &[(String, String)]) -> anyhow::Result<BTreeMap<Arc<str>, Arc<str>>> {
    let mut environment = BTreeMap::new();
    for (name, value) in pairs {
        if environment.insert(name.as_str().into(), value.as_str().into()).is_some() {
            bail!("the variable {name} is given twice");
        }
    }
    Ok(environment)
}

fn directories(args: &RunArgs) -> anyhow::Result<Vec<DirectoryGrant>> {
    let grant = |directory: &crate::args::DirectoryArg| {
        let shown = directory.host.display();
        let grant = |host: &Path| {
            let host = host.to_str().with_context(|| format!("the path of directory {shown} is not UTF-8"))?;
            Ok(DirectoryGrant {
                host: host.into(),
                guest: directory.guest.as_str().into(),
                writable: directory.writable,
            })
        };
        // The agent's host may be another machine; only what is relative means something here.
        if directory.host.is_absolute() {
            return grant(&directory.host);
        }
        let host = directory.host.canonicalize().with_context(|| format!("directory {shown} cannot be found"))?;
        anyhow::ensure!(host.is_dir(), "directory {shown} is not a directory");
        grant(&host)
    };
    args.dir.iter().map(grant).collect()
}

fn resources(args: &RunArgs) -> anyhow::Result<Resources> {
    let named =
        [(ResourceName::Cpus, Some(args.cpus)), (ResourceName::Mem, Some(args.mem)), (ResourceName::Disk, args.disk)];
    let named = named.into_iter().filter_map(|(name, amount)| Some((name, Quantity::Scalar(amount?))));
    let ports = match args.network.port {
        Some(PortArg::Span(first, last)) => Ranges::new([(first.into(), last.into())]),
        Some(PortArg::Free) | None => Ranges::default(),
    };
    let own: Resources = named.chain([(ResourceName::Ports, Quantity::Ranges(ports))]).collect();
    let Some(more) = &args.resources else { return Ok(own) };
    if let Some((name, _)) = more.iter().find(|(name, _)| own.get(name).is_some()) {
        bail!("{name} is given twice: by its own option and in --resources");
    }
    Ok(own.plus(more)?)
}

/// How many of the tasks fit on all agents together; refuses a task that fits on none, unless it is to `wait` for one.
pub(super) async fn check_room(client: &Client, draft: &Draft, wait: bool) -> anyhow::Result<u32> {
    let agents = all_agents(client).await?;
    let totals: Vec<Resources> =
        agents.into_iter().map(|agent: v1::AgentSummary| output::resources(agent.total)).collect();
    match room(&totals, &draft.spec.resources, draft.count) {
        Ok(room) => Ok(room),
        Err(message) if wait => {
            eprintln!("holm: {message}; waiting for an agent that is large enough");
            Ok(1)
        }
        Err(message) => bail!("{message}; --wait waits for an agent that is large enough"),
    }
}

fn room(totals: &[Resources], asked: &Resources, count: u32) -> Result<u32, String> {
    let room = totals.iter().map(|total| total.count_fitting(asked, count)).fold(0, u32::saturating_add);
    if room > 0 {
        return Ok(room);
    }
    if totals.is_empty() {
        return Err("no agent is registered".to_owned());
    }
    let lacking = |name: &ResourceName, quantity: &Quantity| {
        let part: Resources = [(name.clone(), quantity.clone())].into_iter().collect();
        totals.iter().all(|total| !total.contains(&part))
    };
    let scarce = asked.iter().find(|(name, quantity)| lacking(name, quantity));
    let Some((name, quantity)) = scarce else {
        let list = totals.iter().map(output::brief).collect::<Vec<_>>().join(" | ");
        return Err(format!("no single agent has {}; the agents have {list}", output::brief(asked)));
    };
    let part: Resources = [(name.clone(), quantity.clone())].into_iter().collect();
    let largest = totals.iter().max_by_key(|total| total.scalar(name));
    let most = largest.map(|total| output::brief_amount(name, total.scalar(name))).unwrap_or_default();
    Err(match quantity {
        Quantity::Scalar(_) => {
            format!(
                "no agent can ever hold the task: it asks for {}, and the largest agent has {name}:{most}",
                output::brief(&part)
            )
        }
        Quantity::Ranges(_) | Quantity::Set(_) => {
            let of = |total: &Resources| {
                let own = total.iter().find(|(other, _)| *other == name)?;
                Some(output::brief(&[(name.clone(), own.1.clone())].into_iter().collect()))
            };
            let there: BTreeSet<String> = totals.iter().filter_map(of).collect();
            let there = there.into_iter().take(8).collect::<Vec<_>>().join(" | ");
            let there = if there.is_empty() { "no such resource".to_owned() } else { there };
            format!("no agent can ever hold the task: none has {part}; the agents have {there}")
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(line: &[&str]) -> RunArgs {
        let line = ["holm", "run"].iter().chain(line);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &[&str]) -> String {
        Draft::new(&args(line)).err().map(|error| crate::stdio::chain(&error)).unwrap_or_default()
    }

    #[test]
    fn a_plain_run_has_a_name_and_the_usual_resources() {
        let draft = Draft::new(&args(&["dir/my prog.wasm", "--", "a", "-b"])).unwrap();
        assert!(draft.name.as_str().starts_with("my-prog-"), "{}", draft.name);
        assert_eq!(draft.spec.resources.to_string(), "cpus:0.1;mem:64MiB");
        assert_eq!(draft.spec.args, ["a".into(), "-b".into()]);
    }

    #[test]
    fn an_absolute_directory_is_the_agents_business_and_a_relative_one_is_found_here() {
        let draft = Draft::new(&args(&["x.wasm", "--dir", "/only/there::x", "--dir", ".::y:rw"])).unwrap();
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let hosts: Vec<_> = draft.spec.directories.iter().map(|grant| &*grant.host).collect();
        assert_eq!(hosts, ["/only/there", here.to_str().unwrap()]);
    }

    #[test]
    fn the_limit_of_output_is_part_of_the_task() {
        let draft = Draft::new(&args(&["x.wasm", "--output-limit", "20MiB"])).unwrap();
        assert_eq!(draft.spec.limits.output_bytes, Some(20 << 20));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_field_and_the_limit() {
        assert!(refusal(&["x.wasm", "--timeout", "0s"]).contains("limit deadline is zero"));
        assert!(refusal(&["x.wasm", "--env", "A=1", "--env", "A=2"]).contains("variable A is given twice"));
        assert!(refusal(&["x.wasm", "--dir", "no/such/dir::x"]).contains("no/such/dir cannot be found"));
        assert!(refusal(&["x.wasm", "--dir", "/::../x"]).contains("relative path"));
        assert!(refusal(&["x.wasm", "--file", "/no/such::x"]).contains("/no/such"));
        let file = std::env::current_exe().unwrap().display().to_string();
        let (outer, inner) = (format!("{file}::in/a"), format!("{file}::in/a/b"));
        assert!(refusal(&["x.wasm", "--file", &inner, "--file", &outer]).contains("in/a and --file in/a/b"));
        assert!(refusal(&["x.wasm", "--resources", "cpus:2"]).contains("cpus is given twice"));
        let long = "x".repeat(125);
        assert!(refusal(&["x.wasm", "--count", "2", "--name", &long]).contains("limit for an array is 119"));
    }

    #[test]
    fn a_task_that_no_agent_can_hold_names_the_resource_the_ask_and_the_largest_agent() {
        let totals = ["cpus:2;mem:4GiB", "cpus:4;mem:1GiB"].map(|text| text.parse().unwrap());
        let asked = |text: &str| text.parse::<Resources>().unwrap();
        assert_eq!(room(&totals, &asked("cpus:1;mem:1GiB"), 100), Ok(3));
        let message = room(&totals, &asked("cpus:5;mem:1GiB"), 1).unwrap_err();
        assert!(message.contains("asks for cpus:5") && message.contains("largest agent has cpus:4"), "{message}");
        let message = room(&totals, &asked("cpus:3;mem:2GiB"), 1).unwrap_err();
        assert!(message.contains("no single agent has cpus:3;mem:2GiB"), "{message}");
        assert!(room(&totals, &asked("cpus:1;mem:1MiB;ports:[1-1]"), 1).unwrap_err().contains("none has ports"));
        let ports = ["ports:[5-9]".parse().unwrap()];
        assert!(room(&ports, &asked("ports:[1-1]"), 1).unwrap_err().contains("the agents have ports:[5-9]"));
        assert!(room(&[], &asked("cpus:1"), 1).unwrap_err().contains("no agent is registered"));
    }
}
