//! Memory of the names that one UDP socket remembers, counted against a share of the buffer memory.
//!
//! Whoever remembers says how much that is. Nothing is allocated here.

use std::rc::Rc;

use super::{BufferPool, Shelves};

/// What a socket may remember in any case, in bytes: the name it was opened for and a few more.
const OWN_NAMES_BYTES: usize = 2048;

/// The memory that one socket's names take. Dropping it gives all of it back.
#[derive(Default)]
pub struct NamesCharge {
    bytes: usize,
    /// Whom the bytes beyond [`OWN_NAMES_BYTES`] were taken from, once there were some.
    shelves: Option<Rc<Shelves>>,
}

impl NamesCharge {
    /// Takes so many bytes more. False: there is no room, and nothing is taken.
    #[must_use]
    pub fn take(&mut self, bytes: usize, pool: &BufferPool) -> bool {
        let more = charged(self.bytes + bytes) - charged(self.bytes);
        if more > 0 {
            let shelves = self.shelves.get_or_insert_with(|| Rc::clone(&pool.shelves));
            if !shelves.memory.take_for_names(more) {
                return false;
            }
        }
        self.bytes += bytes;
        true
    }

    /// Gives back so many of the bytes taken.
    pub fn give_back(&mut self, bytes: usize) {
        let left = self.bytes.saturating_sub(bytes);
        if let Some(shelves) = &self.shelves {
            shelves.memory.give_back_from_names(charged(self.bytes) - charged(left));
        }
        self.bytes = left;
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for NamesCharge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// How much of so many bytes counts against the share.
fn charged(bytes: usize) -> usize {
    bytes.saturating_sub(OWN_NAMES_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::buffer_memory::BufferMemory;

    #[test]
    fn only_what_exceeds_a_sockets_own_memory_is_taken_from_the_share() {
        let memory = Arc::new(BufferMemory::new(1 << 20, 1));
        let pool = BufferPool::with_memory(Arc::clone(&memory));
        let taken = || memory.names_bytes().0;
        let mut charge = NamesCharge::default();
        assert!(charge.take(OWN_NAMES_BYTES, &pool));
        assert_eq!(taken(), 0);
        assert!(charge.take(100, &pool) && !charge.take(64 << 10, &pool));
        assert_eq!((taken(), charge.bytes()), (100, OWN_NAMES_BYTES + 100));
        charge.give_back(150);
        assert_eq!(taken(), 0);
        assert!(charge.take(1050, &pool));
        assert_eq!(taken(), 1000);
        drop(charge);
        assert_eq!(taken(), 0);
    }
}
