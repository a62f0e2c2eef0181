use super::super::testing::{Rng, USER, sections};
use super::*;

const CONTINUE: u8 = 0;
const END: u8 = 1;
const DIRECT: u8 = 2;

type Outcome = (Vec<u8>, Result<Phase, UnpadError>);

/// Feeds `pieces` as the plaintexts of as many TLS records.
fn unpad<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut unpad, mut content) = (Unpad::new(USER), Vec::new());
    for mut piece in pieces {
        loop {
            match unpad.next_content(&mut piece) {
                Ok(Some(run)) => {
                    assert!(!run.is_empty());
                    content.extend_from_slice(run);
                }
                Ok(None) => break,
                Err(error) => return (content, Err(error)),
            }
        }
        assert!(piece.is_empty());
    }
    (content, Ok(unpad.phase()))
}

/// Cuts `stream` into pieces of lengths drawn by `length`, each at least 1.
fn pieces(stream: &[u8], mut length: impl FnMut() -> usize) -> Vec<&[u8]> {
    let (mut pieces, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(length().clamp(1, rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn block(command: u8, content: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = vec![command];
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend((padding as u16).to_be_bytes());
    bytes.extend(content);
    // Not zeros: the padding of some clients is random, or looks like another block.
    bytes.extend([2, 0, 1, 0, 0].iter().cycle().take(padding));
    bytes
}

fn stream(blocks: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
    [&USER[..], &blocks.concat(), rest].concat()
}

fn assert_for_every_pair_of_cuts(stream: &[u8], expected: &Outcome) {
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let cut = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(&unpad(cut), expected, "cut at {first} and {second}");
        }
    }
    assert_eq!(&unpad(stream.chunks(1)), expected, "byte by byte");
}

#[test]
fn golden_uplink_gives_its_content_at_every_pair_of_cuts() {
    let vector = sections(include_str!("../../../../tests/vectors/vision_uplink.hex"));
    assert_eq!((vector[0].len(), vector[1].len(), vector[2].len()), (52, 37, 12));
    assert_for_every_pair_of_cuts(&vector[1], &(vector[2].clone(), Ok(Phase::Padded)));
}

#[test]
fn golden_xudp_uplink_gives_its_frame_at_every_pair_of_cuts() {
    let vector = sections(include_str!("../../../../tests/vectors/vision_xudp.hex"));
    assert_for_every_pair_of_cuts(&vector[1], &(vector[2].clone(), Ok(Phase::Padded)));
}

#[test]
fn golden_downlink_reads_back_at_every_cut() {
    let vector = sections(include_str!("../../../../tests/vectors/vision_downlink.hex"));
    let content = [&vector[0][21..33], &vector[1][5..11], &vector[2][5..15]].concat();
    let stream = vector[..3].concat();
    for cut in 0..=stream.len() {
        let outcome = unpad([&stream[..cut], &stream[cut..]]);
        assert_eq!(outcome, (content.clone(), Ok(Phase::Raw)), "cut at {cut}");
    }
    assert_eq!(unpad(stream.chunks(1)), (content, Ok(Phase::Raw)));
}

#[test]
fn empty_content_and_empty_padding_work_with_every_command() {
    for (command, phase) in [(CONTINUE, Phase::Padded), (END, Phase::Tls), (DIRECT, Phase::Raw)] {
        for (content, padding) in [(&b""[..], 0), (b"", 3), (b"abc", 0), (b"abc", 3)] {
            let stream = stream(&[block(CONTINUE, b"", 0), block(command, content, padding)], b"");
            assert_for_every_pair_of_cuts(&stream, &(content.to_vec(), Ok(phase)));
        }
    }
}

#[test]
fn bytes_behind_end_or_direct_are_content() {
    for (command, phase) in [(END, Phase::Tls), (DIRECT, Phase::Raw)] {
        let stream = stream(&[block(CONTINUE, b"a", 2), block(command, b"b", 1)], b"\x02\x00\x01rest");
        assert_for_every_pair_of_cuts(&stream, &(b"ab\x02\x00\x01rest".to_vec(), Ok(phase)));
    }
}

#[test]
fn a_command_waits_for_its_last_padding_byte() {
    let stream = stream(&[block(DIRECT, b"abc", 5)], b"");
    for end in 0..stream.len() {
        assert_eq!(unpad([&stream[..end]]).1, Ok(Phase::Padded), "{end} bytes");
    }
    assert_eq!(unpad([&stream[..]]).1, Ok(Phase::Raw));
}

#[test]
fn content_comes_before_its_padding() {
    let stream = stream(&[block(CONTINUE, b"hello", 9)], b"");
    for end in 21..=26 {
        assert_eq!(unpad([&stream[..end]]).0, b"hello"[..end - 21]);
    }
}

#[test]
fn the_longest_content_and_padding_are_taken() {
    let content = vec![0x5a; 65535];
    let stream = stream(&[block(CONTINUE, &content, 65535), block(END, &content, 65535)], b"x");
    let expected = [&content[..], &content, b"x"].concat();
    assert_eq!(unpad([&stream[..]]), (expected.clone(), Ok(Phase::Tls)));
    assert_eq!(unpad(stream.chunks(8192)), (expected, Ok(Phase::Tls)));
}

#[test]
fn an_unknown_command_is_an_error_for_good() {
    for command in [3, 4, 0x17, 255] {
        let stream = stream(&[block(CONTINUE, b"ok", 1), block(command, b"no", 0)], b"");
        assert_for_every_pair_of_cuts(&stream, &(b"ok".to_vec(), Err(UnpadError::BadCommand(command))));
    }
    let mut unpad = Unpad::new(USER);
    let stream = stream(&[block(9, b"", 0)], b"");
    for mut input in [&stream[..], b"", b"more"] {
        assert_eq!(unpad.next_content(&mut input), Err(UnpadError::BadCommand(9)));
    }
}

#[test]
fn a_stream_without_the_user_id_is_content_from_its_first_byte() {
    for wrong in 0..USER.len() {
        let mut stream = stream(&[block(DIRECT, b"abc", 1)], b"");
        stream[wrong] ^= 0x80;
        assert_for_every_pair_of_cuts(&stream, &(stream.clone(), Ok(Phase::Tls)));
    }
}

#[test]
fn a_partly_matching_id_comes_back_before_the_bytes_behind_it() {
    let mut unpad = Unpad::new(USER);
    assert_eq!(unpad.next_content(&mut &USER[..9]), Ok(None));
    assert_eq!(unpad.phase(), Phase::Padded);
    let mut input = &b"other"[..];
    assert_eq!(unpad.next_content(&mut input), Ok(Some(&USER[..9])));
    assert_eq!((unpad.phase(), input), (Phase::Tls, &b"other"[..]));
    assert_eq!(unpad.next_content(&mut input), Ok(Some(&b"other"[..])));
    assert_eq!(unpad.next_content(&mut input), Ok(None));
}

#[test]
fn the_user_id_counts_only_in_front_of_the_first_block() {
    let stream = stream(&[block(CONTINUE, b"a", 0)], &USER);
    assert_eq!(unpad([&stream[..]]), (b"a".to_vec(), Err(UnpadError::BadCommand(USER[0]))));
}

#[test]
fn long_content_is_one_slice_of_the_input() {
    let content = vec![7; 60_000];
    let stream = stream(&[block(CONTINUE, &content, 3)], b"");
    let (mut unpad, mut input) = (Unpad::new(USER), &stream[..]);
    let run = unpad.next_content(&mut input).unwrap().unwrap();
    assert_eq!((run.as_ptr(), run.len()), (stream[21..].as_ptr(), content.len()));
    assert_eq!(unpad.next_content(&mut input), Ok(None));
}

/// The whole format, naively, on a stream that is there as a whole.
fn model(stream: &[u8]) -> Outcome {
    let mut content = Vec::new();
    let common = stream.iter().zip(&USER).take_while(|(a, b)| a == b).count();
    if common < 16 {
        let all_equal = common == stream.len();
        return if all_equal { (content, Ok(Phase::Padded)) } else { (stream.to_vec(), Ok(Phase::Tls)) };
    }
    let mut at = 16;
    loop {
        if stream.len() < at + 5 {
            return (content, Ok(Phase::Padded));
        }
        let header = &stream[at..at + 5];
        if header[0] > 2 {
            return (content, Err(UnpadError::BadCommand(header[0])));
        }
        let content_len = usize::from(header[1]) * 256 + usize::from(header[2]);
        let padding_len = usize::from(header[3]) * 256 + usize::from(header[4]);
        at += 5;
        content.extend(&stream[at..stream.len().min(at + content_len)]);
        at += content_len + padding_len;
        if at > stream.len() {
            return (content, Ok(Phase::Padded));
        }
        if header[0] > 0 {
            content.extend(&stream[at..]);
            return (content, Ok(if header[0] == 1 { Phase::Tls } else { Phase::Raw }));
        }
    }
}

fn random_stream(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = USER.to_vec();
    if rng.one_in(16) {
        bytes[rng.below(16)] ^= 1;
    }
    for _ in 0..rng.below(5) {
        let command = match rng.below(40) {
            0 => 3 + rng.below(253),
            1..=4 => 1,
            5..=8 => 2,
            _ => 0,
        };
        let scale = [1, 2, 8, 64, 300][rng.below(5)];
        let content_len = rng.below(scale);
        let content = rng.bytes(content_len);
        bytes.extend(block(command as u8, &content, rng.below(scale)));
    }
    if rng.one_in(4) {
        let tail = rng.below(30);
        bytes.extend(rng.bytes(tail));
    }
    bytes.truncate(if rng.one_in(4) { rng.below(bytes.len() + 1) } else { usize::MAX });
    bytes
}

#[test]
fn random_streams_in_random_pieces_agree_with_the_model() {
    let mut phases = [0; 4];
    for seed in 0..65_536 {
        let mut rng = Rng(seed);
        let stream = random_stream(&mut rng);
        let longest = [1, 2, 7, 40, 1000][rng.below(5)];
        let outcome = unpad(pieces(&stream, || 1 + rng.below(longest)));
        assert_eq!(outcome, model(&stream), "seed {seed}");
        phases[match outcome.1 {
            Ok(Phase::Padded) => 0,
            Ok(Phase::Tls) => 1,
            Ok(Phase::Raw) => 2,
            Err(_) => 3,
        }] += 1;
    }
    assert!(phases.iter().all(|&count| count > 1000), "{phases:?}");
}

#[test]
fn the_fuzz_entry_holds_on_random_input() {
    let mut rng = Rng(5);
    for _ in 0..2000 {
        let len = rng.below(200);
        let mut data = rng.bytes(len);
        // Mostly small numbers, so that blocks follow each other.
        data.iter_mut().skip(1).for_each(|byte| *byte &= 3);
        super::super::fuzz::fuzz_unpad(&data);
    }
}
