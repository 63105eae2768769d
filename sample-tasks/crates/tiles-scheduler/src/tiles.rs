//! A framework that has a picture rendered tile by tile.
//!
//! A tile is a task, numbered from the upper left, row by row; its number is its array index, and the picture is what the
//! tasks write to stdout. Offers are filled with launches of as many slots as fit. A tile that fails is tried again, a few
//! times. When every tile is there the framework finishes with a report of one `key=value` a line.
//!
//! Configuration is one `key=value` a line; empty lines and lines that begin with `#` are skipped:
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `module` | digest of the module that renders a tile, called with `width height tiles tile iterations` | required |
//! | `width`, `height` | the picture, in pixels | 960, 640 |
//! | `tile` | edge of a tile, in pixels | 64 |
//! | `iterations` | passed on | 1000 |
//! | `resources` | of each task | `cpus:1;mem:16MiB` |
//! | `role` | in which role | `default` |
//! | `name` | the framework's name, and the beginning of its launches' names | `tiles` |
//! | `attempts` | how often a tile may be tried | 4 |
//! | `tasks-per-slot` | how many tiles a slot gets with one offer | 8 |

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use holm_sdk::model::{
    BatchId, Digest, FrameworkInfo, Launch, MAX_BATCH_TASKS, Offer, Refusal, Resources, Role, TaskRange, TaskSpec,
    TaskState,
};
use holm_sdk::{Calls, Configured, Event, Scheduler, TaskUpdate};

/// Most tiles of a picture.
const MAX_TILES: u32 = 1_000_000;

/// The framework.
pub struct Tiles {
    name: String,
    role: Role,
    spec: Arc<TaskSpec>,
    attempts: u32,
    tasks_per_slot: u32,
    total: u32,
    /// Tiles that nobody renders, by number.
    waiting: BTreeSet<u32>,
    /// How often each tile has failed, if it has.
    failures: BTreeMap<u32, u32>,
    finished: u32,
    retried: u32,
    launches: u64,
    fuel: u64,
    cpu_micros: u128,
    suppressed: bool,
}

impl Configured for Tiles {
    fn configure(config: &[u8]) -> Result<Tiles, String> {
        let text = std::str::from_utf8(config).map_err(|error| format!("configuration: {error}"))?;
        let mut settings = Settings::read(text)?;
        let module: Digest = settings.take("module")?.ok_or("module: a digest is required")?;
        let width: u32 = settings.take("width")?.unwrap_or(960);
        let height: u32 = settings.take("height")?.unwrap_or(640);
        let tile: u32 = settings.take("tile")?.unwrap_or(64);
        let iterations: u32 = settings.take("iterations")?.unwrap_or(1000);
        let default_resources = || Resources::from_str("cpus:1;mem:16MiB").map_err(|error| error.to_string());
        let resources = settings.take("resources")?.map_or_else(default_resources, Ok)?;
        let role = settings.take("role")?.unwrap_or_else(Role::default_role);
        let name: String = settings.take("name")?.unwrap_or_else(|| "tiles".to_owned());
        let attempts = settings.take("attempts")?.unwrap_or(4);
        let tasks_per_slot: u32 = settings.take("tasks-per-slot")?.unwrap_or(8);
        settings.nothing_left()?;

        if let Some((key, _)) =
            [("width", width), ("height", height), ("tile", tile)].iter().find(|(_, size)| *size == 0)
        {
            return Err(format!("{key}: 0 pixels make no picture"));
        }
        let total = u64::from(width.div_ceil(tile)) * u64::from(height.div_ceil(tile));
        let total = u32::try_from(total).ok().filter(|total| *total <= MAX_TILES);
        let total = total.ok_or_else(|| format!("tile: {tile} makes more than {MAX_TILES} tiles"))?;
        let args =
            [width.to_string(), height.to_string(), "tiles".to_owned(), tile.to_string(), iterations.to_string()];
        let args = args.into_iter().map(Arc::from).collect();
        let spec = TaskSpec { module, args, resources, ..TaskSpec::default() };
        spec.validate().map_err(|error| error.to_string())?;
        launch_id(&name, 0)?;
        Ok(Tiles {
            name,
            role,
            spec: Arc::new(spec),
            attempts,
            tasks_per_slot: tasks_per_slot.max(1),
            total,
            waiting: (0..total).collect(),
            failures: BTreeMap::new(),
            finished: 0,
            retried: 0,
            launches: 0,
            fuel: 0,
            cpu_micros: 0,
            suppressed: false,
        })
    }
}

