//! User ids: from their text in a configuration to the 16 bytes on the wire, and how two of them are compared.
//!
//! | text, bytes | meaning |
//! |---|---|
//! | 1 to 30 | any text: mapped to a version 5 UUID in the namespace of the nil UUID (RFC 9562 5.5) |
//! | 32 to 36 | hex digits in groups of 8-4-4-4-12, a `-` in front of each group optional |
//! | 0, 31, more than 36 | refused |
//!
//! - Nobody looks at the version and variant bits of a UUID.
//! - Bytes 6 and 7 carry a number for routing ("vlessRoute") that a client may set as it likes. The look-up of a user
//!   ignores them. Whatever echoes an id uses it as received.
//! - An id is a credential: it appears in no error and no log line of this layer.
//!
//! Read from Xray-core common/uuid/uuid.go and proxy/vless/validator.go, revision 2323273e.

use std::fmt;

use uuid::Uuid;

use super::cursor::Reader;

const FREE_TEXT_BYTES_MAX: usize = 30;

/// A user id in the order of its bytes on the wire, which is that of its text.
pub type UserId = [u8; 16];

/// Reads the `uuid` of a configuration or of a link: a UUID or a free text.
///
/// # Errors
/// Whoever wrote the text is to blame. The message says what would be right.
pub fn parse(text: &str) -> Result<UserId, IdError> {
    match text.len() {
        0 => Err(IdError::Empty),
        1..=FREE_TEXT_BYTES_MAX => Ok(Uuid::new_v5(&Uuid::nil(), text.as_bytes()).into_bytes()),
        32..=36 => parse_groups(text.as_bytes()).ok_or(IdError::NotHex),
        len => Err(IdError::BadLength(len)),
    }
}

/// The id with bytes 6 and 7 zeroed. Two ids belong to the same user if and only if they are equal in this form.
#[must_use]
pub fn mask(mut id: UserId) -> UserId {
    [id[6], id[7]] = [0, 0];
    id
}

/// The routing number that a client put into bytes 6 and 7.
pub fn route(id: &UserId) -> u16 {
    u16::from_be_bytes([id[6], id[7]])
}

fn parse_groups(text: &[u8]) -> Option<UserId> {
    let mut reader = Reader::new(text);
    let mut id = Vec::with_capacity(16);
    for group_bytes in [4, 2, 2, 2, 6] {
        if reader.rest().first() == Some(&b'-') {
            reader.u8()?;
        }
        for _ in 0..group_bytes {
            id.push(hex_digit(reader.u8()?)? << 4 | hex_digit(reader.u8()?)?);
        }
    }
    // Xray ignores what is left over. Here it is taken for the mistake that it is.
    if reader.is_empty() { id.try_into().ok() } else { None }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Why a text is no user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// No text at all.
    Empty,
    /// This many bytes: neither a UUID nor a free text is that long.
    BadLength(usize),
    /// As long as a UUID, but not one.
    NotHex,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the id is empty"),
            Self::BadLength(len) => write!(f, "the id is {len} bytes long, too long for a text and no UUID"),
            Self::NotHex => f.write_str("the id is as long as a UUID but not one"),
        }?;
        write!(
            f,
            "; use a UUID like 5783a3e7-e373-51cd-8642-c83782b807c5 (32 hex digits) \
             or a text of 1 to {FREE_TEXT_BYTES_MAX} bytes"
        )
    }
}

