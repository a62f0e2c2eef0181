//! The client's side of one connection, whatever protocol lies below: what the loads send through and receive from.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use rustix::net::RecvFlags;

use crate::vless::Header;

const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// One open connection through the server under test. Dropping it closes the socket.
pub(crate) trait Leg: Send {
    /// Sends all of these payload bytes.
    fn send(&mut self, payload: &[u8]) -> io::Result<()>;

    /// Receives some payload bytes; 0 is the end of the stream.
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Takes up to `buf.len()` payload bytes off the stream without caring for their values; what `buf` holds
    /// afterwards is undefined.
    fn skip(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv(buf)
    }

    /// Says goodbye the way the protocol wants it; dropping closes the socket.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the downlink has left the outer TLS connection (Vision's direct mode).
    fn is_downlink_direct(&self) -> bool {
        false
    }
}

/// Receives exactly `buf.len()` payload bytes.
pub(crate) fn recv_exact(leg: &mut dyn Leg, buf: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buf.len() {
        match leg.recv(&mut buf[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(())
}

/// A connection without TLS: VLESS with flow none, or nothing at all towards the bare relay.
pub(crate) struct PlainLeg {
    socket: TcpStream,
    header: Header,
}

impl PlainLeg {
    pub(crate) fn new(socket: TcpStream, header: Header) -> Self {
        Self { socket, header }
    }
}

impl Leg for PlainLeg {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        match self.header.take_request() {
            None => self.socket.write_all(payload),
            Some(request) => self.socket.write_all(&[&request, payload].concat()),
        }
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.header.awaits_response() {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            self.header.take_response(&byte)?;
        }
        self.socket.read(buf)
    }

    fn skip(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.header.awaits_response() { self.recv(buf) } else { discard(&self.socket, buf) }
    }
}

/// A socket to the server under test. A server that stalls ends the load with an error instead of holding it for ever.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    bounded(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
}

/// The same for a socket that is connected.
pub(crate) fn bounded(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(STALL_TIMEOUT))?;
    socket.set_write_timeout(Some(STALL_TIMEOUT))?;
    Ok(socket)
}

/// Takes up to `buf.len()` bytes off a TCP socket without copying them: Linux drops them in the kernel (tcp(7)).
pub(crate) fn discard(socket: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    let (_, count) = rustix::net::recv(socket, buf, RecvFlags::TRUNC)?;
    Ok(count)
}
