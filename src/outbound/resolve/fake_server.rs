//! For tests: what a name server would answer to a query, built from the query's own bytes.

use std::net::Ipv4Addr;

/// A positive answer to an IPv4 query.
pub(super) fn addresses(query: &[u8], ttl_s: u32, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut message = empty(query, 0);
    message[7] = addresses.len() as u8;
    for address in addresses {
        message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01");
        message.extend_from_slice(&ttl_s.to_be_bytes());
        message.extend_from_slice(b"\x00\x04");
        message.extend_from_slice(&address.octets());
    }
    message
}

/// An answer without records.
pub(super) fn empty(query: &[u8], rcode: u8) -> Vec<u8> {
    let mut message = without_edns(query);
    message[2] |= 0x80;
    message[3] = 0x80 | rcode;
    message
}

/// The query up to the end of its question.
fn without_edns(query: &[u8]) -> Vec<u8> {
    let name = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap();
    let mut message = query[..name + 5].to_vec();
    message[11] = 0;
    message
}

/// Whether the query says EDNS.
pub(super) fn says_edns(query: &[u8]) -> bool {
    query[11] == 1
}

/// The answer with the question in small letters, as a server writes it that does not keep the spelling.
pub(super) fn in_small_letters(mut message: Vec<u8>) -> Vec<u8> {
    message[12..].make_ascii_lowercase();
    message
}

/// The answer with the flag that says it was cut.
pub(super) fn truncated(mut message: Vec<u8>) -> Vec<u8> {
    message[2] |= 0x02;
    message
}

/// The answer with another id.
pub(super) fn misdirected(mut message: Vec<u8>) -> Vec<u8> {
    message[1] ^= 1;
    message
}
