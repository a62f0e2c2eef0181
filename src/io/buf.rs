//! A byte queue in one piece of memory: `head <= tail <= capacity`. The bytes between head and tail are queued.
//!
//! Memory is zeroed when it is made and never again. What lies outside `head..tail` is old: nobody can read it through
//! this type.

/// A contiguous queue of bytes.
///
/// Positions have 32 bits because sessions hold several of these.
pub struct Buf {
    storage: Box<[u8]>,
    head: u32,
    tail: u32,
}

impl Buf {
    /// An empty queue that holds up to `capacity` bytes, which must be less than 4 GiB.
    pub fn new(capacity: usize) -> Self {
        debug_assert!(u32::try_from(capacity).is_ok());
        Self { storage: vec![0; capacity].into_boxed_slice(), head: 0, tail: 0 }
    }

    /// A queue that holds nothing and owns no memory.
    pub fn empty() -> Self {
        Self { storage: Box::default(), head: 0, tail: 0 }
    }

    /// The most bytes that fit.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    fn head(&self) -> usize {
        self.head as usize
    }

    fn tail(&self) -> usize {
        self.tail as usize
    }

    /// Bytes queued.
    pub fn len(&self) -> usize {
        self.tail() - self.head()
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// The queued bytes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.get(self.head()..self.tail()).unwrap_or_default()
    }

    /// The first `count` queued bytes, or all if there are fewer.
    pub fn front(&self, count: usize) -> &[u8] {
        let bytes = self.bytes();
        bytes.get(..count).unwrap_or(bytes)
    }

    /// The queued bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let queued = self.head()..self.tail();
        self.storage.get_mut(queued).unwrap_or_default()
    }

    /// The room behind the queued bytes. Whoever writes to it calls [`Buf::fill`] next.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let tail = self.tail();
        self.storage.get_mut(tail..).unwrap_or_default()
    }

    /// Length of the room behind the queued bytes.
    pub fn spare(&self) -> usize {
        self.storage.len() - self.tail()
    }

    /// Queues the first `count` bytes of the spare room, which the caller has just written.
    pub fn fill(&mut self, count: usize) {
        debug_assert!(count <= self.spare());
        self.tail = (self.tail() + count).min(self.storage.len()) as u32;
    }

    /// Takes `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.head = (self.head() + count).min(self.tail()) as u32;
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    /// Queues a copy of `bytes`. False: they do not fit behind what is there, and nothing is queued.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let tail = self.tail();
        let Some(room) = self.storage.get_mut(tail..tail + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.tail += bytes.len() as u32;
        true
    }

    /// Empties the queue and leaves `headroom` bytes free in front for [`Buf::prepend`].
    pub fn reset(&mut self, headroom: usize) {
        debug_assert!(headroom <= self.capacity());
        self.head = headroom.min(self.storage.len()) as u32;
        self.tail = self.head;
    }

    /// Puts a copy of `bytes` in front of the queue. False: the headroom is too small, and nothing is changed.
    #[must_use]
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(head) = self.head().checked_sub(bytes.len()) else { return false };
        let Some(room) = self.storage.get_mut(head..head + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.head = head as u32;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buf = Buf::new(8);
        assert!(buf.append(b"abc"));
        buf.spare_mut()[..2].copy_from_slice(b"de");
        buf.fill(2);
        buf.consume(1);
        assert_eq!((buf.bytes(), buf.len(), buf.spare()), (&b"bcde"[..], 4, 3));
        buf.consume(4);
        assert!(buf.is_empty());
        assert_eq!(buf.spare(), 8);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut buf = Buf::new(4);
        assert!(buf.append(b"abc"));
        assert!(!buf.append(b"de"));
        assert!(!buf.prepend(b"x"));
        assert_eq!(buf.bytes(), b"abc");
    }

    #[test]
    fn headroom_takes_a_prefix() {
        let mut buf = Buf::new(8);
        buf.reset(2);
        assert!(buf.append(b"payload".get(..6).unwrap()));
        assert!(buf.prepend(&[0, 0]));
        assert_eq!(buf.bytes(), b"\0\0payloa");
    }
}
