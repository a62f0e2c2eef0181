//! Look-ups without a connect: what datagrams need.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use vless_rust::outbound::dial::{DialError, DialRules, Prefer};
use vless_rust::session::Target;

use crate::dns::{Manner, NameServer, Zone, silent_server};
use crate::harness::{Reactor, listener, name, settings};
use crate::{BlackHole, asking};

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
fn what_dials_have_learnt_of_an_address_and_of_a_family_counts_for_datagrams_too() {
    const ZONE: Zone = &[("both.example.org", &["127.0.0.5", "::1"]), ("other.example.org", &["127.0.0.6", "::1"])];
    let (_listener, address) = listener("127.0.0.5");
    let _hole = BlackHole::at((Ipv6Addr::LOCALHOST, address.port()).into());
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(DialRules { prefer: Prefer::Ipv6, ..asking(&[server.address]) });
    let target = name("both.example.org", address.port());
    let preferred = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    assert_eq!(reactor.resolved(&target), Ok(preferred));
    assert_eq!(reactor.outcome(&target).unwrap().peer, address);
    assert_eq!(reactor.resolved(&target), Ok(address), "the other one has not answered");
    assert_eq!(reactor.resolved(&name("other.example.org", 9)).unwrap().port(), 9);
    assert!(reactor.resolved(&name("other.example.org", 9)).unwrap().is_ipv6(), "one address is no family");
    // Two more that are silent.
    let _holes: Vec<_> = (0..2)
        .map(|_| {
            let hole = BlackHole::at((Ipv6Addr::LOCALHOST, 0).into());
            reactor.adopt(|rules| rules.connect_timeout = Duration::from_millis(300));
            assert_eq!(reactor.outcome(&hole.address.into()).unwrap_err(), DialError::TimedOut);
            hole
        })
        .collect();
    assert!(reactor.resolved(&name("other.example.org", 9)).unwrap().is_ipv4(), "three in a row are");
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
