//! The header of a TLS record: whether one whole record is here, and where it ends.
//!
//! The server cuts the client's byte stream into records and gives the TLS engine one at a time. The reason: behind
//! Vision's direct command the bytes are no TLS any more and must never reach the engine (`VISION-4`). Nothing is
//! decrypted or interpreted here.
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 1 | content type | 20 to 23 (RFC 8446 5.1) |
//! | 1 | 2 | version | first byte 3 |
//! | 3 | 2 | length of what follows | 0 to 2^14 + 2048 |
//!
//! The length limit is that of TLS 1.2 (RFC 5246 6.2.3), because nobody knows the version when the first records
//! arrive. TLS 1.3 allows 2^14 + 256 (RFC 8446 5.2). The engine enforces that.

use super::cursor::Reader;

/// Length of the header in front of every record.
pub const RECORD_HEADER_BYTES: usize = 5;

/// The longest record that [`record_len`] calls whole, header included.
pub const RECORD_WIRE_BYTES_MAX: usize = RECORD_HEADER_BYTES + FRAGMENT_BYTES_MAX;

const FRAGMENT_BYTES_MAX: usize = (1 << 14) + 2048;

/// What stands at the front of the wire bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Not a whole record yet.
    NeedMore,
    /// A whole record of this many bytes, header included: `5..=RECORD_WIRE_BYTES_MAX`, all of them present.
    Whole(usize),
    /// No TLS record starts like this, and more bytes will not change that. The caller gives the bytes to the TLS
    /// engine as they are, so that its own alert answers. If the engine does not object, the caller closes all the
    /// same.
    Impossible,
}

/// Looks at the record that starts at `bytes[0]`.
///
/// It judges a header when all five bytes are there, because the engine needs that many to write its alert.
pub fn record_len(bytes: &[u8]) -> Record {
    let Some((content_type, version_major, fragment_len)) = header(bytes) else {
        return Record::NeedMore;
    };
    if !(20..=23).contains(&content_type) || version_major != 3 || fragment_len > FRAGMENT_BYTES_MAX {
        return Record::Impossible;
    }
    let total = RECORD_HEADER_BYTES + fragment_len;
    if bytes.len() < total { Record::NeedMore } else { Record::Whole(total) }
}

/// How many bytes are missing from the record that starts at `bytes[0]`, or from its header while that is not whole.
/// The answer is at least 1, also where nothing is missing.
pub fn missing_bytes(bytes: &[u8]) -> usize {
    let wanted = header(bytes).map_or(RECORD_HEADER_BYTES, |(_, _, fragment_len)| RECORD_HEADER_BYTES + fragment_len);
    wanted.saturating_sub(bytes.len()).max(1)
}

fn header(bytes: &[u8]) -> Option<(u8, u8, usize)> {
    let mut reader = Reader::new(bytes);
    let content_type = reader.u8()?;
    let [version_major, _] = reader.array()?;
    Some((content_type, version_major, usize::from(reader.u16()?)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    fn record(content_type: u8, fragment_len: usize) -> Vec<u8> {
        let [high, low] = (fragment_len as u16).to_be_bytes();
        let mut bytes = vec![content_type, 3, 3, high, low];
        bytes.resize(RECORD_HEADER_BYTES + fragment_len, 0xaa);
        bytes
    }

    #[test]
    fn every_prefix_of_a_record_needs_more() {
        let whole = record(23, 64);
        for cut in 0..whole.len() {
            assert_eq!(record_len(&whole[..cut]), Record::NeedMore, "cut at {cut}");
        }
        assert_eq!(record_len(&whole), Record::Whole(69));
    }

    #[test]
    fn a_record_ends_where_its_length_says_whatever_follows() {
        let mut bytes = record(22, 3);
        bytes.extend_from_slice(b"GET / raw bytes that are no record");
        assert_eq!(record_len(&bytes), Record::Whole(8));
    }

    #[test]
    fn all_four_content_types_and_all_tls_versions_pass() {
        for content_type in 20..=23 {
            for minor in [0, 1, 3, 4] {
                assert_eq!(record_len(&[content_type, 3, minor, 0, 1, 0]), Record::Whole(6));
            }
        }
    }

    #[test]
    fn an_empty_record_is_whole() {
        assert_eq!(record_len(&[23, 3, 3, 0, 0]), Record::Whole(5));
    }

    #[test]
    fn the_longest_record_is_whole_and_one_byte_more_is_impossible() {
        let longest = record(23, FRAGMENT_BYTES_MAX);
        assert_eq!(record_len(&longest), Record::Whole(RECORD_WIRE_BYTES_MAX));
        assert_eq!(record_len(&longest[..longest.len() - 1]), Record::NeedMore);
        assert_eq!(record_len(&record(23, FRAGMENT_BYTES_MAX + 1)[..5]), Record::Impossible);
        assert_eq!(RECORD_WIRE_BYTES_MAX, 18_437);
    }

    #[test]
    fn headers_of_something_else_are_impossible() {
        assert_eq!(record_len(&[19, 3, 3, 0, 1]), Record::Impossible);
        assert_eq!(record_len(&[24, 3, 3, 0, 1]), Record::Impossible);
        assert_eq!(record_len(&[22, 2, 3, 0, 1]), Record::Impossible);
        assert_eq!(record_len(b"GET / HTTP/1.1\r\n"), Record::Impossible);
        assert_eq!(record_len(b"SSH-2.0-x\r\n"), Record::Impossible);
    }

    #[test]
    fn a_stranger_is_judged_only_when_the_header_is_complete() {
        assert_eq!(record_len(b"GET "), Record::NeedMore);
        assert_eq!(record_len(b"GET /"), Record::Impossible);
    }

    #[test]
    fn random_bytes_never_panic_and_whole_records_are_there_in_full() {
        let mut random = Random::new(0x7265_636f_7264);
        for _ in 0..10_000 {
            let mut bytes = random.bytes(80);
            if let [content_type, version, ..] = bytes.as_mut_slice() {
                (*content_type, *version) = (20 + *content_type % 5, 3);
            }
            if let Record::Whole(len) = record_len(&bytes) {
                assert!((RECORD_HEADER_BYTES..=bytes.len()).contains(&len), "{bytes:02x?}");
            }
        }
    }
}
