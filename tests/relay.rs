//! The relay on real sockets: every byte arrives, and ends and breaks travel as they should.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr};
use std::thread;

use rustls::version::{TLS12, TLS13};
use support::client::{Client, records, request};
use support::origin::Origin;
use support::pattern::{self, Random};
use support::server::{ALICE, BOB, Options, Server};
use support::wait_until;
use vless_rust::session::close::CloseReason;

const MIB: u64 = 1 << 20;

fn both() -> [Server; 2] {
    [Server::start(Options::default()), Server::start(Options::tls())]
}

/// Sends `bytes` of the pattern in chunks of random sizes.
fn send_pattern(client: &Client, bytes: u64, seed: u64) {
    let mut random = Random(seed);
    let mut chunk = vec![0; 200_000];
    let mut offset = 0;
    while offset < bytes {
        let longest = [10, 1000, 20_000, 200_000][random.below(4)];
        let length = (1 + random.below(longest)).min((bytes - offset) as usize);
        pattern::fill(offset, &mut chunk[..length]);
        client.send(&chunk[..length]).unwrap();
        offset += length as u64;
    }
}

/// Receives `bytes` of the pattern in reads of random sizes.
fn take_pattern(client: &Client, bytes: u64, seed: u64) {
    let mut random = Random(seed);
    let mut chunk = vec![0; 100_000];
    let mut offset = 0;
    while offset < bytes {
        let length = (1 + random.below(chunk.len())).min((bytes - offset) as usize);
        let count = client.recv(&mut chunk[..length]).unwrap();
        assert_ne!(count, 0, "the stream ended after {offset} bytes");
        pattern::check(offset, &chunk[..count]);
        offset += count as u64;
    }
}

fn echo_everything(server: &Server, client: &Client, bytes: u64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            send_pattern(client, bytes, 0xec40);
            client.finish();
        });
        client.take_response();
        take_pattern(client, bytes, 0x4e40);
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
    });
    let record = server.closed_for(CloseReason::Finished);
    assert_eq!((record.uplink.payload_bytes, record.downlink.payload_bytes), (bytes, bytes));
    let (totals, user) = (server.totals(), server.user(&ALICE));
    assert_eq!((totals.uplink_bytes, totals.downlink_bytes), (bytes, bytes));
    assert_eq!((user.uplink_bytes, user.downlink_bytes, user.sessions_total), (bytes, bytes, 1));
}

#[test]
fn eight_mib_come_back_byte_for_byte_without_tls() {
    let (server, origin) = (Server::start(Options::default()), Origin::echo());
    let client = Client::open(&server, &ALICE, origin.address, b"");
    echo_everything(&server, &client, 8 * MIB);
}

#[test]
fn eight_mib_come_back_byte_for_byte_in_tls() {
    for versions in [[&TLS13], [&TLS12]] {
        let (server, origin) = (Server::start(Options::tls()), Origin::echo());
        let client = Client::connect_with(&server, &versions);
        client.send(&request(&ALICE, origin.address)).unwrap();
        echo_everything(&server, &client, 8 * MIB);
    }
}

#[test]
fn nothing_depends_on_splicing() {
    for splice in [true, false] {
        let (server, origin) = (Server::start(Options { splice, ..Options::default() }), Origin::source(8 * MIB));
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        take_pattern(&client, 8 * MIB, 11);
        client.finish();
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!(record.downlink.payload_bytes, 8 * MIB);
        assert_eq!(record.downlink.spliced_bytes > 0, splice);
    }
}

#[test]
fn the_smallest_reads_lose_nothing_either() {
    for options in [Options::default(), Options::tls()] {
        let (server, origin) = (Server::start(Options { read_bytes_max: 4096, ..options }), Origin::echo());
        let client = Client::open(&server, &ALICE, origin.address, b"");
        echo_everything(&server, &client, MIB);
    }
}

#[test]
fn a_header_in_single_bytes_is_understood() {
    for server in both() {
        let origin = Origin::echo();
        let client = Client::connect(&server);
        for byte in request(&ALICE, origin.address) {
            client.send(&[byte]).unwrap();
        }
        client.send(b"hello").unwrap();
        client.take_response();
        assert_eq!(client.take(5), b"hello");
    }
}

