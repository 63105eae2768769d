//! The world: every process, the network between them, and the one loop that moves time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use holm_master::{Fresh, Registry};
use holm_model::{ClusterId, Epoch, RunnerId, Secret, SecretHash, Time};

use crate::agent_process::AgentProcess;
use crate::framework_process::FrameworkProcess;
use crate::master_process::MasterProcess;
use crate::native_policy::SimPolicy;
use crate::net::{ConnId, Direction, Net, Packet, Sent};
use crate::queue::{Happening, Place, Queue, Settings, Trouble};
use crate::rng::Rng;
use crate::transcript::Transcript;
use crate::truth::Truth;
use crate::view::View;

/// Most events at one moment; more means that somebody asks to be woken for ever.
const MAX_EVENTS_AT_ONCE: u64 = 200_000;
/// After this long without an answer the master's transport gives a peer up.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What every process has.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// How often it was started.
    pub(crate) life: u64,
    pub(crate) paused: bool,
    /// What waits for it to go on.
    deferred: Vec<Happening>,
    /// After how many more effects it dies in the middle of its work.
    pub(crate) fuse: Option<u32>,
    wake_at: Option<Time>,
    /// Counts what went wrong with it or was repaired.
    trouble: u64,
}

impl Process {
    /// One that has just been started and is not started again.
    pub(crate) fn born() -> Process {
        Process { life: 1, ..Process::default() }
    }
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// When.
    pub at: Time,
    /// Which promises, and by what.
    pub broken: Vec<String>,
    /// The latest events.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the latest events:")?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "seed {} at {}:", self.seed, self.at)?;
        self.broken.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl std::error::Error for Failure {}

/// A whole cluster in virtual time.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue,
    pub(crate) net: Net,
    /// What is on the registry's disk.
    pub(crate) registry: Registry,
    /// The term whose master may write.
    pub(crate) leader: usize,
    pub(crate) masters: Vec<MasterProcess>,
    pub(crate) master_options: holm_master::Options,
    /// What policy masters have.
    pub(crate) policy: Option<SimPolicy>,
    pub(crate) agents: Vec<AgentProcess>,
    pub(crate) frameworks: Vec<FrameworkProcess>,
    pub(crate) view: View,
    pub(crate) truth: Truth,
    pub(crate) transcript: Transcript,
    pub(crate) broken: Vec<String>,
    /// Ids as scripts name their owners.
    pub(crate) names: BTreeMap<String, String>,
    events: u64,
    events_now: u64,
    /// What random troubles are drawn from.
    pub(crate) troubles: Option<crate::random::Troubles>,
}

