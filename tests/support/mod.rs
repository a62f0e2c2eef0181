//! What the tests on real sockets share: our server in this process, a client that knows VLESS by itself, origins.
//!
//! Nothing here uses an encoder of ours. Every blocking socket has timeouts, and every wait has a deadline, so a test
//! that fails ends.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod alone;
pub mod client;
pub mod inner_tls;
pub mod origin;
pub mod pattern;
pub mod ports;
pub mod server;
pub mod thread_clock;
pub mod vision_client;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Makes every later call on `socket` end.
pub fn bounded(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// The next connection to `listener`.
///
/// # Panics
/// When none comes within [`PATIENCE`].
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("somebody connects", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (socket, _) = accepted.unwrap();
    socket.set_nonblocking(false).unwrap();
    bounded(socket)
}

/// A connection from one of this machine's addresses.
pub fn connect_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    try_to_connect_from(source, to).unwrap()
}

/// The same, for those who are not welcome.
///
/// # Errors
/// Those of the kernel: a reset that comes at once is an error of connecting, too.
pub fn try_to_connect_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&to.into())?;
    Ok(bounded(socket.into()))
}

/// Makes closing `socket` send a reset.
pub fn reset_on_close(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}
