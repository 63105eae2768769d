//! A service under its clients: those that behave, those that do not, and what one request can do to the others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use holm_model::{NetPattern, NetworkGrants, PreparedNetwork, Ranges, Reason, ServiceSpec, TaskKind, TaskState};
use holm_runtime::{Command, NetworkPolicy, Program, Queue, ServiceOptions};
use holm_test_programs::{HELLO, HELLO_HTTP};

use crate::harness::{Done, ENGINE, Run, command, program, program_of, queue, run_program, submit};

static PROGRAM: LazyLock<Program> = LazyLock::new(|| program_of(&ENGINE, &std::fs::read(HELLO_HTTP.path).unwrap()));

/// A service on a free port of this machine.
struct Service {
    address: SocketAddr,
    running: Run,
    /// After the run, so that it is dropped last.
    _queue: Queue,
}

fn serve(limits: ServiceSpec, change: impl FnOnce(&mut Command)) -> Service {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command { service: Some(ServiceOptions { address, limits }), ..command() };
    command.limits.memory_bytes = 64 << 20;
    change(&mut command);
    let queue = queue(1);
    let running = submit(&queue, &PROGRAM, command);
    running.wait_until_started();
    Service { address, running, _queue: queue }
}

fn plain() -> ServiceSpec {
    ServiceSpec::default()
}

/// Sends a whole request and reads the whole answer: its status and everything after it.
fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer to {request:?}: {answer:?}")), answer)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"))
}

impl Service {
    fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path)
    }

    fn stop(self) -> Done {
        assert!(self.running.handle.stop(), "a service hears that it is to stop");
        self.running.wait()
    }
}

#[test]
fn requests_are_answered_and_counted_until_the_service_is_stopped() {
    let service = serve(plain(), |_| {});
    let address = service.address;
    let clients: Vec<_> = (0..20).map(|_| thread::spawn(move || get(address, "/"))).collect();
    for client in clients {
        let (status, answer) = client.join().unwrap();
        assert_eq!(status, 200);
        assert!(answer.contains("hello from a service\n"), "{answer}");
    }
    assert_eq!(service.get("/nowhere").0, 404);
    let (status, answer) = service.get("/big?300000");
    assert_eq!((status, answer.matches('x').count() >= 300_000), (200, true));
    let body = "~".repeat(10_000);
    let echo =
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (status, answer) = ask(address, &echo);
    assert_eq!((status, answer.matches('~').count()), (200, 10_000));
    let done = service.stop();
    assert_eq!(done.status().state, TaskState::Finished, "{}", done.message());
    assert_eq!((done.end.requests, done.end.failed_requests), (23, 0));
    assert!(done.end.cpu > Duration::ZERO && done.end.fuel > 0 && done.end.peak_memory > 0, "{:?}", done.end);
    assert!(done.stderr.contains(&format!("serving http on {address}")), "{}", done.stderr);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_trap_is_an_answer_of_500_and_too_many_in_a_row_end_the_service() {
    let service = serve(ServiceSpec { max_failures: 3, ..plain() }, |_| {});
    for path in ["/trap", "/silent", "/", "/trap", "/trap"] {
        assert_eq!(service.get(path).0, if path == "/" { 200 } else { 500 }, "{path}");
    }
    assert_eq!(service.get("/trap").0, 500);
    let done = service.running.wait();
    let status = done.status();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Trap)), "{}", status.message);
    assert!(status.message.contains("3 requests in a row failed (limit max failures 3)"), "{}", status.message);
    assert!(status.message.contains("wasm backtrace"), "{}", status.message);
    assert_eq!((done.end.requests, done.end.failed_requests), (6, 5));
}

#[test]
fn a_request_that_never_ends_is_cut_off_and_others_go_on_beside_it() {
    let limits = ServiceSpec { request_time: Duration::from_millis(1500), ..plain() };
    let service = serve(limits, |_| {});
    let address = service.address;
    let spinning = thread::spawn(move || (get(address, "/spin").0, Instant::now()));
    thread::sleep(Duration::from_millis(50));
    let answered = (0..5).map(|_| service.get("/").0).collect::<Vec<_>>();
    let last = Instant::now();
    assert_eq!(answered, [200; 5]);
    let (status, cut_off) = spinning.join().unwrap();
    assert_eq!(status, 504);
    assert!(last < cut_off, "the others were answered while it span");
    let done = service.stop();
    assert_eq!(done.end.failed_requests, 1);
    assert!(done.stderr.contains("limit request time"), "{}", done.stderr);
}

#[test]
fn fuel_and_memory_are_limited_per_request_and_for_all_together() {
    let service = serve(ServiceSpec { request_fuel: Some(20_000_000), ..plain() }, |_| {});
    assert_eq!(service.get("/spin").0, 500);
    assert_eq!(service.get("/grow?100").0, 500);
    assert_eq!(service.get("/grow?5").0, 200);
    let done = service.stop();
    assert!(done.stderr.contains("used up its fuel of 20000000 units (limit request fuel)"), "{}", done.stderr);
    assert!(done.stderr.contains("the limit mem is 67108864"), "{}", done.stderr);
    assert!(done.end.peak_memory <= 64 << 20);

    let service = serve(plain(), |command| command.limits.fuel = Some(30_000_000));
    assert_eq!(service.get("/").0, 200);
    // The answer may be lost: the task is over.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"GET /spin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let done = service.running.wait();
    assert_eq!(done.status().reason, Some(Reason::Fuel), "{}", done.message());
}

