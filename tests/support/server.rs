//! Our server in this process, and what it reports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use vless_rust::inbound::tls::{Certificate, TlsAcceptor, TlsSettings};
use vless_rust::io::sockopt::SocketOptions;
use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::dial::{DialRules, Prefer};
use vless_rust::outbound::policy::DestinationPolicy;
use vless_rust::outbound::resolve::ResolverSettings;
use vless_rust::protocol::vision::SEED_DEFAULT;
use vless_rust::reactor::accept::listen;
use vless_rust::reactor::request::{CutQuery, LedgerRef, Which};
use vless_rust::reactor::{Observer, Reactor, Rules, Seed, SourceLimits};
use vless_rust::session::close::CloseReason;
use vless_rust::session::{
    Cidr, Fallback, Fallbacks, Flow, SessionRecord, SessionSettings, Target, Timeouts, UdpSettings, User, Users,
};
use vless_rust::stats::gate::Limits;
use vless_rust::stats::{Ledger, Totals, UserTotals, totals};

use super::{PATIENCE, wait_until};

/// The ids of the users that every server here knows, and one that none knows.
pub const ALICE: [u8; 16] = *b"alice's user id.";
pub const BOB: [u8; 16] = *b"bob's longer id.";
/// Has the Vision flow, so that its plain requests are refused.
pub const VISION: [u8; 16] = *b"uses vision only";
pub const STRANGER: [u8; 16] = *b"nobody knows me!";

/// Deadlines that no test reaches.
pub const PATIENT: Timeouts = Timeouts {
    tls_handshake: Duration::from_secs(60),
    first_byte: Duration::from_secs(60),
    request: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    half_close: Duration::from_secs(60),
    write_stall: Duration::from_secs(60),
};

/// The discard port, on which nobody answers.
const NO_NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// What a test may choose; the rest is the same for all.
#[derive(Clone)]
pub struct Options {
    pub tls: bool,
    pub alpn: Vec<String>,
    pub timeouts: Timeouts,
    pub sessions_max: usize,
    pub sources: SourceLimits,
    pub workers: usize,
    pub listen: IpAddr,
    pub read_bytes_max: usize,
    pub splice: bool,
    pub connect_timeout: Duration,
    pub buffer_memory_max: usize,
    /// Spare connections; most tests want to see the connections they ask for and no others.
    pub pool: Option<PoolSettings>,
    pub warm_up: Vec<Target>,
    pub fallbacks: Vec<Fallback>,
    /// Who has to announce its clients.
    pub proxy_protocol_from: Vec<Cidr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: false,
            alpn: Vec::new(),
            timeouts: PATIENT,
            sessions_max: 10_000,
            sources: SourceLimits::default(),
            workers: 1,
            listen: Ipv4Addr::LOCALHOST.into(),
            read_bytes_max: 128 << 10,
            splice: true,
            connect_timeout: PATIENCE,
            buffer_memory_max: 1 << 30,
            pool: None,
            warm_up: Vec::new(),
            fallbacks: Vec::new(),
            proxy_protocol_from: Vec::new(),
        }
    }
}

impl Options {
    pub fn tls() -> Self {
        Self { tls: true, ..Self::default() }
    }
}

/// A running server; dropping it stops it.
pub struct Server {
    pub address: SocketAddr,
    /// What it shows its clients, if it speaks TLS.
    pub certificate: Option<CertificateDer<'static>>,
    /// What it obeys, unless a test has replaced it.
    pub rules: Rules,
    reactor: Reactor,
    users: Arc<Users>,
    closed: Arc<Closed>,
}

#[derive(Default)]
struct Closed {
    records: Mutex<Vec<SessionRecord>>,
    more: Condvar,
}

impl Observer for Closed {
    fn on_closed(&self, record: SessionRecord) {
        self.records.lock().unwrap().push(record);
        self.more.notify_all();
    }
}

/// How the server reaches its targets: those on this machine, without asking anybody for names.
fn dial_rules(connect_timeout: Duration, pool: Option<PoolSettings>) -> DialRules {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    DialRules {
        connect_timeout,
        prefer: Prefer::Auto,
        bind: None,
        policy: Arc::new(DestinationPolicy::new(false, allow, Vec::new(), Vec::new())),
        resolver: ResolverSettings {
            servers: vec![NO_NAME_SERVER],
            hosts: "/nonexistent/hosts".into(),
            ..ResolverSettings::default()
        },
        options: SocketOptions::default(),
        pool,
    }
}

impl Server {
    pub fn start(options: Options) -> Self {
        Self::start_with(options, |_| {})
    }

