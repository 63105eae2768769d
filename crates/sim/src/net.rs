//! The network: streams of two ordered pipes each, links that can be cut, peers that do not read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use holm_model::{
    Call, FromRunner, Registration, SchedulerEvent, Secret, Subscribe, Time, ToAgent, ToMaster, ToRunner,
};

use crate::queue::Place;

/// One stream, numbered in the order of dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// Which way along a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the one who dialled.
    Up,
    /// To the one who dialled.
    Down,
}

impl Direction {
    pub(crate) const fn opposite(self) -> Direction {
        match self {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }
}

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A stream is asked for.
    Syn,
    /// It is open.
    Ack,
    /// Its other end is closed.
    Fin,
    AgentHello(Registration, Option<Secret>),
    FromAgent(ToMaster),
    ToAgent(ToAgent),
    FrameworkHello(Subscribe, Option<Secret>),
    FromFramework(u64, Call),
    ToFramework(SchedulerEvent),
    FromRunner(FromRunner),
    ToRunner(ToRunner),
}

#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<(Time, Packet)>,
    last_due: Time,
    scheduled: bool,
}

/// A stream between a client and a server.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) client: Place,
    pub(crate) server: Place,
    /// The client has been told that it is open.
    pub(crate) established: bool,
    client_open: bool,
    server_open: bool,
    up: Pipe,
    down: Pipe,
}

impl Conn {
    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// Whether the end that receives in this direction is open.
    const fn receiver_open(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.server_open,
            Direction::Down => self.client_open,
        }
    }

    /// Who receives in this direction.
    pub(crate) const fn receiver(&self, direction: Direction) -> Place {
        match direction {
            Direction::Up => self.server,
            Direction::Down => self.client,
        }
    }

    fn set_closed(&mut self, sender_of: Direction) {
        match sender_of {
            Direction::Up => self.client_open = false,
            Direction::Down => self.server_open = false,
        }
    }
}

/// What sending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is under way; to be looked at then, unless somebody looks already.
    Queued(Option<Time>),
    /// The stream is closed: it is lost.
    Closed,
    /// Too much waits: the sender is to give the stream up.
    Full,
}

/// Every stream and every cut.
#[derive(Debug, Default)]
pub(crate) struct Net {
    conns: BTreeMap<ConnId, Conn>,
    next: u64,
    cut: BTreeSet<Place>,
}

impl Net {
    pub(crate) fn open(&mut self, client: Place, server: Place) -> ConnId {
        self.next += 1;
        let id = ConnId(self.next);
        let (up, down) = (Pipe::default(), Pipe::default());
        self.conns
            .insert(id, Conn { client, server, established: false, client_open: true, server_open: true, up, down });
        id
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// Puts a packet on its way, due after everything sent before it.
    pub(crate) fn send(&mut self, id: ConnId, direction: Direction, due: Time, packet: Packet, limit: usize) -> Sent {
        let Some(conn) = self.conns.get_mut(&id) else { return Sent::Closed };
        if !conn.receiver_open(direction.opposite()) {
            return Sent::Closed;
        }
        let pipe = conn.pipe(direction);
        if pipe.queue.len() >= limit {
            return Sent::Full;
        }
        Net::enqueue(pipe, due, packet)
    }

    fn enqueue(pipe: &mut Pipe, due: Time, packet: Packet) -> Sent {
        pipe.last_due = pipe.last_due.max(due);
        pipe.queue.push_back((pipe.last_due, packet));
        let look = (!std::mem::replace(&mut pipe.scheduled, true)).then_some(pipe.last_due);
        Sent::Queued(look)
    }

    /// Closes the end that sends in this direction; the other end learns of it after what was sent before.
    pub(crate) fn close(&mut self, id: ConnId, direction: Direction, due: Time) -> Option<Time> {
        let conn = self.conns.get_mut(&id).filter(|conn| conn.receiver_open(direction.opposite()))?;
        conn.set_closed(direction);
        match Net::enqueue(conn.pipe(direction), due, Packet::Fin) {
            Sent::Queued(look) => look,
            Sent::Closed | Sent::Full => None,
        }
    }

    /// Loses whatever is under way.
    pub(crate) fn lose(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.up.queue.clear();
            conn.down.queue.clear();
        }
    }

