//! Downloads that nobody takes, by the thousand: their memory stays within the limit, and others do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use serde_json::json;

use crate::program::Program;
use crate::support::client::{config, request};
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB};
use crate::support::{PATIENCE, bounded, wait_until};
use crate::{alone, judge, percentile, scaled};

const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// What is asked of others beside the stalled ones: so much of the throughput without them, in percent.
const THROUGHPUT_MIN: f64 = 80.0;
/// And not more than this above the time without them.
const LATENCY_MORE_MAX: Duration = Duration::from_millis(5);

/// How others fare.
struct Fare {
    throughput_mib: f64,
    p50: Duration,
    p99: Duration,
}

/// A client that blocks, plain or in TLS.
struct Session {
    socket: TcpStream,
    tls: Option<ClientConnection>,
}

#[test]
fn downloads_that_nobody_takes_stay_within_their_memory_and_others_do_not_notice() {
    let _alone = alone();
    for tls in [false, true] {
        run(tls);
    }
}

fn run(tls: bool) {
    let downloads = scaled(100, 1000);
    let sections = json!({
        "limits": { "handshakes_per_source_max": 0 },
        "performance": { "buffer_memory_max": MEMORY_BYTES_MAX },
    });
    let server = Program::start(tls, &[ALICE, BOB], &sections);
    let config = server.certificate.as_ref().map(|certificate| config(certificate, rustls::ALL_VERSIONS));
    let source = Origin::source(1 << 40);
    let without = fare(&server, config.as_ref());
    let stalled: Vec<_> = (0..downloads).map(|_| stalled_download(&server, config.as_ref(), &source)).collect();
    wait_until("all downloads have begun", || server.counter("vless_requests_accepted_total") >= downloads as u64);
    let mut sent = 0;
    wait_until("no download moves any more", || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut sent, source.sent());
        before == sent
    });
    let cpu_before = server.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let cpu_idle = server.cpu_time().saturating_sub(cpu_before);
    let beside = fare(&server, config.as_ref());
    let held = server.counter("vless_buffers_held_bytes");
    println!(
        "{}: {downloads} downloads that nobody takes hold {} KiB of {} MiB, resident at most {} MiB, CPU while they \
         wait {cpu_idle:?} in a second; others: {:.0} MiB/s, round trip p50 {:.1?} p99 {:.1?}; without them {:.0} \
         MiB/s, {:.1?} {:.1?}",
        if tls { "TLS" } else { "plain" },
        held >> 10,
        MEMORY_BYTES_MAX >> 20,
        server.resident_bytes_peak() >> 20,
        beside.throughput_mib,
        beside.p50,
        beside.p99,
        without.throughput_mib,
        without.p50,
        without.p99,
    );
    assert!(held <= MEMORY_BYTES_MAX + (1 << 20), "{held} bytes held");
    let alive = server.counter("vless_sessions") as usize;
    assert!((downloads..downloads + 5).contains(&alive), "{alive} of {downloads} are alive");
    judge(cpu_idle < Duration::from_millis(100), &format!("waiting took {cpu_idle:?} of a second"));
    let share = beside.throughput_mib / without.throughput_mib * 100.0;
    judge(share > THROUGHPUT_MIN, &format!("others have {share:.0} % of their throughput"));
    judge(beside.p99 < without.p99 + LATENCY_MORE_MAX, &format!("round trips take {:?}", beside.p99));
    drop(stalled);
    server.wait_until_empty();
}

/// A client with a window as small as there is, which never reads.
fn stalled_download(server: &Program, tls: Option<&Arc<ClientConfig>>, source: &Origin) -> Session {
    let mut session = Session::open(server, tls, Some(4096));
    session.send(&request(&BOB, source.address));
    session
}

impl Session {
    fn open(server: &Program, tls: Option<&Arc<ClientConfig>>, window: Option<usize>) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if let Some(window) = window {
            socket.set_recv_buffer_size(window).unwrap();
        }
        socket.connect_timeout(&server.address.into(), PATIENCE).unwrap();
        let tls = tls.map(|config| ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap());
        Self { socket: bounded(socket.into()), tls }
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).write_all(bytes).unwrap(),
            None => self.socket.write_all(bytes).unwrap(),
        }
    }

    fn take(&mut self, into: &mut [u8]) {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).read_exact(into).unwrap(),
            None => self.socket.read_exact(into).unwrap(),
        }
    }
}

/// One download and then one conversation of another user.
fn fare(server: &Program, tls: Option<&Arc<ClientConfig>>) -> Fare {
    let (chunks, trips) = (scaled(32, 512), scaled(50, 500));
    let (source, echo) = (Origin::source(1 << 40), Origin::echo());
    let mut download = Session::open(server, tls, None);
    download.send(&request(&ALICE, source.address));
    let mut chunk = vec![0; 1 << 20];
    download.take(&mut chunk);
    let begin = Instant::now();
    for _ in 0..chunks {
        download.take(&mut chunk);
    }
    let throughput_mib = chunks as f64 / begin.elapsed().as_secs_f64();
    drop(download);

    let mut talk = Session::open(server, tls, None);
    talk.send(&request(&ALICE, echo.address));
    talk.send(b"ping");
    talk.take(&mut [0; 6]);
    let mut times = Vec::new();
    for _ in 0..trips {
        let begin = Instant::now();
        talk.send(b"ping");
        talk.take(&mut [0; 4]);
        times.push(begin.elapsed());
    }
    Fare { throughput_mib, p50: percentile(&times, 50), p99: percentile(&times, 99) }
}
