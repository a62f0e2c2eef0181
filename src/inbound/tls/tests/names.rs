//! Which certificate a client gets.

use super::super::acceptor::ByName;
use super::memory::{Pair, acceptor, certificate, client_config};
use super::*;

#[test]
fn the_certificate_follows_the_name_asked_for() {
    let certificates = [certificate(&["default.test"]), certificate(&["*.wild.test"]), certificate(&["a.wild.test"])];
    let ders = certificates.each_ref().map(|one| one.key.cert[0].clone());
    let settings =
        TlsSettings { certificates: certificates.to_vec(), alpn: Vec::new(), tls13_only: false, remember_names: false };
    let acceptor = TlsAcceptor::new(settings).unwrap();
    let cases = [
        ("default.test", 0),
        ("a.wild.test", 2),
        ("A.Wild.Test", 2),
        ("b.wild.test", 1),
        ("deep.b.wild.test", 0),
        ("wild.test", 0),
        ("other.example", 0),
        ("192.0.2.1", 0),
        ("localhost", 0),
    ];
    for (name, expected) in cases {
        let mut pair = Pair::with_config(&acceptor, &client_config(BOTH, |_| ()), name);
        pair.handshake();
        assert_eq!(pair.client.peer_certificates().unwrap()[0], ders[expected], "asked for {name}");
    }
}

#[test]
fn of_two_certificates_for_a_name_the_client_gets_the_first_that_it_can_verify() {
    let named = |names: &[&str]| certificate(names);
    let certificates =
        vec![named(&["a.test"]), named(&["*.b.test"]), named(&["a.test", "*.b.test"]), named(&["c.test"])];
    let ders: Vec<_> = certificates.iter().map(|one| one.key.cert[0].clone()).collect();
    let by_name = ByName { certificates };
    let chosen = |name: Option<&str>, usable: &[usize]| {
        let suits = |one: &Certificate| usable.iter().any(|&index| ders[index] == one.key.cert[0]);
        let found = by_name.choose(name, suits).unwrap();
        ders.iter().position(|der| *der == found.key.cert[0]).unwrap()
    };
    for (name, usable, expected) in [
        (Some("a.test"), &[0, 1, 2, 3][..], 0),
        (Some("A.test"), &[2, 3], 2),
        (Some("x.b.test"), &[2], 2),
        // Nothing that fits both: the name decides, and TLS says why it fails.
        (Some("a.test"), &[3], 0),
        (Some("other.test"), &[2, 3], 2),
        (Some("other.test"), &[1, 3], 0),
        (None, &[2], 2),
    ] {
        assert_eq!(chosen(name, usable), expected, "{name:?} {usable:?}");
    }
}

#[test]
fn a_client_without_server_name_gets_the_default_certificate() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |config| config.enable_sni = false);
    pair.handshake();
    assert_eq!(pair.up(b"x"), b"x");
}

#[test]
fn no_certificate_is_an_error_at_the_start() {
    let settings = TlsSettings { certificates: Vec::new(), alpn: Vec::new(), tls13_only: false, remember_names: false };
    assert!(TlsAcceptor::new(settings).is_err());
}
