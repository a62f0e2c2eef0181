//! The limit on buffer memory that all workers share.
//!
//! It counts the bytes lent to sessions. A direction that holds nothing may begin to receive while less than four fifths
//! of the limit is lent; one that holds the beginning of a record may go on up to the limit itself, because completing
//! the record is what frees its buffer. Asking comes before receiving and taking after it, so what is lent can pass the
//! limit by what one receive per worker leaves over, [`OVERSHOOT_BYTES_MAX`], and by what ending streams still say.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::buffer_pool::BUFFER_BYTES_MAX;

/// What one worker may take after it was allowed to receive: what could not be converted and what could not be sent.
pub const OVERSHOOT_BYTES_MAX: usize = 2 * BUFFER_BYTES_MAX;

/// Bytes lent by all workers' pools, and how many that may be.
#[derive(Debug)]
pub struct BufferMemory {
    lent_bytes: AtomicUsize,
    /// A direction that holds nothing waits from here on.
    begin_bytes_max: usize,
    /// Every direction waits from here on.
    lent_bytes_max: usize,
    /// Free buffers that each pool may keep for the next taker, in bytes.
    kept_bytes_max: usize,
}

impl BufferMemory {
    /// Memory of `bytes_max` for `workers` pools: lent buffers and those kept for the next taker together.
    pub fn new(bytes_max: usize, workers: usize) -> Self {
        let kept_bytes_max = bytes_max / 8 / workers.max(1);
        let lent_bytes_max = bytes_max - bytes_max / 8;
        let begin_bytes_max = lent_bytes_max / 5 * 4;
        Self { lent_bytes: AtomicUsize::new(0), begin_bytes_max, lent_bytes_max, kept_bytes_max }
    }

    /// Memory without a limit.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, 1)
    }

    /// A direction may receive: `holds_input` says that it has the beginning of a record already.
    pub fn may_receive(&self, holds_input: bool) -> bool {
        self.lent_bytes() < if holds_input { self.lent_bytes_max } else { self.begin_bytes_max }
    }

    /// Bytes lent now.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes.load(Ordering::Relaxed)
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
    fn who_holds_a_beginning_may_go_on_when_others_wait() {
        let memory = BufferMemory::new(8000, 1);
        assert!(memory.may_receive(false));
        memory.lend(5600);
        assert_eq!((memory.may_receive(false), memory.may_receive(true)), (false, true));
        memory.lend(1400);
        assert_eq!((memory.may_receive(false), memory.may_receive(true)), (false, false));
        memory.give_back(1401);
        assert!(memory.may_receive(false));
    }
}
