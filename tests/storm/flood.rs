//! A flood from one address: thousands of silent connections, and handshakes without end that are never finished. A
//! user from another address is served as if there were none.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use serde_json::{Value, json};

use crate::program::Program;
use crate::support::client::{config, request};
use crate::support::origin::Origin;
use crate::support::server::ALICE;
use crate::support::{connect_from, try_to_connect_from, wait_until};
use crate::{alone, judge, percentile, scaled};

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const USER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What is promised to others.
const FIRST_BYTE_MAX: Duration = Duration::from_millis(100);
const RESIDENT_BYTES_MAX: u64 = 64 << 20;
/// Threads that shake hands: each waits for the server's answer.
const THREADS: usize = 4;

/// What the attackers have done.
#[derive(Default)]
struct Attack {
    is_over: AtomicBool,
    /// Handshakes begun, and those that were answered.
    begun: AtomicUsize,
    answered: AtomicUsize,
    /// Silent connections that were cut, and made again.
    renewed: AtomicUsize,
}

#[test]
fn a_flood_from_one_address_leaves_others_their_place() {
    let _alone = alone();
    // As a server comes, and without the limit that takes most of the flood off it.
    for (name, limits) in
        [("by default", json!({})), ("no limit per source", json!({ "handshakes_per_source_max": 0 }))]
    {
        run(name, &limits);
    }
}

fn run(name: &str, limits: &Value) {
    let (silent, rate) = (scaled(500, 5000), scaled(20, 500));
    let time = Duration::from_secs(scaled(2, 20) as u64);
    let server = Program::start(true, &[ALICE], &json!({ "limits": limits }));
    let origin = Origin::echo();
    let idle = first_bytes(&server, &origin, time / 4);
    let (resident_before, cpu_before) = (server.resident_bytes(), server.cpu_time());
    let attack = Attack::default();
    let mut connections: Vec<_> = (0..silent).map(|_| silent_connection(&server)).collect();
    wait_until("the flood is there", || server.counter("vless_sessions_opened_total") > 0);
    let times = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| shake_hands(&server, rate / THREADS, &attack));
        }
        let keeper = scope.spawn(|| keep_silent(&server, &mut connections, &attack));
        let times = first_bytes(&server, &origin, time);
        attack.is_over.store(true, Ordering::Relaxed);
        keeper.join().unwrap();
        times
    });
    let (first_byte, resident) = (percentile(&times, 99), server.resident_bytes_peak());
    println!(
        "{name}: {silent} silent connections ({} renewed), {:.0} handshakes/s of which {:.0} answered: first byte of \
         {} clients from another address p50 {:.1?} p99 {:.1?} (without the flood {:.1?} and {:.1?}), resident at \
         most {:.1} MiB ({:.1} before), server CPU {:.2} cores, {} refused by the limits of a source, {} shed",
        attack.renewed.load(Ordering::Relaxed),
        attack.begun.load(Ordering::Relaxed) as f64 / time.as_secs_f64(),
        attack.answered.load(Ordering::Relaxed) as f64 / time.as_secs_f64(),
        times.len(),
        percentile(&times, 50),
        first_byte,
        percentile(&idle, 50),
        percentile(&idle, 99),
        resident as f64 / f64::from(1 << 20),
        resident_before as f64 / f64::from(1 << 20),
        server.cpu_time().saturating_sub(cpu_before).as_secs_f64() / time.as_secs_f64(),
        refused(&server),
        server.sum("vless_sessions_closed_total{reason=\"opening_shed\"}"),
    );
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes resident");
    assert!(attack.answered.load(Ordering::Relaxed) > 0 || refused(&server) > 0, "nobody was attacked");
    judge(first_byte < FIRST_BYTE_MAX, &format!("the first byte took {first_byte:?}"));
    drop(connections);
    server.wait_until_empty();
}

/// Connections that the limits of a source refused.
fn refused(server: &Program) -> u64 {
    server.sum("vless_source_refusals_total{")
}

fn silent_connection(server: &Program) -> TcpStream {
    let mut socket = None;
    // Who is refused by a limit may have been reset before the kernel says that the connection is there.
    wait_until("the attacker is connected", || {
        socket = try_to_connect_from(ATTACKER, server.address).ok();
        socket.is_some()
    });
    let socket = socket.unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Makes those again that the server has cut.
fn keep_silent(server: &Program, connections: &mut [TcpStream], attack: &Attack) {
    let mut number = 0;
    while !attack.is_over.load(Ordering::Relaxed) {
        number = (number + 1) % connections.len();
        let gone = !matches!(connections[number].read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        if gone {
            connections[number] = silent_connection(server);
            attack.renewed.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
        } else if number.is_multiple_of(64) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A client's hello, which may be sent as often as one likes: it costs its sender nothing.
fn hello(server: &Program) -> Vec<u8> {
    let config = config(server.certificate.as_ref().unwrap(), rustls::ALL_VERSIONS);
    let mut tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

/// Begins so many handshakes a second, waits for the answer of each, and leaves.
fn shake_hands(server: &Program, rate: usize, attack: &Attack) {
    let (hello, begin) = (hello(server), Instant::now());
    for number in 0.. {
        let due = begin + Duration::from_secs(1) / rate as u32 * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if attack.is_over.load(Ordering::Relaxed) {
            return;
        }
        attack.begun.fetch_add(1, Ordering::Relaxed);
        let Ok(mut socket) = try_to_connect_from(ATTACKER, server.address) else { continue };
        if socket.write_all(&hello).is_ok() && socket.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            attack.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The times that clients need from their first packet to the first byte of their target, one client after the other.
fn first_bytes(server: &Program, origin: &Origin, time: Duration) -> Vec<Duration> {
    let config = config(server.certificate.as_ref().unwrap(), rustls::ALL_VERSIONS);
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end || times.is_empty() {
        let mut tls = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        let begin = Instant::now();
        let mut socket = connect_from(USER, server.address);
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(&[&request(&ALICE, origin.address), &b"ping"[..]].concat()).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        times.push(begin.elapsed());
        assert_eq!(&answer, b"\0\0ping");
        thread::sleep(Duration::from_millis(10));
    }
    times
}
