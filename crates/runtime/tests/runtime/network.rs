//! Guests that try the network: what is granted works, everything else is refused, counted and told.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use holm_model::{ListenOn, NetPattern, NetworkGrants, PreparedNetwork, Ranges, TaskState};
use holm_runtime::{Command, NetworkPolicy};
use holm_test_programs::NET_PROBE;

use crate::harness::{Done, ENGINE, command, program_of, queue, run_program, submit};

fn patterns(texts: &[String]) -> Vec<NetPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What a task is granted, and what its agent's operator allows.
fn policy(grants: &[String], allowed: &[String]) -> NetworkPolicy {
    let grants = NetworkGrants { outbound: patterns(grants), listen: None };
    let prepared = PreparedNetwork { allowed: patterns(allowed), ..PreparedNetwork::default() };
    NetworkPolicy::new(grants, Ranges::default(), prepared)
}

fn probing(args: &[String], policy: NetworkPolicy) -> Command {
    let mut command = Command { network: Arc::new(policy), ..command() };
    command.args.extend_from_slice(args);
    command
}

fn probe(args: &[String], policy: NetworkPolicy) -> Done {
    let done = run_program(&program_of(&ENGINE, &NET_PROBE.p2_bytes().unwrap()), probing(args, policy));
    assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
    done
}

/// A server that says "hi" to everybody and keeps the connections open for as long as `hold`.
fn server(hold: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"hi");
            if hold {
                held.push(stream);
            }
        }
    });
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn what_is_granted_and_allowed_is_reached_and_nothing_else() {
    let (open, other) = (server(false), server(false));
    let grant = vec![format!("127.0.0.1:{open}")];
    let tries = [
        format!("tcp:127.0.0.1:{open}"),
        format!("tcp:127.0.0.1:{other}"),
        "tcp:169.254.169.254:80".to_owned(),
        "tcp:10.255.255.1:80".to_owned(),
        format!("tcp:[::1]:{open}"),
    ];
    let done = probe(&tries, policy(&grant, &grant));
    assert!(done.stdout.contains(&format!("tcp:127.0.0.1:{open} said hi")), "{}", done.stdout);
    assert_eq!(done.stdout.matches("PermissionDenied").count(), 4, "{}", done.stdout);
    assert_eq!(done.end.network_refusals, 4);
    let told = format!("holm: network: tcp to 127.0.0.1:{other} is refused: it is not granted to the task");
    assert!(done.stderr.contains(&told), "{}", done.stderr);
}

#[test]
fn the_operator_has_the_last_word_and_the_cluster_stays_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let master = listener.local_addr().unwrap();
    let everything = vec!["127.0.0.0/8:*".to_owned()];
    let tries = [format!("tcp:{master}")];
    let public = vec!["*:*".to_owned(), "0.0.0.0/0:*".to_owned()];
    let done = probe(&tries, policy(&everything, &public));
    assert!(done.stdout.contains("PermissionDenied"), "{}", done.stdout);
    assert!(done.stderr.contains("it is in 127.0.0.0/8, which the agent's operator has not opened"), "{}", done.stderr);

    let prepared =
        PreparedNetwork { allowed: patterns(&everything), cluster: vec![master], ..PreparedNetwork::default() };
    let grants = NetworkGrants { outbound: patterns(&everything), listen: None };
    let done = probe(&tries, NetworkPolicy::new(grants, Ranges::default(), prepared));
    assert!(done.stderr.contains("it is an endpoint of the cluster itself"), "{}", done.stderr);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody may have connected");
}

#[test]
fn datagrams_go_only_where_they_may() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((bytes, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..bytes], from);
        }
    });
    let grant = vec![format!("udp:127.0.0.1:{port}")];
    let tries = [format!("udp:127.0.0.1:{port}"), format!("udp:{}", other.local_addr().unwrap())];
    let done = probe(&tries, policy(&grant, &grant));
    assert!(done.stdout.contains("said ping"), "{}", done.stdout);
    assert!(done.stdout.contains("PermissionDenied"), "{}", done.stdout);
    assert_eq!(other.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn names_are_looked_up_only_if_granted_and_never_lead_to_this_host() {
    let port = server(false);
    let tries = [format!("resolve:localhost:{port}")];
    let by_address = vec![format!("127.0.0.1:{port}")];
    let done = probe(&tries, policy(&by_address, &by_address));
    assert!(!done.stdout.contains("said"), "{}", done.stdout);
    assert!(done.stderr.contains("looking up localhost is refused: it is not granted to the task"), "{}", done.stderr);
    // Whoever controls what a name resolves to does not control what the task reaches.
    let by_name = vec![format!("localhost:{port}")];
    let generous = vec![format!("localhost:{port}"), "127.0.0.0/8:*".to_owned(), "[::1]:*".to_owned()];
    let done = probe(&tries, policy(&by_name, &generous));
    assert!(!done.stdout.contains("said"), "{}", done.stdout);
    assert!(done.stderr.contains("localhost at 127.0.0.1 is refused"), "{}", done.stderr);
}

#[test]
fn a_task_listens_on_the_ports_it_holds_and_on_no_other() {
    let (held, foreign) = (free_port(), free_port());
    let grants = NetworkGrants { outbound: Vec::new(), listen: Some(ListenOn::Loopback) };
    let prepared = PreparedNetwork { listen: Some("127.0.0.1".parse().unwrap()), ..PreparedNetwork::default() };
    let policy = NetworkPolicy::new(grants, Ranges::new([(held.into(), held.into())]), prepared);
    // "Anywhere" is where the task may listen.
    let tries = [format!("listen:127.0.0.1:{foreign}"), format!("listen:0.0.0.0:{held}")];
    let queue = queue(1);
    let running = submit(&queue, &program_of(&ENGINE, &NET_PROBE.p2_bytes().unwrap()), probing(&tries, policy));
    running.wait_until_started();
    let mut stream = (0..1000).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        TcpStream::connect(("127.0.0.1", held)).ok()
    });
    let mut said = String::new();
    stream.as_mut().expect("the task listens").read_to_string(&mut said).unwrap();
    let done = running.wait();
    assert_eq!(said, "from the task");
    assert!(done.stdout.contains(&format!("listen:127.0.0.1:{foreign} PermissionDenied")), "{}", done.stdout);
    assert!(done.stderr.contains(&format!("listening on 127.0.0.1:{held}")), "{}", done.stderr);
    assert!(done.stderr.contains("the task does not hold that port"), "{}", done.stderr);
}

#[test]
fn a_task_has_no_more_sockets_than_the_limit() {
    let port = server(true);
    let grant = vec![format!("127.0.0.1:{port}")];
    let done = probe(&[format!("many:127.0.0.1:{port}/300")], policy(&grant, &grant));
    assert!(done.stdout.contains("held 256 then"), "{}", done.stdout);
    assert!(done.stderr.contains("the task has 256, the limit is 256"), "{}", done.stderr);
}
