//! Whole sessions: random inner streams through [`Sniff`] and [`Pad`], read back by a tiny unpadder of its own.

use super::testing::{Rng, USER, client_hello, record, server_hello};
use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    Tls13,
    Tls13Ccm8,
    Tls12,
    Text,
}

/// The downlink of one inner connection.
struct Downlink {
    bytes: Vec<u8>,
    /// Length of the handshake flight. The target waits for the client's Finished behind it.
    flight: usize,
    /// Where application-data records behind the flight end.
    data_ends: Vec<usize>,
}

fn downlink(inner: Inner, rng: &mut Rng) -> Downlink {
    let mut hello = server_hello();
    match inner {
        Inner::Tls13 => hello[77] = 1 + rng.below(4) as u8,
        Inner::Tls13Ccm8 => hello[77] = 5,
        Inner::Tls12 => {
            hello.drain(81..87);
            hello[4] -= 6;
        }
        Inner::Text => hello = b"220 hello, this is not TLS\r\n".to_vec(),
    }
    let mut bytes = hello;
    if inner != Inner::Text {
        bytes.extend(record(0x14, 1, 1));
        let kind = if inner == Inner::Tls12 { 0x16 } else { 0x17 };
        for _ in 0..=rng.below(3) {
            bytes.extend(record(kind, 1 + rng.below(6_000), 0x17));
        }
    }
    let (flight, mut data_ends) = (bytes.len(), Vec::new());
    for _ in 0..rng.below(12) {
        let longest = [50, 2_000, 16_401][rng.below(3)];
        let len = 1 + rng.below(longest);
        if inner == Inner::Text {
            let text = rng.bytes(len);
            bytes.extend(text);
        } else {
            bytes.extend(record(0x17, len, rng.next() as u8));
            data_ends.push(bytes.len());
        }
    }
    Downlink { bytes, flight, data_ends }
}

/// What one session put on the client's wire.
#[derive(Default)]
struct Wire {
    /// Outer TLS records, each the plaintext of one.
    records: Vec<Vec<u8>>,
    /// Bytes behind them without outer TLS.
    raw: Vec<u8>,
    batches: usize,
}

fn transmit(pad: &mut Pad, sniff: &mut Sniff, batch: &[u8], rng: &mut Rng, wire: &mut Wire) {
    let mut plan = pad.plan(batch, sniff);
    while let Some(piece) = plan.next_piece(&mut |bound| rng.below(bound as usize) as u32) {
        match piece {
            Piece::Block(block) => {
                assert!(wire.raw.is_empty());
                let padding = vec![0; usize::from(block.padding_len())];
                wire.records.push([block.header(), block.content(), &padding].concat());
            }
            Piece::Tls(bytes) => {
                assert!(wire.raw.is_empty());
                wire.records.extend(bytes.chunks(16_384).map(<[u8]>::to_vec));
            }
            Piece::Raw(bytes) => wire.raw.extend(bytes),
        }
    }
    wire.batches += 1;
}

/// The other end, written for whole records only: content, where it switched, and its last command.
fn read_back(wire: &Wire) -> (Vec<u8>, Option<usize>, u8) {
    let (mut content, mut ended_at, mut command) = (Vec::new(), None, 0);
    for (index, bytes) in wire.records.iter().enumerate() {
        if command == 1 {
            content.extend(bytes);
            continue;
        }
        assert_eq!(command, 0, "TLS bytes behind DIRECT");
        assert!(bytes.len() <= 8192);
        let block = if index == 0 { bytes.strip_prefix(&USER).expect("the user id comes first") } else { bytes };
        let content_len = usize::from(block[1]) << 8 | usize::from(block[2]);
        let padding_len = usize::from(block[3]) << 8 | usize::from(block[4]);
        assert_eq!(block.len(), 5 + content_len + padding_len, "one block, one record");
        content.extend(&block[5..5 + content_len]);
        command = block[0];
        if command > 0 {
            ended_at = Some(content.len());
        }
    }
    assert!(wire.raw.is_empty() || command == 2);
    content.extend(&wire.raw);
    (content, ended_at, command)
}

