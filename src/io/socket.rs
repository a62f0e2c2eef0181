//! What a session may do with a stream socket, and the socket with what is known of its readiness.
//!
//! A session is generic over [`Socket`] so that the same code runs on TCP in the server and on scripted sockets in the
//! simulation. Outcomes are values: "would block" is not an error, an end of stream is not a length.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;
use socket2::SockRef;

pub use super::outcome::{Recv, Sent as Send};
use super::sock_diag::unacknowledged_bytes;
use super::splice::KernelPipe;

/// A non-blocking stream socket.
pub trait Socket {
    /// Receives into `into`, which must not be empty.
    fn recv(&mut self, into: &mut [u8]) -> Recv;
    /// Sends from `bytes`, which must not be empty; may take only some.
    fn send(&mut self, bytes: &[u8]) -> Send;
    /// Receives at most `bytes_max` bytes, which must not be zero, into a kernel pipe, which must be empty. `None`, and
    /// nothing received: the kernel does not do that with this socket.
    fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv>;
    /// Sends from a kernel pipe, which must not be empty; may take only some.
    fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Send;
    /// Ends the sending direction in order, after all bytes sent before (TCP: FIN).
    fn shutdown_write(&mut self);
    /// The address that the peer connected to, or that it is connected from; `None` where there is none.
    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
    /// Bytes that were sent and that the peer has not acknowledged; `None` where nobody can say. It costs several system
    /// calls.
    fn unacknowledged_bytes(&self) -> Option<u32> {
        None
    }
    /// Makes closing the socket abort it: queued bytes are dropped and the peer sees a reset.
    fn reset_on_close(&mut self);
}

impl Socket for TcpStream {
    fn recv(&mut self, into: &mut [u8]) -> Recv {
        loop {
            match self.read(into) {
                Ok(0) => return Recv::End,
                Ok(count) => return Recv::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Recv::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Recv::Failed,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Send {
        loop {
            match self.write(bytes) {
                Ok(count) => return Send::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Send::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux: what a reset says after the peer's FIN, or when the reset itself was reported before.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Send::Refused,
                Err(_) => return Send::Failed,
            }
        }
    }

    fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv> {
        pipe.fill_from(self, bytes_max)
    }

    fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Send {
        pipe.drain_to(self)
    }

    fn shutdown_write(&mut self) {
        // Fails only where the connection is gone already, which the next call on it tells.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn unacknowledged_bytes(&self) -> Option<u32> {
        unacknowledged_bytes(self.local_addr().ok()?, self.peer_addr().ok()?)
    }

    fn reset_on_close(&mut self) {
        // Linger zero: close sends a reset (Linux tcp_close). Fails only on a dead socket.
        let _ = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// A socket and what is known of it since its last event.
///
/// Readiness is set by events and cleared only by a call that found the socket blocked: with edge-triggered events
/// nothing else may clear it, or a wake-up is lost.
pub struct Endpoint<S> {
    pub socket: S,
    pub readable: bool,
    pub writable: bool,
    /// An event said that the connection is broken; the next call on the socket will find out how.
    pub broken: bool,
    /// An event said that the peer has ended its direction; bytes may still be there.
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

    /// Takes note of an event.
    pub fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.broken |= readiness.broken;
        self.read_closed |= readiness.read_closed;
        self.splices &= !readiness.urgent;
    }

    /// Receives, and remembers when there is nothing more.
    pub fn recv(&mut self, into: &mut [u8]) -> Recv {
        let outcome = self.socket.recv(into);
        self.received(outcome)
    }

    /// The peer sends nothing more: what is there to receive is all there will ever be.
    pub fn is_over(&self) -> bool {
        self.read_closed || self.broken
    }

    /// Whether [`Endpoint::recv_pipe`] is worth a try.
    pub fn splices(&self) -> bool {
        self.splices
    }

    /// Receives at most `bytes_max` bytes into an empty pipe, and remembers when there is nothing more. `None`: try
    /// [`Endpoint::recv`], from now on.
    ///
    /// Splice never passes a byte of urgent data: in front of one it says "would block", and an event that there is
    /// urgent data comes or came; behind the stream's last byte it says "end" (Linux tcp_splice_read). So its "end" is
    /// asked about again. Receiving skips that one byte and goes on.
    pub fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv> {
        let outcome = self.socket.recv_pipe(pipe, bytes_max).filter(|outcome| *outcome != Recv::End);
        self.splices &= outcome.is_some();
        outcome.map(|outcome| self.received(outcome))
    }

    /// Sends, and remembers when there is no more room.
    pub fn send(&mut self, bytes: &[u8]) -> Send {
        let outcome = self.socket.send(bytes);
        self.sent(outcome)
    }

    /// Sends from a pipe, and remembers when there is no more room.
    pub fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Send {
        let outcome = self.socket.send_pipe(pipe);
        self.sent(outcome)
    }

    fn received(&mut self, outcome: Recv) -> Recv {
        self.readable &= outcome != Recv::Blocked;
        if outcome == Recv::End && self.lost { Recv::Failed } else { outcome }
    }

    fn sent(&mut self, outcome: Send) -> Send {
        self.writable &= outcome != Send::Blocked;
        self.lost |= outcome == Send::Failed;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream as StdStream};
    use std::time::{Duration, Instant};

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
        while matches!(endpoint.send(b"x"), Send::Bytes(_)) {
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
        assert_eq!(endpoint.send(b"x"), Send::Refused);
    }

    #[test]
    fn a_stream_that_ended_before_the_reset_has_ended() {
        let mut endpoint = reset_by_peer(true);
        let mut into = [0; 16];
        assert_eq!(endpoint.recv(&mut into), Recv::Bytes(4));
        assert_eq!(endpoint.recv(&mut into), Recv::End);
    }
}
