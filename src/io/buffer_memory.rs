//! The limit on buffer memory that all workers share.
//!
//! The limit has three shares:
//!
//! | share | for | divided |
//! |---|---|---|
//! | an eighth | free buffers that pools keep for the next taker | among the pools |
//! | a quarter | clients that are not admitted yet, so that strangers cannot take what users need | among the pools |
//! | the rest | relays | not at all |
//!
//! Relays follow these rules:
//!
//! - A direction that holds nothing begins to receive only while some of the share is left.
//! - A direction that holds the beginning of something (a record, a packet) always goes on, because completing it is
//!   what frees its buffer. Waiting would wait for itself. Beginnings count as large as they may grow. While nothing is
//!   left, the direction receives no more than what completes the beginning.
//! - What a peer sent before it left is received, too, bit by bit, so that no session waits for somebody who is gone.
//! - The less is left, the shorter are the reads. A reader that stalls in the middle of one then holds less: many
//!   stalled readers slow the others down a little instead of making them wait.
//!
//! A worker asks before it receives, and takes after that. So what is lent can pass the limit: by what one receive per
//! worker leaves over ([`OVERSHOOT_BYTES_MAX`]), by one chunk for a target of each Mux connection, and by the last
//! words of ending streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::tiers::{BUFFER_BYTES_MAX, TIER_BYTES};

/// A read that fits a buffer of the middle size with what TLS adds to it. It holds whole records.
const SHORTER_READ_BYTES: usize = 48 << 10;
/// A read that fits a buffer of the smallest size with what TLS adds to it.
const SHORTEST_READ_BYTES: usize = TIER_BYTES[0] - 256;

/// The most that one worker takes after it was allowed to receive, in bytes: what it could not convert, and what it
/// could not send.
pub const OVERSHOOT_BYTES_MAX: usize = 2 * BUFFER_BYTES_MAX;

/// Bytes lent to relays by all workers' pools, and how many that may be.
#[derive(Debug)]
pub struct BufferMemory {
    lent_bytes: AtomicUsize,
    /// From this many on, a direction that holds nothing waits.
    lent_bytes_max: usize,
    /// The most that each pool lends to clients that are no users yet.
    opening_bytes_max: usize,
    /// The most that each pool keeps in free buffers.
    kept_bytes_max: usize,
}

impl BufferMemory {
    /// `bytes_max` for `workers` pools: for lent buffers and kept ones together.
    pub fn new(bytes_max: usize, workers: usize) -> Self {
        let workers = workers.max(1);
        let (kept_bytes, opening_bytes) = (bytes_max / 8, bytes_max / 4);
        Self {
            lent_bytes: AtomicUsize::new(0),
            lent_bytes_max: bytes_max - kept_bytes - opening_bytes,
            opening_bytes_max: opening_bytes / workers,
            kept_bytes_max: kept_bytes / workers,
        }
    }

    /// Memory without a limit.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, 1)
    }

    /// Memory of `bytes_max` for relays; clients that are not admitted and free buffers have as much as they like.
    pub fn for_relays_only(bytes_max: usize) -> Self {
        Self { lent_bytes_max: bytes_max, ..Self::unlimited() }
    }

    /// A direction that holds nothing may receive.
    pub fn may_begin(&self) -> bool {
        self.lent_bytes() < self.lent_bytes_max
    }

    /// The most to receive at a time, in bytes.
    pub fn read_bytes_max(&self) -> usize {
        let quarter = self.lent_bytes_max / 4;
        match self.lent_bytes() {
            lent if lent >= quarter * 3 => SHORTEST_READ_BYTES,
            lent if lent >= quarter * 2 => SHORTER_READ_BYTES,
            _ => BUFFER_BYTES_MAX,
        }
    }

    /// Bytes lent to relays now.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn opening_bytes_max(&self) -> usize {
        self.opening_bytes_max
    }

    pub(super) fn kept_bytes_max(&self) -> usize {
        self.kept_bytes_max
    }

    pub(super) fn lend(&self, bytes: usize) {
        self.lent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.lent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_waits_while_nothing_is_left() {
        let memory = BufferMemory::new(8000, 2);
        assert_eq!((memory.kept_bytes_max(), memory.opening_bytes_max()), (500, 1000));
        assert!(memory.may_begin());
        memory.lend(5000);
        assert!(!memory.may_begin());
        memory.give_back(1);
        assert!(memory.may_begin());
    }

    #[test]
    fn the_less_is_left_the_shorter_are_the_reads() {
        let memory = BufferMemory::new(8000, 1);
        let mut reads = Vec::new();
        for _ in 0..5 {
            reads.push(memory.read_bytes_max());
            memory.lend(1250);
        }
        let longest = BUFFER_BYTES_MAX;
        assert_eq!(reads, [longest, longest, SHORTER_READ_BYTES, SHORTEST_READ_BYTES, SHORTEST_READ_BYTES]);
    }
}
