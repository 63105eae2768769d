//! Tries what it is told on the network and says what came of it: one line per argument.
//!
//! `tcp:ADDR` connects, `udp:ADDR` sends a datagram and waits for the answer, `resolve:NAME:PORT` looks a name up and connects
//! to what it is, `listen:ADDR` accepts one connection and answers it, `many:ADDR:N` holds N connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn main() {
    for argument in std::env::args().skip(1) {
        let (what, target) = argument.split_once(':').unwrap_or((&argument, ""));
        let came = match what {
            "tcp" => tcp(target),
            "udp" => udp(target),
            "resolve" => resolve(target),
            "listen" => listen(target),
            "many" => many(target),
            _ => Ok("unknown".to_owned()),
        };
        match came {
            Ok(came) => println!("{argument} {came}"),
            Err(error) => println!("{argument} {:?}", error.kind()),
        }
    }
}

fn tcp(target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(format!("said {text}"))
}

fn udp(target: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind(if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.send_to(b"ping", target)?;
    let mut answer = [0; 64];
    let (bytes, _from) = socket.recv_from(&mut answer)?;
    Ok(format!("said {}", String::from_utf8_lossy(&answer[..bytes])))
}

fn resolve(target: &str) -> std::io::Result<String> {
    let addresses: Vec<_> = target.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Ok("resolved to nothing".to_owned());
    }
    tcp(target)
}

fn listen(target: &str) -> std::io::Result<String> {
    let listener = TcpListener::bind(target)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let (mut stream, _from) = listener.accept()?;
    stream.write_all(b"from the task")?;
    Ok("served".to_owned())
}

fn many(target: &str) -> std::io::Result<String> {
    let (address, count) = target.rsplit_once('/').unwrap_or((target, "1"));
    let mut held = Vec::new();
    for _ in 0..count.parse().unwrap_or(1) {
        match TcpStream::connect(address) {
            Ok(stream) => held.push(stream),
            Err(error) => return Ok(format!("held {} then {:?}", held.len(), error.kind())),
        }
    }
    Ok(format!("held {}", held.len()))
}
