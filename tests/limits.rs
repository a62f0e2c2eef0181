//! Every limit on real sockets: deadlines, sessions, descriptors, and the share of the worker that one session gets.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use support::client::{Client, request};
use support::origin::Origin;
use support::server::{ALICE, Options, PATIENT, Server};
use support::thread_clock::ThreadClock;
use support::{PATIENCE, alone, bounded, wait_until};
use vless_rust::reactor::schedule::OPENING_GRACE;
use vless_rust::session::Timeouts;
use vless_rust::session::close::CloseReason;

const SHORT: Duration = Duration::from_millis(300);
/// What the clock of a deadline may run late on a busy machine; far below any other deadline here.
const LATE: Duration = Duration::from_secs(5);

/// A worker reads its clock once per turn, so what arrives late in a long turn of a busy machine counts from before it
/// was sent.
const EARLY: Duration = Duration::from_millis(100);

/// Pauses of accepting last so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn server(tls: bool, timeouts: Timeouts) -> Server {
    Server::start(Options { tls, timeouts, ..Options::default() })
}

fn both(timeouts: Timeouts) -> [Server; 2] {
    [server(false, timeouts), server(true, timeouts)]
}

/// Checks that `since` lies a `SHORT` deadline back, not much less and not much more.
#[track_caller]
fn assert_on_time(since: Instant) {
    let passed = since.elapsed();
    assert!(passed + EARLY >= SHORT && passed < SHORT + LATE, "after {passed:?}");
}

#[test]
fn a_handshake_that_is_not_done_in_time_is_cut() {
    let server = server(true, Timeouts { tls_handshake: SHORT, ..PATIENT });
    let start = Instant::now();
    let mut client = bounded(TcpStream::connect(server.address).unwrap());
    client.write_all(&[22, 3, 1]).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_on_time(start);
    server.closed_for(CloseReason::HandshakeTimeout);
}

#[test]
fn a_client_that_says_nothing_inside_is_cut() {
    for server in both(Timeouts { first_byte: SHORT, ..PATIENT }) {
        let start = Instant::now();
        let client = Client::connect(&server);
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        assert_on_time(start);
        server.closed_for(CloseReason::FirstByteTimeout);
    }
}

#[test]
fn a_client_may_connect_ahead_of_need() {
    for server in both(Timeouts { tls_handshake: SHORT, request: SHORT, ..PATIENT }) {
        let origin = Origin::echo();
        let client = Client::connect(&server);
        client.set_read_timeout(SHORT * 3);
        assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.send(&request(&ALICE, origin.address)).unwrap();
        client.send(b"hello").unwrap();
        client.set_read_timeout(PATIENCE);
        client.take_response();
        assert_eq!(client.take(5), b"hello");
    }
}

#[test]
fn a_request_that_trickles_in_is_cut_all_the_same() {
    for server in both(Timeouts { request: SHORT, ..PATIENT }) {
        let client = Client::connect(&server);
        let start = Instant::now();
        // The start of a header whose addons are longer than the time allows.
        client.send(&[&[0], &ALICE[..], &[255]].concat()).unwrap();
        client.set_read_timeout(Duration::from_millis(20));
        loop {
            match client.recv(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A byte of ours that crosses the end of theirs makes it a reset.
                end => {
                    assert!(
                        matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
                    );
                    break;
                }
            }
            let _ = client.send(&[8]);
            assert!(start.elapsed() < SHORT + LATE);
        }
        assert_on_time(start);
        server.closed_for(CloseReason::RequestTimeout);
    }
}

#[test]
fn a_relay_in_which_nothing_moves_is_cut() {
    for server in both(Timeouts { idle: SHORT, ..PATIENT }) {
        let origin = Origin::echo();
        let client = Client::open(&server, &ALICE, origin.address, b"hello");
        client.take_response();
        let start = Instant::now();
        assert_eq!(client.take(5), b"hello");
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() < SHORT + LATE);
        server.closed_for(CloseReason::Idle);
        origin.outcome().unwrap();
    }
}

