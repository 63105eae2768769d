//! Master processes: one per term, around the real core, with the registry's disk beside them.

use std::collections::BTreeMap;

use holm_master::{Effect, Event, Master, PersistOutcome, RegistryOp, SessionId, WriteId};
use holm_model::{Epoch, Principal, Time};

use crate::net::{ConnId, Direction, Packet};
use crate::queue::{Happening, Place};
use crate::view::View;
use crate::world::{Process, World, hash};

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Agent,
    Framework,
}

/// The master of one term.
#[derive(Debug)]
pub(crate) struct MasterProcess {
    pub(crate) process: Process,
    pub(crate) core: Option<Master>,
    peers: BTreeMap<ConnId, Peer>,
    /// When the registry will have answered every write under way.
    written: Time,
    /// Writes that would be answered later than this died with the process.
    lost_after: Option<Time>,
}

impl World {
    /// A new master leads: the next term, one epoch higher. An old one that still runs goes on for a while.
    pub(crate) fn elect(&mut self) {
        if let Some(old) = self.masters.get(self.leader)
            && old.core.is_some()
        {
            self.later(
                (std::time::Duration::from_millis(1), std::time::Duration::from_secs(10)),
                Happening::LeaseEnd(self.leader),
            );
        }
        let term = self.masters.len();
        self.leader = term;
        self.registry.cluster.epoch = Epoch(self.registry.cluster.epoch.0 + 1);
        self.view = View::default();
        let core = Master::recover(self.registry.clone(), self.master_options.clone(), self.now);
        self.note("master", &format!("leads in epoch {}", core.epoch()));
        let (process, peers) = (Process::born(), BTreeMap::new());
        self.masters.push(MasterProcess { process, core: Some(core), peers, written: self.now, lost_after: None });
        self.master_turn(term);
    }

    pub(crate) fn crash_master(&mut self, term: usize) {
        let tail = self.rng.between(self.settings.write);
        let Some(master) = self.masters.get_mut(term).filter(|master| master.core.is_some()) else { return };
        master.core = None;
        master.peers.clear();
        master.lost_after = Some(self.now + tail);
        self.note("master", if term == self.leader { "dies" } else { "of an earlier term dies" });
        self.bury(Place::Master(term));
    }

    pub(crate) fn master_event(&mut self, term: usize, event: Event) {
        let now = self.now;
        if let Some(core) = self.masters.get_mut(term).and_then(|master| master.core.as_mut()) {
            core.handle(now, event);
            self.master_turn(term);
        }
    }

    fn master_turn(&mut self, term: usize) {
        let Some(core) = self.masters.get_mut(term).and_then(|master| master.core.as_mut()) else { return };
        let effects: Vec<Effect> = core.drain_effects().collect();
        for effect in effects {
            if self.burns_out(Place::Master(term)) {
                return;
            }
            self.master_effect(term, effect);
        }
        let Some(core) = self.masters.get(term).and_then(|master| master.core.as_ref()) else { return };
        let next = core.next_wake();
        let broken = holm_master::invariants::check(core);
        self.broken.extend(broken.iter().map(|violation| format!("master: {violation}")));
        if term == self.leader {
            self.broken.extend(self.view.check());
        }
        self.arm(Place::Master(term), next);
    }

    pub(crate) fn wake_master(&mut self, term: usize) {
        let now = self.now;
        let Some(core) = self.masters.get(term).and_then(|master| master.core.as_ref()) else { return };
        match core.next_wake() {
            Some(next) if next <= now => self.master_event(term, Event::Wake),
            next => self.arm(Place::Master(term), next),
        }
    }

