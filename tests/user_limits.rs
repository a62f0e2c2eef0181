//! What a user's limits let through, on real sockets: speed, quota, sessions and addresses.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, request};
use support::server::{ALICE, BOB, Options, Server};
use support::{bounded, connect_from, wait_until};
use vless_rust::session::close::CloseReason;
use vless_rust::stats::gate::Limits;

const QUOTA: u64 = 24 << 20;

/// A target that sends without end, or reads without end, on each connection.
fn target(sends: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            thread::spawn(move || {
                let mut socket = bounded(socket);
                let mut chunk = vec![7; 64 << 10];
                if sends {
                    while socket.write_all(&chunk).is_ok() {}
                } else {
                    while socket.read(&mut chunk).is_ok_and(|count| count > 0) {}
                }
            });
        }
    });
    address
}

/// Downloads on each of `sessions` connections until it is cut or `until`; returns what each got.
fn download(server: &Server, target: SocketAddr, sessions: usize, until: Instant) -> Vec<u64> {
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let client = Client::open(server, &ALICE, target, b"");
            thread::spawn(move || {
                let (mut got, mut chunk) = (0, vec![0; 64 << 10]);
                client.set_read_timeout(Duration::from_millis(100));
                while Instant::now() < until {
                    match client.recv(&mut chunk) {
                        Ok(0) => break,
                        Ok(count) => got += count as u64,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
                got
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn a_speed_limit_holds_over_all_sessions_and_is_shared_evenly() {
    let target = target(true);
    for (tls, workers, sessions, rate) in [(false, 1, 1, 1 << 20), (true, 2, 8, 1 << 20), (false, 2, 4, 8 << 20)] {
        let server = Server::start(Options { tls, workers, ..Options::default() });
        server.limit(&ALICE, Limits { down_bytes_per_second_max: rate, ..Limits::default() });
        let seconds = 4;
        let got = download(&server, target, sessions, Instant::now() + Duration::from_secs(seconds));
        let total: u64 = got.iter().sum();
        // A quarter of a second's bytes may come at once at the start.
        let most = rate * (4 * seconds + 1) / 4 + rate / 10;
        assert!(total <= most, "{total} of {most} bytes with {sessions} sessions");
        // On a busy machine less may get through, but not nothing.
        assert!(total >= rate * seconds / 2, "{total} bytes with {sessions} sessions");
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(*most <= least * 3 + (256 << 10), "{got:?}");
    }
}

#[test]
fn others_are_not_held_back() {
    let target = target(true);
    let server = Server::start(Options::default());
    server.limit(&ALICE, Limits { down_bytes_per_second_max: 64 << 10, ..Limits::default() });
    let _held_back = Client::open(&server, &ALICE, target, b"");
    let bob = Client::open(&server, &BOB, target, b"");
    let start = Instant::now();
    bob.take(32 << 20);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_quota_is_not_passed_by_more_than_a_mebibyte_whatever_the_number_of_sessions() {
    let target = target(true);
    for (tls, workers, sessions, slice_bytes) in
        [(false, 1, 1, 64 << 10), (true, 2, 8, 1 << 20), (false, 2, 40, 64 << 10)]
    {
        let server = Server::start(Options { tls, workers, ..Options::default() });
        server.limit(&ALICE, Limits { quota_bytes: QUOTA, slice_bytes, ..Limits::default() });
        let until = Instant::now() + Duration::from_secs(20);
        let stop = Arc::new(AtomicU64::new(0));
        thread::scope(|scope| {
            let ends = Arc::clone(&stop);
            let server = &server;
            let downloads = scope.spawn(move || {
                let got = download(server, target, sessions, until);
                ends.store(1, Ordering::Relaxed);
                got
            });
            wait_until("the quota is used up", || server.user(&ALICE).downlink_bytes >= QUOTA);
            // The supervisor cuts; here nobody does, and nothing more may come all the same.
            thread::sleep(Duration::from_millis(300));
            let used = server.user(&ALICE).downlink_bytes;
            assert!(used <= QUOTA + (1 << 20), "{} bytes over with {sessions} sessions", used - QUOTA);
            server.cut(&ALICE, CloseReason::QuotaUsed);
            let got: u64 = downloads.join().unwrap().iter().sum();
            assert!(got <= QUOTA + (1 << 20) + 2 * sessions as u64);
        });
        server.wait_until_empty();
    }
}

/// Uploads on each of `sessions` connections until it is cut.
fn upload(server: &Server, target: SocketAddr, sessions: usize) -> Vec<thread::JoinHandle<()>> {
    let open = |_| {
        let client = Client::open(server, &ALICE, target, b"");
        thread::spawn(move || {
            let chunk = vec![1; 64 << 10];
            while client.send(&chunk).is_ok() {}
        })
    };
    (0..sessions).map(open).collect()
}

/// Has `sessions` uploads over TLS use up a quota, and looks how much they have used then.
fn use_up(server: &Server, target: SocketAddr, sessions: usize, quota: u64) {
    server.limit(&ALICE, Limits { quota_bytes: quota, slice_bytes: 64 << 10, ..Limits::default() });
    let uploads = upload(server, target, sessions);
    wait_until("the quota is used up", || server.user(&ALICE).uplink_bytes >= quota);
    // Nobody refuses those who come late here, as the supervisor would.
    wait_until("all have come", || server.user(&ALICE).sessions_active == sessions as u64);
    let used = server.user(&ALICE).uplink_bytes;
    assert!(used <= quota + (1 << 20), "{} bytes over", used - quota);
    server.cut(&ALICE, CloseReason::QuotaUsed);
    for upload in uploads {
        upload.join().unwrap();
    }
    server.wait_until_empty();
}

#[test]
fn sessions_that_hold_the_beginnings_of_records_use_all_of_a_quota() {
    let target = target(false);
    let server = Server::start(Options { workers: 2, ..Options::tls() });
    for round in 1..=4 {
        // Another end each time, so that other parts of records are left over.
        use_up(&server, target, 8, round * ((4 << 20) + 7777));
    }
}

#[test]
fn sessions_that_hold_whole_records_use_all_of_a_quota() {
    let target = target(false);
    let server = Server::start(Options { workers: 2, ..Options::tls() });
    for round in 1..=3 {
        // The more there are, the more of them hold a record that did not fit behind those received with it. What is
        // reserved for that is kept from the others, until it is delivered.
        use_up(&server, target, 150, round * ((16 << 20) + 7777));
    }
}

#[test]
fn a_client_that_never_finishes_its_record_does_not_keep_the_last_bytes_of_a_quota() {
    let target = target(false);
    let server = Server::start(Options::tls());
    server.limit(&ALICE, Limits { quota_bytes: 4 << 20, ..Limits::default() });
    let silent = Client::open(&server, &ALICE, target, b"x");
    wait_until("it is served", || server.user(&ALICE).uplink_bytes == 1);
    // A record of 16 KiB, of which the last byte is missing.
    let mut record = vec![7; 5 + (16 << 10) - 1];
    record[..5].copy_from_slice(&[23, 3, 3, 0x40, 0]);
    silent.send_raw(&record).unwrap();
    let uploads = upload(&server, target, 2);
    wait_until("the quota is used up", || server.user(&ALICE).uplink_bytes >= 4 << 20);
    wait_until("all have come", || server.user(&ALICE).sessions_active == 3);
    server.cut(&ALICE, CloseReason::QuotaUsed);
    for upload in uploads {
        upload.join().unwrap();
    }
}

#[test]
fn uploads_count_against_the_quota_too() {
    let target = target(false);
    let server = Server::start(Options::tls());
    server.limit(&ALICE, Limits { quota_bytes: 4 << 20, ..Limits::default() });
    let client = Client::open(&server, &ALICE, target, b"");
    client.set_write_timeout(Duration::from_millis(500));
    let chunk = vec![1; 64 << 10];
    while client.send(&chunk).is_ok() {}
    let used = server.user(&ALICE).uplink_bytes;
    assert!((4 << 20..5 << 20).contains(&used), "{used}");
    // The supervisor does that within a second.
    server.cut(&ALICE, CloseReason::QuotaUsed);
    server.closed_for(CloseReason::QuotaUsed);
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_counted() {
    let target = target(true);
    let server = Server::start(Options::default());
    server.limit(&ALICE, Limits { sessions_max: 2, ..Limits::default() });
    let first = Client::open(&server, &ALICE, target, b"");
    let second = Client::open(&server, &ALICE, target, b"");
    first.take(10);
    second.take(10);
    let third = Client::open(&server, &ALICE, target, b"");
    assert_eq!(third.recv_to_end().unwrap(), b"");
    wait_until("it is counted", || server.closes(CloseReason::UserSessionsLimit) == 1);
    drop(first);
    wait_until("one is gone", || server.user(&ALICE).sessions_active == 1);
    Client::open(&server, &ALICE, target, b"").take(10);
}

#[test]
fn addresses_beyond_the_limit_and_one_guest_are_refused() {
    let target = target(true);
    let server = Server::start(Options { listen: Ipv4Addr::UNSPECIFIED.into(), ..Options::default() });
    server.limit(&ALICE, Limits { addresses_max: 1, ..Limits::default() });
    let port = server.address.port();
    let from = |last: u8| {
        let mut socket = connect_from(Ipv4Addr::new(127, 0, 0, last).into(), (Ipv4Addr::LOCALHOST, port).into());
        socket.write_all(&request(&ALICE, target)).unwrap();
        socket
    };
    let mut first = from(1);
    first.read_exact(&mut [0; 10]).unwrap();
    let mut guest = from(2);
    guest.read_exact(&mut [0; 10]).unwrap();
    let mut heard = Vec::new();
    from(3).read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"");
    wait_until("it is counted", || server.closes(CloseReason::UserAddressesLimit) == 1);
    from(1).read_exact(&mut [0; 10]).unwrap();
}
