//! Command 2: length-prefixed packets to one target.

use std::net::SocketAddr;
use std::time::Duration;

use vless_rust::session::UdpSettings;
use vless_rust::session::close::CloseReason;

use crate::harness::{Client, PLAIN, Server, VISION, at, hear, named, packet, peer, wait_until};

fn server() -> Server {
    Server::start(1, UdpSettings::default())
}

#[test]
fn packets_in_single_bytes_arrive_as_datagrams_and_answers_come_back() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    for byte in [packet(b"hello"), packet(b""), packet(b"again")].concat() {
        client.send(&[byte]);
    }
    let (first, source) = hear(&target);
    assert_eq!((first, hear(&target).0, hear(&target).0), (b"hello".to_vec(), Vec::new(), b"again".to_vec()));
    target.send_to(b"one", source).unwrap();
    target.send_to(b"", source).unwrap();
    target.send_to(b"two", source).unwrap();
    assert_eq!([client.packet(), client.packet(), client.packet()], [&b"one"[..], b"", b"two"]);
    wait_until("packets are counted", || server.user(PLAIN).udp_downlink_packets == 3);
    let user = server.user(PLAIN);
    assert_eq!((user.udp_uplink_packets, user.uplink_bytes, user.downlink_bytes, user.udp_sockets), (3, 10, 6, 1));
}

#[test]
fn many_packets_in_one_write_are_one_datagram_each() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    let payloads: Vec<_> = (1..=100_usize).map(|size| vec![size as u8; size * 9]).collect();
    client.send(&payloads.iter().flat_map(|payload| packet(payload)).collect::<Vec<_>>());
    for payload in &payloads {
        let (datagram, source) = hear(&target);
        assert_eq!(datagram, *payload);
        target.send_to(&datagram, source).unwrap();
        assert_eq!(client.packet(), *payload);
    }
}

/// The kernel gets them together, and the ways of both families take them: 1460 bytes only that of IPv4, if the interface
/// is one of MTU 1500.
#[test]
fn equally_long_packets_in_one_write_are_one_datagram_each() {
    for host in ["127.0.0.1", "::1"] {
        for length in [1, 512, 1460, 1473] {
            let (server, target) = (server(), peer(host));
            let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
            let payloads: Vec<_> = (0..90_u8).map(|number| vec![number; length]).collect();
            let shorter = vec![200; length.div_ceil(2)];
            let sent = payloads.iter().chain([&shorter]);
            client.send(&sent.clone().flat_map(|payload| packet(payload)).collect::<Vec<_>>());
            for payload in sent {
                assert_eq!(hear(&target).0, *payload, "{host}, {length}");
            }
            wait_until("all are counted", || server.totals().udp_uplink_packets == 91);
            assert_eq!(server.user(PLAIN).uplink_bytes, (90 * length + shorter.len()) as u64);
            assert_eq!(server.totals().udp_dropped_by_kernel, 0);
        }
    }
}

#[test]
fn the_longest_datagram_passes_both_ways_and_a_longer_packet_is_dropped_alone() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    let longest = vec![7; 65507];
    client.send(&[packet(&vec![8; 65535]), packet(&longest)].concat());
    let (datagram, source) = hear(&target);
    assert_eq!(datagram, longest);
    target.send_to(&longest, source).unwrap();
    assert_eq!(client.packet(), longest);
    assert_eq!(server.totals().udp_dropped_by_kernel, 1);
}

#[test]
fn a_target_that_nobody_listens_on_costs_only_its_datagrams() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = target.local_addr().unwrap();
    let mut client = Client::open(&server, PLAIN, 2, &at(address));
    client.send(&packet(b"before"));
    hear(&target);
    drop(target);
    client.send(&packet(b"into the void"));
    wait_until("it is sent", || server.totals().udp_uplink_packets == 2);
    let target = std::net::UdpSocket::bind(address).unwrap();
    target.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    client.send(&packet(b"after"));
    assert_eq!(hear(&target).0, b"after");
}

