//! UDP sockets towards targets: dual-stack, unconnected, behind the destination policy.
//!
//! One socket serves all destinations of one client's UDP session, so its peers see one address and port, and whoever
//! knows them may answer (full cone). Path MTU discovery stays at the kernel's default: longer datagrams are fragmented.
//!
//! Invariants: nothing is sent but in `send_to` and `send_run`, and nothing received but in `recv_from`, behind the
//! policy's check. A socket holds its user's permits and gives them back when it is closed.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::global_ids::Claim;
use super::policy::{DestinationPolicy, canonical};
use crate::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use crate::io::token::Token;
use crate::session::permits::{MuxPermit, UdpPermit};

/// A socket and the permits it counts under; shared only between a session and the table of Global IDs.
#[derive(Debug)]
pub struct BoundSocket {
    socket: UdpSocket,
    _permit: UdpPermit,
    _mux_permit: Option<MuxPermit>,
}

impl BoundSocket {
    /// Binds to an ephemeral port: of `source`, or of every address of both families.
    ///
    /// # Errors
    /// As the kernel gives them: out of descriptors or ports, or `source` is not an address of this machine.
    pub fn bind(source: Option<IpAddr>, permit: UdpPermit, mux_permit: Option<MuxPermit>) -> io::Result<Self> {
        let socket = match source {
            Some(ip) => bind(SocketAddr::new(ip, 0))?,
            None => match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)) {
                // A kernel without IPv6.
                Err(error) if is_without_ipv6(&error) => bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?,
                other => other?,
            },
        };
        Ok(Self { socket, _permit: permit, _mux_permit: mux_permit })
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

/// A socket in a session's hands, watched by its worker's poll.
pub struct OutboundUdp {
    bound: Arc<BoundSocket>,
    is_ipv4: bool,
    policy: Arc<DestinationPolicy>,
    /// Judged last and found good: asking may cost system calls, and most sessions talk to one peer at a time.
    permitted: Option<SocketAddr>,
    /// Likewise of those who were heard.
    admitted: Option<IpAddr>,
    registry: Rc<Registry>,
    /// Kept while this session owns a Global ID; giving it up starts the id's grace.
    claim: Option<Claim>,
}

