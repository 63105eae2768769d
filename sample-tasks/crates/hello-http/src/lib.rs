//! A service: each path is one thing that a service does well or badly.
//!
//! `/` says hello. `/echo` gives back the body. `/work?N` counts to N. `/sleep?MS` waits. `/big?BYTES` answers at length.
//! `/fetch?HOST:PORT/PATH` makes a request of its own. `/spin` never ends, `/trap` traps, `/grow?MIB` takes memory, `/silent`
//! gives no answer.

mod bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]

    wit_bindgen::generate!({ path: "wit", world: "service", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use bindings::wasi::io::streams::{OutputStream, StreamError};

/// What one read or write moves at most.
const CHUNK: u64 = 4096;

struct HelloHttp;

bindings::export!(HelloHttp with_types_in bindings);

impl Guest for HelloHttp {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = || query.parse::<u64>().unwrap_or(0);
        match path {
            "/" => say(out, 200, b"hello from a service\n"),
            "/echo" => echo(&request, out),
            "/work" => say(out, 200, format!("{}\n", work(number())).as_bytes()),
            "/sleep" => {
                monotonic_clock::subscribe_duration(number() * 1_000_000).block();
                say(out, 200, b"slept\n");
            }
            "/big" => big(out, number()),
            "/fetch" => fetch(out, query),
            "/spin" => {
                work(u64::MAX);
            }
            "/trap" => panic!("on purpose"),
            "/grow" => {
                let bytes = vec![1u8; (number() << 20) as usize];
                say(out, 200, format!("holds {}\n", bytes.len()).as_bytes());
            }
            "/silent" => {}
            _ => say(out, 404, b"no such path\n"),
        }
    }
}

/// Something that takes time in proportion to its argument and cannot be left out.
fn work(times: u64) -> u64 {
    let mut sum = 0u64;
    for step in 0..times {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(step));
    }
    sum
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn say(out: ResponseOutparam, status: u16, text: &[u8]) {
    let body = begin(out, status);
    write_all(&body.write().expect("the stream is taken once"), text);
    // The client may have gone; there is nobody else to tell.
    let _ = OutgoingBody::finish(body, None);
}

fn write_all(stream: &OutputStream, bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK as usize) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let input = body.stream().expect("the stream is taken once");
    let answer = begin(out, 200);
    let output = answer.write().expect("the stream is taken once");
    loop {
        match input.blocking_read(CHUNK) {
            Ok(bytes) => write_all(&output, &bytes),
            Err(StreamError::Closed) => break,
            // Too much, or cut off: the answer ends in the middle, too.
            Err(StreamError::LastOperationFailed(_)) => panic!("the body cannot be read"),
        }
    }
    drop(output);
    let _ = OutgoingBody::finish(answer, None);
}

fn big(out: ResponseOutparam, bytes: u64) {
    let body = begin(out, 200);
    let stream = body.write().expect("the stream is taken once");
    let chunk = [b'x'; CHUNK as usize];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK);
        if stream.blocking_write_and_flush(&chunk[..now as usize]).is_err() {
            break;
        }
        left -= now;
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Makes a request and answers with what came of it. `https:` before the host asks for TLS.
fn fetch(out: ResponseOutparam, target: &str) {
    let (scheme, target) = match target.strip_prefix("https:") {
        Some(rest) => (Scheme::Https, rest),
        None => (Scheme::Http, target),
    };
    let (authority, path) = target.split_at(target.find('/').unwrap_or(target.len()));
    let request = OutgoingRequest::new(Fields::new());
    let set = request.set_method(&Method::Get).is_ok()
        && request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).is_ok();
    if !set {
        return say(out, 400, b"no such target\n");
    }
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(error) => return say(out, 502, format!("{error:?}\n").as_bytes()),
    };
    future.subscribe().block();
    let text = match future.get() {
        Some(Ok(Ok(response))) => {
            let status = response.status();
            let body = response.consume().expect("the body is taken once");
            let text = read_all(&body);
            format!("{status} {text}")
        }
        Some(Ok(Err(error))) => format!("{error:?}\n"),
        Some(Err(())) | None => "nothing came\n".to_owned(),
    };
    say(out, 200, text.as_bytes());
}

fn read_all(body: &IncomingBody) -> String {
    let stream = body.stream().expect("the stream is taken once");
    let mut bytes = Vec::new();
    while let Ok(more) = stream.blocking_read(CHUNK) {
        bytes.extend_from_slice(&more);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
