//! Who may go where: the intersection of a task's grants and its agent's policy, as a pure function.
//!
//! Public addresses open to every pattern that covers them. A private range opens only to an address or network of the
//! operator that lies within the range, or to a name that the operator gave. Loopback, link-local addresses and this host open
//! only to the operator's addresses, asked for as addresses: no name ever leads there, whoever controls what it resolves to.
//! The cluster's own endpoints open only to their exact address and port.

use std::net::{IpAddr, SocketAddr};

use holm_model::{
    HostName, HostPattern, ListenOn, NetPattern, Network, NetworkGrants, PreparedNetwork, Ranges, Reach, Transport,
};

/// What an agent allows whose operator says nothing: the public internet.
pub fn public_internet() -> Vec<NetPattern> {
    let every = |transport| NetPattern { transport, host: HostPattern::Public, ports: holm_model::PortSpan::ALL };
    vec![every(Transport::Tcp), every(Transport::Udp)]
}

/// A grant that the agent's operator does not allow at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network access to {asked} is not allowed by this agent's operator (allowed: {allowed})")]
pub struct NotAllowed {
    /// What was to be granted.
    asked: NetPattern,
    /// What the operator allows.
    allowed: String,
}

/// What the tasks of one launch may do on the network.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    grants: NetworkGrants,
    prepared: PreparedNetwork,
    held: Ranges,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// No pattern of the task covers it.
    #[error("it is not granted to the task")]
    NotGranted,
    /// No pattern of the operator covers it.
    #[error("the agent's operator does not allow it")]
    NotAllowed,
    /// It is private, local or this host.
    #[error("it is in {0}, which the agent's operator has not opened")]
    Closed(Network),
    /// It is one of the cluster's own endpoints.
    #[error("it is an endpoint of the cluster itself")]
    Cluster,
    /// It is no host.
    #[error("it is the address of no host")]
    Nowhere,
    /// The task may not listen at all.
    #[error("the task is not granted to listen")]
    NoListen,
    /// It may listen on another address.
    #[error("the task may listen on {0} only")]
    OtherAddress(IpAddr),
    /// It does not hold the port.
    #[error("the task does not hold that port")]
    OtherPort,
}

/// What a destination is, beyond its address.
enum Place {
    Public,
    Private(Network),
    Closed(Network),
    Cluster,
}

/// By which of the task's patterns a destination is reached.
enum Route<'a> {
    Address,
    Name(&'a HostName),
}

impl NetworkPolicy {
    /// The policy for tasks with these grants that hold these ports, on an agent that knows this.
    pub fn new(grants: NetworkGrants, held: Ranges, prepared: PreparedNetwork) -> NetworkPolicy {
        NetworkPolicy { grants, prepared, held }
    }

    /// Whether anything at all is granted.
    pub fn is_closed(&self) -> bool {
        self.grants.is_empty()
    }

    /// The address on which the tasks listen, if they may.
    pub fn listens_on(&self) -> Option<IpAddr> {
        self.grants.listen.and(self.prepared.listen)
    }

    /// Checks that the operator allows something of every grant.
    ///
    /// # Errors
    /// The first grant of which nothing is allowed: such a task would only fail later.
    pub fn check_grants(grants: &NetworkGrants, allowed: &[NetPattern]) -> Result<(), NotAllowed> {
        let hopeless = |asked: &&NetPattern| !allowed.iter().any(|pattern| may_meet(asked, pattern));
        grants.outbound.iter().find(hopeless).map_or(Ok(()), |asked| {
            let list: Vec<_> = allowed.iter().map(NetPattern::to_string).collect();
            let allowed = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
            Err(NotAllowed { asked: asked.clone(), allowed })
        })
    }

    /// Whether the name may be looked up, for any port.
    pub(crate) fn may_resolve(&self, name: &HostName) -> Result<(), Denial> {
        let granted = |pattern: &&NetPattern| pattern.host == HostPattern::Public || pattern.host.covers_name(name);
        if self.grants.outbound.iter().any(|pattern| granted(&pattern)) { Ok(()) } else { Err(Denial::NotGranted) }
    }

