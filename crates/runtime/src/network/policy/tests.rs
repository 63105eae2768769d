//! Who may go where, by example and by property.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn patterns(texts: &[&str]) -> Vec<NetPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn policy(grants: &[&str], allowed: &[&str]) -> NetworkPolicy {
    let grants = NetworkGrants { outbound: patterns(grants), listen: None };
    let prepared = PreparedNetwork {
        allowed: patterns(allowed),
        cluster: vec!["127.0.0.1:5050".parse().unwrap(), "10.9.9.9:5050".parse().unwrap()],
        ports: Ranges::new([(31_000, 32_000)]),
        listen: None,
    };
    NetworkPolicy::new(grants, Ranges::default(), prepared)
}

const DEFAULT: &[&str] = &["*:*", "udp:*:*"];
/// An address of the agent's host that is not loopback.
const OWN: &str = "10.0.0.7";

fn tcp(policy: &NetworkPolicy, to: &str, names: &[&str]) -> Result<(), Denial> {
    let names: Vec<HostName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let own: IpAddr = OWN.parse().unwrap();
    policy.admit(Transport::Tcp, to.parse().unwrap(), &names, |address| address == own)
}

#[test]
fn without_a_grant_nothing_is_reached() {
    for to in ["1.1.1.1:443", "127.0.0.1:22", "10.0.0.1:80"] {
        assert_eq!(tcp(&policy(&[], DEFAULT), to, &["a.example"]), Err(Denial::NotGranted));
    }
    assert_eq!(tcp(&policy(&["*:443"], &[]), "1.1.1.1:443", &[]), Err(Denial::NotAllowed));
}

#[test]
fn a_public_address_needs_host_port_and_transport() {
    let policy = policy(&["1.1.1.1:443", "8.8.0.0/16:50-60"], DEFAULT);
    assert_eq!(tcp(&policy, "1.1.1.1:443", &[]), Ok(()));
    assert_eq!(tcp(&policy, "[::ffff:1.1.1.1]:443", &[]), Ok(()));
    assert_eq!(tcp(&policy, "8.8.4.4:53", &[]), Ok(()));
    for other in ["1.1.1.1:80", "1.1.1.2:443", "8.9.0.0:53", "8.8.4.4:61"] {
        assert_eq!(tcp(&policy, other, &[]), Err(Denial::NotGranted), "{other}");
    }
    let to = "8.8.4.4:53".parse().unwrap();
    assert_eq!(policy.admit(Transport::Udp, to, &[], |_| false), Err(Denial::NotGranted));
}

#[test]
fn a_name_admits_what_it_resolved_to_and_nothing_else() {
    let policy = policy(&["api.example.org:443", "*.cdn.example:80"], DEFAULT);
    assert_eq!(tcp(&policy, "1.1.1.1:443", &["api.example.org"]), Ok(()));
    assert_eq!(tcp(&policy, "1.1.1.1:443", &["evil.example.org"]), Err(Denial::NotGranted));
    assert_eq!(tcp(&policy, "1.1.1.1:443", &[]), Err(Denial::NotGranted));
    assert_eq!(tcp(&policy, "1.1.1.1:80", &["x.cdn.example"]), Ok(()));
    let may = |name: &str| policy.may_resolve(&name.parse().unwrap());
    assert_eq!(may("API.example.org."), Ok(()));
    assert_eq!(may("example.org"), Err(Denial::NotGranted));
    assert_eq!(may("cdn.example"), Err(Denial::NotGranted));
}

#[test]
fn no_name_leads_to_this_host_or_its_link_whatever_the_operator_allows() {
    let allowed = ["*:*", "rebind.example:*", "127.0.0.0/8:*", "169.254.0.0/16:*", "[::1]:*", "10.0.0.7:*"];
    let policy = policy(&["rebind.example:*"], &allowed);
    for to in ["127.0.0.1:80", "169.254.169.254:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "10.0.0.7:80"] {
        assert!(tcp(&policy, to, &["rebind.example"]).is_err(), "{to}");
    }
    for to in ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "64:ff9b::7f00:1", "0.0.0.0"] {
        assert!(policy.may_pin(&"rebind.example".parse().unwrap(), to.parse().unwrap()).is_err(), "{to}");
    }
}

