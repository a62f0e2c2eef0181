//! What the service manager hears of the server.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::harness::Process;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT, "workers": 2 },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "monitoring": { "enabled": false } }"#;

/// A service manager's end: what it has heard so far.
struct Manager {
    socket: UnixDatagram,
    heard: Mutex<Vec<String>>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { socket, heard: Mutex::default() }
    }

    fn heard(&self) -> Vec<String> {
        let mut heard = self.heard.lock().unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut bytes) {
            heard.push(String::from_utf8(bytes[..count].to_vec()).unwrap());
        }
        heard.clone()
    }

    #[track_caller]
    fn wait_for(&self, after: usize, text: &str) -> usize {
        let mut place = None;
        wait_until(&format!("the manager hears {text}"), || {
            place = self.heard().iter().skip(after).position(|notice| notice.starts_with(text));
            place.is_some()
        });
        after + place.unwrap() + 1
    }

    fn feeds(&self) -> usize {
        self.heard().iter().filter(|notice| *notice == "WATCHDOG=1").count()
    }
}

#[test]
fn start_reload_and_end_are_told_to_a_socket_with_an_abstract_name() {
    let name = format!("vless-rust-notices-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager::new(socket);
    let mut server = Process::start_with(CONFIG, &[("NOTIFY_SOCKET", &format!("@{name}"))], |_| {});
    let ready = manager.wait_for(0, "READY=1");
    assert_eq!(ready, 1, "before anything else");
    manager.wait_for(0, "STATUS=serving 0 sessions; 1 accounts");
    for config in [CONFIG, "{"] {
        let before = manager.heard().len();
        server.write_config(config);
        server.reload();
        let reloading = manager.wait_for(before, "RELOADING=1\nMONOTONIC_USEC=");
        manager.wait_for(reloading, "READY=1");
    }
    server.signal(Signal::TERM);
    manager.wait_for(0, "STOPPING=1");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(manager.feeds(), 0, "nobody asked for a watchdog");
}

#[test]
fn the_watchdog_is_fed_only_while_every_worker_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")];
    let server = Process::start_with(CONFIG, &variables, |_| {});
    wait_until("an idle server is fed for", || manager.feeds() >= 4);
    let worker = stop_thread(server.id(), "worker-1");
    server.wait_for_line(0, "worker 1 does not turn any more");
    let (fed, since) = (manager.feeds(), Instant::now());
    while since.elapsed() < Duration::from_secs(4) {
        assert_eq!(manager.feeds(), fed, "longer than the manager's patience");
        std::thread::sleep(Duration::from_millis(50));
    }
    ptrace::detach(worker, None).unwrap();
    wait_until("it is fed for again", || manager.feeds() > fed);
}

/// Stops one thread of a process of ours as a deadlock would; the others go on.
fn stop_thread(process: u32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut ids = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_it = |id: &String| fs::read_to_string(format!("/proc/{process}/task/{id}/comm")).unwrap().trim() == name;
    let id = Pid::from_raw(ids.find(is_it).unwrap().parse().unwrap());
    ptrace::attach(id).unwrap();
    waitpid(id, Some(WaitPidFlag::__WALL)).unwrap();
    id
}