    /// Whether an address that a granted name resolved to can lead anywhere.
    pub(crate) fn may_pin(&self, name: &HostName, address: IpAddr) -> Result<(), Denial> {
        match Reach::of(address) {
            Reach::Nowhere => Err(Denial::Nowhere),
            Reach::Local(range) => Err(Denial::Closed(range)),
            Reach::Public => Ok(()),
            Reach::Private(range) => {
                let opens = |pattern: &NetPattern| pattern.host.covers_name(name);
                self.prepared.allowed.iter().any(opens).then_some(()).ok_or(Denial::Closed(range))
            }
        }
    }

    /// Whether the task may connect or send to an address. `names` resolved to it for this task; `is_this_host` says whether
    /// an address is one of the agent's host.
    pub(crate) fn admit(
        &self,
        transport: Transport,
        to: SocketAddr,
        names: &[HostName],
        is_this_host: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Denial> {
        let (address, port) = (to.ip().to_canonical(), to.port());
        let reach = Reach::of(address);
        if reach == Reach::Nowhere || port == 0 {
            return Err(Denial::Nowhere);
        }
        let routes = self.routes(transport, address, port, names, reach);
        if routes.is_empty() {
            return Err(Denial::NotGranted);
        }
        let place = self.place(address, port, reach, is_this_host);
        let allowed = |route: &Route<'_>| {
            let of_operator = self.prepared.allowed.iter().filter(|pattern| speaks(pattern, transport, port));
            let mut of_operator = of_operator.into_iter();
            of_operator.any(|pattern| opens(pattern, route, &place, address))
        };
        if routes.iter().any(allowed) {
            return Ok(());
        }
        Err(match place {
            Place::Public => Denial::NotAllowed,
            Place::Private(range) | Place::Closed(range) => Denial::Closed(range),
            Place::Cluster => Denial::Cluster,
        })
    }

    /// By which of the task's patterns it reaches a destination.
    fn routes<'a>(
        &self,
        transport: Transport,
        address: IpAddr,
        port: u16,
        names: &'a [HostName],
        reach: Reach,
    ) -> Vec<Route<'a>> {
        let mut routes = Vec::new();
        for pattern in self.grants.outbound.iter().filter(|pattern| speaks(pattern, transport, port)) {
            match &pattern.host {
                HostPattern::Public if reach == Reach::Public => {
                    routes.push(Route::Address);
                    routes.extend(names.iter().map(Route::Name));
                }
                HostPattern::Network(network) if network.contains(address) => routes.push(Route::Address),
                HostPattern::Public | HostPattern::Network(_) => {}
                host => routes.extend(names.iter().filter(|name| host.covers_name(name)).map(Route::Name)),
            }
        }
        routes
    }

    fn place(&self, address: IpAddr, port: u16, reach: Reach, is_this_host: impl Fn(IpAddr) -> bool) -> Place {
        let here = |address: IpAddr| matches!(Reach::of(address), Reach::Local(_)) || is_this_host(address);
        let own = |endpoint: &&SocketAddr| {
            let of_cluster = endpoint.ip().to_canonical();
            endpoint.port() == port && (of_cluster == address || (here(of_cluster) && here(address)))
        };
        if self.prepared.cluster.iter().any(|endpoint| own(&endpoint)) {
            return Place::Cluster;
        }
        let offered = self.prepared.ports.contains(&Ranges::new([(port.into(), port.into())]));
        match reach {
            Reach::Local(range) => Place::Closed(range),
            // What listens on this host is its operator's, unless it is a task.
            _ if !offered && is_this_host(address) => Place::Closed(Network::single(address)),
            Reach::Private(range) => Place::Private(range),
            Reach::Public | Reach::Nowhere => Place::Public,
        }
    }

    /// Whether the task may bind a socket to an address. Port 0 of no particular address is what connecting does by itself.
    pub(crate) fn may_bind(&self, transport: Transport, address: SocketAddr) -> Result<(), Denial> {
        let connects = || self.grants.outbound.iter().any(|pattern| pattern.transport == transport);
        if address.port() == 0 && address.ip().is_unspecified() && connects() {
            return Ok(());
        }
        self.may_listen(address)
    }

    /// Whether the task may listen on an address.
    pub(crate) fn may_listen(&self, address: SocketAddr) -> Result<(), Denial> {
        let own = self.listens_on().ok_or(Denial::NoListen)?;
        let same = own.is_unspecified() && own.is_ipv4() == address.is_ipv4() || own == address.ip().to_canonical();
        if !same {
            return Err(Denial::OtherAddress(own));
        }
        let port = u64::from(address.port());
        let held = port > 0 && self.held.contains(&Ranges::new([(port, port)]));
        held.then_some(()).ok_or(Denial::OtherPort)
    }

    /// Where the task listens, as chosen.
    pub fn listen(&self) -> Option<ListenOn> {
        self.grants.listen
    }
}

