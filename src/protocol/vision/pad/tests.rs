use super::super::testing::{Rng, USER, client_hello, record, sections, server_hello};
use super::*;

/// One batch as the wire sees it: the blocks, and the rest with the phase it is sent in.
struct Wire {
    blocks: Vec<Vec<u8>>,
    /// The content of all blocks.
    content: Vec<u8>,
    commands: Vec<Command>,
    tls: Vec<u8>,
    raw: Vec<u8>,
}

fn send(pad: &mut Pad, sniff: &mut Sniff, batch: &[u8], mut draw: impl FnMut(u32) -> u32) -> Wire {
    let mut wire = Wire { blocks: vec![], content: vec![], commands: vec![], tls: vec![], raw: vec![] };
    let mut plan = pad.plan(batch, sniff);
    while let Some(piece) = plan.next_piece(&mut draw) {
        match piece {
            Piece::Block(block) => {
                let mut bytes = [block.header(), block.content()].concat();
                bytes.resize(bytes.len() + usize::from(block.padding_len()), 0);
                assert_eq!(bytes.len(), block.wire_len());
                wire.blocks.push(bytes);
                wire.content.extend_from_slice(block.content());
                wire.commands.push(block.command());
            }
            Piece::Tls(bytes) => wire.tls.extend(bytes),
            Piece::Raw(bytes) => wire.raw.extend(bytes),
        }
    }
    wire
}

/// What `send` gives for the commands and the phase behind them.
fn commands(pad: &mut Pad, sniff: &mut Sniff, batch: &[u8]) -> (Vec<Command>, Phase) {
    let wire = send(pad, sniff, batch, |_| 0);
    (wire.commands, pad.phase())
}

/// Both hellos and the client's Finished have passed, everything on the downlink was padded.
fn after_handshake(server_hello: &[u8]) -> (Pad, Sniff) {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    sniff.uplink(&client_hello(500));
    let flight = [server_hello, &record(0x14, 1, 1), &record(0x17, 900, 3)].concat();
    assert_eq!(commands(&mut pad, &mut sniff, &flight), (vec![Command::Continue], Phase::Padded));
    sniff.uplink(&[record(0x14, 1, 1), record(0x17, 53, 4)].concat());
    assert!(sniff.client_finished());
    (pad, sniff)
}

#[test]
fn golden_downlink_blocks_come_out_byte_for_byte() {
    let vector = sections(include_str!("../../../../tests/vectors/vision_downlink.hex"));
    for (bytes, user, command, content, padding_len) in [
        (&vector[0], Some(USER), Command::Continue, 21..33, 3),
        (&vector[1], None, Command::Continue, 5..11, 2),
        (&vector[2], None, Command::Direct, 5..15, 6),
    ] {
        let block = Block::new(user, command, &bytes[content], padding_len);
        let padding = vec![0; usize::from(block.padding_len())];
        assert_eq!([block.header(), block.content(), &padding].concat(), *bytes);
        assert_eq!(block.wire_len(), bytes.len());
    }
}

#[test]
fn padding_lengths_follow_the_table() {
    let length = |seed, content_len, length, drawn| {
        padding_len(seed, content_len, length, &mut |bound| if drawn == u32::MAX { bound - 1 } else { drawn })
    };
    assert_eq!(length(SEED_DEFAULT, 0, Length::Long, 0), 900);
    assert_eq!(length(SEED_DEFAULT, 899, Length::Long, 499), 500);
    assert_eq!(length(SEED_DEFAULT, 517, Length::Long, 318), 701);
    assert_eq!(length(SEED_DEFAULT, 900, Length::Long, 255), 255, "the short rule");
    assert_eq!(length(SEED_DEFAULT, 0, Length::Short, 255), 255);
    assert_eq!(length(SEED_DEFAULT, 8170, Length::Long, 255), 1);
    assert_eq!(length(SEED_DEFAULT, 8171, Length::Long, 255), 0);
    assert_eq!(length(SEED_DEFAULT, 9000, Length::Long, 255), 0);
    // Seeds that ask for less than nothing, for more than fits, or for a draw out of nothing.
    assert_eq!(length([900, 500, 100, 256], 800, Length::Long, 0), 0);
    assert_eq!(length([u32::MAX; 4], 100, Length::Long, u32::MAX), 8071);
    assert_eq!(length([0; 4], 100, Length::Long, u32::MAX), 0);
    // A draw out of range is the caller's mistake, but harmless.
    assert_eq!(length(SEED_DEFAULT, 0, Length::Short, 9999), 255);
}

#[test]
fn the_user_id_stands_in_front_of_the_first_block_only() {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    let first = send(&mut pad, &mut sniff, &vec![b'a'; 20_000], |_| 0);
    let second = send(&mut pad, &mut sniff, b"more", |_| 0);
    assert_eq!(first.blocks[0][..21], [&USER[..], &[0, 0x10, 0, 0, 0]].concat());
    assert_eq!(first.blocks[1][..5], [0, 0x10, 0, 0, 0]);
    assert_eq!(second.blocks[0], b"\0\0\x04\0\0more");
}

