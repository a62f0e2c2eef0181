//! How long things take, as the workers count it.

use std::time::{Duration, Instant};

use vless_rust::stats::{TimingTotals, timings};

use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::server::{ALICE, Options, Server};
use crate::support::wait_until;

fn of(server: &Server) -> TimingTotals {
    timings(server.reactor().counters().iter().map(AsRef::as_ref))
}

#[test]
fn handshakes_dials_first_bytes_and_turns_are_counted_once_each_with_their_time() {
    let server = Server::start(Options::tls());
    let origin = Origin::ticker(Duration::from_millis(50));
    let start = Instant::now();
    for _ in 0..3 {
        let client = Client::open(&server, &ALICE, origin.address, b"");
        client.take_response();
        // More bytes are no first bytes.
        client.take(3);
        drop(client);
    }
    server.wait_until_empty();
    let most_us = start.elapsed().as_micros() as u64;
    wait_until("the last turn is counted", || of(&server).first_byte.count() == 3);
    let timings = of(&server);
    assert_eq!((timings.handshake.count(), timings.dial_new.count(), timings.dial_pool.count()), (3, 3, 0));
    assert!(timings.turn.count() >= 3 && timings.turn.max_us <= most_us);
    for durations in [timings.handshake, timings.dial_new, timings.first_byte] {
        assert!(durations.max_us <= most_us && durations.sum_us <= 3 * durations.max_us, "{durations:?}");
    }
}
