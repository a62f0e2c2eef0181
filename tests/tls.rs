//! TLS on real sockets: what real clients do on the wire, and how a broken stream ends.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::SupportedKxGroup;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion};
use support::bounded;
use support::client::{self, Client, records, request};
use support::origin::Origin;
use support::server::{ALICE, Options, Server};
use vless_rust::session::close::CloseReason;

/// A client whose TLS settings a test may change, and whose bytes may be cut before they are sent.
struct Bare {
    tls: ClientConnection,
    tcp: TcpStream,
}

impl Bare {
    fn new(server: &Server, config: Arc<ClientConfig>) -> Self {
        let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        Self { tls, tcp: bounded(TcpStream::connect(server.address).unwrap()) }
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn handshake(&mut self) {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.tcp).unwrap();
        }
    }

    /// Opens a relay to an echo and uses it.
    fn echo(&mut self, origin: &Origin) {
        let mut stream = rustls::Stream::new(&mut self.tls, &mut self.tcp);
        stream.write_all(&request(&ALICE, origin.address)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\0\0hello");
    }
}

fn config(server: &Server, change: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
    let mut config = client::config(server.certificate.as_ref().unwrap(), rustls::ALL_VERSIONS);
    change(Arc::get_mut(&mut config).unwrap());
    config
}

#[test]
fn a_hello_in_single_byte_segments_is_understood() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let mut client = Bare::new(&server, config(&server, |_| ()));
    for byte in client.pending() {
        client.tcp.write_all(&[byte]).unwrap();
    }
    client.handshake();
    client.echo(&origin);
    assert_eq!(
        client.tls.negotiated_key_exchange_group().map(SupportedKxGroup::name),
        Some(NamedGroup::X25519MLKEM768)
    );
}

#[test]
fn a_hello_over_many_records_is_understood() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let mut client = Bare::new(&server, config(&server, |config| config.max_fragment_size = Some(64)));
    let hello = client.pending();
    assert!(records(&hello).len() > 10);
    client.tcp.write_all(&hello).unwrap();
    client.handshake();
    client.echo(&origin);
}

#[test]
fn the_last_flight_and_the_request_may_come_in_one_segment() {
    for version in [&TLS13, &TLS12] {
        let (server, origin) = (Server::start(Options::tls()), Origin::echo());
        let config = client::config(server.certificate.as_ref().unwrap(), &[version]);
        let mut client = Bare::new(&server, config);
        // Written before the handshake is done, it goes out right behind the client's Finished.
        client.tls.writer().write_all(&request(&ALICE, origin.address)).unwrap();
        client.tls.writer().write_all(b"hello").unwrap();
        client.handshake();
        let mut stream = rustls::Stream::new(&mut client.tls, &mut client.tcp);
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\0\0hello");
    }
}

#[test]
fn a_ticket_brings_a_client_back() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let config = config(&server, |config| config.resumption = Resumption::in_memory_sessions(4));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = Bare::new(&server, Arc::clone(&config));
        client.handshake();
        assert_eq!(client.tls.handshake_kind(), Some(expected));
        client.echo(&origin);
    }
    assert_eq!(server.totals().tls_handshakes, 2);
}

#[test]
fn a_protocol_offered_is_answered_or_refused_with_an_alert() {
    let alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let (server, origin) = (Server::start(Options { alpn, ..Options::tls() }), Origin::echo());
    for (offered, expected) in [(&b"h2"[..], Some(&b"h2"[..])), (b"http/1.1", Some(b"http/1.1")), (b"", None)] {
        let offer = |config: &mut ClientConfig| {
            config.alpn_protocols = if offered.is_empty() { Vec::new() } else { vec![offered.to_vec()] };
        };
        let mut client = Bare::new(&server, config(&server, offer));
        client.handshake();
        assert_eq!(client.tls.alpn_protocol(), expected);
        client.echo(&origin);
    }
    let mut stranger = Bare::new(&server, config(&server, |config| config.alpn_protocols = vec![b"gopher".to_vec()]));
    let error = loop {
        if let Err(error) = stranger.tls.complete_io(&mut stranger.tcp) {
            break error;
        }
        assert!(stranger.tls.is_handshaking(), "a handshake without a common protocol");
    };
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn both_versions_are_spoken() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = Client::connect_with(&server, &[version]);
        client.send(&[&request(&ALICE, origin.address), &b"hello"[..]].concat()).unwrap();
        client.take_response();
        assert_eq!(client.take(5), b"hello");
        assert_eq!(client.tls(|tls| tls.protocol_version()), Some(expected));
    }
}