impl OutboundUdp {
    /// Watches `bound` under `token`.
    ///
    /// # Errors
    /// When the kernel cannot watch one more descriptor.
    pub fn watch(
        bound: Arc<BoundSocket>,
        claim: Option<Claim>,
        policy: Arc<DestinationPolicy>,
        registry: &Rc<Registry>,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut SourceFd(&bound.socket.as_raw_fd()), token.into(), Interest::READABLE)?;
        let is_ipv4 = bound.socket.local_addr()?.is_ipv4();
        Ok(Self { bound, is_ipv4, policy, permitted: None, admitted: None, registry: Rc::clone(registry), claim })
    }

    fn admit(&mut self, length: usize, source: SocketAddr) -> RecvFrom {
        if self.admitted != Some(source.ip()) {
            if self.policy.check_range(source.ip()).is_err() {
                return RecvFrom::Refused;
            }
            self.admitted = Some(source.ip());
        }
        RecvFrom::Datagram(length, source)
    }

    /// Whether `to`, in its canonical form, may be sent to.
    fn permit(&mut self, to: SocketAddr) -> bool {
        if self.permitted != Some(to) {
            if self.policy.check(to).is_err() {
                return false;
            }
            self.permitted = Some(to);
        }
        true
    }

    /// The address as this socket's family wants it.
    fn native(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if !self.is_ipv4 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

impl DatagramSocket for OutboundUdp {
    fn recv_from(&mut self, into: &mut [u8]) -> RecvFrom {
        // An error is that of an earlier datagram (ICMP); there are not more of them than datagrams sent.
        for _ in 0..ERRORS_MAX {
            match self.bound.socket.recv_from(into) {
                Ok((length, source)) => return self.admit(length, canonical(source)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return RecvFrom::Blocked,
                Err(_) => {}
            }
        }
        RecvFrom::Blocked
    }

    fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo {
        let to = canonical(to);
        if !self.permit(to) {
            return SendTo::Refused;
        }
        for _ in 0..ERRORS_MAX {
            match self.bound.socket.send_to(bytes, self.native(to)) {
                Ok(_) => return SendTo::Sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux tells an earlier datagram's ICMP error here, and has not sent this one.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return SendTo::Failed,
            }
        }
        SendTo::Failed
    }

    /// One system call and one way through the kernel's stack for all of them (Linux UDP_SEGMENT). The kernel refuses
    /// datagrams that the way to `to` does not take whole; sent by themselves those go in fragments.
    fn send_run(&mut self, datagrams: &[IoSlice<'_>], length: u16, to: SocketAddr) -> SendTo {
        let to = canonical(to);
        if !self.permit(to) {
            return SendTo::Refused;
        }
        let (descriptor, address) = (self.bound.socket.as_raw_fd(), SockaddrStorage::from(self.native(to)));
        let control = [ControlMessage::UdpGsoSegments(&length)];
        match sendmsg(descriptor, datagrams, &control, MsgFlags::empty(), Some(&address)) {
            Ok(_) => SendTo::Sent,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED | Errno::ENOBUFS) => SendTo::Failed,
            Err(_) => SendTo::NotTogether,
        }
    }

    fn retire(&mut self) {
        if let Some(claim) = &mut self.claim {
            claim.make_final();
        }
    }
}

impl Drop for OutboundUdp {
    fn drop(&mut self) {
        // Closing takes a socket out of the poll, but this one may live on for its Global ID.
        if Arc::strong_count(&self.bound) > 1 {
            let _ = self.registry.deregister(&mut SourceFd(&self.bound.socket.as_raw_fd()));
        }
    }
}

/// Errors of earlier datagrams skipped in one call.
const ERRORS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use mio::Poll;

    use super::*;
    use crate::io::token::Kind;
    use crate::session::{Flow, User};
    use crate::stats::Ledger;

    /// A socket of its own user, which may send to 127.0.0.1 only; with its port.
    fn outbound() -> (OutboundUdp, u16) {
        let user = User { id: [1; 16], email: String::new(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) };
        let permit = UdpPermit::take(&Arc::new(user), 1).unwrap();
        let bound = Arc::new(BoundSocket::bind(None, permit, None).unwrap());
        let registry = Rc::new(Poll::new().unwrap().registry().try_clone().unwrap());
        let allow = vec!["127.0.0.1/32".parse().unwrap()];
        let policy = Arc::new(DestinationPolicy::new(false, allow, Vec::new(), Vec::new()));
        let port = bound.socket.local_addr().unwrap().port();
        let token = Token::new(Kind::Session, 0, 0, 1);
        (OutboundUdp::watch(bound, None, policy, &registry, token).unwrap(), port)
    }

    #[test]
    fn a_run_arrives_as_the_datagrams_it_is_made_of() {
        let (mut socket, _) = outbound();
        let [peer, forbidden] = ["127.0.0.1", "127.0.0.2"].map(|host| UdpSocket::bind((host, 0)).unwrap());
        let run = ["one", "two", "six"].map(|text| IoSlice::new(text.as_bytes()));
        assert_eq!(socket.send_run(&run, 3, peer.local_addr().unwrap()), SendTo::Sent);
        for datagram in &run {
            let mut room = [0; 16];
            let length = peer.recv(&mut room).unwrap();
            assert_eq!(room[..length], **datagram);
        }
        assert_eq!(socket.send_run(&run, 3, forbidden.local_addr().unwrap()), SendTo::Refused);
    }

    #[test]
    fn nothing_is_heard_from_where_nothing_may_be_sent() {
        let (mut socket, port) = outbound();
        let peers = ["127.0.0.1", "127.0.0.2", "127.0.0.1"].map(|host| UdpSocket::bind((host, 0)).unwrap());
        for peer in &peers {
            peer.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
        }
        let mut room = [0; 16];
        let heard = [(); 4].map(|()| socket.recv_from(&mut room));
        let of = |peer: &UdpSocket| RecvFrom::Datagram(1, peer.local_addr().unwrap());
        assert_eq!(heard, [of(&peers[0]), RecvFrom::Refused, of(&peers[2]), RecvFrom::Blocked]);
    }
}