    /// Lets `prepare` at the first worker's listener before the workers are started.
    pub fn start_with(options: Options, prepare: impl FnOnce(&TcpListener)) -> Self {
        let (tls, certificate) = if options.tls {
            let (acceptor, certificate) = tls(options.alpn);
            (Some(acceptor), Some(certificate))
        } else {
            (None, None)
        };
        let user = |id, email: &str, flow| User {
            id,
            email: email.to_owned(),
            flow,
            ledger: Arc::new(Ledger::new(options.workers)),
        };
        let users = [
            user(ALICE, "alice@example.com", Flow::None),
            user(BOB, "bob@example.com", Flow::None),
            user(VISION, "vision@example.com", Flow::Vision),
        ];
        let users = Arc::new(Users::new(users).unwrap());
        let closed = Arc::new(Closed::default());
        let observer: Arc<dyn Observer> = Arc::<Closed>::clone(&closed);
        let rules = Rules {
            session: SessionSettings {
                tls,
                proxy_protocol_from: options.proxy_protocol_from.into(),
                users: Arc::clone(&users),
                fallbacks: Arc::new(Fallbacks::new(options.fallbacks)),
                timeouts: options.timeouts,
                vision_seed: SEED_DEFAULT,
                read_bytes_max: options.read_bytes_max,
                udp: UdpSettings::default(),
            },
            dial: Arc::new(dial_rules(options.connect_timeout, options.pool)),
            sessions_max: options.sessions_max,
            sources: options.sources,
            observer,
        };
        let listeners =
            listen(&[SocketAddr::new(options.listen, 0)], options.workers, SocketOptions::default()).unwrap();
        let address = listeners[0][0].local_addr().unwrap();
        prepare(&listeners[0][0]);
        let seed = Seed {
            listeners,
            warm_up: options.warm_up,
            splice: options.splice,
            buffer_memory_max: options.buffer_memory_max,
            mux_sockets_max: 10_000,
        };
        let reactor = Reactor::start(seed, &Arc::new(rules.clone())).unwrap();
        Self { address, certificate, rules, reactor, users, closed }
    }

    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    pub fn totals(&self) -> Totals {
        totals(self.reactor.counters().iter().map(AsRef::as_ref))
    }

    pub fn user(&self, id: &[u8; 16]) -> UserTotals {
        self.users.find(id).unwrap().ledger.totals()
    }

    pub fn limit(&self, id: &[u8; 16], limits: Limits) {
        self.users.find(id).unwrap().ledger.gate().adopt(limits);
    }

    /// What names a user to the workers.
    pub fn account(&self, id: &[u8; 16]) -> LedgerRef {
        LedgerRef(Arc::clone(&self.users.find(id).unwrap().ledger))
    }

    /// Cuts all sessions of a user.
    pub fn cut(&self, id: &[u8; 16], reason: CloseReason) {
        let which = Which::Ledger(self.account(id));
        let _ = self.reactor.handle().cut(&CutQuery { which, reason });
    }

    /// Sessions closed for `reason`, as counted.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.reactor.counters().iter().map(|worker| worker.closes(reason.index())).sum()
    }

    /// Waits for `count` sessions to have ended since the last call and takes their records.
    #[track_caller]
    pub fn closed(&self, count: usize) -> Vec<SessionRecord> {
        let deadline = Instant::now() + PATIENCE;
        let mut records = self.closed.records.lock().unwrap();
        while records.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} sessions have ended", records.len());
            records = self.closed.more.wait_timeout(records, left).unwrap().0;
        }
        std::mem::take(&mut *records)
    }

    /// Waits for one session to end, checks that its reason is also what was counted, and that it left nothing behind.
    #[track_caller]
    pub fn closed_for(&self, reason: CloseReason) -> SessionRecord {
        let mut records = self.closed(1);
        let record = records.remove(0);
        assert!(records.is_empty(), "more sessions ended: {records:?}");
        assert_eq!(record.reason, reason, "{record:?}");
        assert_eq!(self.closes(reason), 1);
        self.wait_until_empty();
        record
    }

    /// Waits until no session is left, and with it no buffer and no pipe.
    #[track_caller]
    pub fn wait_until_empty(&self) {
        wait_until("no session, no buffer and no pipe is left", || {
            let totals = self.totals();
            let held = totals.sessions_active + totals.buffers_held + totals.pipes_held;
            self.reactor.sessions() == 0 && held == 0
        });
    }
}

/// A new certificate for `localhost`, and what shows it.
pub fn tls(alpn: Vec<String>) -> (TlsAcceptor, CertificateDer<'static>) {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let key = Arc::new(CertifiedKey::new(vec![certificate.clone()], key));
    let settings =
        TlsSettings { certificates: vec![Certificate { names, key }], alpn, tls13_only: false, remember_names: true };
    (TlsAcceptor::new(settings).unwrap(), certificate)
}
