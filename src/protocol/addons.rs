//! The addons of a VLESS request (VLESS-1): the subset of protobuf that carries the flow.
//!
//! The message has two fields: 1 `Flow` (string) and 2 `Seed` (bytes). No client in use sends the second. A Vision
//! client sends `0a 10` and the 16 letters of `xtls-rprx-vision`. A client without flow sends no byte.
//!
//! | wire type | read as |
//! |---|---|
//! | 0 | varint, skipped |
//! | 1 | 8 bytes, skipped |
//! | 2 | varint length and that many bytes: field 1 is the flow, all others are skipped |
//! | 5 | 4 bytes, skipped |
//! | 3, 4, 6, 7 | malformed |
//!
//! As in protobuf, these are accepted: fields in any order, unknown fields, varints longer than necessary, a repeated
//! field (the last one counts), a known field with a foreign wire type (skipped as unknown). And these are demanded: a
//! flow is UTF-8, a field number is 1 to 2^29 - 1, a varint has at most ten bytes and 64 bits, nothing is cut off.
//!
//! Read from Xray-core proxy/vless/encoding/addons.go, revision 2323273e.

use super::cursor::Reader;

const VISION: &str = "xtls-rprx-vision";
const FIELD_FLOW: u64 = 1;
const FIELDS: std::ops::RangeInclusive<u64> = 1..=(1 << 29) - 1;

/// The flow a client asks for.
///
/// The configured `xtls-rprx-vision-udp443` never appears here: its suffix is the client's own affair and is cut off
/// before the request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The body is the payload as it is.
    None,
    /// `xtls-rprx-vision`: the body starts as padded blocks.
    Vision,
}

/// Why addons were refused. The client is to blame for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddonsError {
    /// Not a protobuf message of the subset above.
    Malformed,
    /// A well-formed message with a flow that nobody uses any more or yet.
    UnknownFlow,
}

/// Decodes complete addons: as many bytes as the length byte in front of them said.
pub fn decode(bytes: &[u8]) -> Result<Flow, AddonsError> {
    match flow_text(bytes).ok_or(AddonsError::Malformed)? {
        "" => Ok(Flow::None),
        VISION => Ok(Flow::Vision),
        _ => Err(AddonsError::UnknownFlow),
    }
}

/// The text of the last flow field, empty if there is none. `None` for a malformed message.
fn flow_text(bytes: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(bytes);
    let mut flow = "";
    while !reader.is_empty() {
        let tag = varint(&mut reader)?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        if !FIELDS.contains(&field) {
            return None;
        }
        match wire_type {
            0 => _ = varint(&mut reader)?,
            1 => _ = reader.take(8)?,
            2 => {
                let len = usize::try_from(varint(&mut reader)?).ok()?;
                let value = reader.take(len)?;
                if field == FIELD_FLOW {
                    flow = str::from_utf8(value).ok()?;
                }
            }
            5 => _ = reader.take(4)?,
            _ => return None,
        }
    }
    Some(flow)
}

