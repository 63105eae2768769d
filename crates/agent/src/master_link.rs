//! The agent's side of the control stream: registration, the report after it, and who may say what when.

use std::time::Duration;

use holm_model::{AgentId, BatchReport, ClusterId, Epoch, Registration, Secret, Time, ToAgent, ToMaster};

use crate::agent::Agent;
use crate::event::{AgentEffect, SessionId};
use crate::options::{MIN_SILENCE, REGISTRATION_TIMEOUT};
use crate::outbox::{pages, update_bytes};
use crate::record::Record;
use crate::stopping::Taking;

/// Where the agent stands with a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// No stream, or one that was given up.
    Disconnected,
    /// It has asked to be admitted.
    Registering { session: SessionId, deadline: Time },
    /// It is admitted.
    Registered {
        session: SessionId,
        silence: Duration,
        deadline: Time,
        /// The number of the last launch applied on this stream.
        launches: u64,
    },
}

impl Link {
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self {
            Link::Disconnected => None,
            Link::Registering { session, .. } | Link::Registered { session, .. } => Some(*session),
        }
    }

    /// The stream on which tasks may be spoken of.
    pub(crate) fn registered(&self) -> Option<SessionId> {
        match self {
            Link::Registered { session, .. } => Some(*session),
            Link::Disconnected | Link::Registering { .. } => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Link::Disconnected => None,
            Link::Registering { deadline, .. } | Link::Registered { deadline, .. } => Some(*deadline),
        }
    }
}

impl Agent {
    pub(crate) fn connected(&mut self, session: SessionId, now: Time) {
        if self.link.session().is_some_and(|current| current >= session) {
            self.counters.stale_messages += 1;
            return;
        }
        self.out.drop_updates();
        self.link = Link::Registering { session, deadline: now + REGISTRATION_TIMEOUT };
        let identity = self.durable.identity.as_ref();
        let registration = Registration {
            id: identity.map(|identity| identity.agent),
            cluster: identity.map(|identity| identity.cluster),
            highest_epoch: identity.map_or(Epoch(0), |identity| identity.epoch),
            incarnation: self.durable.incarnation,
            boot: self.options.boot.clone(),
            info: self.options.info.clone(),
        };
        self.out.push(AgentEffect::ToMaster { session, message: ToMaster::Register(registration) });
    }

    pub(crate) fn disconnected(&mut self, session: SessionId) {
        if self.link.session() == Some(session) {
            self.out.drop_updates();
            self.link = Link::Disconnected;
        }
    }

    pub(crate) fn hear_master(&mut self, session: SessionId, message: ToAgent, now: Time) {
        if self.link.session() != Some(session) {
            self.counters.stale_messages += 1;
            return;
        }
        if let Link::Registered { silence, deadline, .. } = &mut self.link {
            *deadline = now + *silence;
        }
        match (&self.link, message) {
            (Link::Registering { .. }, ToAgent::Registered { agent, secret, cluster, epoch, silence }) => {
                self.registered(session, (agent, secret, cluster, epoch), silence, now);
            }
            (_, ToAgent::Refused { message }) => {
                self.hang_up();
                self.out.push(AgentEffect::Refused { session, message });
            }
            (Link::Registered { .. }, ToAgent::Registered { .. }) => {
                self.fault("the master registered the agent twice")
            }
            (Link::Registered { .. }, message) => self.obey(session, message, now),
            _ => self.counters.stale_messages += 1,
        }
    }

    /// What a master may ask once the agent is registered with it.
    fn obey(&mut self, session: SessionId, message: ToAgent, now: Time) {
        match message {
            ToAgent::Launch { sequence, framework, role, origins, launch } => {
                self.launch(sequence, (framework, role), origins, launch, now);
            }
            ToAgent::LaunchGroup { sequence, framework, role, origins, launches } => {
                self.launch_group(sequence, (framework, role), origins, launches, now);
            }
            ToAgent::Volumes(volumes) => self.told_volumes(volumes),
            ToAgent::Kill { framework, task, grace } => self.kill(framework, &task, grace, now),
            ToAgent::Trim { framework, batch, from, message } => self.trim(framework, &batch, from, message),
            ToAgent::Preempt { framework, batch, first, count, grace, message } => {
                self.preempt(framework, &batch, (first, count), Taking { grace, message }, now);
            }
            ToAgent::Acknowledge { framework, incarnation, sequence } => {
                self.acknowledge(framework, incarnation, sequence);
            }
            ToAgent::Message { framework, task, data } => self.message_to_task(framework, &task, data),
            ToAgent::Remove { framework } => self.remove_framework(framework),
            ToAgent::Ping => self.out.push(AgentEffect::ToMaster { session, message: ToMaster::Pong }),
            ToAgent::Registered { .. } | ToAgent::Refused { .. } => self.counters.stale_messages += 1,
        }
    }