impl Scheduler for Tiles {
    fn describe(&self) -> FrameworkInfo {
        holm_sdk::framework_info(&self.name, [self.role.clone()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) => offers.iter().for_each(|offer| self.fill(offer, calls)),
                Event::Updates(updates) => {
                    for update in &updates {
                        if let Err(message) = self.take_in(update) {
                            return calls.abort(message);
                        }
                    }
                }
                Event::Error { message } => return calls.abort(&*message),
                _ => {}
            }
        }
        if self.finished == self.total {
            return calls.finish(0, self.report());
        }
        self.ask(calls);
    }
}

impl Tiles {
    /// Launches as many of the waiting tiles as the offer has slots for, a few per slot.
    fn fill(&mut self, offer: &Offer, calls: &mut Calls) {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let mut slots = offer.resources.count_fitting(&self.spec.resources, waiting);
        let mut launches = Vec::new();
        while slots > 0 {
            let Some(tasks) = self.next_run(slots.saturating_mul(self.tasks_per_slot)) else { break };
            let Ok(id) = launch_id(&self.name, self.launches) else { break };
            let of_launch = slots.min(tasks.count());
            launches.push(Launch { id, tasks, slots: of_launch, spec: self.spec.clone() });
            self.launches += 1;
            slots -= of_launch;
        }
        if launches.is_empty() {
            calls.decline([offer.id], None);
        } else {
            calls.accept([offer.id], launches, Refusal::default());
        }
    }

    /// The first waiting tiles that are neighbours, at most `most`; they no longer wait.
    fn next_run(&mut self, most: u32) -> Option<TaskRange> {
        let first = *self.waiting.first()?;
        let most = most.min(MAX_BATCH_TASKS);
        let run = (first..first.saturating_add(most)).take_while(|tile| self.waiting.remove(tile));
        let count = u32::try_from(run.count()).ok()?;
        Some(TaskRange::Array { first, count })
    }

    /// Counts the ends. An error is a tile that is not going to be.
    fn take_in(&mut self, update: &TaskUpdate) -> Result<(), String> {
        let status = &update.status;
        if !status.state.is_terminal() {
            return Ok(());
        }
        self.fuel = self.fuel.saturating_add(status.usage.fuel.saturating_mul(update.count().into()));
        self.cpu_micros += status.usage.cpu.as_micros() * u128::from(update.count());
        if status.state == TaskState::Finished {
            self.finished += update.count();
            return Ok(());
        }
        for tile in update.indices() {
            // A task that never ran says nothing about its tile.
            let failures = self.failures.entry(tile).or_default();
            *failures += u32::from(status.state != TaskState::Dropped);
            if *failures >= self.attempts {
                let reason = status.reason.map_or_else(|| status.state.to_string(), |reason| reason.to_string());
                return Err(format!("tile {tile} failed {failures} times, at last with {reason}: {}", status.message));
            }
            self.retried += 1;
            self.waiting.insert(tile);
        }
        Ok(())
    }

    /// Offers are wanted while tiles wait.
    fn ask(&mut self, calls: &mut Calls) {
        if self.waiting.is_empty() != self.suppressed {
            self.suppressed = self.waiting.is_empty();
            if self.suppressed { calls.suppress([]) } else { calls.revive([]) }
        }
    }

    fn report(&self) -> String {
        let Tiles { total, retried, launches, fuel, cpu_micros, .. } = self;
        format!("tiles={total}\nretried={retried}\nlaunches={launches}\nfuel={fuel}\ncpu-micros={cpu_micros}\n")
    }
}

fn launch_id(name: &str, number: u64) -> Result<BatchId, String> {
    format!("{name}-{number}").parse().map_err(|error| format!("name: {error}"))
}

/// The configuration while it is read.
struct Settings<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Settings<'a> {
    fn read(text: &'a str) -> Result<Settings<'a>, String> {
        let mut settings = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not key=value"))?;
            if settings.insert(key.trim(), value.trim()).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        Ok(Settings(settings))
    }

    fn take<T: FromStr<Err: std::fmt::Display>>(&mut self, key: &str) -> Result<Option<T>, String> {
        let value = self.0.remove(key).map(str::parse);
        value.transpose().map_err(|error: T::Err| format!("{key}: {error}"))
    }

    fn nothing_left(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("{key} is not a setting")),
            None => Ok(()),
        }
    }
}
