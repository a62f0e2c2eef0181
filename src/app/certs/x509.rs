//! The few facts about a certificate that neither rustls nor rcgen tells: names, validity, issuer, public key.
//!
//! Owns a reader of DER (X.690) as far as RFC 5280 4.1 needs it. It checks no signature: that is for clients. Any bytes
//! are answered with a value or `None`, never with a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What we look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Issuer and subject are the same.
    pub(super) self_issued: bool,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The DER of the SubjectPublicKeyInfo, header included.
    pub(super) public_key: Vec<u8>,
    /// From subjectAltName, in lower case; the first label may be `*`.
    pub(super) dns_names: Vec<String>,
    /// From subjectAltName.
    pub(super) ip_addresses: Vec<IpAddr>,
}

/// Reads a certificate in DER.
pub(super) fn read(certificate: &[u8]) -> Option<Facts> {
    let mut outer = Der(certificate).value(SEQUENCE)?;
    let mut fields = outer.value(SEQUENCE)?;
    if fields.peek() == Some(VERSION) {
        fields.any()?;
    }
    fields.value(INTEGER)?; // serial number
    fields.value(SEQUENCE)?; // signature algorithm
    let issuer = fields.value(SEQUENCE)?;
    let mut validity = fields.value(SEQUENCE)?;
    let subject = fields.value(SEQUENCE)?;
    let before_key = fields.0;
    fields.value(SEQUENCE)?;
    let public_key = &before_key[..before_key.len() - fields.0.len()];
    let mut names = Names::default();
    while let Some((tag, mut content)) = fields.any() {
        if tag == EXTENSIONS {
            names = subject_alt_names(content.value(SEQUENCE)?).unwrap_or_default();
        }
    }
    Some(Facts {
        self_issued: issuer.0 == subject.0,
        not_before: time(validity.any()?)?,
        not_after: time(validity.any()?)?,
        public_key: public_key.to_vec(),
        dns_names: names.dns,
        ip_addresses: names.ip,
    })
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
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Days of the Gregorian calendar, 0 for everything before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    if year < 1970 {
        return 0;
    }
    let leap_days_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_year = lengths.iter().take(month as usize - 1).sum::<u64>() + day - 1;
    (year - 1970) * 365 + leap_days_before(year) - leap_days_before(1970) + in_year
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
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

#[cfg(test)]
mod tests {
    use super::*;

    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    fn certificate(names: &[&str]) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        (params.self_signed(&key).unwrap().der().to_vec(), key)
    }

    #[test]
    fn names_times_and_key_of_a_certificate_are_read() {
        let (der, key) = certificate(&["Vpn.Example", "*.example.com", "127.0.0.1", "::1"]);
        let facts = read(&der).unwrap();
        assert!(facts.self_issued);
        assert_eq!(facts.dns_names, ["vpn.example", "*.example.com"]);
        assert_eq!(facts.ip_addresses, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(facts.public_key, key.subject_public_key_info());
        // `date -u -d 2024-02-29 +%s` and `date -u -d 2051-01-01 +%s`; the second is a GeneralizedTime.
        assert_eq!(facts.not_before, UNIX_EPOCH + Duration::from_hours(1_709_164_800 / 3600));
        assert_eq!(facts.not_after, UNIX_EPOCH + Duration::from_hours(2_556_144_000 / 3600));
    }

    #[test]
    fn a_certificate_signed_by_another_is_not_self_issued() {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        assert!(!read(leaf.der()).unwrap().self_issued);
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(read(&certificate(&[]).0).unwrap().dns_names, Vec::<String>::new());
    }

    #[test]
    fn every_prefix_is_refused() {
        let (der, _) = certificate(&["a.example"]);
        for end in 0..der.len() {
            assert_eq!(read(&der[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let (der, _) = certificate(&["a.example", "10.0.0.1"]);
        for position in 0..der.len() {
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x81, 0x84, 0x85, 0xff] {
                let mut changed = der.clone();
                changed[position] = value;
                let _ = read(&changed);
            }
        }
        // A small generator of our own is random enough for bytes that must only not crash.
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes = (0..64)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect::<Vec<_>>();
            let _ = read(&bytes);
            let _ = time((UTC_TIME, Der(&bytes[..13])));
        }
    }

    #[test]
    fn times_need_the_form_of_the_standard() {
        let read = |tag, text: &str| time((tag, Der(text.as_bytes())));
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(UNIX_EPOCH));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(UNIX_EPOCH), "1950");
        for bad in ["", "Z", "7001010000Z", "701301000000Z", "700132000000Z", "70010100000xZ", "700101000000"] {
            assert_eq!(read(UTC_TIME, bad), None, "{bad}");
        }
        assert!(read(GENERALIZED_TIME, "99991231235959Z").is_some());
    }
}
