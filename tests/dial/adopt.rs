//! New rules while the dialer runs: what begins obeys them, what is under way goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::dial::DialError;
use vless_rust::outbound::policy::{DestinationPolicy, Refusal};

use super::asking;
use super::dns::{Manner, NameServer, Zone, silent_server};
use super::harness::{Reactor, listener, name, settings};
use super::pool::POOL;

const ZONE: Zone = &[("www.example.org", &["127.0.0.5"])];
const OTHER_ZONE: Zone = &[("www.example.org", &["127.0.0.6"])];

fn denying(port: u16) -> Arc<DestinationPolicy> {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    Arc::new(DestinationPolicy::new(false, allow, vec![port], Vec::new()))
}

#[test]
fn a_new_policy_holds_for_the_next_dial_even_where_a_spare_is_ready() {
    let (_listener, address) = listener("127.0.0.5");
    let mut reactor = Reactor::new(settings());
    reactor.enable_pool(POOL);
    reactor.warm_up(address);
    reactor.adopt(|rules| rules.policy = denying(address.port()));
    let refused = reactor.outcome(&address.into()).map(drop);
    assert_eq!(refused, Err(DialError::RefusedByPolicy(Refusal::Port)));
    reactor.adopt(|rules| rules.policy = denying(25));
    assert!(reactor.outcome(&address.into()).unwrap().is_spare);
}

#[test]
fn other_servers_are_asked_and_what_earlier_ones_said_is_forgotten() {
    let (_first, address) = listener("127.0.0.5");
    let _second = std::net::TcpListener::bind(("127.0.0.6", address.port())).unwrap();
    let [old, new] =
        [(ZONE, "127.0.0.2"), (OTHER_ZONE, "127.0.0.3")].map(|(zone, ip)| NameServer::start(ip, zone, Manner::Plain));
    let mut reactor = Reactor::new(asking(&[old.address]));
    let target = name("www.example.org", address.port());
    assert_eq!(reactor.outcome(&target).unwrap().peer, address);
    reactor.adopt(|rules| rules.resolver.servers = vec![new.address]);
    assert_eq!(reactor.outcome(&target).unwrap().peer.ip().to_string(), "127.0.0.6");
}

#[test]
fn a_new_timeout_holds_for_dials_that_begin() {
    let silent = silent_server("127.0.0.2");
    let mut reactor = Reactor::new(asking(&[silent.local_addr().unwrap()]));
    reactor.adopt(|rules| rules.connect_timeout = Duration::from_millis(50));
    let started = Instant::now();
    assert!(reactor.outcome(&name("www.example.org", 80)).is_err());
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn fewer_spares_are_kept_and_at_last_none() {
    let (_listener, address) = listener("127.0.0.5");
    let mut reactor = Reactor::new(settings());
    reactor.enable_pool(PoolSettings { warm_up_spares: 3, ..POOL });
    reactor.warm_up(address);
    reactor.run_until(|reactor| reactor.counters.spares_idle.value() == 3);
    reactor.enable_pool(PoolSettings { spares_max: 1, ..POOL });
    assert_eq!((reactor.dialer.spares(), reactor.counters.spares_idle.value()), (1, 1));
    reactor.adopt(|rules| rules.pool = None);
    assert_eq!((reactor.dialer.spares(), reactor.counters.spares_idle.value()), (0, 0));
    assert!(!reactor.outcome(&address.into()).unwrap().is_spare);
}

#[test]
fn spares_from_another_source_address_are_not_handed_out() {
    let (_listener, address) = listener("127.0.0.5");
    let mut reactor = Reactor::new(settings());
    reactor.enable_pool(POOL);
    reactor.warm_up(address);
    reactor.adopt(|rules| rules.bind = Some("127.0.0.9".parse().unwrap()));
    let dialed = reactor.outcome(&address.into()).unwrap();
    assert!(!dialed.is_spare);
    assert_eq!(dialed.socket.local_addr().unwrap().ip().to_string(), "127.0.0.9");
}
