//! Attacks of strangers on the opening of a session.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use vless_rust::session::close::CloseReason;

use crate::support::bounded;
use crate::support::client::{Client, config, request};
use crate::support::server::{ALICE, Options, Server};

/// Every state of the opening that a client can bring about.
const STATES: [Come; 6] =
    [Come::Connected, Come::HelloBegun, Come::Open, Come::Sent(1), Come::Sent(17), Come::Sent(20)];

/// How far a client has come: what it has sent, within TLS where there is TLS and the handshake is done.
enum Come {
    Connected,
    HelloBegun,
    Open,
    Sent(usize),
}

/// A client that has come so far; `None` where there is no such state without TLS.
fn come(server: &Server, state: &Come) -> Option<Client> {
    let raw = || Client::raw(bounded(TcpStream::connect(server.address).unwrap()));
    match state {
        Come::Connected => Some(raw()),
        Come::HelloBegun => {
            server.certificate.as_ref()?;
            let client = raw();
            client.send_raw(&[22, 3, 1]).unwrap();
            Some(client)
        }
        Come::Open => Some(Client::connect(server)),
        Come::Sent(count) => {
            let client = Client::connect(server);
            client.send(&request(&ALICE, "192.0.2.1:443".parse().unwrap())[..*count]).unwrap();
            Some(client)
        }
    }
}

#[test]
fn a_reset_in_each_state_of_the_opening_leaves_nothing_behind() {
    for tls in [false, true] {
        let server = Server::start(Options { tls, ..Options::default() });
        for state in &STATES {
            let Some(client) = come(&server, state) else { continue };
            client.reset();
            let reason = server.closed(1)[0].reason;
            assert!(matches!(reason, CloseReason::ClientReset | CloseReason::ClientLeft), "{reason:?}");
            server.wait_until_empty();
        }
    }
}

#[test]
fn a_half_close_in_each_state_of_the_opening_is_an_orderly_end() {
    for tls in [false, true] {
        let server = Server::start(Options { tls, ..Options::default() });
        for state in &STATES {
            let Some(client) = come(&server, state) else { continue };
            client.finish();
            let end = client.recv_to_end();
            assert!(!matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset), "{end:?}");
            assert_eq!(end.unwrap_or_default(), b"");
            assert_eq!(server.closed(1)[0].reason, CloseReason::ClientLeft);
            server.wait_until_empty();
        }
    }
}

/// What a raw client is answered to these bytes, to the end.
fn answer(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = bounded(TcpStream::connect(server.address).unwrap());
    tcp.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    answer
}

/// A hello of before TLS 1.2, without extensions.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let body = [&version[..], &[7; 32], &[0, 0, 4, 0, 0x2f, 0xc0, 0x13, 1, 0]].concat();
    let message = [&[1, 0, 0, body.len() as u8], &body[..]].concat();
    [&[22, 3, 1, 0, message.len() as u8], &message[..]].concat()
}

#[test]
fn older_versions_are_refused_as_tls_refuses_them() {
    for version in [[3, 0], [3, 1], [3, 2]] {
        let server = Server::start(Options::tls());
        let answer = answer(&server, &old_hello(version));
        assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "a fatal alert: {answer:?}");
        assert_eq!(server.closed(1)[0].reason, CloseReason::TlsFailed);
    }
    let server = Server::start(Options::tls());
    let ssl2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[7; 37]].concat();
    let answer = answer(&server, &ssl2);
    assert_eq!((answer.len(), answer[0]), (7, 21), "{answer:?}");
}

#[test]
fn giant_records_are_refused_at_their_header() {
    let server = Server::start(Options::tls());
    for header in [[22, 3, 1, 0xff, 0xff], [22, 3, 1, 0x48, 1]] {
        let answer = answer(&server, &header);
        assert_eq!((answer.len(), answer[0]), (7, 21), "{answer:?}");
        assert_eq!(server.closed(1)[0].reason, CloseReason::TlsFailed);
    }
    let client = Client::connect(&server);
    client.send_raw(&[23, 3, 3, 0xff, 0xff]).unwrap();
    let error = client.recv(&mut [0]).unwrap_err();
    assert!(error.kind() != ErrorKind::ConnectionReset && error.kind() != ErrorKind::WouldBlock, "an alert: {error}");
    drop(client);
    assert_eq!(server.closed(1)[0].reason, CloseReason::TlsFailed);
    server.wait_until_empty();
}

#[test]
fn a_replayed_ticket_brings_no_early_data() {
    let server = Server::start(Options::tls());
    let mut config = config(server.certificate.as_ref().unwrap(), &[&rustls::version::TLS13]);
    let change = |config: &mut ClientConfig| {
        config.resumption = Resumption::in_memory_sessions(4);
        config.enable_early_data = true;
    };
    change(Arc::get_mut(&mut config).unwrap());
    let connect = || ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
    let mut first = connect();
    let mut tcp = bounded(TcpStream::connect(server.address).unwrap());
    while first.is_handshaking() {
        first.complete_io(&mut tcp).unwrap();
    }
    // The ticket comes behind the handshake.
    tcp.shutdown(Shutdown::Write).unwrap();
    while first.read_tls(&mut tcp).is_ok_and(|count| count > 0) {
        first.process_new_packets().unwrap();
    }
    let mut second = connect();
    assert!(second.early_data().is_none(), "the ticket permits none");
    let mut hello = Vec::new();
    while second.wants_write() {
        second.write_tls(&mut hello).unwrap();
    }
    let mut tcp = bounded(TcpStream::connect(server.address).unwrap());
    tcp.write_all(&hello).unwrap();
    while second.is_handshaking() {
        second.complete_io(&mut tcp).unwrap();
    }
    assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
    // The same hello again, by somebody who has only seen it.
    let mut replayed = bounded(TcpStream::connect(server.address).unwrap());
    replayed.write_all(&hello).unwrap();
    let mut answer = [0; 1];
    replayed.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [22], "it is answered, and leads nowhere without the key");
    replayed.write_all(&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]).unwrap();
    drop(replayed);
    drop((first, second, tcp));
    assert_eq!(server.closed(3).len(), 3);
    assert_eq!(server.totals().tls_handshakes, 2);
}