#[test]
fn names_are_resolved_and_ipv6_is_reached() {
    let server = server();
    let target = peer("127.0.0.2");
    let mut client = Client::open(&server, PLAIN, 2, &named("two.test", target.local_addr().unwrap().port()));
    client.send(&packet(b"by name"));
    assert_eq!(hear(&target).0, b"by name");
    let target = peer("::1");
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    client.send(&packet(b"six"));
    let (datagram, source) = hear(&target);
    target.send_to(&datagram, source).unwrap();
    assert_eq!(client.packet(), b"six");
}

#[test]
fn a_vision_account_may_use_it_without_flow() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, VISION, 2, &at(target.local_addr().unwrap()));
    client.send(&packet(b"x"));
    assert_eq!(hear(&target).0, b"x");
}

#[test]
fn refused_targets_are_closed_without_a_byte() {
    let server = server();
    let private: SocketAddr = "10.1.2.3:53".parse().unwrap();
    let refused = [
        (at(private), CloseReason::PolicyRefused),
        (named("private.test", 53), CloseReason::PolicyRefused),
        (named("sp.packet-addr.v2fly.arpa", 1), CloseReason::ReservedName),
    ];
    for (count, (destination, reason)) in refused.into_iter().enumerate() {
        let mut client = Client::open(&server, PLAIN, 2, &destination);
        client.assert_closed();
        drop(client);
        assert_eq!(server.reasons(count + 1)[count], reason);
    }
    assert_eq!(server.user(PLAIN).udp_sockets, 0);
}

#[test]
fn a_silent_session_is_closed_after_the_timeout() {
    let server = Server::start(1, UdpSettings { timeout: Duration::from_millis(200), ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    client.send(&packet(b"x"));
    hear(&target);
    client.assert_closed();
    assert_eq!(server.reasons(1), [CloseReason::Idle]);
    wait_until("the socket is given back", || server.user(PLAIN).udp_sockets == 0);
}

#[test]
fn sockets_of_one_user_are_limited_over_all_workers() {
    let server = Server::start(2, UdpSettings { sockets_per_user_max: 3, ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let destination = at(target.local_addr().unwrap());
    let mut clients: Vec<_> = (0..3).map(|_| Client::open(&server, PLAIN, 2, &destination)).collect();
    wait_until("three are open", || server.user(PLAIN).udp_sockets == 3);
    Client::open(&server, PLAIN, 2, &destination).assert_closed();
    assert_eq!(server.reasons(1), [CloseReason::UdpLimit]);
    assert_eq!(server.totals().udp_sockets_refused, 1);
    // Another user is not affected, and a closed one makes room.
    Client::open(&server, VISION, 2, &destination).send(&packet(b"other"));
    assert_eq!(hear(&target).0, b"other");
    clients.pop();
    wait_until("one is closed", || server.user(PLAIN).udp_sockets == 2);
    Client::open(&server, PLAIN, 2, &destination).send(&packet(b"again"));
    assert_eq!(hear(&target).0, b"again");
}

#[test]
fn a_client_that_does_not_read_holds_a_bounded_number_of_bytes() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 2, &at(target.local_addr().unwrap()));
    client.send(&packet(b"x"));
    let source = hear(&target).1;
    let mut sent = 0_usize;
    wait_until("the server stops reading", || {
        for _ in 0..100 {
            sent += target.send_to(&[5; 1000], source).unwrap();
        }
        let totals = server.totals();
        assert!(totals.buffer_bytes_held <= 128 << 10);
        // What it has not read the kernel has dropped.
        totals.buffer_bytes_held > 0 && sent > 30 << 20
    });
    while client.packet() == [5; 1000] {
        if server.totals().buffer_bytes_held == 0 {
            break;
        }
    }
    // Datagrams pass again once the client has caught up.
    let reader = std::thread::spawn(move || while client.packet() != b"last" {});
    wait_until("it gets through", || {
        target.send_to(b"last", source).unwrap();
        reader.is_finished()
    });
    reader.join().unwrap();
}
