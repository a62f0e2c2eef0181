//! Destination addresses as VLESS and Mux.cool write them (VLESS-1): port, type, address.
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 2 | port, **before** the type | 1 to 65535 |
//! | 2 | 1 | address type, not numbered as in SOCKS5 | 1 IPv4, 2 name, 3 IPv6 |
//! | 3 | 4 | type 1: the address | any |
//! | 3 | 1 + n | type 2: n and n bytes of name | n from 1 to 255, bytes `0-9 A-Z a-z - . _`, or an IP literal |
//! | 3 | 16 | type 3: the address | any |
//!
//! - A name that starts with a digit or `[` and is the text of an IP address becomes that address. `::ffff:a.b.c.d`
//!   becomes the IPv4 address `a.b.c.d`, whichever way it was written. So the destination policy judges what is really
//!   dialled.
//! - Of IPv4, only the form with four numbers is such a text. `127.1` and `0x7f000001` stay names, and a resolver must
//!   not read them as numbers.
//! - Port 0 is refused because no dial to it can succeed, except with a name that stands for a protocol: packetaddr
//!   comes with port 0, and is refused for what it is.
//!
//! A [`Target`] owns its domain name, so it outlives the buffer that it was read from. Nothing here looks a name up or
//! knows which targets are allowed.
//!
//! Read from Xray-core common/protocol/address.go, revision 2323273e.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::cursor::Reader;

const TYPE_IPV4: u8 = 1;
const TYPE_NAME: u8 = 2;
const TYPE_IPV6: u8 = 3;

/// In lower case and without the trailing dot.
const RESERVED_NAMES: [&str; 6] = [
    "v1.mux.cool",
    "v1.rvs.cool",
    "sp.mux.sing-box.arpa",
    "sp.packet-addr.v2fly.arpa",
    "sp.udp-over-tcp.arpa",
    "sp.v2.udp-over-tcp.arpa",
];

/// Where a client wants to go: an address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

/// The host part of a [`Target`].
///
/// A name is 1 to 255 bytes of `0-9 A-Z a-z - . _` and never the text of an IP address: such names are turned into
/// [`Host::Ip`] when they are decoded, and IPv4-mapped IPv6 addresses into IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

impl Target {
    /// Reads port, type and address. `None`: they are not complete yet. The caller then drops `reader`, which has
    /// moved.
    ///
    /// # Errors
    /// The client is to blame. Nothing that follows can repair it.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, AddressError> {
        Self::read(reader, 1)
    }

    /// As [`Target::decode`], but port 0 is accepted: Mux.cool has a session for it that fails.
    pub fn decode_any_port(reader: &mut Reader<'_>) -> Result<Option<Self>, AddressError> {
        Self::read(reader, 0)
    }

    fn read(reader: &mut Reader<'_>, port_min: u16) -> Result<Option<Self>, AddressError> {
        let Some(port) = reader.u16() else { return Ok(None) };
        let Some(host) = Host::decode(reader)? else { return Ok(None) };
        let target = Self { host, port };
        // A name that stands for a protocol needs no port, and clients send 0 with some.
        if port < port_min && !target.is_reserved_name() {
            return Err(AddressError::BadPort);
        }
        Ok(Some(target))
    }

    /// Appends port, type and address to `out`.
    ///
    /// `None`: the name does not fit its length byte, and nothing is appended. No decoded target has such a name.
    #[must_use]
    pub fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let name_len = match &self.host {
            Host::Name(name) => u8::try_from(name.len()).ok().filter(|&len| len > 0)?,
            Host::Ip(_) => 0,
        };
        out.extend_from_slice(&self.port.to_be_bytes());
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => {
                out.push(TYPE_IPV4);
                out.extend_from_slice(&ip.octets());
            }
            Host::Name(name) => {
                out.extend_from_slice(&[TYPE_NAME, name_len]);
                out.extend_from_slice(name.as_bytes());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                out.push(TYPE_IPV6);
                out.extend_from_slice(&ip.octets());
            }
        }
        Some(())
    }

    /// Whether the name stands for a protocol inside the stream and not for a machine. These are sing-box multiplexing,
    /// UDP-over-TCP, packetaddr, and the names that Xray uses internally for Mux and reverse proxying.
    ///
    /// Nobody looks such a name up. The session is closed at once, so that the client reports an error instead of
    /// waiting.
    pub fn is_reserved_name(&self) -> bool {
        let Host::Name(name) = &self.host else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        RESERVED_NAMES.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
    }
}