    fn registered(
        &mut self,
        session: SessionId,
        admission: (AgentId, Option<Secret>, ClusterId, Epoch),
        silence: Duration,
        now: Time,
    ) {
        if let Err(message) = self.pin(admission) {
            return self.fault(&message);
        }
        let silence = silence.max(MIN_SILENCE);
        self.link = Link::Registered { session, silence, deadline: now + silence, launches: 0 };
        self.tell_condition();
        self.tell_lent();
        self.send_report(session);
        // What was committed in this burst is in the log and goes out with the rest of it.
        self.out.drop_updates();
        for (framework, tenant) in &self.durable.tenants {
            for page in pages(tenant.log.entries().map(|entry| entry.update.clone()), update_bytes) {
                let (framework, incarnation) = (*framework, self.durable.incarnation);
                let message = ToMaster::Updates { framework, incarnation, updates: page };
                self.out.push(AgentEffect::ToMaster { session, message });
            }
        }
    }

    /// Checks who the master says it and the agent are against what the agent knows, and writes down what is new.
    fn pin(
        &mut self,
        (agent, secret, cluster, epoch): (AgentId, Option<Secret>, ClusterId, Epoch),
    ) -> Result<(), String> {
        let Some(known) = &self.durable.identity else {
            let secret = secret.ok_or("the master admitted the agent without giving it a secret")?;
            self.commit(Record::Identity { agent, secret, cluster, epoch });
            self.out.sync();
            return Ok(());
        };
        if known.cluster != cluster {
            return Err(format!("the master is of cluster {cluster}, the agent belongs to {}", known.cluster));
        }
        if known.agent != agent {
            return Err(format!("the master calls the agent {agent}, it is {}", known.agent));
        }
        if epoch < known.epoch {
            return Err(format!("the master's epoch is {epoch}, the agent has seen {}", known.epoch));
        }
        if epoch > known.epoch {
            let secret = known.secret.clone();
            self.commit(Record::Identity { agent, secret, cluster, epoch });
            self.out.sync();
        }
        Ok(())
    }

    fn send_report(&mut self, session: SessionId) {
        let mut reports = pages(self.durable.works.values().map(|work| work.report()), report_bytes);
        if reports.is_empty() {
            reports.push(Vec::new());
        }
        let last = reports.len() - 1;
        for (index, batches) in reports.into_iter().enumerate() {
            let message = ToMaster::Report { batches, last: index == last };
            self.out.push(AgentEffect::ToMaster { session, message });
        }
    }

    /// Gives up a stream whose master says what it must not; registering again puts both sides right.
    pub(crate) fn fault(&mut self, message: &str) {
        self.counters.master_faults += 1;
        if let Some(session) = self.hang_up() {
            self.out.reconnect(session, message);
        }
    }

    pub(crate) fn hang_up(&mut self) -> Option<SessionId> {
        let session = self.link.session();
        self.out.drop_updates();
        self.link = Link::Disconnected;
        session
    }

    /// Everything whose time has come.
    pub(crate) fn expire(&mut self, now: Time) {
        if self.link.deadline().is_some_and(|deadline| deadline <= now)
            && let Some(session) = self.hang_up()
        {
            self.out.reconnect(session, "the master has been silent for too long");
        }
        self.expire_runners(now);
        self.expire_kills(now);
    }

    pub(crate) fn tell_master(&mut self, message: ToMaster) -> bool {
        let session = self.link.registered();
        if let Some(session) = session {
            self.out.push(AgentEffect::ToMaster { session, message });
        }
        session.is_some()
    }
}

/// About how many bytes a launch takes in a report.
fn report_bytes(report: &BatchReport) -> usize {
    let runs: usize = report.runs.iter().map(|run| 96 + run.status.message.len()).sum();
    512 + 64 * report.shape.iter().count() + runs
}
