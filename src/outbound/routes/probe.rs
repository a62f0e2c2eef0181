//! The kernel's answer to "which way" where it lets nobody have a routing socket. Sockets are bound and connected
//! instead. That sends nothing, but takes a descriptor.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;

use super::Way;
use crate::io::sockopt::is_shortage;

/// Any port will do, because a connected UDP socket sends nothing by itself.
const PROBE_PORT: u16 = 53;

static NONLOCAL_BIND: LazyLock<bool> = LazyLock::new(|| {
    ["/proc/sys/net/ipv4/ip_nonlocal_bind", "/proc/sys/net/ipv6/ip_nonlocal_bind"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0"))
});

/// The way to `to`, for what leaves from `source` if that is given.
///
/// The kernel lets a socket be bound to its own addresses only, which also covers secondary addresses and routes of
/// type "local". Where the administrator switched that off (`ip_nonlocal_bind`), an address counts as ours if it is its
/// own source address. That misses secondary addresses, but refuses nobody wrongly.
pub(super) fn ask(to: IpAddr, source: Option<IpAddr>) -> Way {
    if !*NONLOCAL_BIND {
        match UdpSocket::bind(SocketAddr::new(to, 0)).map_err(|error| what_it_means(&error)) {
            Ok(_) => return Way::Here,
            Err(Some(way)) => return way,
            Err(None) => {}
        }
    }
    match source_towards(to, source) {
        Ok(source) if source == to => Way::Here,
        Ok(_) => Way::There,
        Err(error) if is_shortage(&error) => Way::Unknown,
        Err(_) => Way::Nowhere,
    }
}

/// What an error says about an address that a socket could not be bound to. `None`: the address is somebody else's.
fn what_it_means(error: &io::Error) -> Option<Way> {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => None,
        // A kernel without that family.
        _ if is_shortage(error) => Some(Way::Unknown),
        io::ErrorKind::AddrInUse => Some(Way::Here),
        _ => None,
    }
}

/// The source address the kernel would use towards `to`. An error where there is no route.
fn source_towards(to: IpAddr, source: Option<IpAddr>) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = source.filter(|source| source.is_ipv4() == to.is_ipv4()).unwrap_or(any);
    let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
    socket.connect(SocketAddr::new(to, PROBE_PORT))?;
    socket.local_addr().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn loopback_is_here_and_a_documentation_address_is_not() {
        assert_eq!(ask("127.9.8.7".parse().unwrap(), None), Way::Here);
        assert!(matches!(ask("203.0.113.77".parse().unwrap(), None), Way::There | Way::Nowhere));
    }

    #[test]
    fn without_a_descriptor_nothing_is_said_about_an_address() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(what_it_means(&errno.into()), Some(Way::Unknown), "{errno}");
        }
        // No port is left there: it is ours.
        assert_eq!(what_it_means(&Errno::ADDRINUSE.into()), Some(Way::Here));
        assert_eq!(what_it_means(&Errno::ADDRNOTAVAIL.into()), None);
    }

    #[test]
    fn the_source_towards_loopback_is_loopback() {
        assert!(source_towards("127.0.0.1".parse().unwrap(), None).unwrap().is_loopback());
    }
}
