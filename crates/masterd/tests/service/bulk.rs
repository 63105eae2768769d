//! Logs and files, from an agent through the master to an operator.

use bytes::Bytes;
use holm_proto::v1::{self, bulk_client::BulkClient, frame::Body, open::Request as Ask};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::harness::{Agent, Framework, Master, options, soon, update};

/// The bulk connection of an agent.
struct Bulk {
    client: BulkClient<Channel>,
    requests: Streaming<v1::Open>,
}

impl Bulk {
    async fn attach(master: &Master, agent: &Agent) -> Bulk {
        let mut client = BulkClient::new(master.channel().await);
        let request = v1::AttachRequest { agent_id: agent.id.clone(), secret: agent.secret.clone() };
        let requests = client.attach(request).await.unwrap().into_inner();
        Bulk { client, requests }
    }

    async fn next(&mut self) -> (u64, Ask) {
        let open = soon("a request for the agent", self.requests.message()).await.unwrap().unwrap();
        (open.channel, open.request.unwrap())
    }

    /// Starts an answer; what is sent into it are its frames.
    fn answer(&self, channel: u64) -> (mpsc::Sender<v1::Frame>, tokio::task::JoinHandle<v1::Closed>) {
        let (frames, stream) = mpsc::channel(1);
        let mut client = self.client.clone();
        let done = tokio::spawn(async move { client.respond(ReceiverStream::new(stream)).await.unwrap().into_inner() });
        frames.try_send(v1::Frame { channel, body: None }).unwrap();
        (frames, done)
    }

    async fn answer_all(&self, channel: u64, bodies: Vec<Body>) -> v1::Closed {
        let (frames, done) = self.answer(channel);
        let end = Body::End(v1::EndOfAnswer {});
        for body in bodies.into_iter().chain([end]) {
            frames.send(v1::Frame { channel: 0, body: Some(body) }).await.ok();
        }
        drop(frames);
        soon("the answer is complete", done).await.unwrap()
    }
}

fn log(task: &str, data: &'static str) -> Body {
    let stream = v1::LogStream::Stdout.into();
    Body::Log(v1::LogRecord {
        task_id: task.to_owned(),
        stream,
        data: Bytes::from_static(data.as_bytes()),
        ..Default::default()
    })
}

struct Cluster {
    master: Master,
    agent: Agent,
    bulk: Bulk,
    framework: Framework,
    operator: v1::operator_client::OperatorClient<Channel>,
    _dir: tempfile::TempDir,
}

