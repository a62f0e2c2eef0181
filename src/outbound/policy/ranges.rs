//! The private and reserved address ranges, in every spelling that reaches them.
//!
//! The list is that of the IANA special-purpose registries (RFC 6890 and its updates) where they say "not globally
//! reachable". It holds every range that Xray refuses by default. An IPv6 address that carries an IPv4 address through
//! a translator or relay is judged by the address it carries.
//!
//! Clouds answer their machines at addresses of their own. Nearly all of these are in the ranges already: metadata at
//! 169.254.0.0/16, fe80::/10 and fc00::/7, Alibaba's at 100.64.0.0/10. Those that look public are listed by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NAT64_PREFIX: Ipv6Addr = v6(0x64, 0xff9b, 0);
const SIX_TO_FOUR_PREFIX: Ipv6Addr = v6(0x2002, 0, 0);

const IPV4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, "0.0.0.0/8 (this network)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "10.0.0.0/8 (private)"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "100.64.0.0/10 (carrier-grade NAT)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "127.0.0.0/8 (loopback)"),
    (Ipv4Addr::new(161, 26, 0, 0), 16, "161.26.0.0/16 (platform of a cloud)"),
    (Ipv4Addr::new(166, 8, 0, 0), 14, "166.8.0.0/14 (platform of a cloud)"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "168.63.129.16 (platform of a cloud)"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "169.254.0.0/16 (link-local, cloud metadata)"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "172.16.0.0/12 (private)"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "192.0.0.0/24 (protocol assignments)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "192.0.2.0/24 (documentation)"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "192.88.99.0/24 (6to4 relays)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "192.168.0.0/16 (private)"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "198.18.0.0/15 (benchmarking)"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "198.51.100.0/24 (documentation)"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "203.0.113.0/24 (documentation)"),
    (Ipv4Addr::new(224, 0, 0, 0), 3, "224.0.0.0/3 (multicast, reserved, broadcast)"),
];

const IPV6: &[(Ipv6Addr, u32, &str)] = &[
    (v6(0, 0, 0), 127, "::/127 (unspecified, loopback)"),
    // Reserved and never routed. Some stacks and translators still reach the IPv4 address inside (RFC 4291 2.5.5.1, RFC
    // 2765 2.1).
    (v6(0, 0, 0), 64, "::/64 (IPv4-compatible, IPv4-translated)"),
    // Where the IPv4 address sits depends on the operator's prefix, so it cannot be judged (RFC 8215).
    (v6(0x64, 0xff9b, 1), 48, "64:ff9b:1::/48 (local-use NAT64)"),
    (v6(0x100, 0, 0), 48, "100::/48 (discard-only, dummy)"),
    // Carries a server and an obfuscated client IPv4 address (RFC 4380).
    (v6(0x2001, 0, 0), 32, "2001::/32 (Teredo)"),
    (v6(0x2001, 0, 0), 23, "2001::/23 (protocol assignments)"),
    (v6(0x2001, 0xdb8, 0), 32, "2001:db8::/32 (documentation)"),
    (v6(0x3fff, 0, 0), 20, "3fff::/20 (documentation)"),
    (v6(0x5f00, 0, 0), 16, "5f00::/16 (segment routing)"),
    (v6(0xfc00, 0, 0), 7, "fc00::/7 (unique local)"),
    (v6(0xfe80, 0, 0), 10, "fe80::/10 (link-local)"),
    (v6(0xfec0, 0, 0), 10, "fec0::/10 (site-local)"),
    (v6(0xff00, 0, 0), 8, "ff00::/8 (multicast)"),
];

/// The reserved range `ip` lies in, by name, or `None` if it is an ordinary public address.
pub(super) fn reserved_range(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reserved_ipv4(ip),
        IpAddr::V6(ip) => reserved_ipv6(ip).or_else(|| embedded_ipv4(IpAddr::V6(ip)).and_then(reserved_ipv4)),
    }
}

/// The IPv4 address that a translator or relay would take out of `ip`: NAT64 (RFC 6052) and 6to4 (RFC 3056).
pub(super) fn embedded_ipv4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let bits = ip.to_bits();
    if within(bits, NAT64_PREFIX, 96) {
        Some(Ipv4Addr::from_bits(bits as u32))
    } else if within(bits, SIX_TO_FOUR_PREFIX, 16) {
        Some(Ipv4Addr::from_bits((bits >> 80) as u32))
    } else {
        None
    }
}

fn reserved_ipv4(ip: Ipv4Addr) -> Option<&'static str> {
    let bits = ip.to_bits();
    IPV4.iter().find(|&&(base, prefix_bits, _)| (bits ^ base.to_bits()) >> (32 - prefix_bits) == 0).map(|range| range.2)
}

fn reserved_ipv6(ip: Ipv6Addr) -> Option<&'static str> {
    IPV6.iter().find(|&&(base, prefix_bits, _)| within(ip.to_bits(), base, prefix_bits)).map(|range| range.2)
}

/// Whether `bits` starts with the first `prefix_bits` (1 to 128) bits of `base`.
fn within(bits: u128, base: Ipv6Addr, prefix_bits: u32) -> bool {
    (bits ^ base.to_bits()) >> (128 - prefix_bits) == 0
}

const fn v6(first: u16, second: u16, third: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)
}
