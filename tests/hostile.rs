//! Clients that mean no good: nobody else notices them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Cluster, p1, send_bytes};

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let noise: Vec<u8> = (0u32..1 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let mut open: Vec<TcpStream> = Vec::new();
    open.push(send_bytes(&cluster.address, &noise));
    open.push(send_bytes(&cluster.address, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"));
    open.push(send_bytes(&cluster.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00"));
    // Half a preface, and then nothing, many times over.
    open.extend((0..200).map(|_| send_bytes(&cluster.address, b"PRI * HTTP/2.0\r\n")));
    for _ in 0..3 {
        cluster.holm(&["run", p1("hello")]).expect(0);
    }
    assert_eq!(open.len(), 203);
}

#[test]
fn who_sends_and_never_reads_is_held_up_alone() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let requests = "GET /state.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10_000);
    let streams: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&cluster.address).unwrap();
            stream.set_nonblocking(true).unwrap();
            // As much as the sockets take; the answers are never read.
            let _ = stream.write(requests.as_bytes());
            stream
        })
        .collect();
    cluster.holm(&["run", p1("hello"), "--count", "50"]).expect(0);
    drop(streams);
}

#[test]
fn state_metrics_and_health_are_served_on_the_same_port() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    cluster.holm(&["run", p1("hello"), "--name", "seen"]).expect(0);
    for (path, expected) in [("/healthz", "200"), ("/metrics", "# TYPE"), ("/state.json", "\"agents\"")] {
        let mut stream = TcpStream::connect(&cluster.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(expected), "{path}: {answer}");
    }
}
