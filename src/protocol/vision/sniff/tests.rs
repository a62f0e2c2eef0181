use super::super::testing::{client_hello, record, server_hello};
use super::*;

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
fn a_server_hello_in_two_chunks_is_recognised_unless_its_marker_is_cut() {
    let hello = server_hello();
    for cut in 6..hello.len() {
        let (first, second) = hello.split_at(cut);
        let expected = if (82..87).contains(&cut) { Verdict::TlsOnly } else { Verdict::Direct };
        assert_eq!(verdict_of(&[first, second]), expected, "cut at {cut}");
    }
}

#[test]
fn a_server_hello_cut_before_its_type_never_goes_direct() {
    let hello = server_hello();
    for cut in 1..6 {
        let (first, second) = hello.split_at(cut);
        assert_eq!(verdict_of(&[first, second]), Verdict::Open, "cut at {cut}");
        let chunks = [&[first, second], &[&[0x17][..]; 6][..]].concat();
        assert_eq!(verdict_of(&chunks), Verdict::NotTls, "cut at {cut}");
    }
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
    hello[3] = 0xff;
    let mut sniff = Sniff::new();
    sniff.downlink(&hello);
    for _ in 0..6 {
        sniff.downlink(b"more");
        assert_eq!(sniff.verdict(), Verdict::Open);
    }
    sniff.downlink(b"more");
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
