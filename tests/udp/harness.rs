//! A real server without TLS, a small client that shares no code with it, and peers to talk to.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vless_rust::io::sockopt::SocketOptions;
use vless_rust::outbound::dial::{DialRules, Prefer};
use vless_rust::outbound::policy::DestinationPolicy;
use vless_rust::outbound::resolve::ResolverSettings;
use vless_rust::reactor::accept::listen;
use vless_rust::reactor::{Observer, Reactor, Rules, Seed, SourceLimits};
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Flow, SessionRecord, SessionSettings, Timeouts, UdpSettings, User, Users};
use vless_rust::stats::{Ledger, Totals, UserTotals, totals};

/// Longest time any test waits for something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PLAIN: [u8; 16] = *b"without any flow";
pub(crate) const VISION: [u8; 16] = *b"uses vision only";

/// A running server; dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    rules: Rules,
    reactor: Reactor,
    users: Arc<Users>,
    closed: Arc<Closed>,
    _hosts: TempDir,
}

#[derive(Default)]
struct Closed(Mutex<Vec<SessionRecord>>);

impl Observer for Closed {
    fn on_closed(&self, record: SessionRecord) {
        self.0.lock().unwrap().push(record);
    }
}

impl Server {
    pub(crate) fn start(workers: usize, udp: UdpSettings) -> Self {
        Self::start_with_idle(workers, udp, Duration::from_secs(60))
    }

    pub(crate) fn start_with_idle(workers: usize, udp: UdpSettings, idle: Duration) -> Self {
        Self::start_with(workers, udp, idle, 10_000)
    }

    pub(crate) fn start_with(workers: usize, udp: UdpSettings, idle: Duration, mux_sockets_max: usize) -> Self {
        let hosts = tempfile::tempdir().unwrap();
        let hosts_file = hosts.path().join("hosts");
        std::fs::write(&hosts_file, "127.0.0.1 one.test uno.test\n127.0.0.2 two.test\n10.1.2.3 private.test\n")
            .unwrap();
        let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let user =
            |id, email: &str, flow| User { id, email: email.to_owned(), flow, ledger: Arc::new(Ledger::new(workers)) };
        let users = [user(PLAIN, "plain@example.com", Flow::None), user(VISION, "vision@example.com", Flow::Vision)];
        let users = Arc::new(Users::new(users).unwrap());
        let closed = Arc::<Closed>::default();
        let long = Duration::from_secs(60);
        let rules = Rules {
            session: SessionSettings {
                tls: None,
                proxy_protocol_from: Arc::default(),
                users: Arc::clone(&users),
                fallbacks: Arc::default(),
                timeouts: Timeouts {
                    tls_handshake: long,
                    first_byte: long,
                    request: long,
                    idle,
                    half_close: long,
                    write_stall: long,
                },
                vision_seed: [900, 500, 900, 256],
                read_bytes_max: 128 << 10,
                udp,
            },
            dial: Arc::new(DialRules {
                connect_timeout: PATIENCE,
                prefer: Prefer::Auto,
                bind: None,
                policy: Arc::new(DestinationPolicy::new(false, allow, Vec::new(), Vec::new())),
                resolver: ResolverSettings {
                    servers: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9)],
                    hosts: hosts_file.into(),
                    ..ResolverSettings::default()
                },
                options: SocketOptions::default(),
                pool: None,
            }),
            sessions_max: 10_000,
            sources: SourceLimits::default(),
            observer: Arc::<Closed>::clone(&closed),
        };
        let any_port = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listeners = listen(&[any_port], workers, SocketOptions::default()).unwrap();
        let address = listeners[0][0].local_addr().unwrap();
        let seed = Seed { listeners, warm_up: Vec::new(), splice: true, buffer_memory_max: 1 << 30, mux_sockets_max };
        let reactor = Reactor::start(seed, &Arc::new(rules.clone())).unwrap();
        Self { address, rules, reactor, users, closed, _hosts: hosts }
    }

    /// Has new sockets send from this address.
    pub(crate) fn send_from(&self, source: Ipv4Addr) {
        self.dial_by(DialRules { bind: Some(source.into()), ..(*self.rules.dial).clone() });
    }

    /// Has names asked for there.
    pub(crate) fn ask_names_of(&self, server: &UdpSocket) {
        let mut rules = (*self.rules.dial).clone();
        rules.resolver.servers = vec![server.local_addr().unwrap()];
        self.dial_by(rules);
    }

    fn dial_by(&self, dial: DialRules) {
        self.reactor.handle().adopt(&Arc::new(Rules { dial: Arc::new(dial), ..self.rules.clone() }));
    }

    pub(crate) fn totals(&self) -> Totals {
        totals(self.reactor.counters().iter().map(AsRef::as_ref))
    }

    pub(crate) fn user(&self, id: [u8; 16]) -> UserTotals {
        self.users.find(&id).unwrap().ledger.totals()
    }

    /// Waits for sessions to end and returns why each did.
    pub(crate) fn reasons(&self, count: usize) -> Vec<CloseReason> {
        wait_until("sessions end", || self.closed.0.lock().unwrap().len() >= count);
        self.closed.0.lock().unwrap().iter().map(|record| record.reason).collect()
    }
}

