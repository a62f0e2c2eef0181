//! The request header against what a real client sends, cut everywhere, damaged everywhere.

use super::super::testing::{Random, hex};
use super::super::user_id::mask;
use super::*;
use crate::protocol::address::Host;

const USER: UserId = [0x57, 0x83, 0xa3, 0xe7, 0xe3, 0x73, 0x51, 0xcd, 0x86, 0x42, 0xc8, 0x37, 0x82, 0xb8, 0x07, 0xc5];
const ADDONS: &str = "12 0a 10 78 74 6c 73 2d 72 70 72 78 2d 76 69 73 69 6f 6e";

/// A header that must be accepted, with the start of its body behind it.
struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    len: usize,
    request: Request,
}

fn vectors() -> Vec<Vector> {
    use Command::{Mux, Tcp, Udp};
    use Flow::{None as Plain, Vision};

    let example = || Some(target("example.com", 443));
    [
        ("tcp", include_str!("../../../tests/vectors/request_tcp.hex"), 34, Plain, Tcp, example()),
        (
            "tcp_ipv4",
            include_str!("../../../tests/vectors/request_tcp_ipv4.hex"),
            26,
            Plain,
            Tcp,
            Some(target("192.0.2.7", 443)),
        ),
        (
            "tcp_ipv6",
            include_str!("../../../tests/vectors/request_tcp_ipv6.hex"),
            38,
            Plain,
            Tcp,
            Some(target("2001:db8::10", 443)),
        ),
        ("tcp_vision", include_str!("../../../tests/vectors/request_tcp_vision.hex"), 52, Vision, Tcp, example()),
        (
            "udp_ipv4",
            include_str!("../../../tests/vectors/request_udp_ipv4.hex"),
            26,
            Plain,
            Udp,
            Some(target("8.8.8.8", 53)),
        ),
        ("mux", include_str!("../../../tests/vectors/request_mux.hex"), 19, Plain, Mux, None),
        ("mux_vision", include_str!("../../../tests/vectors/request_mux_vision.hex"), 37, Vision, Mux, None),
        (
            "longest",
            include_str!("../../../tests/vectors/request_longest.hex"),
            533,
            Vision,
            Udp,
            Some(target(&"a".repeat(255), 65535)),
        ),
    ]
    .into_iter()
    .map(|(name, text, len, flow, command, target)| Vector {
        name,
        bytes: hex(text),
        len,
        request: Request { user_id: USER, flow, command, target },
    })
    .collect()
}

fn target(host: &str, port: u16) -> Target {
    Target { host: host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip), port }
}

fn is_known(id: &UserId) -> bool {
    mask(*id) == mask(USER)
}

/// Decodes a header of the known user: version and id, then the bytes of `rest`.
fn decode_rest(rest: &str) -> Result<Decoded, DecodeError> {
    decode(&[&[0], &USER[..], &hex(rest)].concat(), is_known)
}

fn flow_of(rest: &str) -> Result<Flow, DecodeError> {
    match decode_rest(rest)? {
        Decoded::Request { request, .. } => Ok(request.flow),
        Decoded::NeedMore => panic!("{rest} is not complete"),
    }
}

#[test]
fn headers_of_real_clients_are_read_and_the_body_behind_them_is_left() {
    for Vector { name, bytes, len, request } in vectors() {
        assert!(bytes.len() > len, "{name} has a body");
        assert_eq!(decode(&bytes, is_known), Ok(Decoded::Request { request, len }), "{name}");
    }
}

#[test]
fn a_header_without_any_body_is_complete() {
    for Vector { name, bytes, len, request } in vectors() {
        assert_eq!(decode(&bytes[..len], is_known), Ok(Decoded::Request { request, len }), "{name}");
    }
}

#[test]
fn every_prefix_of_a_valid_header_needs_more() {
    for Vector { name, bytes, len, .. } in vectors() {
        for cut in 0..len {
            assert_eq!(decode(&bytes[..cut], is_known), Ok(Decoded::NeedMore), "{name} cut at {cut}");
        }
    }
}

#[test]
fn the_longest_header_is_as_long_as_the_limit_says() {
    let longest = vectors().into_iter().find(|vector| vector.name == "longest").expect("listed above");
    assert_eq!(longest.len, HEADER_BYTES_MAX);
    assert_eq!(HEADER_BYTES_MAX, 533);
}

#[test]
fn a_wrong_version_is_refused_at_the_first_byte() {
    for version in 1..=u8::MAX {
        let decoded = decode(&[version], |_| panic!("asked for a user"));
        assert_eq!(decoded, Err(DecodeError::BadVersion(version)));
    }
}

#[test]
fn an_unknown_user_is_refused_at_the_last_byte_of_the_id() {
    let bytes = [&[0], &[0xee; 16][..]].concat();
    assert_eq!(decode(&bytes[..16], |_| panic!("asked too early")), Ok(Decoded::NeedMore));
    assert_eq!(decode(&bytes, is_known), Err(DecodeError::UnknownUser));
}

#[test]
fn the_id_is_handed_on_as_received_with_its_route_bytes() {
    let mut bytes = hex(include_str!("../../../tests/vectors/request_tcp.hex"));
    (bytes[7], bytes[8]) = (0x12, 0x34);
    let mut asked = None;
    let decoded = decode(&bytes, |id| {
        asked = Some(*id);
        is_known(id)
    });
    let Ok(Decoded::Request { request, .. }) = decoded else { panic!("{decoded:?}") };
    assert_eq!(request.user_id[6..8], [0x12, 0x34]);
    assert_eq!(asked, Some(request.user_id));
}

