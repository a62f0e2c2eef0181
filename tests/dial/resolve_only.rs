//! Look-ups without a connect: what datagrams need.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use vless_rust::outbound::dial::DialError;
use vless_rust::session::Target;

use crate::dns::{Manner, NameServer, Zone, silent_server};
use crate::harness::{Reactor, name, settings};

fn with_server(address: SocketAddr) -> Reactor {
    let mut settings = settings();
    settings.resolver.servers = vec![address];
    settings.connect_timeout = Duration::from_secs(1);
    Reactor::new(settings)
}

#[test]
fn a_name_and_an_address_become_an_address_and_nothing_is_dialled() {
    let server = NameServer::start("127.0.0.2", &[("www.example.org", &["127.0.0.1"])], Manner::Plain);
    let mut reactor = with_server(server.address);
    let expected: SocketAddr = "127.0.0.1:7".parse().unwrap();
    assert_eq!(reactor.resolved(&name("www.example.org", 7)), Ok(expected));
    assert_eq!(reactor.resolved(&Target::from(expected)), Ok(expected));
    let counters = &reactor.counters;
    assert_eq!((counters.dials_started.value(), counters.dial_attempts.value(), reactor.dialer.under_way()), (0, 0, 0));
}

#[test]
fn of_several_addresses_the_first_permitted_one_is_taken() {
    const ZONE: Zone = &[("some.example.org", &["10.0.0.1", "127.0.0.5"]), ("none.example.org", &["10.0.0.1"])];
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = with_server(server.address);
    assert_eq!(reactor.resolved(&name("some.example.org", 7)), Ok("127.0.0.5:7".parse().unwrap()));
    assert!(matches!(reactor.resolved(&name("none.example.org", 7)), Err(DialError::RefusedByPolicy(_))));
    assert!(matches!(reactor.resolved(&name("some.example.org", 25)), Err(DialError::RefusedByPolicy(_))));
    assert_eq!(reactor.resolved(&name("missing.example.org", 7)), Err(DialError::NoSuchName));
}

#[test]
fn a_look_up_ends_at_the_deadline_and_can_be_given_up() {
    let silent: UdpSocket = silent_server("127.0.0.2");
    let mut reactor = with_server(silent.local_addr().unwrap());
    assert_eq!(reactor.resolved(&name("www.example.org", 7)), Err(DialError::DnsTimeout));
    let id = reactor.resolve(&name("other.example.org", 7));
    reactor.cancel(id);
    assert_eq!((reactor.dialer.under_way(), reactor.counters.dials_cancelled.value()), (0, 0));
    // One that has its answer already and was not taken is dropped as well.
    let id = reactor.resolve(&Target::from(SocketAddr::from(([127, 0, 0, 1], 7))));
    reactor.cancel(id);
    assert!(reactor.dialer.take_resolved().is_none());
}
