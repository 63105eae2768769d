//! What a task may reach over the network, and what may reach it: grants in a task's template, patterns of an operator.

mod pattern;
mod reach;

pub use pattern::{HostName, HostPattern, NetPattern, Network, ParseNetworkError, PortSpan, Transport};
pub use reach::Reach;

use core::net::{IpAddr, SocketAddr};

use crate::Ranges;

/// Most outbound patterns of one task, and of one agent's operator.
pub const MAX_NET_PATTERNS: usize = 64;

/// On which of the agent's addresses a task listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenOn {
    /// On the loopback address: only processes of the same host connect.
    Loopback,
    /// On the address under which the agent is reached by others.
    Agent,
}

impl ListenOn {
    /// The name, as written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            ListenOn::Loopback => "loopback",
            ListenOn::Agent => "agent",
        }
    }
}

impl core::fmt::Display for ListenOn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a task may do on the network; nothing unless told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkGrants {
    /// What it may connect and send to, at most [`MAX_NET_PATTERNS`]. The agent's operator must allow it too.
    pub outbound: Vec<NetPattern>,
    /// Where it may listen, on the ports that it holds; none is nowhere.
    pub listen: Option<ListenOn>,
}

impl NetworkGrants {
    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.outbound.is_empty() && self.listen.is_none()
    }
}

/// What an agent knows of the network for one launch: its operator's policy and what is never a task's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedNetwork {
    /// What the operator lets tasks of this agent reach.
    pub allowed: Vec<NetPattern>,
    /// The cluster's own endpoints.
    pub cluster: Vec<SocketAddr>,
    /// The ports that the agent offers: other tasks listen there.
    pub ports: Ranges,
    /// Where the task listens, if it may.
    pub listen: Option<IpAddr>,
}
