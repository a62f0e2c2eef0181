//! The worker's buffer pool: three tiers of buffers that sessions borrow while they have bytes to keep.
//!
//! Sockets are read into the worker's scratch memory; a session takes a buffer only for what is left over, and its drop
//! gives it back. So an idle session holds none, and the pool's size follows the bytes that wait, not the sessions.
//! One pool belongs to one thread; nothing in it is locked.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::io::buf::Buf;

/// Sizes of the buffers, smallest first.
///
/// The middle one holds a whole TLS record of the largest size anybody may send (5 + 2^14 + 2048 bytes, RFC 5246
/// 6.2.3) with room to spare, the last one a full read.
pub const TIER_BYTES: [usize; 3] = [4 << 10, 64 << 10, 128 << 10];

/// The largest buffer there is; whoever reads plans so that what is left over fits.
pub const BUFFER_BYTES_MAX: usize = TIER_BYTES[2];

/// Returned buffers kept for the next taker, per tier; what comes back beyond is freed.
const KEPT_PER_TIER: [usize; 3] = [64, 16, 8];

/// Hands out buffers; cheap to clone, all clones share the same shelves.
#[derive(Clone)]
pub struct BufferPool {
    shelves: Rc<Shelves>,
}

struct Shelves {
    free: [RefCell<Vec<Buf>>; 3],
    held: [Cell<usize>; 3],
}

/// A borrowed buffer; dropping it gives it back.
pub struct PooledBuf {
    /// Empty (no memory) only while it is being dropped.
    buf: Buf,
    tier: usize,
    shelves: Rc<Shelves>,
}

impl BufferPool {
    /// An empty pool: it allocates as buffers are asked for.
    #[expect(clippy::new_without_default, reason = "a pool is made once per worker, never by default")]
    pub fn new() -> Self {
        Self { shelves: Rc::new(Shelves { free: Default::default(), held: Default::default() }) }
    }

    /// A buffer of the smallest tier that holds `bytes`, or the largest tier if none does.
    pub fn take(&self, bytes: usize) -> PooledBuf {
        let tier = TIER_BYTES.iter().position(|&size| size >= bytes).unwrap_or(TIER_BYTES.len() - 1);
        let kept = self.shelves.free[tier].borrow_mut().pop();
        let held = &self.shelves.held[tier];
        held.set(held.get() + 1);
        PooledBuf { buf: kept.unwrap_or_else(|| Buf::new(TIER_BYTES[tier])), tier, shelves: Rc::clone(&self.shelves) }
    }

    /// A buffer that starts with a copy of `bytes`, which must not be more than [`BUFFER_BYTES_MAX`].
    pub fn take_with(&self, bytes: &[u8]) -> PooledBuf {
        let mut buf = self.take(bytes.len());
        let fits = buf.append(bytes);
        debug_assert!(fits, "more bytes than the largest buffer holds");
        buf
    }

    /// Buffers lent out now.
    pub fn held(&self) -> usize {
        self.shelves.held.iter().map(Cell::get).sum()
    }

    /// Bytes of memory in the buffers lent out now.
    pub fn held_bytes(&self) -> usize {
        self.shelves.held.iter().zip(TIER_BYTES).map(|(held, size)| held.get() * size).sum()
    }
}

impl Deref for PooledBuf {
    type Target = Buf;

    fn deref(&self) -> &Buf {
        &self.buf
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut Buf {
        &mut self.buf
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        let held = &self.shelves.held[self.tier];
        held.set(held.get() - 1);
        let mut free = self.shelves.free[self.tier].borrow_mut();
        if free.len() < KEPT_PER_TIER[self.tier] {
            let mut buf = std::mem::replace(&mut self.buf, Buf::new(0));
            buf.reset(0);
            free.push(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_tier_that_fits_is_chosen() {
        let pool = BufferPool::new();
        let sizes = [1, 4096, 4097, 65536, 65537, 131_072].map(|bytes| pool.take(bytes).capacity());
        assert_eq!(sizes, [4096, 4096, 65536, 65536, 131_072, 131_072]);
    }

    #[test]
    fn a_dropped_buffer_comes_back_empty() {
        let pool = BufferPool::new();
        let first = pool.take_with(b"secret");
        assert_eq!((pool.held(), pool.held_bytes()), (1, 4096));
        drop(first);
        assert_eq!((pool.held(), pool.held_bytes()), (0, 0));
        let second = pool.take(1);
        assert!(second.is_empty());
        assert_eq!(pool.shelves.free[0].borrow().len(), 0, "the kept buffer was used again");
    }

    #[test]
    fn buffers_beyond_the_kept_number_are_freed() {
        let pool = BufferPool::new();
        let many: Vec<_> = (0..KEPT_PER_TIER[0] + 10).map(|_| pool.take(1)).collect();
        drop(many);
        assert_eq!(pool.shelves.free[0].borrow().len(), KEPT_PER_TIER[0]);
    }
}
