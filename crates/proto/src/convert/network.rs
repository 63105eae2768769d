//! Network grants, service settings, and what a runner is told of the network.

use core::net::SocketAddr;
use std::time::Duration;

use holm_model::{ListenOn, NetworkGrants, PreparedNetwork, Ranges, ServiceSpec};

use super::error::At;
use super::field::{at_most, capped, micros, optional, parsed_list, text_or_empty, texts};
use super::{ConvertError, Decode};
use crate::limits::{MAX_CLUSTER_ENDPOINTS, MAX_NETWORK_PATTERNS, MAX_PORT, MAX_RESOURCE_ITEMS};
use crate::{runner::v1 as runner, v1 as wire};

impl From<&NetworkGrants> for wire::NetworkGrants {
    fn from(grants: &NetworkGrants) -> wire::NetworkGrants {
        let listen = match grants.listen {
            None => wire::ListenOn::Unspecified,
            Some(ListenOn::Loopback) => wire::ListenOn::Loopback,
            Some(ListenOn::Agent) => wire::ListenOn::Agent,
        };
        wire::NetworkGrants { outbound: texts(&grants.outbound), listen: listen.into() }
    }
}

impl Decode<Option<wire::NetworkGrants>> for NetworkGrants {
    fn decode(wire: Option<wire::NetworkGrants>, at: &At<'_>) -> Result<NetworkGrants, ConvertError> {
        let Some(wire) = wire else { return Ok(NetworkGrants::default()) };
        let listen = match wire::ListenOn::try_from(wire.listen) {
            Ok(wire::ListenOn::Unspecified) => None,
            Ok(wire::ListenOn::Loopback) => Some(ListenOn::Loopback),
            Ok(wire::ListenOn::Agent) => Some(ListenOn::Agent),
            // As with kinds: what is not understood is not granted in some other way.
            Err(_) => return Err(at.field("listen").invalid(format_args!("{} is no place known here", wire.listen))),
        };
        Ok(NetworkGrants {
            outbound: parsed_list(&wire.outbound, MAX_NETWORK_PATTERNS, &at.field("outbound"))?,
            listen,
        })
    }
}

impl From<&ServiceSpec> for wire::ServiceSpec {
    fn from(service: &ServiceSpec) -> wire::ServiceSpec {
        wire::ServiceSpec {
            port: service.port.map(u32::from),
            concurrency: Some(service.concurrency),
            request_time_micros: Some(micros(service.request_time)),
            request_fuel: service.request_fuel,
            request_bytes: Some(service.request_bytes),
            max_failures: Some(service.max_failures),
        }
    }
}

impl Decode<wire::ServiceSpec> for ServiceSpec {
    fn decode(wire: wire::ServiceSpec, at: &At<'_>) -> Result<ServiceSpec, ConvertError> {
        let default = ServiceSpec::default();
        let port = |port: u32| {
            let port = capped(port.into(), MAX_PORT, &at.field("port"))?;
            u16::try_from(port).map_err(|error| at.field("port").invalid(error))
        };
        Ok(ServiceSpec {
            port: wire.port.map(port).transpose()?,
            concurrency: wire.concurrency.unwrap_or(default.concurrency),
            request_time: wire.request_time_micros.map_or(default.request_time, Duration::from_micros),
            request_fuel: wire.request_fuel,
            request_bytes: wire.request_bytes.unwrap_or(default.request_bytes),
            max_failures: wire.max_failures.unwrap_or(default.max_failures),
        })
    }
}

impl From<&PreparedNetwork> for runner::PreparedNetwork {
    fn from(network: &PreparedNetwork) -> runner::PreparedNetwork {
        runner::PreparedNetwork {
            allowed: texts(&network.allowed),
            cluster: texts(&network.cluster),
            ports: network.ports.iter().map(|(begin, end)| wire::Range { begin, end }).collect(),
            listen: text_or_empty(network.listen.as_ref()),
        }
    }
}

impl Decode<runner::PreparedNetwork> for PreparedNetwork {
    fn decode(wire: runner::PreparedNetwork, at: &At<'_>) -> Result<PreparedNetwork, ConvertError> {
        at_most(wire.ports.len(), MAX_RESOURCE_ITEMS, &at.field("ports"))?;
        let cluster: Vec<SocketAddr> = parsed_list(&wire.cluster, MAX_CLUSTER_ENDPOINTS, &at.field("cluster"))?;
        Ok(PreparedNetwork {
            allowed: parsed_list(&wire.allowed, MAX_NETWORK_PATTERNS, &at.field("allowed"))?,
            cluster,
            ports: Ranges::new(wire.ports.into_iter().map(|range| (range.begin, range.end))),
            listen: optional(&wire.listen, &at.field("listen"))?,
        })
    }
}