#[test]
fn private_addresses_open_to_the_operators_networks_and_names() {
    let grants = ["10.0.0.0/8:*", "db.corp.example:5432", "other.example:5432"];
    let by_network = policy(&grants, &["*:*", "10.1.0.0/16:5432"]);
    assert_eq!(tcp(&by_network, "10.1.2.3:5432", &[]), Ok(()));
    assert!(matches!(tcp(&by_network, "10.2.2.3:5432", &[]), Err(Denial::Closed(_))));
    assert!(matches!(tcp(&by_network, "10.1.2.3:22", &[]), Err(Denial::Closed(_))));
    let by_name = policy(&["db.corp.example:5432", "other.example:5432"], &["*:*", "*.corp.example:5432"]);
    assert_eq!(tcp(&by_name, "10.1.2.3:5432", &["db.corp.example"]), Ok(()));
    assert!(tcp(&by_name, "10.1.2.3:5432", &["other.example"]).is_err(), "another name must not lead there");
    assert!(by_name.may_pin(&"db.corp.example".parse().unwrap(), "10.1.2.3".parse().unwrap()).is_ok());
    assert!(by_name.may_pin(&"other.example".parse().unwrap(), "10.1.2.3".parse().unwrap()).is_err());
    // Everything is not what is private: the operator names it.
    let everything = policy(&["0.0.0.0/0:*"], &["0.0.0.0/0:*"]);
    assert_eq!(tcp(&everything, "1.1.1.1:80", &[]), Ok(()));
    for closed in ["10.1.1.1:80", "127.0.0.1:80", "169.254.169.254:80", "100.64.0.1:80"] {
        assert!(matches!(tcp(&everything, closed, &[]), Err(Denial::Closed(_))), "{closed}");
    }
}

#[test]
fn loopback_opens_to_the_operators_loopback_and_the_cluster_to_its_exact_endpoint() {
    let open = policy(&["127.0.0.1:*"], &["127.0.0.0/8:*"]);
    assert_eq!(tcp(&open, "127.0.0.1:8080", &[]), Ok(()));
    assert_eq!(tcp(&open, "[::ffff:127.0.0.1]:8080", &[]), Ok(()));
    assert_eq!(tcp(&open, "127.0.0.1:5050", &[]), Err(Denial::Cluster));
    let wide = policy(&["127.0.0.0/8:*", "10.0.0.0/8:*"], &["127.0.0.0/8:*", "10.0.0.0/8:*"]);
    // The master of this host listens perhaps on all of the host's addresses.
    for to in ["127.0.0.2:5050", "10.9.9.9:5050", "10.0.0.7:5050"] {
        assert_eq!(tcp(&wide, to, &[]), Err(Denial::Cluster), "{to}");
    }
    let exact = policy(&["127.0.0.1:5050"], &["127.0.0.1:5050"]);
    assert_eq!(tcp(&exact, "127.0.0.1:5050", &[]), Ok(()));
}

#[test]
fn this_host_is_closed_but_for_the_ports_of_its_tasks() {
    let policy = policy(&["10.0.0.0/8:*"], &["10.0.0.0/8:*"]);
    assert_eq!(tcp(&policy, "10.0.0.8:22", &[]), Ok(()));
    assert!(matches!(tcp(&policy, "10.0.0.7:22", &[]), Err(Denial::Closed(_))));
    assert_eq!(tcp(&policy, "10.0.0.7:31500", &[]), Ok(()));
}

