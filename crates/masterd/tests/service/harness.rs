//! A master on a free port, and peers to talk to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use holm_masterd::{Options, RunError, Service};
use holm_proto::v1::{self, agent_client::AgentClient, scheduler_client::SchedulerClient};
use holm_proto::v1::{call_envelope::Call, event_envelope::Event, to_agent, to_master};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Longest time that anything in a test may take; a condition that never comes fails here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not happen"),
    }
}

pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), dir.join("store"));
    options.limits.goodbye = Duration::from_secs(1);
    options
}

impl Master {
    pub(crate) async fn start(dir: &Path) -> Master {
        Master::start_with(options(dir)).await
    }

    pub(crate) async fn start_with(options: Options) -> Master {
        let service = Service::bind(options).await.unwrap();
        let address = service.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(service.run(async {
            stopped.await.ok();
        }));
        Master { address, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon("clean shutdown", self.task).await.unwrap().unwrap();
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub(crate) async fn operator(&self) -> v1::operator_client::OperatorClient<Channel> {
        v1::operator_client::OperatorClient::new(self.channel().await)
    }

    /// Asks the read model until it answers as wanted.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut ask: impl FnMut() -> F) -> T {
        soon(what, async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

pub(crate) fn resources(text: &str) -> Vec<v1::Resource> {
    holm_proto::resources::to_wire(&text.parse().unwrap())
}

pub(crate) fn hello() -> v1::Hello {
    v1::Hello { protocol: holm_proto::PROTOCOL, version: "test".to_owned(), capabilities: Vec::new() }
}

/// An agent that answers pings by itself and does nothing else unasked.
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) epoch: u64,
    pub(crate) cluster: String,
    to_master: mpsc::Sender<v1::ToMaster>,
    from_master: mpsc::Receiver<Result<to_agent::Message, Status>>,
}

pub(crate) fn register(resources_text: &str) -> v1::Register {
    let info =
        v1::AgentInfo { hostname: "node".to_owned(), resources: resources(resources_text), ..Default::default() };
    v1::Register {
        hello: Some(hello()),
        incarnation: 1,
        boot_id: "boot".to_owned(),
        info: Some(info),
        ..Default::default()
    }
}

impl Agent {
    /// Registers and reports that nothing runs.
    pub(crate) async fn start(master: &Master, resources_text: &str) -> Agent {
        Agent::try_start(master.channel().await, register(resources_text)).await.unwrap()
    }

    pub(crate) async fn try_start(channel: Channel, register: v1::Register) -> Result<Agent, Status> {
        let (to_master, outbound) = mpsc::channel(64);
        let secret = register.secret.clone();
        send(&to_master, to_master::Message::Register(register)).await;
        let inbound = AgentClient::new(channel).connect(ReceiverStream::new(outbound)).await?.into_inner();
        let from_master = pump(inbound, to_master.clone());
        let mut agent = Agent { id: String::new(), secret, epoch: 0, cluster: String::new(), to_master, from_master };
        match agent.next().await? {
            to_agent::Message::Registered(registered) => {
                agent.id = registered.agent_id;
                agent.epoch = registered.epoch;
                agent.cluster = registered.cluster_id;
                if !registered.secret.is_empty() {
                    agent.secret = registered.secret;
                }
            }
            to_agent::Message::Refused(refused) => return Err(Status::permission_denied(refused.message)),
            other => panic!("expected an answer to the registration, got {other:?}"),
        }
        agent.send(to_master::Message::Report(v1::Report { batches: Vec::new(), last: true })).await;
        Ok(agent)
    }

    pub(crate) async fn send(&self, message: to_master::Message) {
        send(&self.to_master, message).await;
    }

    pub(crate) async fn next(&mut self) -> Result<to_agent::Message, Status> {
        let message = soon("a message to the agent", self.from_master.recv()).await;
        message.unwrap_or_else(|| Err(Status::ok("the stream has ended")))
    }

    pub(crate) async fn next_launch(&mut self) -> v1::LaunchTasks {
        match self.next().await.unwrap() {
            to_agent::Message::Launch(launch) => launch,
            other => panic!("expected a launch, got {other:?}"),
        }
    }

    pub(crate) async fn report(&self, framework: &str, update: v1::Update) {
        let updates = v1::AgentUpdates { framework_id: framework.to_owned(), incarnation: 1, updates: vec![update] };
        self.send(to_master::Message::Updates(updates)).await;
    }
}

async fn send(to_master: &mpsc::Sender<v1::ToMaster>, message: to_master::Message) {
    to_master.send(v1::ToMaster { message: Some(message) }).await.unwrap();
}

fn pump(
    mut inbound: Streaming<v1::ToAgent>,
    pongs: mpsc::Sender<v1::ToMaster>,
) -> mpsc::Receiver<Result<to_agent::Message, Status>> {
    let (messages, queue) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let message = match inbound.message().await {
                Ok(Some(message)) => message.message.expect("this build knows every message"),
                Ok(None) => return,
                Err(status) => {
                    messages.send(Err(status)).await.ok();
                    return;
                }
            };
            if let to_agent::Message::Ping(_) = message {
                pongs.send(v1::ToMaster { message: Some(to_master::Message::Pong(v1::Pong {})) }).await.ok();
            } else if messages.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    queue
}

pub(crate) fn update(sequence: u64, batch: &str, state: v1::TaskState) -> v1::Update {
    let status = v1::TaskStatus { state: state.into(), usage: Some(v1::Usage::default()), ..Default::default() };
    v1::Update { sequence, batch_id: batch.to_owned(), first: 0, count: 1, status: Some(status), usages: None }
}

/// A framework that does nothing unasked.
pub(crate) struct Framework {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) epoch: u64,
    pub(crate) framework_epoch: u64,
    calls: mpsc::Sender<v1::CallEnvelope>,
    events: Streaming<v1::EventEnvelope>,
    /// What came while something else was waited for.
    offers: VecDeque<v1::Offer>,
    updates: VecDeque<v1::Update>,
}

pub(crate) fn subscribe(role: &str) -> v1::Subscribe {
    let info = v1::FrameworkInfo {
        name: "test".to_owned(),
        roles: vec![role.to_owned()],
        failover_timeout_micros: 60_000_000,
        ..Default::default()
    };
    v1::Subscribe { hello: Some(hello()), info: Some(info), ..Default::default() }
}

impl Framework {
    pub(crate) async fn start(master: &Master, role: &str) -> Framework {
        Framework::try_start(master.channel().await, subscribe(role), None).await.unwrap()
    }

