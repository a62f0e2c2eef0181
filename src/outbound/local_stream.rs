//! Connections to Unix sockets of this machine, and to sites in this process: fallbacks may be reached that way.
//!
//! A stream socket of the Unix family is read, written, spliced and half-closed like one of TCP, so it is handed out as
//! one. What only TCP has (no delay, keep-alive, linger) fails on it without harm.

use std::io;
use std::net::TcpStream as StdStream;

use mio::net::TcpStream;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::session::Dest;

/// Connects to the Unix socket or the site that `dest` names. `None` where it names neither. It does not block, because the
/// kernel connects such sockets at once or not at all.
///
/// # Errors
/// What the kernel says. It is "would block" when the listener's queue is full.
pub fn connect_to(dest: &Dest) -> Option<io::Result<TcpStream>> {
    let address = match dest {
        Dest::Tcp(..) => return None,
        Dest::BuiltIn(site) => {
            return Some(site.0.visit().map(|socket| TcpStream::from_std(StdStream::from(socket))));
        }
        Dest::Unix(path) => SocketAddrUnix::new(&**path),
        Dest::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
    };
    Some(address.map_err(io::Error::from).and_then(|address| connected(&address)))
}

fn connected(address: &SocketAddrUnix) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(TcpStream::from_std(StdStream::from(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::path::Path;

    fn says_hello(dest: &Dest, listener: &UnixListener) {
        let mut socket = connect_to(dest).unwrap().unwrap();
        socket.write_all(b"hello").unwrap();
        drop(socket);
        let mut heard = String::new();
        listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }

    #[test]
    fn sockets_in_the_file_system_and_abstract_ones_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        says_hello(&Dest::Unix(path.clone().into()), &listener);
        let name = format!("test of local streams {}", std::process::id()).into_bytes();
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        says_hello(&Dest::Abstract(name.into()), &listener);
    }

    #[test]
    fn where_nobody_listens_there_is_an_error() {
        let dest = Dest::Unix(Path::new("/nowhere/at/all.sock").into());
        assert_eq!(connect_to(&dest).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(connect_to(&Dest::Tcp("localhost".into(), 1)).is_none());
    }
}