#[test]
fn the_first_payload_may_come_with_the_header() {
    for server in both() {
        let origin = Origin::echo();
        let first: Vec<u8> = (0..100_000).map(pattern::byte).collect();
        let client = Client::open(&server, &ALICE, origin.address, &first);
        client.take_response();
        take_pattern(&client, first.len() as u64, 1);
    }
}

#[test]
fn a_client_that_has_said_everything_still_gets_the_whole_answer() {
    for server in both() {
        let origin = Origin::answerer(6 * MIB);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        send_pattern(&client, MIB, 2);
        client.finish();
        client.take_response();
        take_pattern(&client, 6 * MIB, 3);
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        origin.outcome().unwrap();
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!((record.uplink.payload_bytes, record.downlink.payload_bytes), (MIB, 6 * MIB));
    }
}

#[test]
fn a_client_that_ends_tcp_without_close_notify_still_gets_the_whole_answer() {
    let (server, origin) = (Server::start(Options::tls()), Origin::answerer(2 * MIB));
    let client = Client::open(&server, &ALICE, origin.address, b"");
    client.finish_tcp();
    client.take_response();
    take_pattern(&client, 2 * MIB, 4);
    assert_eq!(client.recv(&mut [0]).unwrap(), 0);
    server.closed_for(CloseReason::Finished);
}

#[test]
fn close_notify_alone_ends_the_uplink() {
    let (server, origin) = (Server::start(Options::tls()), Origin::answerer(2 * MIB));
    let client = Client::open(&server, &ALICE, origin.address, b"");
    client.say_goodbye();
    client.take_response();
    take_pattern(&client, 2 * MIB, 5);
    assert_eq!(client.recv(&mut [0]).unwrap(), 0);
    drop(client);
    server.closed_for(CloseReason::Finished);
}

#[test]
fn a_target_that_has_said_everything_still_gets_the_whole_upload() {
    for server in both() {
        let origin = Origin::finisher();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        send_pattern(&client, 6 * MIB, 6);
        client.finish();
        origin.outcome().unwrap();
        assert_eq!(origin.received(), 6 * MIB);
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!((record.uplink.payload_bytes, record.downlink.payload_bytes), (6 * MIB, 0));
    }
}

#[test]
fn a_client_that_breaks_the_connection_breaks_it_for_the_target() {
    for server in both() {
        let origin = Origin::echo();
        let client = Client::open(&server, &ALICE, origin.address, b"hello");
        client.take_response();
        assert_eq!(client.take(5), b"hello");
        client.reset();
        assert_eq!(origin.outcome().unwrap_err().kind(), ErrorKind::ConnectionReset);
        server.closed_for(CloseReason::ClientReset);
    }
}