    /// Somebody looks at the pipe: its head, if it is due and the link is up, and when to look again.
    pub(crate) fn look(&mut self, id: ConnId, direction: Direction, now: Time) -> (Option<Packet>, Option<Time>) {
        let Some(conn) = self.conns.get_mut(&id) else { return (None, None) };
        conn.pipe(direction).scheduled = false;
        if self.cut.contains(&conn.client) && matches!(conn.server, Place::Master(_)) {
            return (None, None);
        }
        let open = conn.receiver_open(direction);
        let pipe = conn.pipe(direction);
        let due = pipe.queue.front().is_some_and(|(due, _)| *due <= now);
        let packet = if due { pipe.queue.pop_front().map(|(_, packet)| packet) } else { None };
        let again = pipe.queue.front().map(|(due, _)| (*due).max(now));
        pipe.scheduled = again.is_some();
        (packet.filter(|_| open), again)
    }

    /// The receiver stands still: nobody looks until it is kicked.
    pub(crate) fn look_away(&mut self, id: ConnId, direction: Direction) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.pipe(direction).scheduled = false;
        }
    }

    /// The pipes of a place at which nobody looks although they hold something; somebody will now.
    pub(crate) fn kick(&mut self, of: Place) -> Vec<(ConnId, Direction)> {
        let mut idle = Vec::new();
        for (id, conn) in &mut self.conns {
            if conn.client != of && conn.server != of {
                continue;
            }
            for direction in [Direction::Up, Direction::Down] {
                let pipe = conn.pipe(direction);
                if !pipe.queue.is_empty() && !std::mem::replace(&mut pipe.scheduled, true) {
                    idle.push((*id, direction));
                }
            }
        }
        idle
    }

    pub(crate) fn set_cut(&mut self, client: Place, cut: bool) {
        if cut {
            self.cut.insert(client);
        } else {
            self.cut.remove(&client);
        }
    }

    pub(crate) fn is_cut(&self, client: Place) -> bool {
        self.cut.contains(&client)
    }

    /// The streams of which this process holds an open end, with the direction in which it sends.
    pub(crate) fn ends_of(&self, place: Place) -> Vec<(ConnId, Direction)> {
        let open = |(id, conn): (&ConnId, &Conn)| {
            if conn.client == place && conn.client_open {
                Some((*id, Direction::Up))
            } else if conn.server == place && conn.server_open {
                Some((*id, Direction::Down))
            } else {
                None
            }
        };
        self.conns.iter().filter_map(open).collect()
    }

    /// The streams that this client dialled to masters, with the master.
    pub(crate) fn servers_of(&self, client: Place) -> Vec<(ConnId, Place)> {
        let of_client = self.conns.iter().filter(|(_, conn)| conn.client == client && conn.server_open);
        let to_master = of_client.filter(|(_, conn)| matches!(conn.server, Place::Master(_)));
        to_master.map(|(id, conn)| (*id, conn.server)).collect()
    }

    /// Forgets streams that are over.
    pub(crate) fn tidy(&mut self) {
        self.conns.retain(|_, conn| {
            conn.client_open || conn.server_open || !conn.up.queue.is_empty() || !conn.down.queue.is_empty()
        });
    }
}

impl Packet {
    /// Whether it says nothing but that its sender lives.
    pub(crate) const fn is_sign_of_life(&self) -> bool {
        matches!(
            self,
            Packet::ToAgent(ToAgent::Ping)
                | Packet::FromAgent(ToMaster::Pong)
                | Packet::ToFramework(SchedulerEvent::Heartbeat)
        )
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::Syn => f.write_str("syn"),
            Packet::Ack => f.write_str("ack"),
            Packet::Fin => f.write_str("fin"),
            Packet::AgentHello(hello, _) => write!(f, "register {:?} incarnation {}", hello.id, hello.incarnation),
            Packet::FromAgent(message) => show_to_master(f, message),
            Packet::ToAgent(message) => show_to_agent(f, message),
            Packet::FrameworkHello(hello, _) => write!(f, "subscribe {:?}", hello.id),
            Packet::FromFramework(epoch, call) => show_call(f, *epoch, call),
            Packet::ToFramework(event) => show_event(f, event),
            Packet::FromRunner(message) => show_from_runner(f, message),
            Packet::ToRunner(ToRunner::Launch { work, launch, .. }) => write!(f, "launch {work} {}", launch.id),
            Packet::ToRunner(message) => write!(f, "{message:?}"),
        }
    }
}

