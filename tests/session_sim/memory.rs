//! Sessions with hardly any buffer memory: they wait for each other, deliver every byte, and leave no buffer behind.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use vless_rust::io::buffer_memory::{BufferMemory, OVERSHOOT_BYTES_MAX};
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::session::close::CloseReason;

use super::{random_world, seeds};

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
    let mut failed = Vec::new();
    for seed in seeds() {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut world = random_world(seed, false);
            // As good as nothing: one buffer of any size ends the receiving of all but its holder.
            let memory = Arc::new(BufferMemory::new(6000, 1));
            world.pool = BufferPool::with_memory(Arc::clone(&memory));
            for run in &mut world.runs {
                run.reasons.extend(WAITED_TOO_LONG);
            }
            let sessions = world.runs.len();
            world.run();
            world.verify();
            assert_eq!(memory.lent_bytes(), 0);
            let peak: u64 = world.pool.usage().iter().map(|tier| tier.lent_peak).sum();
            // Each session may hold what one receive left over, and nothing grows beyond that.
            assert!(peak <= 4 * sessions as u64, "{peak} buffers at a time");
            world.starvations
        }));
        match outcome {
            Ok(starvations) => waited += starvations,
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "run again with SIM_SEED set to one of {failed:?}");
    assert!(waited > 0 || seeds().len() == 1, "no session ever waited");
}

#[test]
fn one_receive_per_worker_is_what_the_limit_may_be_passed_by() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 1));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    let mut lent = Vec::new();
    while pool.may_receive(true) {
        // The most that a receive can leave: input and output in the largest buffers.
        lent.push([pool.take(128 << 10), pool.take(128 << 10)]);
    }
    assert!(memory.lent_bytes() <= (1 << 20) + OVERSHOOT_BYTES_MAX);
}
