//! The dialer on real sockets of 127.0.0.0/8 and [::1], with name servers and targets of our own.

mod adopt;
mod dns;
mod harness;
mod network;
mod pool;
mod resolve_only;
mod shortage;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use vless_rust::outbound::dial::{DialError, DialRules, Prefer};
use vless_rust::outbound::policy::{DestinationPolicy, Refusal};
use vless_rust::session::Target;

use dns::{MISDIRECTED_ANSWERS, Manner, NameServer, Zone, silent_server};
use harness::{PATIENCE, Reactor, closed_address, listener, name, settings};

fn asking(servers: &[SocketAddr]) -> DialRules {
    let mut settings = settings();
    settings.resolver.servers = servers.to_vec();
    settings
}

/// A listener whose queue is full: the kernel drops what would connect to it. The streams keep it full.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _streams: Vec<Socket>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        // The queue is full once a connect does not come through any more.
        for _ in 0..16 {
            let stream = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            let connected = stream.connect_timeout(&address.into(), Duration::from_millis(100));
            streams.push(stream);
            if connected.is_err() {
                return Self { address, _listener: listener, _streams: streams };
            }
        }
        panic!("the queue of {address} never fills");
    }
}

/// A listener on [::1], one on the same port of every IPv4 address, and the address of the first.
fn listeners_of_both_families() -> (TcpListener, TcpListener, SocketAddr) {
    std::iter::repeat_with(|| listener("::1"))
        .take(100)
        .find_map(|(one, v6)| TcpListener::bind(("0.0.0.0", v6.port())).ok().map(|other| (one, other, v6)))
        .expect("a port that is free in both families")
}

#[test]
fn an_address_is_connected_to_and_carries_bytes_both_ways() {
    let (listener, address) = listener("127.0.0.1");
    let mut reactor = Reactor::new(settings());
    let dialed = reactor.outcome(&address.into()).unwrap();
    assert_eq!(dialed.peer, address);
    assert!(dialed.connect_time < PATIENCE);

    let (mut accepted, from) = listener.accept().unwrap();
    let mut dialed = TcpStream::from(dialed.socket);
    assert_eq!(from, dialed.local_addr().unwrap());
    assert!(dialed.nodelay().unwrap());
    assert_eq!(dialed.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    dialed.set_nonblocking(false).unwrap();
    accepted.write_all(b"down").unwrap();
    dialed.write_all(b"up").unwrap();
    let (mut down, mut up) = ([0; 4], [0; 2]);
    dialed.read_exact(&mut down).unwrap();
    accepted.read_exact(&mut up).unwrap();
    assert_eq!((&down, &up), (b"down", b"up"));
    assert_eq!((reactor.counters.dials_connected.value(), reactor.dialer.under_way()), (1, 0));
}

#[test]
fn a_name_is_resolved_once_and_then_known() {
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", &[("www.example.org", &["127.0.0.1"])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    for spelling in ["www.example.org", "WWW.Example.org."] {
        assert_eq!(reactor.outcome(&name(spelling, address.port())).unwrap().peer, address);
    }
    reactor.run_until(|reactor| {
        let asked = server.queries_over_udp.load(Ordering::Relaxed);
        reactor.counters.dns_cache_hits.value() >= 1 && asked >= 2
    });
    assert_eq!(server.queries_over_udp.load(Ordering::Relaxed), 2, "one for each family");
}

#[test]
fn a_name_that_does_not_exist_is_told_apart_from_one_without_addresses() {
    let server = NameServer::start("127.0.0.2", &[("empty.example.org", &[])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    assert_eq!(reactor.outcome(&name("missing.example.org", 80)).unwrap_err(), DialError::NoSuchName);
    assert_eq!(reactor.outcome(&name("empty.example.org", 80)).unwrap_err(), DialError::NoAddress);
    assert_eq!(reactor.counters.dials_unresolved.value(), 2);
}

#[test]
fn a_truncated_answer_comes_over_tcp() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::TruncatesOverUdp);
    let mut reactor = Reactor::new(asking(&[server.address]));
    assert_eq!(reactor.outcome(&name("www.example.org", address.port())).unwrap().peer, address);
    assert!(reactor.counters.dns_truncated.value() >= 1);
    assert!(server.queries_over_tcp.load(Ordering::Relaxed) >= 1);
}

#[test]
fn a_slow_answer_over_tcp_is_waited_for() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::SlowOverTcp);
    let mut reactor = Reactor::new(asking(&[server.address]));
    assert_eq!(reactor.outcome(&name("www.example.org", address.port())).unwrap().peer, address);
    reactor.run_until(|reactor| reactor.dialer.look_ups_under_way() == 0);
    assert_eq!(server.queries_over_tcp.load(Ordering::Relaxed), 2, "one for each family");
}

