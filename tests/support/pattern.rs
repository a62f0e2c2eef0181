//! Bytes that tell where in a stream they belong, so that lost, doubled and swapped ones are all seen.

/// The byte at `offset` of the stream.
pub fn byte(offset: u64) -> u8 {
    let mixed = offset.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// The stream's bytes from `offset` on.
pub fn fill(offset: u64, into: &mut [u8]) {
    for (at, place) in (offset..).zip(into) {
        *place = byte(at);
    }
}

/// Continues `bytes` up to `length` with the stream's bytes from the same offset on.
pub fn fill_after(bytes: &mut Vec<u8>, length: usize) {
    let start = bytes.len();
    bytes.resize(length, 0);
    fill(start as u64, &mut bytes[start..]);
}

/// # Panics
/// At the first byte that is not the stream's.
#[track_caller]
pub fn check(offset: u64, bytes: &[u8]) {
    for (at, &found) in (offset..).zip(bytes) {
        assert!(found == byte(at), "wrong byte at {at}");
    }
}

/// A small xorshift generator; the seed must not be zero.
pub struct Random(pub u64);

impl Random {
    /// A number in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
