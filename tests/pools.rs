//! Both pools on real sockets: spares that nobody used, targets that are left alone, memory that runs out, and many
//! sessions among which no byte gets to the wrong one.
//!
//! `POOL_SESSIONS=50000` runs as many sessions as a release must show; the everyday test runs fewer.

mod support;

use std::env;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::client::{Client, request};
use support::origin::Origin;
use support::server::{ALICE, Options, Server};
use support::{PATIENCE, alone, bounded, reset_on_close, wait_until};
use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::session::Target;
use vless_rust::stats::pools::ConnectionPoolStats;

const POOL: PoolSettings = PoolSettings {
    spares_per_target_max: 20,
    spares_max: 100,
    idle_max: Duration::from_secs(2),
    lifetime_max: Duration::from_secs(1800),
    connect_timeout: Duration::from_secs(10),
    health_check_interval: Duration::from_secs(30),
    warm_up_spares: 3,
};

fn server(warm_up: &[SocketAddr]) -> Server {
    let warm_up = warm_up.iter().map(|&address| Target::from(address)).collect();
    Server::start(Options { pool: Some(POOL), warm_up, ..Options::default() })
}

fn stats(server: &Server) -> ConnectionPoolStats {
    ConnectionPoolStats::new(&server.totals())
}

/// What was created is ready, handed out or closed.
#[track_caller]
fn assert_balanced(stats: &ConnectionPoolStats) {
    assert_eq!(stats.total_created, stats.current_idle + stats.total_handed_out + stats.total_closed, "{stats:?}");
}

/// One session that says `text` and hears it back.
#[track_caller]
fn echo(server: &Server, target: SocketAddr, text: &[u8]) {
    let client = Client::open(server, &ALICE, target, text);
    client.take_response();
    assert_eq!(client.take(text.len()), text);
    client.finish();
    assert_eq!(client.recv_to_end().unwrap(), b"");
}

#[test]
fn steady_demand_is_answered_from_the_pool_and_ends_with_it() {
    let (server, origin) = (server(&[]), Origin::echo());
    let start = Instant::now();
    let mut dials = 0;
    wait_until("the pool has answered ten dials", || {
        dials += 1;
        echo(&server, origin.address, format!("dial {dials}").as_bytes());
        // Not a wait for anything: this is how often the target is in demand.
        thread::sleep(Duration::from_millis(50));
        stats(&server).cache_hits >= 10
    });
    assert!(start.elapsed() > Duration::from_secs(2), "demand is not known so soon");
    wait_until("no spare is left", || server.totals().pool_targets == 1 && stats(&server).current_idle == 0);
    server.wait_until_empty();
    let stats = stats(&server);
    assert_eq!(stats.cache_hits + stats.cache_misses, dials);
    assert_eq!((stats.current_active, stats.spares_connecting), (0, 0));
    assert_balanced(&stats);
}

#[test]
fn one_visit_makes_the_connections_it_asks_for_and_no_others() {
    let (server, origin) = (server(&[]), Origin::echo());
    for dial in 0..30 {
        echo(&server, origin.address, format!("dial {dial}").as_bytes());
    }
    let stats = stats(&server);
    assert_eq!((stats.total_created, stats.spare_attempts), (30, 0));
}

#[test]
fn a_named_target_is_connected_before_anybody_asks() {
    let origin = Origin::echo();
    let server = server(&[origin.address]);
    wait_until("three spares are there", || stats(&server).current_idle == 3);
    echo(&server, origin.address, b"first");
    let stats = stats(&server);
    assert_eq!((stats.cache_hits, stats.cache_misses), (1, 0));
}

#[test]
fn a_name_is_answered_from_the_pool_like_its_address() {
    let origin = Origin::echo();
    let server = server(&[origin.address]);
    wait_until("three spares are there", || stats(&server).current_idle == 3);
    // The address of the request, of type 1 and with 4 bytes, becomes a name, of type 2 and with its length.
    let mut bytes = request(&ALICE, origin.address);
    bytes.truncate(bytes.len() - 5);
    bytes.extend([&[2, 9], &b"localhost"[..], b"by name"].concat());
    let client = Client::connect(&server);
    client.send(&bytes).unwrap();
    client.take_response();
    assert_eq!(client.take(7), b"by name");
    client.finish();
    assert_eq!(client.recv_to_end().unwrap(), b"");
    let stats = stats(&server);
    assert_eq!((stats.cache_hits, stats.cache_misses), (1, 0));
}

