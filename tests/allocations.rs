//! Relaying in its steady state allocates nothing of ours per chunk.
//!
//! A counting allocator sees every allocation of the process. Threads that belong to the test say so and are not counted;
//! what is left is the server's. One test, so that nothing else runs beside it.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, SupportedProtocolVersion};
use support::client::{self, Client};
use support::origin::Origin;
use support::server::{ALICE, Options, Server};
use vless_rust::inbound::tls::{Certificate, TlsAcceptor, TlsSettings};
use vless_rust::inbound::{HEADROOM_BYTES, Inbound, Step};
use vless_rust::io::buf::Buf;
use vless_rust::io::random::Random;
use vless_rust::io::tally::Tally;
use vless_rust::protocol::vision::SEED_DEFAULT;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NEW: &[&SupportedProtocolVersion] = &[&TLS13];
const OLD: &[&SupportedProtocolVersion] = &[&TLS12];

/// What rustls allocates for a record in and a record out. Under TLS 1.3 its record layer is not used.
const RUSTLS_PER_ROUND: f64 = 2.0;

struct Counting;

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(true) };
}

fn count() {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Allocations of the server per round, once it has warmed up.
fn per_round(rounds: u64, mut round: impl FnMut()) -> f64 {
    for _ in 0..rounds / 4 {
        round();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..rounds {
        round();
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / rounds as f64
}

/// Rounds of `bytes` to an echo and back through a server of its own.
fn echoed(options: Options, versions: &[&'static SupportedProtocolVersion], bytes: usize) -> f64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let server = Server::start(options);
    let origin = Origin::start(std::net::Ipv4Addr::LOCALHOST.into(), |mut socket, _| {
        use std::io::{Read, Write};
        IS_COUNTED.set(false);
        let mut chunk = vec![0; 256 << 10];
        loop {
            match socket.read(&mut chunk)? {
                0 => return Ok(()),
                count => socket.write_all(&chunk[..count])?,
            }
        }
    });
    let client = Client::connect_with(&server, versions);
    client.send(&[&client::request(&ALICE, origin.address), &b"!"[..]].concat()).unwrap();
    client.take_response();
    assert_eq!(client.take(1), b"!");
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "a new session allocates, so its worker is counted");
    let sent = vec![7; bytes];
    let mut heard = vec![0; bytes];
    per_round(400, || {
        client.send(&sent).unwrap();
        client.recv_exact(&mut heard).unwrap();
    })
}

#[test]
fn steady_relaying_allocates_nothing_of_ours() {
    IS_COUNTED.set(false);
    let copying = || Options { splice: false, ..Options::default() };
    let rows = [
        ("plain, copied, 1 KiB", echoed(copying(), NEW, 1 << 10), 0.0),
        ("plain, copied, 100 KiB", echoed(copying(), NEW, 100 << 10), 0.0),
        ("plain, spliced, 100 KiB", echoed(Options::default(), NEW, 100 << 10), 0.0),
        ("TLS 1.3, 1 KiB", echoed(Options::tls(), NEW, 1 << 10), 0.0),
        ("TLS 1.3, 100 KiB", echoed(Options::tls(), NEW, 100 << 10), 0.0),
        // rustls's own: one for the payload of a record that it opens, one for a record that it seals.
        ("TLS 1.2, 1 KiB", echoed(Options::tls(), OLD, 1 << 10), RUSTLS_PER_ROUND),
    ];
    let vision = vision();
    let rows = rows.into_iter().chain(vision.map(|(name, measured)| (name, measured, 0.0)));
    let mut failed = false;
    for (name, measured, expected) in rows {
        println!("{name}: {measured} allocations per round");
        // A few in hundreds of rounds are the growth of a queue that then stays as large as it is.
        failed |= measured > expected + 0.02;
    }
    assert!(!failed, "see above");
}

/// Vision's own work, without sockets: a padded chunk each way, then an uplink that has left TLS.
fn vision() -> [(&'static str, f64); 3] {
    let mut pair = Pair::new();
    pair.inbound.accept_vision(ALICE, SEED_DEFAULT);
    let mut padded = 0;
    let up_padded = per_round(40, || {
        let content = [1; 500];
        let mut block = if padded == 0 { ALICE.to_vec() } else { Vec::new() };
        padded += 1;
        // Command 0 (continue), content length, padding length.
        block.extend([0, 1, 244, 0, 100]);
        block.extend(content);
        block.extend([0; 100]);
        assert_eq!(pair.uplink(&block), content);
    });
    let mut random = Random::seeded(1);
    let (mut tally, mut wire) = (Tally::default(), Buf::new(128 << 10));
    let mut payload = Buf::new(HEADROOM_BYTES + (16 << 10));
    let mut down = |inbound: &mut Inbound| {
        payload.reset(HEADROOM_BYTES);
        assert!(payload.append(&[2; 500]));
        wire.reset(0);
        counted(|| inbound.encode(&mut payload, &mut wire, &mut tally, &mut random)).unwrap();
        tally.taken(wire.len());
    };
    // The first packets only are padded, so each of these is one of them.
    let down_padded = per_round(4, || down(&mut pair.inbound));
    // Command 2: direct.
    assert_eq!(pair.uplink(&[2, 0, 0, 0, 0]), b"");
    assert!(pair.inbound.is_uplink_direct());
    let (mut input, mut output) = (Buf::new(4096), Buf::new(64 << 10));
    let up_direct = per_round(40, || {
        input.reset(0);
        assert!(input.append(&[3; 1000]));
        counted(|| pair.inbound.decode(&mut input, &mut output, Step::Everything)).unwrap();
        assert_eq!(input.len(), 1000);
    });
    [("Vision, padded uplink", up_padded), ("Vision, padded downlink", down_padded), ("Vision, direct", up_direct)]
}

/// Runs `call` as the server would: what it allocates counts.
fn counted<R>(call: impl FnOnce() -> R) -> R {
    IS_COUNTED.set(true);
    let result = call();
    IS_COUNTED.set(false);
    result
}

/// A client's TLS and the server's stack, joined in memory.
struct Pair {
    client: ClientConnection,
    inbound: Inbound,
    wire: Buf,
    payload: Buf,
}

impl Pair {
    fn new() -> Self {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let certificate = made.cert.der().clone();
        let key = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()));
        let key = Arc::new(CertifiedKey::new(vec![certificate.clone()], key.unwrap()));
        let certificates = vec![Certificate { names, key }];
        let acceptor =
            TlsAcceptor::new(TlsSettings { certificates, alpn: Vec::new(), tls13_only: false, remember_names: false })
                .unwrap();
        let config = client::config(&certificate, rustls::ALL_VERSIONS);
        let mut pair = Self {
            client: ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap(),
            inbound: Inbound::tls(acceptor),
            wire: Buf::new(64 << 10),
            payload: Buf::new(64 << 10),
        };
        while pair.client.is_handshaking() || !pair.inbound.is_open() {
            pair.exchange();
        }
        pair.exchange();
        pair
    }

    /// What the client has to say goes in, and what the server has to say comes out.
    fn exchange(&mut self) {
        let mut said = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut said).unwrap();
        }
        self.wire.reset(0);
        assert!(self.wire.append(&said));
        counted(|| self.inbound.decode(&mut self.wire, &mut self.payload, Step::Everything)).unwrap();
        let mut answer = Buf::new(64 << 10);
        self.inbound.take_outgoing(&mut answer, &mut Tally::default());
        let mut bytes = answer.bytes();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// What comes of `plaintext` in one record.
    fn uplink(&mut self, plaintext: &[u8]) -> Vec<u8> {
        use std::io::Write;
        self.client.writer().write_all(plaintext).unwrap();
        self.payload.reset(0);
        self.exchange();
        self.payload.bytes().to_vec()
    }
}