    pub(crate) async fn try_start(
        channel: Channel,
        subscribe: v1::Subscribe,
        token: Option<&str>,
    ) -> Result<Framework, Status> {
        let (calls, outbound) = mpsc::channel(64);
        let secret = subscribe.secret.clone();
        calls.send(v1::CallEnvelope { framework_epoch: 0, call: Some(Call::Subscribe(subscribe)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(outbound));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let events = SchedulerClient::new(channel).connect(request).await?.into_inner();
        let mut framework = Framework {
            id: String::new(),
            secret,
            epoch: 0,
            framework_epoch: 0,
            calls,
            events,
            offers: VecDeque::new(),
            updates: VecDeque::new(),
        };
        match framework.next().await? {
            Event::Subscribed(subscribed) => {
                framework.id = subscribed.framework_id;
                framework.epoch = subscribed.epoch;
                framework.framework_epoch = subscribed.framework_epoch;
                if !subscribed.secret.is_empty() {
                    framework.secret = subscribed.secret;
                }
                Ok(framework)
            }
            Event::Error(error) => Err(Status::permission_denied(error.message)),
            other => panic!("expected an answer to the subscription, got {other:?}"),
        }
    }

    /// Whether the call could still be sent.
    pub(crate) async fn call(&self, call: Call) -> bool {
        let envelope = v1::CallEnvelope { framework_epoch: self.framework_epoch, call: Some(call) };
        self.calls.send(envelope).await.is_ok()
    }

    pub(crate) fn calls(&self) -> mpsc::Sender<v1::CallEnvelope> {
        self.calls.clone()
    }

    pub(crate) async fn next(&mut self) -> Result<Event, Status> {
        loop {
            let event = soon("an event for the framework", self.events.message()).await?;
            let event = event.ok_or_else(|| Status::ok("the stream has ended"))?;
            let event = event.event.expect("this build knows every event");
            if !matches!(event, Event::Heartbeat(_) | Event::Tasks(_)) {
                return Ok(event);
            }
        }
    }

    pub(crate) async fn next_offer(&mut self) -> v1::Offer {
        loop {
            match self.offers.pop_front() {
                Some(offer) => return offer,
                None => self.sort_next().await,
            }
        }
    }

    pub(crate) async fn next_update(&mut self) -> v1::Update {
        loop {
            match self.updates.pop_front() {
                Some(update) => return update,
                None => self.sort_next().await,
            }
        }
    }

    async fn sort_next(&mut self) {
        match self.next().await.unwrap() {
            Event::Offers(offers) => self.offers.extend(offers.offers),
            Event::Rescinded(gone) => self.offers.retain(|offer| !gone.offer_ids.contains(&offer.id)),
            Event::Updates(updates) => self.updates.extend(updates.updates),
            _ => {}
        }
    }

    /// Launches one task on the next offer and takes it off the agent's hands.
    pub(crate) async fn launch(&mut self, agent: &mut Agent, id: &str) -> v1::LaunchTasks {
        let offer = self.next_offer().await;
        let template = v1::TaskSpec {
            kind: v1::TaskKind::Command.into(),
            module: format!("sha256:{}", "0".repeat(64)),
            resources: resources("cpus:1;mem:64MiB"),
            ..Default::default()
        };
        let launch = v1::Launch { id: id.to_owned(), array: None, slots: 1, template: Some(template) };
        let accept = v1::Accept {
            offer_ids: vec![offer.id],
            launches: vec![launch],
            refuse_micros: Some(0),
            ..Default::default()
        };
        assert!(self.call(Call::Accept(accept)).await);
        agent.next_launch().await
    }
}
