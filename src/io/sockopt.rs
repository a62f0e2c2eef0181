//! What the TCP sockets of both legs have in common: their options, and what running out of them looks like.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, Socket, TcpKeepalive};

/// The silence after which the kernel asks whether the peer is still there, and that between such questions. Xray has
/// the same.
const KEEPALIVE: Duration = Duration::from_secs(45);

/// What is set on clients' and targets' sockets alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    pub nodelay: bool,
    /// SO_RCVBUF in bytes. 0 leaves the size to the kernel, which adapts it to the path.
    pub recv_buffer_bytes: usize,
    /// SO_SNDBUF in bytes. 0 as above.
    pub send_buffer_bytes: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { nodelay: true, recv_buffer_bytes: 0, send_buffer_bytes: 0 }
    }
}

impl SocketOptions {
    /// Sets the options. It must be called before connecting or listening, because buffer sizes shape the window that
    /// is announced, and what a listener accepts inherits them (Linux). A socket that refuses one of them is still
    /// usable, so that is no error.
    pub fn apply(&self, socket: &Socket) {
        let _ = socket.set_tcp_nodelay(self.nodelay);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
        if self.recv_buffer_bytes > 0 {
            let _ = socket.set_recv_buffer_size(self.recv_buffer_bytes);
        }
        if self.send_buffer_bytes > 0 {
            let _ = socket.set_send_buffer_size(self.send_buffer_bytes);
        }
    }

    /// Sets the options of a socket that listens: they hold for whom it accepts from now on. A size that was set once
    /// stays when it is 0 here, because nothing gives it back to the kernel.
    pub fn apply_to_listener(&self, listener: &TcpListener) {
        self.apply(&SockRef::from(listener));
    }
}

/// The process or the machine is out of descriptors, of memory for sockets, or of sockets that may be watched (EMFILE,
/// ENFILE, ENOBUFS, ENOMEM; ENOSPC of epoll). Trying again at once cannot help.
pub fn is_shortage(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC])
}

/// No local port is free to connect from, or the source address is gone.
pub fn is_out_of_ports(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::ADDRNOTAVAIL, Errno::ADDRINUSE])
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| errnos.iter().any(|errno| errno.raw_os_error() == code))
}