#[test]
fn a_flood_of_wrong_answers_is_not_listened_to_for_long() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let flooding = NameServer::start("127.0.0.2", ZONE, Manner::Misdirects);
    let server = NameServer::start("127.0.0.3", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[flooding.address, server.address]));
    let dialed = reactor.outcome(&name("www.example.org", address.port())).unwrap();
    assert!(dialed.connect_time < Duration::from_millis(900), "{dialed:?}");
    reactor.run_until(|reactor| reactor.dialer.look_ups_under_way() == 0);
    let listened_to = reactor.counters.dns_bad_answers.value();
    assert_eq!(listened_to, 2 * 16, "two families; the server sent {MISDIRECTED_ANSWERS} to each");
}

#[test]
fn a_silent_first_name_server_costs_about_a_second() {
    let (_listener, address) = listener("127.0.0.1");
    let silent = silent_server("127.0.0.2");
    let server = NameServer::start("127.0.0.3", &[("www.example.org", &["127.0.0.1"])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[silent.local_addr().unwrap(), server.address]));
    let dialed = reactor.outcome(&name("www.example.org", address.port())).unwrap();
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&dialed.connect_time), "{dialed:?}");
}

#[test]
fn a_closed_name_server_costs_nothing() {
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.3", &[("www.example.org", &["127.0.0.1"])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[closed_address(), server.address]));
    let dialed = reactor.outcome(&name("www.example.org", address.port())).unwrap();
    assert!(dialed.connect_time < Duration::from_millis(900), "{dialed:?}");
}

#[test]
fn a_dead_name_server_delays_nobody_but_those_who_wait_for_it() {
    let (_listener, address) = listener("127.0.0.1");
    let silent = silent_server("127.0.0.2");
    let mut settings = asking(&[silent.local_addr().unwrap()]);
    settings.resolver.timeout = Duration::from_secs(2);
    let mut reactor = Reactor::new(settings);
    let waiting: Vec<_> = (0..50).map(|n| reactor.dial(&name(&format!("n{n}.example.org"), 80))).collect();
    for _ in 0..20 {
        let dialed = reactor.outcome(&address.into()).unwrap();
        assert!(dialed.connect_time < Duration::from_millis(900), "{dialed:?}");
    }
    for _ in &waiting {
        let finished = reactor.next_finished();
        assert!(waiting.contains(&finished.dial));
        assert_eq!(finished.result.unwrap_err(), DialError::DnsTimeout);
    }
    assert_eq!(reactor.counters.dns_timeouts.value(), 100);
}

#[test]
fn the_connect_timeout_covers_the_look_up() {
    let silent = silent_server("127.0.0.2");
    let mut settings = asking(&[silent.local_addr().unwrap()]);
    settings.connect_timeout = Duration::from_millis(300);
    let mut reactor = Reactor::new(settings);
    let started = Instant::now();
    assert_eq!(reactor.outcome(&name("www.example.org", 80)).unwrap_err(), DialError::DnsTimeout);
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&started.elapsed()));
}

#[test]
fn name_servers_with_quirks_are_asked_as_they_can_answer_and_that_is_remembered() {
    const ZONE: Zone = &[("somewhere.example.org", &["127.0.0.5"]), ("elsewhere.example.org", &["127.0.0.5"])];
    let (_listener, address) = listener("127.0.0.5");
    // Queries over UDP and TCP for the first name in one family, and for the second.
    for (manner, first, second) in [
        (Manner::Plain, (1, 0), (1, 0)),
        (Manner::CutsSilently, (1, 1), (1, 1)),
        (Manner::FoldsCase, (2, 0), (1, 0)),
        (Manner::RefusesEdns, (2, 0), (1, 0)),
        // One silence may be a loss: what was not answered is put in another way, and only the second time remembered.
        (Manner::SwallowsEdns, (2, 0), (2, 0)),
    ] {
        let server = NameServer::start("127.0.0.2", ZONE, manner);
        let rules = DialRules { bind: Some("127.0.0.9".parse().unwrap()), ..asking(&[server.address]) };
        let mut reactor = Reactor::new(rules);
        let queries = || {
            let load = |count: &std::sync::atomic::AtomicUsize| count.swap(0, Ordering::Relaxed);
            (load(&server.queries_over_udp), load(&server.queries_over_tcp))
        };
        for (target, expected) in [("somewhere.example.org", first), ("elsewhere.example.org", second)] {
            let dialed = reactor.outcome(&name(target, address.port())).unwrap();
            assert_eq!((dialed.peer, queries()), (address, expected), "{manner:?}");
        }
    }
}