#[test]
fn only_errors_before_the_user_was_recognised_are_those_of_a_stranger() {
    assert!(DecodeError::BadVersion(b'G').is_stranger());
    assert!(DecodeError::UnknownUser.is_stranger());
    for error in [
        DecodeError::BadAddons,
        DecodeError::UnknownFlow,
        DecodeError::BadCommand(4),
        DecodeError::BadPort,
        DecodeError::BadAddressType(0),
        DecodeError::EmptyName,
        DecodeError::BadNameCharacter,
    ] {
        assert!(!error.is_stranger(), "{error:?}");
    }
}

#[test]
fn addons_are_judged_when_the_last_of_them_is_there() {
    assert_eq!(decode_rest("02 1b"), Ok(Decoded::NeedMore));
    assert_eq!(decode_rest("02 1b 00"), Err(DecodeError::BadAddons));
    assert_eq!(decode_rest("06 0a 04 6e 6f 6e"), Ok(Decoded::NeedMore));
    assert_eq!(decode_rest("06 0a 04 6e 6f 6e 65"), Err(DecodeError::UnknownFlow));
}

#[test]
fn addons_end_where_their_length_says() {
    // A flow that would need one byte of the command behind it.
    assert_eq!(decode_rest("11 0a 10 78 74 6c 73 2d 72 70 72 78 2d 76 69 73 69 6f 6e"), Err(DecodeError::BadAddons));
}

#[test]
fn unknown_fields_around_the_flow_change_nothing() {
    assert_eq!(
        flow_of("18 0a 10 78 74 6c 73 2d 72 70 72 78 2d 76 69 73 69 6f 6e 12 04 01 02 03 04 03"),
        Ok(Flow::Vision)
    );
    assert_eq!(flow_of("03 18 96 01 03"), Ok(Flow::None));
    assert_eq!(flow_of(&format!("{ADDONS} 03")), Ok(Flow::Vision));
}

#[test]
fn reverse_and_unknown_commands_are_refused_at_their_byte() {
    for command in (0..=u8::MAX).filter(|command| !(1..=3).contains(command)) {
        assert_eq!(decode_rest(&format!("00 {command:02x}")), Err(DecodeError::BadCommand(command)));
        assert_eq!(decode_rest(&format!("{ADDONS} {command:02x}")), Err(DecodeError::BadCommand(command)));
    }
}

#[test]
fn mux_has_no_destination_and_the_body_follows_the_command() {
    let decoded = decode_rest("00 03 ff ff ff ff");
    assert!(matches!(decoded, Ok(Decoded::Request { request: Request { target: None, .. }, len: 19 })), "{decoded:?}");
}

#[test]
fn each_fault_of_the_destination_has_its_own_error_for_tcp_and_udp() {
    for command in ["01", "02"] {
        for (destination, error) in [
            ("00 00 01 7f 00 00 01", DecodeError::BadPort),
            ("00 50 00", DecodeError::BadAddressType(0)),
            ("00 50 04", DecodeError::BadAddressType(4)),
            ("00 50 02 00", DecodeError::EmptyName),
            ("00 50 02 03 61 20 62", DecodeError::BadNameCharacter),
            ("00 50 02 02 c3 a9", DecodeError::BadNameCharacter),
        ] {
            assert_eq!(decode_rest(&format!("00 {command} {destination}")), Err(error), "{destination}");
        }
    }
}

#[test]
fn an_error_stays_the_same_error_when_more_bytes_follow() {
    for refused in [
        "02 1b 00",
        "06 0a 04 6e 6f 6e 65",
        "00 04",
        "00 01 00 00 01 7f 00 00 01",
        "00 01 00 50 07",
        "00 01 00 50 02 00",
    ] {
        let error = decode_rest(refused).expect_err("refused");
        assert_eq!(decode_rest(&format!("{refused} 00 01 02 03 04 05 06 07")), Err(error), "{refused}");
    }
}

#[test]
fn the_response_is_two_zero_bytes() {
    assert_eq!(RESPONSE, [0, 0]);
}

#[test]
fn random_bytes_never_panic_and_a_full_header_never_needs_more() {
    let mut random = Random::new(0x5652_4551);
    for _ in 0..10_000 {
        let bytes = random.bytes(600);
        // Straight random bytes rarely pass the version, so each string is also tried behind a recognised id.
        for bytes in [bytes.clone(), [&[0], &USER[..], &bytes].concat()] {
            check(&bytes);
        }
    }
}

#[test]
fn damaged_headers_never_panic() {
    let mut random = Random::new(0x6d75_7461);
    for Vector { bytes, .. } in vectors() {
        for _ in 0..2_000 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len());
                match random.below(3) {
                    0 => damaged[at] = random.next() as u8,
                    1 => _ = damaged.remove(at),
                    _ => damaged.insert(at, random.next() as u8),
                }
            }
            check(&damaged);
        }
    }
}

/// Decodes whatever `bytes` are, checks what holds for all input, and that a verdict does not depend on later bytes.
fn check(bytes: &[u8]) {
    let decoded = decode(bytes, |_| true);
    match &decoded {
        Ok(Decoded::NeedMore) => assert!(bytes.len() < HEADER_BYTES_MAX, "{bytes:02x?}"),
        Ok(Decoded::Request { request, len }) => {
            assert!((19..=HEADER_BYTES_MAX.min(bytes.len())).contains(len), "{bytes:02x?}");
            assert_eq!(request.target.is_none(), request.command == Command::Mux);
            assert_eq!(decode(&bytes[..*len], |_| true), decoded);
            assert_eq!(decode(&bytes[..len - 1], |_| true), Ok(Decoded::NeedMore), "{bytes:02x?}");
        }
        Err(_) => {
            let longer = [bytes, &[0x61; 8]].concat();
            assert_eq!(decode(&longer, |_| true), decoded);
        }
    }
}
