//! What dials teach and what spares there are, on real sockets: addresses that do not answer, names with several
//! addresses, and what happens to a spare between two turns.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::dial::{DialError, DialRules, Prefer};
use vless_rust::outbound::policy::{DestinationPolicy, Refusal};

use super::dns::{Manner, NameServer, Zone, silent_server};
use super::harness::{Reactor, alone, listener, name, settings, without_descriptors};
use super::{BlackHole, asking, listeners_of_both_families};

pub(crate) const POOL: PoolSettings = PoolSettings {
    spares_per_target_max: 20,
    spares_max: 100,
    idle_max: Duration::from_secs(300),
    lifetime_max: Duration::from_secs(1800),
    connect_timeout: Duration::from_secs(10),
    health_check_interval: Duration::from_secs(30),
    warm_up_spares: 1,
};

/// What a dial costs that first tries an address in vain.
const IN_VAIN: Duration = Duration::from_millis(250);

#[test]
fn an_address_that_does_not_answer_delays_one_dial_and_not_the_next() {
    const ZONE: Zone = &[("two.example.org", &["127.0.0.6", "127.0.0.5"])];
    let (_listener, address) = listener("127.0.0.5");
    let _hole = BlackHole::at(SocketAddr::new([127, 0, 0, 6].into(), address.port()));
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    for pool in [None, Some(POOL)] {
        let mut reactor = Reactor::new(asking(&[server.address]));
        if let Some(pool) = pool {
            reactor.enable_pool(pool);
        }
        let target = name("two.example.org", address.port());
        let first = reactor.outcome(&target).unwrap();
        assert!(first.connect_time >= IN_VAIN, "{first:?}");
        for _ in 0..3 {
            let next = reactor.outcome(&target).unwrap();
            assert!(next.peer == address && next.connect_time < IN_VAIN, "{next:?}");
        }
    }
}

#[test]
fn a_family_that_does_not_answer_delays_one_dial_and_not_the_next() {
    const ZONE: Zone = &[("both.example.org", &["127.0.0.5", "::1"])];
    let (_listener, address) = listener("127.0.0.5");
    let _hole = BlackHole::at((Ipv6Addr::LOCALHOST, address.port()).into());
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(DialRules { prefer: Prefer::Ipv6, ..asking(&[server.address]) });
    let target = name("both.example.org", address.port());
    let first = reactor.outcome(&target).unwrap();
    assert!(first.connect_time >= IN_VAIN, "{first:?}");
    let next = reactor.outcome(&target).unwrap();
    assert!(next.peer == address && next.connect_time < IN_VAIN, "{next:?}");
}

#[test]
fn a_spare_of_either_family_is_taken_unless_the_operator_prefers_the_other() {
    const ZONE: Zone = &[("both.example.org", &["127.0.0.5", "::1"])];
    let (_v6, _v4, v6) = listeners_of_both_families();
    let v4 = SocketAddr::from(([127, 0, 0, 5], v6.port()));
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    // Without a route to the internet both families are asked for, IPv6 first.
    for (prefer, expected) in [(Prefer::Auto, v4), (Prefer::Ipv4, v4), (Prefer::Ipv6, v6)] {
        let mut reactor = Reactor::new(DialRules { prefer, ..asking(&[server.address]) });
        reactor.enable_pool(POOL);
        reactor.warm_up(v4);
        // Both answers are known, so that there is something to choose from.
        let target = name("both.example.org", v6.port());
        reactor.resolved(&target).unwrap();
        reactor.run_until(|reactor| reactor.dialer.look_ups_under_way() == 0);
        let dialed = reactor.outcome(&target).unwrap();
        assert_eq!((dialed.peer, dialed.is_spare), (expected, expected == v4), "{prefer:?}");
    }
}

#[test]
fn the_time_of_a_dial_that_ends_with_a_spare_includes_the_look_up() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let silent = silent_server("127.0.0.3");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[silent.local_addr().unwrap(), server.address]));
    reactor.enable_pool(POOL);
    reactor.warm_up(address);
    let began = Instant::now();
    let dialed = reactor.outcome(&name("www.example.org", address.port())).unwrap();
    assert!(dialed.is_spare);
    assert!((Duration::from_secs(1)..=began.elapsed()).contains(&dialed.connect_time), "{dialed:?}");
}

/// What a target may have done to a spare since the last turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Nothing,
    Speak,
    End,
    Break,
    SpeakAndEnd,
    SpeakAndBreak,
}