impl World {
    /// An empty world. With `keep_notes` the readable lines of its transcript are kept for a script.
    pub fn new(seed: u64, settings: Settings, keep_notes: bool) -> World {
        let cluster = ClusterId(u128::from(seed) + 1);
        World {
            seed,
            settings,
            now: Time::ZERO,
            rng: Rng::new(seed),
            queue: Queue::default(),
            net: Net::default(),
            registry: Registry::new(holm_model::ClusterRecord { cluster, epoch: Epoch(0) }),
            leader: 0,
            masters: Vec::new(),
            master_options: holm_master::Options::default(),
            policy: None,
            agents: Vec::new(),
            frameworks: Vec::new(),
            view: View::default(),
            truth: Truth::default(),
            transcript: Transcript::new(keep_notes),
            broken: Vec::new(),
            names: BTreeMap::new(),
            events: 0,
            events_now: 0,
            troubles: None,
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The first moment at which a promise is broken.
    pub fn advance(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = self.now + duration;
        while let Some((at, happening)) = self.queue.pop_until(end) {
            self.step(at, happening)?;
        }
        self.now = end;
        Ok(())
    }

    /// How many events there have been.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything that happened: the same seed gives the same hash.
    pub const fn hash(&self) -> u64 {
        self.transcript.hash()
    }

    fn step(&mut self, at: Time, happening: Happening) -> Result<(), Failure> {
        self.events += 1;
        self.events_now = if at > self.now { 0 } else { self.events_now + 1 };
        self.now = self.now.max(at);
        if self.events_now > MAX_EVENTS_AT_ONCE {
            self.broken.push(format!("time goes on: {happening:?} repeats"));
        }
        if self.events.is_multiple_of(1024) {
            self.net.tidy();
        }
        self.happen(happening);
        self.verdict()
    }

    /// Whether a promise has been broken.
    pub(crate) fn verdict(&mut self) -> Result<(), Failure> {
        self.broken.extend(self.truth.take_broken());
        if self.broken.is_empty() {
            return Ok(());
        }
        let broken = std::mem::take(&mut self.broken);
        Err(Failure { seed: self.seed, at: self.now, broken, tail: self.transcript.tail() })
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(place) = owner(&happening)
            && let Some(process) = self.process(place).filter(|process| process.paused)
        {
            process.deferred.push(happening);
            return;
        }
        match happening {
            Happening::Arrive(conn, direction) => self.arrive(conn, direction),
            Happening::Wake(place) => self.wake(place),
            Happening::Write { term, write, ops } => self.write_done(term, write, &ops),
            Happening::Ranked { term, event } => self.master_event(term, *event),
            Happening::LeaseEnd(term) => self.crash_master(term),
            Happening::Dial { place, life } => self.dial(place, life),
            Happening::DialTimeout(conn) => self.dial_timeout(conn),
            Happening::Closed(place, conn) => self.closed(place, conn),
            Happening::Silence { framework, conn } => self.check_silence(framework, conn),
            Happening::Keepalive { place, trouble } => self.keepalive(place, trouble),
            Happening::Prepared { agent, life, work, fetchable } => self.prepared(agent, life, work, fetchable),
            Happening::RunnerUp { agent, life, runner } => self.runner_up(agent, life, runner),
            Happening::RunnerKill { agent, life, runner } => self.runner_kill(agent, life, runner),
            Happening::Guest { agent, runner, token, work, position, end } => {
                self.guest(agent, runner, token, (work, position), end);
            }
            Happening::Echo { agent, runner, token, work, position, data } => {
                self.echo(agent, runner, token, (work, position), data);
            }
            Happening::Think { framework, life } => self.think(framework, life),
            Happening::Trouble(trouble) => self.trouble(trouble),
        }
    }

    /// The process at a place, as long as there is one.
    pub(crate) fn process(&mut self, place: Place) -> Option<&mut Process> {
        match place {
            Place::Master(term) => self.masters.get_mut(term).map(|master| &mut master.process),
            Place::Agent(agent) => self.agents.get_mut(agent).map(|agent| &mut agent.process),
            Place::Runner(agent, runner) => {
                self.agents.get_mut(agent)?.runners.get_mut(&runner).map(|runner| &mut runner.process)
            }
            Place::Framework(framework) => self.frameworks.get_mut(framework).map(|framework| &mut framework.process),
        }
    }

    /// Something happens after a while that is drawn from the range.
    pub(crate) fn later(&mut self, range: (Duration, Duration), happening: Happening) {
        let at = self.now + self.rng.between(range);
        self.queue.push(at, happening);
    }

    /// One effect is about to be performed: whether the process dies instead.
    pub(crate) fn burns_out(&mut self, place: Place) -> bool {
        let Some(fuse) = self.process(place).and_then(|process| process.fuse.as_mut()) else { return false };
        *fuse = fuse.saturating_sub(1);
        if *fuse > 0 {
            return false;
        }
        self.crash(place);
        self.recover_later(place);
        true
    }

    /// Sees to it that the core at a place is woken when it wants to be.
    pub(crate) fn arm(&mut self, place: Place, next: Option<Time>) {
        let Some(next) = next else { return };
        let next = next.max(self.now);
        if let Some(process) = self.process(place)
            && process.wake_at.is_none_or(|at| next < at)
        {
            process.wake_at = Some(next);
            self.queue.push(next, Happening::Wake(place));
        }
    }

    fn wake(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = self.process(place) else { return };
        // A wake-up that was put off by a pause comes late; one that was replaced by an earlier one comes for nothing.
        if process.wake_at.is_none_or(|at| at > now) {
            return;
        }
        process.wake_at = None;
        match place {
            Place::Master(term) => self.wake_master(term),
            Place::Agent(agent) => self.wake_agent(agent),
            Place::Runner(agent, runner) => self.wake_runner(agent, runner),
            Place::Framework(_) => {}
        }
    }

    // The network.

    /// Sends along a stream; `false` when the stream is full and the sender has to give it up.
    pub(crate) fn send(&mut self, conn: ConnId, direction: Direction, packet: Packet) -> bool {
        let due = self.now + self.latency(conn);
        match self.net.send(conn, direction, due, packet, self.settings.queue_limit) {
            Sent::Queued(look) => self.look_at(conn, direction, look),
            Sent::Closed => {}
            Sent::Full => return false,
        }
        true
    }

    /// Closes one's end of a stream.
    pub(crate) fn close(&mut self, conn: ConnId, direction: Direction) {
        let due = self.now + self.latency(conn);
        let look = self.net.close(conn, direction, due);
        self.look_at(conn, direction, look);
    }

    fn latency(&mut self, conn: ConnId) -> Duration {
        let local = self.net.get_mut(conn).is_some_and(|conn| matches!(conn.server, Place::Runner(..)));
        self.rng.between(if local { self.settings.local_latency } else { self.settings.latency })
    }

    fn look_at(&mut self, conn: ConnId, direction: Direction, look: Option<Time>) {
        if let Some(at) = look {
            self.queue.push(at, Happening::Arrive(conn, direction));
        }
    }

    fn arrive(&mut self, id: ConnId, direction: Direction) {
        let Some(conn) = self.net.get_mut(id) else { return };
        let (sender, receiver) = (conn.receiver(direction.opposite()), conn.receiver(direction));
        if self.process(receiver).is_some_and(|process| process.paused) {
            return self.net.look_away(id, direction);
        }
        let (packet, again) = self.net.look(id, direction, self.now);
        self.look_at(id, direction, again);
        let Some(packet) = packet else { return };
        if !packet.is_sign_of_life() {
            self.transcript.trace(self.now, "net", &format!("{sender} -> {receiver}: {packet}"));
        }
        match receiver {
            Place::Master(term) => self.master_hears(term, id, packet),
            Place::Agent(agent) => self.agent_hears(agent, id, packet),
            Place::Runner(agent, runner) => self.runner_hears(agent, runner, id, packet),
            Place::Framework(framework) => self.framework_hears(framework, id, packet),
        }
    }

    fn closed(&mut self, place: Place, conn: ConnId) {
        match place {
            Place::Master(term) => self.master_loses(term, conn),
            Place::Agent(agent) => self.agent_loses(agent, conn),
            Place::Runner(agent, runner) => self.runner_loses(agent, runner, conn),
            Place::Framework(framework) => self.framework_loses(framework, conn),
        }
    }

    fn dial(&mut self, place: Place, life: u64) {
        let alive = match place {
            Place::Agent(agent) => self.agents.get(agent).is_some_and(AgentProcess::wants_to_dial),
            Place::Framework(framework) => self.frameworks.get(framework).is_some_and(FrameworkProcess::wants_to_dial),
            Place::Master(_) | Place::Runner(..) => false,
        };
        if !alive || self.process(place).is_none_or(|process| process.life != life) || self.masters.is_empty() {
            return;
        }
        // A client may try a deposed master that does not know it yet.
        let elsewhere = self.leader > 0 && self.rng.chance(10);
        let term = if elsewhere { self.leader - 1 } else { self.leader };
        let conn = self.net.open(place, Place::Master(term));
        match place {
            Place::Agent(agent) => self.agents[agent].conn = Some(conn),
            Place::Framework(framework) => self.frameworks[framework].conn = Some(conn),
            Place::Master(_) | Place::Runner(..) => {}
        }
        self.send(conn, Direction::Up, Packet::Syn);
        self.queue.push(self.now + Duration::from_secs(10), Happening::DialTimeout(conn));
    }

    fn dial_timeout(&mut self, conn: ConnId) {
        let Some(state) = self.net.get_mut(conn).filter(|conn| !conn.established) else { return };
        let client = state.client;
        self.closed(client, conn);
    }

    fn keepalive(&mut self, place: Place, trouble: u64) {
        let cut = self.net.is_cut(place);
        let still = self.process(place).is_some_and(|process| process.trouble == trouble && (process.paused || cut));
        if still {
            for (conn, server) in self.net.servers_of(place) {
                self.queue.push(self.now, Happening::Closed(server, conn));
            }
        }
    }

    // Troubles and repairs.

    fn troubled(&mut self, place: Place) {
        let Some(process) = self.process(place) else { return };
        process.trouble += 1;
        let trouble = process.trouble;
        self.queue.push(self.now + KEEPALIVE, Happening::Keepalive { place, trouble });
    }

    /// Nothing goes between this client and any master any more, or it does again.
    pub(crate) fn cut(&mut self, place: Place, cut: bool) {
        self.note_place(place, if cut { "is cut off" } else { "is connected again" });
        self.net.set_cut(place, cut);
        if cut {
            self.troubled(place);
        } else {
            self.kick(place);
        }
    }

    /// Breaks every stream of this client; what is under way is lost.
    pub(crate) fn reset(&mut self, place: Place) {
        self.note_place(place, "loses its streams");
        for (conn, server) in self.net.servers_of(place) {
            self.net.lose(conn);
            self.queue.push(self.now, Happening::Closed(server, conn));
            self.queue.push(self.now, Happening::Closed(place, conn));
        }
    }

    /// A process stands still, or goes on.
    pub(crate) fn pause(&mut self, place: Place, pause: bool) {
        let Some(process) = self.process(place).filter(|process| process.paused != pause) else { return };
        process.paused = pause;
        let deferred = std::mem::take(&mut process.deferred);
        self.note_place(place, if pause { "stands still" } else { "goes on" });
        for happening in deferred {
            self.queue.push(self.now, happening);
        }
        if pause {
            self.troubled(place);
        } else {
            self.kick(place);
        }
    }

    fn kick(&mut self, place: Place) {
        for (conn, direction) in self.net.kick(place) {
            self.queue.push(self.now, Happening::Arrive(conn, direction));
        }
    }

    /// A process dies.
    pub(crate) fn crash(&mut self, place: Place) {
        match place {
            Place::Master(term) => self.crash_master(term),
            Place::Agent(agent) => self.crash_agent(agent),
            Place::Runner(agent, runner) => self.crash_runner(agent, runner, "it was killed"),
            Place::Framework(framework) => self.crash_framework(framework),
        }
    }

    /// A process is started (again); for a master that means an election.
    pub(crate) fn start(&mut self, place: Place) {
        match place {
            Place::Master(_) => self.elect(),
            Place::Agent(agent) => self.start_agent(agent),
            Place::Runner(..) => {}
            Place::Framework(framework) => self.start_framework(framework),
        }
    }

    /// The process is dead: its ends of streams close, nothing waits for it any more.
    pub(crate) fn bury(&mut self, place: Place) {
        for (conn, direction) in self.net.ends_of(place) {
            self.close(conn, direction);
        }
        if let Some(process) = self.process(place) {
            *process = Process { life: process.life, trouble: process.trouble, ..Process::default() };
        }
        // What arrives now arrives at nobody.
        self.kick(place);
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Draw => self.draw_trouble(),
            Trouble::Cut(place) => self.cut(place, true),
            Trouble::Heal(place) => self.cut(place, false),
            Trouble::Pause(place) => self.pause(place, true),
            Trouble::Resume(place) => self.pause(place, false),
            Trouble::Crash(place) => self.crash(place),
            Trouble::Start(place) => self.start(place),
        }
    }

    // Odds and ends.

    /// A secret for somebody new. The hash is not one that hides anything.
    pub(crate) fn fresh(&mut self) -> Fresh {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.rng.next_u64().to_le_bytes()));
        let secret = Secret::from_bytes(bytes);
        let hash = hash(&secret);
        Fresh { secret, hash }
    }

    pub(crate) fn note(&mut self, who: &str, text: &str) {
        self.transcript.note(self.now, who, text);
    }

    pub(crate) fn note_place(&mut self, place: Place, text: &str) {
        let who = self.name_of(place);
        self.note(&who, text);
    }

    /// The name that scripts use.
    pub(crate) fn name_of(&self, place: Place) -> String {
        match place {
            Place::Master(_) => "master".to_owned(),
            Place::Agent(agent) => self.agents.get(agent).map(|agent| agent.name.clone()).unwrap_or_default(),
            Place::Runner(agent, RunnerId(runner)) => format!("{}/{runner}", self.name_of(Place::Agent(agent))),
            Place::Framework(framework) => {
                self.frameworks.get(framework).map(|framework| framework.name.clone()).unwrap_or_default()
            }
        }
    }

    /// The name of the owner of an id, or the id.
    pub(crate) fn name_of_id(&self, id: impl fmt::Display) -> String {
        let id = id.to_string();
        self.names.get(&id).cloned().unwrap_or(id)
    }

    /// The readable lines since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.transcript.take_notes()
    }
}

