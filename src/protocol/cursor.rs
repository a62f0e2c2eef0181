//! A reading position in a slice, for decoders.
//!
//! A read returns exactly what was asked for, or `None` and leaves the position where it was. So running off the end is
//! impossible instead of checked. All integers on the wire are big-endian.

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// `0..=bytes.len()`
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The number of bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes not read yet. They stay unread.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// The next byte, or `None` at the end.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// The next two bytes as a big-endian number, or `None` if fewer remain.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next `N` bytes as an array, or `None` if fewer remain.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.rest().first_chunk()?;
        self.position += N;
        Some(array)
    }

    /// The next `count` bytes, or `None` if fewer remain.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..count)?;
        self.position += count;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_follow_each_other_and_move_the_position() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(0x0203));
        assert_eq!(reader.array(), Some([4, 5]));
        assert_eq!(reader.take(2), Some(&[6, 7][..]));
        assert_eq!(reader.position(), 7);
        assert_eq!(reader.rest(), [8]);
        assert!(!reader.is_empty());
    }

    #[test]
    fn a_read_past_the_end_returns_none_and_moves_nothing() {
        let mut reader = Reader::new(&[1]);
        assert_eq!(reader.u16(), None);
        assert_eq!(reader.take(2), None);
        assert_eq!(reader.take(usize::MAX), None);
        assert_eq!(reader.array::<2>(), None);
        assert_eq!(reader.position(), 0);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u8(), None);
        assert_eq!(reader.take(usize::MAX), None);
        assert!(reader.is_empty());
        assert_eq!(reader.position(), 1);
    }

    #[test]
    fn nothing_can_be_taken_from_an_empty_slice_except_nothing() {
        let mut reader = Reader::new(&[]);
        assert_eq!(reader.u8(), None);
        assert_eq!(reader.take(0), Some(&[][..]));
        assert!(reader.rest().is_empty());
    }
}