#[test]
fn a_spare_that_died_since_the_last_turn_is_not_handed_over_whatever_it_said_before() {
    for deed in [Deed::Nothing, Deed::Speak, Deed::End, Deed::Break, Deed::SpeakAndEnd, Deed::SpeakAndBreak] {
        let (listener, address) = listener("127.0.0.1");
        let mut reactor = Reactor::new(settings());
        reactor.enable_pool(POOL);
        reactor.warm_up(address);
        let (mut accepted, _) = listener.accept().unwrap();
        if matches!(deed, Deed::Speak | Deed::SpeakAndEnd | Deed::SpeakAndBreak) {
            accepted.write_all(b"HTTP/1.0 408 Request Time-out\r\n\r\n").unwrap();
        }
        if matches!(deed, Deed::Break | Deed::SpeakAndBreak) {
            SockRef::from(&accepted).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let is_alive = matches!(deed, Deed::Nothing | Deed::Speak);
        let _kept = is_alive.then_some(accepted);
        // On loopback the kernel has delivered all of this by now.
        let dialed = reactor.outcome(&address.into()).unwrap();
        assert_eq!(dialed.is_spare, is_alive, "{deed:?}");
        assert_eq!(reactor.counters.spares_closed_at_hand_over.value(), u64::from(!is_alive), "{deed:?}");
        let mut socket = TcpStream::from(dialed.socket);
        let heard = socket.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(heard, if deed == Deed::Speak { Ok(1) } else { Err(ErrorKind::WouldBlock) }, "{deed:?}");
    }
}

#[test]
fn dials_of_a_name_are_spread_over_its_addresses_while_they_have_spares() {
    const ZONE: Zone = &[("three.example.org", &["127.0.0.5", "127.0.0.15", "127.0.0.25"])];
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let target = name("three.example.org", listener.local_addr().unwrap().port());
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut reactor = Reactor::new(asking(&[server.address]));
    reactor.enable_pool(POOL);
    let mut dials = BTreeMap::new();
    let mut spares = 0;
    for dial in 0..80 {
        let dialed = reactor.outcome(&target).unwrap();
        if dial >= 50 {
            *dials.entry(dialed.peer.ip()).or_insert(0) += 1;
            spares += usize::from(dialed.is_spare);
        }
        reactor.run_for(Duration::from_millis(80));
    }
    assert!(dials.len() == 3 && dials.values().all(|&count| count >= 5), "{dials:?}");
    assert!(spares >= 24, "{spares} of 30 dials found a spare");
    println!("{dials:?}, {spares} spares");
}

#[test]
fn a_spare_that_the_policy_keeps_from_clients_is_not_handed_to_one() {
    const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
    let (_listener, address) = listener("127.0.0.1");
    let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
    let mut settings = asking(&[server.address]);
    settings.policy = Arc::new(DestinationPolicy::new(false, Vec::new(), Vec::new(), Vec::new()));
    let mut reactor = Reactor::new(settings);
    reactor.enable_pool(POOL);
    // The operator may name what clients may not reach.
    reactor.warm_up(address);
    for target in [address.into(), name("www.example.org", address.port())] {
        let error = reactor.outcome(&target).unwrap_err();
        assert!(matches!(error, DialError::RefusedByPolicy(Refusal::Private(_))), "{error:?}");
    }
    assert_eq!((reactor.counters.pool_hits.value(), reactor.counters.pool_misses.value()), (0, 0));
    assert_eq!(reactor.counters.spares_idle.value(), 1);
}

#[test]
fn a_dial_after_the_pool_was_closed_is_a_miss_and_leaves_no_spare() {
    let (_listener, address) = listener("127.0.0.1");
    let mut reactor = Reactor::new(settings());
    reactor.enable_pool(POOL);
    reactor.warm_up(address);
    reactor.dialer.close_pool(&reactor.counters);
    assert_eq!((reactor.dialer.spares(), reactor.counters.spares_closed_for_room.value()), (0, 1));
    reactor.dialer.set_spare_room(10, &reactor.counters);
    assert!(!reactor.outcome(&address.into()).unwrap().is_spare);
    assert_eq!((reactor.counters.pool_hits.value(), reactor.counters.pool_misses.value()), (0, 1));
    assert_eq!(reactor.counters.spare_attempts.value(), 1, "none but the first");
}

#[test]
fn look_ups_and_connections_take_the_place_of_spares_when_descriptors_run_out() {
    alone("pool::look_ups_and_connections_take_the_place_of_spares_when_descriptors_run_out", || {
        const ZONE: Zone = &[("www.example.org", &["127.0.0.1"])];
        let (_listener, address) = listener("127.0.0.1");
        let (_other, named) = listener("127.0.0.1");
        let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
        let mut reactor = Reactor::new(asking(&[server.address]));
        reactor.enable_pool(PoolSettings { warm_up_spares: 3, ..POOL });
        reactor.warm_up(named);
        reactor.run_until(|reactor| reactor.counters.spares_idle.value() == 3);
        let dialed = without_descriptors(|| reactor.outcome(&name("www.example.org", address.port())));
        assert_eq!(dialed.unwrap().peer, address);
        assert_eq!((reactor.counters.spares_closed_for_room.value(), reactor.dialer.spares()), (3, 0));
        assert!(!reactor.has_asked_others, "nobody else has to give way");
        let refused = without_descriptors(|| reactor.outcome(&address.into()).map(drop));
        assert_eq!(refused, Err(DialError::NoDescriptors));
        assert!(reactor.has_asked_others, "now others have to");
    });
}
