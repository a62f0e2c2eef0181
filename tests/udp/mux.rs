//! Mux.cool: many sessions in one connection, each with its own life.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use vless_rust::session::UdpSettings;
use vless_rust::session::close::CloseReason;

use crate::harness::{
    Client, Frame, PATIENCE, PLAIN, Server, at, end, frame, hear, keep, keep_to, named, new_tcp, new_udp, peer,
    wait_until,
};

fn server() -> Server {
    Server::start(1, UdpSettings::default())
}

fn listener() -> (TcpListener, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = at(listener.local_addr().unwrap());
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn tcp_sessions_carry_bytes_both_ways_and_end_with_their_targets() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&[new_tcp(1, &address, b"first"), new_tcp(2, &address, b"")].concat());
    let (mut one, mut two) = (accept(&listener), accept(&listener));
    if one.peek(&mut [0; 5]).unwrap() == 0 {
        std::mem::swap(&mut one, &mut two);
    }
    assert_eq!(read(&mut one, 5), b"first");
    client.send(&[keep(2, b"se"), keep(1, b"more"), keep(2, b"cond")].concat());
    assert_eq!((read(&mut two, 6), read(&mut one, 4)), (b"second".to_vec(), b"more".to_vec()));
    two.write_all(b"answer").unwrap();
    assert_eq!(client.frame(), Frame::Data { id: 2, source: None, payload: b"answer".to_vec() });
    two.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.frame(), Frame::End { id: 2, is_error: false });
    client.send(&[keep(1, b"still"), keep(2, b"gone")].concat());
    assert_eq!(read(&mut one, 5), b"still");
    assert_eq!(client.frame(), Frame::End { id: 2, is_error: false }, "there is no such session any more");
    assert_eq!(server.totals().mux_frames_astray, 1);
    drop(client);
    assert_eq!(one.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn frames_in_single_bytes_are_obeyed() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let keep_alive_with_data = [0, 4, 0, 0, 4, 1, 0, 3, 1, 2, 3];
    for byte in [new_tcp(7, &address, b"a"), keep_alive_with_data.to_vec(), keep(7, b"b"), end(7)].concat() {
        client.send(&[byte]);
    }
    let mut target = accept(&listener);
    let mut all = Vec::new();
    target.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"ab");
}

#[test]
fn what_was_sent_before_the_end_arrives_and_the_number_is_free_at_once() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let chunk = vec![3; 60_000];
    client.send(&[new_tcp(1, &address, &chunk), end(1), new_tcp(1, &address, b"second"), end(1), end(1)].concat());
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2 {
        let mut all = Vec::new();
        accept(&listener).read_to_end(&mut all).unwrap();
        bodies.push(all);
    }
    bodies.sort_by_key(Vec::len);
    assert_eq!(bodies, [b"second".to_vec(), chunk]);
    client.send(&keep(1, b"?"));
    assert_eq!(client.frame(), Frame::End { id: 1, is_error: false });
}

#[test]
fn a_new_session_with_a_number_in_use_replaces_the_old_one() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b"old"));
    let mut old = accept(&listener);
    assert_eq!(read(&mut old, 3), b"old");
    client.send(&new_tcp(1, &address, b"new"));
    let mut new = accept(&listener);
    assert_eq!(read(&mut new, 3), b"new");
    assert_eq!(old.read(&mut [0]).unwrap(), 0);
    // What the old target still says is not for the new session.
    let _ = old.write_all(b"late");
    new.write_all(b"yes").unwrap();
    assert_eq!(client.frame(), Frame::Data { id: 1, source: None, payload: b"yes".to_vec() });
}

#[test]
fn targets_that_cannot_be_had_end_with_an_error() {
    let server = server();
    let nobody = at(crate::support::ports::free_address());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let refused = [nobody, at("10.1.2.3:80".parse().unwrap()), named("v1.mux.cool", 80), named("private.test", 80)];
    for (id, destination) in (1..).zip(&refused) {
        client.send(&new_tcp(id, destination, b"x"));
        assert_eq!(client.frame(), Frame::End { id, is_error: true });
    }
    client.send(&new_udp(9, &named("sp.mux.sing-box.arpa", 80), &[], b"x"));
    assert_eq!(client.frame(), Frame::End { id: 9, is_error: true });
}

