//! Measures a cluster from where a framework sits: tasks per second, and the time of one task. Prints one JSON object per figure.
//!
//! `flood MASTER throughput [tasks=N] [slots=N] [batch=N] [form=p1|p2|executor] [pids=NAME:PID,...]`
//! `flood MASTER latency [count=N] [form=p1|p2]`
//!
//! The form is that of the tasks: core modules, components, or calls of one warm executor. With `pids`, the CPU time of those
//! processes per task is told too, and of the runners among their children, and what of that was charged to tasks.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_sdk::model::{
    BatchId, Executed, FrameworkInfo, Launch, Offer, OfferId, Refusal, TaskKind, TaskRange, TaskSpec, TaskState,
};
use holm_sdk::{Calls, Client, Driver, Event, Options, Scheduler, framework_info};

/// Tasks that are run before anything is measured: the module is compiled, the runner starts.
const WARM: u32 = 2_000;
/// Pause between two single tasks, so that each finds an idle cluster.
const PAUSE: Duration = Duration::from_millis(3);
/// What the executor is called.
const EXECUTOR: &str = "warm";
/// Tasks that the executor is given at a time, of each launch.
const EXECUTED: u32 = 256;

type Failure = Box<dyn Error>;

/// `name=value` arguments.
struct Arguments(HashMap<String, String>);

impl Arguments {
    fn number(&self, name: &str, default: u32) -> Result<u32, Failure> {
        self.0.get(name).map_or(Ok(default), |text| Ok(text.parse()?))
    }
}

/// CPU time of processes, in microseconds.
struct Meter(Vec<(String, u32)>);

impl Meter {
    fn read(&self) -> BTreeMap<String, f64> {
        let mut used: BTreeMap<String, f64> = BTreeMap::new();
        *used.entry("framework".to_owned()).or_default() += cpu_of(std::process::id());
        for (name, pid) in &self.0 {
            *used.entry(name.clone()).or_default() += cpu_of(*pid);
            let runners = children_of(*pid);
            if !runners.is_empty() {
                *used.entry("runner".to_owned()).or_default() += runners.into_iter().map(cpu_of).sum::<f64>();
            }
        }
        used
    }
}

/// User and system time of a process in microseconds, to the hundredth of a second that the kernel tells.
fn cpu_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 10_000.0
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Runs `tasks` tasks as fast as the cluster takes them.
struct Flood {
    template: Arc<TaskSpec>,
    tasks: u32,
    batch: u32,
    slots: u32,
    /// What to launch before anything else, and whether that has been done.
    executor: Option<(Launch, bool)>,
    meter: Meter,
    /// CPU time that the measured tasks were charged.
    charged: Duration,
    held: Vec<Offer>,
    launched: u32,
    ended: u32,
    failed: u32,
    updates: u32,
    launches: u32,
    /// When the measured part began, with the CPU time until then.
    begun: Option<(Instant, BTreeMap<String, f64>)>,
    rows: Vec<String>,
}

impl Flood {
    /// One launch per free slot: each is renewed when it ends, while the others go on.
    fn fill(&mut self, calls: &mut Calls) {
        if let Some((executor, launched)) = &mut self.executor {
            if !*launched && let Some(offer) = self.held.pop() {
                *launched = true;
                calls.accept([offer.id], vec![executor.clone()], Refusal::NONE);
            }
            return;
        }
        let width = if self.template.is_executed() { EXECUTED } else { 1 };
        let (goal, batch) =
            if self.begun.is_some() { (self.tasks, self.batch) } else { (WARM, WARM.div_ceil(self.slots)) };
        for offer in std::mem::take(&mut self.held) {
            let fit = offer.resources.count_fitting(&self.template.resources, self.slots * width) / width;
            let mut launches = Vec::new();
            for slot in 0..fit {
                // Of different lengths at first, so that they do not all end at the same time.
                let length = if self.launched == 0 && slot == 0 { batch.div_ceil(2) } else { batch };
                let count = length.min(goal - self.launched);
                if count == 0 {
                    break;
                }
                self.launches += 1;
                let id = format!("flood.{}", self.launches).parse().expect("letters, a dot and digits are a name");
                let tasks = TaskRange::Array { first: self.launched, count };
                launches.push(Launch { id, tasks, slots: width.min(count), spec: self.template.clone() });
                self.launched += count;
            }
            if launches.is_empty() {
                self.held.push(offer);
            } else {
                calls.accept([offer.id], launches, Refusal::NONE);
            }
        }
    }

