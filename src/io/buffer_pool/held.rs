//! Bytes that are kept in borrowed buffers: in one, or in several of the smallest size where that takes less memory.
//!
//! While memory is plentiful, one buffer is the cheaper way. While it is tight, bytes that are too many for the
//! smallest buffer and far too few for the next one are cut in pieces.

use super::{BufferPool, Loan, PooledBuf, TIER_BYTES};
use crate::io::buf::Buf;

/// Longer queues are never cut, because more pieces cost more than the memory they save.
const CUT_BYTES_MAX: usize = 32 << 10;

/// A queue of bytes in borrowed memory, never empty until it is used up.
pub struct Held {
    first: PooledBuf,
    /// What follows, in order.
    #[expect(
        clippy::box_collection,
        reason = "hardly any queue has more than one piece, and sessions hold several queues"
    )]
    more: Option<Box<Vec<PooledBuf>>>,
}

/// The memory that keeping so many bytes takes.
pub(super) fn hold_bytes(bytes: usize, is_tight: bool) -> usize {
    if is_cut(bytes, is_tight) {
        return bytes.next_multiple_of(TIER_BYTES[0]);
    }
    BufferPool::buffer_bytes(bytes)
}

fn is_cut(bytes: usize, is_tight: bool) -> bool {
    is_tight && (TIER_BYTES[0] + 1..=CUT_BYTES_MAX).contains(&bytes)
}

impl BufferPool {
    /// Keeps a copy of `bytes`, which must not be empty, nor more than the largest buffer holds. It counts as
    /// `announced_bytes` if that is more than it takes.
    pub fn hold(&self, bytes: &[u8], announced_bytes: usize, loan: Loan) -> Held {
        let piece_bytes = if is_cut(bytes.len(), self.is_tight()) { TIER_BYTES[0] } else { bytes.len().max(1) };
        let (front, rest) = bytes.split_at(piece_bytes.min(bytes.len()));
        let rest_bytes = rest.len().next_multiple_of(TIER_BYTES[0]);
        let mut first = self.take_announced(front.len(), announced_bytes.saturating_sub(rest_bytes), loan);
        let fits = first.append(front);
        debug_assert!(fits, "more bytes than the largest buffer holds");
        let more: Vec<_> = rest.chunks(piece_bytes).map(|piece| self.take_with(piece, loan)).collect();
        Held { first, more: (!more.is_empty()).then(|| Box::new(more)) }
    }
}

impl Held {
    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.first.len() + self.more.iter().flat_map(|more| more.iter()).map(|piece| piece.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The memory it takes.
    pub fn capacity(&self) -> usize {
        self.first.capacity()
            + self.more.iter().flat_map(|more| more.iter()).map(|piece| piece.capacity()).sum::<usize>()
    }

    /// The first bytes: all of them, or as many as the smallest buffer holds.
    pub fn front(&self) -> &[u8] {
        self.first.bytes()
    }

    /// Takes `count` bytes off the front, which must not be more than [`Held::front`] has.
    pub fn consume(&mut self, count: usize) {
        self.first.consume(count);
        if self.first.is_empty()
            && let Some(more) = &mut self.more
        {
            self.first = more.remove(0);
            if more.is_empty() {
                self.more = None;
            }
        }
    }

    /// Adds a copy of `bytes` where that needs no more memory. False, and nothing added, where it does.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        match self.more.as_mut().and_then(|more| more.last_mut()) {
            Some(last) => last.append(bytes),
            None => self.first.append(bytes),
        }
    }

    /// Adds all of it to `buf`. False where it does not fit.
    #[must_use]
    pub fn copy_to(&self, buf: &mut Buf) -> bool {
        buf.append(self.first.bytes())
            && self.more.iter().flat_map(|more| more.iter()).all(|piece| buf.append(piece.bytes()))
    }

    /// Counts it from now on as borrowed for something else.
    pub fn lend_as(&mut self, loan: Loan) {
        self.first.lend_as(loan);
        for piece in self.more.iter_mut().flat_map(|more| more.iter_mut()) {
            piece.lend_as(loan);
        }
    }
}
