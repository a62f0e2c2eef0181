//! UDP sockets towards targets: dual-stack, unconnected, behind the destination policy.
//!
//! One socket serves all targets of one client's UDP session. So its peers see one address and port, and whoever knows
//! them may answer (full cone). Path MTU discovery stays at the kernel's default: longer datagrams are fragmented.
//!
//! Invariant: `send_to` and `send_run` alone send, `recv_from` alone receives, and each asks the policy first. What was
//! judged under earlier rules is judged again.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::bound_socket::BoundSocket;
use super::global_ids::Claim;
use super::policy::judge::Judge;
use super::policy::{Refusal, canonical};
use super::segmentation::{KERNEL, Segmentation};
use crate::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use crate::io::token::Token;

/// Errors of earlier datagrams skipped in one call.
const ERRORS_MAX: usize = 64;

/// A socket in a session's hands, watched by its worker's poll.
pub struct OutboundUdp {
    bound: Arc<BoundSocket>,
    is_ipv4: bool,
    judge: Rc<Judge>,
    /// The two answers below were given under this edition of the rules.
    edition: u64,
    /// The address that was last permitted to be sent to. Asking may cost system calls, and most sessions talk to one
    /// peer at a time.
    permitted: Option<SocketAddr>,
    /// The address that was last admitted to be heard.
    admitted: Option<IpAddr>,
    registry: Rc<Registry>,
    kernel: &'static Segmentation,
    /// Kept while this session owns a Global ID. Dropping it starts the id's grace.
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
        judge: Rc<Judge>,
        registry: &Rc<Registry>,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut SourceFd(&bound.socket().as_raw_fd()), token.into(), Interest::READABLE)?;
        let is_ipv4 = bound.socket().local_addr()?.is_ipv4();
        let (edition, registry) = (judge.edition(), Rc::clone(registry));
        let kernel = &KERNEL;
        Ok(Self { bound, is_ipv4, judge, edition, permitted: None, admitted: None, registry, kernel, claim })
    }

    /// Forgets what was answered under earlier rules.
    fn keep_up(&mut self) {
        let edition = self.judge.edition();
        if self.edition != edition {
            self.edition = edition;
            self.permitted = None;
            self.admitted = None;
        }
    }

    fn admit(&mut self, length: usize, source: SocketAddr) -> RecvFrom {
        self.keep_up();
        if self.admitted != Some(source.ip()) {
            match self.judge.check_range(source.ip()) {
                Ok(()) => self.admitted = Some(source.ip()),
                Err(Refusal::Undecided) => return RecvFrom::Undecided,
                Err(_) => return RecvFrom::Refused,
            }
        }
        RecvFrom::Datagram(length, source)
    }

    /// Whether `to`, in its canonical form, may be sent to. If not, the error says what becomes of the datagram.
    fn permit(&mut self, to: SocketAddr) -> Result<(), SendTo> {
        self.keep_up();
        if self.permitted != Some(to) {
            match self.judge.check(to) {
                Ok(()) => self.permitted = Some(to),
                Err(Refusal::Undecided) => return Err(SendTo::Undecided),
                Err(_) => return Err(SendTo::Refused),
            }
        }
        Ok(())
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
        // The session that took this socket over may be another worker's. Until this one is told, the answers that it
        // would read are the other's.
        if self.claim.as_ref().is_some_and(|claim| !claim.counts_for(&self.bound)) {
            return RecvFrom::Blocked;
        }
        // An error is that of an earlier datagram (ICMP). There are not more of them than datagrams sent.
        for _ in 0..ERRORS_MAX {
            match self.bound.socket().recv_from(into) {
                Ok((length, source)) => return self.admit(length, canonical(source)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return RecvFrom::Blocked,
                Err(_) => {}
            }
        }
        RecvFrom::Blocked
    }

    fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo {
        let to = canonical(to);
        if let Err(fate) = self.permit(to) {
            return fate;
        }
        for _ in 0..ERRORS_MAX {
            match self.bound.socket().send_to(bytes, self.native(to)) {
                Ok(_) => return SendTo::Sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux reports an earlier datagram's ICMP error here, and has not sent this one.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return SendTo::Failed,
            }
        }
        SendTo::Failed
    }

    /// One system call and one way through the kernel's stack for all of them (Linux UDP_SEGMENT). The kernel refuses
    /// datagrams that the way to `to` does not take whole. Sent by themselves, those go in fragments.
    fn send_run(&mut self, datagrams: &[IoSlice<'_>], length: u16, to: SocketAddr) -> SendTo {
        let to = canonical(to);
        if let Err(fate) = self.permit(to) {
            return fate;
        }
        if !self.kernel.is_offered(self.bound.socket()) {
            return SendTo::NotTogether;
        }
        let (descriptor, address) = (self.bound.socket().as_raw_fd(), SockaddrStorage::from(self.native(to)));
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
            let _ = self.registry.deregister(&mut SourceFd(&self.bound.socket().as_raw_fd()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    use mio::Poll;

    use super::*;
    use crate::io::token::Kind;
    use crate::outbound::global_ids::{GlobalIds, Holder};
    use crate::outbound::policy::DestinationPolicy;
    use crate::session::permits::UdpPermit;
    use crate::session::{Flow, User};
    use crate::stats::Ledger;

    /// A socket of its own user, which may send to 127.0.0.1 only; with its port.
    fn outbound() -> (OutboundUdp, u16) {
        let user = User { id: [1; 16], email: String::new(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) };
        let permit = UdpPermit::take(&Arc::new(user), 1).unwrap();
        let bound = Arc::new(BoundSocket::bind(None, permit, None).unwrap());
        let registry = Rc::new(Poll::new().unwrap().registry().try_clone().unwrap());
        let allow = vec!["127.0.0.1/32".parse().unwrap()];
        let judge = Judge::new(Arc::new(DestinationPolicy::new(false, allow, Vec::new(), Vec::new())), None);
        let port = bound.socket().local_addr().unwrap().port();
        let token = Token::new(Kind::Session, 0, 0, 1);
        (OutboundUdp::watch(bound, None, Rc::new(judge), &registry, token).unwrap(), port)
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
    fn where_the_kernel_knows_no_runs_none_is_sent() {
        static OLD: Segmentation = Segmentation::unasked();
        let (mut socket, _) = outbound();
        // Not a UDP socket: it has no such option.
        assert!(!OLD.is_offered(&std::fs::File::open("/dev/null").unwrap()));
        socket.kernel = &OLD;
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let run = ["one", "two"].map(|text| IoSlice::new(text.as_bytes()));
        assert_eq!(socket.send_run(&run, 3, peer.local_addr().unwrap()), SendTo::NotTogether);
        peer.set_nonblocking(true).unwrap();
        assert!(peer.recv(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_peer_that_new_rules_refuse_is_neither_sent_to_nor_heard_any_more() {
        let (mut socket, port) = outbound();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, mut room) = (peer.local_addr().unwrap(), [0; 16]);
        for _ in 0..2 {
            peer.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
        }
        assert_eq!(socket.send_to(b"x", address), SendTo::Sent);
        assert_eq!(socket.recv_from(&mut room), RecvFrom::Datagram(1, address));
        socket.judge.adopt(Arc::new(DestinationPolicy::new(false, Vec::new(), Vec::new(), Vec::new())), None);
        assert_eq!(socket.send_to(b"x", address), SendTo::Refused);
        assert_eq!(socket.recv_from(&mut room), RecvFrom::Refused);
    }

    #[test]
    fn where_nobody_can_say_datagrams_are_dropped_for_that_and_no_other_reason() {
        let (routing, kernel) = UnixDatagram::pair().unwrap();
        routing.set_nonblocking(true).unwrap();
        let (mut socket, _) = outbound();
        socket.judge = Rc::new(Judge::told_by(routing.into()));
        let peer = SocketAddr::from(([9, 9, 9, 9], 9));
        // The kernel's answers to both questions: no descriptor is left.
        for sequence in 1..3_u32 {
            let head = [36_u32.to_ne_bytes(), 2_u32.to_ne_bytes(), sequence.to_ne_bytes(), [0; 4]].concat();
            kernel.send(&[&head[..], &(-(Errno::EMFILE as i32)).to_ne_bytes(), &[0; 16]].concat()).unwrap();
        }
        assert_eq!(socket.send_to(b"x", peer), SendTo::Undecided);
        assert_eq!(socket.admit(1, peer), RecvFrom::Undecided);
    }

    #[test]
    fn who_lost_a_socket_by_its_global_id_leaves_the_answers_to_the_other() {
        let (ids, key) = (Arc::new(GlobalIds::default()), ([1; 16], [2; 8]));
        let (mut first, port) = outbound();
        let holder = |worker| Holder { worker, token: Token::new(Kind::Session, 0, 0, 1) };
        first.claim = ids.enter(key, holder(0), &first.bound);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let heard = RecvFrom::Datagram(1, peer.local_addr().unwrap());
        let say = || peer.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
        say();
        assert_eq!(first.recv_from(&mut [0; 16]), heard);
        let (bound, claim, previous) = ids.take_over(key, holder(1)).unwrap();
        assert_eq!(previous, Some(holder(0)));
        // Another worker's poll, in truth.
        let registry = Rc::new(Poll::new().unwrap().registry().try_clone().unwrap());
        let judge = Rc::clone(&first.judge);
        let mut second = OutboundUdp::watch(bound, Some(claim), judge, &registry, holder(1).token).unwrap();
        say();
        assert_eq!(first.recv_from(&mut [0; 16]), RecvFrom::Blocked);
        assert_eq!(second.recv_from(&mut [0; 16]), heard);
        drop(first);
        say();
        assert_eq!(second.recv_from(&mut [0; 16]), heard);
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
