//! The sizes of buffers.

/// Sizes of the buffers in bytes, smallest first.
///
/// The middle one holds a whole TLS record of the largest size that anybody may send (5 + 2^14 + 2048 bytes, RFC 5246
/// 6.2.3) with room to spare. The last one holds a full read.
pub const TIER_BYTES: [usize; TIERS] = [4 << 10, 64 << 10, 128 << 10];

/// How many sizes there are.
pub const TIERS: usize = 3;

/// The largest buffer there is, in bytes. Whoever receives takes care that what may be left over fits one.
pub const BUFFER_BYTES_MAX: usize = TIER_BYTES[TIERS - 1];

const _: () = assert!(TIER_BYTES[1] >= 5 + (1 << 14) + 2048);
