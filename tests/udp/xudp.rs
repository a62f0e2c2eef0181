//! XUDP: one UDP socket per connection, a destination in front of every datagram, sockets that outlive connections.

use std::net::Ipv4Addr;
use std::time::Duration;

use vless_rust::session::UdpSettings;
use vless_rust::session::close::CloseReason;

use crate::harness::{
    Client, Frame, PLAIN, Server, VISION, at, end, hear, keep, keep_to, named, new_tcp, new_udp, peer, wait_until,
};

fn server() -> Server {
    Server::start(1, UdpSettings::default())
}

fn data(source: &[u8], payload: &[u8]) -> Frame {
    Frame::Data { id: 0, source: Some(source.to_vec()), payload: payload.to_vec() }
}

#[test]
fn anybody_may_answer_and_is_named() {
    let server = server();
    let peers = ["127.0.0.1", "127.0.0.2", "::1"].map(peer);
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let addresses: Vec<_> = peers.iter().map(|peer| at(peer.local_addr().unwrap())).collect();
    client.send(&new_udp(0, &addresses[0], &[], b"0"));
    client.send(&keep_to(0, &addresses[1], b"1"));
    client.send(&[keep_to(0, &addresses[2], b"2"), keep(0, b"again 0")].concat());
    let sources: Vec<_> = peers.iter().map(|peer| hear(peer).1).collect();
    assert_eq!(sources[0].port(), sources[2].port(), "one socket for all");
    assert_eq!(hear(&peers[0]).0, b"again 0");
    for (peer, (address, source)) in peers.iter().zip(addresses.iter().zip(&sources)) {
        peer.send_to(b"answer", source).unwrap();
        assert_eq!(client.frame(), data(address, b"answer"));
    }
    let stranger = peer("127.0.0.3");
    stranger.send_to(b"hello", sources[0]).unwrap();
    assert_eq!(client.frame(), data(&at(stranger.local_addr().unwrap()), b"hello"));
}

#[test]
fn frames_in_single_bytes_are_obeyed() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, VISION, 3, &[]);
    let address = at(target.local_addr().unwrap());
    for byte in [new_udp(0, &address, &[1; 8], b"ping"), keep(0, b""), keep_to(0, &address, b"pong")].concat() {
        client.send(&[byte]);
    }
    let (first, source) = hear(&target);
    assert_eq!((first, hear(&target).0, hear(&target).0), (b"ping".to_vec(), Vec::new(), b"pong".to_vec()));
    // An empty datagram is carried back, too.
    for answer in [&b""[..], b"answer"] {
        target.send_to(answer, source).unwrap();
        assert_eq!(client.frame(), data(&address, answer));
    }
}

#[test]
fn every_name_is_reported_back_as_that_name() {
    let server = server();
    let (one, two) = (peer("127.0.0.1"), peer("127.0.0.2"));
    let one_name = named("one.test", one.local_addr().unwrap().port());
    let two_name = named("two.test", two.local_addr().unwrap().port());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&[new_udp(0, &one_name, &[], b"1"), keep_to(0, &two_name, b"2")].concat());
    for (peer, name) in [(&one, &one_name), (&two, &two_name)] {
        let (datagram, source) = hear(peer);
        peer.send_to(&datagram, source).unwrap();
        assert_eq!(client.frame(), data(name, &datagram));
    }
}

#[test]
fn of_two_names_for_one_address_each_peer_has_its_own_and_numbers_stay_numbers() {
    let server = server();
    let peers = [(); 3].map(|()| peer("127.0.0.1"));
    let [first, second, third] = peers.each_ref().map(|peer| peer.local_addr().unwrap());
    let called = [named("one.test", first.port()), named("uno.test", second.port()), at(third)];
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_udp(0, &called[0], &[], b"x"));
    for name in &called[1..] {
        client.send(&keep_to(0, name, b"x"));
    }
    for (peer, name) in peers.iter().zip(&called) {
        let source = hear(peer).1;
        peer.send_to(b"answer", source).unwrap();
        assert_eq!(client.frame(), data(name, b"answer"));
    }
}

#[test]
fn refused_and_unknown_destinations_cost_only_their_datagrams() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let private = at("10.1.2.3:53".parse().unwrap());
    client.send(&new_udp(0, &private, &[], b"refused"));
    client.send(&keep_to(0, &named("private.test", 53), b"refused"));
    client.send(&keep_to(0, &named("sp.v2.udp-over-tcp.arpa", 53), b"reserved"));
    client.send(&keep_to(0, &at(target.local_addr().unwrap()), b"good"));
    assert_eq!(hear(&target).0, b"good");
    wait_until("the others are counted", || {
        let totals = server.totals();
        (totals.udp_dropped_by_policy, totals.udp_dropped_unresolved) == (1, 2)
    });
}

#[test]
fn datagrams_above_8192_bytes_are_dropped_and_counted() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_udp(0, &address, &[], &vec![5; 20_000]));
    let (datagram, source) = hear(&target);
    assert_eq!(datagram.len(), 20_000, "the uplink has no such limit");
    target.send_to(&vec![1; 8193], source).unwrap();
    target.send_to(&vec![2; 8192], source).unwrap();
    assert_eq!(client.frame(), data(&address, &vec![2; 8192]));
    assert_eq!(server.totals().udp_dropped_too_long, 1);
}

