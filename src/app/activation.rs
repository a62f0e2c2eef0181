//! Listeners that whoever started this process has opened, in the protocol of sd_listen_fds(3).
//!
//! Owns the variables of that protocol and the sockets that come with them. A service manager that keeps the sockets
//! keeps the port while no server runs, too: clients wait in the kernel's queue instead of being refused.
//!
//! A number is no proof that a descriptor may be owned, and this crate has no unsafe code to claim one with. So the
//! kernel is asked for copies of this process's own descriptors, by pidfd_getfd(2), and what was inherited is closed.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::process;

use nix::unistd::close;
use rustix::fd::AsFd;
use rustix::net::{SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::app::exit::{self, Failure};

/// The process that the sockets are for.
const PID_VARIABLE: &str = "LISTEN_PID";
/// How many there are.
const COUNT_VARIABLE: &str = "LISTEN_FDS";
/// What they are called, with colons between.
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";
/// All of them; they are not for children of this process.
pub const VARIABLES: [&str; 3] = [PID_VARIABLE, COUNT_VARIABLE, NAMES_VARIABLE];
/// The first is this one, the others follow.
const FIRST: RawFd = 3;
const SOCKETS_MAX: usize = 256;

/// The sockets that this process was started with.
#[derive(Debug, Default)]
pub struct Given(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    name: String,
    address: SocketAddr,
    listener: TcpListener,
}

impl Given {
    /// Takes them. Called before this process opens anything, so that their numbers are nobody else's.
    ///
    /// # Errors
    /// 78 if the variables are wrong or a socket is no TCP listener; 69 if the kernel gives no copy.
    pub fn take() -> Result<Self, Failure> {
        let names = names(|variable| env::var_os(variable), process::id())?;
        (FIRST..).zip(names).map(|(fd, name)| Socket::take(fd, name)).collect::<Result<_, _>>().map(Self)
    }

    /// The sockets by the addresses that the configuration has.
    ///
    /// # Errors
    /// 78 for a socket at another address: its clients would wait for ever.
    pub fn for_addresses(self, addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, Vec<TcpListener>)>, Failure> {
        let mut inherited = Vec::<(SocketAddr, Vec<TcpListener>)>::new();
        for Socket { name, address, listener } in self.0 {
            let Some(&wanted) = addresses.iter().find(|wanted| is_same(**wanted, address)) else {
                let message = format!(
                    "{COUNT_VARIABLE}: the socket \"{name}\" listens on {address}, and server.listen and server.port \
                     do not: let both name the same address"
                );
                return Err(Failure::new(exit::CONFIG, message));
            };
            log::info!("the socket \"{name}\" at {address} comes from whoever started this server");
            match inherited.iter_mut().find(|(known, _)| *known == wanted) {
                Some((_, known)) => known.push(listener),
                None => inherited.push((wanted, vec![listener])),
            }
        }
        Ok(inherited)
    }
}

impl Socket {
    fn take(fd: RawFd, name: String) -> Result<Self, Failure> {
        let copy = copy(fd).map_err(|error| {
            let message = format!(
                "{COUNT_VARIABLE}: the socket \"{name}\" cannot be taken: {error}; this needs Linux 5.6, and a sandbox \
                 that permits pidfd_getfd"
            );
            Failure::new(exit::UNAVAILABLE, message)
        })?;
        let (address, listener) = listener(copy).map_err(|error| {
            Failure::new(
                exit::CONFIG,
                format!("{COUNT_VARIABLE}: the socket \"{name}\" does not listen for TCP: {error}"),
            )
        })?;
        // Inherited, it would outlive every listener of ours, and go to children.
        let _ = close(fd);
        Ok(Self { name, address, listener })
    }
}

/// A name for each socket that is meant for the process `pid`.
fn names(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Result<Vec<String>, Failure> {
    let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
    let number = |name: &str| text(name)?.parse::<usize>().ok();
    if number(PID_VARIABLE) != Some(pid as usize) || text(COUNT_VARIABLE).is_none() {
        return Ok(Vec::new());
    }
    let wrong = |message: String| Err(Failure::new(exit::CONFIG, message));
    let Some(count) = number(COUNT_VARIABLE).filter(|&count| count <= SOCKETS_MAX) else {
        return wrong(format!("{COUNT_VARIABLE} must be a number of sockets up to {SOCKETS_MAX}"));
    };
    match text(NAMES_VARIABLE) {
        Some(names) if names.split(':').count() == count => Ok(names.split(':').map(ToOwned::to_owned).collect()),
        Some(names) if count > 0 => {
            wrong(format!("{NAMES_VARIABLE} has {} names, and {COUNT_VARIABLE} says {count}", names.split(':').count()))
        }
        _ => Ok((0..count).map(|place| (FIRST as usize + place).to_string()).collect()),
    }
}

fn copy(fd: RawFd) -> io::Result<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this, fd, PidfdGetfdFlags::empty())?)
}

fn listener(socket: OwnedFd) -> io::Result<(SocketAddr, TcpListener)> {
    let fd = socket.as_fd();
    if sockopt::socket_type(fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(fd)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is another kind of socket"));
    }
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    // Service managers hand out blocking ones; a worker must never wait in accept.
    listener.set_nonblocking(true)?;
    Ok((address, listener))
}

fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    fn named(variables: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
        names(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()), 77)
    }

    #[test]
    fn sockets_are_for_the_process_that_is_named() {
        let none = Ok(Vec::new());
        assert_eq!(named(&[]), none);
        assert_eq!(named(&[("LISTEN_FDS", "1")]), none);
        assert_eq!(named(&[("LISTEN_PID", "78"), ("LISTEN_FDS", "1")]), none);
        assert_eq!(named(&[("LISTEN_PID", "x"), ("LISTEN_FDS", "1")]), none);
        assert_eq!(named(&[("LISTEN_PID", "77")]), none);
        assert_eq!(named(&[("LISTEN_PID", "77"), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")]), none);
        let two = [("LISTEN_PID", "77"), ("LISTEN_FDS", "2")];
        assert_eq!(named(&two).unwrap(), ["3", "4"]);
        assert_eq!(named(&[&two[..], &[("LISTEN_FDNAMES", "web:more")]].concat()).unwrap(), ["web", "more"]);
    }

    #[test]
    fn variables_that_contradict_themselves_are_told() {
        let number = "must be a number";
        for (count, names, said) in
            [("x", "", number), ("-1", "", number), ("257", "", "up to 256"), ("2", "a", "1 names")]
        {
            let failure = named(&[("LISTEN_PID", "77"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]).unwrap_err();
            assert!(failure.code == exit::CONFIG && failure.message.contains(said), "{count}: {failure}");
        }
    }

    #[test]
    fn a_copy_is_the_same_listener_and_no_other_socket_is_one() {
        let original = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, copied) = listener(copy(original.as_raw_fd()).unwrap()).unwrap();
        assert_eq!(address, original.local_addr().unwrap());
        assert_eq!(copied.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listener(copy(udp.as_raw_fd()).unwrap()).is_err());
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(listener(copy(unix.as_raw_fd()).unwrap()).is_err());
        assert!(copy(RawFd::MAX).is_err());
    }
}
