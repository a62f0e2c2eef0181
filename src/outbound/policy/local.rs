//! What the kernel says about addresses of this machine. Nothing is sent: sockets are only bound or connected.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;

use crate::io::sockopt::is_shortage;

/// Whether a connection to `ip` ends on this machine.
///
/// The kernel lets a socket be bound to its own addresses only, which also covers secondary addresses and routes of
/// type "local". Where the administrator switched that off (`ip_nonlocal_bind`), an address counts as ours if it is its
/// own source address; that misses secondary addresses but refuses nobody wrongly. If the kernel cannot be asked, for
/// want of a descriptor, the address counts as ours: a rule must not lapse because somebody uses up the descriptors.
pub(super) fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    if *NONLOCAL_BIND {
        return is_own_source(ip, &source_towards(SocketAddr::new(ip, PROBE_PORT)));
    }
    may_be_bound(&UdpSocket::bind(SocketAddr::new(ip, 0)))
}

fn is_own_source(ip: IpAddr, source: &io::Result<IpAddr>) -> bool {
    match source {
        Ok(source) => *source == ip,
        Err(error) => is_shortage(error),
    }
}

/// Only this error says that the address is somebody else's.
fn may_be_bound<T>(bound: &io::Result<T>) -> bool {
    !matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// The source address the kernel would use towards `destination`; an error without a route.
pub(super) fn source_towards(destination: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(destination)?;
    socket.local_addr().map(|local| local.ip())
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
    fn an_address_that_cannot_be_asked_about_counts_as_local() {
        use rustix::io::Errno;
        let failed = |errno: Errno| io::Result::<IpAddr>::Err(errno.into());
        let ip = "203.0.113.77".parse().unwrap();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(may_be_bound(&failed(errno)) && is_own_source(ip, &failed(errno)), "{errno}");
        }
        // No port is left there: it is ours.
        assert!(may_be_bound(&failed(Errno::ADDRINUSE)));
        assert!(!may_be_bound(&failed(Errno::ADDRNOTAVAIL)));
        assert!(!is_own_source(ip, &failed(Errno::NETUNREACH)));
    }

    #[test]
    fn the_source_towards_loopback_is_loopback() {
        let source = source_towards("127.0.0.1:53".parse().unwrap()).unwrap();
        assert!(source.is_loopback());
    }
}
