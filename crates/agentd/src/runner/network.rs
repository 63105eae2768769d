//! The network of a launch's tasks: their policy, what they are told of it, where they are served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use holm_model::{TaskKind, TaskSpec};
use holm_runtime::{NetworkPolicy, ServiceOptions};

/// What the tasks of one launch share of the network.
pub(super) struct Network {
    pub(super) policy: Arc<NetworkPolicy>,
    /// The address on which they listen.
    pub(super) listen: Option<IpAddr>,
}

impl Network {
    /// What a task that listens finds in its environment: where.
    pub(super) fn environment(&self, spec: &TaskSpec) -> Vec<(String, String)> {
        let (Some(address), Some((first, _))) = (self.listen, spec.ports().iter().next()) else { return Vec::new() };
        let port = spec.service_port().map_or(first, u64::from);
        vec![("HOLM_ADDRESS".to_owned(), address.to_string()), ("HOLM_PORT".to_owned(), port.to_string())]
    }

    /// Where a service is served, and under which limits: it works on no more requests than the runner has places.
    pub(super) fn service(&self, spec: &TaskSpec, max_tasks: usize) -> Option<ServiceOptions> {
        let (address, port) = (self.listen?, spec.service_port()?);
        let mut limits = spec.service.clone().unwrap_or_default();
        limits.concurrency = limits.concurrency.min(u32::try_from(max_tasks).unwrap_or(u32::MAX));
        Some(ServiceOptions { address: SocketAddr::new(address, port), limits })
    }
}

/// How many of a runner's places for instances a task takes: a service has one for every request that it works on.
pub(super) fn places(spec: &TaskSpec, max_tasks: usize) -> usize {
    let concurrency = || spec.service.clone().unwrap_or_default().concurrency as usize;
    if spec.kind == TaskKind::Service { concurrency().clamp(1, max_tasks.max(1)) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_takes_a_place_for_every_request_and_no_more_than_there_are() {
        let resources = "cpus:0.1;mem:16MiB;ports:[31000-31001]".parse().unwrap();
        let spec = TaskSpec { kind: TaskKind::Service, resources, ..TaskSpec::default() };
        assert_eq!(places(&spec, 1000), 64);
        assert_eq!(places(&spec, 10), 10);
        assert_eq!(places(&TaskSpec::default(), 10), 1);
        let network = Network { policy: Arc::default(), listen: Some("192.0.2.1".parse().unwrap()) };
        let service = network.service(&spec, 10).unwrap();
        assert_eq!((service.address, service.limits.concurrency), ("192.0.2.1:31000".parse().unwrap(), 10));
        assert!(network.environment(&spec).contains(&("HOLM_PORT".to_owned(), "31000".to_owned())));
    }
}
