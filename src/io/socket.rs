//! What a session may do with a stream socket.
//!
//! A session is generic over [`Socket`] so that the same code runs on TCP in the server and on scripted sockets in the
//! simulation. Outcomes are values: "would block" is not an error, an end of stream is not a length.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;
use socket2::SockRef;

pub use super::outcome::{Recv, Sent};
use super::sock_diag::unacknowledged_bytes;
use super::splice::KernelPipe;

/// A non-blocking stream socket.
pub trait Socket {
    /// Receives into `into`, which must not be empty.
    fn recv(&mut self, into: &mut [u8]) -> Recv;
    /// Sends from `bytes`, which must not be empty. It may take only some.
    fn send(&mut self, bytes: &[u8]) -> Sent;
    /// Receives at most `bytes_max` bytes, which must not be zero, into a kernel pipe, which must be empty. `None`, and
    /// nothing received: the kernel does not do that with this socket.
    fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv>;
    /// Sends from a kernel pipe, which must not be empty. It may take only some.
    fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Sent;
    /// Ends the sending direction in order, after all bytes sent before (TCP: FIN).
    fn shutdown_write(&mut self);
    /// The address that the peer connected to, or that it is connected from. `None` where there is none.
    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
    /// Bytes that were sent and that the peer has not acknowledged. `None` where there is no such figure. It costs
    /// several system calls.
    ///
    /// # Errors
    /// There is one, and nobody can say it now.
    fn unacknowledged_bytes(&self) -> io::Result<Option<u32>> {
        Ok(None)
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

    fn send(&mut self, bytes: &[u8]) -> Sent {
        loop {
            match self.write(bytes) {
                Ok(count) => return Sent::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux: what a reset says after the peer's FIN, or when the reset itself was reported before.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Sent::Refused,
                Err(_) => return Sent::Failed,
            }
        }
    }

    fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv> {
        pipe.fill_from(self, bytes_max)
    }

    fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Sent {
        pipe.drain_to(self)
    }

    fn shutdown_write(&mut self) {
        // Fails only where the connection is gone already, which the next call on it tells.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn unacknowledged_bytes(&self) -> io::Result<Option<u32>> {
        match (self.local_addr(), self.peer_addr()) {
            (Ok(local), Ok(peer)) => unacknowledged_bytes(local, peer),
            // The connection is gone.
            _ => Ok(None),
        }
    }

    fn reset_on_close(&mut self) {
        // Linger zero: close sends a reset (Linux tcp_close). Fails only on a dead socket.
        let _ = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO));
    }
}