#[test]
fn a_client_that_breaks_off_a_download_breaks_it_for_the_target() {
    for server in both() {
        let origin = Origin::source(1 << 40);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        take_pattern(&client, MIB, 7);
        client.reset();
        assert!(matches!(origin.outcome().unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
        server.closed_for(CloseReason::ClientReset);
    }
}

#[test]
fn a_client_that_breaks_the_connection_after_its_end_breaks_it_for_the_target() {
    for server in both() {
        let origin = Origin::holder();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.finish();
        wait_until("the target has seen the end", || origin.ended() == 1);
        client.reset();
        // A reset behind an orderly end is told as a broken pipe (Linux tcp_reset).
        assert_eq!(origin.outcome().unwrap_err().kind(), ErrorKind::BrokenPipe);
        server.closed_for(CloseReason::ClientReset);
    }
}

#[test]
fn a_target_that_breaks_the_connection_after_its_end_ends_the_session() {
    for server in both() {
        let origin = Origin::finishes_and_breaks();
        let client = Client::open(&server, &ALICE, origin.address, b"hello");
        assert_eq!(client.recv_to_end().unwrap(), [0, 0]);
        client.send(b"go").unwrap();
        origin.outcome().unwrap();
        server.closed_for(CloseReason::TargetReset);
    }
}

#[test]
fn a_target_that_breaks_the_connection_breaks_it_for_the_client() {
    for server in both() {
        let origin = Origin::resetter(5);
        let client = Client::open(&server, &ALICE, origin.address, b"hello");
        let error = client.recv(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        server.closed_for(CloseReason::TargetReset);
    }
}

/// Whichever call on the target's socket fails first takes the error away from the other (Linux): receiving then finds
/// what looks like an ordinary end.
#[test]
fn a_target_that_breaks_off_an_upload_breaks_it_for_the_client() {
    for _ in 0..20 {
        for server in both() {
            let origin = Origin::resetter(300_000);
            let client = Client::open(&server, &ALICE, origin.address, b"");
            let error = (0..20_000).find_map(|_| client.send(&[0; 10_000]).err()).expect("the upload goes on");
            // Had we ended our direction in order first, the client would be told of a broken pipe.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            server.closed_for(CloseReason::TargetReset);
        }
    }
}

/// An HTTP server that refuses a large upload answers and closes; what it did not read makes the kernel reset.
#[test]
fn an_answer_in_front_of_a_reset_is_delivered() {
    for server in both() {
        let origin = Origin::refuser(100_000);
        let client = Client::open(&server, &ALICE, origin.address, &vec![0; 100_000]);
        client.take_response();
        take_pattern(&client, 100_000, 10);
        assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        drop(client);
        // The client leaves, and the reset may come before or after that.
        let reason = server.closed(1)[0].reason;
        assert!(matches!(reason, CloseReason::TargetReset | CloseReason::Finished), "{reason:?}");
    }
}

#[test]
fn an_answer_in_front_of_a_reset_is_delivered_to_a_client_that_goes_on_sending() {
    for server in both() {
        let origin = Origin::refuser(100_000);
        let client = Client::open(&server, &ALICE, origin.address, &vec![0; 100_000]);
        client.set_write_timeout(std::time::Duration::from_millis(300));
        while client.send(&vec![0; 10_000]).is_ok() {}
        client.take_response();
        take_pattern(&client, 100_000, 10);
        drop(client);
        server.closed_for(CloseReason::TargetReset);
    }
}

#[test]
fn a_target_may_speak_first() {
    for server in both() {
        let origin = Origin::greeter(b"220 welcome\r\n");
        let client = Client::open(&server, &ALICE, origin.address, b"");
        assert_eq!(client.take(15), b"\0\x00220 welcome\r\n");
        client.send(b"EHLO").unwrap();
        assert_eq!(client.take(4), b"EHLO");
    }
}

#[test]
fn a_target_that_closes_at_once_leaves_the_client_with_exactly_the_response_header() {
    for server in both() {
        let origin = Origin::closer();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        assert_eq!(client.recv_to_end().unwrap(), [0, 0]);
        client.finish();
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!(record.downlink.payload_bytes, 0);
    }
}

#[test]
fn the_response_header_shares_a_record_with_the_first_payload() {
    let (server, origin) = (Server::start(Options::tls()), Origin::greeter(b"hello"));
    let client = Client::connect_with(&server, &[&TLS13]);
    client.send(&request(&ALICE, origin.address)).unwrap();
    assert_eq!(client.take(7), b"\0\0hello");
    // What a record of TLS 1.3 adds to its payload: header, type, tag.
    let (wire, overhead) = (client.wire(), 5 + 1 + 16);
    let payloads: Vec<_> = records(&wire).iter().map(|record| record.len() - overhead).collect();
    assert_eq!(payloads.last(), Some(&7), "{payloads:?}");
    assert!(!payloads.contains(&2), "the header went alone: {payloads:?}");
}

#[test]
fn downloads_travel_in_full_records() {
    let (server, origin) = (Server::start(Options::tls()), Origin::source(8 * MIB));
    let client = Client::connect_with(&server, &[&TLS13]);
    client.send(&request(&ALICE, origin.address)).unwrap();
    client.take_response();
    take_pattern(&client, 8 * MIB, 8);
    let wire = client.wire();
    let records = records(&wire);
    assert!(records.iter().all(|record| record.len() <= 5 + (1 << 14) + 17));
    let full = records.iter().filter(|record| record.len() == 5 + (1 << 14) + 17).count();
    assert!(full * 2 > records.len(), "{full} of {} records are full", records.len());
}

#[test]
fn two_hundred_connections_run_side_by_side() {
    for options in [Options::default(), Options::tls()] {
        let (server, origin) = (Server::start(Options { workers: 2, ..options }), Origin::echo());
        thread::scope(|scope| {
            for number in 0..200_u64 {
                let (server, origin) = (&server, &origin);
                scope.spawn(move || {
                    let id = if number % 4 == 0 { &BOB } else { &ALICE };
                    let client = Client::open(server, id, origin.address, b"");
                    send_pattern(&client, 20_000 + number, number + 1);
                    client.finish();
                    client.take_response();
                    take_pattern(&client, 20_000 + number, number + 1);
                    assert_eq!(client.recv(&mut [0]).unwrap(), 0);
                });
            }
        });
        let bytes = |mine: fn(u64) -> bool| (0..200_u64).filter(|&n| mine(n)).map(|n| 20_000 + n).sum::<u64>();
        let records = server.closed(200);
        assert!(records.iter().all(|record| record.reason == CloseReason::Finished));
        let (alice, bob, totals) = (server.user(&ALICE), server.user(&BOB), server.totals());
        let (of_alice, of_bob) = (bytes(|n| n % 4 != 0), bytes(|n| n % 4 == 0));
        assert_eq!((alice.uplink_bytes, alice.downlink_bytes, alice.sessions_total), (of_alice, of_alice, 150));
        assert_eq!((bob.uplink_bytes, bob.downlink_bytes, bob.sessions_total), (of_bob, of_bob, 50));
        assert_eq!((totals.uplink_bytes, totals.downlink_bytes), (of_alice + of_bob, of_alice + of_bob));
        assert_eq!((totals.sessions_accepted, totals.requests_accepted), (200, 200));
        assert_eq!((alice.sessions_active, bob.sessions_active), (0, 0));
        server.wait_until_empty();
    }
}

#[test]
fn ipv6_works_on_both_sides() {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let origin = Origin::echo_on(loopback);
    let server = Server::start(Options { listen: loopback, ..Options::default() });
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    drop(client);
    assert_eq!(server.closed_for(CloseReason::Finished).client.ip(), loopback);
}

#[test]
fn a_dual_stack_listener_serves_ipv4_and_calls_it_that() {
    let origin = Origin::echo();
    let mut server = Server::start(Options { listen: Ipv6Addr::UNSPECIFIED.into(), ..Options::default() });
    server.address.set_ip([127, 0, 0, 1].into());
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    drop(client);
    assert!(server.closed_for(CloseReason::Finished).client.is_ipv4());
}

/// The kernel's buffers of both connections hold some MiB, ours no more than one read.
#[test]
fn a_client_that_does_not_read_stops_the_target() {
    for server in both() {
        let origin = Origin::source(1 << 40);
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        let mut sent = 0;
        let mut quiet = std::time::Instant::now();
        wait_until("the target is stopped for half a second", || {
            if origin.sent() != sent {
                (sent, quiet) = (origin.sent(), std::time::Instant::now());
            }
            quiet.elapsed() > std::time::Duration::from_millis(500)
        });
        assert!(sent < 32 * MIB, "the target could send {sent} bytes");
        assert!(server.totals().buffer_bytes_held <= 256 << 10);
        take_pattern(&client, 16 * MIB, 9);
    }
}

#[test]
fn a_target_that_does_not_read_stops_the_client() {
    for server in both() {
        let origin = Origin::deaf();
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.set_write_timeout(std::time::Duration::from_millis(500));
        let mut sent = 0;
        let chunk = vec![0; 64 << 10];
        while client.send(&chunk).is_ok() {
            sent += chunk.len() as u64;
            assert!(sent < 32 * MIB, "the client could send {sent} bytes");
        }
        assert!(server.totals().buffer_bytes_held <= 256 << 10);
    }
}
