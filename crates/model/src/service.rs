//! Tasks that serve HTTP requests until they are told to stop.

use std::time::Duration;

/// Most requests that one service works on at a time.
pub const MAX_CONCURRENCY: u32 = 1024;
/// The longest that one request may take.
pub const MAX_REQUEST_TIME: Duration = Duration::from_secs(3600);

/// How a service is served, and what one request may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The port, one of those that the task holds; none is the lowest.
    pub port: Option<u16>,
    /// Requests worked on at a time, 1 to [`MAX_CONCURRENCY`]; more are answered 503.
    pub concurrency: u32,
    /// Wall time of one request, from its header to the end of its answer; not zero, at most [`MAX_REQUEST_TIME`].
    pub request_time: Duration,
    /// Units of fuel for one request; none is what the task has left.
    pub request_fuel: Option<u64>,
    /// Bytes of one request's body; more are answered 413.
    pub request_bytes: u64,
    /// After how many failed requests in a row the task is FAILED; zero is never.
    pub max_failures: u32,
}

impl Default for ServiceSpec {
    fn default() -> ServiceSpec {
        ServiceSpec {
            port: None,
            concurrency: 64,
            request_time: Duration::from_secs(30),
            request_fuel: None,
            request_bytes: 8 << 20,
            max_failures: 10,
        }
    }
}
