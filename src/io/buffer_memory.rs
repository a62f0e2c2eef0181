//! The limit on buffer memory that all workers share.
//!
//! The limit has four shares:
//!
//! | share | for | divided |
//! |---|---|---|
//! | a sixteenth | free buffers that pools keep for the next taker | among the pools |
//! | a sixteenth | names that UDP sockets remember, beyond what each may always keep | not at all |
//! | a quarter | clients that are not admitted yet, so that strangers cannot take what users need | among the pools |
//! | the rest | relays | not at all |
//!
//! Relays follow these rules:
//!
//! - A direction that holds nothing begins to receive only while there is room for one smallest step ([`STEP_BYTES`]).
//!   Whatever a smallest step may have to keep fits it: the beginning of a record and of a packet, or what came out of
//!   a record and is not taken.
//! - What is kept counts as large as it was announced to become. So a direction that holds the beginning of something
//!   completes it without asking for more, and never waits for what it holds itself. While memory is short, a direction
//!   that holds something receives only what completes it.
//! - What cannot be kept within the limit is not taken: a stream stays where it is, a datagram is dropped.
//! - Sessions that wait come before those that just heard that there is something to receive, whichever worker has
//!   them, in the order in which they began to wait; between workers within [`DEFERENCE`].
//! - From a peer that is gone everything is received, bit by bit. Only beyond [`FAREWELL_BYTES_MAX`] it waits like the
//!   others.
//! - The less is left, the shorter are the reads. So a taker that stalls in the middle of one holds less, and many
//!   stalled ones leave enough for the others. Reads become short for takers of whom nothing is known long before they
//!   do for those that have taken much without a pause, so that these go on as if nobody stalled.
//!
//! What a relay of packets writes down of the frames that its client's socket has not taken does not count. It is 4 KiB
//! at the most, beside the frames themselves.
//!
//! Workers ask without locking each other out, and take after that. So a worker may pass the limit by what one receive
//! leaves over, and by what is kept for peers that are gone: by [`OVERSHOOT_BYTES_MAX`], and never by more.

mod waits;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::waits::DEFERENCE;
use self::waits::Waits;
use super::taker::Taker;
use super::tiers::{BUFFER_BYTES_MAX, TIER_BYTES};

/// A read that fits a buffer of the middle size with what TLS adds to it. It holds whole records.
const SHORTER_READ_BYTES: usize = 48 << 10;
/// A read that fits a buffer of the smallest size with what TLS adds to it.
const SHORTEST_READ_BYTES: usize = TIER_BYTES[0] - 256;

/// So many eighths of the memory are lent when reads become shorter, and when they become as short as they get. Stalled
/// takers of whom nothing is known have then filled half of it, and more than a thousand fit a quarter of 32 MiB until
/// the reads of steady ones are shortened. The rest is for steady ones that stall all together.
const UNKNOWN_TAKER_EIGHTHS: (usize, usize) = (2, 4);
const STEADY_TAKER_EIGHTHS: (usize, usize) = (6, 7);

/// The longest TLS record, with its header, in buffers of the smallest size (RFC 5246 6.2.3: 5 + 2^14 + 2048 bytes).
pub const RECORD_HOLD_BYTES: usize = 5 * TIER_BYTES[0];
const _: () = assert!(RECORD_HOLD_BYTES >= 5 + (1 << 14) + 2048);

/// The most that the smallest step of a direction may have to keep: a packet of up to the length of a record, and the
/// beginning of the record that brings more of it.
pub const STEP_BYTES: usize = 2 * RECORD_HOLD_BYTES + TIER_BYTES[0];

/// The least memory for relays, whatever the limit: enough for one step, and for what comes with a request.
const LENT_BYTES_MIN: usize = 3 * STEP_BYTES;

/// What is kept beyond the limit for peers that are gone, per worker.
pub const FAREWELL_BYTES_MAX: usize = BUFFER_BYTES_MAX;

/// The most by which one worker passes the limit, in bytes. It is what one receive could not convert and not send while
/// another worker took what was left, and what is kept for peers that are gone.
pub const OVERSHOOT_BYTES_MAX: usize = 2 * BUFFER_BYTES_MAX + FAREWELL_BYTES_MAX;

/// Bytes lent to relays by all workers' pools, and how many that may be.
#[derive(Debug)]
pub struct BufferMemory {
    lent_bytes: AtomicUsize,
    /// The most that may be lent.
    lent_bytes_max: usize,
    /// The most that may be lent while a peer that is gone is heard out.
    farewell_bytes_max: usize,
    /// The most that each pool lends to clients that are no users yet.
    opening_bytes_max: usize,
    /// The most that each pool keeps in free buffers.
    kept_bytes_max: usize,
    names_bytes: AtomicUsize,
    /// The most that may be taken for names. Nothing passes this.
    names_bytes_max: usize,
    waits: Waits,
}

impl BufferMemory {
    /// `bytes_max` for `workers` pools: for lent buffers, kept ones and names together.
    pub fn new(bytes_max: usize, workers: usize) -> Self {
        let workers = workers.max(1);
        let (kept_bytes, names_bytes_max, opening_bytes) = (bytes_max / 16, bytes_max / 16, bytes_max / 4);
        let lent_bytes_max = (bytes_max - kept_bytes - names_bytes_max - opening_bytes).max(LENT_BYTES_MIN);
        Self {
            lent_bytes: AtomicUsize::new(0),
            lent_bytes_max,
            farewell_bytes_max: lent_bytes_max.saturating_add(workers * FAREWELL_BYTES_MAX),
            opening_bytes_max: opening_bytes / workers,
            kept_bytes_max: kept_bytes / workers,
            names_bytes: AtomicUsize::new(0),
            names_bytes_max,
            waits: Waits::new(workers),
        }
    }