impl std::error::Error for IdError {}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, hex};
    use super::*;

    const UUID: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";
    const BYTES: UserId =
        [0x57, 0x83, 0xa3, 0xe7, 0xe3, 0x73, 0x51, 0xcd, 0x86, 0x42, 0xc8, 0x37, 0x82, 0xb8, 0x07, 0xc5];

    #[test]
    fn a_uuid_is_read_in_the_order_of_its_text() {
        assert_eq!(parse(UUID), Ok(BYTES));
    }

    #[test]
    fn each_dash_may_be_left_out() {
        for left_out in 0..16_u8 {
            let groups = UUID.split('-').enumerate();
            let text: String = groups
                .map(
                    |(i, group)| if i > 0 && left_out >> (i - 1) & 1 == 0 { format!("-{group}") } else { group.into() },
                )
                .collect();
            assert_eq!(parse(&text), Ok(BYTES), "{text}");
        }
    }

    #[test]
    fn upper_case_and_a_dash_in_front_of_the_first_group_are_accepted() {
        assert_eq!(parse(&UUID.to_uppercase()), Ok(BYTES));
        assert_eq!(parse("-5783a3e7e37351cd8642c83782b807c5"), Ok(BYTES));
    }

    #[test]
    fn free_texts_become_the_version_five_uuids_that_clients_compute() {
        for (text, uuid) in [
            ("example", "feb54431-301b-52bb-a6dd-e1e93e81bb9e"),
            ("user1", "a1cb11f1-0c6e-5ec2-99aa-48ca3cc1a35e"),
            ("我爱🍉老师1314", "5783a3e7-e373-51cd-8642-c83782b807c5"),
        ] {
            assert_eq!(parse(text), parse(uuid), "{text}");
            assert!(parse(text).is_ok());
        }
    }

    #[test]
    fn length_counts_in_bytes_and_decides_what_a_text_is() {
        for len in 0..=100 {
            let parsed = parse(&"a".repeat(len));
            match len {
                0 => assert_eq!(parsed, Err(IdError::Empty)),
                1..=30 => assert!(parsed.is_ok(), "{len}"),
                32 => assert_eq!(parsed, Ok([0xaa; 16])),
                33..=36 => assert_eq!(parsed, Err(IdError::NotHex), "{len}"),
                _ => assert_eq!(parsed, Err(IdError::BadLength(len)), "{len}"),
            }
        }
        assert!(parse(&"é".repeat(15)).is_ok());
        assert_eq!(parse(&format!("{}a", "é".repeat(15))), Err(IdError::BadLength(31)));
    }

    #[test]
    fn texts_as_long_as_a_uuid_that_are_none_are_refused() {
        for text in [
            "5783a3e7-e373-51cd-8642-c83782b807cg",
            "5783a3e7--e373-51cd-8642c83782b807c5",
            "5783a3-e7e373-51cd-8642-c83782b807c5",
            "5783a3e7e37351cd8642c83782b807c5----",
            "5783a3e7-e373-51cd-8642-c83782b807",
            "+783a3e7-e373-51cd-8642-c83782b807c5",
            "ééééééééééééééééé",
        ] {
            assert_eq!(parse(text), Err(IdError::NotHex), "{text}");
        }
    }

    #[test]
    fn error_messages_say_what_would_be_right_and_never_show_the_id() {
        for text in ["", "5783a3e7-e373-51cd-8642-c83782b807cg", &"secret".repeat(10)] {
            let message = parse(text).expect_err("not an id").to_string();
            assert!(message.contains("32 hex digits") && message.contains("1 to 30 bytes"), "{message}");
            assert!(text.is_empty() || !message.contains(text), "{message}");
        }
    }

    #[test]
    fn ids_that_differ_only_in_bytes_six_and_seven_are_one_user() {
        let masked = hex("57 83 a3 e7 e3 73 00 00 86 42 c8 37 82 b8 07 c5");
        assert_eq!(mask(BYTES).as_slice(), masked);
        for i in 0..16 {
            let mut other = BYTES;
            other[i] ^= 0x5a;
            assert_eq!(mask(other) == mask(BYTES), i == 6 || i == 7, "byte {i}");
        }
    }

    #[test]
    fn the_route_is_the_number_in_bytes_six_and_seven() {
        assert_eq!(route(&BYTES), 0x51cd);
    }

    #[test]
    fn random_texts_never_panic() {
        let mut random = Random::new(0x6964);
        for _ in 0..10_000 {
            _ = parse(&String::from_utf8_lossy(&random.bytes(40)));
            let hex_like: String =
                (0..random.below(40)).map(|_| char::from(b"0123abcdefg-"[random.below(12)])).collect();
            _ = parse(&hex_like);
        }
    }
}
