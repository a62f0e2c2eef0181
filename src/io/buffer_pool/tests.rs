//! Cases of the pool: what is kept, what is counted, what is shared.

use super::*;
use crate::io::buffer_memory::DEFERENCE;

fn usage(pool: &BufferPool, tier: usize) -> TierUsage {
    pool.usage()[tier]
}

#[test]
fn the_smallest_tier_that_fits_is_chosen() {
    let pool = BufferPool::new();
    let sizes = [1, 4096, 4097, 65536, 65537, 131_072].map(|bytes| pool.take(bytes, Loan::Waiting).capacity());
    assert_eq!(sizes, [4096, 4096, 65536, 65536, 131_072, 131_072]);
}

#[test]
fn a_dropped_buffer_comes_back_empty() {
    let pool = BufferPool::new();
    let first = pool.take_with(b"secret", Loan::Waiting);
    assert_eq!((pool.held(), pool.held_bytes()), (1, 4096));
    drop(first);
    assert_eq!((pool.held(), pool.held_bytes()), (0, 0));
    let mut second = pool.take(1, Loan::Waiting);
    assert!(second.is_empty());
    assert_eq!(usage(&pool, 0).hits, 2, "the kept buffer was used again");
    // What the next user fills in is all that the next user can read.
    assert!(second.append(b"mine"));
    assert_eq!(second.bytes(), b"mine");
}

#[test]
fn every_tier_counts_what_it_lends() {
    let pool = BufferPool::new();
    let lent: Vec<_> = (0..3).map(|_| pool.take(100_000, Loan::Waiting)).collect();
    let expected = TierUsage { lent: 3, lent_peak: 3, hits: 1, misses: 2, returned: 0, kept: 0 };
    assert_eq!(usage(&pool, 2), expected);
    drop(lent);
    assert_eq!(usage(&pool, 2), TierUsage { lent: 0, returned: 3, kept: 3, ..expected });
}

#[test]
fn buffers_beyond_the_kept_number_are_freed() {
    let pool = BufferPool::new();
    let many: Vec<_> = (0..KEPT_PER_TIER[0] + 10).map(|_| pool.take(1, Loan::Waiting)).collect();
    drop(many);
    assert_eq!(usage(&pool, 0).kept, KEPT_PER_TIER[0] as u64);
}

#[test]
fn what_a_peak_left_is_freed_bit_by_bit_and_what_is_needed_stays() {
    let pool = BufferPool::new();
    let peak: Vec<_> = (0..200).map(|_| pool.take(1, Loan::Waiting)).collect();
    assert!(!pool.is_grown());
    drop(peak);
    pool.shrink();
    assert_eq!(usage(&pool, 0).kept, 200, "all of them were needed since the pool was made");
    drop((0..100).map(|_| pool.take(1, Loan::Waiting)).collect::<Vec<_>>());
    pool.shrink();
    assert_eq!(usage(&pool, 0).kept, 150, "half of those that were never needed are freed");
    for _ in 0..20 {
        pool.shrink();
    }
    assert_eq!(usage(&pool, 0).kept, MADE_PER_TIER[0] as u64);
    assert!(!pool.is_grown());
}

#[test]
fn pools_share_their_limit() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 2));
    let pools = [BufferPool::with_memory(Arc::clone(&memory)), BufferPool::with_memory(Arc::clone(&memory))];
    let lent: Vec<_> = (0..6).map(|_| pools[0].take(BUFFER_BYTES_MAX, Loan::Waiting)).collect();
    assert!(!pools[1].may_begin());
    drop(lent);
    assert!(pools[1].may_begin());
    assert_eq!(memory.lent_bytes(), 0);
}

#[test]
fn what_is_kept_and_what_is_lent_fit_the_limit_together() {
    let bytes_max = 1 << 20;
    let memory = Arc::new(BufferMemory::new(bytes_max, 1));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    drop((0..300).map(|_| pool.take(1, Loan::Waiting)).collect::<Vec<_>>());
    drop((0..30).map(|_| pool.take(60_000, Loan::Waiting)).collect::<Vec<_>>());
    let kept_bytes: usize = pool.usage().iter().zip(TIER_BYTES).map(|(tier, size)| tier.kept as usize * size).sum();
    assert!(kept_bytes > 0 && kept_bytes <= bytes_max / 8, "{kept_bytes}");
    let mut lent = Vec::new();
    while pool.may_begin() {
        lent.push(pool.take(1, Loan::Waiting));
    }
    assert!(memory.lent_bytes() <= memory.lent_bytes_max());
}

