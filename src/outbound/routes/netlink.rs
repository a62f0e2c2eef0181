//! The kernel's own answer to "which way". It comes by a routing socket (rtnetlink) that stays open, so asking needs no
//! descriptor.
//!
//! One question asks for the route to one address. The kernel puts the answer into the socket before the question's
//! system call returns, so nothing here waits. The same socket hears when addresses of this machine come or go.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::Way;

/// How often one question is put, because answers may be lost.
const QUESTIONS_MAX: usize = 3;
/// Room for one datagram of the kernel. Answers are far shorter.
const ROOM_BYTES: usize = 8192;
/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// struct nlmsghdr: length, kind, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// struct rtmsg: family, lengths of destination and source, five more bytes of which the type is the last, flags.
const ROUTE_BYTES: usize = 12;
const ROUTE_TYPE_AT: usize = 7;
/// struct rtattr: length, kind.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const ALIGNMENT: usize = 4;

const FLAG_REQUEST: u16 = 1;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_NEW_ADDRESS: u16 = 20;
const MESSAGE_DELETED_ADDRESS: u16 = 21;
const MESSAGE_NEW_ROUTE: u16 = 24;
const MESSAGE_GET_ROUTE: u16 = 26;
const ATTRIBUTE_DESTINATION: u16 = 1;
const ATTRIBUTE_SOURCE: u16 = 2;
const ROUTE_LOCAL: u8 = 2;
const ROUTE_ANYCAST: u8 = 4;
const ROUTE_BLACKHOLE: u8 = 6;
const ROUTE_UNREACHABLE: u8 = 7;
const ROUTE_PROHIBIT: u8 = 8;

/// A routing socket.
#[derive(Debug)]
pub(super) struct RouteSocket {
    socket: OwnedFd,
    sequence: u32,
    /// Addresses came or went since this was last taken.
    has_news: bool,
}

