//! Sessions with hardly any buffer memory: they wait for each other, deliver every byte, and leave no buffer behind.

use std::env;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use vless_rust::io::buffer_memory::{BufferMemory, OVERSHOOT_BYTES_MAX};
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;
use vless_rust::session::transfer::Scratch;

use super::{crowded_world, seeds};

/// Reasons with which a session may end because another one holds the memory it needs.
const WAITED_TOO_LONG: [CloseReason; 5] = [
    CloseReason::HandshakeTimeout,
    CloseReason::FirstByteTimeout,
    CloseReason::RequestTimeout,
    CloseReason::Idle,
    CloseReason::HalfCloseTimeout,
];

#[test]
fn sessions_wait_for_memory_and_deliver_every_byte() {
    let mut waited = 0;
    let mut total = (0, 0);
    let mut failed = Vec::new();
    for seed in seeds() {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut world = crowded_world(seed, false, 16);
            // As little as there can be: three smallest steps.
            let memory = Arc::new(BufferMemory::for_relays_only(0, 1));
            world.pool = BufferPool::with_memory(Arc::clone(&memory));
            let sessions = world.runs.len();
            let own_reasons: Vec<_> = world.runs.iter().map(|run| run.reasons.clone()).collect();
            // Nobody ever waits for itself.
            if sessions > 1 {
                for run in &mut world.runs {
                    run.reasons.extend(WAITED_TOO_LONG);
                }
            }
            let most = memory.lent_bytes_max() + OVERSHOOT_BYTES_MAX;
            world.run_watching(|| {
                let lent = memory.lent_bytes();
                assert!(lent <= most, "{lent} bytes at a time");
            });
            world.verify();
            assert_eq!(memory.lent_bytes(), 0);
            let peak = world.held_bytes_peak;
            assert!(peak <= most, "{peak} bytes at a time");
            let reasons = world.runs.iter().map(|run| run.record.as_ref().map(|record| record.reason));
            let gave_up =
                reasons.zip(own_reasons).filter(|(reason, own)| reason.is_some_and(|one| !own.contains(&one)));
            (world.counters.buffer_waits.value(), sessions, gave_up.count())
        }));
        match outcome {
            Ok((starvations, ran, gave_up)) => {
                waited += starvations;
                total.0 += ran;
                total.1 += gave_up;
            }
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "run again with SIM_SEED set to one of {failed:?}");
    assert!(waited > 0 || seeds().len() == 1, "no session ever waited");
    // Whoever holds the memory may have its reasons to be slow: a reader that pauses for hours.
    let (ran, gave_up) = total;
    assert!(gave_up * 25 <= ran || seeds().len() == 1, "{gave_up} of {ran} sessions waited in vain");
}

/// Short and long, orderly and broken off, each with random bytes of its own, in the memory and the pipes that those
/// before have left. `SIM_SESSIONS=1000000` with `--release` takes a quarter of an hour.
#[test]
fn no_byte_of_many_sessions_gets_to_another() {
    const AT_A_TIME: usize = 12;
    let wanted = env::var("SIM_SESSIONS").map_or(2000, |text| text.parse().expect("a number"));
    let memory = Arc::new(BufferMemory::new(64 << 20, 1));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    let pipes = PipePool::new();
    let mut scratch = Scratch::new();
    let (mut ran, mut seed) = (0, 1 << 32);
    while ran < wanted {
        let mut world = crowded_world(seed, false, AT_A_TIME);
        world.pool = pool.clone();
        world.pipes = world.pipes.is_some().then(|| pipes.clone());
        mem::swap(&mut world.scratch, &mut scratch);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            world.run();
            world.verify();
        }));
        assert!(outcome.is_ok(), "seed {seed}, behind {ran} sessions");
        mem::swap(&mut world.scratch, &mut scratch);
        ran += world.runs.len();
        seed += 1;
    }
    assert_eq!((memory.lent_bytes(), pool.opening_bytes().0, pipes.in_use()), (0, 0, 0));
    for usage in pool.usage() {
        assert_eq!((usage.lent, usage.hits + usage.misses), (0, usage.returned));
        assert!(usage.hits > 10 * usage.misses, "hardly any memory was used again: {usage:?}");
    }
    println!("{ran} sessions, {:?}", pool.usage());
}
