//! Services and network grants on a real cluster: from the command line to a client's socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use holm_test_programs::HELLO_HTTP;
use rustix::process::Signal;

use crate::harness::{Cluster, p2, wait_for};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

#[test]
fn a_service_serves_on_its_port_until_it_is_stopped_and_says_how_much() {
    let port = free_port();
    let cluster = Cluster::new(&format!("cpus:2;mem:1GiB;ports:[{port}-{port}]"));
    let mut run = cluster.start(
        "service",
        &["run", HELLO_HTTP.path, "--kind", "service", "--name", "web", "--listen", "loopback", "--output", "json"],
    );
    cluster.wait_for_task("web", "RUNNING");
    wait_for("it is said where", || {
        run.said().contains(&format!("web is served at http://127.0.0.1:{port}")).then_some(())
    });
    for _ in 0..10 {
        let (status, answer) = get(port, "/").unwrap();
        assert_eq!((status, answer.contains("hello from a service")), (200, true));
    }
    assert_eq!(get(port, "/trap").unwrap().0, 500);
    assert_eq!(get(port, "/").unwrap().0, 200);
    // The port is taken: no agent has another one for a second service.
    let other = cluster.holm(&["run", HELLO_HTTP.path, "--kind", "service", "--port", "1"]).expect(1);
    assert!(other.stderr.contains("no agent can ever hold the task"), "{other:?}");
    run.signal(Signal::INT);
    assert!(run.wait().success(), "it ends in order: {}", run.said());
    assert!(run.said().contains("\"requests\":12") && run.said().contains("\"failed_requests\":1"), "{}", run.said());
    assert!(get(port, "/").is_none(), "nobody listens any more");
}

#[test]
fn what_is_no_service_is_not_served_and_a_service_is_no_command() {
    let port = free_port();
    let cluster = Cluster::new(&format!("cpus:2;mem:1GiB;ports:[{port}-{port}]"));
    let answer = cluster.holm(&["run", p2("hello"), "--kind", "service"]).expect(1);
    assert!(answer.stderr.contains("INVALID_MODULE") && answer.stderr.contains("world wasi:http/proxy"), "{answer:?}");
    let answer = cluster.holm(&["run", HELLO_HTTP.path]).expect(1);
    assert!(answer.stderr.contains("INVALID_MODULE") && answer.stderr.contains("world wasi:cli/command"), "{answer:?}");
    let answer = cluster.holm(&["run", HELLO_HTTP.path, "--kind", "service", "--seed", "1"]).expect(1);
    assert!(answer.stderr.contains("service has a seed"), "{answer:?}");
}

#[test]
fn the_master_is_out_of_reach_of_tasks_whatever_they_are_granted() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let to = format!("tcp:{}", cluster.address);
    // Nothing is granted.
    let answer = cluster.holm(&["run", p2("net-probe"), "--", &to]).expect(0);
    assert!(answer.stdout.contains("PermissionDenied"), "{answer:?}");
    assert!(answer.stderr.contains("holm: network: a tcp socket is refused"), "{answer:?}");
    // Loopback is nothing that this agent's operator allowed.
    let answer = cluster.holm(&["run", p2("net-probe"), "--allow-net", &cluster.address, "--", &to]).expect(1);
    assert!(answer.stderr.contains("NOT_ALLOWED") && answer.stderr.contains("allowed: *:*, udp:*:*"), "{answer:?}");
    // The internet is not this machine.
    let answer = cluster.holm(&["run", p2("net-probe"), "--allow-net", "*:*", "--", &to]).expect(0);
    assert!(answer.stdout.contains("PermissionDenied"), "{answer:?}");
}

#[test]
fn an_operator_opens_what_tasks_may_ask_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"hi");
        }
    });
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:2;mem:1GiB", &["--allow-net", "127.0.0.0/8:*", "--allow-net", "*:443"]);
    cluster.wait_for_agents(1);
    let (to, master) = (format!("tcp:{open}"), format!("tcp:{}", cluster.address));
    let args = ["run", p2("net-probe"), "--allow-net", "127.0.0.1:*", "--output", "json", "--", &to, &master];
    let answer = cluster.holm(&args).expect(0);
    assert!(answer.stderr.contains(&format!("{to} said hi")), "{answer:?}");
    assert!(answer.stderr.contains(&format!("{master} PermissionDenied")), "{answer:?}");
    assert!(answer.stderr.contains("it is an endpoint of the cluster itself"), "{answer:?}");
    assert_eq!(answer.object()["network_refusals"], 1);
    let answer = cluster.holm(&["run", p2("net-probe"), "--allow-net", "*:80", "--", "tcp:1.1.1.1:80"]).expect(1);
    assert!(answer.stderr.contains("NOT_ALLOWED"), "{answer:?}");
}