#[test]
fn a_reset_of_the_target_is_an_end_with_error() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b"unread"));
    let target = accept(&listener);
    target.peek(&mut [0; 6]).unwrap();
    // Closing with bytes unread resets.
    drop(target);
    assert_eq!(client.frame(), Frame::End { id: 1, is_error: true });
}

#[test]
fn a_target_that_does_not_read_stops_the_client_and_loses_nothing() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b""));
    let mut target = accept(&listener);
    let total = 30 << 20;
    let mut writer = client.socket.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let mut sent = 0;
        while sent < total {
            let chunk = vec![(sent >> 10) as u8; 64 << 9];
            writer.write_all(&keep(1, &chunk)).unwrap();
            sent += chunk.len();
        }
        writer.write_all(&end(1)).unwrap();
    });
    wait_until("the server stops reading", || {
        let before = server.totals().uplink_bytes;
        thread::sleep(Duration::from_millis(100));
        before > 0 && server.totals().uplink_bytes == before
    });
    assert!(server.totals().buffer_bytes_held <= 512 << 10);
    let mut received = 0;
    while received < total {
        let chunk = read(&mut target, 64 << 9);
        assert!(chunk.iter().all(|&byte| byte == (received >> 10) as u8));
        received += chunk.len();
    }
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
    sending.join().unwrap();
}

#[test]
fn a_stuck_target_that_dies_lets_the_others_go_on() {
    let (server, (listener, address)) = (server(), listener());
    let udp = peer("127.0.0.1");
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b""));
    let target = accept(&listener);
    let udp_address = at(udp.local_addr().unwrap());
    let mut writer = client.socket.try_clone().unwrap();
    let sending = thread::spawn(move || {
        for _ in 0..400 {
            writer.write_all(&keep(1, &vec![0; 65535])).unwrap();
        }
        writer.write_all(&new_udp(2, &udp_address, &[], b"behind it")).unwrap();
    });
    wait_until("the server stops reading", || {
        let before = server.totals().uplink_bytes;
        thread::sleep(Duration::from_millis(100));
        before > 0 && server.totals().uplink_bytes == before
    });
    drop(target);
    assert_eq!(hear(&udp).0, b"behind it");
    assert_eq!(client.frame(), Frame::End { id: 1, is_error: true });
    sending.join().unwrap();
}

