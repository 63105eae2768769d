//! Random runs: a cluster at work while everything that can fail does, then peace, in which all must come right.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_master::AgentPhase;
use holm_model::{AgentId, AgentInfo, Capabilities, FrameworkId, FrameworkInfo, Refusal, RunnerId, TaskState, Time};

use crate::agent_process::AgentProcess;
use crate::framework_process::FrameworkProcess;
use crate::guest::Guest;
use crate::queue::{Happening, Place, Settings, Trouble};
use crate::scheduler::{Policy, Scheduler, Workload, role};
use crate::world::{Failure, World};

/// Longest time after the last repair until all has come right: longer than any timeout of the cluster.
const PEACE: Duration = Duration::from_secs(30 * 60);
/// Longest time that something stays broken.
const LONGEST: Duration = Duration::from_secs(130);

/// How large a random run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Agents.
    pub agents: usize,
    /// Frameworks, in two roles.
    pub frameworks: usize,
    /// Tasks that each framework wants to run.
    pub tasks: u32,
    /// For how long things go wrong.
    pub busy: Duration,
    /// How far apart troubles are, on average; none is a run without.
    pub troubles: Option<Duration>,
    /// How many of the latest lines a failure shows.
    pub tail: usize,
}

impl Plan {
    /// A small cluster whose size follows from the seed.
    pub fn of_seed(seed: u64) -> Plan {
        let mut rng = crate::rng::Rng::new(seed ^ 0x706c_616e);
        Plan {
            agents: 1 + rng.index(4),
            frameworks: 1 + rng.index(3),
            tasks: 10 + u32::try_from(rng.below(40)).unwrap_or(0),
            busy: Duration::from_secs(30 + rng.below(150)),
            troubles: rng.chance(90).then(|| Duration::from_millis(500 + rng.below(15_000))),
            tail: crate::TAIL,
        }
    }
}

/// What a random run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Lines of the transcript.
    pub lines: u64,
    /// Launches that schedulers asked for.
    pub launches: usize,
    /// Tasks that were told to have finished, failed, been killed, been dropped, been refused, been lost with their agent.
    pub ends: [usize; 6],
    /// Terms of masters.
    pub terms: usize,
}

/// From what troubles are drawn, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Troubles {
    until: Time,
    gap: Duration,
}

/// Runs a whole cluster from a seed.
///
/// # Errors
/// The first broken promise, with what led to it.
pub fn run_random(seed: u64, plan: Plan) -> Result<Outcome, Box<Failure>> {
    let mut world = set_up(seed, plan);
    world.advance(plan.busy)?;
    world.make_peace();
    world.advance(LONGEST + Duration::from_secs(20))?;
    let frameworks = world.frameworks.len();
    for framework in 0..frameworks {
        let calls = world.frameworks[framework].scheduler.drain();
        world.framework_calls(framework, calls);
    }
    let end = world.now + PEACE;
    while world.unsettled().is_some() && world.now < end {
        world.advance(Duration::from_secs(30))?;
    }
    if let Some(unsettled) = world.unsettled() {
        world.broken.extend(unsettled);
    }
    world.verdict()?;
    let states = [
        TaskState::Finished,
        TaskState::Failed,
        TaskState::Killed,
        TaskState::Dropped,
        TaskState::Error,
        TaskState::Gone,
    ];
    Ok(Outcome {
        hash: world.hash(),
        events: world.events(),
        lines: world.transcript.lines(),
        launches: world.truth.count(),
        ends: states.map(|state| world.truth.told(state)),
        terms: world.masters.len(),
    })
}

fn set_up(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, random_settings(seed), false);
    world.transcript.set_tail(plan.tail);
    world.elect();
    for number in 0..plan.agents {
        let cpus = 2 + world.rng.below(6);
        let index = world.add_agent(&format!("a{number}"), &format!("cpus:{cpus};mem:{}GiB", cpus * 2));
        world.later((Duration::ZERO, Duration::from_secs(3)), Happening::Trouble(Trouble::Start(Place::Agent(index))));
    }
    for number in 0..plan.frameworks {
        let failover = if world.rng.chance(80) { 3600 } else { 20 };
        let workload = Workload {
            policy: Policy::Random,
            shape: holm_model::Resources::EMPTY,
            guest: Guest::default(),
            count: plan.tasks,
            refusal: Refusal::default(),
        };
        let role = if number % 2 == 0 { "red" } else { "blue" };
        let index = world.add_framework(&format!("f{number}"), &[role], Duration::from_secs(failover), workload);
        let start = Happening::Trouble(Trouble::Start(Place::Framework(index)));
        world.later((Duration::ZERO, Duration::from_secs(3)), start);
    }
    if let Some(gap) = plan.troubles {
        world.troubles = Some(Troubles { until: world.now + plan.busy, gap });
        world.later((Duration::ZERO, gap), Happening::Trouble(Trouble::Draw));
    }
    world
}

