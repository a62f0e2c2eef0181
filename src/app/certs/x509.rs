//! The few facts about a certificate that neither rustls nor rcgen tells: names, validity, issuer, public key.
//!
//! Owns a reader of DER (X.690) as far as RFC 5280 4.1 needs it. It checks no signature: that is for clients. Any bytes
//! are answered with a value or `None`, never with a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::calendar::days_since_1970;

/// 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1.
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34 and 1.3.132.0.35.
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// md5WithRSAEncryption, sha1WithRSAEncryption, ecdsa-with-SHA1.
const WEAK_SIGNATURES: [&[u8]; 3] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
];
/// 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] EXPLICIT` of the certificate's fields.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT` of the certificate's fields.
const EXTENSIONS: u8 = 0xa3;
/// `[2] IMPLICIT IA5String` of a GeneralName.
const DNS_NAME: u8 = 0x82;
/// `[7] IMPLICIT OCTET STRING` of a GeneralName.
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What we look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Issuer and subject are the same.
    pub(super) self_issued: bool,
    /// The DER of both names, without header.
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    /// The issuer's common name, else its organisation.
    pub(super) issuer_name: Option<String>,
    /// It has no version, which means the first.
    pub(super) is_version_1: bool,
    /// Its signature is by SHA-1 or MD5.
    pub(super) is_weakly_signed: bool,
    pub(super) key: KeyKind,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The DER of the SubjectPublicKeyInfo, header included.
    pub(super) public_key: Vec<u8>,
    /// From subjectAltName, in lower case; the first label may be `*`.
    pub(super) dns_names: Vec<String>,
    /// From subjectAltName.
    pub(super) ip_addresses: Vec<IpAddr>,
}

/// Which kind of key a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa { bits: usize },
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519,
    Other,
}

/// Reads a certificate in DER.
pub(super) fn read(certificate: &[u8]) -> Option<Facts> {
    let mut outer = Der(certificate).value(SEQUENCE)?;
    let mut fields = outer.value(SEQUENCE)?;
    let is_version_1 = fields.peek() != Some(VERSION);
    if !is_version_1 {
        fields.any()?;
    }
    fields.value(INTEGER)?; // serial number
    let signature = fields.value(SEQUENCE)?.value(OBJECT_ID)?;
    let issuer = fields.value(SEQUENCE)?;
    let mut validity = fields.value(SEQUENCE)?;
    let subject = fields.value(SEQUENCE)?;
    let before_key = fields.0;
    let key = key_kind(fields.value(SEQUENCE)?)?;
    let public_key = &before_key[..before_key.len() - fields.0.len()];
    let mut names = Names::default();
    while let Some((tag, mut content)) = fields.any() {
        if tag == EXTENSIONS {
            names = subject_alt_names(content.value(SEQUENCE)?).unwrap_or_default();
        }
    }
    Some(Facts {
        self_issued: issuer.0 == subject.0,
        issuer: issuer.0.to_vec(),
        subject: subject.0.to_vec(),
        issuer_name: name_text(issuer, COMMON_NAME).or_else(|| name_text(issuer, ORGANISATION)),
        is_version_1,
        is_weakly_signed: WEAK_SIGNATURES.contains(&signature.0),
        key,
        not_before: time(validity.any()?)?,
        not_after: time(validity.any()?)?,
        public_key: public_key.to_vec(),
        dns_names: names.dns,
        ip_addresses: names.ip,
    })
}

/// The DER of the first element of `bytes`, its header included.
pub(super) fn first_element(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = Der(bytes);
    rest.any()?;
    bytes.get(..bytes.len() - rest.0.len())
}

/// RFC 5280 4.1.2.7, with the algorithms of RFC 3279, RFC 5480 and RFC 8410.
fn key_kind(mut info: Der<'_>) -> Option<KeyKind> {
    let mut algorithm = info.value(SEQUENCE)?;
    let name = algorithm.value(OBJECT_ID)?.0;
    Some(match name {
        RSA => {
            // A BIT STRING begins with the number of unused bits, an INTEGER maybe with a zero for its sign.
            let bits = info.value(BIT_STRING)?;
            let modulus = Der(bits.0.get(1..)?).value(SEQUENCE)?.value(INTEGER)?.0;
            let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
            let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
            KeyKind::Rsa { bits: (modulus.len() * 8).saturating_sub(unused) }
        }
        ELLIPTIC => match algorithm.value(OBJECT_ID).map(|curve| curve.0) {
            Some(P256) => KeyKind::EcdsaP256,
            Some(P384) => KeyKind::EcdsaP384,
            Some(P521) => KeyKind::EcdsaP521,
            _ => KeyKind::Other,
        },
        ED25519 => KeyKind::Ed25519,
        _ => KeyKind::Other,
    })
}

/// The first text of this kind in a name (RFC 5280 4.1.2.4).
fn name_text(mut name: Der<'_>, kind: &[u8]) -> Option<String> {
    while let Some(mut set) = name.value(SET) {
        while let Some(mut part) = set.value(SEQUENCE) {
            if part.value(OBJECT_ID)?.0 == kind {
                let text = String::from_utf8_lossy(part.any()?.1.0).into_owned();
                // It goes into messages.
                return Some(text.chars().filter(|letter| !letter.is_control()).take(100).collect());
            }
        }
    }
    None
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl Der<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, Self)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Lengths below 128 stand for themselves; above, the low bits say how many bytes of length follow.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Self(content)))
    }

    /// The content of the next element, which must have this tag.
    fn value(&mut self, tag: u8) -> Option<Self> {
        if self.peek() != Some(tag) {
            return None;
        }
        self.any().map(|(_, content)| content)
    }
}

#[derive(Default)]
struct Names {
    dns: Vec<String>,
    ip: Vec<IpAddr>,
}

/// RFC 5280 4.2.1.6.
fn subject_alt_names(mut extensions: Der<'_>) -> Option<Names> {
    while let Some(mut extension) = extensions.value(SEQUENCE) {
        if extension.value(OBJECT_ID)?.0 != SUBJECT_ALT_NAME {
            continue;
        }
        if extension.peek() == Some(BOOLEAN) {
            extension.any()?; // critical
        }
        let mut list = extension.value(OCTET_STRING)?.value(SEQUENCE)?;
        let mut names = Names::default();
        while let Some((tag, content)) = list.any() {
            match tag {
                DNS_NAME => names.dns.extend(std::str::from_utf8(content.0).ok().map(str::to_lowercase)),
                IP_ADDRESS => names.ip.extend(ip_address(content.0)),
                _ => {}
            }
        }
        return Some(names);
    }
    None
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// RFC 5280 4.1.2.5: `YYMMDDHHMMSSZ` (1950 to 2049) or `YYYYMMDDHHMMSSZ`. Times before 1970 count as 1970.
fn time((tag, content): (u8, Der<'_>)) -> Option<SystemTime> {
    let digits = content.0.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pairs = digits.chunks(2).map(|pair| pair.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')));
    let pairs = pairs.collect::<Vec<_>>();
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (if pairs[0] < 50 { 2000 + pairs[0] } else { 1900 + pairs[0] }, &pairs[1..]),
        (GENERALIZED_TIME, 14) => (pairs[0] * 100 + pairs[1], &pairs[2..]),
        _ => return None,
    };
    let &[month, day, hour, minute, second] = rest else { return None };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let [year, month, day] = [year, month, day].map(u64::cast_signed);
    let days = days_since_1970(year, month, day).max(0).cast_unsigned();
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
