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
use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, data_stream, record, server_hello};
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB, VISION};
use crate::support::vision_client::{CONTINUE, DIRECT, How, Phase, VisionClient};
use crate::support::{PATIENCE, bounded, wait_until};
use crate::{alone, is_full, judge, percentile, scaled};

const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// What is asked of others beside the stalled ones: so much of the throughput without them, in percent.
const THROUGHPUT_MIN: f64 = 90.0;
/// And not more than this above the time without them.
const LATENCY_MORE_MAX: Duration = Duration::from_millis(5);
/// The server's own time for them is not more than so many times that without.
const CPU_MORE_MAX: f64 = 1.4;
/// The kernel asks each of its peers whether there is room again: after 200 ms, and then after twice as long each time.
/// Two thousand of them, at both ends, take a part of the processor from everybody for so long.
const PROBING: Duration = Duration::from_secs(7);
/// A window as small as there is.
const NO_WINDOW_BYTES: usize = 4096;

/// The first record behind an inner handshake, in which a direction leaves TLS.
const FIRST_RECORD_BYTES: usize = 700;

/// What clients and downloads are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Without TLS, spliced.
    Plain,
    Tls,
    /// Direct behind the inner handshake, and spliced from there on.
    Vision,
}

/// Where everybody asks.
struct Place {
    server: Program,
    config: Option<Arc<ClientConfig>>,
    mode: Mode,
    /// What downloads come from.
    source: Origin,
}

/// How others fare.
struct Fare {
    throughput_mib: f64,
    /// What the server took for the download.
    cpu: Duration,
    p50: Duration,
    p99: Duration,
}

/// A client that blocks, plain or in TLS.
struct Session {
    socket: TcpStream,
    tls: Option<ClientConnection>,
}

/// A client with a download.
enum Download {
    Session(Box<Session>),
    Vision(Box<VisionClient>),
}

#[test]
fn downloads_that_nobody_takes_stay_within_their_memory_and_others_do_not_notice() {
    let _alone = alone();
    for mode in [Mode::Plain, Mode::Tls, Mode::Vision] {
        run(mode);
    }
}

fn run(mode: Mode) {
    let downloads = scaled(100, 1000);
    let place = Place::new(mode);
    let without = place.median_fare();
    let sent_before = place.source.sent();
    let requests_before = place.server.counter("vless_requests_accepted_total");
    let stalled: Vec<_> = (0..downloads).map(|_| place.download(BOB, NO_WINDOW_BYTES)).collect();
    wait_until("all downloads have begun", || {
        place.server.counter("vless_requests_accepted_total") - requests_before >= downloads as u64
    });
    let mut sent = 0;
    wait_until("no download moves any more", || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut sent, place.source.sent());
        before == sent && sent > sent_before
    });
    let server = &place.server;
    let cpu_before = server.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let cpu_idle = server.cpu_time().saturating_sub(cpu_before);
    let at_once = place.fare();
    thread::sleep(if is_full() { PROBING } else { Duration::ZERO });
    let beside = place.median_fare();
    let held = server.counter("vless_buffers_held_bytes");
    println!(
        "{mode:?}: {downloads} downloads that nobody takes hold {} KiB of {} MiB and {} pipes, resident at most {} MiB, \
         CPU while they wait {cpu_idle:?} in a second; others: {:.0} MiB/s, round trip p50 {:.1?} p99 {:.1?}; without \
         them {:.0} MiB/s, {:.1?} {:.1?}; while the kernel asks often {:.0} MiB/s. CPU of a fare {:?}, {:?}, {:?}",
        held >> 10,
        MEMORY_BYTES_MAX >> 20,
        server.counter("vless_pipes_held"),
        server.resident_bytes_peak() >> 20,
        beside.throughput_mib,
        beside.p50,
        beside.p99,
        without.throughput_mib,
        without.p50,
        without.p99,
        at_once.throughput_mib,
        beside.cpu,
        without.cpu,
        at_once.cpu,
    );
    assert!(held <= MEMORY_BYTES_MAX + (1 << 20), "{held} bytes held");
    let alive = server.counter("vless_sessions") as usize;
    assert!((downloads..downloads + 5).contains(&alive), "{alive} of {downloads} are alive");
    judge(cpu_idle < Duration::from_millis(100), &format!("waiting took {cpu_idle:?} of a second"));
    let share = beside.throughput_mib / without.throughput_mib * 100.0;
    judge(share > THROUGHPUT_MIN, &format!("others have {share:.0} % of their throughput"));
    let cpu = at_once.cpu.max(beside.cpu).as_secs_f64() / without.cpu.as_secs_f64();
    judge(cpu < CPU_MORE_MAX, &format!("others cost {cpu:.2} times as much"));
    judge(beside.p99 < without.p99 + LATENCY_MORE_MAX, &format!("round trips take {:?}", beside.p99));
    drop(stalled);
    server.wait_until_empty();
}

