//! What the kernel says about addresses of this machine. Nothing is sent: sockets are only bound or connected.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;

/// Whether a connection to `ip` ends on this machine.
///
/// The kernel lets a socket be bound to its own addresses only, which also covers secondary addresses and routes of
/// type "local". Where the administrator switched that off (`ip_nonlocal_bind`), an address counts as ours if it is its
/// own source address; that misses secondary addresses but refuses nobody wrongly.
pub(super) fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    if *NONLOCAL_BIND {
        return source_towards(SocketAddr::new(ip, PROBE_PORT)) == Some(ip);
    }
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// The source address the kernel would use towards `destination`; `None` without a route.
pub(super) fn source_towards(destination: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(destination).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// Any port will do: a connected UDP socket sends nothing by itself.
const PROBE_PORT: u16 = 53;

static NONLOCAL_BIND: LazyLock<bool> = LazyLock::new(|| {
    ["/proc/sys/net/ipv4/ip_nonlocal_bind", "/proc/sys/net/ipv6/ip_nonlocal_bind"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0"))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(is_local("127.9.8.7".parse().unwrap()));
        assert!(!is_local("203.0.113.77".parse().unwrap()));
    }

    #[test]
    fn the_source_towards_loopback_is_loopback() {
        let source = source_towards("127.0.0.1:53".parse().unwrap()).unwrap();
        assert!(source.is_loopback());
    }
}
