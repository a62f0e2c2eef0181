//! Without descriptors: what fails, and what gives way.

use std::sync::Arc;

use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::dial::{DialError, DialRules};
use vless_rust::outbound::policy::{DestinationPolicy, Refusal};

use super::dns::{Manner, NameServer, Zone, silent_server};
use super::harness::{Reactor, alone, listener, name, settings, without_descriptors};
use super::pool::POOL;
use super::{BlackHole, SocketAddr, asking};

#[test]
fn a_shortage_of_descriptors_is_reported_and_passes() {
    alone("shortage::a_shortage_of_descriptors_is_reported_and_passes", || {
        let (_listener, address) = listener("127.0.0.1");
        let silent = silent_server("127.0.0.2");
        let mut reactor = Reactor::new(asking(&[silent.local_addr().unwrap()]));
        let (by_address, by_name) = without_descriptors(|| {
            let by_address = reactor.outcome(&address.into()).map(drop);
            (by_address, reactor.outcome(&name("www.example.org", 80)).map(drop))
        });
        assert_eq!(by_address, Err(DialError::NoDescriptors));
        assert_eq!(by_name, Err(DialError::NoDescriptors));
        assert_eq!(reactor.counters.dials_no_descriptors.value(), 2);
        assert_eq!(reactor.outcome(&address.into()).unwrap().peer, address);
    });
}

#[test]
fn of_those_who_wait_for_descriptors_as_many_are_served_as_there_is_room_for() {
    alone("shortage::of_those_who_wait_for_descriptors_as_many_are_served_as_there_is_room_for", || {
        let (_listener, address) = listener("127.0.0.1");
        let (_other, named) = listener("127.0.0.1");
        let mut reactor = Reactor::new(settings());
        reactor.enable_pool(PoolSettings { warm_up_spares: 3, ..POOL });
        reactor.warm_up(named);
        reactor.run_until(|reactor| reactor.counters.spares_idle.value() == 3);
        let results: Vec<_> = without_descriptors(|| {
            let dials: Vec<_> = (0..5).map(|_| reactor.dial(&address.into())).collect();
            dials.iter().map(|_| reactor.next_finished().result.map(|dialed| dialed.peer)).collect()
        });
        let served = results.iter().filter(|result| **result == Ok(address)).count();
        let turned_away = results.iter().filter(|result| **result == Err(DialError::NoDescriptors)).count();
        assert_eq!((served, turned_away, reactor.dialer.under_way()), (3, 2, 0));
    });
}

#[test]
fn a_dial_to_the_port_that_the_server_listens_on_is_no_matter_for_the_policy_without_descriptors() {
    alone(
        "shortage::a_dial_to_the_port_that_the_server_listens_on_is_no_matter_for_the_policy_without_descriptors",
        || {
            let own = vec!["[::]:443".parse().unwrap()];
            let policy = DestinationPolicy::new(false, Vec::new(), Vec::new(), own);
            let mut reactor = Reactor::new(DialRules { policy: Arc::new(policy), ..settings() });
            let elsewhere = SocketAddr::from(([9, 9, 9, 9], 443));
            let failed = without_descriptors(|| reactor.outcome(&elsewhere.into()).map(drop));
            assert_eq!(failed, Err(DialError::NoDescriptors));
            let here =
                without_descriptors(|| reactor.outcome(&SocketAddr::from(([127, 0, 0, 1], 443)).into()).map(drop));
            assert_eq!(here, Err(DialError::RefusedByPolicy(Refusal::OwnListener)));
            let resolved = without_descriptors(|| reactor.resolved(&elsewhere.into()));
            assert_eq!(resolved, Ok(elsewhere), "a datagram needs no descriptor more");
        },
    );
}

#[test]
fn attempts_beside_others_of_their_dial_give_way_to_another_dial() {
    const ZONE: Zone = &[("dead.example.org", &["127.0.0.21", "127.0.0.22", "127.0.0.23"])];
    alone("shortage::attempts_beside_others_of_their_dial_give_way_to_another_dial", || {
        let first = BlackHole::at("127.0.0.21:0".parse().unwrap());
        let port = first.address.port();
        let _others = [22, 23].map(|last| BlackHole::at(SocketAddr::from(([127, 0, 0, last], port))));
        let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
        let (_listener, address) = listener("127.0.0.1");
        let mut reactor = Reactor::new(asking(&[server.address]));
        let dead = reactor.dial(&name("dead.example.org", port));
        reactor.run_until(|reactor| reactor.counters.dial_attempts.value() == 3);

        let dialed = without_descriptors(|| reactor.outcome(&address.into()));
        assert_eq!(dialed.unwrap().peer, address);
        let finished = reactor.next_finished();
        assert_eq!((finished.dial, finished.result.unwrap_err()), (dead, DialError::TimedOut));
        assert_eq!(reactor.counters.dials_no_descriptors.value(), 0);
    });
}
