//! The end of the server: who is waiting is still served, what runs may finish, what idles is cut at the deadline.

mod support;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, request};
use support::origin::Origin;
use support::pattern;
use support::server::{ALICE, Options, Server};
use support::{PATIENCE, wait_until};
use vless_rust::session::close::CloseReason;

const MIB: u64 = 1 << 20;

fn assert_refused(server: &Server) {
    let error = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn wait_until_refused(server: &Server) {
    wait_until("new connections are refused", || TcpStream::connect(server.address).is_err());
}

#[test]
fn a_server_without_sessions_stops_at_once() {
    let server = Server::start(Options { workers: 2, ..Options::default() });
    let start = Instant::now();
    server.reactor().drain(PATIENCE);
    wait_until("the workers have stopped", || server.reactor().is_stopped());
    assert!(start.elapsed() < PATIENCE / 2);
    assert_refused(&server);
}

#[test]
fn a_running_transfer_completes_while_new_clients_are_refused() {
    for options in [Options::default(), Options::tls()] {
        let server = Server::start(options);
        let origin = Origin::source(32 * MIB);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        server.reactor().drain(PATIENCE);
        wait_until_refused(&server);
        assert!(!server.reactor().is_stopped());
        let body = client.take(32 * MIB as usize);
        pattern::check(0, &body);
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        client.finish();
        wait_until("the worker has stopped", || server.reactor().is_stopped());
        assert_refused(&server);
        // The first looks whether clients are refused may have been sessions themselves.
        assert_eq!(server.closes(CloseReason::Finished), 1);
    }
}

/// With every session in use a client waits in the kernel's queue: it has seen its connection succeed, and must not be
/// reset because the server stops.
#[test]
fn a_client_in_the_queue_is_served_although_the_server_stops() {
    let server = Server::start(Options { sessions_max: 1, ..Options::default() });
    let origin = Origin::echo();
    let first = Client::open(&server, &ALICE, origin.address, b"first");
    first.take_response();
    assert_eq!(first.take(5), b"first");
    let queued = Client::open(&server, &ALICE, origin.address, b"queued");
    wait_until("accepting pauses", || server.totals().accept_paused_limit > 0);
    server.reactor().drain(PATIENCE);
    drop(first);
    queued.take_response();
    assert_eq!(queued.take(6), b"queued");
    queued.send(b"more").unwrap();
    assert_eq!(queued.take(4), b"more");
    drop(queued);
    wait_until("the worker has stopped", || server.reactor().is_stopped());
    assert_refused(&server);
    assert_eq!(server.closes(CloseReason::Finished), 2);
}

#[test]
fn a_burst_of_clients_just_before_the_end_is_served() {
    let server = Server::start(Options { workers: 2, ..Options::default() });
    let origin = Origin::echo();
    let clients: Vec<_> = (0..200).map(|_| Client::connect(&server)).collect();
    server.reactor().drain(PATIENCE);
    thread::scope(|scope| {
        for client in &clients {
            let (server, origin) = (&server, &origin);
            scope.spawn(move || {
                client.send(&request(&ALICE, origin.address)).unwrap();
                client.send(b"hello").unwrap();
                client.take_response();
                assert_eq!(client.take(5), b"hello");
                assert!(!server.reactor().is_stopped());
            });
        }
    });
    drop(clients);
    wait_until("the workers have stopped", || server.reactor().is_stopped());
    assert_eq!(server.totals().sessions_accepted, 200);
}

#[test]
fn sessions_that_are_left_are_cut_when_the_time_is_over() {
    for options in [Options::default(), Options::tls()] {
        let server = Server::start(options);
        let origin = Origin::echo();
        let idle = Client::open(&server, &ALICE, origin.address, b"hello");
        idle.take_response();
        assert_eq!(idle.take(5), b"hello");
        let silent = Client::connect(&server);
        wait_until("both are accepted", || server.reactor().sessions() == 2);
        let (start, timeout) = (Instant::now(), Duration::from_millis(400));
        server.reactor().drain(timeout);
        // In TLS the client takes an end without close_notify for an error.
        assert_eq!(idle.recv(&mut [0]).unwrap(), 0);
        assert_eq!(silent.recv(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() >= timeout);
        wait_until("the worker has stopped", || server.reactor().is_stopped());
        let reasons: Vec<_> = server.closed(2).iter().map(|record| record.reason).collect();
        assert_eq!(reasons, [CloseReason::Shutdown; 2]);
        assert_eq!((server.reactor().sessions(), server.totals().buffers_held), (0, 0));
        assert_refused(&server);
    }
}

#[test]
fn dropping_the_reactor_cuts_everything() {
    let origin = Origin::echo();
    let server = Server::start(Options::default());
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    drop(server);
    assert_eq!(client.recv(&mut [0]).unwrap(), 0);
}