/// Returns once `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "{what}: waited in vain");
        thread::yield_now();
    }
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    is_answered: bool,
}

/// A frame as the client reads it.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Data { id: u16, source: Option<Vec<u8>>, payload: Vec<u8> },
    End { id: u16, is_error: bool },
}

impl Client {
    /// Sends a request header for command 2 or 3; `destination` is port, type and address.
    pub(crate) fn open(server: &Server, user: [u8; 16], command: u8, destination: &[u8]) -> Self {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&[&[0], &user[..], &[0, command], destination].concat()).unwrap();
        Self { socket, is_answered: false }
    }

    /// The same connection, for a reader of its own.
    pub(crate) fn again(&self) -> Self {
        Self { socket: self.socket.try_clone().unwrap(), is_answered: self.is_answered }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        if !self.is_answered {
            let mut response = [9; 2];
            self.socket.read_exact(&mut response).unwrap();
            assert_eq!(response, [0, 0]);
            self.is_answered = true;
        }
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn take_u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let length = self.take_u16();
        self.take(length.into())
    }

    /// The next frame, read as strictly as the strictest client does.
    pub(crate) fn frame(&mut self) -> Frame {
        let metadata_length = self.take_u16();
        let metadata = self.take(metadata_length.into());
        let id = u16::from_be_bytes([metadata[0], metadata[1]]);
        match (metadata[2], metadata[3]) {
            (2, 1) => {
                let source = (metadata.len() > 4).then(|| {
                    assert_eq!(metadata[4], 2, "network");
                    metadata[5..].to_vec()
                });
                let length = self.take_u16();
                assert!((0..=8192).contains(&length));
                Frame::Data { id, source, payload: self.take(length.into()) }
            }
            (3, option @ (0 | 2)) => Frame::End { id, is_error: option == 2 },
            other => panic!("status and option {other:?}"),
        }
    }

    /// The server has closed without another byte.
    pub(crate) fn assert_closed(&mut self) {
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(count) => assert_eq!(count, 0, "a byte instead of the end"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

/// Port, type and address.
pub(crate) fn at(address: SocketAddr) -> Vec<u8> {
    let mut bytes = address.port().to_be_bytes().to_vec();
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(3);
            bytes.extend(ip.octets());
        }
    }
    bytes
}

/// Port, type and name.
pub(crate) fn named(name: &str, port: u16) -> Vec<u8> {
    [&port.to_be_bytes()[..], &[2, name.len() as u8], name.as_bytes()].concat()
}

pub(crate) fn packet(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u16).to_be_bytes()[..], payload].concat()
}

pub(crate) fn frame(id: u16, status: u8, rest: &[u8], payload: &[u8]) -> Vec<u8> {
    let metadata = [&id.to_be_bytes()[..], &[status, 1], rest].concat();
    [&(metadata.len() as u16).to_be_bytes()[..], &metadata, &packet(payload)].concat()
}

pub(crate) fn new_udp(id: u16, destination: &[u8], global_id: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(id, 1, &[&[2], destination, global_id].concat(), payload)
}

pub(crate) fn new_tcp(id: u16, destination: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(id, 1, &[&[1], destination].concat(), payload)
}

pub(crate) fn keep(id: u16, payload: &[u8]) -> Vec<u8> {
    frame(id, 2, &[], payload)
}

pub(crate) fn keep_to(id: u16, destination: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(id, 2, &[&[2], destination].concat(), payload)
}

pub(crate) fn end(id: u16) -> Vec<u8> {
    [&[0, 4], &id.to_be_bytes()[..], &[3, 0]].concat()
}

/// A UDP peer that a test drives itself.
pub(crate) fn peer(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram and its source.
pub(crate) fn hear(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65536];
    let (length, source) = peer.recv_from(&mut bytes).unwrap();
    bytes.truncate(length);
    (bytes, source)
}
