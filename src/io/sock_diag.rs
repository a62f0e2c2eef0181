//! How many bytes of a TCP connection the kernel has not delivered. Its socket monitor (NETLINK_SOCK_DIAG) is asked,
//! because the system call that tells the same of a descriptor (SIOCOUTQ) has no safe wrapper.
//!
//! A question costs two system calls, and a look through the kernel's table of connections. So it is for deadlines,
//! never for bytes. Each thread that ever asks keeps a socket to ask with, so that a question needs no descriptor.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

const MESSAGE_BY_FAMILY: u16 = 20;
const MESSAGE_ERROR: u16 = 2;
const FLAG_REQUEST: u16 = 1;
const PROTOCOL_TCP: u8 = 6;
const ANY_STATE: u32 = u32::MAX;
/// Header 16, request 8, connection 48.
const QUESTION_BYTES: usize = 72;
/// struct nlmsghdr: length, kind.
const KIND_OFFSET: usize = 4;
/// Of every message: length 4, kind 2, flags 2.
const SEQUENCE_OFFSET: usize = 8;
/// Of a message that is an error: header 16, code.
const ERROR_OFFSET: usize = 16;
/// Header 16, states 4, connection 48, expiry 4, read queue 4.
const WRITE_QUEUE_OFFSET: usize = 76;

thread_local! {
    /// That of the thread.
    static MONITOR: RefCell<Monitor> = const { RefCell::new(Monitor { socket: None, asked: 0 }) };
}

/// The way to ask the kernel.
#[derive(Debug)]
struct Monitor {
    /// `None`: nobody has asked, or the last one failed.
    socket: Option<OwnedFd>,
    /// Questions so far: the sequence number of the last.
    asked: u32,
}

/// Bytes of the connection between these two addresses that the kernel has taken and the peer has not acknowledged.
/// `None`: the kernel knows no such connection.
///
/// # Errors
/// Nobody can say now: out of descriptors or memory, or the kernel lets this process have no such socket.
pub(super) fn unacknowledged_bytes(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    MONITOR.with_borrow_mut(|monitor| monitor.unacknowledged_bytes(local, peer))
}