#[test]
fn bulk_from_many_targets_arrives_in_order() {
    const EACH: usize = 1 << 20;
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let sending = thread::spawn(move || {
        for _ in 0..8 {
            let mut stream = accept(&listener);
            thread::spawn(move || {
                let tag = read(&mut stream, 1)[0];
                let body: Vec<u8> = (0..EACH).map(|place| tag.wrapping_add((place >> 8) as u8)).collect();
                stream.write_all(&body).unwrap();
            });
        }
    });
    for id in 1..=8 {
        client.send(&new_tcp(id, &address, &[id as u8]));
    }
    let (mut received, mut ended) = ([0_usize; 9], 0);
    while ended < 8 {
        match client.frame() {
            Frame::Data { id, payload, .. } => {
                let place = &mut received[usize::from(id)];
                for byte in payload {
                    assert_eq!(byte, (id as u8).wrapping_add((*place >> 8) as u8));
                    *place += 1;
                }
            }
            Frame::End { id, is_error } => {
                assert_eq!((received[usize::from(id)], is_error), (EACH, false));
                ended += 1;
            }
        }
    }
    sending.join().unwrap();
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_the_others_live() {
    let (server, target) =
        (Server::start(1, UdpSettings { sockets_per_user_max: 2000, ..UdpSettings::default() }), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let all: Vec<u8> = (1..=1100).flat_map(|id| new_udp(id, &address, &[], &id.to_be_bytes())).collect();
    client.send(&all);
    for id in 1025..=1100 {
        assert_eq!(client.frame(), Frame::End { id, is_error: true });
    }
    wait_until("all the others are open", || server.user(PLAIN).udp_sockets == 1024);
    assert_eq!(server.totals().mux_sessions_refused, 76);
    // A peer of its own: nobody has read what the others sent to the first one.
    let other = peer("127.0.0.1");
    client.send(&[end(5), new_udp(3000, &at(other.local_addr().unwrap()), &[], b"room again")].concat());
    assert_eq!(hear(&other).0, b"room again");
    drop(client);
    wait_until("all are given back", || server.user(PLAIN).udp_sockets == 0);
}

#[test]
fn keep_alives_are_passed_over_with_whatever_they_carry() {
    let (server, (listener, address), echo) = (server(), listener(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let to_echo = at(echo.local_addr().unwrap());
    client.send(&[new_tcp(1, &address, b"one"), new_udp(2, &to_echo, &[], b"two")].concat());
    let mut target = accept(&listener);
    assert_eq!(read(&mut target, 3), b"one");
    let source = hear(&echo).1;
    // For sessions of both kinds, for one that does not exist, and for the connection; with and without payload.
    let plain = |id: u16| [&[0, 4], &id.to_be_bytes()[..], &[4, 0]].concat();
    for id in [1, 2, 77, 0] {
        for keep_alive in [plain(id), frame(id, 4, &[], b""), frame(id, 4, &[], &vec![7; 40_000])] {
            client.send(&[&keep_alive[..], &keep(1, b"tcp"), &keep_alive, &keep(2, b"udp"), &keep_alive].concat());
            assert_eq!(read(&mut target, 3), b"tcp");
            assert_eq!(hear(&echo).0, b"udp");
        }
    }
    // Nothing was answered.
    echo.send_to(b"answer", source).unwrap();
    assert_eq!(client.frame(), Frame::Data { id: 2, source: Some(to_echo), payload: b"answer".to_vec() });
    assert_eq!(server.totals().mux_frames_astray, 0);
}

#[test]
fn what_an_end_carries_is_nobodys() {
    let (server, (listener, address), echo) = (server(), listener(), peer("127.0.0.1"));
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let to_echo = at(echo.local_addr().unwrap());
    for carried in [&b""[..], b"x", &vec![9; 50_000]] {
        client.send(&[new_tcp(1, &address, b"one"), new_udp(2, &to_echo, &[], b"two")].concat());
        let mut target = accept(&listener);
        // The numbers are free at once, and what stands behind the frames is obeyed.
        let ends = [frame(1, 3, &[], carried), frame(2, 3, &[], carried), frame(55, 3, &[], carried)].concat();
        client.send(&[&ends[..], &new_tcp(1, &address, b"again"), &keep(1, b" and on"), &ends].concat());
        assert_eq!(read(&mut target, 3), b"one");
        assert_eq!(target.read(&mut [0]).unwrap(), 0, "the end, and no byte of what the frame carried");
        let mut target = accept(&listener);
        assert_eq!(read(&mut target, 12), b"again and on");
        assert_eq!(target.read(&mut [0]).unwrap(), 0);
        assert_eq!(hear(&echo).0, b"two");
    }
    client.send(&new_udp(3, &to_echo, &[], b"last"));
    assert_eq!(hear(&echo).0, b"last", "and no datagram of what a frame carried");
    let totals = server.totals();
    assert_eq!((totals.mux_sessions_opened, totals.mux_frames_astray), (10, 0));
}

#[test]
fn broken_frames_end_the_connection() {
    let server = server();
    for (count, bytes) in [[0, 3, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0], [0, 4, 0, 0, 5, 0]].iter().enumerate() {
        let mut client = Client::open(&server, PLAIN, 3, &[]);
        client.send(bytes);
        client.assert_closed();
        drop(client);
        assert_eq!(server.reasons(count + 1)[count], CloseReason::BadFrame);
    }
}

#[test]
fn a_connection_without_sessions_is_closed_after_the_idle_time() {
    let server = Server::start_with_idle(1, UdpSettings::default(), Duration::from_millis(300));
    let (listener, address) = listener();
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b"x"));
    let mut target = accept(&listener);
    assert_eq!(read(&mut target, 1), b"x");
    // The silent session goes first, then, after as long again, the connection.
    assert_eq!(client.frame(), Frame::End { id: 1, is_error: false });
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
    client.assert_closed();
    assert_eq!(server.reasons(1), [CloseReason::Idle]);
}

#[test]
fn a_client_that_breaks_off_is_a_reset_for_its_targets() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_tcp(1, &address, b"half a"));
    let mut target = accept(&listener);
    assert_eq!(read(&mut target, 6), b"half a");
    target.write_all(b"answer").unwrap();
    // Closing with bytes unread resets.
    client.socket.peek(&mut [0; 2]).unwrap();
    drop(client);
    assert_eq!(target.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(server.reasons(1), [CloseReason::ClientReset]);
}

/// A session whose target does not read, sent to until the server keeps bytes for it; with how many were sent in all.
fn stuck(server: &Server, client: &mut Client) -> (TcpStream, usize) {
    let (listener, address) = listener();
    client.send(&new_tcp(1, &address, b""));
    let target = accept(&listener);
    let mut sent = 0;
    while server.totals().buffer_bytes_held == 0 {
        client.send(&keep(1, &vec![7; 20_000]));
        sent += 20_000;
        thread::sleep(Duration::from_millis(2));
    }
    (target, sent)
}

#[test]
fn a_client_that_ends_its_sessions_and_its_stream_has_everything_delivered() {
    let server = server();
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let (mut target, sent) = stuck(&server, &mut client);
    client.send(&end(1));
    drop(client);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(read(&mut target, sent).len(), sent);
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
    drop(target);
    assert_eq!(server.reasons(1), [CloseReason::Finished]);
}

#[test]
fn a_client_that_breaks_off_is_noticed_behind_a_target_that_does_not_read() {
    let server = server();
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    let (mut target, _) = stuck(&server, &mut client);
    // More than may wait for one target: the client is not read any more.
    client.send(&keep(1, &vec![7; 60_000]).repeat(2));
    thread::sleep(Duration::from_millis(100));
    crate::support::reset_on_close(&client.socket);
    drop(client);
    assert_eq!(server.reasons(1), [CloseReason::ClientReset]);
    let error = loop {
        match target.read(&mut [0; 16_000]) {
            Ok(0) => panic!("a stream cut short looks complete"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn port_zero_in_a_frame_is_no_reason_to_end_the_connection() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let nowhere = at("127.0.0.1:0".parse().unwrap());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&[new_udp(2, &nowhere, &[], b"lost"), new_tcp(1, &nowhere, b"x")].concat());
    assert_eq!(client.frame(), Frame::End { id: 1, is_error: true });
    client.send(&[keep_to(2, &nowhere, b"lost"), keep_to(2, &address, b"good")].concat());
    assert_eq!(hear(&target).0, b"good");
    assert_eq!(server.totals().udp_dropped_by_kernel, 2);
}

#[test]
fn a_flood_of_sessions_that_end_at_once_is_survived_and_others_are_served() {
    let (server, target) = (server(), peer("127.0.0.1"));
    let address = at(target.local_addr().unwrap());
    let refused = at("10.1.2.3:80".parse().unwrap());
    let elsewhere = peer("127.0.0.2");
    let elsewhere = at(elsewhere.local_addr().unwrap());
    let mut flooder = Client::open(&server, PLAIN, 3, &[]);
    let burst: Vec<u8> = (1..=20_000_u16)
        .flat_map(|id| [new_udp(id, &elsewhere, &[], b""), end(id), new_tcp(id, &refused, b""), end(id)].concat())
        .collect();
    let flooding = thread::spawn(move || {
        flooder.send(&burst);
        flooder
    });
    let mut other = Client::open(&server, PLAIN, 3, &[]);
    for number in 0..50_u8 {
        other.send(&new_udp(u16::from(number), &address, &[], &[number]));
        assert_eq!(hear(&target).0, [number]);
    }
    let flooder = flooding.join().unwrap();
    wait_until("all of it is obeyed", || server.totals().mux_sessions_opened == 40_050);
    drop((flooder, other));
    wait_until("all sockets are given back", || server.user(PLAIN).udp_sockets == 0);
}

#[test]
fn targets_that_do_not_read_hold_a_bounded_number_of_bytes_together() {
    let (server, (listener, address)) = (server(), listener());
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&(1..=100).flat_map(|id| new_tcp(id, &address, b"")).collect::<Vec<_>>());
    let mut targets: Vec<_> = (0..100).map(|_| accept(&listener)).collect();
    let mut writer = client.socket.try_clone().unwrap();
    let sending = thread::spawn(move || {
        for _ in 0..120 {
            for id in 1..=100 {
                writer.write_all(&keep(id, &vec![id as u8; 60_000])).unwrap();
            }
        }
    });
    wait_until("the server stops reading", || {
        let before = server.totals().uplink_bytes;
        thread::sleep(Duration::from_millis(100));
        before > 0 && server.totals().uplink_bytes == before
    });
    assert!(server.totals().buffer_bytes_held <= 5 << 20, "{} bytes", server.totals().buffer_bytes_held);
    let readers: Vec<_> = targets
        .drain(..)
        .map(|mut target| {
            thread::spawn(move || {
                let bytes = read(&mut target, 120 * 60_000);
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            })
        })
        .collect();
    sending.join().unwrap();
    for reader in readers {
        reader.join().unwrap();
    }
}