fn random_settings(seed: u64) -> Settings {
    let mut rng = crate::rng::Rng::new(seed ^ 0x6e65_7477);
    let micros = Duration::from_micros;
    Settings {
        latency: (micros(50), micros(if rng.chance(30) { 300_000 } else { 3_000 })),
        local_latency: (micros(10), micros(500)),
        write: (micros(200), micros(if rng.chance(20) { 3_000_000 } else { 20_000 })),
        prepare: (micros(100), micros(if rng.chance(20) { 5_000_000 } else { 50_000 })),
        start: (micros(100), micros(50_000)),
        redial: (micros(20_000), micros(1_000_000)),
        unknown_writes: if rng.chance(40) { 20 } else { 0 },
        queue_limit: if rng.chance(20) { 24 } else { 10_000 },
        compact_every: if rng.chance(50) { 20 } else { usize::MAX },
    }
}

impl World {
    /// A new agent, not started yet, with its position. The resources are those of the text, none if it is not valid.
    pub(crate) fn add_agent(&mut self, name: &str, resources: &str) -> usize {
        let info = AgentInfo {
            hostname: name.into(),
            resources: resources.parse().unwrap_or_default(),
            capabilities: [AgentInfo::TASK_GROUPS.into(), AgentInfo::EXECUTORS.into(), AgentInfo::PREEMPTION.into()]
                .into(),
            version: "sim".into(),
            ..AgentInfo::default()
        };
        self.agents.push(AgentProcess::new(name, info));
        self.agents.len() - 1
    }

    /// A new framework, not started yet, with its position.
    pub(crate) fn add_framework(
        &mut self,
        name: &str,
        roles: &[&str],
        failover_timeout: Duration,
        workload: Workload,
    ) -> usize {
        let info = FrameworkInfo {
            name: name.into(),
            roles: roles.iter().filter_map(|text| role(text).ok()).collect(),
            role_options: BTreeMap::new(),
            failover_timeout,
            capabilities: Capabilities::new(),
            labels: BTreeMap::new(),
        };
        let scheduler = Scheduler::new(name, workload);
        self.frameworks.push(FrameworkProcess::new(name, info, scheduler));
        self.frameworks.len() - 1
    }

    /// The next trouble happens now, with its repair and its successor.
    pub(crate) fn draw_trouble(&mut self) {
        let Some(troubles) = self.troubles.filter(|troubles| self.now < troubles.until) else { return };
        self.later((Duration::ZERO, troubles.gap * 2), Happening::Trouble(Trouble::Draw));
        let lasting = self.lasting();
        let client = self.any_client();
        match self.rng.below(12) {
            0 | 1 => self.passing(Trouble::Cut(client), Trouble::Heal(client), lasting),
            2 => self.reset(client),
            3 => self.passing(Trouble::Crash(client), Trouble::Start(client), lasting),
            4 => self.passing(Trouble::Pause(client), Trouble::Resume(client), lasting),
            5 => {
                let master = Place::Master(self.leader);
                self.passing(Trouble::Crash(master), Trouble::Start(master), lasting);
            }
            6 => self.pause_master(lasting),
            // Somebody else is elected while the old master still runs.
            7 => self.elect(),
            8 => self.runner_trouble(lasting),
            9 => self.light_fuse(client),
            10 => self.light_fuse(Place::Master(self.leader)),
            _ => self.reboot(lasting),
        }
    }

    /// How long it lasts: mostly briefly, sometimes longer than any peer's patience.
    fn lasting(&mut self) -> Duration {
        let millis = match self.rng.below(10) {
            0..=4 => 2_000,
            5..=8 => 30_000,
            _ => 120_000,
        };
        self.rng.between((Duration::from_millis(1), Duration::from_millis(millis)))
    }

    fn passing(&mut self, trouble: Trouble, repair: Trouble, lasting: Duration) {
        self.queue.push(self.now, Happening::Trouble(trouble));
        self.queue.push(self.now + lasting, Happening::Trouble(repair));
    }

    fn any_client(&mut self) -> Place {
        let agents = self.agents.len();
        let chosen = self.rng.index(agents + self.frameworks.len());
        if chosen < agents { Place::Agent(chosen) } else { Place::Framework(chosen - agents) }
    }

    /// A master that stands still for long is deposed meanwhile.
    fn pause_master(&mut self, lasting: Duration) {
        let master = Place::Master(self.leader);
        self.passing(Trouble::Pause(master), Trouble::Resume(master), lasting);
        if lasting > Duration::from_secs(10) {
            self.queue.push(self.now + Duration::from_secs(10), Happening::Trouble(Trouble::Start(master)));
        }
    }

