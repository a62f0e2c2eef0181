//! Bodies compressed with gzip. They are lists of objects with the same keys, so the fastest level makes them ten times
//! shorter.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tungstenite::Bytes;

/// Shorter bodies are sent as they are: they fit into one packet.
pub const BYTES_MIN: usize = 1400;

/// `body` compressed.
pub fn pack(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}
