//! Whether time tells what a stranger must not learn: that an id is unknown, switched off, or known with a bad rest.
//!
//! Who looks for ids sends the same rest behind each of them, so each rest has its own comparison. The kinds of client are
//! tried in a random order, so that whatever else the machine does falls on all of them alike, and compared by ranks, which
//! no outlier moves. Times never fail this test; what comes over the wire does.
//! `TIMING_TRIES=20000 cargo test --release --test timing -- --nocapture` is the long run, whose result `tests/README.md` has.

mod support;

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::client::{Client, request};
use support::server::{ALICE, BOB, Options, STRANGER, Server};
use support::{bounded, wait_until};
use vless_rust::inbound::users::Barred;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{User, Users};

const KINDS: [&str; 5] =
    ["unknown id", "disabled user", "unknown id, bad rest", "disabled user, bad rest", "known id, bad rest"];
/// Those whose times are compared. The first four pairs send the same rest.
const PAIRS: [(usize, usize); 6] = [(0, 1), (2, 3), (2, 4), (3, 4), (0, 4), (1, 4)];

/// What each kind sends: the same number of bytes.
fn openings() -> [Vec<u8>; 5] {
    let good = |id| request(id, "192.0.2.1:443".parse().unwrap());
    let bad = |id| {
        let mut bytes = good(id);
        // There is no such kind of address.
        bytes[21] = 9;
        bytes
    };
    [good(&STRANGER), good(&BOB), bad(&STRANGER), bad(&BOB), bad(&ALICE)]
}

/// A server that has switched BOB off.
fn server(tls: bool) -> Server {
    let server = Server::start(Options { tls, ..Options::default() });
    let mut rules = server.rules.clone();
    let others = rules.session.users.iter().filter(|user| user.id != BOB).map(|user| User {
        id: user.id,
        email: user.email.clone(),
        flow: user.flow,
        ledger: Arc::clone(&user.ledger),
    });
    let users = Users::new(others.collect::<Vec<_>>()).unwrap();
    rules.session.users = Arc::new(users.with_barred([(BOB, Barred::Disabled)]));
    server.reactor().handle().adopt(&Arc::new(rules));
    wait_until("the rules are adopted", || {
        let client = Client::connect(&server);
        client.send(&request(&BOB, "192.0.2.1:443".parse().unwrap())).unwrap();
        let _ = client.recv_to_end();
        drop(client);
        server.closed(1)[0].reason == CloseReason::UserDisabled
    });
    server
}

/// How long it takes from the last byte of the request to the end, which is all that comes.
fn try_plain(server: &Server, opening: &[u8]) -> Duration {
    let mut tcp = bounded(TcpStream::connect(server.address).unwrap());
    let start = Instant::now();
    tcp.write_all(opening).unwrap();
    let count = tcp.read(&mut [0; 16]).unwrap();
    let passed = start.elapsed();
    assert_eq!(count, 0, "an orderly end without a byte");
    passed
}

fn try_tls(server: &Server, opening: &[u8]) -> Duration {
    let client = Client::connect(server);
    let start = Instant::now();
    client.send(opening).unwrap();
    let count = client.recv(&mut [0; 16]).unwrap();
    let passed = start.elapsed();
    assert_eq!(count, 0, "close_notify and an end");
    passed
}

/// How often a time of `first` is above one of `second` (0.5: as often as not), and how many standard deviations of chance
/// that is away from 0.5 (Mann and Whitney).
fn compared(first: &[Duration], second: &[Duration]) -> (f64, f64) {
    let tagged = |times: &[Duration], tag: bool| times.iter().map(|time| (*time, tag)).collect::<Vec<_>>();
    let mut all = [tagged(first, true), tagged(second, false)].concat();
    all.sort_unstable();
    let (mut rank_sum, mut at) = (0.0, 0);
    while at < all.len() {
        let end = at + all[at..].iter().take_while(|(time, _)| *time == all[at].0).count();
        // Equal times share their ranks.
        let rank = (at + 1 + end) as f64 / 2.0;
        rank_sum += rank * all[at..end].iter().filter(|(_, is_first)| *is_first).count() as f64;
        at = end;
    }
    let (n, m) = (first.len() as f64, second.len() as f64);
    let above = rank_sum - n * (n + 1.0) / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    (above / (n * m), (above - n * m / 2.0) / deviation)
}

fn measure(tls: bool, tries: usize) {
    let (server, openings) = (server(tls), openings());
    let mut times: [Vec<Duration>; KINDS.len()] = Default::default();
    let mut random = 0x2545_f491_u64;
    for _ in 0..tries {
        let mut order = [0, 1, 2, 3, 4];
        for place in (1..order.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(place, (random >> 33) as usize % (place + 1));
        }
        for kind in order {
            let one = if tls { try_tls } else { try_plain };
            times[kind].push(one(&server, &openings[kind]));
        }
    }
    let records = server.closed(KINDS.len() * tries);
    let ended = |reason| records.iter().filter(|record| record.reason == reason).count();
    let reasons = [CloseReason::UnknownUser, CloseReason::UserDisabled, CloseReason::BadRequest];
    assert_eq!(reasons.map(ended), [2 * tries, 2 * tries, tries]);
    let outer = if tls { "TLS" } else { "plain" };
    for (kind, times) in KINDS.iter().zip(&mut times) {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        println!("{outer}, {tries} tries, {kind}: median {:?}, p99 {:?}", sorted[tries / 2], sorted[tries * 99 / 100]);
    }
    for (one, other) in PAIRS {
        let (above, deviations) = compared(&times[one], &times[other]);
        println!("{outer}: {} above {}: {above:.4}, {deviations:+.2} deviations", KINDS[one], KINDS[other]);
    }
}

#[test]
fn an_unknown_id_a_disabled_user_and_a_bad_rest_end_alike() {
    let tries = env::var("TIMING_TRIES").map_or(50, |text| text.parse().unwrap());
    measure(false, tries);
    measure(true, (tries / 10).max(20));
}

#[test]
fn ranks_tell_what_differs_from_what_does_not() {
    let times = |from: u64| (0..1000).map(|step| Duration::from_nanos(from + step * 7 % 1000)).collect::<Vec<_>>();
    let (above, deviations) = compared(&times(0), &times(0));
    assert!((above - 0.5).abs() < 0.01 && deviations.abs() < 0.5, "{above} {deviations}");
    let (above, deviations) = compared(&times(200), &times(0));
    assert!(above > 0.6 && deviations > 10.0, "{above} {deviations}");
}
