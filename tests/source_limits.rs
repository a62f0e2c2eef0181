//! What every source may have, on real sockets: sessions, sessions that are not admitted, and how often it may come. Behind
//! a balancer the source is that of the announced client.

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::client::request;
use support::origin::Origin;
use support::server::{ALICE, BOB, Options, Server, VISION};
use support::{try_to_connect_from, wait_until};
use vless_rust::reactor::{Rules, SourceLimits};
use vless_rust::session::close::CloseReason;

const NONE: SourceLimits = SourceLimits { sessions_max: 0, openings_max: 0, accepts_per_second_max: 0 };
/// The balancer.
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 8, 1));

/// One that listens everywhere with two workers, which have to count together.
fn server(sources: SourceLimits) -> Server {
    Server::start(Options { sources, workers: 2, listen: Ipv4Addr::UNSPECIFIED.into(), ..Options::default() })
}

fn source(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, last).into()
}

fn connect(server: &Server, from: IpAddr) -> TcpStream {
    knock(server, from).unwrap()
}

/// A connection of somebody who may be turned away before it is there.
fn knock(server: &Server, from: IpAddr) -> io::Result<TcpStream> {
    let to: IpAddr = if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    try_to_connect_from(from, SocketAddr::new(to, server.address.port()))
}

/// A session that was served.
fn open(server: &Server, from: IpAddr, id: &[u8; 16], origin: &Origin) -> TcpStream {
    let mut socket = connect(server, from);
    socket.write_all(&[&request(id, origin.address), &b"ping"[..]].concat()).unwrap();
    let mut answer = [0; 6];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0ping");
    socket
}

/// One behind a balancer.
fn behind_balancer(sources: SourceLimits) -> Server {
    let proxy_protocol_from = vec!["127.0.8.1/32".parse().unwrap()];
    let listen = Ipv4Addr::UNSPECIFIED.into();
    Server::start(Options { sources, proxy_protocol_from, workers: 2, listen, ..Options::default() })
}

/// What the balancer says of a client at `ip`.
fn header(ip: &str) -> String {
    let (family, own) = if ip.contains(':') { ("TCP6", "2001:db8::1") } else { ("TCP4", "192.0.2.1") };
    format!("PROXY {family} {ip} {own} 51820 443\r\n")
}

/// A connection of the balancer for a client at `ip` that has not said anything yet.
fn announce(server: &Server, ip: &str) -> TcpStream {
    let mut socket = connect(server, BALANCER);
    socket.write_all(header(ip).as_bytes()).unwrap();
    socket
}

/// A session that was served, of a client behind the balancer. Its request comes with the header, or after it.
fn open_announced(server: &Server, ip: &str, is_glued: bool, origin: &Origin) -> TcpStream {
    let mut socket = connect(server, BALANCER);
    let hello = [&request(&ALICE, origin.address), &b"ping"[..]].concat();
    if is_glued {
        socket.write_all(&[header(ip).as_bytes(), &hello].concat()).unwrap();
    } else {
        socket.write_all(header(ip).as_bytes()).unwrap();
        socket.write_all(&hello).unwrap();
    }
    let mut answer = [0; 6];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0ping");
    socket
}