impl Host {
    fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, AddressError> {
        let Some(address_type) = reader.u8() else { return Ok(None) };
        match address_type {
            TYPE_IPV4 => Ok(reader.array().map(|octets: [u8; 4]| Self::Ip(Ipv4Addr::from(octets).into()))),
            TYPE_IPV6 => Ok(reader.array().map(|octets: [u8; 16]| Self::Ip(Ipv6Addr::from(octets).to_canonical()))),
            TYPE_NAME => {
                let Some(len) = reader.u8() else { return Ok(None) };
                if len == 0 {
                    return Err(AddressError::EmptyName);
                }
                reader.take(len.into()).map(Self::from_name).transpose()
            }
            other => Err(AddressError::BadType(other)),
        }
    }

    /// `bytes` is not empty.
    fn from_name(bytes: &[u8]) -> Result<Self, AddressError> {
        let name = str::from_utf8(bytes).map_err(|_| AddressError::BadNameCharacter)?;
        if let Some(ip) = ip_literal(name) {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)) {
            return Err(AddressError::BadNameCharacter);
        }
        Ok(Self::Name(name.into()))
    }
}

/// The address that `name` spells, if it starts like one. IPv6 may stand in brackets, as in a URL. It must if it starts
/// with a letter or a colon: without brackets that is a name with forbidden characters.
fn ip_literal(name: &str) -> Option<IpAddr> {
    if !name.starts_with(|first: char| first.is_ascii_digit() || first == '[') {
        return None;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Why a destination was refused. The client is to blame for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Port 0.
    BadPort,
    /// An address type other than 1, 2 and 3.
    BadType(u8),
    /// A name of length 0.
    EmptyName,
    /// A name with a byte that no name may have, and that is no IP literal either.
    BadNameCharacter,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, hex};
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Target>, AddressError> {
        Target::decode(&mut Reader::new(bytes))
    }

    /// The bytes of a named target on port 80.
    fn named(name: &[u8]) -> Vec<u8> {
        [&[0, 80, 2, name.len() as u8], name].concat()
    }

    fn decode_name(name: &str) -> Result<Host, AddressError> {
        decode(&named(name.as_bytes())).map(|target| target.expect("complete").host)
    }

    fn ip(text: &str) -> Host {
        Host::Ip(text.parse().expect("an address"))
    }

    fn target(host: Host, port: u16) -> Target {
        Target { host, port }
    }

    #[test]
    fn the_port_comes_before_the_type() {
        assert_eq!(decode(&hex("01 bb 01 c0 00 02 07")), Ok(Some(target(ip("192.0.2.7"), 443))));
    }

    #[test]
    fn ipv6_is_type_three_and_a_name_type_two() {
        let v6 = hex("00 35 03 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 10");
        assert_eq!(decode(&v6), Ok(Some(target(ip("2001:db8::10"), 53))));
        let name = hex("1f 90 02 0b 65 78 61 6d 70 6c 65 2e 63 6f 6d");
        assert_eq!(decode(&name), Ok(Some(target(Host::Name("example.com".into()), 8080))));
    }

    #[test]
    fn every_prefix_is_incomplete_and_what_follows_is_left_alone() {
        for whole in [
            hex("01 bb 01 c0 00 02 07"),
            hex("00 35 03 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 10"),
            named(b"example.com"),
            named(&[b'a'; 255]),
        ] {
            for cut in 0..whole.len() {
                assert_eq!(decode(&whole[..cut]), Ok(None), "cut at {cut}");
            }
            let followed = [&whole[..], b"payload"].concat();
            let mut reader = Reader::new(&followed);
            assert!(matches!(Target::decode(&mut reader), Ok(Some(_))));
            assert_eq!(reader.rest(), b"payload");
        }
    }

    #[test]
    fn faults_are_named_before_the_rest_has_arrived() {
        assert_eq!(decode(&[0, 0, 1, 192, 0, 2, 1]), Err(AddressError::BadPort));
        let packetaddr = [&[0, 0, 2, 25], &b"sp.packet-addr.v2fly.arpa"[..]].concat();
        assert!(decode(&packetaddr).unwrap().unwrap().is_reserved_name());
        for address_type in [0, 4, 5, 255] {
            assert_eq!(decode(&[0, 80, address_type]), Err(AddressError::BadType(address_type)));
        }
        assert_eq!(decode(&[0, 80, 2, 0]), Err(AddressError::EmptyName));
    }

    #[test]
    fn each_byte_of_a_name_is_a_letter_a_digit_or_one_of_three_signs() {
        for byte in 0..=u8::MAX {
            let allowed = matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_');
            for name in [vec![byte, b'a'], vec![b'a', byte], vec![b'a', byte, b'a']] {
                let decoded = decode(&named(&name));
                if allowed {
                    let text = str::from_utf8(&name).expect("ASCII");
                    assert_eq!(decoded, Ok(Some(target(Host::Name(text.into()), 80))));
                } else {
                    assert_eq!(decoded, Err(AddressError::BadNameCharacter), "{name:02x?}");
                }
            }
        }
    }

    #[test]
    fn names_that_are_ip_literals_become_addresses() {
        for (name, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[127.0.0.1]", "127.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("[::1]", "::1"),
            ("[fe80::1]", "fe80::1"),
            ("[::ffff:192.0.2.1]", "192.0.2.1"),
            ("0:0:0:0:0:ffff:7f00:1", "127.0.0.1"),
        ] {
            assert_eq!(decode_name(name), Ok(ip(address)), "{name}");
        }
    }

    #[test]
    fn names_that_only_resemble_addresses_stay_names() {
        for name in ["1e100.net", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "256.0.0.1", "010.0.0.1", "1"] {
            assert_eq!(decode_name(name), Ok(Host::Name(name.into())), "{name}");
        }
    }

    #[test]
    fn broken_literals_are_refused_for_their_characters() {
        for name in ["::1", "fe80::1", "[::1", "[]", "[", "[[::1]]", "[example.com]", "[fe80::1%1]", "1.2.3.4:80"] {
            assert_eq!(decode_name(name), Err(AddressError::BadNameCharacter), "{name}");
        }
    }

    #[test]
    fn a_mapped_ipv6_address_becomes_ipv4_and_its_neighbours_do_not() {
        let mapped = hex("00 50 03 00 00 00 00 00 00 00 00 00 00 ff ff 0a 00 00 01");
        assert_eq!(decode(&mapped), Ok(Some(target(ip("10.0.0.1"), 80))));
        let compatible = hex("00 50 03 00 00 00 00 00 00 00 00 00 00 00 00 0a 00 00 01");
        assert_eq!(decode(&compatible), Ok(Some(target(ip("::10.0.0.1"), 80))));
    }

    #[test]
    fn encoding_writes_the_bytes_that_were_decoded() {
        for whole in [
            hex("01 bb 01 c0 00 02 07"),
            hex("00 35 03 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 10"),
            named(b"example.com"),
            named(&[b'a'; 255]),
        ] {
            let mut out = b"before".to_vec();
            let target = decode(&whole).expect("valid").expect("complete");
            assert_eq!(target.encode(&mut out), Some(()));
            assert_eq!(out, [b"before", &whole[..]].concat());
        }
    }

    #[test]
    fn a_name_without_a_valid_length_is_not_encoded() {
        for name in [String::new(), "a".repeat(256)] {
            let mut out = Vec::new();
            assert_eq!(target(Host::Name(name.into()), 80).encode(&mut out), None);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn reserved_names_are_recognised_in_any_case_and_with_a_trailing_dot() {
        for name in RESERVED_NAMES {
            for spelling in [name.to_owned(), name.to_uppercase(), format!("{name}.")] {
                assert!(target(Host::Name(spelling.as_str().into()), 444).is_reserved_name(), "{spelling}");
            }
            for other in [format!("{name}.org"), format!("x{name}"), name[1..].to_owned(), format!("{name}..")] {
                assert!(!target(Host::Name(other.as_str().into()), 444).is_reserved_name(), "{other}");
            }
        }
        assert!(!target(ip("127.0.0.1"), 444).is_reserved_name());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Random::new(0x6164_6472);
        for _ in 0..10_000 {
            let mut bytes = random.bytes(300);
            if let Some(address_type) = bytes.get_mut(2) {
                *address_type %= 5;
            }
            _ = decode(&bytes);
        }
    }
}
