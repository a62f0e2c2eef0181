use super::super::testing::{Rng, client_hello, record, server_hello};
use super::*;

/// Where the marker of the golden ServerHello ends.
const MARKER_END: usize = 87;

fn verdict_of(chunks: &[&[u8]]) -> Verdict {
    let mut sniff = Sniff::new();
    for chunk in chunks {
        sniff.downlink(chunk);
    }
    sniff.verdict()
}

#[test]
fn the_golden_server_hello_is_tls_13_that_may_go_direct() {
    assert_eq!(verdict_of(&[&server_hello()]), Verdict::Direct);
    let with_flight = [server_hello(), record(0x14, 1, 1), record(0x17, 3000, 9)].concat();
    assert_eq!(verdict_of(&[&with_flight]), Verdict::Direct);
}

#[test]
fn only_the_suites_1301_to_1304_may_go_direct() {
    for (suite, verdict) in [
        (0x1300, Verdict::TlsOnly),
        (0x1301, Verdict::Direct),
        (0x1302, Verdict::Direct),
        (0x1303, Verdict::Direct),
        (0x1304, Verdict::Direct),
        (0x1305, Verdict::TlsOnly),
        (0xc02f, Verdict::TlsOnly),
    ] {
        let mut hello = server_hello();
        hello[76..78].copy_from_slice(&u16::to_be_bytes(suite));
        assert_eq!(verdict_of(&[&hello]), verdict, "{suite:x}");
    }
}

#[test]
fn a_server_hello_without_the_extension_is_tls_12() {
    let mut hello = server_hello();
    hello.drain(81..87);
    hello[4] -= 6;
    assert_eq!(verdict_of(&[&hello]), Verdict::TlsOnly);
}

#[test]
fn the_marker_counts_only_inside_the_server_hello_record() {
    let mut hello = server_hello();
    let marker: Vec<u8> = hello.drain(81..87).collect();
    hello[4] -= 6;
    hello.extend(marker);
    assert_eq!(verdict_of(&[&hello]), Verdict::TlsOnly);
}

#[test]
fn a_server_hello_is_recognised_through_every_cut_in_two() {
    let hello = server_hello();
    for cut in 1..hello.len() {
        let (first, second) = hello.split_at(cut);
        assert_eq!(verdict_of(&[first]), if cut < MARKER_END { Verdict::Open } else { Verdict::Direct }, "{cut}");
        assert_eq!(verdict_of(&[first, second]), Verdict::Direct, "cut at {cut}");
    }
}

#[test]
fn a_server_hello_is_recognised_through_every_cut_in_three_and_byte_by_byte() {
    let hello = server_hello();
    for first in 1..hello.len() {
        for second in first + 1..hello.len() {
            let pieces = [&hello[..first], &hello[first..second], &hello[second..]];
            assert_eq!(verdict_of(&pieces), Verdict::Direct, "cuts at {first} and {second}");
        }
    }
    let (mut sniff, mut seen) = (Sniff::new(), 0);
    for byte in hello.chunks(1) {
        sniff.downlink(byte);
        seen += 1;
        assert_eq!(sniff.is_tls(), seen >= 6);
        assert_eq!(sniff.verdict(), if seen < MARKER_END { Verdict::Open } else { Verdict::Direct });
    }
}

#[test]
fn what_a_server_hello_says_does_not_depend_on_its_pieces() {
    let suites: [u16; 4] = [0x1301, 0x1304, 0x1305, 0xc02f];
    let mut rng = Rng(28);
    for round in 0..2000 {
        let mut hello = server_hello();
        hello[76..78].copy_from_slice(&suites[round % 4].to_be_bytes());
        if round % 3 == 0 {
            hello.drain(81..87);
            hello[4] -= 6;
        }
        let direct = round % 4 < 2 && round % 3 != 0;
        let expected = if direct { Verdict::Direct } else { Verdict::TlsOnly };
        hello.extend(record(0x17, 100, 7));
        let (mut sniff, mut rest) = (Sniff::new(), &hello[..]);
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(1 + rng.below(rest.len().min(40)));
            sniff.downlink(piece);
            rest = tail;
        }
        assert_eq!(sniff.verdict(), expected, "round {round}");
    }
}

