//! The driver against masters that do what the test says, over real connections.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use holm_proto::v1::scheduler_server::{Scheduler as Service, SchedulerServer};
use holm_proto::v1::{CallEnvelope, EventEnvelope};
use holm_proto::{FromFramework, pages};
use holm_sdk::model::{
    AgentId, Call, Epoch, FrameworkId, FrameworkInfo, Incarnation, Launch, Offer, OfferId, Refusal, Role,
    SchedulerEvent, Secret, Source, Subscribe, TaskRange, TaskSpec, TaskState, TaskStatus, Update, Usages,
};
use holm_sdk::{Calls, Driver, DriverError, Event, Handle, OnFinish, Options, Outcome, Scheduler, framework_info};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// No wait in these tests is for a duration; this only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream as the test sees it from the master's side.
struct Peer {
    token: Option<String>,
    inbound: Streaming<CallEnvelope>,
    outbound: mpsc::Sender<Result<EventEnvelope, Status>>,
}

impl Peer {
    async fn say(&self, event: SchedulerEvent) {
        for envelope in pages::event(&event) {
            self.outbound.send(Ok(envelope)).await.unwrap();
        }
    }

    async fn refuse(self, status: Status) {
        self.outbound.send(Err(status)).await.unwrap();
    }

    async fn hear(&mut self) -> FromFramework {
        let envelope = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("something is said");
        FromFramework::try_from(envelope.unwrap().unwrap()).unwrap()
    }

    async fn subscribe(&mut self) -> (Subscribe, bool) {
        let FromFramework::Subscribe { subscribe, secret } = self.hear().await else { panic!("not a subscription") };
        (subscribe, secret.is_some())
    }

    async fn call(&mut self) -> Call {
        let FromFramework::Call { call, .. } = self.hear().await else { panic!("a second subscription") };
        call
    }

    async fn confirm(&self, framework_epoch: u64) {
        self.say(SchedulerEvent::Subscribed {
            framework: FrameworkId::new(Epoch(1), 1),
            secret: (framework_epoch == 1).then(|| Secret::from_bytes([1; 32])),
            epoch: Epoch(1),
            framework_epoch,
            pending_agents: Vec::new(),
        })
        .await;
    }
}

struct Master {
    peers: mpsc::Sender<Peer>,
}

#[tonic::async_trait]
impl Service for Master {
    type ConnectStream = ReceiverStream<Result<EventEnvelope, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<CallEnvelope>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (outbound, events) = mpsc::channel(16);
        self.peers.send(Peer { token, inbound: request.into_inner(), outbound }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(events)))
    }
}

/// A master: its address, and the streams that are opened to it.
async fn master() -> (SocketAddr, mpsc::Receiver<Peer>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peers, opened) = mpsc::channel(16);
    let server = tonic::transport::Server::builder().add_service(SchedulerServer::new(Master { peers }));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, opened)
}

async fn next(peers: &mut mpsc::Receiver<Peer>) -> Peer {
    tokio::time::timeout(PATIENCE, peers.recv()).await.expect("a stream is opened").unwrap()
}

/// Tells the test what it is told; does what the test says.
struct Puppet<F> {
    heard: mpsc::Sender<Event>,
    react: F,
}

impl<F: FnMut(&Event, &mut Calls) + Send> Scheduler for Puppet<F> {
    fn describe(&self) -> FrameworkInfo {
        framework_info("puppet", [Role::default_role()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            (self.react)(&event, calls);
            // The channel is larger than anything a test has to say.
            self.heard.try_send(event).unwrap();
        }
    }
}

type Running = JoinHandle<Result<Outcome, DriverError>>;

fn start<F>(options: Options, react: F) -> (Running, Handle, mpsc::Receiver<Event>)
where
    F: FnMut(&Event, &mut Calls) + Send + 'static,
{
    let (heard, events) = mpsc::channel(1 << 14);
    let (driver, handle) = Driver::new(options).unwrap();
    let running = tokio::spawn(async move { driver.run(&mut Puppet { heard, react }).await });
    (running, handle, events)
}

fn to(addresses: &[SocketAddr]) -> Options {
    Options { masters: addresses.iter().map(ToString::to_string).collect(), ..Options::default() }
}

async fn end(running: Running) -> Result<Outcome, DriverError> {
    tokio::time::timeout(PATIENCE, running).await.expect("the driver ends").unwrap()
}

fn offer(number: u64) -> Offer {
    Offer {
        id: OfferId::new(Epoch(1), number),
        framework: FrameworkId::new(Epoch(1), 1),
        role: Role::default_role(),
        agent: AgentId::new(Epoch(1), 1),
        hostname: "host".into(),
        resources: "cpus:4;mem:1GiB".parse().unwrap(),
        portions: holm_model::Portions::unreserved("cpus:4;mem:1GiB".parse().unwrap()),
        attributes: Default::default(),
        demand: None,
        gang: None,
    }
}

fn launch(id: &str) -> Launch {
    let spec = TaskSpec { resources: "cpus:1;mem:16MiB".parse().unwrap(), ..TaskSpec::default() };
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: spec.into() }
}

