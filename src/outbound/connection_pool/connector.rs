//! How the pool reaches sockets, real or simulated.

use std::io;
use std::net::SocketAddr;

use crate::io::token::Token;

/// How the pool reaches sockets.
pub trait Connector {
    type Socket;
    /// Starts to connect. Events for the socket come with `token`.
    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Self::Socket>;
    /// Makes events of a connected socket come with `token` from now on.
    fn watch(&mut self, socket: &mut Self::Socket, token: Token) -> io::Result<()>;
    /// How a connect is doing.
    fn state(&mut self, socket: &Self::Socket) -> ConnectState;
    /// What waits in a connected socket, without reading it.
    fn look(&mut self, socket: &Self::Socket) -> Waiting;
    /// Whether the policy lets the address have spares.
    fn permits(&self, address: SocketAddr) -> bool;
}

/// How a connect is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectState {
    Connected,
    Pending,
    Failed,
}

/// What waits in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Nothing,
    /// Bytes of the target, which nobody has read.
    Bytes,
    /// The target ended or broke the connection.
    Ended,
}