    /// Memory without a limit.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, 1)
    }

    /// Memory of `bytes_max` for the relays of `workers` pools. Clients that are not admitted and free buffers have as
    /// much as they like.
    pub fn for_relays_only(bytes_max: usize, workers: usize) -> Self {
        let lent_bytes_max = bytes_max.max(LENT_BYTES_MIN);
        let farewell_bytes_max = lent_bytes_max + workers * FAREWELL_BYTES_MAX;
        Self { lent_bytes_max, farewell_bytes_max, ..Self::new(usize::MAX, workers) }
    }

    /// A direction that holds nothing may receive.
    pub fn may_begin(&self) -> bool {
        self.has_room(STEP_BYTES)
    }

    /// So many bytes more may be lent.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.lent_bytes().saturating_add(bytes) <= self.lent_bytes_max
    }

    /// The last words of a peer that is gone may be received.
    pub fn may_hear_farewell(&self) -> bool {
        self.lent_bytes().saturating_add(STEP_BYTES) <= self.farewell_bytes_max
    }

    /// So little is left that memory should not be wasted on buffers that are larger than they need to be.
    pub fn is_tight(&self) -> bool {
        self.lent_bytes() >= self.lent_bytes_max / 2 || !self.has_room(2 * TIER_BYTES[1])
    }

    /// The most that may be lent to relays, save the overshoot.
    pub fn lent_bytes_max(&self) -> usize {
        self.lent_bytes_max
    }

    /// The most to receive at a time for this taker, in bytes. It is no more than may be kept, and the less the more is
    /// lent.
    pub fn read_bytes_max(&self, taker: Taker) -> usize {
        let (shorter, shortest) = match taker {
            Taker::Unknown => UNKNOWN_TAKER_EIGHTHS,
            Taker::Steady => STEADY_TAKER_EIGHTHS,
        };
        let eighth = self.lent_bytes_max / 8;
        match self.lent_bytes() {
            lent if lent >= eighth * shortest || !self.has_room(2 * TIER_BYTES[1]) => SHORTEST_READ_BYTES,
            lent if lent >= eighth * shorter || !self.has_room(2 * BUFFER_BYTES_MAX) => SHORTER_READ_BYTES,
            _ => BUFFER_BYTES_MAX,
        }
    }

    /// Bytes lent to relays now.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes taken for names now, and the most that may be.
    pub fn names_bytes(&self) -> (usize, usize) {
        (self.names_bytes.load(Ordering::Relaxed), self.names_bytes_max)
    }

    /// Takes so many bytes for names. False: there are not so many left, and none is taken.
    pub(super) fn take_for_names(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|&taken| taken <= self.names_bytes_max);
        self.names_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give_back_from_names(&self, bytes: usize) {
        self.names_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Who waits for memory.
    pub(super) fn waits(&self) -> &Waits {
        &self.waits
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
    fn beginning_waits_while_there_is_no_room_for_a_step() {
        let memory = BufferMemory::new(1 << 20, 2);
        assert_eq!((memory.kept_bytes_max(), memory.opening_bytes_max()), (32 << 10, 128 << 10));
        let free = memory.lent_bytes_max();
        memory.lend(free - STEP_BYTES);
        assert!(memory.may_begin() && memory.has_room(STEP_BYTES));
        memory.lend(1);
        assert!(!memory.may_begin() && !memory.has_room(STEP_BYTES) && memory.has_room(STEP_BYTES - 1));
        assert!(memory.may_hear_farewell());
        memory.lend(STEP_BYTES - 1 + 2 * FAREWELL_BYTES_MAX);
        assert!(!memory.may_hear_farewell());
        memory.give_back(free + 2 * FAREWELL_BYTES_MAX);
        assert!(memory.may_begin());
    }

    #[test]
    fn names_never_pass_their_share() {
        let memory = BufferMemory::new(1 << 20, 2);
        assert!(memory.take_for_names(40 << 10) && !memory.take_for_names((24 << 10) + 1));
        assert!(memory.take_for_names(24 << 10) && !memory.take_for_names(1) && !memory.take_for_names(usize::MAX));
        assert_eq!(memory.names_bytes(), (64 << 10, 64 << 10));
        memory.give_back_from_names(64 << 10);
        assert_eq!((memory.names_bytes().0, memory.lent_bytes()), (0, 0));
    }

    #[test]
    fn however_little_there_is_one_step_is_possible() {
        assert!(BufferMemory::new(0, 4).may_begin());
        assert!(BufferMemory::new(0, 4).read_bytes_max(Taker::Steady) <= SHORTER_READ_BYTES);
    }

    #[test]
    fn the_less_is_left_the_shorter_are_the_reads_and_first_for_unknown_takers() {
        let (longest, shorter, shortest) = (BUFFER_BYTES_MAX, SHORTER_READ_BYTES, SHORTEST_READ_BYTES);
        for (taker, expected) in [
            (Taker::Unknown, [longest, longest, shorter, shorter, shortest, shortest, shortest, shortest, shortest]),
            (Taker::Steady, [longest, longest, longest, longest, longest, longest, shorter, shortest, shortest]),
        ] {
            let memory = BufferMemory::new(64 << 20, 1);
            let reads = expected.map(|_| {
                let bytes = memory.read_bytes_max(taker);
                memory.lend(memory.lent_bytes_max() / 8);
                bytes
            });
            assert_eq!(reads, expected, "{taker:?}");
        }
    }
}