/// The target's part of an inner handshake, and the client's last word in it.
fn inner_hello() -> Vec<u8> {
    [&server_hello(Inner::Tls13), CHANGE_CIPHER_SPEC, &record(0x16, 2000)].concat()
}

fn inner_finished() -> Vec<u8> {
    [CHANGE_CIPHER_SPEC, &data(53)].concat()
}

impl Place {
    fn new(mode: Mode) -> Self {
        let sections = json!({
            "limits": { "handshakes_per_source_max": 0 },
            "performance": { "buffer_memory_max": MEMORY_BYTES_MAX },
        });
        let server = Program::start(mode != Mode::Plain, &[ALICE, BOB, VISION], &sections);
        let config = server.certificate.as_ref().map(|certificate| config(certificate, rustls::ALL_VERSIONS));
        let source = match mode {
            Mode::Plain | Mode::Tls => Origin::source(1 << 40),
            Mode::Vision => Origin::repeater(vec![
                (client_hello().len(), inner_hello()),
                (inner_finished().len(), data(FIRST_RECORD_BYTES)),
                (data(FIRST_RECORD_BYTES).len(), data_stream(64 << 10)),
            ]),
        };
        Self { server, config, mode, source }
    }

    /// Begins a download with this window; 0 leaves it to the kernel.
    fn download(&self, user: [u8; 16], window_bytes: usize) -> Download {
        if self.mode == Mode::Vision {
            let how = How { recv_buffer_bytes: window_bytes, ..How::with(VISION) };
            let certificate = self.server.certificate.as_ref().unwrap();
            let mut client = VisionClient::connect_to(self.server.address, certificate, how);
            client.ask(VISION, self.source.address, &client_hello());
            client.down.expect(&inner_hello());
            client.up.send_block(CONTINUE, &inner_finished(), 30);
            client.down.expect(&data(FIRST_RECORD_BYTES));
            assert_eq!(client.down.phase, Phase::Raw);
            client.up.send_block(DIRECT, &data(FIRST_RECORD_BYTES), 77);
            return Download::Vision(Box::new(client));
        }
        let mut session = Session::open(self, window_bytes);
        session.send(&request(&user, self.source.address));
        Download::Session(Box::new(session))
    }

    /// The median of several.
    fn median_fare(&self) -> Fare {
        let fares: Vec<_> = (0..scaled(1, 5)).map(|_| self.fare()).collect();
        let median = |of: fn(&Fare) -> Duration| percentile(&fares.iter().map(of).collect::<Vec<_>>(), 50);
        let mut throughputs: Vec<_> = fares.iter().map(|fare| fare.throughput_mib).collect();
        throughputs.sort_by(f64::total_cmp);
        Fare {
            throughput_mib: throughputs[fares.len() / 2],
            cpu: median(|fare| fare.cpu),
            p50: median(|fare| fare.p50),
            p99: median(|fare| fare.p99),
        }
    }

    /// One download and then one conversation of another user.
    fn fare(&self) -> Fare {
        let (bytes, trips) = (scaled(32 << 20, 512 << 20), scaled(50, 500));
        let mut download = self.download(ALICE, 0);
        download.take(1 << 20);
        let (begin, cpu_before) = (Instant::now(), self.server.cpu_time());
        let taken = download.take(bytes);
        let throughput_mib = taken as f64 / f64::from(1 << 20) / begin.elapsed().as_secs_f64();
        let cpu = self.server.cpu_time().saturating_sub(cpu_before);
        drop(download);

        let echo = Origin::echo();
        let mut talk = Session::open(self, 0);
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
        Fare { throughput_mib, cpu, p50: percentile(&times, 50), p99: percentile(&times, 99) }
    }
}

impl Download {
    /// Takes so many bytes, or a few more; how many there were.
    fn take(&mut self, bytes: usize) -> usize {
        let mut taken = 0;
        let mut chunk = vec![0; 1 << 20];
        while taken < bytes {
            taken += match self {
                Self::Session(session) => {
                    session.take(&mut chunk);
                    chunk.len()
                }
                Self::Vision(client) => {
                    assert!(client.down.receive().unwrap(), "the stream ended behind {taken} bytes");
                    std::mem::take(&mut client.down.content).len()
                }
            };
        }
        taken
    }
}

impl Session {
    fn open(place: &Place, window_bytes: usize) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if window_bytes > 0 {
            socket.set_recv_buffer_size(window_bytes).unwrap();
        }
        socket.connect_timeout(&place.server.address.into(), PATIENCE).unwrap();
        let client = |config| ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        Self { socket: bounded(socket.into()), tls: place.config.clone().map(client) }
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
