//! Clients that a balancer passes on: who they are is believed from listed sources only, and holds everywhere.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use support::client::{config, request};
use support::origin::Origin;
use support::server::{ALICE, Options, PATIENT, Server};
use support::{bounded, wait_until};
use vless_rust::protocol::proxy_header::Version;
use vless_rust::reactor::request::{CutQuery, Which};
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Dest, Fallback, Timeouts};
use vless_rust::stats::gate::Limits;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 51820 443\r\n";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 51820 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\xca\x6c\x01\xbb";
/// The same with a field that nobody here knows.
const V2_FIELD: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x07\xc0\0\x02\x01\xca\x6c\x01\xbb\xe0\0\x01\x2a";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

fn announced(options: Options) -> Server {
    Server::start(Options { proxy_protocol_from: vec!["127.0.0.1/32".parse().unwrap()], ..options })
}

/// A stream that a client's bytes go over once the header has been sent.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a client sends over a connection whose header went before, with or without TLS.
fn open(server: &Server, tcp: TcpStream, target: SocketAddr) -> Box<dyn Stream> {
    let mut stream: Box<dyn Stream> = match &server.certificate {
        None => Box::new(tcp),
        Some(certificate) => {
            let config = config(certificate, rustls::ALL_VERSIONS);
            let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
            Box::new(StreamOwned::new(tls, tcp))
        }
    };
    stream.write_all(&[&request(&ALICE, target), &b"hello"[..]].concat()).unwrap();
    stream
}

#[track_caller]
fn assert_echo(stream: &mut dyn Stream) {
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0hello");
}

fn connect(server: &Server) -> TcpStream {
    bounded(TcpStream::connect(server.address).unwrap())
}

#[test]
fn the_announced_client_is_the_client_however_the_header_is_cut() {
    for tls in [false, true] {
        let (server, origin) = (announced(Options { tls, ..Options::default() }), Origin::echo());
        for (header, client) in [
            (V1, "203.0.113.7:51820"),
            (V1_IPV6, "[2001:db8::7]:51820"),
            (V2, "203.0.113.7:51820"),
            (V2_FIELD, "203.0.113.7:51820"),
        ] {
            // With TLS each of them costs a handshake.
            for cut in (1..=header.len()).step_by(if tls { 7 } else { 1 }) {
                let mut tcp = connect(&server);
                tcp.write_all(&header[..cut]).unwrap();
                if cut % 8 == 1 {
                    // Else the two parts may arrive as one.
                    wait_until("the first part was accepted", || server.totals().sessions_active > 0);
                    std::thread::sleep(Duration::from_millis(2));
                }
                tcp.write_all(&header[cut..]).unwrap();
                let mut stream = open(&server, tcp, origin.address);
                assert_echo(&mut *stream);
                drop(stream);
                let record = server.closed(1).remove(0);
                assert_eq!(record.client, client.parse().unwrap(), "cut at {cut}");
            }
        }
        server.wait_until_empty();
    }
}

#[test]
fn a_header_in_single_bytes_and_one_glued_to_what_follows_are_understood() {
    for header in [V1, V2] {
        let (server, origin) = (announced(Options::default()), Origin::echo());
        let mut tcp = connect(&server);
        for byte in header {
            tcp.write_all(&[*byte]).unwrap();
        }
        assert_echo(&mut *open(&server, tcp, origin.address));
        let mut tcp = connect(&server);
        tcp.write_all(&[header, &request(&ALICE, origin.address), b"hello"].concat()).unwrap();
        assert_echo(&mut tcp);
    }
}

#[test]
fn a_header_that_names_nobody_leaves_the_address_of_the_socket() {
    for tls in [false, true] {
        for header in [LOCAL, UNKNOWN] {
            let (server, origin) = (announced(Options { tls, ..Options::default() }), Origin::echo());
            let mut tcp = connect(&server);
            let own = tcp.local_addr().unwrap();
            tcp.write_all(header).unwrap();
            let mut stream = open(&server, tcp, origin.address);
            assert_echo(&mut *stream);
            drop(stream);
            assert_eq!(server.closed(1)[0].client, own);
        }
    }
}

#[test]
fn what_is_no_header_is_closed_in_order_without_a_byte() {
    let long_line = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    let too_long = [&V2[..14], &[0xff, 0xff]].concat();
    let good_hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    for tls in [false, true] {
        let server = announced(Options { tls, ..Options::default() });
        for wrong in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &good_hello,
            &request(&ALICE, "192.0.2.1:1".parse().unwrap()),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            b"PROXY TCP9 1.2.3.4 1.2.3.4 1 2\r\n",
            &long_line,
            &too_long,
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c",
        ] {
            let mut tcp = connect(&server);
            tcp.write_all(wrong).unwrap();
            let mut answer = Vec::new();
            assert_eq!(tcp.read_to_end(&mut answer).unwrap(), 0, "{answer:?}");
            drop(tcp);
            assert_eq!(server.closed(1)[0].reason, CloseReason::BadProxyHeader);
        }
        server.wait_until_empty();
        assert_eq!(server.closes(CloseReason::BadProxyHeader), 8);
    }
}

