//! What an agent knows of the network for its tasks: its operator's policy, the cluster's endpoints, where tasks listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    ListenOn, NetPattern, PreparedNetwork, Quantity, Ranges, ResourceName, Resources, TaskKind, TaskSpec,
};
use holm_runtime::{NetworkPolicy, NotAllowed, public_internet};
use tokio::time::timeout;

/// How long the masters' names may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);
/// Most endpoints of the cluster that are kept from tasks.
const MAX_ENDPOINTS: usize = 256;

/// The agent's side of its tasks' network.
pub(crate) struct AgentNetwork {
    allowed: Vec<NetPattern>,
    masters: Vec<Arc<str>>,
    ports: Ranges,
    task_address: Option<IpAddr>,
}

impl AgentNetwork {
    /// What the operator of an agent with these masters and resources said.
    pub(crate) fn new(
        allowed: Option<Vec<NetPattern>>,
        masters: &[String],
        resources: &Resources,
        task_address: Option<IpAddr>,
    ) -> AgentNetwork {
        let ports = match resources.get(&ResourceName::Ports) {
            Some(Quantity::Ranges(ports)) => ports.clone(),
            _ => Ranges::default(),
        };
        AgentNetwork {
            allowed: allowed.unwrap_or_else(public_internet),
            masters: masters.iter().map(|master| master.as_str().into()).collect(),
            ports,
            task_address,
        }
    }

    /// What the tasks of a launch need to know. Those without a network cost nothing.
    ///
    /// # Errors
    /// The first of the grants of which the operator allows nothing.
    pub(crate) async fn prepare(&self, spec: &TaskSpec) -> Result<PreparedNetwork, NotAllowed> {
        let is_service = spec.kind == TaskKind::Service;
        if spec.network.is_empty() && !is_service {
            return Ok(PreparedNetwork::default());
        }
        NetworkPolicy::check_grants(&spec.network, &self.allowed)?;
        let cluster = self.cluster().await;
        let listen = spec.network.listen.or_else(|| is_service.then_some(ListenOn::Agent)).map(|on| match on {
            ListenOn::Loopback => Ipv4Addr::LOCALHOST.into(),
            ListenOn::Agent => self.task_address.unwrap_or_else(|| facing(&cluster)),
        });
        Ok(PreparedNetwork { allowed: self.allowed.clone(), cluster, ports: self.ports.clone(), listen })
    }

    /// The endpoints of the masters. One whose name cannot be looked up now is none that a task could reach by it.
    async fn cluster(&self) -> Vec<SocketAddr> {
        let mut endpoints = Vec::new();
        for master in &self.masters {
            match timeout(LOOKUP, tokio::net::lookup_host(&**master)).await {
                Ok(Ok(found)) => endpoints.extend(found),
                Ok(Err(error)) => tracing::warn!(%master, %error, "the master's name cannot be looked up"),
                Err(_elapsed) => tracing::warn!(%master, limit = ?LOOKUP, "the master's name is not looked up in time"),
            }
        }
        endpoints.truncate(MAX_ENDPOINTS);
        endpoints
    }
}

/// The address from which this host reaches the first of the masters.
fn facing(cluster: &[SocketAddr]) -> IpAddr {
    let local = |to: &SocketAddr| {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Nothing is sent: the system only looks up the way.
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    cluster.iter().find_map(local).unwrap_or_else(|| Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use holm_model::NetworkGrants;

    use super::*;

    fn network(allowed: Option<&[&str]>) -> AgentNetwork {
        let allowed = allowed.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect());
        let resources = "cpus:1;ports:[31000-31009]".parse().unwrap();
        AgentNetwork::new(allowed, &["127.0.0.1:5050".to_owned()], &resources, None)
    }

    fn spec(outbound: &str, listen: Option<ListenOn>) -> TaskSpec {
        let network = NetworkGrants { outbound: vec![outbound.parse().unwrap()], listen };
        TaskSpec { network, ..TaskSpec::default() }
    }

    #[tokio::test]
    async fn the_public_internet_is_what_an_operator_allows_who_says_nothing() {
        let prepared = network(None).prepare(&spec("*:443", Some(ListenOn::Agent))).await.unwrap();
        assert_eq!(prepared.cluster, ["127.0.0.1:5050".parse().unwrap()]);
        assert_eq!(prepared.listen, Some("127.0.0.1".parse().unwrap()), "the address that faces the master");
        assert_eq!(prepared.ports.len(), 10);
        let error = network(None).prepare(&spec("127.0.0.1:22", None)).await.unwrap_err().to_string();
        assert!(
            error.contains("127.0.0.1:22 is not allowed by this agent's operator (allowed: *:*, udp:*:*)"),
            "{error}"
        );
        assert!(network(Some(&["127.0.0.1:22"])).prepare(&spec("127.0.0.1:22", None)).await.is_ok());
        assert!(network(Some(&[])).prepare(&spec("*:443", None)).await.is_err());
    }

    #[tokio::test]
    async fn a_task_without_a_network_is_told_nothing() {
        assert_eq!(network(None).prepare(&TaskSpec::default()).await.unwrap(), PreparedNetwork::default());
    }
}