impl Monitor {
    fn unacknowledged_bytes(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
        if let Some(kept) = self.socket.take()
            && let Ok(answer) = self.ask(&kept, local, peer)
        {
            self.socket = Some(kept);
            return Ok(answer);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        let answer = self.ask(&socket, local, peer)?;
        self.socket = Some(socket);
        Ok(answer)
    }

    fn ask(&mut self, socket: &OwnedFd, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
        self.asked = self.asked.wrapping_add(1);
        send(socket, &question(self.asked, local, peer), SendFlags::empty())?;
        let mut room = [0; 512];
        loop {
            // The answer is there before the question's system call returns. In front of it there may be one to an
            // earlier question.
            match recv(socket, &mut room, RecvFlags::empty()) {
                Ok((_, length)) => {
                    let message = room.get(..length).unwrap_or_default();
                    if field(message, SEQUENCE_OFFSET).is_some_and(|bytes| u32::from_ne_bytes(bytes) == self.asked) {
                        return read(message);
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The request for one connection, as it stands in memory: fields are in the machine's byte order, ports and addresses
/// in the network's (linux/inet_diag.h, `inet_diag_req_v2`).
fn question(sequence: u32, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut message = (QUESTION_BYTES as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&MESSAGE_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&FLAG_REQUEST.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    // The port is the kernel's to know.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&[family.as_raw() as u8, PROTOCOL_TCP, 0, 0]);
    message.extend_from_slice(&ANY_STATE.to_ne_bytes());
    message.extend_from_slice(&local.port().to_be_bytes());
    message.extend_from_slice(&peer.port().to_be_bytes());
    for address in [local, peer] {
        match address.ip() {
            IpAddr::V4(ip) => message.extend_from_slice(&[&ip.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(ip) => message.extend_from_slice(&ip.octets()),
        }
    }
    // Any interface, any cookie.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&[0xff; 8]);
    message
}

/// `idiag_wqueue` of an answer. An error of the kernel's but that there is no such connection is no answer.
fn read(message: &[u8]) -> io::Result<Option<u32>> {
    let kind = field(message, KIND_OFFSET).map(|[low, high, ..]| u16::from_ne_bytes([low, high]));
    let length = field(message, WRITE_QUEUE_OFFSET).map(u32::from_ne_bytes);
    let code = field(message, ERROR_OFFSET).and_then(|bytes| i32::from_ne_bytes(bytes).checked_neg());
    match (kind, length, code) {
        (Some(MESSAGE_BY_FAMILY), Some(length), _) => Ok(Some(length)),
        (Some(MESSAGE_ERROR), _, Some(code)) if Errno::from_raw_os_error(code) == Errno::NOENT => Ok(None),
        (Some(MESSAGE_ERROR), _, Some(code)) => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn field(message: &[u8], offset: usize) -> Option<[u8; 4]> {
    message.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_kernel_tells_what_a_peer_has_not_taken() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            let ask = || unacknowledged_bytes(ours.local_addr().unwrap(), ours.peer_addr().unwrap()).unwrap();
            assert_eq!(ask(), Some(0), "{address}");
            ours.set_nonblocking(true).unwrap();
            let mut taken = 0;
            while let Ok(count) = (&ours).write(&[7; 8192]) {
                taken += count as u64;
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            let wait_for = |wanted: &dyn Fn(u64) -> bool| {
                while !ask().is_some_and(|bytes| wanted(bytes.into())) {
                    assert!(Instant::now() < deadline, "{address}: {:?} of {taken}", ask());
                    std::thread::yield_now();
                }
            };
            wait_for(&|bytes| bytes > 0 && bytes < taken);
            let before = ask().unwrap();
            peer.read_exact(&mut vec![0; taken as usize]).unwrap();
            wait_for(&|bytes| bytes == 0);
            assert!(before > 0);
            ours.flush().unwrap();
        }
    }

    #[test]
    fn of_a_connection_that_is_not_there_nothing_is_known() {
        let nowhere = "192.0.2.1:9".parse().unwrap();
        assert_eq!(unacknowledged_bytes("192.0.2.2:9".parse().unwrap(), nowhere).unwrap(), None);
    }

    #[test]
    fn questions_share_a_socket_and_get_their_own_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, peer) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
        let nowhere = "192.0.2.1:9".parse().unwrap();
        let mut monitor = Monitor { socket: None, asked: 0 };
        assert_eq!(monitor.unacknowledged_bytes(local, peer).unwrap(), Some(0));
        let number = |monitor: &Monitor| monitor.socket.as_ref().map(AsRawFd::as_raw_fd);
        let first = number(&monitor);
        assert_eq!(monitor.unacknowledged_bytes(nowhere, nowhere).unwrap(), None);
        // An answer that nobody heard.
        send(monitor.socket.as_ref().unwrap(), &question(7, nowhere, nowhere), SendFlags::empty()).unwrap();
        assert_eq!(monitor.unacknowledged_bytes(local, peer).unwrap(), Some(0));
        assert_eq!(number(&monitor), first);
    }

    #[test]
    fn a_socket_that_fails_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let broken = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let mut monitor = Monitor { socket: Some(broken), asked: 0 };
        let answer = monitor.unacknowledged_bytes(ours.local_addr().unwrap(), ours.peer_addr().unwrap());
        assert_eq!(answer.unwrap(), Some(0));
        assert!(monitor.socket.is_some());
    }

    #[test]
    fn what_is_no_answer_is_told_from_there_being_no_connection() {
        let error = |errno: Errno| {
            let head = [36_u32.to_ne_bytes(), u32::from(MESSAGE_ERROR).to_ne_bytes(), [0; 4], [0; 4]];
            read(&[&head.concat()[..], &(-errno.raw_os_error()).to_ne_bytes(), &[0; 16]].concat())
        };
        assert_eq!(error(Errno::NOENT).unwrap(), None);
        for errno in [Errno::PERM, Errno::NOMEM, Errno::OPNOTSUPP] {
            assert!(error(errno).is_err(), "{errno}");
        }
        assert!(read(&[]).is_err());
    }
}
