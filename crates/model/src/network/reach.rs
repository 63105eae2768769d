//! What kind of place an address is: who could be reached there that the internet cannot reach.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// The public internet.
    Public,
    /// A network of somebody's own: private, unique local and shared ranges.
    Private(Network),
    /// This machine or its link: loopback, link-local, and with it the metadata services of clouds.
    Local(Network),
    /// No single host at all: unspecified, multicast, broadcast, reserved.
    Nowhere,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> (Ipv4Addr, u8) {
    (Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> (Ipv6Addr, u8) {
    (Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

const LOCAL_V4: [(Ipv4Addr, u8); 2] = [v4(127, 0, 0, 0, 8), v4(169, 254, 0, 0, 16)];
/// RFC 1918, shared address space, protocol assignments, documentation, benchmarks, the former relay of 6to4.
const PRIVATE_V4: [(Ipv4Addr, u8); 10] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
];
/// "This network", multicast, reserved and broadcast.
const NOWHERE_V4: [(Ipv4Addr, u8); 3] = [v4(0, 0, 0, 0, 8), v4(224, 0, 0, 0, 4), v4(240, 0, 0, 0, 4)];

const LOCAL_V6: [(Ipv6Addr, u8); 2] = [(Ipv6Addr::LOCALHOST, 128), v6(0xfe80, 0, 10)];
/// Unique local, the former site local, documentation, and tunnels that end who knows where (Teredo, ORCHID, 6to4).
const PRIVATE_V6: [(Ipv6Addr, u8); 7] = [
    v6(0xfc00, 0, 7),
    v6(0xfec0, 0, 10),
    v6(0x2001, 0x0db8, 32),
    v6(0x3fff, 0, 20),
    v6(0x2001, 0, 23),
    v6(0x2002, 0, 16),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];
/// Addresses of IPv4 behind a translator: they are what is inside.
const TRANSLATED: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// Where the internet is.
const GLOBAL_V6: (Ipv6Addr, u8) = v6(0x2000, 0, 3);

impl Reach {
    /// What kind of place an address is. IPv4 within IPv6 is what is inside.
    pub fn of(address: IpAddr) -> Reach {
        match address.to_canonical() {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// The range that an address shares with its like, if it is no public one.
    pub fn range(self) -> Option<Network> {
        match self {
            Reach::Private(range) | Reach::Local(range) => Some(range),
            Reach::Public | Reach::Nowhere => None,
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    let address = IpAddr::V4(address);
    let among = |ranges: &[(Ipv4Addr, u8)]| {
        let networks = ranges.iter().map(|(first, prefix)| Network::masked(IpAddr::V4(*first), *prefix));
        networks.into_iter().find(|network| network.contains(address))
    };
    if among(&NOWHERE_V4).is_some() {
        return Reach::Nowhere;
    }
    let local = among(&LOCAL_V4).map(Reach::Local);
    local.or_else(|| among(&PRIVATE_V4).map(Reach::Private)).unwrap_or(Reach::Public)
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let within = |(first, prefix): &(Ipv6Addr, u8)| {
        let network = Network::masked(IpAddr::V6(*first), *prefix);
        network.contains(IpAddr::V6(address)).then_some(network)
    };
    if within(&TRANSLATED).is_some() {
        let [.., a, b, c, d] = address.octets();
        return of_v4(Ipv4Addr::new(a, b, c, d));
    }
    if let Some(range) = LOCAL_V6.iter().find_map(within) {
        return Reach::Local(range);
    }
    if let Some(range) = PRIVATE_V6.iter().find_map(within) {
        return Reach::Private(range);
    }
    if within(&GLOBAL_V6).is_some() { Reach::Public } else { Reach::Nowhere }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Reach {
        Reach::of(address.parse().unwrap())
    }

    #[test]
    fn what_the_internet_reaches_is_public_and_nothing_else() {
        for public in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert_eq!(reach(public), Reach::Public, "{public}");
        }
        for private in ["10.1.2.3", "172.31.255.255", "192.168.0.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(matches!(reach(private), Reach::Private(_)), "{private}");
        }
        for tunnel in ["2002:7f00:1::", "2001:0:4136:e378::", "64:ff9b:1::1", "198.18.0.1"] {
            assert!(matches!(reach(tunnel), Reach::Private(_)), "{tunnel}");
        }
        for local in
            ["127.0.0.1", "127.255.255.254", "169.254.169.254", "::1", "fe80::1", "febf::1", "::ffff:127.0.0.1"]
        {
            assert!(matches!(reach(local), Reach::Local(_)), "{local}");
        }
        for nowhere in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1", "::7f00:1"]
        {
            assert_eq!(reach(nowhere), Reach::Nowhere, "{nowhere}");
        }
    }

    #[test]
    fn a_translated_address_is_what_it_is_translated_to() {
        assert!(matches!(reach("64:ff9b::7f00:1"), Reach::Local(_)));
        assert!(matches!(reach("64:ff9b::a9fe:a9fe"), Reach::Local(_)));
        assert_eq!(reach("64:ff9b::808:808"), Reach::Public);
    }
}
