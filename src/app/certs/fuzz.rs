//! Entry points for fuzzing: ordinary functions that take any bytes and fail loudly if an invariant breaks.
//!
//! Not part of the server. The tests call them, too, so they cannot rot.

use std::time::{Duration, UNIX_EPOCH};

use super::{pem, x509};

/// The year 10000: no certificate can name a later time.
const LAST_SECOND: u64 = 253_402_300_800;

/// Reads `data` as a certificate in DER: whatever is told of it stands in it. Returns whether it could be read.
pub fn fuzz_certificate(data: &[u8]) -> bool {
    let first = x509::first_element(data);
    assert!(first.is_none_or(|first| data.starts_with(first) && first.len() >= 2));
    let Some(facts) = x509::read(data) else { return false };
    let holds = |part: &[u8]| data.windows(part.len().max(1)).any(|window| window == part) || part.is_empty();
    assert!(holds(&facts.public_key) && holds(&facts.issuer) && holds(&facts.subject));
    assert_eq!(facts.self_issued, facts.issuer == facts.subject);
    for time in [facts.not_before, facts.not_after] {
        assert!((UNIX_EPOCH..UNIX_EPOCH + Duration::from_secs(LAST_SECOND)).contains(&time), "{time:?}");
    }
    // It goes into messages.
    let name = facts.issuer_name.unwrap_or_default();
    assert!(name.chars().count() <= 100 && !name.contains(char::is_control), "{name:?}");
    assert!(facts.dns_names.len() + facts.ip_addresses.len() <= data.len() / 2);
    // What follows a certificate belongs to it no more.
    assert_eq!(x509::read(&[data, b"\0"].concat()).is_some(), first.is_some());
    true
}

/// Reads `data` as PEM. What is found is written again in the plain form and read as the same. Returns how many sections
/// there are; `None`: it is none.
pub fn fuzz_pem(data: &[u8]) -> Option<usize> {
    const LINE_END: &str = "-----\n";
    let sections = pem::sections(data).ok()?;
    let bytes: usize = sections.iter().map(|section| section.bytes.len()).sum();
    assert!(bytes <= data.len(), "more came out than was put in");
    let text = sections.iter().fold(String::new(), |text, section| {
        let (label, header) = (&section.label, if section.is_encrypted { "X: ENCRYPTED\n\n" } else { "" });
        let digits = base64(&section.bytes);
        text + "-----BEGIN " + label + LINE_END + header + &digits + "\n-----END " + label + LINE_END
    });
    assert_eq!(pem::sections(text.as_bytes()).as_ref(), Ok(&sections), "{text}");
    Some(sections.len())
}

/// RFC 4648 4, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|place| char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63])));
    }
    text
}