    fn finish(&mut self, calls: &mut Calls) {
        let Some((begin, before)) = &self.begun else { return };
        let seconds = begin.elapsed().as_secs_f64();
        let (tasks, after) = (f64::from(self.tasks), self.meter.read());
        let form = &self.template.labels["form"];
        let (failed, updates) = (self.failed, self.updates);
        self.rows.push(format!(
            r#"{{"what":"holm {form}","value":{},"unit":"tasks/s","tasks":{tasks},"failed":{failed},"updates":{updates},"seconds":{seconds}}}"#,
            tasks / seconds
        ));
        let mut sum = 0.0;
        let charged = self.charged.as_secs_f64() * 1e6;
        let runner = after.get("runner").zip(before.get("runner")).map(|(after, before)| after - before);
        if let Some(runner) = runner.filter(|_| !self.template.is_executed()) {
            let (each, ratio) = (charged / tasks, charged / runner);
            self.rows.push(format!(
                r#"{{"what":"holm {form} cpu charged to tasks","value":{each},"unit":"us/task","ratio":{ratio}}}"#
            ));
        }
        for (name, used) in after {
            let each = (used - before.get(&name).copied().unwrap_or(0.0)) / tasks;
            sum += each;
            self.rows.push(format!(r#"{{"what":"holm {form} cpu {name}","value":{each},"unit":"us/task"}}"#));
        }
        self.rows.push(format!(r#"{{"what":"holm {form} cpu all","value":{sum},"unit":"us/task"}}"#));
        calls.finish(u8::from(self.failed > 0), self.rows.join("\n"));
    }
}

impl Scheduler for Flood {
    fn describe(&self) -> FrameworkInfo {
        framework_info("flood", ["bench".parse().expect("a role")])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) => self.held.extend(offers),
                Event::Rescinded(ids) => self.held.retain(|offer| !ids.contains(&offer.id)),
                Event::Updates(updates) => {
                    let is_executor = |batch: &BatchId| batch.as_str() == EXECUTOR;
                    if updates.iter().any(|update| is_executor(&update.batch)) {
                        self.executor = None;
                    }
                    let ends = updates.iter().filter(|update| update.status.state.is_terminal());
                    for update in ends.filter(|update| !is_executor(&update.batch)) {
                        self.updates += 1;
                        self.ended += update.count();
                        self.charged += update.total().cpu;
                        if update.status.state != TaskState::Finished {
                            self.failed += update.count();
                            eprintln!("{}: {}", update.status.state, update.status.message);
                        }
                    }
                }
                Event::Error { message } => eprintln!("{message}"),
                _ => {}
            }
        }
        if self.begun.is_none() && self.ended == WARM {
            (self.launched, self.ended, self.updates, self.charged) = (0, 0, 0, Duration::ZERO);
            self.begun = Some((Instant::now(), self.meter.read()));
        }
        self.fill(calls);
        if self.begun.is_some() && self.ended == self.tasks {
            self.finish(calls);
        }
    }
}

/// Runs single tasks, one after another: half of them with an offer in hand, half with none.
struct Singles {
    template: Arc<TaskSpec>,
    count: u32,
    /// Whether the next task waits for an offer that is only made when it is asked for.
    asks: bool,
    begun: Option<Instant>,
    offers: Vec<OfferId>,
    launches: u32,
    warm: u32,
    times: [Vec<f64>; 2],
    done: bool,
}

impl Singles {
    fn submit(&mut self, calls: &mut Calls) {
        self.begun = Some(Instant::now());
        if self.asks {
            calls.revive([]);
        } else {
            self.launch(calls);
        }
    }

    fn launch(&mut self, calls: &mut Calls) {
        if self.offers.is_empty() {
            return;
        }
        self.launches += 1;
        let id = format!("single.{}", self.launches).parse().expect("letters, a dot and digits are a name");
        let launch = Launch { id, tasks: TaskRange::Single, slots: 1, spec: self.template.clone() };
        if self.asks {
            // No more offers until the next task is there.
            calls.suppress([]);
        }
        calls.accept(std::mem::take(&mut self.offers), vec![launch], Refusal::NONE);
    }

