//! Who may use Vision, and how.

use std::net::{SocketAddr, TcpListener};

use rustls::version;
use vless_rust::session::close::CloseReason;

use crate::support::client::Client;
use crate::support::server::{ALICE, Options, Server, VISION};
use crate::support::vision_client::{ADDONS, CONTINUE, How, VisionClient, request};
use crate::{Talk, Target, server};

const TCP: u8 = 1;
const UDP: u8 = 2;

/// An address at which nobody is ever asked for anything.
fn nowhere() -> SocketAddr {
    ([192, 0, 2, 1], 443).into()
}

/// Asks for a flow with these addons and checks that the answer is an orderly end without a byte.
#[track_caller]
fn assert_refused(how: How, addons: &[u8], command: u8) {
    let server = server();
    let mut client = VisionClient::connect(&server, how);
    let block = client.up.block(CONTINUE, b"hello", 100);
    client.up.send_tls(&[request(&how.user, addons, command, nowhere()), block].concat());
    client.down.expect_end();
    client.up.finish();
    server.closed_for(CloseReason::FlowRefused);
    assert_eq!(server.totals().vision_requests, 0);
}

fn addons(flow: &str) -> Vec<u8> {
    [&[0x0a, flow.len() as u8], flow.as_bytes()].concat()
}

#[test]
fn vision_is_for_accounts_that_have_it_and_they_have_nothing_else() {
    assert_refused(How::with(ALICE), ADDONS, TCP);
    assert_refused(How::with(VISION), &[], TCP);
}

#[test]
fn vision_carries_no_udp_requests() {
    assert_refused(How::with(VISION), ADDONS, UDP);
    assert_refused(How::with(ALICE), ADDONS, UDP);
}

#[test]
fn other_flows_are_refused() {
    for flow in ["none", "xtls-rprx-direct", "xtls-rprx-origin", "xtls-rprx-vision-udp443", "XTLS-RPRX-VISION"] {
        assert_refused(How::with(ALICE), &addons(flow), TCP);
        assert_refused(How::with(VISION), &addons(flow), TCP);
    }
}

#[test]
fn vision_needs_tls_1_3_outside() {
    assert_refused(How { version: &version::TLS12, ..How::with(VISION) }, ADDONS, TCP);
}

#[test]
fn vision_needs_tls() {
    let server = Server::start(Options::default());
    let client = Client::connect(&server);
    client.send(&request(&VISION, ADDONS, TCP, nowhere())).unwrap();
    assert_eq!(client.recv_to_end().unwrap(), b"");
    client.finish();
    server.closed_for(CloseReason::FlowRefused);
}

#[test]
fn unknown_addons_beside_the_flow_do_no_harm() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = VisionClient::connect(&server, How::with(VISION));
    let addons = [&[0x12, 2, 9, 9], ADDONS, &[0x18, 7]].concat();
    let block = client.up.block(CONTINUE, b"hello", 0);
    client.up.send_tls(&[request(&VISION, &addons, TCP, listener.local_addr().unwrap()), block].concat());
    Target::accept(&listener).expect(b"hello");
}

#[test]
fn requests_with_vision_are_counted() {
    let server = server();
    let _talks = [Talk::begin(&server), Talk::begin(&server)];
    let totals = server.totals();
    assert_eq!((totals.vision_requests, totals.requests_accepted), (2, 2));
}
