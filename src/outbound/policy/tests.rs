use std::net::Ipv4Addr;

use super::*;

const OWN: &str = "9.9.9.10";

/// As in the configuration by default.
const DENIED_PORTS: &[u16] = &[25];

fn strict() -> DestinationPolicy {
    DestinationPolicy::new(false, Vec::new(), DENIED_PORTS.to_vec(), Vec::new())
}

fn allowing(ranges: &[&str]) -> DestinationPolicy {
    let allow = ranges.iter().map(|range| range.parse().unwrap()).collect();
    DestinationPolicy::new(false, allow, DENIED_PORTS.to_vec(), Vec::new())
}

/// Whether it may be dialled from a machine with loopback and one public address.
fn check(policy: &DestinationPolicy, ip: &str, port: u16) -> Result<(), Refusal> {
    policy.check(SocketAddr::new(ip.parse().unwrap(), port), way)
}

fn way(ip: IpAddr) -> Way {
    let is_own = ip.is_loopback() || ip.is_unspecified() || ip.to_string() == OWN;
    if is_own { Way::Here } else { Way::There }
}

#[test]
fn private_and_reserved_ipv4_is_refused_at_both_ends_of_each_range() {
    let refused = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 \
                   161.26.0.0 161.26.255.255 166.8.0.0 166.11.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 \
                   192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 \
                   198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 \
                   240.0.0.0 255.255.255.255";
    for ip in refused.split_whitespace() {
        assert!(matches!(check(&strict(), ip, 443), Err(Refusal::Private(_))), "{ip}");
        assert!(matches!(check(&strict(), &format!("::ffff:{ip}"), 443), Err(Refusal::Private(_))), "mapped {ip}");
        assert!(matches!(check(&strict(), &format!("64:ff9b::{ip}"), 443), Err(Refusal::Private(_))), "NAT64 {ip}");
        assert!(matches!(check(&strict(), &format!("::{ip}"), 443), Err(Refusal::Private(_))), "compatible {ip}");
        assert!(
            matches!(check(&strict(), &format!("::ffff:0:{ip}"), 443), Err(Refusal::Private(_))),
            "translated {ip}"
        );
        assert!(matches!(check(&strict(), &six_to_four(ip), 443), Err(Refusal::Private(_))), "6to4 {ip}");
    }
}

#[test]
fn public_ipv4_passes_in_every_routable_spelling() {
    let passed = "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
                  161.25.255.255 161.27.0.0 166.7.255.255 166.12.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 \
                  192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 \
                  203.0.114.0 223.255.255.255";
    for ip in passed.split_whitespace() {
        assert_eq!(check(&strict(), ip, 443), Ok(()), "{ip}");
        assert_eq!(check(&strict(), &format!("::ffff:{ip}"), 443), Ok(()), "mapped {ip}");
        assert_eq!(check(&strict(), &format!("64:ff9b::{ip}"), 443), Ok(()), "NAT64 {ip}");
        assert_eq!(check(&strict(), &six_to_four(ip), 443), Ok(()), "6to4 {ip}");
    }
}

#[test]
fn reserved_ipv6_is_refused_at_both_ends_of_each_range() {
    let refused = ":: ::1 ::2 ::ffff:ffff ::8.8.8.8 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100:: \
                   100::ffff:ffff:ffff:ffff 100:0:0:1::1 2001:: 2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:2::1 \
                   2001:1ff:ffff::1 2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff::1 5f00::1 \
                   fc00:: fdff:ffff::1 fe80:: febf::1 fec0:: feff::1 ff00:: ff02::1 ffff::1";
    for ip in refused.split_whitespace() {
        assert!(matches!(check(&strict(), ip, 443), Err(Refusal::Private(_))), "{ip}");
    }
}

#[test]
fn public_ipv6_passes() {
    for ip in "2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00::1 2003::1 3ffe::1 4000::1".split_whitespace()
    {
        assert_eq!(check(&strict(), ip, 443), Ok(()), "{ip}");
    }
}

#[test]
fn the_refusal_names_the_range() {
    assert_eq!(check(&strict(), "10.1.2.3", 80), Err(Refusal::Private("10.0.0.0/8 (private)")));
    assert_eq!(check(&strict(), "2002:a01:203::1", 80), Err(Refusal::Private("10.0.0.0/8 (private)")));
}

#[test]
fn allow_lets_listed_ranges_through_and_no_others() {
    let policy = allowing(&["127.0.0.0/8", "::1/128"]);
    assert_eq!(check(&policy, "127.0.0.1", 80), Ok(()));
    assert_eq!(check(&policy, "::ffff:127.0.0.1", 80), Ok(()));
    assert_eq!(check(&policy, "::1", 80), Ok(()));
    assert!(check(&policy, "10.0.0.1", 80).is_err());
    assert!(check(&policy, "::", 80).is_err());
}

#[test]
fn allow_does_not_reach_through_a_translator() {
    let policy = allowing(&["127.0.0.0/8"]);
    assert!(check(&policy, "64:ff9b::127.0.0.1", 80).is_err());
    assert_eq!(check(&allowing(&["64:ff9b::/96"]), "64:ff9b::127.0.0.1", 80), Ok(()));
}