impl RouteSocket {
    /// A socket that hears of this machine's addresses from now on.
    ///
    /// # Errors
    /// Out of descriptors, or a service manager or sandbox does not let this process have one.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, ADDRESS_GROUPS))?;
        Ok(Self { socket, sequence: 0, has_news: false })
    }

    /// A socket with somebody else than the kernel at its other end.
    #[cfg(test)]
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0, has_news: false }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The way to `to`, for what leaves from `source` if that is given. News that come in front of the answer are kept
    /// for [`RouteSocket::take_overheard`], because no event tells of them any more.
    ///
    /// # Errors
    /// The kernel does not answer such questions, or (would block) lost the answers.
    pub(super) fn ask(&mut self, to: IpAddr, source: Option<IpAddr>) -> io::Result<Way> {
        for _ in 0..QUESTIONS_MAX {
            self.sequence = self.sequence.wrapping_add(1);
            send(&self.socket, &question(self.sequence, to, source), SendFlags::empty())?;
            if let Some(answer) = self.answer()? {
                return answer;
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The answer to the latest question. `None` if it was lost among more news than the socket takes.
    fn answer(&mut self) -> io::Result<Option<io::Result<Way>>> {
        let mut room = [0; ROOM_BYTES];
        loop {
            let length = match recv(&self.socket, &mut room, RecvFlags::empty()) {
                Ok((_, length)) => length,
                Err(Errno::NOBUFS) => {
                    self.has_news = true;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let (answer, has_news) = read(room.get(..length).unwrap_or(&[]), self.sequence);
            self.has_news |= has_news;
            if answer.is_some() {
                return Ok(answer);
            }
        }
    }

    /// Whether questions came upon news that nobody took. It costs no system call.
    pub(super) fn take_overheard(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether addresses of this machine came or went since the last call.
    pub(super) fn take_news(&mut self) -> bool {
        let mut room = [0; ROOM_BYTES];
        loop {
            match recv(&self.socket, &mut room, RecvFlags::empty()) {
                Ok((_, length)) => self.has_news |= read(room.get(..length).unwrap_or(&[]), self.sequence).1,
                Err(Errno::NOBUFS) => self.has_news = true,
                Err(Errno::INTR) => {}
                Err(_) => return std::mem::take(&mut self.has_news),
            }
        }
    }
}

/// The request for the route to one address, as it stands in memory: fields are in the machine's byte order.
fn question(sequence: u32, to: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let (family, bits) = if to.is_ipv4() { (AddressFamily::INET, 32) } else { (AddressFamily::INET6, 128) };
    let source = source.filter(|source| source.is_ipv4() == to.is_ipv4());
    let mut route = vec![family.as_raw() as u8, bits, if source.is_some() { bits } else { 0 }];
    route.resize(ROUTE_BYTES, 0);
    push_attribute(&mut route, ATTRIBUTE_DESTINATION, to);
    if let Some(source) = source {
        push_attribute(&mut route, ATTRIBUTE_SOURCE, source);
    }
    let mut message = ((HEADER_BYTES + route.len()) as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&MESSAGE_GET_ROUTE.to_ne_bytes());
    message.extend_from_slice(&FLAG_REQUEST.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&route);
    message
}

fn push_attribute(route: &mut Vec<u8>, kind: u16, ip: IpAddr) {
    let octets: &[u8] = match &ip {
        IpAddr::V4(ip) => &ip.octets(),
        IpAddr::V6(ip) => &ip.octets(),
    };
    route.extend_from_slice(&((ATTRIBUTE_HEADER_BYTES + octets.len()) as u16).to_ne_bytes());
    route.extend_from_slice(&kind.to_ne_bytes());
    route.extend_from_slice(octets);
}

/// What a datagram of the kernel holds: the answer to question `sequence` if it is there, and whether there is news of
/// addresses.
fn read(mut datagram: &[u8], sequence: u32) -> (Option<io::Result<Way>>, bool) {
    let (mut answer, mut has_news) = (None, false);
    while let Some((header, rest)) = datagram.split_first_chunk::<HEADER_BYTES>() {
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = length.checked_sub(HEADER_BYTES).and_then(|length| rest.get(..length)) else { break };
        match u16::from_ne_bytes([k0, k1]) {
            MESSAGE_NEW_ADDRESS | MESSAGE_DELETED_ADDRESS => has_news = true,
            kind if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence => answer = answer.or_else(|| way(kind, body)),
            _ => {}
        }
        datagram = rest.get(body.len().next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
    }
    (answer, has_news)
}

/// What an answer says. `None` if it is no answer.
fn way(kind: u16, body: &[u8]) -> Option<io::Result<Way>> {
    match kind {
        MESSAGE_NEW_ROUTE => Some(Ok(match body.get(ROUTE_TYPE_AT)? {
            &ROUTE_LOCAL | &ROUTE_ANYCAST => Way::Here,
            &ROUTE_BLACKHOLE | &ROUTE_UNREACHABLE | &ROUTE_PROHIBIT => Way::Nowhere,
            _ => Way::There,
        })),
        MESSAGE_ERROR => {
            let code = i32::from_ne_bytes(*body.first_chunk()?).checked_neg()?;
            Some(match Errno::from_raw_os_error(code) {
                // No route, one that says so, or one into a black hole.
                Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL => Ok(Way::Nowhere),
                error => Err(error.into()),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&[0; 2]);
        message.extend_from_slice(&sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        message.resize(message.len().next_multiple_of(ALIGNMENT), 0);
        message
    }

    fn route(kind: u8) -> Vec<u8> {
        let mut body = vec![0; ROUTE_BYTES];
        body[ROUTE_TYPE_AT] = kind;
        body
    }

    #[test]
    fn the_answer_is_found_behind_news_and_answers_to_others() {
        let datagram = [
            message(MESSAGE_NEW_ADDRESS, 0, &[1, 2, 3]),
            message(MESSAGE_NEW_ROUTE, 6, &route(1)),
            message(MESSAGE_NEW_ROUTE, 7, &route(ROUTE_LOCAL)),
        ];
        let (answer, has_news) = read(&datagram.concat(), 7);
        assert_eq!((answer.unwrap().unwrap(), has_news), (Way::Here, true));
        assert!(matches!(read(&datagram[1], 7), (None, false)));
    }

    #[test]
    fn errors_of_the_kernel_mean_no_route_or_no_answer() {
        let error =
            |errno: Errno| read(&message(MESSAGE_ERROR, 7, &(-errno.raw_os_error()).to_ne_bytes()), 7).0.unwrap();
        assert_eq!(error(Errno::NETUNREACH).unwrap(), Way::Nowhere);
        assert_eq!(error(Errno::INVAL).unwrap(), Way::Nowhere);
        assert!(error(Errno::OPNOTSUPP).is_err());
    }

    #[test]
    fn no_cut_of_a_datagram_panics_or_answers() {
        let whole = message(MESSAGE_NEW_ROUTE, 7, &route(ROUTE_LOCAL));
        assert!((0..whole.len()).all(|length| read(&whole[..length], 7).0.is_none()));
    }

    #[test]
    fn the_kernel_knows_this_machine_and_a_source_changes_nothing_about_it() {
        let mut socket = RouteSocket::open().unwrap();
        for source in [None, Some([127, 0, 0, 1].into())] {
            assert_eq!(socket.ask([127, 9, 8, 7].into(), source).unwrap(), Way::Here);
        }
        assert!(!socket.take_news());
    }
}