async fn cluster_with_job() -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let bulk = Bulk::attach(&master, &agent).await;
    let mut framework = Framework::start(&master, "eng").await;
    framework.launch(&mut agent, "job").await;
    agent.report(&framework.id, update(1, "job", v1::TaskState::Running)).await;
    framework.next_update().await;
    let operator = master.operator().await;
    // The read model follows the master on a thread of its own.
    let request = v1::ListTasksRequest { states: vec![v1::TaskState::Running.into()], ..Default::default() };
    let listed = || {
        let (mut operator, request) = (operator.clone(), request.clone());
        async move {
            let tasks = operator.list_tasks(request).await.unwrap().into_inner().tasks;
            (!tasks.is_empty()).then_some(())
        }
    };
    master.until("the task is listed as running", listed).await;
    Cluster { master, agent, bulk, framework, operator, _dir: dir }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_errors_come_through_as_the_agent_gave_them() {
    let Cluster { master, mut bulk, framework, mut operator, .. } = cluster_with_job().await;
    let agent_side = tokio::spawn(async move {
        let (channel, Ask::ListFiles(ask)) = bulk.next().await else { panic!("expected a listing") };
        assert_eq!((ask.framework_id, ask.path.as_str()), (framework.id.clone(), "out"));
        let entry = v1::FileEntry { name: "a.txt".to_owned(), size: 3, directory: false };
        bulk.answer_all(channel, vec![Body::File(entry)]).await;
        let (channel, Ask::ReadFile(_)) = bulk.next().await else { panic!("expected a file") };
        let pieces = vec![Body::Chunk(Bytes::from_static(b"ab")), Body::Chunk(Bytes::from_static(b"c"))];
        bulk.answer_all(channel, pieces).await;
        let (channel, _) = bulk.next().await;
        let (frames, done) = bulk.answer(channel);
        let half = Some(Body::Chunk(Bytes::from_static(b"half of")));
        frames.send(v1::Frame { channel: 0, body: half }).await.unwrap();
        drop(frames);
        done.await.unwrap();
        let (channel, _) = bulk.next().await;
        let error = v1::BulkError { code: 5, message: "no file b.txt".to_owned() };
        bulk.answer_all(channel, vec![Body::Error(error)]).await;
        (bulk, framework)
    });
    let ask = v1::ListFilesRequest { task_id: "job".to_owned(), path: "out".to_owned(), ..Default::default() };
    let entry = operator.list_files(ask).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(entry.name, "a.txt");
    let ask =
        |path: &str| v1::ReadFileRequest { task_id: "job".to_owned(), path: path.to_owned(), ..Default::default() };
    let mut file = operator.read_file(ask("out/a.txt")).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = file.message().await.unwrap() {
        text.extend_from_slice(&chunk.data);
    }
    assert_eq!(text, b"abc");
    let mut cut = operator.read_file(ask("out/large")).await.unwrap().into_inner();
    assert_eq!(&cut.message().await.unwrap().unwrap().data[..], b"half of");
    assert_eq!(cut.message().await.unwrap_err().code(), Code::Unavailable, "half a file passed for all of it");
    let missing = operator.read_file(ask("b.txt")).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "no file b.txt"));
    soon("the agent's side", agent_side).await.unwrap();
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_a_framework_reads_each_launch_from_its_start_until_the_framework_ends() {
    let Cluster { master, mut agent, mut bulk, mut framework, mut operator, .. } = cluster_with_job().await;
    let ask = v1::ReadLogsRequest { framework_id: framework.id.clone(), follow: true, ..Default::default() };
    let mut logs = operator.read_logs(ask).await.unwrap().into_inner();
    let (first, Ask::ReadLogs(ask)) = bulk.next().await else { panic!("expected a request for logs") };
    assert_eq!((ask.task_id.as_str(), ask.follow, ask.from_start), ("job", true, true));
    let (frames, first_done) = bulk.answer(first);
    frames.send(v1::Frame { channel: 0, body: Some(log("job", "one")) }).await.unwrap();
    let record = soon("the first record", logs.message()).await.unwrap().unwrap();
    assert_eq!((record.framework_id.as_str(), record.agent_id.as_str()), (framework.id.as_str(), agent.id.as_str()));
    assert_eq!(&record.data[..], b"one");

    framework.launch(&mut agent, "later").await;
    let (second, Ask::ReadLogs(ask)) = bulk.next().await else { panic!("expected a request for logs") };
    assert_eq!((ask.task_id.as_str(), ask.from_start), ("later", true));
    // The agent does not know the launch yet; it is asked again.
    let error = v1::BulkError { code: 5, message: "unknown".to_owned() };
    bulk.answer_all(second, vec![Body::Error(error)]).await;
    let (third, _) = bulk.next().await;
    bulk.answer_all(third, vec![log("later", "two")]).await;
    let record = soon("the second record", logs.message()).await.unwrap().unwrap();
    assert_eq!((record.task_id.as_str(), &record.data[..]), ("later", &b"two"[..]));
    drop(frames);
    assert!(!soon("the first answer", first_done).await.unwrap().cancelled);
    // Both tasks are live, so both are asked for again until they are not.
    let again = tokio::spawn(async move {
        loop {
            let (channel, _) = bulk.next().await;
            bulk.answer_all(channel, Vec::new()).await;
        }
    });

    let teardown = v1::TeardownFrameworkRequest { framework_id: framework.id.clone() };
    operator.teardown_framework(teardown).await.unwrap();
    assert!(soon("the end of the logs", logs.message()).await.unwrap().is_none());
    again.abort();
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_every_byte_once_although_the_agent_restarts() {
    let Cluster { master, agent, mut bulk, mut framework, mut operator, _dir } = cluster_with_job().await;
    let ask = v1::ReadLogsRequest { task_id: "job".to_owned(), follow: true, ..Default::default() };
    let mut logs = operator.read_logs(ask).await.unwrap().into_inner();
    let (channel, _) = bulk.next().await;
    let (frames, done) = bulk.answer(channel);
    frames.send(v1::Frame { channel: 0, body: Some(log("job", "one ")) }).await.unwrap();
    assert_eq!(&soon("the first record", logs.message()).await.unwrap().unwrap().data[..], b"one ");
    done.abort();
    assert!(done.await.unwrap_err().is_cancelled());
    drop((frames, bulk));

    // One that stops in good order ends its answers, and the task still runs.
    let mut bulk = Bulk::attach(&master, &agent).await;
    let (channel, _) = bulk.next().await;
    bulk.answer_all(channel, vec![log("job", "one "), log("job", "two ")]).await;
    assert_eq!(&soon("the second record", logs.message()).await.unwrap().unwrap().data[..], b"two ");
    let (channel, _) = bulk.next().await;
    agent.report(&framework.id, update(2, "job", v1::TaskState::Finished)).await;
    framework.next_update().await;
    bulk.answer_all(channel, vec![log("job", "one two "), log("job", "three")]).await;
    assert_eq!(&soon("the third record", logs.message()).await.unwrap().unwrap().data[..], b"three");
    soon("the end", async {
        // Until the read model knows that the task has ended, the agent may be asked once more.
        loop {
            tokio::select! {
                end = logs.message() => break assert!(end.unwrap().is_none()),
                (channel, _) = bulk.next() => drop(bulk.answer_all(channel, Vec::new()).await),
            }
        }
    })
    .await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_stops_the_agent_and_one_that_stands_still_holds_up_only_its_own_answer() {
    let Cluster { master, mut bulk, framework, mut operator, .. } = cluster_with_job().await;
    let ask = || v1::ReadLogsRequest { task_id: "job".to_owned(), follow: true, ..Default::default() };
    let stuck = operator.read_logs(ask()).await.unwrap().into_inner();
    let (channel, _) = bulk.next().await;
    let (frames, stuck_done) = bulk.answer(channel);
    let writer = tokio::spawn(async move {
        let line: &'static str = Box::leak("x".repeat(64 << 10).into_boxed_str());
        let mut sent = 0;
        while sent < 10_000 && frames.send(v1::Frame { channel: 0, body: Some(log("job", line)) }).await.is_ok() {
            sent += 1;
        }
        sent
    });
    // While that one is stuck, another reader of the same agent gets everything.
    let mut reader = operator.read_logs(ask()).await.unwrap().into_inner();
    let (channel, _) = bulk.next().await;
    bulk.answer_all(channel, vec![log("job", "fine")]).await;
    assert_eq!(&soon("the record", reader.message()).await.unwrap().unwrap().data[..], b"fine");
    drop(stuck);
    assert!(soon("the agent is told to stop", stuck_done).await.unwrap().cancelled);
    assert!(soon("the writer", writer).await.unwrap() < 10_000, "the master swallowed 640 MB that nobody read");
    drop(framework);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_away_or_lies_about_its_secret_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.bulk_answer = std::time::Duration::from_millis(100);
    let master = Master::start_with(options).await;
    let mut agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut client = BulkClient::new(master.channel().await);
    let forged = v1::AttachRequest { agent_id: agent.id.clone(), secret: "0".repeat(64) };
    assert_eq!(client.attach(forged).await.unwrap_err().code(), Code::Unauthenticated);
    let unasked = client.respond(tokio_stream::iter([v1::Frame { channel: 1, body: None }])).await.unwrap_err();
    assert_eq!(unasked.code(), Code::Unauthenticated);

    let mut framework = Framework::start(&master, "eng").await;
    framework.launch(&mut agent, "job").await;
    let mut operator = master.operator().await;
    let ask = || v1::ListFilesRequest { task_id: "job".to_owned(), ..Default::default() };
    let away = master
        .until("the task is known", || {
            let mut operator = operator.clone();
            async move { operator.list_files(ask()).await.err().filter(|status| status.code() != Code::NotFound) }
        })
        .await;
    assert_eq!(away.code(), Code::Unavailable, "{away}");
    let mut bulk = Bulk::attach(&master, &agent).await;
    let late = operator.list_files(ask()).await.unwrap_err();
    assert_eq!(late.code(), Code::Unavailable, "{late}");
    let (channel, _) = bulk.next().await;
    let status = bulk.client.respond(tokio_stream::iter([v1::Frame { channel, body: None }])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    master.stop().await;
}
