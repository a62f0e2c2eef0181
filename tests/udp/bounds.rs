//! What one user may take of the sockets there are, and what happens to those nobody uses.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use vless_rust::session::UdpSettings;

use crate::harness::{Client, Frame, PLAIN, Server, VISION, at, end, hear, new_tcp, new_udp, packet, peer, wait_until};

const IDLE: Duration = Duration::from_secs(60);

#[test]
fn sessions_inside_share_a_bound_of_sockets_and_plain_ones_do_not() {
    let server = Server::start_with(2, UdpSettings::default(), IDLE, 8);
    let (listener, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), peer("127.0.0.1"));
    let (tcp, udp) = (at(listener.local_addr().unwrap()), at(target.local_addr().unwrap()));
    let mut greedy = Client::open(&server, PLAIN, 3, &[]);
    // Half of eight are one user's, of either kind.
    greedy.send(&[new_udp(2, &udp, &[], b"2"), new_udp(4, &udp, &[], b"4")].concat());
    assert_eq!((hear(&target).0, hear(&target).0), (b"2".to_vec(), b"4".to_vec()));
    greedy.send(&[new_tcp(1, &tcp, b"x"), new_tcp(3, &tcp, b"x"), new_tcp(5, &tcp, b"x")].concat());
    assert_eq!(greedy.frame(), Frame::End { id: 5, is_error: true });
    greedy.send(&new_udp(6, &udp, &[], b"6"));
    assert_eq!(greedy.frame(), Frame::End { id: 6, is_error: true });
    assert_eq!(server.totals().mux_sockets_refused, 2);
    // Others have theirs, command 2 has its own, and what is given back can be had again.
    Client::open(&server, PLAIN, 2, &udp).send(&packet(b"plain"));
    assert_eq!(hear(&target).0, b"plain");
    let mut other = Client::open(&server, VISION, 3, &[]);
    other.send(&new_udp(0, &udp, &[], b"other"));
    assert_eq!(hear(&target).0, b"other");
    greedy.send(&[end(2), new_udp(7, &udp, &[], b"7")].concat());
    assert_eq!(hear(&target).0, b"7");
    drop((greedy, other));
    wait_until("all are given back", || server.user(PLAIN).udp_sockets + server.user(VISION).udp_sockets == 0);
}

#[test]
fn sockets_that_wait_for_their_client_make_room_for_new_ones() {
    let server = Server::start(2, UdpSettings { sockets_per_user_max: 3, ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let address = at(target.local_addr().unwrap());
    let mut sources = Vec::new();
    for number in 0..3 {
        let mut client = Client::open(&server, PLAIN, 3, &[]);
        client.send(&new_udp(0, &address, &[1 + number; 8], b"x"));
        sources.push(hear(&target).1);
        drop(client);
        server.reasons(usize::from(number) + 1);
    }
    assert_eq!(server.user(PLAIN).udp_sockets, 3, "all three wait");
    let mut second = Client::open(&server, PLAIN, 3, &[]);
    second.send(&new_udp(0, &address, &[2; 8], b"back"));
    assert_eq!(hear(&target), (b"back".to_vec(), sources[1]), "who comes back gets the same");
    let mut fourth = Client::open(&server, PLAIN, 3, &[]);
    fourth.send(&new_udp(0, &address, &[4; 8], b"new"));
    assert_eq!(hear(&target).0, b"new");
    let mut plain = Client::open(&server, PLAIN, 2, &address);
    plain.send(&packet(b"plain"));
    assert_eq!(hear(&target).0, b"plain");
    // Now all three are in use.
    Client::open(&server, PLAIN, 2, &address).assert_closed();
    assert_eq!((server.user(PLAIN).udp_sockets, server.totals().udp_sockets_refused), (3, 1));
}

/// Both workers make room at the same time, and each takes what the other made.
#[test]
fn nobody_is_refused_while_sockets_wait_for_clients_that_will_not_come_back() {
    const CLIENTS: u8 = 8;
    const ROUNDS: u16 = 300;
    let udp = UdpSettings { sockets_per_user_max: usize::from(CLIENTS) + 2, ..UdpSettings::default() };
    let server = Server::start(2, udp);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = Client::open(&server, PLAIN, 3, &[]);
            scope.spawn(move || {
                let target = peer("127.0.0.1");
                let address = at(target.local_addr().unwrap());
                for round in 0..ROUNDS {
                    let [high, low] = round.to_be_bytes();
                    client.send(&new_udp(0, &address, &[number, high, low, 0, 0, 0, 0, 1], &[low]));
                    assert_eq!(hear(&target).0, [low]);
                    client.send(&end(0));
                }
            });
        }
    });
    assert_eq!(server.totals().udp_sockets_refused, 0);
}

/// The grace of a minute, shortened: the sweep that comes first finds the socket left for less than that.
#[test]
fn a_socket_without_client_is_kept_for_the_grace_and_closed_by_the_sweep_behind_it() {
    const GRACE: Duration = Duration::from_secs(2);
    let server = Server::start(2, UdpSettings { global_id_grace: GRACE, ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let address = at(target.local_addr().unwrap());
    let mut sources = Vec::new();
    let mut left = Instant::now();
    for round in 0..3 {
        let mut client = Client::open(&server, PLAIN, 3, &[]);
        client.send(&new_udp(0, &address, b"globalid", &[round]));
        let (said, source) = hear(&target);
        assert_eq!(said, [round]);
        // On a busy machine it may come back too late.
        let is_in_time = left.elapsed() < GRACE;
        assert!(round == 0 || !is_in_time || sources.last() == Some(&source), "another socket within the grace");
        sources.push(source);
        // Sweeps come every grace since the first round. One is between here and the next.
        std::thread::sleep(GRACE / 2);
        drop(client);
        server.reasons(usize::from(round) + 1);
        left = Instant::now();
        std::thread::sleep(GRACE / 4 * 3);
        let is_kept = server.user(PLAIN).udp_sockets == 1;
        assert!(is_kept || left.elapsed() >= GRACE, "closed within the grace");
    }
    wait_until("the sweep closes it", || server.user(PLAIN).udp_sockets == 0);
    let mut late = Client::open(&server, PLAIN, 3, &[]);
    late.send(&new_udp(0, &address, b"globalid", b"late"));
    assert_eq!(hear(&target).0, b"late");
    assert!(server.totals().udp_sockets_migrated <= 2, "a socket that was closed came back");
}

#[test]
fn a_socket_with_a_global_id_that_was_idle_for_too_long_is_closed_and_not_kept() {
    let server = Server::start(1, UdpSettings { timeout: Duration::from_millis(200), ..UdpSettings::default() });
    let target = peer("127.0.0.1");
    let mut client = Client::open(&server, PLAIN, 3, &[]);
    client.send(&new_udp(0, &at(target.local_addr().unwrap()), b"globalid", b"x"));
    hear(&target);
    assert_eq!(client.frame(), Frame::End { id: 0, is_error: false });
    wait_until("the socket is given back", || server.user(PLAIN).udp_sockets == 0);
}