#[test]
fn an_empty_batch_gives_nothing_and_takes_nothing() {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    assert_eq!(commands(&mut pad, &mut sniff, b""), (vec![], Phase::Padded));
    assert_eq!(send(&mut pad, &mut sniff, b"x", |_| 0).blocks[0][..16], USER);
}

#[test]
fn long_content_is_cut_at_the_last_marker_or_at_4096() {
    let cut_with_marker_at = |len: usize, index: usize| {
        let mut content = vec![0; len];
        content[index..index + 3].copy_from_slice(&[0x17, 3, 3]);
        cut(&content)
    };
    assert_eq!(cut(&[0; 8170]), 8170);
    assert_eq!(cut(&[0; 8171]), 4096);
    assert_eq!(cut(&vec![0; 100_000]), 4096);
    assert_eq!(cut_with_marker_at(8170, 100), 8170);
    assert_eq!(cut_with_marker_at(9000, 20), 4096);
    assert_eq!(cut_with_marker_at(9000, 21), 21);
    assert_eq!(cut_with_marker_at(9000, 8171), 8171);
    assert_eq!(cut_with_marker_at(9000, 8172), 4096);
    let mut two = vec![0; 9000];
    two[50..53].copy_from_slice(&[0x17, 3, 3]);
    two[500..503].copy_from_slice(&[0x17, 3, 3]);
    assert_eq!(cut(&two), 500);
}

#[test]
fn markers_anywhere_keep_blocks_within_their_limits() {
    let mut rng = Rng(3);
    for _ in 0..300 {
        let mut batch = vec![0; 1 + rng.below(140_000)];
        let spacing = [1, 3, 21, 4_117, 8_150, 8_171, 8_192][rng.below(7)];
        let mut at = rng.below(spacing);
        while at + 3 <= batch.len() {
            batch[at..at + 3].copy_from_slice(&[0x17, 3, 3]);
            at += 3 + rng.below(spacing);
        }
        let (mut rest, mut blocks) = (&batch[..], 0);
        while !rest.is_empty() {
            let len = cut(rest);
            assert!((1..=8171).contains(&len));
            (rest, blocks) = (&rest[len..], blocks + 1);
        }
        assert!(blocks <= blocks_max(batch.len()), "{blocks} blocks from {} bytes", batch.len());
    }
}

#[test]
fn content_that_is_not_tls_ends_at_the_seventh_chunk() {
    for uplink in 0..=8 {
        let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
        (0..uplink).for_each(|_| sniff.uplink(b"text"));
        let mut sent = 0;
        while pad.phase() == Phase::Padded {
            let (commands, phase) = commands(&mut pad, &mut sniff, b"HTTP/1.1 200 OK");
            assert_eq!(commands, [if phase == Phase::Tls { Command::End } else { Command::Continue }]);
            sent += 1;
        }
        assert_eq!(sent, 7_usize.saturating_sub(uplink).max(1));
        assert_eq!(send(&mut pad, &mut sniff, b"body", |_| 0).tls, b"body");
    }
}

#[test]
fn a_large_batch_that_is_not_tls_ends_with_its_first_block() {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    let batch = vec![b'x'; 128 * 1024];
    let wire = send(&mut pad, &mut sniff, &batch, |bound| bound - 1);
    assert_eq!(wire.commands, [Command::End]);
    assert_eq!(wire.blocks[0].len(), 21 + 4096 + 255);
    assert!(wire.tls == batch[4096..]);
    assert_eq!(pad.phase(), Phase::Tls);
}

#[test]
fn tls_12_and_unsuitable_suites_end_at_application_data() {
    let mut tls12 = server_hello();
    tls12.drain(81..87);
    tls12[4] -= 6;
    let mut ccm8 = server_hello();
    ccm8[77] = 5;
    for hello in [tls12, ccm8] {
        let (mut pad, mut sniff) = after_handshake(&hello);
        assert_eq!(commands(&mut pad, &mut sniff, &record(0x16, 50, 1)), (vec![Command::Continue], Phase::Padded));
        let batch = [record(0x17, 9000, 1), record(0x17, 5, 1)].concat();
        let wire = send(&mut pad, &mut sniff, &batch, |_| 0);
        assert_eq!((wire.commands, pad.phase()), (vec![Command::End], Phase::Tls));
        assert!([wire.content, wire.tls].concat() == batch);
        assert_eq!(wire.raw, b"");
    }
}