fn speaks(pattern: &NetPattern, transport: Transport, port: u16) -> bool {
    pattern.transport == transport && pattern.ports.contains(port)
}

/// Whether a pattern of the operator opens a place that the task reaches by a route.
fn opens(pattern: &NetPattern, route: &Route<'_>, place: &Place, address: IpAddr) -> bool {
    let within = |network: &Network, range: &Network| network.contains(address) && range.covers(network);
    match (place, &pattern.host, route) {
        (Place::Public, HostPattern::Public, _) => true,
        (Place::Public, HostPattern::Network(network), _) => network.contains(address),
        (
            Place::Public | Place::Private(_),
            host @ (HostPattern::Name(_) | HostPattern::Below(_)),
            Route::Name(name),
        ) => host.covers_name(name),
        (Place::Private(range) | Place::Closed(range), HostPattern::Network(network), Route::Address) => {
            within(network, range)
        }
        (Place::Cluster, HostPattern::Network(network), Route::Address) => {
            network.is_single() && network.contains(address) && pattern.ports.single().is_some()
        }
        _ => false,
    }
}

/// Whether there can be a destination that both a task's pattern and one of the operator cover.
fn may_meet(asked: &NetPattern, allowed: &NetPattern) -> bool {
    if asked.transport != allowed.transport || !asked.ports.overlaps(&allowed.ports) {
        return false;
    }
    // A network in a range that is not public opens only to one in the same range.
    let range = |network: &Network| Reach::of(network.address()).range().filter(|range| range.covers(network));
    match (&asked.host, &allowed.host) {
        (HostPattern::Network(asked), HostPattern::Public) => range(asked).is_none(),
        (HostPattern::Network(asked), HostPattern::Network(allowed)) => {
            let overlap = asked.covers(allowed) || allowed.covers(asked);
            overlap && range(asked).is_none_or(|range| range.covers(allowed))
        }
        (HostPattern::Network(_), HostPattern::Name(_) | HostPattern::Below(_)) => false,
        (HostPattern::Public, HostPattern::Network(allowed)) => range(allowed).is_none(),
        (HostPattern::Public, HostPattern::Public | HostPattern::Name(_) | HostPattern::Below(_)) => true,
        // A name may resolve to anything public.
        (HostPattern::Name(_) | HostPattern::Below(_), HostPattern::Public | HostPattern::Network(_)) => true,
        (HostPattern::Name(asked), host) => host.covers_name(asked),
        (HostPattern::Below(asked), HostPattern::Name(allowed)) => allowed.is_below(asked),
        (HostPattern::Below(asked), HostPattern::Below(allowed)) => {
            asked == allowed || asked.is_below(allowed) || allowed.is_below(asked)
        }
    }
}

#[cfg(test)]
mod tests;