#[test]
fn a_client_hello_is_recognised_through_every_cut_and_costs_one_chunk() {
    let hello = client_hello(512);
    for pieces in [vec![5, 512], vec![1; 517], vec![1, 516], vec![3, 2, 1, 511]] {
        let (mut sniff, mut rest) = (Sniff::new(), &hello[..]);
        for length in pieces {
            let (piece, tail) = rest.split_at(length);
            sniff.uplink(piece);
            rest = tail;
        }
        assert!(sniff.is_tls());
        for byte in server_hello().chunks(1) {
            sniff.downlink(byte);
        }
        assert_eq!(sniff.verdict(), Verdict::Direct);
    }
    for cut in 1..hello.len() {
        let mut sniff = Sniff::new();
        sniff.uplink(&hello[..cut]);
        sniff.uplink(&hello[cut..]);
        assert!(sniff.is_tls(), "cut at {cut}");
        (0..6).for_each(|_| sniff.downlink(b"?"));
        assert_eq!(sniff.verdict(), Verdict::NotTls, "both pieces together are one chunk, cut at {cut}");
    }
}

#[test]
fn what_begins_like_a_hello_and_is_none_costs_its_pieces() {
    let mut sniff = Sniff::new();
    for _ in 0..3 {
        sniff.downlink(&[0x16, 3]);
        assert_eq!(sniff.verdict(), Verdict::Open);
        sniff.downlink(&[2, 0]);
    }
    assert_eq!(sniff.verdict(), Verdict::Open);
    sniff.downlink(&[0x16]);
    assert_eq!(sniff.verdict(), Verdict::NotTls);
    // What breaks off one hello may begin another.
    let mut sniff = Sniff::new();
    sniff.downlink(&[0x16, 3]);
    sniff.downlink(&server_hello());
    assert_eq!(sniff.verdict(), Verdict::Direct);
}

#[test]
fn a_record_too_long_to_be_in_clear_is_no_hello() {
    let mut hello = server_hello();
    hello[3..5].copy_from_slice(&0x4001_u16.to_be_bytes());
    let mut sniff = Sniff::new();
    sniff.downlink(&hello);
    assert!(!sniff.is_tls());
    hello[3..5].copy_from_slice(&[0, 0]);
    let mut sniff = Sniff::new();
    sniff.downlink(&hello);
    assert!(!sniff.is_tls());
}

#[test]
fn uplink_bytes_between_two_parts_of_a_server_hello_do_not_disturb() {
    let hello = server_hello();
    let mut sniff = Sniff::new();
    sniff.downlink(&hello[..80]);
    sniff.uplink(&record(0x17, 200, 0));
    sniff.downlink(&hello[80..]);
    assert_eq!(sniff.verdict(), Verdict::Direct);
}

#[test]
fn a_short_session_id_moves_the_suite() {
    let mut hello = server_hello();
    hello.drain(44..76);
    (hello[4], hello[43]) = (0x7a - 32, 0);
    assert_eq!(verdict_of(&[&hello]), Verdict::Direct);
    hello[45] = 5;
    assert_eq!(verdict_of(&[&hello]), Verdict::TlsOnly);
}

#[test]
fn a_session_id_that_points_out_of_the_record_is_not_followed() {
    let mut hello = server_hello();
    hello[43] = 0xff;
    hello.extend([0x13, 0x01].repeat(200));
    assert_eq!(verdict_of(&[&hello]), Verdict::TlsOnly);
}

#[test]
fn a_server_hello_longer_than_the_budget_is_tls_of_unknown_version() {
    let mut hello = server_hello()[..81].to_vec();
    hello[3] = 0x3f;
    let mut sniff = Sniff::new();
    (0..6).for_each(|_| sniff.uplink(b"text"));
    sniff.downlink(&hello);
    for _ in 0..(8192 - 81) / 100 {
        sniff.downlink(&[0; 100]);
        assert_eq!(sniff.verdict(), Verdict::Open);
    }
    sniff.downlink(&[0; 100]);
    assert_eq!(sniff.verdict(), Verdict::TlsOnly);
}