#[test]
fn what_a_target_said_to_a_spare_is_its_users_to_read() {
    let origin = Origin::greeter(b"220 ready\r\n");
    let server = server(&[origin.address]);
    wait_until("all spares were greeted", || stats(&server).current_idle == 3 && origin.sent() == 33);
    let client = Client::open(&server, &ALICE, origin.address, b"EHLO\r\n");
    client.take_response();
    assert_eq!(client.take(17), b"220 ready\r\nEHLO\r\n");
    assert_eq!(stats(&server).cache_hits, 1);
}

#[test]
fn a_target_that_closes_spares_gets_no_more_and_still_serves() {
    let origin = Origin::closer();
    let server = server(&[origin.address]);
    wait_until("it has closed all its spares", || {
        let stats = stats(&server);
        stats.closed_by_target >= 2 && stats.current_idle == 0 && stats.spares_connecting == 0
    });
    let before = stats(&server).spare_attempts;
    for _ in 0..5 {
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        assert_eq!(client.recv_to_end().unwrap(), b"");
    }
    let stats = stats(&server);
    assert_eq!(stats.cache_hits, 0);
    assert!(stats.spare_attempts <= before + 1, "{stats:?}");
}

#[test]
fn a_drain_closes_the_spares_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server(&[listener.local_addr().unwrap()]);
    let spares: Vec<_> = (0..3).map(|_| bounded(listener.accept().unwrap().0)).collect();
    wait_until("all spares are ready", || stats(&server).current_idle == 3);
    server.reactor().drain(PATIENCE);
    for mut spare in spares {
        assert_eq!(spare.read(&mut [0]).unwrap(), 0, "an end, not a reset");
    }
    wait_until("the server has stopped", || server.reactor().is_stopped());
    let stats = stats(&server);
    assert_eq!((stats.current_idle, stats.closed_for_room), (0, 3));
    assert_balanced(&stats);
}

/// A client that has not said anything yet, whom worker `number` accepted.
fn client_of_worker(server: &Server, number: usize) -> Client {
    let mut others = Vec::new();
    loop {
        let client = Client::connect(server);
        wait_until("it was accepted", || server.reactor().sessions() > others.len());
        if server.reactor().counters()[number].sessions_active.value() > 0 {
            return client;
        }
        others.push(client);
    }
}

#[test]
fn a_udp_socket_takes_the_place_of_spares_when_descriptors_run_out() {
    alone::run("a_udp_socket_takes_the_place_of_spares_when_descriptors_run_out", || {
        // The kernel accepts for it: this process has no descriptor for that.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let warm_up = vec![Target::from(target)];
        let pool = PoolSettings { warm_up_spares: 2, idle_max: Duration::from_secs(300), ..POOL };
        let server = Server::start(Options { pool: Some(pool), warm_up, ..Options::default() });
        wait_until("both spares are ready", || stats(&server).current_idle == 2);
        let client = Client::connect(&server);
        wait_until("it was accepted", || server.reactor().sessions() == 1);
        alone::leave_descriptors(0);

        let mut packet = request(&ALICE, udp.local_addr().unwrap());
        packet[18] = 2;
        packet.extend([0, 4, b'p', b'i', b'n', b'g']);
        client.send(&packet).unwrap();
        let mut heard = [0; 8];
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(udp.recv(&mut heard).unwrap(), 4);
        assert_eq!((stats(&server).closed_for_room, stats(&server).current_idle), (2, 0));
    });
}

#[test]
fn another_workers_spares_go_when_descriptors_run_out() {
    alone::run("another_workers_spares_go_when_descriptors_run_out", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let warm_up = vec![Target::from(target)];
        // Shared out, that is one spare for the first worker and none for the second.
        let pool = PoolSettings { warm_up_spares: 1, idle_max: Duration::from_secs(300), ..POOL };
        let server = Server::start(Options { pool: Some(pool), warm_up, workers: 2, ..Options::default() });
        wait_until("the spare is ready", || stats(&server).current_idle == 1);
        let client = client_of_worker(&server, 1);
        alone::leave_descriptors(0);
        client.send(&request(&ALICE, target)).unwrap();
        wait_until("the other worker gave way", || stats(&server).closed_for_room == 1);
        assert_eq!(server.reactor().counters()[1].dials_no_descriptors.value(), 1);
        assert_eq!(server.reactor().counters()[0].spares_closed_for_room.value(), 1);
    });
}

