//! Clients that are turned away: each with its reason, without a VLESS byte, and without hanging.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::client::{Client, request};
use support::ports::free_address;
use support::server::{ALICE, Options, STRANGER, Server, VISION};
use support::{alone, bounded, wait_until};
use vless_rust::session::close::CloseReason;

/// Nobody is ever sent there.
const TARGET: ([u8; 4], u16) = ([192, 0, 2, 1], 443);

fn both() -> [Server; 2] {
    [Server::start(Options::default()), Server::start(Options::tls())]
}

fn target() -> SocketAddr {
    TARGET.into()
}

/// A request of Alice with other bytes from the addons' length on.
fn alice(rest: &[u8]) -> Vec<u8> {
    [&[0], &ALICE[..], rest].concat()
}

/// Sends `opening` and checks that an orderly end without a byte is the answer.
#[track_caller]
fn assert_refused(opening: &[u8], reason: CloseReason) {
    for server in both() {
        let client = Client::connect(&server);
        client.send(opening).unwrap();
        assert_eq!(client.recv_to_end().unwrap(), b"", "{reason:?}");
        client.finish();
        let record = server.closed_for(reason);
        assert_eq!((record.uplink.payload_bytes, record.downlink.payload_bytes), (0, 0));
    }
}

#[test]
fn other_protocols_are_refused_at_their_first_byte() {
    assert_refused(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", CloseReason::NotVless);
}

#[test]
fn unknown_users_are_refused() {
    assert_refused(&request(&STRANGER, target()), CloseReason::UnknownUser);
}

#[test]
fn malformed_requests_of_known_users_are_refused() {
    for rest in [&[0, 1, 0, 0, 1, 1, 2, 3, 4][..], &[0, 1, 1, 187, 9, 0], &[0, 1, 1, 187, 2, 0], &[1, 0xff, 1]] {
        assert_refused(&alice(rest), CloseReason::BadRequest);
    }
}

#[test]
fn another_flow_than_the_accounts_is_refused() {
    let flow = [&[18, 10, 16], &b"xtls-rprx-vision"[..], &[1, 1, 187, 1, 192, 0, 2, 1]].concat();
    assert_refused(&alice(&flow), CloseReason::FlowRefused);
    assert_refused(&request(&VISION, target()), CloseReason::FlowRefused);
}

#[test]
fn commands_that_are_not_built_are_refused() {
    assert_refused(&alice(&[0, 4]), CloseReason::CommandRefused);
}

#[test]
fn names_that_mean_a_protocol_inside_are_refused() {
    // Xray's clients call the target of Mux so before they send command 3, which carries no target.
    for name in ["sp.mux.sing-box.arpa", "v1.mux.cool", "v1.rvs.cool", "V1.Mux.Cool."] {
        for command in [1, 2] {
            let rest = [&[0, command, 1, 187, 2, name.len() as u8], name.as_bytes()].concat();
            assert_refused(&alice(&rest), CloseReason::ReservedName);
        }
    }
}

#[test]
fn a_target_that_nobody_listens_on_ends_the_client_without_a_byte() {
    let free = free_address();
    assert_refused(&request(&ALICE, free), CloseReason::TargetUnreachable);
}

#[test]
fn a_target_that_the_policy_forbids_ends_the_client_without_a_byte() {
    for forbidden in ["10.0.0.1:80", "169.254.169.254:80", "[fe80::1]:80"] {
        assert_refused(&request(&ALICE, forbidden.parse().unwrap()), CloseReason::PolicyRefused);
    }
}

#[test]
fn a_target_whose_name_nobody_knows_ends_the_client_without_a_byte() {
    let name = b"nobody.invalid";
    let rest = [&[0, 1, 1, 187, 2, name.len() as u8], &name[..]].concat();
    assert_refused(&alice(&rest), CloseReason::TargetUnresolved);
}

#[test]
fn a_target_that_does_not_answer_ends_the_client_at_the_connect_deadline() {
    // A queue for one connection that nobody takes out: what comes behind it gets no answer (Linux).
    let target = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    target.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    target.listen(0).unwrap();
    let address = target.local_addr().unwrap();
    let _filling: Vec<_> = (0..3)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let server = Server::start(Options { connect_timeout: Duration::from_millis(300), ..Options::default() });
    let client = Client::open(&server, &ALICE, address.as_socket().unwrap(), b"");
    assert_eq!(client.recv_to_end().unwrap(), b"");
    client.finish();
    server.closed_for(CloseReason::TargetTimeout);
}

#[test]
fn a_client_for_whose_target_no_descriptor_is_left_ends_without_a_byte() {
    alone::run("a_client_for_whose_target_no_descriptor_is_left_ends_without_a_byte", || {
        let server = Server::start(Options::default());
        let client = Client::connect(&server);
        wait_until("the client is accepted", || server.totals().sessions_accepted == 1);
        alone::leave_descriptors(0);
        client.send(&request(&ALICE, ([127, 0, 0, 1], 9).into())).unwrap();
        assert_eq!(client.recv_to_end().unwrap(), b"");
        client.finish();
        server.closed_for(CloseReason::NoResources);
    });
}

#[test]
fn a_client_that_breaks_visions_blocks_is_cut() {
    let server = Server::start(Options::tls());
    let flow = [&[18, 10, 16], &b"xtls-rprx-vision"[..], &[1, 0, 9, 1, 127, 0, 0, 1]].concat();
    let block = [&VISION[..], &[9, 0, 0, 0, 0]].concat();
    let client = Client::connect(&server);
    client.send(&[&[0], &VISION[..], &flow, &block].concat()).unwrap();
    assert_eq!(client.recv_to_end().unwrap(), b"");
    client.finish();
    server.closed_for(CloseReason::BadPadding);
}

#[test]
fn a_client_that_leaves_before_its_request_is_complete_is_let_go() {
    for server in both() {
        let client = Client::connect(&server);
        client.send(&request(&ALICE, target())[..20]).unwrap();
        client.finish();
        assert_eq!(client.recv_to_end().unwrap_or_default(), b"");
        server.closed_for(CloseReason::ClientLeft);
    }
}

#[test]
fn a_client_that_breaks_before_its_request_is_complete_is_let_go() {
    for server in both() {
        let client = Client::connect(&server);
        client.send(&[0]).unwrap();
        client.reset();
        server.closed_for(CloseReason::ClientReset);
    }
}

/// What a client sends on after a refusal must not turn the orderly end into a reset that overtakes it.
#[test]
fn a_refused_client_that_goes_on_sending_still_sees_the_orderly_end() {
    for server in both() {
        let client = Client::connect(&server);
        client.send(&[&request(&STRANGER, target())[..], &vec![0; 100_000]].concat()).unwrap();
        client.send(&vec![0; 100_000]).unwrap();
        assert_eq!(client.recv_to_end().unwrap(), b"");
        client.finish();
        server.closed_for(CloseReason::UnknownUser);
    }
}

#[test]
fn a_stranger_to_tls_gets_an_alert() {
    for stranger in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[22, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let server = Server::start(Options::tls());
        let mut client = bounded(TcpStream::connect(server.address).unwrap());
        client.write_all(stranger).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!((answer.len(), answer[0]), (7, 21), "no alert but {answer:?}");
        drop(client);
        server.closed_for(CloseReason::TlsFailed);
    }
}

#[test]
fn a_client_that_leaves_before_the_handshake_is_done_is_let_go() {
    let server = Server::start(Options::tls());
    drop(TcpStream::connect(server.address).unwrap());
    assert_eq!(server.closed(1)[0].reason, CloseReason::ClientLeft);
    let mut client = bounded(TcpStream::connect(server.address).unwrap());
    client.write_all(&[22, 3, 1]).unwrap();
    drop(client);
    assert_eq!(server.closed(1)[0].reason, CloseReason::ClientLeft);
}

#[test]
fn another_certificate_is_not_accepted_by_the_tests_own_client() {
    let (server, other) = (Server::start(Options::tls()), Server::start(Options::tls()));
    let config = support::client::config(other.certificate.as_ref().unwrap(), rustls::ALL_VERSIONS);
    let mut tls = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut tcp = bounded(TcpStream::connect(server.address).unwrap());
    assert_eq!(tls.complete_io(&mut tcp).unwrap_err().kind(), ErrorKind::InvalidData);
    drop(tcp);
    server.closed_for(CloseReason::TlsFailed);
}