#[test]
fn allow_private_lifts_ranges_but_not_ports_nor_listeners() {
    let own = vec!["127.0.0.1:8443".parse().unwrap()];
    let policy = DestinationPolicy::new(true, Vec::new(), vec![25, 6667], own);
    assert_eq!(check(&policy, "10.0.0.1", 80), Ok(()));
    assert_eq!(check(&policy, "10.0.0.1", 6667), Err(Refusal::Port));
    assert_eq!(check(&policy, "127.0.0.1", 8443), Err(Refusal::OwnListener));
}

#[test]
fn denied_ports_stay_denied_inside_allowed_ranges() {
    assert_eq!(check(&allowing(&["0.0.0.0/0"]), "8.8.8.8", 25), Err(Refusal::Port));
    assert_eq!(check(&strict(), "8.8.8.8", 26), Ok(()));
}

#[test]
fn a_listener_on_one_address_is_refused_there_even_when_allowed() {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = DestinationPolicy::new(false, allow, Vec::new(), vec!["127.0.0.1:8443".parse().unwrap()]);
    for ip in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1", "0.0.0.0"] {
        assert_eq!(check(&policy, ip, 8443), Err(Refusal::OwnListener), "{ip}");
    }
    assert_eq!(check(&policy, "127.0.0.2", 8443), Ok(()));
    assert_eq!(check(&policy, "127.0.0.1", 8444), Ok(()));
}

#[test]
fn a_wildcard_listener_is_refused_on_every_local_address() {
    let wildcard =
        |listener: &str| DestinationPolicy::new(true, Vec::new(), Vec::new(), vec![listener.parse().unwrap()]);
    let both = wildcard("[::]:443");
    for ip in ["127.0.0.1", "127.1.2.3", "::1", OWN, "::ffff:9.9.9.10", "0.0.0.0", "::"] {
        assert_eq!(check(&both, ip, 443), Err(Refusal::OwnListener), "{ip}");
    }
    assert_eq!(check(&both, "9.9.9.11", 443), Ok(()));
    assert_eq!(check(&both, OWN, 444), Ok(()));

    let ipv4_only = wildcard("0.0.0.0:443");
    assert_eq!(check(&ipv4_only, OWN, 443), Err(Refusal::OwnListener));
    assert_eq!(check(&ipv4_only, "::1", 443), Ok(()));
}

#[test]
fn addresses_of_this_machine_are_a_reserved_range_that_allow_lifts() {
    for ip in [OWN, "::ffff:9.9.9.10", "64:ff9b::9.9.9.10", "2002:909:90a::1"] {
        assert_eq!(check(&strict(), ip, 22), Err(Refusal::Private(THIS_MACHINE)), "{ip}");
    }
    assert_eq!(strict().check_range(OWN.parse().unwrap(), way), Err(Refusal::Private(THIS_MACHINE)));
    assert_eq!(check(&allowing(&[OWN]), OWN, 22), Ok(()));
    assert_eq!(check(&DestinationPolicy::new(true, Vec::new(), Vec::new(), Vec::new()), OWN, 22), Ok(()));
    // One that only the operator knows, because somebody else translates it.
    let public = DestinationPolicy::new(false, Vec::new(), Vec::new(), vec!["9.9.9.12:443".parse().unwrap()]);
    assert_eq!(check(&public, "9.9.9.12", 22), Err(Refusal::Private(THIS_MACHINE)));
}

#[test]
fn what_nobody_can_say_is_no_refusal_of_the_policy() {
    let unknown = |policy: &DestinationPolicy, ip: &str, port| {
        policy.check(SocketAddr::new(ip.parse().unwrap(), port), |_| Way::Unknown)
    };
    let wildcard = DestinationPolicy::new(true, Vec::new(), vec![25], vec!["[::]:443".parse().unwrap()]);
    assert_eq!(unknown(&wildcard, "9.9.9.9", 443), Err(Refusal::Undecided));
    assert_eq!(unknown(&wildcard, "9.9.9.9", 25), Err(Refusal::Port));
    assert_eq!(unknown(&wildcard, "9.9.9.9", 80), Ok(()), "where it ends does not matter");
    assert_eq!(unknown(&strict(), "9.9.9.9", 80), Err(Refusal::Undecided));
}

fn six_to_four(ip: &str) -> String {
    let [a, b, c, d] = ip.parse::<Ipv4Addr>().unwrap().octets();
    format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1")
}

#[test]
fn the_dashboard_is_kept_from_clients_whatever_they_are_allowed_and_not_from_the_operator() {
    let guarded = ["127.0.0.1:9090", "[::]:9091", "203.0.113.5:6379"].map(|text| text.parse().unwrap());
    let open = DestinationPolicy::new(true, Vec::new(), Vec::new(), Vec::new());
    for policy in [open, allowing(&["0.0.0.0/0", "::/0"])] {
        let policy = policy.guarding(guarded);
        let guarded = Err(Refusal::Guarded);
        for ip in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert_eq!(check(&policy, ip, 9090), guarded, "{ip}");
            assert_eq!(check(&policy, ip, 9092), Ok(()), "another port of {ip}");
        }
        for ip in ["127.0.0.1", "::1", OWN] {
            assert_eq!(check(&policy, ip, 9091), guarded, "{ip}");
        }
        assert_eq!(check(&policy, "203.0.113.5", 6379), guarded);
        assert_eq!(check(&policy, "203.0.113.6", 6379), Ok(()));
        assert!(!policy.may_have_spares("127.0.0.1:9090".parse().unwrap(), way));
    }
}