/// Reads seven bits per byte, the lowest first. The top bit of a byte says that another byte follows.
fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, hex};
    use super::*;

    const ADDONS: &str = "0a 10 78 74 6c 73 2d 72 70 72 78 2d 76 69 73 69 6f 6e";
    const MALFORMED: Result<Flow, AddonsError> = Err(AddonsError::Malformed);

    fn decode_hex(text: &str) -> Result<Flow, AddonsError> {
        decode(&hex(text))
    }

    fn decode_flow(flow: &[u8]) -> Result<Flow, AddonsError> {
        decode(&[&[0x0a, flow.len() as u8], flow].concat())
    }

    #[test]
    fn no_addons_are_no_flow() {
        assert_eq!(decode(&[]), Ok(Flow::None));
    }

    #[test]
    fn the_eighteen_bytes_of_a_vision_client_are_vision() {
        assert_eq!(hex(ADDONS).len(), 18);
        assert_eq!(decode_hex(ADDONS), Ok(Flow::Vision));
    }

    #[test]
    fn an_empty_flow_field_is_no_flow() {
        assert_eq!(decode_hex("0a 00"), Ok(Flow::None));
    }

    #[test]
    fn every_proper_prefix_of_the_vision_addons_is_malformed() {
        let addons = hex(ADDONS);
        for cut in 1..addons.len() {
            assert_eq!(decode(&addons[..cut]), MALFORMED, "cut at {cut}");
        }
    }

    #[test]
    fn other_flows_are_unknown() {
        for flow in ["none", "xtls-rprx-direct", "xtls-rprx-vision-udp443", "XTLS-RPRX-VISION", "xtls-rprx-visio"] {
            assert_eq!(decode_flow(flow.as_bytes()), Err(AddonsError::UnknownFlow), "{flow}");
        }
    }

    #[test]
    fn a_flow_that_is_not_utf8_is_malformed_even_if_a_good_one_follows() {
        assert_eq!(decode_flow(&[0xff, 0xfe]), MALFORMED);
        assert_eq!(decode_hex(&format!("0a 01 ff {ADDONS}")), MALFORMED);
    }

    #[test]
    fn unknown_fields_of_every_skippable_wire_type_are_skipped() {
        for unknown in [
            "18 96 01",                   // field 3, varint
            "19 01 02 03 04 05 06 07 08", // field 3, eight bytes
            "1a 03 aa bb cc",             // field 3, length and bytes
            "1d 01 02 03 04",             // field 3, four bytes
            "12 04 00 ff 00 ff",          // field 2, the seed
            "a2 06 00",                   // field 100, empty
            "fa ff ff ff 0f 00",          // field 2^29 - 1, empty
        ] {
            assert_eq!(decode_hex(unknown), Ok(Flow::None), "{unknown}");
            assert_eq!(decode_hex(&format!("{unknown} {ADDONS}")), Ok(Flow::Vision), "{unknown} before");
            assert_eq!(decode_hex(&format!("{ADDONS} {unknown}")), Ok(Flow::Vision), "{unknown} behind");
        }
    }

    #[test]
    fn the_flow_field_with_a_foreign_wire_type_is_an_unknown_field() {
        for foreign in ["08 01", "09 01 02 03 04 05 06 07 08", "0d 01 02 03 04"] {
            assert_eq!(decode_hex(foreign), Ok(Flow::None), "{foreign}");
        }
    }

    #[test]
    fn groups_and_undefined_wire_types_are_malformed() {
        for wire_type in ["1b", "1c", "1e", "1f", "0b", "0c", "0e", "0f"] {
            assert_eq!(decode_hex(&format!("{wire_type} 00 00 00 00 00 00 00 00")), MALFORMED, "{wire_type}");
            assert_eq!(decode_hex(&format!("{ADDONS} {wire_type}")), MALFORMED, "{wire_type}");
        }
    }

    #[test]
    fn cut_off_fields_are_malformed() {
        for cut in
            ["18", "18 80", "19 01 02 03 04 05 06 07", "1a", "1a 80", "1a 03 aa bb", "1d 01 02 03", "80", "0a 01"]
        {
            assert_eq!(decode_hex(cut), MALFORMED, "{cut}");
        }
    }

    #[test]
    fn field_numbers_that_protobuf_forbids_are_malformed() {
        assert_eq!(decode_hex("00 00"), MALFORMED);
        assert_eq!(decode_hex("02 00"), MALFORMED);
        assert_eq!(decode_hex("82 80 80 80 10 00"), MALFORMED); // field 2^29
    }

    #[test]
    fn varints_may_be_longer_than_necessary() {
        let flow = &ADDONS[6..];
        assert_eq!(decode_hex(&format!("8a 00 90 80 00 {flow}")), Ok(Flow::Vision));
        assert_eq!(decode_hex(&format!("0a 90 80 80 80 80 80 80 80 80 00 {flow}")), Ok(Flow::Vision));
    }

    #[test]
    fn varints_have_at_most_ten_bytes_and_64_bits() {
        assert_eq!(decode_hex("18 ff ff ff ff ff ff ff ff ff 01"), Ok(Flow::None));
        assert_eq!(decode_hex("18 ff ff ff ff ff ff ff ff ff 02"), MALFORMED);
        assert_eq!(decode_hex("18 80 80 80 80 80 80 80 80 80 80 00"), MALFORMED);
    }

    #[test]
    fn a_length_near_the_end_of_the_number_range_is_malformed() {
        assert_eq!(decode_hex("1a ff ff ff ff ff ff ff ff ff 01 aa"), MALFORMED);
        assert_eq!(decode_hex("1a ff ff ff ff ff ff ff ff 7f aa"), MALFORMED);
    }

    #[test]
    fn the_last_of_several_flows_counts() {
        assert_eq!(decode_hex(&format!("0a 04 6e 6f 6e 65 {ADDONS}")), Ok(Flow::Vision));
        assert_eq!(decode_hex(&format!("{ADDONS} 0a 04 6e 6f 6e 65")), Err(AddonsError::UnknownFlow));
        assert_eq!(decode_hex(&format!("{ADDONS} 0a 00")), Ok(Flow::None));
    }

    #[test]
    fn random_and_mutated_addons_never_panic() {
        let mut random = Random::new(0x6164_646f_6e73);
        let valid = hex(&format!("12 04 00 ff 00 ff 18 96 01 {ADDONS}"));
        for _ in 0..10_000 {
            _ = decode(&random.bytes(256));
            let mut mutated = valid.clone();
            let at = random.below(mutated.len());
            mutated[at] = random.next() as u8;
            _ = decode(&mutated);
        }
    }
}
