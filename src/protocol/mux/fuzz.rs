//! Entry point for fuzzing: an ordinary function that takes any bytes and fails loudly if an invariant breaks.
//!
//! Not part of the server. A unit test calls it, too, so it cannot rot.

use super::{FRAME_BYTES_MAX, decode};

/// Decodes `data` as a stream of frames, once as a whole and once as it grows by pieces whose length the first byte
/// gives, and requires equal results.
pub fn fuzz_frames(data: &[u8]) {
    let Some((&piece_bytes, stream)) = data.split_first() else { return };
    let whole = decode_all(std::iter::once(stream));
    let pieces = decode_all(stream.chunks(usize::from(piece_bytes) + 1));
    assert_eq!(whole, pieces, "the result depends on the cuts");
}

/// The frames as text, the bytes left, and whether an error ended it. Bytes behind an error do not count.
fn decode_all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<Vec<u8>>) {
    let (mut kept, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match decode(&kept) {
                Ok(None) => break,
                Ok(Some((frame, length))) => {
                    assert!(length <= kept.len() && length <= FRAME_BYTES_MAX);
                    frames.push(format!("{frame:?}"));
                    kept.drain(..length);
                }
                Err(_) => return (frames, None),
            }
        }
    }
    (frames, Some(kept))
}