fn update(sequence: u64, id: &str, state: TaskState) -> SchedulerEvent {
    let (batch, status) = (id.parse().unwrap(), TaskStatus::of(state));
    let update = Update { sequence, batch, first: 0, count: 1, status, usages: Usages::default() };
    let agent = AgentId::new(Epoch(1), 1);
    SchedulerEvent::Updates { agent, incarnation: Incarnation(1), source: Source::Agent, updates: vec![update] }
}

#[tokio::test]
async fn a_framework_launches_acknowledges_and_ends() {
    let (address, mut peers) = master().await;
    let (running, mut handle, _events) = start(to(&[address]), |event, calls| match event {
        Event::Offers(offers) => calls.accept([offers[0].id], vec![launch("job")], Refusal::NONE),
        Event::Updates(updates) if updates[0].status.state.is_terminal() => calls.finish(7, "done"),
        _ => {}
    });
    let mut peer = next(&mut peers).await;
    assert_eq!(peer.subscribe().await.0.info.name.as_ref(), "puppet");
    peer.confirm(1).await;
    assert_eq!(handle.registered().await.unwrap().framework, FrameworkId::new(Epoch(1), 1));
    peer.say(SchedulerEvent::Offers(vec![offer(1)])).await;
    assert!(matches!(peer.call().await, Call::Accept { launches, .. } if launches == [launch("job")]));
    peer.say(update(1, "job", TaskState::Running)).await;
    assert!(matches!(peer.call().await, Call::Acknowledge { sequence: 1, .. }));
    peer.say(update(2, "job", TaskState::Finished)).await;
    assert!(matches!(peer.call().await, Call::Acknowledge { sequence: 2, .. }));
    assert_eq!(peer.call().await, Call::Teardown);
    peer.refuse(Status::aborted("torn down by the framework itself")).await;
    let outcome = end(running).await.unwrap();
    assert_eq!((outcome.code, outcome.report.as_slice()), (7, b"done".as_slice()));
    assert!(handle.input("late").await.is_err());
}

#[tokio::test]
async fn a_framework_comes_back_with_its_id_and_loses_its_offers_in_between() {
    let (address, mut peers) = master().await;
    let (running, _handle, mut events) = start(to(&[address]), |_, _| {});
    let mut peer = next(&mut peers).await;
    assert_eq!(peer.subscribe().await.0.id, None);
    peer.confirm(1).await;
    peer.say(SchedulerEvent::Offers(vec![offer(1)])).await;
    assert!(matches!(events.recv().await, Some(Event::Registered { .. })));
    assert!(matches!(events.recv().await, Some(Event::Offers(_))));
    drop(peer);
    assert_eq!(events.recv().await, Some(Event::Rescinded(vec![offer(1).id])));
    assert!(matches!(events.recv().await, Some(Event::Disconnected { .. })));
    let mut peer = next(&mut peers).await;
    let (subscribe, proof) = peer.subscribe().await;
    assert_eq!((subscribe.id, proof), (Some(FrameworkId::new(Epoch(1), 1)), true));
    peer.confirm(2).await;
    assert!(matches!(events.recv().await, Some(Event::Registered { .. })));
    running.abort();
}

#[tokio::test]
async fn a_framework_that_was_ended_by_somebody_else_says_so() {
    let (address, mut peers) = master().await;
    let (running, _handle, _events) = start(to(&[address]), |_, _| {});
    let mut peer = next(&mut peers).await;
    peer.subscribe().await;
    peer.confirm(1).await;
    peer.say(SchedulerEvent::Error { message: "torn down by the operator".into(), fatal: true }).await;
    peer.refuse(Status::aborted("torn down by the operator")).await;
    assert_eq!(end(running).await, Err(DriverError::Refused("torn down by the operator".to_owned())));
}

#[tokio::test]
async fn a_standby_leads_to_the_leader() {
    let (standby, mut at_standby) = master().await;
    let (leader, mut at_leader) = master().await;
    let (running, _handle, mut events) = start(to(&[standby]), |_, _| {});
    let mut status = Status::unavailable("this master does not lead");
    status.metadata_mut().insert("holm-leader", leader.to_string().parse().unwrap());
    next(&mut at_standby).await.refuse(status).await;
    let mut peer = next(&mut at_leader).await;
    peer.subscribe().await;
    peer.confirm(1).await;
    assert!(matches!(events.recv().await, Some(Event::Registered { .. })));
    running.abort();
}