fn show_to_master(f: &mut fmt::Formatter<'_>, message: &ToMaster) -> fmt::Result {
    match message {
        ToMaster::Report { batches, last } => {
            write!(f, "report last={last}")?;
            batches.iter().try_for_each(|batch| show_report(f, batch))
        }
        ToMaster::Updates { framework, incarnation, updates } => {
            write!(f, "updates {framework} in {incarnation}:")?;
            updates.iter().try_for_each(|update| show_update(f, update))
        }
        message => write!(f, "{message:?}"),
    }
}

fn show_report(f: &mut fmt::Formatter<'_>, batch: &holm_model::BatchReport) -> fmt::Result {
    write!(f, " {} {}", batch.framework, batch.id)?;
    batch.runs.iter().try_for_each(|run| write!(f, " {}x{}", run.count, run.status.state))
}

fn show_update(f: &mut fmt::Formatter<'_>, update: &holm_model::Update) -> fmt::Result {
    let holm_model::Update { sequence, batch, first, count, status, usages: _ } = update;
    write!(f, " #{sequence} {batch} {first}+{count} {}", status.state)
}

fn show_to_agent(f: &mut fmt::Formatter<'_>, message: &ToAgent) -> fmt::Result {
    match message {
        ToAgent::Registered { agent, epoch, .. } => write!(f, "registered {agent} epoch {epoch}"),
        ToAgent::Launch { sequence, framework, launch, .. } => {
            write!(f, "launch #{sequence} {framework} {} x{}/{}", launch.id, launch.tasks.count(), launch.slots)
        }
        ToAgent::LaunchGroup { sequence, framework, launches, .. } => {
            write!(f, "launch group #{sequence} {framework}")?;
            let show =
                |launch: &holm_model::Launch| write!(f, " {} x{}/{}", launch.id, launch.tasks.count(), launch.slots);
            launches.iter().try_for_each(show)
        }
        message => write!(f, "{message:?}"),
    }
}

fn show_call(f: &mut fmt::Formatter<'_>, epoch: u64, call: &Call) -> fmt::Result {
    write!(f, "[{epoch}] ")?;
    match call {
        Call::Accept { offers, launches, refusal } => {
            write!(f, "accept {offers:?} refuse {:?}:", refusal.duration())?;
            launches.iter().try_for_each(|launch| {
                write!(f, " {} x{}/{} of {}", launch.id, launch.tasks.count(), launch.slots, launch.spec.resources)
            })
        }
        call => write!(f, "{call:?}"),
    }
}

fn show_event(f: &mut fmt::Formatter<'_>, event: &SchedulerEvent) -> fmt::Result {
    match event {
        SchedulerEvent::Subscribed { framework, epoch, framework_epoch, pending_agents, .. } => {
            write!(f, "subscribed {framework} epoch {epoch} number {framework_epoch} pending {pending_agents:?}")
        }
        SchedulerEvent::Tasks { agent, incarnation, batches, last } => {
            write!(f, "tasks of {agent} in {incarnation} last={last}")?;
            batches.iter().try_for_each(|batch| show_report(f, batch))
        }
        SchedulerEvent::Offers(offers) => {
            f.write_str("offers")?;
            offers.iter().try_for_each(|offer| write!(f, " {} of {} {}", offer.id, offer.agent, offer.resources))
        }
        SchedulerEvent::Updates { agent, source, updates, .. } => {
            write!(f, "updates from {agent} by {source:?}:")?;
            updates.iter().try_for_each(|update| show_update(f, update))
        }
        event => write!(f, "{event:?}"),
    }
}

fn show_from_runner(f: &mut fmt::Formatter<'_>, message: &FromRunner) -> fmt::Result {
    match message {
        FromRunner::Reports(reports) => {
            f.write_str("reports")?;
            reports.iter().try_for_each(|report| {
                let holm_model::RunnerReport { sequence, work, first, count, status, usages: _ } = report;
                write!(f, " #{sequence} {work} {first}+{count} {}", status.state)
            })
        }
        message => write!(f, "{message:?}"),
    }
}
