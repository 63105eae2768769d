//! Patterns of destinations: `[tcp:|udp:]HOST:PORTS`.
//!
//! `HOST` is a name (`api.example.org`), all names below one (`*.example.org`), an address (`192.0.2.7`, `[2001:db8::1]`), a
//! network (`10.0.0.0/8`, `[2001:db8::]/32`), or `*`: everything on the public internet. `PORTS` is a port, a range
//! (`8000-8999`) or `*`.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use std::sync::Arc;

/// Longest host name, in bytes.
const MAX_NAME_BYTES: usize = 253;
/// Longest part of a host name between two dots, in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 300;

/// How a destination is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It is longer than any can be.
    #[error("network pattern has {0} bytes; the limit is {MAX_PATTERN_BYTES}")]
    TooLong(usize),
    /// It has no port.
    #[error("network pattern {0:?} is not HOST:PORT, such as api.example.org:443, *.example.org:80-90 or 10.0.0.0/8:*")]
    Shape(String),
    /// Its port is none.
    #[error("ports {0:?} are not a port from 1 to 65535, a range such as 8000-8999, or *")]
    Ports(String),
    /// Its host is none.
    #[error("host {0:?} is not a name, *.NAME, an address, ADDRESS/PREFIX or *; an IPv6 address stands in brackets")]
    Host(String),
    /// Its network has a prefix that does not fit.
    #[error("network {network} has the prefix length {prefix}; the limit is {limit}")]
    Prefix {
        /// The address.
        network: IpAddr,
        /// The length.
        prefix: u8,
        /// The longest for such an address.
        limit: u8,
    },
    /// Its network has bits beyond its prefix: one of the two is a typing error.
    #[error("network {network}/{prefix} has bits beyond its prefix; {meant} is meant, or another prefix")]
    Bits {
        /// The address.
        network: IpAddr,
        /// The length.
        prefix: u8,
        /// The network it lies in.
        meant: Network,
    },
}

