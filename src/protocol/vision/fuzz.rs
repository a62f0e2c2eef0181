//! Entry points for fuzzing: ordinary functions that take any bytes and fail loudly if an invariant breaks.
//!
//! Not part of the server. Unit tests call them, too, so they cannot rot.

use super::{BLOCK_BYTES_MAX, Command, Pad, Phase, Piece, SEED_DEFAULT, Sniff, Unpad, blocks_max};

const USER: [u8; 16] = *b"0123456789abcdef";

/// Unpads `data` behind the user id, once in one input and once in pieces whose lengths the data itself gives, and
/// requires equal results.
pub fn fuzz_unpad(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    // The low bits choose how much of a right user id comes first, so that the rest of the format is reached.
    let prefix = USER.get(..usize::from(mode & 0x1f)).unwrap_or(&USER);
    let stream = [prefix, data].concat();

    let whole = unpad_all(std::iter::once(&stream[..]));
    let piece_bytes = usize::from(mode >> 5) + 1;
    let pieces = unpad_all(stream.chunks(piece_bytes));
    assert_eq!(whole, pieces, "the result depends on the cuts");
    assert!(whole.0.len() <= stream.len(), "content out of nothing");
}

fn unpad_all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Phase>) {
    let (mut unpad, mut content) = (Unpad::new(USER), Vec::new());
    for mut piece in pieces {
        loop {
            match unpad.next_content(&mut piece) {
                Ok(Some(run)) => content.extend_from_slice(run),
                Ok(None) => break,
                Err(_) => return (content, None),
            }
        }
    }
    (content, Some(unpad.phase()))
}

/// Pads what `data` describes: repeatedly a control byte (lowest bit: direction, the rest: length) and that content.
/// Requires that no content byte is lost, that blocks keep their limits and that only the last one ends padding.
pub fn fuzz_pad(mut data: &[u8]) {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    let mut first = true;
    while let Some((&control, rest)) = data.split_first() {
        let length = usize::from(control >> 1) * usize::from(control >> 1) * 8;
        let (content, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        if control & 1 == 1 {
            sniff.uplink(content);
            continue;
        }
        let before = pad.phase();
        let mut plan = pad.plan(content, &mut sniff);
        let (mut copy, mut blocks, mut last) = (Vec::new(), 0, Command::Continue);
        while let Some(piece) = plan.next_piece(&mut |bound| u32::from(control) % bound) {
            match piece {
                Piece::Block(block) => {
                    assert_eq!(before, Phase::Padded);
                    assert_eq!(last, Command::Continue, "a block behind END or DIRECT");
                    assert!(block.wire_len() <= BLOCK_BYTES_MAX);
                    assert_eq!(block.header().len(), if first { 21 } else { 5 });
                    copy.extend_from_slice(block.content());
                    (blocks, last, first) = (blocks + 1, block.command(), false);
                }
                Piece::Tls(bytes) => {
                    assert_eq!(pad.phase(), Phase::Tls);
                    copy.extend_from_slice(bytes);
                }
                Piece::Raw(bytes) => {
                    assert_eq!(pad.phase(), Phase::Raw);
                    copy.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(copy, content);
        assert!(blocks <= blocks_max(content.len()));
        assert!(before != Phase::Padded || blocks == 0 || pad.phase() == last.next_phase());
    }
}
