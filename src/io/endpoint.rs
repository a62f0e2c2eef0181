//! A stream socket with what is known of its readiness.
//!
//! With edge-triggered events a wake-up comes once. So readiness is set by events, and cleared only by a call that
//! found the socket blocked. Nobody outside may clear it: a wake-up would be lost. The three exceptions are transitions
//! with names, each with its reason: [`Endpoint::connected`], [`Endpoint::listen_on`], [`Endpoint::stop_listening`].

use std::io;
use std::net::SocketAddr;

use super::socket::{Recv, Sent, Socket};
use super::splice::KernelPipe;

/// A socket and what is known of it since its last event.
pub struct Endpoint<S> {
    socket: S,
    readable: bool,
    writable: bool,
    /// An event said that the connection is broken.
    broken: bool,
    /// An event said that the peer has ended its direction. Bytes may still be there.
    read_closed: bool,
    /// Receiving into a pipe works, as far as is known.
    splices: bool,
    /// Sending found it broken. The kernel reports that once, and whoever receives later is told a mere end of stream.
    lost: bool,
}

/// What an event says about a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    pub broken: bool,
    /// The peer has ended its direction.
    pub read_closed: bool,
    /// The stream holds urgent data (TCP's URG flag).
    pub urgent: bool,
}

impl<S: Socket> Endpoint<S> {
    /// A socket of which nothing is known yet.
    pub fn new(socket: S) -> Self {
        Self { socket, readable: false, writable: false, broken: false, read_closed: false, splices: true, lost: false }
    }

    /// A socket that was just connected. It takes bytes, whether or not an event said so. If it should not, sending
    /// tells.
    pub fn connected(socket: S) -> Self {
        Self { writable: true, ..Self::new(socket) }
    }

    /// Takes note of an event.
    pub fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.broken |= readiness.broken;
        self.read_closed |= readiness.read_closed;
        self.splices &= !readiness.urgent;
    }

    /// Receiving is worth a try, whatever events said: sending found the connection broken, and what had arrived before
    /// is still to be had.
    pub fn listen_on(&mut self) {
        self.readable = true;
    }

    /// Nobody wants what still comes until the next event says that something came.
    pub fn stop_listening(&mut self) {
        self.readable = false;
    }

    /// [`Endpoint::recv`] may find something.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// [`Endpoint::send`] may find room.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// An event said that the connection is broken. The next call on the socket will find out how.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The peer sends nothing more: what is there to receive is all there will ever be.
    pub fn is_over(&self) -> bool {
        self.read_closed || self.broken
    }

    /// Receives, and remembers when there is nothing more.
    pub fn recv(&mut self, into: &mut [u8]) -> Recv {
        let outcome = self.socket.recv(into);
        self.received(outcome)
    }

    /// Whether [`Endpoint::recv_pipe`] is worth a try.
    pub fn splices(&self) -> bool {
        self.splices
    }

    /// Receives at most `bytes_max` bytes into an empty pipe, and remembers when there is nothing more. `None`: try
    /// [`Endpoint::recv`], from now on.
    ///
    /// Splice never passes a byte of urgent data. In front of one it says "would block", and an event that there is
    /// urgent data comes or came. Behind the stream's last byte it says "end" (Linux tcp_splice_read). So its "end" is
    /// asked about again. Receiving skips that one byte and goes on.
    pub fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv> {
        let outcome = self.socket.recv_pipe(pipe, bytes_max).filter(|outcome| *outcome != Recv::End);
        self.splices &= outcome.is_some();
        outcome.map(|outcome| self.received(outcome))
    }

    /// Sends, and remembers when there is no more room.
    pub fn send(&mut self, bytes: &[u8]) -> Sent {
        let outcome = self.socket.send(bytes);
        self.sent(outcome)
    }

    /// Sends from a pipe, and remembers when there is no more room.
    pub fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Sent {
        let outcome = self.socket.send_pipe(pipe);
        self.sent(outcome)
    }

    /// As [`Socket::shutdown_write`].
    pub fn shutdown_write(&mut self) {
        self.socket.shutdown_write();
    }

    /// As [`Socket::reset_on_close`].
    pub fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    /// As [`Socket::local_address`].
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_address()
    }

    /// As [`Socket::unacknowledged_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn unacknowledged_bytes(&self) -> io::Result<Option<u32>> {
        self.socket.unacknowledged_bytes()
    }

    fn received(&mut self, outcome: Recv) -> Recv {
        self.readable &= outcome != Recv::Blocked;
        if outcome == Recv::End && self.lost { Recv::Failed } else { outcome }
    }

    fn sent(&mut self, outcome: Sent) -> Sent {
        self.writable &= outcome != Sent::Blocked;
        self.lost |= outcome == Sent::Failed;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream as StdStream};
    use std::time::{Duration, Instant};

    use mio::net::TcpStream;
    use socket2::SockRef;

    use super::*;

    /// Our end of a connection whose peer has sent "data", perhaps a FIN, and then reset it.
    fn reset_by_peer(fin_first: bool) -> Endpoint<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.write_all(b"data").unwrap();
        if fin_first {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let mut endpoint = Endpoint::new(TcpStream::from_std(ours));
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(endpoint.send(b"x"), Sent::Bytes(_)) {
            assert!(Instant::now() < deadline, "the reset never came");
        }
        endpoint
    }

    #[test]
    fn a_reset_that_sending_found_is_no_end_of_stream() {
        let mut endpoint = reset_by_peer(false);
        let mut into = [0; 16];
        assert_eq!(endpoint.recv(&mut into), Recv::Bytes(4));
        assert_eq!(endpoint.recv(&mut into), Recv::Failed);
        assert_eq!(endpoint.send(b"x"), Sent::Refused);
    }

    #[test]
    fn a_stream_that_ended_before_the_reset_has_ended() {
        let mut endpoint = reset_by_peer(true);
        let mut into = [0; 16];
        assert_eq!(endpoint.recv(&mut into), Recv::Bytes(4));
        assert_eq!(endpoint.recv(&mut into), Recv::End);
    }
}
