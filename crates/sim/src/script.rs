//! Scenario scripts: a command per line; what happened after each is the transcript.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{Call, Launch, OfferId, Refusal, Resources, RunnerId, TaskId, TaskRange, ToAgent};

use crate::guest::Guest;
use crate::native_policy::SimPolicy;
use crate::net::{Direction, Packet};
use crate::queue::{Place, Settings};
use crate::scheduler::{Policy, Workload, executor, inside, launch};
use crate::text::parse_duration;
use crate::world::{Failure, World};

/// Why a script stopped.
#[derive(Debug)]
pub enum ScriptError {
    /// A line cannot be read.
    Line {
        /// Its number, from 1.
        number: usize,
        /// Why not.
        message: String,
    },
    /// A promise was broken.
    Failure(Box<Failure>),
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScriptError::Line { number, message } => write!(f, "line {number}: {message}"),
            ScriptError::Failure(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for ScriptError {}

/// A command's words: plain ones in order, `key=value` ones by key.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Words<'a> {
        let (named, plain): (Vec<&str>, Vec<&str>) = text.split_whitespace().partition(|word| word.contains('='));
        Words { plain, named: named.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    fn plain(&self, at: usize, what: &str) -> Result<&'a str, String> {
        self.plain.get(at).copied().ok_or_else(|| format!("{what} is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<u32>, String> {
        let number = |text: &&str| text.parse().map_err(|_| format!("{key}={text} is not a number"));
        self.named.get(key).map(number).transpose()
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, String> {
        self.named.get(key).map(|text| parse_duration(text)).transpose()
    }

    fn shape(&self, key: &str) -> Result<Resources, String> {
        let text = self.named.get(key).copied().unwrap_or("cpus:1;mem:1GiB");
        text.parse().map_err(|error| format!("{key}={text}: {error}"))
    }

    fn guest(&self) -> Result<Guest, String> {
        self.named.get("guest").map_or_else(|| Ok(Guest::default()), |text| Guest::parse(text))
    }

    fn refusal(&self, key: &str) -> Result<Option<Refusal>, String> {
        Ok(self.duration(key)?.map(Refusal::new))
    }
}

/// Runs a script and returns its transcript.
///
/// # Errors
/// The first line that cannot be read, or the first broken promise.
pub fn run_script(script: &str) -> Result<String, ScriptError> {
    let mut world = World::new(1, Settings::fixed(), true);
    let mut output = String::new();
    for (number, line) in (1..).zip(script.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            output.push_str(line);
            output.push('\n');
            continue;
        }
        output.push_str(&format!("> {line}\n"));
        let shown = world.command(line).map_err(|error| match error {
            CommandError::Text(message) => ScriptError::Line { number, message },
            CommandError::Failure(failure) => ScriptError::Failure(failure),
        })?;
        world.verdict().map_err(|failure| ScriptError::Failure(failure.into()))?;
        for note in world.take_notes().into_iter().chain(shown) {
            output.push_str(&note);
            output.push('\n');
        }
    }
    Ok(output)
}

/// The launch that the words of an accept describe.
fn asked_launch(words: &Words<'_>) -> Result<Launch, String> {
    let tasks = match words.number("count")? {
        Some(count) => TaskRange::Array { first: words.number("first")?.unwrap_or(0), count },
        None => TaskRange::Single,
    };
    let (id, slots, guest) = (words.named["id"], words.number("slots")?.unwrap_or(1), words.guest()?);
    if let Some(executor) = words.named.get("inside") {
        let executor = executor.parse().map_err(|error: holm_model::NameError| error.to_string())?;
        let shape = words.named.get("task").copied().unwrap_or("cpus:0.1");
        let shape = shape.parse().map_err(|error| format!("task={shape}: {error}"))?;
        return Ok(inside(executor, id, tasks, slots, shape, guest));
    }
    match words.named.get("kind").copied() {
        Some("executor") => Ok(executor(id, words.shape("task")?, guest)),
        Some(kind) => Err(format!("kind={kind} is not executor")),
        None => Ok(launch(id, tasks, slots, words.shape("task")?, guest)),
    }
}

enum CommandError {
    Text(String),
    Failure(Box<Failure>),
}

impl From<String> for CommandError {
    fn from(message: String) -> CommandError {
        CommandError::Text(message)
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> CommandError {
        CommandError::Failure(failure.into())
    }
}

impl World {
    /// Carries one line out. What comes back is shown after what happened.
    fn command(&mut self, line: &str) -> Result<Vec<String>, CommandError> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = Words::of(rest);
        match name {
            "master" => self.script_master(&words)?,
            "policy" => self.script_policy(&words)?,
            "agent" => self.script_agent(&words)?,
            "framework" => self.script_framework(&words)?,
            "advance" => self.advance(parse_duration(words.plain(0, "a duration")?)?)?,
            "show" if words.plain.first() == Some(&"registry") => return Ok(self.show_registry()),
            "show" => return Ok(self.view.show(words.plain(0, "what to show")?)?),
            "accept" => self.script_accept(rest, false)?,
            "group" => self.script_accept(rest, true)?,
            "decline" | "suppress" | "revive" | "kill" | "message" | "teardown" => self.script_call(name, &words)?,
            "trim" => self.script_trim(&words)?,
            _ => self.script_trouble(name, &words)?,
        }
        Ok(Vec::new())
    }

    fn script_master(&mut self, words: &Words<'_>) -> Result<(), String> {
        for (key, value) in &words.named {
            let duration = || parse_duration(value);
            match *key {
                "offer_timeout" => self.master_options.offer_timeout = duration()?,
                "agent_timeout" => self.master_options.agent_timeout = duration()?,
                "agent_reregister_timeout" => self.master_options.agent_reregister_timeout = duration()?,
                role => {
                    let weight = value.parse().map_err(|_| format!("weight {value:?} of {role} is not a number"))?;
                    self.master_options.weights.insert(crate::scheduler::role(role)?, weight);
                }
            }
        }
        self.elect();
        Ok(())
    }

    /// `policy prod=10 batch=1 trap_every=3`: what the next master has.
    fn script_policy(&mut self, words: &Words<'_>) -> Result<(), String> {
        let mut policy = SimPolicy {
            trap_every: words.number("trap_every")?.unwrap_or(0),
            nonsense_every: words.number("nonsense_every")?.unwrap_or(0),
            ..SimPolicy::default()
        };
        for (role, priority) in words.named.iter().filter(|(key, _)| !key.ends_with("_every")) {
            let number = priority.parse().map_err(|_| format!("priority {priority:?} of {role} is not a number"))?;
            policy.strict.priorities.insert((*role).to_owned(), number);
        }
        self.master_options.policy = Some(policy.describe());
        self.policy = Some(policy);
        Ok(())
    }

    fn script_agent(&mut self, words: &Words<'_>) -> Result<(), String> {
        let (name, resources) = (words.plain(0, "a name")?, words.plain(1, "resources")?);
        resources.parse::<Resources>().map_err(|error| error.to_string())?;
        let index = self.add_agent(name, resources);
        self.start_agent(index);
        Ok(())
    }

    fn script_framework(&mut self, words: &Words<'_>) -> Result<(), String> {
        let name = words.plain(0, "a name")?;
        let policy = match words.named.get("policy").copied().unwrap_or("manual") {
            "manual" => Policy::Manual,
            "one-per-offer" => Policy::OnePerOffer,
            "greedy" => Policy::Greedy,
            "batch" => Policy::Batch,
            other => return Err(format!("policy={other} is not manual, one-per-offer, greedy or batch")),
        };
        let workload = Workload {
            policy,
            shape: words.shape("task")?,
            guest: words.guest()?,
            count: words.number("count")?.unwrap_or(0),
            refusal: words.refusal("refuse")?.unwrap_or_default(),
        };
        let roles: Vec<&str> = words.named.get("role").copied().unwrap_or("default").split(',').collect();
        let failover = words.duration("failover")?.unwrap_or(Duration::from_secs(3600));
        let index = self.add_framework(name, &roles, failover, workload);
        if let Some(other) = words.named.get("as") {
            let Place::Framework(other) = self.place(other)? else { return Err(format!("{other} is no framework")) };
            self.frameworks[index].identity = self.frameworks[other].identity.clone();
        }
        self.start_framework(index);
        Ok(())
    }

    /// The process of this name.
    fn place(&self, name: &str) -> Result<Place, String> {
        let agent = |name: &str| self.agents.iter().position(|agent| agent.name == name);
        if name == "master" {
            return Ok(Place::Master(self.leader));
        }
        if let Some((host, runner)) = name.split_once('/') {
            let index = agent(host).ok_or_else(|| format!("there is no agent {host}"))?;
            let runner = runner.parse().ok().map(RunnerId).or_else(|| self.latest_runner(index));
            return runner
                .map(|runner| Place::Runner(index, runner))
                .ok_or_else(|| format!("there is no runner {name}"));
        }
        let framework = self.frameworks.iter().position(|framework| framework.name == name);
        let place = agent(name).map(Place::Agent).or_else(|| framework.map(Place::Framework));
        place.ok_or_else(|| format!("there is no {name}"))
    }

    fn framework_named(&self, words: &Words<'_>) -> Result<usize, String> {
        match self.place(words.plain(0, "a framework")?)? {
            Place::Framework(index) => Ok(index),
            other => Err(format!("{other} is no framework")),
        }
    }

    /// The offers that `offers=` names, else all that the framework holds of the agent that `on=` names, else all.
    fn offers_meant(&self, framework: usize, words: &Words<'_>) -> Result<Vec<OfferId>, String> {
        if let Some(ids) = words.named.get("offers") {
            return ids.split(',').map(|id| id.parse().map_err(|_| format!("{id} is not an offer"))).collect();
        }
        let held = self.frameworks[framework].scheduler.held.values();
        let on = words.named.get("on").copied();
        Ok(held.filter(|offer| on.is_none_or(|host| *offer.hostname == *host)).map(|offer| offer.id).collect())
    }

    /// `accept f id=t1 task=... guest=... count=4 slots=2 and id=t2 kind=executor and id=t3 inside=t2 ...`; `group` in place
    /// of `accept` launches them together or not at all.
    fn script_accept(&mut self, rest: &str, together: bool) -> Result<(), String> {
        let parts: Vec<Words<'_>> = rest.split(" and ").map(Words::of).collect();
        let first = parts.first().ok_or("accept what?")?;
        let framework = self.framework_named(first)?;
        let offers = self.offers_meant(framework, first)?;
        let refusal = first.refusal("refuse")?.unwrap_or_default();
        let named = parts.iter().filter(|words| words.named.contains_key("id"));
        let launches = named.map(asked_launch).collect::<Result<Vec<_>, _>>()?;
        let call = match together {
            true => Call::LaunchGroup { offers, launches, refusal },
            false => Call::Accept { offers, launches, refusal },
        };
        self.framework_calls(framework, vec![call]);
        Ok(())
    }

    fn script_call(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let framework = self.framework_named(words)?;
        let task = || -> Result<TaskId, String> {
            words.plain(1, "a task")?.parse().map_err(|error: holm_model::NameError| error.to_string())
        };
        let call = match name {
            "decline" => Call::Decline {
                offers: self.offers_meant(framework, words)?,
                refusal: words.refusal("refuse")?.unwrap_or_default(),
            },
            "suppress" => Call::Suppress { roles: Vec::new() },
            "revive" => Call::Revive { roles: Vec::new() },
            "kill" => Call::Kill { task: task()?, grace: words.duration("grace")? },
            "message" => {
                let (task, data) = (task()?, words.plain(2, "a text")?.as_bytes().into());
                let id = self.frameworks[framework].identity.as_ref().ok_or("it is not registered")?.framework;
                let agent = self.view.agent_of(id, &task.batch).ok_or_else(|| format!("{task} runs nowhere"))?;
                Call::Message { agent, task, data }
            }
            _ => Call::Teardown,
        };
        self.framework_calls(framework, vec![call]);
        Ok(())
    }

    /// What a master does when it wants slots back: `trim AGENT FRAMEWORK LAUNCH from=N`.
    fn script_trim(&mut self, words: &Words<'_>) -> Result<(), String> {
        let Place::Agent(agent) = self.place(words.plain(0, "an agent")?)? else { return Err("trim where?".into()) };
        let Place::Framework(framework) = self.place(words.plain(1, "a framework")?)? else {
            return Err("trim whose?".into());
        };
        let batch = words.plain(2, "a launch")?.parse().map_err(|error: holm_model::NameError| error.to_string())?;
        let framework = self.frameworks[framework].identity.as_ref().ok_or("it is not registered")?.framework;
        let from = words.number("from")?.unwrap_or(0);
        let conn = self.agents[agent].conn.ok_or("the agent is not connected")?;
        self.send(conn, Direction::Down, Packet::ToAgent(ToAgent::Trim { framework, batch, from, message: "".into() }));
        Ok(())
    }

    fn script_trouble(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let place = self.place(words.plain(0, "a process")?);
        match (name, place?) {
            ("crash", place) => self.crash(place),
            ("start", place) => self.start(place),
            ("cut", place) => self.cut(place, true),
            ("heal", place) => self.cut(place, false),
            ("reset", place) => self.reset(place),
            ("pause", place) => self.pause(place, true),
            ("resume", place) => self.pause(place, false),
            ("reboot", Place::Agent(agent)) => {
                self.power_off(agent);
                self.start_agent(agent);
            }
            _ => return Err(format!("{name} is no command")),
        }
        Ok(())
    }

    fn show_registry(&self) -> Vec<String> {
        let mut lines = vec![format!("epoch {}", self.registry.cluster.epoch)];
        for record in self.registry.agents.values() {
            let mark = if record.unreachable { " unreachable" } else { "" };
            lines.push(format!("{} {}{mark}", record.id, record.info.hostname));
        }
        for record in self.registry.frameworks.values() {
            let mark = if record.completed { " completed" } else { "" };
            lines.push(format!("{} {}{mark}", record.id, record.info.name));
        }
        lines
    }
}