#[tokio::test]
async fn an_address_without_a_master_is_named_after_a_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = Options { connect_within: Some(Duration::from_millis(200)), ..to(&[address]) };
    let error = end(start(options, |_, _| {}).0).await.unwrap_err();
    let DriverError::NoMaster { masters, last, .. } = &error else { panic!("{error}") };
    assert_eq!(*masters, address.to_string());
    assert!(last.contains("refused"), "{error}");

    let bad = Options { masters: vec!["nowhere".to_owned()], ..Options::default() };
    assert!(matches!(Driver::new(bad).map(|_| ()), Err(DriverError::Address(_))));
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_framework_with_its_reason() {
    let (address, mut peers) = master().await;
    let options = Options { token: Some("s3cret".to_owned()), ..to(&[address]) };
    let (running, _handle, _events) = start(options, |_, _| {});
    let peer = next(&mut peers).await;
    assert_eq!(peer.token.as_deref(), Some("Bearer s3cret"));
    peer.refuse(Status::unauthenticated("the token is wrong")).await;
    let error = end(running).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(message) if message.contains("the token is wrong")), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_master_is_called_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = holm_proto::v1::blobs_server::BlobsServer::new(NoBlobs);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(other).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let error = end(start(to(&[address]), |_, _| {}).0).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(message) if message.contains("not a Holm master")), "{error}");
}

#[tokio::test]
async fn inputs_and_timers_reach_the_scheduler() {
    let (address, mut peers) = master().await;
    let (running, handle, mut events) = start(to(&[address]), |event, calls| match event {
        Event::Input(bytes) if bytes == b"wake" => calls.set_timer(9, Duration::ZERO),
        Event::Timer(9) => calls.abort("enough"),
        _ => {}
    });
    let mut peer = next(&mut peers).await;
    peer.subscribe().await;
    handle.input("wake").await.unwrap();
    assert_eq!(events.recv().await, Some(Event::Input(b"wake".to_vec())));
    assert_eq!(events.recv().await, Some(Event::Timer(9)));
    assert_eq!(end(running).await, Err(DriverError::Aborted("enough".to_owned())));
}

#[tokio::test]
async fn a_scheduler_that_asks_faster_than_the_master_reads_loses_nothing() {
    const KILLS: usize = 3 * holm_sdk::MAX_OUTBOX;
    let (address, mut peers) = master().await;
    let (running, handle, mut events) = start(to(&[address]), |event, calls| {
        if let Event::Input(_) = event {
            (0..KILLS).for_each(|task| calls.kill(format!("t{task}").parse().unwrap(), None));
        }
    });
    let mut peer = next(&mut peers).await;
    peer.subscribe().await;
    peer.confirm(1).await;
    assert!(matches!(events.recv().await, Some(Event::Registered { .. })));
    handle.input("go").await.unwrap();
    for task in 0..KILLS {
        let expected = Call::Kill { task: format!("t{task}").parse().unwrap(), grace: None };
        assert_eq!(peer.call().await, expected);
    }
    running.abort();
}

#[tokio::test]
async fn a_framework_that_leaves_is_not_torn_down() {
    let (address, mut peers) = master().await;
    let options = Options { on_finish: OnFinish::Leave, ..to(&[address]) };
    let (running, _handle, _events) = start(options, |event, calls| {
        if let Event::Offers(offers) = event {
            calls.decline([offers[0].id], None);
            calls.finish(3, "");
        }
    });
    let mut peer = next(&mut peers).await;
    peer.subscribe().await;
    peer.confirm(1).await;
    peer.say(SchedulerEvent::Offers(vec![offer(1)])).await;
    assert!(matches!(peer.call().await, Call::Decline { .. }));
    assert!(peer.inbound.message().await.unwrap().is_none(), "nothing follows");
    drop(peer);
    assert_eq!(end(running).await.unwrap().code, 3);
}

struct NoBlobs;

#[tonic::async_trait]
impl holm_proto::v1::blobs_server::Blobs for NoBlobs {
    type PullStream = ReceiverStream<Result<holm_proto::v1::PullChunk, Status>>;

    async fn push(
        &self,
        _: Request<Streaming<holm_proto::v1::PushChunk>>,
    ) -> Result<Response<holm_proto::v1::PushReply>, Status> {
        Err(Status::internal("not here"))
    }

    async fn pull(&self, _: Request<holm_proto::v1::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        Err(Status::internal("not here"))
    }

    async fn stat(
        &self,
        _: Request<holm_proto::v1::StatRequest>,
    ) -> Result<Response<holm_proto::v1::StatReply>, Status> {
        Err(Status::internal("not here"))
    }

    async fn list(
        &self,
        _: Request<holm_proto::v1::ListBlobsRequest>,
    ) -> Result<Response<holm_proto::v1::ListBlobsReply>, Status> {
        Err(Status::internal("not here"))
    }

    async fn remove(
        &self,
        _: Request<holm_proto::v1::RemoveBlobRequest>,
    ) -> Result<Response<holm_proto::v1::RemoveBlobReply>, Status> {
        Err(Status::internal("not here"))
    }
}
