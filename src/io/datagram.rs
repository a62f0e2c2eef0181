//! What a session may do with a datagram socket.
//!
//! As with [`super::socket::Socket`] outcomes are values. There is no broken datagram socket: what goes wrong with one
//! datagram (too long, unreachable, refused) is that datagram's fate and says nothing about the next.

use std::io::IoSlice;
use std::net::SocketAddr;

/// Datagrams that [`DatagramSocket::send_run`] takes at the most (Linux UDP_MAX_SEGMENTS), and their bytes together.
pub const RUN_MAX: usize = 64;
pub const RUN_BYTES_MAX: usize = 65_000;

/// A non-blocking datagram socket that is not connected to anybody.
pub trait DatagramSocket {
    /// Receives one datagram into `into`; what does not fit is lost.
    fn recv_from(&mut self, into: &mut [u8]) -> RecvFrom;
    /// Sends one datagram, if `to` may be sent to.
    fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo;
    /// Sends all of `datagrams`, each `length` bytes long, or none of them.
    fn send_run(&mut self, datagrams: &[IoSlice<'_>], length: u16, to: SocketAddr) -> SendTo {
        let _ = (datagrams, length, to);
        SendTo::NotTogether
    }
    /// Nobody needs it any more, not even somebody who would come back for it: it is about to be dropped.
    fn retire(&mut self) {}
}

/// What came of [`DatagramSocket::recv_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvFrom {
    /// So many bytes, maybe none, from there.
    Datagram(usize, SocketAddr),
    /// One from where nothing may come; it was thrown away.
    Refused,
    /// Nothing there now; an event follows when that changes.
    Blocked,
}

/// What came of [`DatagramSocket::send_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendTo {
    Sent,
    /// The destination policy does not let it go there.
    Refused,
    /// The kernel did not take it: longer than a datagram can be, no route, no room.
    Failed,
    /// Datagrams like these are not sent together, neither now nor later.
    NotTogether,
}

/// Stands where no datagram socket exists; nothing can be done with it because there is none.
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