fn run_session(inner: Inner, seed: u64) -> u8 {
    let mut rng = Rng(seed);
    let stream = downlink(inner, &mut rng);
    let (mut pad, mut sniff, mut wire) = (Pad::new(USER, SEED_DEFAULT), Sniff::new(), Wire::default());
    if inner == Inner::Text {
        sniff.uplink(b"EHLO\r\n");
    } else {
        sniff.uplink(&client_hello(500));
    }
    // The hello comes in the first read, as nearly always. Everything else is cut at random.
    let mut at = (127 + rng.below(400)).min(stream.flight);
    transmit(&mut pad, &mut sniff, &stream.bytes[..at], &mut rng, &mut wire);
    let longest = [100, 3_000, 20_000, 131_072][rng.below(4)];
    while at < stream.flight {
        let end = (at + 1 + rng.below(longest)).min(stream.flight);
        transmit(&mut pad, &mut sniff, &stream.bytes[at..end], &mut rng, &mut wire);
        at = end;
    }
    if matches!(inner, Inner::Tls13 | Inner::Tls13Ccm8) {
        assert_ne!(pad.phase(), Phase::Raw, "direct inside the handshake flight");
    }
    let finished = [record(0x14, 1, 1), record(0x17, 53, 2)].concat();
    let piece_bytes = 1 + rng.below(70);
    finished.chunks(piece_bytes).for_each(|piece| sniff.uplink(piece));
    while at < stream.bytes.len() {
        let end = (at + 1 + rng.below(longest)).min(stream.bytes.len());
        transmit(&mut pad, &mut sniff, &stream.bytes[at..end], &mut rng, &mut wire);
        at = end;
    }

    let (content, ended_at, command) = read_back(&wire);
    assert!(content == stream.bytes, "content changed");
    let phase = [Phase::Padded, Phase::Tls, Phase::Raw][usize::from(command)];
    assert_eq!(pad.phase(), phase);
    match inner {
        Inner::Tls13 => {
            assert_ne!(command, 1, "END for TLS 1.3");
            assert!(ended_at.is_none_or(|end| stream.data_ends.contains(&end)), "direct inside a record");
        }
        Inner::Tls12 => assert!(command != 2 && ended_at.is_none_or(|end| end > stream.flight)),
        Inner::Tls13Ccm8 => assert_ne!(command, 2),
        Inner::Text => assert!(command == 1 || command == 0 && wire.batches < 6),
    }
    command
}

#[test]
fn random_sessions_arrive_unchanged_and_switch_where_they_may() {
    for inner in [Inner::Tls13, Inner::Tls13Ccm8, Inner::Tls12, Inner::Text] {
        let mut ended = 0;
        for seed in 0..1500 {
            let run = std::panic::catch_unwind(|| run_session(inner, seed));
            ended += usize::from(run.unwrap_or_else(|_| panic!("{inner:?} with seed {seed}")) > 0);
        }
        assert!(ended > 500, "{inner:?}: padding ended in {ended} sessions only");
    }
}

#[test]
fn a_session_of_our_own_pad_and_unpad_agrees() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let stream = downlink(Inner::Tls13, &mut rng);
        let (mut pad, mut sniff, mut wire) = (Pad::new(USER, SEED_DEFAULT), Sniff::new(), Wire::default());
        sniff.uplink(&client_hello(500));
        transmit(&mut pad, &mut sniff, &stream.bytes[..stream.flight], &mut rng, &mut wire);
        sniff.uplink(&record(0x17, 53, 2));
        transmit(&mut pad, &mut sniff, &stream.bytes[stream.flight..], &mut rng, &mut wire);

        let (mut unpad, mut content) = (Unpad::new(USER), Vec::new());
        let plaintext = wire.records.concat();
        let piece_bytes = 1 + rng.below(9_000);
        for mut piece in plaintext.chunks(piece_bytes) {
            while let Some(run) = unpad.next_content(&mut piece).unwrap() {
                content.extend_from_slice(run);
            }
        }
        content.extend(&wire.raw);
        assert_eq!(unpad.phase(), pad.phase());
        assert!(content == stream.bytes);
    }
}

#[test]
fn one_session_holds_its_state_in_less_than_200_bytes() {
    let bytes = size_of::<Unpad>() + size_of::<Pad>() + size_of::<Sniff>();
    assert!(bytes < 200, "{bytes}");
}
