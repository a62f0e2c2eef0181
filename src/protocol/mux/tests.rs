use super::super::address::Host;
use super::super::testing::{Random, hex};
use super::*;

const NEW_UDP: &str = "00 14 00 00 01 01 02 00 35 01 08 08 08 08 01 02 03 04 05 06 07 08 00 04 70 69 6e 67";
const KEEP_UDP: &str = "00 0c 00 00 02 01 02 00 35 01 08 08 04 04 00 04 70 6f 6e 67";
const KEEP_BARE: &str = "00 04 00 00 02 01 00 04 70 6f 6e 67";
const END: &str = "00 04 00 00 03 00";
const END_ERROR: &str = "00 04 00 07 03 02";
const NEW_TCP: &str = "00 14 00 01 01 01 01 00 50 02 0b 65 78 61 6d 70 6c 65 2e 63 6f 6d 00 03 47 45 54";
const ALL: [&str; 6] = [NEW_UDP, KEEP_UDP, KEEP_BARE, END, END_ERROR, NEW_TCP];

fn target(text: &str, port: u16) -> Target {
    let host = text.parse().map_or_else(|_| Host::Name(text.into()), Host::Ip);
    Target { host, port }
}

fn decoded(bytes: &[u8]) -> Frame<'_> {
    let (frame, len) = decode(bytes).expect("valid").expect("complete");
    assert_eq!(len, bytes.len());
    frame
}

#[test]
fn a_new_udp_session_has_target_and_global_id() {
    let bytes = hex(NEW_UDP);
    let status =
        Status::New { network: Network::Udp, target: target("8.8.8.8", 53), global_id: Some([1, 2, 3, 4, 5, 6, 7, 8]) };
    assert_eq!(decoded(&bytes), Frame { id: 0, status, payload: Some(b"ping") });
}

#[test]
fn a_new_tcp_session_has_a_target() {
    let bytes = hex(NEW_TCP);
    let status = Status::New { network: Network::Tcp, target: target("example.com", 80), global_id: None };
    assert_eq!(decoded(&bytes), Frame { id: 1, status, payload: Some(b"GET") });
}

#[test]
fn keep_frames_are_decoded_with_and_without_address() {
    let bytes = hex(KEEP_UDP);
    let status = Status::Keep { target: Some(target("8.8.4.4", 53)) };
    assert_eq!(decoded(&bytes), Frame { id: 0, status, payload: Some(b"pong") });
    let bytes = hex(KEEP_BARE);
    assert_eq!(decoded(&bytes), Frame { id: 0, status: Status::Keep { target: None }, payload: Some(b"pong") });
}

#[test]
fn end_frames_are_decoded() {
    assert_eq!(decoded(&hex(END)), Frame { id: 0, status: Status::End { is_error: false }, payload: None });
    assert_eq!(decoded(&hex(END_ERROR)), Frame { id: 7, status: Status::End { is_error: true }, payload: None });
}

#[test]
fn frames_of_real_clients_are_decoded() {
    let mux = hex(include_str!("../../../tests/vectors/request_mux.hex"));
    let frame = decoded(&mux[19..]);
    assert_eq!((frame.id, frame.payload), (1, Some(&b"ping"[..])));
    let vision = hex(include_str!("../../../tests/vectors/request_mux_vision.hex"));
    let frame = decoded(&vision[37 + 21..37 + 21 + 29]);
    assert_eq!(frame.payload, Some(&b"hello"[..]));
    let Status::New { network: Network::Udp, global_id: Some(id), .. } = frame.status else { panic!("{frame:?}") };
    assert_eq!(id, [0x4e, 0x19, 0xe7, 0x28, 0xc2, 0xf4, 0x94, 0xee]);
    assert_eq!(is_xudp(&vision[37 + 21..]), Some(true));
    assert_eq!(is_xudp(&mux[19..]), Some(false));
}

#[test]
fn every_prefix_is_incomplete_and_what_follows_is_left_alone() {
    for text in ALL {
        let whole = hex(text);
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), Ok(None), "{text} cut at {cut}");
        }
        let followed = [&whole[..], b"more"].concat();
        assert_eq!(decode(&followed).unwrap().unwrap().1, whole.len());
    }
}

#[test]
fn a_zero_global_id_is_none_and_one_without_payload_is_skipped() {
    for text in [
        "00 14 00 00 01 01 02 00 35 01 08 08 08 08 00 00 00 00 00 00 00 00 00 01 70",
        "00 13 00 00 01 01 02 00 35 01 08 08 08 08 01 02 03 04 05 06 07 00 01 70",
        "00 14 00 00 01 00 02 00 35 01 08 08 08 08 01 02 03 04 05 06 07 08",
        "00 14 00 01 01 01 01 00 35 01 08 08 08 08 01 02 03 04 05 06 07 08 00 01 70",
    ] {
        let Status::New { global_id, .. } = decoded(&hex(text)).status else { panic!("{text}") };
        assert_eq!(global_id, None, "{text}");
    }
}

#[test]
fn unknown_metadata_behind_what_is_known_is_skipped() {
    let longest = [&[2, 0, 0, 9, 3, 0][..], &[0xee; 508]].concat();
    assert_eq!(decoded(&longest).id, 9);
    let keep = hex("00 06 00 01 02 01 01 ff 00 01 70");
    assert_eq!(decoded(&keep).status, Status::Keep { target: None }, "only network 2 announces an address");
}

