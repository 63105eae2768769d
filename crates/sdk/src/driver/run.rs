//! The driver's loop: one task that owns the subscription, the stream, the timers and the scheduler.

use std::collections::VecDeque;
use std::time::Duration;

use futures::FutureExt;
use holm_model::{Call, FrameworkInfo, SchedulerEvent};
use holm_proto::v1::CallEnvelope;
use holm_session::{Effect, End, Identity, Input, Outbound, Subscription};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::address::explain;
use crate::calls::Intent;
use crate::driver::link::{Link, LinkEvent};
use crate::driver::timers::{MAX_TIMERS, Timers};
use crate::driver::{Command, Driver, DriverError, OnFinish, Options, Outcome};
use crate::{Calls, Event, Scheduler};

/// Messages to the master that may wait for it. While more do, the scheduler is not called and nothing is received.
pub const MAX_OUTBOX: usize = 4096;
/// Most messages of the master that are taken in before the scheduler is called with what they said.
const MAX_TAKEN: usize = 256;
/// How long to wait for the master to confirm the end of the framework.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long to wait for the master to take what was sent before the stream ends.
const LEAVE: Duration = Duration::from_secs(2);
/// What the framework's software calls itself.
const SOFTWARE: &str = concat!("holm-sdk ", env!("CARGO_PKG_VERSION"));

/// What is to become of the framework.
enum Course {
    /// The scheduler is in charge.
    Going,
    /// It has finished; its teardown is under way.
    TearingDown { outcome: Outcome, until: Instant },
    /// It leaves; what was sent is on its way out.
    Leaving { outcome: Outcome, until: Instant },
}

pub(super) struct Run<'a, S: ?Sized> {
    scheduler: &'a mut S,
    session: Subscription,
    link: Link,
    options: Options,
    commands: mpsc::Receiver<Command>,
    commands_open: bool,
    identity: watch::Sender<Option<Identity>>,
    outbox: VecDeque<CallEnvelope>,
    events: Vec<Event>,
    timers: Timers,
    course: Course,
    /// Since when there is no master; none while there is one.
    alone_since: Option<Instant>,
    registered: bool,
}

