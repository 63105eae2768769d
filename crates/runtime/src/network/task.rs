//! The network of one running task: what it resolved, how many sockets it has, what was refused to it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_model::{HostName, Transport};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::NetworkPolicy;
use super::policy::Denial;
use crate::limits::{MAX_LOOKUPS, MAX_PEERS, MAX_PINNED, MAX_SOCKETS, MAX_TOLD_REFUSALS};
use crate::output::Output;

/// What one task does on the network. Its sockets, its HTTP requests and the task itself share it.
pub(crate) struct TaskNetwork {
    policy: Arc<NetworkPolicy>,
    output: Output,
    /// Taken by the thread that polls the task and by the I/O of its HTTP requests, never while anything waits.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The names that an address was an answer for.
    pins: BTreeMap<IpAddr, Vec<HostName>>,
    /// Look-ups that go on, by the number of their resource.
    lookups: BTreeMap<u32, HostName>,
    /// Who sent datagrams to a task that listens: it may answer.
    peers: BTreeSet<SocketAddr>,
    /// Sockets by the number of their resource.
    sockets: BTreeSet<u32>,
    /// Connections of HTTP requests.
    connections: usize,
    refusals: u64,
}

impl TaskNetwork {
    /// The network of a task that begins; refusals are told to its standard error.
    pub(crate) fn new(policy: Arc<NetworkPolicy>, output: Output) -> TaskNetwork {
        TaskNetwork { policy, output, seen: Mutex::default() }
    }

    /// Lets a guest's sockets ask here.
    pub(crate) fn configure(self: &Arc<TaskNetwork>, wasi: &mut WasiCtxBuilder) {
        let open = !self.policy.is_closed();
        wasi.allow_tcp(open).allow_udp(open).allow_ip_name_lookup(open);
        if open {
            let network = self.clone();
            wasi.socket_addr_check(move |address, used| Box::pin(ready(network.check(address, used))));
        }
    }

    pub(crate) fn policy(&self) -> &NetworkPolicy {
        &self.policy
    }

    /// How often something was refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal, and tells the task's log of the first few.
    pub(super) fn refuse(&self, what: &str, why: impl std::fmt::Display) {
        let number = {
            let mut seen = self.lock();
            seen.refusals = seen.refusals.saturating_add(1);
            seen.refusals
        };
        let line = match number {
            _ if number < MAX_TOLD_REFUSALS => format!("holm: network: {what} is refused: {why}\n"),
            MAX_TOLD_REFUSALS => format!("holm: network: {what} is refused: {why}; more refusals are only counted\n"),
            _ => return,
        };
        self.output.note(&line);
    }

    /// The check of every address that a socket of the task is to use.
    pub(crate) fn check(&self, address: SocketAddr, used: SocketAddrUse) -> bool {
        let (verdict, what) = match used {
            SocketAddrUse::TcpBind => (self.policy.may_bind(Transport::Tcp, address), "listening on tcp"),
            SocketAddrUse::UdpBind => (self.policy.may_bind(Transport::Udp, address), "listening on udp"),
            SocketAddrUse::TcpListen => (self.policy.may_listen(address), "listening on tcp"),
            // Whoever may listen may be spoken to.
            SocketAddrUse::TcpAccept => return true,
            SocketAddrUse::TcpConnect => (self.admit(Transport::Tcp, address), "tcp to"),
            SocketAddrUse::UdpSend if self.lock().peers.contains(&address) => return true,
            SocketAddrUse::UdpSend => (self.admit(Transport::Udp, address), "udp to"),
            SocketAddrUse::UdpReceive => return self.hear(address),
        };
        match verdict {
            Ok(()) => true,
            Err(denial) => {
                self.refuse(&format!("{what} {address}"), denial);
                false
            }
        }
    }

    /// Whether a datagram reaches the task. What was not asked for is dropped and none of its business.
    fn hear(&self, from: SocketAddr) -> bool {
        if self.policy.listens_on().is_none() {
            return self.admit(Transport::Udp, from).is_ok();
        }
        let mut seen = self.lock();
        if seen.peers.len() >= MAX_PEERS {
            seen.peers.clear();
        }
        seen.peers.insert(from);
        true
    }

    fn admit(&self, transport: Transport, to: SocketAddr) -> Result<(), Denial> {
        let names = self.lock().pins.get(&to.ip().to_canonical()).cloned().unwrap_or_default();
        self.policy.admit(transport, to, &names, is_of_this_host)
    }

    /// Whether the task may connect; if not, that is counted.
    pub(crate) fn may_connect(&self, to: SocketAddr) -> bool {
        self.check(to, SocketAddrUse::TcpConnect)
    }

    /// Whether a name may be looked up; if not, that is counted.
    pub(crate) fn may_resolve(&self, name: &HostName) -> bool {
        let verdict = self.policy.may_resolve(name);
        if let Err(denial) = &verdict {
            self.refuse(&format!("looking up {name}"), denial);
        }
        verdict.is_ok()
    }

