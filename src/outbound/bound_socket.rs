//! A bound UDP socket towards targets, with the permits it counts under.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::session::permits::{MuxPermit, UdpPermit};

/// A socket and its permits, which are given back when it is closed. Only a session and the table of Global IDs share
/// it.
#[derive(Debug)]
pub struct BoundSocket {
    socket: UdpSocket,
    source: Option<IpAddr>,
    /// The claim of whom the next datagram is for; 0: nobody has claimed the socket by a Global ID.
    claim: AtomicU64,
    _permit: UdpPermit,
    _mux_permit: Option<MuxPermit>,
}

impl BoundSocket {
    /// Binds to an ephemeral port: of `source`, or of every address of both families.
    ///
    /// # Errors
    /// Those of the kernel: out of descriptors or ports, or `source` is not an address of this machine.
    pub fn bind(source: Option<IpAddr>, permit: UdpPermit, mux_permit: Option<MuxPermit>) -> io::Result<Self> {
        let socket = match source {
            Some(ip) => bind(SocketAddr::new(ip, 0))?,
            None => match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)) {
                // A kernel without IPv6.
                Err(error) if is_without_ipv6(&error) => bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?,
                other => other?,
            },
        };
        Ok(Self { socket, source, claim: AtomicU64::new(0), _permit: permit, _mux_permit: mux_permit })
    }

    /// The address it was to be bound to.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// From now on what arrives is for the holder of this claim.
    pub(super) fn pass_to(&self, claim: u64) {
        self.claim.store(claim, Ordering::Release);
    }

    /// What arrives is still for the holder of this claim.
    pub(super) fn is_for(&self, claim: u64) -> bool {
        self.claim.load(Ordering::Acquire) == claim
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let codes = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EPROTONOSUPPORT];
    error.raw_os_error().is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}