    fn ended(&mut self, calls: &mut Calls) {
        let Some(begun) = self.begun.take() else { return };
        if self.warm > 0 {
            self.warm -= 1;
        } else {
            self.times[usize::from(self.asks)].push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let [held, asked] = &self.times;
        if asked.len() >= self.count as usize && held.len() >= self.count as usize {
            self.done = true;
            return calls.finish(0, self.report());
        }
        if !self.asks && held.len() >= self.count as usize {
            self.asks = true;
            self.warm = 20;
            calls.suppress([]);
            calls.decline(std::mem::take(&mut self.offers), Some(Refusal::NONE));
        }
        calls.set_timer(0, PAUSE);
    }

    fn report(&self) -> String {
        let mut rows = Vec::new();
        for (name, times) in ["offer held", "no offer held"].into_iter().zip(&self.times) {
            let mut times = times.clone();
            times.sort_by(f64::total_cmp);
            let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
            for (what, value) in [("p10", at(10)), ("p50", at(50)), ("p99", at(99))] {
                rows.push(format!(r#"{{"what":"holm, {name}: {what}","value":{value},"unit":"ms"}}"#));
            }
        }
        // What the target is about comes first.
        rows.rotate_left(3);
        rows.join("\n")
    }
}

impl Scheduler for Singles {
    fn describe(&self) -> FrameworkInfo {
        framework_info("singles", ["bench".parse().expect("a role")])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Registered { .. } => calls.set_timer(0, PAUSE),
                Event::Offers(offers) => {
                    self.offers.extend(offers.iter().map(|offer| offer.id));
                    if self.asks && self.begun.is_some() {
                        self.launch(calls);
                    }
                }
                Event::Rescinded(ids) => self.offers.retain(|offer| !ids.contains(offer)),
                Event::Updates(updates) => {
                    for update in updates.iter().filter(|update| update.status.state.is_terminal()) {
                        if update.status.state != TaskState::Finished {
                            eprintln!("{}: {}", update.status.state, update.status.message);
                            self.done = true;
                            return calls.finish(1, "");
                        }
                        self.ended(calls);
                    }
                }
                Event::Timer(_) if self.done => {}
                // Without an offer there is nothing to hold yet.
                Event::Timer(_) if !self.asks && self.offers.is_empty() => calls.set_timer(0, PAUSE),
                Event::Timer(_) => self.submit(calls),
                Event::Error { message } => eprintln!("{message}"),
                _ => {}
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [master, what, options @ ..] = args.as_slice() else {
        return Err("MASTER throughput|latency [NAME=VALUE...]".into());
    };
    let pairs =
        options.iter().map(|option| option.split_once('=').ok_or_else(|| format!("{option} is not NAME=VALUE")));
    let pairs = pairs.map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let arguments = Arguments(pairs.collect::<Result<_, _>>()?);
    let masters = vec![master.clone()];

    let form = arguments.0.get("form").map_or("p1", String::as_str);
    let hello = holm_test_programs::HELLO;
    let module = match form {
        "p1" => hello.p1,
        "p2" => hello.p2,
        "executor" => holm_test_programs::WARM_EXECUTOR.path,
        other => return Err(format!("form {other} is none of p1, p2, executor").into()),
    };
    let pushed = Client::connect(&masters, None).await?.push_file(module.as_ref(), |_sent, _size| {}).await?;
    let labels = BTreeMap::from([("form".into(), form.into())]);
    let resources = "cpus:1;mem:16MiB".parse()?;
    let mut template = TaskSpec { module: pushed.digest, resources, labels, ..TaskSpec::default() };
    let mut executor = None;
    if form == "executor" {
        let inside = Executed { executor: EXECUTOR.parse()?, data: b"ok"[..].into() };
        let task = TaskSpec {
            kind: TaskKind::Executed,
            executed: Some(inside),
            resources: "cpus:0.001".parse()?,
            labels: template.labels.clone(),
            ..TaskSpec::default()
        };
        let warm = TaskSpec { kind: TaskKind::Executor, ..std::mem::replace(&mut template, task) };
        let (id, spec) = (EXECUTOR.parse()?, Arc::new(warm));
        executor = Some((Launch { id, tasks: TaskRange::Single, slots: 1, spec }, false));
    }
    let template = Arc::new(template);

    let (driver, _handle) = Driver::new(Options { masters, ..Options::default() })?;
    let outcome = match what.as_str() {
        "throughput" => {
            let processes = arguments.0.get("pids").map(String::as_str).unwrap_or_default();
            let processes = processes.split(',').filter_map(|pair| pair.split_once(':'));
            let processes = processes.map(|(name, pid)| Ok::<_, Failure>((name.to_owned(), pid.parse()?)));
            let mut flood = Flood {
                template,
                tasks: arguments.number("tasks", 200_000)?,
                batch: arguments.number("batch", 4096)?,
                slots: arguments.number("slots", 2)?,
                executor,
                meter: Meter(processes.collect::<Result<_, _>>()?),
                charged: Duration::ZERO,
                held: Vec::new(),
                launched: 0,
                ended: 0,
                failed: 0,
                updates: 0,
                launches: 0,
                begun: None,
                rows: Vec::new(),
            };
            driver.run(&mut flood).await?
        }
        "latency" => {
            let count = arguments.number("count", 2000)?.max(1);
            let mut singles = Singles {
                template,
                count,
                asks: false,
                begun: None,
                offers: Vec::new(),
                launches: 0,
                warm: 20,
                times: [Vec::new(), Vec::new()],
                done: false,
            };
            driver.run(&mut singles).await?
        }
        other => return Err(format!("{other} is neither throughput nor latency").into()),
    };
    println!("{}", String::from_utf8_lossy(&outcome.report));
    if outcome.code == 0 { Ok(()) } else { Err("some tasks did not finish".into()) }
}