#[test]
fn sessions_wait_when_buffer_memory_runs_out_and_go_on_when_it_is_back() {
    // Few sessions of which nobody knows whether they take anything: reads for them get short as it runs out.
    const MEMORY: usize = 256 << 10;
    // Copying only: a pipe would need no memory. Each stalled session keeps what its target does not take.
    let options = Options { splice: false, buffer_memory_max: MEMORY, ..Options::default() };
    let server = Server::start(options);
    // The kernel accepts for it, and nobody reads.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let chunk = vec![7; 1 << 20];
    let mut stalled = Vec::new();
    wait_until("buffer memory has run out", || {
        let client = bounded(connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address));
        client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
        (&client).write_all(&request(&ALICE, deaf.local_addr().unwrap())).unwrap();
        // Until nobody on the way takes any more.
        while (&client).write(&chunk).is_ok() {}
        stalled.push(client);
        server.totals().buffer_waits > 0
    });
    let held = server.totals().buffer_bytes_held;
    assert!(held <= (MEMORY + (256 << 10)) as u64, "{held} bytes");

    let origin = Origin::echo();
    let waiting = Client::open(&server, &ALICE, origin.address, b"patience");
    waiting.set_read_timeout(Duration::from_millis(300));
    assert!(waiting.recv(&mut [0]).is_err(), "it has to wait");
    waiting.set_read_timeout(PATIENCE);
    drop((stalled, deaf));
    waiting.take_response();
    assert_eq!(waiting.take(8), b"patience");
    waiting.finish();
    assert_eq!(waiting.recv_to_end().unwrap(), b"");
    server.wait_until_empty();
    wait_until("nobody waits", || server.totals().sessions_awaiting_buffer == 0);
}

#[test]
fn no_byte_of_many_sessions_gets_to_another() {
    const THREADS: u64 = 16;
    let sessions = env::var("POOL_SESSIONS").map_or(3000, |text| text.parse::<u64>().expect("a number"));
    let settings = PoolSettings { idle_max: Duration::from_secs(5), ..POOL };
    let server = Server::start(Options { pool: Some(settings), workers: 2, ..Options::default() });
    let origin = Origin::echo_on(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let next = AtomicU64::new(0);
    let completed = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sessions {
                        return;
                    }
                    completed.fetch_add(u64::from(tagged(&server, origin.address.port(), number)), Ordering::Relaxed);
                }
            });
        }
    });
    server.wait_until_empty();
    wait_until("no spare is left", || server.totals().spares_idle + server.totals().spares_connecting == 0);
    let (totals, stats) = (server.totals(), stats(&server));
    assert_eq!((totals.targets_connected, totals.buffer_bytes_held, totals.pipes_held), (0, 0, 0));
    assert_eq!(stats.cache_hits + stats.cache_misses, totals.dials_connected + totals.dials_cancelled);
    assert_balanced(&stats);
    println!("{} of {sessions} sessions to their end, {stats:?}", completed.into_inner());
}

/// One session with bytes that no other has; most end in order, some break off. True for those that were checked to
/// their end.
fn tagged(server: &Server, port: u16, number: u64) -> bool {
    // Many source addresses, so that neither side runs out of ports while closed connections linger in the kernel.
    let source = Ipv4Addr::new(127, 1 + (number % 100) as u8, (number / 100 % 250) as u8, 1);
    // Half of all dials go to four targets, the others to a thousand.
    let target = if number.is_multiple_of(2) { number / 2 % 4 } else { 4 + number % 1000 };
    let target = SocketAddr::from(([127, 200, (target >> 8) as u8, 1 + target as u8 % 250], port));
    let client = bounded(connect_from(source, server.address));
    let length = [1, 40, 1500, 9000, 100_000][(number % 5) as usize];
    let tag: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(length).collect();
    (&client).write_all(&[&request(&ALICE, target)[..], &tag].concat()).unwrap();
    let mut heard = vec![0; 2 + length];
    match number % 16 {
        13 => {
            reset_on_close(&client);
            return false;
        }
        14 => return false,
        15 => {
            let half = heard.len() / 2 + 1;
            (&client).read_exact(&mut heard[..half]).unwrap();
            assert_eq!(heard[2..half], tag[..half - 2], "session {number}");
            reset_on_close(&client);
            return false;
        }
        _ => {}
    }
    client.shutdown(Shutdown::Write).unwrap();
    (&client).read_exact(&mut heard).unwrap();
    assert!(heard[..2] == [0, 0] && heard[2..] == tag, "session {number} heard something else");
    assert_eq!((&client).read(&mut [0]).unwrap(), 0, "session {number} heard more");
    true
}

fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}