#[test]
fn a_closed_port_is_refused() {
    let mut reactor = Reactor::new(settings());
    assert_eq!(reactor.outcome(&closed_address().into()).unwrap_err(), DialError::Refused);
    assert_eq!((reactor.counters.dials_failed.value(), reactor.counters.dial_attempts.value()), (1, 1));
}

#[test]
fn the_next_address_is_tried_at_once_when_one_refuses() {
    const ZONE: Zone = &[("two.example.org", &["127.0.0.98", "127.0.0.5"])];
    let (_listener, address) = listener("127.0.0.5");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    let dialed = reactor.outcome(&name("two.example.org", address.port())).unwrap();
    assert_eq!(dialed.peer, address);
    assert_eq!(reactor.counters.dial_attempts.value(), 2);
}

#[test]
fn the_next_address_is_tried_beside_one_that_does_not_answer() {
    const ZONE: Zone = &[("two.example.org", &["127.0.0.6", "127.0.0.5"])];
    let (_listener, address) = listener("127.0.0.5");
    let hole = BlackHole::at(SocketAddr::new([127, 0, 0, 6].into(), address.port()));
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    let dialed = reactor.outcome(&name("two.example.org", hole.address.port())).unwrap();
    assert_eq!(dialed.peer, address);
    assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&dialed.connect_time), "{dialed:?}");
}

#[test]
fn a_target_that_never_answers_ends_at_the_deadline() {
    let hole = BlackHole::at("127.0.0.7:0".parse().unwrap());
    let mut settings = settings();
    settings.connect_timeout = Duration::from_millis(300);
    let mut reactor = Reactor::new(settings);
    let started = Instant::now();
    assert_eq!(reactor.outcome(&hole.address.into()).unwrap_err(), DialError::TimedOut);
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&started.elapsed()));
    assert_eq!((reactor.counters.dials_timed_out.value(), reactor.dialer.under_way()), (1, 0));
}

#[test]
fn the_preferred_family_wins_where_both_answer() {
    let (_v6, _v4, v6) = listeners_of_both_families();
    let server = NameServer::start("127.0.0.2", &[("both.example.org", &["127.0.0.1", "::1"])], Manner::Plain);
    for (prefer, is_ipv6) in [(Prefer::Ipv6, true), (Prefer::Ipv4, false)] {
        let mut reactor = Reactor::new(DialRules { prefer, ..asking(&[server.address]) });
        let dialed = reactor.outcome(&name("both.example.org", v6.port())).unwrap();
        assert_eq!(dialed.peer.is_ipv6(), is_ipv6, "{prefer:?}");
    }
}

#[test]
fn the_other_family_is_the_fallback() {
    let (_v6, v6) = listener("::1");
    let server = NameServer::start("127.0.0.2", &[("both.example.org", &["127.0.0.97", "::1"])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    assert_eq!(reactor.outcome(&name("both.example.org", v6.port())).unwrap().peer, v6);
}

#[test]
fn the_bind_address_is_the_source_and_limits_the_family() {
    let (listener, address) = listener("127.0.0.1");
    let settings = DialRules { bind: Some("127.0.0.9".parse().unwrap()), ..settings() };
    let mut reactor = Reactor::new(settings);
    let _dialed = reactor.outcome(&address.into()).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 80));
    assert_eq!(reactor.outcome(&v6.into()).unwrap_err(), DialError::Unreachable);
}

#[test]
fn a_name_that_points_into_a_private_network_is_refused_without_a_connect() {
    const ZONE: Zone = &[("rebind.example.org", &["10.0.0.1", "192.168.0.1", "127.0.0.1", "fd00::1"])];
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut settings = asking(&[server.address]);
    settings.policy = Arc::new(DestinationPolicy::new(false, Vec::new(), Vec::new(), Vec::new()));
    let mut reactor = Reactor::new(settings);
    let error = reactor.outcome(&name("rebind.example.org", 80)).unwrap_err();
    assert!(matches!(error, DialError::RefusedByPolicy(Refusal::Private(_))), "{error:?}");
    assert_eq!((reactor.counters.dial_attempts.value(), reactor.counters.dials_refused_by_policy.value()), (0, 1));
}

