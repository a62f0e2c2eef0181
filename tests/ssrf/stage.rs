//! The stage: a network with nothing but loopback that has every address to be protected, traps behind all of them, and a
//! server in between.

use std::env;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vless_rust::io::sockopt::SocketOptions;
use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::dial::{DialRules, Prefer};
use vless_rust::outbound::policy::DestinationPolicy;
use vless_rust::outbound::resolve::ResolverSettings;
use vless_rust::reactor::accept::listen;
use vless_rust::reactor::{Observer, Reactor, Rules, Seed, SourceLimits};
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Flow, SessionRecord, SessionSettings, Timeouts, UdpSettings, User, Users};
use vless_rust::stats::{Ledger, Totals, totals};

/// Longest time any test waits for something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const USER: [u8; 16] = *b"goes everywhere.";

const MARK: &str = "SSRF_TEST_NETWORK";

/// Addresses that this machine has here, so that whoever is let through arrives.
const OWN: &[&str] = &[
    "10.0.0.1/32",
    "172.16.0.1/32",
    "192.168.0.1/32",
    "100.64.0.1/32",
    "100.100.100.200/32",
    "169.254.169.254/32",
    "168.63.129.16/32",
    "161.26.0.10/32",
    "192.0.0.192/32",
    "198.18.0.1/32",
    "203.0.113.9/32",
    "9.9.9.10/32",
    "2606:4700::10/128",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "64:ff9b::7f00:1/128",
    "64:ff9b::a9fe:a9fe/128",
    "64:ff9b:1::7f00:1/128",
    "2002:7f00:1::1/128",
    "2001:0:7f00:1::1/128",
    "2001:db8::1/128",
];

const LONG: Duration = Duration::from_secs(60);
const PATIENT: Timeouts =
    Timeouts { tls_handshake: LONG, first_byte: LONG, request: LONG, idle: LONG, half_close: LONG, write_stall: LONG };

const EAGER: PoolSettings = PoolSettings {
    spares_per_target_max: 20,
    spares_max: 100,
    idle_max: LONG,
    lifetime_max: LONG,
    connect_timeout: Duration::from_secs(5),
    health_check_interval: LONG,
    warm_up_spares: 1,
};

/// Runs `body`, which is the test called `name`, in a process with a network of its own.
pub(crate) fn in_own_network(name: &str, body: fn()) {
    if env::var_os(MARK).is_some() {
        ip(&["link", "set", "lo", "up"]);
        for own in OWN {
            ip(&["address", "add", own, "dev", "lo"]);
        }
        return body();
    }
    let exe = env::current_exe().unwrap();
    for way in [&["--map-root-user", "--net"][..], &["--net"]] {
        let is_possible = Command::new("unshare").args(way).args(["ip", "link"]).output();
        if !is_possible.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut child = Command::new("unshare");
        let output = child.args(way).arg(&exe).args(["--exact", name, "--nocapture"]).env(MARK, "1").output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
        return;
    }
    assert!(env::var_os("CI").is_none(), "a network of its own needs root or user namespaces, and `ip`");
    eprintln!("not run, for it needs root or user namespaces, and `ip`");
}

/// Gives this machine an address, or takes it away.
pub(crate) fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// A service on every address of this machine, for TCP and UDP on one port. Nobody may reach it.
pub(crate) struct Trap {
    tcp: TcpListener,
    udp: UdpSocket,
    pub(crate) port: u16,
}

impl Trap {
    pub(crate) fn set() -> Self {
        for _ in 0..100 {
            let tcp = TcpListener::bind("[::]:0").unwrap();
            let port = tcp.local_addr().unwrap().port();
            let Ok(udp) = UdpSocket::bind(("::", port)) else { continue };
            tcp.set_nonblocking(true).unwrap();
            udp.set_nonblocking(true).unwrap();
            return Self { tcp, udp, port };
        }
        panic!("no port is free for both TCP and UDP");
    }

    /// Connections and datagrams that have arrived since the last call.
    pub(crate) fn caught(&self) -> (usize, usize) {
        let connections = std::iter::from_fn(|| self.tcp.accept().ok()).count();
        let mut room = [0; 2048];
        let datagrams = std::iter::from_fn(|| match self.udp.recv_from(&mut room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            other => Some(other),
        });
        (connections, datagrams.count())
    }
}

/// A running server; dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    reactor: Reactor,
    closed: Arc<Closed>,
}

#[derive(Default)]
struct Closed(Mutex<Vec<CloseReason>>);

impl Observer for Closed {
    fn on_closed(&self, record: SessionRecord) {
        self.0.lock().unwrap().push(record.reason);
    }
}

impl Server {
    /// A server with this policy, which asks `name_server` for names and listens on every address.
    pub(crate) fn start(allow_private: bool, name_server: SocketAddr) -> Self {
        let any = SocketAddr::new("::".parse().unwrap(), 0);
        let listeners = listen(&[any], 1, SocketOptions::default()).unwrap();
        let port = listeners[0][0].local_addr().unwrap().port();
        let own = vec![SocketAddr::new(any.ip(), port)];
        let closed = Arc::<Closed>::default();
        let user =
            User { id: USER, email: "user@example.com".to_owned(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) };
        let rules = Rules {
            session: SessionSettings {
                tls: None,
                proxy_protocol_from: Arc::default(),
                users: Arc::new(Users::new([user]).unwrap()),
                fallbacks: Arc::default(),
                timeouts: PATIENT,
                vision_seed: [900, 500, 900, 256],
                read_bytes_max: 128 << 10,
                udp: UdpSettings::default(),
            },
            dial: Arc::new(DialRules {
                connect_timeout: Duration::from_secs(5),
                prefer: Prefer::Auto,
                bind: None,
                policy: Arc::new(DestinationPolicy::new(allow_private, Vec::new(), vec![25], own)),
                resolver: ResolverSettings {
                    servers: vec![name_server],
                    hosts: "/nonexistent/hosts".into(),
                    ..ResolverSettings::default()
                },
                options: SocketOptions::default(),
                pool: Some(EAGER),
            }),
            sessions_max: 10_000,
            sources: SourceLimits::default(),
            observer: Arc::<Closed>::clone(&closed),
        };
        let seed =
            Seed { listeners, warm_up: Vec::new(), splice: true, buffer_memory_max: 1 << 30, mux_sockets_max: 10_000 };
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Self { address, reactor: Reactor::start(seed, &Arc::new(rules)).unwrap(), closed }
    }

    pub(crate) fn totals(&self) -> Totals {
        totals(self.reactor.counters().iter().map(AsRef::as_ref))
    }

    /// Why sessions ended so far.
    pub(crate) fn reasons(&self) -> Vec<CloseReason> {
        self.closed.0.lock().unwrap().clone()
    }
}

/// Returns once `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "{what}: waited in vain");
        thread::sleep(Duration::from_millis(1));
    }
}
