//! What the tests of this module share: golden bytes and seeded random numbers. Holds nothing of the code under test.

/// The user id of all golden bytes.
pub(super) const USER: [u8; 16] =
    [0x57, 0x83, 0xa3, 0xe7, 0xe3, 0x73, 0x51, 0xcd, 0x86, 0x42, 0xc8, 0x37, 0x82, 0xb8, 0x07, 0xc5];

/// The sections of a vector file: hex bytes, `#` comments, an empty line between sections.
pub(super) fn sections(text: &str) -> Vec<Vec<u8>> {
    let sections = text.split("\n\n").map(|section| {
        let lines = section.lines().filter(|line| !line.starts_with('#'));
        lines.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>()
    });
    sections.filter(|bytes| !bytes.is_empty()).collect()
}

/// The TLS 1.3 ServerHello record of 127 bytes.
pub(super) fn server_hello() -> Vec<u8> {
    let bytes = sections(include_str!("../../../tests/vectors/vision_server_hello.hex")).remove(0);
    assert_eq!(bytes.len(), 127);
    bytes
}

/// A TLS record with a body of `len` bytes.
pub(super) fn record(kind: u8, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3, (len >> 8) as u8, len as u8];
    bytes.resize(5 + len, fill);
    bytes
}

/// A ClientHello record of `len` body bytes, so far as it is recognised by anybody.
pub(super) fn client_hello(len: usize) -> Vec<u8> {
    let mut bytes = record(0x16, len, 0x11);
    (bytes[2], bytes[5]) = (1, 1);
    bytes
}

/// Splitmix64: small, seedable, good enough to choose test cases.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
