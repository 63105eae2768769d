//! Where masters are, and how a client shows who it is.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is probed, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The metadata key under which a master that does not lead names the one that does.
const LEADER_KEY: &str = "holm-leader";

/// An address that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No master was named.
    #[error("no master address was given; expected HOST:PORT[,HOST:PORT...]")]
    None,
    /// The text is not `HOST:PORT`.
    #[error("master address {0:?} is not HOST:PORT, such as 127.0.0.1:5050")]
    Form(String),
    /// The token has characters that cannot be sent.
    #[error("the token has characters that are not visible ASCII")]
    Token,
}

/// The endpoint of `HOST:PORT`, with or without `http://` before it.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let malformed = || AddressError::Form(address.chars().take(128).collect());
    let authority = address.strip_prefix("http://").unwrap_or(address);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(malformed());
    }
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| malformed())?;
    let has_port = endpoint.uri().port_u16().is_some_and(|port| port != 0);
    let has_host = endpoint.uri().host().is_some_and(|host| !host.is_empty());
    if !has_port || !has_host {
        return Err(malformed());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// The masters a client knows, and which one is next.
#[derive(Clone, Debug)]
pub(crate) struct Masters {
    addresses: Vec<String>,
    next: usize,
    /// What the last master said who leads.
    leader: Option<String>,
}

impl Masters {
    pub(crate) fn new(addresses: Vec<String>) -> Result<Masters, AddressError> {
        if addresses.is_empty() {
            return Err(AddressError::None);
        }
        addresses.iter().try_for_each(|address| endpoint(address).map(|_| ()))?;
        Ok(Masters { addresses, next: 0, leader: None })
    }

    /// The master to try next: the leader that the last one named, else the next in turn.
    pub(crate) fn next_endpoint(&mut self) -> (String, Result<Endpoint, AddressError>) {
        let address = self.leader.take().unwrap_or_else(|| {
            let address = self.addresses[self.next % self.addresses.len()].clone();
            self.next = self.next.wrapping_add(1);
            address
        });
        let endpoint = endpoint(&address);
        (address, endpoint)
    }

    /// Takes note of who leads, if a refusal says so.
    pub(crate) fn learn_from(&mut self, status: &Status) {
        let leader = status.metadata().get(LEADER_KEY).and_then(|value| value.to_str().ok());
        self.leader = leader.filter(|leader| endpoint(leader).is_ok()).map(str::to_owned);
    }

    /// Whether the next one is a leader that was named.
    pub(crate) fn knows_leader(&self) -> bool {
        self.leader.is_some()
    }

    /// The addresses that were given.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// Adds the operator's token to every request, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// # Errors
    /// When the token cannot be sent.
    pub fn new(token: Option<&str>) -> Result<Bearer, AddressError> {
        let value = |token: &str| {
            let mut value: MetadataValue<Ascii> =
                format!("Bearer {}", token.trim()).parse().map_err(|_| AddressError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Bearer(token.map(value).transpose()?))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// What went wrong with a connection, in one line: the outer error alone says only that something did.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:5050", "http://holm.example:5050/", "[::1]:5050"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in
            ["", "127.0.0.1", "host:", "host:99999", "host:0", "ftp://host:1", "a b:1", "host:1/path", "x@host:1"]
        {
            assert_eq!(endpoint(bad).map(|_| ()), Err(AddressError::Form(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn the_leader_that_a_master_names_is_tried_next() {
        let mut masters = Masters::new(vec!["a:1".to_owned(), "b:2".to_owned()]).unwrap();
        let mut not_leading = Status::unavailable("not leading");
        not_leading.metadata_mut().insert(LEADER_KEY, "c:3".parse().unwrap());
        assert_eq!(masters.next_endpoint().0, "a:1");
        masters.learn_from(&not_leading);
        assert_eq!(masters.next_endpoint().0, "c:3");
        assert_eq!(masters.next_endpoint().0, "b:2");
        not_leading.metadata_mut().insert(LEADER_KEY, "nonsense".parse().unwrap());
        masters.learn_from(&not_leading);
        assert_eq!(masters.next_endpoint().0, "a:1");
    }
}