#[test]
fn what_is_kept_counts_as_it_was_announced() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 1));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    let held = [(1, 0), (1, 20_000), (5000, 20_000), (5000, 70_000)]
        .map(|(bytes, announced)| pool.hold(&vec![7; bytes], announced, Loan::Waiting));
    assert_eq!(memory.lent_bytes(), (4 << 10) + 20_000 + (64 << 10) + 70_000);
    assert_eq!(pool.held_bytes(), 2 * (4 << 10) + 2 * (64 << 10));
    drop(held);
    assert_eq!(memory.lent_bytes(), 0);
}

#[test]
fn where_memory_is_tight_small_pieces_are_kept_and_come_out_in_order() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 1));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    let others = pool.take(1, Loan::Waiting);
    let filler: Vec<_> = (0..5).map(|_| pool.take(60_000, Loan::Waiting)).collect();
    assert!(pool.is_tight());
    let before = memory.lent_bytes();
    let bytes: Vec<u8> = (0..9000_u32).map(|number| (number % 251) as u8).collect();
    let mut held = pool.hold(&bytes, 16_000, Loan::Waiting);
    assert_eq!((held.len(), held.capacity()), (9000, 12 << 10));
    assert_eq!(memory.lent_bytes() - before, 16_000, "as announced");
    assert!(held.append(b"end") && !held.append(&[0; 4096]));
    let mut copy = Buf::new(10_000);
    assert!(held.copy_to(&mut copy));
    assert_eq!(copy.bytes(), [&bytes[..], b"end"].concat());
    let mut heard = Vec::new();
    while !held.is_empty() {
        let count = held.front().len().min(700);
        heard.extend_from_slice(&held.front()[..count]);
        held.consume(count);
    }
    assert_eq!(heard, copy.bytes());
    drop((held, others, filler));
    assert_eq!(memory.lent_bytes(), 0);
}

#[test]
fn nobody_begins_before_those_who_wait() {
    let pool = BufferPool::new();
    pool.let_wait(Some(Instant::now().into()));
    assert!(!pool.may_begin() && pool.others_wait() && pool.has_room(1000));
    pool.let_waiter_begin();
    assert!(pool.may_begin() && !pool.others_wait());
    pool.let_wait(None);
    assert!(pool.may_begin());
}

#[test]
fn nobody_begins_before_those_who_wait_for_another_pool() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 2));
    let [here, there] = [(); 2].map(|()| BufferPool::with_memory(Arc::clone(&memory)));
    let start = Instant::now();
    there.let_wait(Some(start.into()));
    there.look(start);
    assert!(!here.may_begin() && here.others_wait());
    // Who waits here has come later.
    let later = start + 2 * DEFERENCE;
    here.let_wait(Some(later.into()));
    assert!(there.may_serve_waiting(later) && !here.may_serve_waiting(later));
    there.let_wait(None);
    assert!(here.may_serve_waiting(later) && !here.may_begin());
    here.let_wait(None);
    there.let_wait(Some(start.into()));
    drop(there);
    assert!(here.may_begin(), "nobody waits for a pool that is gone");
}

#[test]
fn strangers_use_nothing_of_what_users_have() {
    let memory = Arc::new(BufferMemory::new(1 << 20, 2));
    let pool = BufferPool::with_memory(Arc::clone(&memory));
    let strangers: Vec<_> = (0..40).map(|_| pool.take(5000, Loan::Opening)).collect();
    assert_eq!(pool.opening_bytes(), (40 * (64 << 10), 128 << 10));
    assert_eq!((memory.lent_bytes(), pool.may_begin()), (0, true));
    let charge = pool.charge_opening(1000);
    drop(strangers);
    assert_eq!((pool.opening_bytes().0, charge.bytes()), (1000, 1000));
    drop(charge);
    assert_eq!(pool.opening_bytes().0, 0);
}
