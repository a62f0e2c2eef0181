//! A target socket from nothing to connected: options, source address, non-blocking connect, and how it went.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::io::sockopt::SocketOptions;

/// How a connect under way is doing.
pub(super) enum Progress {
    Connected(SocketAddr),
    Pending,
    Failed(io::Error),
}

/// Starts to connect to `address`, from `bind` if given. The result shows later in [`progress`].
pub(super) fn connect(address: SocketAddr, bind: Option<IpAddr>, options: SocketOptions) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    options.apply(&socket);
    if let Some(source) = bind {
        // The port is chosen here and not at connect, so all connections together have one range of ports. Neither of
        // our system call crates offers IP_BIND_ADDRESS_NO_PORT, which would defer the choice.
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Whether the connect has ended. An event alone does not say so, because it may be spurious or about an error.
pub(super) fn progress(socket: &TcpStream) -> Progress {
    match socket.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return Progress::Failed(error),
    }
    match socket.peer_addr() {
        // Towards this machine, a connect to a port from which it happens to start meets itself.
        Ok(peer) if socket.local_addr().is_ok_and(|local| local == peer) => {
            Progress::Failed(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(peer) => Progress::Connected(peer),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Progress::Pending,
        Err(error) => Progress::Failed(error),
    }
}