#[test]
fn what_clients_send_too_much_of_is_refused_before_a_guest_sees_it() {
    let service = serve(ServiceSpec { request_bytes: 1000, concurrency: 2, ..plain() }, |_| {});
    let address = service.address;
    let long = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1001\r\n\r\n";
    assert_eq!(ask(address, long).0, 413);
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    );
    let (_, answer) = ask(address, &chunked);
    assert!(answer.matches('x').count() < 2000, "the guest got more than the limit");
    assert_eq!(ask(address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").0, 400);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "y".repeat(100_000));
    assert_eq!(ask(address, &head).0, 431);

    let sleepers: Vec<_> = (0..2).map(|_| thread::spawn(move || get(address, "/sleep?2000").0)).collect();
    let busy = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        let (status, answer) = get(address, "/");
        (status == 503).then_some(answer)
    });
    let busy = busy.expect("a third request is one too many").to_lowercase();
    assert!(busy.contains("retry-after: 1"), "{busy}");
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap(), 200);
    }
    assert_eq!(service.get("/").0, 200);
}

#[test]
fn clients_that_dawdle_hold_up_nobody_and_are_shown_out() {
    let service = serve(plain(), |_| {});
    let mut slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow:").unwrap();
            stream
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(service.get("/").0, 200);
    }
    let mut rest = Vec::new();
    slow[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It ends, with an answer or without.
    let _ = slow[0].read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(service.stop().status().state, TaskState::Finished);
}

#[test]
fn a_request_under_way_is_finished_before_the_service_ends() {
    let service = serve(plain(), |_| {});
    let address = service.address;
    let under_way = thread::spawn(move || get(address, "/sleep?700").0);
    // An idle connection does not keep it.
    let _idle = TcpStream::connect(address).unwrap();
    thread::sleep(Duration::from_millis(200));
    let done = service.stop();
    assert_eq!(under_way.join().unwrap(), 200);
    assert_eq!((done.status().state, done.end.requests), (TaskState::Finished, 1));
}

#[test]
fn a_kill_ends_requests_where_they_stand() {
    let service = serve(plain(), |_| {});
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"GET /spin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    service.running.handle.kill(Reason::Killed, "enough");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(service.running.wait().status().state, TaskState::Killed);
}

#[test]
fn requests_of_its_own_obey_the_grants() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndata");
        }
    });
    let granted: Vec<NetPattern> = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    let grants = NetworkGrants { outbound: granted.clone(), listen: None };
    let prepared = PreparedNetwork { allowed: granted, ..PreparedNetwork::default() };
    let policy = NetworkPolicy::new(grants, Ranges::default(), prepared);
    let service = serve(plain(), |command| command.network = Arc::new(policy));
    let fetch = |target: String| service.get(&format!("/fetch?{target}")).1;
    let answer = fetch(format!("127.0.0.1:{port}/x"));
    assert!(answer.contains("200 data"), "{answer}");
    let answer = fetch("127.0.0.1:1/".to_owned());
    assert!(answer.contains("DestinationIpProhibited"), "{answer}");
    let answer = fetch(format!("localhost:{port}/"));
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    let answer = fetch(format!("https:127.0.0.1:{port}/"));
    assert!(answer.contains("an agent has no TLS for its tasks"), "{answer}");
    let done = service.stop();
    assert_eq!(done.end.network_refusals, 2, "{}", done.stderr);
}

#[test]
fn a_port_in_use_is_a_failure_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let command = Command { service: Some(ServiceOptions { address, limits: plain() }), ..command() };
    let done = run_program(&PROGRAM, command);
    assert_eq!(done.status().reason, Some(Reason::Sandbox));
    assert!(done.message().contains(&format!("cannot listen on {address}")), "{}", done.message());
}

#[test]
fn a_component_runs_as_what_it_is() {
    let error = PROGRAM.suits(TaskKind::Command).unwrap_err().to_string();
    assert!(error.contains("launched as a command, which needs wasi:cli/run (world wasi:cli/command)"), "{error}");
    assert!(PROGRAM.suits(TaskKind::Service).is_ok());
    let hello = program_of(&ENGINE, &HELLO.p2_bytes().unwrap());
    let error = hello.suits(TaskKind::Service).unwrap_err().to_string();
    assert!(error.contains("needs wasi:http/incoming-handler (world wasi:http/proxy)"), "{error}");
    assert!(hello.suits(TaskKind::Command).is_ok());
    assert!(program("(module (func (export \"_start\")))").suits(TaskKind::Service).is_err());
}