#[test]
fn metadata_below_four_and_above_512_bytes_is_refused() {
    for len in [0_u16, 1, 3, 513, 0xffff] {
        assert_eq!(decode(&len.to_be_bytes()), Err(FrameError::BadMetadataLength(len)));
    }
}

#[test]
fn unknown_status_and_network_are_refused() {
    for status in [0, 5, 255] {
        assert_eq!(decode(&[0, 4, 0, 0, status, 0]), Err(FrameError::BadStatus(status)));
    }
    for network in [0, 3] {
        let bytes = [0, 12, 0, 1, 1, 0, network, 0, 53, 1, 8, 8, 8, 8];
        assert_eq!(decoded(&bytes).status, Status::BadNew { error: MetadataError::BadNetwork(network) });
    }
}

#[test]
fn metadata_that_ends_inside_the_address_is_refused() {
    assert_eq!(decoded(&[0, 4, 0, 1, 1, 0]).status, Status::BadNew { error: MetadataError::Truncated });
    assert_eq!(decoded(&[0, 8, 0, 1, 2, 0, 2, 0, 53, 1]).status, Status::BadKeep { error: MetadataError::Truncated });
    let bad_type = [0, 8, 0, 1, 1, 0, 1, 0, 53, 9];
    let error = MetadataError::BadAddress(AddressError::BadType(9));
    assert_eq!(decoded(&bad_type).status, Status::BadNew { error });
}

#[test]
fn an_empty_payload_is_not_a_missing_one() {
    assert_eq!(decoded(&[0, 4, 0, 1, 2, 1, 0, 0]).payload, Some(&[][..]));
    assert_eq!(decoded(&[0, 4, 0, 1, 2, 0]).payload, None);
}

#[test]
fn written_frames_are_those_of_the_examples() {
    let mut out = Vec::new();
    keep_header(0, Some(&target("8.8.4.4", 53)), 4, &mut out).unwrap();
    assert_eq!([&out[..], b"pong"].concat(), hex(KEEP_UDP));
    out.clear();
    keep_header(0, None, 4, &mut out).unwrap();
    assert_eq!([&out[..], b"pong"].concat(), hex(KEEP_BARE));
    assert_eq!(out, chunk_header(0, 4));
    assert_eq!(end(0, false)[..], hex(END));
    assert_eq!(end(7, true)[..], hex(END_ERROR));
}

#[test]
fn no_header_is_longer_than_promised_and_none_announces_too_much() {
    let mut out = Vec::new();
    let longest = Target { host: Host::Name("a".repeat(255).into()), port: 1 };
    keep_header(1, Some(&longest), SEND_PAYLOAD_BYTES_MAX, &mut out).unwrap();
    assert_eq!(out.len(), KEEP_HEADER_BYTES_MAX);
    out.clear();
    assert_eq!(keep_header(1, None, SEND_PAYLOAD_BYTES_MAX + 1, &mut out), None);
    let nameless = Target { host: Host::Name("".into()), port: 1 };
    assert_eq!(keep_header(1, Some(&nameless), 1, &mut out), None);
    assert!(out.is_empty());
}

#[test]
fn xudp_is_told_from_seven_bytes() {
    let xudp = hex(NEW_UDP);
    assert_eq!((is_xudp(&xudp[..6]), is_xudp(&xudp[..7])), (None, Some(true)));
    assert_eq!(is_xudp(&hex("00 14 00 01 01 01 02")), Some(false), "not session 0");
    assert_eq!(is_xudp(&hex("00 14 00 00 01 01 01")), Some(false), "not UDP");
}

#[test]
fn random_bytes_never_panic_and_frames_stay_within_their_bytes() {
    let mut random = Random::new(0x006d_7578);
    for round in 0..20_000 {
        let mut bytes = random.bytes(700);
        if round % 2 == 0 && bytes.len() > 10 {
            // Plausible fronts reach deeper.
            bytes[0] = 0;
            bytes[4] = 1 + bytes[4] % 4;
            bytes[6] = 1 + bytes[6] % 2;
            bytes[9] = 1 + bytes[9] % 3;
        }
        if let Ok(Some((frame, len))) = decode(&bytes) {
            assert!(len <= bytes.len() && len <= FRAME_BYTES_MAX);
            assert!(frame.payload.is_none_or(|payload| payload.len() < len));
            for cut in [len - 1, len / 2] {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "complete in fewer bytes than it has");
            }
        }
    }
}

#[test]
fn the_fuzz_entry_holds_on_random_streams() {
    let mut random = Random::new(0x0066_757a);
    for _ in 0..2000 {
        let mut stream = vec![random.next() as u8];
        for _ in 0..random.below(8) {
            let mut piece = hex(ALL[random.below(ALL.len())]);
            if random.below(4) == 0 {
                let place = random.below(piece.len());
                piece[place] = random.next() as u8;
            }
            stream.extend(piece);
        }
        stream.truncate(1 + random.below(stream.len()));
        fuzz::fuzz_frames(&stream);
    }
}