#[test]
fn a_thousand_datagrams_pass_in_both_directions() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    for round in 0..50_u8 {
        let mut burst = Vec::new();
        for number in 0..20_u8 {
            let payload = vec![number; 1 + usize::from(round) * 25];
            burst.extend(if (round, number) == (0, 0) {
                new_udp(0, &address, &[], &payload)
            } else {
                keep_to(0, &address, &payload)
            });
        }
        client.send(&burst);
        for number in 0..20_u8 {
            let (datagram, source) = hear(&target);
            assert_eq!(datagram, vec![number; 1 + usize::from(round) * 25]);
            target.send_to(&datagram, source).unwrap();
            assert_eq!(client.frame(), data(&address, &datagram));
        }
    }
    wait_until("all are counted", || server.user(PLAIN).udp_downlink_packets == 1000);
    assert_eq!(server.user(PLAIN).uplink_bytes, server.user(PLAIN).downlink_bytes);
}

#[test]
fn a_vision_account_without_flow_may_begin_with_nothing_else() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    for (count, first) in [new_udp(1, &address, &[], b"x"), new_tcp(0, &address, b"x")].iter().enumerate() {
        let mut client = Client::open(&server, VISION, 3, &[]);
        client.send(&first[..6]);
        client.send(&first[6..]);
        client.assert_closed();
        drop(client);
        assert_eq!(server.reasons(count + 1)[count], CloseReason::FlowRefused);
    }
}

#[test]
fn a_vision_account_gets_no_tcp_session() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut client = Client::open(&server, VISION, 3, &[]);
    client.send(&new_udp(0, &address, &[], b"x"));
    assert_eq!(hear(&target).0, b"x");
    client.send(&new_tcp(1, &address, b"x"));
    client.assert_closed();
    assert_eq!(server.reasons(1), [CloseReason::FlowRefused]);
}

#[test]
fn a_silent_socket_gets_an_end_and_the_connection_goes_on() {
    let server = Server::start(1, UdpSettings { timeout: Duration::from_millis(200), ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    for _ in 0..2 {
        client.send(&new_udp(0, &at(target.local_addr().unwrap()), &[], b"x"));
        hear(&target);
        assert_eq!(client.frame(), Frame::End { id: 0, is_error: false });
        wait_until("the socket is given back", || server.user(PLAIN).udp_sockets == 0);
    }
}

#[test]
fn a_global_id_keeps_its_socket_over_connections_on_any_worker() {
    let (server, target) = (Server::start(2, UdpSettings::default()), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut first = Client::open(&server, VISION, 3, &[]);
    first.send(&new_udp(0, &address, b"globalid", b"1"));
    let source = hear(&target).1;
    // The first connection is alive: it is told that it lost the socket.
    let mut second = Client::open(&server, VISION, 3, &[]);
    second.send(&new_udp(0, &address, b"globalid", b"2"));
    assert_eq!(hear(&target), (b"2".to_vec(), source));
    // At once: the loser, on whichever worker, does not read it.
    target.send_to(b"answer", source).unwrap();
    assert_eq!(second.frame(), data(&address, b"answer"));
    assert_eq!(server.totals().udp_sockets_migrated, 1);
    assert_eq!(first.frame(), Frame::End { id: 0, is_error: false });
    // The connection is gone, the socket is not; what arrives in between is kept by the kernel.
    drop((first, second));
    server.reasons(2);
    assert_eq!(server.user(VISION).udp_sockets, 1);
    target.send_to(b"late", source).unwrap();
    for round in 0..8_u8 {
        let mut next = Client::open(&server, VISION, 3, &[]);
        next.send(&new_udp(0, &address, b"globalid", &[round]));
        assert_eq!(hear(&target), (vec![round], source));
        if round == 0 {
            assert_eq!(next.frame(), data(&address, b"late"));
        }
        target.send_to(b"answer", source).unwrap();
        assert_eq!(next.frame(), data(&address, b"answer"));
        drop(next);
        server.reasons(3 + usize::from(round));
    }
    assert_eq!(server.totals().stale_events, 0, "a socket that moved left its old poll");
}

#[test]
fn a_global_id_gets_another_socket_once_a_reload_has_chosen_another_source() {
    let (server, target) = (Server::start(2, UdpSettings::default()), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut clients = [(); 2].map(|()| Client::open(&server, VISION, 3, &[]));
    clients[0].send(&new_udp(0, &address, b"globalid", b"1"));
    assert_eq!(hear(&target).1.ip(), Ipv4Addr::LOCALHOST);
    let source = Ipv4Addr::new(127, 0, 0, 9);
    server.send_from(source);
    clients[1].send(&new_udp(0, &address, b"globalid", b"2"));
    let (heard, from) = hear(&target);
    assert_eq!((heard.as_slice(), from.ip()), (&b"2"[..], source.into()));
    assert_eq!(clients[0].frame(), Frame::End { id: 0, is_error: false });
    wait_until("the other is closed", || server.user(VISION).udp_sockets == 1);
    assert_eq!(server.totals().udp_sockets_migrated, 0);
}

#[test]
fn the_same_global_id_of_another_user_is_another_socket() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut clients = [VISION, PLAIN].map(|user| Client::open(&server, user, 3, &[]));
    let mut sources = Vec::new();
    for client in &mut clients {
        client.send(&new_udp(0, &address, b"globalid", b"x"));
        sources.push(hear(&target).1);
    }
    assert_ne!(sources[0], sources[1]);
    clients[0].send(&end(0));
    clients[0].send(&new_udp(0, &address, b"globalid", b"y"));
    assert_eq!(hear(&target), (b"y".to_vec(), sources[0]), "also after an End on the same connection");
}