/// A host's name in its comparable form: lower case, without the dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `above` with something before it.
    pub fn is_below(&self, above: &HostName) -> bool {
        self.0.strip_suffix(&*above.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<HostName, ParseNetworkError> {
        let refused = || ParseNetworkError::Host(text.chars().take(MAX_NAME_BYTES).collect());
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_ok = |label: &str| {
            let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(label_ok) {
            return Err(refused());
        }
        // What ends in a number is taken for an address by some resolvers, in notations such as 127.1 and 0x7f.1.
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        let is_number = last.bytes().all(|c| c.is_ascii_digit())
            || hex.is_some_and(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
        if is_number {
            return Err(refused());
        }
        Ok(HostName(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Neighbouring addresses: an address and how many of its leading bits count. IPv4 addresses within IPv6 are kept as what
/// they are, IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// One address.
    pub fn single(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, prefix: bits(address) }
    }

    /// An address and the number of its bits that count.
    ///
    /// # Errors
    /// When the prefix is longer than the address, or the address has bits beyond it.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Network, ParseNetworkError> {
        let limit = bits(address);
        if prefix > limit {
            return Err(ParseNetworkError::Prefix { network: address, prefix, limit });
        }
        let meant = Network::masked(address, prefix);
        if meant.address != address {
            return Err(ParseNetworkError::Bits { network: address, prefix, meant });
        }
        let canonical = address.to_canonical();
        let shorter = prefix.checked_sub(limit - bits(canonical));
        Ok(shorter.map_or(meant, |prefix| Network { address: canonical, prefix }))
    }

    /// The network of this size that an address lies in.
    pub(super) fn masked(address: IpAddr, prefix: u8) -> Network {
        let masked = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Network { address: masked, prefix }
    }

    /// Whether an address, which is taken for what it is within, lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Network::masked(address, self.prefix).address == self.address
    }

    /// Whether all of another network lies in this one.
    pub fn covers(&self, other: &Network) -> bool {
        other.prefix >= self.prefix && self.contains(other.address)
    }

    /// Whether it is one address.
    pub fn is_single(&self) -> bool {
        self.prefix == bits(self.address)
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => write!(f, "{v4}")?,
            IpAddr::V6(v6) => write!(f, "[{v6}]")?,
        }
        if self.is_single() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Which hosts a pattern is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Every host on the public internet: nothing that is private, local or reserved.
    Public,
    /// The host of this name.
    Name(HostName),
    /// All hosts whose names end in a dot and this one.
    Below(HostName),
    /// The hosts of these addresses.
    Network(Network),
}

impl HostPattern {
    /// Whether the pattern is about hosts of this name. [`HostPattern::Public`] is about addresses.
    pub fn covers_name(&self, name: &HostName) -> bool {
        match self {
            HostPattern::Name(own) => own == name,
            HostPattern::Below(above) => name.is_below(above),
            HostPattern::Public | HostPattern::Network(_) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<HostPattern, ParseNetworkError> {
        let refused = || ParseNetworkError::Host(text.to_owned());
        if text == "*" {
            return Ok(HostPattern::Public);
        }
        if let Some(above) = text.strip_prefix("*.") {
            return above.parse().map(HostPattern::Below);
        }
        let (host, prefix) = match text.split_once('/') {
            Some((host, prefix)) => (host, Some(number(prefix).ok_or_else(refused)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').map(|rest| rest.strip_suffix(']').ok_or_else(refused)).transpose()?;
        let address: Option<IpAddr> = match bare {
            Some(v6) => Some(IpAddr::V6(v6.parse().map_err(|_| refused())?)),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match (address, prefix) {
            (Some(address), Some(prefix)) => Network::new(address, prefix).map(HostPattern::Network),
            (Some(address), None) => Ok(HostPattern::Network(Network::single(address))),
            (None, None) => host.parse().map(HostPattern::Name),
            (None, Some(_)) => Err(refused()),
        }
    }
}

/// A number in its one usual notation.
fn number<N: FromStr + fmt::Display>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Public => f.write_str("*"),
            HostPattern::Name(name) => write!(f, "{name}"),
            HostPattern::Below(name) => write!(f, "*.{name}"),
            HostPattern::Network(network) => write!(f, "{network}"),
        }
    }
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSpan {
    first: u16,
    last: u16,
}

impl PortSpan {
    /// Every port.
    pub const ALL: PortSpan = PortSpan { first: 1, last: u16::MAX };

    /// Whether a port is among them.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether both have a port in common.
    pub fn overlaps(&self, other: &PortSpan) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The one port, if there is one.
    pub fn single(&self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }
}

impl FromStr for PortSpan {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<PortSpan, ParseNetworkError> {
        if text == "*" {
            return Ok(PortSpan::ALL);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if 0 < first && first <= last => Ok(PortSpan { first, last }),
            _ => Err(ParseNetworkError::Ports(text.to_owned())),
        }
    }
}

impl fmt::Display for PortSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.single()) {
            (PortSpan::ALL, _) => f.write_str("*"),
            (_, Some(port)) => write!(f, "{port}"),
            (PortSpan { first, last }, None) => write!(f, "{first}-{last}"),
        }
    }
}

/// Destinations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetPattern {
    /// How they are spoken to.
    pub transport: Transport,
    /// Which hosts.
    pub host: HostPattern,
    /// Which of their ports.
    pub ports: PortSpan,
}

impl FromStr for NetPattern {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<NetPattern, ParseNetworkError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(ParseNetworkError::TooLong(text.len()));
        }
        let (transport, rest) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(rest), _) => (Transport::Tcp, rest),
            (None, Some(rest)) => (Transport::Udp, rest),
            (None, None) => (Transport::Tcp, text),
        };
        let (host, ports) = rest.rsplit_once(':').ok_or_else(|| ParseNetworkError::Shape(text.to_owned()))?;
        Ok(NetPattern { transport, host: host.parse()?, ports: ports.parse()? })
    }
}

impl fmt::Display for NetPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.transport == Transport::Udp {
            f.write_str("udp:")?;
        }
        write!(f, "{}:{}", self.host, self.ports)
    }
}

#[cfg(test)]
mod tests;
