//! How a master is run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::blobs::BlobLimits;
use crate::outbound::OutboundLimits;

/// How a master is run. [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. Port 0 takes any free one: see [`crate::Service::local_addr`].
    pub listen: SocketAddr,
    /// The data directory: the registry and the blobs.
    pub store: PathBuf,
    /// Takes over a data directory that was copied or restored.
    pub adopt: bool,
    /// A file with the token that operators, and everybody who registers for the first time, must present. None: nobody
    /// is asked.
    pub token_file: Option<PathBuf>,
    /// The version to show, for people.
    pub version: String,
    /// What the state machine goes by.
    pub master: holm_master::Options,
    /// The organisation's own order; none is the built-in one.
    #[cfg(feature = "policy")]
    pub policy: Option<crate::policy::Policy>,
    /// How much the blobs may take.
    pub blobs: BlobLimits,
    /// How much may be asked of the daemon.
    pub limits: Limits,
}

impl Options {
    /// The defaults for a master that listens at `listen` and keeps its data in `store`.
    pub fn new(listen: SocketAddr, store: impl Into<PathBuf>) -> Options {
        Options {
            listen,
            store: store.into(),
            adopt: false,
            token_file: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            master: holm_master::Options::default(),
            #[cfg(feature = "policy")]
            policy: None,
            blobs: BlobLimits::default(),
            limits: Limits::default(),
        }
    }
}

/// What the daemon allows its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// Calls at a time on one connection.
    pub streams_per_connection: u32,
    /// Agent and framework streams at a time.
    pub sessions: usize,
    /// What may wait to be sent to one agent or framework; more cuts it off.
    pub outbound: OutboundLimits,
    /// How long a stream may take to say who it is, and a connection to make its first request.
    pub first_message: Duration,
    /// How long a connection may be silent before it is asked whether it lives, and how long it may take to answer.
    pub keep_alive: Duration,
    /// Requests that are relayed to agents at a time.
    pub bulk_requests: usize,
    /// How long an agent may take to begin an answer to such a request.
    pub bulk_answer: Duration,
    /// Blobs received at a time.
    pub pushes: usize,
    /// Watches at a time.
    pub watches: usize,
    /// How long a peer may take to read the last words of a stream that the master has ended; its connection is closed
    /// then.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            streams_per_connection: 1024,
            sessions: 16_384,
            outbound: OutboundLimits::default(),
            first_message: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            bulk_requests: 1024,
            bulk_answer: Duration::from_secs(10),
            pushes: 128,
            watches: 64,
            goodbye: Duration::from_secs(2),
        }
    }
}
