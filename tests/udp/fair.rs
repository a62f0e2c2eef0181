//! One worker, one greedy client: the others are served all the same.
//!
//! What is measured is not time but what the server does for the greedy one meanwhile, so a machine that is busy with
//! something else changes nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vless_rust::reactor::schedule::QUIET_TURN_WORK_BYTES;
use vless_rust::session::UdpSettings;
use vless_rust::session::allowance::PACKET_COST_BYTES;
use vless_rust::stats::Totals;

use crate::harness::{
    Client, PLAIN, Server, VISION, at, hear, keep, named, new_tcp, new_udp, packet, peer, wait_until,
};
use crate::support::client::Client as TlsClient;
use crate::support::server::{ALICE, Options, Server as TlsServer, VISION as VISION_TLS};
use crate::support::vision_client::{ADDONS, CONTINUE, How, VisionClient, request};

/// Turns that the greedy one may have during a round trip: two in front of each of its events, and those in which the
/// test's own threads wait for a processor. A turn without a share would never end, because there is always more.
const TURNS_MAX: usize = 32;
const BYTES_MAX: u64 = (TURNS_MAX * QUIET_TURN_WORK_BYTES) as u64;
const PACKETS_MAX: u64 = BYTES_MAX / PACKET_COST_BYTES as u64;
const ROUND_TRIPS: usize = 31;

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

/// What `greedy` grows by in most round trips: the median, because a thread of the test may not run for a while.
fn grows_in_a_round_trip(
    mut say: impl FnMut(),
    mut heard: impl FnMut(),
    target: &UdpSocket,
    greedy: impl Fn() -> u64,
) -> u64 {
    let mut grown = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let before = greedy();
        say();
        let (datagram, source) = hear(target);
        target.send_to(&datagram, source).unwrap();
        heard();
        grown.push(greedy() - before);
    }
    grown.sort_unstable();
    assert!(grown.last() > Some(&0), "the greedy one did nothing all the while");
    grown[ROUND_TRIPS / 2]
}

/// Datagrams that the server has looked at, for whatever direction and end.
fn datagrams(totals: &Totals) -> u64 {
    let passed = totals.udp_uplink_packets + totals.udp_downlink_packets;
    passed + totals.udp_dropped_by_kernel + totals.udp_dropped_by_policy + totals.udp_dropped_no_room
}

fn assert_others_are_served(server: &Server, user: [u8; 16]) {
    let target = peer("127.0.0.1");
    let mut other = Client::open(server, user, 2, &at(target.local_addr().unwrap()));
    let mut reader = other.again();
    let say = || other.send(&packet(b"ping"));
    let heard = || assert_eq!(reader.packet(), b"ping");
    let most = grows_in_a_round_trip(say, heard, &target, || datagrams(&server.totals()));
    assert!(most <= PACKETS_MAX, "{most} datagrams");
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
    let heard = || assert_eq!(other.take(6), packet(b"ping"));
    let most = grows_in_a_round_trip(say, heard, &target, || server.totals().uplink_padding_bytes);
    assert!(most <= BYTES_MAX, "{most} bytes of padding");
}

/// The name that a query asks for.
fn name_in(query: &[u8]) -> &[u8] {
    &query[12..12 + query[12..].iter().position(|&byte| byte == 0).unwrap()]
}

/// The answer to a query for an IPv4 address: 127.0.0.1.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + name_in(query).len() + 5;
    let head = [&query[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    [&head[..], &query[12..end], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1]].concat()
}

#[test]
fn a_client_that_asks_for_names_without_end_displaces_no_look_up_of_another() {
    let (server, names) = (Server::start(1, UdpSettings::default()), peer("127.0.0.1"));
    server.ask_names_of(&names);
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = named("good.test", target.local_addr().unwrap().port());
    let mut modest = Client::open(&server, PLAIN, 1, &wanted);
    let (query, asker) = loop {
        let (query, asker) = hear(&names);
        // Of both families the one for IPv4.
        if query[12 + name_in(&query).len() + 2] == 1 {
            break (query, asker);
        }
    };
    // All of these come after it, and nobody answers them.
    let mut greedy = Client::open(&server, PLAIN, 3, &[]);
    for number in 0..1000 {
        greedy.send(&new_tcp(number, &named(&format!("n{number}.test"), 80), b"x"));
    }
    wait_until("look-ups make room for others", || server.totals().dns_refused_busy > 1000);
    names.send_to(&answer(&query), asker).unwrap();
    target.set_nonblocking(true).unwrap();
    let mut connection = None;
    wait_until("the look-up is answered and its target reached", || {
        connection = connection.take().or_else(|| target.accept().ok());
        connection.is_some()
    });
    connection.unwrap().0.write_all(b"here").unwrap();
    let mut said = [0; 6];
    modest.socket.read_exact(&mut said).unwrap();
    assert_eq!(said, *b"\0\0here");
}