    fn master_effect(&mut self, term: usize, effect: Effect) {
        match effect {
            Effect::ToAgent { session, message } => self.master_sends(term, session, Packet::ToAgent(message)),
            Effect::ToFramework { session, event } => self.master_sends(term, session, Packet::ToFramework(event)),
            Effect::Close { session, message, .. } => {
                self.transcript.trace(self.now, "master", &format!("closes {session}: {message}"));
                self.masters[term].peers.remove(&ConnId(session.0));
                self.close(ConnId(session.0), Direction::Down);
            }
            Effect::Persist { write, ops } => {
                let delay = self.rng.between(self.settings.write);
                let master = &mut self.masters[term];
                master.written = master.written.max(self.now + delay);
                self.queue.push(master.written, Happening::Write { term, write, ops });
            }
            Effect::Changed(delta) if term == self.leader => {
                if let Some((who, what)) = self.view.apply(delta) {
                    self.note(&who, &what);
                }
            }
            Effect::StepDown { reason } => {
                self.note("master", &format!("steps down: {reason}"));
                self.crash_master(term);
            }
            Effect::Reply { request, result } => {
                self.note("master", &format!("answers request {}: {result:?}", request.0));
            }
            Effect::Rank { request, changes, .. } => self.policy_is_asked(term, request, &changes),
            Effect::Changed(_) => {}
        }
    }

    fn master_sends(&mut self, term: usize, session: SessionId, packet: Packet) {
        let conn = ConnId(session.0);
        if self.masters[term].peers.contains_key(&conn) && !self.send(conn, Direction::Down, packet) {
            self.transcript.trace(self.now, "master", &format!("{session} reads too slowly"));
            self.queue.push(self.now, Happening::Closed(Place::Master(term), conn));
        }
    }

    /// The registry has answered: the write was done, was fenced off, or nobody knows.
    pub(crate) fn write_done(&mut self, term: usize, write: WriteId, ops: &[RegistryOp]) {
        let now = self.now;
        let Some(master) = self.masters.get(term).filter(|master| master.lost_after.is_none_or(|end| now <= end))
        else {
            return;
        };
        let alive = master.core.is_some();
        let unknown = alive && self.rng.chance(self.settings.unknown_writes);
        let outcome = match unknown {
            _ if term != self.leader => PersistOutcome::Fenced,
            true => PersistOutcome::Unknown,
            false => PersistOutcome::Committed,
        };
        if outcome == PersistOutcome::Committed || (unknown && self.rng.chance(50)) {
            ops.iter().for_each(|op| op.apply(&mut self.registry));
        }
        self.transcript.trace(now, "registry", &format!("{write} {outcome:?}"));
        self.master_event(term, Event::Persisted { write, outcome });
    }

    pub(crate) fn master_hears(&mut self, term: usize, conn: ConnId, packet: Packet) {
        if self.masters.get(term).is_none_or(|master| master.core.is_none()) {
            return self.close(conn, Direction::Down);
        }
        let session = SessionId(conn.0);
        match packet {
            Packet::Syn => drop(self.send(conn, Direction::Down, Packet::Ack)),
            Packet::Fin => self.master_loses(term, conn),
            Packet::AgentHello(registration, secret) => {
                self.masters[term].peers.insert(conn, Peer::Agent);
                let (principal, proof, fresh) = (Principal::Anonymous, secret.as_ref().map(hash), self.fresh());
                self.master_event(term, Event::AgentOpened { session, principal, registration, proof, fresh });
            }
            Packet::FrameworkHello(subscribe, secret) => {
                self.masters[term].peers.insert(conn, Peer::Framework);
                let (principal, proof, fresh) = (Principal::Anonymous, secret.as_ref().map(hash), self.fresh());
                self.master_event(term, Event::FrameworkOpened { session, principal, subscribe, proof, fresh });
            }
            Packet::FromAgent(message) if self.masters[term].peers.contains_key(&conn) => {
                self.master_event(term, Event::FromAgent { session, message });
            }
            Packet::FromFramework(framework_epoch, call) if self.masters[term].peers.contains_key(&conn) => {
                self.master_event(term, Event::FromFramework { session, framework_epoch, call });
            }
            _ => {}
        }
    }

    /// A stream has ended, or its peer is given up.
    pub(crate) fn master_loses(&mut self, term: usize, conn: ConnId) {
        self.close(conn, Direction::Down);
        let session = SessionId(conn.0);
        match self.masters.get_mut(term).and_then(|master| master.peers.remove(&conn)) {
            Some(Peer::Agent) => self.master_event(term, Event::AgentClosed { session }),
            Some(Peer::Framework) => self.master_event(term, Event::FrameworkClosed { session }),
            None => {}
        }
    }
}
