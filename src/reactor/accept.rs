//! Listening and accepting.
//!
//! Each worker has its own listener per address, all bound to the same port with SO_REUSEPORT. So the kernel spreads
//! clients, and no worker wakes for another's. What a listener accepts inherits its options (Linux), so an accepted
//! socket needs no system call of its own.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use mio::net::{TcpListener, TcpStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::io::sockopt::{SocketOptions, is_shortage};

/// Connections that may wait in the kernel for each listener. The kernel's own limit (net.core.somaxconn) may be lower.
const BACKLOG: i32 = 4096;

/// Opens a listener on each address for each of `workers` workers. The outer list has one entry per worker.
///
/// Port 0 is resolved once per address, so that all workers share the port.
///
/// # Errors
/// With the address that could not be had. A port that anybody listens on already is an error, even where that is
/// another copy of ourselves that would share it.
pub fn listen(
    addresses: &[SocketAddr],
    workers: usize,
    options: SocketOptions,
) -> Result<Vec<Vec<StdListener>>, (SocketAddr, io::Error)> {
    let mut listeners: Vec<Vec<StdListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in addresses {
        let address = probe(address).map_err(|error| (address, error))?;
        for worker in &mut listeners {
            worker.push(listen_shared(address, options).map_err(|error| (address, error))?);
        }
    }
    Ok(listeners)
}

/// Binds in the ordinary way and gives that up at once. SO_REUSEPORT alone would silently share the port with whoever
/// uses it too.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket_for(address)?;
    socket.bind(&SockAddr::from(address))?;
    // On some kernels binding alone succeeds next to a listener that sets SO_REUSEADDR. Listening does not.
    socket.listen(1)?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn listen_shared(address: SocketAddr, options: SocketOptions) -> io::Result<StdListener> {
    let socket = socket_for(address)?;
    socket.set_reuse_port(true)?;
    options.apply(&socket);
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn socket_for(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run in TIME_WAIT must not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // "::" serves both families. A specific address serves its own anyway.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// What came of trying to accept one connection.
pub enum Accepted {
    Client(TcpStream, SocketAddr),
    /// The queue is empty.
    Blocked,
    /// Out of descriptors or memory. The connection stays in the queue.
    NoDescriptors(io::Error),
    /// This connection is gone. The next may be fine.
    Lost(io::Error),
}

/// Whether somebody waits in the queue of `listener`. Without descriptors, accepting fails whether somebody does or not.
/// True where the kernel does not say.
pub fn is_awaited(listener: &TcpListener) -> bool {
    let mut asked = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::default())).map_or(true, |count| count > 0)
}

/// Accepts one connection. The address of an IPv4 client of a dual-stack listener is given as IPv4.
pub fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((stream, address)) => Accepted::Client(stream, SocketAddr::new(address.ip().to_canonical(), address.port())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Blocked,
        Err(error) if is_shortage(&error) => Accepted::NoDescriptors(error),
        Err(error) => Accepted::Lost(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SocketOptions = SocketOptions { nodelay: true, recv_buffer_bytes: 0, send_buffer_bytes: 0 };

    #[test]
    fn all_workers_share_the_port_that_was_chosen() {
        let listeners = listen(&["127.0.0.1:0".parse().unwrap()], 2, OPTIONS).unwrap();
        let ports: Vec<_> = listeners.iter().map(|one| one[0].local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 2);
        assert_eq!(ports[0], ports[1]);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn a_listener_is_awaited_while_somebody_is_in_its_queue() {
        let mut listeners = listen(&["127.0.0.1:0".parse().unwrap()], 1, OPTIONS).unwrap();
        let listener = TcpListener::from_std(listeners[0].remove(0));
        assert!(!is_awaited(&listener));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(is_awaited(&listener));
        assert!(matches!(accept(&listener), Accepted::Client(..)));
        assert!(!is_awaited(&listener));
    }

    #[test]
    fn a_port_in_use_is_an_error_even_by_a_copy_of_ourselves() {
        let ours = listen(&["127.0.0.1:0".parse().unwrap()], 1, OPTIONS).unwrap();
        let address = ours[0][0].local_addr().unwrap();
        let (failed, error) = listen(&[address], 1, OPTIONS).unwrap_err();
        assert_eq!((failed, error.kind()), (address, io::ErrorKind::AddrInUse));
    }
}
