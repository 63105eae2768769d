//! What browsers, scrapers and reflection clients get.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Agent, Framework, Master, options, soon};

async fn get(master: &Master, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(master.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: holm\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_there_as_json_metrics_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut framework = Framework::start(&master, "eng").await;
    framework.next_offer().await;
    let state = master
        .until("the offer is shown", || async {
            let (status, body) = get(&master, "/state.json", "").await;
            assert_eq!(status, 200);
            (body.contains("\"offers\":[{")).then_some(body)
        })
        .await;
    let start = state.find('{').unwrap();
    let end = state.rfind('}').unwrap();
    let state: serde_json::Value = serde_json::from_str(&state[start..=end]).unwrap();
    assert_eq!(state["agents"][0]["id"], agent.id.as_str());
    assert_eq!(state["agents"][0]["state"], "ACTIVE");
    assert_eq!(state["frameworks"][0]["id"], framework.id.as_str());
    assert_eq!(state["offers"][0]["resources"], "cpus:4;mem:4GiB");
    assert_eq!(state["cluster"]["address"], master.address.to_string());

    let (status, metrics) = get(&master, "/metrics", "").await;
    assert_eq!(status, 200);
    for line in ["holm_master_agents{state=\"active\"} 1", "holm_master_offers 1", "holm_master_violations_total 0"] {
        assert!(metrics.contains(line), "{line:?} is not in\n{metrics}");
    }
    assert!(get(&master, "/", "").await.1.contains("<title>Holm</title>"));
    assert_eq!(get(&master, "/healthz", "").await.0, 200);
    assert_eq!(get(&master, "/nothing", "").await.0, 404);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_over_http_is_one_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut stream = TcpStream::connect(master.address).await.unwrap();
    stream.write_all(b"GET /watch HTTP/1.1\r\nhost: holm\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    while !text.contains(&agent.id) {
        let read = soon("more of the watch", stream.read(&mut buffer)).await.unwrap();
        assert_ne!(read, 0, "the watch ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(text.contains("snapshot_begin"), "{text}");
    drop(stream);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_watch_want_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "t0ken").unwrap();
    let mut options = options(dir.path());
    options.token_file = Some(token);
    let master = Master::start_with(options).await;
    for path in ["/state.json", "/watch"] {
        assert_eq!(get(&master, path, "").await.0, 401);
        assert_eq!(get(&master, path, "authorization: Bearer wrong\r\n").await.0, 401);
    }
    assert_eq!(get(&master, "/state.json", "authorization: Bearer t0ken\r\n").await.0, 200);
    assert_eq!(get(&master, "/healthz", "").await.0, 200);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() {
    use tonic_reflection::pb::v1 as reflection;
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut health = HealthClient::new(master.channel().await);
    for service in ["", "holm.v1.Scheduler", "holm.v1.Agent", "holm.v1.Operator"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service:?}");
    }
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(master.channel().await);
    let list = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    for service in ["holm.v1.Scheduler", "holm.v1.Blobs", "grpc.health.v1.Health"] {
        assert!(answer.contains(service), "{service} is not in {answer}");
    }
    master.stop().await;
}
