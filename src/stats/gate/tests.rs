//! Speeds, quotas, sessions and sources without sockets.

use super::*;

const SECOND: u64 = NANOSECONDS;

fn with(limits: Limits) -> Gate {
    let gate = Gate::default();
    gate.adopt(limits);
    gate
}

#[test]
fn without_limits_nothing_is_metered_and_everybody_enters() {
    let gate = with(Limits::default());
    assert!(!gate.meters() && gate.uplink.take(5, 1, 0).is_none());
    assert!((0..1000).all(|source| gate.enter(source).is_ok()));
}

/// What sessions get in ten seconds that call again as soon as their bytes are due.
fn shares(rate: u64, sessions: usize) -> Vec<u64> {
    let gate = with(Limits { down_bytes_per_second_max: rate, ..Limits::default() });
    let start = 5 * SECOND;
    let mut next = vec![start; sessions];
    let mut got = vec![0; sessions];
    loop {
        let (at, now) = next.iter().copied().enumerate().min_by_key(|(_, due)| *due).unwrap();
        if now >= start + 10 * SECOND {
            return got;
        }
        let taken = gate.downlink.take(1 << 20, sessions as u64, now).unwrap();
        got[at] += taken.bytes;
        // Who got something goes on at once; timers come a tick late.
        next[at] = if taken.due <= now { now + 1000 } else { taken.due + 16_000_000 };
    }
}

#[test]
fn speeds_hold_over_ten_seconds_and_are_shared_evenly() {
    for rate in [64 << 10, 1 << 20, 100 << 20, 1 << 30] {
        for sessions in [1, 2, 50] {
            let got = shares(rate, sessions);
            let (total, expected) = (got.iter().sum::<u64>(), 10 * rate);
            let most = expected + expected / 20 + 2048 * sessions as u64;
            assert!((expected - expected / 20..=most).contains(&total), "{rate} x {sessions}: {total}");
            if rate <= 100 << 20 {
                let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
                assert!(*most <= least * 3 / 2 + (64 << 10), "{rate} x {sessions}: {least} to {most}");
            }
        }
    }
}

#[test]
fn what_is_given_back_is_there_for_the_next() {
    let gate = with(Limits { up_bytes_per_second_max: 1 << 20, ..Limits::default() });
    let now = 10 * SECOND;
    let first = gate.uplink.take(1 << 30, 1, now).unwrap();
    assert!(first.bytes >= (1 << 20) / 4 && first.due <= now);
    assert!(gate.uplink.take(1 << 20, 1, now).unwrap().due > now);
    gate.uplink.give_back(first.bytes);
    assert!(gate.uplink.take(4096, 1, now).unwrap().due <= now);
}

#[test]
fn sessions_and_addresses_are_counted_up_to_their_limits() {
    let gate = with(Limits { sessions_max: 3, addresses_max: 1, ..Limits::default() });
    assert_eq!((gate.enter(1), gate.enter(1)), (Ok(()), Ok(())));
    assert_eq!(gate.enter(2), Ok(()), "one guest");
    assert_eq!(gate.enter(2), Err(Refusal::Sessions));
    gate.leave(1);
    assert_eq!(gate.enter(3), Err(Refusal::Addresses));
    assert_eq!((gate.enter(2), gate.addresses()), (Ok(()), 2));
    assert_eq!((gate.sources(9), gate.sources(1)), (vec![1, 2], vec![1]));
}

#[test]
fn a_guest_stays_a_minute_or_takes_the_place_of_who_has_left() {
    let gate = with(Limits { addresses_max: 1, ..Limits::default() });
    gate.enter(1).unwrap();
    gate.enter(2).unwrap();
    assert!((0..60).all(|_| gate.look().is_none()));
    assert_eq!(gate.look(), Some(2));
    gate.leave(2);
    assert_eq!(gate.enter(2), Err(Refusal::Addresses), "not at once again");
    gate.leave(1);
    gate.enter(2).unwrap();
    assert!((0..601).all(|_| gate.look().is_none()));
    gate.enter(3).unwrap();
    gate.leave(2);
    assert!((0..100).all(|_| gate.look().is_none()), "the phone has moved");
}

#[test]
fn sessions_and_sources_on_other_nodes_count() {
    let gate = with(Limits { sessions_max: 3, addresses_max: 9, ..Limits::default() });
    gate.set_sessions_elsewhere(2);
    assert_eq!((gate.enter(1), gate.enter(1)), (Ok(()), Err(Refusal::Sessions)));
    gate.set_sessions_elsewhere(0);
    gate.refuse(2);
    assert_eq!((gate.enter(2), gate.enter(1)), (Err(Refusal::Addresses), Ok(())));
    for _ in 0..REFUSED_LOOKS {
        gate.look();
    }
    assert_eq!(gate.enter(2), Ok(()));
    for source in 10..500 {
        gate.refuse(source);
    }
    assert_eq!(gate.sessions().refused.len(), REFUSED_MAX);
}
