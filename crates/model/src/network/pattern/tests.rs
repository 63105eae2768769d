//! Patterns: what they mean, and what is none.

use super::*;

fn pattern(text: &str) -> NetPattern {
    text.parse().unwrap()
}

#[test]
fn every_form_reads_and_writes_the_same() {
    for text in [
        "api.example.org:443",
        "*.example.org:80-90",
        "192.0.2.7:22",
        "10.0.0.0/8:*",
        "[2001:db8::1]:443",
        "[2001:db8::]/32:1-65534",
        "*:443",
        "udp:*:*",
        "udp:10.0.0.53:53",
        "localhost:8080",
        "_dns.a-b.example:1",
    ] {
        assert_eq!(pattern(text).to_string(), text);
    }
    assert_eq!(pattern("tcp:API.Example.Org.:443"), pattern("api.example.org:443"));
    assert_eq!(pattern("[::ffff:10.0.0.0]/104:1"), pattern("10.0.0.0/8:1"));
    assert_eq!(pattern("[::ffff:127.0.0.1]:1"), pattern("127.0.0.1:1"));
}

#[test]
fn what_is_no_pattern_is_refused_with_what_would_be() {
    for bad in [
        "",
        ":",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:1-",
        "host:9-1",
        "host:01",
        "host:+1",
        "a b:1",
        "*.:1",
        "**:1",
        "*.*.a:1",
        "a*.b:1",
        "2001:db8::1:443",
        "[2001:db8::1:443",
        "[1.2.3.4]:1",
        "1.2.3:1",
        "0x7f.1:1",
        "127.1:1",
        "2130706433:1",
        "1.2.3.0x4:1",
        "10.0.0.1/8:*",
        "10.0.0.0/33:*",
        "host/8:*",
        "[::]/129:*",
        "icmp:a:1:x",
        "-a.b:1",
        "a-.b:1",
        "a..b:1",
        "a\0b:1",
        "bücher.example:443",
    ] {
        assert!(bad.parse::<NetPattern>().is_err(), "{bad:?} passed");
    }
    let error = "10.0.0.1/8:*".parse::<NetPattern>().unwrap_err().to_string();
    assert!(error.contains("10.0.0.0/8 is meant"), "{error}");
    assert!(format!("{}:1", "a".repeat(64)).parse::<NetPattern>().is_err());
    assert!(format!("{}:1", "a.".repeat(200)).parse::<NetPattern>().is_err());
}

#[test]
fn a_suffix_covers_what_is_below_it_and_not_what_merely_ends_like_it() {
    let HostPattern::Below(above) = pattern("*.example.org:1").host else { panic!() };
    let below = |name: &str| name.parse::<HostName>().unwrap().is_below(&above);
    assert!(below("a.example.org") && below("a.b.example.org") && below("A.EXAMPLE.ORG."));
    assert!(!below("example.org") && !below("badexample.org") && !below("example.org.evil"));
}

#[test]
fn a_network_contains_the_addresses_that_share_its_prefix() {
    let network = |text: &str| match pattern(&format!("{text}:1")).host {
        HostPattern::Network(network) => network,
        other => panic!("{other:?}"),
    };
    let ten = network("10.0.0.0/8");
    assert!(ten.contains("10.255.0.1".parse().unwrap()) && ten.contains("::ffff:10.0.0.1".parse().unwrap()));
    assert!(!ten.contains("11.0.0.0".parse().unwrap()) && !ten.contains("fd00::".parse().unwrap()));
    assert!(ten.covers(&network("10.1.0.0/16")) && !network("10.1.0.0/16").covers(&ten));
    assert!(network("0.0.0.0/0").covers(&ten) && !network("[::]/0").covers(&ten));
    assert!(network("[::]/0").contains("::1".parse().unwrap()));
}

#[test]
fn ports_are_a_port_a_range_or_all() {
    let ports = |text: &str| text.parse::<PortSpan>().unwrap();
    assert!(ports("80-90").contains(80) && ports("80-90").contains(90) && !ports("80-90").contains(91));
    assert!(ports("*").contains(1) && !ports("*").contains(0));
    assert!(ports("1-5").overlaps(&ports("5-9")) && !ports("1-4").overlaps(&ports("5-9")));
}