    /// Takes down an answer for a granted name: from now on it admits the address. `false` if no name may lead there.
    pub(crate) fn pin(&self, name: &HostName, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if let Err(denial) = self.policy.may_pin(name, address) {
            self.refuse(&format!("{name} at {address}"), denial);
            return false;
        }
        let mut seen = self.lock();
        if seen.pins.len() >= MAX_PINNED && !seen.pins.contains_key(&address) {
            seen.pins.clear();
        }
        let names = seen.pins.entry(address).or_default();
        if !names.contains(name) {
            names.push(name.clone());
            names.truncate(MAX_LOOKUPS);
        }
        true
    }

    /// Whether another look-up may begin.
    pub(super) fn has_room_for_lookup(&self) -> bool {
        self.lock().lookups.len() < MAX_LOOKUPS
    }

    pub(super) fn lookup_began(&self, resource: u32, name: HostName) {
        self.lock().lookups.insert(resource, name);
    }

    pub(super) fn lookup_ended(&self, resource: u32) {
        self.lock().lookups.remove(&resource);
    }

    /// Takes down an answer to a look-up. Answers to what was no name are addresses as the guest wrote them.
    pub(super) fn answered(&self, resource: u32, address: IpAddr) -> bool {
        let name = self.lock().lookups.get(&resource).cloned();
        name.is_none_or(|name| self.pin(&name, address))
    }

    /// Whether another socket may be made; if not, that is counted.
    pub(super) fn has_room_for_socket(&self) -> bool {
        let seen = self.lock();
        let open = seen.sockets.len() + seen.connections;
        drop(seen);
        if open >= MAX_SOCKETS {
            self.refuse("one more socket", format_args!("the task has {open}, the limit is {MAX_SOCKETS}"));
        }
        open < MAX_SOCKETS
    }

    pub(super) fn socket_made(&self, resource: u32) {
        self.lock().sockets.insert(resource);
    }

    pub(super) fn socket_dropped(&self, resource: u32) {
        self.lock().sockets.remove(&resource);
    }

    /// A place for the connection of an HTTP request, if there is one; it is given back when it is dropped.
    pub(crate) fn connection(self: &Arc<TaskNetwork>) -> Option<Connection> {
        self.has_room_for_socket().then(|| {
            self.lock().connections += 1;
            Connection(self.clone())
        })
    }
}

/// One of the connections that a task may have.
pub(crate) struct Connection(Arc<TaskNetwork>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.lock().connections -= 1;
    }
}

/// Whether an address is one of this host: exactly then a socket can be bound to it. Where that cannot be found out, it is.
fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).err().is_none_or(|error| error.kind() != ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use holm_model::{NetworkGrants, PreparedNetwork, Ranges};

    use super::*;
    use crate::{OutputSink, Stream};

    struct Nowhere;

    impl OutputSink for Nowhere {
        fn write(&mut self, _: Stream, _: &[u8]) {}
    }

    fn network(outbound: &str) -> TaskNetwork {
        let grants = NetworkGrants { outbound: vec![outbound.parse().unwrap()], listen: None };
        let prepared = PreparedNetwork { allowed: crate::public_internet(), ..PreparedNetwork::default() };
        let policy = NetworkPolicy::new(grants, Ranges::default(), prepared);
        TaskNetwork::new(Arc::new(policy), Output::new(Box::new(Nowhere), 1 << 20))
    }

    #[test]
    fn an_address_is_reached_once_a_granted_name_resolved_to_it() {
        let network = network("api.example.org:443");
        let name: HostName = "api.example.org".parse().unwrap();
        let to = "198.41.0.4:443".parse().unwrap();
        assert!(!network.may_connect(to), "nobody resolved anything yet");
        network.lookup_began(7, name.clone());
        assert!(network.answered(7, "198.41.0.4".parse().unwrap()));
        assert!(!network.answered(7, "10.0.0.1".parse().unwrap()), "a private address is no answer");
        network.lookup_ended(7);
        assert!(network.may_connect(to));
        assert!(network.may_connect("[::ffff:198.41.0.4]:443".parse().unwrap()));
        assert!(!network.may_connect("198.41.0.4:80".parse().unwrap()));
        assert!(!network.may_connect("10.0.0.1:443".parse().unwrap()));
        assert!(!network.check(to, SocketAddrUse::UdpSend));
        assert_eq!(network.refusals(), 5);
    }

    #[test]
    fn answers_are_remembered_up_to_a_limit() {
        let network = network("*:443");
        let name: HostName = "a.example".parse().unwrap();
        for number in 0..u32::try_from(2 * MAX_PINNED).unwrap() {
            network.pin(&name, std::net::Ipv4Addr::from_bits(0x0800_0000 + number).into());
        }
        assert!(network.lock().pins.len() <= MAX_PINNED);
    }

    #[test]
    fn this_host_is_known_by_its_addresses() {
        assert!(is_of_this_host("127.0.0.1".parse().unwrap()));
        assert!(!is_of_this_host("198.41.0.4".parse().unwrap()));
    }
}
