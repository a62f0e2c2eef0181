//! Names with several addresses: how dials and spares are spread over them, and what that costs in hits.

use super::*;

/// What came of dialling a name of three equal addresses for 1000 s, at random times.
struct Outcome {
    dials: [u64; 3],
    hits: u64,
    /// Addresses that had a spare at the end.
    ready: usize,
}

fn dial_a_name(mean_gap: Duration, failing: Option<usize>) -> Outcome {
    let mut random = Random::seeded(7);
    let mut world = World::new();
    let addresses = [1, 2, 3].map(address);
    let mut outcome = Outcome { dials: [0; 3], hits: 0, ready: 0 };
    let end = world.now + Duration::from_secs(1000);
    let mut next_tick = world.now;
    while world.now < end {
        if next_tick <= world.now {
            world.pass(Duration::ZERO);
            next_tick += Duration::from_secs(1);
        }
        world.now += Duration::from_millis(10);
        world.connect();
        if u128::from(random.below(1_000_000)) * mean_gap.as_millis() >= 10_000_000 {
            continue;
        }
        let mut order = addresses.map(|address| address.ip());
        world.pool.order(&mut order, addresses[0].port(), world.now);
        let best = addresses.iter().position(|address| address.ip() == order[0]).unwrap();
        if failing == Some(best) {
            world.pool.on_failed(addresses[best], world.now);
        }
        outcome.dials[best] += 1;
        if failing != Some(best) {
            outcome.hits += u64::from(world.dial(addresses[best]).is_some());
        }
    }
    outcome.ready =
        addresses.iter().filter(|&&address| world.pool.standing(address, world.now) == Standing::Ready).count();
    world.assert_balanced();
    outcome
}

#[test]
fn dials_and_spares_of_a_name_are_spread_over_its_addresses_and_answered_from_the_pool() {
    for mean_gap_ms in [20, 200, 1000] {
        let outcome = dial_a_name(Duration::from_millis(mean_gap_ms), None);
        let dials: u64 = outcome.dials.iter().sum();
        println!("{mean_gap_ms} ms: {:?}, {} hits of {dials}, {} ready", outcome.dials, outcome.hits, outcome.ready);
        for one in outcome.dials {
            assert!((dials / 4..dials * 5 / 12).contains(&one), "{mean_gap_ms} ms: {:?}", outcome.dials);
        }
        assert!(outcome.hits * 100 >= dials * 95, "{mean_gap_ms} ms: {} hits of {dials}", outcome.hits);
        assert_eq!(outcome.ready, 3);
    }
}

#[test]
fn an_address_that_fails_is_hardly_tried_while_others_have_spares() {
    let outcome = dial_a_name(Duration::from_millis(500), Some(1));
    println!("{:?}", outcome.dials);
    assert!(outcome.dials[1] <= 20, "{:?}", outcome.dials);
    assert!(outcome.dials[0].abs_diff(outcome.dials[2]) < 300, "{:?}", outcome.dials);
}
