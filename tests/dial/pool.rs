//! What dials teach and what spares there are, on real sockets: addresses that do not answer, names with several
//! addresses, and what happens to a spare between two turns.

use std::net::SocketAddr;
use std::time::Duration;

use vless_rust::reactor::connection_pool::PoolSettings;

use super::dns::{Manner, NameServer, Zone};
use super::harness::{Reactor, listener, name};
use super::{BlackHole, asking};

const POOL: PoolSettings = PoolSettings {
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
            reactor.dialer.enable_pool(pool);
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