#[test]
fn permitted_addresses_of_a_name_are_dialled_beside_refused_ones() {
    const ZONE: Zone = &[("mixed.example.org", &["10.0.0.1", "127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    assert_eq!(reactor.outcome(&name("mixed.example.org", address.port())).unwrap().peer, address);
    assert_eq!(reactor.counters.dial_attempts.value(), 1);
}

#[test]
fn our_own_listener_is_refused_on_every_address_of_this_machine() {
    let own = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
    let mut settings = settings();
    settings.policy = Arc::new(DestinationPolicy::new(true, Vec::new(), Vec::new(), vec![own]));
    let mut reactor = Reactor::new(settings);
    for ip in ["127.0.0.1", "127.0.0.77", "0.0.0.0", "::ffff:127.0.0.1"] {
        let target = Target::from(SocketAddr::new(ip.parse().unwrap(), own.port()));
        assert_eq!(reactor.outcome(&target).unwrap_err(), DialError::RefusedByPolicy(Refusal::OwnListener), "{ip}");
    }
    assert_eq!(reactor.counters.dial_attempts.value(), 0);
}

#[test]
fn a_cancelled_dial_closes_its_socket_and_never_finishes() {
    let (listener, address) = listener("127.0.0.1");
    let mut reactor = Reactor::new(settings());
    let id = reactor.dial(&address.into());
    let (mut accepted, _) = listener.accept().unwrap();
    reactor.cancel(id);
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    assert_eq!((reactor.dialer.under_way(), reactor.counters.dials_cancelled.value()), (0, 1));
    assert_eq!(reactor.outcome(&address.into()).unwrap().peer, address, "the next outcome is the next dial's");
}

#[test]
fn a_dial_cancelled_after_it_finished_drops_its_socket() {
    let (listener, address) = listener("127.0.0.1");
    let mut reactor = Reactor::new(settings());
    let id = reactor.dial(&address.into());
    reactor.run_until(|reactor| reactor.counters.dials_connected.value() == 1);
    reactor.cancel(id);
    assert!(reactor.dialer.take_finished().is_none());
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_look_up_outlives_the_dial_that_asked_for_it() {
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", &[("www.example.org", &["127.0.0.1"])], Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    let id = reactor.dial(&name("www.example.org", address.port()));
    reactor.cancel(id);
    reactor.run_until(|reactor| reactor.dialer.look_ups_under_way() == 0);
    assert_eq!(reactor.outcome(&name("www.example.org", address.port())).unwrap().peer, address);
    assert_eq!(reactor.counters.dns_cache_hits.value(), 2);
}

#[test]
fn a_cancelled_dial_makes_room_for_another_one_to_wait() {
    let silent = silent_server("127.0.0.2");
    let mut settings = asking(&[silent.local_addr().unwrap()]);
    settings.resolver.limits.waiters_max = 2;
    let mut reactor = Reactor::new(settings);
    let id = reactor.dial(&name("www.example.org", 80));
    assert_eq!(reactor.outcome(&name("www.example.org", 80)).unwrap_err(), DialError::DnsBusy);
    reactor.cancel(id);
    reactor.dial(&name("www.example.org", 80));
    assert!(reactor.dialer.take_finished().is_none());
}

#[test]
fn the_hosts_file_answers_without_a_query() {
    let (_listener, address) = listener("127.0.0.8");
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    let path = folder.path().join("hosts");
    std::fs::write(&path, "127.0.0.8 here.lan\n").unwrap();
    settings.resolver.hosts = path.into();
    let mut reactor = Reactor::new(settings);
    assert_eq!(reactor.outcome(&name("here.lan", address.port())).unwrap().peer, address);
    assert_eq!(reactor.counters.dns_queries.value(), 0);
}

#[test]
fn a_thousand_dials_at_once_all_end_and_nothing_is_left() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (listener, address) = listener("127.0.0.1");
    let accepting = std::thread::spawn(move || (0..250).map(|_| listener.accept().unwrap()).collect::<Vec<_>>());
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    let closed = closed_address();
    for _ in 0..250 {
        reactor.dial(&name("www.example.org", address.port()));
        reactor.dial(&name("missing.example.org", 80));
        reactor.dial(&Target::from(closed));
        let id = reactor.dial(&name("www.example.org", closed.port()));
        reactor.cancel(id);
    }
    let mut ends = [0; 3];
    for _ in 0..750 {
        match reactor.next_finished().result {
            Ok(_) => ends[0] += 1,
            Err(DialError::NoSuchName) => ends[1] += 1,
            Err(DialError::Refused) => ends[2] += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(ends, [250; 3]);
    assert_eq!((reactor.dialer.under_way(), reactor.dialer.look_ups_under_way()), (0, 0));
    assert_eq!(server.queries_over_udp.load(Ordering::Relaxed), 4, "two names in two families");
    accepting.join().unwrap();
}
