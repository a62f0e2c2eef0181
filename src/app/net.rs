//! What an address of this machine is worth to somebody elsewhere.
//!
//! Owns the question "would a stranger reach this address?", for warnings and links. It is no policy: what clients may
//! reach is decided where dials are made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether `ip` is an address of the public internet: none of the ranges that IANA lists as not globally reachable.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// The address this machine would use towards the internet, if it has a route there. Nothing is sent: connecting a UDP
/// socket only asks the kernel's routing table.
pub fn default_source_address() -> Option<IpAddr> {
    // Any global unicast addresses do; these belong to a public name service.
    let probes = [("0.0.0.0:0", "1.1.1.1:53"), ("[::]:0", "[2606:4700:4700::1111]:53")];
    probes.iter().find_map(|(local, remote)| {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
    })
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let benchmarking = a == 198 && b & 0xfe == 18;
    let protocol_assignments = (a, b, c) == (192, 0, 0);
    !(a == 0
        || a >= 224
        || shared
        || benchmarking
        || protocol_assignments
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast is 2000::/3, of which 2001:db8::/32 and 3fff::/20 are for documentation.
    a & 0xe000 == 0x2000 && (a, b) != (0x2001, 0xdb8) && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_all_others() {
        for public in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let others = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "::ffff:10.0.0.1",
        ];
        for other in others {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_default_source_address_is_a_real_one_if_there_is_one() {
        assert!(default_source_address().is_none_or(|ip| !ip.is_unspecified()));
    }
}
