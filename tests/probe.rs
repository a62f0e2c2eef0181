//! The probe against our own server: a link that is right passes every step, and one that is wrong names the culprit.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use support::ports::free_address;
use support::server::{ALICE, Options, STRANGER, Server, VISION};
use vless_rust::app::certs::fingerprint_hex;
use vless_rust::app::probe::{Report, Side, Wishes, probe};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

const VISION_FLOW: &str = "&flow=xtls-rprx-vision";

/// A web server that answers every connection once; with TLS if that is wanted.
fn web(tls: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if tls {
                let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::Stream::new(&mut server, &mut tcp);
                if stream.read(&mut request).is_ok() {
                    let _ = stream.write_all(ANSWER);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            } else if tcp.read(&mut request).is_ok_and(|count| count > 0) {
                let _ = tcp.write_all(ANSWER);
            }
        }
    });
    address
}

fn server(tls: bool) -> Server {
    Server::start(Options { tls, ..if tls { Options::tls() } else { Options::default() } })
}

fn link(server: &Server, id: [u8; 16], flow: &str) -> String {
    let id = uuid::Uuid::from_bytes(id);
    let tls = server
        .certificate
        .as_ref()
        .map(|certificate| format!("&security=tls&sni=localhost&pcs={}", fingerprint_hex(certificate)));
    let tls = tls.unwrap_or_else(|| "&security=none".to_owned());
    format!("vless://{id}@{}?encryption=none{flow}{tls}&type=tcp#x", server.address)
}

fn probed(link: &str, target: &str) -> Report {
    // Nobody answers there; UDP is tried last and fails nothing.
    let dns = "127.0.0.1:9".parse().unwrap();
    probe(link, &Wishes { target: target.to_owned(), dns }).unwrap()
}

#[track_caller]
fn blames(report: &Report, side: Side, what: &str) {
    let fault = report.fault.as_ref().unwrap_or_else(|| panic!("no fault:\n{}", report.words()));
    assert!(fault.side == side && fault.what.contains(what) && !fault.remedy.is_empty(), "{}", report.words());
}

#[track_caller]
fn is_well(report: &Report) {
    assert_eq!(report.fault, None, "{}", report.words());
}

#[test]
fn a_right_link_passes_with_and_without_tls() {
    let (http, https) = (format!("http://{}/", web(false)), format!("https://{}/", web(true)));
    for tls in [false, true] {
        let server = server(tls);
        for target in [&http, &https] {
            is_well(&probed(&link(&server, ALICE, ""), target));
        }
    }
}

#[test]
fn vision_goes_direct_in_both_directions() {
    let server = server(true);
    let report = probed(&link(&server, VISION, VISION_FLOW), &format!("https://{}/", web(true)));
    is_well(&report);
    assert!(report.words().contains("both directions left TLS"), "{}", report.words());
}

#[test]
fn each_mistake_in_a_link_is_told() {
    let target = format!("https://{}/", web(true));
    let (plain, secure) = (server(false), server(true));
    let right = link(&secure, VISION, VISION_FLOW);
    blames(&probed(&link(&secure, STRANGER, ""), &target), Side::Link, "does not know the user id");
    blames(&probed(&link(&secure, STRANGER, VISION_FLOW), &target), Side::Link, "does not know the user id");
    blames(&probed(&link(&secure, VISION, ""), &target), Side::Link, "the account has xtls-rprx-vision");
    blames(&probed(&link(&secure, ALICE, VISION_FLOW), &target), Side::Link, "the account has no flow");
    let (before, pin) = right.split_once("pcs=").unwrap();
    let other_pin = format!("{before}pcs={}{}", if pin.starts_with('0') { '1' } else { '0' }, &pin[1..]);
    blames(&probed(&other_pin, &target), Side::Link, "another one than the link pins");
    let no_tls = link(&secure, ALICE, "").replace("security=tls", "security=none");
    blames(&probed(&no_tls, &target), Side::Link, "the server speaks TLS");
    let tls_to_plain = link(&plain, ALICE, "").replace("security=none", "security=tls&sni=localhost");
    blames(&probed(&tls_to_plain, &target), Side::Server, "during the TLS handshake");
}

#[test]
fn what_is_not_the_links_fault_is_told_too() {
    let target = format!("https://{}/", web(true));
    let server = server(true);
    let right = link(&server, ALICE, "");
    let closed = free_address();
    blames(&probed(&right, &format!("http://{closed}/")), Side::Target, "cannot reach");
    let nobody = right.replace(&server.address.to_string(), &closed.to_string());
    blames(&probed(&nobody, &target), Side::Server, "nothing listens");
    let no_name = right.replace(&server.address.ip().to_string(), "no-such-host.invalid");
    let report = probed(&no_name, &target);
    // Where no name server can be reached the network is blamed, which is right as well.
    assert!(matches!(report.fault.unwrap().side, Side::Link | Side::Network));
    // A web server, of which VLESS knows nothing.
    let other = right.replace(&server.address.to_string(), &web(false).to_string());
    blames(&probed(&other, &target), Side::Server, "does not speak TLS");
}