#[test]
fn a_relay_survives_changes_of_keys() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let client = Client::connect_with(&server, &[&TLS13]);
    client.send(&request(&ALICE, origin.address)).unwrap();
    client.send(b"first").unwrap();
    client.take_response();
    assert_eq!(client.take(5), b"first");
    for _ in 0..5 {
        client.tls(|tls| tls.refresh_traffic_keys().unwrap());
        client.send(b"again").unwrap();
        assert_eq!(client.take(5), b"again");
    }
}

#[test]
fn both_ends_of_a_relay_are_said_in_tls() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.finish();
    client.take_response();
    // The client takes a bare end of the connection for an error.
    assert_eq!(client.recv_to_end().unwrap(), b"hello");
    server.closed_for(CloseReason::Finished);
}

#[test]
fn garbage_in_the_relay_ends_it_with_an_alert_and_breaks_the_target() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    client.send_raw(&[23, 3, 3, 0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]).unwrap();
    client.send_raw(&[7; 16]).unwrap();
    let error = client.recv(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(origin.outcome().unwrap_err().kind(), ErrorKind::ConnectionReset);
    server.closed_for(CloseReason::TlsFailed);
}

/// What the client goes on sending must not make the kernel reset the connection before the alert is read.
#[test]
fn the_alert_arrives_although_the_client_goes_on_sending() {
    for _ in 0..10 {
        let (server, origin) = (Server::start(Options::tls()), Origin::echo());
        let client = Client::open(&server, &ALICE, origin.address, b"hello");
        client.take_response();
        assert_eq!(client.take(5), b"hello");
        client.send_raw(&[&[23, 3, 3, 0, 32][..], &vec![7; 400_000]].concat()).unwrap();
        let error = client.recv(&mut [0]).unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
        client.finish_tcp();
        server.closed_for(CloseReason::TlsFailed);
    }
}

#[test]
fn an_end_inside_a_record_is_a_break_and_not_an_end() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let client = Client::open(&server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    client.send_raw(&[23, 3, 3, 0, 32, 1, 2, 3]).unwrap();
    client.finish_tcp();
    assert_eq!(origin.outcome().unwrap_err().kind(), ErrorKind::ConnectionReset);
    server.closed_for(CloseReason::Truncated);
}

/// Each of these once made rustls panic when it was asked for its alert, before the client had shown who it is.
#[test]
fn crafted_handshake_records_do_not_stop_the_server() {
    let server = Server::start(Options::tls());
    let finished = [20, 0, 0, 4, 1, 2, 3, 4];
    let crafted: [Vec<u8>; 3] = [
        [&[22, 3, 1, 0, 12, 1, 0, 0, 0], &finished[..]].concat(),
        [&[22, 3, 1, 0, 8, 1, 0, 0, 0], &finished[..4]].concat(),
        [&[22, 3, 1, 0, 2, 1, 0][..], &[23, 3, 3, 0, 1, 0]].concat(),
    ];
    for bytes in crafted {
        let mut client = bounded(TcpStream::connect(server.address).unwrap());
        client.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        drop(client);
        assert_eq!(server.closed(1)[0].reason, CloseReason::TlsFailed);
    }
    let origin = Origin::echo();
    Bare::new(&server, config(&server, |_| ())).echo(&origin);
}