#[test]
fn a_batch_of_whole_records_goes_direct_and_its_tail_is_raw() {
    for tail_len in 0..30 {
        let (mut pad, mut sniff) = after_handshake(&server_hello());
        let whole = [record(0x17, 200, 1), record(0x17, 16_000, 2)].concat();
        let tail = record(0x17, 40, 3)[..tail_len].to_vec();
        let wire = send(&mut pad, &mut sniff, &[&whole[..], &tail].concat(), |_| 0);
        assert_eq!(wire.commands.last(), Some(&Command::Direct));
        assert!(wire.commands.iter().rev().skip(1).all(|&command| command == Command::Continue));
        assert!(wire.content == whole);
        assert_eq!((wire.raw, wire.tls), (tail, vec![]));
        assert_eq!(pad.phase(), Phase::Raw);
    }
}

#[test]
fn nothing_goes_direct_before_the_client_has_finished() {
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    sniff.uplink(&client_hello(500));
    assert_eq!(commands(&mut pad, &mut sniff, &server_hello()).1, Phase::Padded);
    for _ in 0..20 {
        assert_eq!(commands(&mut pad, &mut sniff, &record(0x17, 900, 1)), (vec![Command::Continue], Phase::Padded));
    }
    sniff.uplink(&record(0x17, 53, 4));
    assert_eq!(commands(&mut pad, &mut sniff, &record(0x17, 900, 1)), (vec![Command::Direct], Phase::Raw));
}

#[test]
fn an_incomplete_or_other_first_record_stays_padded() {
    for batch in [record(0x17, 900, 1)[..904].to_vec(), record(0x14, 1, 1), record(0x15, 2, 1)] {
        let (mut pad, mut sniff) = after_handshake(&server_hello());
        assert_eq!(commands(&mut pad, &mut sniff, &batch), (vec![Command::Continue], Phase::Padded));
    }
    let (mut pad, mut sniff) = after_handshake(&server_hello());
    let behind_another = [record(0x15, 2, 1), record(0x17, 900, 1)].concat();
    assert_eq!(commands(&mut pad, &mut sniff, &behind_another), (vec![Command::Continue], Phase::Padded));
}

#[test]
fn records_that_cannot_be_followed_end_padding() {
    let (mut pad, mut sniff) = after_handshake(&server_hello());
    let batch = [record(0x17, 20, 1), b"garbage".to_vec()].concat();
    let wire = send(&mut pad, &mut sniff, &batch, |_| 0);
    assert_eq!((wire.commands, pad.phase()), (vec![Command::End], Phase::Tls));

    // A hello in the middle of something else, as with STARTTLS.
    let (mut pad, mut sniff) = (Pad::new(USER, SEED_DEFAULT), Sniff::new());
    assert_eq!(commands(&mut pad, &mut sniff, b"220 ready\r\n").1, Phase::Padded);
    assert_eq!(commands(&mut pad, &mut sniff, &server_hello()), (vec![Command::End], Phase::Tls));
}

/// Sends a download in batches of `batch_len` that are shifted by one byte against the records. Gives the number of
/// batches until direct.
fn batches_until_direct(record_len: usize, batch_len: usize) -> usize {
    let (mut pad, mut sniff) = after_handshake(&server_hello());
    let stream = record(0x17, record_len, 1).repeat(400 * batch_len / record_len + 20);
    assert_eq!(commands(&mut pad, &mut sniff, &stream[..1]).1, Phase::Padded);
    let mut sent = 1;
    for (index, batch) in stream[1..].chunks(batch_len).enumerate() {
        let wire = send(&mut pad, &mut sniff, batch, |_| 0);
        sent += batch.len();
        if pad.phase() == Phase::Raw {
            assert_eq!((sent - wire.raw.len()) % (record_len + 5), 0, "direct inside a record");
            return index + 1;
        }
    }
    panic!("never direct");
}

#[test]
fn a_fast_download_that_never_aligns_goes_direct_with_its_ninth_batch() {
    // Two batches are behind the stream already: the handshake and the one that spoils the alignment.
    for (record_len, batch_len) in [(16_401, 131_072), (16_401, 65_536), (4_000, 65_536), (1_400, 16_384)] {
        assert_eq!(batches_until_direct(record_len, batch_len), 7, "{record_len} in {batch_len}");
    }
}

#[test]
fn reads_shorter_than_a_record_go_direct_with_the_first_record_that_ends() {
    for batch_len in [1_448, 2_896, 8_192, 16_000] {
        let batches = batches_until_direct(16_401, batch_len);
        assert!(batches <= 7 + 16_406_usize.div_ceil(batch_len), "{batches} batches of {batch_len}");
    }
}

#[test]
fn the_fuzz_entry_holds_on_random_input() {
    let mut rng = Rng(8);
    for _ in 0..300 {
        let mut data = Vec::new();
        for _ in 0..rng.below(20) {
            let content = match rng.below(4) {
                0 => server_hello(),
                1 => client_hello(200),
                2 => record(0x17, 100, 0),
                _ => rng.bytes(90),
            };
            // Length as the entry reads it: the square of the upper bits, times 8.
            data.push((rng.below(6) << 1 | rng.below(2)) as u8);
            data.extend(content);
        }
        super::super::fuzz::fuzz_pad(&data);
    }
}