/// What a master's shell makes of a presented secret.
pub(crate) fn hash(secret: &Secret) -> SecretHash {
    let mut bytes = *secret.expose();
    bytes.iter_mut().for_each(|byte| *byte = byte.rotate_left(3) ^ 0x5a);
    SecretHash(bytes)
}

/// The process that does it, if one that stands still cannot.
const fn owner(happening: &Happening) -> Option<Place> {
    Some(match happening {
        Happening::Wake(place) | Happening::Dial { place, .. } | Happening::Closed(place, _) => *place,
        Happening::Write { term, .. } | Happening::Ranked { term, .. } | Happening::LeaseEnd(term) => {
            Place::Master(*term)
        }
        Happening::Silence { framework, .. } | Happening::Think { framework, .. } => Place::Framework(*framework),
        Happening::Prepared { agent, .. } | Happening::RunnerUp { agent, .. } | Happening::RunnerKill { agent, .. } => {
            Place::Agent(*agent)
        }
        Happening::Guest { agent, runner, .. } | Happening::Echo { agent, runner, .. } => {
            Place::Runner(*agent, *runner)
        }
        Happening::Arrive(..) | Happening::DialTimeout(_) | Happening::Keepalive { .. } | Happening::Trouble(_) => {
            return None;
        }
    })
}