#[test]
fn bytes_in_one_direction_keep_the_other_alive() {
    for server in both(Timeouts { idle: SHORT, ..PATIENT }) {
        let origin = Origin::ticker(Duration::from_millis(50));
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        let start = Instant::now();
        while start.elapsed() < SHORT * 4 {
            client.take(1);
        }
        assert_eq!(server.closes(CloseReason::Idle), 0);
    }
}

#[test]
fn a_relay_that_is_half_closed_and_silent_is_cut_early() {
    for server in both(Timeouts { half_close: SHORT, ..PATIENT }) {
        let origin = Origin::holder();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        let start = Instant::now();
        client.finish();
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        assert_on_time(start);
        server.closed_for(CloseReason::HalfCloseTimeout);
    }
}

#[test]
fn a_half_closed_relay_that_moves_is_not_cut() {
    for server in both(Timeouts { half_close: SHORT, ..PATIENT }) {
        let origin = Origin::ticker(Duration::from_millis(50));
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        client.finish();
        let start = Instant::now();
        while start.elapsed() < SHORT * 4 {
            client.take(1);
        }
        assert_eq!(server.closes(CloseReason::HalfCloseTimeout), 0);
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    for server in both(Timeouts { write_stall: SHORT, ..PATIENT }) {
        let origin = Origin::source(1 << 40);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        server.closed_for(CloseReason::WriteStall);
        assert!(origin.outcome().is_err());
    }
}

#[test]
fn a_target_that_takes_nothing_is_cut() {
    for server in both(Timeouts { write_stall: SHORT, ..PATIENT }) {
        let origin = Origin::deaf();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        let chunk = vec![0; 64 << 10];
        while client.send(&chunk).is_ok() {}
        server.closed_for(CloseReason::WriteStall);
    }
}

#[test]
fn a_slow_reader_is_not_a_stalled_one() {
    for server in both(Timeouts { write_stall: SHORT, idle: SHORT, ..PATIENT }) {
        let origin = Origin::source(1 << 40);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        let start = Instant::now();
        while start.elapsed() < SHORT * 4 {
            client.take(512 << 10);
        }
        assert_eq!(server.reactor().sessions(), 1);
    }
}

#[test]
fn a_thousand_silent_clients_are_gone_at_the_deadline() {
    raise_descriptor_limit();
    let server = Server::start(Options {
        tls: true,
        workers: 2,
        timeouts: Timeouts { tls_handshake: Duration::from_secs(2), ..PATIENT },
        ..Options::default()
    });
    let clients: Vec<_> = (0..1000).map(|_| bounded(TcpStream::connect(server.address).unwrap())).collect();
    wait_until("all are accepted", || server.totals().sessions_accepted == 1000);
    assert_eq!(server.totals().buffers_held, 0);
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    server.wait_until_empty();
    assert_eq!(server.closes(CloseReason::HandshakeTimeout), 1000);
}

#[test]
fn clients_beyond_the_limit_wait_and_are_served_when_one_ends() {
    alone::run("clients_beyond_the_limit_wait_and_are_served_when_one_ends", reach_the_session_limit);
}

fn reach_the_session_limit() {
    let (server, origin) = (Server::start(Options { sessions_max: 3, ..Options::default() }), Origin::echo());
    let open = || Client::open(&server, &ALICE, origin.address, b"hello");
    let served: Vec<_> = (0..3).map(|_| open()).collect();
    for client in &served {
        client.take_response();
        assert_eq!(client.take(5), b"hello");
    }
    let waiting: Vec<_> = (0..3).map(|_| open()).collect();
    wait_until("accepting pauses", || server.totals().accept_paused_limit > 0);
    let used = ThreadClock::of("worker-0").used_in_a_second();
    assert!(used < Duration::from_millis(300), "waiting took {used:?} of a second");
    assert_eq!((server.reactor().sessions(), server.totals().sessions_accepted), (3, 3));
    for (gone, client) in served.into_iter().zip(&waiting) {
        drop(gone);
        client.take_response();
        assert_eq!(client.take(5), b"hello");
    }
    assert_eq!(server.totals().sessions_accepted, 6);
}

/// Strangers who say nothing do not keep users out for longer than a few round trips.
#[test]
fn strangers_at_the_session_limit_give_way_to_users() {
    for options in [Options::default(), Options::tls()] {
        let (server, origin) = (Server::start(Options { sessions_max: 40, ..options }), Origin::echo());
        let user = Client::open(&server, &ALICE, origin.address, b"hello");
        user.take_response();
        let strangers: Vec<_> = (0..40).map(|_| bounded(TcpStream::connect(server.address).unwrap())).collect();
        let start = Instant::now();
        let late = Client::open(&server, &ALICE, origin.address, b"hello");
        late.take_response();
        assert_eq!(late.take(5), b"hello");
        assert!(start.elapsed() < PATIENT.first_byte / 2, "{:?}", start.elapsed());
        assert!(server.closes(CloseReason::OpeningShed) > 0, "the oldest had to go");
        assert!(server.reactor().sessions() <= 40);
        assert_eq!(user.take(5), b"hello", "whoever is admitted stays");
        drop(strangers);
    }
}

/// They may not even be as many as there are sessions: each costs memory of ours and of the kernel.
#[test]
fn clients_that_are_not_admitted_are_a_part_of_the_sessions_only() {
    let server = Server::start(Options { sessions_max: 80, ..Options::default() });
    let strangers: Vec<_> = (0..40).map(|_| bounded(TcpStream::connect(server.address).unwrap())).collect();
    wait_until("accepting pauses", || server.totals().accept_paused_limit > 0);
    assert!(server.reactor().sessions() <= 20, "{} strangers", server.reactor().sessions());
    wait_until("the oldest give way to the others", || server.totals().sessions_accepted == 40);
    assert!(server.closes(CloseReason::OpeningShed) >= 20 && server.reactor().sessions() <= 20);
    drop(strangers);
}

/// As many as there may be, and all have had their time. But nobody waits for the place of one.
#[test]
fn strangers_stay_while_nobody_wants_their_place() {
    let server = Server::start(Options { sessions_max: 40, ..Options::default() });
    let strangers: Vec<_> = (0..16).map(|_| bounded(TcpStream::connect(server.address).unwrap())).collect();
    wait_until("all are accepted", || server.totals().sessions_accepted == 16);
    thread::sleep(OPENING_GRACE + ACCEPT_PAUSE * 3);
    let totals = server.totals();
    assert_eq!((totals.accept_paused_limit, server.closes(CloseReason::OpeningShed)), (0, 0));
    let late = bounded(TcpStream::connect(server.address).unwrap());
    wait_until("the place is taken", || server.totals().sessions_accepted == 17);
    assert_eq!(server.closes(CloseReason::OpeningShed), 1);
    drop((strangers, late));
    server.wait_until_empty();
}

#[test]
fn strangers_stay_while_nobody_wants_their_descriptor() {
    alone::run("strangers_stay_while_nobody_wants_their_descriptor", run_out_of_descriptors_for_nobody);
}

fn run_out_of_descriptors_for_nobody() {
    const STRANGERS: u64 = 5;
    let server = Server::start(Options::default());
    // A worker that has accepted somebody has all that it needs for itself.
    let first = TcpStream::connect(server.address).unwrap();
    wait_until("it is accepted", || server.totals().sessions_accepted == 1);
    drop(first);
    server.wait_until_empty();
    let sockets: Vec<_> = (0..STRANGERS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    alone::leave_descriptors(STRANGERS);
    for socket in &sockets {
        socket.connect(&SockAddr::from(server.address)).unwrap();
    }
    wait_until("all are accepted", || server.totals().sessions_accepted == 1 + STRANGERS);
    thread::sleep(OPENING_GRACE + ACCEPT_PAUSE * 3);
    assert_eq!((server.totals().accept_paused_descriptors, server.closes(CloseReason::OpeningShed)), (0, 0));
}

#[test]
fn running_out_of_descriptors_pauses_accepting_and_passes() {
    alone::run("running_out_of_descriptors_pauses_accepting_and_passes", run_out_of_descriptors);
}

fn run_out_of_descriptors() {
    let server = Server::start(Options::default());
    let mut clock = ThreadClock::of("worker-0");
    // The clients' own descriptors are made beforehand: connecting needs none.
    let sockets: Vec<_> = (0..40).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    alone::leave_descriptors(10);
    let connect = |socket: Socket| {
        socket.connect(&SockAddr::from(server.address)).unwrap();
        bounded(TcpStream::from(socket))
    };
    let mut clients: Vec<_> = sockets.into_iter().map(connect).collect();

    wait_until("accepting pauses", || server.totals().accept_paused_descriptors > 0);
    let accepted = server.totals().sessions_accepted;
    assert!((1..=10).contains(&accepted), "{accepted} accepted");
    let paused_before = server.totals().accept_paused_descriptors;
    let used = clock.used_in_a_second();
    assert!(used < Duration::from_millis(300), "waiting took {used:?} of a second");
    let pauses = server.totals().accept_paused_descriptors - paused_before;
    assert!((1..=30).contains(&pauses), "{pauses} attempts in a second");
    // Who has had its time gives way, as long as it is not admitted.
    let shed = server.closes(CloseReason::OpeningShed);
    assert!(server.totals().sessions_accepted <= accepted + shed);

    // A client's wrong first byte ends it, which frees a descriptor for the next.
    for client in &mut clients {
        let _ = client.write_all(&[1]);
    }
    for mut client in clients {
        // One that was shed with its byte unread sees a reset.
        assert!(client.read(&mut [0]).is_ok_and(|count| count == 0) || server.closes(CloseReason::OpeningShed) > 0);
    }
    server.wait_until_empty();
    assert_eq!(server.closes(CloseReason::NotVless) + server.closes(CloseReason::OpeningShed), 40);
}

#[test]
fn a_listener_that_fails_for_good_does_not_keep_its_worker_busy() {
    alone::run("a_listener_that_fails_for_good_does_not_keep_its_worker_busy", accept_from_a_broken_listener);
}

fn accept_from_a_broken_listener() {
    // It stays in the poll, reports events, and every accept fails.
    let server = Server::start_with(Options::default(), |listener| {
        SockRef::from(listener).shutdown(Shutdown::Read).unwrap();
    });
    wait_until("accepting fails", || server.totals().accept_errors > 0);
    let failed_before = server.totals().accept_errors;
    let used = ThreadClock::of("worker-0").used_in_a_second();
    assert!(used < Duration::from_millis(300), "failing took {used:?} of a second");
    let failed = server.totals().accept_errors - failed_before;
    assert!((1..=2000).contains(&failed), "{failed} attempts in a second");
    let start = Instant::now();
    server.reactor().drain(PATIENCE);
    wait_until("nothing keeps the drain", || server.reactor().is_stopped());
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_busy_session_leaves_room_for_the_others() {
    for options in [Options::default(), Options::tls()] {
        let server = Server::start(options);
        let (source, echo) = (Origin::source(1 << 40), Origin::echo());
        let busy = Client::open(&server, &ALICE, source.address, b"");
        busy.take_response();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut chunk = vec![0; 256 << 10];
                while busy.recv(&mut chunk).is_ok_and(|count| count > 0) {}
            });
            let client = Client::open(&server, &ALICE, echo.address, b"");
            client.send(b"ping").unwrap();
            client.take_response();
            assert_eq!(client.take(4), b"ping");
            let moved = || server.totals().downlink_bytes;
            wait_until("the busy session is busy", || moved() > 8 << 20);
            let (start, moved_before) = (Instant::now(), moved());
            for _ in 0..100 {
                client.send(b"ping").unwrap();
                assert_eq!(client.take(4), b"ping");
            }
            assert!(start.elapsed() < LATE, "100 round trips took {:?}", start.elapsed());
            assert!(moved() > moved_before + 400, "nothing was moved beside them");
            busy.break_off();
            reader.join().unwrap();
        });
    }
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
