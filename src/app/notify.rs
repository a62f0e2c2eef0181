//! Notices to the service manager that started this process, in the protocol of sd_notify(3).
//!
//! Owns the socket and the words of the protocol: datagrams with a `KEY=value` per line. Knows nothing of what they are
//! about. Without a service manager every notice goes nowhere. Sending never waits.

use std::env;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Names the socket: a path, or `@` and an abstract name.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// After so many microseconds without a notice the manager takes this process for dead.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// Whom the watchdog is for. A successor has another id, so a server takes it out of what it hands down.
pub const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// The process that systemd has started as a service; its children have other ids.
const STARTED_VARIABLE: &str = "SYSTEMD_EXEC_PID";

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    is_service: bool,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment of this process says.
    pub fn from_environment() -> Self {
        Self::new(|name| env::var_os(name), process::id())
    }

    /// `variable` looks up the environment of the process `pid`.
    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let address = variable(SOCKET_VARIABLE).and_then(|name| address(&name));
        let socket = address.and_then(|address| Some((socket()?, address)));
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = variable(WATCHDOG_PID_VARIABLE).is_none() || number(WATCHDOG_PID_VARIABLE) == Some(pid.into());
        let watchdog = number(WATCHDOG_VARIABLE).filter(|&microseconds| is_ours && microseconds > 0);
        let is_service = number(STARTED_VARIABLE) == Some(pid.into());
        Self { watchdog: watchdog.filter(|_| socket.is_some()).map(Duration::from_micros), is_service, socket }
    }

    /// Somebody listens.
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// systemd has started this process and does not hear it. Should this process end, systemd ends its children, too.
    pub fn is_deaf_service(&self) -> bool {
        self.is_service && self.socket.is_none()
    }

    /// How long the manager waits for [`Notifier::alive`] before it ends this process; none: it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server serves: it has started, or a reload is over.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The server lets its sessions end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for people.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// Everything turns.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Another process is the service from now on.
    pub fn successor(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not read has trouble of its own, and nobody to be told.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn socket() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn address(name: &OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Notifier::new(find, 77)
    }

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn notices_reach_a_socket_with_a_path_and_an_abstract_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("vless-rust-test-{}", process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
        ] {
            let notifier = notifier(&[("NOTIFY_SOCKET", &socket)]);
            assert!(notifier.is_heard());
            notifier.ready();
            assert_eq!(heard(&manager), "READY=1");
            notifier.status("two\nlines");
            assert_eq!(heard(&manager), "STATUS=two lines");
            notifier.successor(5);
            assert_eq!(heard(&manager), "MAINPID=5");
            notifier.reloading();
            let text = heard(&manager);
            let since = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
            assert!(since > 0);
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let with = |more: &[(&str, &str)]| {
            let all = [&[("NOTIFY_SOCKET", "/nobody"), ("WATCHDOG_USEC", "3000000")][..], more].concat();
            notifier(&all).watchdog()
        };
        assert_eq!(with(&[]), Some(Duration::from_secs(3)));
        assert_eq!(with(&[("WATCHDOG_PID", "77")]), Some(Duration::from_secs(3)));
        assert_eq!(with(&[("WATCHDOG_PID", "78")]), None);
        assert_eq!(with(&[("WATCHDOG_PID", "x")]), None);
        assert_eq!(notifier(&[("WATCHDOG_USEC", "3000000")]).watchdog(), None, "nobody would hear it");
        assert_eq!(notifier(&[("NOTIFY_SOCKET", "/nobody"), ("WATCHDOG_USEC", "0")]).watchdog(), None);
    }

    #[test]
    fn a_service_that_is_not_heard_knows_it() {
        let is_deaf = |variables: &[(&str, &str)]| notifier(variables).is_deaf_service();
        assert!(is_deaf(&[("SYSTEMD_EXEC_PID", "77")]));
        assert!(!is_deaf(&[("SYSTEMD_EXEC_PID", "77"), ("NOTIFY_SOCKET", "/run/notify")]));
        assert!(!is_deaf(&[("SYSTEMD_EXEC_PID", "78")]), "a child of a service");
        assert!(!is_deaf(&[]));
    }

    #[test]
    fn without_a_manager_or_with_one_that_is_gone_nothing_happens() {
        for variables in [&[][..], &[("NOTIFY_SOCKET", "vsock:2:1")], &[("NOTIFY_SOCKET", "/no/such/socket")]] {
            let notifier = notifier(variables);
            notifier.ready();
            notifier.alive();
        }
        assert!(!notifier(&[("NOTIFY_SOCKET", "relative")]).is_heard());
    }
}