    fn runner_trouble(&mut self, lasting: Duration) {
        let places: Vec<Place> = (0_usize..)
            .zip(&self.agents)
            .flat_map(|(agent, process)| process.runners.keys().map(move |runner| Place::Runner(agent, *runner)))
            .collect();
        let Some(place) = self.rng.pick(&places) else { return };
        match self.rng.below(4) {
            0 => self.crash(place),
            1 => self.passing(Trouble::Pause(place), Trouble::Resume(place), lasting),
            2 => self.light_fuse(place),
            _ => self.break_socket(place),
        }
    }

    fn break_socket(&mut self, place: Place) {
        let Place::Runner(agent, runner) = place else { return };
        let conn = self.agents[agent].runners.get(&runner).and_then(|runner| runner.agent_conn);
        if let Some(conn) = conn {
            self.note_place(place, "loses its socket");
            self.net.lose(conn);
            self.queue.push(self.now, Happening::Closed(place, conn));
            self.queue.push(self.now, Happening::Closed(Place::Agent(agent), conn));
        }
    }

    /// The process will die in the middle of its work.
    fn light_fuse(&mut self, place: Place) {
        let effects = 1 + u32::try_from(self.rng.below(20)).unwrap_or(0);
        if let Some(process) = self.process(place) {
            process.fuse = Some(effects);
        }
    }

    /// A process whose fuse has burnt down is started again after a while.
    pub(crate) fn recover_later(&mut self, place: Place) {
        let lasting = self.lasting();
        self.queue.push(self.now + lasting, Happening::Trouble(Trouble::Start(place)));
    }

    /// From now on nothing goes wrong any more.
    fn make_peace(&mut self) {
        let agents = self.agents.iter_mut().flat_map(|agent| {
            let runners = agent.runners.values_mut().map(|runner| &mut runner.process);
            runners.chain(std::iter::once(&mut agent.process))
        });
        let masters = self.masters.iter_mut().map(|master| &mut master.process);
        let frameworks = self.frameworks.iter_mut().map(|framework| &mut framework.process);
        agents.chain(masters).chain(frameworks).for_each(|process| process.fuse = None);
        self.settings.unknown_writes = 0;
    }

    fn reboot(&mut self, lasting: Duration) {
        let agent = self.rng.index(self.agents.len());
        self.power_off(agent);
        self.queue.push(self.now + lasting, Happening::Trouble(Trouble::Start(Place::Agent(agent))));
    }

    /// What has not come right yet, if anything.
    pub(crate) fn unsettled(&self) -> Option<Vec<String>> {
        let mut unsettled = self.truth.running();
        unsettled.extend(self.truth.untold(&self.lives()));
        for agent in &self.agents {
            let Some(core) = agent.core.as_ref() else {
                unsettled.push(format!("every agent is back: {}", agent.name));
                continue;
            };
            if !core.held().is_empty() {
                unsettled.push(format!("nothing stays held: {} holds {}", agent.name, core.held()));
            }
            for work in core.works() {
                unsettled
                    .push(format!("nothing stays behind: {} has {} live {}", agent.name, work.launch.id, work.live));
            }
        }
        unsettled.extend(self.master_unsettled());
        (!unsettled.is_empty()).then_some(unsettled)
    }

    fn master_unsettled(&self) -> Vec<String> {
        let mut unsettled: Vec<String> = self
            .view
            .launches
            .keys()
            .map(|(framework, batch, agent)| {
                format!("nothing stays behind: the master has {framework} {batch} on {agent}")
            })
            .collect();
        // A registration whose answer was lost leaves an agent behind that nobody is.
        let ids: Vec<AgentId> =
            self.agents.iter().filter_map(|agent| Some(agent.core.as_ref()?.identity()?.0)).collect();
        for view in self.view.agents.values().filter(|view| ids.contains(&view.id)) {
            if view.phase != AgentPhase::Active {
                unsettled.push(format!("every agent is active: {} is {}", view.info.hostname, view.phase));
            }
            let held = self.view.offers.values().any(|offer| offer.agent == view.id);
            if !held && view.free.as_ref() != Some(&view.info.resources) {
                unsettled.push(format!("everything is free again: {} has {:?}", view.info.hostname, view.free));
            }
        }
        for record in self.registry.agents.values().filter(|record| record.unreachable && ids.contains(&record.id)) {
            unsettled.push(format!("the registry knows who is back: {} is marked unreachable", record.id));
        }
        unsettled
    }

    /// The frameworks that are still owed something, with their lives.
    fn lives(&self) -> BTreeMap<FrameworkId, u64> {
        let alive = (0_usize..).zip(&self.frameworks).filter(|(_, framework)| !framework.ended);
        let owed = alive
            .filter_map(|(index, framework)| Some((framework.identity.as_ref()?.framework, framework.life(index))));
        owed.collect()
    }

    /// The runner of an agent with the highest id, for scripts that name none.
    pub(crate) fn latest_runner(&self, agent: usize) -> Option<RunnerId> {
        self.agents.get(agent)?.runners.keys().next_back().copied()
    }
}
