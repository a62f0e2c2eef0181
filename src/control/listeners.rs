//! The sockets that clients of the control plane connect to, and the descriptors kept for them.
//!
//! Descriptors can run out: the sessions of the data plane may take them all. Two are kept in reserve here, and given up
//! one at a time, so that the operator still gets an answer when nothing else does. A port that is taken, or a folder
//! that refuses a socket, does not stop the server: it is tried again.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::Mode;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};

use super::http::stream::{Peer, Stream};

/// The tokens of the listeners; those of clients begin behind them.
pub const TCP: Token = Token(0);
pub const UNIX: Token = Token(1);

/// Connections that the kernel keeps until they are accepted. A client whose connection finds no room there waits for
/// seconds before it tries again, and a burst of strangers must not do that to the operator. The kernel has a limit of its
/// own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Bytes of answers that the kernel may keep for a client; it takes twice as many for them and what it adds. Left to itself it
/// keeps megabytes for everybody who takes no answer, and the memory of all TCP sockets, those of sessions too, has one limit.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Descriptors kept back.
const RESERVE: usize = 2;

/// Where to listen.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub tcp: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
}

pub struct Listeners {
    places: Places,
    tcp: Option<TcpListener>,
    unix: Option<UnixListener>,
    reserve: Vec<File>,
}

impl Listeners {
    /// Nothing is open yet; see [`Listeners::open_missing`].
    pub fn new(places: Places) -> Self {
        let mut listeners = Self { places, tcp: None, unix: None, reserve: Vec::new() };
        listeners.refill_reserve();
        listeners
    }

    /// Opens what is not open. Each place that fails is returned with its error.
    pub fn open_missing(&mut self, registry: &Registry) -> Vec<(String, io::Error)> {
        let mut failed = Vec::new();
        if let (None, Some(address)) = (&self.tcp, self.places.tcp) {
            match open_tcp(address, registry) {
                Ok(listener) => self.tcp = Some(listener),
                Err(error) => failed.push((format!("http://{address}"), error)),
            }
        }
        if let (None, Some(path)) = (&self.unix, &self.places.unix) {
            match open_unix(path, registry) {
                Ok(listener) => self.unix = Some(listener),
                Err(error) => failed.push((path.display().to_string(), error)),
            }
        }
        failed
    }

    /// Closes all, so that another process may open them.
    pub fn close(&mut self) {
        self.tcp = None;
        self.remove_unix();
    }

    fn remove_unix(&mut self) {
        if let (Some(_), Some(path)) = (self.unix.take(), &self.places.unix) {
            let _ = fs::remove_file(path);
        }
    }

    /// Where TCP clients connect to: what port 0 became.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// The next client at the listener with this token. `None`: nobody waits (any more).
    pub fn accept(&mut self, token: Token) -> Option<(Stream, Peer)> {
        loop {
            match self.try_accept(token) {
                Ok(accepted) => return Some(accepted),
                Err(error) => match classify(&error) {
                    Trouble::Blocked => return None,
                    Trouble::Descriptors => {
                        self.reserve.pop()?;
                    }
                    Trouble::Gone => {}
                },
            }
        }
    }

    fn try_accept(&self, token: Token) -> io::Result<(Stream, Peer)> {
        let closed = || io::Error::from(io::ErrorKind::WouldBlock);
        if token == TCP {
            let (stream, peer) = self.tcp.as_ref().ok_or_else(closed)?.accept()?;
            // Answers are written whole.
            let _ = stream.set_nodelay(true);
            return Ok((Stream::Tcp(stream), Peer::Ip(peer.ip().to_canonical())));
        }
        let (stream, _) = self.unix.as_ref().ok_or_else(closed)?.accept()?;
        Ok((Stream::Unix(stream), Peer::Unix))
    }

    /// Takes back what was given up, once descriptors are free again.
    pub fn refill_reserve(&mut self) {
        while self.reserve.len() < RESERVE {
            let Ok(file) = File::open("/dev/null") else { return };
            self.reserve.push(file);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_unix();
    }
}

enum Trouble {
    Blocked,
    Descriptors,
    /// The client left before it was accepted, or something else that the next client may not meet.
    Gone,
}

fn classify(error: &io::Error) -> Trouble {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Trouble::Descriptors,
        Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => Trouble::Gone,
        _ => Trouble::Blocked,
    }
}

fn open_tcp(address: SocketAddr, registry: &Registry) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    // A restart need not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    // What the listener accepts inherits it (Linux).
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let mut listener = TcpListener::from_std(socket.into());
    registry.register(&mut listener, TCP, Interest::READABLE)?;
    Ok(listener)
}

/// A socket that only its owner may open, also in the moment between its making and its permissions.
fn open_unix(path: &Path, registry: &Registry) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let mut listener = bound?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    registry.register(&mut listener, UNIX, Interest::READABLE)?;
    Ok(listener)
}

/// Removes the socket of a server that has ended. One that answers belongs to a running server, and a file of another
/// kind to somebody else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    // Without waiting: a server that is stuck has no room for one more, and nobody knows for how long.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there")),
    }
}
