//! One worker, one greedy client: the others are served all the same.

use std::io::Read;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vless_rust::session::UdpSettings;

use crate::harness::{Client, PLAIN, Server, VISION, at, hear, keep, new_udp, packet, peer};
use crate::support::client::Client as TlsClient;
use crate::support::server::{ALICE, Options, Server as TlsServer, VISION as VISION_TLS};
use crate::support::vision_client::{ADDONS, CONTINUE, How, VisionClient, request};

/// What a round trip may take while somebody else sends as fast as possible. One turn without a share costs seconds.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
const ROUND_TRIPS: usize = 30;

/// Sends `burst` over and over until it is told to stop.
struct Blaster {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Blaster {
    fn start(mut send: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                send();
            }
        });
        // Its bytes must be there before the others are asked.
        thread::sleep(Duration::from_millis(300));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Blaster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

fn slowest_round_trip(mut say: impl FnMut(), mut heard: impl FnMut(), target: &UdpSocket) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        say();
        let (datagram, source) = hear(target);
        target.send_to(&datagram, source).unwrap();
        heard();
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

fn assert_others_are_served(server: &Server, user: [u8; 16]) {
    let target = peer("127.0.0.1");
    let mut other = Client::open(server, user, 2, &at(target.local_addr().unwrap()));
    let mut reader = other.again();
    let slowest = slowest_round_trip(|| other.send(&packet(b"ping")), || assert_eq!(reader.packet(), b"ping"), &target);
    assert!(slowest < ROUND_TRIP_MAX, "{slowest:?}");
}

#[test]
fn tiny_datagrams_of_one_client_do_not_hold_up_another() {
    let (server, sink) = (Server::start(1, UdpSettings::default()), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 2, &at(sink.local_addr().unwrap()));
    let burst = packet(b"x").repeat(300_000);
    let _blaster = Blaster::start(move || client.send(&burst));
    assert_others_are_served(&server, VISION);
}

#[test]
fn tiny_frames_of_one_client_do_not_hold_up_another() {
    let (server, sink) = (Server::start(1, UdpSettings::default()), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_udp(0, &at(sink.local_addr().unwrap()), &[], b"x"));
    let burst = keep(0, b"x").repeat(100_000);
    let _blaster = Blaster::start(move || client.send(&burst));
    assert_others_are_served(&server, VISION);
}

#[test]
fn tiny_datagrams_of_a_peer_do_not_hold_up_another_client() {
    let (server, flood) = (Server::start(1, UdpSettings::default()), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_udp(0, &at(flood.local_addr().unwrap()), &[], b"x"));
    let source = hear(&flood).1;
    client.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let _reader = Blaster::start(move || drop(client.socket.read(&mut [0; 16000])));
    let _blaster = Blaster::start(move || drop(flood.send_to(b"x", source)));
    assert_others_are_served(&server, VISION);
}

#[test]
fn padding_without_content_does_not_hold_up_another_client() {
    let server = TlsServer::start(Options::tls());
    let mut client = VisionClient::connect(&server, How::with(VISION_TLS));
    let anywhere = "127.0.0.1:9".parse().unwrap();
    let mut opening = request(&VISION_TLS, ADDONS, 3, anywhere);
    // Command 3 has no destination.
    opening.truncate(opening.len() - 7);
    opening.extend(client.up.block(CONTINUE, b"", 60_000));
    client.up.send_tls(&opening);
    let burst = [CONTINUE, 0, 0, 0, 0].repeat(100_000);
    let _blaster = Blaster::start(move || client.up.send_tls(&burst));

    let target = peer("127.0.0.1");
    let other = TlsClient::connect(&server);
    other.send(&request(&ALICE, b"", 2, target.local_addr().unwrap())).unwrap();
    other.send(&packet(b"ping")).unwrap();
    let (datagram, source) = hear(&target);
    target.send_to(&datagram, source).unwrap();
    other.take_response();
    assert_eq!(other.take(6), packet(b"ping"));
    let say = || other.send(&packet(b"ping")).unwrap();
    let slowest = slowest_round_trip(say, || assert_eq!(other.take(6), packet(b"ping")), &target);
    assert!(slowest < ROUND_TRIP_MAX, "{slowest:?}");
}