#[test]
fn the_header_has_the_time_of_the_handshake_and_no_more() {
    const SHORT: Duration = Duration::from_millis(300);
    for tls in [false, true] {
        let server =
            announced(Options { tls, timeouts: Timeouts { tls_handshake: SHORT, ..PATIENT }, ..Options::default() });
        let start = Instant::now();
        let mut tcp = connect(&server);
        tcp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // The waits between its bytes are longer than its time.
        for byte in V1 {
            if tcp.write_all(&[*byte]).is_err() || matches!(tcp.read(&mut [0]), Ok(0)) {
                break;
            }
        }
        assert!(start.elapsed() < PATIENT.tls_handshake / 2, "bytes do not extend it");
        assert_eq!(server.closed(1)[0].reason, CloseReason::HandshakeTimeout);
        let silent = connect(&server);
        assert_eq!(server.closed(1)[0].reason, CloseReason::HandshakeTimeout);
        drop(silent);
    }
}

#[test]
fn whoever_is_not_listed_sends_garbage() {
    for header in [V1, V2, LOCAL] {
        let server = Server::start(Options::tls());
        let mut tcp = connect(&server);
        tcp.write_all(header).unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).unwrap();
        assert_eq!((answer.len(), answer[0]), (7, 21), "an alert: {answer:?}");
        drop(tcp);
        assert_eq!(server.closed(1)[0].reason, CloseReason::TlsFailed);
        // Listed is another one.
        let from = vec!["127.0.0.9".parse().unwrap()];
        let server = Server::start(Options { proxy_protocol_from: from, ..Options::default() });
        let mut tcp = connect(&server);
        let own = tcp.local_addr().unwrap();
        tcp.write_all(header).unwrap();
        assert_eq!(tcp.read_to_end(&mut answer).unwrap(), 0);
        drop(tcp);
        let record = server.closed_for(CloseReason::NotVless);
        assert_eq!(record.client, own, "nobody is believed");
    }
}

#[test]
fn limits_by_address_and_cuts_by_address_mean_the_announced_client() {
    let (server, origin) = (announced(Options::default()), Origin::echo());
    server.limit(&ALICE, Limits { addresses_max: 1, ..Limits::default() });
    let from = |last: u8| {
        let mut tcp = connect(&server);
        write!(tcp, "PROXY TCP4 203.0.113.{last} 192.0.2.1 1 443\r\n").unwrap();
        tcp.write_all(&[&request(&ALICE, origin.address), &b"hello"[..]].concat()).unwrap();
        tcp
    };
    let mut first = from(1);
    assert_echo(&mut first);
    // One guest is let in for a while.
    let mut guest = from(2);
    assert_echo(&mut guest);
    let mut refused = from(3);
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    drop(refused);
    assert_eq!(server.closed(1)[0].reason, CloseReason::UserAddressesLimit);
    let mut again = from(1);
    assert_echo(&mut again);
    let which = Which::Source("203.0.113.2".parse().unwrap());
    let _ = server.reactor().handle().cut(&CutQuery { which, reason: CloseReason::Cut });
    let record = server.closed(1).remove(0);
    assert_eq!((record.reason, record.client), (CloseReason::Cut, "203.0.113.2:1".parse().unwrap()));
    again.write_all(b"still").unwrap();
    let mut answer = [0; 5];
    again.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still");
}

#[test]
fn the_fallback_hears_what_was_announced() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fallback = Fallback {
        name: String::new(),
        alpn: String::new(),
        path: String::new(),
        dest: Dest::Tcp("127.0.0.1".into(), address.port()),
        proxy_header: Some(Version::One),
    };
    let server = announced(Options { fallbacks: vec![fallback], ..Options::default() });
    let hello = b"GET / HTTP/1.1\r\n\r\n";
    let mut tcp = connect(&server);
    tcp.write_all(&[V2, hello].concat()).unwrap();
    let mut web = bounded(listener.accept().unwrap().0);
    let mut heard = vec![0; V1.len() + hello.len()];
    web.read_exact(&mut heard).unwrap();
    assert_eq!(heard, [V1, hello].concat(), "source and destination of the first connection");
}

#[test]
fn a_balancer_that_looks_whether_we_live_is_no_error() {
    let server = announced(Options::tls());
    drop(connect(&server));
    assert_eq!(server.closed(1)[0].reason, CloseReason::ClientLeft);
    let mut tcp = connect(&server);
    tcp.write_all(LOCAL).unwrap();
    drop(tcp);
    assert_eq!(server.closed(1)[0].reason, CloseReason::ClientLeft);
}

#[test]
fn a_list_that_is_replaced_holds_for_whoever_comes_next() {
    let (server, origin) = (Server::start(Options::default()), Origin::echo());
    let mut before = connect(&server);
    wait_until("it is accepted", || server.totals().sessions_accepted == 1);
    let mut rules = server.rules.clone();
    rules.session.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()].into();
    server.reactor().handle().adopt(&Arc::new(rules));
    wait_until("a header is mandatory", || {
        let mut tcp = connect(&server);
        tcp.write_all(V1).unwrap();
        tcp.write_all(&[&request(&ALICE, origin.address), &b"hello"[..]].concat()).unwrap();
        tcp.read(&mut [0]).is_ok_and(|count| count == 1)
    });
    before.write_all(&[&request(&ALICE, origin.address), &b"hello"[..]].concat()).unwrap();
    assert_echo(&mut before);
}
