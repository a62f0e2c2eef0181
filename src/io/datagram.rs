//! What a session may do with a datagram socket.
//!
//! Outcomes are values, as with [`super::socket::Socket`]. A datagram socket is never broken, because what goes wrong
//! with one datagram (too long, unreachable, refused) says nothing about the next.

use std::io::IoSlice;
use std::net::SocketAddr;

/// The most datagrams that [`DatagramSocket::send_run`] takes (Linux UDP_MAX_SEGMENTS).
pub const RUN_MAX: usize = 64;
/// The most bytes that they may have together.
pub const RUN_BYTES_MAX: usize = 65_000;

/// A non-blocking datagram socket that is not connected to anybody.
pub trait DatagramSocket {
    /// Receives one datagram into `into`. What does not fit is lost.
    fn recv_from(&mut self, into: &mut [u8]) -> RecvFrom;
    /// Sends one datagram, if the policy lets it go to `to`.
    fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo;
    /// Sends all of `datagrams`, each `length` bytes long, or none of them.
    fn send_run(&mut self, datagrams: &[IoSlice<'_>], length: u16, to: SocketAddr) -> SendTo {
        let _ = (datagrams, length, to);
        SendTo::NotTogether
    }
    /// Tells the socket that nobody will come back for it. It is dropped next.
    fn retire(&mut self) {}
}

/// What came of [`DatagramSocket::recv_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvFrom {
    /// So many bytes, perhaps 0, from this sender.
    Datagram(usize, SocketAddr),
    /// Dropped: the policy does not let this sender through.
    Refused,
    /// Dropped: nobody can say now whether the policy lets this sender through, for want of a descriptor.
    Undecided,
    /// Nothing is there now. An event follows when that changes.
    Blocked,
}

/// What came of [`DatagramSocket::send_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendTo {
    /// The kernel took it, or all of them.
    Sent,
    /// Dropped: the policy does not let it go there.
    Refused,
    /// Dropped: nobody can say now whether the policy lets it go there, for want of a descriptor.
    Undecided,
    /// Dropped: the kernel did not take it (longer than a datagram can be, no route, no room).
    Failed,
    /// Datagrams like these are not sent together, neither now nor later.
    NotTogether,
}

/// The datagram socket of a world without datagrams. No value of it exists.
#[derive(Debug)]
pub enum NoDatagrams {}

impl DatagramSocket for NoDatagrams {
    fn recv_from(&mut self, _: &mut [u8]) -> RecvFrom {
        match *self {}
    }

    fn send_to(&mut self, _: &[u8], _: SocketAddr) -> SendTo {
        match *self {}
    }
}