impl<'a, S: Scheduler + ?Sized> Run<'a, S> {
    pub(super) fn new(driver: Driver, info: FrameworkInfo, scheduler: &'a mut S) -> Run<'a, S> {
        let Driver { options, mut link, commands, identity } = driver;
        let session = Subscription::new(holm_session::Options {
            info,
            identity: options.identity.clone(),
            suppressed: options.suppressed.clone(),
        });
        link.dial(Duration::ZERO);
        Run {
            scheduler,
            session,
            link,
            options,
            commands,
            commands_open: true,
            identity,
            outbox: VecDeque::new(),
            events: Vec::new(),
            timers: Timers::default(),
            course: Course::Going,
            alone_since: Some(Instant::now()),
            registered: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<Outcome, DriverError> {
        loop {
            if let Some(outcome) = self.perform()? {
                return Ok(outcome);
            }
            self.flush();
            if !self.events.is_empty() && self.has_room() {
                self.call_scheduler()?;
                // Answers to calls may already be there: let the stream have its turn before they are answered.
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(outcome) = self.wait().await? {
                return Ok(outcome);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.outbox.len() < MAX_OUTBOX
    }

    /// Does what the subscription wants.
    fn perform(&mut self) -> Result<Option<Outcome>, DriverError> {
        loop {
            let effects: Vec<Effect> = self.session.drain_effects().collect();
            if effects.is_empty() {
                return Ok(None);
            }
            for effect in effects {
                match effect {
                    Effect::Send(Outbound::Subscribe { subscribe, secret }) => {
                        self.outbox.push_back(holm_proto::scheduler::subscribe(&subscribe, SOFTWARE, secret.as_ref()));
                    }
                    Effect::Send(Outbound::Call { framework_epoch, call }) => self.send(framework_epoch, call),
                    Effect::Deliver(notice) => self.deliver(notice.into()),
                    Effect::Reconnect { delay, message } => self.reconnect(delay, &message)?,
                    Effect::Ended(end) => return self.ended(end).map(Some),
                }
            }
        }
    }

    fn deliver(&mut self, event: Event) {
        if let Event::Registered { framework, epoch } = &event {
            tracing::info!(%framework, %epoch, "registered");
            self.registered = true;
            self.alone_since = None;
            self.identity.send_replace(self.session.identity());
        }
        if matches!(self.course, Course::Going) {
            self.events.push(event);
        }
    }

    fn send(&mut self, framework_epoch: u64, call: Call) {
        match holm_proto::pages::call(framework_epoch, &call) {
            Ok(envelopes) => self.outbox.extend(envelopes),
            Err(error) => {
                let message = explain(&error).into();
                self.session.handle(Input::Unsent { call, message });
            }
        }
    }

    fn reconnect(&mut self, delay: Duration, message: &str) -> Result<(), DriverError> {
        self.outbox.clear();
        let now = Instant::now();
        let since = *self.alone_since.get_or_insert(now);
        let limit = if self.registered { self.options.reconnect_within } else { self.options.connect_within };
        let waited = now.duration_since(since);
        tracing::info!(%message, ?delay, "no master");
        if limit.is_some_and(|limit| waited + delay > limit) {
            let masters = self.link.addresses().join(", ");
            return Err(DriverError::NoMaster { masters, waited, last: message.to_owned() });
        }
        self.link.dial(delay);
        Ok(())
    }

    fn ended(&mut self, end: End) -> Result<Outcome, DriverError> {
        let course = std::mem::replace(&mut self.course, Course::Going);
        match (end, course) {
            (_, Course::TearingDown { outcome, .. } | Course::Leaving { outcome, .. }) => Ok(outcome),
            (End::TornDown, Course::Going) => Ok(self.outcome(0, Vec::new())),
            (End::Refused(message), Course::Going) => Err(DriverError::Refused(message.to_string())),
        }
    }

    fn outcome(&self, code: u8, report: Vec<u8>) -> Outcome {
        Outcome { code, report, framework: self.session.identity().map(|identity| identity.framework) }
    }

    /// Hands the transport as much as it takes at once.
    fn flush(&mut self) {
        while let Some(envelope) = self.outbox.pop_front() {
            let Some(outbound) = self.link.outbound() else { return };
            match outbound.try_send(envelope) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(envelope)) => return self.outbox.push_front(envelope),
                // The stream is dead; the link is about to say so.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.outbox.clear(),
            }
        }
    }

    fn call_scheduler(&mut self) -> Result<(), DriverError> {
        let mut calls = Calls::new();
        crate::scheduler::call(self.scheduler, std::mem::take(&mut self.events), &mut calls);
        for intent in calls.take() {
            match intent {
                Intent::Call(call) => self.session.handle(Input::Call(call)),
                Intent::SetTimer { token, after } => self.set_timer(token, after),
                Intent::Refuse { message } => self.events.push(Event::Error { message: message.into() }),
                Intent::Abort { message } => return Err(DriverError::Aborted(message)),
                Intent::Finish { code, report } => {
                    let outcome = self.outcome(code, report);
                    self.end(outcome, self.options.on_finish);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, token: u64, after: Duration) {
        let after = after.clamp(Duration::from_millis(1), Duration::from_secs(365 * 24 * 3600));
        if !self.timers.set(token, Instant::now() + after) {
            let message = format!("timer {token} is not set: {MAX_TIMERS} timers are, which is the limit");
            self.events.push(Event::Error { message: message.into() });
        }
    }

    fn end(&mut self, outcome: Outcome, how: OnFinish) {
        self.events.clear();
        match how {
            OnFinish::TearDown => {
                self.session.handle(Input::Call(Call::Teardown));
                self.course = Course::TearingDown { outcome, until: Instant::now() + FAREWELL };
            }
            OnFinish::Leave => self.course = Course::Leaving { outcome, until: Instant::now() + LEAVE },
        }
    }

    /// Waits for the next thing to happen, and takes it in with everything else that is already there.
    async fn wait(&mut self) -> Result<Option<Outcome>, DriverError> {
        let until = match &self.course {
            Course::Going => None,
            Course::TearingDown { until, .. } => Some(*until),
            Course::Leaving { until, .. } => {
                let until = *until;
                if self.outbox.is_empty() {
                    self.link.finish_sending();
                }
                Some(until)
            }
        };
        let (room, going) = (self.has_room(), matches!(self.course, Course::Going));
        let timer = self.timers.next().filter(|_| going && room);
        let outbound = self.link.outbound().cloned().filter(|_| !self.outbox.is_empty());
        tokio::select! {
            event = self.link.next(), if room => self.take_in(event),
            command = self.commands.recv(), if going && room && self.commands_open => self.command(command),
            () = at(timer), if timer.is_some() => self.ring(),
            // The permit is given back at once: `flush` is what uses it.
            _ = reserve(outbound.as_ref()), if outbound.is_some() => {}
            () = at(until), if until.is_some() => return Ok(self.farewell()),
        }
        for _ in 0..MAX_TAKEN {
            if !self.has_room() {
                break;
            }
            let Some(event) = self.link.next().now_or_never() else { break };
            self.take_in(event);
        }
        // A stream that ended was all that a leaving framework waited for.
        let left = matches!(self.course, Course::Leaving { .. }) && self.link.is_closed();
        Ok(if left { self.farewell() } else { None })
    }

    /// The time for an orderly end is over, or its last step is done.
    fn farewell(&mut self) -> Option<Outcome> {
        match std::mem::replace(&mut self.course, Course::Going) {
            Course::TearingDown { outcome, .. } => {
                tracing::warn!("the master did not confirm the teardown; the failover timeout will end the framework");
                Some(outcome)
            }
            Course::Leaving { outcome, .. } => Some(outcome),
            Course::Going => None,
        }
    }

    fn take_in(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected => self.session.handle(Input::Connected),
            LinkEvent::Event(event) => self.session.handle(Input::FromMaster(event)),
            // A teardown is answered by the end of the stream.
            LinkEvent::Closed { message, fatal, aborted }
                if fatal || aborted && matches!(self.course, Course::TearingDown { .. }) =>
            {
                self.session.handle(Input::FromMaster(SchedulerEvent::Error { message: message.into(), fatal: true }));
            }
            LinkEvent::Closed { message, .. } => {
                if !matches!(self.course, Course::Leaving { .. }) {
                    self.session.handle(Input::Disconnected { message: message.into() });
                }
            }
        }
    }

    fn command(&mut self, command: Option<Command>) {
        match command {
            None => self.commands_open = false,
            Some(Command::Input(bytes)) => self.events.push(Event::Input(bytes)),
            Some(Command::TearDown) => self.end(self.outcome(0, Vec::new()), OnFinish::TearDown),
            Some(Command::Leave) => self.end(self.outcome(0, Vec::new()), OnFinish::Leave),
        }
    }

    fn ring(&mut self) {
        let due = self.timers.take_due(Instant::now());
        self.events.extend(due.into_iter().map(Event::Timer));
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn reserve(outbound: Option<&mpsc::Sender<CallEnvelope>>) {
    match outbound {
        Some(outbound) => drop(outbound.reserve().await),
        None => std::future::pending().await,
    }
}
