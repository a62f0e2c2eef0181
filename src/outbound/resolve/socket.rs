//! One query's own socket towards one name server, over UDP or TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry};

use super::ResolveError;
use super::query::{Ask, Transport};
use crate::io::sockopt::is_shortage;
use crate::io::token::Token;

/// The most bytes taken of a datagram. We ask for at most 1,232, and some servers send more than they were asked for.
/// The kernel cuts longer datagrams, and they are asked for again over TCP.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Longer answers over TCP are not waited for, because 16 addresses of an answer are kept.
const TCP_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A socket with a query on its way.
pub(super) enum ServerSocket {
    Udp(UdpSocket),
    Tcp(TcpQuery),
}

pub(super) struct TcpQuery {
    stream: TcpStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
}

/// What came out of a socket.
pub(super) enum Received {
    /// A whole message.
    Message(Vec<u8>),
    /// Nothing more will come.
    Failed(ResolveError),
}

impl ServerSocket {
    /// Sends the query of `ask` from a new socket, registered under `token`.
    pub(super) fn open(ask: &Ask, token: Token, registry: &Registry) -> Result<Self, ResolveError> {
        match ask.transport {
            Transport::Udp => open_udp(ask, token, registry).map(Self::Udp),
            Transport::Tcp => open_tcp(ask, token, registry).map(Self::Tcp),
        }
        .map_err(|error| failure(&error))
    }

    /// The next message. `None` once there is nothing more until the next event.
    pub(super) fn receive(&mut self) -> Option<Received> {
        let result = match self {
            Self::Udp(socket) => receive_datagram(socket),
            Self::Tcp(query) => query.receive(),
        };
        match result {
            Ok(message) => Some(Received::Message(message)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(Received::Failed(failure(&error))),
        }
    }
}

fn open_udp(ask: &Ask, token: Token, registry: &Registry) -> io::Result<UdpSocket> {
    let any: IpAddr = match ask.server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(ask.server)?;
    registry.register(&mut socket, token.into(), Interest::READABLE)?;
    match socket.send(&ask.message) {
        // A full send queue is a lost datagram. The next try comes soon enough.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(socket),
    }
}

fn open_tcp(ask: &Ask, token: Token, registry: &Registry) -> io::Result<TcpQuery> {
    let mut stream = TcpStream::connect(ask.server)?;
    registry.register(&mut stream, token.into(), Interest::READABLE | Interest::WRITABLE)?;
    let mut unsent = (ask.message.len() as u16).to_be_bytes().to_vec();
    unsent.extend_from_slice(&ask.message);
    Ok(TcpQuery { stream, unsent, received: Vec::new() })
}

fn receive_datagram(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(buffer.get(..length).unwrap_or(&[]).to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl TcpQuery {
    /// Sends what is left of the query, then reads until the message is whole.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Not connected yet looks like this on some systems.
                Err(error) if error.kind() == ErrorKind::NotConnected => return Err(ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            if let Some(message) = self.whole_message()? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(buffer.get(..length).unwrap_or(&[])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn whole_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((&prefix, rest)) = self.received.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(prefix));
        if length > TCP_MESSAGE_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let message = rest.get(..length).map(<[u8]>::to_vec);
        if message.is_some() {
            self.received.drain(..2 + length);
        }
        Ok(message)
    }
}

fn failure(error: &io::Error) -> ResolveError {
    if is_shortage(error) { ResolveError::NoDescriptors } else { ResolveError::ServerFailure }
}