#[test]
fn a_client_hello_alone_makes_it_tls_but_decides_nothing() {
    let mut sniff = Sniff::new();
    assert!(!sniff.is_tls());
    sniff.uplink(&client_hello(512));
    assert!(sniff.is_tls());
    assert_eq!(sniff.verdict(), Verdict::Open);
    (0..6).for_each(|_| sniff.downlink(b"?"));
    assert_eq!(sniff.verdict(), Verdict::NotTls);
}

#[test]
fn short_and_similar_chunks_are_no_hellos() {
    for chunk in [&[0x16, 3, 3, 0, 1][..], &[0x16, 3, 1, 0, 1, 2], &[0x17, 3, 3, 0, 1, 2], &[0x16, 3, 3, 0, 1, 1]] {
        let mut sniff = Sniff::new();
        sniff.downlink(chunk);
        assert!(!sniff.is_tls(), "{chunk:x?}");
    }
    for chunk in [&[0x16, 3, 3, 0, 1][..], &[0x16, 2, 1, 0, 1, 1], &[0x16, 3, 1, 0, 1, 2]] {
        let mut sniff = Sniff::new();
        sniff.uplink(chunk);
        assert!(!sniff.is_tls(), "{chunk:x?}");
    }
}

#[test]
fn seven_chunks_of_both_directions_together_use_up_the_budget() {
    for uplink in 0..=7 {
        let mut sniff = Sniff::new();
        for chunk in 0..7 {
            assert_eq!(sniff.verdict(), Verdict::Open);
            if chunk < uplink { sniff.uplink(b"text") } else { sniff.downlink(b"text") }
        }
        assert_eq!(sniff.verdict(), Verdict::NotTls);
    }
}

#[test]
fn empty_chunks_do_not_count() {
    let mut sniff = Sniff::new();
    (0..100).for_each(|_| {
        sniff.uplink(b"");
        sniff.downlink(b"");
    });
    assert_eq!(sniff.verdict(), Verdict::Open);
}

#[test]
fn long_pieces_count_once_per_started_8192_bytes() {
    for (len, verdict) in [
        (6 * 8192, Verdict::Open),
        (6 * 8192 + 1, Verdict::NotTls),
        (128 * 1024, Verdict::NotTls),
        (5 << 20, Verdict::NotTls),
    ] {
        assert_eq!(verdict_of(&[&vec![b'x'; len]]), verdict, "{len}");
    }
}

#[test]
fn nothing_is_recognised_after_the_budget() {
    let hello = server_hello();
    let mut chunks = vec![&b"text"[..]; 8];
    assert_eq!(verdict_of(&[&chunks[..7], &[&hello]].concat()), Verdict::Direct, "the eighth is still looked at");
    chunks.push(&hello);
    assert_eq!(verdict_of(&chunks), Verdict::NotTls);
}

#[test]
fn the_client_has_finished_with_its_first_encrypted_record_after_the_server_hello() {
    let uplink = [client_hello(300), record(0x17, 40, 1), record(0x14, 1, 1), record(0x17, 53, 2)].concat();
    let hello_and_early_data = 305 + 45;
    let finished_header_end = uplink.len() - 53;
    for piece_len in [1, 2, 3, 5, 7, 100, 1000] {
        let mut sniff = Sniff::new();
        let mut sent = 0;
        for piece in uplink[..hello_and_early_data].chunks(piece_len) {
            sniff.uplink(piece);
            sent += piece.len();
            assert!(!sniff.client_finished(), "early data is not Finished");
        }
        // The budget may be gone by now: only the order is under test here.
        sniff.inner = Inner::Direct;
        for piece in uplink[hello_and_early_data..].chunks(piece_len) {
            sniff.uplink(piece);
            sent += piece.len();
            assert_eq!(sniff.client_finished(), sent >= finished_header_end, "after {sent} bytes");
        }
    }
}

#[test]
fn an_uplink_that_is_not_tls_never_finishes_and_keeps_the_downlink_inside_tls() {
    let mut sniff = Sniff::new();
    sniff.downlink(&server_hello());
    sniff.uplink(b"text that is no record");
    sniff.uplink(&record(0x17, 10, 0));
    assert!(!sniff.client_finished());
    assert_eq!(sniff.verdict(), Verdict::TlsOnly);
}