#[test]
fn a_task_listens_where_and_on_what_it_holds() {
    let of = |listen: Option<&str>| {
        let grants = NetworkGrants { outbound: patterns(&["*:443"]), listen: Some(ListenOn::Agent) };
        let listen = listen.map(|address| address.parse().unwrap());
        let prepared = PreparedNetwork { listen, ..PreparedNetwork::default() };
        NetworkPolicy::new(grants, Ranges::new([(31_000, 31_001)]), prepared)
    };
    let listen = |policy: &NetworkPolicy, address: &str| policy.may_listen(address.parse().unwrap());
    let own = of(Some("192.168.1.5"));
    assert_eq!(listen(&own, "192.168.1.5:31000"), Ok(()));
    assert_eq!(listen(&own, "192.168.1.5:31002"), Err(Denial::OtherPort));
    assert_eq!(listen(&own, "192.168.1.5:0"), Err(Denial::OtherPort));
    assert!(matches!(listen(&own, "0.0.0.0:31000"), Err(Denial::OtherAddress(_))));
    assert!(matches!(listen(&own, "127.0.0.1:31000"), Err(Denial::OtherAddress(_))));
    assert_eq!(listen(&of(None), "192.168.1.5:31000"), Err(Denial::NoListen));
    let any = of(Some("0.0.0.0"));
    assert_eq!(listen(&any, "10.0.0.1:31000"), Ok(()));
    assert!(listen(&any, "[::]:31000").is_err());
    // What connecting does by itself.
    assert_eq!(own.may_bind(Transport::Tcp, "0.0.0.0:0".parse().unwrap()), Ok(()));
    assert!(own.may_bind(Transport::Udp, "0.0.0.0:0".parse().unwrap()).is_err());
    assert!(NetworkPolicy::default().may_bind(Transport::Tcp, "0.0.0.0:0".parse().unwrap()).is_err());
}

#[test]
fn a_grant_of_which_nothing_is_allowed_is_refused_before_the_task_runs() {
    let check = |asked: &str, allowed: &[&str]| {
        let grants = NetworkGrants { outbound: patterns(&[asked]), listen: None };
        NetworkPolicy::check_grants(&grants, &patterns(allowed))
    };
    for fine in ["a.example:443", "*.example:1", "1.1.1.1:1", "*:1", "udp:*:53", "0.0.0.0/0:*"] {
        assert_eq!(check(fine, DEFAULT), Ok(()), "{fine}");
    }
    for closed in ["127.0.0.1:80", "10.0.0.0/8:*", "169.254.169.254:80", "[::1]:80", "[fe80::]/10:*"] {
        assert!(check(closed, DEFAULT).is_err(), "{closed}");
    }
    assert_eq!(check("127.0.0.1:80", &["127.0.0.0/8:*"]), Ok(()));
    assert!(check("127.0.0.1:80", &["0.0.0.0/0:*"]).is_err());
    assert!(check("a.example:443", &["*:80"]).is_err());
    assert!(check("a.example:443", &["b.example:443"]).is_err());
    assert!(check("a.b.example:443", &["*.example:443"]).is_ok());
    let error = check("127.0.0.1:80", DEFAULT).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:80 is not allowed") && error.contains("*:*, udp:*:*"), "{error}");
    assert!(check("a.example:443", &[]).unwrap_err().to_string().contains("allowed: nothing"));
}

