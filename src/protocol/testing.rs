//! What the tests of this layer share: hex text to bytes, and a seeded source of numbers.

/// Turns the text of a `tests/vectors/*.hex` file into bytes: pairs of hex digits, blanks and line ends between them
/// ignored, `#` starts a comment.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hex digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A small xorshift generator: the same seed gives the same numbers on every machine.
pub(super) struct Random(u64);

impl Random {
    /// `seed` must not be zero, which is the one state that xorshift never leaves.
    pub(super) fn new(seed: u64) -> Self {
        assert_ne!(seed, 0);
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number in `0..bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `0..bytes_max` random bytes.
    pub(super) fn bytes(&mut self, bytes_max: usize) -> Vec<u8> {
        (0..self.below(bytes_max)).map(|_| self.next() as u8).collect()
    }
}