/// The server has reset this connection without a word.
#[track_caller]
fn assert_turned_away(socket: io::Result<TcpStream>) {
    let heard = socket.and_then(|mut socket| socket.read(&mut [0]));
    assert_eq!(heard.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

/// Whether it has, or will at once.
fn is_turned_away(socket: io::Result<TcpStream>) -> bool {
    let heard = socket.and_then(|mut socket| {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        socket.read(&mut [0])
    });
    heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn adopt(server: &Server, sources: SourceLimits) {
    server.reactor().handle().adopt(&Arc::new(Rules { sources, ..server.rules.clone() }));
}

#[test]
fn a_source_has_so_many_sessions_whoever_the_users_are_and_others_are_not_touched() {
    let origin = Origin::echo();
    let server = server(SourceLimits { sessions_max: 8, ..NONE });
    let ids = [&ALICE, &BOB];
    let mut sessions: Vec<_> = (0..8).map(|number| open(&server, source(1), ids[number % 2], &origin)).collect();
    for refused in 1..=20 {
        assert_turned_away(knock(&server, source(1)));
        wait_until("it is counted", || server.totals().source_sessions_refused == refused);
    }
    let _other = open(&server, source(2), &ALICE, &origin);
    sessions.pop();
    server.closed(1);
    sessions.push(open(&server, source(1), &ALICE, &origin));
    let totals = server.totals();
    assert_eq!((totals.sessions_accepted, totals.sessions_active), (10, 9), "who was refused is no session");
}

#[test]
fn silence_is_limited_and_who_is_admitted_does_not_count() {
    let origin = Origin::echo();
    let server = server(SourceLimits { openings_max: 3, ..NONE });
    let _admitted: Vec<_> = (0..10).map(|_| open(&server, source(1), &ALICE, &origin)).collect();
    let mut silent: Vec<_> = (0..3).map(|_| connect(&server, source(1))).collect();
    wait_until("all are accepted", || server.totals().sessions_active == 13);
    assert_turned_away(knock(&server, source(1)));
    wait_until("it is counted", || server.totals().source_openings_refused == 1);
    open(&server, source(2), &ALICE, &origin);
    silent.pop();
    wait_until("one has left", || server.closes(CloseReason::ClientLeft) == 1);
    open(&server, source(1), &ALICE, &origin);
}

#[test]
fn a_refused_request_gives_its_place_back() {
    let origin = Origin::echo();
    let server = server(SourceLimits { openings_max: 1, sessions_max: 1, ..NONE });
    for refused in 1..=20 {
        let mut socket = connect(&server, source(1));
        // Vision without TLS is refused.
        socket.write_all(&request(&VISION, origin.address)).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        drop(socket);
        wait_until("it has ended", || server.closes(CloseReason::FlowRefused) == refused);
        server.wait_until_empty();
    }
    assert_eq!(server.totals().source_sessions_refused + server.totals().source_openings_refused, 0);
}

#[test]
fn a_source_comes_no_more_often_than_it_may() {
    const RATE: usize = 20;
    let server = server(SourceLimits { accepts_per_second_max: RATE, ..NONE });
    let start = Instant::now();
    let sockets: Vec<_> = (0..200).map(|_| connect(&server, source(1))).collect();
    let accounted = || {
        let totals = server.totals();
        (totals.sessions_accepted as usize, totals.source_accepts_refused as usize)
    };
    wait_until("all have an answer", || accounted().0 + accounted().1 == 200);
    let most = RATE + (start.elapsed().as_secs_f64() * RATE as f64) as usize + 1;
    let (accepted, refused) = accounted();
    assert!((RATE..=most).contains(&accepted), "{accepted} of at most {most} accepted, {refused} refused");
    drop(sockets);
    let _other = connect(&server, source(2));
    wait_until("another source comes in", || accounted().0 == accepted + 1);
}

#[test]
fn limits_of_a_reload_hold_for_the_sessions_that_are_there() {
    let origin = Origin::echo();
    let server = server(NONE);
    let _sessions: Vec<_> = (0..5).map(|_| open(&server, source(1), &ALICE, &origin)).collect();
    adopt(&server, SourceLimits { sessions_max: 5, ..NONE });
    // Workers adopt rules one after the other.
    wait_until("it is refused", || {
        is_turned_away(knock(&server, source(1))) && server.totals().source_sessions_refused >= 20
    });
    adopt(&server, NONE);
    wait_until("it is let in", || {
        let mut socket = connect(&server, source(1));
        let asked = socket.write_all(&[&request(&ALICE, origin.address), &b"ping"[..]].concat());
        asked.is_ok() && socket.read_exact(&mut [0; 6]).is_ok()
    });
}

#[test]
fn an_ipv6_address_is_a_source_too() {
    let origin = Origin::echo();
    let sources = SourceLimits { sessions_max: 2, ..NONE };
    let server = Server::start(Options { sources, listen: Ipv6Addr::UNSPECIFIED.into(), ..Options::default() });
    let six: IpAddr = Ipv6Addr::LOCALHOST.into();
    let _six = [open(&server, six, &ALICE, &origin), open(&server, six, &ALICE, &origin)];
    assert_turned_away(knock(&server, six));
    // The same listener serves IPv4.
    let _four = open(&server, source(1), &ALICE, &origin);
}

#[test]
fn behind_a_balancer_every_client_has_the_sessions_of_its_own_source() {
    let origin = Origin::echo();
    let server = behind_balancer(SourceLimits { sessions_max: 2, ..NONE });
    for ip in ["203.0.113.1", "203.0.113.2", "2001:db8:7::1"] {
        let mut sessions: Vec<_> = [false, true].map(|glued| open_announced(&server, ip, glued, &origin)).into();
        let before = server.closes(CloseReason::SourceLimit);
        for refused in 1..=3 {
            // The last brings its request along, which is not looked at.
            let mut socket = connect(&server, BALANCER);
            let hello = [&request(&ALICE, origin.address), &b"ping"[..]].concat();
            let hello = if refused == 3 { &hello[..] } else { b"" };
            socket.write_all(&[header(ip).as_bytes(), hello].concat()).unwrap();
            assert_turned_away(Ok(socket));
            wait_until("it is counted", || server.closes(CloseReason::SourceLimit) == before + refused);
            assert_eq!(server.totals().source_sessions_refused, before + refused);
        }
        server.closed(3);
        sessions.pop();
        server.closed(1);
        sessions.push(open_announced(&server, ip, true, &origin));
        // Others of the same /64 are the same source.
        if ip.contains(':') {
            assert_turned_away(Ok(announce(&server, "2001:db8:7::2")));
            server.closed(1);
        }
        drop(sessions);
        server.closed(2);
    }
    // Balancers look whether we live, as often as they want, and so may those who have not said yet who comes.
    let alive: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = connect(&server, BALANCER);
            socket.write_all(b"PROXY UNKNOWN\r\n").unwrap();
            socket
        })
        .collect();
    let unannounced: Vec<_> = (0..5).map(|_| connect(&server, BALANCER)).collect();
    wait_until("all are there", || server.totals().sessions_active == 10);
    drop((alive, unannounced));
    server.wait_until_empty();
    assert_eq!(server.user(&ALICE).sessions_total, 9, "who was refused has not asked for anything");
}

#[test]
fn behind_a_balancer_the_silence_of_one_client_keeps_no_other_out() {
    let origin = Origin::echo();
    let server = behind_balancer(SourceLimits { openings_max: 3, ..NONE });
    let _admitted: Vec<_> = (0..6).map(|_| open_announced(&server, "203.0.113.1", true, &origin)).collect();
    let mut silent: Vec<_> = (0..3).map(|_| announce(&server, "203.0.113.1")).collect();
    wait_until("all are accepted", || server.totals().sessions_active == 9);
    // A client is known as soon as its header was read, which nothing outside shows.
    wait_until("their headers were read", || is_turned_away(Ok(announce(&server, "203.0.113.1"))));
    assert!(server.totals().source_openings_refused > 0);
    drop(open_announced(&server, "203.0.113.2", true, &origin));
    silent.clear();
    wait_until("they have left", || server.totals().sessions_active == 6);
    drop(open_announced(&server, "203.0.113.1", true, &origin));
}

#[test]
fn behind_a_balancer_a_client_comes_no_more_often_than_it_may() {
    const RATE: usize = 20;
    let origin = Origin::echo();
    let server = behind_balancer(SourceLimits { accepts_per_second_max: RATE, ..NONE });
    let start = Instant::now();
    let come = |_| {
        let mut socket = connect(&server, BALANCER);
        let hello = [&request(&ALICE, origin.address), &b"ping"[..]].concat();
        socket.write_all(&[header("203.0.113.1").as_bytes(), &hello].concat()).unwrap();
        socket
    };
    let mut sockets: Vec<_> = (0..100).map(come).collect();
    let entered = sockets.iter_mut().filter_map(|socket| socket.read_exact(&mut [0; 6]).ok()).count();
    let most = RATE + (start.elapsed().as_secs_f64() * RATE as f64) as usize + 1;
    assert!((RATE..=most).contains(&entered), "{entered} of at most {most} came in");
    let refused = (100 - entered) as u64;
    wait_until("all are counted", || server.closes(CloseReason::SourceLimit) == refused);
    assert_eq!(server.totals().source_accepts_refused, refused);
    open_announced(&server, "203.0.113.2", true, &origin);
}

#[test]
fn behind_a_balancer_limits_of_a_reload_know_the_clients_that_are_there() {
    let origin = Origin::echo();
    let server = behind_balancer(NONE);
    let _sessions: Vec<_> = (0..5).map(|_| open_announced(&server, "203.0.113.1", true, &origin)).collect();
    adopt(&server, SourceLimits { sessions_max: 5, ..NONE });
    wait_until("it is refused", || is_turned_away(Ok(announce(&server, "203.0.113.1"))));
    let _other = open_announced(&server, "203.0.113.2", true, &origin);
}