/// Addresses with many that matter among them.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let special = prop::sample::select(vec![
        "127.0.0.1",
        "169.254.169.254",
        "10.0.0.7",
        "10.9.9.9",
        "192.168.3.4",
        "0.0.0.0",
        "255.255.255.255",
        "1.1.1.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:1.1.1.1",
        "64:ff9b::7f00:1",
        "2606:4700::1",
    ]);
    prop_oneof![
        special.prop_map(|text| text.parse().unwrap()),
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn some_patterns() -> impl Strategy<Value = Vec<NetPattern>> {
    let texts = prop::sample::select(vec![
        "*:*",
        "a.example:*",
        "*.example:80",
        "0.0.0.0/0:*",
        "[::]/0:*",
        "127.0.0.0/8:*",
        "127.0.0.1:5050",
        "10.0.0.0/8:*",
        "10.0.0.7:22",
        "169.254.0.0/16:80",
        "[fe80::]/10:*",
        "[fd00::]/8:*",
        "1.1.1.1:80",
        "udp:*:*",
        "224.0.0.0/4:*",
    ]);
    prop::collection::vec(texts.prop_map(|text| text.parse().unwrap()), 0..5)
}

proptest! {
    #[test]
    fn the_holes_are_where_somebody_made_them(
        outbound in some_patterns(), allowed in some_patterns(), address in addresses(),
        port in prop::sample::select(vec![0u16, 22, 80, 443, 5050, 31_500]), named in any::<bool>(),
    ) {
        let names: Vec<HostName> = if named { vec!["a.example".parse().unwrap()] } else { Vec::new() };
        let grants = NetworkGrants { outbound, listen: None };
        let base = policy(&[], &[]).prepared;
        let policy = NetworkPolicy::new(grants.clone(), Ranges::default(), PreparedNetwork { allowed: allowed.clone(), ..base });
        let own: IpAddr = OWN.parse().unwrap();
        let to = SocketAddr::new(address, port);
        let verdict = policy.admit(Transport::Tcp, to, &names, |address| address == own);

        // The same host by its other notation is the same host.
        let other = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            v6 @ IpAddr::V6(_) => v6,
        };
        prop_assert_eq!(verdict, policy.admit(Transport::Tcp, SocketAddr::new(other, port), &names, |address| address == own));
        if verdict.is_ok() {
            let canonical = address.to_canonical();
            let reach = Reach::of(canonical);
            prop_assert!(reach != Reach::Nowhere && port != 0);
            let covers = |pattern: &NetPattern| pattern.ports.contains(port) && pattern.transport == Transport::Tcp
                && match &pattern.host {
                    HostPattern::Public => reach == Reach::Public,
                    HostPattern::Network(network) => network.contains(canonical),
                    host => names.iter().any(|name| host.covers_name(name)),
                };
            prop_assert!(grants.outbound.iter().any(covers) && allowed.iter().any(covers));
            let closed = matches!(reach, Reach::Local(_)) || (canonical == own && port != 31_500);
            if closed {
                let exact = |pattern: &NetPattern| match &pattern.host {
                    HostPattern::Network(network) => {
                        let range = reach.range().filter(|_| canonical != own).unwrap_or_else(|| Network::single(own));
                        range.covers(network) && network.contains(canonical)
                    }
                    _ => false,
                };
                prop_assert!(allowed.iter().any(exact), "{to} was opened by {allowed:?}");
            }
            if port == 5050 && (matches!(reach, Reach::Local(_)) || canonical == own) {
                prop_assert!(allowed.iter().any(|pattern| pattern.ports.single() == Some(5050)));
            }
        }
    }

    #[test]
    fn what_is_refused_at_launch_could_never_have_been_reached(
        outbound in some_patterns(), allowed in some_patterns(), address in addresses(),
        port in prop::sample::select(vec![22u16, 80, 443, 5050]),
    ) {
        for pattern in outbound {
            let grants = NetworkGrants { outbound: vec![pattern.clone()], listen: None };
            if NetworkPolicy::check_grants(&grants, &allowed).is_err() {
                let prepared = PreparedNetwork { allowed: allowed.clone(), ..PreparedNetwork::default() };
                let policy = NetworkPolicy::new(grants, Ranges::default(), prepared);
                let names = ["a.example".parse().unwrap()];
                let verdict = policy.admit(pattern.transport, SocketAddr::new(address, port), &names, |_| false);
                prop_assert!(verdict.is_err(), "{pattern} reached {address}:{port} under {allowed:?}");
            }
        }
    }
}
